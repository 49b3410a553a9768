// What git needs to write for a project, and what of it makes git run programs: hooks, and settings that name commands. A program that could
// change those would be outside of the sandbox with the user's next `git status`.
import { readdirSync, readFileSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { isInside, lookAt } from './machine.ts';

export interface GitFolders {
  /** Outside of the project, for a worktree or a submodule: without them nothing can be committed. */
  readonly writable: readonly string[];
  /** Some may not be there. */
  readonly guarded: readonly string[];
  /** Hooks of repositories that have no folder for them: made empty, it can be guarded. */
  readonly missing: readonly string[];
}

const NONE: GitFolders = { writable: [], guarded: [], missing: [] };

export function gitFolders(project: string): GitFolders {
  const place = join(project, '.git');
  const found = lookAt(place);
  if (found?.kind === 'folder') return merged([found.path, ...modulesOf(found.path)].map((folder) => repository(folder, project)));
  if (found?.kind !== 'file') return NONE;
  const folder = linkedFolder(found.path);
  if (folder === undefined) return { ...NONE, guarded: [place] };
  const common = isWorktree(folder) ? dirname(dirname(folder)) : folder;
  const own = {
    writable: [common],
    guarded: [place, ...['commondir', 'gitdir', 'config.worktree'].map((name) => join(folder, name))],
    missing: [],
  };
  return merged([own, ...[common, ...modulesOf(common)].map((each) => repository(each, project))]);
}

function repository(folder: string, project: string): GitFolders {
  const hooks = join(folder, 'hooks');
  const others = ['config', 'config.worktree', 'commondir', 'info/attributes'].map((name) => join(folder, name));
  return { writable: [], guarded: [hooks, ...others, ...namedHooks(folder, project)], missing: lookAt(hooks) === undefined ? [hooks] : [] };
}

/** `core.hooksPath`. */
function namedHooks(folder: string, project: string): string[] {
  const [, path] = /^\s*hooksPath\s*=\s*"?([^"\n]+?)"?\s*$/im.exec(textOf(join(folder, 'config'))) ?? [];
  return path === undefined ? [] : [resolve(project, path)];
}

/**
 * Where a `.git` that is a file leads, when what is there agrees: a program that could write to the project before must not get a folder of
 * its choice. git itself writes the way back into each worktree and submodule.
 */
function linkedFolder(file: string): string | undefined {
  const [, named] = /^gitdir: *(.+?)\s*$/.exec(textOf(file)) ?? [];
  const folder = named === undefined ? undefined : lookAt(resolve(dirname(file), named));
  if (folder?.kind !== 'folder') return undefined;
  return (isWorktree(folder.path) ? leadsBack(folder.path, file) : isModuleAt(folder.path, dirname(file))) ? folder.path : undefined;
}

function isWorktree(folder: string): boolean {
  return basename(dirname(folder)) === 'worktrees';
}

function leadsBack(folder: string, file: string): boolean {
  const back = textOf(join(folder, 'gitdir')).trim();
  return back !== '' && lookAt(resolve(folder, back))?.path === file && isRepository(dirname(dirname(folder)));
}

function isModuleAt(folder: string, place: string): boolean {
  const [, worktree] = /^\s*worktree\s*=\s*"?([^"\n]+?)"?\s*$/im.exec(textOf(join(folder, 'config'))) ?? [];
  if (worktree === undefined || !folder.includes('/modules/') || !isRepository(folder)) return false;
  return lookAt(resolve(folder, worktree))?.path === place;
}

function isRepository(folder: string): boolean {
  return lookAt(join(folder, 'HEAD'))?.kind === 'file' && lookAt(join(folder, 'objects'))?.kind === 'folder';
}

/** Names of submodules may have slashes in them. */
const MODULE_DEPTH = 4;
const MOST_MODULES = 200;

function modulesOf(folder: string): string[] {
  const found: string[] = [];
  const search = (within: string, depth: number): void => {
    for (const name of foldersIn(within)) {
      if (found.length >= MOST_MODULES) return;
      const path = join(within, name);
      if (isRepository(path)) found.push(path, ...modulesOf(path));
      else if (depth > 1) search(path, depth - 1);
    }
  };
  search(join(folder, 'modules'), MODULE_DEPTH);
  return found.filter((path) => isInside(path, folder));
}

function foldersIn(folder: string): string[] {
  try {
    return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => (entry.isDirectory() ? [entry.name] : []));
  } catch {
    return [];
  }
}

function merged(all: readonly GitFolders[]): GitFolders {
  return {
    writable: all.flatMap(({ writable }) => writable),
    guarded: all.flatMap(({ guarded }) => guarded),
    missing: all.flatMap(({ missing }) => missing),
  };
}

function textOf(path: string): string {
  try {
    return lookAt(path)?.kind === 'file' ? readFileSync(path, 'utf8').slice(0, LONGEST) : '';
  } catch {
    return '';
  }
}

const LONGEST = 262_144;
