// What an upstream answered, as its caller gets it: decoded, without the value, and no longer than a limit. Reads no further than that, so an
// answer without an end costs no more than the limit, compressed or not.
import { isUtf8 } from 'node:buffer';
import type { IncomingMessage } from 'node:http';
import type { Readable } from 'node:stream';
import { Replacer } from '../../mask/replace.ts';
import { through } from '../../proxy/body.ts';
import { decoderFor } from '../../proxy/coding.ts';
import { ServerFailure } from '../failure.ts';
import type { BodyEncoding } from './fetch-request.ts';
import type { Search } from './inject.ts';

/** What every face gives back. */
export interface Fetched {
  readonly status: number;
  /** Lower-case names; a field that came more than once is joined with commas. */
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
  readonly bodyEncoding: BodyEncoding;
  /** The body went on. */
  readonly truncated: boolean;
}

export interface FetchResult extends Fetched {
  /** Somewhere the value was, and was taken out. */
  readonly remasked: boolean;
  /** False: the value is too short to be searched for by itself. */
  readonly searchable: boolean;
}

export interface ReadOptions {
  readonly host: string;
  readonly method: string;
  readonly search: Search;
  /** Of the body, decoded; called for every piece of it. */
  readonly onBytes?: ((total: number) => void) | undefined;
  /** Bytes, before they are made base64 if they have to be. */
  readonly limit?: number | undefined;
}

const LARGEST_ANSWER = 1024 * 1024;

/** Throws upstream-failed, and what the message fails with. */
export async function readAnswer(incoming: IncomingMessage, options: ReadOptions): Promise<FetchResult> {
  const { method, search } = options;
  const status = incoming.statusCode ?? 0;
  const isWithBody = hasBody(method, status);
  const found = new Set<string>();
  const fields = readFields(incoming.rawHeaders, { hasBody: isWithBody, search, found });
  if (isWithBody && !isSearchable(fields.get('content-type'))) {
    incoming.destroy();
    throw new ServerFailure('upstream-failed', `${options.host} answered in a charset that cannot be searched for the value`);
  }
  const replacer = new Replacer(search.set);
  if (!isWithBody) incoming.resume();
  const body = isWithBody ? await readBody(decoded(incoming, options.host), replacer, options) : { bytes: NOTHING, truncated: false };
  const isText = isUtf8(body.bytes) && (isTextual(fields.get('content-type')) || !body.bytes.includes(0));
  const bodyEncoding = isText ? 'utf8' : 'base64';
  return {
    status,
    headers: Object.fromEntries(fields),
    body: body.bytes.toString(bodyEncoding),
    bodyEncoding,
    truncated: body.truncated,
    remasked: found.size + replacer.found.size > 0,
    searchable: search.isSure,
  };
}

/** Of an answer. */
export function hasBody(method: string, status: number): boolean {
  return method !== 'HEAD' && status !== 204 && status !== 304;
}

const NOTHING = Buffer.alloc(0);

/** For this connection only, or no longer true of the body that is given back. */
const NOT_GIVEN = new Set([
  ...['connection', 'keep-alive', 'proxy-connection', 'proxy-authenticate', 'proxy-authentication-info', 'upgrade', 'te', 'trailer'],
  ...['transfer-encoding', 'content-encoding', 'alt-svc'],
]);

/** They would give the caller a session that the credential has bought. */
const SESSIONS = new Set(['set-cookie', 'set-cookie2']);
const DROPPED = 'x-kz-dropped';

interface FieldFacts {
  readonly hasBody: boolean;
  readonly search: Search;
  readonly found: Set<string>;
}

function readFields(raw: readonly string[], { hasBody, search, found }: FieldFacts): Map<string, string> {
  const fields = new Map<string, string>();
  const dropped = new Set<string>();
  for (let index = 0; index + 1 < raw.length; index += 2) {
    const written = raw[index] ?? '';
    const name = written.toLowerCase();
    if (SESSIONS.has(name)) dropped.add(name);
    if (!isGiven(name, hasBody)) continue;
    const masked = remasked(written, search, found);
    const key = masked === written ? name : masked;
    const value = printable(remasked(raw[index + 1] ?? '', search, found));
    const before = fields.get(key);
    fields.set(key, before === undefined ? value : `${before}, ${value}`);
  }
  if (dropped.size > 0) fields.set(DROPPED, [...dropped].join(', '));
  return fields;
}

/** The length of a body that did not come (HEAD) is a fact; that of one that was decoded and cut is not. */
function isGiven(name: string, hasBody: boolean): boolean {
  if (name === 'content-length') return !hasBody;
  return !SESSIONS.has(name) && !NOT_GIVEN.has(name) && !name.startsWith('x-kz-');
}

function remasked(latin1: string, { set }: Search, found: Set<string>): string {
  const replacer = new Replacer(set);
  const bytes = Buffer.from(latin1, 'latin1');
  const text = Buffer.concat([replacer.push(bytes), replacer.end()]).toString('latin1');
  for (const name of replacer.found) found.add(name);
  return text;
}

/** Bytes as latin1 → text, UTF-8 where it is, without what moves a cursor or hides. */
function printable(latin1: string): string {
  const bytes = Buffer.from(latin1, 'latin1');
  const text = isUtf8(bytes) ? bytes.toString('utf8') : latin1;
  return text.replaceAll('\t', ' ').replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, '\ufffd');
}

/** What file servers say of bytes that are no text. */
const NO_CHARSET = new Set(['', 'binary', 'none']);

/**
 * Letters are ASCII or UTF-16 in every charset that browsers know. In EBCDIC, UTF-7 or UTF-32, which Java servers speak when `Accept` asks for
 * it, no value would be found.
 */
function isSearchable(contentType = ''): boolean {
  return Array.from(contentType.matchAll(/charset\s*=\s*["']?([^"';,\s]*)/gi), ([, name = '']) => name.toLowerCase()).every((name) => {
    if (NO_CHARSET.has(name)) return true;
    try {
      return new TextDecoder(name).encoding !== '';
    } catch {
      return false;
    }
  });
}

/** A coding that cannot be taken off hides what the body holds, so nothing of it is given. */
function decoded(incoming: IncomingMessage, host: string): Readable {
  const transfer = incoming.headers['transfer-encoding'] ?? 'chunked';
  // By the raw fields: Node keeps one of several `content-encoding`s only.
  const coding = codingOf(incoming.rawHeaders);
  const plan = decoderFor(coding);
  if (!/^\s*chunked\s*$/i.test(transfer) || plan.kind === 'unsupported') {
    incoming.destroy();
    throw new ServerFailure('upstream-failed', `${host} answered in a coding that cannot be searched for the value`);
  }
  return plan.kind === 'identity' ? incoming : through(incoming, plan.open());
}

function codingOf(raw: readonly string[]): string {
  return raw.filter((_text, index) => index % 2 === 1 && raw[index - 1]?.toLowerCase() === 'content-encoding').join(',');
}

interface Body {
  readonly bytes: Buffer;
  readonly truncated: boolean;
}

/** Searched at once: an answer that comes byte by byte, each the next one of a long value, would take minutes to search. */
const PIECE = 16 * 1024;

/** Leaving the loop early destroys the source, and with it the connection. */
async function readBody(source: Readable, replacer: Replacer, { onBytes, limit = LARGEST_ANSWER }: ReadOptions): Promise<Body> {
  const collected = new Collected();
  let total = 0;
  let [waiting, length]: [Buffer[], number] = [[], 0];
  for await (const chunk of source as AsyncIterable<Buffer>) {
    total += chunk.length;
    onBytes?.(total);
    waiting.push(chunk);
    length += chunk.length;
    if (length < PIECE && collected.length + length <= limit) continue;
    collected.add(replacer.push(Buffer.concat(waiting)));
    [waiting, length] = [[], 0];
    // What is held back may be the start of a value: nobody gets it.
    if (collected.length > limit) return { bytes: wholeCharacters(collected.bytes.subarray(0, limit)), truncated: true };
  }
  collected.add(replacer.push(Buffer.concat(waiting)));
  collected.add(replacer.end());
  const { bytes } = collected;
  return bytes.length > limit ? { bytes: wholeCharacters(bytes.subarray(0, limit)), truncated: true } : { bytes, truncated: false };
}

/** In one piece of memory: a list of a million chunks of one byte would take a hundred times that. */
class Collected {
  #memory = Buffer.alloc(16 * 1024);
  length = 0;

  get bytes(): Buffer {
    return this.#memory.subarray(0, this.length);
  }

  add(chunk: Buffer): void {
    const needed = this.length + chunk.length;
    if (needed > this.#memory.length) {
      const larger = Buffer.alloc(Math.max(needed, this.#memory.length * 2));
      this.bytes.copy(larger);
      this.#memory = larger;
    }
    chunk.copy(this.#memory, this.length);
    this.length = needed;
  }
}

/** Without the beginning of a character that was cut off; of bytes that are no UTF-8 perhaps up to three are lost. */
function wholeCharacters(bytes: Buffer): Buffer {
  for (let back = 1; back <= Math.min(3, bytes.length); back += 1) {
    const byte = bytes[bytes.length - back] ?? 0;
    if (byte < 0x80) return bytes;
    if (byte < 0xc0) continue;
    const needed = byte < 0xe0 ? 2 : byte < 0xf0 ? 3 : 4;
    return needed > back ? bytes.subarray(0, -back) : bytes;
  }
  return bytes;
}

const TEXTUAL = /^(?:text\/|application\/(?:[\w.+-]*\+)?(?:json|xml|yaml|javascript|x-www-form-urlencoded|x-ndjson|graphql|toml)\b)/i;

function isTextual(contentType: string | undefined): boolean {
  return TEXTUAL.test(contentType?.trim() ?? '');
}
