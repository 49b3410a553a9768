import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import http from 'node:http';
import net from 'node:net';
import tls from 'node:tls';
import { inspect } from 'node:util';
import { afterEach, describe, expect, it } from 'vitest';
import { Authority } from '../../src/proxy/authority.ts';
import { DialError, Dialer, type Target } from '../../src/proxy/dial.ts';
import { UpstreamProxies } from '../../src/proxy/upstream-proxy.ts';

const authority = Authority.create();
const password = `CANARY-${randomBytes(8).toString('hex')}`;
const opened: (() => void)[] = [];
afterEach(() => {
  for (const close of opened.splice(0)) close();
});

async function listening(server: net.Server): Promise<number> {
  server.on('connection', (socket: net.Socket) => {
    socket.on('error', () => undefined);
    opened.push(() => socket.destroy());
  });
  opened.push(() => server.close());
  await once(server.listen(0, '127.0.0.1'), 'listening');
  const address = server.address();
  return typeof address === 'object' && address !== null ? address.port : 0;
}

function tlsEcho(): Promise<number> {
  return listening(
    net.createServer((socket) => {
      const secure = new tls.TLSSocket(socket, { isServer: true, secureContext: authority.contextFor('api.test') });
      secure.on('error', () => undefined).on('data', (chunk: Buffer) => secure.write(chunk));
    }),
  );
}

/** A corporate proxy: asks for the password, and leads every tunnel to one port of this machine. */
async function corporate(to: number, { overTls = false } = {}) {
  const asked: string[] = [];
  const proxy = http.createServer();
  proxy.on('connect', (request: http.IncomingMessage, socket: net.Socket) => {
    asked.push(`${request.url ?? ''} ${String(request.headers.host)}`);
    if (request.headers['proxy-authorization'] !== `Basic ${Buffer.from(`me@corp:${password}`).toString('base64')}`) {
      socket.end('HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\nContent-Length: 6\r\n\r\ndenied');
      return;
    }
    const up = net.connect(to, '127.0.0.1', () => {
      socket.write('HTTP/1.1 200 Connection established\r\n\r\n');
      up.pipe(socket).pipe(up);
    });
    up.on('error', () => socket.destroy());
    opened.push(() => up.destroy());
  });
  if (!overTls) return { asked, port: await listening(proxy) };
  const front = net.createServer((socket) => {
    proxy.emit('connection', new tls.TLSSocket(socket, { isServer: true, secureContext: authority.contextFor('localhost') }));
  });
  return { asked, port: await listening(front) };
}

function raw(answer: string): Promise<number> {
  return listening(net.createServer((socket) => socket.once('data', () => socket.end(answer))));
}

const credentials = `me%40corp:${password}`;

function dialer(environment: Record<string, string>): Dialer {
  // A name that were looked up here would fail: only the proxy's is known.
  const lookup = (host: string) => (host === 'localhost' ? Promise.resolve(['127.0.0.1']) : Promise.reject(new Error('no')));
  return new Dialer({ ca: [authority.certificate], proxies: new UpstreamProxies(environment), lookup });
}

function target(more: Partial<Target> = {}): Target {
  return { host: 'api.test', port: 443, tls: true, namedByRule: false, ...more };
}

async function echo(socket: net.Socket): Promise<string> {
  socket.write('hello');
  const [chunk] = (await once(socket, 'data')) as [Buffer];
  socket.destroy();
  return String(chunk);
}

async function failure(work: Promise<net.Socket>): Promise<DialError> {
  const error: unknown = await work.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  if (!(error instanceof DialError)) throw new Error('it did not fail as it should', { cause: error });
  expect(inspect(error, { depth: 10, showHidden: true })).not.toContain(password);
  return error;
}

describe('a tunnel', () => {
  it.each([
    ['HTTPS_PROXY', false],
    ['https_proxy', false],
    ['ALL_PROXY', false],
    ['https_proxy', true],
  ])('goes through %s with its credentials (TLS to the proxy: %s)', async (name, overTls) => {
    const proxy = await corporate(await tlsEcho(), { overTls });
    const url = `${overTls ? 'https' : 'http'}://${credentials}@localhost:${String(proxy.port)}`;
    const socket = await dialer({ [name]: url }).connect(target({ alpn: ['http/1.1'] }));
    expect(socket).toMatchObject({ authorized: true });
    expect(await echo(socket)).toBe('hello');
    expect(proxy.asked).toEqual(['api.test:443 api.test:443']);
  });

  it('carries plain http too', async () => {
    const to = await listening(net.createServer((socket) => socket.pipe(socket)));
    const proxy = await corporate(to);
    const socket = await dialer({ http_proxy: `${credentials}@localhost:${String(proxy.port)}` }).connect(target({ port: 80, tls: false }));
    expect(await echo(socket)).toBe('hello');
    expect(proxy.asked).toEqual(['api.test:80 api.test:80']);
  });

  it('keeps what the upstream said at once', async () => {
    const port = await raw('HTTP/1.1 200 OK\r\n\r\n220 hello');
    const socket = await dialer({ http_proxy: `http://localhost:${String(port)}` }).connect(target({ tls: false }));
    expect(String((await once(socket, 'data'))[0])).toBe('220 hello');
  });

  it('verifies the upstream behind the proxy', async () => {
    const proxy = await corporate(await tlsEcho());
    const error = await failure(
      dialer({ https_proxy: `http://${credentials}@localhost:${String(proxy.port)}` }).connect(target({ host: 'other.test' })),
    );
    expect(error).toMatchObject({ code: 'tls', detail: 'no TLS with other.test:443 (ERR_TLS_CERT_ALTNAME_INVALID)' });
  });

  it('says what the proxy answered, without the credentials', async () => {
    const proxy = await corporate(await tlsEcho());
    const at = `localhost:${String(proxy.port)}`;
    const wrong = await failure(dialer({ https_proxy: `http://me:${password}@${at}` }).connect(target()));
    expect(wrong).toMatchObject({
      code: 'proxy',
      status: 407,
      detail: `the proxy http://${at} answered 407 to CONNECT api.test:443: it wants other credentials`,
    });
    const port = await raw('HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n');
    const refused = await failure(dialer({ http_proxy: `http://localhost:${String(port)}` }).connect(target({ port: 80, tls: false })));
    expect(refused).toMatchObject({ code: 'proxy', status: 403 });
    expect(refused.detail).toContain('NO_PROXY');
  });

  it.each([
    ['nothing', ''],
    ['no HTTP', `${password}\r\n\r\n`],
    ['bytes of its own', 'HTTP/1.1 200 OK\r\n\r\nsurprise'],
  ])('refuses a proxy that answers %s', async (_what, answer) => {
    const port = await raw(answer);
    expect(await failure(dialer({ https_proxy: `http://localhost:${String(port)}` }).connect(target()))).toMatchObject({ code: 'proxy' });
  });

  it('gives up on a proxy that does not answer', async () => {
    const port = await listening(net.createServer((socket) => socket.resume()));
    const proxies = new UpstreamProxies({ https_proxy: `http://127.0.0.1:${String(port)}` });
    const error = await failure(new Dialer({ ca: [], proxies, connectTimeoutMs: 50 }).connect(target()));
    expect(error).toMatchObject({ code: 'timeout', detail: `the proxy http://127.0.0.1:${String(port)} did not answer in 0.05 s` });
  });

  it.each(['10.0.0.1', '169.254.169.254', '[fd00:ec2::254]', 'metadata.google.internal'])('is not opened to %s unasked', async (host) => {
    const proxy = await corporate(1);
    const error = await failure(dialer({ https_proxy: `http://${credentials}@localhost:${String(proxy.port)}` }).connect(target({ host })));
    expect(error.code).toBe('address-forbidden');
    expect(proxy.asked).toEqual([]);
  });
});

describe('the choice', () => {
  const all = { https_proxy: 'http://secure.corp:3128', http_proxy: 'plain.corp' };

  function name(environment: Record<string, string>, more: Partial<Target> = {}): string | undefined {
    return new UpstreamProxies(environment).proxyFor(target(more))?.name;
  }

  it('is by scheme, the lower-case variable first, and empty means none', () => {
    expect(name(all)).toBe('http://secure.corp:3128');
    expect(name(all, { tls: false })).toBe('http://plain.corp:80');
    expect(name({ ...all, HTTPS_PROXY: 'http://other.corp' })).toBe('http://secure.corp:3128');
    expect(name({ https_proxy: '', ALL_PROXY: 'https://any.corp' })).toBe('https://any.corp:443');
    expect(name({})).toBeUndefined();
  });

  it.each(['localhost', 'x.localhost', '127.0.0.1', '127.9.9.9', '[::1]'])('never sends %s to a proxy', (host) => {
    expect(name(all, { host })).toBeUndefined();
  });

  it.each([
    ['*', true],
    ['api.test', true],
    ['API.test.', true],
    ['test', true],
    ['.test', true],
    ['*.test', true],
    ['pi.test', false],
    ['api.test.example', false],
    ['api.test:443', true],
    ['api.test:8443', false],
    ['a.test, b.test  api.test', true],
    ['', false],
    [',', false],
    ['.', false],
  ])('reads NO_PROXY=%s', (list, exempt) => {
    expect(name({ ...all, no_proxy: list }) === undefined).toBe(exempt);
  });

  it.each([
    ['10.0.0.0/8', '10.1.2.3', true],
    ['10.0.0.0/8', '11.1.2.3', false],
    ['10.1.2.3', '10.1.2.3', true],
    ['10.1.2.3:443', '10.1.2.3', true],
    ['10.1.2.3:80', '10.1.2.3', false],
    ['fd00::/8', '[fd12::1]', true],
    ['[fd12::1]:443', '[fd12::1]', true],
    ['fd12::1', '[fd12::2]', false],
    ['10.0.0.0/99', '10.0.0.1', false],
    ['10.0.0.0/8', 'api.test', false],
  ])('reads NO_PROXY=%s for %s', (list, host, exempt) => {
    expect(name({ ...all, NO_PROXY: list }, { host }) === undefined).toBe(exempt);
  });

  it('fails for the targets that need a proxy it does not speak, and for no others', () => {
    const proxies = new UpstreamProxies({ ALL_PROXY: `socks5://me:${password}@s.corp`, NO_PROXY: 'direct.test' });
    expect(proxies.proxyFor(target({ host: 'direct.test' }))).toBeUndefined();
    expect(() => proxies.proxyFor(target())).toThrow('ALL_PROXY does not name an http:// or https:// proxy');
    expect(inspect(proxies, { depth: 10, showHidden: true })).not.toContain(password);
  });
});
