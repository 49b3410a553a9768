// A whole blind session without a child: the real proxy, real TLS on both sides, and upstreams on loopback that answer under any name.
// Names resolve to a public address that is dialled on loopback; nothing leaves the machine.
import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import http from 'node:http';
import http2 from 'node:http2';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import tls from 'node:tls';
import { expect } from 'vitest';
import type { AuditEvent, Exchange } from '../../src/audit/event.ts';
import { Secret } from '../../src/core/secret.ts';
import { Guard } from '../../src/mask/guard.ts';
import { mint } from '../../src/mask/mint.ts';
import { Remasker } from '../../src/mask/remask.ts';
import { scopeOf } from '../../src/mask/scope.ts';
import { slotsOf } from '../../src/mask/slot.ts';
import { TokenTable, type TokenEntry } from '../../src/mask/table.ts';
import { compileRules, type RuleEntry } from '../../src/policy/rule.ts';
import { Authority } from '../../src/proxy/authority.ts';
import type { DialOptions } from '../../src/proxy/dial.ts';
import { ProxyServer, type ProxyOptions } from '../../src/proxy/server.ts';
import type { Session } from '../../src/proxy/exchange.ts';
import { Upstream } from '../../src/proxy/upstream.ts';

export interface LabSecret {
  readonly name: string;
  readonly value?: string;
  readonly hosts?: readonly string[];
  readonly swap?: readonly string[];
  readonly shape?: 'exact' | 'plain';
  readonly expose?: boolean;
}

export interface LabOptions {
  readonly secrets?: readonly LabSecret[];
  readonly rules?: readonly RuleEntry[];
  /** Answers HTTP/1.1 requests of every upstream. */
  readonly serve?: http.RequestListener;
  /** Answers HTTP/2 streams; without it the upstream speaks HTTP/1.1 only. */
  readonly serveHttp2?: (stream: http2.ServerHttp2Stream, headers: http2.IncomingHttpHeaders) => void;
  /** Further options of the dialler: another resolver, another way to connect. */
  readonly dial?: Partial<DialOptions>;
  readonly isOurs?: ProxyOptions['isOurs'];
}

export interface Received {
  readonly method: string;
  readonly url: string;
  readonly headers: http.IncomingHttpHeaders;
  readonly rawHeaders: readonly string[];
  readonly body: Buffer;
}

export interface Reply {
  readonly status: number;
  readonly headers: http.IncomingHttpHeaders;
  readonly rawHeaders: readonly string[];
  readonly trailers: NodeJS.Dict<string>;
  readonly body: Buffer;
  readonly text: string;
}

export interface Ask {
  readonly method?: string;
  readonly headers?: http.OutgoingHttpHeaders | readonly string[];
  readonly body?: string | Buffer;
}

const PUBLIC_ADDRESS = '203.0.112.1';
const CREDENTIAL = 'lab-credential';

export class Lab {
  readonly authority = Authority.create();
  /** Of the upstreams. */
  readonly outside = Authority.create();
  readonly events: AuditEvent[] = [];
  readonly received: Received[] = [];
  readonly folder = mkdtempSync(join(tmpdir(), 'kz-lab-'));
  readonly #values = new Map<string, string>();
  readonly #tokens = new Map<string, string>();
  readonly #sockets = new Set<net.Socket>();
  #secure = tls.createServer();
  #plain = http.createServer();
  #upstream: Upstream | undefined;
  #proxy: ProxyServer | undefined;
  #session: Session | undefined;

  static async start(options: LabOptions = {}): Promise<Lab> {
    const lab = new Lab();
    await lab.#serve(options);
    await lab.#listen(options);
    return lab;
  }

  /** The value that only the upstream may see. */
  value(name = 'TOKEN'): string {
    return this.#values.get(name) ?? '';
  }

  /** What the child has. */
  token(name = 'TOKEN'): string {
    return this.#tokens.get(name) ?? '';
  }

  /** For whoever builds another proxy upon it. */
  get session(): Session {
    if (this.#session === undefined) throw new Error('no session was started');
    return this.#session;
  }

  get port(): number {
    return this.#proxy?.port ?? 0;
  }

  get proxyUrl(): string {
    return `http://kz:${CREDENTIAL}@127.0.0.1:${String(this.port)}`;
  }

  /** Where the upstreams listen, for a dialler of one's own. */
  get upstreamPort(): number {
    return portOf(this.#secure);
  }

  /** The same, for what is not TLS. */
  get plainPort(): number {
    return portOf(this.#plain);
  }

  get exchanges(): Exchange[] {
    return this.events.filter((event) => event.type === 'exchange');
  }

  /** A TLS connection through the proxy, as a client with CONNECT makes it. */
  async tunnel(authority: string, { serverName, alpn }: { serverName?: string; alpn?: string[] } = {}): Promise<tls.TLSSocket> {
    const host = serverName ?? authority.replace(/:\d+$/, '');
    const socket = tls.connect({
      socket: await this.connect(authority),
      ca: this.authority.certificate,
      ...(net.isIP(host) === 0 ? { servername: host } : {}),
      ...(alpn === undefined ? {} : { ALPNProtocols: alpn }),
      checkServerIdentity: () => undefined,
    });
    this.#sockets.add(socket);
    await new Promise<void>((resolve, reject) => {
      socket.once('secureConnect', resolve);
      socket.once('error', reject);
    });
    socket.on('error', () => undefined);
    return socket;
  }

  /** A bare tunnel. Throws with the status line when the proxy does not open one. */
  async connect(authority: string, credential: string | undefined = CREDENTIAL): Promise<net.Socket> {
    const socket = await this.open();
    const login = credential === '' ? '' : `Proxy-Authorization: Basic ${Buffer.from(`kz:${credential}`).toString('base64')}\r\n`;
    socket.write(`CONNECT ${authority} HTTP/1.1\r\nHost: ${authority}\r\n${login}\r\n`);
    const head = await readHead(socket);
    if (!head.startsWith('HTTP/1.1 200')) {
      socket.destroy();
      throw new Error(head);
    }
    return socket;
  }

  /** A connection to the proxy itself. */
  async open(): Promise<net.Socket> {
    const socket = net.connect(this.port, '127.0.0.1');
    this.#sockets.add(socket);
    socket.on('error', () => undefined);
    await new Promise<void>((resolve) => socket.once('connect', resolve));
    return socket;
  }

  /** One request on a connection of its own: https through CONNECT, http in absolute form. */
  async ask(url: string, { method = 'GET', headers = {}, body }: Ask = {}): Promise<Reply> {
    const { protocol, host, hostname, port, pathname, search } = new URL(url);
    const secure = protocol === 'https:';
    const socket = secure ? await this.tunnel(`${hostname}:${port || '443'}`) : await this.open();
    const login = { 'proxy-authorization': `Basic ${Buffer.from(`kz:${CREDENTIAL}`).toString('base64')}` };
    const request = http.request({
      createConnection: () => socket,
      method,
      path: secure ? `${pathname}${search}` : url,
      setHost: false,
      headers: isRaw(headers) ? headers : { host, ...(secure ? {} : login), ...headers },
    });
    const reply = replyOf(request);
    request.end(body);
    return reply;
  }

  /** Fails when a value, in any usual encoding, is in what the child got. */
  examine(what: Buffer | string, where = 'what the child got'): void {
    const text = typeof what === 'string' ? what : what.toString('latin1');
    for (const [name, value] of this.#values) {
      const bytes = Buffer.from(value);
      for (const form of [value, bytes.toString('base64').slice(0, -4), bytes.toString('hex'), encodeURIComponent(value)]) {
        expect(text.includes(form), `the value of ${name} is in ${where}`).toBe(false);
      }
    }
  }

  async close(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await this.#proxy?.close();
    this.#upstream?.destroy();
    this.#plain.closeAllConnections();
    this.#plain.close();
    this.#secure.close();
    rmSync(this.folder, { recursive: true, force: true });
    this.examine(JSON.stringify(this.events), 'the audit log');
  }

  async #serve({ serve, serveHttp2 }: LabOptions): Promise<void> {
    const onRequest: http.RequestListener = (request, response) => {
      const chunks: Buffer[] = [];
      if (serve !== undefined) {
        serve(request, response);
        return;
      }
      request.on('data', (chunk: Buffer) => chunks.push(chunk));
      request.on('end', () => {
        const { method = '', url = '', headers, rawHeaders } = request;
        this.received.push({ method, url, headers, rawHeaders, body: Buffer.concat(chunks) });
        response.end('ok');
      });
    };
    const streams = http2.createServer({ maxHeaderListPairs: 2000 });
    if (serveHttp2 !== undefined) {
      streams.on('stream', (stream, headers) => {
        stream.on('error', () => undefined);
        serveHttp2(stream, headers);
      });
    }
    const requests = http.createServer(onRequest);
    this.#secure = tls.createServer({
      ALPNProtocols: serveHttp2 === undefined ? ['http/1.1'] : ['h2', 'http/1.1'],
      SNICallback: (name, done) => {
        done(null, this.outside.contextFor(name));
      },
    });
    this.#secure.on('secureConnection', (socket) => {
      this.#sockets.add(socket);
      (socket.alpnProtocol === 'h2' ? streams : requests).emit('connection', socket);
    });
    this.#plain = http.createServer(onRequest);
    for (const server of [this.#secure, this.#plain]) {
      await new Promise<void>((resolve) => {
        server.listen(0, '127.0.0.1', resolve);
      });
    }
  }

  async #listen(options: LabOptions): Promise<void> {
    const rules = compileRules(options.rules ?? []);
    const entries: TokenEntry[] = [];
    const guarded = (options.secrets ?? [{ name: 'TOKEN' }]).map(({ name, value, hosts, swap, shape, expose }) => {
      const secret = new Secret(value ?? `CANARY-${randomBytes(12).toString('hex')}`);
      const scope = scopeOf({ hosts, value: secret, ruleHosts: [] });
      this.#values.set(name, secret.reveal());
      if (expose !== true) {
        const { text, parts } = mint(secret, shape);
        this.#tokens.set(name, text);
        for (const part of parts) entries.push({ name, ...part, scope, slots: slotsOf(swap) });
      }
      return { name, secret, scope };
    });
    const upstream = new Upstream({
      ca: [this.outside.certificate],
      lookup: () => Promise.resolve([PUBLIC_ADDRESS]),
      open: (_address, port) => net.connect(portOf(port === 443 || port === 8443 ? this.#secure : this.#plain), '127.0.0.1'),
      ...options.dial,
    });
    this.#upstream = upstream;
    this.#session = {
      rules,
      table: new TokenTable(entries),
      remasker: new Remasker(entries),
      guard: new Guard(guarded),
      authority: this.authority,
      upstream,
      audit: (event) => {
        this.events.push(event);
      },
      ruleAt: (index) => `.keyzero.toml:${String(index + 1)}`,
      configFile: '.keyzero.toml',
      spoolFolder: this.folder,
    };
    const isOurs = options.isOurs ?? (() => Promise.resolve(false));
    this.#proxy = await ProxyServer.listen(this.#session, { credential: CREDENTIAL, isOurs });
  }
}

/** The answer to a request that was made by hand. */
export function replyOf(request: http.ClientRequest): Promise<Reply> {
  return new Promise((resolve, reject) => {
    request.once('error', reject);
    request.once('response', (response) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk: Buffer) => chunks.push(chunk));
      response.once('error', reject);
      response.once('end', () => {
        const body = Buffer.concat(chunks);
        const { statusCode = 0, headers, rawHeaders, trailers } = response;
        resolve({ status: statusCode, headers, rawHeaders, trailers, body, text: body.toString('utf8') });
      });
    });
  });
}

function isRaw(headers: NonNullable<Ask['headers']>): headers is readonly string[] {
  return Array.isArray(headers);
}

function portOf(server: net.Server): number {
  const address = server.address();
  return typeof address === 'object' && address !== null ? address.port : 0;
}

/** Everything up to the empty line; what follows stays in the socket. */
function readHead(socket: net.Socket): Promise<string> {
  return new Promise((resolve, reject) => {
    let head = Buffer.alloc(0);
    const onReadable = (): void => {
      for (let byte = socket.read(1) as Buffer | null; byte !== null; byte = socket.read(1) as Buffer | null) {
        head = Buffer.concat([head, byte]);
        if (!head.subarray(-4).equals(Buffer.from('\r\n\r\n'))) continue;
        socket.off('readable', onReadable).off('close', onClose);
        resolve(head.toString('latin1'));
        return;
      }
    };
    const onClose = (): void => {
      reject(new Error(`closed after ${JSON.stringify(head.toString('latin1'))}`));
    };
    socket.on('readable', onReadable).once('close', onClose);
  });
}
