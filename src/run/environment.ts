// What the child's environment is, and why. Pure: the parent's variables and the resolved secrets go in, the child's come out.
import { KzError } from '../core/errors.ts';
import { SECRET_ZERO } from '../core/secret-zero.ts';
import type { Secret } from '../core/secret.ts';

export type Variables = Readonly<Record<string, string | undefined>>;

export interface EnvironmentPlan {
  readonly secrets: ReadonlyMap<string, Secret>;
  /** Every name that the config declares: the ones not in `secrets` are removed from the child even when inherited. */
  readonly declared: readonly string[];
  /** Start from ESSENTIAL instead of everything. */
  readonly clean: boolean;
  /** With `clean`, further names to inherit; also re-admits a SECRET_ZERO variable. */
  readonly keep: readonly string[];
}

export interface ChildEnvironment {
  readonly variables: Record<string, string>;
  /** Inherited variables that the child does not get, by name. */
  readonly removed: readonly string[];
  /** Inherited variables that a secret replaced, by name. */
  readonly replaced: readonly string[];
}

/** What `--clean-env` keeps: KeyZero's list, and the home of the user's session. */
export const ESSENTIAL: readonly string[] = ['PATH', 'HOME', 'USER', 'LOGNAME', 'SHELL', 'TERM', 'LANG', 'LC_ALL', 'TMPDIR', 'TZ'];

/** Where the shell hook keeps what it replaced: other values of variables that this config may not give the child. */
const HOOK_PREFIX = '__kz_';

/** Linux: MAX_ARG_STRLEN, the longest `NAME=value` that execve(2) takes, with its final NUL. macOS takes more; a config is for both. */
const LONGEST_VARIABLE = 131_072;

/** Throws `secret-invalid` for a value that no environment can hold. */
export function childEnvironment(parent: Variables, plan: EnvironmentPlan): ChildEnvironment {
  const variables: Record<string, string> = {};
  const removed: string[] = [];
  const replaced: string[] = [];
  for (const [name, value] of Object.entries(parent)) {
    if (value === undefined) continue;
    if (plan.secrets.has(name)) replaced.push(name);
    else if (inherits(name, plan)) variables[name] = value;
    else removed.push(name);
  }
  Object.assign(variables, valuesOf(plan.secrets));
  return { variables, removed, replaced };
}

/** What the child gets for secrets that it gets as they are. Throws `secret-invalid`. */
export function valuesOf(secrets: ReadonlyMap<string, Secret>): Record<string, string> {
  return Object.fromEntries([...secrets].map(([name, secret]) => [name, fitting(name, secret.reveal())]));
}

/** A declared secret comes from its provider or not at all; what the hook put aside comes never. Whatever the user asks for. */
export function isNeverInherited(name: string, declared: readonly string[]): boolean {
  return declared.includes(name) || name.startsWith(HOOK_PREFIX);
}

function inherits(name: string, plan: EnvironmentPlan): boolean {
  if (isNeverInherited(name, plan.declared)) return false;
  if (plan.keep.includes(name)) return true;
  if (SECRET_ZERO.includes(name)) return false;
  return !plan.clean || ESSENTIAL.includes(name);
}

/** The value, or `secret-invalid` thrown for one that no environment can hold. */
export function fitting(name: string, value: string): string {
  if (Buffer.byteLength(name) + Buffer.byteLength(value) + 2 <= LONGEST_VARIABLE) return value;
  throw new KzError('secret-invalid', `${name} is too long for an environment variable (more than 128 KiB)`, {
    hint: 'let the program read it from a file',
  });
}
