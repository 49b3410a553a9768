// A profile for sandbox-exec, read back as Scheme reads it and asked for decisions, in both orders that are told of the kernel: the last
// rule that matches, and the last one of the most specific operation that has one that matches. They must never differ.
import { expect } from 'vitest';

/** What an operation is about. */
export interface Subject {
  readonly path?: string;
  readonly extension?: string;
  readonly ioctl?: string;
  readonly remote?: readonly [string, string];
  readonly local?: readonly [string, string];
  readonly service?: string;
  readonly sysctl?: string;
  readonly shared?: string;
  readonly domain?: string;
  readonly target?: string;
}

export interface Rule {
  readonly allows: boolean;
  readonly operations: readonly string[];
  readonly filters: readonly Expression[][];
}

export function access(profile: readonly Rule[], path: string): 'write' | 'read' | 'none' {
  const reads = ['file-read-data', 'file-read-xattr'].map((operation) => allows(profile, operation, { path }));
  const writes = ['file-write-data', 'file-write-create', 'file-write-mode', 'file-link'].map((operation) =>
    allows(profile, operation, { path }),
  );
  expect([path, new Set(reads).size, new Set(writes).size]).toEqual([path, 1, 1]);
  if (writes[0] === true) expect([path, reads[0]]).toEqual([path, true]);
  return writes[0] === true ? 'write' : reads[0] === true ? 'read' : 'none';
}

export function moves(profile: readonly Rule[], from: string, to: string): boolean {
  return allows(profile, 'file-write-unlink', { path: from }) && allows(profile, 'file-write-create', { path: to });
}

export function allows(profile: readonly Rule[], operation: string, subject: Subject): boolean {
  const matching = profile.flatMap(({ allows: answer, operations, filters }) => {
    if (filters.length > 0 && !filters.some((filter) => matches(filter, subject))) return [];
    return operations.filter((each) => covers(each, operation)).map((each) => ({ answer, weight: each === 'default' ? 0 : each.length }));
  });
  const last = matching.at(-1)?.answer;
  const weight = Math.max(...matching.map((each) => each.weight));
  const specific = matching.filter((each) => each.weight === weight).at(-1)?.answer;
  expect([operation, subject, specific]).toEqual([operation, subject, last]);
  return last ?? true;
}

function covers(named: string, operation: string): boolean {
  // Neither is in `default`, as Mozilla's profiles say.
  if (named === 'default') return !/^(process-info|nvram)/.test(operation);
  return named.endsWith('*') ? operation.startsWith(named.slice(0, -1)) : named === operation;
}

function matches([name, ...values]: readonly Expression[], subject: Subject): boolean {
  const [first = '', second = ''] = values.map((value) => (typeof value === 'string' ? value : ''));
  const holds: Record<string, () => boolean> = {
    literal: () => subject.path === first,
    subpath: () => subject.path !== undefined && (subject.path === first || subject.path.startsWith(first === '/' ? '/' : `${first}/`)),
    regex: () => subject.path !== undefined && new RegExp(first).test(subject.path),
    extension: () => subject.extension === first,
    'ioctl-command': () => subject.ioctl === first,
    remote: () => endMatches(first, second, subject.remote),
    local: () => endMatches(first, second, subject.local),
    'global-name': () => subject.service === first,
    'sysctl-name': () => subject.sysctl === first,
    'sysctl-name-prefix': () => subject.sysctl?.startsWith(first) ?? false,
    'ipc-posix-name': () => subject.shared === first,
    'ipc-posix-name-regex': () => subject.shared !== undefined && new RegExp(first).test(subject.shared),
    'socket-domain': () => subject.domain === first,
    target: () => subject.target === first,
    'require-all': () => values.every((value) => typeof value !== 'string' && matches(value, subject)),
  };
  const test = typeof name === 'string' ? holds[name] : undefined;
  if (test === undefined) throw new Error(`no such filter: ${JSON.stringify(name)}`);
  return test();
}

function endMatches(protocol: string, address: string, end: readonly [string, string] | undefined): boolean {
  if (end === undefined) return false;
  const [[host, port], [asked, askedPort]] = [address.split(':'), end[1].split(':')];
  return (protocol === 'ip' || protocol === end[0]) && (host === '*' || host === asked) && (port === '*' || port === askedPort);
}

/** Longest entry above the path; of two with the same path the later list; otherwise readable. */
export function byContract(
  lists: Record<'temporary' | 'emptied' | 'writable' | 'guarded' | 'hidden' | 'readable', string[]>,
  path: string,
): string {
  const answers = { temporary: 'none', emptied: 'none', writable: 'write', guarded: 'read', hidden: 'none', readable: 'read' };
  let [best, answer] = [0, 'read'];
  for (const [list, entries] of Object.entries(lists))
    for (const entry of entries)
      if (`${path}/`.startsWith(`${entry}/`) && entry.length >= best)
        [best, answer] = [entry.length, answers[list as keyof typeof answers]];
  return answer;
}

/** Their form, without the values. */
export function formOf(profile: readonly Rule[]): unknown[] {
  return profile.map(({ allows: answer, operations, filters }) => [answer, operations, filters.map(([name]) => name)]);
}

// Scheme, as much as there is in a profile.

/** A symbol and a string are both text; which it was does not matter here. */
type Expression = string | Expression[];

/** Every rule after the version. Throws for what is not a profile. */
export function parseProfile(text: string): Rule[] {
  const [version, ...rules] = readScheme(text);
  expect(version).toEqual(['version', '1']);
  return rules.map(ruleFrom);
}

function ruleFrom(expression: Expression): Rule {
  const [decision, ...rest] = expression;
  if (typeof expression === 'string' || (decision !== 'allow' && decision !== 'deny'))
    throw new Error(`not a rule: ${JSON.stringify(expression)}`);
  const operations = rest.filter((each) => typeof each === 'string');
  const filters = rest.filter((each) => typeof each !== 'string');
  expect(operations.length).toBeGreaterThan(0);
  return { allows: decision === 'allow', operations, filters };
}

function readScheme(text: string): Expression[] {
  const open: Expression[][] = [[]];
  const token = /\s+|;[^\n]*|(?<paren>[()])|#"(?<regex>[^"]*)"|"(?<string>(?:[^"\\]|\\[^])*)"|(?<symbol>[^\s()";]+)/gy;
  for (let end = 0; end < text.length; end = token.lastIndex) {
    const found = token.exec(text)?.groups;
    if (found === undefined) throw new Error(`not Scheme: ${text.slice(end, end + 40)}`);
    if (found.paren === '(') open.push([]);
    else if (found.paren === ')') close(open);
    else open.at(-1)?.push(...valuesOf(found));
  }
  const [all] = open;
  if (open.length !== 1 || all === undefined) throw new Error('a parenthesis is open');
  return all;
}

/** None for space and comments. */
function valuesOf({ regex, symbol, string }: Record<string, string>): string[] {
  return [regex, symbol, string === undefined ? undefined : unescaped(string)].filter((value) => value !== undefined);
}

function close(open: Expression[][]): void {
  const inner = open.pop();
  if (inner === undefined || open.length === 0) throw new Error('a parenthesis too many');
  open.at(-1)?.push(inner);
}

/** TinyScheme: \n \r \t, \xHH, and any other character for itself. */
function unescaped(text: string): string {
  const named: Record<string, string> = { n: '\n', r: '\r', t: '\t' };
  return text.replace(/\\(?:x([0-9a-fA-F]{2})|([^]))/g, (_, hex: string | undefined, other: string) =>
    hex === undefined ? (named[other] ?? other) : String.fromCharCode(parseInt(hex, 16)),
  );
}

/** The same ones every time. */
export function randomNumbers(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (state * 48_271) % 2_147_483_647;
    return state % below;
  };
}
