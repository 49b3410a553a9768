// A confinement while it is being made: one entry a path, and questions about what is around a path.
import { dirname } from 'node:path';
import type { Confinement, Hidden } from './confinement.ts';
import { isInside } from './machine.ts';

/** In the order of `Confinement`: about the same path, the later one wins. */
const LISTS = ['temporary', 'emptied', 'writable', 'guarded', 'hidden', 'readable', 'replaced'] as const;

export type List = (typeof LISTS)[number];

export interface Entry {
  readonly list: List;
  /** Of what is hidden. */
  readonly kind?: Hidden['kind'] | undefined;
  /** Of what is replaced. */
  readonly contents?: string | undefined;
}

export type Layout = Map<string, Entry>;

export function put(layout: Layout, path: string, entry: Entry): void {
  const before = layout.get(path);
  if (before !== undefined && LISTS.indexOf(before.list) > LISTS.indexOf(entry.list)) return;
  layout.set(path, entry);
}

/** What is true of a path: its own entry, or that of the nearest folder above it that has one. */
export function around(layout: Layout, path: string): List | undefined {
  return layout.get(path)?.list ?? above(layout, path);
}

export function above(layout: Layout, path: string): List | undefined {
  for (let folder = path; folder !== dirname(folder);) {
    folder = dirname(folder);
    const entry = layout.get(folder);
    if (entry !== undefined) return entry.list;
  }
  return undefined;
}

/** Is it not there for the program, or another one than outside? */
export function isGone(list: List | undefined): boolean {
  return list === 'hidden' || list === 'temporary' || list === 'emptied';
}

/**
 * Without what changes nothing. A writable folder in a writable one is worse than nothing: nothing could be renamed from one to the other.
 * What is hidden in an empty folder would give its name away.
 */
export function listsOf(layout: Layout): Pick<Confinement, Exclude<List, 'replaced'>> & Pick<Confinement, 'replaced'> {
  const kept = [...layout].filter(([path, { list }]) => !isRedundant(list, above(layout, path)));
  const paths = (wanted: List): string[] => kept.filter(([, { list }]) => list === wanted).map(([path]) => path);
  return {
    temporary: paths('temporary'),
    emptied: paths('emptied'),
    writable: paths('writable'),
    guarded: paths('guarded'),
    hidden: kept.flatMap(([path, { list, kind }]) => (list === 'hidden' ? [{ path, kind: kind ?? 'file' }] : [])),
    readable: paths('readable'),
    replaced: kept.flatMap(([path, { list, contents }]) => (list === 'replaced' ? [{ path, contents: contents ?? '' }] : [])),
  };
}

function isRedundant(list: List, outer: List | undefined): boolean {
  if (list === 'hidden' || list === 'emptied') return isGone(outer);
  if (list === 'guarded') return outer !== 'writable';
  return list === 'writable' && outer === 'writable';
}

export function isAnyInside(paths: Iterable<string>, folder: string): boolean {
  for (const path of paths) if (isInside(path, folder)) return true;
  return false;
}
