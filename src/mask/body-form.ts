// application/x-www-form-urlencoded bodies, which are also the query of a URL: which field a byte is in, and percent-encoding both ways. Never
// re-encodes what it does not put there itself.
import { Buffer } from 'node:buffer';
import type { Format, Place, Tracker, View } from './body-text.ts';

/** Decides nothing about where a name with more bytes is. */
const LONGEST_NAME = 1024;

const AMPERSAND = 0x26;
const EQUALS = 0x3d;
const PERCENT = 0x25;
const SEMICOLON = 0x3b;

class FormTracker implements Tracker {
  #state: 'name' | 'value' | 'unclear' = 'name';
  /** As it is written. */
  #name = '';

  advance(bytes: Buffer, from: number, to: number): void {
    let at = from;
    while (at < to) {
      let end = at;
      while (end < to && !isDelimiter(bytes[end])) end++;
      if (this.#state === 'name' && this.#name.length <= LONGEST_NAME) {
        this.#name += bytes.toString('latin1', at, Math.min(end, at + LONGEST_NAME + 1));
      }
      if (end < to) this.#delimit(bytes[end]);
      at = end + 1;
    }
  }

  place(): Place {
    const isKnown = this.#state === 'value' && this.#name.length <= LONGEST_NAME;
    return { path: isKnown ? [fieldName(this.#name)] : undefined };
  }

  #delimit(byte: number | undefined): void {
    if (byte === AMPERSAND) {
      this.#state = 'name';
      this.#name = '';
    } else if (byte === SEMICOLON) {
      // Old servers take it for `&`: whose value the rest is depends on who reads it.
      this.#state = 'unclear';
    } else if (this.#state === 'name') {
      this.#state = 'value';
    }
  }
}

function fieldName(latin1: string): string {
  return percentDecode(Buffer.from(latin1, 'latin1').toString().replaceAll('+', ' '));
}

function isDelimiter(byte: number | undefined): boolean {
  return byte === AMPERSAND || byte === EQUALS || byte === SEMICOLON;
}

/** `mayBeEscaped`: some token holds a character that here may stand for something else. */
export function formFormat(mayBeEscaped: boolean): Format {
  return {
    tracker: new FormTracker(),
    view: (bytes, last) => (mayBeEscaped || bytes.includes(PERCENT) ? percentView(bytes, last) : undefined),
  };
}

/** `&` stands for the end of a field, and matches no character of a token. */
function percentView(bytes: Buffer, last: boolean, hidesAmpersand = true): View {
  const text = Buffer.allocUnsafe(bytes.length);
  const offsets = new Uint32Array(bytes.length + 1);
  let length = 0;
  let at = 0;
  while (at < bytes.length) {
    const byte = bytes[at] ?? 0;
    const isEscape = byte === PERCENT;
    if (isEscape && at + 2 >= bytes.length && !last) break;
    const escaped = isEscape ? hexByte(bytes, at + 1) : undefined;
    offsets[length] = at;
    text[length++] = escaped ?? (hidesAmpersand && byte === AMPERSAND ? 0 : byte);
    at += escaped === undefined ? 1 : 3;
  }
  offsets[length] = at;
  return { text: text.toString('latin1', 0, length), offsets };
}

function hexByte(bytes: Buffer, at: number): number | undefined {
  const high = hexDigit(bytes[at]);
  const low = hexDigit(bytes[at + 1]);
  return high === undefined || low === undefined ? undefined : high * 16 + low;
}

/** The value of a hex digit given as a byte. */
export function hexDigit(byte = 0): number | undefined {
  if (byte >= 0x30 && byte <= 0x39) return byte - 0x30;
  const lower = byte | 0x20;
  return lower >= 0x61 && lower <= 0x66 ? lower - 0x57 : undefined;
}

/** Safe in every part of a URL, and in a form. */
export const UNRESERVED = /[\w.~-]/;
/** What a segment of a path may hold besides (RFC 3986, pchar). */
export const IN_PATH = /[\w.~!$&'()*+,;=:@-]/;

/** The bytes of the text's UTF-8, all but those that match `kept` as %XX. */
export function percentEncode(text: string, kept: RegExp = UNRESERVED): string {
  let encoded = '';
  for (const byte of Buffer.from(text)) {
    const character = String.fromCharCode(byte);
    encoded += byte < 0x80 && kept.test(character) ? character : `%${byte.toString(16).toUpperCase().padStart(2, '0')}`;
  }
  return encoded;
}

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** As UTF-8, or the text itself when it is none; a `%` that no two hex digits follow stands for itself. */
export function percentDecode(text: string): string {
  if (!text.includes('%')) return text;
  const encoded = Buffer.from(text);
  const { text: decoded } = percentView(encoded, true, false);
  try {
    return utf8.decode(Buffer.from(decoded, 'latin1'));
  } catch {
    return text;
  }
}
