// A connection to an upstream: resolve, refuse forbidden addresses, dial exactly a checked address, verify TLS. Refuses private, loopback,
// link-local and metadata addresses, and all that this machine has, unless a rule names the host, and never resolves a name a second time
// between the check and the dial.
import { lookup as systemLookup } from 'node:dns/promises';
import net from 'node:net';
import tls from 'node:tls';
import { addressKind } from '../core/address.ts';
import { isAmong, ownAddresses } from './own-addresses.ts';
import type { ProxyServer, UpstreamProxies } from './upstream-proxy.ts';

export interface Target {
  /** Canonical: lower case, ASCII, IPv6 in brackets. */
  readonly host: string;
  readonly port: number;
  readonly tls: boolean;
  readonly alpn?: readonly string[] | undefined;
  /** A rule names this host, so it may be at any address. */
  readonly namedByRule: boolean;
  /** Connections are shared among requests with the same one only, and among those without. */
  readonly owner?: string | undefined;
}

export interface DialOptions {
  /** PEM: every root that upstream certificates may chain to. Nothing else is trusted; what is no certificate is passed over in silence. */
  readonly ca: readonly string[];
  /** The proxies of kz's own environment. */
  readonly proxies?: UpstreamProxies | undefined;
  /** All addresses of a name. Default: the system's resolver, so that /etc/hosts counts. */
  readonly lookup?: ((host: string) => Promise<readonly string[]>) | undefined;
  /** All addresses of this machine, asked for each connection. Default: the system. */
  readonly ownAddresses?: (() => readonly string[]) | undefined;
  readonly open?: ((address: string, port: number) => net.Socket) | undefined;
  /** For the name, the connection and a proxy's answer each. */
  readonly connectTimeoutMs?: number | undefined;
  readonly tlsTimeoutMs?: number | undefined;
}

export type DialCode = 'address-forbidden' | 'dns' | 'refused' | 'unreachable' | 'timeout' | 'tls' | 'proxy' | 'reset';

/** Why there is no connection. `detail` names host, address and reason code, never a credential, and is safe to show. */
export class DialError extends Error {
  readonly code: DialCode;
  readonly detail: string;
  /** What a proxy answered to CONNECT, when that is the reason. */
  readonly status: number | undefined;

  constructor(code: DialCode, detail: string, facts: { readonly cause?: unknown; readonly status?: number } = {}) {
    super(detail, facts.cause === undefined ? undefined : { cause: facts.cause });
    this.name = 'DialError';
    this.code = code;
    this.detail = detail;
    this.status = facts.status;
  }
}

const TIMEOUT_MS = 10_000;
const STAGGER_MS = 250;
const KEEP_ALIVE_MS = 30_000;
/** More addresses than this are not tried: a hostile name may have thousands. */
const MAX_ADDRESSES = 8;
const MAX_SESSIONS = 256;

/**
 * Opens connections. Every failure is a DialError, except that giving up through the signal throws the signal's reason. What comes back has a
 * listener for 'error' already, so an error that nobody listens for ends the connection and not kz; 'close' follows as always.
 */
export class Dialer {
  readonly #options: DialOptions;
  /** TLS sessions of verified connections, to resume: `host:port` → the newest. */
  readonly #sessions = new Map<string, Buffer>();
  #context: tls.SecureContext | undefined;

  constructor(options: DialOptions) {
    this.#options = options;
  }

  /** Reads the roots (about 20 ms): worth doing while the child starts. The first TLS connection does it otherwise. */
  prepare(): tls.SecureContext {
    this.#context ??= tls.createSecureContext({ ca: [...this.#options.ca], minVersion: 'TLSv1.2' });
    return this.#context;
  }

  async connect(target: Target, signal?: AbortSignal): Promise<net.Socket | tls.TLSSocket> {
    signal?.throwIfAborted();
    const proxy = this.#options.proxies?.proxyFor(target);
    const socket = proxy === undefined ? await this.#direct(target, signal) : await this.#through(proxy, target, signal);
    return target.tls ? this.#secure(socket, target, signal) : socket;
  }

  async #direct(target: Target, signal?: AbortSignal): Promise<net.Socket> {
    const addresses = await this.#resolve(target.host, signal);
    return this.#dial(permitted(addresses, target, this.#options), target, signal);
  }

  async #through(proxy: ProxyServer, target: Target, signal?: AbortSignal): Promise<net.Socket> {
    refuseLocal(target, this.#options);
    const raw = await this.#dial(await this.#resolve(proxy.host, signal), proxy, signal);
    const way = proxy.tls ? await this.#secure(raw, { host: proxy.host, port: proxy.port, alpn: ['http/1.1'] }, signal) : raw;
    const late = new DialError('timeout', `the proxy ${proxy.name} did not answer in ${seconds(this.#connectMs)}`);
    return within<net.Socket>({ ms: this.#connectMs, late, signal }, (resolve, reject) => {
      proxy.openTunnel(way, target).then(resolve, reject);
      return (done) => {
        if (!done) way.destroy();
      };
    });
  }

  async #resolve(host: string, signal?: AbortSignal): Promise<readonly string[]> {
    const literal = bare(host);
    if (net.isIP(literal) !== 0) return [literal];
    const late = new DialError('dns', `looking up ${host} took more than ${seconds(this.#connectMs)}`);
    const found = await within<readonly string[]>({ ms: this.#connectMs, late, signal }, (resolve, reject) => {
      (this.#options.lookup ?? lookup)(host).then(resolve, (error: unknown) => {
        reject(new DialError('dns', `no address for ${host} (${reasonOf(error)})`, { cause: error }));
      });
      return () => undefined;
    });
    // Anything else would be looked up again when it is dialled.
    const addresses = found.filter((address) => net.isIP(address) !== 0);
    if (addresses.length === 0) throw new DialError('dns', `no address for ${host}`);
    return addresses;
  }

  /** The first of the addresses that answers. The next one is tried when one fails, or has not answered in 250 ms (RFC 8305 in short). */
  #dial(addresses: readonly string[], at: { readonly host: string; readonly port: number }, signal?: AbortSignal): Promise<net.Socket> {
    const late = new DialError('timeout', `${place(at)} did not answer in ${seconds(this.#connectMs)}`);
    const open = this.#options.open ?? openTcp;
    const queue = alternating(addresses).slice(0, MAX_ADDRESSES);
    return within<net.Socket>({ ms: this.#connectMs, late, signal }, (resolve, reject) => {
      const trying = new Set<net.Socket>();
      let stagger: NodeJS.Timeout | undefined;
      const tryNext = (): void => {
        clearTimeout(stagger);
        const address = queue.shift();
        if (address === undefined) return;
        const socket = open(address, at.port);
        trying.add(socket);
        socket.on('error', (error) => {
          if (!trying.delete(socket)) return;
          if (queue.length === 0 && trying.size === 0) reject(connectError(error, at));
          else tryNext();
        });
        socket.once('connect', () => {
          trying.delete(socket);
          resolve(socket);
        });
        stagger = setTimeout(tryNext, STAGGER_MS);
      };
      tryNext();
      return () => {
        clearTimeout(stagger);
        for (const socket of trying) socket.destroy();
        trying.clear();
      };
    });
  }

  #secure(socket: net.Socket, at: Pick<Target, 'host' | 'port' | 'alpn'>, signal?: AbortSignal): Promise<tls.TLSSocket> {
    const ms = this.#options.tlsTimeoutMs ?? TIMEOUT_MS;
    const late = new DialError('timeout', `${place(at)} did not finish the TLS handshake in ${seconds(ms)}`);
    const key = `${at.host}:${String(at.port)}`;
    const host = bare(at.host);
    return within<tls.TLSSocket>({ ms, late, signal }, (resolve, reject) => {
      const secure = tls.connect({
        socket,
        secureContext: this.prepare(),
        // Said, because otherwise NODE_TLS_REJECT_UNAUTHORIZED would decide.
        rejectUnauthorized: true,
        host,
        ...(net.isIP(host) === 0 ? { servername: host } : {}),
        ...(at.alpn === undefined ? {} : { ALPNProtocols: [...at.alpn] }),
        ...sessionOption(this.#sessions.get(key)),
      });
      secure.on('error', (error: Error) => {
        this.#sessions.delete(key);
        reject(tlsError(error, at));
      });
      // Emitted for verified connections only; resuming one skips the name check, so it must never be found under another host.
      secure.on('session', (session: Buffer) => {
        this.#remember(key, session);
      });
      secure.once('secureConnect', () => {
        resolve(secure);
      });
      return (done) => {
        if (!done) secure.destroy();
      };
    });
  }

  #remember(key: string, session: Buffer): void {
    this.#sessions.delete(key);
    this.#sessions.set(key, session);
    const oldest = this.#sessions.keys().next();
    if (this.#sessions.size > MAX_SESSIONS && oldest.done !== true) this.#sessions.delete(oldest.value);
  }

  get #connectMs(): number {
    return this.#options.connectTimeoutMs ?? TIMEOUT_MS;
  }
}

/** What connections to the same upstream have in common: two targets with the same key may share a connection. */
export function poolKey(target: Target): string {
  const owner = target.owner === undefined ? '' : ` ${target.owner}`;
  return `${target.host}:${String(target.port)}${target.tls ? ':tls' : ':tcp'}${target.namedByRule ? ':named' : ''}${owner}`;
}

type Own = Pick<DialOptions, 'ownAddresses'>;

/** The addresses that may be dialled. One public address is enough: only that one is used. */
function permitted(addresses: readonly string[], target: Target, options: Own): readonly string[] {
  if (target.namedByRule) return addresses;
  const global = addresses.filter((address) => addressKind(address) === 'public');
  const own = global.length === 0 ? [] : listOwn(options);
  const allowed = global.filter((address) => !isAmong(address, own));
  if (allowed.length > 0) return allowed;
  const [address = ''] = addresses;
  const where = address === bare(target.host) ? `${target.host} is` : `${target.host} is at ${address},`;
  const what = global.includes(address) ? 'an address of this machine' : `a ${addressKind(address)} address`;
  throw new DialError('address-forbidden', `${where} ${what}`);
}

/** Without them nobody can say whether an address is elsewhere. */
function listOwn({ ownAddresses: list = ownAddresses }: Own): readonly string[] {
  try {
    return list();
  } catch (error) {
    throw new DialError('unreachable', `the addresses of this machine could not be listed (${reasonOf(error)})`, { cause: error });
  }
}

/** What a proxy would resolve to its own machine or network, where no address of ours can be checked. */
const LOCAL_NAME = /^(?:.+\.)?localhost$|^metadata(?:\.google\.internal|\.goog)?$|^instance-data(?:\.ec2\.internal)?$/;

function refuseLocal(target: Target, options: Own): void {
  if (net.isIP(bare(target.host)) !== 0) permitted([bare(target.host)], target, options);
  if (target.namedByRule || !LOCAL_NAME.test(target.host)) return;
  throw new DialError('address-forbidden', `${target.host} is a name for a local address`);
}

async function lookup(host: string): Promise<readonly string[]> {
  const found = await systemLookup(host, { all: true, verbatim: true });
  return found.map(({ address }) => address);
}

function openTcp(address: string, port: number): net.Socket {
  return net.connect({ host: address, port, noDelay: true, keepAlive: true, keepAliveInitialDelay: KEEP_ALIVE_MS });
}

/** The families take turns, the resolver's favourite first, so that one broken family costs 250 ms at most. */
function alternating(addresses: readonly string[]): string[] {
  const [first] = addresses;
  const family = net.isIP(first ?? '');
  const same = addresses.filter((address) => net.isIP(address) === family);
  const other = addresses.filter((address) => net.isIP(address) !== family);
  return same.flatMap((address, index) => [address, ...other.slice(index, index + 1)]).concat(other.slice(same.length));
}

function sessionOption(session: Buffer | undefined): { session?: Buffer } {
  return session === undefined ? {} : { session };
}

interface Limit {
  readonly ms: number;
  readonly late: DialError;
  readonly signal?: AbortSignal | undefined;
}

type Start<T> = (resolve: (value: T) => void, reject: (error: unknown) => void) => (done: boolean) => void;

/** One step that ends with its own result, at its limit, or when the caller gives up; `start` returns what then cleans up. */
function within<T>({ ms, late, signal }: Limit, start: Start<T>): Promise<T> {
  return new Promise<T>((resolve, reject) => {
    let stop: (done: boolean) => void = () => undefined;
    let settled = false;
    const settle = (done: boolean, how: () => void): void => {
      if (settled) return;
      settled = true;
      clearTimeout(timer);
      signal?.removeEventListener('abort', onAbort);
      stop(done);
      how();
    };
    const fail = (error: unknown): void => {
      settle(false, () => {
        reject(error instanceof Error ? error : new Error('the connection was given up'));
      });
    };
    const onAbort = (): void => {
      fail(signal?.reason);
    };
    const timer = setTimeout(fail, ms, late);
    signal?.addEventListener('abort', onAbort);
    const succeed = (value: T): void => {
      settle(true, () => {
        resolve(value);
      });
    };
    try {
      stop = start(succeed, fail);
    } catch (error) {
      fail(new DialError('unreachable', `the connection could not be started (${reasonOf(error)})`, { cause: error }));
    }
    if (signal?.aborted === true) onAbort();
  });
}

const CONNECT_CODES: Readonly<Record<string, DialCode>> = { ECONNREFUSED: 'refused', ETIMEDOUT: 'timeout', ECONNRESET: 'reset' };

function connectError(error: Error, at: { readonly host: string; readonly port: number }): DialError {
  const reason = reasonOf(error);
  return new DialError(CONNECT_CODES[reason] ?? 'unreachable', `connecting to ${place(at)} failed (${reason})`, { cause: error });
}

function tlsError(error: Error, at: { readonly host: string; readonly port: number }): DialError {
  const reason = reasonOf(error);
  if (reason === 'ECONNRESET' || reason === 'EPIPE') {
    return new DialError('reset', `${place(at)} closed the connection during the TLS handshake`, { cause: error });
  }
  return new DialError(reason === 'ETIMEDOUT' ? 'timeout' : 'tls', `no TLS with ${place(at)} (${reason})`, { cause: error });
}

/** The code alone: the message of a TLS error may quote what the peer sent. */
function reasonOf(error: unknown): string {
  const code = typeof error === 'object' && error !== null && 'code' in error ? error.code : undefined;
  return typeof code === 'string' && /^[A-Z][A-Z0-9_]{1,80}$/.test(code) ? code : 'unknown reason';
}

function place({ host, port }: { readonly host: string; readonly port: number }): string {
  return `${host}:${String(port)}`;
}

function seconds(ms: number): string {
  return `${String(ms / 1000)} s`;
}

function bare(host: string): string {
  return host.startsWith('[') ? host.slice(1, -1) : host;
}
