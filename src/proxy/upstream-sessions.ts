// HTTP/2 sessions to upstreams, shared by the streams of all clients, and what an upstream speaks. A session takes new streams until the
// peer's limit, GOAWAY or its end; idle ones are closed after a minute. Never retries.
import { setMaxListeners } from 'node:events';
import http2 from 'node:http2';
import type net from 'node:net';
import { TLSSocket } from 'node:tls';
import { orAborted } from '../core/abort.ts';
import { DialError, type Dialer, poolKey, type Target } from './dial.ts';
import type { UpstreamAgent } from './upstream-agent.ts';

export type Protocol = 'h2' | 'http/1.1';

const IDLE_MS = 60_000;
const SWEEP_MS = 10_000;
const PROTOCOL_MS = 600_000;
/** Until the peer's settings are here. RFC 9113 asks servers not to allow fewer. */
const STREAMS_BEFORE_SETTINGS = 100;
/** Beyond this many sessions to one upstream, streams wait in line for the peer instead. */
const MAX_SESSIONS = 16;
/** Others may take the room of a new session first, up to the last one; a peer that ends each session at once must not keep us dialling. */
const MAX_ATTEMPTS = MAX_SESSIONS + 2;
const SETTINGS_MS = 10_000;
/** What one stalled reader may hold in memory. */
const STREAM_WINDOW = 1024 * 1024;
const SESSION_WINDOW = 8 * STREAM_WINDOW;

/** Of one answer's head; Node's default is 128. */
const MOST_FIELDS = 2000;

export class UpstreamSessions {
  readonly #dialer: Pick<Dialer, 'connect'>;
  readonly #agent: Pick<UpstreamAgent, 'adopt'>;
  readonly #idleMs: number;
  /** By key, those that take new streams. */
  readonly #sessions = new Map<string, Shared[]>();
  readonly #open = new Set<http2.ClientHttp2Session>();
  readonly #opening = new Map<string, Promise<Protocol>>();
  readonly #protocols = new Map<string, { readonly protocol: Protocol; readonly until: number }>();
  readonly #closing = new AbortController();
  #sweep: NodeJS.Timeout | undefined;

  constructor(dialer: Pick<Dialer, 'connect'>, agent: Pick<UpstreamAgent, 'adopt'>, { idleMs = IDLE_MS }: { idleMs?: number } = {}) {
    this.#dialer = dialer;
    this.#agent = agent;
    this.#idleMs = idleMs;
    setMaxListeners(0, this.#closing.signal);
  }

  /**
   * What the target speaks, known for ten minutes. The connection that found out is kept for the first request. A target without TLS speaks
   * HTTP/1.1; whoever knows that it speaks HTTP/2 may call `request` at once.
   */
  async protocolOf(target: Target, signal?: AbortSignal): Promise<Protocol> {
    if (!target.tls) return 'http/1.1';
    const known = this.#protocols.get(poolKey(target));
    if (known !== undefined && known.until > performance.now()) return known.protocol;
    return unlessAborted(this.#connect(target), signal);
  }

  /**
   * One stream to the target, on a session that has room for it. Whoever gets it has it from here on: its errors, its end. When the peer
   * just closes its connection, Node ends the stream without an error: only `rstCode` tells that it is not complete.
   */
  async request(
    target: Target,
    headers: http2.OutgoingHttpHeaders,
    options: http2.ClientSessionRequestOptions = {},
    signal?: AbortSignal,
  ): Promise<http2.ClientHttp2Stream> {
    const key = poolKey(target);
    for (let attempt = 0; attempt < MAX_ATTEMPTS; attempt += 1) {
      this.#closing.signal.throwIfAborted();
      const shared = this.#withRoom(key);
      if (shared !== undefined) return shared.request(headers, options);
      const protocol = await unlessAborted(this.#connect(target), signal);
      if (protocol !== 'h2') throw new DialError('tls', `${target.host}:${String(target.port)} does not speak HTTP/2`);
    }
    throw new DialError('reset', `${target.host}:${String(target.port)} takes no streams`);
  }

  /** Ends every session and its streams. */
  destroy(): void {
    const reason = new Error('the proxy is closed');
    this.#closing.abort(reason);
    clearInterval(this.#sweep);
    // With an error: without one its streams would end as if they were complete.
    for (const session of this.#open) session.destroy(reason, http2.constants.NGHTTP2_CANCEL);
  }

  #withRoom(key: string): Shared | undefined {
    const list = this.#sessions.get(key) ?? [];
    const found = list.find((shared) => shared.hasRoom);
    if (found !== undefined || list.length < MAX_SESSIONS) return found;
    return list.reduce((best, shared) => (shared.streams < best.streams ? shared : best));
  }

  /** One more connection; all who need one at this moment wait for the same. */
  #connect(target: Target): Promise<Protocol> {
    const key = poolKey(target);
    const pending = this.#opening.get(key);
    if (pending !== undefined) return pending;
    const opening = this.#dialAndKeep(target, key).finally(() => this.#opening.delete(key));
    this.#opening.set(key, opening);
    return opening;
  }

  async #dialAndKeep(target: Target, key: string): Promise<Protocol> {
    const socket = await this.#dialer.connect({ ...target, alpn: target.tls ? ['h2', 'http/1.1'] : undefined }, this.#closing.signal);
    const protocol = socket instanceof TLSSocket && socket.alpnProtocol !== 'h2' ? 'http/1.1' : 'h2';
    this.#protocols.set(key, { protocol, until: performance.now() + PROTOCOL_MS });
    if (protocol === 'h2') await this.#keep(target, key, socket);
    else this.#agent.adopt(target, socket);
    return protocol;
  }

  /** Resolves at the peer's settings, so that its limit is known before the first stream and a peer that speaks something else is found out. */
  #keep(target: Target, key: string, socket: net.Socket): Promise<void> {
    const authority = `${target.tls ? 'https' : 'http'}://${target.host}:${String(target.port)}`;
    const session = http2.connect(authority, {
      createConnection: () => socket,
      settings: { enablePush: false, initialWindowSize: STREAM_WINDOW },
      maxSessionMemory: 64,
      maxHeaderListPairs: MOST_FIELDS,
    });
    const shared = new Shared(session);
    this.#open.add(session);
    return new Promise((resolve, reject) => {
      const late = setTimeout(() => {
        session.destroy();
      }, SETTINGS_MS);
      session.once('connect', () => {
        session.setLocalWindowSize(SESSION_WINDOW);
      });
      session.once('remoteSettings', () => {
        clearTimeout(late);
        session.unref();
        this.#list(key).push(shared);
        this.#startSweep();
        resolve();
      });
      const leave = (): void => {
        const list = this.#list(key);
        if (list.includes(shared)) list.splice(list.indexOf(shared), 1);
        if (list.length === 0) this.#sessions.delete(key);
      };
      session.once('goaway', leave);
      session.on('error', leave);
      session.once('close', () => {
        clearTimeout(late);
        this.#open.delete(session);
        leave();
        reject(new DialError('reset', `${target.host}:${String(target.port)} closed the connection before its HTTP/2 settings`));
      });
    });
  }

  #list(key: string): Shared[] {
    const list = this.#sessions.get(key) ?? [];
    this.#sessions.set(key, list);
    return list;
  }

  #startSweep(): void {
    this.#sweep ??= setInterval(
      () => {
        const before = performance.now() - this.#idleMs;
        for (const list of this.#sessions.values()) {
          for (const shared of [...list]) if (shared.streams === 0 && shared.idleSince <= before) shared.session.close();
        }
        if (this.#sessions.size > 0) return;
        clearInterval(this.#sweep);
        this.#sweep = undefined;
      },
      Math.min(SWEEP_MS, this.#idleMs),
    ).unref();
  }
}

/** A session and how many of its streams are open. It keeps the process alive only while there are some. */
class Shared {
  readonly session: http2.ClientHttp2Session;
  streams = 0;
  idleSince = performance.now();

  constructor(session: http2.ClientHttp2Session) {
    this.session = session;
  }

  get hasRoom(): boolean {
    if (this.session.closed || this.session.destroyed) return false;
    return this.streams < (this.session.remoteSettings.maxConcurrentStreams ?? STREAMS_BEFORE_SETTINGS);
  }

  request(headers: http2.OutgoingHttpHeaders, options: http2.ClientSessionRequestOptions): http2.ClientHttp2Stream {
    const stream = this.session.request(headers, options);
    if (this.streams === 0) this.session.ref();
    this.streams += 1;
    // One that was read to its end may still fail with its session, when nobody listens any more.
    stream.on('error', () => undefined);
    stream.once('close', () => {
      this.streams -= 1;
      if (this.streams > 0) return;
      this.idleSince = performance.now();
      if (!this.session.destroyed) this.session.unref();
    });
    return stream;
  }
}

/** Gives up the waiting, not the work, which others share. */
function unlessAborted<T>(work: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  return signal === undefined ? work : orAborted(work, signal);
}
