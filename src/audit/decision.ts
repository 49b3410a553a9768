// What the log of a server holds: a closed union, one JSON line per event, with the names of its keys as they are stored. There is no field for
// a JWT, a body, a query or a value; what a caller wrote is cut and stored in ASCII.
import type { Tool } from '../policy/permit.ts';

/** What came of one question. Null: not known when it ended, or there is no such thing. */
export interface Decision {
  readonly type: 'decision';
  /** ISO 8601 in UTC, as in every event; of its start, while the line is written at its end. */
  readonly time: string;
  /** Of the request, random: `decisionId()`. */
  readonly id: string;
  readonly face: 'http' | 'mcp' | 'proxy';
  /** Null when the token was refused before anything was asked. */
  readonly tool: Tool | 'health_check' | null;
  /** Name of the issuer in the bundle. This and the next three are of a token that was verified. */
  readonly issuer: string | null;
  readonly iss: string | null;
  readonly sub: string | null;
  /** `jti`, or a hash of the token. */
  readonly jti: string | null;
  readonly ref: string | null;
  /** Name of the backend. */
  readonly resolver: string | null;
  readonly mode: string | null;
  readonly host: string | null;
  readonly method: string | null;
  /** Without its query, which `decisionLine` cuts off in any case. */
  readonly path: string | null;
  /** Name of the policy that decided. */
  readonly policy: string | null;
  readonly why: string | null;
  readonly outcome: 'allowed' | 'denied' | 'failed';
  /** Of the failure that the caller was told. */
  readonly code: string | null;
  /** What the upstream answered. */
  readonly status: number | null;
  /** How long it took. */
  readonly ms: number;
}

/** The first line of every log. */
export interface ServerStarted {
  readonly type: 'server-started';
  readonly schema_version: 1;
  readonly time: string;
  /** Of this process, as in the name of the file. */
  readonly server: string;
  readonly pid: number;
  /** Of kz. */
  readonly version: string;
  /** Absolute path. */
  readonly bundle: string;
  readonly bundle_version: string;
  /** Of its text, in hex. */
  readonly bundle_sha256: string;
}

export interface BundleReloaded {
  readonly type: 'bundle-reloaded';
  readonly time: string;
  /** The old one serves on when it is false. */
  readonly ok: boolean;
  /** Of the bundle that serves now. */
  readonly bundle_version: string;
  readonly bundle_sha256: string;
  readonly problems: number;
}

export interface ServerEnded {
  readonly type: 'server-ended';
  readonly time: string;
  /** Events that could not be written. */
  readonly lost: number;
}

export type ServerEvent = Decision | ServerStarted | BundleReloaded | ServerEnded;

/** In characters. A ref may be longer than other text, and is what a log is searched for. */
const LONGEST_TEXT = 256;
const LONGEST_REF = 512;

/** The line that is stored, in ASCII, so that a log can be looked at in a terminal. */
export function decisionLine(event: ServerEvent): string {
  const text = event.type === 'decision' ? JSON.stringify(inOrder(withoutQuery(event)), cut) : JSON.stringify(event);
  return `${text.replace(BEYOND_ASCII, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`)}\n`;
}

const BEYOND_ASCII = /[\u007F-\uFFFF]/g;

/** What a person looks for first comes first, however the event was put together. */
function inOrder({ type, time, id, ...event }: Decision): Decision {
  const { face, tool, outcome, code, ...rest } = event;
  return { type, time, id, face, tool, outcome, code, ...rest };
}

function withoutQuery(event: Decision): Decision {
  return event.path === null ? event : { ...event, path: event.path.replace(/[?#].*$/s, '') };
}

function cut(key: string, value: unknown): unknown {
  return typeof value === 'string' ? value.slice(0, key === 'ref' ? LONGEST_REF : LONGEST_TEXT) : value;
}
