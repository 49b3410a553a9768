// May this exchange take place? Pure: facts and rules in, a decision out. What cannot be told (a path that servers read differently, what a
// raw connection will carry) never satisfies a rule that allows and always satisfies one that denies.
import { matchesPath, readings } from './request-path.ts';
import type { Decision, Rule } from './rule.ts';

export type { Decision } from './rule.ts';

export interface Facts {
  /** Canonical. */
  readonly host: string;
  readonly port: number;
  /** Absent with `path` when kz relays bytes that it does not read: these can be requests of any method to any path. */
  readonly method?: string;
  /** As it was sent, without the query. */
  readonly path?: string;
}

const NO_RULES: Decision = { allow: true, rule: undefined, why: 'no-rules' };
const NO_MATCH: Decision = { allow: false, rule: undefined, why: 'no-match' };

/**
 * One request, or one raw connection. A deny with a path holds for honest programs: a server may take `/Admin` and `/admin` for the same,
 * and only it knows. Who has something to protect allows the few paths that are needed.
 */
export function decide(facts: Facts, rules: readonly Rule[]): Decision {
  // 1. No rules: everything is allowed.
  if (rules.length === 0) return NO_RULES;
  // 2. The first rule decides whose host and port, methods and path, as far as it has them, all match.
  let paths: readonly string[] | undefined;
  for (const rule of rules) {
    if (!matches(rule, rule.covers(facts.host, facts.port)) || !matches(rule, fitsMethod(rule, facts.method))) continue;
    if (rule.path !== undefined && facts.path !== undefined) paths ??= readings(facts.path);
    if (matches(rule, fitsPath(rule, paths))) return rule.decision;
  }
  // 3. No rule matches: denied.
  return NO_MATCH;
}

/**
 * A connection whose requests kz will read and decide one by one: is there any that could be allowed? A deny with methods or a path is not
 * the last word here, an allow with them is enough. Never ask this for bytes that are relayed unread.
 */
export function decideConnection(facts: Pick<Facts, 'host' | 'port'>, rules: readonly Rule[]): Decision {
  if (rules.length === 0) return NO_RULES;
  for (const rule of rules) {
    const isPartialDenial = !rule.entry.allow && (rule.methods !== undefined || rule.path !== undefined);
    if (!isPartialDenial && matches(rule, rule.covers(facts.host, facts.port))) return rule.decision;
  }
  return NO_MATCH;
}

/** Undefined is what cannot be told. */
type Fit = boolean | undefined;

function matches(rule: Rule, fit: Fit): boolean {
  return fit ?? !rule.entry.allow;
}

function fitsMethod({ methods, entry }: Rule, method: string | undefined): Fit {
  if (methods === undefined) return true;
  if (method === undefined) return undefined;
  // Some servers take `delete` for `DELETE`.
  return methods.has(method) || (!entry.allow && methods.has(method.toUpperCase()));
}

function fitsPath({ path, entry }: Rule, paths: readonly string[] | undefined): Fit {
  if (path === undefined) return true;
  if (paths === undefined || paths.length === 0) return undefined;
  return entry.allow ? paths.every((reading) => matchesPath(path, reading)) : paths.some((reading) => matchesPath(path, reading));
}
