// Tells when a path may lead to other content: the `..data` swap of Kubernetes, a rename over it, a rewrite in place, a file that goes and
// comes back. Looks at what files are (where the links lead, inode, times, size), never into them. Events make it quick; a slow poll finds
// what has no events: bind mounts of single files, network file systems, and a watch that the system refused.
import { watch, type BigIntStats, type FSWatcher } from 'node:fs';
import { readlink, stat } from 'node:fs/promises';
import { basename, dirname, join, parse, sep } from 'node:path';
import { systemCode } from '../core/errors.ts';
import { currentVersion, visibleNames } from './guarded-file.ts';
import { wide } from './wide.ts';

export interface Watched {
  readonly path: string;
  /** What `identify` said before the content was read. Undefined: what it is when the watch begins. */
  readonly known: string | undefined;
  readonly changed: () => void;
}

/** More files than this are no folder of secrets. */
export const MAX_FILES = 1000;

/** The same text as long as path and content stay the same. Never fails: that nothing can be read there is an answer too. */
export async function identify(path: string): Promise<string> {
  return (await survey(path)).identity;
}

/** Until the signal aborts. Never throws, never keeps the process alive. */
export function watchPaths(watched: readonly Watched[], pollMs: number, signal: AbortSignal): void {
  if (!signal.aborted && watched.length > 0) new Watch(watched, signal).begin(pollMs);
}

/** Of a folder the entry with this name, or any. */
interface Place {
  readonly folder: string;
  readonly name?: string;
}

interface Survey {
  readonly identity: string;
  /** Where an event would say that the identity may be another one. */
  readonly places: readonly Place[];
}

interface Target {
  readonly watched: Watched;
  known: string | undefined;
  places: readonly Place[];
}

interface WatchedFolder {
  readonly watcher: FSWatcher;
  readonly identity: string;
  /** In the order of `Watch.#clock`. */
  readonly openedAt: number;
}

/** One replacement is several events. Those that come while it is being looked at are not lost: it is looked at again. */
const DEBOUNCE_MS = 50;

/** What is exchanged again and again while it is being looked at is told anyway. */
const MAX_TURNS = 5;

class Watch {
  readonly #targets: readonly Target[];
  readonly #signal: AbortSignal;
  readonly #folders = new Map<string, WatchedFolder>();
  readonly #waiting = new Map<Target, NodeJS.Timeout>();
  readonly #looking = new Set<Target>();
  readonly #again = new Set<Target>();
  #clock = 0;

  constructor(watched: readonly Watched[], signal: AbortSignal) {
    this.#targets = watched.map((each) => ({ watched: each, known: each.known, places: [] }));
    this.#signal = signal;
  }

  begin(pollMs: number): void {
    const poll = setInterval(() => {
      for (const target of this.#targets) this.#soon(target);
    }, pollMs).unref();
    const end = (): void => {
      clearInterval(poll);
      for (const timer of this.#waiting.values()) clearTimeout(timer);
      for (const folder of this.#folders.keys()) this.#close(folder);
    };
    this.#signal.addEventListener('abort', end, { once: true });
    for (const target of this.#targets) void this.#look(target);
  }

  #soon(target: Target): void {
    if (this.#looking.has(target)) this.#again.add(target);
    else if (!this.#waiting.has(target)) this.#waiting.set(target, setTimeout(() => void this.#look(target), DEBOUNCE_MS).unref());
  }

  async #look(target: Target): Promise<void> {
    this.#waiting.delete(target);
    this.#looking.add(target);
    const identity = await this.#surveyWatched(target);
    this.#looking.delete(target);
    if (this.#signal.aborted) return;
    if (this.#again.delete(target)) this.#soon(target);
    const before = target.known ?? identity;
    target.known = identity;
    if (identity !== before) target.watched.changed();
  }

  /** What it is while every folder on the way is watched: a change after this look has its event. */
  async #surveyWatched(target: Target): Promise<string> {
    for (let turn = 1; ; turn++) {
      const start = this.#clock;
      const { identity, places } = await survey(target.watched.path);
      target.places = places;
      await this.#watchFolders(places);
      const folders = places.map(({ folder }) => this.#folders.get(folder));
      const isWatched = folders.every((folder) => folder === undefined || folder.openedAt <= start);
      if (isWatched || turn === MAX_TURNS || this.#signal.aborted) return identity;
    }
  }

  async #watchFolders(places: readonly Place[]): Promise<void> {
    const needed = new Set(places.map(({ folder }) => folder));
    await Promise.all([...needed].map((folder) => this.#watchFolder(folder)));
    for (const target of this.#targets) for (const { folder } of target.places) needed.add(folder);
    for (const folder of this.#folders.keys()) if (!needed.has(folder)) this.#close(folder);
  }

  /** A folder that was exchanged for another one of the same name is watched anew. */
  async #watchFolder(folder: string): Promise<void> {
    const identity = await stat(folder, { bigint: true }).then(identityOfFolder, () => undefined);
    if (this.#folders.get(folder)?.identity === identity && identity !== undefined) return;
    this.#close(folder);
    if (this.#signal.aborted || identity === undefined) return;
    try {
      const watcher = watch(folder, { persistent: false }, (_event, name) => {
        this.#onEvent(folder, name);
      });
      watcher.on('error', () => {
        this.#close(folder);
      });
      this.#folders.set(folder, { watcher, identity, openedAt: ++this.#clock });
    } catch {
      // The system has no more watches to give, or this file system none at all: the poll goes on.
    }
  }

  #onEvent(folder: string, name: string | null): void {
    // With the folder's own name: it is gone, and its watch with it, though another folder may have its place and its inode.
    const isAboutItself = name === null || name === basename(folder);
    if (isAboutItself) this.#close(folder);
    const isAt = (place: Place): boolean => place.folder === folder && (isAboutItself || (place.name ?? name) === name);
    for (const target of this.#targets) if (target.places.some(isAt)) this.#soon(target);
  }

  #close(folder: string): void {
    this.#folders.get(folder)?.watcher.close();
    this.#folders.delete(folder);
  }
}

/** Inodes are used again; the birth of a folder is its own. */
function identityOfFolder({ dev, ino, birthtimeNs }: BigIntStats): string {
  return [dev, ino, birthtimeNs].join(' ');
}

async function survey(path: string): Promise<Survey> {
  const places: Place[] = [];
  const { root } = parse(path);
  const end = await follow(root, path.slice(root.length).split(sep), places);
  if ('problem' in end) return { identity: end.problem, places };
  return { identity: end.stats.isDirectory() ? await surveyFolder(end.path, places) : identityOf(end), places };
}

type End = { readonly path: string; readonly stats: BigIntStats } | { readonly problem: string };

/** As Linux does. */
const MAX_LINKS = 40;

/** Step by step, as the system resolves a path, because at each link the way can change. `from` has no links in it. */
async function follow(from: string, steps: readonly string[], places: Place[]): Promise<End> {
  const ahead = [...steps];
  let path = from;
  let links = 0;
  for (let step = ahead.shift(); step !== undefined; step = ahead.shift()) {
    if (step === '..') path = dirname(path);
    if (step === '' || step === '.' || step === '..') continue;
    const next = join(path, step);
    const link = await readLink(next);
    if (link === undefined) {
      path = next;
      continue;
    }
    if (typeof link === 'object') {
      const isNoFolder = link.problem === 'ENOTDIR';
      places.push(isNoFolder ? { folder: dirname(path), name: basename(path) } : { folder: path, name: step });
      return link;
    }
    places.push({ folder: path, name: step });
    if (++links > MAX_LINKS) return { problem: 'ELOOP' };
    const { root } = parse(link);
    if (root !== '') path = root;
    ahead.unshift(...link.slice(root.length).split(sep));
  }
  return finish(path, places);
}

/** Undefined for what is there and no link. */
async function readLink(path: string): Promise<string | { readonly problem: string } | undefined> {
  try {
    return await readlink(path);
  } catch (error) {
    const code = systemCode(error) ?? '';
    return ['ENOENT', 'ENOTDIR', 'EACCES', 'ELOOP'].includes(code) ? { problem: code } : undefined;
  }
}

async function finish(path: string, places: Place[]): Promise<End> {
  places.push({ folder: dirname(path), name: basename(path) });
  try {
    return { path, stats: await stat(path, { bigint: true }) };
  } catch (error) {
    return { problem: systemCode(error) ?? 'unknown' };
  }
}

function identityOf({ path, stats }: { readonly path: string; readonly stats: BigIntStats }): string {
  return JSON.stringify([path, stats.dev, stats.ino, stats.mtimeNs, stats.ctimeNs, stats.size].map(String));
}

/** Of its files: what is in subfolders belongs to nobody. */
async function surveyFolder(folder: string, places: Place[]): Promise<string> {
  places.push({ folder });
  try {
    const version = await currentVersion(folder);
    if (version !== folder) places.push({ folder: version });
    const names = (await visibleNames(version)).slice(0, MAX_FILES + 1);
    const files = await wide(names, async (name) => {
      const end = await follow(version, [name], places);
      if ('problem' in end) return [name, end.problem];
      return end.stats.isFile() ? [name, identityOf(end)] : [];
    });
    return JSON.stringify([version, ...files.flat()]);
  } catch (error) {
    return systemCode(error) ?? 'unknown';
  }
}
