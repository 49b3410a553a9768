// Which masked token stands for which secret in one run, where each may go, and what is wrong with that: decided before anything starts.
import type { Config, Declaration } from '../config/load.ts';
import { KzError } from '../core/errors.ts';
import type { Secret } from '../core/secret.ts';
import type { Guarded } from '../mask/guard.ts';
import { localKind } from '../mask/local-value.ts';
import { isHeaderSafe, mint, type Minted } from '../mask/mint.ts';
import { Remasker } from '../mask/remask.ts';
import { scopeOf, type Scope } from '../mask/scope.ts';
import { slotsOf, type Slots } from '../mask/slot.ts';
import type { TokenEntry } from '../mask/table.ts';
import type { Rule } from '../policy/rule.ts';
import type { Resolved, SetSecret } from '../providers/secrets.ts';
import { FOR_DATABASE, isForDatabase } from './database.ts';

export interface BlindSecrets {
  readonly given: readonly Given[];
  /** Name → what the child gets. */
  readonly texts: ReadonlyMap<string, string>;
  /** Those of whom the child gets the value, because the config says so. */
  readonly exposed: ReadonlyMap<string, Secret>;
  readonly tokens: readonly TokenEntry[];
  /** Every value, and where it may go. */
  readonly guarded: readonly Guarded[];
  /** What the user should know, for standard error: one sentence each. */
  readonly notices: readonly Notice[];
}

export interface Notice {
  readonly level: 'notice' | 'warning';
  readonly text: string;
}

/** Throws one error that holds every secret that cannot be given blindly. */
export function blindSecrets(config: Config, resolved: readonly Resolved[], rules: readonly Rule[]): BlindSecrets {
  const problems: KzError[] = [];
  const given = resolved.flatMap((each) => {
    if (each.state !== 'set') return [];
    try {
      return [blindSecret(each, config, rules)];
    } catch (error) {
      if (!(error instanceof KzError)) throw error;
      problems.push(error);
      return [];
    }
  });
  if (problems.length > 0) throw KzError.all(problems);
  return {
    given,
    texts: new Map(given.flatMap(({ guarded: { name }, text }) => (text === undefined ? [] : [[name, text]]))),
    exposed: new Map(given.flatMap(({ guarded: { name, secret }, text }) => (text === undefined ? [[name, secret]] : []))),
    tokens: given.flatMap(({ tokens }) => tokens),
    guarded: given.map(({ guarded }) => guarded),
    notices: given.flatMap(({ notices }) => notices),
  };
}

/** What one secret is in a blind run. */
export interface Given {
  readonly guarded: Guarded;
  /** What of the value is no secret; see `Minted`. */
  readonly clear: string;
  /** What the child gets; undefined: the value. */
  readonly text?: string;
  readonly tokens: readonly TokenEntry[];
  readonly notices: readonly Notice[];
}

/** Throws `secret-invalid` for a value that cannot be given blindly. */
export function blindSecret(each: SetSecret, config: Config, rules: readonly Rule[]): Given {
  const { name, secret } = each;
  const declaration = config.secrets.get(name);
  const named = rules.filter(({ entry, namesHost }) => entry.allow && namesHost);
  const rulesCover = (host: string, port: number): boolean => named.some((rule) => rule.covers(host, port) === true);
  const scope = scopeOf({ hosts: declaration?.hosts, value: secret, ruleHosts: hostTexts(named), rulesCover });
  const guarded = { name, secret, scope };
  if (declaration?.expose === true) {
    const text = `${name} is exposed: the program gets its real value (expose = true)`;
    return { guarded, clear: '', tokens: [], notices: [{ level: 'notice', text }] };
  }
  const minted = masked(each, declaration);
  const slots = slotsFor(name, declaration?.swap ?? (minted.inPath ? WITH_PATH : undefined));
  const tokens = minted.parts.map((part) => ({ name, ...part, scope, slots }));
  const parts = minted.parts.map((part) => part.secret);
  const { text, clear } = minted;
  return { guarded: { ...guarded, parts }, clear, text, tokens, notices: about(name, secret, scope, config) };
}

/** What an otherwise unscoped secret may go to, in words. */
function hostTexts(rules: readonly Rule[]): string[] {
  return rules.map(({ entry }) => {
    const hasPort = entry.host.startsWith('re:') || /:\d+$/.test(entry.host);
    return entry.port === undefined || hasPort ? entry.host : `${entry.host}:${String(entry.port)}`;
  });
}

/** What is wrong with a `swap` list is said with the secret's name. */
function slotsFor(name: string, swap: readonly string[] | undefined): Slots {
  try {
    return slotsOf(swap);
  } catch (error) {
    if (error instanceof KzError) throw new KzError(error.code, `${name}: ${error.message}`, { hint: error.hint, cause: error });
    throw error;
  }
}

/** A webhook or a bot's token is made to be in the path; every other secret is swapped where credentials usually are. */
const WITH_PATH = ['path'];

function masked({ name, secret }: SetSecret, declaration: Declaration | undefined): Minted {
  const kind = localKind(secret);
  const expose = `give the program the real value: \`expose = true\` on ${name}`;
  if (kind !== undefined) throw new KzError('secret-invalid', `${name} is ${kind}, which a program uses itself`, { hint: expose });
  const onlyInBodies = declaration?.swap?.every((slot) => slot.startsWith('body')) === true;
  if (!onlyInBodies && !isHeaderSafe(secret)) {
    throw new KzError('secret-invalid', `${name} has more than one line, so it cannot be sent in a header`, {
      hint: `if it is sent in a body: \`swap = ["body:FIELD"]\`; to ${expose}`,
    });
  }
  try {
    return mint(secret, declaration?.shape);
  } catch (error) {
    if (error instanceof KzError) throw new KzError(error.code, `${name}: ${error.message}`, { hint: error.hint, cause: error });
    throw error;
  }
}

function about(name: string, secret: Secret, scope: Scope, config: Config): Notice[] {
  const notices: Notice[] = [];
  if (scope.from === 'any') {
    const hint = `add \`hosts = ["…"]\` to ${name}`;
    if (config.blind?.scope === 'strict') {
      throw new KzError('secret-invalid', `${name} has no hosts, and none can be inferred ([blind] scope = "strict")`, { hint });
    }
    notices.push({ level: 'warning', text: `${name} may be sent to any host; ${hint}` });
  }
  if (Remasker.tooShort(secret)) {
    notices.push({ level: 'warning', text: `${name} is shorter than 8 bytes: responses are not searched for it` });
  }
  if (isForDatabase(secret)) notices.push({ level: 'warning', text: `${name} ${FOR_DATABASE}` });
  if (SIGNING_KEY.test(name)) {
    notices.push({ level: 'warning', text: `${name} looks like a key that signs requests and is never sent; if it is, set expose = true` });
  }
  return notices;
}

/** AWS and its like sign with it (SigV4); what is sent is the signature. */
const SIGNING_KEY = /(?:^|_)SECRET_ACCESS_KEY$/;
