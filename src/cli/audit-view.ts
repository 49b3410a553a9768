// The events of a run in words: one line each, what to do about it below, and a summary. Whatever a child or a server chose (hosts, paths,
// names of headers) is shown through `printable`.
import type {
  AuditEvent,
  Exchange,
  ExchangeError,
  ExchangeWhy,
  LeftToken,
  Refused,
  RefusedWhy,
  Rotation,
  RunStarted,
} from '../audit/event.ts';
import type { RunState } from '../audit/runs.ts';
import { printable } from './ui.ts';

export interface AuditViewOptions {
  /** Of the column with host and path. */
  readonly targetWidth: number;
  /** Only what did not go through. */
  readonly onlyBlocked: boolean;
}

/** The widest that a target makes its column; a wider one is shown all the same, up to `LONGEST_TARGET`. */
export const WIDEST_TARGET = 56;
const LONGEST_TARGET = 120;

/** Below the status. */
const INDENT = ' '.repeat(14);

export class AuditView {
  readonly #options: AuditViewOptions;
  readonly #advised = new Set<string>();
  readonly #decided = { allowed: 0, blocked: 0 };
  readonly #swapped = new Map<string, number>();
  readonly #left = new Map<string, number>();
  #failed = 0;
  #refused = 0;
  #ended: string | undefined;
  #lost = 0;
  /** Without rules everything is allowed, which the first one would end. */
  #hasRules = true;

  constructor(options: AuditViewOptions) {
    this.#options = options;
  }

  /** Something did not happen that a line of config could change. */
  get hasAdvice(): boolean {
    return this.#decided.blocked > 0 || this.#left.size > 0;
  }

  /** The lines for one event, often none. */
  lines(event: AuditEvent): readonly string[] {
    switch (event.type) {
      case 'run-started':
        this.#hasRules = event.rules > 0;
        return [`run ${printable(event.run)}: ${printable(event.command)}, ${moment(event.time)}${configs(event)}`];
      case 'exchange':
        this.#count(event);
        return this.#options.onlyBlocked && event.decision === 'allowed' ? [] : this.#exchange(event);
      case 'refused':
        this.#refused++;
        return this.#refusal(event);
      case 'rotation':
        return [rotation(event, this.#options.targetWidth)];
      case 'run-ended':
        this.#ended = event.status;
        this.#lost = event.lost;
        return [];
    }
  }

  summary(state: RunState): readonly string[] {
    const { allowed, blocked } = this.#decided;
    const failed = this.#failed === 0 ? '' : ` (${String(this.#failed)} of them failed)`;
    return [
      `${counted(allowed + blocked, 'exchange')}: ${String(allowed)} allowed${failed}, ${String(blocked)} blocked`,
      ...(this.#refused === 0 ? [] : [`${counted(this.#refused, 'connection')} refused`]),
      ...tally('swapped', this.#swapped),
      ...tally('not swapped', this.#left),
      ...(this.#lost === 0 ? [] : [`${counted(this.#lost, 'event')} could not be written and are missing here`]),
      this.#ended === undefined ? UNENDED[state] : `ended: ${printable(this.#ended)}`,
    ];
  }

  #count({ decision, error, swapped, left }: Exchange): void {
    this.#decided[decision]++;
    if (decision === 'allowed' && error !== null) this.#failed++;
    for (const { name } of swapped) this.#swapped.set(name, (this.#swapped.get(name) ?? 0) + 1);
    for (const { name } of left) this.#left.set(name, (this.#left.get(name) ?? 0) + 1);
  }

  #exchange(event: Exchange): readonly string[] {
    const blocked = event.decision === 'blocked';
    const status = blocked ? 'blocked' : event.status === null && event.error !== null ? 'failed' : String(event.status ?? '-');
    const cells = [clock(event.time), status, event.method ?? '-', target(event), notes(event).join('; ')];
    const advice = this.#once(blocked ? ruleAdvice(event, this.#hasRules) : failureAdvice(event));
    const left = event.left.map((token) => leftAdvice(token, event));
    return [row(cells, this.#options.targetWidth), ...[...advice, ...left].map(indented)];
  }

  #refusal(event: Refused): readonly string[] {
    const { host, port, why } = event;
    const where = host === null ? '-' : printable(port === null ? host : `${host}:${String(port)}`);
    const note = (host === null ? FURTHER[why] : undefined) ?? REFUSED[why];
    const advice = this.#once(refusalAdvice(event));
    return [row([clock(event.time), 'refused', '-', where, note], this.#options.targetWidth), ...advice.map(indented)];
  }

  /** The same three lines below each of a hundred exchanges would hide the exchanges. */
  #once(lines: readonly string[]): readonly string[] {
    const key = lines.join('\n');
    if (this.#advised.has(key)) return [];
    this.#advised.add(key);
    return lines;
  }
}

/** `api.github.com/user`: what is shown of where an exchange went. */
export function target({ tls, host, port, path, protocol }: Exchange): string {
  const scheme = protocol === 'raw' || tls ? '' : 'http://';
  const authority = port === (tls ? 443 : 80) ? host : `${host}:${String(port)}`;
  const text = printable(scheme + authority + (path ?? ''));
  return text.length > LONGEST_TARGET ? `${text.slice(0, LONGEST_TARGET - 1)}…` : text;
}

/** `2026-11-21 07:55:54`, in the time zone of the reader. */
export function moment(time: string | number): string {
  const date = new Date(time);
  if (Number.isNaN(date.getTime())) return '-';
  const day = [date.getFullYear(), date.getMonth() + 1, date.getDate()].map((part) => two(part)).join('-');
  return `${day} ${clock(time).slice(0, 8)}`;
}

function clock(time: string | number): string {
  const date = new Date(time);
  if (Number.isNaN(date.getTime())) return '-'.padEnd(12);
  const parts = [date.getHours(), date.getMinutes(), date.getSeconds()].map((part) => two(part)).join(':');
  return `${parts}.${String(date.getMilliseconds()).padStart(3, '0')}`;
}

function two(part: number): string {
  return String(part).padStart(2, '0');
}

function row([time = '', status = '', method = '', where = '', note = '']: readonly string[], width: number): string {
  return [time, status.padEnd(7), printable(method).padEnd(6), where.padEnd(width), printable(note)].join('  ').trimEnd();
}

function rotation({ time, result, names, why }: Rotation, width: number): string {
  return row([clock(time), result, '-', printable(names.join(', ')), why ?? ROTATED[result]], width);
}

const ROTATED: Readonly<Record<Rotation['result'], string>> = {
  adopted: 'a new value, from the next request on',
  kept: 'the old value stays',
  failing: 'cannot be read again',
  working: 'can be read again',
  ending: 'its lease cannot be renewed',
  expired: 'its lease is over: not swapped any more',
  other: '',
};

function configs({ config }: RunStarted): string {
  return config.length === 0 ? '' : `, ${config.map(printable).join(', ')}`;
}

function notes({ decision, why, rule, swapped, remasked, error, protocol }: Exchange): string[] {
  const place = rule === null ? '' : (rule.at ?? `rule ${String(rule.index + 1)}`);
  return [
    ...(decision === 'blocked' ? [why === 'rule' ? `by ${place}` : BLOCKED[why]] : []),
    ...(why === 'allow-loopback' && decision === 'allowed' ? [BLOCKED[why]] : []),
    ...(error === null || decision === 'blocked' ? [] : [FAILED[error]]),
    ...(protocol === 'websocket' || protocol === 'raw' ? [protocol === 'raw' ? 'a tunnel' : 'a WebSocket'] : []),
    ...swapped.map(({ name, where }) => `${name} in ${where}`),
    ...remasked.map((name) => `${name} masked in the answer`),
  ];
}

const BLOCKED: Readonly<Record<ExchangeWhy, string>> = {
  rule: 'by a rule',
  'no-rules': 'by a rule',
  'no-match': 'no rule allows it',
  'allow-loopback': 'by allow_loopback',
  'address-forbidden': 'the host has a private address, and no rule names the host',
  'host-mismatch': 'CONNECT, TLS and the request name different hosts',
  'secret-out-of-scope': 'a real value was on its way to a host outside its scope',
  encoding: 'the encoding of the body cannot be undone to look for tokens',
  malformed: 'not a request that every server reads alike',
  other: 'for a reason that this version of kz does not know',
};

const REFUSED: Readonly<Record<RefusedWhy, string>> = {
  'no-credential': 'the client did not send the credential of this run',
  malformed: 'not a request that can be read',
  'not-http': 'not HTTP, and no rule names this host and port',
  'bad-tls': 'the client broke off TLS, or does not trust the certificate of this run',
  'host-mismatch': 'CONNECT and TLS name different hosts',
  timeout: 'the client said nothing',
  'denied-name': 'no rule allows this host: its name does not exist for the program',
  'unknown-address': 'an address that stands for no name',
  'closed-loopback': 'a port of this machine that allow_loopback does not list',
  other: 'for a reason that this version of kz does not know',
};

/** The last of its kind: what followed is not in the log. */
const FURTHER: Partial<Record<RefusedWhy, string>> = {
  'denied-name': 'further names that no rule allows',
  'unknown-address': 'further connections that the sandbox does not let out',
  'closed-loopback': 'further connections that the sandbox does not let out',
};

const FAILED: Readonly<Record<ExchangeError, string>> = {
  dns: 'the name of the host does not resolve',
  refused: 'the host refused the connection: nothing listens there',
  unreachable: 'the host cannot be reached',
  timeout: 'the host did not answer in time',
  tls: 'the certificate of the host is not trusted, or it does not speak TLS',
  proxy: 'the proxy on the way failed',
  reset: 'the host broke off',
  protocol: 'the host did not answer with HTTP',
  'client-gone': 'the client broke off',
  internal: 'kz failed; please report it',
  other: 'failed',
};

/** What another rule would let through; the rest is no matter of rules. */
function ruleAdvice({ why, rule, host, port }: Exchange, hasRules: boolean): string[] {
  if (why !== 'rule' && why !== 'no-match' && why !== 'address-forbidden') return [];
  const others = hasRules ? [] : ruleLines('and last, to go on allowing all else:', '*', undefined);
  return [...ruleLines(`to allow it, add${above(why, rule)}:`, host, port === 443 || port === 80 ? undefined : port), ...others];
}

/** The first rule that matches counts, so one that is to come first has to stand first. */
function above(why: ExchangeWhy, rule: Exchange['rule']): string {
  if (rule === null) return '';
  return why === 'rule' ? ' above that rule' : ` above ${rule.at ?? `rule ${String(rule.index + 1)}`}`;
}

function refusalAdvice({ why, host, port }: Refused): string[] {
  if (host === null) return [];
  if (why === 'denied-name') return ruleLines('to allow it, add above what denies it:', host, undefined);
  if (port === null) return [];
  if (why === 'closed-loopback') return [`to allow it: [blind.sandbox] allow_loopback = [${String(port)}]`];
  return why === 'not-http' ? ruleLines('to allow it, add:', host, port) : [];
}

function failureAdvice({ error }: Exchange): string[] {
  return error === 'tls' ? ['if you know who signed its certificate, add theirs: [blind] upstream_ca = "their-ca.pem"'] : [];
}

function ruleLines(title: string, host: string, port: number | undefined): string[] {
  const lines = ['[[blind.connections]]', 'allow = true', `host = ${JSON.stringify(host)}`];
  return [title, ...[...lines, ...(port === undefined ? [] : [`port = ${String(port)}`])].map((line) => `  ${line}`)];
}

function leftAdvice({ name, where, reason, allow }: LeftToken, { tls }: Exchange): string {
  const why = reason === 'host' && !tls ? `${LEFT.host} for plain http://` : LEFT[reason];
  return `${name} not swapped in ${where}: ${why}${allow === '' ? '' : `; to allow it: ${allow}`}`;
}

const LEFT: Readonly<Record<LeftToken['reason'], string>> = {
  host: 'the host is outside its scope',
  slot: 'not one of its places',
  encoding: 'the encoding of the body is in the way',
  expired: 'its lease is over, and its provider gives no new value',
};

const UNENDED: Readonly<Record<RunState, string>> = {
  running: 'still running',
  killed: 'killed: its last line is missing',
  ended: 'ended',
};

function indented(line: string): string {
  return INDENT + printable(line);
}

function tally(title: string, counts: ReadonlyMap<string, number>): string[] {
  if (counts.size === 0) return [];
  return [`${title}: ${[...counts].map(([name, count]) => `${printable(name)} ${counted(count, 'time')}`).join(', ')}`];
}

function counted(count: number, what: string): string {
  return `${String(count)} ${what}${count === 1 ? '' : 's'}`;
}
