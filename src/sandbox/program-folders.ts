// Folders of programs below what the sandbox empties: NixOS has its system in /run, version managers have links there, tools shims in /tmp, and
// people try things out there.
import { delimiter, dirname, isAbsolute, resolve } from 'node:path';
import { above, isAnyInside, isGone, type Layout } from './layout.ts';
import { holdsEverything, isLink, lookAt, systemPath, words, type Machine } from './machine.ts';

const NIXOS = words('/run/current-system /run/booted-system /run/opengl-driver /run/opengl-driver-32 /run/wrappers');

/**
 * Those of PATH, as they are called. Where a link is on the way, the link: npm is beside the folder of node, and finds what it needs by
 * relative paths. Never one under which something hidden would be visible.
 */
export function programFolders(machine: Machine, layout: Layout): readonly string[] {
  const named = [...(machine.env.PATH ?? '').split(delimiter).filter(isAbsolute), ...NIXOS.map((path) => systemPath(machine, path))];
  const gone = named.map((path) => resolve(path)).filter((path) => isGone(above(layout, path)) && lookAt(path)?.kind === 'folder');
  return [...new Set(gone.flatMap((path) => [firstLink(path, layout), path].find((each) => isSafe(each, machine, layout)) ?? []))];
}

/**
 * What the command names: a program or a script that is typed by its path is to be found, with what is beside it. Where that would be a whole
 * temporary folder, the file alone.
 */
export function commandPlaces(command: readonly string[], directory: string, machine: Machine, layout: Layout): readonly string[] {
  const places = command.flatMap((word) => {
    const found = word.includes('/') ? lookAt(resolve(directory, word)) : undefined;
    if (found === undefined || found.kind === 'device' || !isGone(above(layout, found.path))) return [];
    const folder = found.kind === 'folder' ? found.path : dirname(found.path);
    return !layout.has(folder) && isSafe(folder, machine, layout) ? [folder] : [found.path];
  });
  return [...new Set(places)].filter((path) => !isHidden(path, layout) && !layout.has(path));
}

/** The path itself when there is none. */
function firstLink(path: string, layout: Layout): string {
  let first = path;
  for (let folder = path; isGone(above(layout, folder)); folder = dirname(folder)) if (isLink(folder)) first = folder;
  return first;
}

function isSafe(path: string, machine: Machine, layout: Layout): boolean {
  const target = lookAt(path);
  if (target?.kind !== 'folder' || holdsEverything(target.path, machine) !== undefined) return false;
  const elsewhere = target.path !== path;
  const hidden = [...layout].filter(([, { list }]) => isGone(list) || list === 'replaced').map(([each]) => each);
  if (isAnyInside(hidden, target.path)) return false;
  // Under another name than its own, nothing of what is above counts.
  return !elsewhere || !isHidden(target.path, layout);
}

function isHidden(path: string, layout: Layout): boolean {
  for (let folder = path; ; folder = dirname(folder)) {
    if (layout.get(folder)?.list === 'hidden') return true;
    if (folder === dirname(folder)) return false;
  }
}
