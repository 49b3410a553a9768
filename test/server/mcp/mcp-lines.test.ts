import { PassThrough } from 'node:stream';
import { parseJSONRPCMessage } from '@modelcontextprotocol/server';
import { describe, expect, it } from 'vitest';
import { LineTransport, MAX_LINE_BYTES } from '../../../src/server/mcp/mcp-lines.ts';

interface Lines {
  readonly stdin: PassThrough;
  readonly stdout: PassThrough;
  readonly transport: LineTransport;
  /** What came in. */
  readonly messages: unknown[];
  /** What went out. */
  readonly answers: () => unknown[];
}

async function open(): Promise<Lines> {
  const [stdin, stdout] = [new PassThrough(), new PassThrough()];
  const transport = new LineTransport({ stdin, stdout }, parseJSONRPCMessage);
  const messages: unknown[] = [];
  transport.onmessage = (message) => messages.push(message);
  await transport.start();
  const written: Buffer[] = [];
  stdout.on('data', (chunk: Buffer) => written.push(chunk));
  const answers = (): unknown[] =>
    Buffer.concat(written)
      .toString()
      .split('\n')
      .slice(0, -1)
      .map((line) => JSON.parse(line) as unknown);
  return { stdin, stdout, transport, messages, answers };
}

/** What was written to a PassThrough is read within a turn. */
const settled = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

const PING = { jsonrpc: '2.0', id: 1, method: 'ping' };

it('takes a message a line, however it is cut', async () => {
  const { stdin, messages, answers } = await open();
  const text = Buffer.from(`\ufeff${JSON.stringify(PING)}\r\n\n  \n${JSON.stringify({ ...PING, id: 'ä😀' })}\n{"jsonrpc":`);
  for (const byte of text) stdin.write(Buffer.from([byte]));
  await settled();
  stdin.write(Buffer.from('"2.0","method":"notifications/initialized"}\n'));
  await settled();
  expect(messages).toEqual([PING, { ...PING, id: 'ä😀' }, { jsonrpc: '2.0', method: 'notifications/initialized' }]);
  expect(answers()).toEqual([]);
});

it('takes many messages at once, in their order', async () => {
  const { stdin, messages } = await open();
  const many = Array.from({ length: 1000 }, (_, id) => ({ ...PING, id }));
  stdin.write(many.map((each) => `${JSON.stringify(each)}\n`).join(''));
  await settled();
  expect(messages).toEqual(many);
});

describe('what is no message', () => {
  const INVALID = { code: -32600, message: 'this is no message of the protocol' };
  const NO_JSON = { code: -32700, message: 'the message is not JSON' };
  const BATCH = { code: -32600, message: 'batches are not served' };

  it.each<[string, string, object]>([
    ['no JSON', 'hello', { error: NO_JSON }],
    ['half of a message', '{"jsonrpc":"2.0","id":1,', { error: NO_JSON }],
    ['a zero byte', `\u0000${JSON.stringify(PING)}`, { error: NO_JSON }],
    ['a batch', JSON.stringify([PING, { ...PING, id: 2 }]), { error: BATCH }],
    ['an empty batch', '[]', { error: BATCH }],
    ['null', 'null', { error: INVALID }],
    ['a number', '1', { error: INVALID }],
    ['an empty object', '{}', { error: INVALID }],
    ['parameters that are null', '{"jsonrpc":"2.0","id":7,"method":"tools/list","params":null}', { id: 7, error: INVALID }],
    ['parameters that are a list', '{"jsonrpc":"2.0","id":"a","method":"tools/list","params":[]}', { id: 'a', error: INVALID }],
    ['another version', '{"jsonrpc":"1.0","id":0,"method":"ping"}', { id: 0, error: INVALID }],
    ['no method', '{"jsonrpc":"2.0","id":3}', { id: 3, error: INVALID }],
    ['an id of null', '{"jsonrpc":"2.0","id":null,"method":"ping"}', { error: INVALID }],
    ['an id with a fraction', '{"jsonrpc":"2.0","id":1.5,"method":"ping"}', { error: INVALID }],
  ])('%s is answered', async (_, line, answer) => {
    const { stdin, messages, answers } = await open();
    stdin.write(`${line}\n${JSON.stringify(PING)}\n`);
    await settled();
    expect(answers()).toEqual([{ jsonrpc: '2.0', ...answer }]);
    expect(messages).toEqual([PING]);
  });

  it('bytes that are not UTF-8 are answered, and are not mended', async () => {
    const { stdin, messages, answers } = await open();
    const [head = '', tail = ''] = JSON.stringify({ ...PING, params: { text: '|' } }).split('|');
    for (const bytes of [[0xff], [0xc3], [0xed, 0xa0, 0x80], [0xc0, 0xaf]]) {
      stdin.write(Buffer.concat([Buffer.from(head), Buffer.from(bytes), Buffer.from(`${tail}\n`)]));
    }
    await settled();
    expect(messages).toEqual([]);
    expect(answers()).toEqual(
      Array.from({ length: 4 }, () => ({ jsonrpc: '2.0', error: { code: -32700, message: 'the message is not in UTF-8' } })),
    );
  });

  it.each([
    ['an answer that is wrong', '{"jsonrpc":"2.0","id":{},"result":{}}'],
    ['an error that is wrong', '{"jsonrpc":"2.0","id":1,"error":"no"}'],
    ['a notification that is wrong', '{"jsonrpc":"2.0","method":"notifications/initialized","params":[]}'],
  ])('%s is passed over', async (_, line) => {
    const { stdin, messages, answers } = await open();
    stdin.write(`${line}\n${JSON.stringify(PING)}\n`);
    await settled();
    expect(answers()).toEqual([]);
    expect(messages).toEqual([PING]);
  });
});

describe('length', () => {
  const long = (bytes: number): string => `{"jsonrpc":"2.0","id":1,"method":"${'x'.repeat(bytes - 36)}"}`;

  it('a message may be as long as clients make them', async () => {
    const { stdin, messages, answers } = await open();
    const line = long(MAX_LINE_BYTES);
    expect(Buffer.byteLength(line)).toBe(MAX_LINE_BYTES);
    stdin.write(`${line}\n${JSON.stringify(PING)}\n`);
    await settled();
    expect(messages.slice(1)).toEqual([PING]);
    expect(answers()).toEqual([]);
  });

  it.each([
    ['with an end', '\n'],
    ['without one', ''],
  ])('a longer one %s is the last: it is answered, and nothing after it is read', async (_, end) => {
    const { stdin, transport, messages, answers } = await open();
    let closed = 0;
    transport.onclose = () => (closed += 1);
    for (let sent = 0; sent <= MAX_LINE_BYTES; sent += 65_536) stdin.write(Buffer.alloc(65_536, 'x'));
    stdin.write(`${end}${JSON.stringify(PING)}\n`);
    await transport.closed;
    await settled();
    expect(answers()).toEqual([{ jsonrpc: '2.0', error: { code: -32600, message: 'a message may have at most 10485760 bytes' } }]);
    expect({ closed, messages }).toEqual({ closed: 1, messages: [] });
  });
});

describe('sending', () => {
  it('settles with what takes it', async () => {
    const { transport, stdout, answers } = await open();
    await transport.send({ jsonrpc: '2.0', id: 1, result: { text: 'a\nb\u2028' } });
    expect(answers()).toEqual([{ jsonrpc: '2.0', id: 1, result: { text: 'a\nb\u2028' } }]);
    stdout.on('error', () => undefined).destroy();
    await expect(transport.send({ jsonrpc: '2.0', id: 2, result: {} })).rejects.toThrow();
  });

  it('adds no listener a message', async () => {
    const { transport, stdout } = await open();
    stdout.pause();
    const before = stdout.eventNames().map((name) => stdout.listenerCount(name));
    for (let id = 0; id < 100; id += 1) void transport.send({ jsonrpc: '2.0', id, result: { text: 'x'.repeat(10_000) } });
    expect(stdout.eventNames().map((name) => stdout.listenerCount(name))).toEqual(before);
  });

  it('is over after the end', async () => {
    const { transport, stdin, messages } = await open();
    await transport.close();
    await transport.close();
    await transport.closed;
    await expect(transport.send({ jsonrpc: '2.0', id: 1, result: {} })).rejects.toThrow('closed');
    stdin.write(`${JSON.stringify(PING)}\n`);
    await settled();
    expect(messages).toEqual([]);
  });
});
