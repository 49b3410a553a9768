// HTTP/1.1, straight down: authorize → swap → dial → forward → remask → audit.
import type { ClientRequest, IncomingMessage, ServerResponse } from 'node:http';
import { authorize } from './authorize.ts';
import { collect, note, pump, rewritten } from './body.ts';
import type { Exchange, Target } from './exchange.ts';
import { CodingError } from './coding.ts';
import { BadUpload, refusalOf } from './failure.ts';
import { remaskFields, requestHead, responseHead, swapFields, type RequestHead } from './head.ts';
import { refusalBody, type Refusal } from './refusal.ts';
import { planRequestBody, type RequestBody } from './request-body.ts';
import { planResponseBody } from './response-body.ts';

/** Safe to send twice: the connection that it went out on may have been closed by the other side meanwhile. */
const IDEMPOTENT = new Set(['GET', 'HEAD', 'OPTIONS', 'TRACE', 'PUT', 'DELETE']);

/** Never rejects: whatever happens, the child gets an answer or a broken connection, and the audit log a line. */
export async function forwardHttp1(exchange: Exchange, request: IncomingMessage, response: ServerResponse): Promise<void> {
  response.sendDate = false;
  if (response.socket === null) waitInLine({ request, response });
  try {
    const head = requestHead(request.rawHeaders);
    const refusal = authorize(exchange, head);
    if (refusal !== undefined) {
      refuse(exchange, { request, response }, refusal);
      return;
    }
    const target = exchange.swap.target(request.url ?? '/', exchange.notes);
    swapFields(head.fields, exchange.swap, exchange.notes);
    const body = await planRequestBody(exchange, { head, source: request }, () => {
      if (head.expectsContinue) proceed(request, response);
    });
    if (body.kind === 'refused') {
      refuse(exchange, { request, response }, body.refusal);
      return;
    }
    const incoming = await send(exchange, { head, target, body, request, response });
    await respond(exchange, incoming, response);
    exchange.finish(incoming.statusCode ?? null);
  } catch (error) {
    fail(exchange, { request, response }, error);
  }
}

/** By connection: answers that come behind another one's (pipelining). */
const inLine = new WeakMap<object, Set<ServerResponse>>();

/** Node tells the end of a connection only to the answer that is being written; those behind it would wait, and their upstreams with them. */
function waitInLine({ request: { socket }, response }: Child): void {
  const known = inLine.get(socket);
  const waiting = known ?? new Set<ServerResponse>();
  waiting.add(response);
  response.once('close', () => waiting.delete(response));
  if (known !== undefined) return;
  inLine.set(socket, waiting);
  socket.once('close', () => {
    for (const each of waiting) if (each.socket === null) each.destroy().emit('close');
  });
}

export interface Child {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
}

interface Outgoing extends Child {
  readonly head: RequestHead;
  /** Path and query, with values. */
  readonly target: string;
  readonly body: Exclude<RequestBody, { kind: 'refused' }>;
}

/** Resolves with the upstream's final response; the upload may still go on. */
function send(exchange: Exchange, outgoing: Outgoing): Promise<IncomingMessage> {
  const { body, request, response } = outgoing;
  return new Promise((resolve, reject) => {
    let answer: IncomingMessage | undefined;
    let again = IDEMPOTENT.has(exchange.request.method) && body.kind !== 'stream';
    const attempt = (): void => {
      const upstream = open(exchange, outgoing);
      const abandoned = (): void => {
        if (!response.writableFinished) upstream.destroy();
      };
      response.once('close', abandoned);
      upstream.once('response', (incoming) => {
        answer = incoming;
        endWithConnection(request);
        keepDraining(upstream, incoming);
        // Still listened for: no 100 came. Nobody knows whether the child sends its body now, so nothing else may follow.
        if (upstream.listenerCount('continue') > 0 && !request.complete) response.shouldKeepAlive = false;
        resolve(incoming);
      });
      // A 101 that nobody asked for: without a listener Node ends the connection and tells nobody.
      upstream.once('upgrade', (_incoming, socket) => {
        socket.destroy();
        reject(new UnaskedUpgrade());
      });
      upstream.on('error', (error) => {
        response.off('close', abandoned);
        // A body without a length ends with its connection, and Node takes a broken one for its end.
        if (answer?.complete === false) answer.destroy(error);
        // Nothing of the answer came, on a connection that had served before: it had been closed when the request was sent.
        if (again && answer === undefined && upstream.reusedSocket && !response.closed) {
          again = false;
          attempt();
        } else {
          reject(error);
        }
      });
      write(exchange, outgoing, upstream).catch((error: unknown) => {
        reject(ofUpload(error));
      });
    };
    attempt();
  });
}

/** Node forgets a request once it is answered, and does not tell an upload that goes on that its connection broke. */
function endWithConnection(request: IncomingMessage): void {
  if (request.complete) return;
  const { socket } = request;
  const onClose = (): void => {
    request.destroy();
  };
  socket.once('close', onClose);
  request.once('close', () => socket.off('close', onClose));
}

/** Node stops telling a request that the connection takes more as soon as the answer is complete; the rest of an upload would never be sent. */
function keepDraining(upstream: ClientRequest, incoming: IncomingMessage): void {
  incoming.once('end', () => {
    const { socket } = upstream;
    if (upstream.writableFinished || socket === null) return;
    const onDrain = (): void => {
      upstream.emit('drain');
    };
    socket.on('drain', onDrain);
    upstream.once('close', () => socket.off('drain', onDrain));
    if (socket.writableLength === 0) onDrain();
  });
}

class UnaskedUpgrade extends Error {
  readonly code = 'UNASKED_UPGRADE';
}

function open(exchange: Exchange, { head, target, body, request, response }: Outgoing): ClientRequest {
  const fields = ['Host', hostField(head, exchange.request.target), ...head.fields, ...framing(exchange, head, body)];
  if (head.wantsTrailers) fields.push('TE', 'trailers');
  const upstream = exchange.session.upstream.request(exchange.target, { method: exchange.request.method, path: target, headers: fields });
  // One that nobody asked for is of no use to the child.
  if (body.kind === 'stream' && body.unread && head.expectsContinue) {
    upstream.once('continue', () => {
      proceed(request, response);
    });
  }
  if (head.hasTransferEncoding) forwardTrailers(request, upstream);
  return upstream;
}

/** Where the body ends, if there is one. */
function framing(exchange: Exchange, head: RequestHead, body: Outgoing['body']): string[] {
  switch (body.kind) {
    case 'none': {
      // Without a length Node would announce a chunked body for these.
      const isExpected = head.contentLength !== undefined || ['POST', 'PUT', 'PATCH'].includes(exchange.request.method);
      return isExpected ? ['Content-Length', '0'] : [];
    }
    case 'whole':
      return ['Content-Length', String(body.bytes.length)];
    case 'stream':
      return [
        ...(body.length === undefined ? chunked(head.trailer) : ['Content-Length', String(body.length)]),
        ...(body.unread && head.expectsContinue ? ['Expect', '100-continue'] : []),
      ];
  }
}

/** Only a chunked message can have trailers, and so announce them (RFC 9112 7.1.2). */
function chunked(trailer: string | undefined): string[] {
  return ['Transfer-Encoding', 'chunked', ...announced(trailer)];
}

function announced(trailer: string | undefined): string[] {
  return trailer === undefined ? [] : ['Trailer', trailer];
}

/** RFC 9110 15.2: HTTP/1.0 knows no interim answers. */
function proceed({ httpVersion }: IncomingMessage, response: ServerResponse): void {
  if (httpVersion !== '1.0' && !response.headersSent) response.writeContinue();
}

/** As the child wrote it if that is canonical: with the port, or without. */
export function hostField({ hosts: [written] }: RequestHead, { host, port, tls }: Target): string {
  const full = `${host}:${String(port)}`;
  if (written === host || written === full) return written;
  return port === (tls ? 443 : 80) ? host : full;
}

function forwardTrailers(request: IncomingMessage, upstream: ClientRequest): void {
  request.once('end', () => {
    if (request.rawTrailers.length > 0 && !upstream.destroyed) upstream.addTrailers(pairs(request.rawTrailers));
  });
}

function ofUpload(error: unknown): Error {
  if (error instanceof CodingError) return new BadUpload(error);
  return error instanceof Error ? error : new Error('the upload failed');
}

async function write(exchange: Exchange, { body }: Outgoing, upstream: ClientRequest): Promise<void> {
  switch (body.kind) {
    case 'none':
      upstream.end();
      return;
    case 'whole':
      exchange.bytesUp = body.bytes.length;
      upstream.end(body.bytes);
      return;
    case 'stream':
      // An answer to `Expect` can come only when the question is out.
      if (body.unread) upstream.flushHeaders();
      await pump(body.source, upstream, {
        ...body.way,
        count: (bytes) => (exchange.bytesUp += bytes),
        breakOff: (error) => upstream.destroy(ofUpload(error)),
        // The answer goes out on the same connection, and may come although nobody reads the upload any further.
        letGo: () => (body.unread ? body.source.resume() : body.source.destroy()),
      });
  }
}

/** Remasks what the upstream answers and passes it on. Rejects when it breaks off. */
export async function respond(exchange: Exchange, incoming: IncomingMessage, response: ServerResponse): Promise<void> {
  const { remasker } = exchange.session;
  const head = responseHead(incoming.rawHeaders);
  remaskFields(head.fields, remasker, exchange.remasked);
  const plan = planResponseBody(exchange, head, { status: incoming.statusCode ?? 0, ended: false });
  const status = incoming.statusCode ?? 502;
  const reason = remasker.text(incoming.statusMessage ?? '');
  const fields = head.fields;
  if (head.contentEncoding !== undefined && !(plan.kind === 'stream' && plan.decoded))
    fields.push('Content-Encoding', head.contentEncoding);
  if (plan.kind === 'none') {
    if (head.contentLength !== undefined) fields.push('Content-Length', String(head.contentLength));
    incoming.resume();
    response.writeHead(status, reason, fields);
    response.end();
    return;
  }
  if (plan.kind === 'whole') {
    const body = await collect(incoming);
    exchange.bytesDown = body.length;
    const bytes = rewritten(plan.rewriter, body);
    note(exchange, plan.rewriter);
    fields.push('Content-Length', String(bytes.length));
    response.writeHead(status, reason, fields);
    response.end(bytes);
    return;
  }
  if (plan.length !== undefined) fields.push('Content-Length', String(plan.length));
  // Node makes the answer a chunked one where the child knows that.
  else if (response.req.httpVersion === '1.1') fields.push(...announced(head.trailer));
  response.writeHead(status, reason, fields);
  // The head of a stream that has nothing to say yet goes out at once.
  response.flushHeaders();
  incoming.once('end', () => {
    const trailers = [...incoming.rawTrailers];
    remaskFields(trailers, remasker, exchange.remasked);
    if (trailers.length > 0 && plan.length === undefined) response.addTrailers(pairs(trailers));
  });
  // How the child's side ends is decided where the failure is known.
  await pump(incoming, response, { ...plan.way, count: (bytes) => (exchange.bytesDown += bytes), breakOff: () => undefined });
  note(exchange, plan.way.rewriter);
}

function pairs(flat: readonly string[]): [string, string][] {
  const list: [string, string][] = [];
  for (let index = 0; index + 1 < flat.length; index += 2) list.push([flat[index] ?? '', flat[index + 1] ?? '']);
  return list;
}

/** Answers in kz's own name and lets the rest of the request go by. */
export function refuse(exchange: Exchange, { request, response }: Child, refusal: Refusal): void {
  answer(request, response, refusal);
  exchange.finish(refusal.status, refusal.end);
}

export function answer(request: IncomingMessage, response: ServerResponse, refusal: Refusal): void {
  const { contentType, body } = refusalBody(refusal, request.headers.accept);
  response.writeHead(refusal.status, {
    'content-type': contentType,
    'content-length': Buffer.byteLength(body),
    'x-kz-error': refusal.code,
    ...(mayGoOn(request, refusal) ? {} : { connection: 'close' }),
  });
  response.end(request.method === 'HEAD' ? undefined : body);
  // Closing on a child that still writes would take the answer away from it.
  request.resume();
}

/** On the same connection. Not after what may be read in two ways, nor where a body may follow or not (Expect), nor at a wrong host's. */
function mayGoOn({ complete, headers }: IncomingMessage, { status }: Refusal): boolean {
  return status !== 400 && status !== 421 && (complete || headers.expect === undefined);
}

function fail(exchange: Exchange, child: Child, error: unknown): void {
  const refusal = refusalOf(error, exchange);
  // Not `request.destroyed`: that is true of every request that was read to its end.
  if (child.response.closed || child.request.socket.destroyed) {
    exchange.finish(null, { error: 'client-gone' });
  } else if (child.response.headersSent) {
    // A body that ends early must not look complete.
    breakOff(child);
    exchange.finish(child.response.statusCode, refusal.end);
  } else {
    refuse(exchange, child, refusal);
  }
}

/** HTTP/1.0 has no other mark of a body's end than that of the connection, so that must not be an orderly one. */
function breakOff({ request, response }: Child): void {
  if (request.httpVersion === '1.0') request.socket.resetAndDestroy();
  else response.destroy();
}
