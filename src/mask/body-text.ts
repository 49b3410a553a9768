// Tokens in a body that streams by, whatever its format: finds them across chunks, and asks `judge` what takes their place. A format's
// `Tracker` says where in the body each one is. Bytes that are no token pass unchanged; held back is only what may be the start of one.
import { Buffer } from 'node:buffer';
import type { TokenEntry, TokenTable } from './table.ts';

export interface BodySwap {
  /** The bytes that can be told by now, perhaps none; the same object when nothing was swapped and nothing is or was held back. */
  push(chunk: Buffer): Buffer;
  end(): Buffer;
}

export interface Place {
  /** Names from the root to the field that this is in; undefined: in no field. */
  readonly path: readonly string[] | undefined;
  readonly inFile?: boolean;
  /** Something before announced how long this is. */
  readonly fixedLength?: boolean;
}

export interface Tracker {
  advance(bytes: Buffer, from: number, to: number): void;
  /** Where the next byte is; undefined: where nothing can be put without breaking the format. */
  place(): Place | undefined;
}

/** Bytes with their escapes undone, as latin1. Left out may be a front in which no token is or starts. */
export interface View {
  readonly text: string;
  /** For each character of `text`, and for its end, where it is in the bytes. An escape that goes on behind the bytes is left out. */
  readonly offsets: Uint32Array;
}

export interface Format {
  readonly tracker: Tracker;
  /** Undefined: the bytes stand for themselves. `last`: an escape that is cut off at the end is no escape. */
  view?(bytes: Buffer, last: boolean): View | undefined;
}

/** What takes the token's place, or undefined to leave it. `length`: of the token in the body, in bytes. */
type Judge = (entry: TokenEntry, place: Place | undefined, length: number) => Buffer | undefined;

const NOTHING = Buffer.alloc(0);

export class TokenBody implements BodySwap {
  readonly #table: TokenTable;
  readonly #format: Format;
  readonly #judge: Judge;
  #held = NOTHING;

  constructor(table: TokenTable, format: Format, judge: Judge) {
    this.#table = table;
    this.#format = format;
    this.#judge = judge;
  }

  push(chunk: Buffer): Buffer {
    if (chunk.length === 0) return chunk;
    return this.#swap(this.#held.length === 0 ? chunk : Buffer.concat([this.#held, chunk]), false);
  }

  end(): Buffer {
    return this.#held.length === 0 ? NOTHING : this.#swap(this.#held, true);
  }

  #swap(bytes: Buffer, last: boolean): Buffer {
    const view = this.#format.view?.(bytes, last);
    if (view === undefined && !this.#table.holdsToken(bytes)) {
      const held = last ? 0 : this.#table.unfinished(this.#table.tail(bytes));
      return this.#release(bytes, bytes.length - held, []);
    }
    const text = view === undefined ? bytes.toString('latin1') : view.text;
    const at = (index: number) => (view === undefined ? index : (view.offsets[index] ?? bytes.length));
    const pieces: Buffer[] = [];
    const { tracker } = this.#format;
    let end = 0;
    let tracked = 0;
    let done = 0;
    for (const found of this.#table.findAll(text)) {
      const [from, to] = [at(found.start), at(found.end)];
      tracker.advance(bytes, tracked, from);
      const put = this.#judge(found.entry, tracker.place(), to - from);
      tracker.advance(bytes, from, to);
      if (put !== undefined) pieces.push(bytes.subarray(done, from), put);
      if (put !== undefined) done = to;
      end = found.end;
      tracked = to;
    }
    const held = last ? 0 : this.#table.unfinished(text.slice(end));
    return this.#release(bytes, at(text.length - held), pieces, { tracked, done });
  }

  /** Lets everything in front of `until` go, and holds back the rest. */
  #release(bytes: Buffer, until: number, pieces: Buffer[], from: { tracked: number; done: number } = { tracked: 0, done: 0 }): Buffer {
    this.#format.tracker.advance(bytes, from.tracked, until);
    // A copy, as it is small, and the chunk it is from is not.
    this.#held = until === bytes.length ? NOTHING : Buffer.from(bytes.subarray(until));
    if (pieces.length === 0) return until === bytes.length ? bytes : bytes.subarray(0, until);
    return Buffer.concat([...pieces, bytes.subarray(from.done, until)]);
  }
}

/** Is there a token in a body? Looks at nothing else of it. */
export class TokenSearch {
  readonly #body: TokenBody;
  #found = false;

  constructor(table: TokenTable, format: Format) {
    const tracker: Tracker = { advance: () => undefined, place: () => undefined };
    this.#body = new TokenBody(table, { ...format, tracker }, () => {
      this.#found = true;
      return undefined;
    });
  }

  /** True from the first token on. */
  push(chunk: Buffer): boolean {
    if (!this.#found) this.#body.push(chunk);
    return this.#found;
  }

  end(): boolean {
    if (!this.#found) this.#body.end();
    return this.#found;
  }
}

/** A body in which fields are not told apart. `fixedLength`: with lengths in it that must stay true. */
export function textFormat(fixedLength = false): Format {
  const place: Place = { path: undefined, fixedLength };
  return { tracker: { advance: () => undefined, place: () => place } };
}

/** For the text and the attributes of XML and HTML. */
export function xmlEscape(text: string): string {
  return text.replace(/[&<>"']/g, (character) => `&#${String(character.charCodeAt(0))};`);
}
