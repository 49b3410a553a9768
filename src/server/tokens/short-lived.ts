// Mode `short_lived`: a signed JWT that a caller sends in place of a credential, through the proxy, which puts the credential where the
// resource wants it. Holds no value. The proxy needs the public key only.
import { createPrivateKey, createPublicKey, randomUUID, type KeyObject } from 'node:crypto';
import type { JWTPayload } from 'jose';
import { isRecord } from '../../core/record.ts';
import { ServerFailure } from '../failure.ts';
import { readKeyFile, wrongKey, type KeyFile } from './token-keys.ts';

export interface ShortLivedFacts {
  readonly ref: string;
  /** Name of the resource's backend. */
  readonly resolver: string;
  /** Name of the caller's issuer, and the caller. */
  readonly issuer: string;
  readonly sub: string;
  /** Of `Seal.sealCaller`: with it, the JWT alone says who calls when it is sent as the proxy's credential. */
  readonly caller?: string | undefined;
  /** What the caller said about its request: policies see it again when the token is used. It can be read by whoever has the token. */
  readonly context?: Readonly<Record<string, unknown>> | undefined;
  /** Milliseconds since the epoch; an hour from now at most. */
  readonly expiresAt: number;
}

export interface ShortLivedOptions {
  readonly signing?: KeyFile | undefined;
  /** Left out: of the signing key. */
  readonly verifying?: KeyFile | undefined;
  /** Milliseconds since the epoch. */
  readonly now?: () => number;
}

const ISSUER = 'keyzero';
const AUDIENCE = 'keyzero-proxy';
const LONGEST_TTL_S = 3600;
/** In characters of JSON: a token has to fit into a header. */
const LARGEST_CONTEXT = 2048;
const SMALLEST_RSA = 2048;

type Algorithm = 'RS256' | 'ES256';

interface Keys {
  readonly private: KeyObject | undefined;
  readonly public: KeyObject;
  readonly algorithm: Algorithm;
}

export class ShortLived {
  readonly #keys: Keys;
  readonly #now: () => number;

  /** From the files that KEYZERO_SIGNING_KEY_PATH and KEYZERO_PUBLIC_KEY_PATH name. Undefined when neither is set. */
  static async fromEnvironment(env: Readonly<Record<string, string | undefined>>): Promise<ShortLived | undefined> {
    const file = (from: string): KeyFile | undefined =>
      env[from] === undefined || env[from] === '' ? undefined : { from, path: env[from] };
    const [signing, verifying] = [file('KEYZERO_SIGNING_KEY_PATH'), file('KEYZERO_PUBLIC_KEY_PATH')];
    return signing === undefined && verifying === undefined ? undefined : ShortLived.open({ signing, verifying });
  }

  /** Throws `config-unreadable` and `config-invalid`, which name the variable and the file. */
  static async open({ signing, verifying, now = Date.now }: ShortLivedOptions): Promise<ShortLived> {
    const own = signing === undefined ? undefined : await privateKey(signing);
    const shared = verifying === undefined ? undefined : await publicKey(verifying);
    const known = own === undefined ? shared : { private: own.key, public: createPublicKey(own.key), algorithm: own.algorithm };
    if (known === undefined) throw new TypeError('neither a signing key nor a public key was given');
    if (verifying !== undefined && shared !== undefined && der(shared.public) !== der(known.public)) {
      throw wrongKey(verifying, 'is not the public key of the signing key');
    }
    return new ShortLived(known, now);
  }

  private constructor(keys: Keys, now: () => number) {
    this.#keys = keys;
    this.#now = now;
  }

  /** False: there is a public key only. */
  get canSign(): boolean {
    return this.#keys.private !== undefined;
  }

  /** Throws `request-invalid` for a context that is too large for a token. */
  async sign({ ref, sub, expiresAt, ...claims }: ShortLivedFacts): Promise<string> {
    const { private: key, algorithm } = this.#keys;
    if (JSON.stringify(claims.context ?? {}).length > LARGEST_CONTEXT) {
      throw new ServerFailure('request-invalid', 'the context is too large for a token');
    }
    if (key === undefined) throw new ServerFailure('mode-forbidden', 'this server has no key to sign short-lived tokens with');
    const { SignJWT } = await import('jose');
    const iat = Math.floor(this.#now() / 1000);
    return new SignJWT({ ...claims, resource: ref, iat, exp: Math.min(Math.ceil(expiresAt / 1000), iat + LONGEST_TTL_S) })
      .setProtectedHeader({ alg: algorithm, typ: 'JWT' })
      .setIssuer(ISSUER)
      .setAudience(AUDIENCE)
      .setSubject(sub)
      .setJti(randomUUID())
      .sign(key);
  }

  /** Throws `token-invalid` and `token-expired`. */
  async verify(jwt: string): Promise<ShortLivedFacts & { readonly jti: string }> {
    const { errors, jwtVerify } = await import('jose');
    const { public: key, algorithm } = this.#keys;
    try {
      const { payload } = await jwtVerify(jwt, key, {
        algorithms: [algorithm],
        issuer: ISSUER,
        audience: AUDIENCE,
        requiredClaims: ['iat', 'exp', 'jti', 'sub', 'resource', 'resolver', 'issuer'],
        // However long it was signed for, and by whom.
        maxTokenAge: LONGEST_TTL_S,
        currentDate: new Date(this.#now()),
      });
      return factsOf(payload);
    } catch (error) {
      if (error instanceof ServerFailure) throw error;
      if (error instanceof errors.JWTExpired)
        throw new ServerFailure('token-expired', 'the short-lived token has expired', { cause: error });
      throw new ServerFailure('token-invalid', 'the short-lived token is not one of this server', { cause: error });
    }
  }
}

/** Does it say of itself that it is one of these? Proves nothing: `verify` does. */
export function looksShortLived(jwt: string): boolean {
  const [, payload = ''] = jwt.split('.');
  try {
    const claims: unknown = JSON.parse(Buffer.from(payload, 'base64url').toString('utf8'));
    return (
      typeof claims === 'object' &&
      claims !== null &&
      'iss' in claims &&
      claims.iss === ISSUER &&
      'aud' in claims &&
      claims.aud === AUDIENCE
    );
  } catch {
    return false;
  }
}

function factsOf({ sub, exp, jti, resource, resolver, issuer, caller, context }: JWTPayload): Awaited<ReturnType<ShortLived['verify']>> {
  const texts = { sub, jti, resource, resolver, issuer };
  const areTexts = Object.values(texts).every((text) => typeof text === 'string');
  if (!areTexts || exp === undefined || (caller !== undefined && typeof caller !== 'string')) {
    throw new ServerFailure('token-invalid', 'the short-lived token lacks a claim');
  }
  const { resource: ref, ...others } = texts as Record<keyof typeof texts, string>;
  return { ...others, ref, caller, expiresAt: exp * 1000, ...(isRecord(context) ? { context } : {}) };
}

const KINDS = `must be an RSA key of at least ${String(SMALLEST_RSA)} bits or an EC key on P-256`;

function algorithmOf(key: KeyObject): Algorithm | undefined {
  const { asymmetricKeyType: type, asymmetricKeyDetails: details } = key;
  if (type === 'rsa') return (details?.modulusLength ?? 0) >= SMALLEST_RSA ? 'RS256' : undefined;
  return type === 'ec' && details?.namedCurve === 'prime256v1' ? 'ES256' : undefined;
}

async function privateKey(file: KeyFile): Promise<{ readonly key: KeyObject; readonly algorithm: Algorithm }> {
  const pem = await readKeyFile(file);
  const key = parse(file, 'is no private key in PEM that can be read without a passphrase', () => createPrivateKey(pem));
  const algorithm = algorithmOf(key);
  if (algorithm === undefined) throw wrongKey(file, KINDS, 'openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256');
  return { key, algorithm };
}

async function publicKey(file: KeyFile): Promise<Keys> {
  const pem = await readKeyFile(file);
  // Node would take the public half of it, on a machine that was never meant to have the other.
  if (/-----BEGIN [A-Z ]*PRIVATE KEY-----/.test(pem)) throw wrongKey(file, 'is a private key', 'openssl pkey -pubout');
  const key = parse(file, 'is no public key in PEM', () => createPublicKey(pem));
  const algorithm = algorithmOf(key);
  if (algorithm === undefined) throw wrongKey(file, KINDS);
  return { private: undefined, public: key, algorithm };
}

/** For comparing: `equals` of keys of different types leaves an error behind in OpenSSL, which the next key that is read would get. */
function der(key: KeyObject): string {
  return key.export({ type: 'spki', format: 'der' }).toString('base64');
}

/** Without what OpenSSL says, which may quote the file. */
function parse(file: KeyFile, problem: string, read: () => KeyObject): KeyObject {
  try {
    return read();
  } catch {
    throw wrongKey(file, problem);
  }
}
