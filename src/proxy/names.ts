// The names that the program in the sandbox can look up: one address for each, out of a range that nobody has, so that the address of a connection
// says which name was meant. No query is ever forwarded: what a name holds reaches nobody. A name that no rule allows does not exist.
import { canonicalHost, isAddress } from '../core/host-name.ts';
import { decideConnection } from '../policy/decide.ts';
import type { Rule } from '../policy/rule.ts';
import { TYPE_A, type Answer, type Question } from '../wire/dns.ts';

/** `any`: every IPv4 address leads to kz (198.18.0.0/15, RFC 2544: benchmarks). `lo`: only 127.0.0.0/8 does (127.64.0.0/10). */
export type Reach = 'any' | 'lo';

export interface NamesOptions {
  readonly rules: readonly Rule[];
  /** Of the doors: a name exists when a connection to it on one of these could be allowed. */
  readonly ports: readonly number[];
  readonly reach: Reach;
  /** Called once for each name that is denied, up to a number; then once with null, for all that follow. */
  readonly onDenied: (host: string | null) => void;
  /** The most names that get an address. */
  readonly most?: number;
}

/** The first address and how many there are; both ranges have the first one left over. */
const RANGES: Readonly<Record<Reach, { readonly first: number; readonly size: number }>> = {
  any: { first: numberOf('198.18.0.0'), size: 2 ** 17 },
  lo: { first: numberOf('127.64.0.0'), size: 2 ** 22 },
};

/** Also of names in the log. A run needs dozens; without rules every name has an address, and the memory must not fill up. */
const MOST_NAMES = 65_536;
const MOST_DENIED = 1000;

export class Names {
  readonly #options: NamesOptions;
  readonly #range: { readonly first: number; readonly size: number };
  readonly #addresses = new Map<string, string>();
  readonly #names = new Map<string, string>();
  readonly #denied = new Set<string>();

  constructor(options: NamesOptions) {
    this.#options = options;
    this.#range = RANGES[options.reach];
  }

  answer({ name, type }: Question): Answer {
    const host = name === undefined ? undefined : canonicalHost(name);
    if (host === undefined || isAddress(host) || NO_HOST.test(host)) return 'no-such-name';
    const isLocal = LOCALHOST.test(host);
    if (!isLocal && !this.#addresses.has(host) && !this.#isAllowed(host)) {
      this.#deny(host);
      return 'no-such-name';
    }
    if (type !== TYPE_A) return 'no-data';
    const address = isLocal ? '127.0.0.1' : this.#addressOf(host);
    return address === undefined ? 'failed' : { address };
  }

  /** The canonical name that was answered with this address. */
  at(address: string): string | undefined {
    return this.#names.get(address);
  }

  /** Does the address stand for a name, known or not? */
  isStandIn(address: string): boolean {
    const offset = numberOf(address) - this.#range.first;
    return offset >= 0 && offset < this.#range.size;
  }

  #isAllowed(host: string): boolean {
    const { ports, rules } = this.#options;
    return ports.some((port) => decideConnection({ host, port }, rules).allow);
  }

  /** Undefined when there is none left. Given out once and for the whole run: a second name would get the connections of the first. */
  #addressOf(host: string): string | undefined {
    const known = this.#addresses.get(host);
    if (known !== undefined) return known;
    const count = this.#addresses.size + 1;
    if (count > Math.min(this.#options.most ?? MOST_NAMES, this.#range.size - 1)) return undefined;
    const address = textOf(this.#range.first + count);
    this.#addresses.set(host, address);
    this.#names.set(address, host);
    return address;
  }

  #deny(host: string): void {
    if (this.#denied.has(host) || this.#denied.size > MOST_DENIED) return;
    this.#denied.add(host);
    this.#options.onDenied(this.#denied.size > MOST_DENIED ? null : host);
  }
}

const LOCALHOST = /^(?:.+\.)?localhost$/;

/** Services (RFC 8552: `_ldap._tcp`) and addresses looked up backwards. Programs ask for these on their own: nothing that was denied. */
const NO_HOST = /(?:^|\.)(?:_|(?:in-addr|ip6)\.arpa$)/;

/** NaN for what is no IPv4 address: in no range. */
function numberOf(address: string): number {
  return address.split('.').reduce((sum, part) => sum * 256 + Number(part), 0);
}

function textOf(number: number): string {
  return [24, 16, 8, 0].map((bits) => (number >>> bits) & 0xff).join('.');
}
