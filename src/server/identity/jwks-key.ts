// What may verify a signature: which keys of a key set count, and which algorithms each of them is for. A key is never used with an algorithm of
// another kind, so that no public key is ever taken for a secret.
import { createPublicKey, type JsonWebKey, type KeyObject } from 'node:crypto';
import { KzError } from '../../core/errors.ts';
import { isRecord } from '../../core/record.ts';

export interface VerifyKey {
  readonly kid: string | undefined;
  /** At least one. */
  readonly algorithms: readonly string[];
  readonly key: KeyObject;
}

export interface KeySet {
  readonly keys: readonly VerifyKey[];
  /** Keys that are too weak and were left out. */
  readonly weak: number;
}

const RSA = ['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512'];
const EC: Readonly<Record<string, string>> = { prime256v1: 'ES256', secp384r1: 'ES384', secp521r1: 'ES512' };

/** All that a key set may be used for. */
export const ASYMMETRIC: readonly string[] = [...RSA, ...Object.values(EC), 'EdDSA'];
/** With keys that the bundle holds. */
export const SYMMETRIC: readonly string[] = ['HS256', 'HS384', 'HS512'];

const MOST_KEYS = 100;
const LEAST_RSA_BITS = 2048;
/** With what is larger, a server could keep kz busy for each token of its callers. */
const MOST_RSA_BITS = 8192;
const LARGEST_EXPONENT = 2n ** 64n;

/** The points of small order on the curve of Ed25519, as keys without the sign (RFC 8032, section 5.1.2). */
const SMALL_ORDER: readonly string[] = [
  '00'.repeat(32),
  `01${'00'.repeat(31)}`,
  '26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05',
  'c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a',
  `ec${'ff'.repeat(30)}7f`,
  `ed${'ff'.repeat(30)}7f`,
  `ee${'ff'.repeat(30)}7f`,
];

/** An RFC 7517 key set. Keys that are private, secret, for encryption or of an unknown kind do not count; throws `provider-failed` for no key set. */
export function parseKeySet(document: unknown, who: string): KeySet {
  const list = isRecord(document) ? document.keys : undefined;
  if (!Array.isArray(list)) throw new KzError('provider-failed', `${who} gave no JSON Web Key Set`);
  if (list.length > MOST_KEYS) {
    throw new KzError('provider-failed', `${who} gave ${String(list.length)} keys; kz takes at most ${String(MOST_KEYS)}`);
  }
  const keys: VerifyKey[] = [];
  let weak = 0;
  for (const jwk of list as readonly unknown[]) {
    const key = isRecord(jwk) && isForSignatures(jwk) ? verifyKey(jwk) : undefined;
    if (key === undefined) continue;
    if (isWeak(key.key)) weak++;
    else keys.push(key);
  }
  return { keys, weak };
}

/** What this public key can verify; empty for kinds that JWTs are not signed with. */
export function algorithmsOf(key: KeyObject): readonly string[] {
  const { asymmetricKeyType, asymmetricKeyDetails } = key;
  if (asymmetricKeyType === 'rsa') return RSA;
  if (asymmetricKeyType === 'ed25519') return ['EdDSA'];
  if (asymmetricKeyType !== 'ec') return [];
  const algorithm = EC[asymmetricKeyDetails?.namedCurve ?? ''];
  return algorithm === undefined ? [] : [algorithm];
}

/** With an exponent of 1, or a point of small order, everybody can sign. */
export function isWeak(key: KeyObject): boolean {
  const { asymmetricKeyType, asymmetricKeyDetails } = key;
  if (asymmetricKeyType === 'ed25519') return isOfSmallOrder(key);
  if (asymmetricKeyType !== 'rsa') return false;
  const { modulusLength = 0, publicExponent = 0n } = asymmetricKeyDetails ?? {};
  return modulusLength < LEAST_RSA_BITS || publicExponent < 3n;
}

function isOfSmallOrder(key: KeyObject): boolean {
  const point = Buffer.from(key.export({ format: 'jwk' }).x ?? '', 'base64url');
  point.writeUInt8(point.readUInt8(31) & 0x7f, 31);
  return SMALL_ORDER.includes(point.toString('hex'));
}

function isSlow({ asymmetricKeyDetails }: KeyObject): boolean {
  const { modulusLength = 0, publicExponent = 0n } = asymmetricKeyDetails ?? {};
  return modulusLength > MOST_RSA_BITS || publicExponent > LARGEST_EXPONENT;
}

/** Whoever has read a set with a private key in it can sign, too. */
function isForSignatures({ kty, use, key_ops: operations, d, kid }: Readonly<Record<string, unknown>>): boolean {
  const isPublic = (kty === 'RSA' || kty === 'EC' || kty === 'OKP') && d === undefined;
  const isToVerify = operations === undefined || (Array.isArray(operations) && operations.includes('verify'));
  return isPublic && isToVerify && (use === undefined || use === 'sig') && (kid === undefined || typeof kid === 'string');
}

function verifyKey(jwk: Readonly<Record<string, unknown>>): VerifyKey | undefined {
  const key = publicKey(jwk);
  if (key === undefined || isSlow(key)) return undefined;
  const { alg, kid } = jwk;
  const algorithms = algorithmsOf(key).filter((algorithm) => alg === undefined || alg === algorithm);
  return algorithms.length === 0 ? undefined : { kid: typeof kid === 'string' ? kid : undefined, algorithms, key };
}

/** Only what makes the key: certificates beside it say nothing. */
function publicKey({ kty, n, e, crv, x, y }: Readonly<Record<string, unknown>>): KeyObject | undefined {
  try {
    return createPublicKey({ key: { kty, n, e, crv, x, y } as JsonWebKey, format: 'jwk' });
  } catch {
    return undefined;
  }
}
