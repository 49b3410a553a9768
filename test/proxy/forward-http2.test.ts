import http2 from 'node:http2';
import { afterEach, describe, expect, it } from 'vitest';
import { Lab } from './lab.ts';

let lab: Lab | undefined;
let client: http2.ClientHttp2Session | undefined;

afterEach(async () => {
  client?.destroy();
  await lab?.close();
});

async function connect(to: Lab, authority = 'api.example.com:443'): Promise<http2.ClientHttp2Session> {
  const socket = await to.tunnel(authority, { alpn: ['h2', 'http/1.1'] });
  expect(socket.alpnProtocol).toBe('h2');
  client = http2.connect(`https://${authority}`, { createConnection: () => socket });
  return client;
}

interface StreamReply {
  readonly headers: http2.IncomingHttpHeaders;
  readonly trailers: http2.IncomingHttpHeaders;
  readonly body: Buffer;
  readonly rstCode: number;
}

function replyOf(stream: http2.ClientHttp2Stream): Promise<StreamReply> {
  return new Promise((resolve) => {
    const chunks: Buffer[] = [];
    let headers: http2.IncomingHttpHeaders = {};
    let trailers: http2.IncomingHttpHeaders = {};
    stream.on('response', (given) => (headers = given));
    stream.on('trailers', (given: http2.IncomingHttpHeaders) => (trailers = given));
    stream.on('data', (chunk: Buffer) => chunks.push(chunk));
    stream.on('error', () => undefined);
    stream.on('close', () => {
      resolve({ headers, trailers, body: Buffer.concat(chunks), rstCode: stream.rstCode });
    });
  });
}

describe('a stream of HTTP/2', () => {
  it('is swapped on the way out and remasked on the way back, trailers too', async () => {
    const seen: http2.IncomingHttpHeaders[] = [];
    lab = await Lab.start({
      serveHttp2: (stream, headers) => {
        seen.push(headers);
        stream.respond({ ':status': 200, 'x-echo': headers['x-api-key'] }, { waitForTrailers: true });
        stream.once('wantTrailers', () => {
          stream.sendTrailers({ 'grpc-status': '0', 'x-trail': headers['x-api-key'] });
        });
        stream.end(`body ${String(headers['x-api-key'])}`);
      },
    });
    const session = await connect(lab);
    const stream = session.request({
      ':path': '/svc/Method?k=1',
      ':method': 'POST',
      'x-api-key': lab.token(),
      'x-note': lab.token(),
      te: 'trailers',
    });
    stream.end();
    const reply = await replyOf(stream);
    expect(seen[0]).toMatchObject({ 'x-api-key': lab.value(), 'x-note': lab.token(), ':authority': 'api.example.com', te: 'trailers' });
    expect(reply.headers).toMatchObject({ ':status': 200, 'x-echo': lab.token() });
    expect(reply.body.toString()).toBe(`body ${lab.token()}`);
    expect(reply.trailers).toMatchObject({ 'grpc-status': '0', 'x-trail': lab.token() });
    expect(lab.exchanges).toMatchObject([{ protocol: 'h2', status: 200, swapped: [{ name: 'TOKEN' }], remasked: ['TOKEN'] }]);
  });

  it('carries many streams at once over one connection', async () => {
    lab = await Lab.start({
      serveHttp2: (stream, headers) => {
        stream.respond({ ':status': 200 });
        stream.pipe(stream);
        expect(headers[':path']).toMatch(/^\/\d+$/);
      },
    });
    const session = await connect(lab);
    const bodies = Array.from({ length: 100 }, (_, index) => Buffer.alloc(20_000, index));
    const replies = await Promise.all(
      bodies.map((body, index) => {
        const stream = session.request({ ':path': `/${String(index)}`, ':method': 'POST' });
        const reply = replyOf(stream);
        stream.end(body);
        return reply;
      }),
    );
    expect(replies.every(({ body }, index) => body.equals(bodies[index] ?? Buffer.alloc(0)))).toBe(true);
  });

  it('is denied with a body that says what to do', async () => {
    lab = await Lab.start({ rules: [{ allow: false, host: '*' }], serveHttp2: () => undefined });
    const socket = await lab.tunnel('api.example.com:443', { alpn: ['h2'] });
    client = http2.connect('https://api.example.com', { createConnection: () => socket });
    const reply = await replyOf(client.request({ ':path': '/' }));
    expect(reply.headers).toMatchObject({ ':status': 403, 'x-kz-error': 'denied' });
    expect(reply.body.toString()).toContain('.keyzero.toml:1');
  });

  it('passes a reset on, in both directions', async () => {
    const codes: number[] = [];
    const paths: (string | undefined)[] = [];
    lab = await Lab.start({
      serveHttp2: (stream, headers) => {
        paths.push(headers[':path']);
        stream.on('close', () => codes.push(stream.rstCode));
        if (headers[':path'] === '/server') {
          stream.respond({ ':status': 200 });
          stream.write('part');
          // `close` would end the body first.
          setImmediate(() => {
            stream.destroy(new Error('broken'));
          });
        }
      },
    });
    const session = await connect(lab);
    const reply = await replyOf(session.request({ ':path': '/server' }));
    expect(reply.rstCode).toBe(http2.constants.NGHTTP2_INTERNAL_ERROR);
    const mine = session.request({ ':path': '/client', ':method': 'POST' });
    mine.write('x');
    const ended = replyOf(mine);
    await expect.poll(() => paths).toContain('/client');
    mine.close(http2.constants.NGHTTP2_CANCEL);
    await ended;
    await expect.poll(() => codes).toEqual([http2.constants.NGHTTP2_INTERNAL_ERROR, http2.constants.NGHTTP2_CANCEL]);
  });
});
