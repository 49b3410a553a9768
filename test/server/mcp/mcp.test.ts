import { createHash } from 'node:crypto';
import { afterEach, describe, expect, it } from 'vitest';
import { ServerFailure } from '../../../src/server/failure.ts';
import type { McpOptions } from '../../../src/server/mcp/mcp.ts';
import { MAX_ANSWER_BYTES } from '../../../src/server/mcp/mcp-result.ts';
import { canary, Fakes, fetched, hanging, resolved, SPEAKERS, type Speaker } from './mcp-fakes.ts';

const open: Speaker[] = [];

afterEach(async () => {
  for (const { wire } of open.splice(0)) {
    wire.stop.abort();
    await wire.over;
  }
});

async function connect(fakes: Fakes, kind: keyof typeof SPEAKERS = 'modern', more: Partial<McpOptions> = {}): Promise<Speaker> {
  const speaker = await SPEAKERS[kind]({ ...fakes.options, ...more });
  open.push(speaker);
  return speaker;
}

const HEALTH = () => Promise.resolve({ bundleVersion: 'b', uptimeMs: 5, backends: [], resources: [] });

describe.each(Object.keys(SPEAKERS) as (keyof typeof SPEAKERS)[])('%s client', (kind) => {
  it('lists the tools in one order, with schemas and hints', async () => {
    const fakes = new Fakes();
    const { tools } = await connect(fakes, kind, { useCases: { ...fakes.useCases, health: HEALTH } });
    const listed = await tools();
    expect(listed.map(({ name }) => name)).toEqual(['resolve', 'fetch', 'list_resources', 'health_check']);
    for (const tool of listed) {
      expect(tool).toMatchObject({ inputSchema: { type: 'object' }, outputSchema: { type: 'object' } });
      expect(JSON.stringify(tool)).not.toContain('x-mcp-header');
    }
    expect(listed[0]).toMatchObject({
      annotations: { readOnlyHint: true, idempotentHint: true, destructiveHint: false, openWorldHint: false },
    });
    expect(listed[1]).toMatchObject({ annotations: { readOnlyHint: false, destructiveHint: true, openWorldHint: true } });
  });

  it('calls each tool', async () => {
    const fakes = new Fakes();
    const speaker = await connect(fakes, kind);
    // Clients check results against the schemas only of tools that they have listed.
    await speaker.tools();
    const token = await speaker.call('resolve', { resource: 'github/pat', resolver: 'gh', context: { ticket: 'OPS-1' } });
    expect(token.isError).toBe(false);
    expect(token.structured).toMatchObject({
      mode: 'masked',
      token: 'KZ_TOK_eyJ.a-b_c.d',
      ttl_s: 900,
      resource: 'github/pat',
      policy: 'agents-read',
    });
    expect(JSON.parse(token.text)).toEqual(token.structured);
    expect(fakes.resolves).toEqual([{ ref: 'github/pat', resolver: 'gh', context: { ticket: 'OPS-1' } }]);

    const answer = await speaker.call('fetch', { resource: 'github/pat', url: 'https://api.github.com/user' });
    const body = { status: 200, headers: { 'content-type': 'application/json' }, body: '{"a":1}', body_encoding: 'utf8', truncated: false };
    expect(answer.structured).toEqual(body);
    expect(fakes.fetches).toMatchObject([
      { resource: 'github/pat', url: 'https://api.github.com/user', method: 'GET', headers: {}, bodyEncoding: 'utf8' },
    ]);

    const names = await speaker.call('list_resources');
    const row = { ref: 'own/pat-0', is_pattern: false, mode: 'masked', hosts: ['api.github.com'], methods: ['GET'], description: 'x' };
    expect(names.structured).toEqual({ resources: [row], truncated: false });
  });

  it('answers a failure in its own words, and as data', async () => {
    const fakes = new Fakes();
    fakes.onFetch = () => Promise.reject(new ServerFailure('denied', 'no policy allows this', { hint: 'kz policy explain' }));
    const speaker = await connect(fakes, kind);
    await speaker.tools();
    const { isError, text, structured, meta } = await speaker.call('fetch', { resource: 'a', url: 'https://a.example' });
    expect({ isError, text, structured }).toEqual({
      isError: true,
      text: 'denied: no policy allows this\nhint: kz policy explain',
      structured: undefined,
    });
    expect(meta).toMatchObject({ 'keyzero/error': { code: 'denied', message: 'no policy allows this', hint: 'kz policy explain' } });
  });

  it('says nothing of what any other error says', async () => {
    const fakes = new Fakes();
    const value = canary();
    const thrown = new Error(`connect failed to postgres://u:${value}@h`, { cause: new Error(value) });
    fakes.onFetch = () => Promise.reject(thrown);
    const speaker = await connect(fakes, kind);
    const { isError, text } = await speaker.call('fetch', { resource: 'a', url: 'https://a.example' });
    expect(isError).toBe(true);
    expect(text).toMatch(/^internal: the server could not do this\n/);
    expect(speaker.wire.lines.join('')).not.toContain(value);
    expect(fakes.internal).toEqual([thrown]);
  });

  it('tells a cancelled call to stop, and does not answer it', async () => {
    const fakes = new Fakes();
    const speaker = await connect(fakes, kind);
    const started = hanging(fakes);
    const cancel = new AbortController();
    const call = speaker.call('fetch', { resource: 'a', url: 'https://a.example' }, { signal: cancel.signal });
    const ended = expect(call).rejects.toThrow();
    const signal = await started;
    const before = speaker.wire.lines.length;
    cancel.abort();
    await ended;
    await speaker.call('list_resources');
    expect(signal.aborted).toBe(true);
    expect(speaker.wire.lines.slice(before)).toHaveLength(1);
    expect(fakes.internal).toEqual([]);
  });

  it('reports progress to who asks for it', async () => {
    const fakes = new Fakes();
    fakes.onFetch = (_input, progress) => {
      // The second comes too soon, and the third goes back.
      for (const bytes of [1000, 2000, 500]) progress(bytes);
      return Promise.resolve(fetched('x'));
    };
    const speaker = await connect(fakes, kind);
    const seen: number[] = [];
    await speaker.call('fetch', { resource: 'a', url: 'https://a.example' }, { onprogress: ({ progress }) => seen.push(progress) });
    expect(seen).toEqual([1000]);
    const before = speaker.wire.lines.length;
    await speaker.call('fetch', { resource: 'a', url: 'https://a.example' });
    expect(speaker.wire.lines.slice(before).filter((line) => line.includes('notifications/progress'))).toEqual([]);
  });

  it('serves 1,000 calls at once', async () => {
    const fakes = new Fakes();
    fakes.onFetch = ({ url }) => Promise.resolve(fetched(url));
    const speaker = await connect(fakes, kind);
    const urls = Array.from({ length: 1000 }, (_, index) => `https://a.example/${String(index)}`);
    const answers = await Promise.all(urls.map((url) => speaker.call('fetch', { resource: 'a', url })));
    expect(answers.map(({ structured }) => (structured as { body: string }).body)).toEqual(urls);
  });
});

describe('arguments', () => {
  const cases: [string, string, Record<string, unknown>][] = [
    ['a number for a name', 'resolve', { resource: 5 }],
    ['no name', 'fetch', { url: 'https://a.example' }],
    ['a name that is too long', 'resolve', { resource: 'a'.repeat(513) }],
    ['a parameter that there is not', 'list_resources', { secret: 'x' }],
    ['an encoding that there is not', 'fetch', { resource: 'a', url: 'https://a.example', body_encoding: 'hex' }],
    ['a header that is no text', 'fetch', { resource: 'a', url: 'https://a.example', headers: { a: 1 } }],
    ['a body that is too long', 'fetch', { resource: 'a', url: 'https://a.example', body: 'x'.repeat(1_048_577) }],
    ['a list for an object', 'resolve', { resource: 'a', context: [] }],
  ];

  it.each(cases)('refuses %s', async (_, tool, parameters) => {
    const fakes = new Fakes();
    const { call } = await connect(fakes);
    const { isError, text } = await call(tool, parameters);
    expect(isError).toBe(true);
    expect(text).toMatch(/^Input validation error/);
    expect([...fakes.jwts, ...fakes.fetches, ...fakes.resolves]).toEqual([]);
  });

  it('does not repeat what was wrong', async () => {
    const value = canary();
    const { call, wire } = await connect(new Fakes());
    for (const parameters of [
      { resource: [value], jwt: [value] },
      { resource: 'a', [value]: 1 },
      { resource: 'a', resolver: value.repeat(9) },
    ]) {
      expect((await call('resolve', parameters)).isError).toBe(true);
    }
    expect(wire.lines.join('')).not.toContain(value);
  });

  it('answers briefly, however much is wrong', async () => {
    const { call } = await connect(new Fakes());
    const headers = Object.fromEntries(Array.from({ length: 20_000 }, (_, index) => [`x-${String(index)}`, index]));
    const { isError, text } = await call('fetch', { resource: 'a', url: 'https://a.example', headers });
    expect(isError).toBe(true);
    expect(text.length).toBeLessThan(500);
  });

  it('takes the longest body', async () => {
    const fakes = new Fakes();
    const { call } = await connect(fakes);
    const body = 'x'.repeat(1_048_576);
    expect(await call('fetch', { resource: 'a', url: 'https://a.example', body })).toMatchObject({ isError: false });
    expect(fakes.fetches[0]?.body).toBe(body);
  });

  it('does not know other tools', async () => {
    const { call, tools } = await connect(new Fakes());
    expect((await tools()).map(({ name }) => name)).not.toContain('health_check');
    await expect(call('health_check')).rejects.toThrow(/health_check/);
  });
});

describe('whose token counts', () => {
  it('takes the argument before the server’s own', async () => {
    const fakes = new Fakes();
    const { call } = await connect(fakes);
    for (const jwt of ['mine', '', undefined]) await call('list_resources', jwt === undefined ? {} : { jwt });
    expect(fakes.jwts).toEqual(['mine', 'own', 'own']);
  });

  it('says that there is none', async () => {
    const { call } = await connect(new Fakes(), 'modern', { ownJwt: () => Promise.resolve(undefined) });
    expect(await call('list_resources')).toMatchObject({ isError: true, text: 'jwt-missing: no token was given\nhint: set KEYZERO_JWT' });
  });

  it('says nothing of why the server’s own could not be had', async () => {
    const value = canary();
    const { call } = await connect(new Fakes(), 'modern', { ownJwt: () => Promise.reject(new Error(value)) });
    const { text } = await call('list_resources');
    expect(text).toMatch(/^internal:/);
    expect(text).not.toContain(value);
  });
});

describe('resolve', () => {
  it.each([
    ['of mode direct', 'mode-forbidden', { mode: 'direct' }],
    ['of no mode', 'mode-forbidden', { mode: '' }],
    ['that is no token', 'Output validation error', {}],
  ] as const)('never gives a value %s', async (_, code, more) => {
    const value = canary();
    const fakes = new Fakes();
    fakes.onResolve = () => Promise.resolve(resolved({ token: value, ...more }));
    const { call, wire } = await connect(fakes);
    const { isError, text } = await call('resolve', { resource: 'a' });
    expect(isError).toBe(true);
    expect(text).toContain(code);
    expect(wire.lines.join('')).not.toContain(value);
  });

  it('gives a JWT for short_lived', async () => {
    const fakes = new Fakes();
    fakes.onResolve = () => Promise.resolve(resolved({ mode: 'short_lived', token: 'eyJh.eyJi.c-_', proxy: 'http://127.0.0.1:8081' }));
    const { call } = await connect(fakes);
    const { structured } = await call('resolve', { resource: 'a' });
    expect(structured).toMatchObject({ mode: 'short_lived', token: 'eyJh.eyJi.c-_', proxy: 'http://127.0.0.1:8081' });
  });
});

describe('long answers', () => {
  it.each([
    ['text', 'x'.repeat(1_048_576), 'utf8'],
    ['control characters', '\u0001'.repeat(1_048_576), 'utf8'],
    ['quotes', '"\\'.repeat(524_288), 'utf8'],
    ['emoji', '😀'.repeat(524_288), 'utf8'],
    ['bytes', Buffer.alloc(786_432, 7).toString('base64'), 'base64'],
  ] as const)('cuts a body of %s', async (_, body, bodyEncoding) => {
    const fakes = new Fakes();
    fakes.onFetch = () => Promise.resolve(fetched(body, { bodyEncoding }));
    const { call, wire } = await connect(fakes);
    const { structured } = await call('fetch', { resource: 'a', url: 'https://a.example' });
    const { body: cut, truncated } = structured as { body: string; truncated: boolean };
    expect(truncated).toBe(true);
    expect(body.startsWith(cut)).toBe(true);
    expect(cut.length).toBeGreaterThan(50_000);
    expect(Buffer.from(cut).toString()).toBe(cut);
    expect(bodyEncoding === 'utf8' || cut.length % 4 === 0).toBe(true);
    expect(Buffer.byteLength(wire.lines.at(-1) ?? '')).toBeLessThan(MAX_ANSWER_BYTES + 1000);
  });

  it('cuts a list', async () => {
    const fakes = new Fakes();
    fakes.listed = 10_000;
    const { call } = await connect(fakes);
    const { structured } = await call('list_resources');
    const { resources, truncated } = structured as { resources: unknown[]; truncated: boolean };
    expect(truncated).toBe(true);
    expect(resources.length).toBeGreaterThan(1000);
  });

  it('gives up on what cannot be cut', async () => {
    const fakes = new Fakes();
    fakes.onFetch = () => Promise.resolve(fetched('x', { headers: { a: 'x'.repeat(2_000_000) } }));
    const { call } = await connect(fakes);
    expect((await call('fetch', { resource: 'a', url: 'https://a.example' })).text).toMatch(/^too-large:/);
  });
});

it('gives every client, of either era, tools of the same hash', async () => {
  const hashes = new Set<string>();
  for (const kind of ['modern', 'modern', 'legacy', 'former'] as const) {
    const { tools } = await connect(new Fakes(), kind);
    const canonical = (await tools()).map((tool) => JSON.stringify(tool, Object.keys(flat(tool)).sort()));
    hashes.add(createHash('sha256').update(canonical.join('\n')).digest('hex'));
  }
  expect([...hashes]).toHaveLength(1);
});

function flat(value: unknown): Record<string, true> {
  if (typeof value !== 'object' || value === null) return {};
  return Object.fromEntries(Object.entries(value).flatMap(([key, inner]) => [[key, true], ...Object.entries(flat(inner))]));
}

describe('health_check', () => {
  it('is an error when something is wrong, and the rest is said nevertheless', async () => {
    const fakes = new Fakes();
    let asked = 0;
    const health = () => {
      asked += 1;
      const backends = [{ name: 'v', ok: true }];
      const resources = [{ ref: 'a', ok: false, detail: 'HTTP 401' }];
      return Promise.resolve({ bundleVersion: 'b1', uptimeMs: 61_500, backends, resources });
    };
    const { call, tools } = await connect(fakes, 'former', { useCases: { ...fakes.useCases, health } });
    await tools();
    const first = await call('health_check');
    expect(first).toMatchObject({ isError: true });
    expect(first.structured).toEqual({
      status: 'degraded',
      version: '1.2.3',
      bundle_version: 'b1',
      uptime_s: 61,
      backends: [{ name: 'v', ok: true }],
      resources: [{ ref: 'a', ok: false, detail: 'HTTP 401' }],
    });
    for (let round = 0; round < 20; round += 1) await call('health_check');
    expect(asked).toBe(1);
    expect(fakes.jwts).toEqual([]);
  });
});
