// What a sandboxed program could make and others would obey later, outside: a config of kz or of an editor, a hook. What is there is guarded;
// what is not there cannot be, so whoever runs the program hears of it afterwards. Two files get a stand-in instead, which says what nothing
// says and can be guarded: those that kz and git would obey at their next start.
import { lstatSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { basename, dirname } from 'node:path';
import { LOCAL_FILE } from '../config/find.ts';

/** What an empty one would say: to git, that a repository's folder is its own. */
const STAND_INS: readonly (readonly [ending: string, text: string])[] = [
  [`/${LOCAL_FILE}`, ''],
  ['/.git/commondir', '.\n'],
];

export class Tripwire {
  /** To be guarded. */
  readonly standIns: readonly string[];
  /** Those and the ones that were there already, of other runs or of one that was killed. */
  readonly #all: readonly string[];
  readonly #watched: readonly string[];

  /** `absent` are the paths that would be guarded if they were there, `guarded` those that are. */
  constructor(absent: readonly string[], guarded: readonly string[]) {
    // A faster run may have made it.
    this.standIns = absent.filter((path) => textOf(path) !== undefined && (make(path) || isStandIn(path)));
    this.#all = [...this.standIns, ...guarded.filter(isStandIn)];
    this.#watched = absent.filter((path) => !this.standIns.includes(path));
  }

  /**
   * Takes the stand-ins away, but for those in folders that others need, and says what is there now and was not. Call it once, when the program
   * has ended.
   */
  close(others: ReadonlySet<string>): readonly string[] {
    for (const path of this.#all) if (!others.has(projectOf(path)) && isStandIn(path)) remove(path);
    return [...this.#watched, ...this.#all].filter((path) => isThere(path) && !isStandIn(path));
  }
}

/** The folder that a stand-in is for. */
function projectOf(path: string): string {
  const folder = dirname(path);
  return basename(folder) === '.git' ? dirname(folder) : folder;
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

/** A program may take the right to do so away; what there is to say has to be said all the same. */
function remove(path: string): void {
  try {
    rmSync(path, { force: true });
  } catch {
    // It stays, and says nothing.
  }
}

function isStandIn(path: string): boolean {
  const text = textOf(path);
  if (text === undefined) return false;
  try {
    const { size, mode } = lstatSync(path);
    // What a person makes can be read by others, as a rule.
    return (mode & 0o777) === 0o600 && size === text.length && readFileSync(path, 'latin1') === text;
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
