import { afterEach, describe, expect, it } from 'vitest';
import { ServerFailure } from '../../../src/server/failure.ts';
import { call, CALLER, closeLabs, lab, raw } from './http-lab.ts';

afterEach(closeLabs);

describe('probes', () => {
  it('need no token', async () => {
    const at = await lab();
    const health = await call(at, '/healthz');
    expect([health.status, health.json]).toEqual([200, { status: 'ok', bundle_loaded: true, bundle_version: '7' }]);
    const ready = await call(at, '/readyz');
    expect([ready.status, ready.json]).toEqual([200, { status: 'ok', problems: [] }]);
    const metrics = await call(at, '/metrics');
    expect([metrics.status, metrics.headers['content-type']]).toEqual([200, 'text/plain; version=0.0.4; charset=utf-8']);
    expect(metrics.text).toContain('kz_request_duration_seconds_count{route="/healthz",status="200"} 1\n');
  });

  it('say what is missing, and ask for it once a second at most', async () => {
    let asked = 0;
    const problems = ['keys of issuer github cannot be had'];
    const at = await lab({
      ready: () => {
        asked += 1;
        return Promise.resolve({ ok: false, problems });
      },
    });
    const replies = await Promise.all(Array.from({ length: 20 }, () => call(at, '/readyz')));
    expect(replies.map(({ status }) => status)).toEqual(Array<number>(20).fill(503));
    expect(replies[0]?.json).toEqual({ status: 'unready', problems });
    expect(asked).toBe(1);
  });

  it('say so when something is missing, and callers are served all the same', async () => {
    const at = await lab({ ready: () => Promise.resolve({ ok: true, problems: ['issuer x: its keys cannot be had'] }) });
    const { status, json } = await call(at, '/readyz');
    expect([status, json]).toEqual([200, { status: 'degraded', problems: ['issuer x: its keys cannot be had'] }]);
  });

  it('answer HEAD', async () => {
    const reply = await call(await lab(), '/healthz', { method: 'HEAD' });
    expect([reply.status, reply.text]).toEqual([200, '']);
  });
});

describe('every answer', () => {
  it.each(['/healthz', '/v1/resolve', '/nowhere', '/metrics'])('of %s is not cached, not sniffed, and names no product', async (path) => {
    const { headers } = await call(await lab(), path);
    expect(headers).toMatchObject({ 'cache-control': 'no-store', 'x-content-type-options': 'nosniff' });
    expect(Object.keys(headers).filter((name) => /server|powered|access-control|etag/.test(name))).toEqual([]);
  });
});

describe('resolve', () => {
  it('answers by ref', async () => {
    const at = await lab();
    const { status, json } = await call(at, '/v1/resolve', { body: { resource: 'a/b' } });
    expect([status, json]).toEqual([
      200,
      { results: { 'a/b': { allowed: true, policy: 'ci-reads', mode: 'masked', token: 'KZ_TOK_a/b', ttl: 900 } } },
    ]);
  });

  it.each([{ ref: 'a' }, { resources: ['a'] }, { refs: ['a', 'a'] }, { resource: 'a', resolver: null, context: null }])(
    'takes %j',
    async (body) => {
      const at = await lab();
      expect((await call(at, '/v1/resolve', { body })).json).toHaveProperty('results.a.allowed', true);
      expect(at.asked).toEqual(['a']);
    },
  );

  it('passes on what else was said', async () => {
    const asks: unknown[] = [];
    const at = await lab({
      resolve: (caller, ask) => {
        asks.push(caller.sub, ask);
        return Promise.resolve({ allowed: true, policy: 'p', mode: 'direct', value: 'v' });
      },
    });
    await call(at, '/v1/resolve', { body: { resource: 'a', resolver: 'gh', context: { ticket: [1] } } });
    expect(asks).toEqual(['repo:acme/app', { ref: 'a', resolver: 'gh', context: { ticket: [1] } }]);
  });

  it('has the status of the failure when one ref was asked for', async () => {
    const at = await lab();
    const denied = await call(at, '/v1/resolve', { body: { resource: 'denied/x' } });
    const reason = 'resolve of denied/x is denied: no policy allows it';
    expect([denied.status, denied.json]).toEqual([
      403,
      { error: reason, code: 'denied', results: { 'denied/x': { allowed: false, code: 'denied', reason } } },
    ]);
    expect((await call(at, '/v1/resolve', { body: { resource: 'slow/x' } })).status).toBe(504);
  });

  it('is 200 when several were, each with its own answer', async () => {
    const at = await lab();
    const { status, json } = await call(at, '/v1/resolve', { body: { resources: ['a', 'denied/x', 'slow/x', 'b'] } });
    expect(status).toBe(200);
    expect(json).toMatchObject({
      results: {
        a: { allowed: true },
        'denied/x': { allowed: false, code: 'denied' },
        'slow/x': { allowed: false, code: 'secret-timeout' },
      },
    });
    expect(Object.keys((json as { results: object }).results)).toEqual(['a', 'denied/x', 'slow/x', 'b']);
  });

  it('keeps a ref that is the name of something in JavaScript', async () => {
    const { text } = await call(await lab(), '/v1/resolve', { body: { resources: ['__proto__', 'constructor', 'toString'] } });
    expect(text).toContain('"__proto__":{"allowed":true');
    expect(text).toContain('"constructor":{"allowed":true');
  });

  it('asks for a few at the same time', async () => {
    let now = 0;
    let most = 0;
    const at = await lab({
      resolve: async () => {
        most = Math.max(most, ++now);
        await new Promise(setImmediate);
        now -= 1;
        return { allowed: true, policy: 'p', mode: 'masked' };
      },
    });
    await call(at, '/v1/resolve', { body: { refs: Array.from({ length: 100 }, (_, index) => String(index)) } });
    expect(most).toBe(8);
  });

  it('tells nothing of a mistake of its own', async () => {
    const told: unknown[] = [];
    const at = await lab({ onInternal: (error) => told.push(error) });
    const { status, text } = await call(at, '/v1/resolve', { body: { resource: 'broken/x' } });
    expect([status, text.includes('CANARY')]).toEqual([500, false]);
    expect(told).toEqual([new Error('CANARY-internal')]);
  });
});

describe('fetch', () => {
  it('gives what the upstream answered, whatever its status', async () => {
    const body = {
      ...{ resource: 'github/pat', url: 'https://api.example.com/', method: 'PUT', headers: { a: 'b' } },
      ...{ body: 'eA==', body_encoding: 'base64', context: { a: 1 } },
    };
    const { status, json } = await call(await lab(), '/v1/fetch', { body });
    const { body: text, ...rest } = json as { body: string };
    expect([status, rest]).toEqual([200, { status: 404, headers: { 'x-a': '1' }, body_encoding: 'utf8', truncated: false }]);
    const { body_encoding: bodyEncoding, ...same } = body;
    expect(JSON.parse(text)).toEqual({ ...same, bodyEncoding });
  });

  it('has defaults', async () => {
    const { json } = await call(await lab(), '/v1/fetch', { body: { ref: 'a', url: 'https://api.example.com/' } });
    expect(JSON.parse((json as { body: string }).body)).toEqual({
      ...{ resource: 'a', url: 'https://api.example.com/', method: 'GET', headers: {}, bodyEncoding: 'utf8' },
    });
  });

  it('may be larger than a resolve', async () => {
    const at = await lab();
    const body = { resource: 'a', url: 'https://api.example.com/', body: 'x'.repeat(1_000_000) };
    expect((await call(at, '/v1/fetch', { body })).status).toBe(200);
    expect((await call(at, '/v1/fetch', { body: { ...body, body: 'x'.repeat(1_048_576) } })).status).toBe(413);
  });

  it.each([
    [{ url: 'https://x' }, 'the body must have `resource`'],
    [{ resource: 'a' }, 'the body must have `resource` and `url`'],
    [{ resource: 'a', ref: 'a', url: 'x' }, 'the body has both `resource` and `ref`'],
    [{ resource: 'a', url: 1 }, '`url` must be text'],
    [{ resource: 'a', url: 'x', headers: ['a'] }, '`headers` must be an object'],
    [{ resource: 'a', url: 'x', headers: { a: ['CANARY-h'] } }, 'every value in `headers` must be text'],
    [{ resource: 'a', url: 'x', body: { a: 1 } }, '`body` must be text'],
    [{ resource: 'a', url: 'x', body_encoding: 'hex' }, '`body_encoding` must be `utf8` or `base64`'],
    [
      { resource: 'a', url: 'x', headers: Object.fromEntries(Array.from({ length: 101 }, (_, i) => [`h${String(i)}`, ''])) },
      'there are more than 100 headers',
    ],
  ])('refuses %j', async (body, error) => {
    const { status, json } = await call(await lab(), '/v1/fetch', { body });
    expect([status, json]).toEqual([400, expect.objectContaining({ error, code: 'request-invalid' })]);
  });
});

describe('who asks', () => {
  it.each([
    ['nobody', undefined, 'jwt-missing', 'Bearer realm="kz"'],
    ['a name and password', 'Basic Z29vZDpnb29k', 'jwt-missing', 'Bearer realm="kz"'],
    ['an empty token', 'Bearer ', 'jwt-missing', 'Bearer realm="kz"'],
    ['a wrong token', 'Bearer CANARY-jwt', 'jwt-invalid', 'Bearer realm="kz", error="invalid_token"'],
    ['two tokens', 'Bearer CANARY-jwt good', 'jwt-invalid', 'Bearer realm="kz", error="invalid_token"'],
  ])('%s: 401', async (_, authorization, code, challenge) => {
    const at = await lab();
    const headers = { 'content-type': 'application/json', ...(authorization === undefined ? {} : { authorization }) };
    const reply = await call(at, '/v1/resolve', { method: 'POST', headers });
    expect([reply.status, reply.headers['www-authenticate']]).toEqual([401, challenge]);
    expect(reply.json).toMatchObject({ code });
    expect(reply.text).not.toContain('CANARY');
    expect(at.asked).toEqual([]);
    // Of what the service is asked about, it writes the line itself.
    expect(at.refused).toEqual(authorization === 'Bearer CANARY-jwt' ? [] : [{ code }]);
  });

  it.each<[string, Parameters<typeof call>[2], number, object[]]>([
    ['a body that is none', { body: 'CANARY' }, 400, [{ code: 'request-invalid', caller: CALLER, tool: 'resolve' }]],
    ['a body without a ref', { body: {} }, 400, [{ code: 'request-invalid', caller: CALLER, tool: 'resolve' }]],
    ['a body that is too large', { body: `"${'x'.repeat(70_000)}"` }, 413, []],
    [
      'one that is not announced',
      { body: 'x'.repeat(70_000), headers: { 'transfer-encoding': 'chunked' } },
      413,
      [{ code: 'too-large', caller: CALLER, tool: 'resolve' }],
    ],
    ['what the service is asked about', { body: { ref: 'denied/a' } }, 403, []],
  ])('has a line of its own for %s', async (_, what, status, refused) => {
    const at = await lab();
    expect((await call(at, '/v1/resolve', what)).status).toBe(status);
    expect(at.refused).toEqual(refused);
  });

  it('may write the scheme as it likes', async () => {
    const { status } = await call(await lab(), '/v1/resolve', { headers: { authorization: 'bEARER   good' }, body: { ref: 'a' } });
    expect(status).toBe(200);
  });

  it('sends one token, and none in the address', async () => {
    const at = await lab();
    const twice = await raw(
      at,
      `POST /v1/resolve HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer good\r\nAuthorization: Bearer x\r\nConnection: close\r\n\r\n`,
    );
    expect(twice).toMatch(/^HTTP\/1\.1 400 /);
    const { status, json } = await call(at, '/v1/resolve?access_token=good', { body: { ref: 'a' } });
    expect([status, json]).toEqual([400, { error: 'this path takes no query', code: 'request-invalid' }]);
  });

  it('is asked before the body is read', async () => {
    const at = await lab();
    const head =
      'POST /v1/fetch HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 1000\r\nExpect: 100-continue\r\n';
    const stranger = await raw(at, `${head}\r\n`);
    expect(stranger).toMatch(/^HTTP\/1\.1 401 .*connection: close/is);
    expect(stranger).not.toContain('100 Continue');
    expect(at.limits.inFlight).toBe(0);
  });

  it('is invited to send the body when it is known', async () => {
    const at = await lab();
    const reply = await call(at, '/v1/resolve', { headers: { expect: '100-continue' }, body: { ref: 'a' } });
    expect(reply.status).toBe(200);
  });

  it('is told when the keys of its issuer cannot be had', async () => {
    const verify = (): Promise<never> => Promise.reject(new ServerFailure('keys-unavailable', 'the keys cannot be had'));
    const at = await lab({ service: { bundleVersion: '1', verify, refused: () => undefined } });
    const reply = await call(at, '/v1/resolve', { body: { ref: 'a' } });
    expect([reply.status, reply.headers['www-authenticate']]).toEqual([503, undefined]);
  });
});
