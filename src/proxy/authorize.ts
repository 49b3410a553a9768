// The checks that a request passes before anything is swapped or dialled, in their order. Both protocols come through here.
import { parseAuthority } from '../core/host-name.ts';
import type { Exchange, Target } from './exchange.ts';
import { deniedByRule, hostMismatch, malformed, valueOutOfScope, type Refusal } from './refusal.ts';

export interface Claims {
  /** Every Host field, or `:authority`: there must be one, and it must name the target. */
  readonly hosts: readonly string[];
  /** How many Content-Length fields there were; Node's parser refuses those that differ, two of the same are as pointless. */
  readonly lengths: number;
  readonly hasTransferEncoding: boolean;
  /** Names and values of all fields, as latin1. */
  readonly fields: readonly string[];
}

/** Undefined when the request may go on. */
export function authorize(exchange: Exchange, claims: Claims): Refusal | undefined {
  const { request, decision, session } = exchange;
  const { target } = request;
  // 1. One reading of the message: what two parsers could read differently is refused.
  const problem = smuggling(claims, request.path);
  if (problem !== undefined) return malformed(problem);
  // 2. One host: CONNECT, SNI (checked with the tunnel) and Host agree.
  const [named = ''] = claims.hosts;
  if (!names(named, target)) return hostMismatch(named.slice(0, 255), target);
  // 3. The rules, first match wins.
  if (!decision.allow) return deniedByRule(exchange);
  // 4. No value leaves its scope: neither in a field nor in the address nor in the host's own name.
  const head = `${target.host}\n${request.path}\n${claims.fields.join('\n')}`;
  const trespasser = session.guard.trespasser(head, target.host, target.port);
  return trespasser === undefined ? undefined : valueOutOfScope(trespasser, exchange);
}

function smuggling({ hosts, lengths, hasTransferEncoding }: Claims, path: string): string | undefined {
  if (hosts.length !== 1) return hosts.length === 0 ? 'the request has no Host field' : 'the request has two Host fields';
  if (lengths > 1) return 'the request has two Content-Length fields';
  if (lengths === 1 && hasTransferEncoding) return 'the request has both Content-Length and Transfer-Encoding';
  if (!path.startsWith('/') && path !== '*') return 'the request target is not a path';
  return undefined;
}

/** A Host without a port is of the scheme's own, which is what a client leaves out; some leave out any. */
export function names(text: string, { host, port }: Target): boolean {
  // Nearly always written as it was in CONNECT.
  if (text === host) return true;
  const named = parseAuthority(text, port);
  return named?.host === host && named.port === port;
}
