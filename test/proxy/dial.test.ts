import { once } from 'node:events';
import net from 'node:net';
import tls from 'node:tls';
import { afterEach, describe, expect, it } from 'vitest';
import { Authority } from '../../src/proxy/authority.ts';
import { DialError, Dialer, type DialOptions, type Target } from '../../src/proxy/dial.ts';

const authority = Authority.create();
const opened: (() => void)[] = [];
afterEach(() => {
  for (const close of opened.splice(0)) close();
});

async function listening(onSocket: (socket: net.Socket) => void): Promise<number> {
  const server = net.createServer((socket) => {
    socket.on('error', () => undefined);
    opened.push(() => socket.destroy());
    onSocket(socket);
  });
  opened.push(() => server.close());
  await once(server.listen(0, '127.0.0.1'), 'listening');
  const address = server.address();
  return typeof address === 'object' && address !== null ? address.port : 0;
}

/** A TLS server that answers with the certificate of `host`, whoever is asked for, and says how often a session was resumed. */
async function tlsServer(
  host: string,
  options: tls.TLSSocketOptions & { from?: Authority; onSecure?: (socket: tls.TLSSocket) => void } = {},
) {
  const { from = authority, onSecure, ...rest } = options;
  return listening((socket) => {
    const secure = new tls.TLSSocket(socket, { isServer: true, secureContext: from.contextFor(host), ...rest });
    secure.on('error', () => undefined);
    secure.on('secure', () => {
      secure.write('x');
      onSecure?.(secure);
    });
  });
}

function dialer(options: Partial<DialOptions> = {}): Dialer {
  return new Dialer({ ca: [authority.certificate], lookup: () => Promise.resolve(['127.0.0.1']), ...options });
}

function target(more: Partial<Target>): Target {
  return { host: 'api.test', port: 443, tls: false, namedByRule: true, ...more };
}

async function failure(work: Promise<net.Socket>): Promise<DialError> {
  try {
    const socket = await work;
    socket.destroy();
  } catch (error) {
    if (error instanceof DialError) return error;
    throw error;
  }
  throw new Error('it connected');
}

/** Instead of leaving this machine: every address is this machine's, and each dialled one is written down. */
function recording(port: number) {
  const dialled: string[] = [];
  const open = (address: string): net.Socket => {
    dialled.push(address);
    return net.connect({ host: '127.0.0.1', port });
  };
  return { dialled, open };
}

describe('addresses', () => {
  it.each([
    ['127.0.0.1', 'loopback'],
    ['10.0.0.8', 'private'],
    ['169.254.169.254', 'metadata'],
    ['::ffff:127.0.0.1', 'loopback'],
    ['fe80::1%eth0', 'link-local'],
    ['0.0.0.0', 'special'],
  ])('refuses a name at %s unless a rule names it', async (address, kind) => {
    const { dialled, open } = recording(1);
    const error = await failure(dialer({ lookup: () => Promise.resolve([address]), open }).connect(target({ namedByRule: false })));
    expect(error).toMatchObject({ code: 'address-forbidden', detail: `api.test is at ${address}, a ${kind} address` });
    expect(dialled).toEqual([]);
  });

  it.each(['127.0.0.1', '[::1]', '192.168.1.1'])('refuses the literal %s without looking it up', async (host) => {
    const lookup = () => Promise.reject(new Error('must not be called'));
    const error = await failure(dialer({ lookup }).connect(target({ host, namedByRule: false })));
    expect(error.code).toBe('address-forbidden');
    expect(error.detail).toContain(`${host} is a`);
  });

  it('dials a name that a rule names wherever it is', async () => {
    const port = await listening((socket) => socket.end('hello'));
    const socket = await dialer().connect(target({ port }));
    expect(String((await once(socket, 'data'))[0])).toBe('hello');
  });

  it('asks the system when it is not told otherwise', async () => {
    const port = await listening((socket) => socket.end('hello'));
    const socket = await new Dialer({ ca: [] }).connect(target({ host: 'localhost', port }));
    expect(String((await once(socket, 'data'))[0])).toBe('hello');
    expect(await failure(new Dialer({ ca: [] }).connect(target({ host: 'localhost', port, namedByRule: false })))).toMatchObject({
      code: 'address-forbidden',
    });
  });

  it('keeps the public addresses of a mixed answer', async () => {
    const port = await listening(() => undefined);
    const { dialled, open } = recording(port);
    const lookup = () => Promise.resolve(['10.1.2.3', '93.184.216.34', '127.0.0.1']);
    const socket = await dialer({ lookup, open }).connect(target({ namedByRule: false }));
    socket.destroy();
    expect(dialled).toEqual(['93.184.216.34']);
  });

  it('asks once, and dials what it checked: a name that changes its answer gains nothing', async () => {
    const port = await listening(() => undefined);
    const { dialled, open } = recording(port);
    const answers = [['93.184.216.34'], ['127.0.0.1']];
    let asked = 0;
    const lookup = () => Promise.resolve(answers[asked++] ?? []);
    const socket = await dialer({ lookup, open }).connect(target({ namedByRule: false }));
    socket.destroy();
    expect([asked, dialled]).toEqual([1, ['93.184.216.34']]);
  });

  it('tries the next address when one refuses, the families in turn', async () => {
    const port = await listening(() => undefined);
    const dialled: string[] = [];
    const open = (address: string): net.Socket => {
      dialled.push(address);
      if (address === '93.184.216.36') return net.connect({ host: '127.0.0.1', port });
      const socket = new net.Socket();
      return socket.destroy(Object.assign(new Error('refused'), { code: 'ECONNREFUSED' }));
    };
    const lookup = () => Promise.resolve(['93.184.216.34', '93.184.216.35', '93.184.216.36', '2606:2800:220:1::1']);
    const socket = await dialer({ lookup, open }).connect(target({ namedByRule: false }));
    socket.destroy();
    expect(dialled).toEqual(['93.184.216.34', '2606:2800:220:1::1', '93.184.216.35', '93.184.216.36']);
  });

  it('does not wait for an address that never answers when the next one does', async () => {
    const port = await listening(() => undefined);
    const silent = new net.Socket();
    const open = (address: string): net.Socket => (address === '93.184.216.34' ? silent : net.connect({ host: '127.0.0.1', port }));
    const lookup = () => Promise.resolve(['93.184.216.34', '93.184.216.35']);
    const start = performance.now();
    const socket = await dialer({ lookup, open }).connect(target({ namedByRule: false }));
    socket.destroy();
    expect(performance.now() - start).toBeLessThan(2_000);
    expect(silent.destroyed).toBe(true);
  });

  it('tries eight addresses at the most', async () => {
    const { dialled, open } = recording(1);
    const lookup = () => Promise.resolve(Array.from({ length: 200 }, (_, index) => `93.184.216.${String(index)}`));
    expect(await failure(dialer({ lookup, open }).connect(target({ namedByRule: false })))).toMatchObject({ code: 'refused' });
    expect(dialled).toHaveLength(8);
  });
});

describe('failures', () => {
  it('says what the resolver said', async () => {
    const lookup = () => Promise.reject(Object.assign(new Error('getaddrinfo'), { code: 'ENOTFOUND' }));
    expect(await failure(dialer({ lookup }).connect(target({})))).toMatchObject({
      code: 'dns',
      detail: 'no address for api.test (ENOTFOUND)',
    });
    for (const answer of [[], ['elsewhere.test']]) {
      expect(await failure(dialer({ lookup: () => Promise.resolve(answer) }).connect(target({})))).toMatchObject({ code: 'dns' });
    }
  });

  it('gives up on a resolver that never answers', async () => {
    const lookup = () => new Promise<string[]>(() => undefined);
    expect(await failure(dialer({ lookup, connectTimeoutMs: 20 }).connect(target({})))).toMatchObject({ code: 'dns' });
  });

  it.each([
    ['ECONNREFUSED', 'refused'],
    ['EHOSTUNREACH', 'unreachable'],
    ['ENETUNREACH', 'unreachable'],
    ['ETIMEDOUT', 'timeout'],
    ['ECONNRESET', 'reset'],
  ])('maps %s to %s', async (errno, code) => {
    const open = () => new net.Socket().destroy(Object.assign(new Error('it failed'), { code: errno }));
    const error = await failure(dialer({ open }).connect(target({})));
    expect(error).toMatchObject({ code, detail: `connecting to api.test:443 failed (${errno})` });
  });

  it('fails in its own words for a port that is none', async () => {
    expect(await failure(dialer().connect(target({ port: 70_000 })))).toMatchObject({ code: 'unreachable' });
  });

  it('refuses for real', async () => {
    const port = await listening(() => undefined);
    for (const close of opened.splice(0)) close();
    expect(await failure(dialer().connect(target({ port })))).toMatchObject({ code: 'refused' });
  });

  it('gives up on a silent address and leaves no socket behind', async () => {
    const silent = new net.Socket();
    const error = await failure(dialer({ open: () => silent, connectTimeoutMs: 20 }).connect(target({})));
    expect(error).toMatchObject({ code: 'timeout', detail: 'api.test:443 did not answer in 0.02 s' });
    expect(silent.destroyed).toBe(true);
  });

  it('stops at the caller’s signal, in every step', async () => {
    const controller = new AbortController();
    const silent = new net.Socket();
    const work = dialer({ open: () => silent }).connect(target({}), controller.signal);
    setImmediate(() => {
      controller.abort(new Error('enough'));
    });
    await expect(work).rejects.toThrow('enough');
    expect(silent.destroyed).toBe(true);
    await expect(dialer().connect(target({}), controller.signal)).rejects.toThrow('enough');
  });
});

describe('TLS', () => {
  it('verifies, sends the name, and offers the protocols', async () => {
    let name: unknown;
    const port = await tlsServer('api.test', { ALPNProtocols: ['h2'], onSecure: (socket) => (name = Reflect.get(socket, 'servername')) });
    const socket = await dialer().connect(target({ port, tls: true, alpn: ['h2', 'http/1.1'] }));
    await once(socket, 'data');
    expect(socket).toMatchObject({ authorized: true, alpnProtocol: 'h2' });
    expect(name).toBe('api.test');
  });

  it('verifies an address against the certificate, without sending it as a name', async () => {
    let name: unknown;
    const port = await tlsServer('127.0.0.1', { onSecure: (socket) => (name = Reflect.get(socket, 'servername')) });
    const socket = await dialer().connect(target({ host: '127.0.0.1', port, tls: true }));
    await once(socket, 'data');
    expect(name).toBe(false);
    const other = await tlsServer('127.0.0.2');
    expect((await failure(dialer().connect(target({ host: '127.0.0.1', port: other, tls: true })))).detail).toContain('ALTNAME_INVALID');
  });

  it('resumes a session with the same upstream, and with no other name', async () => {
    const resumed: boolean[] = [];
    const port = await tlsServer('api.test', { onSecure: (socket) => resumed.push(socket.isSessionReused()) });
    const one = dialer();
    for (let round = 0; round < 2; round += 1) {
      const socket = await one.connect(target({ port, tls: true }));
      await once(socket, 'data');
      socket.destroy();
    }
    expect(resumed).toEqual([false, true]);
    expect((await failure(one.connect(target({ host: 'other.test', port, tls: true })))).detail).toContain('ERR_TLS_CERT_ALTNAME_INVALID');
  });

  it.each<[string, () => Promise<number>, string]>([
    ['the certificate of another name', () => tlsServer('other.test'), 'ERR_TLS_CERT_ALTNAME_INVALID'],
    ['an authority it does not know', () => tlsServer('api.test', { from: Authority.create() }), 'SELF_SIGNED_CERT_IN_CHAIN'],
    ['only TLS 1.1', oldServer, 'ERR_SSL_'],
    ['no TLS at all', () => listening((socket) => socket.end('HTTP/1.1 400 Bad Request\r\n\r\n')), 'ERR_SSL_WRONG_VERSION_NUMBER'],
  ])('refuses a server with %s', async (_what, serve, reason) => {
    const port = await serve();
    const error = await failure(dialer().connect(target({ port, tls: true })));
    expect(error.code).toBe('tls');
    expect(error.detail).toMatch(new RegExp(`^no TLS with api\\.test:${String(port)} \\(${reason}`));
  });

  it('refuses an expired certificate', async () => {
    const past = Authority.create(new Date(Date.now() - 3 * 365 * 86_400_000));
    const port = await tlsServer('api.test', { from: past });
    const error = await failure(dialer({ ca: [past.certificate] }).connect(target({ port, tls: true })));
    expect(error).toMatchObject({ code: 'tls', detail: `no TLS with api.test:${String(port)} (CERT_HAS_EXPIRED)` });
  });

  it('says that a server closed in the middle of the handshake', async () => {
    const port = await listening((socket) => socket.once('data', () => socket.end()));
    expect(await failure(dialer().connect(target({ port, tls: true })))).toMatchObject({ code: 'reset' });
    const rude = await listening((socket) => socket.once('data', () => socket.resetAndDestroy()));
    expect(await failure(dialer().connect(target({ port: rude, tls: true })))).toMatchObject({ code: 'reset' });
  });

  it('gives up on a server that never answers the handshake', async () => {
    const port = await listening((socket) => socket.resume());
    const error = await failure(dialer({ tlsTimeoutMs: 30 }).connect(target({ port, tls: true })));
    expect(error).toMatchObject({ code: 'timeout', detail: `api.test:${String(port)} did not finish the TLS handshake in 0.03 s` });
  });

  it('survives an error after the connection was made', async () => {
    const port = await listening((socket) => socket.once('data', () => socket.resetAndDestroy()));
    const socket = await dialer().connect(target({ port }));
    socket.write('x');
    await new Promise((resolve) => socket.once('close', resolve));
    expect(socket.destroyed).toBe(true);
  });
});

function oldServer(): Promise<number> {
  return listening((socket) => {
    const context = tls.createSecureContext({ minVersion: 'TLSv1', maxVersion: 'TLSv1.1', ciphers: 'DEFAULT:@SECLEVEL=0' });
    new tls.TLSSocket(socket, { isServer: true, secureContext: context }).on('error', () => undefined);
  });
}
