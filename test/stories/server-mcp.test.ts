// `kz server start --mcp` as agents meet it: clients of both generations of the SDK over standard input and output. No tool gives a value away.
import type { IncomingMessage, ServerResponse } from 'node:http';
import { fromJsonSchema } from '@modelcontextprotocol/client';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { Given } from '../server/mcp/mcp-fakes.ts';
import { waitFor } from './processes.ts';
import { connect, decided, KINDS, type Mcp } from './server-mcp-client.ts';
import { everyKind, serveApi, type Json } from './server-parts.ts';
import { Scene } from './server-scene.ts';

let scene: Scene;

const url = (path: string): string => `https://api.example${path}`;
const received = () => scene.upstream.received.at(-1);

/** Ends the answer of `/slow`, which goes on until then. */
let endSlow = (): void => undefined;

function serve(request: IncomingMessage, response: ServerResponse): void {
  if (request.url !== '/slow') {
    serveApi(request, response);
    return;
  }
  const more = setInterval(() => response.write('x'.repeat(1000)), 20);
  response.once('close', () => {
    clearInterval(more);
  });
  endSlow = () => response.end();
}

function begin(): Promise<void> {
  return Scene.start(serve).then((started) => {
    scene = started;
    const local = `https://localhost:${String(scene.upstream.port)}`;
    const { policies, resources } = everyKind(scene.upstream.port);
    const checked = resources.map((each) =>
      each.ref === 'local/pat' ? { ...each, check: `GET ${local}/check`, description: 'here' } : each,
    );
    scene.keep('secrets.env', `GITHUB_PAT=${scene.value}\n`);
    scene.bundle({ policies, resources: checked });
  });
}

describe.each(KINDS)('a client of %s', (kind) => {
  let mcp: Mcp;

  beforeAll(async () => {
    await begin();
    const env = { KEYZERO_JWT: scene.token({ sub: 'agent' }), ...scene.keepSigningKey() };
    mcp = await connect(scene, kind, { args: ['--health-check', '--rate', 'off'], env });
  });

  afterAll(async () => {
    expect(mcp.noise).toEqual([]);
    expect(await mcp.close()).not.toMatch(/bug in kz|Warning/);
    await scene.end();
  });

  it('finds the tools', async () => {
    const tools = await mcp.tools();
    expect(tools.map(({ name }) => name)).toEqual(['resolve', 'fetch', 'list_resources', 'health_check']);
    expect(tools.every(({ outputSchema }) => outputSchema !== undefined)).toBe(true);
  });

  it('lists what it may use', async () => {
    const { structured, isError } = await mcp.call('list_resources');
    const { resources } = structured as { resources: readonly Json[] };
    expect(isError).toBe(false);
    expect(resources.map(({ ref }) => ref)).not.toContain('prod/pat');
    expect(resources).toContainEqual({
      ...{ ref: 'local/pat', is_pattern: false, mode: 'masked', methods: ['GET'], description: 'here' },
      hosts: [`localhost:${String(scene.upstream.port)}`],
    });
    expect(resources).toContainEqual(expect.objectContaining({ ref: 'glob/*/pat', is_pattern: true }));
  });

  it('gets a token', async () => {
    const { structured, isError } = await mcp.call('resolve', { resource: 'github/pat' });
    expect(isError).toBe(false);
    expect(structured).toMatchObject({
      ...{ mode: 'masked', resource: 'github/pat', policy: 'acme', hosts: ['api.example'], methods: ['GET', 'POST'] },
      token: expect.stringMatching(/^KZ_TOK_/) as string,
    });
  });

  it.each([
    ['local/pat', () => `https://localhost:${String(scene.upstream.port)}/mcp`],
    ['github/pat', () => url('/mcp')],
  ])('calls an API with %s, and sees no value', async (resource, target) => {
    const { structured, text, isError } = await mcp.call('fetch', { resource, url: target(), headers: { 'x-mine': 'yes' } });
    expect(isError, text).toBe(false);
    expect(structured).toMatchObject({
      status: 200,
      truncated: false,
      body_encoding: 'utf8',
      headers: { 'content-type': 'application/json' },
    });
    expect(JSON.parse(text)).toEqual(structured);
    expect(received()).toMatchObject({ path: '/mcp', headers: { authorization: `Bearer ${scene.value}`, 'x-mine': 'yes' } });
    expect(JSON.parse((structured as { body: string }).body)).toMatchObject({
      url: '/mcp',
      credential: expect.stringMatching(/^Bearer ./) as string,
    });
  });

  it('gets the beginning of a large body, marked', async () => {
    const { structured } = await mcp.call('fetch', { resource: 'github/pat', url: url('/big') });
    const { body, truncated } = structured as { body: string; truncated: boolean };
    expect(truncated).toBe(true);
    expect(body.length).toBeGreaterThan(500_000);
  });

  it('is told how a slow answer goes on', async () => {
    const seen: number[] = [];
    const onprogress = ({ progress }: { readonly progress: number }): void => {
      seen.push(progress);
      if (seen.length === 2) endSlow();
    };
    const { structured } = await mcp.call('fetch', { resource: 'github/pat', url: url('/slow') }, { onprogress });
    expect(structured).toMatchObject({ status: 200, truncated: false });
    const { body } = structured as { body: string };
    const [first = 0, second = 0] = seen;
    expect([0 < first, first < second, second <= body.length]).toEqual([true, true, true]);
  });

  it.each<[string, Json]>([
    ['resolve', { resource: 'github/pat' }],
    ['resolve', { resource: 'github/short' }],
    ['fetch', { resource: 'github/pat', url: url('/text') }],
    ['fetch', { resource: 'github/pat', url: url('/binary') }],
    ['fetch', { resource: 'github/pat', url: url('/redirect') }],
    ['list_resources', {}],
    ['health_check', {}],
  ])('gets from %s %j what the tool says that it gives', async (name, parameters) => {
    const schema = (await mcp.tools()).find((tool) => tool.name === name)?.outputSchema;
    const { structured, text } = await mcp.call(name, parameters);
    const { validate } = fromJsonSchema(schema as Parameters<typeof fromJsonSchema>[0])['~standard'];
    expect(await validate(structured), text).not.toHaveProperty('issues');
    expect(structured).toEqual(JSON.parse(text));
  });

  it.each<[string, string, Json, string]>([
    ['what a policy denies', 'resolve', { resource: 'prod/pat' }, 'denied'],
    ['the value of mode direct', 'resolve', { resource: 'github/raw' }, 'mode-forbidden'],
    ['another host', 'fetch', { resource: 'github/pat', url: 'https://evil.example/' }, 'url-forbidden'],
    ['its own credential', 'fetch', { resource: 'github/pat', url: url('/'), headers: { authorization: 'x' } }, 'header-forbidden'],
    ['a ref that climbs', 'resolve', { resource: 'github/../prod/pat' }, 'ref-invalid'],
    ['a token of its own that is none', 'resolve', { resource: 'github/pat', jwt: 'a.b.c' }, 'jwt-invalid'],
    ['a value that is not there', 'fetch', { resource: 'github/none', url: url('/') }, 'secret-unavailable'],
  ])('is refused %s, in words', async (_, tool, parameters, code) => {
    const { isError, text, meta } = await mcp.call(tool, parameters);
    expect(isError).toBe(true);
    expect(text).toMatch(new RegExp(`^${code}: `));
    expect(meta).toMatchObject({ 'keyzero/error': { code } });
  });

  it('gets its own words told when they are wrong', async () => {
    const outcome = await mcp.call('resolve', { resource: 'github/pat', more: 1 }).then(
      ({ isError, text }) => (isError ? text : 'taken'),
      (error: unknown) => String(error),
    );
    expect(outcome).toMatch(/Input validation error|-32602/);
  });

  it('finds out whether all is well', async () => {
    const { structured, isError, text } = await mcp.call('health_check');
    expect(isError, text).toBe(false);
    expect(structured).toMatchObject({ status: 'ok', backends: [{ name: 'gh', ok: true }], resources: [{ ref: 'local/pat', ok: true }] });
    expect(scene.upstream.received.find(({ path }) => path === '/check')?.headers.authorization).toBe(`Bearer ${scene.value}`);
  });

  it('gives a call up, and the server gives its request up', async () => {
    const aborted = new AbortController();
    const before = scene.upstream.received.length;
    const lost = mcp.call('fetch', { resource: 'github/pat', url: url('/hang') }, { signal: aborted.signal });
    await waitFor('the request', () => scene.upstream.received.length > before);
    aborted.abort();
    await expect(lost).rejects.toThrow();
    await decided(scene, { code: 'cancelled', path: '/hang' });
    expect((await mcp.call('resolve', { resource: 'github/pat' })).isError).toBe(false);
  });

  it('makes 1,000 calls at once, and each has its own answer', async () => {
    const calls = Array.from({ length: 1000 }, (_, index) =>
      index % 4 === 0
        ? mcp.call('fetch', { resource: 'github/pat', url: url(`/many/${String(index)}`) })
        : mcp.call('resolve', { resource: index % 2 === 0 ? 'github/pat' : 'prod/pat' }),
    );
    for (const [index, { isError, structured, text }] of (await Promise.all(calls)).entries()) {
      if (index % 4 === 0)
        expect(structured, text).toMatchObject({ status: 200, body: expect.stringContaining(`"/many/${String(index)}"`) as string });
      else if (index % 2 === 0) expect(structured).toMatchObject({ resource: 'github/pat' });
      else expect(isError).toBe(true);
    }
  });
});

describe('the token of the caller', () => {
  beforeEach(begin);

  afterEach(async () => {
    await scene.end();
  });

  const resolve = (mcp: Mcp, more: Json = {}): Promise<Given> => mcp.call('resolve', { resource: 'github/pat', ...more });

  it('comes as an argument, which goes before the server’s own', async () => {
    const mcp = await connect(scene, 'v2', { env: { KEYZERO_JWT: scene.token({ org: 'other', sub: 'server' }) } });
    expect((await resolve(mcp)).text).toMatch(/^denied: /);
    expect((await resolve(mcp, { jwt: scene.token({ sub: 'model' }) })).isError).toBe(false);
    await decided(scene, { sub: 'model', outcome: 'allowed' });
    expect((await resolve(mcp, { jwt: '' })).text).toMatch(/^denied: /);
    await mcp.close();
  });

  it('is in a file, which is read for each call', async () => {
    scene.keep('agent.jwt', `${scene.token({ sub: 'first' })}\n`);
    const mcp = await connect(scene, 'v1', { args: ['--jwt-file', 'agent.jwt'], env: { KEYZERO_JWT: scene.token({ sub: 'variable' }) } });
    expect((await resolve(mcp)).isError).toBe(false);
    await decided(scene, { sub: 'first' });
    scene.keep('agent.jwt', scene.token({ sub: 'second' }));
    expect((await resolve(mcp)).isError).toBe(false);
    await decided(scene, { sub: 'second' });
    scene.keep('agent.jwt', scene.token({ exp: scene.issuer.seconds() - 60 }));
    expect((await resolve(mcp)).text).toMatch(/^jwt-expired: /);
    scene.keep('agent.jwt', '');
    expect((await resolve(mcp)).text).toMatch(/^jwt-missing: /);
    const stderr = await mcp.close();
    expect(stderr).toContain('agent.jwt');
  });

  it('is asked for when there is none', async () => {
    const mcp = await connect(scene, 'v2');
    expect((await resolve(mcp)).text).toMatch(/^jwt-missing: /);
    expect((await mcp.call('list_resources')).text).toMatch(/^jwt-missing: /);
    expect((await resolve(mcp, { jwt: scene.token() })).isError).toBe(false);
    await mcp.close();
  });

  it('is of GitHub Actions', async () => {
    const rule = "org == 'acme' && service == 'acme/api' && branch == 'refs/heads/main' && env == 'production' && actor == 'octocat'";
    scene.bundle({
      issuers: [scene.issuer.yaml({ name: 'github', type: 'github-actions' })],
      policies: [{ name: 'ci', rule, effect: 'allow' }],
    });
    const mcp = await connect(scene, 'v2', { env: { KEYZERO_JWT: scene.guardToken(scene.issuer.githubToken()) } });
    expect((await resolve(mcp)).structured).toMatchObject({ policy: 'ci' });
    await decided(scene, { issuer: 'github', sub: 'repo:acme/api:ref:refs/heads/main' });
    const jwt = scene.guardToken(scene.issuer.githubToken({ ref: 'refs/pull/1/merge' }));
    expect((await resolve(mcp, { jwt })).text).toMatch(/^denied: /);
    await mcp.close();
  });

  it('is of a Kubernetes service account', async () => {
    const policies = [{ name: 'pod', rule: "org == 'payments' && service == 'api'", effect: 'allow' }];
    scene.bundle({ issuers: [scene.issuer.yaml({ name: 'cluster', type: 'kubernetes' })], policies });
    scene.keep('token', scene.guardToken(scene.issuer.kubernetesToken()));
    const mcp = await connect(scene, 'v1', { args: ['--jwt-file', './token'] });
    expect((await resolve(mcp)).structured).toMatchObject({ policy: 'pod' });
    await decided(scene, { issuer: 'cluster', sub: 'system:serviceaccount:payments:api' });
    await mcp.close();
  });
});
