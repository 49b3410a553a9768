// What is refused before a request is looked at: names that a browser was rebound to, pages of other origins, and heads that two readers could
// understand differently. Finds the bearer token, in its header and nowhere else.
import type { IncomingMessage } from 'node:http';
import { isAddress, parseAuthority } from '../../core/host-name.ts';
import { ServerFailure } from '../failure.ts';
import { HttpRefusal } from './http-answer.ts';

export interface GuardOptions {
  readonly isLoopback: boolean;
  /** Host names without a port. */
  readonly allowedHosts: readonly string[];
  /** As a browser writes them: `https://app.example.com`. */
  readonly allowedOrigins: readonly string[];
}

const LOOPBACK_HOSTS = ['localhost', '127.0.0.1', '[::1]'];

/** Throws `HttpRefusal`. */
export function guard(request: IncomingMessage, options: GuardOptions): void {
  const { host, origin } = request.headers;
  const isTwice = ['host', 'authorization', 'origin', 'content-type'].some((name) => linesOf(request, name) > 1);
  if (isTwice) throw new HttpRefusal(400, 'request-invalid', 'a header that may come once comes twice');
  if (!isKnownHost(host, options)) {
    throw new HttpRefusal(403, 'host-forbidden', 'this server is not reached by that name in the Host header');
  }
  if (origin !== undefined && !options.allowedOrigins.includes(origin) && !isOwnOrigin(origin, host, options)) {
    throw new HttpRefusal(403, 'origin-forbidden', 'requests of web pages are not answered');
  }
}

/**
 * DNS rebinding makes a browser send a name of the attacker's to an address of ours. Off loopback, names are checked once there is a list of them,
 * and an address is no name.
 */
function isKnownHost(text: string | undefined, { isLoopback, allowedHosts }: GuardOptions): boolean {
  if (!isLoopback && allowedHosts.length === 0) return true;
  const host = text === undefined ? undefined : parseAuthority(text, 80)?.host;
  if (host === undefined) return false;
  return (
    LOOPBACK_HOSTS.includes(host) ||
    (!isLoopback && isAddress(host)) ||
    allowedHosts.some((name) => parseAuthority(name, 80)?.host === host)
  );
}

/** A page of this very server, which has none: some clients say so of themselves. Only under a name that nobody can rebind. */
function isOwnOrigin(origin: string, host: string | undefined, { isLoopback, allowedHosts }: GuardOptions): boolean {
  const name = host === undefined ? undefined : parseAuthority(host, 80)?.host;
  if (name === undefined || !/^https?:\/\//.test(origin) || origin.replace(/^https?:\/\//, '') !== host) return false;
  return (isLoopback && LOOPBACK_HOSTS.includes(name)) || allowedHosts.some((each) => parseAuthority(each, 80)?.host === name);
}

/** Throws `jwt-missing` or `jwt-invalid`. */
export function bearerOf({ headers: { authorization = '' } }: IncomingMessage): string {
  const [, scheme = '', token = ''] = /^(\S*) *(.*)$/.exec(authorization) ?? [];
  if (scheme.toLowerCase() !== 'bearer' || token === '') {
    throw new ServerFailure('jwt-missing', 'there is no token', { hint: 'send the header `Authorization: Bearer <jwt>`' });
  }
  // RFC 6750, section 2.1.
  if (!/^[A-Za-z0-9._~+/-]+=*$/.test(token)) throw new ServerFailure('jwt-invalid', 'the bearer token is malformed');
  return token;
}

/** Node keeps the first and drops the rest. */
function linesOf({ rawHeaders }: IncomingMessage, name: string): number {
  return rawHeaders.filter((text, index) => index % 2 === 0 && text.toLowerCase() === name).length;
}
