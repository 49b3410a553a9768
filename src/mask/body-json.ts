// JSON bodies, also several documents one after another: which field a byte is in, at any depth, without holding the body. A body that turns
// out to be no JSON passes on, but from there on nothing is in a field: servers that read such bodies differ in what they see.
import { Buffer } from 'node:buffer';
import type { TokenTable } from './table.ts';
import type { Format, Place, Tracker, View } from './body-text.ts';

/** Deeper than any server reads. */
const DEEPEST = 16_384;
const LONGEST_NAME = 1024;
/** Of a deeper place only the innermost names are told: telling all of them for every token could take minutes. */
const LONGEST_PATH = 256;
/** Takes the place of a longer name; no name can be written so. */
const SOME_LONG_NAME = '\0';

// States are numbers, and a table says which one follows a byte: large uploads run through here. What a value is in is part of its state.
const [TOP, ARRAY_START, ARRAY_VALUE, ARRAY_REST] = [0, 1, 2, 3];
const [OBJECT_START, OBJECT_NAME, OBJECT_COLON, OBJECT_VALUE, OBJECT_REST] = [4, 5, 6, 7, 8];
/** Of each kind of string: behind the backslash, and before each of the four digits of `\u`. */
const [TOP_ESCAPE, ARRAY_ESCAPE, OBJECT_ESCAPE, NAME_ESCAPE] = [9, 14, 19, 24];
const LITERALS = 29;
const [TOP_LITERAL, ARRAY_LITERAL, OBJECT_LITERAL] = [LITERALS, 30, 31];
const STRINGS = 32;
const [NAME, TOP_STRING, ARRAY_STRING, OBJECT_STRING] = [STRINGS, 33, 34, 35];
/** From here on not only the state changes. */
const STEPS = 36;
const [OPEN_ARRAY, OPEN_OBJECT, CLOSE, START_NAME] = [STEPS, 37, 38, 39];
/** No JSON, or too deep. */
const LOST = 40;

const SPACE = '\t\n\r ';
/** Between documents also what RFC 7464 puts there, and the byte order mark that some writers put in front. */
const BETWEEN = `${SPACE}\x1e\xef\xbb\xbf`;
const HEX = '0123456789ABCDEFabcdef';
/** Of a number, `true`, `false` or `null`; which one does not matter here. */
const LITERAL = `${HEX}GHIJKLMNOPQRSTUVWXYZghijklmnopqrstuvwxyz+-.`;
const SHORT_ESCAPES = '"\\/bfnrt';

const BEFORE_VALUE = [TOP, TOP_LITERAL, ARRAY_START, ARRAY_VALUE, OBJECT_VALUE];

/** What leads where. Everything else leads to LOST. */
const TRANSITIONS: readonly (readonly [from: readonly number[], bytes: string, to: number])[] = [
  [BEFORE_VALUE, '[', OPEN_ARRAY],
  [BEFORE_VALUE, '{', OPEN_OBJECT],
  [[TOP, TOP_LITERAL], BETWEEN, TOP],
  [[TOP, TOP_LITERAL], '"', TOP_STRING],
  [[TOP, TOP_LITERAL], LITERAL, TOP_LITERAL],
  [[ARRAY_START], SPACE, ARRAY_START],
  [[ARRAY_VALUE], SPACE, ARRAY_VALUE],
  [[ARRAY_START, ARRAY_VALUE], '"', ARRAY_STRING],
  [[ARRAY_START, ARRAY_VALUE, ARRAY_LITERAL], LITERAL, ARRAY_LITERAL],
  [[ARRAY_LITERAL, ARRAY_REST], SPACE, ARRAY_REST],
  [[ARRAY_LITERAL, ARRAY_REST], ',', ARRAY_VALUE],
  [[ARRAY_START, ARRAY_LITERAL, ARRAY_REST], ']', CLOSE],
  [[OBJECT_START], SPACE, OBJECT_START],
  [[OBJECT_NAME], SPACE, OBJECT_NAME],
  [[OBJECT_START, OBJECT_NAME], '"', START_NAME],
  [[OBJECT_COLON], SPACE, OBJECT_COLON],
  [[OBJECT_COLON], ':', OBJECT_VALUE],
  [[OBJECT_VALUE], SPACE, OBJECT_VALUE],
  [[OBJECT_VALUE], '"', OBJECT_STRING],
  [[OBJECT_VALUE, OBJECT_LITERAL], LITERAL, OBJECT_LITERAL],
  [[OBJECT_LITERAL, OBJECT_REST], SPACE, OBJECT_REST],
  [[OBJECT_LITERAL, OBJECT_REST], ',', OBJECT_NAME],
  [[OBJECT_START, OBJECT_LITERAL, OBJECT_REST], '}', CLOSE],
  ...inString(TOP_STRING, TOP_ESCAPE, TOP),
  ...inString(ARRAY_STRING, ARRAY_ESCAPE, ARRAY_REST),
  ...inString(OBJECT_STRING, OBJECT_ESCAPE, OBJECT_REST),
  ...inString(NAME, NAME_ESCAPE, OBJECT_COLON),
];

/** Of a string only what is special in it: `stringEnd` skips the rest. */
function inString(string: number, escape: number, behind: number): typeof TRANSITIONS {
  return [
    [[string], '"', behind],
    [[string], '\\', escape],
    [[escape], SHORT_ESCAPES, string],
    [[escape], 'u', escape + 1],
    [[escape + 1], HEX, escape + 2],
    [[escape + 2], HEX, escape + 3],
    [[escape + 3], HEX, escape + 4],
    [[escape + 4], HEX, string],
  ];
}

/** At state * 256 + byte. */
const NEXT = new Uint8Array((LOST + 1) * 256).fill(LOST);
for (const [from, bytes, to] of TRANSITIONS) {
  for (const state of from) for (const byte of Buffer.from(bytes, 'latin1')) NEXT[state * 256 + byte] = to;
}

const IS_LITERAL = flags(LITERAL);
const IS_SHORT_ESCAPE = flags(SHORT_ESCAPES);

/** 1 for each of these bytes. */
function flags(bytes: string): Uint8Array {
  const table = new Uint8Array(256);
  for (const byte of Buffer.from(bytes)) table[byte] = 1;
  return table;
}

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const SLASH = 0x2f;
const LETTER_U = 0x75;

class JsonTracker implements Tracker {
  #state = TOP;
  /**
   * The containers around this place: undefined for an array; for an object the current name, as it is written, or where it starts in the
   * bytes at hand. Few names are ever asked for.
   */
  readonly #names: (string | number | undefined)[] = [];
  /** How many of them at the front are surely no longer numbers. */
  #kept = 0;

  advance(bytes: Buffer, from: number, to: number): void {
    if (from === to || this.#state === LOST) return;
    if (this.#isInName()) this.#resumeName(bytes, from, to);
    const words = wordsOf(bytes);
    let state = this.#state;
    let at = from;
    while (at < to) {
      if (state >= STRINGS) at = stringEnd(words, at, to);
      else if (state >= LITERALS) at = literalEnd(bytes, at, to);
      if (at === to) break;
      const next = NEXT[state * 256 + (bytes[at++] ?? 0)] ?? LOST;
      state = next < STEPS ? next : this.#step(next, at);
      if (state === LOST) break;
    }
    this.#state = state;
    this.#keepNames(bytes, to);
  }

  place(): Place | undefined {
    if (this.#state === LOST || this.#state === NAME) return { path: undefined };
    return this.#state > NAME ? { path: this.#path() } : undefined;
  }

  #path(): readonly string[] {
    const names = this.#names
      .slice(-LONGEST_PATH)
      .filter((name) => typeof name === 'string')
      .map((name) => (name.length > LONGEST_NAME ? SOME_LONG_NAME : unescapeName(name)));
    return this.#names.length > LONGEST_PATH ? [SOME_LONG_NAME, ...names] : names;
  }

  #step(step: number, at: number): number {
    const names = this.#names;
    switch (step) {
      case START_NAME:
        names[names.length - 1] = at;
        this.#kept = Math.min(this.#kept, names.length - 1);
        return NAME;
      case OPEN_OBJECT:
        return names.push('') > DEEPEST ? LOST : OBJECT_START;
      case OPEN_ARRAY:
        return names.push(undefined) > DEEPEST ? LOST : ARRAY_START;
      case CLOSE:
        names.pop();
        if (names.length === 0) return TOP;
        return names[names.length - 1] === undefined ? ARRAY_REST : OBJECT_REST;
      default:
        return LOST;
    }
  }

  #isInName(): boolean {
    return this.#state === NAME || (this.#state >= NAME_ESCAPE && this.#state < LITERALS);
  }

  /** More of a name whose start is gone. */
  #resumeName(bytes: Buffer, from: number, to: number): void {
    const start = String(this.#names.at(-1));
    if (start.length > LONGEST_NAME) return;
    const isEscaped = this.#state === NAME_ESCAPE;
    this.#names[this.#names.length - 1] = start + nameAt(bytes, from, nameEnd(bytes, isEscaped ? from + 1 : from, to));
  }

  #keepNames(bytes: Buffer, to: number): void {
    const names = this.#names;
    for (let index = this.#kept; index < names.length; index++) {
      const start = names[index];
      if (typeof start === 'number') names[index] = nameAt(bytes, start, nameEnd(bytes, start, to));
    }
    this.#kept = names.length;
  }
}

/** Not more of it than is needed to know that it is too long. */
function nameAt(bytes: Buffer, from: number, to: number): string {
  return bytes.toString('latin1', from, Math.min(to, from + LONGEST_NAME + 1));
}

/** Where the name that goes on at `from` ends, or what of it is here. */
function nameEnd(bytes: Buffer, from: number, to: number): number {
  const words = wordsOf(bytes);
  let end = stringEnd(words, from, to);
  while (end < to && bytes[end] === BACKSLASH) end = stringEnd(words, Math.min(end + 2, to), to);
  return end;
}

function literalEnd(bytes: Buffer, from: number, to: number): number {
  let at = from;
  while (at < to && IS_LITERAL[bytes[at] ?? 0] === 1) at++;
  return at;
}

/** Where the string, or what of it is here, ends: a quote, a character no string may hold, or an escape that is not a short one. */
function stringEnd(words: DataView, from: number, to: number): number {
  let end = plainEnd(words, from, to);
  while (end + 1 < to && words.getUint8(end) === BACKSLASH && IS_SHORT_ESCAPE[words.getUint8(end + 1)] === 1) {
    end = plainEnd(words, end + 2, to);
  }
  return end;
}

/** The bytes as something that reads four at once, wherever they are. */
function wordsOf(bytes: Buffer): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
}

/** The next quote, backslash or control character. Four bytes at a time: strings are most of what is in a large body. */
function plainEnd(words: DataView, from: number, to: number): number {
  let at = from;
  for (; at + 4 <= to; at += 4) {
    const special = specialIn(words.getInt32(at, true));
    if (special !== 0) return at + ((31 - Math.clz32(special & -special)) >> 3);
  }
  while (at < to && specialIn(words.getUint8(at) | 0x80808000) === 0) at++;
  return at;
}

/**
 * Zero when none of the four bytes is special; otherwise the lowest bit that is set is the highest one of the first that is. The subtractions
 * borrow from a byte's highest bit when it is below a space, a quote (its bits are then all zero) or a backslash; bytes with that bit are none.
 */
function specialIn(word: number): number {
  return ((word - 0x20202020) | ((word ^ 0x22222222) - 0x01010101) | ((word ^ 0x5c5c5c5c) - 0x01010101)) & ~word & 0x80808080;
}

/** `raw` has been checked: it has no quote, no control character and no wrong escape. */
function unescapeName(raw: string): string {
  const text = Buffer.from(raw, 'latin1').toString();
  return text.includes('\\') ? String(JSON.parse(`"${text}"`)) : text;
}

/** Tokens of letters, digits, dots, dashes and underscores are never escaped by those who write JSON; others are looked for twice. */
export function jsonFormat(table: TokenTable): Format {
  const tracker = new JsonTracker();
  if (!table.mayBeEscaped) return { tracker };
  return { tracker, view: (bytes, last) => (bytes.includes(BACKSLASH) || table.holdsToken(bytes) ? jsonView(bytes, last) : undefined) };
}

/** Quotes that end a string match no character of a token. */
function jsonView(bytes: Buffer, last: boolean): View {
  const text = Buffer.allocUnsafe(bytes.length);
  const offsets = new Uint32Array(bytes.length + 1);
  let length = 0;
  let at = 0;
  while (at < bytes.length) {
    const byte = bytes[at] ?? 0;
    const size = byte === BACKSLASH ? escapeSize(bytes, at) : 1;
    if (at + size > bytes.length && !last) break;
    offsets[length] = at;
    text[length++] = size > 1 ? unescaped(bytes, at, size) : byte === QUOTE ? 0 : byte;
    at += Math.min(size, bytes.length - at);
  }
  offsets[length] = at;
  return { text: text.toString('latin1', 0, length), offsets };
}

function escapeSize(bytes: Buffer, at: number): number {
  return bytes[at + 1] === LETTER_U ? 6 : 2;
}

/** Zero for what is in no token. */
function unescaped(bytes: Buffer, at: number, size: number): number {
  const next = bytes[at + 1] ?? 0;
  if (size === 2) return next === QUOTE || next === BACKSLASH || next === SLASH ? next : 0;
  const code = Number.parseInt(bytes.toString('latin1', at + 2, at + size), 16);
  return code < 0x80 ? code : 0;
}

/** The inside of a JSON string. */
export function jsonEscape(text: string): string {
  return JSON.stringify(text).slice(1, -1);
}
