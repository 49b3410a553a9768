// One token of one request: what it says, whether this caller may use it here and now, and the value that it stands for. In this order: the
// seal, the caller, the policies, the resource's hosts, methods and paths; the backend is asked last.
import type { ResourceEntry } from '../../config/bundle.ts';
import type { Secret } from '../../core/secret.ts';
import { scopeOf } from '../../mask/scope.ts';
import { decide } from '../../policy/decide.ts';
import { readings } from '../../policy/request-path.ts';
import type { Request } from '../../proxy/exchange.ts';
import { pairs } from '../../proxy/head.ts';
import type { Refusal } from '../../proxy/refusal.ts';
import { ServerFailure } from '../failure.ts';
import { checkOverrides } from '../fetch/fetch-headers.ts';
import { NEVER_SENT } from '../fetch/fetch-request.ts';
import { namesMethod } from '../fetch/parameters.ts';
import type { Caller } from '../identity/verify.ts';
import type { Resource } from '../resources.ts';
import type { Ask, Service } from '../service.ts';
import type { Seal } from './seal.ts';
import type { ShortLived } from './short-lived.ts';
import type { Searched } from './token-search.ts';

export interface TokenParts {
  readonly service: Service;
  readonly seal: Seal;
  readonly shortLived?: ShortLived | undefined;
}

/** What a token that is genuine says of itself. */
export interface Opened extends Pick<Ask, 'ref' | 'resolver' | 'context'> {
  readonly token: string;
  readonly mode: 'masked' | 'short_lived';
  readonly issuer: string;
  readonly sub: string;
  readonly hosts?: readonly string[] | undefined;
  /** Milliseconds since the epoch. */
  readonly expiresAt: number;
}

export interface Usable extends Opened {
  readonly entry: ResourceEntry;
  readonly secret: Secret;
}

/** Throws `token-invalid` and `token-expired`. */
export async function openSealed(token: string, { seal }: TokenParts): Promise<Opened> {
  const { exp, ...facts } = await seal.unseal(token);
  return { ...facts, token, mode: 'masked', expiresAt: exp * 1000 };
}

/** Throws `token-invalid` and `token-expired`. */
export async function openShortLived(token: string, { shortLived }: TokenParts): Promise<Opened> {
  if (shortLived === undefined) throw new ServerFailure('token-invalid', 'this server has no key to verify short-lived tokens with');
  return { ...(await shortLived.verify(token)), token, mode: 'short_lived' };
}

/** Throws `ServerFailure`. Everything from the policies on leaves an audit line. */
export async function use(
  opened: Opened,
  on: { readonly caller: Caller; readonly searched: Searched },
  parts: TokenParts,
  signal: AbortSignal,
): Promise<Usable> {
  const { caller, searched } = on;
  const { request } = searched;
  const { ref, resolver, context } = opened;
  // Whose it is instead, or for what, is nobody else's business.
  if (opened.issuer !== caller.issuer || opened.sub !== caller.sub) {
    throw new ServerFailure('token-invalid', 'the token was given to another caller', { hint: 'resolve the resource yourself' });
  }
  const path = readingOf(request);
  const asked = { method: request.method, host: request.target.host, path, isAmbiguous: path === '' };
  return parts.service.with(caller, { tool: 'proxy', face: 'proxy', ref, resolver, context, request: asked }, async (grant) => {
    checkRequest(opened, grant.resource, request);
    checkMeaning(searched, grant.resource);
    return { ...opened, entry: grant.resource.entry, secret: await grant.secret(signal) };
  });
}

function checkRequest({ ref, hosts, mode }: Opened, { entry, rules }: Resource, request: Request): void {
  const { host, port, tls } = request.target;
  const place = `${request.method} ${host}${pathOf(request).slice(0, LONGEST_SHOWN)}`;
  if (entry.mode !== mode) throw new ServerFailure('mode-forbidden', `resource ${ref} is no longer given out as such a token`);
  const isEver = !NEVER_SENT.has(request.method.toUpperCase());
  // No rules would allow everything.
  const isAllowed = isEver && rules.length > 0 && decide({ host, port, method: request.method, path: pathOf(request) }, rules).allow;
  // A resource may have got hosts since then that nobody was asked about.
  const isBound = hosts === undefined || scopeOf({ hosts, ruleHosts: [] }).covers(host, port);
  if (!isAllowed || !isBound) throw new ServerFailure('url-forbidden', `the value of ${ref} may not go into ${place}`);
  if (!tls && !scopeOf({ hosts: entry.hosts, ruleHosts: [] }).coversClear(host, port)) {
    throw new ServerFailure('url-forbidden', `the value of ${ref} may not go to ${host} without TLS`, { hint: 'use https' });
  }
}

const LONGEST_SHOWN = 200;

/** What was decided about is what servers do. A body of which nobody knows what is in it goes on all the same. */
function checkMeaning({ request, head, body }: Searched, { entry }: Resource): void {
  checkOverrides(pairs(head.fields), entry);
  const { method, path } = request;
  if (namesMethod({ method, query: path.slice(pathOf(request).length + 1), contentType: head.contentType, body })) {
    throw new ServerFailure('url-forbidden', 'the request has a parameter that servers take for another method');
  }
}

/** As every server reads it; empty when servers may read it differently. The same that a fetch shows to the policies. */
function readingOf(request: Request): string {
  const [reading = '', ...others] = readings(pathOf(request));
  return others.length === 0 ? reading : '';
}

function pathOf({ path }: Request): string {
  const query = path.indexOf('?');
  return query === -1 ? path : path.slice(0, query);
}

/** Who asks too much or is not known any more, and a backend that fails, are told so; everything else is a 403. */
export function refusalOf({ code, message, hint, status }: ServerFailure): Refusal {
  const isTold = status >= 500 || status === 429 || status === 401;
  return {
    status: isTold ? status : 403,
    code,
    message,
    ...(hint === undefined ? {} : { remedy: [hint], isRemedyForAsker: true }),
    end: status >= 500 ? { error: 'other' } : { why: 'other' },
  };
}
