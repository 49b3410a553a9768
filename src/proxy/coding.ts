// Content codings (RFC 9110 8.4) taken off and put on again, as streams: what has been flushed comes out at once, back-pressure holds
// all the way through, so a bomb costs no memory, and a body that is cut short or corrupt ends with an error and never as if complete.
import { Duplex, Transform, type TransformCallback } from 'node:stream';
import zlib from 'node:zlib';
import type { Decompress } from 'fzstd';

export type CodingPlan =
  | { readonly kind: 'identity' }
  /** `open` makes the streams for one body, in the order in which its bytes run through them. */
  | { readonly kind: 'coded'; readonly open: () => Duplex[] }
  /** `no-encoder`: this Node can take the coding off and not put it on. */
  | { readonly kind: 'unsupported'; readonly reason: 'unknown' | 'too-many' | 'no-encoder' };

/** A body that is not what its Content-Encoding says. The message quotes nothing of it. */
export class CodingError extends Error {
  readonly coding: string;

  constructor(coding: string, cause?: unknown) {
    super(`the body is not valid ${coding}`, { cause });
    this.name = 'CodingError';
    this.coding = coding;
  }
}

export function decoderFor(contentEncoding: string | undefined): CodingPlan {
  return planFor(contentEncoding, (names) => names.toReversed().map((name) => DECODERS.get(name) ?? 'unknown'));
}

/** For a body that was decoded with `decoderFor` of the same header. Every chunk that goes in is flushed. */
export function encoderFor(contentEncoding: string | undefined): CodingPlan {
  return planFor(contentEncoding, (names) => names.map((name) => ENCODERS.get(name) ?? (DECODERS.has(name) ? 'no-encoder' : 'unknown')));
}

type Open = () => Duplex[];
type Refusal = 'unknown' | 'no-encoder';

/** More than anybody sends on purpose, and each one multiplies what a bomb costs. */
const MAX_CODINGS = 3;

function planFor(contentEncoding: string | undefined, find: (names: readonly string[]) => readonly (Open | Refusal)[]): CodingPlan {
  if (contentEncoding === undefined) return IDENTITY;
  const names = contentEncoding
    .toLowerCase()
    .split(',')
    .map((name) => name.trim())
    .filter((name) => name !== '' && name !== 'identity');
  if (names.length === 0) return IDENTITY;
  if (names.length > MAX_CODINGS) return { kind: 'unsupported', reason: 'too-many' };
  const steps: Open[] = [];
  for (const step of find(names)) {
    if (typeof step === 'string') return { kind: 'unsupported', reason: step };
    steps.push(step);
  }
  return { kind: 'coded', open: () => steps.flatMap((step) => step()) };
}

const IDENTITY: CodingPlan = { kind: 'identity' };

/** In Node since 22.15; the types are those of Node 20. */
interface ZstdOfNode {
  readonly createGzip: unknown;
  readonly createZstdCompress?: (options: { flush: number }) => Transform;
  readonly createZstdDecompress?: (options: { params: Record<number, number> }) => Transform;
}

const { createZstdCompress, createZstdDecompress }: ZstdOfNode = zlib;
const ZSTD_E_FLUSH = 1;
const ZSTD_D_WINDOW_LOG_MAX = 100;

const gunzip: Open = () => [new LazyDecoder('gzip', () => zlib.createGunzip())];

const DECODERS: ReadonlyMap<string, Open> = new Map([
  ['gzip', gunzip],
  ['x-gzip', gunzip],
  ['deflate', () => [new LazyDecoder('deflate', inflateEither)]],
  ['br', () => [new LazyDecoder('br', () => zlib.createBrotliDecompress())]],
  ['zstd', () => decodeZstd()],
]);

const gzip: Open = () => [zlib.createGzip({ flush: zlib.constants.Z_SYNC_FLUSH })];

const ENCODERS: ReadonlyMap<string, Open> = new Map([
  ['gzip', gzip],
  ['x-gzip', gzip],
  ['deflate', () => [zlib.createDeflate({ flush: zlib.constants.Z_SYNC_FLUSH })]],
  ['br', () => [compressBrotli()]],
  ...(createZstdCompress === undefined ? [] : [['zstd', () => [createZstdCompress({ flush: ZSTD_E_FLUSH })]] satisfies [string, Open]]),
]);

/** The coding is called `deflate` and means zlib; some servers send the bare stream. A zlib header's low four bits are always 8. */
function inflateEither(first: Buffer): Transform {
  return ((first[0] ?? 0) & 0x0f) === 8 ? zlib.createInflate() : zlib.createInflateRaw();
}

/** The default quality, 11, takes seconds for what 5 does in milliseconds. */
function compressBrotli(): Transform {
  const { BROTLI_OPERATION_FLUSH, BROTLI_PARAM_QUALITY } = zlib.constants;
  return zlib.createBrotliCompress({ flush: BROTLI_OPERATION_FLUSH, params: { [BROTLI_PARAM_QUALITY]: 5 } });
}

/** `engine` is for tests: Node's own where there is one. */
export function decodeZstd(engine: 'node' | 'fzstd' = createZstdDecompress === undefined ? 'fzstd' : 'node'): Duplex[] {
  if (engine === 'node' && createZstdDecompress !== undefined) {
    const params = { [ZSTD_D_WINDOW_LOG_MAX]: 23 };
    return [new ZstdPieces(NOTHING), new LazyDecoder('zstd', () => createZstdDecompress({ params }))];
  }
  return [new ZstdPieces(FOUR_EMPTY_BLOCKS), new LazyDecoder('zstd', () => new FzstdDecoder())];
}

/**
 * A decoder that is chosen by the body's first byte. An empty body stays empty, whatever coding it claims: servers send that, clients
 * take it, and zlib calls it an unexpected end. What follows the end of the coded data is dropped.
 */
class LazyDecoder extends Duplex {
  readonly #coding: string;
  readonly #open: (first: Buffer) => Transform;
  #inner: Transform | undefined;
  #ended = false;
  #done: TransformCallback | undefined;

  constructor(coding: string, open: (first: Buffer) => Transform) {
    super();
    this.#coding = coding;
    this.#open = open;
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: TransformCallback): void {
    if (this.#ended || chunk.length === 0) {
      done();
      return;
    }
    this.#done = done;
    this.#inner ??= this.#attach(this.#open(chunk));
    this.#inner.write(chunk, (error) => {
      if (!error) this.#settle();
    });
  }

  override _final(done: TransformCallback): void {
    if (this.#inner === undefined) this.push(null);
    if (this.#inner === undefined || this.#ended) {
      done();
      return;
    }
    this.#done = done;
    this.#inner.end();
  }

  override _read(): void {
    this.#inner?.resume();
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    this.#inner?.destroy();
    done(error);
  }

  #attach(inner: Transform): Transform {
    inner.on('data', (chunk: Buffer) => {
      if (!this.push(chunk)) inner.pause();
    });
    inner.on('end', () => {
      this.#ended = true;
      this.push(null);
      // zlib forgets the callback of a write that holds more than the end of its data.
      this.#settle();
    });
    inner.on('error', (error) => this.destroy(error instanceof CodingError ? error : new CodingError(this.#coding, error)));
    return inner;
  }

  #settle(): void {
    const done = this.#done;
    this.#done = undefined;
    done?.();
  }
}

/** Zstandard in JavaScript, for a Node that has none. Give it one piece a write. It does not verify checksums. */
class FzstdDecoder extends Transform {
  #decompress: Decompress | undefined;

  override _construct(done: (error?: Error | null) => void): void {
    import('fzstd').then(({ Decompress }) => {
      this.#decompress = new Decompress((data) => this.push(data));
      done();
    }, done);
  }

  override _transform(piece: Buffer, _encoding: BufferEncoding, done: TransformCallback): void {
    this.#push(piece, false, done);
  }

  override _flush(done: TransformCallback): void {
    this.#push(Buffer.alloc(0), true, done);
  }

  #push(piece: Buffer, last: boolean, done: TransformCallback): void {
    try {
      this.#decompress?.push(piece, last);
      done();
    } catch (error) {
      done(new CodingError('zstd', error));
    }
  }
}

const ZSTD_MAGIC = 0xfd2fb528;
const ZSTD_SKIPPABLE = 0x184d2a5;
const SKIP = 64 * 1024;
const ZSTD_MAX_BLOCK = 128 * 1024;
/** RFC 9659: what a content coding may ask of whoever decodes it. A frame may name a window of 2 GB in its first ten bytes. */
const ZSTD_MAX_WINDOW = 8 * 1024 * 1024;
/** fzstd waits for 18 bytes after a frame's start, which would hold back a short event: four empty blocks fill them up. */
const FOUR_EMPTY_BLOCKS = Buffer.alloc(4 * 3);
const NOTHING = Buffer.alloc(0);

/** `mayEnd`: nothing is missing when the body ends here. */
interface Want {
  readonly bytes: number;
  readonly mayEnd?: boolean;
}

/**
 * Cuts a Zstandard stream into frame headers, blocks and checksums, one a chunk: a decoder that gets one block a write cannot inflate
 * more than 128 KiB at once, and Node's drops the frames that follow another one in the same write. Skippable frames are dropped.
 */
class ZstdPieces extends Transform {
  readonly #frames: Generator<Want, never, Buffer>;
  #want: Want;
  #held: Buffer[] = [];
  #heldLength = 0;

  constructor(afterHeader: Buffer) {
    super({ readableObjectMode: true });
    this.#frames = zstdFrames(afterHeader, (piece) => this.push(piece));
    this.#want = this.#frames.next().value;
  }

  override _transform(chunk: Buffer, _encoding: BufferEncoding, done: TransformCallback): void {
    this.#held.push(chunk);
    this.#heldLength += chunk.length;
    try {
      if (this.#heldLength >= this.#want.bytes) this.#take(Buffer.concat(this.#held));
      done();
    } catch (error) {
      done(new CodingError('zstd', error));
    }
  }

  override _flush(done: TransformCallback): void {
    const isComplete = this.#heldLength === 0 && this.#want.mayEnd === true;
    done(isComplete ? null : new CodingError('zstd'));
  }

  #take(bytes: Buffer): void {
    let offset = 0;
    while (bytes.length - offset >= this.#want.bytes) {
      const end = offset + this.#want.bytes;
      this.#want = this.#frames.next(bytes.subarray(offset, end)).value;
      offset = end;
    }
    this.#held = [bytes.subarray(offset)];
    this.#heldLength = bytes.length - offset;
  }
}

/** RFC 8878 3.1. */
function* zstdFrames(afterHeader: Buffer, emit: (piece: Buffer) => void): Generator<Want, never, Buffer> {
  for (;;) {
    const magic = yield { bytes: 4, mayEnd: true };
    if (magic.readUInt32LE() >>> 4 === ZSTD_SKIPPABLE) {
      let size = (yield { bytes: 4 }).readUInt32LE();
      for (; size > 0; size -= Math.min(size, SKIP)) yield { bytes: Math.min(size, SKIP) };
      continue;
    }
    if (magic.readUInt32LE() !== ZSTD_MAGIC) throw new Error('no zstd frame');
    const flags = yield { bytes: 1 };
    const fields = yield { bytes: frameFields(flags.readUInt8()).length };
    const window = frameWindow(flags.readUInt8(), fields);
    emit(Buffer.concat([magic, flags, fields, afterHeader]));
    let isLast = false;
    while (!isLast) {
      const header = yield { bytes: 3 };
      const block = header.readUIntLE(0, 3);
      isLast = (block & 1) === 1;
      const size = block >>> 3;
      if (size > Math.min(window, ZSTD_MAX_BLOCK)) throw new Error('zstd block too large');
      const isRepeat = ((block >>> 1) & 3) === 1;
      emit(Buffer.concat([header, yield { bytes: isRepeat ? 1 : size }]));
    }
    if ((flags.readUInt8() & 4) !== 0) emit(yield { bytes: 4 });
  }
}

/** The lengths of what follows a frame's descriptor: window, dictionary, content size. */
function frameFields(flags: number): { length: number; dictionary: number; content: number } {
  const isSingle = (flags & 0x20) !== 0;
  const dictionary = [0, 1, 2, 4][flags & 3] ?? 0;
  const content = [isSingle ? 1 : 0, 2, 4, 8][flags >>> 6] ?? 0;
  return { length: (isSingle ? 0 : 1) + dictionary + content, dictionary, content };
}

function frameWindow(flags: number, fields: Buffer): number {
  const { length, dictionary, content } = frameFields(flags);
  if (dictionary > 0 && fields.readUIntLE(length - content - dictionary, dictionary) !== 0) throw new Error('zstd dictionary');
  const window = (flags & 0x20) === 0 ? windowOf(fields.readUInt8()) : contentSize(fields.subarray(length - content));
  if (window > ZSTD_MAX_WINDOW) throw new Error('zstd window too large');
  return window;
}

function windowOf(descriptor: number): number {
  const base = 2 ** (10 + (descriptor >>> 3));
  return base + (base / 8) * (descriptor & 7);
}

function contentSize(field: Buffer): number {
  if (field.length === 8) return Number(field.readBigUInt64LE());
  return field.readUIntLE(0, field.length) + (field.length === 2 ? 256 : 0);
}
