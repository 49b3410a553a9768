// What comes back, from real TLS upstreams that echo, break off, never end or hide the value.
import type http from 'node:http';
import type net from 'node:net';
import zlib from 'node:zlib';
import { expect, it } from 'vitest';
import { BEARER, canary, failureOf, fetchFrom, REF } from './fetching.ts';
import { startUpstreams, type Upstreams } from './upstream.ts';

const URL_ = 'https://api.test/';
const MARK = `[redacted:${REF}]`;

function serving(serve: http.RequestListener): Promise<Upstreams> {
  return startUpstreams({ serve });
}

/** Answers the first bytes of each connection with these, then ends it. */
function answering(...pieces: (string | Buffer)[]): Promise<Upstreams> {
  return startUpstreams({
    raw: (socket) => {
      socket.once('data', () => {
        for (const piece of pieces) socket.write(piece);
        socket.end();
      });
    },
  });
}

async function gone(socket: net.Socket | undefined): Promise<void> {
  if (socket === undefined) throw new Error('there was no connection');
  if (!socket.closed) await new Promise((resolve) => socket.once('close', resolve));
}

it('takes the value out of a body that echoes it, in every usual spelling', async () => {
  const value = canary();
  const bytes = Buffer.from(value);
  const spellings = [value, bytes.toString('base64'), bytes.toString('hex'), Buffer.from(`a:${value}`).toString('base64')];
  const upstreams = await serving((request, response) => {
    expect(request.headers.authorization).toBe(`Bearer ${value}`);
    response.end(JSON.stringify({ headers: request.headers, spellings }));
  });
  const result = await fetchFrom(upstreams, URL_, { value });
  expect(result).toMatchObject({ status: 200, remasked: true, truncated: false, bodyEncoding: 'utf8', searchable: true });
  expect(result.body).toContain(`"authorization":"Bearer ${MARK}"`);
  for (const spelling of spellings) expect(result.body).not.toContain(spelling.slice(4, -4));
});

it('takes the value out of header values and names, and says nothing of the status text', async () => {
  const value = canary();
  const upstreams = await answering(
    `HTTP/1.1 200 ${value}\r\nX-Echo: Bearer ${value}\r\nX-${value}: 1\r\nLocation: https://x.test/?t=${value}\r\nContent-Length: 0\r\n\r\n`,
  );
  const result = await fetchFrom(upstreams, URL_, { value });
  expect(result.headers).toEqual({ 'x-echo': `Bearer ${MARK}`, [`X-${MARK}`]: '1', location: `https://x.test/?t=${MARK}` });
  expect(result.remasked).toBe(true);
  expect(JSON.stringify(result)).not.toContain(value);
});

it.each([
  ['gzip', (body: Buffer) => zlib.gzipSync(body)],
  ['deflate', (body: Buffer) => zlib.deflateSync(body)],
  ['br', (body: Buffer) => zlib.brotliCompressSync(body)],
  ['gzip, br', (body: Buffer) => zlib.brotliCompressSync(zlib.gzipSync(body))],
])('takes the value out of a body in %s', async (coding, compress) => {
  const value = canary();
  const upstreams = await serving((_request, response) => {
    response.writeHead(200, { 'content-encoding': coding, 'content-type': 'text/plain' }).end(compress(Buffer.from(`<${value}>`)));
  });
  const result = await fetchFrom(upstreams, URL_, { value });
  expect(result).toMatchObject({ body: `<${MARK}>`, headers: { 'content-type': 'text/plain' }, remasked: true });
  expect(result.headers).not.toHaveProperty('content-encoding');
  expect(result.headers).not.toHaveProperty('content-length');
});

it('finds a value that comes in two chunks, wherever it is cut', async () => {
  const value = canary();
  const body = `<${value}>`;
  const upstreams = await startUpstreams({
    raw: (socket) => {
      socket.on('data', (data) => {
        const cut = Number(/\/(\d+)/.exec(data.toString('latin1'))?.[1]);
        const [one, two] = [body.slice(0, cut), body.slice(cut)];
        socket.write('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n');
        socket.write(`${one.length.toString(16)}\r\n${one}\r\n`, () => {
          socket.write(`${two.length.toString(16)}\r\n${two}\r\n0\r\n\r\n`);
        });
      });
    },
  });
  for (let cut = 1; cut < body.length; cut += 1) {
    expect((await fetchFrom(upstreams, `${URL_}${String(cut)}`, { value })).body, `cut at ${String(cut)}`).toBe(`<${MARK}>`);
  }
});

it('finds a value that comes byte by byte', async () => {
  const value = canary();
  const upstreams = await serving((_request, response) => {
    const bytes = [...Buffer.from(`<${value}>`)];
    const next = (): void => {
      const byte = bytes.shift();
      if (byte === undefined) response.end();
      else response.write(Buffer.of(byte), () => setImmediate(next));
    };
    next();
  });
  expect((await fetchFrom(upstreams, URL_, { value })).body).toBe(`<${MARK}>`);
});

it('cuts an answer of 100 MB, marks it, and does not read on', async () => {
  const block = Buffer.alloc(64 * 1024, 'a');
  let written = 0;
  const upstreams = await serving((_request, response) => {
    response.on('error', () => undefined);
    const more = (): void => {
      while (written < 100 * 1024 * 1024 && !response.destroyed) {
        written += block.length;
        if (!response.write(block)) {
          response.once('drain', more);
          return;
        }
      }
      response.end();
    };
    more();
  });
  const result = await fetchFrom(upstreams, URL_);
  expect(result).toMatchObject({ status: 200, truncated: true });
  expect(result.body.length).toBe(1024 * 1024);
  await gone(upstreams.connections[0]);
  expect(written).toBeLessThan(30 * 1024 * 1024);
});

it('cuts an answer without an end', async () => {
  const upstreams = await serving((_request, response) => {
    const more = (): void => {
      if (!response.destroyed) response.write('0123456789abcdef'.repeat(64), () => setImmediate(more));
    };
    response.on('error', () => undefined);
    more();
  });
  expect(await fetchFrom(upstreams, URL_, { limit: 10_000 })).toMatchObject({
    truncated: true,
    body: expect.stringMatching(/^.{10000}$/) as string,
  });
  await gone(upstreams.connections[0]);
});

it('cuts a decompression bomb', async () => {
  const bomb = zlib.gzipSync(Buffer.alloc(64 * 1024 * 1024));
  const upstreams = await serving((_request, response) => {
    response.writeHead(200, { 'content-encoding': 'gzip', 'content-type': 'text/plain' }).end(bomb);
  });
  const result = await fetchFrom(upstreams, URL_);
  expect(result.truncated).toBe(true);
  expect(result.body.length).toBe(1024 * 1024);
  await gone(upstreams.connections[0]);
});

it('never ends inside a value, wherever it cuts', async () => {
  const value = canary();
  const upstreams = await serving((_request, response) => {
    response.end(`0123456789${value}${'x'.repeat(100)}`);
  });
  for (let limit = 8; limit < 60; limit += 1) {
    const { body, truncated } = await fetchFrom(upstreams, URL_, { value, limit });
    expect(truncated).toBe(true);
    expect(`0123456789${MARK}${'x'.repeat(100)}`.startsWith(body)).toBe(true);
  }
});

it('drops what may be the start of a value when it cuts', async () => {
  const value = canary();
  const upstreams = await startUpstreams({
    raw: (socket) => {
      socket.once('data', () => {
        socket.write(`HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n${'x'.repeat(100)}${value.slice(0, -1)}`);
      });
    },
  });
  const { body, truncated } = await fetchFrom(upstreams, URL_, { value, limit: 99 });
  expect({ body, truncated }).toEqual({ body: 'x'.repeat(99), truncated: true });
});

it('does not end inside a character', async () => {
  const upstreams = await serving((_request, response) => response.end('aä☃𝄞'.repeat(20)));
  for (let limit = 20; limit < 40; limit += 1) {
    const { body, bodyEncoding } = await fetchFrom(upstreams, URL_, { limit });
    expect(bodyEncoding).toBe('utf8');
    expect('aä☃𝄞'.repeat(20).startsWith(body)).toBe(true);
    expect(Buffer.byteLength(body)).toBeGreaterThan(limit - 4);
  }
});

it('gives a body of exactly the limit whole', async () => {
  const upstreams = await serving((_request, response) => response.end('0123456789'));
  expect(await fetchFrom(upstreams, URL_, { limit: 10 })).toMatchObject({ body: '0123456789', truncated: false });
});

it('gives a binary body as base64, without the value', async () => {
  const value = canary();
  const binary = Buffer.concat([Buffer.of(0, 255, 254), Buffer.from(value), Buffer.of(0, 1, 2)]);
  const upstreams = await serving((_request, response) => response.writeHead(200, { 'content-type': 'image/png' }).end(binary));
  const { body, bodyEncoding } = await fetchFrom(upstreams, URL_, { value });
  expect(bodyEncoding).toBe('base64');
  expect(Buffer.from(body, 'base64')).toEqual(Buffer.concat([Buffer.of(0, 255, 254), Buffer.from(MARK), Buffer.of(0, 1, 2)]));
});

it('takes the value out of a body in UTF-16', async () => {
  const value = canary();
  const upstreams = await serving((_request, response) => response.end(Buffer.from(`\ufeff<${value}>`, 'utf16le')));
  const { body, bodyEncoding } = await fetchFrom(upstreams, URL_, { value });
  expect(bodyEncoding).toBe('base64');
  expect(Buffer.from(body, 'base64').toString('utf16le')).toBe(`\ufeff<${MARK}>`);
});

it.each([
  ['HEAD', 200],
  ['GET', 204],
  ['GET', 304],
])('gives %s %i without a body', async (method, status) => {
  const upstreams = await serving((_request, response) => {
    response.writeHead(status, status === 200 ? { 'content-length': '5', 'content-encoding': 'gzip' } : { etag: '"x"' }).end();
  });
  expect(await fetchFrom(upstreams, { url: URL_, method })).toMatchObject({
    status,
    body: '',
    truncated: false,
    headers: status === 200 ? { 'content-length': '5' } : { etag: '"x"' },
  });
});

it('passes over interim answers', async () => {
  const upstreams = await answering(
    'HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n',
    'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok',
  );
  expect(await fetchFrom(upstreams, URL_)).toMatchObject({ status: 200, body: 'ok', headers: {} });
});

it('gives a redirect as it is, and follows none', async () => {
  const value = canary();
  const upstreams = await serving((_request, response) => {
    response.writeHead(302, { location: `https://evil.test/?token=${value}` }).end();
  });
  const result = await fetchFrom(upstreams, URL_, { value });
  expect(result).toMatchObject({ status: 302, headers: { location: `https://evil.test/?token=${MARK}` } });
  expect(upstreams.dialled).toEqual(['203.0.112.1:443']);
});

it('drops the session that a credential has bought, and says so', async () => {
  const upstreams = await serving((_request, response) => {
    response.writeHead(200, { 'set-cookie': ['session=abc', 'b=c'], 'x-kz-error': 'not ours', 'alt-svc': 'h3=":443"' }).end('ok');
  });
  const { headers } = await fetchFrom(upstreams, URL_);
  expect(headers['x-kz-dropped']).toBe('set-cookie');
  expect(JSON.stringify(headers)).not.toContain('session=abc');
  expect(headers).not.toHaveProperty('x-kz-error');
  expect(headers).not.toHaveProperty('alt-svc');
});

it('joins repeated headers, keeps strange names apart from the object, and cleans what moves a cursor', async () => {
  const upstreams = await answering(
    Buffer.from('HTTP/1.1 200 OK\r\nVary: a\r\nvary: b\r\n__proto__: x\r\nX-T: a\tb\r\n', 'latin1'),
    Buffer.from('X-Utf8: bücher \u202e\u200b\r\nContent-Length: 0\r\n\r\n', 'utf8'),
  );
  const { headers } = await fetchFrom(upstreams, URL_);
  expect(Object.entries(headers)).toEqual([
    ['vary', 'a, b'],
    ['__proto__', 'x'],
    ['x-t', 'a b'],
    ['x-utf8', 'bücher \ufffd\ufffd'],
  ]);
});

it.each([
  ['a coding that nobody knows', 'Content-Encoding: compress\r\nContent-Length: 2\r\n\r\nok'],
  ['a coding behind another', 'Content-Encoding: gzip\r\nContent-Encoding: secret\r\nContent-Length: 2\r\n\r\nok'],
  ['a transfer coding', 'Transfer-Encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n'],
  ['what is not gzip', 'Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\nok'],
  ['fewer bytes than it announced', 'Content-Length: 100\r\n\r\nok'],
  ['half a chunk', 'Transfer-Encoding: chunked\r\n\r\nff\r\nok'],
  ['no chunk at all', 'Transfer-Encoding: chunked\r\n\r\nzz\r\nok'],
  ['huge headers', `X-A: ${'a'.repeat(70_000)}\r\nContent-Length: 0\r\n\r\n`],
  ['two lengths', 'Content-Length: 2\r\nContent-Length: 3\r\n\r\nok'],
])('fails for an answer with %s, without a word of it', async (_what, rest) => {
  const upstreams = await answering(`HTTP/1.1 200 OK\r\nX-Words: UPSTREAM-WORDS\r\n${rest}`);
  const failure = await failureOf(() => fetchFrom(upstreams, URL_));
  expect(failure.code).toBe('upstream-failed');
  expect(failure.text).not.toContain('UPSTREAM-WORDS');
});

it.each([
  ['an answer that is not HTTP', 'SSH-2.0-OpenSSH_9.9\r\n'],
  ['no answer', ''],
  ['an upgrade that nobody asked for', 'HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n'],
])('fails for %s', async (_what, answer) => {
  const upstreams = await answering(answer);
  expect((await failureOf(() => fetchFrom(upstreams, URL_))).code).toBe('upstream-failed');
});

it('says when a value is too short to be searched for, and finds it as it was sent', async () => {
  const upstreams = await serving((request, response) => response.end(`${String(request.headers.authorization)} k3y`));
  expect(await fetchFrom(upstreams, URL_, { value: 'k3y', location: BEARER })).toMatchObject({
    body: `Bearer ${MARK} k3y`,
    searchable: false,
    remasked: true,
  });
});
