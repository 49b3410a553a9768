// The lines that `kz server start --mcp` reads and writes: nothing but the protocol, and an end when the client is gone in any way.
import { afterEach, beforeEach, expect, it } from 'vitest';
import { waitFor } from './processes.ts';
import { decisions } from './server-mcp-client.ts';
import { everyKind, type Json } from './server-parts.ts';
import { Scene, type Served } from './server-scene.ts';

let scene: Scene;
let served: Served;

const url = (path: string): string => `https://api.example${path}`;

beforeEach(async () => {
  scene = await Scene.start();
  scene.bundle(everyKind(scene.upstream.port));
  served = scene.spawn(['--mcp', '--audit', './audit.jsonl', '-v'], {
    keepInput: true,
    env: { KEYZERO_JWT: scene.token({ sub: 'wire' }) },
  });
});

afterEach(async () => {
  await scene.end();
});

const say = (...messages: readonly unknown[]): void => {
  for (const message of messages) served.running.child.stdin?.write(`${typeof message === 'string' ? message : JSON.stringify(message)}\n`);
};
const call = (id: number, name: string, parameters: Json): Json => ({
  jsonrpc: '2.0',
  id,
  method: 'tools/call',
  params: { name, arguments: parameters },
});
const HELLO = {
  ...{ jsonrpc: '2.0', id: 0, method: 'initialize' },
  params: { protocolVersion: '2025-06-18', capabilities: {}, clientInfo: { name: 'wire', version: '1' } },
};
/** Every line is a message, or this throws. */
const answers = (): Json[] => served.events;
const answered = (id: number): Promise<void> => waitFor(`answer ${String(id)}`, () => answers().some((each) => each.id === id));

it('there is nothing but the protocol, whatever is sent', async () => {
  say(HELLO, { jsonrpc: '2.0', method: 'notifications/initialized' });
  await answered(0);
  say(
    'this is no JSON',
    '{"jsonrpc":"2.0"}',
    '[]',
    '',
    { jsonrpc: '2.0', id: 1, method: 'no/such' },
    call(2, 'nope', {}),
    call(3, 'fetch', {}),
  );
  say(call(4, 'resolve', { resource: 'prod/pat' }), call(5, 'fetch', { resource: 'github/none', url: url('/') }));
  scene.story.write('bundle.yaml', 'version: "2"\n');
  say(call(6, 'resolve', { resource: 'github/pat' }));
  for (const id of [1, 2, 3, 4, 5, 6]) await answered(id);
  await served.said('the old one serves on');
  expect(answers().every(({ jsonrpc }) => jsonrpc === '2.0')).toBe(true);
  served.running.child.stdin?.end();
  const { code, stdout } = await served.running.ended;
  expect({ code, end: stdout.at(-1) }).toEqual({ code: 0, end: '\n' });
  expect(answers().every(({ jsonrpc }) => jsonrpc === '2.0')).toBe(true);
});

it('what cannot be served is answered, and it goes on', async () => {
  say(HELLO, { jsonrpc: '2.0', method: 'notifications/initialized' });
  await answered(0);
  const fetch = JSON.stringify(call(1, 'fetch', { resource: 'github/pat', url: url('/text'), method: 'POST', body: '|' }));
  const [head = '', tail = ''] = fetch.split('|');
  served.running.child.stdin?.write(Buffer.concat([Buffer.from(head), Buffer.from([0xff]), Buffer.from(`${tail}\n`)]));
  say('{"jsonrpc":"2.0","id":2,', [call(3, 'list_resources', {}), call(4, 'list_resources', {})]);
  say({ jsonrpc: '2.0', id: 5, method: 'tools/list', params: null }, { jsonrpc: '2.0', id: 6, method: 'resources/list' });
  say(call(7, 'resolve', { resource: 'x'.repeat(10_000_000) }), { jsonrpc: '2.0', id: 8, method: 'ping' });
  for (const id of [5, 6, 7, 8]) await answered(id);
  const errors = answers().filter((each) => 'error' in each);
  expect(errors.map(({ id, error }) => [id, (error as { code: number }).code])).toEqual([
    [undefined, -32700],
    [undefined, -32700],
    [undefined, -32600],
    [5, -32600],
    [6, -32601],
  ]);
  expect(answers().find(({ id }) => id === 7)).toMatchObject({ result: { isError: true } });
  expect(answers().find(({ id }) => id === 8)).toEqual({ jsonrpc: '2.0', id: 8, result: {} });
  expect(scene.upstream.received).toEqual([]);
});

it('the present protocol has no greeting and no ping, and says that nothing changes', async () => {
  const _meta = {
    'io.modelcontextprotocol/protocolVersion': '2026-07-28',
    'io.modelcontextprotocol/clientCapabilities': {},
    'io.modelcontextprotocol/clientInfo': { name: 'wire', version: '1' },
  };
  const ask = (id: number, method: string, params: Json = {}): Json => ({ jsonrpc: '2.0', id, method, params: { ...params, _meta } });
  say(ask(1, 'server/discover'), ask(2, 'tools/list'), ask(3, 'ping'), ask(4, 'initialize'));
  say(ask(5, 'subscriptions/listen', { notifications: { toolsListChanged: true, resourcesListChanged: true } }));
  for (const id of [1, 2, 3, 4]) await answered(id);
  const acknowledged = (): Json | undefined => answers().find(({ method }) => method === 'notifications/subscriptions/acknowledged');
  await waitFor('the subscription', () => acknowledged() !== undefined);
  expect(answers().find(({ id }) => id === 1)).toMatchObject({
    result: { supportedVersions: ['2026-07-28'], capabilities: { tools: { listChanged: false } } },
  });
  expect(answers().find(({ id }) => id === 3)).toMatchObject({ error: { code: -32601 } });
  expect(answers().find(({ id }) => id === 4)).toHaveProperty('error');
  expect(acknowledged()).toMatchObject({ params: { notifications: {} } });
  // Another bundle has other resources; the tools are the same.
  scene.bundle({ resources: [] });
  served.running.send('SIGHUP');
  await served.said('bundle');
  say(ask(6, 'tools/list'));
  await answered(6);
  expect(answers().filter(({ method }) => String(method).endsWith('list_changed'))).toEqual([]);
});

it('a client that goes away mid-call ends the server, and what it was doing', async () => {
  say(HELLO, { jsonrpc: '2.0', method: 'notifications/initialized' }, call(1, 'fetch', { resource: 'github/pat', url: url('/hang') }));
  await waitFor('the request', () => scene.upstream.received.at(-1)?.path === '/hang');
  served.running.child.stdin?.end();
  expect(await served.running.ended).toMatchObject({ code: 0, signal: null });
  expect(decisions(scene)).toEqual([expect.objectContaining({ sub: 'wire', tool: 'fetch', code: 'cancelled', outcome: 'failed' })]);
});

it('a client that reads no more ends it too', async () => {
  say(HELLO);
  await answered(0);
  served.running.child.stdout?.destroy();
  say(call(1, 'resolve', { resource: 'github/pat' }), call(2, 'resolve', { resource: 'github/pat' }));
  expect(await served.running.ended).toMatchObject({ code: 0, signal: null });
});

it('a message without an end ends it, too', async () => {
  say(HELLO);
  await answered(0);
  served.running.child.stdin?.on('error', () => undefined).write(Buffer.alloc(11 * 1024 * 1024, 'x'));
  expect(await served.running.ended).toMatchObject({ signal: null });
  expect(answers().at(-1)).toMatchObject({ error: { code: -32600, message: 'a message may have at most 10485760 bytes' } });
});
