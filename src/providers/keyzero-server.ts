// A kz server as its clients see it: an address, a JWT that says who asks, and the endpoints that they call. The JWT is sent there and nowhere
// else: never in the clear to another machine, never after a redirect.
import type { ProviderOptions } from '../config/schema.ts';
import { parseServerAddress } from '../config/server-address.ts';
import { inWords } from '../core/duration.ts';
import { KzError } from '../core/errors.ts';
import { FirstUse } from '../core/first-use.ts';
import { isRecord } from '../core/record.ts';
import { at, JsonServer, type JsonAnswer } from './ask-json.ts';
import { readAuthorities } from './authorities.ts';
import { locked } from './login-source.ts';
import type { ProviderContext } from './provider.ts';
import { missingJwtHint, readClaims, USUAL_VARIABLE, WorkloadJwt, type FoundJwt } from './workload-jwt.ts';

export type KeyzeroOptions = NonNullable<ProviderOptions['keyzero']>;

const SETTINGS = { addressSetting: '`url` in [providers.keyzero], or KEYZERO_URL', caSetting: '`ca` in [providers.keyzero]' };

/** What a server says went wrong, as far as kz knows the word: nothing else that it says becomes part of a message. */
const CODES = words(`
  jwt-missing jwt-invalid jwt-expired issuer-unknown keys-unavailable request-invalid ref-invalid denied ref-unknown resolver-mismatch
  mode-forbidden secret-unavailable secret-timeout too-large rate-limited overloaded cancelled internal
`);

export class KeyzeroServer {
  readonly #options: KeyzeroOptions;
  readonly #env: ProviderContext['env'];
  readonly #opened = new FirstUse(() => this.#open());

  constructor(options: KeyzeroOptions, env: ProviderContext['env']) {
    this.#options = options;
    this.#env = env;
  }

  /** `kz server at https://kz.internal`. Throws what `resolve` throws for an address that cannot be used. */
  get who(): string {
    return whoAt(this.#address());
  }

  /** What the server says of these refs: ref → answer. Throws what speaks for all of them. A kept JWT that is refused is replaced once. */
  async resolve(refs: readonly string[], signal: AbortSignal): Promise<unknown> {
    const { server, jwt, base, who } = await this.#opened.get();
    for (let attempt = 0; ; attempt++) {
      const found = await jwt.find(signal);
      if (found === undefined) throw this.#withoutJwt(who);
      const headers = { authorization: `Bearer ${found.jwt}` };
      // A signal of its own: Node warns of a leak when more than ten requests listen to one.
      const own = AbortSignal.any([signal]);
      const request = { method: 'POST', url: new URL('v1/resolve', base), headers, body: { resources: refs } } as const;
      const answer = await server.ask(request, own);
      if (answer.status !== 401) return resultsOf(answer, who);
      if (!jwt.forget(found) || attempt > 0) throw unaccepted(answer, found, who);
    }
  }

  /** Is it ready to decide? Throws `provider-unavailable`. KeyZero’s own servers only say that they live. */
  async checkReady(signal: AbortSignal): Promise<void> {
    const { base, who, ca } = await this.#opened.get();
    const server = new JsonServer({ ...SETTINGS, who, ca, isBusy: () => false });
    try {
      const ready = await server.ask({ method: 'GET', url: new URL('readyz', base) }, signal);
      const { status } = ready.status === 404 ? await server.ask({ method: 'GET', url: new URL('healthz', base) }, signal) : ready;
      if (status === 503) throw new KzError('provider-unavailable', `${who} is not ready (503)`, { hint: 'look at its log' });
      if (status !== 200) throw new KzError('provider-failed', `${who} answered ${String(status)} when asked for its health`);
    } finally {
      server.close();
    }
  }

  /** `token of https://token.actions.githubusercontent.com, 9 minutes left`. Throws `provider-locked`. */
  async describeJwt(signal: AbortSignal): Promise<string> {
    const { jwt, who } = await this.#opened.get();
    const found = await jwt.find(signal);
    if (found === undefined) throw this.#withoutJwt(who);
    const { issuer, expiresAt } = readClaims(found.jwt);
    const name = issuer === undefined ? `token from ${found.from}` : `token of ${issuer}`;
    if (expiresAt === undefined) return `${name}, which has no end`;
    const left = (expiresAt - Date.now()) / 1000;
    if (left > 0) return `${name}, ${inWords(left)} left`;
    throw locked(`the token for ${who} from ${found.from} ended ${inWords(-left)} ago`, 'get a new one: it lives for minutes only');
  }

  /** Ends the connections. */
  async close(): Promise<void> {
    const opened = await this.#opened.used();
    opened?.server.close();
  }

  async #open(): Promise<Opened> {
    const base = this.#address();
    const who = whoAt(base);
    const { ca: path, jwt_env: variable, jwt_file: file, audience } = this.#options;
    const ca = path === undefined ? undefined : [await readAuthorities(path, { who, hint: 'correct `ca` in [providers.keyzero]' })];
    const jwt = new WorkloadJwt({ env: this.#env, who, variable, file, usualVariable: USUAL_VARIABLE, audience });
    return { base, who, ca, jwt, server: new JsonServer({ ...SETTINGS, who, ca, isBusy }) };
  }

  #address(): URL {
    const { url: named } = this.#options;
    const text = named ?? (this.#env.KEYZERO_URL === '' ? undefined : this.#env.KEYZERO_URL);
    if (text === undefined) {
      throw new KzError('provider-unavailable', 'the kz server has no address: neither the config nor KEYZERO_URL names one', {
        hint: 'set `url` in [providers.keyzero], or KEYZERO_URL',
      });
    }
    const address = parseServerAddress(text);
    if (address instanceof URL) return address;
    const { problem, hint, url } = address;
    throw new KzError('config-invalid', `${url === undefined ? 'the address of the kz server' : whoAt(url)} ${problem}`, {
      hint: `${hint} (${SETTINGS.addressSetting})`,
    });
  }

  #withoutJwt(who: string): KzError {
    const hint = missingJwtHint(this.#env, '`jwt_file` or `jwt_env` in [providers.keyzero], or KEYZERO_JWT');
    const otherwise = this.#options.audience === undefined ? 'nothing else is named' : '`audience` is for jobs of GitHub Actions';
    return locked(`kz has no JWT for ${who}: ${USUAL_VARIABLE} is not set, and ${otherwise}`, hint);
  }
}

interface Opened {
  readonly server: JsonServer;
  readonly jwt: WorkloadJwt;
  /** Ends with a slash. */
  readonly base: URL;
  readonly who: string;
  readonly ca: readonly string[] | undefined;
}

/** The code of an answer, or of what it says of one ref; undefined when kz does not know the word. */
export function codeOf(value: unknown): string | undefined {
  const code = at(value, 'code') ?? at(value, 'error', 'code') ?? at(value, 'error');
  return typeof code === 'string' && CODES.has(code) ? code : undefined;
}

function whoAt(base: URL): string {
  return `kz server at ${base.href.replace(/\/$/, '')}`;
}

/** 502 and 504 with a code are about the place where a secret lives, not about the way there. */
function isBusy({ status, body }: JsonAnswer): boolean {
  return status === 429 || status === 503 || ((status === 502 || status === 504) && codeOf(body) === undefined);
}

/** When one ref is asked for and denied, that is also the status. */
function resultsOf(answer: JsonAnswer, who: string): unknown {
  const results = at(answer.body, 'results');
  if ((answer.status === 200 || answer.status >= 400) && isRecord(results)) return results;
  if (answer.status !== 200) throw refusal(answer, who);
  throw new KzError('provider-failed', `${who} does not answer as a kz server does`, { hint: `correct ${SETTINGS.addressSetting}` });
}

function unaccepted({ body }: JsonAnswer, { jwt, from }: FoundJwt, who: string): KzError {
  const code = codeOf(body);
  const { issuer } = readClaims(jwt);
  const hints: Readonly<Record<string, string>> = {
    'jwt-expired': 'get a new one: it lives for minutes only',
    'issuer-unknown': `the server’s bundle needs an issuer with \`issuer_url: ${issuer ?? 'the iss of the token'}\``,
  };
  const hint = hints[code ?? ''] ?? 'its issuer and its audience have to be those of an issuer in the server’s bundle';
  return locked(`${who} does not accept the token from ${from} (${code ?? '401'})`, hint);
}

function refusal({ status, body }: JsonAnswer, who: string): KzError {
  if (status >= 300 && status < 400) {
    return new KzError('provider-failed', `${who} answered ${String(status)}: kz takes its token to no other address`, {
      hint: `correct ${SETTINGS.addressSetting}`,
    });
  }
  const code = codeOf(body);
  if (status === 403) {
    return new KzError('provider-denied', `${who} denies the request (${code ?? '403'})`, {
      hint: 'the server’s bundle needs a policy with `effect: allow` for this caller',
    });
  }
  if (status === 404 && code === undefined) {
    return new KzError('provider-failed', `${who} has no /v1/resolve`, { hint: `correct ${SETTINGS.addressSetting}` });
  }
  return new KzError('provider-failed', `${who} answered ${String(status)}${code === undefined ? '' : ` (${code})`}`);
}

function words(list: string): ReadonlySet<string> {
  return new Set(list.trim().split(/\s+/));
}
