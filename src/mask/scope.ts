// The hosts a secret may go to: those the user wrote, else what can be inferred, from the most to the least exact: the host in the value
// itself, the vendor's hosts, the hosts that rules allow by name. When nothing can be inferred, any host; the caller says so aloud.
import { domainToASCII } from 'node:url';
import { addressKind } from '../core/address.ts';
import { isAddress } from '../core/host-name.ts';
import { matchesHost, parseHostPattern, type HostPattern } from '../core/host-pattern.ts';
import type { Secret } from '../core/secret.ts';
import { publicFacts } from './mint.ts';

export interface Scope {
  readonly from: 'hosts' | 'url' | 'vendor' | 'rules' | 'any';
  readonly patterns: readonly string[];
  /** `host` is canonical: lower case, no trailing dot, IPv6 in brackets. */
  covers(host: string, port: number): boolean;
  /**
   * The same without TLS, where anybody on the way can read along: only to this machine and private addresses, or where the port is named,
   * which says that somebody meant it.
   */
  coversClear(host: string, port: number): boolean;
}

interface ScopeInput {
  readonly hosts?: readonly string[] | undefined;
  readonly value?: Secret | undefined;
  /** Host texts of the allow rules that name a host; `re:…` is a regular expression, anchored. */
  readonly ruleHosts: readonly string[];
  /** What these rules cover; it knows how to match a regular expression that takes too long. Left out: what the texts say. */
  readonly rulesCover?: ((host: string, port: number) => boolean) | undefined;
}

/** Patterns that do not parse cover nothing; the config's own check has refused them before. */
export function scopeOf(input: ScopeInput): Scope {
  if (input.hosts !== undefined) return scope('hosts', input.hosts);
  if (input.value !== undefined) {
    const { vendor, hosts, isClear } = publicFacts(input.value);
    const named = hosts.map(canonicalAuthority).filter((host) => host !== undefined);
    const own = isClear ? named.flatMap((host) => [host, `${host}:80`]).filter((host) => parsed(host) !== undefined) : named;
    if (own.length > 0) return scope('url', own);
    if (vendor !== undefined && vendor.hosts.length > 0) return scope('vendor', vendor.hosts);
  }
  const named = input.ruleHosts.filter((host) => host !== '*' && !host.startsWith('*:'));
  return named.length > 0
    ? scope('rules', named, input.rulesCover)
    : { from: 'any', patterns: ['*'], covers: () => true, coversClear: isLocal };
}

type Test = (host: string, port: number) => boolean;

function scope(from: Scope['from'], patterns: readonly string[], covers?: Test): Scope {
  const tests = covers === undefined ? patterns.map(hostTest) : [covers];
  const clear = patterns.filter((text) => !text.startsWith('re:') && /:\d+$/.test(text)).map(hostTest);
  return {
    from,
    patterns,
    covers: (host, port) => tests.some((test) => test(host, port)),
    coversClear: (host, port) => (isLocal(host) ? tests : clear).some((test) => test(host, port)),
  };
}

/** This machine, and addresses that are not routed beyond one's own network. */
function isLocal(host: string): boolean {
  if (host === 'localhost' || host.endsWith('.localhost')) return true;
  return isAddress(host) && ['loopback', 'private', 'link-local'].includes(addressKind(host.replace(/^\[|\]$/g, '')));
}

function hostTest(text: string): Test {
  if (text.startsWith('re:')) return expressionTest(text.slice(3));
  const pattern = parsed(text);
  return pattern === undefined ? () => false : (host, port) => matchesHost(pattern, host, port);
}

function expressionTest(source: string): Test {
  try {
    const expression = new RegExp(`^(?:${source})$`, 'u');
    return (host) => expression.test(host);
  } catch {
    return () => false;
  }
}

function parsed(text: string): HostPattern | undefined {
  const pattern = parseHostPattern(text);
  return 'problem' in pattern ? undefined : pattern;
}

/** As requests name it. A host that is no plain name or address (a socket's path, a placeholder) gives nothing. */
function canonicalAuthority(text: string): string | undefined {
  const [, name = '', port = ''] = /^(\[[^\]]*\]|[^:]*)(:\d+)?$/.exec(text) ?? [];
  const host = canonicalName(name);
  if (host === '' || host.includes('*') || parsed(host + port) === undefined) return undefined;
  return host + port;
}

function canonicalName(name: string): string {
  if (!name.startsWith('[')) return domainToASCII(name.replace(/\.$/, ''));
  // The one spelling of an IPv6 address that the whole program uses: what URL writes.
  return URL.canParse(`http://${name}`) ? new URL(`http://${name}`).hostname : '';
}
