// What forward-http2.test.ts leaves out: large bodies, slow readers, broken connections and short answers over HTTP/2.
import { readdirSync } from 'node:fs';
import http2 from 'node:http2';
import net from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import type { LabOptions } from './lab.ts';
import { Scene } from './scene.ts';

const scene = new Scene();
let client: http2.ClientHttp2Session | undefined;
afterEach(async () => {
  client?.destroy();
  await scene.end();
});

const MIB = 2 ** 20;
const SECRETS = [{ name: 'TOKEN', hosts: ['api.example.com'] }];
const CHUNK = Buffer.alloc(64 * 1024, 'x');

async function start(serveHttp2: NonNullable<LabOptions['serveHttp2']>, options: LabOptions = {}): Promise<http2.ClientHttp2Session> {
  await scene.start({ secrets: SECRETS, serveHttp2, ...options });
  const socket = await scene.lab.tunnel('api.example.com:443', { alpn: ['h2'] });
  client = http2.connect('https://api.example.com', { createConnection: () => socket, settings: { initialWindowSize: MIB } });
  client.on('error', () => undefined);
  return client;
}

interface Got {
  headers: http2.IncomingHttpHeaders;
  trailers: http2.IncomingHttpHeaders;
  body: Buffer;
  rstCode: number;
  /** The end of the body came, and not only that of the stream. */
  isEnded: boolean;
}

function replyOf(stream: http2.ClientHttp2Stream): Promise<Got> {
  const got: Got = { headers: {}, trailers: {}, body: Buffer.alloc(0), rstCode: 0, isEnded: false };
  const chunks: Buffer[] = [];
  return new Promise((resolve) => {
    stream.on('response', (headers) => (got.headers = headers));
    stream.on('trailers', (trailers: http2.IncomingHttpHeaders) => (got.trailers = trailers));
    stream.on('data', (chunk: Buffer) => chunks.push(chunk));
    stream.on('error', () => undefined);
    stream.once('end', () => (got.isEnded = !stream.closed));
    stream.once('close', () => {
      got.body = Buffer.concat(chunks);
      got.rstCode = stream.rstCode;
      scene.lab.examine(JSON.stringify([got.headers, got.trailers]));
      scene.lab.examine(got.body);
      resolve(got);
    });
  });
}

/** Writes `count` chunks, no faster than they are taken; says how many were. */
function pour(stream: http2.Http2Stream, count: number): { sent: number } {
  const state = { sent: 0 };
  const more = (): void => {
    while (state.sent < count) {
      state.sent += 1;
      if (!stream.write(CHUNK)) {
        stream.once('drain', more);
        return;
      }
    }
    stream.end();
  };
  more();
  return state;
}

function bodyOf(stream: http2.ServerHttp2Stream): Promise<Buffer> {
  const chunks: Buffer[] = [];
  return new Promise((resolve) => {
    stream
      .on('data', (chunk: Buffer) => chunks.push(chunk))
      .once('end', () => {
        resolve(Buffer.concat(chunks));
      });
  });
}

describe('a reader that has stopped', () => {
  it('stops the upstream, and no other stream', async () => {
    let poured = { sent: 0 };
    const session = await start((stream, headers) => {
      stream.respond({ ':status': 200, 'content-type': 'application/zip' });
      if (headers[':path'] === '/large') poured = pour(stream, 800);
      else stream.end('small');
    });
    const large = session.request({ ':path': '/large' });
    await new Promise((resolve) => large.once('response', resolve));
    for (let index = 0; index < 20; index += 1)
      expect((await replyOf(session.request({ ':path': '/small' }))).body.toString()).toBe('small');
    expect(poured.sent * CHUNK.length).toBeLessThan(16 * MIB);
    const { body, rstCode } = await replyOf(large);
    expect([body.length, rstCode]).toEqual([800 * CHUNK.length, 0]);
  });

  it('stops the child, and no other stream', async () => {
    const stalled: http2.ServerHttp2Stream[] = [];
    const session = await start((stream, headers) => {
      if (headers[':path'] === '/large') {
        stalled.push(stream);
        return;
      }
      stream.respond({ ':status': 200 });
      stream.end('small');
    });
    const large = session.request({ ':path': '/large', ':method': 'POST' });
    const reply = replyOf(large);
    const poured = pour(large, 800);
    await expect.poll(() => stalled.length).toBe(1);
    for (let index = 0; index < 20; index += 1)
      expect((await replyOf(session.request({ ':path': '/small' }))).body.toString()).toBe('small');
    expect(poured.sent * CHUNK.length).toBeLessThan(16 * MIB);
    const [stream] = stalled;
    if (stream === undefined) throw new Error('no stream');
    expect(await bodyOf(stream)).toHaveLength(800 * CHUNK.length);
    stream.respond({ ':status': 200 }, { endStream: true });
    expect((await reply).headers[':status']).toBe(200);
  });
});

describe('a head', () => {
  it('may have more fields than Node takes by default, in both directions', async () => {
    const many = Object.fromEntries(Array.from({ length: 400 }, (_, index) => [`x-${String(index)}`, String(index)]));
    // The client's own limit is Node's, so what it gets is counted here and answered in one field.
    let count = 0;
    const session = await start((stream, headers) => {
      count = Object.keys(headers).filter((name) => name.startsWith('x-')).length;
      stream.respond({ ':status': 200, ...Object.fromEntries(Object.entries(many).slice(0, 100)) });
      stream.end();
    });
    const got = await replyOf(session.request({ ':path': '/', ...many }));
    expect([got.headers[':status'], count, Object.keys(got.headers).filter((name) => name.startsWith('x-')).length]).toEqual([
      200, 400, 100,
    ]);
  });
});

describe('a request', () => {
  it.each([0, 1, MIB, MIB + 1, 5 * MIB])('of %i bytes with its length arrives with the new one', async (length) => {
    const got: { headers: http2.IncomingHttpHeaders; body: Buffer }[] = [];
    const session = await start((stream, headers) => {
      void bodyOf(stream).then((body) => {
        got.push({ headers, body });
        stream.respond({ ':status': 204 }, { endStream: true });
      });
    });
    const end = `","api_key":"${scene.lab.token()}"}`;
    const body = length < 2 ? '1'.repeat(length) : `{"text":"${'x'.repeat(length - end.length - 9)}${end}`;
    const stream = session.request({ ':path': '/', ':method': 'POST', 'content-type': 'application/json', 'content-length': length });
    stream.end(body);
    expect((await replyOf(stream)).headers[':status']).toBe(204);
    const expected = body.replace(scene.lab.token(), scene.lab.value());
    expect(got[0]?.body.equals(Buffer.from(expected))).toBe(true);
    expect(Number(got[0]?.headers['content-length'] ?? 0)).toBe(expected.length);
    expect(readdirSync(scene.lab.folder)).toEqual([]);
  });

  it('without a body has none on the other side', async () => {
    const ended: boolean[] = [];
    const session = await start((stream, headers) => {
      ended.push(stream.endAfterHeaders, headers['content-length'] === undefined);
      stream.respond({ ':status': 200 }, { endStream: true });
    });
    await replyOf(session.request({ ':path': '/' }));
    expect(ended).toEqual([true, true]);
  });

  it('whose upstream is gone is a 502, and its file is closed', async () => {
    const session = await start(() => undefined, { dial: { lookup: () => Promise.resolve([]) } });
    const before = readdirSync('/proc/self/fd').length;
    for (let index = 0; index < 5; index += 1) {
      const body = `{"a":"${'x'.repeat(2 * MIB)}"}`;
      const stream = session.request({
        ':path': '/',
        ':method': 'POST',
        'content-type': 'application/json',
        'content-length': body.length,
      });
      stream.end(body);
      expect((await replyOf(stream)).headers).toMatchObject({ ':status': 502, 'x-kz-error': 'upstream-dns' });
    }
    await expect.poll(() => readdirSync('/proc/self/fd').length).toBeLessThan(before + 3);
  });

  it('of a child that breaks off is cancelled', async () => {
    const codes: (number | undefined)[] = [];
    const session = await start((stream) => {
      const index = codes.push(undefined) - 1;
      stream.once('close', () => (codes[index] = stream.rstCode));
    });
    const streams = [1, 2, 3].map(() => session.request({ ':path': '/', ':method': 'POST' }));
    for (const stream of streams) {
      void replyOf(stream);
      stream.write('part');
    }
    await expect.poll(() => codes).toHaveLength(3);
    session.destroy();
    await expect.poll(() => codes).not.toContain(undefined);
    expect(codes).not.toContain(http2.constants.NGHTTP2_NO_ERROR);
    await expect.poll(() => scene.lab.exchanges.map(({ error }) => error)).toEqual(['client-gone', 'client-gone', 'client-gone']);
  });
});

it.each([
  ['short', { 'content-length': 1000 }],
  ['spooled', { 'content-length': 2 * MIB }],
  ['streamed', {}],
])('a %s upload that breaks off never looks complete', async (how, headers) => {
  const ends: string[] = [];
  const session = await start((stream) => {
    ends.push('started');
    stream.on('data', () => ends.push('data')).once('end', () => ends.push(stream.closed ? 'broken' : 'whole'));
    stream.once('close', () => ends.push('closed'));
  });
  const stream = session.request({ ':path': '/', ':method': 'POST', 'content-type': 'application/json', ...headers });
  void replyOf(stream);
  stream.write('{"api_key":"part');
  if (how === 'streamed') await expect.poll(() => ends).toContain('started');
  // Answered in order: what was written before has arrived, too.
  else await new Promise((resolve) => session.ping(resolve));
  session.destroy();
  await expect.poll(() => scene.lab.exchanges.at(-1)).toMatchObject({ error: 'client-gone' });
  if (how === 'streamed') await expect.poll(() => ends).toContain('closed');
  expect(ends).not.toContain('whole');
});

describe('an answer', () => {
  it('of trailers only stays one (gRPC)', async () => {
    const session = await start((stream) => {
      stream.respond(
        { ':status': 200, 'content-type': 'application/grpc', 'grpc-status': '7', 'grpc-message': `no ${scene.lab.value()}` },
        { endStream: true },
      );
    });
    const stream = session.request({ ':path': '/svc/M', ':method': 'POST', 'content-type': 'application/grpc', te: 'trailers' });
    stream.end(Buffer.from([0, 0, 0, 0, 0]));
    const { headers, body, rstCode } = await replyOf(stream);
    expect(headers).toMatchObject({ 'grpc-status': '7', 'grpc-message': `no ${scene.lab.token()}` });
    expect([body.length, rstCode]).toEqual([0, 0]);
  });

  it('with a length and trailers keeps both', async () => {
    const session = await start((stream) => {
      stream.respond({ ':status': 200, 'content-length': 4 }, { waitForTrailers: true });
      stream.once('wantTrailers', () => {
        stream.sendTrailers({ 'x-sum': `of ${scene.lab.value()}` });
      });
      stream.end('body');
    });
    const { headers, body, trailers } = await replyOf(session.request({ ':path': '/' }));
    expect([headers['content-length'], body.toString()]).toEqual(['4', 'body']);
    expect(trailers).toMatchObject({ 'x-sum': `of ${scene.lab.token()}` });
  });

  it.each([
    ['short', { 'content-length': 1000 }],
    ['long', { 'content-length': 1_000_000 }],
    ['of no known length', {}],
  ])('that is %s and breaks off with its connection never looks complete', async (_what, headers) => {
    const sockets: net.Socket[] = [];
    const open = (): net.Socket => {
      const socket = net.connect(scene.lab.upstreamPort, '127.0.0.1');
      sockets.push(socket);
      return socket;
    };
    const session = await start(
      (stream) => {
        stream.respond({ ':status': 200, 'content-type': 'text/plain', ...headers });
        stream.write('part', () => sockets.map((socket) => socket.destroy()));
      },
      { dial: { open } },
    );
    const got = await replyOf(session.request({ ':path': '/' }));
    if (Number(got.headers[':status']) === 200) expect([got.rstCode !== 0, got.isEnded]).toEqual([true, false]);
    else expect(got.headers).toMatchObject({ ':status': 502, 'x-kz-error': 'upstream-failed' });
  });

  it('that differs from its length never looks complete', async () => {
    const session = await start((stream) => {
      stream.respond({ ':status': 200, 'content-type': 'text/plain', 'content-length': 100 });
      stream.end('short');
    });
    const got = await replyOf(session.request({ ':path': '/' }));
    expect(Number(got.headers[':status']) === 502 || got.rstCode !== 0).toBe(true);
  });

  it('from a session that says goodbye is complete, and the next request takes another', async () => {
    const sessions = new Set<unknown>();
    const session = await start((stream) => {
      sessions.add(stream.session);
      stream.respond({ ':status': 200 });
      stream.session?.goaway();
      stream.end('whole');
    });
    for (let index = 0; index < 3; index += 1) expect((await replyOf(session.request({ ':path': '/' }))).body.toString()).toBe('whole');
    expect(sessions.size).toBe(3);
  });
});
