// Finds many byte patterns in one pass (Wu-Manber): a window as long as the shortest pattern slides over the text, and the last bytes
// in it, a block, say how far it may move. It only reports; what a match means, and what waits for more bytes, is the caller's.
import { KzError } from '../core/errors.ts';

export interface Match {
  readonly start: number;
  readonly end: number;
  /** Index of the pattern in the list the matcher was made from; the first one when the list has it twice. */
  readonly pattern: number;
}

const SHORTEST_PATTERN = 4;
/** Above this many patterns most pairs of bytes stand in some pattern, so a block of two hardly ever lets the window move. */
const MANY_PATTERNS = 300;
const BLOCK_CODES = 1 << 16;
const LONGEST_WINDOW = 256;

export class Matcher {
  /** 0 when there are no patterns. */
  readonly shortest: number;
  readonly longest: number;
  readonly #patterns: readonly Buffer[];
  /** In byte order, for `pendingFrom`. */
  readonly #sorted: readonly Buffer[];
  readonly #window: number;
  readonly #wide: boolean;
  /** Block → how far the window may move; 0: some pattern's window ends in this block. */
  readonly #shift = new Uint8Array(BLOCK_CODES);
  /** The same for a block whose shift is 0, once the patterns that end in it have been tried. */
  readonly #shiftAfter = new Uint8Array(BLOCK_CODES);
  /** Block → where its patterns start in `#order`; they end where `#last` says so. */
  readonly #bucket = new Int32Array(BLOCK_CODES);
  /** Pattern indexes by block, longest first. */
  readonly #order: Int32Array;
  readonly #heads: Int32Array;
  readonly #last: Uint8Array;
  /** First two bytes → length of the longest pattern that starts so. */
  readonly #reach = new Uint32Array(1 << 16);

  /** Patterns of at least 4 bytes. The matcher keeps the buffers: do not change them. */
  constructor(patterns: readonly Buffer[]) {
    if (patterns.some(({ length }) => length < SHORTEST_PATTERN)) {
      throw new KzError('internal', `cannot search for a pattern shorter than ${String(SHORTEST_PATTERN)} bytes`);
    }
    this.#patterns = patterns;
    const distinct = distinctIndexes(patterns);
    const lengths = patterns.map(({ length }) => length);
    this.shortest = lengths.reduce((least, length) => Math.min(least, length), lengths[0] ?? 0);
    this.longest = lengths.reduce((most, length) => Math.max(most, length), 0);
    this.#window = Math.min(this.shortest, LONGEST_WINDOW);
    this.#wide = distinct.length > MANY_PATTERNS;
    this.#sorted = distinct.map((index) => this.#pattern(index)).sort((a, b) => Buffer.compare(a, b));
    for (const pattern of this.#sorted) {
      const head = twoBytes(pattern, 0);
      this.#reach[head] = Math.max(this.#reach[head] ?? 0, pattern.length);
    }
    const order = this.#byBlock(distinct);
    this.#order = Int32Array.from(order);
    this.#heads = Int32Array.from(order, (index) => twoBytes(this.#pattern(index), 0));
    this.#last = new Uint8Array(order.length);
    this.#fillShifts();
    this.#fillBuckets();
  }

  /** The match that starts first in bytes[from…], and of those that start there the longest. */
  find(bytes: Buffer, from = 0): Match | undefined {
    if (this.#patterns.length === 0) return undefined;
    return this.#wide ? this.#findByThree(bytes, from) : this.#findByTwo(bytes, from);
  }

  /** Start of the earliest suffix of bytes[from…] that is a true prefix of a pattern, and so may still become a match; else the length. */
  pendingFrom(bytes: Buffer, from = 0): number {
    const end = bytes.length;
    for (let start = Math.max(from, end - this.longest + 1); start < end - 1; start += 1) {
      if ((this.#reach[twoBytes(bytes, start)] ?? 0) > end - start && this.#isPrefix(bytes, start)) return start;
    }
    return end > from && this.#isPrefix(bytes, end - 1) ? end - 1 : end;
  }

  // The two loops differ in the block only; one loop that asks which is about a tenth slower.
  #findByTwo(bytes: Buffer, from: number): Match | undefined {
    const shift = this.#shift;
    const to = bytes.length;
    let end = from + this.#window - 1;
    while (end < to) {
      const block = ((bytes[end - 1] ?? 0) << 8) | (bytes[end] ?? 0);
      const step = shift[block] ?? 1;
      if (step === 0) {
        const match = this.#longestAt(bytes, end - this.#window + 1, block);
        if (match !== undefined) return match;
        end += this.#shiftAfter[block] ?? 1;
      } else end += step;
    }
    return undefined;
  }

  #findByThree(bytes: Buffer, from: number): Match | undefined {
    const shift = this.#shift;
    const to = bytes.length;
    let end = from + this.#window - 1;
    while (end < to) {
      const block = threeBytes(bytes[end - 2] ?? 0, bytes[end - 1] ?? 0, bytes[end] ?? 0);
      const step = shift[block] ?? 1;
      if (step === 0) {
        const match = this.#longestAt(bytes, end - this.#window + 1, block);
        if (match !== undefined) return match;
        end += this.#shiftAfter[block] ?? 1;
      } else end += step;
    }
    return undefined;
  }

  #longestAt(bytes: Buffer, start: number, block: number): Match | undefined {
    const head = twoBytes(bytes, start);
    for (let at = this.#bucket[block] ?? 0; at < this.#order.length; at += 1) {
      if (this.#heads[at] === head) {
        const index = this.#order[at] ?? 0;
        const pattern = this.#pattern(index);
        if (start + pattern.length <= bytes.length && occursAt(bytes, start, pattern))
          return { start, end: start + pattern.length, pattern: index };
      }
      if (this.#last[at] === 1) return undefined;
    }
    return undefined;
  }

  #isPrefix(bytes: Buffer, start: number): boolean {
    const sorted = this.#sorted;
    let low = 0;
    let high = sorted.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      const pattern = sorted[middle];
      if (pattern !== undefined && comesBefore(pattern, bytes, start)) low = middle + 1;
      else high = middle;
    }
    return extendsSuffix(sorted[low], bytes, start) || extendsSuffix(sorted[low + 1], bytes, start);
  }

  #byBlock(indexes: readonly number[]): number[] {
    const entries = indexes.map((index) => ({ index, block: this.#lastBlock(index), length: this.#pattern(index).length }));
    return entries.sort((a, b) => a.block - b.block || b.length - a.length).map(({ index }) => index);
  }

  #lastBlock(index: number): number {
    return this.#blockAt(this.#pattern(index), this.#window - 1);
  }

  #fillShifts(): void {
    const width = this.#wide ? 3 : 2;
    const furthest = Math.max(1, this.#window - width + 1);
    this.#shift.fill(Math.min(furthest, 255));
    this.#shiftAfter.fill(Math.min(furthest, 255));
    for (const pattern of this.#sorted) {
      for (let end = width - 1; end < this.#window; end += 1) {
        const block = this.#blockAt(pattern, end);
        const step = this.#window - 1 - end;
        this.#shift[block] = Math.min(this.#shift[block] ?? 0, step);
        if (step > 0) this.#shiftAfter[block] = Math.min(this.#shiftAfter[block] ?? 0, step);
      }
    }
  }

  #fillBuckets(): void {
    const blocks = Array.from(this.#order, (index) => this.#lastBlock(index));
    blocks.forEach((block, at) => {
      if (blocks[at - 1] !== block) this.#bucket[block] = at;
      if (blocks[at + 1] !== block) this.#last[at] = 1;
    });
  }

  #blockAt(bytes: Buffer, end: number): number {
    return this.#wide ? threeBytes(bytes[end - 2] ?? 0, bytes[end - 1] ?? 0, bytes[end] ?? 0) : twoBytes(bytes, end - 1);
  }

  #pattern(index: number): Buffer {
    return this.#patterns[index] ?? NOTHING;
  }
}

const NOTHING = Buffer.alloc(0);

function distinctIndexes(patterns: readonly Buffer[]): number[] {
  const first = new Map<string, number>();
  patterns.forEach((pattern, index) => {
    const key = pattern.toString('latin1');
    if (!first.has(key)) first.set(key, index);
  });
  return [...first.values()];
}

function twoBytes(bytes: Buffer, at: number): number {
  return ((bytes[at] ?? 0) << 8) | (bytes[at + 1] ?? 0);
}

/** Different blocks may share a code: the window then moves less far than it could, never too far. */
function threeBytes(a: number, b: number, c: number): number {
  return ((a << 10) ^ (b << 5) ^ c) & (BLOCK_CODES - 1);
}

/** From the end: patterns in one bucket start alike, as the keys of one vendor do. */
function occursAt(bytes: Buffer, start: number, pattern: Buffer): boolean {
  for (let at = pattern.length - 1; at >= 0; at -= 1) {
    if (bytes[start + at] !== pattern[at]) return false;
  }
  return true;
}

/** Is the pattern smaller, in byte order, than bytes[start…]? */
function comesBefore(pattern: Buffer, bytes: Buffer, start: number): boolean {
  const length = Math.min(pattern.length, bytes.length - start);
  for (let at = 0; at < length; at += 1) {
    const difference = (pattern[at] ?? 0) - (bytes[start + at] ?? 0);
    if (difference !== 0) return difference < 0;
  }
  return pattern.length < bytes.length - start;
}

function extendsSuffix(pattern: Buffer | undefined, bytes: Buffer, start: number): boolean {
  if (pattern === undefined || pattern.length <= bytes.length - start) return false;
  for (let at = start; at < bytes.length; at += 1) {
    if (bytes[at] !== pattern[at - start]) return false;
  }
  return true;
}
