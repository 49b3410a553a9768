// The folder of one blind run: certificates for the program, and for a moment the bodies that are too large for memory. Nothing in it is secret.
import { lstatSync, readdirSync, rmSync } from 'node:fs';
import { mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { KzError, systemCode } from '../core/errors.ts';
import { writeError } from '../core/private-file.ts';

const NAME = /^kz-blind-(\d+)-/;

/** A run in another container may share the folder and have any pid. */
const STALE_MS = 24 * 60 * 60 * 1000;

/** A new one, 0700. Those of runs that were killed long ago are removed on the way. Throws `write-failed`. */
export async function privateFolder(): Promise<string> {
  // Absolute: the child may work elsewhere.
  const parent = resolve(tmpdir());
  for (const name of namesIn(parent)) {
    const pid = NAME.exec(name)?.[1];
    if (pid !== undefined && !isAlive(Number(pid))) removeStale(join(parent, name));
  }
  try {
    return await mkdtemp(join(parent, `kz-blind-${String(process.pid)}-`));
  } catch (error) {
    const { code, message, hint, cause } = writeError(parent, error);
    throw new KzError(code, message, { hint: hint ?? 'let TMPDIR name a folder that kz may write to', cause });
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
