// Google Cloud Secret Manager: one request per version, sixteen at a time, because the API has no batches. Only reads. Google's library
// makes the token; the requests are our own, so that they share the deadline, the patience and the errors of the other providers.
import type { ProviderOptions } from '../config/schema.ts';
import { KzError } from '../core/errors.ts';
import { isRecord } from '../core/record.ts';
import { Secret } from '../core/secret.ts';
import { suggest } from '../core/suggest.ts';
import { JsonServer, type JsonAnswer } from './ask-json.ts';
import { decodeText, parseDocument, selectKey } from './document.ts';
import { crc32c } from './gcp-crc32c.ts';
import type { Fetch } from './gcp-credentials.ts';
import { GoogleLogin } from './gcp-login.ts';
import { parseGcpRef, type GcpRef } from './gcp-ref.ts';
import { apiError } from './gcp-refusals.ts';
import type { Health, Outcome, Provider, ProviderContext, Ref } from './provider.ts';
import { wide } from './wide.ts';

type GcpOptions = NonNullable<ProviderOptions['gcp']>;

/** `fetchToken` is how Google's library asks for tokens, when not in its own way. */
export function openGcp(options: GcpOptions, context: ProviderContext, fetchToken?: Fetch): Provider {
  const project = options.project ?? (context.env.GOOGLE_CLOUD_PROJECT === '' ? undefined : context.env.GOOGLE_CLOUD_PROJECT);
  const api = new SecretManager(options.endpoint, new GoogleLogin(context.env, fetchToken));
  return {
    async get(refs, signal) {
      const parsed = refs.map((ref) => parse(ref, project));
      const wanted = new Map(parsed.flatMap((ref) => ('text' in ref ? [[ref.name, ref] as const] : [])));
      // Before sixteen requests find out the same.
      if (wanted.size > 0) await api.logIn(signal);
      const found = await wide([...wanted.values()], async (ref) => [ref.name, await tryAccess(ref, api, signal)] as const);
      const versions = new Map(found);
      return Promise.all(parsed.map(async (ref) => ('text' in ref ? toOutcome(ref, versions.get(ref.name)) : failure(ref.error))));
    },

    check: (signal) => api.check(project, signal),

    close() {
      api.close();
      return Promise.resolve();
    },
  };
}

function parse({ text }: Ref, project: string | undefined): GcpRef | { readonly error: KzError } {
  try {
    return parseGcpRef(text, project);
  } catch (error) {
    if (error instanceof KzError) return { error };
    throw error;
  }
}

interface Version {
  readonly bytes: Uint8Array;
  readonly number: string | undefined;
}

/** Throws what speaks for all refs. */
async function tryAccess(ref: GcpRef, api: SecretManager, signal: AbortSignal): Promise<Version | KzError> {
  try {
    return await api.access(ref, signal);
  } catch (error) {
    if (error instanceof KzError && !signal.aborted && !speaksForAll(error, ref)) return error;
    throw error;
  }
}

/** A region that cannot be reached says nothing about the others. */
function speaksForAll({ code }: KzError, { location }: GcpRef): boolean {
  return code === 'provider-locked' || code === 'provider-timeout' || (code === 'provider-unavailable' && location === undefined);
}

async function toOutcome(ref: GcpRef, version: Version | KzError | undefined): Promise<Outcome> {
  if (version instanceof KzError) return failure(version);
  if (version === undefined) return failure(new KzError('provider-failed', `Secret Manager gave no answer for ${ref.name}`));
  try {
    return { ok: true, secret: new Secret(await select(ref, version)), version: version.number };
  } catch (error) {
    if (error instanceof KzError) return failure(error);
    throw error;
  }
}

function failure(error: KzError): Outcome {
  return { ok: false, error };
}

async function select({ text: refText, name, key }: GcpRef, { bytes }: Version): Promise<string> {
  const text = decodeText(bytes);
  if (text === undefined) {
    throw new KzError('secret-invalid', `${name} of Secret Manager is not UTF-8 text`, {
      hint: 'store base64 of it, and set `encoding = "base64"`',
    });
  }
  if (key === undefined) return text;
  const document = await parseDocument(text, 'json', `gcp ${JSON.stringify(refText.slice(0, refText.indexOf('#')))}`);
  const value = selectKey(document, key);
  if (value !== undefined) return value;
  const near = suggest(key, [...document.keys()]);
  throw new KzError('secret-missing', `${name} of Secret Manager has no key ${JSON.stringify(key)}`, {
    hint: near === undefined ? 'correct the key in the ref' : `did you mean ${JSON.stringify(near)}?`,
  });
}

/** Its servers, one for each region, and the login that they share. */
class SecretManager {
  readonly #endpoint: string | undefined;
  readonly #login: GoogleLogin;
  readonly #servers = new Map<string, JsonServer>();

  constructor(endpoint: string | undefined, login: GoogleLogin) {
    this.#endpoint = endpoint === undefined ? undefined : withoutUser(endpoint);
    this.#login = login;
  }

  async logIn(signal: AbortSignal): Promise<void> {
    await this.#login.headers(signal);
  }

  async access(ref: GcpRef, signal: AbortSignal): Promise<Version> {
    const base = this.#base(ref.location);
    const answer = await this.#ask(base, `v1/${ref.name}:access`, signal);
    if (answer.status !== 200) throw apiError(answer, ref, base);
    return readVersion(answer.body, ref);
  }

  async check(project: string | undefined, signal: AbortSignal): Promise<Health> {
    const base = this.#base(undefined);
    const answer = await this.#ask(
      base,
      project === undefined ? 'v1/' : `v1/projects/${encodeURIComponent(project)}/locations?pageSize=1`,
      signal,
    );
    if (answer.status >= 500) throw new KzError('provider-failed', `Secret Manager at ${base} answered ${String(answer.status)}`);
    const account = await this.#login.account(signal);
    return { detail: project === undefined ? account : `${account}, project ${project}` };
  }

  close(): void {
    for (const server of this.#servers.values()) server.close();
  }

  #base(location: string | undefined): string {
    const base = this.#endpoint ?? `https://secretmanager.${location === undefined ? '' : `${location}.rep.`}googleapis.com`;
    return base.replace(/\/+$/, '');
  }

  /** A token that was refused is replaced once. */
  async #ask(base: string, path: string, signal: AbortSignal): Promise<JsonAnswer> {
    for (let attempt = 0; attempt < 2; attempt++) {
      const headers = await this.#login.headers(signal);
      // A signal of its own: Node warns of a leak when more than ten requests listen to one.
      const own = AbortSignal.any([signal]);
      const answer = await this.#server(base).ask({ method: 'GET', url: new URL(`${base}/${path}`), headers }, own);
      if (answer.status !== 401) return answer;
      this.#login.forget(headers);
    }
    const account = await this.#login.account(signal);
    throw new KzError('provider-locked', `Secret Manager at ${base} does not accept the token of ${account} (401)`, {
      hint: 'run `gcloud auth application-default login`',
    });
  }

  #server(base: string): JsonServer {
    const server =
      this.#servers.get(base) ??
      new JsonServer({ who: `Secret Manager at ${base}`, isBusy, addressSetting: '`endpoint` in [providers.gcp]' });
    this.#servers.set(base, server);
    return server;
  }
}

/** Who reads errors should not read a password. */
function withoutUser(address: string): string {
  const url = URL.canParse(address) ? new URL(address) : undefined;
  return url === undefined || !/^https?:$/.test(url.protocol) ? address : url.origin + url.pathname;
}

function isBusy({ status }: JsonAnswer): boolean {
  return [429, 502, 503, 504].includes(status);
}

function readVersion(body: unknown, { name }: GcpRef): Version {
  const payload = isRecord(body) ? body.payload : undefined;
  // An empty value is left out.
  const data = isRecord(payload) ? (payload.data ?? '') : undefined;
  if (!isRecord(body) || !isRecord(payload) || typeof data !== 'string') {
    throw new KzError('provider-failed', `what Secret Manager answered for ${name} is not a version of a secret`);
  }
  const bytes = Buffer.from(data, 'base64');
  // A 64-bit number, which Google's APIs put in quotes.
  const isDamaged = payload.dataCrc32c !== undefined && Number(payload.dataCrc32c) !== crc32c(bytes);
  if (isDamaged) throw new KzError('provider-failed', `${name} of Secret Manager arrived damaged: its checksum is another one`);
  return { bytes, number: typeof body.name === 'string' ? /\/versions\/(\d+)$/.exec(body.name)?.[1] : undefined };
}
