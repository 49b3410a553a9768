// What a sandboxed program could make and others would obey later, outside: a config of kz or of an editor, a hook. What is there is guarded;
// what is not there cannot be, so whoever runs the program hears of it afterwards. Two files get a stand-in instead, which says what nothing
// says and can be guarded: those that kz and git would obey at their next start.
import { lstatSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { LOCAL_FILE } from '../config/find.ts';

/** What an empty one would say: to git, that a repository's folder is its own. */
const STAND_INS: readonly (readonly [ending: string, text: string])[] = [
  [`/${LOCAL_FILE}`, ''],
  ['/.git/commondir', '.\n'],
];

export class Tripwire {
  /** To be guarded. */
  readonly standIns: readonly string[];
  /** Made here → inode. */
  readonly #own: ReadonlyMap<string, number>;
  /** Stand-ins of other runs, who take them away when they end. */
  readonly #others: readonly string[];
  readonly #watched: readonly string[];

  /** `absent` are the paths that would be guarded if they were there, `guarded` those that are. */
  constructor(absent: readonly string[], guarded: readonly string[]) {
    const wanted = absent.filter((path) => textOf(path) !== undefined);
    const made = wanted.filter(make);
    // Another run was faster.
    const shared = wanted.filter((path) => !made.includes(path) && isStandIn(path));
    this.standIns = [...made, ...shared];
    this.#own = new Map(made.map((path) => [path, statSync(path).ino]));
    this.#others = [...shared, ...guarded.filter(isStandIn)];
    this.#watched = absent.filter((path) => !this.standIns.includes(path));
  }

  /** Takes the stand-ins away, and says what is there now and was not. Call it once, when the program has ended. */
  close(): readonly string[] {
    const changed = [...this.#own].filter(([path, inode]) => !removeOwn(path, inode)).map(([path]) => path);
    return [...this.#watched, ...changed, ...this.#others].filter((path) => isThere(path) && !isStandIn(path));
  }
}

function textOf(path: string): string | undefined {
  return STAND_INS.find(([ending]) => path.endsWith(ending))?.[1];
}

function make(path: string): boolean {
  try {
    writeFileSync(path, textOf(path) ?? '', { flag: 'wx', mode: 0o600 });
    return true;
  } catch {
    return false;
  }
}

function isStandIn(path: string): boolean {
  const text = textOf(path);
  if (text === undefined) return false;
  try {
    return statSync(path).size === text.length && readFileSync(path, 'latin1') === text;
  } catch {
    return false;
  }
}

/** Still what it was? A person may have written one meanwhile. */
function removeOwn(path: string, inode: number): boolean {
  try {
    if (lstatSync(path).ino !== inode || !isStandIn(path)) return false;
    rmSync(path);
    return true;
  } catch {
    return false;
  }
}

function isThere(path: string): boolean {
  try {
    lstatSync(path);
    return true;
  } catch {
    return false;
  }
}
