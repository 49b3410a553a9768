// What `read`, `write` and `hide` of [blind.sandbox] name, as real paths. A name that can mean nothing is an error; one that means nothing yet is
// told.
import { resolve } from 'node:path';
import { KzError } from '../core/errors.ts';
import type { SandboxSettings } from '../config/sandbox-settings.ts';
import { shortPath } from '../core/home-path.ts';
import { plantedLink } from './links.ts';
import { holdsEverything, isPseudo, lookAt, tooMuch, type Found, type Machine } from './machine.ts';

export interface AskedPaths {
  readonly read: readonly Found[];
  readonly write: readonly Found[];
  readonly hide: readonly Found[];
  readonly notes: readonly string[];
}

type Key = 'read' | 'write' | 'hide';

/**
 * The paths are absolute, as the config is once it is loaded. `open` is where the program may write, without what `write` names. Throws
 * `config-invalid`.
 */
export function askedPaths(settings: Pick<SandboxSettings, Key>, machine: Machine, open: readonly string[]): AskedPaths {
  const notes: string[] = [];
  const all = [...open, ...settings.write.flatMap((path) => lookAt(path)?.path ?? [])];
  const look = (key: Key): Found[] => settings[key].flatMap((path) => lookAtAsked(key, resolve(path), { machine, notes, open: all }) ?? []);
  const asked = { read: look('read'), write: look('write'), hide: look('hide') };
  const [both] = asked.hide.filter(({ path }) => [...asked.read, ...asked.write].some((each) => each.path === path));
  if (both !== undefined) {
    const name = shortPath(both.path, machine.env);
    throw invalid(`names ${name} in \`hide\` and in \`read\` or \`write\``, 'take it out of one of them');
  }
  for (const { path } of asked.write) {
    const why = tooMuch(path, machine);
    if (why !== undefined)
      notes.push(`\`write\` names ${shortPath(path, machine.env)}, which ${why}: what runs there later may be the program's`);
  }
  return { ...asked, notes };
}

interface Looking {
  readonly machine: Machine;
  readonly notes: string[];
  readonly open: readonly string[];
}

function lookAtAsked(key: Key, path: string, { machine, notes, open }: Looking): Found | undefined {
  const name = shortPath(path, machine.env);
  const found = lookAt(path);
  if (found === undefined) {
    notMissing(key, name, notes);
    return undefined;
  }
  const more = holdsEverything(found.path, machine);
  if (more === 'is the whole file system') {
    throw invalid(`names ${name} in \`${key}\`, which ${more}`, 'name folders in it; --sandbox off is for no sandbox at all');
  }
  if (isPseudo(found.path, machine)) {
    throw invalid(`names ${name} in \`${key}\`: the program has its own /proc and /dev, and cannot write to /sys`, 'take it out');
  }
  const link = plantedLink(path, open);
  if (link !== undefined) judgeLink({ key, name, real: shortPath(found.path, machine.env), link: shortPath(link, machine.env) }, notes);
  return found;
}

interface Linked {
  readonly key: Key;
  readonly name: string;
  readonly real: string;
  readonly link: string;
}

/** Hiding what a link leads to is never wrong, but it lasts only as long as the link. */
function judgeLink({ key, name, real, link }: Linked, notes: string[]): void {
  if (key === 'hide') {
    notes.push(`\`hide\` names ${name}, which leads to ${real} by ${link}: a link that the program can take away, so name ${real} itself`);
    return;
  }
  const way = name === link ? 'a link' : `by way of the link ${link},`;
  throw invalid(
    `names ${name} in \`${key}\`, ${way} that a program could have made`,
    `if it is yours, write ${JSON.stringify(real)} instead`,
  );
}

function notMissing(key: Key, name: string, notes: string[]): void {
  if (key === 'write') throw invalid(`names ${name} in \`write\`, which is not there`, `run \`mkdir -p ${quoted(name)}\``);
  const consequence = key === 'hide' ? 'if it is made later, the program can read it' : 'if it is hidden once it is there, it stays hidden';
  notes.push(`\`${key}\` names ${name}, which is not there: ${consequence}`);
}

/** `~` is for the shell to read. */
function quoted(path: string): string {
  return /^[\w@%+=:,./~-]+$/.test(path) ? path : `'${path.replaceAll("'", `'\\''`)}'`;
}

function invalid(problem: string, hint: string): KzError {
  return new KzError('config-invalid', `[blind.sandbox] ${problem}`, { hint });
}
