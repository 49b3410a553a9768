// Published attack 1, the answer's side: a server that repeats the swapped value. Every place of an answer, every coding and every usual encoding
// (agent-vault #258, nono #946, toolhive #5293); whoever enciphers the echo beats it.
import type http from 'node:http';
import http2 from 'node:http2';
import { brotliCompressSync, deflateRawSync, deflateSync, gzipSync } from 'node:zlib';
import { afterEach, describe, expect, it } from 'vitest';
import { Lab, type Reply } from '../proxy/lab.ts';
import { RawUpstream, Wire } from './wire.ts';

let lab: Lab | undefined;
let upstream: RawUpstream | undefined;
let session: http2.ClientHttp2Session | undefined;

afterEach(async () => {
  session?.destroy();
  await lab?.close();
  upstream?.close();
  lab = upstream = session = undefined;
});

type Echo = (value: string, response: http.ServerResponse) => void;

/** The answer to a request whose token was swapped. */
async function echoed(
  echo: Echo,
  { value, method = 'GET' }: { value?: string; method?: string } = {},
): Promise<{ readonly lab: Lab; readonly reply: Reply }> {
  const started = await Lab.start({
    secrets: [{ name: 'TOKEN', hosts: ['api.example.com'], ...(value === undefined ? {} : { value }) }],
    serve: (request, response) => {
      echo(Buffer.from(String(request.headers['x-api-key']), 'latin1').toString(), response);
    },
  });
  lab = started;
  const reply = await started.ask('https://api.example.com/', { method, headers: { 'x-api-key': started.token() } });
  started.examine(reply.body);
  started.examine([...reply.rawHeaders, ...Object.values(reply.trailers)].join('\n'));
  return { lab: started, reply };
}

/** zstd of RFC 8878 by hand: one frame with one raw block. */
function zstd(text: string): Buffer {
  const header = Buffer.alloc(3);
  header.writeUIntLE((Buffer.byteLength(text) << 3) | 1, 0, 3);
  return Buffer.concat([Buffer.from([0x28, 0xb5, 0x2f, 0xfd, 0x20, Buffer.byteLength(text)]), header, Buffer.from(text)]);
}

const CODINGS: readonly (readonly [string, (text: string) => Buffer])[] = [
  ['gzip', gzipSync],
  ['x-gzip', gzipSync],
  ['deflate', deflateSync],
  ['deflate', deflateRawSync],
  ['br', brotliCompressSync],
  ['zstd', zstd],
  ['gzip, gzip', (text) => gzipSync(gzipSync(text))],
  ['br, gzip', (text) => gzipSync(brotliCompressSync(text))],
  ['GZIP, identity', gzipSync],
];

describe('an echo in a compressed body', () => {
  it.each(CODINGS)('compressed echo: %s', async (coding, compress) => {
    const { lab, reply } = await echoed((value, response) => {
      response.setHeader('content-encoding', coding);
      response.end(compress(`your key is ${value}.`));
    });
    expect(reply.headers['content-encoding']).toBeUndefined();
    expect(reply.text).toBe(`your key is ${lab.token()}.`);
    await expect.poll(() => lab.exchanges[0]?.remasked, { timeout: 10_000 }).toEqual(['TOKEN']);
  });
});

const AWKWARD = 'CANARY-"<&\'>/+%=ü 5f\\e8';
const html = (text: string) =>
  text
    .replace(/[&<>"']/g, (character) => `&#${String(character.charCodeAt(0))};`)
    .replaceAll('&#38;', '&amp;')
    .replaceAll('&#60;', '&lt;')
    .replaceAll('&#62;', '&gt;')
    .replaceAll('&#34;', '&quot;');

const ENCODINGS: readonly (readonly [string, (text: string) => string, (encoded: string) => string])[] = [
  ...[0, 1, 2].map((shift) => {
    const encode = (text: string) => Buffer.from(`${'x'.repeat(shift)}${text} tail`).toString('base64');
    return [`base64 behind ${String(shift)} bytes`, encode, (text: string) => Buffer.from(text, 'base64').toString()] as const;
  }),
  [
    'base64 that ends with the value',
    (text) => Buffer.from(`user:${text}`).toString('base64'),
    (text) => Buffer.from(text, 'base64').toString(),
  ],
  ['base64url', (text) => Buffer.from(`xx${text}?>`).toString('base64url'), (text) => Buffer.from(text, 'base64url').toString()],
  ['hexadecimal', (text) => Buffer.from(text).toString('hex'), (text) => Buffer.from(text, 'hex').toString()],
  ['hexadecimal in upper case', (text) => Buffer.from(text).toString('hex').toUpperCase(), (text) => Buffer.from(text, 'hex').toString()],
  ['percent-encoding', encodeURIComponent, decodeURIComponent],
  ['percent-encoding in lower case', (text) => encodeURIComponent(text).replace(/%../g, (code) => code.toLowerCase()), decodeURIComponent],
  ['a form', (text) => new URLSearchParams({ k: text }).toString(), (text) => new URLSearchParams(text).get('k') ?? ''],
  ['JSON', (text) => JSON.stringify(text), (text) => String(JSON.parse(text))],
  ['JSON in JSON', (text) => JSON.stringify(JSON.stringify(text)), (text) => String(JSON.parse(String(JSON.parse(text))))],
  ['JSON with escaped slashes', (text) => JSON.stringify(text).replaceAll('/', '\\/'), (text) => String(JSON.parse(text))],
  ['HTML', html, (text) => text],
];

describe('an echo in another encoding', () => {
  it.each(ENCODINGS)('encoded echo: %s', async (_what, encode, decode) => {
    const { lab, reply } = await echoed((value, response) => response.end(encode(value)), { value: AWKWARD });
    expect(reply.text).not.toContain(encode(AWKWARD));
    expect(decode(reply.text)).not.toContain(AWKWARD);
    expect(decode(reply.text)).toContain(lab.token());
  });
});

describe('an echo in pieces', () => {
  it.each([undefined, 'text/event-stream', 'application/octet-stream'])('split echo: in chunks of one byte, as %s', async (type) => {
    const { lab, reply } = await echoed((value, response) => {
      if (type !== undefined) response.setHeader('content-type', type);
      for (const byte of Buffer.from(`data: ${value}\n\n`)) response.write(Buffer.from([byte]));
      response.end();
    });
    expect(reply.text).toBe(`data: ${lab.token()}\n\n`);
  });

  it('split echo: over the frames of HTTP/2', async () => {
    const started = await Lab.start({
      serveHttp2: (stream, headers) => {
        stream.respond({ ':status': 200, 'x-echo': headers['x-api-key'] }, { waitForTrailers: true });
        stream.once('wantTrailers', () => {
          stream.sendTrailers({ 'x-trail': headers['x-api-key'] });
        });
        for (const byte of Buffer.from(String(headers['x-api-key']))) stream.write(Buffer.from([byte]));
        stream.end();
      },
    });
    lab = started;
    const socket = await started.tunnel('api.example.com:443', { alpn: ['h2'] });
    session = http2.connect('https://api.example.com', { createConnection: () => socket });
    const stream = session.request({ ':path': '/', 'x-api-key': started.token() });
    const got: unknown[] = [];
    stream.on('response', (headers) => got.push(headers));
    stream.on('trailers', (headers) => got.push(headers));
    const chunks: Buffer[] = [];
    for await (const chunk of stream as AsyncIterable<Buffer>) chunks.push(chunk);
    expect(Buffer.concat(chunks).toString()).toBe(started.token());
    expect(got).toMatchObject([{ 'x-echo': started.token() }, { 'x-trail': started.token() }]);
    started.examine(JSON.stringify(got));
  });
});

/** Everything but a body, and bodies whose length may not change. */
const PLACES: readonly (readonly [string, Echo, string?])[] = [
  ['a header', (value, response) => response.setHeader('x-echo', `a ${value} b`).end()],
  ['the name of a header', (value, response) => response.setHeader(`X-${value}`, 'x').end()],
  ['Set-Cookie', (value, response) => response.setHeader('set-cookie', ['a=b', `k=${value}; HttpOnly`]).end()],
  [
    'WWW-Authenticate of a 401',
    (value, response) => response.writeHead(401, { 'www-authenticate': `Basic realm="${value}"` }).end(`no: ${value}`),
  ],
  ['Location of a redirect', (value, response) => response.writeHead(302, { location: `https://evil.example.net/?k=${value}` }).end()],
  ['Refresh and Link', (value, response) => response.writeHead(200, { refresh: `0; url=/?${value}`, link: `</${value}>` }).end()],
  ['CORS headers', (value, response) => response.writeHead(204, { 'access-control-allow-headers': value }).end(), 'OPTIONS'],
  [
    'a trailer',
    (value, response) => {
      response.writeHead(200, { trailer: 'x-trail' });
      response.write('body');
      response.addTrailers({ 'x-trail': value });
      response.end();
    },
  ],
  ['the header of a 304', (value, response) => response.writeHead(304, { etag: `"${value}"` }).end()],
  ['the header of an answer to HEAD', (value, response) => response.writeHead(200, { 'x-echo': value, 'content-length': 9 }).end(), 'HEAD'],
  [
    'a part',
    (value, response) => response.writeHead(206, { 'content-range': 'bytes 0-99/200', 'content-type': 'text/plain' }).end(`x${value}y`),
  ],
  [
    'parts',
    (value, response) =>
      response.writeHead(206, { 'content-type': 'multipart/byteranges; boundary=b' }).end(`--b\r\n\r\n${value}\r\n--b--`),
  ],
  [
    'a download of known length',
    (value, response) => {
      const body = Buffer.concat([Buffer.alloc(100_000, 1), Buffer.from(value), Buffer.alloc(100_000, 2)]);
      response.writeHead(200, { 'content-type': 'application/octet-stream', 'content-length': body.length }).end(body);
    },
  ],
  ['an error page, 400', (value, response) => response.writeHead(400).end(`bad request: ${value}`)],
  [
    'an error page, 500',
    (value, response) => response.writeHead(500, { 'content-type': 'text/html' }).end(`<pre>X-Api-Key: ${value}</pre>`),
  ],
];

describe('an echo in any place', () => {
  it.each(PLACES.map(([what, echo, method = 'GET']) => [what, echo, method] as const))('reflection: %s', async (_what, echo, method) => {
    const { lab, reply } = await echoed(echo, { method });
    const all = [...reply.rawHeaders, reply.body.toString('latin1'), JSON.stringify(reply.trailers)].join('\n');
    // At the length of the value where that may not change.
    expect(all).toContain(lab.token().slice(0, lab.value().length));
  });

  it('reflection: the status line', async () => {
    const started = await Lab.start({
      serve: (request, response) => response.writeHead(200, `OK ${String(request.headers['x-api-key'])}`).end(),
    });
    lab = started;
    const wire = new Wire(await started.tunnel('api.example.com:443'));
    wire.write(`GET / HTTP/1.1\r\nHost: api.example.com\r\nX-Api-Key: ${started.token()}\r\n\r\n`);
    const [answer] = await wire.answers(1);
    expect(answer?.head).toMatch(new RegExp(`^HTTP/1\\.1 200 OK ${started.token()}\r\n`));
    started.examine(wire.text);
  });

  it('reflection: an early hint', async () => {
    upstream = await RawUpstream.start((socket, soFar) => {
      const value = /x-api-key: (\S+)/i.exec(soFar)?.[1] ?? '';
      socket.write(`HTTP/1.1 103 Early Hints\r\nLink: </${value}>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n`);
    });
    const started = await Lab.start({ secrets: [{ name: 'TOKEN', hosts: ['api.example.com:80'] }], dial: { open: upstream.open } });
    lab = started;
    const wire = new Wire(await started.connect('api.example.com:80'));
    wire.write(`GET / HTTP/1.1\r\nHost: api.example.com\r\nX-Api-Key: ${started.token()}\r\n\r\n`);
    await wire.until(() => wire.text.includes('200 OK'));
    expect(upstream.seen.join('')).toContain(started.value());
    started.examine(wire.text);
  });
});
