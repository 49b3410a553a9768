// Asks an issuer's server for its keys: JSON over https, or over http on this machine. One connection for each request, own authorities and a
// bearer token read anew each time. Follows no redirects, reads at most 1 MiB, and puts nothing of an answer into an error.
import { request as httpRequest, type IncomingMessage, type RequestOptions } from 'node:http';
import { request as httpsRequest } from 'node:https';
import { isIP } from 'node:net';
import { addressKind } from '../../core/address.ts';
import { KzError, systemCode } from '../../core/errors.ts';
import { isRecord } from '../../core/record.ts';
import { tlsHint } from '../../providers/ask-json.ts';
import { decodeText } from '../../providers/document.ts';
import { readGuardedFile } from '../../providers/guarded-file.ts';
import { parseKeySet, type KeySet } from './jwks-key.ts';

export interface KeyServerOptions {
  /** Of the keys; left out: what OIDC discovery at `issuerUrl` names. */
  readonly jwksUrl?: string | undefined;
  readonly issuerUrl: string;
  /** Absolute paths. */
  readonly ca?: string | undefined;
  readonly tokenFile?: string | undefined;
}

const LARGEST_ANSWER = 1_048_576;

export class KeyServer {
  readonly #options: KeyServerOptions;
  readonly #first: URL;

  /** Throws `config-invalid` for an address that kz does not ask. */
  constructor(options: KeyServerOptions) {
    this.#options = options;
    const { jwksUrl, issuerUrl } = options;
    const text = jwksUrl ?? `${issuerUrl.replace(/\/$/, '')}/.well-known/openid-configuration`;
    const url = safeUrl(text);
    if (url === undefined) {
      const name = jwksUrl === undefined ? 'issuer_url' : 'jwks_url';
      const hint =
        jwksUrl === undefined ? 'write `jwks_url`, `jwks_file` or `static_keys`' : 'write an https URL without user and password';
      throw new KzError('config-invalid', `no keys can be fetched from ${name} ${JSON.stringify(jwksUrl ?? issuerUrl)}`, { hint });
    }
    this.#first = url;
  }

  /** Throws `provider-unavailable`, `provider-timeout` or `provider-failed`. */
  async keys(signal: AbortSignal): Promise<KeySet> {
    const url = this.#options.jwksUrl === undefined ? await this.#discover(signal) : this.#first;
    return parseKeySet(await this.#ask(url, signal), url.href);
  }

  /** OpenID Connect Discovery 1.0, section 4.3. */
  async #discover(signal: AbortSignal): Promise<URL> {
    const who = this.#first.href;
    const document = await this.#ask(this.#first, signal);
    if (!isRecord(document)) throw new KzError('provider-failed', `${who} gave no discovery document`);
    if (document.issuer !== this.#options.issuerUrl) {
      throw new KzError('provider-failed', `${who} is the discovery document of another issuer`, {
        hint: 'its `issuer` must be the same as `issuer_url`, or write `jwks_url`',
      });
    }
    return this.named(document.jwks_uri);
  }

  /** `jwks_uri` of the discovery document. A server elsewhere does not choose what kz asks on this machine or its link. Throws `provider-failed`. */
  named(text: unknown): URL {
    const url = typeof text === 'string' ? safeUrl(text) : undefined;
    const { hostname } = this.#first;
    if (url !== undefined && (!isNear(url.hostname) || url.hostname === hostname || isLoopback(hostname))) return url;
    throw new KzError('provider-failed', `${this.#first.href} names no https URL as its jwks_uri`, { hint: 'write `jwks_url`' });
  }

  async #ask(url: URL, signal: AbortSignal): Promise<unknown> {
    const who = url.href;
    const options = { ...(await this.#trust()), headers: await this.#headers(url), signal };
    try {
      const response = await send(url, options);
      const { statusCode = 0 } = response;
      if (statusCode !== 200) {
        response.destroy();
        throw refusedStatus(who, statusCode);
      }
      return parse(await read(response, who), who);
    } catch (error) {
      throw error instanceof KzError ? error : unreachable(who, error, signal);
    }
  }

  async #trust(): Promise<RequestOptions & { ca?: Buffer; rejectUnauthorized: true }> {
    const { ca } = this.#options;
    // Said, because otherwise NODE_TLS_REJECT_UNAUTHORIZED would decide.
    return { agent: false, rejectUnauthorized: true, ...(ca === undefined ? {} : { ca: await readSmall(ca, '`ca`') }) };
  }

  async #headers(url: URL): Promise<Record<string, string>> {
    const headers = { accept: 'application/json', 'accept-encoding': 'identity', 'user-agent': 'kz' };
    const { tokenFile } = this.#options;
    // It is meant for the server that the bundle names, not for every one that a document names.
    if (tokenFile === undefined || url.origin !== this.#first.origin) return headers;
    const token = decodeText(await readSmall(tokenFile, '`token_file`'))?.trim() ?? '';
    if (/^[\x21-\x7e]+$/.test(token)) return { ...headers, authorization: `Bearer ${token}` };
    throw new KzError('provider-failed', `file ${JSON.stringify(tokenFile)} holds no bearer token`, { hint: 'correct `token_file`' });
  }
}

/** https, or http on this machine; no user and no password. */
function safeUrl(text: string): URL | undefined {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url === undefined) return undefined;
  const isSafe = url.protocol === 'https:' || (url.protocol === 'http:' && isLoopback(url.hostname));
  return isSafe && url.username === '' && url.password === '' ? url : undefined;
}

function isLoopback(hostname: string): boolean {
  return hostname === 'localhost' || addressKind(hostname.replace(/^\[|\]$/g, '')) === 'loopback';
}

/** What leads to this machine, or to what only its neighbours can ask. RFC 6761, section 6.3; 0.0.0.0 leads here, too. */
function isNear(hostname: string): boolean {
  if (/(?:^|\.)localhost\.?$/.test(hostname)) return true;
  const address = hostname.replace(/^\[|\]$/g, '');
  return isIP(address) !== 0 && !['public', 'private'].includes(addressKind(address));
}

async function readSmall(path: string, setting: string): Promise<Buffer> {
  const label = `file ${JSON.stringify(path)}`;
  try {
    return Buffer.from(await readGuardedFile(path, { label, maxMebibytes: 1 }));
  } catch (cause) {
    const problem = cause instanceof KzError ? cause.message : (systemCode(cause) ?? 'unknown error');
    throw new KzError('provider-unavailable', `cannot read ${label}: ${problem}`, { hint: `correct ${setting}`, cause });
  }
}

function send(url: URL, options: RequestOptions): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    const request = (url.protocol === 'https:' ? httpsRequest : httpRequest)(url, options);
    request.once('response', resolve);
    request.on('error', reject);
    // What switches protocols ends without an error.
    request.once('close', () => {
      reject(new Error('closed'));
    });
    request.end();
  });
}

async function read(response: IncomingMessage, who: string): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of response as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > LARGEST_ANSWER) throw new KzError('provider-failed', `the answer of ${who} is longer than 1 MiB`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

function parse(bytes: Buffer, who: string): unknown {
  try {
    return JSON.parse(bytes.toString());
  } catch {
    // The parser's own words quote the answer.
    throw new KzError('provider-failed', `the answer of ${who} is no JSON`);
  }
}

function refusedStatus(who: string, status: number): KzError {
  if (status >= 300 && status < 400) {
    return new KzError('provider-failed', `${who} redirects (${String(status)}), which kz does not follow for keys`, {
      hint: 'write the final address as `jwks_url`',
    });
  }
  const hint =
    status === 401 || status === 403 ? 'it wants a bearer token: write `token_file`, and `jwks_url` on the same server' : undefined;
  return new KzError('provider-failed', `${who} answered ${String(status)}`, { hint });
}

function unreachable(who: string, cause: unknown, signal: AbortSignal): KzError {
  if (signal.aborted) return new KzError('provider-timeout', `${who} did not answer in time`, { cause });
  const code = systemCode(cause) ?? 'no answer';
  const hint = tlsHint(code, '`jwks_url`', '`ca`') ?? 'check the address, and the network';
  return new KzError('provider-unavailable', `cannot reach ${who} (${code})`, { hint, cause });
}
