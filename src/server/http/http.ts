// The server's HTTP face: a policy decision point for workloads, its probes, and the door for MCP. Here are its sockets: what may come in how slowly
// and how much, what a client that goes away stops, and how it ends.
import {
  createServer as createHttp,
  type IncomingMessage,
  type RequestListener,
  type Server,
  type ServerOptions,
  type ServerResponse,
} from 'node:http';
import { createServer as createHttps, Server as HttpsServer } from 'node:https';
import type { Socket } from 'node:net';
import { endOfAll } from '../../core/abort.ts';
import { KzError } from '../../core/errors.ts';
import { GRACE_MS } from '../grace.ts';
import { send, setCommonHeaders, type Exchange } from './http-answer.ts';
import type { GuardOptions } from './http-guard.ts';
import { Routes, type RouteOptions } from './http-routes.ts';
import { cannotListen, formatListen, type ListenAddress } from './listen.ts';

/** PEM texts. */
export interface TlsIdentity {
  readonly cert: string;
  readonly key: string;
}

export interface HttpOptions extends Omit<RouteOptions, 'guard'>, Omit<GuardOptions, 'isLoopback'> {
  readonly listen: ListenAddress;
  readonly tls?: TlsIdentity | undefined;
  readonly timeouts?: Partial<HttpTimeouts> | undefined;
}

/** In milliseconds. */
export interface HttpTimeouts {
  /** For the head of a request. */
  readonly head: number;
  /** For all of a request. */
  readonly request: number;
  /** Between two requests. Longer than the 60 s of common load balancers, so that none of them sends into a connection that is being closed. */
  readonly keepAlive: number;
  /** How long `close` waits for requests that run. */
  readonly drain: number;
  /** How often Node looks at the first two. */
  readonly check: number;
}

const TIMEOUTS: HttpTimeouts = { head: 10_000, request: 30_000, keepAlive: 65_000, drain: 5000, check: 1000 };

/** Bytes. A token may have 8 KiB, and what proxies add needs room too. */
const LARGEST_HEAD = 24_576;

const MOST_CONNECTIONS = 4096;

export class HttpServer {
  readonly #options: HttpOptions;
  readonly #timeouts: HttpTimeouts;
  readonly #routes: Routes;
  readonly #server: Server | HttpsServer;
  /** One for each request whose answer is not complete. */
  readonly #running = new Set<AbortController>();
  /** What is still being answered, also to clients that are gone. */
  readonly #answers = new Set<Promise<void>>();
  /** Also those that have not got through their TLS handshake, of which Node's HTTP server does not know. */
  readonly #sockets = new Set<Socket>();
  #onIdle: (() => void) | undefined;
  #draining: Promise<void> | undefined;
  #closing: Promise<void> | undefined;

  /** Throws `config-invalid` for a certificate or key that cannot be used, `start-failed` when it cannot listen. */
  static async listen(options: HttpOptions): Promise<HttpServer> {
    const http = new HttpServer(options);
    const { host, port } = options.listen;
    await new Promise<void>((resolve, reject) => {
      http.#server.once('error', (error) => {
        reject(cannotListen(options.listen, '--listen', error));
      });
      http.#server.listen({ host, port, backlog: 1024 }, resolve);
    });
    // Accepting can fail when there are no descriptors left; the next connection may have luck.
    http.#server.on('error', () => undefined);
    return http;
  }

  private constructor(options: HttpOptions) {
    const { listen, allowedHosts, allowedOrigins, timeouts } = options;
    this.#options = options;
    this.#timeouts = { ...TIMEOUTS, ...timeouts };
    this.#routes = new Routes({ ...options, guard: { isLoopback: listen.isLoopback, allowedHosts, allowedOrigins } });
    this.#server = makeServer(options.tls, this.#timeouts, (request, response) => {
      this.#serve({ request, response, awaitsContinue: false });
    });
    this.#server.on('connection', (socket: Socket) => {
      this.#sockets.add(socket);
      socket.once('close', () => this.#sockets.delete(socket));
    });
    // Unless somebody listens, Node invites the body before anybody has asked who sends it.
    this.#server.on('checkContinue', (request: IncomingMessage, response: ServerResponse) => {
      this.#serve({ request, response, awaitsContinue: true });
    });
  }

  /** `http://127.0.0.1:8080` */
  get url(): string {
    const { listen, tls } = this.#options;
    const address = this.#server.address();
    const port = typeof address === 'object' && address !== null ? address.port : listen.port;
    return `${tls === undefined ? 'http' : 'https'}://${formatListen({ host: listen.host, port })}`;
  }

  /** For connections from now on. Throws `config-invalid`, and serves on with the old identity. */
  reloadTls(tls: TlsIdentity): void {
    if (!(this.#server instanceof HttpsServer)) return;
    try {
      this.#server.setSecureContext({ ...TLS, ...tls });
    } catch (error) {
      throw badTls(error);
    }
  }

  /** Lets running requests finish for a while, and answers 503 to new ones meanwhile. Whether it lives can be asked until `close`. */
  drain(): Promise<void> {
    this.#routes.close();
    this.#draining ??= this.#running.size > 0 ? this.#drained() : Promise.resolve();
    return this.#draining;
  }

  /** `drain`, and then aborts what is left, and lets it come to its end. */
  close(): Promise<void> {
    this.#closing ??= this.#end();
    return this.#closing;
  }

  async #end(): Promise<void> {
    await this.drain();
    for (const controller of this.#running) controller.abort();
    await new Promise<void>((resolve) => {
      this.#server.close(() => {
        resolve();
      });
      for (const socket of this.#sockets) socket.destroy();
    });
    await endOfAll(this.#answers, GRACE_MS);
  }

  #drained(): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, this.#timeouts.drain);
      this.#onIdle = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  #serve(exchange: Exchange): void {
    const signal = this.#follow(exchange);
    const { request, response } = exchange;
    const startedAt = performance.now();
    let isCounted = false;
    const count = (status: number): void => {
      if (isCounted) return;
      isCounted = true;
      this.#options.metrics.request(this.#routes.nameOf(request), status, (performance.now() - startedAt) / 1000);
    };
    response.once('close', () => {
      count(signal.aborted ? CLIENT_GONE : response.statusCode);
    });
    setCommonHeaders(response);
    const answering = this.#routes
      .answer(exchange, signal)
      .then((answer) => {
        if (answer === undefined) return;
        count(answer.status);
        if (this.#draining !== undefined && !response.headersSent) response.setHeader('connection', 'close');
        send(exchange, answer);
      })
      // What is left is that an answer could not be written.
      .catch(() => void response.destroy())
      .finally(() => this.#answers.delete(answering));
    this.#answers.add(answering);
  }

  /** The signal says that nobody waits for the answer any more. */
  #follow({ request, response }: Exchange): AbortSignal {
    const controller = new AbortController();
    this.#running.add(controller);
    response.once('close', () => {
      if (!response.writableFinished) controller.abort();
      this.#running.delete(controller);
      if (this.#running.size === 0) this.#onIdle?.();
    });
    // A connection that breaks has nobody left to tell.
    request.on('error', () => undefined);
    response.on('error', () => undefined);
    return controller.signal;
  }
}

/** The status of an answer that nobody got, as nginx counts it. */
const CLIENT_GONE = 499;

const TLS = { minVersion: 'TLSv1.2' } as const;

function makeServer(tls: TlsIdentity | undefined, timeouts: HttpTimeouts, listener: RequestListener): Server | HttpsServer {
  const options: ServerOptions = {
    maxHeaderSize: LARGEST_HEAD,
    headersTimeout: timeouts.head,
    requestTimeout: timeouts.request,
    keepAliveTimeout: timeouts.keepAlive,
    connectionsCheckingInterval: timeouts.check,
    // NODE_OPTIONS could say otherwise: two readers of one request must not find two requests.
    insecureHTTPParser: false,
    noDelay: true,
  };
  const server = tls === undefined ? createHttp(options, listener) : makeTlsServer(tls, options, listener);
  server.maxConnections = MOST_CONNECTIONS;
  // Beyond a number Node drops headers without a word. Their size is limited.
  server.maxHeadersCount = 0;
  return server;
}

function makeTlsServer(tls: TlsIdentity, options: ServerOptions, listener: RequestListener): HttpsServer {
  try {
    return createHttps({ ...options, ...TLS, ...tls, handshakeTimeout: options.headersTimeout }, listener);
  } catch (error) {
    throw badTls(error);
  }
}

function badTls(error: unknown): KzError {
  const hint = 'run `openssl x509 -noout -in CERTIFICATE` and `openssl pkey -noout -in KEY`, and see that they belong together';
  return new KzError('config-invalid', 'cannot use the TLS certificate and key', { hint, cause: error });
}
