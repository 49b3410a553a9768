// How the HTTP face answers: always complete, never cached, and nothing of the request in it but the ref that was asked for.
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { ServerFailure } from '../failure.ts';

export interface Exchange {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  /** The client sends its body only after a `100 Continue`. */
  readonly awaitsContinue: boolean;
}

export interface Answer {
  readonly status: number;
  readonly headers?: Readonly<Record<string, string>>;
  readonly type: string;
  readonly body: string;
}

/** What only this face refuses, so that `ServerFailure` need not know of it. */
export class HttpRefusal extends Error {
  readonly status: number;
  readonly code: string;
  readonly headers: Readonly<Record<string, string>>;

  constructor(status: number, code: string, message: string, headers: Readonly<Record<string, string>> = {}) {
    super(message);
    this.name = 'HttpRefusal';
    this.status = status;
    this.code = code;
    this.headers = headers;
  }
}

export function json(status: number, value: unknown, headers: Readonly<Record<string, string>> = {}): Answer {
  return { status, headers, type: 'application/json; charset=utf-8', body: `${JSON.stringify(value)}\n` };
}

export function refusalAnswer({ status, code, message, headers }: HttpRefusal): Answer {
  return json(status, { error: message, code }, headers);
}

/** `more` stands beside what every failure says. */
export function failureAnswer(failure: ServerFailure, more: Readonly<Record<string, unknown>> = {}): Answer {
  const { status, code, message, hint } = failure;
  return json(status, { error: message, code, ...(hint === undefined ? {} : { hint }), ...more }, failureHeaders(failure));
}

function failureHeaders({ status, code, retryAfterMs }: ServerFailure): Record<string, string> {
  if (retryAfterMs !== undefined) return { 'retry-after': String(Math.max(1, Math.ceil(retryAfterMs / 1000))) };
  if (status !== 401) return {};
  // RFC 6750, section 3.1: who sent no token is told no error code.
  return { 'www-authenticate': code === 'jwt-missing' ? 'Bearer realm="kz"' : 'Bearer realm="kz", error="invalid_token"' };
}

/** On every answer, also on those that the MCP handler writes. */
export function setCommonHeaders(response: ServerResponse): void {
  response.setHeader('cache-control', 'no-store');
  response.setHeader('x-content-type-options', 'nosniff');
}

/** A body that was not read to its end costs the client its connection: what is left of it must not be taken for the next request. */
export function send(exchange: Exchange, { status, headers = {}, type, body }: Answer): void {
  const { request, response } = exchange;
  // The client is gone, or the answer has begun and can only be broken off.
  if (response.headersSent || response.destroyed) {
    response.destroy();
    return;
  }
  const isUnread = hasBody(request) && !request.complete;
  if (isUnread) response.setHeader('connection', 'close');
  response.writeHead(status, { ...headers, 'content-type': type, 'content-length': Buffer.byteLength(body) });
  if (isUnread && !exchange.awaitsContinue) linger(exchange, body);
  // As text: Node puts it into one packet with the head.
  else response.end(body);
}

/** Of an unread body, in bytes and milliseconds. */
const LONGEST_LINGER = { bytes: 4_194_304, ms: 2000 };

/**
 * Many clients read nothing before they have sent everything, and a connection that is closed under them loses them the answer. So a little is
 * thrown away unseen after the answer was sent.
 */
function linger({ request, response }: Exchange, body: string): void {
  response.write(body);
  let thrownAway = 0;
  const end = (): void => {
    clearTimeout(timer);
    request.off('data', count);
    request.pause();
    response.end();
  };
  const count = (chunk: Buffer): void => {
    thrownAway += chunk.length;
    if (thrownAway > LONGEST_LINGER.bytes) end();
  };
  const timer = setTimeout(end, LONGEST_LINGER.ms);
  request.on('data', count).once('end', end).once('error', end).once('close', end);
  request.resume();
}

export function hasBody({ headers }: IncomingMessage): boolean {
  return headers['transfer-encoding'] !== undefined || (headers['content-length'] ?? '0') !== '0';
}
