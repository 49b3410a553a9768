// application/x-www-form-urlencoded bodies, which are also the query of a URL: which field a byte is in, and percent-encoding both ways. Never
// re-encodes what it does not put there itself.
import { Buffer } from 'node:buffer';
import type { Format, Place, Tracker, View } from './body-text.ts';
import type { TokenTable } from './table.ts';

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
    const here = bytes.subarray(from, to);
    const start = here.lastIndexOf(AMPERSAND) + 1;
    if (start > 0) {
      this.#state = 'name';
      this.#name = '';
    }
    this.#field(here.subarray(start));
  }

  place(): Place {
    const isKnown = this.#state === 'value' && this.#name.length <= LONGEST_NAME;
    return { path: isKnown ? [fieldName(this.#name)] : undefined };
  }

  /** All or a part of one field. */
  #field(bytes: Buffer): void {
    if (this.#state === 'name') {
      const equals = bytes.indexOf(EQUALS);
      const end = equals === -1 ? bytes.length : equals;
      if (this.#name.length <= LONGEST_NAME) this.#name += bytes.toString('latin1', 0, Math.min(end, LONGEST_NAME + 1));
      if (equals !== -1) this.#state = 'value';
    }
    // Old servers take it for `&`: whose value the rest is depends on who reads it.
    if (bytes.includes(SEMICOLON)) this.#state = 'unclear';
  }
}

function fieldName(latin1: string): string {
  return percentDecode(Buffer.from(latin1, 'latin1').toString().replaceAll('+', ' '));
}

export function formFormat(table: TokenTable): Format {
  return {
    tracker: new FormTracker(),
    view: (bytes, last) => {
      if (!table.mayBeEscaped && !bytes.includes(PERCENT)) return undefined;
      // Writers escape hardly any byte that tokens are made of: mostly only what may be the start of one has to be decoded.
      const isPossible = table.holdsToken(bytes) || escapesAny(bytes, table.isInToken);
      return percentView(bytes, last, isPossible ? 0 : Math.max(0, bytes.length - 3 * table.longest));
    },
  };
}

/** False is certain: what is no hex digit may look like an escape here. */
function escapesAny(bytes: Buffer, flags: Uint8Array): boolean {
  for (let at = 0; at + 2 < bytes.length; at++) {
    if (bytes[at] !== PERCENT) continue;
    const escaped = ((HEX_DIGITS[bytes[at + 1] ?? 0] ?? 0) << 4) | (HEX_DIGITS[bytes[at + 2] ?? 0] ?? 0);
    if (flags[escaped & 0xff] === 1) return true;
  }
  return false;
}

/** `&` stands for the end of a field, and what takes its place matches no character of a token. */
function percentView(bytes: Buffer, last: boolean, from = 0, ampersand = 0): View {
  const text = Buffer.allocUnsafe(bytes.length - from);
  const offsets = new Uint32Array(bytes.length - from + 1);
  let length = 0;
  let at = from;
  while (at < bytes.length) {
    const byte = bytes[at] ?? 0;
    if (byte === PERCENT && at + 2 >= bytes.length && !last) break;
    const escaped = byte === PERCENT ? hexByte(bytes, at + 1) : NO_BYTE;
    offsets[length] = at;
    if (escaped !== NO_BYTE) text[length++] = escaped;
    else text[length++] = byte === AMPERSAND ? ampersand : byte;
    at += escaped === NO_BYTE ? 1 : 3;
  }
  offsets[length] = at;
  return { text: text.toString('latin1', 0, length), offsets };
}

const NO_BYTE = 256;
const NO_DIGIT = 16;
const HEX_DIGITS = new Uint8Array(256).fill(NO_DIGIT);
for (const [at, byte] of Buffer.from('0123456789abcdefABCDEF').entries()) HEX_DIGITS[byte] = at < 16 ? at : at - 6;

/** NO_BYTE when these are not two hex digits. */
function hexByte(bytes: Buffer, at: number): number {
  const high = HEX_DIGITS[bytes[at] ?? 0] ?? NO_DIGIT;
  const low = HEX_DIGITS[bytes[at + 1] ?? 0] ?? NO_DIGIT;
  return high === NO_DIGIT || low === NO_DIGIT ? NO_BYTE : high * 16 + low;
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
  const { text: decoded } = percentView(encoded, true, 0, AMPERSAND);
  try {
    return utf8.decode(Buffer.from(decoded, 'latin1'));
  } catch {
    return text;
  }
}
