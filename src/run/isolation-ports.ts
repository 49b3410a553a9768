// The ports at which a sandboxed program may want to reach somebody, besides those of HTTP: what the config names.
import type { Config } from '../config/load.ts';
import { parseHostPattern } from '../core/host-pattern.ts';

/** Each is a socket that listens. */
const MOST_PORTS = 64;

/** Of rules that allow, and of secrets' hosts. */
export function namedPorts({ blind, secrets }: Pick<Config, 'blind' | 'secrets'>): number[] {
  const rules = (blind?.connections ?? []).filter(({ allow }) => allow).flatMap(({ host, port }) => port ?? portOf(host));
  const hosts = [...secrets.values()].flatMap((secret) => secret.hosts ?? []).flatMap(portOf);
  return [...new Set([...rules, ...hosts])].filter((port) => !HTTP.includes(port)).slice(0, MOST_PORTS);
}

const HTTP: readonly number[] = [80, 443];

function portOf(host: string): number[] {
  const pattern = parseHostPattern(host);
  return 'problem' in pattern || pattern.port === undefined ? [] : [pattern.port];
}
