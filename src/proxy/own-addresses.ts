// The addresses that this machine has on its networks. A service that listens at all of them is as near to a program here as one on loopback, also
// at an address that is public. An address that only a router knows (a cloud's NAT) is not among them: what comes back from there comes from outside.
import { BlockList, isIP, isIPv4 } from 'node:net';
import os from 'node:os';

/** Asks the system: addresses come and go. Throws when it does not answer. */
export function ownAddresses(): readonly string[] {
  return Object.values(os.networkInterfaces()).flatMap((addresses = []) => addresses.map(({ address }) => address));
}

/** Whatever the spelling; a zone (`%eth0`) is ignored, and an IPv4 address is itself in IPv6 too (`::ffff:…`). */
export function isAmong(address: string, own: readonly string[]): boolean {
  const list = new BlockList();
  for (const each of own.map(withoutZone).filter((text) => isIP(text) !== 0)) list.addAddress(each, family(each));
  const asked = withoutZone(address);
  return list.check(asked, family(asked));
}

function withoutZone(address: string): string {
  return address.replace(/%.*$/, '');
}

function family(address: string): 'ipv4' | 'ipv6' {
  return isIPv4(address) ? 'ipv4' : 'ipv6';
}
