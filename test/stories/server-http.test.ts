// `kz server` over HTTP, as a workload meets it: what it gives and denies, and that nothing but mode direct gives a value away.
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { waitFor } from './processes.ts';
import { BIG } from './server-parts.ts';
import { Scene, type Answer, type Served } from './server-scene.ts';

let scene: Scene;

const url = (path: string): string => `https://api.example${path}`;

/** What the upstream got last. */
const received = () => scene.upstream.received.at(-1);

describe('one server', () => {
  let served: Served;

  beforeAll(async () => {
    scene = await Scene.start();
    served = await scene.serveEveryKind();
  });

  afterAll(async () => {
    await scene.end();
  });

  describe('gives', () => {
    it('a token instead of the value', async () => {
      const found = await served.resolved('github/pat');
      expect(found).toMatchObject({ allowed: true, policy: 'acme', mode: 'masked', token: expect.stringMatching(/^KZ_TOK_/) as string });
      expect(found.ttl).toBeGreaterThan(890);
      expect(found).not.toHaveProperty('value');
    });

    it('another token each time', async () => {
      const tokens = [await served.resolved('github/pat'), await served.resolved('github/pat')].map(({ token }) => token);
      expect(new Set(tokens).size).toBe(2);
    });

    it('the value in mode direct, and not to the audit log', async () => {
      const found = await served.resolved('github/raw', { reveals: true });
      expect(found).toEqual({ allowed: true, policy: 'acme', mode: 'direct', value: scene.value });
      expect(await served.decision('github/raw')).toMatchObject({ outcome: 'allowed', mode: 'direct', resolver: 'gh' });
    });

    it('a JWT in mode short_lived', async () => {
      const { token, mode, ttl } = await served.resolved('github/short');
      expect(mode).toBe('short_lived');
      expect(ttl).toBeGreaterThan(290);
      const [header = '', payload = ''] = String(token).split('.');
      expect(JSON.parse(Buffer.from(header, 'base64url').toString())).toMatchObject({ alg: 'ES256' });
      expect(JSON.parse(Buffer.from(payload, 'base64url').toString())).toMatchObject({ resource: 'github/short', aud: 'keyzero-proxy' });
    });

    it('several at once, each with its own answer', async () => {
      const refs = ['github/pat', 'prod/pat', 'nope', 'github/raw', 'a//b'];
      const answer = await served.ask('/v1/resolve', { jwt: scene.token(), body: { resources: refs }, reveals: true });
      expect(answer.status).toBe(200);
      expect(answer.json.results).toMatchObject({
        'github/pat': { allowed: true, mode: 'masked' },
        'prod/pat': { allowed: false, policy: 'no-prod', code: 'denied' },
        nope: { allowed: false, code: 'ref-unknown' },
        'github/raw': { allowed: true, value: scene.value },
        'a//b': { allowed: false, code: 'ref-invalid' },
      });
    });

    it('a request with the value, and the answer without it, however it is spelled', async () => {
      const answer = await served.fetch({ url: url('/user?q=1'), method: 'POST', headers: { 'x-mine': 'yes' }, body: 'hello' });
      expect(answer.status, answer.text).toBe(200);
      expect(received()).toMatchObject({ method: 'POST', host: 'api.example', path: '/user?q=1' });
      expect(received()?.headers).toMatchObject({ authorization: `Bearer ${scene.value}`, 'x-mine': 'yes' });
      const { status, headers, body, truncated, body_encoding: encoding } = answer.json;
      expect({ status, truncated, encoding }).toEqual({ status: 200, truncated: false, encoding: 'utf8' });
      const echoed = JSON.parse(String(body)) as Record<string, string>;
      expect(echoed).toMatchObject({ url: '/user?q=1', body: 'hello' });
      // The upstream has sent it four times.
      expect(Object.values(echoed).join('\n') + JSON.stringify(headers)).not.toContain(scene.value);
      expect(echoed.credential).toMatch(/^Bearer ./);
      expect(await served.decision('github/pat', 'fetch')).toMatchObject({
        ...{ tool: 'fetch', face: 'http', host: 'api.example', method: 'POST', path: '/user', status: 200, outcome: 'allowed', code: null },
      });
    });

    it.each([
      ['local/pat', () => `https://localhost:${String(scene.upstream.port)}/here`, 'authorization', () => `Bearer ${scene.value}`],
      ['basic/pat', () => url('/'), 'authorization', () => `Basic ${Buffer.from(`ci:${scene.value}`).toString('base64')}`],
      ['key/pat', () => url('/'), 'x-api-key', () => scene.value],
      ['glob/GITHUB/pat', () => url('/'), 'authorization', () => `Bearer ${scene.value}`],
    ])('the credential where the resource wants it: %s', async (resource, target, header, value) => {
      const { json, text } = await served.fetch({ resource, url: target() });
      expect(json.status, text).toBe(200);
      expect(received()?.headers[header]).toBe(value());
    });

    it('the credential in the query, which is in no log', async () => {
      const { json, text } = await served.fetch({ resource: 'query/pat', url: url('/a?b=c') });
      expect(json.status, text).toBe(200);
      expect(received()?.path).toBe(`/a?b=c&key=${scene.value}`);
      expect(await served.decision('query/pat')).toMatchObject({ path: '/a' });
    });

    it('bytes as base64', async () => {
      const { json } = await served.fetch({ url: url('/binary') });
      expect(json).toMatchObject({
        status: 200,
        body_encoding: 'base64',
        body: Buffer.from([0x89, 0x50, 0, 0xff, 0xfe, 1]).toString('base64'),
      });
    });

    it('sends bytes that come as base64', async () => {
      const { json } = await served.fetch({
        url: url('/'),
        method: 'POST',
        body: Buffer.from([0, 255, 1]).toString('base64'),
        body_encoding: 'base64',
      });
      expect(JSON.parse(String(json.body))).toMatchObject({ body: '\0\xff\x01' });
    });

    it('a redirect, which it does not follow, and no session', async () => {
      const { json } = await served.fetch({ url: url('/redirect') });
      expect(json).toMatchObject({ status: 302, headers: { location: 'https://elsewhere.example/next', 'x-kz-dropped': 'set-cookie' } });
      expect(json.headers).not.toHaveProperty('set-cookie');
      expect(scene.upstream.received.map(({ host }) => host)).not.toContain('elsewhere.example');
    });

    it('the beginning of 100 MB, marked, and reads no further', async () => {
      const memory = await residentMemory(served);
      const { json, status } = await served.fetch({ url: url('/big') });
      expect({ status, cut: json.truncated, length: String(json.body).length }).toEqual({ status: 200, cut: true, length: 1024 * 1024 });
      expect((await residentMemory(served)) - memory).toBeLessThan(BIG / 2);
    });

    it('who is allowed by a rule about the request', async () => {
      const jwt = scene.token({ org: 'readers' });
      expect((await served.fetch({ url: url('/') }, { jwt })).json.status).toBe(200);
      expect((await served.fetch({ url: url('/'), method: 'POST' }, { jwt })).status).toBe(403);
      // What is a path like that is decided by the server behind it, so nothing that is read in two ways counts.
      const path = scene.token({ org: 'path' });
      expect((await served.fetch({ url: url('/public/a') }, { jwt: path })).json.status).toBe(200);
      for (const trick of [
        '/public/../admin',
        '/public/%2e%2e/admin',
        '/public/..%2fadmin',
        '/%70ublic/../admin',
        '//public/a',
        '/admin?/public/',
      ]) {
        expect((await served.fetch({ url: url(trick) }, { jwt: path })).status, trick).toBe(403);
      }
    });

    it('health, readiness and numbers, to everybody', async () => {
      const [health, ready, metrics] = await Promise.all(['/healthz', '/readyz', '/metrics'].map((path) => served.ask(path)));
      expect(health).toMatchObject({ status: 200, json: { status: 'ok', bundle_loaded: true, bundle_version: '1' } });
      expect(ready).toMatchObject({ status: 200, json: { status: 'ok', problems: [] } });
      expect(metrics?.headers['content-type']).toMatch(/^text\/plain; version=0\.0\.4/);
      expect(metrics?.text).toMatch(/^kz_decisions_total\{face="http",tool="resolve",outcome="allowed",policy="acme"\} [1-9]/m);
      expect(metrics?.text).toMatch(/^kz_request_duration_seconds_count\{route="\/v1\/fetch",status="200"\} [1-9]/m);
      expect(metrics?.headers['cache-control']).toBe('no-store');
    });
  });

  describe('denies', () => {
    it.each([
      ['what a policy denies', 'prod/pat', { status: 403, code: 'denied', policy: 'no-prod' }],
      ['the value of it too', 'prod/raw', { status: 403, code: 'denied', policy: 'no-prod' }],
      ['what is not there, to whom it may know', 'github/other', { status: 404, code: 'ref-unknown' }],
    ])('%s', async (_, ref, { status, ...result }) => {
      const answer = await served.resolve(ref);
      expect(answer.status, answer.text).toBe(status);
      expect(answer.json).toMatchObject({ code: result.code, results: { [ref]: { allowed: false, ...result } } });
      expect(await served.decision(ref)).toMatchObject({ outcome: 'denied', code: result.code });
    });

    it('whoever no policy allows, before it says what there is', async () => {
      const jwt = scene.token({ org: 'other' });
      const answers = await Promise.all(['github/pat', 'github/nope'].map((ref) => served.resolve(ref, { jwt })));
      expect(answers.map(({ status, json }) => [status, json.code])).toEqual([
        [403, 'denied'],
        [403, 'denied'],
      ]);
      const [there, not] = answers.map(({ text }) => text.replace(/github\/(pat|nope)/g, 'X'));
      expect(there).toBe(not);
      expect((await served.fetch({ url: url('/secret') }, { jwt })).status).toBe(403);
      expect(received()?.path).not.toBe('/secret');
    });

    it('a fetch whose value is missing, or has lines, without a word of the backend', async () => {
      const missing = await served.fetch({ resource: 'github/none', url: url('/none') });
      expect(missing).toMatchObject({ status: 502, json: { code: 'secret-unavailable' } });
      expect(missing.text).not.toContain('multi.env');
      const lines = await served.fetch({ resource: 'github/lines', url: url('/lines') });
      expect(lines.status).toBeGreaterThanOrEqual(400);
      expect(scene.upstream.received.map(({ path }) => path)).not.toEqual(expect.arrayContaining(['/none']));
      expect(scene.upstream.received.map(({ path }) => path)).not.toEqual(expect.arrayContaining(['/lines']));
    });

    it.each([
      '../github/pat',
      'github/../prod/pat',
      'github/./pat',
      'github%2fpat',
      'github/%2e%2e/pat',
      'github\\pat',
      'github/pat\0',
      '/github/pat',
    ])('a ref that climbs: %j', async (ref) => {
      const answer = await served.resolve(ref, { reveals: false });
      expect(answer).toMatchObject({ status: 400, json: { code: 'ref-invalid' } });
      expect(await served.fetch({ resource: ref, url: url('/climb') })).toMatchObject({ status: 400, json: { code: 'ref-invalid' } });
      expect(received()?.path).not.toBe('/climb');
    });

    it.each([
      'github/pat/',
      'github//pat',
      'github/*',
      'GITHUB/PAT',
      'github/pat ',
      'gïthub/pat',
      'github/pat#x',
      '',
      '__proto__',
      'x'.repeat(600),
    ])('a ref that is almost one: %j', async (ref) => {
      const { status } = await served.resolve(ref);
      expect([400, 404]).toContain(status);
    });

    it('an expression that would make others backtrack for ever: it is decided at once', async () => {
      const jwt = scene.token({ org: 'other' });
      const bomb = `${'a'.repeat(12_000)}!`;
      const before = performance.now();
      expect((await served.resolve('github/pat', { jwt, context: { bomb } })).status).toBe(403);
      expect(performance.now() - before).toBeLessThan(2000);
      expect((await served.resolve('github/pat', { jwt, context: { bomb: 'aaa' } })).status).toBe(200);
    });
  });

  it('tells an upload that nobody asked for to stop, and answers it', async () => {
    const head = [
      'POST /v1/fetch HTTP/1.1',
      'Host: localhost',
      'Content-Type: application/json',
      'Content-Length: 1000000',
      'Expect: 100-continue',
    ];
    const answer = await served.raw([...head, 'Authorization: Bearer x.y.z', 'Connection: close', '', ''].join('\r\n'));
    expect(answer).toMatch(/^HTTP\/1\.1 401 /);
  });

  it('notices a client that goes away, and gives its request up', async () => {
    const jwt = scene.token({ sub: 'impatient' });
    const gone = new AbortController();
    const body = JSON.stringify({ resource: 'github/pat', url: url('/hang') });
    const lost = fetch(`${served.url}/v1/fetch`, {
      ...{ method: 'POST', body, signal: gone.signal },
      headers: { authorization: `Bearer ${jwt}`, 'content-type': 'application/json' },
    });
    await waitFor('the request', () => received()?.path === '/hang');
    gone.abort();
    await expect(lost).rejects.toThrow();
    await waitFor('the audit line', () => served.decisions.some(({ sub, code }) => sub === 'impatient' && code === 'cancelled'));
  });
});

async function residentMemory(served: Served): Promise<number> {
  const { text } = await served.ask('/metrics');
  const [, bytes] = /^process_resident_memory_bytes (\S+)$/m.exec(text) ?? [];
  return Number(bytes);
}

describe('another server', () => {
  beforeEach(async () => {
    scene = await Scene.start();
  });

  afterEach(async () => {
    await scene.end();
  });

  it('has a limit for each caller', async () => {
    const served = await scene.serve(['--rate', '1']);
    const ask = (sub: string): Promise<Answer> => served.resolve('github/pat', { jwt: scene.token({ sub }) });
    const answers: Answer[] = [];
    for (let count = 0; count < 8; count += 1) answers.push(await ask('greedy'));
    const refused = answers.find(({ status }) => status === 429);
    expect(refused?.json.code).toBe('rate-limited');
    expect(refused?.headers['retry-after']).toBe('1');
    expect((await ask('modest')).status).toBe(200);
    await waitFor('the audit line', () => served.decisions.some(({ code }) => code === 'rate-limited'));
    expect(served.decisions.find(({ code }) => code === 'rate-limited')).toMatchObject({ sub: 'greedy', outcome: 'denied' });
  });

  it('gives up on an upstream that does not answer', async () => {
    const served = await scene.serve(['--timeout', '200ms']);
    expect(await served.fetch({ url: url('/hang') })).toMatchObject({ status: 504, json: { code: 'upstream-timeout' } });
    expect(await served.decision('github/pat')).toMatchObject({ outcome: 'failed', code: 'upstream-timeout' });
  });

  it('trusts no upstream whose certificate it does not know', async () => {
    const served = await scene.serve([], { env: { SSL_CERT_FILE: '' } });
    expect(await served.fetch({ url: url('/') })).toMatchObject({ status: 502, json: { code: 'upstream-failed' } });
    expect(scene.upstream.received).toEqual([]);
  });

  it('signs no short-lived token without a key', async () => {
    const served = await scene.serve();
    expect(await served.resolve('github/short')).toMatchObject({ status: 403, json: { code: 'mode-forbidden' } });
  });
});
