// The folder of one blind run: certificates for the program, and for a moment the bodies that are too large for memory. Nothing in it is secret.
import { lstatSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { KzError, systemCode } from '../core/errors.ts';
import { writeError } from '../core/private-file.ts';

const NAME = /^kz-blind-(\d+)-/;

/** A run in another container may share the folder and have any pid. */
const STALE_MS = 24 * 60 * 60 * 1000;

/** A new one, 0700. Those of runs that were killed long ago are removed on the way. Throws `write-failed`. */
export function privateFolder(): string {
  // Absolute: the child may work elsewhere.
  const parent = resolve(tmpdir());
  for (const name of namesIn(parent)) {
    const pid = NAME.exec(name)?.[1];
    if (pid !== undefined && !isAlive(Number(pid))) removeStale(join(parent, name));
  }
  try {
    return mkdtempSync(join(parent, `kz-blind-${String(process.pid)}-`));
  } catch (error) {
    const { code, message, hint, cause } = writeError(parent, error);
    throw new KzError(code, message, { hint: hint ?? 'let TMPDIR name a folder that kz may write to', cause });
  }
}

const PROJECTS = 'projects';

/** Says in the run's folder in which projects it works, for other runs. */
export function enterProjects(folder: string, projects: readonly string[]): void {
  writeFileSync(join(folder, PROJECTS), projects.map((path) => `${path}\0`).join(''), { mode: 0o600 });
}

/** Projects in which other runs of this user work now. */
export function othersProjects(folder: string): ReadonlySet<string> {
  const parent = dirname(folder);
  const others = namesIn(parent).filter((name) => join(parent, name) !== folder && isAlive(Number(NAME.exec(name)?.[1] ?? Number.NaN)));
  return new Set(others.flatMap((name) => projectsIn(join(parent, name, PROJECTS))));
}

function projectsIn(path: string): string[] {
  try {
    return readFileSync(path, 'utf8').split('\0');
  } catch {
    return [];
  }
}

/** A folder that one may write to, others may not list. */
function namesIn(folder: string): readonly string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}

function isAlive(pid: number): boolean {
  if (!Number.isInteger(pid)) return false;
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return systemCode(error) === 'EPERM';
  }
}

/** Another user's folder is that user's, who could put a link in the place of what is just being removed, to anything of ours. */
function removeStale(path: string): void {
  try {
    const found = lstatSync(path);
    const isOwn = found.isDirectory() && found.uid === process.getuid?.() && (found.mode & 0o077) === 0;
    if (isOwn && Date.now() - found.mtimeMs > STALE_MS) rmSync(path, { recursive: true, force: true });
  } catch {
    // It stays.
  }
}
