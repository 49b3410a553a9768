// What mounting does, and what a confinement means, in a few words each: two independent ways to the same answer for every path.
import { dirname, join } from 'node:path';
import type { InnerOptions } from '../../src/sandbox/bubblewrap.ts';
import type { Confinement } from '../../src/sandbox/confinement.ts';

export const NOTHING: Confinement = {
  directory: '/work',
  temporary: [],
  emptied: [],
  writable: [],
  guarded: [],
  hidden: [],
  readable: [],
  replaced: [],
  temporaryBytes: 1000,
};

export const OPTIONS: InnerOptions = {
  uid: 1000,
  gid: 100,
  environment: {},
  emptyFile: '/run-folder/empty',
  replacements: new Map(),
  features: { disableUserns: true, size: true },
  alone: false,
};

/** Only what mounts. */
const MOUNTS: Readonly<Record<string, number>> = {
  '--ro-bind': 2,
  '--ro-bind-try': 2,
  '--bind': 2,
  '--tmpfs': 1,
  '--remount-ro': 1,
  '--dev': 1,
  '--proc': 1,
};

export interface Operation {
  readonly option: string;
  /** Of a bind. */
  readonly source: string;
  readonly path: string;
}

const COUNTS: Readonly<Record<string, number>> = {
  ...MOUNTS,
  ...{ '--size': 1, '--uid': 1, '--gid': 1, '--cap-drop': 1, '--chdir': 1, '--setenv': 2 },
  ...{ '--unshare-user': 0, '--unshare-pid': 0, '--unshare-ipc': 0, '--unshare-uts': 0, '--unshare-net': 0 },
  ...{ '--disable-userns': 0, '--die-with-parent': 0 },
};

/** Reads the words one by one, and fails where one is not an option that is known: a value at the place of an option, for instance. */
export function operations(all: readonly string[]): Operation[] {
  const found: Operation[] = [];
  for (let index = 0; index < all.length;) {
    const option = all[index] ?? '';
    const count = COUNTS[option];
    if (count === undefined) throw new Error(`${JSON.stringify(option)} is no option`);
    const values = all.slice(index + 1, index + 1 + count);
    if (option in MOUNTS) found.push({ option, source: values[0] ?? '', path: values.at(-1) ?? '' });
    index += 1 + count;
  }
  return found;
}

export type Meaning = 'read' | 'write' | 'gone' | 'gone, write' | 'replaced';

/** What the mounts make of a path: the last one at or above it is what is seen there. */
export function mounted(path: string, all: readonly Operation[]): Meaning {
  let seen: { operation: Operation; isReadOnly: boolean } | undefined;
  for (const operation of all) {
    if (operation.option === '--remount-ro') {
      if (seen?.operation.path === operation.path) seen.isReadOnly = true;
    } else if (isAt(path, operation.path)) seen = { operation, isReadOnly: operation.option.startsWith('--ro-bind') };
  }
  if (seen === undefined) throw new Error('there is not even a root');
  const { operation, isReadOnly } = seen;
  if (operation.option === '--tmpfs') return isReadOnly ? 'gone' : 'gone, write';
  if (operation.source === OPTIONS.emptyFile) return 'gone';
  if (operation.source !== operation.path) return 'replaced';
  return isReadOnly ? 'read' : 'write';
}

function isAt(path: string, folder: string): boolean {
  return folder === '/' || path === folder || path.startsWith(`${folder}/`);
}

/** What the confinement says of a path, by its own words: the longer path wins, and of the same path the later list. */
export function meant(path: string, { temporary, emptied, writable, guarded, hidden, readable, replaced }: Confinement): Meaning {
  const lists: readonly (readonly [Meaning, readonly string[]])[] = [
    ['gone, write', temporary],
    ['gone', emptied],
    ['write', writable],
    ['read', guarded],
    ['gone', hidden.map((each) => each.path)],
    ['read', readable],
    ['replaced', replaced.map((each) => each.path)],
  ];
  const found = lists.flatMap(([meaning, paths], rank) =>
    paths.filter((each) => isAt(path, each)).map((each) => ({ meaning, rank, each })),
  );
  const [best] = found.sort((a, b) => b.each.length - a.each.length || b.rank - a.rank);
  return best?.meaning ?? 'read';
}

/** The same numbers each time: a failure can be repeated by its seed. */
function randomOf(seed: number): (below: number) => number {
  let state = (seed * 2_654_435_761) >>> 0;
  return (below) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) % below;
  };
}

const LISTS = ['temporary', 'emptied', 'writable', 'guarded', 'hidden', 'readable', 'replaced'] as const;

/** Folders a, b, c in each other, three deep, and a file `f` in each: some of them in some of the lists. */
export function treeAt(root: string): { folders: string[]; files: string[] } {
  const names = ['a', 'b', 'c'];
  const first = names.map((name) => join(root, name));
  const second = first.flatMap((folder) => names.map((name) => join(folder, name)));
  const third = second.flatMap((folder) => names.map((name) => join(folder, name)));
  const folders = [...first, ...second, ...third];
  return { folders, files: folders.map((folder) => join(folder, 'f')) };
}

/**
 * As surroundings.ts makes them: what is guarded is in something writable, and nothing else is nearer. Files are replaced, hidden, writable,
 * guarded or readable; folders are not replaced. `isDeep`: what is hidden may be in something read-only that is in something writable.
 */
export function randomConfinement(seed: number, root: string, isDeep = false): Confinement {
  const random = randomOf(seed);
  const { folders, files } = treeAt(root);
  const lists: Lists = { temporary: [], emptied: [], writable: [], guarded: [], hidden: [], readable: [], replaced: [] };
  const isFolder = new Set(folders);
  const chosen = [...folders, ...files].filter(() => random(4) === 0).sort((a, b) => a.length - b.length);
  for (const path of chosen) {
    const possible = isFolder.has(path) ? LISTS.slice(0, 6) : LISTS.slice(2);
    const list = possible[random(possible.length)] ?? 'writable';
    if (!isUsual(path, list, lists) && (!isDeep || list === 'guarded')) continue;
    lists[list].push(path);
    // Some are in two lists.
    if ((list === 'hidden' || list === 'readable') && random(4) === 0) lists.writable.push(path);
  }
  return {
    ...{ ...NOTHING, ...lists, directory: root },
    hidden: lists.hidden.map((path) => ({ path, kind: isFolder.has(path) ? 'folder' : 'file' })),
    replaced: lists.replaced.map((path) => ({ path, contents: 'replaced' })),
  };
}

type List = (typeof LISTS)[number];
type Lists = Record<List, string[]>;

function isUsual(path: string, list: List, lists: Lists): boolean {
  if (nearest(dirname(path), lists) === 'writable') return true;
  return list !== 'guarded' && ((list !== 'hidden' && list !== 'replaced') || !isBelowAny(path, lists.writable));
}

function isBelowAny(path: string, folders: readonly string[]): boolean {
  return folders.some((folder) => path !== folder && isAt(path, folder));
}

function nearest(path: string, lists: Readonly<Record<string, readonly string[]>>): string | undefined {
  const found = Object.entries(lists).flatMap(([list, paths], rank) =>
    paths.filter((each) => isAt(path, each)).map((each) => ({ list, rank, each })),
  );
  return found.sort((a, b) => b.each.length - a.each.length || b.rank - a.rank)[0]?.list;
}
