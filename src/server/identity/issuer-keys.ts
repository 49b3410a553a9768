// The keys of one issuer: those that the bundle holds, and a key set from a URL, a file or OIDC discovery. Finds those that one token's header may
// mean. An algorithm counts only where the issuer takes it and the key is made for it.
import { stat } from 'node:fs/promises';
import type { IssuerEntry } from '../../config/bundle.ts';
import { KzError, systemCode } from '../../core/errors.ts';
import { readGuardedFile } from '../../providers/guarded-file.ts';
import { ServerFailure } from '../failure.ts';
import { CachedKeys, type KeyTimes } from './jwks-cache.ts';
import { ASYMMETRIC, parseKeySet, type KeySet, type VerifyKey } from './jwks-key.ts';
import { openStaticKey } from './jwks-static.ts';
import { KeyServer } from './key-server.ts';

export interface KeysOptions {
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly now: () => number;
  /** Of one fetch. */
  readonly timeoutMs: number;
  /** Issuers with the same key set share it. */
  readonly sets: Map<string, CachedKeys>;
  /** A sentence for the operator. */
  readonly warn: (message: string) => void;
}

/** Of a token's header. */
export interface KeyQuestion {
  readonly alg: string;
  readonly kid: string | undefined;
}

const SERVER_TIMES: KeyTimes = { freshMs: 600_000, cooldownMs: 30_000, failureMs: 5000, staleMs: 86_400_000 };
/** A look at a file is cheap. */
const FILE_TIMES: KeyTimes = { freshMs: 1000, cooldownMs: 0, failureMs: 0, staleMs: 86_400_000 };

/** Each costs a signature check, and a token without `kid` chooses none of them. */
const MOST_CANDIDATES = 10;

export class IssuerKeys {
  readonly #issuer: IssuerEntry;
  readonly #fixed: readonly VerifyKey[];
  readonly #set: CachedKeys | undefined;
  /** What a signature may be made with. */
  readonly #algorithms: readonly string[];

  private constructor(issuer: IssuerEntry, fixed: readonly VerifyKey[], set: CachedKeys | undefined) {
    this.#issuer = issuer;
    this.#fixed = fixed;
    this.#set = set;
    const possible = new Set([...fixed.flatMap(({ algorithms }) => algorithms), ...(set === undefined ? [] : ASYMMETRIC)]);
    this.#algorithms = [...possible].filter((algorithm) => issuer.algorithms?.includes(algorithm) ?? true);
  }

  /** Reads what the bundle holds and its files. Throws `config-invalid` at the place, or `several`. */
  static async open(issuer: IssuerEntry, options: KeysOptions): Promise<IssuerKeys> {
    const opened = await Promise.allSettled(issuer.staticKeys.map((entry) => openStaticKey(entry, options.env)));
    const problems = opened.flatMap((result) => (result.status === 'rejected' ? [result.reason as KzError] : []));
    if (problems.length > 0) throw KzError.all(problems);
    const fixed = opened.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : []));
    const keys = new IssuerKeys(issuer, fixed, await openSet(issuer, options));
    if (keys.#algorithms.length > 0) return keys;
    throw new KzError('config-invalid', `\`algorithms\` of issuer ${JSON.stringify(issuer.name)} leaves none that its keys are for`, {
      at: issuer.at,
      hint: 'leave `algorithms` out; HS256, HS384 and HS512 are for static keys only',
    });
  }

  /** At least one. Throws `jwt-invalid`, `keys-unavailable`, and when the signal aborts its reason. */
  async find(question: KeyQuestion, signal: AbortSignal): Promise<readonly VerifyKey[]> {
    if (!this.#algorithms.includes(question.alg)) throw this.#wrongAlgorithm(question.alg);
    const fixed = matching(this.#fixed, question);
    const found = fixed.length > 0 && question.kid !== undefined ? fixed : [...fixed, ...(await this.#fetched(question, signal))];
    if (found.length === 0) throw this.#noKey(question);
    if (found.length <= MOST_CANDIDATES) return found;
    throw new ServerFailure(
      'jwt-invalid',
      `the token says of none of the ${String(found.length)} keys of ${this.#name} that it is signed with it`,
      {
        hint: 'the issuer must write `kid` into the header',
      },
    );
  }

  /** What is wrong when no keys can be had. Throws the signal's reason when it aborts. */
  async check(signal: AbortSignal): Promise<KzError | undefined> {
    if (this.#set === undefined) return undefined;
    try {
      const { keys, weak } = await this.#set.current(signal);
      if (keys.length > 0 || this.#fixed.length > 0) return undefined;
      const problem = weak === 0 ? 'its key set has no key for signatures' : 'all its keys are too weak: RSA keys have 2048 bits or more';
      return new KzError('provider-failed', problem);
    } catch (error) {
      signal.throwIfAborted();
      return error instanceof KzError ? error : new KzError('provider-failed', messageOf(error), { cause: error });
    }
  }

  get #name(): string {
    return `issuer ${JSON.stringify(this.#issuer.name)}`;
  }

  async #fetched(question: KeyQuestion, signal: AbortSignal): Promise<readonly VerifyKey[]> {
    const set = this.#set;
    if (set === undefined || !ASYMMETRIC.includes(question.alg)) return [];
    try {
      const current = await set.current(signal);
      const found = matching(current.keys, question);
      if (found.length > 0) return found;
      const newer = matching((await set.newerThan(current, signal)).keys, question);
      // Perhaps it has been signed with a key that nobody can tell us of.
      if (newer.length === 0 && set.failure !== undefined) throw set.failure;
      return newer;
    } catch (error) {
      signal.throwIfAborted();
      throw this.#unavailable(error);
    }
  }

  #unavailable(error: unknown): ServerFailure {
    const hint = error instanceof KzError ? error.hint : undefined;
    const message = `the keys of ${this.#name} cannot be had: ${messageOf(error)}`;
    return new ServerFailure('keys-unavailable', message, { hint, retryAfterMs: SERVER_TIMES.failureMs, cause: error });
  }

  #wrongAlgorithm(alg: string): ServerFailure {
    const name = /^[A-Za-z0-9]{1,10}$/.test(alg) ? alg : 'an algorithm';
    return new ServerFailure('jwt-invalid', `the token is signed with ${name}, which ${this.#name} does not take`, {
      hint: `it takes ${this.#algorithms.join(', ')}`,
    });
  }

  #noKey({ alg, kid }: KeyQuestion): ServerFailure {
    const isNameless = kid !== undefined && this.#fixed.some((key) => key.kid === undefined && key.algorithms.includes(alg));
    const problem = kid === undefined ? `has no key for ${alg}` : `has no key for ${alg} with the token’s \`kid\``;
    return new ServerFailure('jwt-invalid', `${this.#name} ${problem}`, {
      hint: isNameless
        ? 'one of its static keys has no `kid`: write the one that the token’s header has'
        : 'get a new token: its key may have been replaced',
    });
  }
}

/** RFC 7515, section 4.1.4, as strictly as it goes: a token that names a key is verified with that key. */
function matching(keys: readonly VerifyKey[], { alg, kid }: KeyQuestion): readonly VerifyKey[] {
  return keys.filter((key) => key.algorithms.includes(alg) && (kid === undefined || key.kid === kid));
}

async function openSet(issuer: IssuerEntry, options: KeysOptions): Promise<CachedKeys | undefined> {
  const { jwksUrl, jwksFile, issuerUrl, ca, tokenFile, staticKeys } = issuer;
  if (jwksUrl === undefined && jwksFile === undefined && staticKeys.length > 0) return undefined;
  const source = jwksFile ?? JSON.stringify([jwksUrl ?? { issuerUrl }, ca, tokenFile]);
  const known = options.sets.get(source);
  if (known !== undefined) return known;
  const set = jwksFile === undefined ? serverSet(issuer, options) : await fileSet(issuer, jwksFile, options);
  options.sets.set(source, set);
  return set;
}

function serverSet(issuer: IssuerEntry, options: KeysOptions): CachedKeys {
  try {
    const server = new KeyServer(issuer);
    return new CachedKeys((signal) => server.keys(signal), { ...options, times: SERVER_TIMES, onStale: warnOf(issuer, options) });
  } catch (error) {
    throw atIssuer(issuer, error);
  }
}

/** Read at once, so that a wrong one is found when the bundle is. */
async function fileSet(issuer: IssuerEntry, path: string, options: KeysOptions): Promise<CachedKeys> {
  const set = new CachedKeys(fileReader(path), { ...options, times: FILE_TIMES, onStale: warnOf(issuer, options) });
  try {
    const { keys } = await set.current(new AbortController().signal);
    if (keys.length === 0) throw new KzError('provider-failed', `file ${JSON.stringify(path)} holds no key for signatures`);
    return set;
  } catch (error) {
    throw atIssuer(issuer, error);
  }
}

function fileReader(path: string): () => Promise<KeySet> {
  const label = `file ${JSON.stringify(path)}`;
  let last: { readonly version: string; readonly set: KeySet } | undefined;
  return async () => {
    try {
      const { dev, ino, mtimeNs, ctimeNs, size } = await stat(path, { bigint: true });
      const version = [dev, ino, mtimeNs, ctimeNs, size].join(' ');
      if (last?.version !== version) last = { version, set: parseFile(await readGuardedFile(path, { label, maxMebibytes: 1 }), label) };
      return last.set;
    } catch (cause) {
      const code = systemCode(cause);
      throw code === undefined ? cause : new KzError('provider-unavailable', `cannot read ${label} (${code})`, { cause });
    }
  };
}

function parseFile(bytes: Uint8Array, label: string): KeySet {
  let document: unknown;
  try {
    document = JSON.parse(Buffer.from(bytes).toString());
  } catch {
    throw new KzError('provider-failed', `${label} is no JSON`);
  }
  const set = parseKeySet(document, label);
  // Whoever wrote the file can correct it, unlike a server's set, which must not fail as a whole.
  if (set.weak > 0) throw new KzError('provider-failed', `${label} holds a weak key: RSA keys have 2048 bits or more`);
  return set;
}

function warnOf({ name }: IssuerEntry, { warn }: KeysOptions): (error: unknown) => void {
  return (error) => {
    warn(
      `issuer ${JSON.stringify(name)}: tokens are verified with the last keys that could be had, for up to 24 hours: ${messageOf(error)}`,
    );
  };
}

function atIssuer(issuer: IssuerEntry, error: unknown): KzError {
  const { name, at, jwksFileAt } = issuer;
  const hint = (error instanceof KzError ? error.hint : undefined) ?? (jwksFileAt === undefined ? undefined : 'correct `jwks_file`');
  const message = `the keys of issuer ${JSON.stringify(name)} cannot be had: ${messageOf(error)}`;
  return new KzError('config-invalid', message, { at: jwksFileAt ?? at, hint, cause: error });
}

/** Of our own errors only: others may quote what they were given. */
function messageOf(error: unknown): string {
  return error instanceof KzError ? error.message : (systemCode(error) ?? 'unknown error');
}
