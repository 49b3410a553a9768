// What the config names that a sandboxed program may want to reach, and what has to be there before it starts: ports besides those of HTTP, and
// this machine.
import type { Config } from '../config/load.ts';
import { addressKind } from '../core/address.ts';
import { isAddress } from '../core/host-name.ts';
import { parseHostPattern } from '../core/host-pattern.ts';

/** Each is a socket that listens. */
const MOST_PORTS = 64;

/** Of rules that allow, and of secrets' hosts. */
export function namedPorts(config: Named): number[] {
  const rules = (config.blind?.connections ?? []).filter(({ allow }) => allow).flatMap(({ port }) => port ?? []);
  return [...new Set([...rules, ...namedHosts(config).flatMap(portOf)])].filter((port) => !HTTP.includes(port)).slice(0, MOST_PORTS);
}

/**
 * Is a service of this machine among the hosts? Then `localhost` is the machine's for programs that use the proxy, and tokens are swapped there.
 * Otherwise it is the program's own.
 */
export function namesLoopback(config: Named): boolean {
  return namedHosts(config).some((host) => {
    const pattern = parseHostPattern(host);
    if ('problem' in pattern) return false;
    const name = pattern.labels.join('.');
    if (isAddress(name)) return addressKind(name.replace(/^\[|\]$/g, '')) === 'loopback';
    return pattern.labels.at(-1) === 'localhost';
  });
}

type Named = Pick<Config, 'blind' | 'secrets'>;

function namedHosts({ blind, secrets }: Named): string[] {
  const rules = (blind?.connections ?? []).filter(({ allow }) => allow).map(({ host }) => host);
  return [...rules, ...[...secrets.values()].flatMap((secret) => secret.hosts ?? [])];
}

const HTTP: readonly number[] = [80, 443];

function portOf(host: string): number[] {
  const pattern = parseHostPattern(host);
  return 'problem' in pattern || pattern.port === undefined ? [] : [pattern.port];
}
