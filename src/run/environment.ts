// What the child's environment is, and why. Pure: the parent's variables and the resolved secrets go in, the child's come out.
import { KzError } from '../core/errors.ts';
import { SECRET_ZERO } from '../core/secret-zero.ts';
import type { Secret } from '../core/secret.ts';

type Variables = Readonly<Record<string, string | undefined>>;

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
const ESSENTIAL = ['PATH', 'HOME', 'USER', 'LOGNAME', 'SHELL', 'TERM', 'LANG', 'LC_ALL', 'TMPDIR', 'TZ'];

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
  for (const [name, secret] of plan.secrets) variables[name] = fitting(name, secret.reveal());
  return { variables, removed, replaced };
}

function inherits(name: string, plan: EnvironmentPlan): boolean {
  if (plan.declared.includes(name) || name.startsWith(HOOK_PREFIX)) return false;
  if (plan.keep.includes(name)) return true;
  if (SECRET_ZERO.includes(name)) return false;
  return !plan.clean || ESSENTIAL.includes(name);
}

function fitting(name: string, value: string): string {
  if (Buffer.byteLength(name) + Buffer.byteLength(value) + 2 <= LONGEST_VARIABLE) return value;
  throw new KzError('secret-invalid', `${name} is too long for an environment variable (more than 128 KiB)`, {
    hint: 'let the program read it from a file',
  });
}
