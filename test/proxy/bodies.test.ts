// Bodies of every length and framing, in both directions and over both protocols.
import { readdirSync } from 'node:fs';
import zlib from 'node:zlib';
import { afterEach, describe, expect, it } from 'vitest';
import { onHead, Scene } from './scene.ts';

const scene = new Scene();
afterEach(() => scene.end());

const MIB = 2 ** 20;
const HOSTS = ['api.example.com', 'api.example.com:80'];
const SECRETS = [{ name: 'TOKEN', hosts: HOSTS }];
const URL_TLS = 'https://api.example.com/';

/** A JSON text of exactly this length with the token near its end. */
function json(length: number): string {
  const end = `","api_key":"${scene.lab.token()}"}`;
  const start = '{"text":"';
  return length < 2 ? '1'.repeat(length) : start + 'x'.repeat(length - start.length - end.length) + end;
}

describe('the body of a request', () => {
  it.each([0, 1, 200, MIB - 1, MIB, MIB + 1, 5 * MIB])('of %i bytes arrives with its own length', async (length) => {
    await scene.start({ secrets: SECRETS });
    const { lab } = scene;
    const body = json(length);
    expect(body).toHaveLength(length);
    const reply = await scene.ask(URL_TLS, {
      method: 'POST',
      headers: { 'content-type': 'application/json', 'content-length': length },
      body,
    });
    expect(reply.text).toBe('ok');
    const expected = body.replace(lab.token(), lab.value());
    expect(lab.received[0]?.headers['content-length']).toBe(String(expected.length));
    expect(lab.received[0]?.headers['transfer-encoding']).toBeUndefined();
    expect(lab.received[0]?.body.equals(Buffer.from(expected))).toBe(true);
    expect(lab.exchanges).toMatchObject([{ swapped: length < 2 ? [] : [{ name: 'TOKEN', where: 'body api_key' }] }]);
    expect(readdirSync(lab.folder)).toEqual([]);
  });

  it.each([
    ['application/json', 'not even JSON \\ " '],
    ['application/json', '{"api_key":"kz_masked_"}'],
    ['application/x-www-form-urlencoded', 'a=%D0%BF%zz&kz%5Fmasked=%'],
  ])('that is large and holds no token arrives as it came: %s', async (type, text) => {
    await scene.start({ secrets: SECRETS });
    const body = text.repeat(Math.ceil((2 * MIB) / text.length));
    await scene.ask(URL_TLS, { method: 'POST', headers: { 'content-type': type, 'content-length': body.length }, body });
    expect(scene.lab.received[0]?.headers['content-length']).toBe(String(body.length));
    expect(scene.lab.received[0]?.body.equals(Buffer.from(body))).toBe(true);
    expect(scene.lab.exchanges).toMatchObject([{ swapped: [] }]);
  });

  it('that is large may hold a token that is escaped', async () => {
    await scene.start({ secrets: SECRETS });
    const form = (token: string): string => `a=${'%20'.repeat(MIB)}&api_key=${token}`;
    const body = form(scene.lab.token().replaceAll('_', '%5F'));
    const headers = { 'content-type': 'application/x-www-form-urlencoded', 'content-length': body.length };
    await scene.ask(URL_TLS, { method: 'POST', headers, body });
    const expected = form(encodeURIComponent(scene.lab.value()));
    expect(scene.lab.received[0]?.headers['content-length']).toBe(String(expected.length));
    expect(scene.lab.received[0]?.body.equals(Buffer.from(expected))).toBe(true);
  });

  it('waits in a file without a name while it comes', async () => {
    await scene.start({ secrets: SECRETS });
    const child = scene.child(await scene.lab.tunnel('api.example.com:443'));
    const body = json(3 * MIB);
    child.socket.write(
      `POST / HTTP/1.1\r\nHost: api.example.com\r\nContent-Type: application/json\r\nContent-Length: ${String(body.length)}\r\n\r\n`,
    );
    child.socket.write(body.slice(0, 2 * MIB));
    await expect.poll(() => readdirSync(scene.lab.folder)).toEqual([]);
    expect(scene.lab.received).toEqual([]);
    child.socket.write(body.slice(2 * MIB));
    await child.until('\r\n\r\nok');
    expect(scene.lab.received[0]?.body).toHaveLength(body.length - scene.lab.token().length + scene.lab.value().length);
  });

  it('without a length stays without', async () => {
    await scene.start({ secrets: SECRETS });
    const body = json(2 * MIB);
    await scene.ask(URL_TLS, { method: 'POST', headers: { 'content-type': 'application/json', 'transfer-encoding': 'chunked' }, body });
    expect(scene.lab.received[0]?.headers).toMatchObject({ 'transfer-encoding': 'chunked' });
    expect(scene.lab.received[0]?.body.toString()).toBe(body.replace(scene.lab.token(), scene.lab.value()));
  });

  it.each([
    ['gzip', zlib.gzipSync, zlib.gunzipSync],
    ['br', zlib.brotliCompressSync, zlib.brotliDecompressSync],
    ['deflate', zlib.deflateSync, zlib.inflateSync],
  ] as const)('in %s is swapped inside', async (coding, encode, decode) => {
    await scene.start({ secrets: SECRETS });
    const text = json(300_000);
    const body = encode(text);
    await scene.ask(URL_TLS, {
      method: 'POST',
      headers: { 'content-type': 'application/json', 'content-encoding': coding, 'content-length': body.length },
      body,
    });
    const [received] = scene.lab.received;
    expect(received?.headers['content-encoding']).toBe(coding);
    expect(decode(received?.body ?? Buffer.alloc(0)).toString()).toBe(text.replace(scene.lab.token(), scene.lab.value()));
  });

  it('in a coding that nobody here knows is refused where something might have to be swapped, and passes elsewhere', async () => {
    await scene.start({ secrets: SECRETS });
    const ask = {
      method: 'POST',
      headers: { 'content-type': 'application/json', 'content-encoding': 'compress', 'content-length': 4 },
      body: 'abcd',
    };
    const reply = await scene.ask(URL_TLS, ask);
    expect(reply).toMatchObject({ status: 415, headers: { 'x-kz-error': 'body-encoding' } });
    expect(reply.text).toContain('Content-Encoding compress cannot be rewritten');
    expect(scene.lab.exchanges).toMatchObject([{ decision: 'blocked', why: 'encoding' }]);
    expect((await scene.ask('https://other.example.com/', ask)).status).toBe(200);
    expect(scene.lab.received).toMatchObject([{ headers: { 'content-encoding': 'compress' } }]);
  });
});

describe('the body of a response', () => {
  const size = 200_000;

  function serving(headers: Record<string, string>, body: () => Buffer | string): Promise<unknown> {
    return scene.start({
      secrets: SECRETS,
      serve: (request, response) => {
        response.writeHead(request.headers.range === undefined ? 200 : 206, { 'content-length': Buffer.byteLength(body()), ...headers });
        response.end(request.method === 'HEAD' ? undefined : body());
      },
    });
  }

  const withValue = (): string => `${'a'.repeat(size)} ${scene.lab.value()} end`;

  it('that is short keeps having a length', async () => {
    await serving({ 'content-type': 'application/json' }, () => `{"echo":"${scene.lab.value()}"}`);
    const reply = await scene.ask(URL_TLS);
    expect(reply.text).toBe(`{"echo":"${scene.lab.token()}"}`);
    expect(reply.headers['content-length']).toBe(String(reply.text.length));
  });

  it('of long text goes on in chunks', async () => {
    await serving({ 'content-type': 'text/html; charset=utf-8' }, withValue);
    const reply = await scene.ask(URL_TLS);
    expect(reply.headers).toMatchObject({ 'transfer-encoding': 'chunked' });
    expect(reply.headers['content-length']).toBeUndefined();
    expect(reply.text.slice(size)).toBe(` ${scene.lab.token()} end`);
  });

  it.each([
    ['that is long and binary', 'application/zip', {}],
    ['that is a part', 'text/plain', { range: 'bytes=0-300000' }],
  ])('%s keeps its length', async (_what, type, headers) => {
    await serving({ 'content-type': type }, withValue);
    const reply = await scene.ask(URL_TLS, { headers });
    expect(reply.headers['content-length']).toBe(String(withValue().length));
    expect(reply.body).toHaveLength(withValue().length);
    await expect.poll(() => scene.lab.exchanges).toMatchObject([{ remasked: ['TOKEN'], error: null }]);
  });

  it.each([
    ['gzip', zlib.gzipSync],
    ['br', zlib.brotliCompressSync],
    ['deflate', zlib.deflateSync],
  ] as const)('in %s is searched inside', async (coding, encode) => {
    await serving({ 'content-type': 'text/plain', 'content-encoding': coding }, () => encode(withValue()));
    const reply = await scene.ask(URL_TLS);
    expect(reply.headers['content-encoding']).toBeUndefined();
    expect(reply.text.slice(size)).toBe(` ${scene.lab.token()} end`);
  });

  it.each([
    ['HEAD', 'HTTP/1.1 200 OK\r\nContent-Length: 12345'],
    ['GET', 'HTTP/1.1 304 Not Modified\r\nContent-Length: 12345'],
    ['GET', 'HTTP/1.1 204 No Content\r\nX-Empty: yes'],
  ])('that is none keeps its fields: %s %s', async (method, head) => {
    await scene.start({ raw: (socket) => onHead(socket, () => socket.write(`${head}\r\n\r\n`)) });
    const child = await scene.send(
      `${method} http://api.example.com/ HTTP/1.1\r\nHost: api.example.com\r\nConnection: close\r\n{login}\r\n\r\n`,
    );
    const all = await child.closed();
    expect(all).toMatch(new RegExp(`^${head.replaceAll('.', '\\.')}\r\n`));
    expect(child.body).toBe('');
    expect(all).not.toMatch(/transfer-encoding/i);
  });

  it.each(['HTTP/1.0', 'HTTP/1.1'])(
    'of an upstream of HTTP/1.0, which ends with its connection, reaches a child of %s',
    async (version) => {
      await scene.start({
        raw: (socket) => onHead(socket, () => socket.end('HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nall of it')),
      });
      const child = await scene.send(
        `GET http://api.example.com/ ${version}\r\nHost: api.example.com\r\nConnection: close\r\n{login}\r\n\r\n`,
      );
      const all = await child.closed();
      expect(child.how).toBe('end');
      if (version === 'HTTP/1.0') expect(child.body).toBe('all of it');
      else expect(child.body).toBe('9\r\nall of it\r\n0\r\n\r\n');
      expect(all).toMatch(/^HTTP\/1.1 200 OK\r\n/);
    },
  );

  it('of events gives each as it comes', async () => {
    const ready: (() => void)[] = [];
    await scene.start({
      secrets: SECRETS,
      serve: (_request, response) => {
        response.writeHead(200, { 'content-type': 'text/event-stream' });
        response.flushHeaders();
        ready.push(() => response.write(`data: ${scene.lab.value()}\n\n`));
      },
    });
    const child = scene.child(await scene.lab.tunnel('api.example.com:443'));
    child.socket.write('GET /events HTTP/1.1\r\nHost: api.example.com\r\n\r\n');
    await child.until('text/event-stream');
    for (let sent = 1; sent <= 20; sent += 1) {
      ready[0]?.();
      await child.until(`data: ${scene.lab.token()}\n\n`, sent);
    }
  });
});

describe('fields', () => {
  it('keep their order, their case and their number, byte by byte', async () => {
    const answer = ['Set-Cookie: b=2', 'X-MiXeD: \xe4\xf6', 'set-cookie: a=1', 'SET-COOKIE: c=3', 'x-empty: '];
    let head = '';
    await scene.start({
      raw: (socket) =>
        onHead(socket, (text) => {
          head = text;
          socket.write(`HTTP/1.1 200 Fine, thanks\r\n${answer.join('\r\n')}\r\nContent-Length: 0\r\n\r\n`, 'latin1');
        }),
    });
    const sent = ['X-One: 1', 'x-ONE: 2', 'Cookie: a=\xe9', 'cOOkie: b'];
    const child = await scene.send(
      `GET http://api.example.com/a//b/../%7e?q=%20 HTTP/1.1\r\nHost: api.example.com\r\n{login}\r\n${sent.join('\r\n')}\r\n\r\n`,
    );
    await child.until('\r\n\r\n');
    expect(child.text).toMatch(/^HTTP\/1.1 200 Fine, thanks\r\n/);
    expect(child.text).toContain(`\r\n${answer.join('\r\n')}\r\n`);
    expect(head).toContain(`\r\n${sent.join('\r\n')}\r\n`);
    expect(head).toMatch(/^GET \/a\/\/b\/\.\.\/%7e\?q=%20 HTTP\/1.1\r\n/);
  });

  it('behind the body arrive in both directions', async () => {
    let received = '';
    await scene.start({
      secrets: SECRETS,
      serve: (request, response) => {
        request.resume().on('end', () => {
          received = JSON.stringify(request.trailers);
          response.writeHead(200, { trailer: 'X-Sum' });
          response.write('body');
          response.addTrailers({ 'X-Sum': `of ${scene.lab.value()}` });
          response.end();
        });
      },
    });
    const child = scene.child(await scene.lab.tunnel('api.example.com:443'));
    child.socket.write(
      'POST / HTTP/1.1\r\nHost: api.example.com\r\nTE: trailers\r\nTrailer: X-Check\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nX-Check: 42\r\n\r\n',
    );
    await child.until(`0\r\nX-Sum: of ${scene.lab.token()}\r\n\r\n`);
    expect(received).toBe('{"x-check":"42"}');
    await expect.poll(() => scene.lab.exchanges).toMatchObject([{ remasked: ['TOKEN'] }]);
  });
});
