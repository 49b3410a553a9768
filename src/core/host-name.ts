// One spelling for each host. Rules, scopes and dialling all compare this spelling, so that `LOCALHOST.`, `0x7f.1` and `[::ffff:127.0.0.1]`
// cannot be one host to one of them and another to the next. Node's URL parses (IDNA, odd IPv4 spellings); what it would repair is refused.
import { isIPv4, isIPv6 } from 'node:net';
import { mappedIPv4 } from './address.ts';

export interface HostPort {
  readonly host: string;
  readonly port: number;
}

/** RFC 1035, section 2.3.4, as text without the final dot. */
const LONGEST_NAME = 253;

const LABEL = '[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?';
const NAME = new RegExp(`^${LABEL}(?:\\.${LABEL})*$`);
/** Ends in a letter's label: no spelling of an IPv4 address does. */
const PLAIN_NAME = new RegExp(`^(?:${LABEL}\\.)*(?=[a-z_])${LABEL}$`);

/** URL drops tabs and line ends, decodes percent signs, and ends the host at the others. */
const UNFIT = /[\0-\x20\x7f%@:/\\?#[\]]/;

/**
 * Lower case, IDNA ASCII, without the final dot; IPv4 with four decimal numbers; IPv6 in brackets and as short as it goes, unless it stands
 * for an IPv4 address. Idempotent. Undefined for what is no host: NUL, space, user, port, percent sign, zone, empty or bad label.
 */
export function canonicalHost(text: string): string | undefined {
  if (text.length > LONGEST_NAME + 1) return undefined;
  if (PLAIN_NAME.test(text) && !text.includes('xn--')) return text.length > LONGEST_NAME ? undefined : text;
  return text.startsWith('[') ? canonicalIPv6(text) : canonicalName(text);
}

/** `host`, `host:port` or `[v6]:port`. Undefined without a port when there is no default, and for everything that `canonicalHost` refuses. */
export function parseAuthority(text: string, defaultPort?: number): HostPort | undefined {
  const [, name, digits] = /^(\[[^\]]*\]|[^:]*)(?::([1-9]\d{0,4}))?$/.exec(text) ?? [];
  const port = digits === undefined ? defaultPort : Number(digits);
  const host = name === undefined ? undefined : canonicalHost(name);
  if (host === undefined || port === undefined || port > 65_535) return undefined;
  return { host, port };
}

/** Is this canonical host an address rather than a name? */
export function isAddress(host: string): boolean {
  return host.startsWith('[') || isIPv4(host);
}

function canonicalIPv6(text: string): string | undefined {
  const address = text.slice(1, -1);
  if (!text.endsWith(']') || address.includes('%') || !isIPv6(address)) return undefined;
  return mappedIPv4(address) ?? parsed(text);
}

function canonicalName(text: string): string | undefined {
  if (UNFIT.test(text)) return undefined;
  const host = parsed(text)?.replace(/\.$/, '');
  if (host === undefined || host.length > LONGEST_NAME || !NAME.test(host)) return undefined;
  // What IDNA would map once more is nothing that two parsers agree on.
  return parsed(host) === host ? host : undefined;
}

function parsed(text: string): string | undefined {
  const url = `http://${text}/`;
  return URL.canParse(url) ? new URL(url).hostname : undefined;
}
