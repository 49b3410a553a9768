// HTTP/2, straight down: authorize → swap → dial → forward → remask → audit. Both sides speak it, so gRPC's trailers and resets arrive as sent.
import {
  constants,
  sensitiveHeaders,
  type ClientHttp2Stream,
  type IncomingHttpHeaders,
  type OutgoingHttpHeaders,
  type ServerHttp2Stream,
} from 'node:http2';
import { addAbortSignal } from 'node:stream';
import { authorize } from './authorize.ts';
import { ClosedEarly, collect, note, pump, rewritten } from './body.ts';
import type { Exchange } from './exchange.ts';
import { refusalOf } from './failure.ts';
import {
  regularFields,
  remaskFields,
  remaskHead,
  requestHead,
  responseHead,
  swapFields,
  type RawFields,
  type RequestHead,
} from './head.ts';
import { isPrepared, prepare } from './prepare.ts';
import { refusalBody, type Refusal } from './refusal.ts';
import { planRequestBody, type RequestBody } from './request-body.ts';
import { planResponseBody } from './response-body.ts';

export interface Http2Request {
  readonly stream: ServerHttp2Stream;
  readonly headers: IncomingHttpHeaders;
  readonly rawHeaders: RawFields;
}

/** Of both directions together; Node warns of more than ten. */
const LISTENERS = 40;

/** Never rejects: whatever happens, the child gets an answer or a reset, and the audit log a line. */
export async function forwardHttp2(exchange: Exchange, http2: Http2Request): Promise<void> {
  const { stream, headers, rawHeaders } = http2;
  try {
    const head = requestHead(regularFields(rawHeaders));
    const go = (): void => {
      if (head.expectsContinue) stream.additionalHeaders({ ':status': 100 });
    };
    const inbound = { head, source: stream, connection: stream, proceed: go };
    const denied = authorize(exchange, { ...head, hosts: hostsOf(headers, head) });
    const refusal = denied ?? (isPrepared(exchange) ? await prepare(exchange, inbound) : undefined);
    if (refusal !== undefined) {
      refuseStream(exchange, http2, refusal);
      return;
    }
    const path = exchange.swap.target(exchange.path, exchange.notes);
    swapFields(head.fields, exchange.swap, exchange.notes);
    const body = await planRequestBody(exchange, inbound, go);
    if (stream.closed) throw new ClosedEarly('the child');
    if (body.kind === 'refused') {
      refuseStream(exchange, http2, body.refusal);
      return;
    }
    const sent = outgoing(exchange, { head, path, body });
    const upstream = await exchange.session.upstream.stream(exchange.target, sent, body.kind === 'none').catch((error: unknown) => {
      // A file that nobody is going to read.
      if (body.kind === 'stream' && !body.unread) body.source.destroy();
      throw error;
    });
    for (const each of [stream, upstream]) each.setMaxListeners(LISTENERS);
    stream.once('close', () => {
      cancel(upstream, stream.rstCode);
    });
    // An upload that breaks off shows in the response, or in its absence.
    write(exchange, { body, upstream, stream }).catch(() => undefined);
    await respond(exchange, upstream, stream);
  } catch (error) {
    fail(exchange, http2, error);
  }
}

/** `:authority` and Host may both be there and are then the same (RFC 9113 8.3.1). */
function hostsOf(headers: IncomingHttpHeaders, head: RequestHead): string[] {
  const { ':authority': authority } = headers;
  return authority === undefined ? [...head.hosts] : [...new Set([authority, ...head.hosts])];
}

type Sendable = Exclude<RequestBody, { kind: 'refused' }>;

interface Outgoing {
  readonly head: RequestHead;
  /** Path and query, with values. */
  readonly path: string;
  readonly body: Sendable;
}

function outgoing(exchange: Exchange, { head, path, body }: Outgoing): OutgoingHttpHeaders {
  const { target, method } = exchange.request;
  const { host, port, tls } = target;
  const isUsual = port === (tls ? 443 : 80);
  const headers: OutgoingHttpHeaders = {
    ':method': method,
    ':scheme': tls ? 'https' : 'http',
    ':authority': isUsual ? host : `${host}:${String(port)}`,
    ':path': path,
  };
  addFields(headers, head.fields);
  if (head.wantsTrailers) headers.te = 'trailers';
  if (head.trailer !== undefined) headers.trailer = head.trailer;
  // A stream ends by itself, so only a length that is known for certain is announced.
  if (body.kind === 'whole') headers['content-length'] = String(body.bytes.length);
  else if (body.kind === 'stream' && body.length !== undefined) headers['content-length'] = String(body.length);
  // Values do not go into the table that HPACK keeps for the connection.
  headers[sensitiveHeaders as unknown as string] = exchange.notes.swapped.flatMap(({ where }) => {
    return where.startsWith('header ') ? [where.slice('header '.length)] : [];
  });
  return headers;
}

function addFields(headers: OutgoingHttpHeaders, fields: RawFields): void {
  for (let index = 0; index < fields.length; index += 2) {
    const name = (fields[index] ?? '').toLowerCase();
    const value = fields[index + 1] ?? '';
    const before = headers[name];
    if (before === undefined) headers[name] = value;
    else headers[name] = [...(Array.isArray(before) ? before : [String(before)]), value];
  }
}

/**
 * Resets a stream. Node's own `close` ends an upload first, so that the upstream gets what looks complete; aborting does not, and says CANCEL.
 */
function cancel(upstream: ClientHttp2Stream, rstCode: number): void {
  if (upstream.closed) return;
  if (!upstream.writableEnded) addAbortSignal(AbortSignal.abort(), upstream);
  else upstream.close(upstream.readableEnded || rstCode !== constants.NGHTTP2_NO_ERROR ? rstCode : constants.NGHTTP2_CANCEL);
}

interface Upload {
  readonly body: Sendable;
  readonly upstream: ClientHttp2Stream;
  readonly stream: ServerHttp2Stream;
}

async function write(exchange: Exchange, { body, upstream, stream }: Upload): Promise<void> {
  switch (body.kind) {
    case 'none':
      return;
    case 'whole':
      exchange.bytesUp = body.bytes.length;
      upstream.end(body.bytes);
      return;
    case 'stream':
      await pump(body.source, upstream, {
        ...body.way,
        count: (bytes) => (exchange.bytesUp += bytes),
        isWhole: () => !body.unread || !stream.closed,
        // The answer comes on the same stream, and may come although nobody reads the upload any further.
        letGo: () => (body.unread ? body.source.resume() : body.source.destroy()),
        breakOff: () => {
          cancel(upstream, constants.NGHTTP2_CANCEL);
        },
      });
  }
}

async function respond(exchange: Exchange, upstream: ClientHttp2Stream, stream: ServerHttp2Stream): Promise<void> {
  const { remasker } = exchange.session;
  const { status, raw, isEnd, trailers } = await responseOf(upstream, stream, remasker);
  const head = responseHead(regularFields(raw));
  remaskHead(head, remasker, exchange.remasked);
  const plan = planResponseBody(exchange, head, { status, ended: isEnd });
  const headers: OutgoingHttpHeaders = { ':status': status };
  addFields(headers, head.fields);
  if (head.contentEncoding !== undefined && !(plan.kind === 'stream' && plan.decoded)) headers['content-encoding'] = head.contentEncoding;
  if (plan.kind === 'none') {
    if (head.contentLength !== undefined) headers['content-length'] = head.contentLength;
    upstream.resume();
    stream.respond(headers, { endStream: true });
    exchange.finish(status);
    return;
  }
  if (plan.kind === 'whole') {
    const body = await collect(upstream);
    // Node ends a stream without an error when its connection is gone.
    if (upstream.rstCode !== constants.NGHTTP2_NO_ERROR) throw new ResetByUpstream(upstream.rstCode);
    exchange.bytesDown = body.length;
    const bytes = rewritten(plan.rewriter, body);
    note(exchange, plan.rewriter);
    headers['content-length'] = bytes.length;
    stream.respond(headers, { waitForTrailers: true });
    passTrailers(exchange, stream, trailers);
    stream.end(bytes);
    exchange.finish(status);
    return;
  }
  if (plan.length !== undefined) headers['content-length'] = plan.length;
  if (head.trailer !== undefined) headers.trailer = head.trailer;
  stream.respond(headers, { waitForTrailers: true });
  passTrailers(exchange, stream, trailers);
  await pump(upstream, stream, {
    ...plan.way,
    count: (bytes) => (exchange.bytesDown += bytes),
    // A reset in the middle stays one, with its code.
    breakOff: () => {
      if (!stream.closed)
        stream.close(upstream.rstCode === constants.NGHTTP2_NO_ERROR ? constants.NGHTTP2_INTERNAL_ERROR : upstream.rstCode);
    },
  });
  note(exchange, plan.way.rewriter);
  if (upstream.rstCode !== constants.NGHTTP2_NO_ERROR) throw new ResetByUpstream(upstream.rstCode);
  exchange.finish(status);
}

/** At the end of the stream, when they are here. */
function passTrailers(exchange: Exchange, stream: ServerHttp2Stream, trailers: RawFields): void {
  stream.once('wantTrailers', () => {
    const fields = [...trailers];
    remaskFields(fields, exchange.session.remasker, exchange.remasked);
    const sent: OutgoingHttpHeaders = {};
    addFields(sent, fields);
    const reset = (): void => {
      stream.close(constants.NGHTTP2_INTERNAL_ERROR);
    };
    orElse(reset, () => {
      stream.sendTrailers(sent);
    });
  });
}

/** Node throws at what other servers send (a field that it wants to be there once); out of an event's listener that would end kz. */
function orElse(otherwise: () => void, action: () => void): void {
  try {
    action();
  } catch {
    otherwise();
  }
}

function ignore(): void {
  return undefined;
}

interface Head {
  readonly status: number;
  readonly raw: RawFields;
  /** No body and no trailers follow. */
  readonly isEnd: boolean;
  /** Filled in when they come. */
  readonly trailers: RawFields;
}

function responseOf(upstream: ClientHttp2Stream, stream: ServerHttp2Stream, remasker: Exchange['session']['remasker']): Promise<Head> {
  return new Promise((resolve, reject) => {
    const trailers: string[] = [];
    upstream.on('headers', (headers: IncomingHttpHeaders, _flags: number, raw?: RawFields) => {
      // 103 and the like; an answer to Expect was given here already.
      if (Number(headers[':status']) === 100 || stream.headersSent) return;
      const { fields } = responseHead(regularFields(raw ?? []));
      remaskFields(fields, remasker, new Set());
      const early: OutgoingHttpHeaders = { ':status': headers[':status'] };
      addFields(early, fields);
      // A hint that cannot be passed on is none.
      orElse(ignore, () => {
        stream.additionalHeaders(early);
      });
    });
    upstream.once('response', (headers: IncomingHttpHeaders, flags: number, raw?: RawFields) => {
      const isEnd = (flags & constants.NGHTTP2_FLAG_END_STREAM) !== 0;
      resolve({ status: Number(headers[':status']), raw: raw ?? [], isEnd, trailers });
    });
    // Of a short answer they come before anybody who awaits its head goes on.
    upstream.once('trailers', (_headers: IncomingHttpHeaders, _flags: number, raw?: RawFields) => {
      trailers.push(...(raw ?? []));
    });
    upstream.once('error', reject);
    upstream.once('close', () => {
      reject(new ResetByUpstream(upstream.rstCode));
    });
  });
}

class ResetByUpstream extends Error {
  readonly code: string;

  constructor(rstCode: number) {
    super('the upstream reset the stream');
    this.code = `RST_STREAM ${String(rstCode)}`;
  }
}

/** Answers in kz's own name. */
export function refuseStream(exchange: Exchange, { stream, headers: { accept } }: Http2Request, refusal: Refusal): void {
  const { contentType, body } = refusalBody(refusal, accept);
  if (!stream.destroyed && !stream.closed) {
    stream.respond({
      ':status': refusal.status,
      'content-type': contentType,
      'content-length': Buffer.byteLength(body),
      'x-kz-error': refusal.code,
    });
    stream.end(exchange.request.method === 'HEAD' ? undefined : body);
    stream.resume();
    // As after a 401 over HTTP/1.1: the client opens another connection.
    if (refusal.status === 401) stream.session?.close();
  }
  exchange.finish(refusal.status, refusal.end);
}

function fail(exchange: Exchange, http2: Http2Request, error: unknown): void {
  const { stream } = http2;
  if (stream.destroyed || stream.closed || stream.aborted) {
    exchange.finish(null, { error: 'client-gone' });
    return;
  }
  const refusal = refusalOf(error, exchange);
  if (!stream.headersSent) {
    refuseStream(exchange, http2, refusal);
    return;
  }
  stream.close(constants.NGHTTP2_INTERNAL_ERROR);
  exchange.finish(Number(stream.sentHeaders[':status']), refusal.end);
}
