// The files of logs: a folder and files that only their owner may read, and the old ones taken away.
import { chmodSync, closeSync, constants, fchmodSync, mkdirSync, openSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { KzError } from '../core/errors.ts';
import { writeError } from '../core/private-file.ts';
import { listRuns, runState, type Run } from './runs.ts';

/** Makes the file in its folder, which is made too, with its first line. Gives its descriptor, for appending. Throws `write-failed`. */
export function createLogFile(path: string, first: string): number {
  try {
    makeFolder(dirname(path));
    return createPrivate(path, first);
  } catch (error) {
    const { code, message, hint, cause } = writeError(path, error);
    throw new KzError(code, message, { hint: hint ?? 'let XDG_STATE_HOME name a folder that kz may write to', cause });
  }
}

function makeFolder(folder: string): void {
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  if ((statSync(folder).mode & 0o077) !== 0) chmodSync(folder, 0o700);
}

/** O_EXCL: neither a file that is there already nor a link that somebody laid. */
function createPrivate(path: string, line: string): number {
  const descriptor = openSync(path, constants.O_WRONLY | constants.O_APPEND | constants.O_CREAT | constants.O_EXCL, 0o600);
  try {
    // The umask may have taken bits away.
    fchmodSync(descriptor, 0o600);
    writeFileSync(descriptor, line);
    return descriptor;
  } catch (error) {
    closeSync(descriptor);
    rmSync(path, { force: true });
    throw error;
  }
}

const MOST_LOGS = 100;
const LONGEST_AGE_MS = 30 * 86_400_000;
const QUIET_MS = 86_400_000;

/** Only names that are ours. Old logs that cannot be removed stop nobody. */
export function removeOldLogs(folder: string, now: number): void {
  try {
    for (const [index, run] of listRuns(folder).entries()) {
      if (index < MOST_LOGS && now - run.startedAt < LONGEST_AGE_MS) continue;
      if (isOver(run, now)) rmSync(run.path, { force: true });
    }
  } catch {
    return;
  }
}

/** A run in another container looks killed, because its process cannot be seen from here: until it was silent for a day it is kept. */
function isOver(run: Run, now: number): boolean {
  const state = runState(run);
  return state === 'ended' || (state === 'killed' && now - statSync(run.path).mtimeMs > QUIET_MS);
}
