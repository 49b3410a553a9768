// The upstream's side of an exchange over HTTP/1.1: the request as it goes out, its body, and the moment the answer begins.
import type { ClientRequest, IncomingMessage, ServerResponse } from 'node:http';
import { pump } from './body.ts';
import { CodingError } from './coding.ts';
import type { Exchange, Target } from './exchange.ts';
import { BadUpload } from './failure.ts';
import { announced, pairs, type RequestHead } from './head.ts';
import type { RequestBody } from './request-body.ts';
import { endWith, type Child } from './respond-http1.ts';

export interface Outgoing extends Child {
  readonly head: RequestHead;
  /** Path and query, with values. */
  readonly target: string;
  readonly body: Exclude<RequestBody, { kind: 'refused' }>;
}

/** Safe to send twice: the connection that it went out on may have been closed by the other side meanwhile. */
const IDEMPOTENT = new Set(['GET', 'HEAD', 'OPTIONS', 'TRACE', 'PUT', 'DELETE']);

/** Resolves with the upstream's final response; the upload may still go on. */
export function send(exchange: Exchange, outgoing: Outgoing): Promise<IncomingMessage> {
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

/** RFC 9110 15.2: HTTP/1.0 knows no interim answers. */
export function proceed({ httpVersion }: IncomingMessage, response: ServerResponse): void {
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
    try {
      if (request.rawTrailers.length > 0 && !upstream.destroyed) upstream.addTrailers(pairs(request.rawTrailers));
    } catch (error) {
      // What Node would not write; out of here it would end kz.
      upstream.destroy(error instanceof Error ? error : undefined);
    }
  });
}

async function write(exchange: Exchange, { body }: Outgoing, upstream: ClientRequest): Promise<void> {
  switch (body.kind) {
    case 'none':
      upstream.end();
      return;
    case 'whole':
      exchange.bytesUp = body.bytes.length;
      endWith(upstream, body.bytes);
      return;
    case 'stream':
      // An answer to `Expect` can come only when the question is out. Node's own flushHeaders writes UTF-8, and a value would be another one.
      if (body.unread) upstream.write(NOTHING);
      await pump(body.source, upstream, {
        ...body.way,
        count: (bytes) => (exchange.bytesUp += bytes),
        breakOff: (error) => upstream.destroy(ofUpload(error)),
        // The answer goes out on the same connection, and may come although nobody reads the upload any further.
        letGo: () => (body.unread ? body.source.resume() : body.source.destroy()),
      });
  }
}

const NOTHING = Buffer.alloc(0);

function ofUpload(error: unknown): Error {
  if (error instanceof CodingError) return new BadUpload(error);
  return error instanceof Error ? error : new Error('the upload failed');
}
