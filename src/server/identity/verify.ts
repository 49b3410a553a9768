// JWT → who calls. The issuer is chosen by the unproven `iss`; from then on only that issuer's keys and algorithms count, and nothing is believed
// before the signature is. No message holds the token.
import type { IssuerEntry } from '../../config/bundle.ts';
import { KzError } from '../../core/errors.ts';
import { identityOf, type Identity } from '../../policy/identity.ts';
import { ServerFailure } from '../failure.ts';
import { IssuerKeys } from './issuer-keys.ts';
import { checkClaims, claimFailure, CLOCK_TOLERANCE_S, quoted } from './jwt-claims.ts';
import { hashOf, JwtCache } from './jwt-cache.ts';
import { parseJwt, requireJwt, type JwtParts } from './jwt-parts.ts';
import type { VerifyKey } from './jwks-key.ts';

/** Who calls, proven. Nothing here holds the token. */
export interface Caller {
  /** Name of the issuer in the bundle. */
  readonly issuer: string;
  readonly iss: string;
  readonly sub: string;
  /** `jti`, or for a token without one `sha256:` and 16 hex digits of the token's hash. */
  readonly id: string;
  readonly identity: Identity;
  readonly claims: Readonly<Record<string, unknown>>;
  /** Milliseconds since the epoch. */
  readonly expiresAt: number;
}

export interface VerifierOptions {
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Milliseconds since the epoch. */
  readonly now?: () => number;
  /** Of one fetch of keys. Default 5 seconds. */
  readonly fetchTimeoutMs?: number;
  /** Told, for example, that tokens are verified with old keys because no new ones can be had. */
  readonly warn?: (message: string) => void;
}

interface OpenIssuer {
  readonly entry: IssuerEntry;
  readonly keys: IssuerKeys;
}

type JwtVerify = (typeof import('jose'))['jwtVerify'];

interface VerifierParts {
  readonly issuers: readonly OpenIssuer[];
  readonly now: () => number;
  readonly jwtVerify: JwtVerify;
}

/** One for each bundle. */
export class Verifier {
  readonly #issuers: readonly OpenIssuer[];
  readonly #now: () => number;
  readonly #jwtVerify: JwtVerify;
  readonly #verified = new JwtCache<Caller>();

  private constructor({ issuers, now, jwtVerify }: VerifierParts) {
    this.#issuers = issuers;
    this.#now = now;
    this.#jwtVerify = jwtVerify;
  }

  /** Each has an `issuer_url` of its own. Reads static keys and key files; throws `config-invalid` at the issuer's place, or `several`. No network. */
  static async open(issuers: readonly IssuerEntry[], options: VerifierOptions): Promise<Verifier> {
    const { env, now = Date.now, fetchTimeoutMs: timeoutMs = 5000, warn = () => undefined } = options;
    const shared = { env, now, timeoutMs, warn, sets: new Map() };
    // Now, and not at the first token: an upgrade may replace kz's files under a server that runs.
    const { jwtVerify } = await import('jose');
    const opened: OpenIssuer[] = [];
    const problems: KzError[] = [];
    for (const entry of issuers) {
      try {
        opened.push({ entry, keys: await IssuerKeys.open(entry, shared) });
      } catch (error) {
        if (!(error instanceof KzError)) throw error;
        problems.push(...(error.problems.length > 0 ? error.problems : [error]));
      }
    }
    if (problems.length > 0) throw KzError.all(problems);
    return new Verifier({ issuers: opened, now, jwtVerify });
  }

  /** Throws `ServerFailure`: jwt-missing, jwt-invalid, jwt-expired, issuer-unknown, keys-unavailable, cancelled. Anything else is a mistake of ours. */
  async verify(jwt: string | undefined, signal: AbortSignal): Promise<Caller> {
    const text = requireJwt(jwt);
    const hash = hashOf(text);
    const known = this.#verified.get(hash, this.#now());
    if (known !== undefined) return known;
    const parts = parseJwt(text);
    const issuer = this.#issuers.find(({ entry }) => entry.issuerUrl === parts.iss);
    if (issuer === undefined) throw this.#unknownIssuer(parts.iss);
    try {
      return await this.#verifyWith(issuer, { jwt: text, hash, parts }, signal);
    } catch (error) {
      if (signal.aborted) throw new ServerFailure('cancelled', 'the call was cancelled while its token was verified');
      throw error;
    }
  }

  /** Is the issuer of a caller, who may have been verified by another one of these, among those here? */
  has({ issuer, iss }: Pick<Caller, 'issuer' | 'iss'>): boolean {
    return this.#issuers.some(({ entry }) => entry.name === issuer && entry.issuerUrl === iss);
  }

  /** For readiness and the health check: can the keys of every issuer be had? Name of the issuer → what is wrong, or undefined. */
  async check(signal: AbortSignal): Promise<ReadonlyMap<string, KzError | undefined>> {
    const checked = this.#issuers.map(async ({ entry, keys }) => {
      // It throws when the signal aborts, and then alone.
      const problem = await keys.check(signal).catch(() => new KzError('provider-timeout', 'its keys did not come in time'));
      return [entry.name, problem] as const;
    });
    return new Map(await Promise.all(checked));
  }

  async #verifyWith({ entry, keys }: OpenIssuer, token: Token, signal: AbortSignal): Promise<Caller> {
    const found = await keys.find(token.parts, signal);
    const claims = await verifySignature(token, found, { entry, nowMs: this.#now(), jwtVerify: this.#jwtVerify });
    const nowMs = this.#now();
    const { sub, expiresAt } = checkClaims(claims, nowMs);
    const id = tokenId(claims.jti, token.hash);
    const caller = { issuer: entry.name, iss: entry.issuerUrl, sub, id, identity: identityOf(entry, claims), claims, expiresAt };
    this.#verified.set(token.hash, caller, { nowMs, until: Math.min(expiresAt, oldestAt(claims.iat, entry)) });
    return caller;
  }

  #unknownIssuer(iss: string): ServerFailure {
    const isAlmost = this.#issuers.some(({ entry }) => entry.issuerUrl.replace(/\/$/, '') === iss.replace(/\/$/, ''));
    const hint = 'the `issuer_url` of one of the bundle’s issuers must be the same text as the token’s `iss`';
    return new ServerFailure('issuer-unknown', `the token is of the issuer ${quoted(iss)}, which the bundle does not have`, {
      hint: isAlmost ? `${hint}, with or without the / at the end` : hint,
    });
  }
}

interface Token {
  readonly jwt: string;
  readonly hash: string;
  readonly parts: JwtParts;
}

interface Question {
  readonly entry: IssuerEntry;
  readonly nowMs: number;
  readonly jwtVerify: JwtVerify;
}

/** The claims. The first key whose signature it is decides. */
async function verifySignature({ jwt, parts }: Token, keys: readonly VerifyKey[], question: Question): Promise<Caller['claims']> {
  const { entry, nowMs, jwtVerify } = question;
  const options = {
    algorithms: [parts.alg],
    issuer: entry.issuerUrl,
    ...(entry.audience.length === 0 ? {} : { audience: [...entry.audience] }),
    requiredClaims: ['exp', 'iss', 'aud', 'sub'],
    clockTolerance: CLOCK_TOLERANCE_S,
    ...(entry.maxAgeMs === undefined ? {} : { maxTokenAge: entry.maxAgeMs / 1000 }),
    currentDate: new Date(nowMs),
  };
  for (const { key } of keys) {
    try {
      return (await jwtVerify(jwt, key, options)).payload;
    } catch (error) {
      const failure = claimFailure(error, entry, nowMs);
      if (failure !== undefined) throw failure;
    }
  }
  throw new ServerFailure('jwt-invalid', `the signature of the token is not that of issuer ${quoted(entry.name)}`, {
    hint: 'send the token as the issuer gave it, whole',
  });
}

/** What an audit line can show. */
function tokenId(jti: unknown, hash: string): string {
  return typeof jti === 'string' && /^[\x21-\x7e]{1,200}$/.test(jti) ? jti : `sha256:${hash.slice(0, 16)}`;
}

/** When `max_age` is over. */
function oldestAt(iat: unknown, { maxAgeMs }: IssuerEntry): number {
  return typeof iat === 'number' && maxAgeMs !== undefined ? iat * 1000 + maxAgeMs : Infinity;
}
