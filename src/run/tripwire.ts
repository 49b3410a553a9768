// What a sandboxed program could make and others would obey later, outside: a config of kz or of an editor, a hook. What is there is guarded;
// what is not there cannot be, so whoever runs the program hears of it afterwards. One file gets a stand-in instead, since kz itself would obey
// it at its next start.
import { lstatSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { basename } from 'node:path';
import { LOCAL_FILE } from '../config/find.ts';

export interface Traces {
  /** What is there now and was not. */
  readonly appeared: readonly string[];
  /** The same, and so dangerous that it is gone again. */
  readonly removed: readonly string[];
}

export class Tripwire {
  /** Made here: empty, which means the same as absent. To be guarded. */
  readonly standIns: readonly string[];
  readonly #watched: readonly string[];
  readonly #inodes: ReadonlyMap<string, number>;
  /** Stand-ins of other runs, who take them away when they end. */
  readonly #others: readonly string[];

  /** `absent` are the paths that would be guarded if they were there, `guarded` those that are. */
  constructor(absent: readonly string[], guarded: readonly string[]) {
    const local = absent.filter((path) => basename(path) === LOCAL_FILE);
    const made = local.filter(makeEmpty);
    // Another run was faster.
    const shared = local.filter((path) => !made.includes(path) && sizeOf(path) === 0);
    this.standIns = [...made, ...shared];
    this.#inodes = new Map(made.map((path) => [path, statSync(path).ino]));
    this.#watched = absent.filter((path) => !this.standIns.includes(path));
    this.#others = [...shared, ...guarded.filter((path) => basename(path) === LOCAL_FILE && sizeOf(path) === 0)];
  }

  /** Takes the stand-ins away and looks. Call it once, when the program has ended. */
  close(): Traces {
    const removed = this.#watched.filter((path) => basename(path) === 'commondir' && isThere(path) && remove(path));
    const changed = [...this.#inodes].filter(([path, inode]) => !removeOwn(path, inode)).map(([path]) => path);
    const there = [...this.#watched, ...changed, ...this.#others].filter(isThere);
    // Empty, it says nothing, and is another run's.
    return { appeared: there.filter((path) => basename(path) !== LOCAL_FILE || sizeOf(path) !== 0), removed };
  }
}

function makeEmpty(path: string): boolean {
  try {
    writeFileSync(path, '', { flag: 'wx', mode: 0o600 });
    return true;
  } catch {
    return false;
  }
}

/** Still the empty file that it was? A person may have written one meanwhile. */
function removeOwn(path: string, inode: number): boolean {
  try {
    const found = lstatSync(path);
    if (found.ino !== inode || found.size > 0) return false;
    rmSync(path);
    return true;
  } catch {
    return false;
  }
}

/** Git takes its settings from where this file leads, and they name programs to run. It is never in a repository's own folder otherwise. */
function remove(path: string): boolean {
  try {
    rmSync(path, { recursive: true });
    return true;
  } catch {
    return false;
  }
}

function sizeOf(path: string): number | undefined {
  return statSync(path, { throwIfNoEntry: false })?.size;
}

function isThere(path: string): boolean {
  try {
    lstatSync(path);
    return true;
  } catch {
    return false;
  }
}
