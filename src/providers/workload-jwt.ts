// Where a workload’s JWT comes from: a file, a variable, or the token service of GitHub Actions. It is read and handed on: nothing here judges
// it, and it is never part of an error.
import { KzError } from '../core/errors.ts';
import { at, JsonServer } from './ask-json.ts';
import { fromVariable, locked, readText } from './login-source.ts';
import type { ProviderContext } from './provider.ts';

export interface JwtSource {
  readonly env: ProviderContext['env'];
  /** Who is shown the JWT, as errors name it: `kz server at https://kz.internal`. */
  readonly who: string;
  /** Named by the user: it has to be set. */
  readonly variable?: string | undefined;
  /** Named by the user, absolute: it has to be there. */
  readonly file?: string | undefined;
  /** Taken where it is set. */
  readonly usualVariable?: string | undefined;
  /** Asked of GitHub Actions; left out: GitHub’s own default. */
  readonly audience?: string | undefined;
}

/** Where kz’s own clients and servers look first when nothing is named. */
export const USUAL_VARIABLE = 'KEYZERO_JWT';

export interface FoundJwt {
  readonly jwt: string;
  /** `KEYZERO_JWT`, `file "/var/run/…"`, `GitHub’s token service`. */
  readonly from: string;
}

/** Undefined when nothing is named and nothing is there. Throws `provider-locked`. */
export async function findWorkloadJwt(source: JwtSource, signal: AbortSignal): Promise<FoundJwt | undefined> {
  return (await placedJwt(source)) ?? askGithub(source, signal);
}

/** What to do where none was found. `settings` names the options: `` `jwt_env` or `jwt_file` in [providers.vault] ``. */
export function missingJwtHint(env: ProviderContext['env'], settings: string): string {
  return env.GITHUB_ACTIONS === 'true' ? GITHUB_HINT : `set ${settings}`;
}

/**
 * For who asks again and again. Files and variables are read each time, because projected tokens are replaced while kz runs; what GitHub gave is
 * kept until shortly before it ends.
 */
export class WorkloadJwt {
  readonly #source: JwtSource;
  #kept: { readonly found: FoundJwt; readonly until: number } | undefined;
  #running: { readonly asked: Promise<FoundJwt | undefined>; readonly signal: AbortSignal } | undefined;

  constructor(source: JwtSource) {
    this.#source = source;
  }

  /** As `findWorkloadJwt`, and throws `provider-locked` for what is no JWT: it becomes a header, where a line break would begin another. */
  async find(signal: AbortSignal): Promise<FoundJwt | undefined> {
    const found = (await placedJwt(this.#source)) ?? (await this.#askOnce(signal));
    if (found === undefined || /^[\w-]+\.[\w-]+\.[\w-]+$/.test(found.jwt)) return found;
    throw locked(
      `what ${found.from} holds is no JWT for ${this.#source.who}`,
      'a JWT is three texts with dots between them, without `Bearer`',
    );
  }

  /** After a refusal: may the next `find` give another one? */
  forget({ jwt }: FoundJwt): boolean {
    if (this.#kept?.found.jwt !== jwt) return false;
    this.#kept = undefined;
    return true;
  }

  /** Many callers, one request. One that another caller gave up is made again for this one. */
  async #askOnce(signal: AbortSignal): Promise<FoundJwt | undefined> {
    for (;;) {
      signal.throwIfAborted();
      if (this.#kept !== undefined && Date.now() < this.#kept.until) return this.#kept.found;
      const running = (this.#running ??= { asked: this.#ask(signal), signal });
      try {
        return await running.asked;
      } catch (error) {
        if (signal.aborted || !running.signal.aborted) throw error;
      }
    }
  }

  async #ask(signal: AbortSignal): Promise<FoundJwt | undefined> {
    try {
      const found = await askGithub(this.#source, signal);
      const { expiresAt } = found === undefined ? {} : readClaims(found.jwt);
      this.#kept = found === undefined || expiresAt === undefined ? undefined : { found, until: expiresAt - MARGIN_MS };
      return found;
    } finally {
      this.#running = undefined;
    }
  }
}

/** GitHub’s live for five minutes and more. */
const MARGIN_MS = 60_000;

export interface JwtClaims {
  readonly issuer?: string;
  /** Milliseconds since the epoch. */
  readonly expiresAt?: number;
}

/** What a token says of itself, for people. Nothing of it is proven; what is no JWT says nothing. */
export function readClaims(jwt: string): JwtClaims {
  const { iss, exp } = payloadOf(jwt);
  return {
    // Shown on terminals.
    ...(typeof iss === 'string' && /^[\x21-\x7e]{1,200}$/.test(iss) ? { issuer: iss } : {}),
    ...(typeof exp === 'number' ? { expiresAt: exp * 1000 } : {}),
  };
}

function payloadOf(jwt: string): { readonly iss?: unknown; readonly exp?: unknown } {
  try {
    const claims: unknown = JSON.parse(Buffer.from(jwt.split('.')[1] ?? '', 'base64url').toString());
    return { iss: at(claims, 'iss'), exp: at(claims, 'exp') };
  } catch {
    return {};
  }
}

async function placedJwt({ env, who, variable, file, usualVariable }: JwtSource): Promise<FoundJwt | undefined> {
  const named = fromVariable(variable, env, who);
  if (variable !== undefined && named !== undefined) return { jwt: named.trim(), from: variable };
  if (file !== undefined) return { jwt: await readText(file, who), from: `file ${JSON.stringify(file)}` };
  const usual = usualVariable === undefined ? '' : (env[usualVariable]?.trim() ?? '');
  return usualVariable === undefined || usual === '' ? undefined : { jwt: usual, from: usualVariable };
}

const GITHUB = 'GitHub’s token service';
const GITHUB_HINT = 'give the job `permissions: { id-token: write }`';

/** GitHub makes a token for this job and audience; who may ask is said by a token that only jobs with `id-token: write` have. */
async function askGithub({ env, audience }: JwtSource, signal: AbortSignal): Promise<FoundJwt | undefined> {
  const { ACTIONS_ID_TOKEN_REQUEST_URL: address = '', ACTIONS_ID_TOKEN_REQUEST_TOKEN: token = '' } = env;
  if (address === '' || token === '') return undefined;
  const url = URL.canParse(address) ? new URL(address) : undefined;
  if (url === undefined) throw new KzError('provider-failed', `${GITHUB} has no valid address in ACTIONS_ID_TOKEN_REQUEST_URL`);
  if (audience !== undefined) url.searchParams.set('audience', audience);
  const github = new JsonServer({ who: GITHUB });
  try {
    const { status, body } = await github.ask({ method: 'GET', url, headers: { authorization: `Bearer ${token}` } }, signal);
    const jwt = at(body, 'value');
    if (status === 200 && typeof jwt === 'string') return { jwt, from: GITHUB };
    throw locked(`${GITHUB} gave no token (${String(status)})`, GITHUB_HINT);
  } finally {
    github.close();
  }
}
