// Connection rules, compiled once per run. A rule that could not mean what it says (a host that no client can ask for, a contradiction, a
// pattern that hangs) stops the run instead of never matching.
import { KzError, type Place } from '../core/errors.ts';
import { canonicalHost, isAddress } from '../core/host-name.ts';
import { parseHostPattern } from '../core/host-pattern.ts';
import { compileHostExpression } from './host-expression.ts';
import { parsePathPattern } from './request-path.ts';

/** One `[[blind.connections]]` table. */
export interface RuleEntry {
  readonly allow: boolean;
  /** `api.x.com`, `*.x.com`, `*`, each with an optional `:port`, or `re:` and a regular expression, anchored at both ends. */
  readonly host: string;
  readonly port?: number | undefined;
  /** Compared exactly: `GET` does not include `HEAD`. */
  readonly methods?: readonly string[] | undefined;
  /** See `parsePathPattern`. Compared with the path only, never with the query. */
  readonly path?: string | undefined;
}

export interface Decision {
  readonly allow: boolean;
  readonly rule: Rule | undefined;
  readonly why: 'no-rules' | 'rule' | 'no-match';
}

export interface Rule {
  /** Its place among `[[blind.connections]]`, from 0. */
  readonly index: number;
  readonly entry: RuleEntry;
  /** Does it name who is meant: an exact host, `*.suffix`, or a `re:` that does not match just any host? Never `*`. */
  readonly namesHost: boolean;
  /** Of the entry, or of its host: `db.x.com:5432`. */
  readonly port: number | undefined;
  readonly methods: ReadonlySet<string> | undefined;
  /** A compiled path pattern. */
  readonly path: string | undefined;
  /** Canonical host. Undefined when it cannot be told: the regular expression takes too long. */
  readonly covers: (host: string, port: number) => boolean | undefined;
  /** What is decided when this rule matches. */
  readonly decision: Decision;
}

/** Throws `config-invalid`, once for all rules that cannot be compiled. */
export function compileRules(entries: readonly RuleEntry[], placeOf?: (index: number) => Place | undefined): readonly Rule[] {
  const problems: KzError[] = [];
  const rules = entries.flatMap((entry, index) => {
    const rule = compile(entry, index);
    if (typeof rule !== 'string') return [rule];
    problems.push(new KzError('config-invalid', `blind.connections.${String(index)} ${rule}`, { at: placeOf?.(index) }));
    return [];
  });
  if (problems.length > 0) throw KzError.all(problems);
  return rules;
}

function compile(entry: RuleEntry, index: number): Rule | string {
  const host = compileHost(entry.host);
  if ('problem' in host) return `has a host ${JSON.stringify(entry.host)} that ${host.problem}`;
  const path = compilePath(entry.path);
  if ('problem' in path) return `has a path ${JSON.stringify(entry.path)} that ${path.problem}`;
  if (entry.methods?.length === 0) return 'has an empty list of methods';
  const port = entry.port ?? host.port;
  if (host.port !== undefined && host.port !== port) return `has two ports: ${String(port)} and ${String(host.port)}`;
  const decision: { allow: boolean; rule: Rule | undefined; why: 'rule' } = { allow: entry.allow, rule: undefined, why: 'rule' };
  const rule = {
    index,
    entry,
    namesHost: host.names,
    port,
    methods: entry.methods === undefined ? undefined : new Set(entry.methods),
    path: path.compiled,
    covers: port === undefined ? host.covers : (asked: string, at: number) => at === port && host.covers(asked),
    decision,
  };
  decision.rule = rule;
  return rule;
}

function compilePath(pattern: string | undefined): { readonly compiled: string | undefined } | Problem {
  return pattern === undefined ? { compiled: undefined } : parsePathPattern(pattern);
}

interface CompiledHost {
  readonly port?: number | undefined;
  readonly names: boolean;
  readonly covers: (host: string) => boolean | undefined;
}

interface Problem {
  readonly problem: string;
}

function compileHost(text: string): CompiledHost | Problem {
  return text.startsWith('re:') ? compileHostExpression(text.slice(3)) : compilePattern(text);
}

function compilePattern(text: string): CompiledHost | Problem {
  const pattern = parseHostPattern(text);
  if ('problem' in pattern) return pattern;
  const { port, wildcard } = pattern;
  if (wildcard && pattern.labels.length === 0) return { port, names: false, covers: () => true };
  const host = canonicalHost(pattern.labels.join('.'));
  if (host === undefined) return { problem: 'is neither a host name nor an address' };
  if (!wildcard) return { port, names: true, covers: (asked) => asked === host };
  if (isAddress(host)) return { problem: 'has a wildcard before an address' };
  const suffix = `.${host}`;
  return { port, names: true, covers: (asked) => asked.endsWith(suffix) };
}
