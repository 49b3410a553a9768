// HTTP/1.1 connections to upstreams, kept alive and shared: newest first, at most 256 idle ones, each for 30 seconds or what its server
// announces. Its own pool instead of http.Agent's, which takes 20 of the 55 µs of CPU of a small request. Never retries: a request that fails
// on a reused connection (`reusedSocket`) before any byte of an answer is its caller's to send again.
import { setMaxListeners } from 'node:events';
import http from 'node:http';
import type net from 'node:net';
import type { Dialer, Target } from './dial.ts';

export interface UpstreamRequest {
  readonly method: string;
  readonly path: string;
  /** Name, value, name, value, as they go out: `Host` and the length are the caller's; Node adds `Connection: keep-alive` alone. */
  readonly headers: readonly string[];
}

/** Of an answer. Node's default of 16 KiB is less than some policies and cookies need. */
const LARGEST_HEAD = 65_536;
const MAX_IDLE = 256;
const IDLE_MS = 30_000;
const SWEEP_MS = 5_000;
/** A connection is not used in the last second that its server announced, as the request would cross the end. */
const MARGIN_MS = 1_000;

/** What http.ClientRequest offers to an agent; its second parameter is missing in Node's types. */
interface Waiting {
  reusedSocket: boolean;
  onSocket(socket: net.Socket | undefined, error?: Error): void;
}

interface HttpSocket extends net.Socket {
  /** Node's own: the exchange on this connection. */
  _httpMessage?: { readonly res?: http.IncomingMessage } | null;
}

interface Connection {
  readonly socket: HttpSocket;
  /** Where it waits when it is idle. */
  readonly list: Connection[];
  /** The last `Keep-Alive` field and what it says, as a server always says the same. */
  announced: string | undefined;
  keepMs: number;
  /** 0 while it is in use. */
  idleUntil: number;
  /** Bytes seen when it became idle: more of them are an answer that nobody asked for. */
  bytesRead: number;
}

export class UpstreamAgent extends http.Agent {
  readonly #dialer: Pick<Dialer, 'connect'>;
  /** Idle connections, the newest last: by host and owner, then by what else tells upstreams apart. One string of all would cost 5 µs a request. */
  readonly #idle = new Map<string, Map<number, Connection[]>>();
  readonly #open = new Set<Connection>();
  readonly #closing = new AbortController();
  readonly #idleMs: number;
  #idleCount = 0;
  #sweep: NodeJS.Timeout | undefined;

  constructor(dialer: Pick<Dialer, 'connect'>, { idleMs = IDLE_MS }: { readonly idleMs?: number } = {}) {
    super({ keepAlive: true });
    this.#dialer = dialer;
    this.#idleMs = idleMs;
    // One for each connection that is being made.
    setMaxListeners(0, this.#closing.signal);
  }

  /**
   * The caller writes Buffers: the encoding of a first chunk that is a string would become that of the headers. With `Expect: 100-continue`
   * among the headers it sends them itself, by writing an empty Buffer.
   */
  request(target: Target, { method, path, headers }: UpstreamRequest): http.ClientRequest {
    const options = { agent: this, target, method, path, headers, setHost: false, maxHeaderSize: LARGEST_HEAD };
    const request = http.request(options satisfies http.RequestOptions & { target: Target });
    // Node drops what is beyond this number without a word; the size is limited already.
    request.maxHeadersCount = 0;
    return request;
  }

  /** Called by http.request, with the options above. */
  addRequest(request: Waiting, { target }: { readonly target: Target }): void {
    const list = this.#listOf(target);
    const connection = this.#take(list);
    if (connection !== undefined) {
      connection.socket.ref();
      request.reusedSocket = true;
      request.onSocket(connection.socket);
      return;
    }
    this.#dialer.connect({ ...target, alpn: ['http/1.1'] }, this.#closing.signal).then(
      (socket) => {
        this.#watch(socket, list);
        request.onSocket(socket);
      },
      (error: unknown) => {
        request.onSocket(undefined, error instanceof Error ? error : new Error('the connection failed'));
      },
    );
  }

  /** Takes over a connection that was dialled elsewhere and has carried nothing yet. */
  adopt(target: Target, socket: net.Socket): void {
    const connection = this.#watch(socket, this.#listOf(target));
    // Reads on, so that its end is noticed.
    socket.resume();
    this.#release(connection);
  }

  /** Ends every connection, in use or not. */
  override destroy(): void {
    this.#closing.abort(new Error('the proxy is closed'));
    clearInterval(this.#sweep);
    for (const { socket } of this.#open) socket.destroy();
    super.destroy();
  }

  #listOf({ host, port, tls, namedByRule, owner }: Target): Connection[] {
    const key = owner === undefined ? host : `${host} ${owner}`;
    let lists = this.#idle.get(key);
    if (lists === undefined) this.#idle.set(key, (lists = new Map<number, Connection[]>()));
    const rest = port * 4 + (tls ? 2 : 0) + (namedByRule ? 1 : 0);
    let list = lists.get(rest);
    if (list === undefined) lists.set(rest, (list = []));
    return list;
  }

  #watch(socket: HttpSocket, list: Connection[]): Connection {
    const connection: Connection = { socket, list, announced: undefined, keepMs: this.#idleMs, idleUntil: 0, bytesRead: 0 };
    this.#open.add(connection);
    const forget = (): void => {
      this.#open.delete(connection);
      const index = list.indexOf(connection);
      if (index < 0) return;
      list.splice(index, 1);
      this.#idleCount -= 1;
    };
    socket.on('error', () => undefined);
    // Node's: the answer is complete and the connection can serve another one.
    socket.on('free', () => {
      this.#release(connection);
    });
    socket.once('close', forget);
    // Node's: it was upgraded, and is its taker's now.
    socket.once('agentRemove', forget);
    return connection;
  }

  #release(connection: Connection): void {
    const { socket, list } = connection;
    // In line once only: two requests on one connection would get each other's answers.
    if (connection.idleUntil > 0) return;
    const announced = keepAliveField(socket._httpMessage?.res?.rawHeaders);
    if (announced !== connection.announced) {
      connection.announced = announced;
      connection.keepMs = Math.min(this.#idleMs, announcedMs(announced) - MARGIN_MS);
    }
    // The last exchange must not stay in memory as long as the connection.
    socket._httpMessage = null;
    if (!socket.writable || this.#closing.signal.aborted || this.#idleCount >= MAX_IDLE || connection.keepMs <= 0) {
      socket.destroy();
      return;
    }
    socket.unref();
    connection.idleUntil = performance.now() + connection.keepMs;
    connection.bytesRead = socket.bytesRead;
    list.push(connection);
    this.#idleCount += 1;
    this.#sweep ??= setInterval(
      () => {
        this.#closeExpired();
      },
      Math.min(SWEEP_MS, this.#idleMs),
    ).unref();
  }

  #take(list: Connection[]): Connection | undefined {
    for (let found = list.pop(); found !== undefined; found = list.pop()) {
      this.#idleCount -= 1;
      const { socket, idleUntil, bytesRead } = found;
      found.idleUntil = 0;
      if (socket.writable && !socket.readableEnded && socket.bytesRead === bytesRead && idleUntil > performance.now()) return found;
      socket.destroy();
    }
    return undefined;
  }

  #closeExpired(): void {
    const now = performance.now();
    for (const { socket, idleUntil } of this.#open) if (idleUntil > 0 && idleUntil <= now) socket.destroy();
    // There may be as many owners as there are callers.
    const used = new Set(Array.from(this.#open, ({ list }) => list));
    for (const [key, lists] of this.#idle) if (!Array.from(lists.values()).some((list) => used.has(list))) this.#idle.delete(key);
    if (this.#open.size > 0) return;
    clearInterval(this.#sweep);
    this.#sweep = undefined;
  }
}

/** Of the raw list, as `headers` would build an object for every answer. */
function keepAliveField(raw: readonly string[] | undefined): string | undefined {
  if (raw === undefined) return undefined;
  for (let index = 0; index < raw.length; index += 2) {
    const name = raw[index];
    if (name === 'Keep-Alive' || (name?.length === 10 && name.toLowerCase() === 'keep-alive')) return raw[index + 1];
  }
  return undefined;
}

/** `timeout=5`: what the server said it would wait. */
function announcedMs(field: string | undefined): number {
  const seconds = /(?:^|[,\s])timeout=(\d{1,9})/i.exec(field ?? '')?.[1];
  return seconds === undefined ? Infinity : Number(seconds) * 1000;
}
