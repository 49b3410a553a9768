// One writer at a time, across processes: `<path>.lock` names the process that holds it. A lock whose holder died is taken over;
// one held by a process that this machine cannot see (another host, another container) never is.
import { createHash } from 'node:crypto';
import { constants } from 'node:fs';
import { link, lstat, mkdir, open, readFile, readlink, unlink, writeFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import { dirname } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { KzError, systemCode } from './errors.ts';
import { followLinks, uniqueSuffix, writeError } from './private-file.ts';

/** Whom a wait was in vain for, for an error in the words of what was waited for. */
export interface Busy {
  /** Of the holder; undefined when that cannot be said. */
  readonly pid: number | undefined;
  readonly lock: string;
  readonly cause: unknown;
}

export interface LockWords {
  readonly path: string;
  readonly busy: (facts: Busy) => KzError;
}

/**
 * Runs the action while no other caller, in this process or another, runs one for the same file. Waits until the signal aborts, then
 * throws `provider-timeout` with the holder's pid, or what `busy` says. The lock is released however the action ends.
 */
export async function withFileLock<T>(target: string | LockWords, action: () => Promise<T>, signal: AbortSignal): Promise<T> {
  const { path, busy } = typeof target === 'string' ? { path: target, busy: undefined } : target;
  const lock = `${await prepare(path)}.lock`;
  const release = await acquire(lock, signal, busy);
  try {
    return await action();
  } finally {
    await release();
  }
}

/** Is the lock held by a process that this machine cannot see, so that nobody here can tell whether it still lives? */
export async function isHeldElsewhere(path: string): Promise<boolean> {
  const holder = await readHolder(`${await followLinks(path)}.lock`);
  return typeof holder === 'object' && holder.place !== (await describePlace());
}

interface Holder {
  readonly pid: number;
  /** When the process started, in the kernel's ticks, so that a reused pid is not mistaken for the holder; '' where unknown. */
  readonly start: string;
  /** Host, machine and pid namespace: where `pid` means something. */
  readonly place: string;
  readonly id: string;
}

/** An empty lock file that old was cut off by a crash of the machine: its writer needs no minute. */
const UNREADABLE_STALE_MS = 60_000;

/** No lock of kz is that long. */
const MAX_LOCK_BYTES = 4096;

async function prepare(path: string): Promise<string> {
  try {
    const target = await followLinks(path);
    await mkdir(dirname(target), { recursive: true, mode: 0o700 });
    return target;
  } catch (error) {
    throw writeError(path, error);
  }
}

async function acquire(lock: string, signal: AbortSignal, busy?: LockWords['busy']): Promise<() => Promise<void>> {
  const self = await describeSelf();
  for (let attempt = 0; !signal.aborted; attempt++) {
    if (await create(lock, self)) return () => release(lock, self);
    if (await isStale(lock)) {
      await reclaim(lock, signal);
      continue;
    }
    const delayMs = Math.min(100, 4 * 2 ** Math.min(attempt, 5)) * (0.5 + Math.random());
    await wait(delayMs, undefined, { signal }).catch(() => undefined);
  }
  throw await timeoutError(lock, signal, busy);
}

/** link(2) fails when the name exists and brings the content along, so nobody ever reads half a lock. */
async function create(lock: string, self: Holder): Promise<boolean> {
  const draft = `${lock}.${uniqueSuffix()}`;
  try {
    if ((await readHolder(lock)) !== 'none') return false;
    await writeFile(draft, JSON.stringify(self), { flag: 'wx', mode: 0o600 });
    await link(draft, lock);
    return true;
  } catch (error) {
    if (error instanceof KzError) throw error;
    if (systemCode(error) === 'EEXIST') return false;
    throw writeError(lock, error);
  } finally {
    await unlink(draft).catch(() => undefined);
  }
}

async function release(lock: string, self: Holder): Promise<void> {
  const holder = await readHolder(lock);
  if (typeof holder === 'object' && holder.id === self.id) await unlinkIfThere(lock);
}

/**
 * A dead holder's lock is removed only by who holds the lock `<lock>.reclaim` and has seen it stale since. So between that look and the
 * unlink nobody else can have removed it, nor put a live one in its place. The reclaim lock is a lock like any other: when its holder
 * dies too, it is reclaimed the same way.
 */
async function reclaim(lock: string, signal: AbortSignal): Promise<void> {
  const reclaimLock = `${lock}.reclaim`;
  const releaseReclaim = await acquire(reclaimLock, signal);
  try {
    if (await isStale(lock)) await unlinkIfThere(lock);
  } finally {
    await releaseReclaim();
  }
}

async function unlinkIfThere(lock: string): Promise<void> {
  try {
    await unlink(lock);
  } catch (error) {
    if (systemCode(error) !== 'ENOENT') throw writeError(lock, error);
  }
}

async function isStale(lock: string): Promise<boolean> {
  const holder = await readHolder(lock);
  if (holder === 'none' || holder === 'no-file') return false;
  if (holder === 'unreadable') return isOld(lock);
  return holder.place === (await describePlace()) && (await isDead(holder));
}

async function isOld(lock: string): Promise<boolean> {
  try {
    return Date.now() - (await lstat(lock)).mtimeMs > UNREADABLE_STALE_MS;
  } catch {
    return false;
  }
}

/** `no-file` is what no kz made: a FIFO, a folder, a link. */
async function readHolder(lock: string): Promise<Holder | 'none' | 'unreadable' | 'no-file'> {
  try {
    const text = await readLock(lock);
    if (text === undefined) return 'no-file';
    const content: unknown = JSON.parse(text);
    return isHolder(content) ? content : 'unreadable';
  } catch (error) {
    const code = systemCode(error);
    if (code === 'ENOENT') return 'none';
    // ELOOP is a symbolic link, because of O_NOFOLLOW; ENXIO a socket.
    if (code === 'ELOOP' || code === 'ENXIO') return 'no-file';
    if (code === undefined) return 'unreadable';
    throw writeError(lock, error);
  }
}

/** Undefined when it is not a regular file, which could keep its reader past the deadline. */
async function readLock(lock: string): Promise<string | undefined> {
  const { O_RDONLY, O_NONBLOCK, O_NOCTTY, O_NOFOLLOW } = constants;
  const handle = await open(lock, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_NOFOLLOW);
  try {
    if (!(await handle.stat()).isFile()) return undefined;
    const { bytesRead, buffer } = await handle.read(Buffer.alloc(MAX_LOCK_BYTES), 0, MAX_LOCK_BYTES, 0);
    return buffer.toString('utf8', 0, bytesRead);
  } finally {
    await handle.close();
  }
}

function isHolder(content: unknown): content is Holder {
  if (typeof content !== 'object' || content === null) return false;
  if (!('pid' in content && 'start' in content && 'place' in content && 'id' in content)) return false;
  const { pid, start, place, id } = content;
  return Number.isSafeInteger(pid) && Number(pid) > 0 && [start, place, id].every((part) => typeof part === 'string');
}

async function describeSelf(): Promise<Holder> {
  const { pid } = process;
  return { pid, start: (await readProcess(pid))?.start ?? '', place: await describePlace(), id: uniqueSuffix() };
}

async function describePlace(): Promise<string> {
  const namespace = await readlink('/proc/self/ns/pid').catch(() => '');
  return `${hostname()} ${namespace} ${await describeMachine()}`.trim();
}

/** Two hosts can have one name, and outside containers all have the same namespace. Hashed, as machine-id(5) asks; '' where unknown. */
async function describeMachine(): Promise<string> {
  const id = await readFile('/etc/machine-id', 'utf8').catch(() => '');
  return id === '' ? '' : createHash('sha256').update(`keyzero ${id.trim()}`).digest('hex').slice(0, 16);
}

async function isDead({ pid, start }: Holder): Promise<boolean> {
  try {
    process.kill(pid, 0);
  } catch (error) {
    // EPERM means that it lives and belongs to somebody else.
    if (systemCode(error) === 'ESRCH') return true;
  }
  const running = await readProcess(pid);
  if (running === undefined) return false;
  return /[ZX]/.test(running.state) || (start !== '' && running.start !== start);
}

/** From /proc/PID/stat, see proc(5); undefined where there is no /proc. A zombie is dead: it holds nothing any more. */
async function readProcess(pid: number): Promise<{ state: string; start: string } | undefined> {
  const text = await readFile(`/proc/${String(pid)}/stat`, 'latin1').catch(() => undefined);
  if (text === undefined) return undefined;
  // The second field is the program's name in parentheses, which may itself hold spaces and parentheses.
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  const [state = '', start = ''] = [fields[0], fields[19]];
  return { state, start };
}

async function timeoutError(lock: string, signal: AbortSignal, busy: LockWords['busy'] | undefined): Promise<KzError> {
  const holder = await readHolder(lock);
  if (holder === 'no-file') {
    const hint = `run \`ls -ld ${lock}\`, and move it away`;
    return new KzError('provider-timeout', `gave up waiting for ${lock}, which is not a regular file`, { hint, cause: signal.reason });
  }
  if (busy !== undefined) return busy({ pid: typeof holder === 'object' ? holder.pid : undefined, lock, cause: signal.reason });
  const who = typeof holder === 'object' ? `process ${String(holder.pid)} on ${holder.place.split(' ')[0] ?? ''}` : 'another process';
  return new KzError('provider-timeout', `gave up waiting for ${lock}, which ${who} holds`, {
    hint: `if that process is gone, run \`rm ${lock}\``,
    cause: signal.reason,
  });
}
