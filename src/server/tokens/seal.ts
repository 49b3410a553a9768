// `KZ_TOK_…`: what a caller is given in place of a value. All that a token stands for is sealed in it (JWE, `dir` with A256GCM), so servers
// that share a key need no other state. It holds no value, and says nothing to whoever has no key. Made of [A-Za-z0-9_.-] only: it goes
// unchanged through a header, a URL, JSON and a form.
import { createCipheriv, createHash, randomBytes, type webcrypto } from 'node:crypto';
import { isRecord } from '../../core/record.ts';
import type { Caller } from '../identity/verify.ts';
import { ServerFailure } from '../failure.ts';
import { TOKEN_KEY_BYTES } from './token-keys.ts';

const TOKEN_PREFIX = 'KZ_TOK_';
/** What every token looks like, wherever it ends: a compact JWE without an encrypted key, of which the last part has a known length. */
export const TOKEN_SHAPE = /KZ_TOK_[A-Za-z0-9_-]{20,200}\.\.[A-Za-z0-9_-]{16}\.[A-Za-z0-9_-]{16,8192}\.[A-Za-z0-9_-]{22}/;

/** What a token is bound to. */
export interface SealFacts {
  readonly ref: string;
  /** Name of the caller's issuer, and the caller. */
  readonly issuer: string;
  readonly sub: string;
  /** Host patterns. Left out: those of the resource when the token is used. They count then in any case. */
  readonly hosts?: readonly string[] | undefined;
  /** That allowed it. */
  readonly policy?: string | undefined;
  /** What the caller said about its request: policies see it again when the token is used. */
  readonly context?: Readonly<Record<string, unknown>> | undefined;
  /** Milliseconds since the epoch; an hour from now at most. */
  readonly expiresAt: number;
}

export interface SealedFacts extends Omit<SealFacts, 'expiresAt'> {
  /** Seconds since the epoch. */
  readonly iat: number;
  readonly exp: number;
  readonly jti: string;
}

export interface SealOptions {
  /** Milliseconds since the epoch. */
  readonly now?: () => number;
}

/** Random: good for 2^32 tokens of one key (NIST SP 800-38D, 8.3). */
const IV_BYTES = 12;
const LONGEST_TTL_S = 3600;
/** Clocks of servers differ. */
const LEEWAY_S = 60;
/** Of what is sealed. A token has to fit into a header beside others; a caller's claims are not cut. */
const LARGEST_FACTS = 4096;
const LARGEST_CALLER = 16_384;

interface Key {
  readonly kid: string;
  readonly bytes: Uint8Array;
}

export class Seal {
  readonly #first: Key;
  readonly #keys: ReadonlyMap<string, Key>;
  readonly #now: () => number;

  /** Other processes may have the keys, too, and take the tokens. */
  readonly isShared: boolean;

  /** The first key seals, all of them open. */
  static open(keys: readonly Uint8Array[], options: SealOptions = {}): Seal {
    return new Seal(keys, { ...options, isShared: true });
  }

  /** With a key that nobody else has: tokens end with this process. */
  static random(options: SealOptions = {}): Seal {
    return new Seal([randomBytes(TOKEN_KEY_BYTES)], { ...options, isShared: false });
  }

  private constructor(keys: readonly Uint8Array[], { now = Date.now, isShared }: SealOptions & { readonly isShared: boolean }) {
    const named = keys.map((bytes) => ({ kid: keyId(bytes), bytes }));
    const [first] = named;
    if (first === undefined || keys.some(({ byteLength }) => byteLength !== TOKEN_KEY_BYTES)) {
      throw new TypeError('a seal takes keys of 32 bytes');
    }
    this.#first = first;
    this.#keys = new Map(named.map((key) => [key.kid, key]));
    this.#now = now;
    this.isShared = isShared;
  }

  /** Throws `request-invalid` for facts that are too large for a token. */
  async seal({ expiresAt, ...facts }: SealFacts): Promise<string> {
    const iat = Math.floor(this.#now() / 1000);
    const exp = Math.min(Math.ceil(expiresAt / 1000), iat + LONGEST_TTL_S);
    const text = JSON.stringify({ v: 1, ...facts, iat, exp, jti: randomBytes(12).toString('base64url') });
    if (Buffer.byteLength(text) > LARGEST_FACTS) throw new ServerFailure('request-invalid', 'the context is too large for a token');
    return TOKEN_PREFIX + (await this.#encrypt(text));
  }

  /** Throws `token-invalid` and `token-expired`. Who may use the token is not asked here. */
  async unseal(token: string): Promise<SealedFacts> {
    const facts = sealedFacts(parsed(token.startsWith(TOKEN_PREFIX) ? await this.#decrypt(token.slice(TOKEN_PREFIX.length)) : undefined));
    const now = this.#now() / 1000;
    if (facts === undefined || facts.iat > now + LEEWAY_S) throw new ServerFailure('token-invalid', 'the token is not one of this server');
    if (facts.exp <= now) throw new ServerFailure('token-expired', 'the token has expired', { hint: 'resolve the resource again' });
    return facts;
  }

  /** A caller who was verified, for a token that is signed and not sealed (short-lived.ts): its claims are nobody else's business. */
  async sealCaller(caller: Caller): Promise<string> {
    const text = JSON.stringify({ v: 1, caller });
    if (Buffer.byteLength(text) > LARGEST_CALLER) throw new ServerFailure('request-invalid', 'the claims are too large for a token');
    return this.#encrypt(text);
  }

  /** Undefined: not sealed by this server, or sealed as something else. */
  async unsealCaller(text: string): Promise<Caller | undefined> {
    const value = parsed(await this.#decrypt(text));
    return isRecord(value) && value.v === 1 && isRecord(value.caller) ? (value.caller as unknown as Caller) : undefined;
  }

  /**
   * RFC 7516, section 5.1, for `dir`. Not with jose, which goes through WebCrypto: a handover to another thread and back is half of the time that a
   * question takes. Opening is left to jose, which so checks every token that was sealed here.
   */
  #encrypt(text: string): Promise<string> {
    const { kid, bytes } = this.#first;
    const header = Buffer.from(JSON.stringify({ ...HEADER, kid })).toString('base64url');
    const iv = randomBytes(IV_BYTES);
    const cipher = createCipheriv('aes-256-gcm', bytes, iv).setAAD(Buffer.from(header, 'latin1'));
    const sealed = Buffer.concat([cipher.update(text, 'utf8'), cipher.final()]);
    const parts = [iv, sealed, cipher.getAuthTag()].map((part) => part.toString('base64url'));
    return Promise.resolve(`${header}..${parts.join('.')}`);
  }

  async #decrypt(jwe: string): Promise<string | undefined> {
    const key = this.#keyOf(jwe);
    if (key === undefined) return undefined;
    const { compactDecrypt } = await import('jose');
    try {
      const { plaintext } = await compactDecrypt(jwe, await imported(key.bytes), {
        keyManagementAlgorithms: [HEADER.alg],
        contentEncryptionAlgorithms: [HEADER.enc],
      });
      return Buffer.from(plaintext).toString('utf8');
    } catch {
      return undefined;
    }
  }

  /** Only the header that is written here: no compression, no `crit`, no other algorithm. */
  #keyOf(jwe: string): Key | undefined {
    const parts = jwe.split('.');
    // The last character of base64 has bits that mean nothing: of all spellings only one is a token.
    if (parts.length !== 5 || parts.some((part) => Buffer.from(part, 'base64url').toString('base64url') !== part)) return undefined;
    const header = parsed(Buffer.from(parts[0] ?? '', 'base64url').toString('utf8'));
    if (!isRecord(header) || typeof header.kid !== 'string') return undefined;
    const isOurs = Object.keys(header).length === 3 && header.alg === HEADER.alg && header.enc === HEADER.enc;
    return isOurs ? this.#keys.get(header.kid) : undefined;
  }
}

const HEADER = { alg: 'dir', enc: 'A256GCM' } as const;

/** Names a key without giving anything of it away. */
function keyId(bytes: Uint8Array): string {
  return createHash('sha256').update('kz token key').update(bytes).digest('base64url').slice(0, 11);
}

function parsed(text: string | undefined): unknown {
  if (text === undefined) return undefined;
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** What was decrypted was written by this code, or by that of another version. */
function sealedFacts(value: unknown): SealedFacts | undefined {
  if (!isRecord(value) || value.v !== 1) return undefined;
  const { ref, issuer, sub, hosts, policy, context, iat, exp, jti } = value;
  const isWhole =
    [ref, issuer, sub, jti].every((text) => typeof text === 'string') &&
    [iat, exp].every((seconds) => typeof seconds === 'number') &&
    (hosts === undefined || (Array.isArray(hosts) && hosts.every((host) => typeof host === 'string'))) &&
    (policy === undefined || typeof policy === 'string') &&
    (context === undefined || isRecord(context));
  return isWhole ? ({ ref, issuer, sub, hosts, policy, context, iat, exp, jti } as SealedFacts) : undefined;
}

const keys = new WeakMap<Uint8Array, Promise<webcrypto.CryptoKey>>();

/** Once for each key: half of the time that opening takes. */
function imported(bytes: Uint8Array): Promise<webcrypto.CryptoKey> {
  const known = keys.get(bytes) ?? crypto.subtle.importKey('raw', Buffer.from(bytes), 'AES-GCM', false, ['encrypt', 'decrypt']);
  keys.set(bytes, known);
  return known;
}
