// JSON in a stream of lines: where a line of it starts and ends, and what is hidden in its strings. Every byte but those of the strings that
// change stays as it is; numbers and names of other types are never touched. Text that only looks like JSON is the caller's.

/** A longer line is text: it has to be held until it ends. */
export const LONGEST_LINE = 16 * 1024 * 1024;
/** Between the first bracket and what stands behind it. */
const MOST_BLANKS = 1024;

const [LINE_FEED, QUOTE, BACKSLASH] = [0x0a, 0x22, 0x5c];
const [OPEN_ARRAY, CLOSE_ARRAY, OPEN_OBJECT, CLOSE_OBJECT] = [0x5b, 0x5d, 0x7b, 0x7d];

export interface JsonStart {
  readonly at: number;
  /** False: the next bytes say. */
  readonly isCertain: boolean;
}

/**
 * Where in bytes[from…] the first line starts that looks like JSON: `{"`, `{}` or `[{`, with blanks anywhere. `isLineStart`: there is nothing
 * but blanks between `from` and the start of its line.
 */
export function jsonStart(bytes: Buffer, from: number, isLineStart: boolean): JsonStart | undefined {
  for (let brace = bytes.indexOf(OPEN_OBJECT, from); brace !== -1; brace = bytes.indexOf(OPEN_OBJECT, brace + 1)) {
    const start = startAt(bytes, from, brace, isLineStart);
    if (start !== undefined) return start;
  }
  const last = lastNonBlank(bytes, from, bytes.length);
  const isOpen = last >= from && bytes[last] === OPEN_ARRAY && bytes.length - last <= MOST_BLANKS + 1;
  return isOpen && startsLine(bytes, from, last, isLineStart) ? { at: last, isCertain: false } : undefined;
}

function startAt(bytes: Buffer, from: number, brace: number, isLineStart: boolean): JsonStart | undefined {
  const before = lastNonBlank(bytes, from, brace);
  if (before >= from && bytes[before] === OPEN_ARRAY) {
    const isNear = brace - before <= MOST_BLANKS + 1;
    return isNear && startsLine(bytes, from, before, isLineStart) ? { at: before, isCertain: true } : undefined;
  }
  return startsLine(bytes, from, brace, isLineStart) ? objectAt(bytes, brace) : undefined;
}

function objectAt(bytes: Buffer, brace: number): JsonStart | undefined {
  const most = brace + MOST_BLANKS + 2;
  let next = brace + 1;
  while (next < bytes.length && next < most && isBlank(bytes[next])) next += 1;
  if (next === most) return undefined;
  if (next === bytes.length) return { at: brace, isCertain: false };
  return bytes[next] === QUOTE || bytes[next] === CLOSE_OBJECT ? { at: brace, isCertain: true } : undefined;
}

/** Is there nothing but blanks between the start of a line and bytes[at]? `isLineStart` says so of bytes[from]. */
export function startsLine(bytes: Buffer, from: number, at: number, isLineStart: boolean): boolean {
  const before = lastNonBlank(bytes, from, at);
  return before < from ? isLineStart : bytes[before] === LINE_FEED;
}

/** Less than `from` when there is none. */
function lastNonBlank(bytes: Buffer, from: number, to: number): number {
  let at = to - 1;
  while (at >= from && isBlank(bytes[at])) at -= 1;
  return at;
}

/** A line feed is none. */
function isBlank(byte: number | undefined): boolean {
  return byte === 0x20 || byte === 0x09 || byte === 0x0d;
}

/** A line of JSON that is on its way. It ends with its last bracket, not with the line: not every protocol ends its messages with one. */
export class JsonLine {
  #kept = Buffer.alloc(0);
  #length = 0;
  #depth = 0;
  #isInString = false;
  #isEscaped = false;

  /** How many bytes were kept. */
  get length(): number {
    return this.#length;
  }

  /** All brackets are closed. */
  get isComplete(): boolean {
    return this.#depth === 0;
  }

  /** Reads bytes[from…]. Where it ends: behind its last bracket, or before the line feed that cuts it short; undefined: not in here. */
  endIn(bytes: Buffer, from: number): number | undefined {
    for (let at = from; at < bytes.length; at += 1) {
      const byte = bytes[at] ?? 0;
      if (byte === LINE_FEED) return at;
      if (this.#isInString) this.#readInString(byte);
      else if (byte === QUOTE) this.#isInString = true;
      else if (byte === OPEN_OBJECT || byte === OPEN_ARRAY) this.#depth += 1;
      else if (byte === CLOSE_OBJECT || byte === CLOSE_ARRAY) {
        this.#depth -= 1;
        if (this.#depth === 0) return at + 1;
      }
    }
    return undefined;
  }

  /** Copies them: the memory is the caller's. */
  keep(bytes: Buffer): void {
    const length = this.#length + bytes.length;
    if (length > this.#kept.length) {
      const larger = Buffer.allocUnsafeSlow(Math.max(length, 2 * this.#kept.length, 4096));
      this.#kept.copy(larger, 0, 0, this.#length);
      this.#kept = larger;
    }
    bytes.copy(this.#kept, this.#length);
    this.#length = length;
  }

  /** What was kept, and `rest`, which is the end of it. */
  whole(rest: Buffer): Buffer {
    if (this.#length === 0) return rest;
    this.keep(rest);
    return this.#kept.subarray(0, this.#length);
  }

  #readInString(byte: number): void {
    if (this.#isEscaped) this.#isEscaped = false;
    else if (byte === BACKSLASH) this.#isEscaped = true;
    else if (byte === QUOTE) this.#isInString = false;
  }
}

export interface Hiding {
  /** Of a whole text, UTF-8; the same object when there is nothing to hide in it. */
  hide(text: Buffer): Buffer;
  /** A hidden value that is itself a JSON document and stands at bytes[at]. */
  documentAt(bytes: Buffer, at: number): { readonly length: number; readonly put: Buffer } | undefined;
}

/** Undefined when `line` is no JSON; the same object when there is nothing to hide in it. */
export function hideInJson(line: Buffer, hiding: Hiding): Buffer | undefined {
  try {
    JSON.parse(line.toString());
  } catch {
    return undefined;
  }
  const parts: Buffer[] = [];
  let from = 0;
  for (let at = 0; at < line.length;) {
    const found = tokenAt(line, at, hiding);
    if (found.put !== undefined) {
      parts.push(line.subarray(from, at), found.put);
      from = found.end;
    }
    at = found.end;
  }
  return from === 0 ? line : Buffer.concat([...parts, line.subarray(from)]);
}

interface Token {
  readonly end: number;
  /** What takes its place, if anything does. */
  readonly put?: Buffer | undefined;
}

function tokenAt(line: Buffer, at: number, hiding: Hiding): Token {
  const byte = line[at];
  if (byte === QUOTE) {
    const end = stringEnd(line, at);
    return { end, put: hideInString(line.subarray(at, end), hiding) };
  }
  if (byte === OPEN_OBJECT || byte === OPEN_ARRAY) {
    const document = hiding.documentAt(line, at);
    if (document !== undefined) return { end: at + document.length, put: document.put };
  }
  return { end: at + 1 };
}

function stringEnd(line: Buffer, from: number): number {
  let at = from + 1;
  while (at < line.length && line[at] !== QUOTE) at += line[at] === BACKSLASH ? 2 : 1;
  return at + 1;
}

function hideInString(quoted: Buffer, hiding: Hiding): Buffer | undefined {
  const inside = quoted.subarray(1, -1);
  if (!inside.includes(BACKSLASH)) {
    const hidden = hiding.hide(inside);
    return hidden === inside ? undefined : Buffer.from(JSON.stringify(hidden.toString()));
  }
  // UTF-8 has no lone surrogates, and no value has one: they are kept as they are, and what is between them is searched.
  const text = String(JSON.parse(quoted.toString()));
  const hidden = text.split(/(\p{Surrogate})/u).map((piece, index) => (index % 2 === 1 ? piece : hideInText(piece, hiding)));
  return hidden.join('') === text ? undefined : Buffer.from(JSON.stringify(hidden.join('')));
}

function hideInText(text: string, hiding: Hiding): string {
  const bytes = Buffer.from(text);
  const hidden = hiding.hide(bytes);
  return hidden === bytes ? text : hidden.toString();
}
