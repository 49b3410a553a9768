// A child that breaks off, or an upload that ends before its time: each side must see what happened to the other.
import { once } from 'node:events';
import net from 'node:net';
import zlib from 'node:zlib';
import { afterEach, describe, expect, it } from 'vitest';
import { onHead, Scene, type Wire } from './scene.ts';

const scene = new Scene();
afterEach(() => scene.end());

const HOSTS = ['api.example.com', 'api.example.com:80'];
const POST = 'POST http://api.example.com/up HTTP/1.1\r\nHost: api.example.com\r\n{login}\r\n';
const GET = 'GET http://api.example.com/down HTTP/1.1\r\nHost: api.example.com\r\n{login}\r\n\r\n';
const OK = 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok';

/** What the upstream got on each of its connections; `answer` is called at the head of each request. */
async function start(answer: (socket: net.Socket) => void = () => undefined, swap?: readonly string[]): Promise<Wire[]> {
  const wires: Wire[] = [];
  await scene.start({
    secrets: [{ name: 'TOKEN', hosts: HOSTS, ...(swap === undefined ? {} : { swap }) }],
    raw: (socket) => {
      wires.push(
        onHead(socket, () => {
          answer(socket);
        }),
      );
    },
  });
  return wires;
}

describe('a child that hangs up', () => {
  it.each([
    ['in the middle of a chunked upload', 'Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n'],
    ['in the middle of an upload of known length', 'Content-Type: image/png\r\nContent-Length: 5000000\r\n\r\nhello'],
  ])('%s: the upstream does not take it for complete', async (_where, rest) => {
    const wires = await start();
    const child = await scene.send(POST + rest);
    await expect.poll(() => wires[0]?.text).toContain('hello');
    child.socket.destroy();
    await expect.poll(() => wires[0]?.how).not.toBe('open');
    expect(wires[0]?.text).not.toContain('0\r\n\r\n');
    await expect.poll(() => scene.lab.exchanges).toMatchObject([{ status: null, error: 'client-gone' }]);
  });

  it.each([
    ['short', 'Content-Length: 50\r\n\r\nhello'],
    ['spooled', 'Content-Type: application/json\r\nContent-Length: 5000000\r\n\r\n{"token":"'],
  ])('in the middle of a %s upload: the upstream hears nothing of it', async (_kind, rest) => {
    const wires = await start();
    const child = await scene.send(POST + rest);
    child.socket.end();
    await expect.poll(() => scene.lab.exchanges).toMatchObject([{ status: null, error: 'client-gone' }]);
    expect(wires).toEqual([]);
  });

  it('in the middle of a download: the upstream is told to stop', async () => {
    const wires = await start((socket) => socket.write('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n'));
    const child = await scene.send(GET);
    await child.until('hello');
    child.socket.destroy();
    await expect.poll(() => wires[0]?.how).not.toBe('open');
    await expect.poll(() => scene.lab.exchanges).toMatchObject([{ status: null, error: 'client-gone', bytes_down: 5 }]);
  });

  it('inside a tunnel, in the middle of a download', async () => {
    const gone: string[] = [];
    await scene.start({
      serve: (_request, response) => {
        response.once('close', () => gone.push('closed'));
        response.write('part');
      },
    });
    const child = scene.child(await scene.lab.tunnel('api.example.com:443'));
    child.socket.write('GET / HTTP/1.1\r\nHost: api.example.com\r\n\r\n');
    await child.until('part');
    child.socket.destroy();
    await expect.poll(() => gone).toEqual(['closed']);
  });

  it('with requests still in line: none of their upstreams is kept waiting', async () => {
    const wires = await start((socket) => socket.write('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n'));
    const child = await scene.send(GET + GET.replace('/down', '/second'));
    await child.until('hello');
    await expect.poll(() => wires.length).toBe(2);
    child.socket.destroy();
    await expect.poll(() => wires.map(({ how }) => how)).not.toContain('open');
    await expect.poll(() => scene.lab.exchanges.length).toBe(2);
  });

  it('on one side only: as if on both', async () => {
    const wires = await start();
    const child = await scene.send(GET);
    await expect.poll(() => wires[0]?.text).toContain('\r\n\r\n');
    child.socket.end();
    await expect.poll(() => wires[0]?.how).not.toBe('open');
    await child.closed();
    await expect.poll(() => scene.lab.exchanges).toMatchObject([{ error: 'client-gone' }]);
  });

  it('while it is still being dialled', async () => {
    const waiting: net.Socket[] = [];
    await scene.start({
      dial: {
        open: () => {
          const socket = new net.Socket();
          waiting.push(socket);
          return socket;
        },
      },
    });
    const child = await scene.send(GET);
    await expect.poll(() => waiting.length).toBe(1);
    child.socket.destroy();
    await (await scene.send('GET / HTTP/1.1\r\n{login}\r\n\r\n')).closed();
    // Others may want the connection, so dialling goes on.
    waiting[0]?.destroy(new Error('no answer'));
    await expect.poll(() => scene.lab.exchanges).toMatchObject([{ status: null, error: 'client-gone' }]);
  });
});

describe('an answer that comes before the upload is complete', () => {
  const CHUNK = Buffer.alloc(64 * 1024, 'x');

  async function upload(child: Wire): Promise<void> {
    const closed = once(child.socket, 'close');
    for (let sent = 0; sent < 400 && !child.socket.destroyed; sent += 1) {
      if (!child.socket.write(CHUNK)) await Promise.race([once(child.socket, 'drain'), closed]);
    }
  }

  it.each([
    ['and the upstream hangs up', 'Connection: close\r\n', true],
    ['and the upstream reads on', '', false],
  ])('arrives, %s', async (_what, field, hangsUp) => {
    await start((socket) => {
      socket.write(`HTTP/1.1 413 Too Large\r\n${field}Content-Length: 9\r\n\r\ntoo large`, () => {
        if (hangsUp) socket.end();
      });
    });
    const child = await scene.send(`${POST}Content-Type: image/png\r\nContent-Length: ${String(400 * CHUNK.length)}\r\n\r\n`);
    await upload(child);
    await child.until('too large');
    expect(child.text).toMatch(/^HTTP\/1.1 413 /);
    // The rest of the upload was read, so the connection serves the next request.
    child.socket.write(withoutBody('/next'));
    await expect.poll(() => child.text.split('HTTP/1.1 413').length).toBe(3);
  });

  it('and is kz’s own: the child can read it, and goes on', async () => {
    const wires: Wire[] = [];
    await scene.start({
      rules: [{ allow: true, host: 'api.example.com', methods: ['GET'] }],
      raw: (socket) => wires.push(onHead(socket, () => socket.write(OK))),
    });
    const child = await scene.send(`${POST}Content-Length: ${String(400 * CHUNK.length)}\r\n\r\n`);
    await upload(child);
    await child.until('x-kz-error: denied');
    child.socket.write(withoutBody('/next'));
    await child.until('\r\n\r\nok');
    expect(wires.map(({ text }) => text.split(' ', 2).join(' '))).toEqual(['GET /next']);
  });

  it('because nobody is there: the child can read why', async () => {
    await scene.start({ dial: { open: () => net.connect(1, '127.0.0.1') } });
    const child = await scene.send(`${POST}Content-Type: image/png\r\nContent-Length: ${String(400 * CHUNK.length)}\r\n\r\n`);
    await upload(child);
    await child.until('x-kz-error: upstream-refused');
  });

  function withoutBody(path: string): string {
    const { username, password } = new URL(scene.lab.proxyUrl);
    const login = Buffer.from(`${username}:${password}`).toString('base64');
    return `GET http://api.example.com${path} HTTP/1.1\r\nHost: api.example.com\r\nProxy-Authorization: Basic ${login}\r\n\r\n`;
  }
});

describe('an upload that waits for 100 (Continue)', () => {
  const EXPECT = `${POST}Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n`;

  it('starts when the upstream says so', async () => {
    const wires = await start((socket) => socket.write('HTTP/1.1 100 Continue\r\n\r\n'));
    const child = await scene.send(EXPECT);
    await child.until('HTTP/1.1 100 Continue\r\n\r\n');
    expect(wires[0]?.text).toMatch(/\r\nExpect: 100-continue\r\n/);
    child.socket.write('5\r\nhello\r\n0\r\n\r\n');
    await expect.poll(() => wires[0]?.text).toContain('5\r\nhello\r\n0\r\n\r\n');
    wires[0]?.socket.write(OK);
    await child.until('\r\n\r\nok');
    expect(child.text.split('100 Continue')).toHaveLength(2);
  });

  it.each(['417 Expectation Failed', '401 Unauthorized'])('never starts when it says %s', async (status) => {
    const wires = await start((socket) => socket.write(`HTTP/1.1 ${status}\r\nContent-Length: 2\r\n\r\nno`));
    const child = await scene.send(EXPECT);
    const all = await child.closed();
    expect(all).toMatch(new RegExp(`^HTTP/1.1 ${status}\r\n`));
    expect(all).toMatch(/\r\nConnection: close\r\n/i);
    expect(all).not.toContain('100 Continue');
    await expect.poll(() => wires[0]?.how).not.toBe('open');
    expect(wires[0]?.body).toBe('');
  });

  it('is asked for by kz itself when it must read the body first', async () => {
    const wires = await start((socket) => socket.write(OK));
    const child = await scene.send(`${POST}Expect: 100-continue\r\nContent-Type: application/json\r\nContent-Length: 80\r\n\r\n`);
    await child.until('HTTP/1.1 100 Continue\r\n\r\n');
    expect(wires).toEqual([]);
    child.socket.write(JSON.stringify({ api_key: scene.lab.token(), a: 'b' }).padEnd(80));
    await child.until('\r\n\r\nok');
    expect(wires[0]?.body).toContain(scene.lab.value());
    expect(wires[0]?.text).not.toMatch(/expect/i);
  });

  it('is not answered with 100 when it is denied', async () => {
    await scene.start({ rules: [{ allow: false, host: '*' }] });
    const child = await scene.send(EXPECT);
    expect(await child.closed()).toMatch(/^HTTP\/1.1 403 .*\r\nconnection: close\r\n/is);
    expect(child.text).not.toContain('100 Continue');
  });

  it('gets no 100 in HTTP/1.0', async () => {
    await start((socket) => socket.write(OK));
    const child = await scene.send(POST.replace('HTTP/1.1', 'HTTP/1.0') + 'Expect: 100-continue\r\nContent-Length: 2\r\n\r\nhi');
    expect(await child.closed()).toMatch(/^HTTP\/1.1 200 OK/);
  });
});

it('a body that is not what the child says it is, is its own fault', async () => {
  const wires = await start();
  const begin = zlib.gzipSync('{"a":1}').subarray(0, 12);
  const reply = await scene.ask('http://api.example.com/', {
    method: 'POST',
    headers: { 'content-type': 'application/json', 'content-encoding': 'gzip', 'content-length': 24 },
    body: Buffer.concat([begin, Buffer.from('not gzip any')]),
  });
  expect(reply).toMatchObject({ status: 400, headers: { 'x-kz-error': 'body-encoding' } });
  expect(reply.text).toContain('the body is not valid gzip');
  expect(wires.every(({ text }) => !text.endsWith('0\r\n\r\n'))).toBe(true);
});
