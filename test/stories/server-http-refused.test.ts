// What `kz server` refuses over HTTP, whoever asks: URLs, methods, paths and headers that would take a value elsewhere, and requests that are none.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Json } from './server-parts.ts';
import { Scene, type Served } from './server-scene.ts';

let scene: Scene;
let served: Served;

const url = (path: string): string => `https://api.example${path}`;

beforeAll(async () => {
  scene = await Scene.start();
  served = await scene.serveEveryKind();
});

afterAll(async () => {
  await scene.end();
});

describe('refuses a fetch', () => {
  it.each<[string, string | (() => string), string?]>([
    ['to another host', 'https://evil.example/'],
    ['to a host that starts the same', 'https://api.example.evil.example/'],
    ['to a host below', 'https://x.api.example/'],
    ['without TLS', 'http://api.example/'],
    ['of another scheme', 'file:///etc/passwd'],
    ['of a scheme in capitals', 'GOPHER://api.example/'],
    ['of data', 'data:text/plain,hello'],
    ['without a scheme', '//api.example/'],
    ['with a user', 'https://api.example@evil.example/'],
    ['with a password', 'https://a:b@api.example/'],
    ['with a backslash', 'https://api.example\\@evil.example/'],
    ['with a fragment for a host', 'https://evil.example#@api.example/'],
    ['with a space', 'https://api.example /'],
    ['with a line end', 'https://api.example/\r\nHost: evil.example'],
    ['with a tab in the host', 'https://api.exa\tmple/'],
    ['with one slash', 'https:/api.example/'],
    ['with three slashes', 'https:///api.example/'],
    ['with an escaped host', 'https://%65vil.example/'],
    ['to this machine', 'https://127.0.0.1/'],
    ['to this machine, as a number', 'https://2130706433/'],
    ['to this machine, as IPv6', 'https://[::1]/'],
    ['to the cloud’s metadata', 'http://169.254.169.254/latest/meta-data/'],
    ['to a private address', 'https://10.0.0.1/'],
    ['to a port that is not the resource’s', () => `https://localhost:${String(scene.upstream.plainPort)}/`],
    ['to this very server', () => `${served.url}/v1/resolve`],
  ])('%s', async (_, target, code = 'url-forbidden') => {
    const before = scene.upstream.connects.length;
    const answer = await served.fetch({ url: typeof target === 'string' ? target : target() });
    expect(answer, answer.text).toMatchObject({ status: 403, json: { code } });
    expect(scene.upstream.connects.length).toBe(before);
  });

  it('to a private address behind a wildcard', async () => {
    const before = scene.upstream.received.length;
    const answer = await served.fetch({ resource: 'wild/pat', url: `https://b.a.localhost:${String(scene.upstream.port)}/` });
    expect([403, 502], answer.text).toContain(answer.status);
    expect(scene.upstream.received.length).toBe(before);
    // The wildcard itself works.
    expect((await served.fetch({ resource: 'wild/pat', url: 'https://b.a.example/' })).json.status).toBe(200);
  });

  it.each(['PUT', 'DELETE', 'CONNECT', 'TRACE', 'get it', 'GET\r\nX: y', ''])('with the method %j', async (method) => {
    const before = scene.upstream.received.length;
    const { status } = await served.fetch({ url: url('/method'), method });
    expect([400, 403]).toContain(status);
    expect(scene.upstream.received.length).toBe(before);
  });

  it.each(['/admin', '/public/../admin', '/public/%2e%2e/admin', '/public/..%2fadmin', '/public/..;/admin', '/%2570ublic/x', '/PUBLIC/a'])(
    'to the path %s',
    async (path) => {
      const before = scene.upstream.received.length;
      const answer = await served.fetch({ resource: 'paths/pat', url: url(path) });
      expect(answer, answer.text).toMatchObject({ status: 403, json: { code: 'url-forbidden' } });
      expect(scene.upstream.received.length).toBe(before);
    },
  );

  it.each<[string, Json, string?]>([
    ['its own credential', { authorization: 'Bearer mine' }],
    ['its own credential, in other letters', { AUTHORIZATION: 'Bearer mine' }],
    ['another host', { host: 'evil.example' }],
    ['another length', { 'content-length': '5' }],
    ['another framing', { 'transfer-encoding': 'chunked' }],
    ['another method', { 'x-http-method-override': 'DELETE' }],
    ['another path', { 'x-original-url': '/admin' }],
    ['a cookie', { cookie: 'session=1' }],
    ['a credential for proxies', { 'proxy-authorization': 'Basic x' }],
    ['for another user', { 'impersonate-user': 'root' }],
    ['a hop', { connection: 'authorization' }],
    ['an upgrade', { upgrade: 'websocket' }],
    ['a line end in a value', { 'x-a': 'b\r\nauthorization: mine' }],
    ['a line end alone', { 'x-a': 'b\nc' }],
    ['NUL', { 'x-a': 'b\0c' }],
    ['a line end in a name', { 'x-a: b\r\nx-c': 'd' }],
    ['an empty name', { '': 'x' }],
    ['the same name twice', { 'X-A': '1', 'x-a': '2' }],
    ['a part of the answer', { range: 'bytes=0-3' }],
  ])('with headers for %s', async (_, headers, code = 'header-forbidden') => {
    const before = scene.upstream.received.length;
    const answer = await served.fetch({ url: url('/headers'), headers });
    expect(answer, answer.text).toMatchObject({ status: 400, json: { code } });
    expect(scene.upstream.received.length).toBe(before);
  });

  it('with the header of the credential, in the spelling of CGI', async () => {
    const forbidden = await served.fetch({ resource: 'key/pat', url: url('/'), headers: { X_Api_Key: 'mine' } });
    expect(forbidden).toMatchObject({ status: 400, json: { code: 'header-forbidden' } });
    const query = await served.fetch({ resource: 'query/pat', url: url('/?key=mine') });
    expect(query).toMatchObject({ status: 403, json: { code: 'url-forbidden' } });
  });

  it('with a resolver that is not the resource’s', async () => {
    expect(await served.fetch({ url: url('/'), resolver: 'vault' })).toMatchObject({ status: 400, json: { code: 'resolver-mismatch' } });
    expect((await served.fetch({ url: url('/'), resolver: 'gh' })).status).toBe(200);
  });
});

describe('refuses a request', () => {
  const body = { resource: 'github/raw' };
  const deep = '['.repeat(200) + ']'.repeat(200);

  it.each<[string, string, () => Parameters<Served['ask']>[1], number]>([
    ['that is no JSON', '/v1/resolve', () => ({ body: '{"resource":' }), 400],
    ['that is not UTF-8', '/v1/resolve', () => ({ body: Buffer.from('{"resource":"\xff"}', 'latin1') }), 400],
    ['that is a list', '/v1/resolve', () => ({ body: '[]' }), 400],
    ['that is empty', '/v1/resolve', () => ({ body: '' }), 400],
    ['that asks for nothing', '/v1/resolve', () => ({ body: {} }), 400],
    ['that asks twice', '/v1/resolve', () => ({ body: { ...body, ref: 'a' } }), 400],
    ['with an unknown key', '/v1/resolve', () => ({ body: { ...body, [scene.value]: scene.value } }), 400],
    ['with a key of prototypes', '/v1/resolve', () => ({ body: '{"resource":"github/raw","__proto__":{}}' }), 400],
    ['of 65 KB', '/v1/resolve', () => ({ body: { ...body, context: { a: 'x'.repeat(65_536) } } }), 413],
    ['with 17 KB of context', '/v1/resolve', () => ({ body: { ...body, context: { a: 'x'.repeat(17_000) } } }), 413],
    ['that is nested deeply', '/v1/resolve', () => ({ body: `{"resource":"github/raw","context":{"a":${deep}}}` }), 400],
    [
      'of more than 100 refs',
      '/v1/resolve',
      () => ({ body: { refs: Array.from({ length: 101 }, (_, index) => `a/${String(index)}`) } }),
      400,
    ],
    ['of another type', '/v1/resolve', () => ({ body, headers: { 'content-type': 'text/plain' } }), 415],
    ['that is compressed', '/v1/resolve', () => ({ body, headers: { 'content-encoding': 'gzip' } }), 415],
    ['of more than 1 MiB', '/v1/fetch', () => ({ body: { resource: 'github/pat', url: url('/'), body: 'x'.repeat(1_048_576) } }), 413],
    ['without a url', '/v1/fetch', () => ({ body: { resource: 'github/pat' } }), 400],
    ['with another method', '/v1/resolve', () => ({ method: 'GET' }), 405],
    ['to another path', '/v1/secrets', () => ({ body }), 404],
    ['under another name', '/v1/resolve', () => ({ body, headers: { host: 'evil.example' } }), 403],
    ['of a web page', '/v1/resolve', () => ({ body, headers: { origin: 'https://evil.example' } }), 403],
  ])('%s', async (_, path, question, status) => {
    const answer = await served.ask(path, { jwt: scene.token(), ...question() });
    expect(answer.status, answer.text).toBe(status);
    expect(answer.json).toMatchObject({ error: expect.any(String) as string, code: expect.any(String) as string });
    expect(answer.text).not.toContain('    at ');
  });

  it('to a path that climbs, or is written otherwise', async () => {
    for (const path of ['/healthz/../v1/resolve', '/v1//resolve', '/v1/resolve/', '/V1/resolve', '/v1/%72esolve']) {
      const text = `POST ${path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`;
      expect(await served.raw(text), path).toMatch(/^HTTP\/1\.1 404 /);
    }
  });

  it('with a head that two readers could understand differently', async () => {
    const both = 'POST /v1/resolve HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n';
    const bare = 'GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-A: b\nX-B: c\r\n\r\n';
    const hosts = 'GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\nConnection: close\r\n\r\n';
    for (const bytes of [both, bare, hosts]) expect(await served.raw(bytes), bytes).toMatch(/^HTTP\/1\.1 400 /);
    const large = `GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: ${'x'.repeat(40_000)}\r\n\r\n`;
    expect(await served.raw(large)).toMatch(/^HTTP\/1\.1 431 /);
  });
});

it('asks a backend after a policy has allowed it, and after the request was found good, never before', async () => {
  const own = await Scene.start();
  try {
    // Writes down what it is asked for.
    own.story.write('backend.sh', `#!/bin/sh\necho "$1" >> asked\necho '${own.value}'\n`, 0o700);
    own.keepOut('backend.sh');
    own.story.write('asked', '');
    own.bundle({ backends: { gh: { type: 'exec', command: ['./backend.sh'] } } });
    const asked = (): string => readFileSync(join(own.story.project, 'asked'), 'utf8');
    const server = await own.serve();
    const stranger = own.token({ org: 'other' });
    await server.resolve('github/raw', { jwt: stranger });
    await server.fetch({ url: url('/') }, { jwt: stranger });
    await server.resolve('github/raw', { jwt: 'x.y.z' });
    await server.resolve('prod/pat');
    await server.fetch({ url: 'https://evil.example/' });
    await server.fetch({ url: url('/'), headers: { authorization: 'mine' } });
    // A token stands for the value and does not need it.
    await server.resolve('github/pat');
    expect(asked()).toBe('');
    expect((await server.fetch({ url: url('/') })).json.status).toBe(200);
    expect(asked()).toBe('GITHUB_PAT\n');
    expect(await server.resolved('github/raw', { reveals: true })).toMatchObject({ value: own.value });
  } finally {
    await own.end();
  }
});
