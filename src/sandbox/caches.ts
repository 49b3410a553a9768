// Where package managers keep what they have downloaded: `npx` and `uvx` do not work without. Folders of programs that are on a person's PATH
// (`~/.cargo/bin`, `~/go/bin`, pnpm's own) are not among them.
import { accessSync, constants, existsSync, readdirSync } from 'node:fs';
import { basename, delimiter, dirname, isAbsolute, join } from 'node:path';
import { plantedLink } from './links.ts';
import { isInside, isLink, lookAt, tooMuch, words, xdgFolder, type Machine } from './machine.ts';
import { GUARDED_AT_HOME } from './project.ts';

export interface Caches {
  /** Real folders, and files, that are there. */
  readonly found: readonly string[];
  /** Folders that are not there yet, below real ones. */
  readonly missing: readonly string[];
  /** Inside of `found`: versions of programs that are installed, which people run outside as well. New ones can be added. */
  readonly installed: readonly string[];
  /** Links that lead from what is writable to what would be a cache. */
  readonly refused: readonly string[];
}

/**
 * What a variable names is left out when it is more than a cache: a home, a folder of the system. `open` is what else the program may write to:
 * no link in there is followed, nor one in another cache.
 */
export function packageCaches(machine: Machine, open: readonly string[]): Caches {
  const isCache = cacheCheck(machine);
  const { found, refused } = withoutPlanted(cachePlaces(machine), open, isCache);
  const wanted = neededFolders(machine).flatMap((path) => missingFolder(path, machine, [...open, ...found]) ?? []);
  return {
    found,
    missing: wanted.filter(isCache),
    installed: programFolders(machine).flatMap((folder) => childrenOf(lookAt(folder)?.path)),
    refused,
  };
}

/** Short ones first: one cache may be in another, whose links do not count. Of the rest each is looked at again when all are known. */
function withoutPlanted(
  places: readonly string[],
  open: readonly string[],
  isCache: (path: string) => boolean,
): Pick<Caches, 'found' | 'refused'> {
  const found = new Map<string, string>();
  const refused = new Set<string>();
  const isRefused = (place: string): boolean => {
    const link = plantedLink(place, [...open, ...found.values()]);
    if (link !== undefined) refused.add(link);
    return link !== undefined;
  };
  for (const place of [...new Set(places)].sort((a, b) => a.length - b.length)) {
    const path = lookAt(place)?.path;
    if (path !== undefined && isCache(path) && !isRefused(place)) found.set(place, path);
  }
  for (const place of [...found.keys()]) if (isRefused(place)) found.delete(place);
  return { found: [...new Set(found.values())], refused: [...refused] };
}

/** `npx` and `uvx` do nothing without these, so where there is such a program, they are. */
function neededFolders(machine: Machine): readonly string[] {
  const npm = named(machine, 'npm_config_cache', [join(machine.home, '.npm')]);
  const uv = [...named(machine, 'UV_CACHE_DIR', [inCache(machine, 'uv')]), ...uvFolders(machine)];
  return [...(isOnPath(machine, 'npx') ? npm : []), ...(isOnPath(machine, 'uvx') ? uv : [])];
}

function isOnPath({ env }: Machine, program: string): boolean {
  const folders = (env.PATH ?? '').split(delimiter).filter((folder) => isAbsolute(folder));
  return folders.some((folder) => existsSync(`${folder}/${program}`));
}

/** Not what holds, or is part of, that which decides what a person's shell or desktop runs: `PIP_CACHE_DIR=~/.config`. */
function cacheCheck(machine: Machine): (path: string) => boolean {
  const startup = machine.homes.flatMap((home) => GUARDED_AT_HOME.map((name) => `${home}/${name}`));
  return (path) => tooMuch(path, machine) === undefined && !startup.some((each) => isInside(each, path) || isInside(path, each));
}

function cachePlaces(machine: Machine): string[] {
  const { home } = machine;
  const usual = [...IN_CACHE.map((name) => inCache(machine, name)), ...IN_DATA.map((name) => `${xdgFolder(machine, 'DATA')}/${name}`)];
  const moved = NAMED_BY.flatMap((name) => named(machine, name, []));
  const within = Object.entries(WITHIN).flatMap(([name, [folder, ...inner]]) =>
    named(machine, name, [join(home, folder)]).flatMap((base) => inner.map((path) => `${base}/${path}`)),
  );
  const goPath = (machine.env.GOPATH ?? '').split(delimiter).find((path) => isAbsolute(path)) ?? join(home, 'go');
  return [...usual, ...IN_HOME.map((path) => `${home}/${path}`), ...moved, ...within, join(goPath, 'pkg'), ...programFolders(machine)];
}

const IN_HOME = words(`
  .npm .yarn/berry .pnpm-store .node-gyp .m2/repository .m2/wrapper .nuget/packages .composer/cache .bundle/cache
  .cargo/.package-cache .cargo/.package-cache-mutate .cargo/.global-cache
`);
const IN_CACHE = words(`
  yarn pnpm deno node/corepack node-gyp uv pip pypoetry pipx go-build composer gem huggingface
`);
const IN_DATA = words('pnpm/store NuGet/http-cache pipx/.cache');

const NAMED_BY = words(`
  npm_config_cache NPM_CONFIG_CACHE npm_config_store_dir npm_config_devdir YARN_CACHE_FOLDER DENO_DIR COREPACK_HOME BUN_INSTALL_CACHE_DIR
  UV_CACHE_DIR PIP_CACHE_DIR POETRY_CACHE_DIR GOMODCACHE GOCACHE NUGET_PACKAGES COMPOSER_CACHE_DIR HF_HOME HF_HUB_CACHE
`);

/** Variable → the folder below HOME that it is without it, and what of it is a cache. */
const WITHIN: Readonly<Record<string, readonly [string, ...string[]]>> = {
  CARGO_HOME: ['.cargo', 'registry', 'git', '.package-cache', '.package-cache-mutate', '.global-cache'],
  GRADLE_USER_HOME: ['.gradle', 'caches', 'daemon', 'native', 'wrapper', 'workers', 'notifications'],
  BUN_INSTALL: ['.bun', 'install/cache'],
  YARN_GLOBAL_FOLDER: ['.yarn/berry', 'cache', 'metadata'],
  PNPM_HOME: ['.local/share/pnpm', 'store'],
  COMPOSER_HOME: ['.composer', 'cache'],
};

/** Each child of these is one version of a program. */
function programFolders(machine: Machine): string[] {
  const folders = [
    ...uvFolders(machine),
    ...named(machine, 'PLAYWRIGHT_BROWSERS_PATH', [inCache(machine, 'ms-playwright')]),
    ...named(machine, 'PUPPETEER_CACHE_DIR', [inCache(machine, 'puppeteer')]),
    join(machine.home, '.gradle/wrapper/dists'),
  ];
  return folders;
}

function uvFolders(machine: Machine): string[] {
  const data = join(xdgFolder(machine, 'DATA'), 'uv');
  const tools = named(machine, 'UV_TOOL_DIR', [join(data, 'tools')]);
  return [...tools, ...named(machine, 'UV_PYTHON_INSTALL_DIR', [join(data, 'python')])];
}

function childrenOf(folder: string | undefined): string[] {
  if (folder === undefined) return [];
  try {
    const entries = readdirSync(folder, { withFileTypes: true });
    return entries.filter((entry) => entry.isDirectory() && !entry.name.startsWith('.')).map(({ name }) => join(folder, name));
  } catch {
    return [];
  }
}

function inCache(machine: Machine, name: string): string {
  const usual = machine.platform === 'darwin' && machine.env.XDG_CACHE_HOME === undefined;
  return join(usual ? join(machine.home, 'Library/Caches') : xdgFolder(machine, 'CACHE'), name);
}

/** npm writes its variables in lower case, and reads them in any. */
function named({ env }: Machine, name: string, otherwise: readonly string[]): readonly string[] {
  const value = env[name] ?? env[name.toUpperCase()];
  if (value === undefined || value === '') return otherwise;
  return isAbsolute(value) ? [value] : [];
}

/** Below a home folder that kz can write to. */
function missingFolder(path: string, machine: Machine, open: readonly string[]): string | undefined {
  if (lookAt(path) !== undefined || isLink(path)) return undefined;
  let rest = '';
  let folder = path;
  for (; lookAt(folder) === undefined; folder = dirname(folder)) rest = join(basename(folder), rest);
  const found = lookAt(folder);
  if (found?.kind !== 'folder' || !isWritable(found.path) || plantedLink(folder, open) !== undefined) return undefined;
  const target = join(found.path, rest).replace(/\/$/, '');
  return machine.homes.some((home) => target.startsWith(`${home}/`)) ? target : undefined;
}

function isWritable(folder: string): boolean {
  try {
    accessSync(folder, constants.W_OK);
    return true;
  } catch {
    return false;
  }
}
