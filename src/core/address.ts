// What kind of network an IP address belongs to, by IANA's special-purpose registries (RFC 6890 and its successors) and the clouds' own
// documents. Node parses; nothing here reads an address by hand. What is not known to be public is not public.
import { BlockList, isIP, isIPv4, isIPv6 } from 'node:net';

export type AddressKind = 'public' | 'loopback' | 'private' | 'link-local' | 'metadata' | 'special';

/** Asked from top to bottom: a metadata address is also link-local or private. */
const KINDS: readonly (readonly [AddressKind, BlockList])[] = [
  [
    'metadata',
    blocks(`
      169.254.169.254 169.254.170.2 169.254.170.23 169.254.0.23 169.254.42.42 100.100.100.200 168.63.129.16 192.0.0.192
      fd00:ec2::254 fd00:ec2::23 fd20:ce::254 fd00:42::42 fd00:c1::a9fe:a9fe fd00:a9fe:a9fe::1 fe80::a9fe:a9fe
    `),
  ],
  ['loopback', blocks('127.0.0.0/8 ::1')],
  ['private', blocks('10.0.0.0/8 100.64.0.0/10 172.16.0.0/12 192.168.0.0/16 fc00::/7 fec0::/10')],
  ['link-local', blocks('169.254.0.0/16 fe80::/10')],
  [
    'special',
    blocks(`
      0.0.0.0/8 192.0.0.0/24 192.0.2.0/24 192.88.99.0/24 198.18.0.0/15 198.51.100.0/24 203.0.113.0/24 224.0.0.0/4 240.0.0.0/4
      2001::/23 2001:db8::/32 3fff::/20
    `),
  ],
];

/** The only part of IPv6 that is handed out for use on the internet. */
const GLOBAL_UNICAST = blocks('2000::/3');

interface Embedding {
  readonly within: BlockList;
  /** The first of the two 16-bit groups that hold an IPv4 address. */
  readonly at: number;
  /** What is done to each group: Teredo inverts its client's address. */
  readonly mask?: number;
  /** A translation that leads nowhere on today's internet is never public, whatever is embedded. */
  readonly defunct?: boolean;
}

const MAPPED: Embedding = { within: blocks('::ffff:0:0/96'), at: 6 };

const EMBEDDINGS: readonly Embedding[] = [
  MAPPED,
  { within: blocks('64:ff9b::/96'), at: 6 },
  { within: blocks('2002::/16'), at: 1 },
  // NAT64 for one network, an address in the last 32 bits or elsewhere; IPv4-compatible; SIIT; Teredo.
  { within: blocks('64:ff9b:1::/48'), at: 6, defunct: true },
  { within: blocks('::/96'), at: 6, defunct: true },
  { within: blocks('::ffff:0:0:0/96'), at: 6, defunct: true },
  { within: blocks('2001::/32'), at: 6, mask: 0xffff, defunct: true },
];

/**
 * `ip` has no brackets; a zone (`%eth0`) is ignored. An IPv6 address that carries an IPv4 address is judged by that one. Only `public` is
 * safe to dial unasked: 0.0.0.0 and ::, which reach this machine on Linux and macOS, are `special`, and so is what is no address at all.
 */
export function addressKind(ip: string): AddressKind {
  const [address = ''] = ip.split('%');
  if (isIPv4(address)) return registeredKind(address) ?? 'public';
  if (!isIPv6(address)) return 'special';
  const registered = registeredKind(address);
  if (registered === 'loopback' || registered === 'metadata') return registered;
  const embedding = EMBEDDINGS.find(({ within }) => within.check(address, 'ipv6'));
  if (embedding !== undefined) return embeddedKind(address, embedding);
  return registered ?? (GLOBAL_UNICAST.check(address, 'ipv6') ? 'public' : 'special');
}

/** Does the `hostname` of a URL mean this machine, whoever answers for names (RFC 6761, section 6.3)? */
export function isLoopbackHost(hostname: string): boolean {
  return /(?:^|\.)localhost$/.test(hostname) || addressKind(hostname.replace(/^\[|\]$/g, '')) === 'loopback';
}

/** The IPv4 address that a connection to this IPv6 address really goes to: `::ffff:7f00:1` is 127.0.0.1 to the operating system. */
export function mappedIPv4(ipv6: string): string | undefined {
  return MAPPED.within.check(ipv6, 'ipv6') ? embeddedIPv4(ipv6, MAPPED) : undefined;
}

function registeredKind(address: string): AddressKind | undefined {
  const family = isIPv4(address) ? 'ipv4' : 'ipv6';
  return KINDS.find(([, list]) => list.check(address, family))?.[0];
}

function embeddedKind(address: string, embedding: Embedding): AddressKind {
  const kind = registeredKind(embeddedIPv4(address, embedding));
  return kind ?? (embedding.defunct === true ? 'special' : 'public');
}

function embeddedIPv4(address: string, { at, mask = 0 }: Embedding): string {
  const groups = groupsOf(address).slice(at, at + 2);
  return groups.flatMap((group) => [(group ^ mask) >> 8, (group ^ mask) & 0xff]).join('.');
}

/** Eight numbers, from the spelling that URL gives to every IPv6 address: hexadecimal groups with at most one `::`. */
function groupsOf(address: string): number[] {
  const [left = '', right = ''] = new URL(`http://[${address}]/`).hostname.slice(1, -1).split('::');
  const before = numbers(left);
  const after = numbers(right);
  return [...before, ...Array<number>(8 - before.length - after.length).fill(0), ...after];
}

function numbers(groups: string): number[] {
  return groups === '' ? [] : groups.split(':').map((group) => Number.parseInt(group, 16));
}

function blocks(list: string): BlockList {
  const blockList = new BlockList();
  for (const entry of list.trim().split(/\s+/)) {
    const [address = '', prefix] = entry.split('/');
    const family = isIP(address) === 4 ? 'ipv4' : 'ipv6';
    if (prefix === undefined) blockList.addAddress(address, family);
    else blockList.addSubnet(address, Number(prefix), family);
  }
  return blockList;
}
