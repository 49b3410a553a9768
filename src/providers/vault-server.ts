// Vault's HTTP API, one request at a time: address, namespace, certificate authorities, the redirect of a standby server, and the statuses
// that speak for the whole server. Knows nothing of tokens but the header they go into.
import { setMaxListeners } from 'node:events';
import type { ProviderOptions } from '../config/schema.ts';
import { KzError } from '../core/errors.ts';
import { FirstUse } from '../core/first-use.ts';
import { at, JsonServer, type JsonAnswer, type JsonRequest } from './ask-json.ts';
import { readAuthorities } from './authorities.ts';
import type { ProviderContext } from './provider.ts';

export type VaultOptions = NonNullable<ProviderOptions['vault']>;

export interface VaultRequest {
  readonly method?: JsonRequest['method'];
  /** Below `/v1/`, encoded. */
  readonly path: string;
  readonly body?: unknown;
  readonly token?: string | undefined;
  readonly mayRepeat?: JsonRequest['mayRepeat'];
}

export interface VaultAnswer extends JsonAnswer {
  /** What the server says went wrong. To be recognized, never to be shown. */
  readonly errors: string;
}

/** What hints call them. */
const SETTINGS = {
  addressSetting: '`address` in [providers.vault], or VAULT_ADDR',
  caSetting: '`ca` in [providers.vault], or VAULT_CACERT,',
};

/** What a standby or a balancer in front of the servers may answer with. Vault's own are all 307. */
const REDIRECTS = [301, 302, 307, 308];

export class VaultServer {
  readonly #options: VaultOptions;
  readonly #env: ProviderContext['env'];
  readonly #opened = new FirstUse(() => this.#open());

  constructor(options: VaultOptions, env: ProviderContext['env']) {
    this.#options = options;
    this.#env = env;
  }

  /** `vault at https://vault.internal:8200`. Throws `provider-unavailable` when there is no address. */
  get who(): string {
    return whoAt(this.#address());
  }

  /** Undefined for the root namespace. Throws `config-invalid`. */
  get namespace(): string | undefined {
    const name = (this.#options.namespace ?? setting(this.#env, 'NAMESPACE') ?? '').replace(/^\/+|\/+$/g, '');
    if (!/^[\x21-\x7e]*$/.test(name)) {
      throw new KzError('config-invalid', `the namespace ${JSON.stringify(name)} has a character that no namespace has`);
    }
    return name === '' ? undefined : name;
  }

  /** Ends a hint about something that may be elsewhere. */
  get namespaceHint(): string {
    const { namespace } = this;
    if (namespace === undefined) return 'if it is in a namespace, set `namespace` in [providers.vault]';
    return `kz asked in namespace ${JSON.stringify(namespace)}`;
  }

  /**
   * Any status is an answer, except those that say that the server serves nobody: `provider-locked` when it is sealed, `provider-unavailable`
   * for the rest of 503. A redirect is followed once, never from https to http, nor over plain http to another host.
   */
  async ask(request: VaultRequest, signal: AbortSignal): Promise<VaultAnswer> {
    // One for each request under way; Node warns of more than ten.
    setMaxListeners(0, signal);
    const { server, base, who } = await this.#opened.get();
    const first = this.#toJsonRequest(request, new URL(`v1/${request.path}`, base));
    const answer = await server.ask(first, signal);
    const target = redirectTarget(answer, first.url, who);
    const final = target === undefined ? answer : await server.ask({ ...first, url: target }, signal);
    if (REDIRECTS.includes(final.status)) throw new KzError('provider-failed', `${who} redirects in a circle`);
    return served({ ...final, errors: errorsOf(final.body) }, who);
  }

  /** Is it initialized and unsealed? Also a standby is; it answers 429, which here does not mean that it is busy. */
  async checkHealth(signal: AbortSignal): Promise<void> {
    const { base, who, ca } = await this.#opened.get();
    const server = new JsonServer({ ...SETTINGS, who, ca, isBusy: ({ status }) => status === 502 || status === 504 });
    try {
      const url = new URL('v1/sys/health?standbyok=true&perfstandbyok=true', base);
      const { status } = await server.ask({ method: 'GET', url, headers: { 'x-vault-request': 'true' } }, signal);
      if (status === 501) throw notInitialized(who);
      if (status === 503) throw sealed(who);
      if (status >= 500 || status === 404)
        throw new KzError('provider-failed', `${who} answered ${String(status)} when asked for its health`);
    } finally {
      server.close();
    }
  }

  /** Ends the connections. */
  async close(): Promise<void> {
    const opened = await this.#opened.used();
    opened?.server.close();
  }

  async #open(): Promise<Opened> {
    const base = this.#address();
    const who = whoAt(base);
    const path = this.#options.ca ?? setting(this.#env, 'CACERT');
    const ca =
      path === undefined ? undefined : [await readAuthorities(path, { who, hint: 'correct `ca` in [providers.vault], or VAULT_CACERT' })];
    return { base, who, ca, server: new JsonServer({ ...SETTINGS, who, ca }) };
  }

  #address(): URL {
    const address = this.#options.address ?? setting(this.#env, 'ADDR');
    if (address === undefined) {
      throw new KzError('provider-unavailable', 'vault has no address: neither the config nor VAULT_ADDR names one', {
        hint: 'set `address` in [providers.vault], or VAULT_ADDR',
      });
    }
    const url = URL.canParse(address) ? new URL(address) : undefined;
    if (url === undefined || !/^https?:$/.test(url.protocol)) {
      throw new KzError('provider-unavailable', 'the address of vault is no http or https URL', {
        hint: 'write it as `https://vault.internal:8200`',
      });
    }
    // Who reads errors should not read a password.
    const clean = new URL(url.origin + url.pathname);
    if (!clean.pathname.endsWith('/')) clean.pathname += '/';
    return clean;
  }

  #toJsonRequest({ method = 'GET', body, token, mayRepeat }: VaultRequest, url: URL): JsonRequest {
    const { namespace } = this;
    const headers = {
      // Vault answers without it, too; an agent in front of it may be told to refuse such requests, which a browser could be tricked into.
      'x-vault-request': 'true',
      ...(token === undefined ? {} : { 'x-vault-token': token }),
      ...(namespace === undefined ? {} : { 'x-vault-namespace': namespace }),
    };
    return { method, url, headers, body, ...(mayRepeat === undefined ? {} : { mayRepeat }) };
  }
}

/** `VAULT_…`, else `BAO_…`; what is set to nothing is not set. */
export function setting(env: ProviderContext['env'], name: string): string | undefined {
  return [env[`VAULT_${name}`], env[`BAO_${name}`]].find((value) => value !== undefined && value !== '');
}

interface Opened {
  readonly server: JsonServer;
  readonly base: URL;
  readonly who: string;
  readonly ca: readonly string[] | undefined;
}

function whoAt(base: URL): string {
  return `vault at ${base.href.replace(/\/$/, '')}`;
}

function redirectTarget({ status, headers }: JsonAnswer, from: URL, who: string): URL | undefined {
  const { location } = headers;
  if (!REDIRECTS.includes(status) || location === undefined || !URL.canParse(location, from.href)) return undefined;
  const target = new URL(location, from);
  const isSafe = target.protocol === 'https:' || (from.protocol === 'http:' && target.hostname === from.hostname);
  if (isSafe) return target;
  throw new KzError('provider-failed', `${who} redirects to ${target.origin}, where the token could be read on its way`, {
    hint: 'set `address` in [providers.vault] to the active server',
  });
}

/** `{"errors": ["…"]}`, in lower case. */
function errorsOf(body: unknown): string {
  const errors = at(body, 'errors');
  return Array.isArray(errors) ? errors.join('\n').toLowerCase() : '';
}

function served(answer: VaultAnswer, who: string): VaultAnswer {
  if (answer.status === 501) throw notInitialized(who);
  if (answer.status !== 503) return answer;
  if (answer.errors.includes('sealed')) throw sealed(who);
  if (answer.errors.includes('locked')) throw new KzError('provider-locked', `${who} is locked: its API is closed by an administrator`);
  throw new KzError('provider-unavailable', `${who} answered 503`);
}

function sealed(who: string): KzError {
  return new KzError('provider-locked', `${who} is sealed`, { hint: 'run `vault operator unseal`' });
}

function notInitialized(who: string): KzError {
  return new KzError('provider-locked', `${who} is not initialized`, { hint: 'run `vault operator init`' });
}
