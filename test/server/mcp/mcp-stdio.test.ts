import { afterEach, describe, expect, it } from 'vitest';
import type { McpOptions } from '../../../src/server/mcp/mcp.ts';
import { Fakes, hanging, SPEAKERS, Wire } from './mcp-fakes.ts';

const open: Wire[] = [];

function start(options: McpOptions): Wire {
  const wire = new Wire(options);
  open.push(wire);
  return wire;
}

afterEach(async () => {
  for (const { stop, over } of open.splice(0)) {
    stop.abort();
    await over;
  }
});

const HELLO = {
  jsonrpc: '2.0',
  id: 1,
  method: 'initialize',
  params: { protocolVersion: '2025-11-25', capabilities: {}, clientInfo: { name: 't', version: '1' } },
};
const LIST = { jsonrpc: '2.0', id: 2, method: 'tools/list' };
const CALL = {
  jsonrpc: '2.0',
  id: 3,
  method: 'tools/call',
  params: { name: 'fetch', arguments: { resource: 'a', url: 'https://a.example' } },
};

const byId = (id: number) => (message: Readonly<Record<string, unknown>>) => message.id === id;

const modern = (version: string) => ({
  _meta: {
    'io.modelcontextprotocol/protocolVersion': version,
    'io.modelcontextprotocol/clientCapabilities': {},
    'io.modelcontextprotocol/clientInfo': { name: 't', version: '1' },
  },
});

const ENDINGS: Readonly<Record<string, (wire: Wire) => void>> = {
  'the client ends its side': ({ stdin }) => stdin.end(),
  'standard input closes': ({ stdin }) => stdin.destroy(),
  'standard input fails': ({ stdin }) => stdin.destroy(new Error('EIO')),
  'nobody reads any more': ({ stdout }) => stdout.destroy(new Error('EPIPE')),
  'it is told to stop': ({ stop }) => {
    stop.abort();
  },
  'a message is longer than it reads': ({ stdin }) => stdin.write(Buffer.alloc(10_485_761, 'x')),
};

it.each(Object.entries(ENDINGS))('is over when %s, and aborts what runs', async (_, end) => {
  const fakes = new Fakes();
  const { wire, call } = await SPEAKERS.modern(fakes.options);
  const started = hanging(fakes);
  const lost = call('fetch', { resource: 'a', url: 'https://a.example' }).catch(() => 'lost');
  const signal = await started;
  end(wire);
  expect(await wire.over).toBe('closed');
  expect(signal.aborted).toBe(true);
  expect(fakes.internal).toEqual([]);
  wire.onclose?.();
  expect(await lost).toBe('lost');
});

it('does not wait for a call that does not stop', async () => {
  const fakes = new Fakes();
  const { wire, call } = await SPEAKERS.modern(fakes.options);
  const started = new Promise<void>((resolve) => {
    fakes.onFetch = () => {
      resolve();
      return new Promise(() => undefined);
    };
  });
  call('fetch', { resource: 'a', url: 'https://a.example' }).catch(() => undefined);
  await started;
  wire.stdin.end();
  expect(await wire.over).toBe('closed');
});

it('waits for calls that clean up', async () => {
  const fakes = new Fakes();
  const { wire, call } = await SPEAKERS.modern(fakes.options);
  let written = false;
  const started = new Promise<void>((resolve) => {
    fakes.onFetch = async (_input, _progress, signal) => {
      resolve();
      await new Promise((aborted) => {
        signal.addEventListener('abort', aborted);
      });
      await new Promise((later) => setTimeout(later, 50));
      written = true;
      throw new Error('aborted');
    };
  });
  call('fetch', { resource: 'a', url: 'https://a.example' }).catch(() => undefined);
  await started;
  wire.stop.abort();
  await wire.over;
  expect(written).toBe(true);
});

it('is over at once when it was told to stop before', async () => {
  const stop = new AbortController();
  stop.abort();
  const wire = start(new Fakes().options);
  wire.stop.abort();
  expect(await wire.over).toBe('closed');
});

it('answers what came together with the end', async () => {
  const wire = start(new Fakes().options);
  wire.stdin.end([HELLO, LIST, { ...CALL, params: { name: 'list_resources' } }].map((message) => `${JSON.stringify(message)}\n`).join(''));
  await wire.over;
  expect(wire.messages.map(({ id }) => id)).toEqual([1, 2, 3]);
});

it('writes nothing but the protocol, and goes on after what it cannot read', async () => {
  const wire = start(new Fakes().options);
  for (const line of ['', 'hello', '{"jsonrpc":"2.0"}', '[]', '{"a":', '\u0000', '{"jsonrpc":"1.0","id":9,"method":"tools/list"}']) {
    wire.stdin.write(`${line}\n`);
  }
  await wire.send(HELLO);
  await wire.send(LIST);
  await wire.message(byId(2));
  expect(wire.messages.every(({ jsonrpc }) => jsonrpc === '2.0')).toBe(true);
});

it('reads a message in pieces', async () => {
  const wire = start(new Fakes().options);
  const bytes = Buffer.from(`${JSON.stringify({ ...HELLO, id: 7 })}\n`);
  for (const byte of bytes) wire.stdin.write(Buffer.from([byte]));
  expect(await wire.message(byId(7))).toMatchObject({ result: { serverInfo: { name: 'keyzero', version: '1.2.3' } } });
});

describe('versions', () => {
  it.each(['2025-11-25', '2025-06-18', '2025-03-26', '2024-11-05', '2024-10-07'])('speaks %s', async (protocolVersion) => {
    const wire = start(new Fakes().options);
    await wire.send({ ...HELLO, params: { ...HELLO.params, protocolVersion } });
    expect(await wire.message(byId(1))).toMatchObject({ result: { protocolVersion } });
  });

  it('offers one that it has to a client of another', async () => {
    const wire = start(new Fakes().options);
    await wire.send({ ...HELLO, params: { ...HELLO.params, protocolVersion: '1999-01-01' } });
    const { result } = await wire.message(byId(1));
    expect(result).toMatchObject({ protocolVersion: '2025-11-25' });
  });

  it('speaks 2026-07-28 without a greeting', async () => {
    const wire = start(new Fakes().options);
    await wire.send({ ...LIST, params: modern('2026-07-28') });
    expect(await wire.message(byId(2))).toMatchObject({ result: { resultType: 'complete', ttlMs: 60_000, cacheScope: 'public' } });
  });

  it('says which it speaks', async () => {
    const wire = start(new Fakes().options);
    await wire.send({ jsonrpc: '2.0', id: 1, method: 'server/discover', params: modern('2026-07-28') });
    const { result } = await wire.message(byId(1));
    expect(result).toMatchObject({ supportedVersions: expect.arrayContaining(['2026-07-28']) as unknown, capabilities: { tools: {} } });
    await wire.send({ ...LIST, params: modern('2099-01-01') });
    expect(await wire.message(byId(2))).toMatchObject({ error: { code: -32022, data: { supported: ['2026-07-28'] } } });
  });

  it('lets a client look first and greet afterwards', async () => {
    const wire = start(new Fakes().options);
    await wire.send({ jsonrpc: '2.0', id: 5, method: 'server/discover', params: modern('2026-07-28') });
    await wire.message(byId(5));
    await wire.send(HELLO);
    expect(await wire.message(byId(1))).toMatchObject({ result: { protocolVersion: '2025-11-25' } });
    await wire.send(LIST);
    expect(await wire.message(byId(2))).toMatchObject({
      result: { tools: [{ name: 'resolve' }, { name: 'fetch' }, { name: 'list_resources' }] },
    });
  });
});

it('asks the client for nothing', async () => {
  const wire = start(new Fakes().options);
  const capabilities = { elicitation: { form: {}, url: {} }, sampling: {}, roots: { listChanged: true } };
  await wire.send({ ...HELLO, params: { ...HELLO.params, capabilities } });
  await wire.send({ jsonrpc: '2.0', method: 'notifications/initialized' });
  await wire.send(CALL);
  await wire.send({ ...CALL, id: 4, params: { name: 'resolve', arguments: {} } });
  await wire.message(byId(4));
  expect(wire.messages.filter((message) => 'method' in message)).toEqual([]);
});
