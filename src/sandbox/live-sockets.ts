// Every Unix socket with a path that somebody listens on, or may receive at: behind each is a program outside of the sandbox. The kernel's list
// is of this network namespace only, so sockets that were mounted into a container, and those that variables name, are asked for as well.
import { closeSync, openSync, readlinkSync, readSync } from 'node:fs';
import { isAbsolute, join } from 'node:path';
import { lookAt, namesIn, systemPath, type Machine } from './machine.ts';

export interface SocketSearch {
  /** Folders that a socket with a relative name may be in. */
  readonly near: readonly string[];
  /** Is this path, as it is written, of no interest? */
  readonly skip: (path: string) => boolean;
}

export interface Sockets {
  /** Real, each once. */
  readonly paths: readonly string[];
  readonly notes: readonly string[];
}

/** More than this is an attack, or a machine on which one more socket is not what matters. */
const MOST_BYTES = 4 * 1_048_576;
const MOST_SOCKETS = 4096;

export function liveSockets(machine: Machine, search: SocketSearch): Sockets {
  if (machine.platform !== 'linux') return { paths: variableSockets(machine), notes: [] };
  const table = readTable(systemPath(machine, '/proc/net/unix'));
  const names = socketNames(table.text);
  const absolute = names.filter((name) => isAbsolute(name) && !search.skip(name));
  const relative = names.filter((name) => !isAbsolute(name));
  const candidates = [
    ...variableSockets(machine),
    ...mountedSockets(machine),
    ...absolute.slice(0, MOST_SOCKETS),
    ...relative.slice(0, MOST_SOCKETS).flatMap((name) => relativePlaces(name, machine, search.near)),
  ];
  const isCut = table.isCut || absolute.length > MOST_SOCKETS || relative.length > MOST_SOCKETS;
  const paths = new Set(candidates.flatMap((path) => pathOfSocket(path) ?? []));
  return { paths: [...paths], notes: isCut ? ['this machine has too many Unix sockets: some of them are not hidden'] : [] };
}

/**
 * One entry a line: `address: references protocol flags type state inode[ path]`. A path is written as it is, with its spaces and even line
 * breaks, `@` in front of an abstract one. All that have a path count, not only those that listen (flag 0x10000): datagrams need no listener,
 * and who does not listen yet may do so later.
 */
export function socketNames(table: string): readonly string[] {
  const names = new Set<string>();
  for (const entry of table.split(/\n(?=[0-9a-fA-F]{8,16}: [0-9a-fA-F]{8} )/)) {
    const [, name] = ENTRY.exec(entry.replace(/\n$/, '')) ?? [];
    if (name !== undefined && name !== '' && !name.startsWith('@')) names.add(name);
  }
  return [...names];
}

const ENTRY = /^[0-9a-f]+: [0-9a-f]{8} [0-9a-f]{8} [0-9a-f]{8} [0-9a-f]{4} [0-9a-f]{2} +\d+ (.+)$/is;

/** Empty where there is none: not Linux, or it is kept from us. */
function readTable(path: string): { text: string; isCut: boolean } {
  let descriptor: number | undefined;
  try {
    descriptor = openSync(path, 'r');
    const chunks: Buffer[] = [];
    for (let length = 0; length <= MOST_BYTES;) {
      const chunk = Buffer.allocUnsafe(16_384);
      const read = readSync(descriptor, chunk, 0, chunk.length, null);
      if (read === 0) return { text: Buffer.concat(chunks).toString(), isCut: false };
      chunks.push(chunk.subarray(0, read));
      length += read;
    }
    return { text: Buffer.concat(chunks).toString(), isCut: true };
  } catch {
    return { text: '', isCut: false };
  } finally {
    if (descriptor !== undefined) closeSync(descriptor);
  }
}

/** It is relative to where its program was when it made it. Most are there still. */
function relativePlaces(name: string, machine: Machine, near: readonly string[]): string[] {
  return [...near, ...machine.homes, ...workingFolders(machine)].map((folder) => join(folder, name));
}

const known = new WeakMap<Machine, readonly string[]>();

function workingFolders(machine: Machine): readonly string[] {
  const before = known.get(machine);
  if (before !== undefined) return before;
  const proc = systemPath(machine, '/proc');
  const folders = new Set<string>();
  for (const pid of namesIn(proc).filter((name) => /^\d+$/.test(name))) {
    try {
      folders.add(readlinkSync(join(proc, pid, 'cwd')));
    } catch {
      // Another user's, or it has ended.
    }
  }
  known.set(machine, [...folders]);
  return [...folders];
}

/** `unix:path=/run/user/1000/bus`, `unix:///run/docker.sock`, `/tmp/tmux-0/default,123,0`, or just a path. */
function variableSockets({ env }: Machine): string[] {
  return Object.values(env).flatMap((value) => {
    if (value === undefined || (!value.startsWith('/') && !value.includes('unix:'))) return [];
    const pieces = value.split(/[;,]/).map((piece) => piece.replace(/^unix:(?:path=|\/\/)?/, ''));
    const paths = pieces.filter((piece) => piece.startsWith('/')).map(unescaped);
    return paths.filter((path) => lookAt(path)?.kind === 'socket');
  });
}

/** D-Bus writes unusual bytes as `%20`. */
function unescaped(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** By name, because looking at each mount could wait for a server that is gone. */
function mountedSockets(machine: Machine): string[] {
  const { text } = readTable(systemPath(machine, '/proc/self/mountinfo'));
  const points = text.split('\n').map((line) => line.split(' ')[4] ?? '');
  return points.filter((point) => /sock|agent|\bbus\b/i.test(point)).map((point) => point.replace(/\\(\d{3})/g, octal));
}

function octal(_match: string, digits: string): string {
  return String.fromCharCode(Number.parseInt(digits, 8));
}

function pathOfSocket(path: string): string | undefined {
  const found = lookAt(path);
  return found?.kind === 'socket' ? found.path : undefined;
}
