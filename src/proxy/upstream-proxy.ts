// The proxies that kz's own environment asks for (HTTPS_PROXY, HTTP_PROXY, ALL_PROXY, NO_PROXY): which target goes through which, and a tunnel
// through one. Plain http targets use CONNECT too; a proxy that allows CONNECT to port 443 only (squid's default) refuses those, and says so
// here: such hosts belong in NO_PROXY. SOCKS is not spoken. The credentials of a proxy stay inside this file.
import http from 'node:http';
import net from 'node:net';
import { DialError, type Target } from './dial.ts';

export type ProxyEnvironment = Readonly<Record<string, string | undefined>>;

type Place = Pick<Target, 'host' | 'port' | 'tls'>;

export class UpstreamProxies {
  readonly #secure: ProxyServer | Unusable | undefined;
  readonly #plain: ProxyServer | Unusable | undefined;
  readonly #exempt: readonly Exemption[];

  constructor(environment: ProxyEnvironment) {
    this.#secure = proxyFrom(environment, ['https_proxy', 'all_proxy']);
    this.#plain = proxyFrom(environment, ['http_proxy', 'all_proxy']);
    this.#exempt = exemptions(variable(environment, 'no_proxy')?.value ?? '');
  }

  /** The proxy for a target, or nothing; a DialError when it is of a kind that kz does not speak. This machine's own addresses never go through one: a proxy would reach its own instead. */
  proxyFor(target: Place): ProxyServer | undefined {
    const proxy = target.tls ? this.#secure : this.#plain;
    if (proxy === undefined || isThisMachine(target.host)) return undefined;
    if (this.#exempt.some((exempt) => exempt(target))) return undefined;
    if (proxy instanceof ProxyServer) return proxy;
    throw new DialError('proxy', `${proxy.variable} does not name an http:// or https:// proxy`);
  }
}

export class ProxyServer {
  readonly host: string;
  readonly port: number;
  readonly tls: boolean;
  /** For messages: scheme, host and port, never the credentials. */
  readonly name: string;
  readonly #authorization: string | undefined;

  constructor(url: URL) {
    this.tls = url.protocol === 'https:';
    this.host = url.hostname;
    this.port = url.port === '' ? (this.tls ? 443 : 80) : Number(url.port);
    this.name = `${url.protocol}//${url.hostname}:${String(this.port)}`;
    this.#authorization = basic(url.username, url.password);
  }

  /** CONNECT over a connection to this proxy, which becomes the tunnel; it is destroyed when the proxy refuses. */
  openTunnel(socket: net.Socket, target: Place): Promise<net.Socket> {
    const authority = `${target.host}:${String(target.port)}`;
    const headers = ['Host', authority];
    if (this.#authorization !== undefined) headers.push('Proxy-Authorization', this.#authorization);
    return new Promise((resolve, reject) => {
      const fail = (detail: string, facts: { cause?: unknown; status?: number }): void => {
        socket.destroy();
        reject(new DialError('proxy', `the proxy ${this.name} ${detail}`, facts));
      };
      const request = http.request({ method: 'CONNECT', path: authority, headers, setHost: false, createConnection: () => socket });
      request.once('connect', (response: http.IncomingMessage, tunnel: net.Socket, head: Buffer) => {
        const status = response.statusCode ?? 0;
        if (status < 200 || status > 299) {
          fail(refusal(status, target), { status });
          return;
        }
        // A TLS server waits for us: bytes that came with the answer are the proxy's own, and would be lost in the handshake.
        if (head.length > 0 && target.tls) {
          fail(`sent bytes of its own into the tunnel to ${authority}`, {});
          return;
        }
        if (head.length > 0) tunnel.unshift(head);
        resolve(tunnel);
      });
      request.once('response', (response) => {
        fail(`did not open a tunnel to ${authority}`, { status: response.statusCode ?? 0 });
      });
      request.on('error', () => {
        // Without its cause: the error of a malformed answer holds the raw packet.
        fail(`closed the connection, or its answer to CONNECT ${authority} is not HTTP`, {});
      });
      request.end();
    });
  }
}

function refusal(status: number, { host, port, tls }: Place): string {
  const what = `answered ${String(status)} to CONNECT ${host}:${String(port)}`;
  if (status === 407) return `${what}: it wants other credentials`;
  return tls ? what : `${what}: proxies often open tunnels to port 443 only, so put the host into NO_PROXY if it can be reached directly`;
}

/** Fails the connections that would need it, and nothing else: the variable may be meant for other programs. */
interface Unusable {
  readonly variable: string;
}

function proxyFrom(environment: ProxyEnvironment, names: readonly string[]): ProxyServer | Unusable | undefined {
  const [found] = names.flatMap((name) => variable(environment, name) ?? []);
  if (found === undefined) return undefined;
  const url = parseProxy(found.value);
  return url === undefined ? { variable: found.name } : new ProxyServer(url);
}

/** As curl reads it: the lower-case name first; empty means none. */
function variable(environment: ProxyEnvironment, name: string): { name: string; value: string } | undefined {
  for (const each of [name, name.toUpperCase()]) {
    const value = environment[each]?.trim();
    if (value !== undefined && value !== '') return { name: each, value };
  }
  return undefined;
}

function parseProxy(text: string): URL | undefined {
  const whole = text.includes('://') ? text : `http://${text}`;
  const url = URL.canParse(whole) ? new URL(whole) : undefined;
  if (url === undefined || !/^https?:$/.test(url.protocol) || url.hostname === '') return undefined;
  return url;
}

function basic(username: string, password: string): string | undefined {
  if (username === '' && password === '') return undefined;
  return `Basic ${Buffer.from(`${decoded(username)}:${decoded(password)}`).toString('base64')}`;
}

/** Many write a `%` in a password as it is. */
function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function isThisMachine(host: string): boolean {
  return host === 'localhost' || host.endsWith('.localhost') || host === '[::1]' || (net.isIPv4(host) && host.startsWith('127.'));
}

type Exemption = (target: Place) => boolean;

/** `*`, `host`, `.suffix`, `*.suffix`, `address`, `address/bits`, each with an optional `:port`. A name covers what is below it, as in curl. */
function exemptions(text: string): readonly Exemption[] {
  return text
    .toLowerCase()
    .split(/[\s,]+/)
    .filter((entry) => entry !== '')
    .map(exemption);
}

function exemption(entry: string): Exemption {
  if (entry === '*') return () => true;
  const network = networkOf(entry);
  if (network !== undefined) return ({ host }) => network(host);
  const [, name = '', port] = /^(\[[^\]]*\]|[^:]*)(?::(\d+))?$/.exec(entry) ?? [];
  const inside = networkOf(name);
  const suffix = name.replace(/^\*?\./, '').replace(/\.$/, '');
  return (target) => {
    if (port !== undefined && Number(port) !== target.port) return false;
    if (inside !== undefined) return inside(target.host);
    return suffix !== '' && (target.host === suffix || target.host.endsWith(`.${suffix}`));
  };
}

function networkOf(text: string): ((host: string) => boolean) | undefined {
  const [address = '', bits, ...rest] = unbracketed(text).split('/');
  const family = familyOf(address);
  if (family === undefined || rest.length > 0) return undefined;
  const most = family === 'ipv4' ? 32 : 128;
  const prefix = bits === undefined ? most : /^\d{1,3}$/.test(bits) ? Number(bits) : -1;
  if (prefix < 0 || prefix > most) return undefined;
  const list = new net.BlockList();
  list.addSubnet(address, prefix, family);
  return (host) => {
    const own = familyOf(unbracketed(host));
    return own !== undefined && list.check(unbracketed(host), own);
  };
}

function familyOf(address: string): 'ipv4' | 'ipv6' | undefined {
  const family = net.isIP(address);
  return family === 0 ? undefined : family === 4 ? 'ipv4' : 'ipv6';
}

function unbracketed(host: string): string {
  return host.startsWith('[') && host.endsWith(']') ? host.slice(1, -1) : host;
}
