// What the log of one blind run holds: a closed union, one JSON line per event, with the names of its keys as they are stored. No field can
// hold a `Secret`. Text that comes from the traffic may quote a value all the same, so `eventLine` remasks it.

/** The first line of every log. */
export interface RunStarted {
  readonly type: 'run-started';
  readonly schema_version: 1;
  /** ISO 8601 in UTC, as in every event. */
  readonly time: string;
  readonly run: string;
  /** Of the kz that writes. */
  readonly pid: number;
  /** Of kz. */
  readonly version: string;
  /** The program without its arguments: those may hold secrets. */
  readonly command: string;
  /** Absolute paths. */
  readonly config: readonly string[];
  readonly secrets: readonly SecretScope[];
  /** How many connection rules there are. */
  readonly rules: number;
}

export interface SecretScope {
  readonly name: string;
  readonly scope: readonly string[];
  /** What the scope was taken from: `hosts`, `url`, `vendor`, `rules`, `any`. */
  readonly scope_from: string;
  /** The child has the real value. */
  readonly exposed: boolean;
}

export const PROTOCOLS = ['http/1.1', 'h2', 'websocket', 'raw'] as const;
export const DECISIONS = ['allowed', 'blocked'] as const;
export const LEFT_REASONS = ['host', 'slot', 'encoding', 'expired'] as const;

/** Why an exchange was allowed or blocked. `other` is never written: it stands for what a newer kz wrote. */
export const EXCHANGE_WHYS = [
  'rule',
  'no-rules',
  'no-match',
  'allow-loopback',
  'address-forbidden',
  'host-mismatch',
  'secret-out-of-scope',
  'encoding',
  'malformed',
  'other',
] as const;

/**
 * Why a connection never became an exchange. In the sandbox: no rule allows a name that was looked up; an address that stands for no name; a port
 * of this machine that `allow_loopback` does not list. With no host, each of these is about all that follow: beyond a number none is written.
 */
export const REFUSED_WHYS = [
  'no-credential',
  'malformed',
  'bad-tls',
  'not-http',
  'host-mismatch',
  'timeout',
  'denied-name',
  'unknown-address',
  'closed-loopback',
  'other',
] as const;

/** What broke an exchange that was allowed. */
export const EXCHANGE_ERRORS = [
  'dns',
  'refused',
  'unreachable',
  'timeout',
  'tls',
  'proxy',
  'reset',
  'protocol',
  'client-gone',
  'internal',
  'other',
] as const;

export type ExchangeWhy = (typeof EXCHANGE_WHYS)[number];
export type RefusedWhy = (typeof REFUSED_WHYS)[number];
export type ExchangeError = (typeof EXCHANGE_ERRORS)[number];

/** A request and what became of it; a WebSocket or a tunnel from its start to its end. */
export interface Exchange {
  readonly type: 'exchange';
  /** Of its start; the line is written at its end. */
  readonly time: string;
  /** How long it took. */
  readonly ms: number;
  /** Counts from 1 within a run. */
  readonly id: number;
  readonly protocol: (typeof PROTOCOLS)[number];
  readonly tls: boolean;
  /** Null when there is no request inside the connection. */
  readonly method: string | null;
  /** Canonical. */
  readonly host: string;
  readonly port: number;
  /** With the query, as the child wrote it: with masked tokens. Whole; `eventLine` cuts it. */
  readonly path: string | null;
  /** What the child got; null when it got no answer. */
  readonly status: number | null;
  readonly decision: (typeof DECISIONS)[number];
  /** `at` is `file:line`. */
  readonly rule: { readonly index: number; readonly at: string | null } | null;
  readonly why: ExchangeWhy;
  readonly swapped: readonly { readonly name: string; readonly where: string }[];
  readonly left: readonly LeftToken[];
  /** The secrets whose values were in the answer. */
  readonly remasked: readonly string[];
  readonly bytes_up: number;
  readonly bytes_down: number;
  readonly error: ExchangeError | null;
}

/** A token that passed as it was. */
export interface LeftToken {
  readonly name: string;
  readonly where: string;
  readonly reason: (typeof LEFT_REASONS)[number];
  /** The line of config that would have it swapped: `hosts = ["api.x.com"]`, `swap = ["header:x-thing"]`. */
  readonly allow: string;
}

export interface Refused {
  readonly type: 'refused';
  readonly time: string;
  readonly why: RefusedWhy;
  readonly host: string | null;
  readonly port: number | null;
}

export const ROTATION_RESULTS = ['adopted', 'kept', 'failing', 'working', 'ending', 'expired', 'other'] as const;

/** What became of secrets that were read again while the program ran. */
export interface Rotation {
  readonly type: 'rotation';
  readonly time: string;
  readonly names: readonly string[];
  /** `adopted`: the next request carries the new value; `kept`: there is a new one that is not used; `failing`: it cannot be read. */
  readonly result: (typeof ROTATION_RESULTS)[number];
  /** For a person; null when there is nothing to say. */
  readonly why: string | null;
}

export interface RunEnded {
  readonly type: 'run-ended';
  readonly time: string;
  /** `exit 0`, `signal SIGTERM`. */
  readonly status: string;
  /** Events that could not be written. */
  readonly lost: number;
}

export type AuditEvent = RunStarted | Exchange | Refused | Rotation | RunEnded;

/** In characters. */
const LONGEST_PATH = 2048;

type Remask = (latin1: string) => string;

/**
 * The line that is stored, in ASCII, so that a log can be looked at in a terminal. The path is remasked before it is cut: a value that the
 * cut goes through would not be found.
 */
export function eventLine(event: AuditEvent, remask: Remask): string {
  const text = safeText(event, remask);
  return `${text.replace(BEYOND_ASCII, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`)}\n`;
}

/** Nearly always there is nothing to remask, and one search of the whole line says so: it knows values as JSON writes them. */
function safeText(event: AuditEvent, remask: Remask): string {
  const text = JSON.stringify(event);
  const isShort = event.type !== 'exchange' || (event.path?.length ?? 0) <= LONGEST_PATH;
  if (isShort && remask(text) === text) return text;
  return JSON.stringify(event.type === 'exchange' ? masked(event, remask) : withHost(event, remask));
}

const BEYOND_ASCII = /[\u007F-\uFFFF]/g;

function masked(event: Exchange, remask: Remask): Exchange {
  return {
    ...event,
    method: event.method === null ? null : remask(event.method),
    host: remask(event.host),
    path: event.path === null ? null : remask(event.path).slice(0, LONGEST_PATH),
    swapped: event.swapped.map(({ name, where }) => ({ name, where: remask(where) })),
    left: event.left.map((left) => ({ ...left, where: remask(left.where), allow: remask(left.allow) })),
  };
}

function withHost(event: Exclude<AuditEvent, Exchange>, remask: Remask): AuditEvent {
  if (event.type === 'refused' && event.host !== null) return { ...event, host: remask(event.host) };
  if (event.type === 'rotation' && event.why !== null) return { ...event, why: remask(event.why) };
  // A scope taken from a value that is a URL names its host, which may be all that the value is.
  if (event.type === 'run-started') return { ...event, secrets: event.secrets.map((each) => ({ ...each, scope: each.scope.map(remask) })) };
  return event;
}
