// `--redact`: what a program writes, with `[redacted:NAME]` in place of the values it was given and `[redacted]` in place of every other
// password in a connection string. The output is the same however the input was cut into chunks; what is held back is let go by more bytes
// or the end, never by a clock. Does not look into binary formats, and not for values under 8 bytes.
import type { Secret } from '../core/secret.ts';
import { ConnectionStrings } from './connection-string.ts';
import { hideInJson, JsonLine, jsonStart, LONGEST_LINE, startsLine, type Hiding } from './json-line.ts';
import { redactionsOf } from './remask.ts';
import { Replacer, ReplacementSet, type Replacement } from './replace.ts';

export interface Redacted {
  readonly name: string;
  readonly secret: Secret;
}

/** What to hide. Of a URL also its password by itself, of a JSON document also the secrets in it. */
export class RedactionSet implements Hiding {
  readonly values: ReplacementSet;
  readonly #list: readonly Redacted[];
  readonly #documents: readonly Replacement[];

  constructor(list: readonly Redacted[]) {
    this.#list = [...list];
    this.values = new ReplacementSet(redactionsOf(list));
    this.#documents = this.values.list.filter(isDocument).sort((a, b) => b.find.length - a.find.length);
  }

  /** After a rotation both the new value and the old ones are hidden, but for the oldest. */
  with(more: readonly Redacted[]): RedactionSet {
    const added = more.filter(({ secret }) => !this.#list.some((known) => known.secret.equals(secret)));
    return added.length === 0 ? this : new RedactionSet(withoutOldest([...this.#list, ...added]));
  }

  /** A whole text; the same object when there is nothing to hide in it. */
  hide(text: Buffer): Buffer {
    return ConnectionStrings.hide(this.#hideValues(text));
  }

  documentAt(bytes: Buffer, at: number): { readonly length: number; readonly put: Buffer } | undefined {
    const found = this.#documents.find(({ find }) => bytes.subarray(at, at + find.length).equals(find));
    return found === undefined ? undefined : { length: found.find.length, put: Buffer.from(JSON.stringify(found.put.toString())) };
  }

  #hideValues(text: Buffer): Buffer {
    if (this.values.matcher.find(text) === undefined) return text;
    const replacer = new Replacer(this.values);
    return Buffer.concat([replacer.push(text), replacer.end()]);
  }
}

/** Of one secret, the current value among them: a program that runs for months must not get slower with every rotation. */
const MOST_VALUES = 17;

function withoutOldest(list: readonly Redacted[]): readonly Redacted[] {
  return list.filter(({ name }, index) => list.slice(index).filter((each) => each.name === name).length <= MOST_VALUES);
}

function isDocument({ find }: Replacement): boolean {
  const text = find.toString();
  if (!/^[{[]/.test(text)) return false;
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}

/** One for each stream. */
export class Redactor {
  readonly #passwords = new ConnectionStrings();
  readonly #values: Replacer;
  #set: RedactionSet;
  /** The line of JSON that is on its way. */
  #line: JsonLine | undefined;
  /** What may be the start of one. */
  #bracket = NOTHING;
  /** Since the last line feed, or the end of a line of JSON, there were only blanks. */
  #isLineStart = true;

  constructor(set: RedactionSet) {
    this.#set = set;
    this.#values = new Replacer(set.values);
  }

  /** It judges also what is held back. */
  use(set: RedactionSet): void {
    this.#set = set;
    this.#values.use(set.values);
  }

  /** The bytes that can be told by now, perhaps none; the same object when nothing was found and nothing is or was held back. */
  push(chunk: Buffer): Buffer {
    if (chunk.length === 0) return chunk;
    const bytes = this.#bracket.length === 0 ? chunk : Buffer.concat([this.#bracket, chunk]);
    this.#bracket = NOTHING;
    const suspects = new Suspects(bytes, this.#set.values);
    const out = new Pieces();
    for (let at = 0; at < bytes.length;) {
      if (this.#line === undefined) at = this.#passClean(bytes, at, suspects, out) ?? this.#readText(bytes, at, out);
      else at = this.#readJson(this.#line, bytes, at, out);
    }
    return out.joined(chunk);
  }

  /** What was held back. After it the Redactor is as new. */
  end(): Buffer {
    const out = new Pieces();
    out.add(this.#hideInText(this.#line?.whole(NOTHING) ?? this.#bracket));
    out.add(this.#endText());
    this.#line = undefined;
    this.#bracket = NOTHING;
    this.#isLineStart = true;
    return out.joined(NOTHING);
  }

  /** Whole lines in which there is nothing that may have to be hidden, whatever they are; undefined when there are none. */
  #passClean(bytes: Buffer, from: number, suspects: Suspects, out: Pieces): number | undefined {
    const isAtLine = from === 0 || bytes[from] === LINE_FEED || bytes[from - 1] === LINE_FEED;
    if (!isAtLine || this.#values.held.length > 0 || !this.#passwords.isIdle) return undefined;
    const suspect = suspects.after(from);
    const end = suspect === 0 ? 0 : bytes.lastIndexOf(LINE_FEED, suspect - 1) + 1;
    if (end <= from || this.#set.values.matcher.pendingFrom(bytes.subarray(from, end)) < end - from) return undefined;
    out.add(bytes.subarray(from, end));
    this.#isLineStart = true;
    return end;
  }

  #readText(bytes: Buffer, from: number, out: Pieces): number {
    const start = jsonStart(bytes, from, this.#isLineStart);
    const end = start?.at ?? bytes.length;
    out.add(this.#hideInText(bytes.subarray(from, end)));
    this.#isLineStart = startsLine(bytes, from, end, this.#isLineStart);
    if (start === undefined) return end;
    if (start.isCertain) {
      this.#line = new JsonLine();
      return end;
    }
    this.#bracket = Buffer.from(bytes.subarray(end));
    return bytes.length;
  }

  #readJson(line: JsonLine, bytes: Buffer, from: number, out: Pieces): number {
    const end = line.endIn(bytes, from);
    const rest = bytes.subarray(from, end);
    const isTooLong = line.length + rest.length > LONGEST_LINE;
    if (end === undefined && !isTooLong) {
      line.keep(rest);
      return bytes.length;
    }
    const isJson = line.isComplete && !isTooLong;
    const whole = line.whole(rest);
    this.#line = undefined;
    this.#isLineStart = isJson;
    const hidden = isJson && !this.#goesOnIn(whole) && !this.#begins(whole) ? this.#hideInJson(whole) : undefined;
    if (hidden === undefined) out.add(this.#hideInText(whole));
    else {
      out.add(this.#endText());
      out.add(hidden);
    }
    return end ?? bytes.length;
  }

  /** Does a value of several lines that may have begun in the text before this line go on in it? */
  #goesOnIn(line: Buffer): boolean {
    const { held } = this.#values;
    if (held.length === 0) return false;
    const { matcher } = this.#set.values;
    const bytes = Buffer.concat([held, line.subarray(0, matcher.longest)]);
    if (matcher.pendingFrom(bytes) < held.length) return true;
    for (let match = matcher.find(bytes); match !== undefined && match.start < held.length; match = matcher.find(bytes, match.end)) {
      if (match.end > held.length) return true;
    }
    return false;
  }

  /** Is it the start of a value of several lines, or of one that only begins like JSON? */
  #begins(line: Buffer): boolean {
    const { matcher } = this.#set.values;
    return line.length < matcher.longest && matcher.pendingFrom(line) === 0;
  }

  #hideInJson(line: Buffer): Buffer | undefined {
    const suspects = new Suspects(line, this.#set.values);
    return suspects.after(0) < line.length ? hideInJson(line, this.#set) : line;
  }

  #hideInText(bytes: Buffer): Buffer {
    return this.#passwords.push(this.#values.push(bytes));
  }

  #endText(): Buffer {
    if (this.#values.held.length === 0 && this.#passwords.isIdle) return NOTHING;
    return Buffer.concat([this.#passwords.push(this.#values.end()), this.#passwords.end()]);
  }
}

const NOTHING = Buffer.alloc(0);
const LINE_FEED = 0x0a;

/** What may have to be hidden in these bytes, or what may hide it in a string of JSON. */
class Suspects {
  readonly #bytes: Buffer;
  readonly #values: ReplacementSet;
  /** The next of each sign, and last the next value. */
  readonly #next: number[] = [];

  constructor(bytes: Buffer, values: ReplacementSet) {
    this.#bytes = bytes;
    this.#values = values;
  }

  /** Where the first one behind `from` is, which is no less than it was when last asked; the length when there is none. */
  after(from: number): number {
    let first = this.#bytes.length;
    for (let sign = 0; sign <= SIGNS.length; sign += 1) {
      const known = this.#next[sign] ?? -1;
      const next = known >= from ? known : this.#find(sign, from);
      this.#next[sign] = next;
      first = Math.min(first, next);
    }
    return first;
  }

  #find(sign: number, from: number): number {
    const text = SIGNS[sign];
    const at = text === undefined ? this.#values.matcher.find(this.#bytes, from)?.start : this.#bytes.indexOf(text, from);
    return at === undefined || at === -1 ? this.#bytes.length : at;
  }
}

/** An escape may stand for a part of a value; the other escapes are in its forms. */
const SIGNS = ['://', '\\u', '\\/'].map((text) => Buffer.from(text));

/** Buffers in a row; neighbours in memory become one. */
class Pieces {
  readonly #list: Buffer[] = [];

  add(piece: Buffer): void {
    if (piece.length === 0) return;
    const last = this.#list.at(-1);
    if (last?.buffer !== piece.buffer || last.byteOffset + last.length !== piece.byteOffset) this.#list.push(piece);
    else this.#list[this.#list.length - 1] = Buffer.from(last.buffer, last.byteOffset, last.length + piece.length);
  }

  /** All of them; `chunk` itself when it is the same memory. */
  joined(chunk: Buffer): Buffer {
    const [first = NOTHING, ...others] = this.#list;
    if (others.length > 0) return Buffer.concat(this.#list);
    return first.buffer === chunk.buffer && first.byteOffset === chunk.byteOffset && first.length === chunk.length ? chunk : first;
  }
}
