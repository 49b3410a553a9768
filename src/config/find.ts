// Which files make up the configuration, and why, and which of them somebody else could have planted.
import { lstatSync, statSync, type Stats } from 'node:fs';
import { homedir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { KzError, systemCode } from '../core/errors.ts';

export const PROJECT_FILE = '.keyzero.toml';
export const LOCAL_FILE = '.keyzero.local.toml';

export type Layer = 'user' | 'project' | 'local';

export interface FoundFile {
  readonly path: string;
  readonly layer: Layer;
  /** How it was found, for people: `--config`, `KEYZERO_CONFIG`, `walking up from /home/me/app`. */
  readonly how: string;
  /** Nobody named it: `refusePlanted` has a say before it is read. */
  readonly walkedTo: boolean;
}

export interface FindOptions {
  /** `--config`. */
  readonly explicit?: string | undefined;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly cwd: string;
}

export interface FindResult {
  /** In order of precedence, weakest first. */
  readonly files: readonly FoundFile[];
  /** Every place looked at, for the error that says nothing was there. */
  readonly searched: readonly string[];
}

/** `$XDG_CONFIG_HOME/keyzero`, or `~/.config/keyzero`. */
export function userDirectory(env: Readonly<Record<string, string | undefined>>): string {
  const base = env.XDG_CONFIG_HOME;
  // The XDG specification: a relative path is invalid and is to be ignored.
  if (base?.startsWith('/') === true) return join(base, 'keyzero');
  return join(env.HOME !== undefined && env.HOME !== '' ? env.HOME : homedir(), '.config', 'keyzero');
}

/**
 * `--config` > `KEYZERO_CONFIG` > `CLAUDE_PROJECT_DIR` > the working directory; the last two walk up to the root.
 * Throws `config-not-found` when a file that was named does not exist.
 */
export function findConfig(options: FindOptions): FindResult {
  const searched: string[] = [];
  const user = join(userDirectory(options.env), 'config.toml');
  const project = findProject(options, searched);
  searched.push(user);
  const files: FoundFile[] = [];
  if (isFile(user)) files.push({ path: user, layer: 'user', how: 'user configuration', walkedTo: false });
  if (project !== undefined) {
    files.push(project);
    const local = join(dirname(project.path), LOCAL_FILE);
    if (project.path.endsWith(`/${PROJECT_FILE}`) && isFile(local))
      files.push({ path: local, layer: 'local', how: `beside ${project.path}`, walkedTo: project.walkedTo });
  }
  return { files, searched };
}

function findProject(options: FindOptions, searched: string[]): FoundFile | undefined {
  const named = options.explicit ?? (options.env.KEYZERO_CONFIG === '' ? undefined : options.env.KEYZERO_CONFIG);
  if (named !== undefined) return namedFile(named, options.explicit === undefined ? 'KEYZERO_CONFIG' : '--config', options.cwd);
  const start = options.env.CLAUDE_PROJECT_DIR;
  const places = !start?.startsWith('/') ? [options.cwd] : [start, options.cwd];
  for (const place of places) {
    const found = walkUp(place, searched);
    if (found === undefined) continue;
    return { path: found, layer: 'project', how: `walking up from ${place}`, walkedTo: true };
  }
  return undefined;
}

function namedFile(named: string, how: string, cwd: string): FoundFile {
  const path = resolve(cwd, named);
  if (isFile(path)) return { path, layer: 'project', how, walkedTo: false };
  const inside = join(path, PROJECT_FILE);
  if (isFile(inside)) return { path: inside, layer: 'project', how, walkedTo: false };
  throw new KzError('config-not-found', `${how} names ${path}, which is not there`, {
    hint: 'check the path, or run `kz init` to write one',
  });
}

function walkUp(start: string, searched: string[]): string | undefined {
  for (let folder = resolve(start); ; folder = dirname(folder)) {
    const path = join(folder, PROJECT_FILE);
    if (!searched.includes(path)) searched.push(path);
    if (isFile(path)) return path;
    if (folder === dirname(folder)) return undefined;
  }
}

function isFile(path: string): boolean {
  try {
    return statSync(path).isFile();
  } catch (error) {
    const code = systemCode(error);
    if (code === 'ENOENT' || code === 'ENOTDIR') return false;
    throw new KzError('config-unreadable', `cannot look at ${path} (${code ?? 'unknown error'})`, { cause: error });
  }
}

/**
 * A config decides which programs run (`exec`) and where secrets go, so one that another user could write, found in a shared folder such
 * as /tmp by walking up, is an attack and not a config. `opened` is the state of the file that will be read; a symbolic link is as good as
 * who made it. In containers root works on files of other users all the time, so for root it takes a folder that everybody can write to
 * make one suspicious. Throws `config-untrusted`.
 */
export function refusePlanted(path: string, opened: Stats, uid = process.getuid?.()): void {
  if (uid === undefined) return;
  const hint = `if you trust it, name it: --config ${path}`;
  const strangers = [opened.uid, lstatSync(path).uid].filter((owner) => owner !== uid && owner !== 0);
  if (strangers.length > 0 && (uid !== 0 || isOpenToAll(statSync(dirname(path))))) {
    throw new KzError('config-untrusted', `${path} belongs to another user`, { hint });
  }
  if (isOpenToAll(opened)) {
    throw new KzError('config-untrusted', `${path} can be written by anybody`, { hint: `run \`chmod o-w ${path}\`, or ${hint}` });
  }
}

function isOpenToAll({ mode }: Stats): boolean {
  return (mode & 0o002) !== 0;
}
