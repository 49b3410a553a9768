// The proxy that a blind child talks to: listens on loopback or is handed connections by doors.ts, asks for the run's credential, and takes
// CONNECT and plain requests from there. What a tunnel carries is found out in tunnel.ts. A server has another entrance: who its clients are
// is asked elsewhere, and each of them has a session of its own.
import { createHash, timingSafeEqual } from 'node:crypto';
import { createServer, STATUS_CODES, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { parseAuthority, type HostPort } from '../core/host-name.ts';
import type { RefusedWhy } from '../audit/event.ts';
import type { Session, Target } from './exchange.ts';
import { answer } from './respond-http1.ts';
import { malformed, type Refusal } from './refusal.ts';
import { allowManyHeaders, declineUpgrade, HttpServers, isWebSocket } from './http-servers.ts';
import type { Accepted } from './peer-process.ts';
import { openTunnel } from './tunnel.ts';

export interface ProxyOptions {
  /** The password that clients send with user `kz`. */
  readonly credential: string;
  /** Does the process at the other end belong to the run? Asked only for a client that sends no credential: a JVM cannot. */
  readonly isOurs: (client: Required<Accepted>) => Promise<boolean>;
}

/** What the requests of a client are part of. */
export interface Entered {
  readonly session: Session;
  readonly servers: HttpServers;
}

/** Asked for every CONNECT, and for every request without one. With status 407 the client is asked for a credential. */
export type Enter = (request: IncomingMessage) => Promise<Entered | Refusal>;

/** The longest time a client may take for the head of its first request, in milliseconds. */
const HEAD_TIMEOUT_MS = 30_000;

export interface OpenTo {
  readonly host: string;
  readonly port: number;
  readonly mostConnections: number;
}

export class ProxyServer {
  readonly #own: Entered;
  readonly #enter: Enter;
  readonly #outer: Server;
  readonly #sockets = new Set<Socket>();
  #isClosed = false;

  /** Resolves once it listens, on a port of the system's choice. */
  static async listen(session: Session, options: ProxyOptions): Promise<ProxyServer> {
    const proxy = new ProxyServer(session, (own) => entranceOfRun(own, options));
    await proxy.#listen({ host: '127.0.0.1', port: 0 });
    return proxy;
  }

  /** `session` is for what belongs to no client; `enter` says which one a client has. */
  static async open(session: Session, enter: Enter, { mostConnections, ...at }: OpenTo): Promise<ProxyServer> {
    const proxy = new ProxyServer(session, () => enter);
    // Those who come may be strangers: beyond these, the system closes what it accepts.
    proxy.#outer.maxConnections = mostConnections;
    await proxy.#listen(at);
    return proxy;
  }

  /**
   * Listens nowhere and has no port: `accept` and `tunnel` give it connections, of which the caller knows that they are the run's own. Such a
   * client need not send the credential; one that sends another is refused all the same.
   */
  static behind(session: Session, { credential }: Pick<ProxyOptions, 'credential'>): ProxyServer {
    const proxy = new ProxyServer(session, (own) => entranceOfRun(own, { credential, isOurs: () => Promise.resolve(true) }));
    // Starts Node's watch over slow heads, which nothing else does.
    proxy.#outer.emit('listening');
    return proxy;
  }

  private constructor(session: Session, entrance: (own: Entered) => Enter) {
    this.#own = { session, servers: new HttpServers(session) };
    const enter = entrance(this.#own);
    this.#enter = async (request) => {
      const entered = await enter(request);
      // Nothing begins any more, and nobody would read of it.
      if (this.#isClosed) throw new Error('the proxy is closed');
      return entered;
    };
    this.#outer = createServer({ ...this.#own.servers.limits, headersTimeout: HEAD_TIMEOUT_MS });
    // As in http-servers.ts.
    this.#outer.maxHeadersCount = 0;
    allowManyHeaders(this.#outer);
    this.#outer.on('connection', (socket: Socket) => {
      this.#follow(socket);
    });
    this.#outer.on('connect', (request: IncomingMessage, _socket: Duplex, head: Buffer) => {
      // A connection that breaks has nobody left to tell.
      request.socket.on('error', () => undefined);
      this.#connect(request, head).catch(() => request.socket.destroy());
    });
    // None of these rejects; if one does all the same, its own connection ends and not the whole run.
    const onRequest = (request: IncomingMessage, response: ServerResponse): void => {
      this.#plain(request, response).catch(() => request.socket.destroy());
    };
    this.#outer.on('request', onRequest);
    this.#outer.on('checkContinue', onRequest);
    this.#outer.on('upgrade', (request: IncomingMessage, socket: Duplex, head: Buffer) => {
      if (isWebSocket(request)) this.#upgrade(request, socket, head).catch(() => socket.destroy());
      else declineUpgrade(this.#outer, request, { socket, head });
    });
    this.#outer.on('clientError', (error: Error, socket: Duplex) => {
      this.#own.servers.refuseUnparsed(error, socket);
    });
  }

  get port(): number {
    return (this.#outer.address() as AddressInfo).port;
  }

  /** A connection of a client that knows of the proxy. */
  accept(socket: Socket): void {
    this.#outer.emit('connection', socket);
  }

  /** A connection of a client that knows of none, and dialled what it takes for `authority`: as if it were inside of CONNECT. */
  tunnel(socket: Socket, authority: HostPort): void {
    this.#follow(socket);
    socket.on('error', () => undefined);
    const { session, servers } = this.#own;
    openTunnel(session, servers, { socket, head: Buffer.alloc(0), authority }).catch(() => socket.destroy());
  }

  /** Ends every connection. */
  async close(): Promise<void> {
    this.#isClosed = true;
    const closed = new Promise<void>((resolve) => {
      this.#outer.close(() => {
        resolve();
      });
    });
    for (const socket of this.#sockets) socket.destroy();
    this.#own.servers.close();
    await closed;
  }

  #listen({ host, port }: { readonly host: string; readonly port: number }): Promise<void> {
    return new Promise<void>((resolve, reject) => {
      this.#outer.once('error', reject);
      this.#outer.listen({ host, port, backlog: 1024 }, () => {
        this.#outer.off('error', reject);
        resolve();
      });
    });
  }

  #follow(socket: Socket): void {
    this.#sockets.add(socket);
    socket.once('close', () => this.#sockets.delete(socket));
  }

  async #connect(request: IncomingMessage, head: Buffer): Promise<void> {
    const { socket } = request;
    const entered = await this.#enter(request);
    if ('status' in entered) {
      if (entered.isAudited !== true) this.#refused('no-credential');
      socket.end(refusedHead(entered));
      return;
    }
    const authority = parseAuthority(request.url ?? '');
    if (authority === undefined) {
      this.#refused('malformed');
      socket.end('HTTP/1.1 400 Bad Request\r\nx-kz-error: malformed\r\ncontent-length: 0\r\nconnection: close\r\n\r\n');
      return;
    }
    if (socket.destroyed) return;
    socket.write('HTTP/1.1 200 Connection established\r\n\r\n');
    await openTunnel(entered.session, entered.servers, { socket, head, authority });
  }

  async #plain(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const admitted = await this.#admit(request, (refusal) => {
      if (refusal.status === 407) response.setHeader('Proxy-Authenticate', CHALLENGE);
      answer(request, response, refusal);
    });
    admitted?.servers.serve(admitted.target, request, response);
  }

  async #upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): Promise<void> {
    socket.on('error', () => undefined);
    const admitted = await this.#admit(request, ({ status, code }) => {
      socket.end(`HTTP/1.1 ${String(status)} Refused\r\nx-kz-error: ${code}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n`);
    });
    admitted?.servers.upgrade(admitted.target, request, { socket, head });
  }

  /** The target of a request that came without CONNECT. Its `url` becomes the path. */
  async #admit(request: IncomingMessage, refuse: (refusal: Refusal) => void): Promise<Admitted | undefined> {
    const entered = await this.#enter(request);
    if ('status' in entered) {
      if (entered.isAudited !== true) this.#refused('no-credential');
      refuse(entered);
      return undefined;
    }
    const target = absolute(request);
    if (target !== undefined) return { ...entered, target };
    this.#refused('malformed');
    refuse(malformed('the request names no host: this is a proxy'));
    return undefined;
  }

  #refused(why: RefusedWhy): void {
    this.#own.session.audit({ type: 'refused', time: new Date().toISOString(), why, host: null, port: null });
  }
}

interface Admitted extends Entered {
  readonly target: Target;
}

const CHALLENGE = 'Basic realm="kz"';

/** Closed after it: curl and git come back on a new connection, with the credential. */
function refusedHead({ status, code }: Refusal): string {
  return [
    `HTTP/1.1 ${String(status)} ${STATUS_CODES[status] ?? 'Refused'}`,
    ...(status === 407 ? [`Proxy-Authenticate: ${CHALLENGE}`] : []),
    `x-kz-error: ${code}`,
    'Content-Length: 0',
    'Connection: close',
    '\r\n',
  ].join('\r\n');
}

const NO_CREDENTIAL: Refusal = {
  status: 407,
  code: 'no-credential',
  end: { why: 'other' },
  message: 'this proxy belongs to a run of kz and needs its credential',
};

/** One credential, and one session for all who have it. */
function entranceOfRun(own: Entered, { credential, isOurs }: ProxyOptions): Enter {
  const expected = digest(`Basic ${Buffer.from(`kz:${credential}`, 'utf8').toString('base64')}`);
  /** Connections without a credential that were found to be the run's own. */
  const known = new WeakSet<Duplex>();
  return async ({ headers, socket }) => {
    const given = headers['proxy-authorization'];
    if (given !== undefined) return timingSafeEqual(digest(given), expected) ? own : NO_CREDENTIAL;
    if (known.has(socket)) return own;
    const { localAddress, localPort, remoteAddress, remotePort } = socket;
    if (!(await isOurs({ localAddress, localPort, remoteAddress, remotePort }))) return NO_CREDENTIAL;
    known.add(socket);
    return own;
  };
}

/** Of equal length, so that comparing takes the same time whatever was given. */
function digest(text: string): Buffer {
  return createHash('sha256').update(text, 'latin1').digest();
}

const ABSOLUTE = /^(https?):\/\/([^/?#]*)([^#]*)/i;

/** RFC 9112 3.2.2. `https://` in absolute form is dialled with TLS: forwarded as written it would leave in the clear. */
function absolute(request: IncomingMessage): Target | undefined {
  const [, scheme = '', authority = '', path = ''] = ABSOLUTE.exec(request.url ?? '') ?? [];
  const tls = scheme.toLowerCase() === 'https';
  const named = scheme === '' ? undefined : parseAuthority(authority, tls ? 443 : 80);
  if (named === undefined) return undefined;
  request.url = path.startsWith('/') ? path : `/${path}`;
  return { ...named, tls };
}
