import type http from 'node:http';
import net from 'node:net';
import tls from 'node:tls';
import zlib from 'node:zlib';
import { afterEach, describe, expect, it } from 'vitest';
import { Authority } from '../../src/proxy/authority.ts';
import type { Ask, Reply } from './lab.ts';
import { onHead, Scene, type Wire } from './scene.ts';

const scene = new Scene();
afterEach(() => scene.end());

const SECRET = [{ name: 'TOKEN', hosts: ['api.example.com', 'api.example.com:80'] }];
const URL_PLAIN = 'http://api.example.com/x';

function withToken(more: Ask = {}): Ask {
  return { ...more, headers: { authorization: `Bearer ${scene.lab.token()}`, ...(more.headers as http.OutgoingHttpHeaders | undefined) } };
}

/** A failure in kz's own name: no words of the upstream, no value. */
function expectFailure(reply: Reply, status: number, code: string): void {
  expect(reply).toMatchObject({ status, headers: { 'x-kz-error': code } });
  expect(reply.text).toContain('api.example.com');
  expect(Number(reply.headers['content-length'])).toBe(reply.body.length);
}

/** Answers every request with these bytes, and closes. */
function saying(...parts: (string | Buffer)[]): (socket: net.Socket) => void {
  return (socket) => {
    onHead(socket, () => {
      for (const part of parts) socket.write(part, 'latin1');
      socket.end();
    });
  };
}

describe('an upstream that cannot be reached', () => {
  const bodies: [string, Ask][] = [
    ['no body', {}],
    ['a short body', { method: 'POST', body: 'hello', headers: { 'content-length': 5 } }],
    ['a chunked body', { method: 'POST', body: Buffer.alloc(300_000, 'x'), headers: { 'transfer-encoding': 'chunked' } }],
    [
      'a spooled body',
      {
        method: 'PUT',
        body: `{"a":"${'x'.repeat(2 ** 21)}"}`,
        headers: { 'content-type': 'application/json', 'content-length': 2 ** 21 + 8 },
      },
    ],
  ];
  it.each(bodies)('is a 502 to a request with %s', async (_what, ask) => {
    await scene.start({ secrets: SECRET, dial: { open: () => net.connect(1, '127.0.0.1') } });
    for (const url of [URL_PLAIN, 'https://api.example.com/x']) {
      const reply = await scene.ask(url, withToken(ask));
      expectFailure(reply, 502, 'upstream-refused');
    }
    expect(scene.lab.exchanges).toMatchObject([
      { status: 502, error: 'refused' },
      { status: 502, error: 'refused' },
    ]);
  });

  it('has no address', async () => {
    await scene.start({ dial: { lookup: () => Promise.reject(Object.assign(new Error('no such host'), { code: 'ENOTFOUND' })) } });
    expectFailure(await scene.ask(URL_PLAIN, withToken()), 502, 'upstream-dns');
    expect(scene.lab.exchanges).toMatchObject([{ error: 'dns' }]);
  });

  it('does not connect in time', async () => {
    await scene.start({ dial: { connectTimeoutMs: 50, open: () => new net.Socket() } });
    expectFailure(await scene.ask(URL_PLAIN, withToken()), 504, 'upstream-timeout');
    expect(scene.lab.exchanges).toMatchObject([{ status: 504, error: 'timeout' }]);
  });

  it('never answers, until the child hangs up', async () => {
    const wires: Wire[] = [];
    await scene.start({ raw: (socket) => wires.push(onHead(socket, () => undefined)) });
    const child = await scene.send('GET http://api.example.com/x HTTP/1.1\r\nHost: api.example.com\r\n{login}\r\n\r\n');
    await expect.poll(() => wires[0]?.text).toContain('\r\n\r\n');
    child.socket.destroy();
    await expect.poll(() => wires[0]?.how).not.toBe('open');
    await expect.poll(() => scene.lab.exchanges).toMatchObject([{ status: null, error: 'client-gone' }]);
  });
});

describe('an upstream with bad TLS', () => {
  async function upstreamWith(options: tls.TlsOptions): Promise<void> {
    const server = tls.createServer(options);
    server.on('tlsClientError', () => undefined);
    const port = await scene.listen((socket) => server.emit('connection', socket));
    await scene.start({ dial: { open: () => net.connect(port, '127.0.0.1') } });
  }

  it('that nobody signed', async () => {
    const stranger = Authority.create();
    await upstreamWith({
      SNICallback: (name, done) => {
        done(null, stranger.contextFor(name));
      },
    });
    expectFailure(await scene.ask('https://api.example.com/', withToken()), 502, 'upstream-tls');
    expect(scene.lab.exchanges).toMatchObject([{ error: 'tls' }]);
  });

  it('for another name, or too old', async () => {
    const context = { of: (): tls.SecureContext => scene.lab.outside.contextFor('other.example.com') };
    await upstreamWith({
      SNICallback: (_name, done) => {
        done(null, context.of());
      },
    });
    expectFailure(await scene.ask('https://api.example.com/', withToken()), 502, 'upstream-tls');
    const then = new Date('2020-01-01');
    context.of = () => Authority.create(then).contextFor('api.example.com', then);
    expectFailure(await scene.ask('https://api.example.com/', withToken()), 502, 'upstream-tls');
  });

  it('or none at all', async () => {
    await scene.start({ raw: (socket) => socket.end('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi') });
    expectFailure(await scene.ask('https://api.example.com/', withToken()), 502, 'upstream-tls');
  });
});

describe('an upstream that breaks off', () => {
  it.each([
    ['before its head', '', undefined],
    ['inside its head', 'HTTP/1.1 200 OK\r\nContent-Le', undefined],
    ['inside a short body', 'HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf', undefined],
  ])('%s is a 502', async (_where, start) => {
    for (const how of ['end', 'reset'] as const) {
      await scene.start({
        secrets: SECRET,
        raw: (socket) => {
          onHead(socket, () => {
            socket.write(start, () => (how === 'end' ? socket.end() : socket.resetAndDestroy()));
          });
        },
      });
      expectFailure(
        await scene.ask(URL_PLAIN, withToken({ method: 'POST', body: 'x', headers: { 'content-length': 1 } })),
        502,
        'upstream-failed',
      );
      expect(scene.lab.exchanges).toMatchObject([{ status: 502, error: 'reset' }]);
      await scene.end();
    }
  });

  it.each([
    ['chunked', 'Transfer-Encoding: chunked\r\n\r\n4\r\npart\r\n', 'HTTP/1.1', 'end'],
    ['with a length', 'Content-Type: text/plain\r\nContent-Length: 100000\r\n\r\npart', 'HTTP/1.1', 'end'],
    ['in place', 'Content-Type: image/png\r\nContent-Length: 100000\r\n\r\npart', 'HTTP/1.1', 'end'],
    ['without a length', '\r\npart', 'HTTP/1.1', 'reset'],
    ['for a child of HTTP/1.0', 'Transfer-Encoding: chunked\r\n\r\n4\r\npart\r\n', 'HTTP/1.0', 'end'],
  ] as const)('in the middle of a body, %s: the child does not take it for complete', async (_what, start, version, how) => {
    const release: (() => void)[] = [];
    await scene.start({
      raw: (socket) => {
        onHead(socket, () => {
          socket.write(`HTTP/1.1 200 OK\r\n${start}`);
          release.push(() => (how === 'end' ? socket.end() : socket.resetAndDestroy()));
        });
      },
    });
    const child = await scene.send(`GET ${URL_PLAIN} ${version}\r\nHost: api.example.com\r\n{login}\r\n\r\n`);
    await child.until('part');
    release[0]?.();
    const all = await child.closed();
    expect(all).not.toContain('\r\n0\r\n');
    if (version === 'HTTP/1.0') expect(child.how).toBe('reset');
    else expect(all).toMatch(/transfer-encoding: chunked|content-length: 100000/i);
    expect(scene.lab.exchanges).toMatchObject([{ status: 200, error: 'reset' }]);
  });
});

describe('a body that is not what its coding says', () => {
  const whole = zlib.gzipSync(Buffer.alloc(200_000, 'text that compresses '));
  it.each([
    ['gzip', Buffer.from('this is no gzip')],
    ['br', Buffer.from('\xff\xff\xff\xff no br')],
    ['deflate', Buffer.from('\x78\xff no deflate')],
    ['zstd', Buffer.from('no zstd either')],
    ['gzip', whole.subarray(0, whole.length - 20)],
  ])('never ends in order: %s', async (coding, body) => {
    await scene.start({
      raw: saying(`HTTP/1.1 200 OK\r\nContent-Encoding: ${coding}\r\nContent-Length: ${String(body.length)}\r\n\r\n`, body),
    });
    const child = await scene.send(`GET ${URL_PLAIN} HTTP/1.1\r\nHost: api.example.com\r\n{login}\r\n\r\n`);
    const all = await child.closed();
    expect(all).not.toContain('\r\n0\r\n');
    expect(all).not.toMatch(/content-encoding/i);
    expect(scene.lab.exchanges).toMatchObject([{ error: 'protocol' }]);
  });
});

describe('an upstream that does not speak HTTP well', () => {
  it.each([
    ['garbage', 'SSH-2.0-OpenSSH_9.6\r\n'],
    ['two lengths', 'HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab'],
    ['a length and chunks', 'HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n'],
    ['a head without end', `HTTP/1.1 200 OK\r\n${'X-Long: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n'.repeat(2000)}`],
  ])('%s is a 502', async (_what, bytes) => {
    await scene.start({ raw: saying(bytes) });
    expectFailure(await scene.ask(URL_PLAIN, withToken()), 502, 'upstream-failed');
    expect(scene.lab.exchanges).toMatchObject([{ status: 502, error: 'protocol' }]);
  });

  it('more than it announced: the child gets what was announced', async () => {
    await scene.start({ raw: saying('HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello and more') });
    const reply = await scene.ask(URL_PLAIN, withToken());
    expect(reply).toMatchObject({ status: 200, text: 'hello' });
    expect((await scene.ask(URL_PLAIN, withToken())).text).toBe('hello');
  });

  it('a flood of 1xx before its answer', async () => {
    const flood = 'HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n'.repeat(5000);
    await scene.start({ raw: saying(flood, 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok') });
    expect((await scene.ask(URL_PLAIN, withToken())).text).toBe('ok');
  });

  it('100s that nobody asked for, of which a child of HTTP/1.0 sees none', async () => {
    await scene.start({ raw: saying('HTTP/1.1 100 Continue\r\n\r\n'.repeat(3), 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok') });
    const child = await scene.send(`GET ${URL_PLAIN} HTTP/1.0\r\nHost: api.example.com\r\n{login}\r\n\r\n`);
    expect(await child.closed()).toMatch(/^HTTP\/1.1 200 OK\r\n/);
  });
});
