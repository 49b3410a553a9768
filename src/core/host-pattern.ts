// Host patterns, compared label by label and anchored at both ends: `api.github.com`, `*.github.com` (one or more whole labels in
// front, never the apex), `*` (any host), each with an optional `:port`. Addresses are written in brackets when they are IPv6.

import { canonicalHost, isAddress } from './host-name.ts';

export interface HostPattern {
  /** Labels from left to right, lower case, without the leading `*`. Empty for `*` alone. */
  readonly labels: readonly string[];
  readonly wildcard: boolean;
  readonly port?: number;
}

const LABEL = /^(?!-)[a-z0-9_-]{1,63}(?<!-)$/;

/** The compiled pattern, or a sentence that says what is wrong with it. */
export function parseHostPattern(text: string): HostPattern | { readonly problem: string } {
  if (text === '') return { problem: 'is empty' };
  if (/[/@?#\s\\]/.test(text)) return { problem: 'is not a bare host: no scheme, path, user or space' };
  const split = splitPort(text);
  if (split === undefined) return { problem: 'has a port that is not a number from 1 to 65535' };
  const host = parseHost(split.host.toLowerCase());
  if ('problem' in host) return host;
  return split.port === undefined ? host : { ...host, port: split.port };
}

function parseHost(text: string): HostPattern | { readonly problem: string } {
  if (text.startsWith('[')) return address(text);
  if (text === '*') return { labels: [], wildcard: true };
  const wildcard = text.startsWith('*.');
  const labels = (wildcard ? text.slice(2) : text).split('.');
  if (labels.some((label) => label.includes('*'))) return { problem: 'may hold `*` only as its first label' };
  if (!labels.every((label) => LABEL.test(label))) return { problem: 'is not a host name (write an international name in its xn-- form)' };
  if (wildcard && labels.length < 2) return { problem: 'is too wide: `*.` needs at least two labels behind it' };
  // `0x7f.1` is an address too, and a part of one is nobody's.
  if (!/^(?:\d+|0x[\da-f]*)$/.test(labels.at(-1) ?? '')) return { labels, wildcard };
  return wildcard ? { problem: 'has a wildcard before an address' } : address(text);
}

/** In the one spelling that hosts are compared in. */
function address(text: string): HostPattern | { readonly problem: string } {
  const host = canonicalHost(text);
  if (host === undefined || !isAddress(host)) return { problem: 'is neither a host name nor an address' };
  return { labels: host.startsWith('[') ? [host] : host.split('.'), wildcard: false };
}

/** Does the pattern cover this host? `host` is already canonical: lower case, no trailing dot, IPv6 in brackets. */
export function matchesHost(pattern: HostPattern, host: string, port: number): boolean {
  if (pattern.port !== undefined && pattern.port !== port) return false;
  const labels = host.startsWith('[') ? [host] : host.split('.');
  if (!pattern.wildcard) return sameLabels(pattern.labels, labels);
  if (pattern.labels.length === 0) return true;
  return labels.length > pattern.labels.length && sameLabels(pattern.labels, labels.slice(-pattern.labels.length));
}

function sameLabels(a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && a.every((label, index) => label === b[index]);
}

function splitPort(text: string): { host: string; port?: number } | undefined {
  const match = /^(\[[^\]]*\]|[^:]*)(?::(.*))?$/.exec(text);
  if (match === null) return undefined;
  const [, host = '', port] = match;
  if (port === undefined) return { host };
  const number = /^\d{1,5}$/.test(port) ? Number(port) : 0;
  return number >= 1 && number <= 65_535 ? { host, port: number } : undefined;
}
