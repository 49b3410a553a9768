// What rules can never do, told from their texts alone: for warnings, not for decisions. Where it cannot be told (a regular expression), it
// says nothing.
import { parseHostPattern, type HostPattern } from '../core/host-pattern.ts';
import { decideConnection } from './decide.ts';
import type { Rule } from './rule.ts';

export interface HiddenRule {
  readonly rule: Rule;
  /** An earlier one that matches whatever this one matches. */
  readonly by: Rule;
}

/** Rules that never decide anything. */
export function hiddenRules(rules: readonly Rule[]): readonly HiddenRule[] {
  return rules.flatMap((rule, index) => {
    const by = rules.slice(0, index).find((earlier) => hides(earlier, rule));
    return by === undefined ? [] : [{ rule, by }];
  });
}

/** Only a rule without methods and path: what others match also depends on what is known of a request. */
function hides(earlier: Rule, rule: Rule): boolean {
  if (earlier.methods !== undefined || earlier.path !== undefined) return false;
  if (earlier.port !== undefined && earlier.port !== rule.port) return false;
  return earlier.entry.host === rule.entry.host || includes(patternOf(earlier.entry.host), patternOf(rule.entry.host), earlier, rule);
}

function includes(wide: HostPattern | undefined, narrow: HostPattern | undefined, earlier: Rule, rule: Rule): boolean {
  if (wide === undefined) return false;
  // `*` hides regular expressions too.
  if (wide.wildcard && wide.labels.length === 0) return true;
  if (narrow === undefined || narrow.labels.length === 0) return false;
  const host = narrow.labels.join('.');
  if (!narrow.wildcard) return earlier.covers(host, rule.port ?? 443) === true;
  return wide.wildcard && `.${host}`.endsWith(`.${wide.labels.join('.')}`);
}

export interface Unreachable {
  /** The rule that stands in the way; undefined when no rule matches. */
  readonly by: Rule | undefined;
}

/** Is there no request that a host pattern (`api.x.com`, `*.x.com`, with a port perhaps) covers and the rules allow? */
export function unreachable(text: string, rules: readonly Rule[]): Unreachable | undefined {
  const pattern = patternOf(text);
  if (pattern === undefined || rules.length === 0 || (pattern.wildcard && mayMatchUnknown(rules))) return undefined;
  const ports = pattern.port === undefined ? [443, 80, ...rules.flatMap(({ port }) => port ?? [])] : [pattern.port];
  const decisions = hostsOf(pattern, rules).flatMap((host) => ports.map((port) => decideConnection({ host, port }, rules)));
  return decisions.some(({ allow }) => allow) ? undefined : { by: decisions[0]?.rule };
}

/** Which hosts below a suffix a regular expression matches cannot be told. */
function mayMatchUnknown(rules: readonly Rule[]): boolean {
  return rules.some(({ entry }) => entry.allow && entry.host.startsWith('re:'));
}

/** A label that nobody uses. */
const ANY = 'kz-any-name';

/** For a wildcard: one host that no rule has in mind, and one for each rule that looks at some of its hosts. */
function hostsOf({ wildcard, labels }: HostPattern, rules: readonly Rule[]): readonly string[] {
  const name = labels.join('.');
  if (!wildcard) return [name];
  const suffix = labels.length === 0 ? '' : `.${name}`;
  const named = rules.flatMap(({ entry }) => {
    const rule = patternOf(entry.host);
    if (rule === undefined || rule.labels.length === 0) return [];
    const host = (rule.wildcard ? [ANY, ...rule.labels] : rule.labels).join('.');
    return host.endsWith(suffix) ? [host] : [];
  });
  return [`${ANY}${suffix}`, ...named];
}

function patternOf(text: string): HostPattern | undefined {
  const pattern = text.startsWith('re:') ? { problem: 'a regular expression' } : parseHostPattern(text);
  return 'problem' in pattern ? undefined : pattern;
}
