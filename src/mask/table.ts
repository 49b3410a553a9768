// The run's masked tokens: which secret each stands for, and where tokens are in a text. Made once per run; a search compiles nothing. Texts
// are latin1, as node:http gives headers: one character for each byte.
import { Buffer } from 'node:buffer';
import type { Secret } from '../core/secret.ts';
import { MARK, RANDOM_CHARACTERS } from './mint.ts';
import type { Masked } from './remask.ts';
import type { Scope } from './scope.ts';
import type { Slots } from './slot.ts';

export interface TokenEntry extends Masked {
  readonly scope: Scope;
  readonly slots: Slots;
  /** The value is over, and there is no new one: the token is not swapped. */
  readonly isExpired?: boolean;
}

/** As the table itself has it. */
interface LiveEntry extends TokenEntry {
  secret: Secret;
  isExpired?: boolean;
}

interface Found {
  readonly start: number;
  readonly end: number;
  readonly entry: TokenEntry;
}

const MARK_BYTES = Buffer.from(MARK);
/** `kz_masked_` and the random part: the same length in every token that holds them. */
const CORE = MARK.length + RANDOM_CHARACTERS;
const REMEMBERED_HOSTS = 256;

export class TokenTable {
  readonly entries: readonly TokenEntry[];
  /** Some token holds a character that JSON or percent-encoding may write in another way; see the bodies' `view`. */
  readonly mayBeEscaped: boolean;
  /** Of the longest token. */
  readonly longest: number;
  /** 1 for each byte that is in some token. */
  readonly isInToken = new Uint8Array(256);
  readonly #byToken: ReadonlyMap<string, LiveEntry>;
  readonly #byCore = new Map<string, TokenEntry>();
  /** Of shape `exact`: nothing in them says that they are tokens. */
  readonly #exact: readonly { readonly entry: TokenEntry; readonly bytes: Buffer }[];
  readonly #byFirst = new Map<number, TokenEntry[]>();
  readonly #scopes = new Map<string, ReadonlySet<TokenEntry>>();

  constructor(entries: readonly TokenEntry[]) {
    const live = entries.map((entry): LiveEntry => ({ ...entry }));
    this.entries = live;
    this.#byToken = new Map(live.map((entry) => [entry.token, entry]));
    this.mayBeEscaped = entries.some(({ token }) => !/^[\w.-]*$/.test(token));
    this.longest = Math.max(0, ...entries.map(({ token }) => token.length));
    const exact: TokenEntry[] = [];
    for (const entry of live) {
      for (const byte of Buffer.from(entry.token)) this.isInToken[byte] = 1;
      const core = entry.token.slice(-CORE);
      if (core.startsWith(MARK)) this.#byCore.set(core, entry);
      else exact.push(entry);
      const first = entry.token.charCodeAt(0);
      this.#byFirst.set(first, [...(this.#byFirst.get(first) ?? []), entry]);
    }
    this.#exact = exact.map((entry) => ({ entry, bytes: Buffer.from(entry.token) }));
  }

  entry(token: string): TokenEntry | undefined {
    return this.#byToken.get(token);
  }

  /** From now on the token stands for this value. */
  rotate(token: string, secret: Secret): void {
    const entry = this.#byToken.get(token);
    if (entry === undefined) return;
    entry.secret = secret;
    entry.isExpired = false;
  }

  /** The tokens of this secret are not swapped until `rotate` gives it a value again. */
  expire(name: string): void {
    for (const entry of this.#byToken.values()) if (entry.name === name) entry.isExpired = true;
  }

  /** May the text hold a token? Cheap: asked of every header and every chunk of a body. False is certain. */
  holdsToken(text: string | Buffer): boolean {
    if (typeof text === 'string') return text.includes(MARK) || this.#exact.some(({ entry }) => text.includes(entry.token));
    return text.includes(MARK_BYTES) || this.#exact.some(({ bytes }) => text.includes(bytes));
  }

  /** All tokens in the text, from left to right. */
  findAll(text: string): readonly Found[] {
    const found = this.#findMarked(text);
    if (this.#exact.length === 0) return found;
    for (const { entry } of this.#exact) {
      const { length } = entry.token;
      for (let at = text.indexOf(entry.token); at !== -1; at = text.indexOf(entry.token, at + length)) {
        found.push({ start: at, end: at + length, entry });
      }
    }
    return withoutOverlaps(found);
  }

  /** How many characters at the end of the text may be the start of a token that goes on behind it. */
  unfinished(text: string): number {
    for (let at = Math.max(0, text.length - this.longest + 1); at < text.length; at++) {
      const rest = text.length - at;
      const starts = this.#byFirst.get(text.charCodeAt(at));
      if (starts?.some(({ token }) => token.length > rest && text.endsWith(token.slice(0, rest))) === true) return rest;
    }
    return 0;
  }

  /** The last bytes in which `unfinished` can find something. */
  tail(bytes: Buffer): string {
    return bytes.toString('latin1', Math.max(0, bytes.length - this.longest + 1));
  }

  /** The secrets that may go to this host, over TLS or in the clear. */
  inScope(host: string, port: number, tls = true): ReadonlySet<TokenEntry> {
    const key = `${host}:${String(port)}${tls ? '' : ' clear'}`;
    const known = this.#scopes.get(key);
    if (known !== undefined) return known;
    if (this.#scopes.size >= REMEMBERED_HOSTS) this.#scopes.clear();
    const entries = new Set(this.entries.filter(({ scope }) => (tls ? scope.covers(host, port) : scope.coversClear(host, port))));
    this.#scopes.set(key, entries);
    return entries;
  }

  #findMarked(text: string): Found[] {
    const found: Found[] = [];
    for (let at = text.indexOf(MARK); at !== -1; at = text.indexOf(MARK, at + 1)) {
      const entry = this.#byCore.get(text.slice(at, at + CORE));
      if (entry === undefined) continue;
      const end = at + CORE;
      const start = end - entry.token.length;
      // A token that lost its vendor's prefix stands for no value: what takes its place would have the prefix.
      if (text.startsWith(entry.token, start)) found.push({ start, end, entry });
    }
    return found;
  }
}

function withoutOverlaps(found: Found[]): readonly Found[] {
  let end = 0;
  return found
    .sort((a, b) => a.start - b.start || b.end - a.end)
    .filter((candidate) => {
      if (candidate.start < end) return false;
      end = candidate.end;
      return true;
    });
}
