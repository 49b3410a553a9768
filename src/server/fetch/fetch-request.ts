// What a fetch asks for: read once, and held against the resource. What is decided is what is sent: of a URL that two parsers could read
// differently, of a header that says who asks or what is meant, nothing goes on. Knows no value.
import type { ResourceEntry } from '../../config/bundle.ts';
import { parseAuthority, type HostPort } from '../../core/host-name.ts';
import { parseHostPattern } from '../../core/host-pattern.ts';
import { scopeOf, type Scope } from '../../mask/scope.ts';
import { decide } from '../../policy/decide.ts';
import { readings } from '../../policy/request-path.ts';
import { ServerFailure } from '../failure.ts';
import { checkHeaders, readHeaders, sameHeader, type Field } from './fetch-headers.ts';
import { bodyKinds, hasParameter, namesMethod } from './parameters.ts';
import type { Resource } from '../resources.ts';

export interface FetchInput {
  readonly url: string;
  readonly method?: string | undefined;
  readonly headers?: Readonly<Record<string, string>> | undefined;
  readonly body?: string | undefined;
  readonly bodyEncoding?: BodyEncoding | undefined;
}

export const BODY_ENCODINGS = ['utf8', 'base64'] as const;
export type BodyEncoding = (typeof BODY_ENCODINGS)[number];

export interface FetchRequest {
  /** The host is canonical. */
  readonly target: { readonly host: string; readonly port: number; readonly tls: boolean };
  readonly method: string;
  /** As it is sent, without the query. */
  readonly path: string;
  /** The path as every server reads it, for rules about paths: `/%61dmin` is `/admin`. Empty when servers may read it differently. */
  readonly reading: string;
  /** As it is sent, without the question mark; empty: there is none. */
  readonly query: string;
  /** In the caller's order; names in the caller's case, none twice. */
  readonly headers: readonly Field[];
  readonly body: Buffer;
}

const LONGEST_URL = 8192;
const LARGEST_BODY = 1024 * 1024;

/** Before anything is decided: one reading of what is asked. Throws ServerFailure. */
export function readFetch(input: FetchInput): FetchRequest {
  const url = readUrl(input.url);
  const method = readMethod(input.method ?? 'GET');
  const headers = readHeaders(input.headers ?? {});
  const body = readBody(input);
  refuseMethodOverride({ method, query: url.query, headers, body });
  const [reading = '', ...others] = readings(url.path);
  return { ...url, reading: others.length === 0 ? reading : '', method, headers, body };
}

/** Does the resource allow it? Throws url-forbidden, with what is allowed, or header-forbidden. `ref` is the one that was asked for. */
export function checkFetch(request: FetchRequest, resource: Resource, ref = resource.entry.ref): void {
  const { entry, rules } = resource;
  const { target, method, path, query } = request;
  // 1. Host, method and path. Without rules `decide` allows everything; here nobody has allowed anything.
  if (rules.length === 0) throw new ServerFailure('url-forbidden', `no request may carry ${ref}: the resource names no hosts`);
  const decision = decide({ host: target.host, port: target.port, method, path }, rules);
  if (!decision.allow) throw outside(request, resource, ref);
  // 2. Without TLS anybody on the way reads along.
  if (!target.tls && !namedHosts(entry).coversClear(target.host, target.port)) {
    throw new ServerFailure('url-forbidden', `${ref} may go to ${placeOf(target)} through https only`);
  }
  // 3. Nothing of the caller's beside the credential, or in its place.
  checkHeaders(request.headers, entry);
  if (entry.location.kind === 'query' && hasParameter(query, [entry.location.name])) {
    const name = JSON.stringify(entry.location.name);
    throw new ServerFailure('url-forbidden', `the url has a parameter ${name}, which is where kz puts the credential`);
  }
}

/** What the operator names exactly, without a wildcard: such a host may be at any address. */
export function namedHosts({ hosts }: Pick<ResourceEntry, 'hosts'>): Scope {
  return scopeOf({ hosts: hosts.filter(isExactHost), ruleHosts: [] });
}

/** No star. */
export function isExactHost(host: string): boolean {
  const pattern = parseHostPattern(host);
  return !('problem' in pattern) && !pattern.wildcard;
}

/** What URL would drop, repair or read as something else. */
const UNFIT_IN_URL = /[\0-\x20\x7f-\xa0\\\p{Cs}\p{Z}]/u;

/** Exactly two slashes: URL takes any number, and a backslash too. */
const WEB_URL = /^(https?):\/\/([^/?#]*)/i;

function readUrl(text: string): Pick<FetchRequest, 'target' | 'path' | 'query'> {
  if (Buffer.byteLength(text) > LONGEST_URL) throw badUrl(`is longer than ${String(LONGEST_URL)} bytes`);
  if (UNFIT_IN_URL.test(text)) throw badUrl('holds a space, a control character or a backslash');
  const [, scheme, authority = ''] = WEB_URL.exec(text) ?? [];
  if (scheme === undefined) throw badUrl('does not start with https://');
  if (authority.includes('@')) throw badUrl('holds a user or a password');
  const tls = scheme.toLowerCase() === 'https';
  const { place, url } = readHost(text, authority, tls ? 443 : 80);
  // What was not ASCII is three times as long now.
  if (url.pathname.length + url.search.length > LONGEST_URL) throw badUrl(`is longer than ${String(LONGEST_URL)} bytes`);
  return { target: { ...place, tls }, path: url.pathname, query: url.search.slice(1) };
}

/** As it is written, and as Node reads it: both must be the same. */
function readHost(text: string, authority: string, port: number): { readonly place: HostPort; readonly url: URL } {
  const place = parseAuthority(authority, port);
  if (place === undefined || !URL.canParse(text)) throw badUrl('names no host that can be asked');
  const url = new URL(text);
  const parsed = parseAuthority(url.host, port);
  if (parsed?.host !== place.host || parsed.port !== place.port) throw badUrl('names a host that can be read in two ways');
  return { place, url };
}

function badUrl(what: string): ServerFailure {
  return new ServerFailure('url-forbidden', `the url ${what}`);
}

/** They are for whoever is on the way: the one opens a tunnel, the other sends back what it got, the credential too. */
export const NEVER_SENT: ReadonlySet<string> = new Set(['CONNECT', 'TRACE', 'TRACK']);

function readMethod(text: string): string {
  const method = text.toUpperCase();
  if (!/^[A-Z](?:[A-Z-]{0,30}[A-Z])?$/.test(method)) throw new ServerFailure('request-invalid', 'the method is not an HTTP method');
  if (NEVER_SENT.has(method)) throw new ServerFailure('url-forbidden', `${method} is never sent`);
  return method;
}

function readBody({ body = '', bodyEncoding = 'utf8' }: FetchInput): Buffer {
  if (body.length > LARGEST_BODY * 2) throw tooLarge();
  if (bodyEncoding === 'utf8' && /\p{Cs}/u.test(body)) throw new ServerFailure('request-invalid', 'the body is not valid Unicode text');
  const bytes = Buffer.from(body, bodyEncoding);
  const isBroken = bodyEncoding === 'base64' && bytes.toString('base64').replace(/=+$/, '') !== body.replace(/={0,2}$/, '');
  if (isBroken) throw new ServerFailure('request-invalid', 'the body is not valid base64');
  if (bytes.length > LARGEST_BODY) throw tooLarge();
  return bytes;
}

function tooLarge(): ServerFailure {
  return new ServerFailure('too-large', `the body is larger than ${String(LARGEST_BODY)} bytes`);
}

/** Not UTF-8, nor what is the same as far as ASCII goes. */
const ODD_CHARSET = /charset\s*=\s*(?!["']?(?:utf-?8|us-ascii|iso-8859-1|windows-1252)\b)/i;

function refuseMethodOverride({ method, query, headers, body }: Pick<FetchRequest, 'method' | 'query' | 'headers' | 'body'>): void {
  const valueOf = (wanted: string): string => headers.find(([name]) => sameHeader(name, wanted))?.[1] ?? '';
  const contentType = valueOf('content-type');
  // A server could read what is not looked at here. Frameworks ask for the method of a POST only.
  const isAsked = method === 'POST' && body.length > 0 && bodyKinds(contentType, method).length > 0;
  if (isAsked && (!/^(?:identity)?$/i.test(valueOf('content-encoding')) || ODD_CHARSET.test(contentType))) {
    throw new ServerFailure('header-forbidden', 'a form, or JSON, may be sent with POST only as it is: no Content-Encoding, and in UTF-8');
  }
  if (namesMethod({ method, query, contentType, body })) {
    throw new ServerFailure('url-forbidden', 'the request has a parameter that servers take for another method');
  }
}

function outside({ target, method, path }: FetchRequest, { entry, rules }: Resource, ref: string): ServerFailure {
  const forHost = rules.filter((rule) => rule.covers(target.host, target.port) === true);
  const hint = allowed(entry);
  const fail = (message: string): ServerFailure => new ServerFailure('url-forbidden', message, { hint });
  if (forHost.length === 0) return fail(`${ref} may not go to ${placeOf(target)}`);
  if (!forHost.some(({ methods }) => methods === undefined || methods.has(method))) return fail(`${ref} may not be used with ${method}`);
  if (readings(path).length === 0) return fail(`${ref} is for some paths only, and servers read this one in different ways`);
  return fail(`${ref} may not be used for this path of ${placeOf(target)}`);
}

function allowed({ hosts, methods, paths }: ResourceEntry): string {
  const parts = [
    `hosts ${hosts.join(', ')}`,
    `methods ${methods.join(', ')}`,
    ...(paths === undefined ? [] : [`paths ${paths.join(', ')}`]),
  ];
  return `allowed are ${parts.join('; ')}`;
}

function placeOf({ host, port, tls }: FetchRequest['target']): string {
  return port === (tls ? 443 : 80) ? host : `${host}:${String(port)}`;
}
