import { once } from 'node:events';
import net from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import { call, closeLabs, lab, raw, type HttpLab } from './http-lab.ts';

afterEach(closeLabs);

describe('what is refused', () => {
  it('is another path, another method', async () => {
    const at = await lab();
    for (const path of [
      '/',
      '/v1',
      '/v1/resolve/',
      '/V1/resolve',
      '/healthz/../metrics',
      '/%68ealthz',
      '//healthz',
      '/mcp',
      '/__proto__',
    ]) {
      expect([path, (await call(at, path)).status]).toEqual([path, 404]);
    }
    const get = await call(at, '/v1/resolve');
    expect([get.status, get.headers.allow]).toEqual([405, 'POST']);
    const post = await call(at, '/healthz', { body: {} });
    expect([post.status, post.headers.allow]).toEqual([405, 'GET, HEAD']);
    expect((await call(at, '/v1/fetch', { method: 'OPTIONS' })).status).toBe(405);
  });

  it.each([
    ['text/plain', 415],
    ['application/x-www-form-urlencoded', 415],
    ['application/json; charset=latin1', 415],
    ['application/jsonp', 415],
    ['application/json; charset=UTF-8', 200],
    ['Application/JSON;charset="utf-8"', 200],
  ])('is another type: %s', async (type, status) => {
    expect((await call(await lab(), '/v1/resolve', { headers: { 'content-type': type }, body: { ref: 'a' } })).status).toBe(status);
  });

  it('is a compressed body', async () => {
    const { status, headers } = await call(await lab(), '/v1/resolve', { headers: { 'content-encoding': 'gzip' }, body: { ref: 'a' } });
    expect([status, headers['accept-encoding']]).toEqual([415, 'identity']);
  });

  it.each([
    ['', 'the body is not JSON in UTF-8'],
    ['{"ref": "CANARY-x"', 'the body is not JSON in UTF-8'],
    [Buffer.from('{"ref":"\xff"}', 'latin1'), 'the body is not JSON in UTF-8'],
    ['[]', 'the body must be an object'],
    ['null', 'the body must be an object'],
    ['"CANARY-x"', 'the body must be an object'],
    ['{}', 'the body must have `resource`'],
    ['{"ref":1}', '`resource` must be a ref, `resources` a list of refs'],
    ['{"refs":["a",["b"]]}', '`resource` must be a ref, `resources` a list of refs'],
    ['{"refs":[]}', 'no ref is asked for'],
    [JSON.stringify({ refs: Array.from({ length: 101 }, (_, index) => String(index)) }), 'more than 100 refs are asked for'],
    ['{"ref":"a","resource":"b"}', 'the body has both `resource` and `ref`'],
    ['{"ref":"a","resolver":["gh"]}', '`resolver` must be text'],
    ['{"ref":"a","context":"CANARY-x"}', '`context` must be an object'],
    ['{"ref":"a","context":[]}', '`context` must be an object'],
    ['{"ref":"a","__proto__":{"context":{}}}', 'the body has a key `__proto__`'],
    ['{"ref":"a","context":{"x":[{"__proto__":{"admin":true}}]}}', 'the body has a key `__proto__`'],
    [`{"ref":"a","context":{"x":${'['.repeat(32)}${']'.repeat(32)}}}`, 'the body is nested more than 32 deep'],
    ['['.repeat(30_000) + ']'.repeat(30_000), 'the body is nested more than 32 deep'],
  ])('is a body that says nothing: %.40s', async (body, error) => {
    const at = await lab();
    const { status, json, text } = await call(at, '/v1/resolve', { body });
    expect([status, json]).toEqual([400, expect.objectContaining({ error, code: 'request-invalid' })]);
    expect(text).not.toContain('CANARY');
    expect(at.asked).toEqual([]);
  });

  it('is a key that is not known, with the one that was meant', async () => {
    const at = await lab();
    expect((await call(at, '/v1/resolve', { body: { resorce: 'a' } })).json).toEqual({
      error: 'the body has an unknown key',
      code: 'request-invalid',
      hint: 'did you mean `resource`?',
    });
    const { text } = await call(at, '/v1/resolve', { body: { 'CANARY-key': 'a', ref: 'a' } });
    expect(text).toContain('the keys are resource, resources, ref, refs, resolver, context');
    expect(text).not.toContain('CANARY');
  });

  it('is a context that is too large', async () => {
    const at = await lab();
    const reply = await call(at, '/v1/resolve', { body: { ref: 'a', context: { x: 'é'.repeat(8190) } } });
    expect([reply.status, reply.json]).toEqual([413, { error: '`context` is larger than 16 KiB', code: 'too-large' }]);
    expect((await call(at, '/v1/resolve', { body: { ref: 'a', context: { x: 'é'.repeat(8000) } } })).status).toBe(200);
  });

  it.each([70_000, 3_000_000])('is a body of %d bytes, announced or not', async (size) => {
    const at = await lab();
    const body = ' '.repeat(size);
    const announced = await call(at, '/v1/resolve', { body });
    expect([announced.status, announced.headers.connection]).toEqual([413, 'close']);
    const chunked = await call(at, '/v1/resolve', { body, headers: { 'transfer-encoding': 'chunked' } });
    expect([chunked.status, chunked.headers.connection]).toEqual([413, 'close']);
    expect(chunked.json).toEqual({ error: 'the body is larger than 64 KiB', code: 'too-large' });
  });

  it('is an endless body: it is cut off, not read', async () => {
    const at = await lab();
    const socket = net.connect(Number(new URL(at.server.url).port), '127.0.0.1');
    socket.write(
      'POST /v1/resolve HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer good\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n',
    );
    const chunk = `10000\r\n${' '.repeat(65_536)}\r\n`;
    let sent = 0;
    const state = { isOpen: true };
    socket.resume().on('error', () => undefined);
    socket.once('close', () => {
      state.isOpen = false;
    });
    while (state.isOpen && sent < 1_000_000_000) {
      sent += chunk.length;
      if (!socket.write(chunk)) await Promise.race([once(socket, 'drain'), once(socket, 'close')]).catch(() => undefined);
    }
    // What lies in the buffers of the kernel between the two counts too.
    expect(sent).toBeLessThan(40_000_000);
  });

  it('is a head that is too large, and not one with a token of 8 KiB', async () => {
    const at = await lab();
    expect((await call(at, '/healthz', { headers: { authorization: `Bearer ${'x'.repeat(8192)}`, 'x-a': 'x'.repeat(8192) } })).status).toBe(
      200,
    );
    expect((await call(at, '/healthz', { headers: { 'x-a': 'x'.repeat(30_000) } })).status).toBe(431);
  });
});

describe('browsers', () => {
  it.each([
    'evil.example.com',
    'localhost.evil.example.com',
    '127.0.0.1.nip.io',
    '10.0.0.1',
    '169.254.169.254',
    '[::2]',
    'a b',
    'localhost:x',
    'localhost@evil.example.com',
  ])('that were rebound to loopback by %s are refused', async (host) => {
    const { status, json } = await call(await lab(), '/healthz', { headers: { host } });
    expect([status, (json as { code: string }).code]).toEqual([403, 'host-forbidden']);
  });

  it.each(['localhost', 'localhost:1', 'LOCALHOST:99', '127.0.0.1:65535', '[::1]:80', 'kz.example.com', 'KZ.example.com.:8443'])(
    'may use %s',
    async (host) => {
      expect((await call(await lab({ allowedHosts: ['kz.example.com'] }), '/healthz', { headers: { host } })).status).toBe(200);
    },
  );

  it('are told from probes off loopback: an address is no name', async () => {
    const hosts = ['kz.example.com', '10.1.2.3:8080', 'localhost', 'evil.example.com'];
    const statuses = async (at: HttpLab) =>
      Promise.all(hosts.map(async (host) => (await call(at, '/healthz', { headers: { host } })).status));
    expect(await statuses(await lab({ address: '0.0.0.0:0', allowedHosts: ['kz.example.com'] }))).toEqual([200, 200, 200, 403]);
    expect(await statuses(await lab({ address: '0.0.0.0:0' }))).toEqual([200, 200, 200, 200]);
  });

  it('of other pages are refused', async () => {
    const at = await lab({ allowedOrigins: ['https://app.example.com'] });
    for (const origin of [
      'https://evil.example.com',
      'null',
      'https://app.example.com.evil.com',
      'http://app.example.com',
      'http://127.0.0.1:1',
    ]) {
      const { status, json } = await call(at, '/v1/resolve', { headers: { origin }, body: { ref: 'a' } });
      expect([origin, status, (json as { code: string }).code]).toEqual([origin, 403, 'origin-forbidden']);
    }
    expect((await call(at, '/v1/resolve', { headers: { origin: 'https://app.example.com' }, body: { ref: 'a' } })).status).toBe(200);
    // This server has no pages; some clients say that they are one.
    expect((await call(at, '/v1/resolve', { headers: { origin: at.server.url }, body: { ref: 'a' } })).status).toBe(200);
    expect(at.asked).toEqual(['a', 'a']);
  });
});

describe('requests that two readers could understand differently', () => {
  const POST = 'POST /v1/resolve HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer good\r\nContent-Type: application/json\r\n';
  const smuggled = 'GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n';

  it.each([
    ['two lengths', `${POST}Content-Length: 11\r\nContent-Length: 0\r\n\r\n{"ref":"a"}${smuggled}`],
    ['a length and chunks', `${POST}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n${smuggled}`],
    ['chunks and a length', `${POST}Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n${smuggled}`],
    ['an unknown coding', `${POST}Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n${smuggled}`],
    ['a coding behind chunks', `${POST}Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n${smuggled}`],
    ['a length that is no number', `${POST}Content-Length: +11\r\n\r\n{"ref":"a"}${smuggled}`],
    ['a space before the colon', `${POST}Content-Length : 11\r\n\r\n{"ref":"a"}${smuggled}`],
    ['a folded header', `${POST}X-A: b\r\n Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n${smuggled}`],
    ['two hosts', `GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: evil.example.com\r\nConnection: close\r\n\r\n`],
    ['no host', `GET /healthz HTTP/1.1\r\nConnection: close\r\n\r\n${smuggled}`],
    ['no HTTP', `\u0016\u0003\u0001\u0002\r\n\r\n`],
  ])('are refused: %s', async (_, text) => {
    const at = await lab();
    const answer = await raw(at, text);
    expect(answer).toMatch(/^HTTP\/1\.1 400 /);
    expect(answer.match(/HTTP\/1\.1 /g)).toHaveLength(1);
    expect(at.asked).toEqual([]);
  });

  it('are whole addresses, tunnels and other protocols', async () => {
    const at = await lab();
    const whole = await raw(at, 'GET http://evil.example.com/healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n');
    expect(whole).toMatch(/^HTTP\/1\.1 404 /);
    expect(await raw(at, 'CONNECT evil.example.com:443 HTTP/1.1\r\nHost: localhost\r\n\r\n')).toBe('');
    const upgrade = 'GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade, close\r\nUpgrade: websocket\r\n\r\n';
    expect(await raw(at, upgrade)).toMatch(/^HTTP\/1\.1 200 /);
    expect(await raw(at, 'GET /healthz HTTP/1.0\r\n\r\n')).toMatch(/^HTTP\/1\.1 403 /);
  });
});
