// Node's own HTTP servers, never listening: they are handed connections out of tunnels and turn them into requests.
import { createServer as createHttp1, ServerResponse, type IncomingMessage, type Server } from 'node:http';
import { createServer as createHttp2, type Http2Server, type IncomingHttpHeaders, type ServerHttp2Stream } from 'node:http2';
import type { Duplex } from 'node:stream';
import { Swap } from '../mask/swap.ts';
import { Exchange, type Session, type Target } from './exchange.ts';
import { forwardHttp1 } from './forward-http1.ts';
import { refuse } from './respond-http1.ts';
import { forwardHttp2, refuseStream, type Http2Request } from './forward-http2.ts';
import { forwardUpgrade } from './forward-upgrade.ts';
import { hostMismatch, type Refusal } from './refusal.ts';

/** What a connection leads to. */
export interface Route {
  readonly target: Target;
  readonly swap: Swap;
  /** Every request on this connection gets it: the tunnel's name and the one in TLS differ. */
  readonly mismatch: string | undefined;
}

/** Bytes of a request's or response's head. Node's default of 16 KiB is less than some cookies and policies need. */
const LARGEST_HEAD = 65_536;

/** Of one HTTP/2 head. Node's default of 128 resets a stream that a browser's cookies come close to; the size is limited besides. */
const MOST_FIELDS = 2000;

export class HttpServers {
  readonly limits = {
    maxHeaderSize: LARGEST_HEAD,
    // A long upload is no attack: the child is ours.
    requestTimeout: 0,
    // Longer than clients keep theirs, so that nobody sends into a connection that is being closed.
    keepAliveTimeout: 120_000,
    noDelay: true,
  };
  readonly #session: Session;
  readonly #routes = new WeakMap<object, Route>();
  readonly #swaps = new Map<string, Swap>();
  readonly #http1: Server;
  readonly #http2: Http2Server;
  readonly #sessions = new Set<{ destroy(): void }>();
  /** Of the connection that is being handed over right now: Node gives a session no way back to it. */
  #entering: Route | undefined;

  constructor(session: Session) {
    this.#session = session;
    this.#http1 = createHttp1({ ...this.limits });
    allowManyHeaders(this.#http1);
    const onRequest = (request: IncomingMessage, response: ServerResponse): void => {
      this.#request(request, response);
    };
    this.#http1.on('request', onRequest);
    this.#http1.on('checkContinue', onRequest);
    this.#http1.on('upgrade', (request: IncomingMessage, socket: Duplex, head: Buffer) => {
      const route = this.#routes.get(request.socket);
      if (!isWebSocket(request)) declineUpgrade(this.#http1, request, { socket, head });
      else if (route === undefined) socket.destroy();
      else this.upgrade(route.target, request, { socket, head });
    });
    this.#http1.on('clientError', (error: Error, socket: Duplex) => {
      this.refuseUnparsed(error, socket);
    });
    this.#http2 = createHttp2({
      maxHeaderListPairs: MOST_FIELDS,
      settings: { maxConcurrentStreams: 1000, initialWindowSize: 1 << 20, maxHeaderListSize: LARGEST_HEAD },
    });
    this.#http2.on('session', (http2) => {
      if (this.#entering !== undefined) this.#routes.set(http2, this.#entering);
      this.#sessions.add(http2);
      http2.once('close', () => this.#sessions.delete(http2));
      http2.on('error', () => undefined);
      http2.setLocalWindowSize(8 << 20);
    });
    this.#http2.on('stream', (stream: ServerHttp2Stream, headers: IncomingHttpHeaders, _flags: number, rawHeaders: string[]) => {
      this.#stream({ stream, headers, rawHeaders });
    });
    this.#http2.on('sessionError', () => undefined);
  }

  /** `socket` gives plain text: what came out of the TLS layer, or a tunnel without one. */
  accept(protocol: 'http/1.1' | 'h2', socket: Duplex, route: Omit<Route, 'swap'>): void {
    this.#entering = { ...route, swap: this.#swapFor(route.target) };
    this.#routes.set(socket, this.#entering);
    (protocol === 'h2' ? this.#http2 : this.#http1).emit('connection', socket);
    this.#entering = undefined;
  }

  serve(target: Target, request: IncomingMessage, response: ServerResponse): void {
    const exchange = this.#exchange('http/1.1', target, request);
    watched(forwardHttp1(exchange, request, response), exchange, request.socket);
  }

  upgrade(target: Target, request: IncomingMessage, connection: Connection): void {
    inTurn(connection.socket, () => {
      const mismatch = this.#routes.get(request.socket)?.mismatch;
      const exchange = this.#exchange('websocket', target, request);
      watched(forwardUpgrade(exchange, { request, ...connection, mismatch }), exchange, request.socket);
    });
  }

  /** What Node's parser would not take: RFC 9112 wants a 400, or a 431 for a head that is too large. */
  refuseUnparsed(error: Error, socket: Duplex): void {
    // In the middle of an answer it would be taken for a part of that.
    if (!socket.writable || ('code' in error && error.code === 'ECONNRESET') || isAnswering(socket)) {
      socket.destroy();
      return;
    }
    const tooLarge = 'code' in error && error.code === 'HPE_HEADER_OVERFLOW';
    const status = tooLarge ? '431 Request Header Fields Too Large' : '400 Bad Request';
    this.#session.audit({ type: 'refused', time: new Date().toISOString(), why: 'malformed', host: null, port: null });
    socket.end(`HTTP/1.1 ${status}\r\nx-kz-error: malformed\r\nconnection: close\r\ncontent-length: 0\r\n\r\n`);
  }

  close(): void {
    for (const session of this.#sessions) session.destroy();
    this.#http1.close();
    this.#http2.close();
  }

  #request(request: IncomingMessage, response: ServerResponse): void {
    const route = this.#routes.get(request.socket);
    if (route === undefined) {
      response.destroy();
      return;
    }
    const exchange = this.#exchange('http/1.1', route.target, request, route.swap);
    if (route.mismatch === undefined) watched(forwardHttp1(exchange, request, response), exchange, request.socket);
    else refuse(exchange, { request, response }, this.#mismatch(route));
  }

  #stream(http2: Http2Request): void {
    const { stream, headers } = http2;
    // A reset shows on 'close' too.
    stream.on('error', () => undefined);
    const route = stream.session === undefined ? undefined : this.#routes.get(stream.session);
    if (route === undefined) {
      stream.close();
      return;
    }
    const { target, swap, mismatch } = route;
    const request = { protocol: 'h2' as const, target, method: headers[':method'] ?? '', path: headers[':path'] ?? '' };
    const exchange = new Exchange(this.#session, request, swap);
    if (mismatch === undefined) watched(forwardHttp2(exchange, http2), exchange, stream);
    else refuseStream(exchange, http2, this.#mismatch(route));
  }

  #mismatch({ mismatch = '', target }: Route): Refusal {
    return hostMismatch(mismatch, target);
  }

  #exchange(protocol: 'http/1.1' | 'websocket', target: Target, request: IncomingMessage, swap = this.#swapFor(target)): Exchange {
    return new Exchange(this.#session, { protocol, target, method: request.method ?? '', path: request.url ?? '' }, swap);
  }

  /** One for each host and port; a run talks to few, a scan of ports must not fill the memory. */
  #swapFor({ host, port, tls }: Target): Swap {
    const key = `${tls ? 'https' : 'http'}://${host}:${String(port)}`;
    const known = this.#swaps.get(key);
    if (known !== undefined) return known;
    const swap = new Swap(this.#session.table, host, port, tls);
    if (this.#swaps.size >= 1000) this.#swaps.clear();
    this.#swaps.set(key, swap);
    return swap;
  }
}

/** None of them rejects. If one does all the same, its own connection ends and not the whole run. */
function watched(forwarding: Promise<void>, exchange: Exchange, connection: { destroy(): unknown }): void {
  forwarding.catch(() => {
    connection.destroy();
    exchange.finish(null, { error: 'internal' });
  });
}

/** Once every request before this one on the connection has its answer: two answers at the same time would be one that nobody can read. */
function inTurn(socket: Duplex, then: () => void): void {
  if ('_httpMessage' in socket && socket._httpMessage instanceof ServerResponse) {
    socket._httpMessage.once('close', () => {
      inTurn(socket, then);
    });
  } else if (!socket.destroyed) {
    then();
  }
}

/** Node drops what is beyond a number without a word; the size is limited already. */
export function allowManyHeaders(server: Server): void {
  server.maxHeadersCount = 0;
}

interface Connection {
  readonly socket: Duplex;
  /** What came behind the request. */
  readonly head: Buffer;
}

export function isWebSocket({ headers: { upgrade } }: IncomingMessage): boolean {
  return /^websocket$/i.test(upgrade ?? '');
}

/**
 * Any other upgrade is declined by taking no notice of it (RFC 9110 7.8): the connection is handed to `server` again, with the request as it
 * was but for that field, and ends with its answer. Node's parser stops at the head; the body would be lost otherwise.
 */
export function declineUpgrade(server: Server, request: IncomingMessage, connection: Connection): void {
  const { socket, head } = connection;
  inTurn(socket, () => {
    socket.unshift(Buffer.concat([Buffer.from(withoutUpgrade(request), 'latin1'), head]));
    server.emit('connection', socket);
  });
}

function withoutUpgrade({ method = '', url = '', httpVersion, rawHeaders }: IncomingMessage): string {
  const lines = [`${method} ${url} HTTP/${httpVersion}`];
  const own = ['close'];
  for (let index = 0; index < rawHeaders.length; index += 2) {
    const name = rawHeaders[index] ?? '';
    const value = rawHeaders[index + 1] ?? '';
    if (/^connection$/i.test(name)) own.push(...value.split(',').map((token) => token.trim()));
    else if (!/^(?:upgrade|http2-settings)$/i.test(name)) lines.push(`${name}: ${value}`);
  }
  const kept = own.filter((token) => !/^(?:upgrade|http2-settings|keep-alive|)$/i.test(token));
  return `${lines.join('\r\n')}\r\nConnection: ${kept.join(', ')}\r\n\r\n`;
}

/** Node keeps the answer that a connection is giving here; its own servers look at it for the same reason. */
function isAnswering(socket: Duplex): boolean {
  return '_httpMessage' in socket && socket._httpMessage instanceof ServerResponse && socket._httpMessage.headersSent;
}
