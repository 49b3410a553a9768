// What the claims of a token must say once its signature is proven: who it is for, when it is good, and whom it is about. jose checks; this file says
// what was wrong in words, and adds what jose leaves open. Audiences and times are quoted, nothing else of the token.
import type { IssuerEntry } from '../../config/bundle.ts';
import { isRecord } from '../../core/record.ts';
import { ServerFailure } from '../failure.ts';

type Claims = Readonly<Record<string, unknown>>;

/** As far as the clocks of two machines may differ. */
export const CLOCK_TOLERANCE_S = 30;

/** The last second that a Date can be. */
const LAST_SECOND = 8.64e12;

export interface CheckedClaims {
  readonly sub: string;
  /** `exp`, in milliseconds since the epoch. */
  readonly expiresAt: number;
}

/** What `jwtVerify` did not ask. Throws `jwt-invalid`. */
export function checkClaims(claims: Claims, nowMs: number): CheckedClaims {
  const { sub, exp, iat, events, cnf } = claims;
  // RFC 8417: somebody tells of somebody, who has logged out for example. Not every issuer says so in `typ`.
  if (events !== undefined) throw invalid('tells of an event, and is no proof of who calls', 'send an ID token or an access token');
  // RFC 7800, so DPoP and certificates: without the key, whoever has found the token would be its holder.
  if (cnf !== undefined)
    throw invalid('is for the holder of a key (`cnf`), which kz does not ask for', 'ask the issuer for a bearer token');
  if (typeof sub !== 'string' || sub === '') throw invalid('has a `sub` that is empty or no text');
  if (typeof exp !== 'number' || exp > LAST_SECOND) throw invalid('has an `exp` that is no time');
  if (iat !== undefined) {
    if (typeof iat !== 'number') throw invalid('has an `iat` that is no time');
    if (iat > nowMs / 1000 + CLOCK_TOLERANCE_S) throw early('was issued', iat, nowMs);
  }
  return { sub, expiresAt: exp * 1000 };
}

/** Of what `jwtVerify` threw; undefined for a signature that is not this key's. */
export function claimFailure(error: unknown, issuer: IssuerEntry, nowMs: number): ServerFailure | undefined {
  const { code, claim, reason, payload } = isRecord(error) ? error : {};
  if (code === 'ERR_JWS_SIGNATURE_VERIFICATION_FAILED') return undefined;
  const claims = isRecord(payload) ? payload : {};
  if (code === 'ERR_JWT_EXPIRED') return claim === 'iat' ? tooOld(claims.iat, issuer, nowMs) : expired(claims.exp, nowMs);
  const name = NAMES.find((known) => known === claim);
  if (code !== 'ERR_JWT_CLAIM_VALIDATION_FAILED' || name === undefined) return invalid('cannot be read');
  if (reason === 'missing') return invalid(`has no \`${name}\`, which kz needs`, 'the issuer must write it');
  if (reason === 'invalid') return invalid(`has \`${name}\` in another form than a time`);
  return unexpected(name, claims[name], issuer, nowMs);
}

const NAMES = ['iss', 'sub', 'aud', 'exp', 'nbf', 'iat'] as const;

function unexpected(name: (typeof NAMES)[number], value: unknown, issuer: IssuerEntry, nowMs: number): ServerFailure {
  if (name === 'aud') return wrongAudience(value, issuer);
  if (name === 'nbf') return early('is valid from', value, nowMs);
  if (name === 'iat') return early('was issued', value, nowMs);
  return invalid(`has another \`${name}\` than issuer ${quoted(issuer.name)} has`);
}

function expired(exp: unknown, nowMs: number): ServerFailure {
  return new ServerFailure('jwt-expired', `the token expired ${span(nowMs / 1000 - Number(exp))} ago`, { hint: 'get a new token' });
}

function tooOld(iat: unknown, { name, maxAgeMs = 0 }: IssuerEntry, nowMs: number): ServerFailure {
  const age = span(nowMs / 1000 - Number(iat));
  return new ServerFailure('jwt-expired', `the token was issued ${age} ago; issuer ${quoted(name)} takes it for ${span(maxAgeMs / 1000)}`, {
    hint: 'get a new token',
  });
}

function early(what: string, time: unknown, nowMs: number): ServerFailure {
  return invalid(`${what} ${span(Number(time) - nowMs / 1000)} in the future`, 'compare the clocks of the issuer and of kz');
}

function wrongAudience(aud: unknown, { name, audience }: IssuerEntry): ServerFailure {
  const given = (Array.isArray(aud) ? (aud as readonly unknown[]) : [aud]).slice(0, 3).map(quoted).join(', ');
  const wanted = audience.map(quoted).join(' or ');
  return invalid(
    `is for the audience ${given === '' ? 'of nobody' : given}, not ${wanted}`,
    `ask issuer ${quoted(name)} for a token with the audience ${wanted}`,
  );
}

/** What is long or not printable is not shown. */
export function quoted(text: unknown): string {
  return typeof text === 'string' && /^[\x20-\x7e]{0,100}$/.test(text) ? JSON.stringify(text) : '(not printable)';
}

const UNITS: readonly (readonly [string, number])[] = [
  ['day', 86_400],
  ['hour', 3600],
  ['minute', 60],
  ['second', 1],
];

/** `5 minutes` */
function span(seconds: number): string {
  const whole = Math.max(0, Math.round(seconds));
  const [unit, size] = UNITS.find(([, least]) => whole >= least) ?? ['second', 1];
  const count = Math.floor(whole / size);
  return `${String(count)} ${unit}${count === 1 ? '' : 's'}`;
}

function invalid(problem: string, hint?: string): ServerFailure {
  return new ServerFailure('jwt-invalid', `the token ${problem}`, { hint });
}
