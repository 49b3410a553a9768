// Files that only their owner may read. Writing is atomic: a reader sees the old bytes or the new ones, never a part.
// Reading refuses a file that others could have read or changed.
import { closeSync, constants, fstatSync, openSync, readFileSync, type Stats } from 'node:fs';
import { lstat, mkdir, open, readlink, realpath, rename, unlink } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { KzError, systemCode } from './errors.ts';

/**
 * Replaces the file, 0600, and creates missing folders, 0700. A symbolic link stays; its target is replaced. After a failure the old
 * file is untouched and nothing is left beside it. Throws `write-failed`.
 */
export async function writePrivateFile(path: string, bytes: Uint8Array): Promise<void> {
  try {
    const target = await followLinks(path);
    await mkdir(dirname(target), { recursive: true, mode: 0o700 });
    await replace(target, bytes, await statTarget(target));
  } catch (error) {
    throw error instanceof KzError ? error : writeError(path, error);
  }
}

/**
 * Undefined when there is no such file. Throws `config-untrusted` for one that is not private, `config-unreadable` for the rest.
 * Synchronous, because every `kz run` waits for it and the thread pool takes twice as long.
 */
export function readPrivateFile(path: string): Uint8Array | undefined {
  try {
    // O_NONBLOCK: opening a FIFO must not wait for its writer. O_NOCTTY: nor may opening a terminal take it.
    const descriptor = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY);
    try {
      refuseShared(path, fstatSync(descriptor));
      return readFileSync(descriptor);
    } finally {
      closeSync(descriptor);
    }
  } catch (error) {
    if (error instanceof KzError) throw error;
    const code = systemCode(error);
    if (code === 'ENOENT') return undefined;
    throw new KzError('config-unreadable', `cannot read ${path}: ${reason(error)}`, {
      hint: code === 'EACCES' ? `run \`ls -l ${path}\` to see whose it is` : undefined,
      cause: error,
    });
  }
}

/** Where a write to this path lands: symbolic links are followed, also one whose target is not there yet. */
export async function followLinks(path: string): Promise<string> {
  try {
    return await realpath(path);
  } catch (error) {
    if (systemCode(error) !== 'ENOENT') throw error;
  }
  try {
    return await followLinks(resolve(await realpath(dirname(path)), await readlink(path)));
  } catch (error) {
    const code = systemCode(error);
    if (code === 'ENOENT' || code === 'EINVAL') return resolve(path);
    throw error;
  }
}

/** For names of files that are created with O_EXCL: a collision is an error, not a danger. */
export function uniqueSuffix(): string {
  return `${String(process.pid)}-${Math.random().toString(36).slice(2)}`;
}

/** A failed write, in words for a person. */
export function writeError(path: string, error: unknown): KzError {
  const hint = systemCode(error) === 'ENOSPC' ? `run \`df -h ${dirname(path)}\`` : undefined;
  return new KzError('write-failed', `cannot write ${path}: ${reason(error)}`, { hint, cause: error });
}

async function statTarget(target: string): Promise<Stats | undefined> {
  try {
    const stat = await lstat(target);
    // A rename over /dev/null would replace the device.
    if (!stat.isFile()) throw new KzError('write-failed', `cannot write ${target}: it is not a regular file`);
    return stat;
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return undefined;
    throw error;
  }
}

async function replace(target: string, bytes: Uint8Array, previous: Stats | undefined): Promise<void> {
  const temporary = join(dirname(target), `.${basename(target)}.${uniqueSuffix()}`);
  const handle = await open(temporary, 'wx', 0o600);
  try {
    try {
      // The umask may have taken bits away; and root writing for somebody else must not lock the owner out.
      await handle.chmod(0o600);
      if (previous !== undefined && process.getuid?.() === 0) await handle.chown(previous.uid, previous.gid);
      await handle.writeFile(bytes);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(temporary, target);
  } catch (error) {
    await unlink(temporary).catch(() => undefined);
    throw error;
  }
  await syncFolder(dirname(target));
}

/** Makes the rename survive a power cut. Not every file system can; the file itself is complete either way. */
async function syncFolder(folder: string): Promise<void> {
  try {
    const handle = await open(folder, constants.O_RDONLY);
    await handle.sync().finally(() => handle.close());
  } catch {
    return;
  }
}

function refuseShared(path: string, stat: Stats): void {
  if (!stat.isFile()) throw new KzError('config-unreadable', `cannot read ${path}: it is not a regular file`);
  const uid = process.getuid?.();
  if (uid !== undefined && uid !== 0 && stat.uid !== uid) {
    throw new KzError('config-untrusted', `${path} belongs to another user`, { hint: `run \`ls -l ${path}\` to see whose it is` });
  }
  if ((stat.mode & 0o077) !== 0) {
    throw new KzError('config-untrusted', `${path} is open to other users (mode ${(stat.mode & 0o777).toString(8)})`, {
      hint: `run \`chmod 600 ${path}\``,
    });
  }
}

const REASONS: Readonly<Record<string, string>> = {
  EACCES: 'permission denied',
  EPERM: 'permission denied',
  EROFS: 'the file system is read-only',
  ENOSPC: 'no space left on the device',
  EDQUOT: 'the disk quota is used up',
  EFBIG: 'the file is too large',
  ENOTDIR: 'a part of the path is not a folder',
  EISDIR: 'it is a folder',
  ELOOP: 'too many symbolic links',
  ENAMETOOLONG: 'the name is too long',
  ENOTSUP: 'the file system cannot do that',
  EOPNOTSUPP: 'the file system cannot do that',
};

function reason(error: unknown): string {
  const code = systemCode(error) ?? 'unknown error';
  return REASONS[code] ?? code;
}
