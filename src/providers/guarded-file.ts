// Reads files that somebody else may have put there: regular ones, up to a size. Refuses everything else before opening it: a FIFO or a
// device could hold kz up, never end, or be changed by the reading.
import { constants, type Stats } from 'node:fs';
import { open, readdir, realpath, stat, type FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import { KzError, systemCode } from '../core/errors.ts';

export interface GuardedRead {
  /** Names the file in errors. */
  readonly label: string;
  readonly maxMebibytes: number;
}

/** Throws `ref-invalid` for what is no regular file, `secret-invalid` for one that is too large, and system errors as they are. */
export async function readGuardedFile(path: string, { label, maxMebibytes }: GuardedRead): Promise<Uint8Array> {
  refuseSpecial(await stat(path), label);
  // It may have been exchanged since: without O_NONBLOCK a FIFO would wait for its writer here, without O_NOCTTY a terminal be taken.
  const handle = await open(path, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY);
  try {
    refuseSpecial(await handle.stat(), label);
    const bytes = await readUpTo(handle, maxMebibytes * 1_048_576);
    if (bytes === undefined) throw new KzError('secret-invalid', `${label} is larger than ${String(maxMebibytes)} MiB`);
    return bytes;
  } finally {
    await handle.close();
  }
}

/**
 * Where the files of a folder really are. Kubernetes puts each version of a mounted secret in a folder of its own, lets `..data` lead to the
 * current one, and removes the others. Throws system errors as they are.
 */
export async function currentVersion(folder: string): Promise<string> {
  try {
    return await realpath(join(folder, '..data'));
  } catch (error) {
    if (systemCode(error) !== 'ENOENT') throw error;
    return realpath(folder);
  }
}

/** What `ls` shows, sorted: neither `..data` nor what else starts with a dot. Throws system errors as they are. */
export async function visibleNames(folder: string): Promise<readonly string[]> {
  return (await readdir(folder)).filter((name) => !name.startsWith('.')).sort();
}

function refuseSpecial(stats: Stats, label: string): void {
  if (stats.isFile()) return;
  const kind = stats.isDirectory() ? 'a folder' : stats.isFIFO() ? 'a FIFO' : stats.isSocket() ? 'a socket' : 'a device';
  throw new KzError('ref-invalid', `${label} is ${kind}, not a regular file`);
}

const CHUNK_BYTES = 65_536;

/** Undefined when there is more. The size that a file claims is not the size it has: in /proc it is 0. */
async function readUpTo(handle: FileHandle, maxBytes: number): Promise<Uint8Array | undefined> {
  const chunks: Uint8Array[] = [];
  for (let length = 0; length <= maxBytes;) {
    const { bytesRead, buffer } = await handle.read(Buffer.alloc(CHUNK_BYTES), 0, CHUNK_BYTES, null);
    if (bytesRead === 0) return Buffer.concat(chunks, length);
    chunks.push(buffer.subarray(0, bytesRead));
    length += bytesRead;
  }
  return undefined;
}
