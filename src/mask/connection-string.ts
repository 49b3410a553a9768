// Passwords in connection strings that nobody named: `scheme://user:password@host` becomes `scheme://user:[redacted]@host`, in a stream, the
// same however it was cut into chunks. Where an `@` may as well belong to something else (`http://localhost:4873/@types/node`), nothing is
// changed. Holds back what stands behind the colon until it is known whether an `@` follows: 1024 bytes at most.
import { namesDatabase } from '../core/database-scheme.ts';
import { MARK } from './mint.ts';

const REDACTED = Buffer.from('[redacted]');
const LONGEST_SCHEME = 32;
/** User and password. */
const LONGEST_USERINFO = 1024;

export class ConnectionStrings {
  /** The end of what was pushed: what is held back, and in front of it what was let go but says what the rest means. */
  #window = NOTHING;
  /** How many bytes of the window were let go. */
  #sent = 0;

  /** A whole text; the same object when it holds no password. */
  static hide(text: Buffer): Buffer {
    if (!mayHoldPassword(text)) return text;
    const out = new ConnectionStrings().#scan(text, true);
    return out.equals(text) ? text : out;
  }

  /** What comes next is judged by itself. */
  get isIdle(): boolean {
    return this.#window.length === 0;
  }

  /** What can be told by now; the same object when nothing was found and nothing is or was held back. */
  push(chunk: Buffer): Buffer {
    if (chunk.length === 0) return chunk;
    const { length } = this.#window;
    const bytes = length === 0 ? chunk : Buffer.concat([this.#window, chunk]);
    const isAllSent = this.#sent === length;
    const out = this.#scan(bytes, false);
    const isUnchanged = out.buffer === bytes.buffer && out.byteOffset === bytes.byteOffset + length && out.length === chunk.length;
    return isAllSent && isUnchanged ? chunk : out;
  }

  /** What was held back. After it this is as new. */
  end(): Buffer {
    return this.#window.length === 0 ? NOTHING : this.#scan(this.#window, true);
  }

  #scan(bytes: Buffer, isLast: boolean): Buffer {
    const parts: Buffer[] = [];
    let from = this.#sent;
    let hold = bytes.length;
    let keep = isLast ? bytes.length : schemeAtEnd(bytes);
    for (const { scheme, userinfo } of beginnings(bytes)) {
      const verdict = new Userinfo(bytes, userinfo, namesDatabase(bytes.toString('latin1', scheme, userinfo))).verdict(isLast);
      // One that lies in a password that was replaced is gone.
      if (verdict === undefined || verdict.start < from) continue;
      if (verdict.end === undefined) {
        hold = verdict.start;
        keep = scheme;
        break;
      }
      parts.push(bytes.subarray(from, verdict.start), REDACTED);
      from = verdict.end;
    }
    this.#window = keep === bytes.length ? NOTHING : Buffer.from(bytes.subarray(keep));
    this.#sent = hold - keep;
    const rest = bytes.subarray(from, hold);
    return parts.length === 0 ? rest : Buffer.concat([...parts, rest]);
  }
}

const NOTHING = Buffer.alloc(0);

function mayHoldPassword(text: Buffer): boolean {
  return text.includes(PLAIN) || text.includes(ESCAPED);
}

const PLAIN = Buffer.from('://');
/** As PHP and others write it in a JSON string. */
const ESCAPED = Buffer.from(':\\/\\/');

interface Beginning {
  readonly scheme: number;
  /** Behind the slashes. */
  readonly userinfo: number;
}

function* beginnings(bytes: Buffer): Generator<Beginning> {
  let plain = indexOr(bytes, PLAIN, 0);
  let escaped = indexOr(bytes, ESCAPED, 0);
  while (plain !== Infinity || escaped !== Infinity) {
    const colon = Math.min(plain, escaped);
    const userinfo = colon + (colon === plain ? PLAIN : ESCAPED).length;
    const scheme = schemeBefore(bytes, colon);
    if (scheme !== undefined) yield { scheme, userinfo };
    if (colon === plain) plain = indexOr(bytes, PLAIN, userinfo);
    else escaped = indexOr(bytes, ESCAPED, userinfo);
  }
}

function indexOr(bytes: Buffer, text: Buffer, from: number): number {
  const index = bytes.indexOf(text, from);
  return index === -1 ? Infinity : index;
}

/** Where the scheme starts whose colon is at `end`. Of more letters than a scheme has, the last ones count. */
function schemeBefore(bytes: Buffer, end: number): number | undefined {
  let start = end;
  while (start > 0 && end - start < LONGEST_SCHEME && IN_SCHEME[bytes[start - 1] ?? 0] === 1) start -= 1;
  return /[a-z]/i.test(bytes.toString('latin1', start, end)) ? start : undefined;
}

const IN_SCHEME = Uint8Array.from({ length: 256 }, (_, byte) => Number(/[a-z0-9+.-]/i.test(String.fromCharCode(byte))));

/** Where what may be the start of a connection string starts, when the bytes end in one; else their end. */
function schemeAtEnd(bytes: Buffer): number {
  const from = Math.max(0, bytes.length - LONGEST_SCHEME - ESCAPED.length);
  const match = SCHEME_AT_END.exec(bytes.toString('latin1', from));
  return match === null ? bytes.length : from + match.index;
}

const SCHEME_AT_END = /[a-z0-9+.-]{1,32}(?::\/?|:\\(?:\/\\?)?)?$/i;

/** Where the password is; without `end`: where it starts if there is one, which the next bytes say. */
interface Verdict {
  readonly start: number;
  readonly end?: number;
}

const [ORDINARY, COLON, AT, END, PATH, QUOTE, BACKSLASH] = [0, 1, 2, 3, 4, 5, 6];
const KIND = new Uint8Array(256);
KIND.fill(END, 0, 0x21);
for (const [bytes, kind] of [
  [':', COLON],
  ['@', AT],
  ['"`<>\x7f', END],
  ['/?#', PATH],
  ["'", QUOTE],
  ['\\', BACKSLASH],
] as const) {
  for (const byte of Buffer.from(bytes)) KIND[byte] = kind;
}

/** Reads what may be user and password; the password ends at the last `@` in it. */
class Userinfo {
  readonly #bytes: Buffer;
  readonly #from: number;
  /** Its clients take a password with raw `/`, `?` and `#` in it, and people write such. */
  readonly #isDatabase: boolean;
  /** Behind the first colon. */
  #start: number | undefined;
  /** The last `@` behind that. */
  #end: number | undefined;
  /** A `/`, `?` or `#` was taken for a part of the password. */
  #isPastPath = false;

  constructor(bytes: Buffer, from: number, isDatabase: boolean) {
    this.#bytes = bytes;
    this.#from = from;
    this.#isDatabase = isDatabase;
  }

  /** Undefined: there is no password. */
  verdict(isLast: boolean): Verdict | undefined {
    const bytes = this.#bytes;
    const limit = this.#from + LONGEST_USERINFO + 1;
    const to = Math.min(bytes.length, limit);
    for (let at = this.#from; at < to; at += 1) {
      const kind = KIND[bytes[at] ?? 0] ?? ORDINARY;
      if (kind === ORDINARY) continue;
      const ends = this.#endsAt(at, kind);
      if (ends === undefined && !isLast) return { start: this.#start ?? bytes.length };
      if (ends === true) return this.#password();
    }
    return isLast || to === limit ? this.#password() : { start: this.#start ?? bytes.length };
  }

  /** Undefined: the next bytes say. */
  #endsAt(at: number, kind: number): boolean | undefined {
    switch (kind) {
      case COLON:
        this.#start ??= at + 1;
        return false;
      case AT:
        if (this.#start !== undefined) this.#end = at;
        return false;
      case PATH:
        return this.#endsAtPath(at);
      case QUOTE:
        return this.#endsAtQuote(at);
      case BACKSLASH:
        return isEscape(this.#bytes, at);
      default:
        return true;
    }
  }

  #endsAtPath(at: number): boolean {
    if (this.#start === undefined || this.#end !== undefined || !this.#isDatabase) return true;
    if (this.#isPastPath) return false;
    const hasUser = this.#start > this.#from + 1;
    this.#isPastPath = !(this.#start === at ? hasUser : this.#isPort(at));
    return !this.#isPastPath;
  }

  /** encodeURIComponent leaves a single quote as it is. Behind one that closes a string there is no such character. */
  #endsAtQuote(at: number): boolean | undefined {
    if (this.#start === undefined || this.#end !== undefined || this.#start === at || this.#isPort(at)) return true;
    const next = this.#bytes[at + 1];
    return next === undefined ? undefined : !/[\w@!$&(*+=.~%-]/.test(String.fromCharCode(next));
  }

  #isPort(to: number): boolean {
    return PORT.test(this.#bytes.toString('latin1', this.#start, to)) || IPV6.test(this.#bytes.toString('latin1', this.#from, to));
  }

  #password(): Verdict | undefined {
    const [start, end] = [this.#start, this.#end];
    if (start === undefined || end === undefined || start === end) return undefined;
    if (DIGEST.test(this.#bytes.toString('latin1', end, end + 8))) return undefined;
    const password = this.#bytes.toString('latin1', start, end);
    if (PORT_AND_MORE.test(password) && HOST.test(this.#bytes.toString('latin1', this.#from, start - 1))) return undefined;
    return NO_SECRET.test(password) || PROPERTIES.test(password) ? undefined : { start, end };
  }
}

/** What may stand between `host:` and a path: a port, more hosts with ports, or what a template has there. */
const PORT = /^(?:\d{1,5}(?:,(?:\[[\da-f:.]*\]|[\w.-]+)(?::\d{1,5})?)*(?:,[a-z][\w+.-]*:)?|\$?\{[^{}]*\}|\$\w+|%[a-z]|port|\*+)$/i;

/** `http://localhost:3000,me@example.com`: what people put between a URL and what follows it. Bytes beyond ASCII are arrows and the like. */
const PORT_AND_MORE = /^\d{2,5}(?:[,;|&)}\]*]|[\x80-\xff])/;
const HOST = /^(?:localhost|[\w-]+(?:\.[\w-]+)+)$/i;

const IPV6 = /^\[[\da-f:.]+\](?::\d{1,5})?$/i;

/** An escape of a string in JSON or source text is no part of a password, but `\u0026` and the like are: Go writes `&` so. */
function isEscape(bytes: Buffer, at: number): boolean | undefined {
  const next = bytes[at + 1];
  if (next === undefined) return undefined;
  if (next !== 0x75) return /["'\\/bfnrtx0]/.test(String.fromCharCode(next));
  const digits = bytes.toString('latin1', at + 2, at + 6);
  if (!/^[\da-f]*$/i.test(digits)) return false;
  if (digits.length < 4) return undefined;
  const code = Number.parseInt(digits, 16);
  return code < 256 && KIND[code] === END;
}

/** Hidden already, by kz or by someone else, or not filled in yet. */
const NO_SECRET = new RegExp(
  [String.raw`(?:\[|%5b)redacted(?:(?::|%3a)[\w.-]+)?(?:\]|%5d)`, String.raw`[\w.-]*${MARK}[\da-f]{32}`, String.raw`\*{3,}|x{3,}`]
    .concat(String.raw`\$\{\w+\}|%[sv]`)
    .map((each) => `^(?:${each})$`)
    .join('|'),
  'i',
);

/** `jdbc:sqlserver://host:1433;user=me@server;…` */
const PROPERTIES = /^\d{1,5};[\w ]+=/;

/** `docker://alpine:3.20@sha256:…` */
const DIGEST = /^@sha\d+:/;
