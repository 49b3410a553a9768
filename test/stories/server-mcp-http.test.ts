// MCP over HTTP: clients of both generations of the SDK, each with a token of its own in its requests.
import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client';
import { Client as FormerClient } from '@modelcontextprotocol/sdk/client/index.js';
import { StreamableHTTPClientTransport as FormerTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Decision } from '../../src/audit/decision.ts';
import { give, type Given } from '../server/mcp/mcp-fakes.ts';
import { waitFor } from './processes.ts';
import { everyKind, type Json } from './server-parts.ts';
import { Scene, type Served } from './server-scene.ts';

let scene: Scene;
let served: Served;

beforeAll(async () => {
  scene = await Scene.start();
  scene.bundle(everyKind(scene.upstream.port));
  served = await scene.serve([], { env: { KEYZERO_JWT: scene.token({ sub: 'the server' }) } });
});

afterAll(async () => {
  await scene.end();
});

interface Caller {
  readonly call: (name: string, parameters?: Json) => Promise<Given>;
  readonly close: () => Promise<void>;
}

async function connect(kind: string, jwt: string | undefined): Promise<Caller> {
  const requestInit = jwt === undefined ? {} : { headers: { authorization: `Bearer ${jwt}` } };
  const url = new URL(`${served.url}/mcp`);
  const examined = (result: Readonly<Record<string, unknown>>): Given => {
    scene.story.examine(JSON.stringify(result), 'the answer of a tool');
    return give(result);
  };
  if (kind === 'v1') {
    const client = new FormerClient({ name: 'story', version: '1' });
    const transport = new FormerTransport(url, { requestInit });
    await client.connect(transport);
    return { call: async (name, given = {}) => examined(await client.callTool({ name, arguments: given })), close: () => client.close() };
  }
  const client = new Client({ name: 'story', version: '1' }, { versionNegotiation: { mode: 'auto' } });
  await client.connect(new StreamableHTTPClientTransport(url, { requestInit }));
  return { call: async (name, given = {}) => examined(await client.callTool({ name, arguments: given })), close: () => client.close() };
}

describe.each(['v1', 'v2'])('a client of %s', (kind) => {
  it('calls an API, gets a token, and lists, as whom its token says', async () => {
    const { call, close } = await connect(kind, scene.token({ sub: `http-${kind}` }));
    const fetched = await call('fetch', { resource: 'github/pat', url: 'https://api.example/over-http' });
    expect(fetched.structured, fetched.text).toMatchObject({ status: 200 });
    expect(scene.upstream.received.at(-1)).toMatchObject({ path: '/over-http', headers: { authorization: `Bearer ${scene.value}` } });
    expect((await call('resolve', { resource: 'github/pat' })).structured).toMatchObject({ mode: 'masked' });
    expect((await call('resolve', { resource: 'github/raw' })).text).toMatch(/^mode-forbidden: /);
    expect((await call('resolve', { resource: 'prod/pat' })).text).toMatch(/^denied: /);
    expect((await call('list_resources')).isError).toBe(false);
    const own = (): readonly Decision[] => served.decisions.filter(({ sub }) => sub === `http-${kind}`);
    await waitFor('five decisions', () => own().length === 5);
    expect(own().map(({ face, tool, outcome }) => [face, tool, outcome])).toEqual([
      ['mcp', 'fetch', 'allowed'],
      ['mcp', 'resolve', 'allowed'],
      ['mcp', 'resolve', 'denied'],
      ['mcp', 'resolve', 'denied'],
      ['mcp', 'list', 'allowed'],
    ]);
    await close();
  });

  it('without a token is nobody: the server’s own is not for callers from here', async () => {
    const { call, close } = await connect(kind, undefined);
    expect((await call('resolve', { resource: 'github/pat' })).text).toMatch(/^jwt-missing: /);
    expect((await call('list_resources')).text).toMatch(/^jwt-missing: /);
    await close();
    await waitFor('its decisions', () => served.decisions.filter(({ code }) => code === 'jwt-missing').length >= 2);
    expect(served.decisions.map(({ sub }) => sub)).not.toContain('the server');
  });
});

it.each([
  ['a web page', { origin: 'https://evil.example' }],
  ['a name that was bound again', { host: 'evil.example' }],
])('refuses %s', async (_, headers) => {
  const body = { jsonrpc: '2.0', id: 1, method: 'tools/list' };
  const accept = 'application/json, text/event-stream';
  expect((await served.ask('/mcp', { body, headers: { accept, ...headers } })).status).toBe(403);
});
