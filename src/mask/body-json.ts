// JSON bodies, also several documents one after another: which field a byte is in, at any depth, without holding the body. A body that turns
// out to be no JSON passes on, but from there on nothing is in a field: servers that read such bodies differ in what they see.
import { Buffer } from 'node:buffer';
import type { TokenTable } from './table.ts';
import type { Format, Place, Tracker, View } from './body-text.ts';
import { hexDigit } from './body-form.ts';

/** Deeper than any server reads. */
const DEEPEST = 16_384;
const LONGEST_NAME = 1024;
/** Of a deeper place only the innermost names are told: telling all of them for every token could take minutes. */
const LONGEST_PATH = 256;
/** Takes the place of a longer name; no name can be written so. */
const SOME_LONG_NAME = '\0';

type State =
  | 'value'
  | 'value-or-end'
  | 'name'
  | 'name-or-end'
  | 'colon'
  | 'after-value'
  | 'literal'
  | 'string'
  | 'escape'
  | 'unicode'
  /** No JSON, or too deep. */
  | 'lost';

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const SLASH = 0x2f;
const [COMMA, COLON, OPEN_ARRAY, CLOSE_ARRAY, OPEN_OBJECT, CLOSE_OBJECT] = [0x2c, 0x3a, 0x5b, 0x5d, 0x7b, 0x7d];
const LETTER_U = 0x75;
/** 1 for each byte that is an escape together with the backslash before it. */
const SHORT_ESCAPES = new Uint8Array(256);
for (const byte of Buffer.from('"\\/bfnrt')) SHORT_ESCAPES[byte] = 1;

/** 1 for each byte that is more than a character of the string it is in. */
const SPECIAL = new Uint8Array(256).fill(1, 0, 0x20);
SPECIAL[QUOTE] = 1;
SPECIAL[BACKSLASH] = 1;

class JsonTracker implements Tracker {
  #state: State = 'value';
  /** The containers around this place: in an object the current name, as it is written; undefined in an array. */
  readonly #stack: (string | undefined)[] = [];
  #isName = false;
  /** Of the name being read, as it is written. */
  #raw = '';
  #hexDigits = 0;

  advance(bytes: Buffer, from: number, to: number): void {
    let at = from;
    while (at < to && this.#state !== 'lost') {
      if (this.#state === 'string') at = this.#string(bytes, at, to);
      else if (this.#state === 'escape' || this.#state === 'unicode') this.#escape(bytes[at++] ?? 0);
      else this.#structure(bytes[at++] ?? 0);
    }
  }

  place(): Place | undefined {
    if (this.#state === 'lost') return { path: undefined };
    if (this.#state !== 'string') return undefined;
    return { path: this.#isName ? undefined : this.#path() };
  }

  #path(): readonly string[] {
    const names = this.#stack
      .slice(-LONGEST_PATH)
      .filter((name) => name !== undefined)
      .map(unescapeName);
    return this.#stack.length > LONGEST_PATH ? [SOME_LONG_NAME, ...names] : names;
  }

  #string(bytes: Buffer, from: number, to: number): number {
    const end = stringEnd(bytes, from, to);
    this.#keep(bytes, from, end);
    if (end === to) return end;
    const byte = bytes[end];
    if (byte === QUOTE) this.#endString();
    else if (byte === BACKSLASH) this.#state = 'escape';
    else this.#state = 'lost';
    return end + 1;
  }

  #keep(bytes: Buffer, from: number, to: number): void {
    if (this.#isName && this.#raw.length <= LONGEST_NAME)
      this.#raw += bytes.toString('latin1', from, Math.min(to, from + LONGEST_NAME + 1));
  }

  #escape(byte: number): void {
    if (this.#isName && this.#raw.length <= LONGEST_NAME) this.#raw += (this.#state === 'escape' ? '\\' : '') + String.fromCharCode(byte);
    if (this.#state === 'escape') {
      this.#hexDigits = 0;
      if (byte === LETTER_U) this.#state = 'unicode';
      else this.#state = SHORT_ESCAPES[byte] === 1 ? 'string' : 'lost';
    } else if (hexDigit(byte) === undefined) this.#state = 'lost';
    else if (++this.#hexDigits === 4) this.#state = 'string';
  }

  #endString(): void {
    if (!this.#isName) {
      this.#endValue();
      return;
    }
    this.#stack[this.#stack.length - 1] = this.#raw.length > LONGEST_NAME ? SOME_LONG_NAME : this.#raw;
    this.#isName = false;
    this.#raw = '';
    this.#state = 'colon';
  }

  #endValue(): void {
    this.#state = this.#stack.length === 0 ? 'value' : 'after-value';
  }

  #structure(byte: number): void {
    if (this.#state === 'literal') {
      if (isLiteral(byte)) return;
      this.#endValue();
    }
    if (isSpace(byte, this.#stack.length === 0)) return;
    switch (this.#state) {
      case 'value-or-end':
      case 'value':
        this.#value(byte);
        break;
      case 'name-or-end':
      case 'name':
        this.#name(byte);
        break;
      case 'colon':
        this.#state = byte === COLON ? 'value' : 'lost';
        break;
      default:
        this.#afterValue(byte);
    }
  }

  #value(byte: number): void {
    if (byte === QUOTE) this.#state = 'string';
    else if (byte === OPEN_OBJECT) this.#open('', 'name-or-end');
    else if (byte === OPEN_ARRAY) this.#open(undefined, 'value-or-end');
    else if (byte === CLOSE_ARRAY && this.#state === 'value-or-end') this.#close();
    else this.#state = isLiteral(byte) ? 'literal' : 'lost';
  }

  #name(byte: number): void {
    if (byte === CLOSE_OBJECT && this.#state === 'name-or-end') {
      this.#close();
      return;
    }
    this.#isName = byte === QUOTE;
    this.#state = this.#isName ? 'string' : 'lost';
  }

  #afterValue(byte: number): void {
    const inArray = this.#stack.at(-1) === undefined;
    if (byte === COMMA) this.#state = inArray ? 'value' : 'name';
    else if (byte === (inArray ? CLOSE_ARRAY : CLOSE_OBJECT)) this.#close();
    else this.#state = 'lost';
  }

  #open(name: string | undefined, state: State): void {
    this.#stack.push(name);
    this.#state = this.#stack.length > DEEPEST ? 'lost' : state;
  }

  #close(): void {
    this.#stack.pop();
    this.#endValue();
  }
}

/** Where the string, or what of it is here, ends: a quote, a character no string may hold, or an escape that is not a short one. */
function stringEnd(bytes: Buffer, from: number, to: number): number {
  let end = nextSpecial(bytes, from, to);
  while (end + 1 < to && bytes[end] === BACKSLASH && SHORT_ESCAPES[bytes[end + 1] ?? 0] === 1) end = nextSpecial(bytes, end + 2, to);
  return end;
}

function nextSpecial(bytes: Buffer, from: number, to: number): number {
  let at = from;
  while (at < to && SPECIAL[bytes[at] ?? 0] === 0) at++;
  return at;
}

/** Of a number, `true`, `false` or `null`; which one does not matter here. */
function isLiteral(byte: number): boolean {
  const lower = byte | 0x20;
  return (byte >= 0x30 && byte <= 0x39) || (lower >= 0x61 && lower <= 0x7a) || byte === 0x2b || byte === 0x2d || byte === 0x2e;
}

/** Between documents also what RFC 7464 puts there, and the byte order mark that some writers put in front. */
function isSpace(byte: number, betweenDocuments: boolean): boolean {
  if (byte === 0x20 || byte === 0x0a || byte === 0x0d || byte === 0x09) return true;
  return betweenDocuments && (byte === 0x1e || byte === 0xef || byte === 0xbb || byte === 0xbf);
}

/** `raw` has been checked: it has no quote, no control character and no wrong escape. */
function unescapeName(raw: string): string {
  const text = Buffer.from(raw, 'latin1').toString();
  return text.includes('\\') ? String(JSON.parse(`"${text}"`)) : text;
}

/** Tokens of letters, digits, dots, dashes and underscores are never escaped by those who write JSON; others are looked for twice. */
export function jsonFormat(table: TokenTable): Format {
  const tracker = new JsonTracker();
  return table.mayBeEscaped ? { tracker, view: jsonView } : { tracker };
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
