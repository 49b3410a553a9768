// `~` at the start of a path, in both directions.
import { homedir } from 'node:os';
import { join, resolve } from 'node:path';

type Env = Readonly<Record<string, string | undefined>>;

/** `~/x` starts at home; any other relative path at the folder. Environment files and JSON configs reach kz without a shell. */
export function absolutePath(path: string, directory: string, env: Env): string {
  return path.startsWith('~/') ? join(home(env), path.slice(2)) : resolve(directory, path);
}

/** The path as a person writes it, for messages. */
export function shortPath(path: string, env: Env): string {
  const prefix = `${home(env)}/`;
  return prefix !== '//' && path.startsWith(prefix) ? `~/${path.slice(prefix.length)}` : path;
}

function home(env: Env): string {
  return env.HOME !== undefined && env.HOME !== '' ? env.HOME : homedir();
}
