// Streaming replacement of byte patterns: the output is the same however the input was cut into chunks. Of matches that overlap the
// one that starts first wins, and of those that start together the longest. Holds back only bytes that may still become a match,
// which are fewer than the longest pattern has. No timer ever lets them go: only more bytes or the end do.
import { Matcher } from './matcher.ts';

export interface Replacement {
  /** Whose value this is, for `Replacer.found`. */
  readonly name: string;
  /** At least 4 bytes. */
  readonly find: Buffer;
  readonly put: Buffer;
}

/** Compiled once per run, shared by every Replacer. When two entries find the same bytes, the first one counts. */
export class ReplacementSet {
  readonly matcher: Matcher;
  readonly list: readonly Replacement[];
  /** What `sameLength` puts in place of each entry of `list`. */
  readonly sameLength: readonly Buffer[];

  constructor(list: readonly Replacement[]) {
    this.list = list;
    this.matcher = new Matcher(list.map(({ find }) => find));
    this.sameLength = list.map(({ find, put }) => cutOrPad(put, find.length));
  }

  get isEmpty(): boolean {
    return this.list.length === 0;
  }
}

function cutOrPad(put: Buffer, length: number): Buffer {
  const result = Buffer.alloc(length, '*');
  put.copy(result);
  return result;
}

const NOTHING = Buffer.alloc(0);

export class Replacer {
  readonly #found = new Set<string>();
  readonly #sameLength: boolean;
  #current: () => ReplacementSet;
  #held = NOTHING;

  /** A function is asked at every push. `sameLength`: what is put is cut, or padded with `*`, to the length of what it replaces. */
  constructor(set: ReplacementSet | (() => ReplacementSet), options: { readonly sameLength?: boolean } = {}) {
    this.#current = typeof set === 'function' ? set : () => set;
    this.#sameLength = options.sameLength ?? false;
  }

  /** Names of what was replaced so far. */
  get found(): ReadonlySet<string> {
    return this.#found;
  }

  /** Bytes of what was pushed that may still become a match. */
  get held(): Buffer {
    return this.#held;
  }

  /** From here on, and for what is held back, another set counts. */
  use(set: ReplacementSet): void {
    this.#current = () => set;
  }

  /** The bytes that can be told by now, perhaps none; the same object when nothing was found and nothing is or was held back. */
  push(chunk: Buffer): Buffer {
    if (chunk.length === 0 || (this.#set.isEmpty && this.#held.length === 0)) return chunk;
    const bytes = this.#held.length === 0 ? chunk : Buffer.concat([this.#held, chunk]);
    return this.#replace(bytes, true);
  }

  /**
   * As `push`, in one or two pieces: what was held back is not copied in front of the chunk when it turns out to be no match. In a stream
   * of large chunks that saves most of what the search costs.
   */
  pieces(chunk: Buffer): readonly Buffer[] {
    const held = this.#held;
    const { longest } = this.#set.matcher;
    if (held.length === 0 || chunk.length < longest) return [this.push(chunk)];
    // Long enough for every match that starts in what was held back.
    const start = this.#set.matcher.find(Buffer.concat([held, chunk.subarray(0, longest - 1)]))?.start;
    if (start !== undefined && start < held.length) return [this.push(chunk)];
    return [held, this.#replace(chunk, true)];
  }

  /** What was held back. After it the Replacer is as new, but for `found`. */
  end(): Buffer {
    return this.#held.length === 0 ? NOTHING : this.#replace(this.#held, false);
  }

  get #set(): ReplacementSet {
    return this.#current();
  }

  #replace(bytes: Buffer, more: boolean): Buffer {
    const { matcher } = this.#set;
    const parts: Buffer[] = [];
    let from = 0;
    let hold = more ? matcher.pendingFrom(bytes) : bytes.length;
    for (let match = matcher.find(bytes); match !== undefined; match = matcher.find(bytes, from)) {
      // Something that starts no later is unfinished: it may win, or may itself be a longer match at the same place.
      if (match.start >= hold) break;
      parts.push(bytes.subarray(from, match.start), this.#take(match.pattern));
      from = match.end;
      if (from > hold) hold = matcher.pendingFrom(bytes, from);
    }
    // A copy: the chunk's memory is the caller's, and keeping it would hold all of it for a few bytes.
    this.#held = hold === bytes.length ? NOTHING : Buffer.from(bytes.subarray(hold));
    if (parts.length > 0) return Buffer.concat([...parts, bytes.subarray(from, hold)]);
    return hold === bytes.length ? bytes : bytes.subarray(0, hold);
  }

  #take(index: number): Buffer {
    const { list, sameLength } = this.#set;
    const entry = list[index];
    if (entry === undefined) return NOTHING;
    this.#found.add(entry.name);
    return (this.#sameLength ? sameLength[index] : entry.put) ?? entry.put;
  }
}
