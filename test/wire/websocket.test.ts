// Frames made by hand, each stream whole, split at every byte, and byte by byte; a small reader of frames is the oracle.
import { randomBytes } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { FrameError, FrameRelay, stripExtensions, type FrameRelayOptions, type MessageTransform } from '../../src/wire/websocket.ts';

const TEXT = 1;
const BINARY = 2;
const CLOSE = 8;
const PING = 9;
const PONG = 10;
const TOKEN = 'kz_masked_0123456789abcdef0123456789abcdef';
const VALUE = `CANARY-${randomBytes(8).toString('hex')}`;

/** Holds back what could be the start of `find`, as a real swap does. */
class Exchange implements MessageTransform {
  readonly #find: string;
  readonly #put: string;
  #held = '';

  constructor(find: string, put: string) {
    this.#find = find;
    this.#put = put;
  }

  push(chunk: Buffer): Buffer {
    const text = (this.#held + chunk.toString('latin1')).replaceAll(this.#find, this.#put);
    let keep = Math.min(this.#find.length - 1, text.length);
    while (keep > 0 && !this.#find.startsWith(text.slice(text.length - keep))) keep--;
    this.#held = text.slice(text.length - keep);
    return Buffer.from(text.slice(0, text.length - keep), 'latin1');
  }

  end(): Buffer {
    return Buffer.from(this.#held, 'latin1');
  }
}

const swap: FrameRelayOptions = { to: 'server', transform: () => new Exchange(TOKEN, VALUE) };
const remask: FrameRelayOptions = { to: 'client', binary: true, transform: () => new Exchange(VALUE, TOKEN) };

interface Part {
  readonly opcode: number;
  readonly text: string;
  readonly fin?: boolean;
}

const long = `${'x'.repeat(70_000)}${TOKEN}${'y'.repeat(300)}`;

const STREAMS: [string, Part[]][] = [
  ['a token in a message', [{ opcode: TEXT, text: `{"token":"${TOKEN}","é":1}` }]],
  ['nothing but a token', [{ opcode: TEXT, text: TOKEN }]],
  ['an empty message', [{ opcode: TEXT, text: '' }]],
  ['the beginning of a token at the end', [{ opcode: TEXT, text: `a ${TOKEN.slice(0, 20)}` }]],
  [
    'a beginning and its end in two messages',
    [
      { opcode: TEXT, text: TOKEN.slice(0, 20) },
      { opcode: TEXT, text: TOKEN.slice(20) },
    ],
  ],
  ['a binary message', [{ opcode: BINARY, text: `\x00\xff${TOKEN}` }]],
  [
    'a token over fragments, with a ping and a pong between them',
    [
      { opcode: TEXT, text: `a${TOKEN.slice(0, 5)}`, fin: false },
      { opcode: PING, text: TOKEN },
      { opcode: 0, text: '', fin: false },
      { opcode: 0, text: TOKEN.slice(5, 30), fin: false },
      { opcode: PONG, text: '' },
      { opcode: 0, text: `${TOKEN.slice(30)}b` },
      { opcode: TEXT, text: 'next' },
    ],
  ],
  [
    'an empty last fragment',
    [
      { opcode: TEXT, text: TOKEN, fin: false },
      { opcode: 0, text: '' },
    ],
  ],
  ['lengths at the borders', [125, 126, 127].map((size) => ({ opcode: TEXT, text: 'z'.repeat(size) }))],
  [
    'a token in a close reason',
    [
      { opcode: TEXT, text: 'bye' },
      { opcode: CLOSE, text: `\x03\xe8no ${TOKEN}` },
    ],
  ],
  ['a close without a reason', [{ opcode: CLOSE, text: '\x03\xe8' }]],
  ['a close without a status', [{ opcode: CLOSE, text: '' }]],
];

describe.each(['server', 'client'] as const)('on the way to the %s', (to) => {
  it.each(STREAMS)('%s arrives as it should, in whatever pieces', (_name, parts) => {
    const bytes = Buffer.concat(parts.map((part) => frame(part, to)));
    const expected = messages(parts.map(({ opcode, text, fin }) => ({ opcode, fin: fin ?? true, text }))).map(({ opcode, text }) => ({
      opcode,
      text: opcode === TEXT || opcode === CLOSE ? text.replaceAll(TOKEN, VALUE) : text,
    }));
    for (const pieces of splits(bytes)) expect(messages(read(relay({ ...swap, to }, pieces), to))).toEqual(expected);
  });

  it.each(STREAMS)('%s passes byte by byte without a transform', (_name, parts) => {
    const bytes = Buffer.concat(parts.map((part) => frame(part, to)));
    for (const pieces of splits(bytes)) {
      expect(relay({ to }, pieces)).toEqual(bytes);
      expect(relay({ to, transform: () => undefined }, pieces)).toEqual(bytes);
    }
  });

  it('carries long messages and never collects them', () => {
    const bytes = frame({ opcode: TEXT, text: long }, to);
    const frames = new FrameRelay({ ...swap, to });
    const out: Buffer[] = [];
    for (let at = 0; at < bytes.length; at += 1000) {
      const written = frames.push(bytes.subarray(at, at + 1000));
      const size = written.reduce((sum, { length }) => sum + length, 0);
      expect(size).toBeGreaterThan(Math.min(1000, bytes.length - at) - TOKEN.length);
      expect(size).toBeLessThan(1000 + TOKEN.length);
      out.push(...written);
    }
    expect(messages(read(Buffer.concat(out), to))).toEqual([{ opcode: TEXT, text: long.replace(TOKEN, VALUE) }]);
  });

  it('writes 64-bit lengths', () => {
    const out = relay({ ...swap, to }, [frame({ opcode: TEXT, text: long }, to)]);
    expect(out[0]).toBe(0x81);
    expect((out[1] ?? 0) & 0x7f).toBe(127);
    expect(read(out, to)).toHaveLength(1);
  });
});

it('remasks the payload of a ping and a pong, cut to what one may hold, and swaps in neither', () => {
  for (const opcode of [9, 10]) {
    const value = `${'x'.repeat(90)}${VALUE}`;
    const [back] = read(relay(remask, [frame({ opcode, text: value }, 'client')]), 'client');
    expect(back).toMatchObject({ opcode, text: value.replace(VALUE, TOKEN).slice(0, 125) });
    const sent = frame({ opcode, text: TOKEN }, 'server');
    expect(relay(swap, [sent])).toEqual(sent);
  }
});

it('masks with fresh keys and leaves the bytes it was given alone', () => {
  const bytes = Buffer.concat([frame({ opcode: TEXT, text: 'one' }, 'server'), frame({ opcode: TEXT, text: 'two' }, 'server')]);
  const before = Buffer.from(bytes);
  const keys = [Buffer.from([1, 2, 3, 4]), Buffer.from([0, 0, 0, 0])];
  const out = relay({ ...swap, random: () => keys.shift() ?? Buffer.alloc(4) }, [bytes]);
  expect(out).toEqual(
    Buffer.concat([
      Buffer.from([0x81, 0x83, 1, 2, 3, 4, 0x6f ^ 1, 0x6e ^ 2, 0x65 ^ 3]),
      Buffer.from([0x81, 0x83, 0, 0, 0, 0]),
      Buffer.from('two'),
    ]),
  );
  expect(bytes).toEqual(before);
});

it('hands on at once whatever the transform lets go', () => {
  const frames = new FrameRelay(swap);
  const first = frames.push(frame({ opcode: TEXT, text: `hello ${TOKEN.slice(0, 9)}`, fin: false }, 'server'));
  expect(read(Buffer.concat(first), 'server')).toEqual([{ opcode: TEXT, fin: false, text: 'hello ' }]);
  expect(frames.push(frame({ opcode: 0, text: TOKEN.slice(9, 20), fin: false }, 'server'))).toEqual([]);
  const rest = frames.push(frame({ opcode: 0, text: 'no token' }, 'server'));
  expect(read(Buffer.concat(rest), 'server')).toEqual([{ opcode: 0, fin: true, text: `${TOKEN.slice(0, 20)}no token` }]);
});

it('remasks binary messages where it is asked to', () => {
  const out = relay(remask, [frame({ opcode: BINARY, text: `\xfe${VALUE}\xff` }, 'client')]);
  expect(read(out, 'client')).toEqual([{ opcode: BINARY, fin: true, text: `\xfe${TOKEN}\xff` }]);
});

it('cuts a close reason that has become too long between two characters', () => {
  const reason = Buffer.from(`${VALUE}${'é'.repeat(50)}`);
  const bytes = frame({ opcode: CLOSE, text: `\x03\xe8${reason.toString('latin1')}` }, 'client');
  const [close] = read(relay(remask, [bytes]), 'client');
  const text = Buffer.from(close?.text.slice(2) ?? '', 'latin1');
  expect(close?.text.length).toBeLessThanOrEqual(125);
  expect(text.toString()).toMatch(new RegExp(`^${TOKEN}é+$`));
});

it('drops what follows a close', () => {
  const close = frame({ opcode: CLOSE, text: '\x03\xe8' }, 'client');
  const frames = new FrameRelay(remask);
  expect(Buffer.concat(frames.push(Buffer.concat([close, frame({ opcode: TEXT, text: 'more' }, 'client')])))).toEqual(close);
  expect(frames.push(Buffer.from([0xff]))).toEqual([]);
});

const MASK = [0, 0, 0, 0];

it.each<[string, FrameError['code'], 'server' | 'client', number[]]>([
  ['RSV1: compressed after all', 'extension', 'client', [0xc1, 0]],
  ['RSV1 on its first byte', 'extension', 'client', [0xc1]],
  ['RSV2', 'extension', 'client', [0xa1, 0]],
  ['RSV3 on a control frame', 'extension', 'client', [0x99, 0]],
  ['opcode 3', 'opcode', 'client', [0x83, 0]],
  ['opcode 11', 'opcode', 'client', [0x8b, 0]],
  ['a continuation of nothing', 'order', 'client', [0x80, 0]],
  ['a message within a message', 'order', 'client', [0x01, 0, 0x81, 0]],
  ['a continuation of what has ended', 'order', 'client', [0x81, 0, 0x80, 0]],
  ['an unmasked frame to the server', 'masking', 'server', [0x81, 0]],
  ['a masked frame to the client', 'masking', 'client', [0x81, 0x80, ...MASK]],
  ['a masked control frame to the client', 'masking', 'client', [0x89, 0x80, ...MASK]],
  ['a fragmented ping', 'control', 'client', [0x09, 0]],
  ['a ping of 126 bytes', 'control', 'client', [0x89, 126, 0, 126]],
  ['a close with half a status', 'control', 'server', [0x88, 0x81, ...MASK, 0]],
  ['125 bytes in 16 bits', 'length', 'client', [0x81, 126, 0, 125]],
  ['65535 bytes in 64 bits', 'length', 'client', [0x81, 127, 0, 0, 0, 0, 0, 0, 0xff, 0xff]],
  ['more than 2^53 bytes', 'length', 'client', [0x81, 127, 0, 0x20, 0, 0, 0, 0, 0, 0]],
  ['a negative length', 'length', 'client', [0x81, 127, 0x80, 0, 0, 0, 0, 0, 0, 0]],
])('refuses %s', (_name, code, to, bytes) => {
  for (const options of [{ to }, { ...swap, to }]) {
    for (const pieces of splits(Buffer.from(bytes))) {
      expect(() => relay(options, pieces)).toThrow(expect.objectContaining({ name: 'FrameError', code }) as FrameError);
    }
  }
});

it.each([
  [undefined, undefined],
  ['', undefined],
  ['permessage-deflate', undefined],
  ['permessage-deflate; client_max_window_bits', undefined],
  ['permessage-deflate; server_max_window_bits=10, permessage-deflate', undefined],
  ['PerMessage-Deflate, x-webkit-deflate-frame', undefined],
  ['bbf-usp-protocol; eid="a,permessage-deflate;\\",b", permessage-deflate', 'bbf-usp-protocol; eid="a,permessage-deflate;\\",b"'],
  ['a,,b ; c', 'a, b ; c'],
  ['a; b="open, permessage-deflate', 'a; b="open'],
])('of the extensions %j leaves %j', (value, left) => {
  expect(stripExtensions(value)).toBe(left);
});

/** Whole, byte by byte, and in two pieces, cut everywhere. */
function* splits(bytes: Buffer): Generator<Buffer[]> {
  yield [bytes];
  yield Array.from(bytes, (byte) => Buffer.from([byte]));
  for (let at = 1; at < bytes.length; at++) yield [bytes.subarray(0, at), bytes.subarray(at)];
}

function relay(options: FrameRelayOptions, pieces: readonly Buffer[]): Buffer {
  const frames = new FrameRelay(options);
  return Buffer.concat(pieces.flatMap((piece) => frames.push(piece)));
}

/** A frame as RFC 6455 5.2 draws it; its text is latin1. */
function frame({ opcode, text, fin = true }: Part, to: 'server' | 'client'): Buffer {
  const payload = Buffer.from(text, 'latin1');
  const size = payload.length;
  const mask = to === 'server' ? 0x80 : 0;
  const length =
    size < 126 ? [size] : size < 65_536 ? [126, size >> 8, size & 255] : [127, 0, 0, 0, 0, 0, size >> 16, (size >> 8) & 255, size & 255];
  const key = to === 'server' ? randomBytes(4) : Buffer.alloc(0);
  const head = Buffer.from([(fin ? 0x80 : 0) | opcode, mask | (length[0] ?? 0), ...length.slice(1)]);
  return Buffer.concat([head, key, payload.map((byte, index) => byte ^ (key[index % 4] ?? 0))]);
}

interface Read {
  readonly opcode: number;
  readonly fin: boolean;
  readonly text: string;
}

/** The frames in the bytes, which must be nothing else. */
function read(bytes: Buffer, to: 'server' | 'client'): Read[] {
  const found: Read[] = [];
  let at = 0;
  while (at < bytes.length) {
    const [first = 0, second = 0] = bytes.subarray(at);
    expect(first & 0x70).toBe(0);
    expect(second >> 7).toBe(to === 'server' ? 1 : 0);
    at += 2;
    let size = second & 127;
    if (size === 126) size = bytes.readUInt16BE((at += 2) - 2);
    else if (size === 127) size = Number(bytes.readBigUInt64BE((at += 8) - 8));
    const key = bytes.subarray(at, (at += to === 'server' ? 4 : 0));
    const payload = Buffer.from(bytes.subarray(at, (at += size)));
    expect(payload.length).toBe(size);
    found.push({
      opcode: first & 15,
      fin: first > 127,
      text: Buffer.from(payload.map((byte, index) => byte ^ (key[index % 4] ?? 0))).toString('latin1'),
    });
  }
  return found;
}

/** Fragments joined, control frames where they ended up: before the message they interrupted. */
function messages(frames: readonly Read[]): { opcode: number; text: string }[] {
  const done: { opcode: number; text: string }[] = [];
  let open: { opcode: number; text: string } | undefined;
  for (const { opcode, fin, text } of frames) {
    if (opcode >= 8) {
      done.push({ opcode, text });
      continue;
    }
    expect(opcode === 0).toBe(open !== undefined);
    open = { opcode: open?.opcode ?? opcode, text: (open?.text ?? '') + text };
    if (!fin) continue;
    done.push(open);
    open = undefined;
  }
  expect(open).toBeUndefined();
  return done;
}
