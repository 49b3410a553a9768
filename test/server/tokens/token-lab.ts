// The token proxy with real TLS on both sides and upstreams on loopback that answer under any name (test/proxy/lab.ts). The pipeline behind it
// is as small as can be: JWTs are names, and what the policies say is a function that a test may change.
import { randomBytes } from 'node:crypto';
import http from 'node:http';
import http2 from 'node:http2';
import net from 'node:net';
import tls from 'node:tls';
import type { CredentialLocation, ResourceEntry } from '../../../src/config/bundle.ts';
import { Secret } from '../../../src/core/secret.ts';
import type { Verdict } from '../../../src/policy/permit.ts';
import { compileRules } from '../../../src/policy/rule.ts';
import { Authority } from '../../../src/proxy/authority.ts';
import { Upstream } from '../../../src/proxy/upstream.ts';
import { ServerFailure } from '../../../src/server/failure.ts';
import { Seal } from '../../../src/server/tokens/seal.ts';
import type { Resource } from '../../../src/server/resources.ts';
import type { Ask, Grant, Service } from '../../../src/server/service.ts';
import type { ShortLived } from '../../../src/server/tokens/short-lived.ts';
import { TokenProxy, type TokenProxyEvent } from '../../../src/server/tokens/token-proxy.ts';
import type { Caller } from '../../../src/server/identity/verify.ts';
import { Lab, replyOf, type LabOptions, type Reply } from '../../proxy/lab.ts';

export interface LabResource {
  readonly ref: string;
  readonly value?: string;
  readonly mode?: ResourceEntry['mode'];
  readonly hosts?: readonly string[];
  readonly methods?: readonly string[];
  readonly paths?: readonly string[];
  readonly location?: CredentialLocation;
}

export interface TokenLabOptions {
  readonly upstream?: LabOptions;
  readonly resources?: readonly LabResource[];
  readonly seal?: Seal;
  readonly shortLived?: ShortLived;
  readonly authority?: Authority;
  readonly now?: () => number;
  /** Where a name is. Default: at a public address, whichever it is. */
  readonly lookup?: (host: string) => readonly string[];
}

export interface TokenAsk {
  readonly jwt?: string;
  readonly method?: string;
  readonly headers?: http.OutgoingHttpHeaders;
  readonly body?: string | Buffer;
  /** Without a length. */
  readonly chunked?: boolean;
}

const HOUR_MS = 3_600_000;
const AUTHORIZATION: CredentialLocation = { kind: 'header', name: 'Authorization', prefix: 'Bearer' };
const VERDICT: Verdict = { allow: true, policy: 'lab', why: 'rule' };

export class TokenLab {
  readonly events: TokenProxyEvent[] = [];
  readonly decisions: { ask: Ask; code: string | undefined }[] = [];
  /** How often a backend was asked. */
  fetched = 0;
  /** What the policies say. */
  policy: (caller: Caller, ask: Ask) => boolean = () => true;
  /** How long a backend takes. */
  backend: (signal: AbortSignal) => Promise<void> = () => Promise.resolve();
  readonly callers = new Map<string, Caller>();
  readonly values = new Map<string, string>();
  readonly authority: Authority;
  readonly seal: Seal;
  readonly #sockets = new Set<net.Socket>();
  readonly #now: () => number;
  resources: readonly Resource[] = [];
  #lab: Lab | undefined;
  #upstream: Upstream | undefined;
  #proxy: TokenProxy | undefined;

  static async start(options: TokenLabOptions = {}): Promise<TokenLab> {
    const lab = new TokenLab(options);
    await lab.#open(options);
    return lab;
  }

  private constructor({ authority = Authority.create(), seal, now = Date.now }: TokenLabOptions) {
    this.authority = authority;
    this.seal = seal ?? Seal.random({ now });
    this.#now = now;
    for (const name of ['alice', 'bob']) this.add(name);
  }

  /** A caller whose JWT is its name. */
  add(name: string, expiresAt = this.#now() + HOUR_MS): Caller {
    const identity = { org: '', service: '', env: '', action: '', branch: '', actor: name, groups: [] };
    const caller = {
      issuer: 'lab',
      iss: 'https://issuer.test',
      sub: name,
      id: randomBytes(4).toString('hex'),
      identity,
      claims: {},
      expiresAt,
    };
    this.callers.set(name, caller);
    return caller;
  }

  value(ref = 'github/pat'): string {
    return this.values.get(ref) ?? '';
  }

  token(ref = 'github/pat', sub = 'alice', expiresAt = this.#now() + HOUR_MS): Promise<string> {
    const hosts = this.resources.find(({ entry }) => entry.ref === ref)?.entry.hosts;
    return this.seal.seal({ ref, issuer: 'lab', sub, hosts, policy: 'lab', expiresAt });
  }

  get upstream(): Lab {
    if (this.#lab === undefined) throw new Error('the lab is not open');
    return this.#lab;
  }

  get port(): number {
    return this.#proxy?.port ?? 0;
  }

  async open(): Promise<net.Socket> {
    const socket = net.connect(this.port, '127.0.0.1');
    this.#sockets.add(socket);
    socket.on('error', () => undefined);
    await new Promise<void>((resolve) => socket.once('connect', resolve));
    return socket;
  }

  /** What the proxy answers to CONNECT, up to the empty line. */
  async connect(authority: string, credential: string | undefined): Promise<{ socket: net.Socket; head: string }> {
    const socket = await this.open();
    const login = credential === undefined ? '' : `Proxy-Authorization: ${credential}\r\n`;
    socket.write(`CONNECT ${authority} HTTP/1.1\r\nHost: ${authority}\r\n${login}\r\n`);
    const head = await new Promise<string>((resolve) => {
      socket.once('data', (bytes: Buffer) => {
        resolve(bytes.toString('latin1'));
      });
    });
    return { socket, head };
  }

  async tunnel(authority: string, jwt = 'alice', alpn = ['http/1.1']): Promise<tls.TLSSocket> {
    const { socket, head } = await this.connect(authority, basic(jwt));
    if (!head.startsWith('HTTP/1.1 200')) throw new Error(head);
    const secure = tls.connect({ socket, ca: this.authority.certificate, servername: authority.replace(/:\d+$/, ''), ALPNProtocols: alpn });
    this.#sockets.add(secure);
    await new Promise<void>((resolve, reject) => {
      secure.once('secureConnect', resolve);
      secure.once('error', reject);
    });
    secure.on('error', () => undefined);
    return secure;
  }

  /** One request on a connection of its own, or on one that is open. */
  async ask(url: string, asked: TokenAsk = {}, on?: net.Socket): Promise<Reply> {
    const { jwt = 'alice', method = 'GET', body, chunked = false } = asked;
    const { protocol, hostname, port, pathname, search } = new URL(url);
    const secure = protocol === 'https:';
    const socket = on ?? (secure ? await this.tunnel(`${hostname}:${port || '443'}`, jwt) : await this.open());
    const request = http.request({
      createConnection: () => socket,
      method,
      path: secure ? `${pathname}${search}` : url,
      setHost: false,
      headers: headersOf(new URL(url), asked),
    });
    const reply = replyOf(request);
    if (chunked) request.write('');
    request.end(body);
    return reply;
  }

  async ask2(
    authority: string,
    headers: http2.OutgoingHttpHeaders,
    body?: string,
  ): Promise<{ status: number; text: string; code: unknown }> {
    const socket = await this.tunnel(authority, 'alice', ['h2']);
    const session = http2.connect(`https://${authority}`, { createConnection: () => socket });
    const stream = session.request(headers, { endStream: body === undefined });
    if (body !== undefined) stream.end(body);
    const head = await new Promise<http2.IncomingHttpHeaders>((resolve, reject) => {
      stream.once('response', resolve);
      stream.once('error', reject);
    });
    const chunks: Buffer[] = [];
    for await (const chunk of stream) chunks.push(chunk as Buffer);
    // Node 20 crashes when the connection is taken from a session that is closing.
    await new Promise<void>((resolve) => {
      session.close(resolve);
    });
    return { status: Number(head[':status']), text: Buffer.concat(chunks).toString(), code: head['x-kz-error'] };
  }

  async close(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await this.#proxy?.close();
    this.#upstream?.destroy();
    await this.#lab?.close();
  }

  async #open({ upstream: options, resources = [{ ref: 'github/pat' }], shortLived, now, lookup }: TokenLabOptions): Promise<void> {
    const lab = await Lab.start({ secrets: [], ...options });
    this.#lab = lab;
    this.resources = resources.map((resource) => this.#resource(resource));
    const upstream = new Upstream({
      ca: [lab.outside.certificate],
      lookup: (host) => Promise.resolve(lookup?.(host) ?? ['203.0.112.1']),
      open: (_address, port) => net.connect(port === 443 || port === 8443 ? lab.upstreamPort : lab.plainPort, '127.0.0.1'),
    });
    this.#upstream = upstream;
    this.#proxy = await TokenProxy.listen({
      service: this.#service(),
      seal: this.seal,
      shortLived,
      upstream,
      authority: this.authority,
      listen: { host: '127.0.0.1', port: 0 },
      audit: (event) => this.events.push(event),
      ...(now === undefined ? {} : { now }),
    });
  }

  #resource({
    ref,
    value,
    mode = 'masked',
    hosts = ['api.github.com'],
    methods = ['GET', 'POST'],
    paths,
    location,
  }: LabResource): Resource {
    this.values.set(ref, value ?? `CANARY-${randomBytes(12).toString('hex')}`);
    const rules = hosts.flatMap((host) => (paths ?? [undefined]).map((path) => ({ allow: true, host, methods, path })));
    return {
      entry: {
        ...{ ref, resolver: 'lab', mode, ttlMs: 900_000, location: location ?? AUTHORIZATION, hosts, methods, at: { file: 'bundle.yaml' } },
        ...(paths === undefined ? {} : { paths }),
      },
      rules: compileRules(rules),
    };
  }

  #service(): Service {
    const current = (): readonly Resource[] => this.resources;
    return {
      bundleVersion: '1',
      get resources() {
        return current();
      },
      verify: (jwt = '') => {
        const caller = this.callers.get(jwt);
        if (caller === undefined) return Promise.reject(new ServerFailure('jwt-invalid', 'no such caller'));
        if (caller.expiresAt <= this.#now()) return Promise.reject(new ServerFailure('jwt-expired', 'the JWT has expired'));
        return Promise.resolve(caller);
      },
      with: (caller, ask, use) => this.#with(caller, ask, use),
      refused: () => undefined,
      list: () => [],
    };
  }

  async #with<T>(caller: Caller, ask: Ask, use: (grant: Grant) => Promise<T>): Promise<T> {
    const line: TokenLab['decisions'][number] = { ask, code: undefined };
    this.decisions.push(line);
    try {
      if (!this.policy(caller, ask)) throw new ServerFailure('denied', 'no policy allows it');
      const resource = this.resources.find(({ entry }) => entry.ref === ask.ref);
      if (resource === undefined) throw new ServerFailure('ref-unknown', 'no such resource');
      const secret = async (signal: AbortSignal): Promise<Secret> => {
        this.fetched += 1;
        await this.backend(signal);
        return new Secret(this.value(ask.ref));
      };
      return await use({ caller, verdict: VERDICT, ref: ask.ref, resource, secret, note: () => undefined });
    } catch (error) {
      line.code = error instanceof ServerFailure ? error.code : 'internal';
      throw error;
    }
  }
}

export function basic(jwt: string): string {
  return `Basic ${Buffer.from(`x:${jwt}`).toString('base64')}`;
}

function headersOf({ protocol, host }: URL, { jwt = 'alice', headers, body, chunked }: TokenAsk): http.OutgoingHttpHeaders {
  const login = protocol === 'https:' ? {} : { 'proxy-authorization': basic(jwt) };
  const length = body === undefined || chunked === true ? {} : { 'content-length': Buffer.byteLength(body) };
  return { host, connection: 'keep-alive', ...login, ...length, ...headers };
}
