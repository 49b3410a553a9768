// node:zlib beside the streams as oracle; zstd also from the zstd program, and through both decoders where this Node has its own.
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { PassThrough, Readable, type Duplex } from 'node:stream';
import { finished } from 'node:stream/promises';
import zlib from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { through } from '../../src/proxy/body.ts';
import { CodingError, decodeZstd, decoderFor, encoderFor } from '../../src/proxy/coding.ts';

const TEXT = Buffer.from(`data: CANARY-${randomBytes(8).toString('hex')}\n\n`.repeat(20));
const hasZstd = 'createZstdDecompress' in zlib;

/** By the zstd program, with a checksum. */
const HELLO_ZSTD = Buffer.from('KLUv/QRYMQAAaGVsbG8KU4i9kQ==', 'base64');
const HELLO = Buffer.from('hello\n');

const CODED: [coding: string, coded: Buffer, plain: Buffer][] = [
  ['gzip', zlib.gzipSync(TEXT), TEXT],
  ['x-gzip', zlib.gzipSync(TEXT), TEXT],
  ['deflate', zlib.deflateSync(TEXT), TEXT],
  ['deflate', zlib.deflateRawSync(TEXT), TEXT],
  ['deflate', zlib.deflateRawSync(TEXT, { level: 0 }), TEXT],
  ['br', zlib.brotliCompressSync(TEXT), TEXT],
  ['gzip, br', zlib.brotliCompressSync(zlib.gzipSync(TEXT)), TEXT],
  [' , BR,identity , GZip', zlib.gzipSync(zlib.brotliCompressSync(TEXT)), TEXT],
  ['gzip', zlib.gzipSync(''), Buffer.alloc(0)],
  ['zstd', HELLO_ZSTD, HELLO],
  ['gzip, zstd', frame(0x58, [block(zlib.gzipSync(HELLO))]), HELLO],
];

const TWO_MEMBERS: (typeof CODED)[number] = [
  'gzip',
  Buffer.concat([zlib.gzipSync(TEXT), zlib.gzipSync('more')]),
  Buffer.concat([TEXT, Buffer.from('more')]),
];

describe('a body', () => {
  it.each([...CODED, TWO_MEMBERS])('in %s comes out whole, split at every byte, and byte by byte', async (coding, coded, plain) => {
    expect(await decode(coding, [coded])).toEqual(plain);
    expect(await decode(coding, bytesOf(coded))).toEqual(plain);
    for (let at = 1; at < coded.length; at++) {
      expect((await decode(coding, [coded.subarray(0, at), coded.subarray(at)])).equals(plain)).toBe(true);
    }
  });

  it.each(CODED)('in %s that is cut short is an error, wherever it is cut', async (coding, coded) => {
    for (let end = 1; end < coded.length; end++) {
      await expect(decode(coding, [coded.subarray(0, end)])).rejects.toThrow(CodingError);
    }
  });

  it.each(['gzip', 'deflate', 'br', 'zstd', 'gzip, zstd', 'br, gzip'])('of no bytes stays empty in %s', async (coding) => {
    expect(await decode(coding, [])).toEqual(Buffer.alloc(0));
    expect(await decode(coding, [Buffer.alloc(0)])).toEqual(Buffer.alloc(0));
  });

  it.each(['gzip', 'br', 'zstd', 'deflate'])('that is not %s is an error that quotes nothing', async (coding) => {
    const wrong = decode(coding, [Buffer.from('\xff CANARY-plain text that was never compressed', 'latin1')]);
    await expect(wrong).rejects.toMatchObject({ name: 'CodingError', coding, message: `the body is not valid ${coding}` });
  });

  it('with a wrong checksum is an error', async () => {
    const coded = zlib.gzipSync(TEXT);
    coded[coded.length - 6] = (coded[coded.length - 6] ?? 0) ^ 1;
    await expect(decode('gzip', [coded])).rejects.toThrow(CodingError);
  });

  it.each(['deflate', 'br'])('in %s may have bytes behind its end, which are dropped', async (coding) => {
    const coded = coding === 'br' ? zlib.brotliCompressSync(TEXT) : zlib.deflateSync(TEXT);
    const rest = Buffer.alloc(100_000, 'rest');
    expect((await decode(coding, [Buffer.concat([coded, rest])])).equals(TEXT)).toBe(true);
    expect((await decode(coding, [coded, rest, rest, rest])).equals(TEXT)).toBe(true);
  });
});

describe('an event stream', () => {
  it.each(['gzip', 'deflate', 'br', 'zstd', 'gzip, br'])('in %s gives each event at once', async (coding) => {
    if (coding === 'zstd' && !hasZstd) return;
    const steps = open(encoderFor(coding)).concat(open(decoderFor(coding)));
    const source = new PassThrough();
    const events = through(source, steps)[Symbol.asyncIterator]() as AsyncIterator<Buffer>;
    for (const event of [': ok\n\n', 'data: 1\n\n', `data: ${'x'.repeat(5000)}\n\n`, ':\n\n']) {
      source.write(event);
      expect(await take(events, event.length)).toBe(event);
    }
    source.end();
    expect(await events.next()).toMatchObject({ done: true });
  });

  it('in raw deflate gives each event at once', async () => {
    const source = zlib.createDeflateRaw({ flush: zlib.constants.Z_SYNC_FLUSH });
    const events = through(source, open(decoderFor('deflate')))[Symbol.asyncIterator]() as AsyncIterator<Buffer>;
    for (const event of [': ok\n\n', 'data: 1\n\n']) {
      source.write(event);
      expect(await take(events, event.length)).toBe(event);
    }
    source.destroy();
  });
});

describe.each(hasZstd ? (['node', 'fzstd'] as const) : (['fzstd'] as const))('zstd by %s', (engine) => {
  const decodeFrames = (...pieces: Buffer[]) => collect(through(Readable.from(pieces), decodeZstd(engine)));
  const hello = frame(0x58, [block(HELLO)]);

  it.each([
    ['a raw block', hello, HELLO],
    ['a repeated byte', frame(0x58, [block(Buffer.from('z'), { repeat: 1000 })]), Buffer.alloc(1000, 'z')],
    ['several blocks', frame(0x58, [block(HELLO), block(Buffer.alloc(0)), block(TEXT)]), Buffer.concat([HELLO, TEXT])],
    ['two frames', Buffer.concat([hello, hello]), Buffer.concat([HELLO, HELLO])],
    ['a checksum, then another frame', Buffer.concat([HELLO_ZSTD, hello]), Buffer.concat([HELLO, HELLO])],
    ['a skippable frame', Buffer.concat([skippable(100_000), hello, skippable(0), hello, skippable(3)]), Buffer.concat([HELLO, HELLO])],
    ['a frame of one segment', Buffer.concat([Buffer.from([0x28, 0xb5, 0x2f, 0xfd, 0x20, 6]), last(block(HELLO))]), HELLO],
    ['an empty frame', Buffer.concat([Buffer.from([0x28, 0xb5, 0x2f, 0xfd, 0x20, 0, 1, 0, 0]), hello]), HELLO],
  ])('reads %s, in whatever pieces', async (_name, coded, plain) => {
    expect((await decodeFrames(coded)).equals(plain)).toBe(true);
    const small = coded.length < 1000;
    if (small) expect((await decodeFrames(...bytesOf(coded))).equals(plain)).toBe(true);
    for (let at = 1; small && at < coded.length; at++) {
      expect((await decodeFrames(coded.subarray(0, at), coded.subarray(at))).equals(plain)).toBe(true);
    }
  });

  it.each([
    ['no frame', Buffer.from('no frame')],
    ['something behind a frame', Buffer.concat([hello, Buffer.from('rest')])],
    ['half a magic number behind a frame', Buffer.concat([hello, hello.subarray(0, 2)])],
    ['half a skippable frame', skippable(10).subarray(0, 12)],
    ['a window of 9 MB', frame(0x69, [block(HELLO)])],
    ['a window of 2 GB', frame(0xa8, [block(HELLO)])],
    ['a segment of 1 GB', Buffer.from([0x28, 0xb5, 0x2f, 0xfd, 0xa0, 0, 0, 0, 0x40, 1, 0, 0])],
    ['a dictionary', Buffer.from([0x28, 0xb5, 0x2f, 0xfd, 0x01, 0x58, 7, 1, 0, 0])],
    ['a block of more than 128 KiB', frame(0x58, [block(Buffer.from('z'), { repeat: 128 * 1024 + 1 })])],
    ['a block larger than the window', frame(0x00, [block(Buffer.from('z'), { repeat: 1025 })])],
    ['a reserved block type', frame(0x58, [Buffer.from([0x06, 0, 0])])],
    ['a reserved flag', Buffer.from([0x28, 0xb5, 0x2f, 0xfd, 0x08, 0x58, 1, 0, 0])],
  ])('refuses %s', async (_name, coded) => {
    await expect(decodeFrames(coded)).rejects.toThrow(CodingError);
    await expect(decodeFrames(...bytesOf(coded))).rejects.toThrow(CodingError);
  });

  it('gives each flushed block at once, also a very short one', async () => {
    const source = new PassThrough();
    const events = through(source, decodeZstd(engine))[Symbol.asyncIterator]() as AsyncIterator<Buffer>;
    source.write(Buffer.from([0x28, 0xb5, 0x2f, 0xfd, 0, 0x58]));
    for (const event of [':\n\n', 'data: 1\n\n']) {
      source.write(block(Buffer.from(event)));
      expect(await take(events, event.length)).toBe(event);
    }
    source.end(last(block(Buffer.alloc(0))));
    expect(await events.next()).toMatchObject({ done: true });
  });

  it('inflates a bomb no faster than it is read', async () => {
    const blocks = Array.from({ length: 10_000 }, () => block(Buffer.from('z'), { repeat: 128 * 1024 }));
    const [pieces, decoder] = decodeZstd(engine);
    if (pieces === undefined || decoder === undefined) throw new Error('zstd takes two steps');
    const out = through(Readable.from([frame(0x58, blocks)]), [pieces, decoder]);
    let seen = 0;
    for await (const chunk of out as AsyncIterable<Buffer>) {
      seen += chunk.length;
      expect(decoder.readableLength).toBeLessThan(1024 * 1024);
      if (seen > 20 * 1024 * 1024) break;
    }
    expect(seen).toBeLessThan(22 * 1024 * 1024);
  });

  it.runIf(hasProgram('zstd'))('reads what the zstd program writes', async () => {
    const words = Buffer.from(Array.from({ length: 60_000 }, (_, index) => `${String(index * 7919)} word `).join(''));
    const noise = Buffer.concat([randomBytes(300_000), words, Buffer.alloc(400_000)]);
    for (const input of [words, noise]) {
      for (const level of ['-1', '-3', '-12', '-19']) {
        const coded = execFileSync('zstd', [level, '-c', '-q'], { input, maxBuffer: 2 ** 26 });
        expect((await decodeFrames(coded)).equals(input)).toBe(true);
        expect((await decodeFrames(...slices(coded, 1000))).equals(input)).toBe(true);
        await expect(decodeFrames(coded.subarray(0, -1))).rejects.toThrow(CodingError);
      }
    }
  });
});

describe('a re-encoded body', () => {
  it.each([
    ['gzip', (coded: Buffer) => zlib.gunzipSync(coded)],
    ['X-GZIP', (coded: Buffer) => zlib.gunzipSync(coded)],
    ['deflate', (coded: Buffer) => zlib.inflateSync(coded)],
    ['br', (coded: Buffer) => zlib.brotliDecompressSync(coded)],
    ['gzip, br', (coded: Buffer) => zlib.gunzipSync(zlib.brotliDecompressSync(coded))],
  ])('in %s reads as it was', async (coding, oracle) => {
    const coded = await collect(through(Readable.from(slices(TEXT, 17)), open(encoderFor(coding))));
    expect(oracle(coded).equals(TEXT)).toBe(true);
    expect((await decode(coding, [coded])).equals(TEXT)).toBe(true);
  });
});

describe('the plan', () => {
  it.each([undefined, '', 'identity', ' , Identity,'])('for %j is to do nothing', (coding) => {
    expect(decoderFor(coding)).toEqual({ kind: 'identity' });
    expect(encoderFor(coding)).toEqual({ kind: 'identity' });
  });

  it.each([
    ['compress', 'unknown'],
    ['aws-chunked', 'unknown'],
    ['gzip;q=1', 'unknown'],
    ['gzip br', 'unknown'],
    ['gzip, toString', 'unknown'],
    ['gzip, gzip, gzip, gzip', 'too-many'],
  ])('for %s is to refuse', (coding, reason) => {
    expect(decoderFor(coding)).toEqual({ kind: 'unsupported', reason });
    expect(encoderFor(coding)).toEqual({ kind: 'unsupported', reason });
  });

  it('for zstd depends on this Node, on the way out', () => {
    expect(decoderFor('zstd').kind).toBe('coded');
    expect(encoderFor('zstd')).toMatchObject(hasZstd ? { kind: 'coded' } : { kind: 'unsupported', reason: 'no-encoder' });
  });
});

describe('a pipe', () => {
  const zeros = Buffer.alloc(64 * 1024 * 1024);
  const fast = { params: { [zlib.constants.BROTLI_PARAM_QUALITY]: 2 } };

  it.each([
    ['gzip', zlib.gzipSync(zeros)],
    ['deflate', zlib.deflateSync(zeros)],
    ['br', zlib.brotliCompressSync(zeros, fast)],
  ])('of %s inflates a bomb no faster than it is read', async (coding, coded) => {
    const [decoder] = open(decoderFor(coding));
    if (decoder === undefined) throw new Error('there is one step');
    through(Readable.from([coded]), [decoder]);
    for (let seen = 0; seen < 5 * 1024 * 1024;) {
      await new Promise((resolve) => decoder.once('readable', resolve));
      expect(decoder.readableLength).toBeLessThan(512 * 1024);
      seen += (decoder.read() as Buffer | null)?.length ?? 0;
    }
    decoder.destroy();
  });

  it('hands on how its source failed', async () => {
    const failure = new Error('connection reset');
    const source = new PassThrough();
    const out = through(source, open(decoderFor('gzip, br')));
    source.write(zlib.brotliCompressSync(zlib.gzipSync(TEXT)).subarray(0, 20));
    source.destroy(failure);
    await expect(collect(out)).rejects.toBe(failure);
  });

  it.each(['gzip', 'zstd', 'gzip, br'])('of %s closes its source when its reader gives up, at any time', async (coding) => {
    for (const isStarted of [false, true]) {
      const source = new PassThrough();
      const out = through(source, open(decoderFor(coding)));
      if (isStarted) source.write(Buffer.from([0x28]));
      out.destroy();
      await expect(finished(source)).rejects.toMatchObject({ code: 'ERR_STREAM_PREMATURE_CLOSE' });
    }
  });

  it('closes its source when a body is corrupt', async () => {
    const source = new PassThrough();
    const out = through(source, open(decoderFor('gzip')));
    source.write('not gzip');
    await expect(collect(out)).rejects.toThrow(CodingError);
    expect(source.destroyed).toBe(true);
  });
});

function open(plan: ReturnType<typeof decoderFor>): Duplex[] {
  if (plan.kind !== 'coded') throw new Error(`the plan is ${plan.kind}`);
  return plan.open();
}

function decode(coding: string, pieces: readonly Buffer[]): Promise<Buffer> {
  return collect(through(Readable.from(pieces, { objectMode: false }), open(decoderFor(coding))));
}

async function collect(stream: Readable): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of stream as AsyncIterable<Buffer>) chunks.push(chunk);
  return Buffer.concat(chunks);
}

/** So much text, which must be there without anything else being written. */
async function take(chunks: AsyncIterator<Buffer>, size: number): Promise<string> {
  let text = '';
  while (text.length < size) {
    const { value, done } = (await chunks.next()) as IteratorResult<Buffer, undefined>;
    if (done === true) break;
    text += value.toString();
  }
  return text;
}

function bytesOf(bytes: Buffer): Buffer[] {
  return slices(bytes, 1);
}

function slices(bytes: Buffer, size: number): Buffer[] {
  return Array.from({ length: Math.ceil(bytes.length / size) }, (_, index) => bytes.subarray(index * size, (index + 1) * size));
}

/** A Zstandard frame (RFC 8878 3.1.1) with this window descriptor. */
function frame(window: number, blocks: readonly Buffer[]): Buffer {
  return Buffer.concat([Buffer.from([0x28, 0xb5, 0x2f, 0xfd, 0, window]), ...blocks.slice(0, -1), last(blocks.at(-1) ?? Buffer.alloc(3))]);
}

function block(bytes: Buffer, { repeat }: { repeat?: number } = {}): Buffer {
  const header = Buffer.alloc(3);
  header.writeUIntLE(((repeat ?? bytes.length) << 3) | (repeat === undefined ? 0 : 2), 0, 3);
  return Buffer.concat([header, bytes]);
}

function last(bytes: Buffer): Buffer {
  const copy = Buffer.from(bytes);
  copy[0] = (copy[0] ?? 0) | 1;
  return copy;
}

function skippable(size: number): Buffer {
  const header = Buffer.from([0x5a, 0x2a, 0x4d, 0x18, 0, 0, 0, 0]);
  header.writeUInt32LE(size, 4);
  return Buffer.concat([header, Buffer.alloc(size, 's')]);
}

function hasProgram(name: string): boolean {
  try {
    execFileSync(name, ['--version'], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
}
