// The files by which programs find addresses, as they have to be where kz answers for all names.
import { readFileSync } from 'node:fs';
import { hostname } from 'node:os';
import type { Replaced } from './confinement.ts';
import { lookAt, systemPath, type Machine } from './machine.ts';

/**
 * On their real paths: resolv.conf is often a link into /run, where it then is the only file. One that is missing stays missing, which comes to
 * the same: without a resolv.conf, programs ask 127.0.0.1.
 */
export function nameFiles(machine: Machine, host = hostname()): readonly Replaced[] {
  return [
    ...at(machine, '/etc/resolv.conf', resolvConf),
    ...at(machine, '/etc/hosts', () => hostsFile(host)),
    ...at(machine, '/etc/nsswitch.conf', nsswitch),
  ];
}

function at(machine: Machine, path: string, change: (text: string) => string): Replaced[] {
  const found = lookAt(systemPath(machine, path));
  if (found?.kind !== 'file') return [];
  try {
    return [{ path: found.path, contents: change(readFileSync(found.path, 'utf8')) }];
  } catch {
    return [{ path: found.path, contents: change('') }];
  }
}

/** Short names stay short: in a cluster, `db` is `db.shop.svc.cluster.local`. */
function resolvConf(text: string): string {
  const search = text.split('\n').filter((line) => /^(?:search|domain)\s/.test(line));
  const [ndots] = /\bndots:\d+/.exec(text) ?? [];
  return ['nameserver 127.0.0.1', ...search, ...(ndots === undefined ? [] : [`options ${ndots}`]), ''].join('\n');
}

/** Without the machine's own entries: an address from here would lead around the names, by which kz decides. */
function hostsFile(host: string): string {
  return `127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n${isName(host) ? `127.0.0.1 ${host}\n` : ''}`;
}

function isName(host: string): boolean {
  return /^[\w.-]+$/.test(host) && host !== 'localhost';
}

/** No daemon that looks names up by itself: systemd's, nscd's, multicast. */
function nsswitch(text: string): string {
  const lines = text.split('\n').filter((line) => !/^\s*hosts\s*:/.test(line));
  return `${lines.join('\n').replace(/\n*$/, '')}\nhosts: files dns\n`.replace(/^\n/, '');
}
