// Does a credential still work? Sends the request that a secret's `check` names, with the value where its `swap` puts it. Asks only where the
// secret may go, follows no redirect and reads no body; of the answer nothing but the status is ever told.
import http from 'node:http';
import { reasonOf } from '../core/abort.ts';
import type { Config, Declaration } from '../config/load.ts';
import { KzError, systemCode } from '../core/errors.ts';
import { canonicalHost } from '../core/host-name.ts';
import type { Secret } from '../core/secret.ts';
import { localKind } from '../mask/local-value.ts';
import { scopeOf, type Scope } from '../mask/scope.ts';
import { slotsOf, USUAL } from '../mask/slot.ts';
import { DialError, Dialer, type Target } from '../proxy/dial.ts';
import { trustedRoots, upstreamAuthorities } from '../proxy/roots.ts';
import { UpstreamProxies } from '../proxy/upstream-proxy.ts';

/** What of a declaration a check needs. */
export type CheckedSecret = Pick<Declaration, 'name' | 'hosts' | 'swap'> & { readonly check: string };

export type CredentialHealth =
  | { readonly state: 'accepted'; readonly status: number; readonly tookMs: number }
  | { readonly state: 'refused'; readonly status: number; readonly tookMs: number; readonly error: KzError }
  /** No answer, or one that says nothing about the credential. */
  | { readonly state: 'unknown'; readonly status: number | undefined; readonly tookMs: number; readonly error: KzError }
  /** The config or the value does not allow it. */
  | { readonly state: 'not-sent'; readonly error: KzError };

export interface CredentialCheckOptions {
  /** Of `credentialDialer`; one serves any number of checks. */
  readonly dialer: Pick<Dialer, 'connect'>;
  readonly timeoutMs?: number | undefined;
}

const TIMEOUT_MS = 10_000;

/** Never throws, and nothing that it says holds the value. */
export async function checkCredential(
  declaration: CheckedSecret,
  secret: Secret,
  options: CredentialCheckOptions,
  signal: AbortSignal,
): Promise<CredentialHealth> {
  const { name } = declaration;
  const start = performance.now();
  const tookMs = (): number => performance.now() - start;
  let question: Question;
  try {
    question = questionFor(declaration, secret);
  } catch (error) {
    return { state: 'not-sent', error: asKzError(name, error) };
  }
  try {
    return judged(name, question, await ask(question, options, signal), tookMs());
  } catch (cause) {
    const error = unanswered(name, question, cause, signal.aborted);
    return { state: 'unknown', status: undefined, tookMs: tookMs(), error };
  }
}

/** Why the request of this check would never be sent, whatever the value is. Undefined: only the value tells. */
export function unsendable({ name, check, hosts }: CheckedSecret): KzError | undefined {
  const [, address = ''] = check.split(' ');
  try {
    const target = targetOf(name, parsedAddress(name, address));
    if (hosts !== undefined) refuseOutOfScope(name, target, scopeOf({ hosts, ruleHosts: [] }));
    return undefined;
  } catch (error) {
    if (error instanceof KzError) return error;
    throw error;
  }
}

/** Trusts what a blind run would trust. Throws `config-invalid` for an `upstream_ca` that cannot be used. */
export async function credentialDialer(blind: Config['blind'], env: Readonly<Record<string, string | undefined>>): Promise<Dialer> {
  const own = blind?.upstream_ca === undefined ? [] : upstreamAuthorities(blind.upstream_ca);
  const { certificates } = await trustedRoots(env);
  return new Dialer({ ca: [...certificates, ...own], proxies: new UpstreamProxies(env) });
}

/** `GET https://api.example.com/user`: without the query, which may hold what the config's author would not print. */
export function checkText(check: string): string {
  const [method = '', address = ''] = check.split(' ');
  if (!URL.canParse(address)) return method;
  const { origin, pathname } = new URL(address);
  return `${method} ${origin}${pathname}`;
}

interface Question {
  readonly text: string;
  readonly target: Target;
  readonly method: string;
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
}

/** In the order of what is decided: where it goes, whether it may go there, and only then the value. Throws KzError. */
function questionFor(declaration: CheckedSecret, secret: Secret): Question {
  const { name, check, hosts, swap } = declaration;
  const [method = '', address = ''] = check.split(' ');
  const url = parsedAddress(name, address);
  const target = targetOf(name, url);
  refuseOutOfScope(name, target, scopeOf({ hosts, value: secret, ruleHosts: [] }));
  const kind = localKind(secret);
  if (kind !== undefined) throw new KzError('secret-invalid', `${name} is ${kind}, which is used and never sent`, { hint: NO_CHECK });
  const credential = placed(name, secret, swap);
  for (const [parameter, value] of credential.query) url.searchParams.set(parameter, value);
  const headers = { host: url.host, accept: '*/*', 'user-agent': 'kz', ...(method === 'POST' ? { 'content-length': '0' } : {}) };
  return {
    text: checkText(check),
    target,
    method,
    path: `${url.pathname}${url.search}`,
    headers: { ...headers, ...credential.headers },
  };
}

const NO_CHECK = 'remove `check` from it';

function parsedAddress(name: string, address: string): URL {
  if (!URL.canParse(address)) throw new KzError('config-invalid', `${name}: the address of its \`check\` is not a URL`);
  const url = new URL(address);
  if (url.username === '' && url.password === '') return url;
  throw new KzError('config-invalid', `${name}: the address of its \`check\` holds a user or a password`, {
    hint: 'remove it: the value is sent in a header or a parameter, see `swap`',
  });
}

function targetOf(name: string, { hostname, protocol, port }: URL): Target {
  const host = canonicalHost(hostname);
  if (host === undefined) throw new KzError('config-invalid', `${name}: the address of its \`check\` names no host`);
  const tls = protocol === 'https:';
  // Like a rule that names it: whoever wrote the address means that host, wherever it is.
  return { host, port: port === '' ? (tls ? 443 : 80) : Number(port), tls, alpn: ['http/1.1'], namedByRule: true };
}

/** The scope of blind mode, except that rules give none: they say what a program may reach, and this is kz itself. */
function refuseOutOfScope(name: string, { host, port, tls }: Target, scope: Scope): void {
  if (tls ? scope.covers(host, port) : scope.coversClear(host, port)) return;
  if (!tls && scope.covers(host, port)) {
    throw new KzError('config-invalid', `${name}: its \`check\` asks ${host} over http://, where anybody on the way can read the value`, {
      hint: 'write https://',
    });
  }
  throw new KzError('config-invalid', `${name}: its \`check\` asks ${host}, where the secret may not go (${WHY[scope.from]})`, {
    hint: `add ${JSON.stringify(host)} to its \`hosts\`, or correct \`check\``,
  });
}

const WHY: Readonly<Record<Scope['from'], string>> = {
  hosts: 'its `hosts` do not cover it',
  url: 'its value is a URL of another host',
  vendor: 'its prefix is that of another vendor',
  rules: 'no rule names it',
  any: 'plain http:// goes to this machine and private addresses only',
};

interface Placed {
  readonly headers: Readonly<Record<string, string>>;
  readonly query: readonly (readonly [string, string])[];
}

/** The first header or parameter that `swap` names, else `Authorization: Bearer`. */
function placed(name: string, secret: Secret, swap: readonly string[] = [USUAL]): Placed {
  slotsOf(swap);
  const own = swap.find((entry) => entry.startsWith('header:') || entry.startsWith('query:'));
  const place = own?.slice(own.indexOf(':') + 1) ?? 'authorization';
  if (own?.startsWith('query:') === true) return { headers: {}, query: [[place, secret.reveal()]] };
  if (own === undefined && !swap.includes(USUAL)) {
    throw new KzError('config-invalid', `${name}: its \`swap\` names no header and no parameter in which a check could send it`, {
      hint: `add "header:NAME", "query:NAME" or "default" to \`swap\`, or ${NO_CHECK}`,
    });
  }
  return { headers: { [place.toLowerCase()]: headerText(name, secret, place.toLowerCase(), own !== undefined) }, query: [] };
}

function headerText(name: string, secret: Secret, header: string, isRaw: boolean): string {
  const bytes = Buffer.from(secret.reveal()).toString('latin1');
  if (!SENDABLE.test(bytes)) {
    throw new KzError('secret-invalid', `${name} holds a line end or another control character, which no header can`, {
      hint: `if it is sent in a parameter, add "query:NAME" to \`swap\`; otherwise ${NO_CHECK}`,
    });
  }
  // `Authorization` without a scheme means nothing to any server.
  const needsScheme = header === 'authorization' && !/^[\w-]+ +\S/.test(bytes);
  return isRaw && !needsScheme ? bytes : `Bearer ${bytes}`;
}

/** RFC 9110, section 5.5, as bytes. */
const SENDABLE = /^[\t\x20-\x7e\x80-\xff]*$/;

/** The status. Throws what went wrong instead, DialError or a system error. */
async function ask(question: Question, { dialer, timeoutMs = TIMEOUT_MS }: CredentialCheckOptions, signal: AbortSignal): Promise<number> {
  const limit = new AbortController();
  const giveUp = (): void => {
    limit.abort(new DialError('timeout', `no answer in ${String(timeoutMs / 1000)} s`));
  };
  const timer = setTimeout(giveUp, timeoutMs);
  signal.addEventListener('abort', giveUp, { once: true });
  try {
    if (signal.aborted) giveUp();
    const { target, method, path, headers } = question;
    const socket = await dialer.connect(target, limit.signal);
    try {
      return await statusOf(http.request({ method, path, headers, setHost: false, createConnection: () => socket }), limit.signal);
    } finally {
      socket.destroy();
    }
  } finally {
    clearTimeout(timer);
    signal.removeEventListener('abort', giveUp);
  }
}

function statusOf(request: http.ClientRequest, signal: AbortSignal): Promise<number> {
  return new Promise((resolve, reject) => {
    const giveUp = (): void => {
      reject(reasonOf(signal));
      request.destroy();
    };
    signal.addEventListener('abort', giveUp, { once: true });
    request.on('error', reject);
    request.once('close', () => {
      signal.removeEventListener('abort', giveUp);
      reject(new Error('closed without an answer'));
    });
    request.once('response', (response) => {
      resolve(response.statusCode ?? 0);
      response.on('error', () => undefined);
      request.destroy();
    });
    request.end();
  });
}

function judged(name: string, { text, target }: Question, status: number, tookMs: number): CredentialHealth {
  if (status >= 200 && status <= 399) return { state: 'accepted', status, tookMs };
  if (status === 401 || status === 403) {
    const error = new KzError('secret-invalid', `${name}: the credential was refused (${text} answered ${String(status)})`, {
      hint: `renew it at ${target.host}, then store the new value`,
    });
    return { state: 'refused', status, tookMs, error };
  }
  const error = new KzError('provider-failed', `${name}: cannot say whether it works (${text} answered ${String(status)})`, {
    hint: status < 500 && status !== 429 ? 'is the address of `check` right?' : undefined,
  });
  return { state: 'unknown', status, tookMs, error };
}

function unanswered(name: string, { text }: Question, cause: unknown, isOver: boolean): KzError {
  if (isOver) {
    const hint = 'allow more with --timeout 60s';
    return new KzError('provider-timeout', `${name}: cannot say whether it works (kz’s time was over)`, { hint, cause });
  }
  // Only codes: a message of Node's could quote what was received.
  const why = cause instanceof DialError ? cause.detail : `${text} failed: ${systemCode(cause) ?? 'no answer'}`;
  const hint = cause instanceof DialError && cause.code === 'tls' ? 'name its authority: `upstream_ca` in [blind]' : undefined;
  return new KzError('provider-unavailable', `${name}: cannot say whether it works (${why})`, { hint, cause });
}

function asKzError(name: string, error: unknown): KzError {
  if (!(error instanceof KzError)) return new KzError('internal', `${name}: its check could not be prepared`, { cause: error });
  if (error.message.startsWith(`${name} `) || error.message.startsWith(`${name}: `)) return error;
  return new KzError(error.code, `${name}: ${error.message}`, { hint: error.hint, cause: error });
}
