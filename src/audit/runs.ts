// The folder of logs: one file per blind run, whose name sorts by time. Says which runs there are and which of them goes on.
import { closeSync, fstatSync, openSync, readdirSync, readSync } from 'node:fs';
import { homedir, uptime } from 'node:os';
import { join } from 'node:path';
import { KzError, systemCode } from '../core/errors.ts';

export interface Run {
  /** Eight hex characters. */
  readonly id: string;
  readonly path: string;
  /** In milliseconds, from the name of the file. */
  readonly startedAt: number;
}

/** `killed`: nobody writes any more, and nobody wrote the last line. */
export type RunState = 'running' | 'ended' | 'killed';

/** `$XDG_STATE_HOME/keyzero/runs`, or `~/.local/state/keyzero/runs`. */
export function runsFolder(env: Readonly<Record<string, string | undefined>>): string {
  const base = env.XDG_STATE_HOME;
  // The XDG specification: a relative path is invalid and is to be ignored.
  if (base?.startsWith('/') === true) return join(base, 'keyzero', 'runs');
  return join(env.HOME !== undefined && env.HOME !== '' ? env.HOME : homedir(), '.local', 'state', 'keyzero', 'runs');
}

/** `2026-11-21T07-55-54.123Z-0a1b2c3d.jsonl`: no colons, which some file systems refuse. */
export function runFileName(startedAt: Date, id: string): string {
  return `${startedAt.toISOString().replaceAll(':', '-')}-${id}.jsonl`;
}

const FILE_NAME = /^(\d{4}-\d\d-\d\dT\d\d)-(\d\d)-(\d\d\.\d{3}Z)-([0-9a-f]{8})\.jsonl$/;

/** Newest first; none when there is no such folder. */
export function listRuns(folder: string): Run[] {
  return namesIn(folder)
    .sort()
    .reverse()
    .flatMap((name) => {
      const [, hour, minute = '', second = '', id] = FILE_NAME.exec(name) ?? [];
      const startedAt = Date.parse(`${hour ?? ''}:${minute}:${second}`);
      return id === undefined || Number.isNaN(startedAt) ? [] : { id, path: join(folder, name), startedAt };
    });
}

function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch (error) {
    const code = systemCode(error);
    if (code === 'ENOENT' || code === 'ENOTDIR') return [];
    throw new KzError('config-unreadable', `cannot read the folder ${folder} (${code ?? 'unknown error'})`, { cause: error });
  }
}

export function runState(run: Run): RunState {
  const { first, last } = ends(run.path);
  if (keyOf(last, 'type') === 'run-ended') return 'ended';
  // A process id means nothing across a restart of the machine; a minute for clocks that were set meanwhile.
  const bootedAt = Date.now() - uptime() * 1000 - 60_000;
  return run.startedAt > bootedAt && isAlive(keyOf(first, 'pid')) ? 'running' : 'killed';
}

/** Undefined when it is not complete, or the log is gone or may not be read. */
export function firstLine(path: string): string | undefined {
  return ends(path).first;
}

/** Enough for most first lines; the second is for configs with thousands of secrets. */
const FIRST_PIECES = [16_384, 1_048_576] as const;
const LAST_PIECE = 4096;

/** The first and the last complete line. */
function ends(path: string): { readonly first?: string | undefined; readonly last?: string | undefined } {
  try {
    const descriptor = openSync(path, 'r');
    try {
      const { size } = fstatSync(descriptor);
      const tail = Math.min(size, LAST_PIECE);
      return {
        first: firstIn(descriptor, size),
        last: piece(descriptor, size - tail, tail)
          .split('\n')
          .at(-2),
      };
    } finally {
      closeSync(descriptor);
    }
  } catch {
    return {};
  }
}

function firstIn(descriptor: number, size: number): string | undefined {
  for (const length of FIRST_PIECES) {
    const [line, rest] = piece(descriptor, 0, Math.min(size, length)).split('\n', 2);
    if (rest !== undefined) return line;
  }
  return undefined;
}

function piece(descriptor: number, position: number, length: number): string {
  const buffer = Buffer.alloc(length);
  return buffer.toString('utf8', 0, readSync(descriptor, buffer, 0, length, position));
}

function keyOf(line: string | undefined, key: string): unknown {
  try {
    const value: unknown = JSON.parse(line ?? '');
    return typeof value === 'object' && value !== null ? Object.entries(value).find(([name]) => name === key)?.[1] : undefined;
  } catch {
    return undefined;
  }
}

/** Zero and below would ask for whole groups. A process that is another user's cannot have opened a file that only we may write. */
function isAlive(pid: unknown): boolean {
  if (typeof pid !== 'number' || !Number.isInteger(pid) || pid <= 0) return false;
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}
