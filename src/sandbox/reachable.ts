// What the root of a user namespace can get at: without its capabilities it is a user like any other, and everything in another user's private
// folders is out of its reach. So it is for the program, which needs no mask there, and nobody could put one.
import { statSync, type Stats } from 'node:fs';
import { dirname } from 'node:path';
import type { Confinement } from './confinement.ts';

/** Without what is below a folder that root may not enter. Everybody else has the confinement as it is: what they cannot enter they did not find. */
export function reachable(confinement: Confinement, uid = process.getuid?.(), look: (path: string) => Stats = statSync): Confinement {
  if (uid !== 0) return confinement;
  const known = new Map<string, boolean>();
  const mayEnter = (folder: string): boolean => {
    const before = known.get(folder);
    if (before !== undefined) return before;
    const parent = dirname(folder);
    const may = (parent === folder || mayEnter(parent)) && isOpenToRoot(folder, look);
    known.set(folder, may);
    return may;
  };
  const paths = (list: readonly string[]): string[] => list.filter((path) => mayEnter(dirname(path)));
  const entries = <T extends { readonly path: string }>(list: readonly T[]): T[] => list.filter(({ path }) => mayEnter(dirname(path)));
  const { temporary, emptied, writable, guarded, hidden, readable, replaced } = confinement;
  return {
    ...confinement,
    ...{ temporary: paths(temporary), emptied: paths(emptied), writable: paths(writable), guarded: paths(guarded) },
    ...{ hidden: entries(hidden), readable: paths(readable), replaced: entries(replaced) },
  };
}

function isOpenToRoot(folder: string, look: (path: string) => Stats): boolean {
  try {
    const { uid, gid, mode } = look(folder);
    return uid === 0 || (mode & 0o001) !== 0 || (gid === 0 && (mode & 0o010) !== 0);
  } catch {
    return true;
  }
}
