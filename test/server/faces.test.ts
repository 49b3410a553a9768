import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Decision } from '../../src/audit/decision.ts';
import { compileBundle } from '../../src/server/compile.ts';
import { httpUseCases, mcpUseCases } from '../../src/server/faces.ts';
import { Limits } from '../../src/server/limits.ts';
import { Seal } from '../../src/server/tokens/seal.ts';
import { LiveService } from '../../src/server/service.ts';
import { UseCases } from '../../src/server/use-cases.ts';
import { ServeLab } from './serve-lab.ts';
import { Upstreams } from './fetch/upstream.ts';

let lab: ServeLab;
let upstreams: Upstreams;

beforeEach(async () => {
  lab = new ServeLab();
  upstreams = await Upstreams.start();
});

afterEach(async () => {
  await upstreams.close();
  await lab.end();
});

const never = new AbortController().signal;

async function faces(proxy?: string, isSealShared = false) {
  const lines: Decision[] = [];
  const service = new LiveService(await compileBundle(lab.bundle, lab.options()), {
    ...{ audit: (line) => lines.push(line), tell: () => undefined },
    limits: new Limits({ rate: 0, burst: 1, inFlight: 10 }),
  });
  const { upstream } = upstreams;
  const useCases = new UseCases({ service, seal: Seal.random(), shortLived: undefined, upstream, fetchTimeoutMs: 5000 });
  const parts = { service, useCases, proxyUrl: () => proxy, isSealShared };
  const caller = await service.verify(lab.jwt(), 'http', never);
  return { caller, lines, http: httpUseCases(parts), mcp: mcpUseCases(parts, undefined) };
}

describe('HTTP', () => {
  it('gives a workload the value of a resource of mode direct, and nothing beside it', async () => {
    const { caller, http } = await faces('http://127.0.0.1:1');
    expect(await http.resolve(caller, { ref: 'a/value' }, never)).toEqual({
      ...{ allowed: true, policy: 'reads', mode: 'direct', value: lab.value },
    });
  });

  it('gives a token with how long it is good, and where', async () => {
    const { caller, http } = await faces('http://127.0.0.1:1');
    const { ttl, expires_at: expires, token, ...rest } = await http.resolve(caller, { ref: 'a/masked' }, never);
    expect(rest).toEqual({ allowed: true, policy: 'reads', mode: 'masked', proxy: 'http://127.0.0.1:1' });
    expect(token).toMatch(/^KZ_TOK_/);
    expect(Math.abs(Date.parse(expires ?? '') - Date.now() - (ttl ?? 0) * 1000)).toBeLessThan(1100);
  });

  it('names no proxy where there is none, and says when that makes the token worthless', async () => {
    const alone = await faces();
    const resolved = await alone.http.resolve(alone.caller, { ref: 'a/masked' }, never);
    expect(resolved).not.toHaveProperty('proxy');
    expect(resolved.hint).toMatch(/^no proxy takes this token/);
    expect((await alone.mcp.resolve(alone.caller, { ref: 'a/masked' }, never)).hint).toBe(resolved.hint);
    const { caller, http } = await faces(undefined, true);
    expect(await http.resolve(caller, { ref: 'a/masked' }, never)).not.toHaveProperty('hint');
  });
});

describe('MCP', () => {
  it('never gives a value', async () => {
    const { caller, mcp } = await faces();
    await expect(mcp.resolve(caller, { ref: 'a/value' }, never)).rejects.toMatchObject({ code: 'mode-forbidden' });
  });

  it('gives a token, for which hosts and methods', async () => {
    const { caller, mcp } = await faces();
    const resolved = await mcp.resolve(caller, { ref: 'a/masked' }, never);
    expect(resolved).toMatchObject({ ref: 'a/masked', mode: 'masked', policy: 'reads', hosts: ['api.example.com'], methods: ['GET'] });
    expect(resolved.ttlMs).toBeGreaterThan(0);
    expect(JSON.stringify(resolved)).not.toContain(lab.value);
  });

  it('has no health check unless it is asked for', async () => {
    expect((await faces()).mcp).not.toHaveProperty('health');
  });
});

it('both send the same request, and give back the answer without the value', async () => {
  const { caller, http, mcp } = await faces();
  const asked = { url: 'https://api.example.com/a', method: 'GET', headers: { accept: 'x/y' }, bodyEncoding: 'utf8' } as const;
  const answers = [
    await http.fetch(caller, { resource: 'a/masked', ...asked }, never),
    await mcp.fetch(caller, { resource: 'a/masked', ...asked }, () => undefined, never),
  ];
  expect(answers.map(({ status }) => status)).toEqual([200, 200]);
  expect(upstreams.received.map(({ headers }) => headers.authorization)).toEqual([`Bearer ${lab.value}`, `Bearer ${lab.value}`]);
  expect(JSON.stringify(answers)).not.toContain(lab.value);
});

it.each([
  ['file:///etc/passwd', {}, 'url-forbidden'],
  ['https://me:CANARY@api.example.com/', {}, 'url-forbidden'],
  ['https://api.example.com/', { host: 'other.example' }, 'header-forbidden'],
  ['https://api.example.com/', { 'x-a': 'b\r\nc: d' }, 'header-forbidden'],
])('both write down who tries %s with headers %j, which no policy is asked about', async (url, headers, code) => {
  const { caller, lines, http, mcp } = await faces();
  const asked = { url, method: 'GET', headers, bodyEncoding: 'utf8' } as const;
  await expect(http.fetch(caller, { resource: 'a/masked', ...asked }, never)).rejects.toMatchObject({ code });
  await expect(mcp.fetch(caller, { resource: 'a/masked', ...asked }, () => undefined, never)).rejects.toMatchObject({ code });
  const line = {
    tool: 'fetch',
    issuer: caller.issuer,
    sub: caller.sub,
    ref: 'a/masked',
    outcome: 'denied',
    code,
    policy: null,
    host: null,
  };
  expect(lines).toMatchObject([
    { face: 'http', ...line },
    { face: 'mcp', ...line },
  ]);
  expect(JSON.stringify(lines)).not.toContain('CANARY');
});
