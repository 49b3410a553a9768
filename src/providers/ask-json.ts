// One JSON request over HTTP(S), as providers ask their servers: with authorities of their own, a limit on what is read, and patience with
// servers that are busy. Follows no redirects, keeps no cookies, and never puts anything of an answer's body into an error.
import { request as httpRequest, Agent as HttpAgent, type IncomingHttpHeaders, type IncomingMessage } from 'node:http';
import { request as httpsRequest, Agent as HttpsAgent } from 'node:https';
import { setTimeout as wait } from 'node:timers/promises';
import { KzError, systemCode } from '../core/errors.ts';
import { isRecord } from '../core/record.ts';

export interface JsonRequest {
  readonly method: 'GET' | 'HEAD' | 'LIST' | 'POST' | 'PUT' | 'DELETE';
  readonly url: URL;
  readonly headers?: Readonly<Record<string, string>>;
  /** Sent as JSON. */
  readonly body?: unknown;
  /**
   * False: what a server or a proxy may have done before it failed is not asked for again. 429 says that it was not done. Default: methods that
   * only read may be sent again after a broken connection, all methods after an answer of a busy server.
   */
  readonly mayRepeat?: boolean;
}

export interface JsonAnswer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  /** Undefined when the body is empty or no JSON. */
  readonly body: unknown;
}

export interface JsonServerOptions {
  /** Who is asked, as errors name it: `vault at https://vault.internal:8200`. */
  readonly who: string;
  /** PEM; left out: what Node trusts. */
  readonly ca?: readonly string[] | undefined;
  /** Where the address is set, for hints: `` `address` in [providers.vault] ``. */
  readonly addressSetting?: string | undefined;
  /** Where certificate authorities are set. Default: NODE_EXTRA_CA_CERTS. */
  readonly caSetting?: string | undefined;
  /** Should the same request be sent again later? Default: 429, 502, 504, and 503 that names a time. */
  readonly isBusy?: (answer: JsonAnswer) => boolean;
}

/** In bytes. No secret is that long. */
const LARGEST_ANSWER = 4_194_304;
const MOST_SOCKETS = 16;
const FIRST_DELAY_MS = 100;
const LONGEST_DELAY_MS = 5000;

/** Connections are kept between requests; `close` ends them. */
export class JsonServer {
  readonly #options: JsonServerOptions;
  readonly #http = new HttpAgent({ keepAlive: true, maxSockets: MOST_SOCKETS });
  readonly #https: HttpsAgent;

  constructor(options: JsonServerOptions) {
    this.#options = options;
    const trust = options.ca === undefined ? {} : { ca: [...options.ca] };
    // Said, because otherwise NODE_TLS_REJECT_UNAUTHORIZED would decide.
    this.#https = new HttpsAgent({ keepAlive: true, maxSockets: MOST_SOCKETS, rejectUnauthorized: true, ...trust });
  }

  /**
   * Any status is an answer. A busy server is asked again, after what its Retry-After says or a delay that doubles, until the signal aborts;
   * a broken connection likewise, when asking twice does no harm. Throws `provider-unavailable` (DNS, TCP, TLS), `provider-failed`, or
   * `provider-timeout` that says what the server said last.
   */
  async ask(request: JsonRequest, signal: AbortSignal): Promise<JsonAnswer> {
    const { who, isBusy = looksBusy } = this.#options;
    let trouble: string | undefined;
    for (let attempt = 0; ; attempt++) {
      const answer = await this.#askOnce(request, attempt, signal).catch((error: unknown) => {
        throw signal.aborted && trouble !== undefined ? timeout(trouble, error) : error;
      });
      if (answer !== undefined && (!isBusy(answer) || (request.mayRepeat === false && answer.status !== 429))) return answer;
      trouble = `${who} ${answer === undefined ? 'breaks every connection' : `keeps answering ${String(answer.status)}`}`;
      await pause(delayMs(answer, attempt), signal, trouble);
    }
  }

  close(): void {
    this.#http.destroy();
    this.#https.destroy();
  }

  /** Undefined when the connection broke and the request may be sent again. */
  async #askOnce(request: JsonRequest, attempt: number, signal: AbortSignal): Promise<JsonAnswer | undefined> {
    try {
      return await this.#send(request, signal);
    } catch (error) {
      signal.throwIfAborted();
      const isBroken = ['ECONNRESET', 'EPIPE'].includes(systemCode(error) ?? '');
      const mayRepeat = request.mayRepeat ?? ['GET', 'HEAD', 'LIST'].includes(request.method);
      if (isBroken && attempt < 3 && mayRepeat) return undefined;
      throw error instanceof KzError ? error : unreachable(this.#options, request.url, error);
    }
  }

  #send({ method, url, headers, body }: JsonRequest, signal: AbortSignal): Promise<JsonAnswer> {
    const text = body === undefined ? undefined : JSON.stringify(body);
    const about = text === undefined ? {} : { 'content-type': 'application/json', 'content-length': String(Buffer.byteLength(text)) };
    const options = { method, headers: { accept: 'application/json', 'user-agent': 'kz', ...about, ...headers }, signal };
    return new Promise((resolve, reject) => {
      const isTls = url.protocol === 'https:';
      const send = isTls ? httpsRequest : httpRequest;
      const request = send(url, { ...options, agent: isTls ? this.#https : this.#http });
      request.on('error', reject);
      // Node ends what switches protocols without an error, and then no signal is listened to any more.
      request.once('close', () => {
        if (!hasAnswer) reject(new KzError('provider-failed', `${this.#options.who} ended the connection without an answer`));
      });
      let hasAnswer = false;
      request.once('response', (response) => {
        hasAnswer = true;
        read(response, this.#options.who).then(resolve, reject);
      });
      request.end(text);
    });
  }
}

async function read(response: IncomingMessage, who: string): Promise<JsonAnswer> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of response as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > LARGEST_ANSWER) throw new KzError('provider-failed', `the answer of ${who} is longer than 4 MiB`);
    chunks.push(chunk);
  }
  return { status: response.statusCode ?? 0, headers: response.headers, body: parse(Buffer.concat(chunks).toString()) };
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** What is at `path` of a JSON value; undefined when it ends before. */
export function at(value: unknown, ...path: readonly string[]): unknown {
  let found = value;
  for (const key of path) found = isRecord(found) && Object.hasOwn(found, key) ? found[key] : undefined;
  return found;
}

function looksBusy({ status, headers }: JsonAnswer): boolean {
  return status === 429 || status === 502 || status === 504 || (status === 503 && headers['retry-after'] !== undefined);
}

/** Never less than without a Retry-After: a server that says 0 would be asked as fast as it answers. */
function delayMs(answer: JsonAnswer | undefined, attempt: number): number {
  const own = Math.min(LONGEST_DELAY_MS, FIRST_DELAY_MS * 2 ** attempt) * (0.5 + Math.random() / 2);
  return Math.max(own, askedMs(answer?.headers['retry-after']) ?? 0);
}

/** RFC 9110, section 10.2.3: seconds or a date. */
function askedMs(asked: string | undefined): number | undefined {
  if (asked === undefined) return undefined;
  const ms = Number.isFinite(Number(asked)) ? Number(asked) * 1000 : Date.parse(asked) - Date.now();
  return Number.isNaN(ms) ? undefined : ms;
}

async function pause(ms: number, signal: AbortSignal, because: string): Promise<void> {
  try {
    await wait(Math.min(ms, 86_400_000), undefined, { signal });
  } catch (cause) {
    throw timeout(because, cause);
  }
}

function timeout(because: string, cause: unknown): KzError {
  return new KzError('provider-timeout', `${because}, until kz’s time was over`, { hint: 'allow more with --timeout 60s', cause });
}

function unreachable({ who, addressSetting = 'the address', caSetting }: JsonServerOptions, url: URL, cause: unknown): KzError {
  const code = systemCode(cause) ?? 'unknown error';
  const unavailable = (problem: string, hint?: string): KzError =>
    new KzError('provider-unavailable', `cannot reach ${who}: ${problem}`, { hint, cause });
  if (code === 'ENOTFOUND' || code === 'EAI_AGAIN')
    return unavailable(`no such host ${JSON.stringify(url.hostname)} (${code})`, `check ${addressSetting}, and the network`);
  if (code === 'ECONNREFUSED') return unavailable('nothing listens there (ECONNREFUSED)', `is it running? check ${addressSetting}`);
  const hint = tlsHint(code, addressSetting, caSetting);
  return hint === undefined ? unavailable(code) : unavailable(`its TLS certificate or handshake was refused (${code})`, hint);
}

const TLS_CODE = /^(?:CERT_|ERR_TLS_|ERR_SSL_|UNABLE_TO_|SELF_SIGNED_|DEPTH_ZERO_|HOSTNAME_MISMATCH|INVALID_CA|EPROTO$)/;
/** OpenSSL's words for an answer that is no TLS at all. */
const NO_TLS_CODE = /^(?:EPROTO$|ERR_SSL_(?:WRONG_VERSION_NUMBER|PACKET_LENGTH_TOO_LONG|HTTP_REQUEST))/;

/** Undefined for what is not about TLS. */
export function tlsHint(code: string, addressSetting: string, caSetting?: string): string | undefined {
  if (!TLS_CODE.test(code)) return undefined;
  if (NO_TLS_CODE.test(code)) return `if it speaks no TLS, write \`http://\` in ${addressSetting}`;
  if (/^(?:ERR_TLS_CERT_ALTNAME|HOSTNAME_MISMATCH)/.test(code)) return `its certificate is for another name: check ${addressSetting}`;
  if (/EXPIRED|NOT_YET_VALID/.test(code)) return 'its certificate is out of date, or the clock of this machine is wrong';
  return `set ${caSetting ?? 'NODE_EXTRA_CA_CERTS'} to the file with the authority that signed its certificate`;
}
