import { execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import {
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { afterAll, beforeAll, beforeEach, describe, expect, it, onTestFinished } from 'vitest';
import { KzError } from '../../src/core/errors.ts';
import { withFileLock } from '../../src/core/file-lock.ts';
import { bundle } from '../fixtures/bundle.ts';

const hasProc = existsSync('/proc/self/stat');

let top: string;
let program: string;
let path: string;

beforeAll(async () => {
  top = mkdtempSync(join(tmpdir(), 'kz-lock-'));
  program = await bundle('contender', top);
});

beforeEach(() => {
  path = join(mkdtempSync(join(top, 'case-')), 'file');
  writeFileSync(path, '0');
});

afterAll(() => {
  rmSync(top, { recursive: true });
});

function start(...args: string[]): ChildProcess {
  return spawn(process.execPath, [program, ...args], { stdio: ['ignore', 'pipe', 'inherit'] });
}

/** The lines that the process prints until it ends. */
async function linesOf(child: ChildProcess): Promise<string[]> {
  const lines: string[] = [];
  if (child.stdout !== null) for await (const line of createInterface(child.stdout)) lines.push(line);
  return lines;
}

async function firstLine(child: ChildProcess): Promise<string> {
  if (child.stdout === null) throw new Error('no stdout');
  for await (const line of createInterface(child.stdout)) return line;
  return '';
}

/** Starts a process that takes the lock and keeps it. */
async function holder(): Promise<ChildProcess> {
  const child = start('hold', path);
  onTestFinished(() => {
    child.kill('SIGKILL');
  });
  expect(await firstLine(child)).toBe('held');
  return child;
}

function lockText(): Record<string, unknown> {
  return JSON.parse(readFileSync(`${path}.lock`, 'utf8')) as Record<string, unknown>;
}

const soon = (): AbortSignal => AbortSignal.timeout(10_000);

async function timesOut(): Promise<KzError> {
  const error: unknown = await withFileLock(path, () => Promise.resolve(), AbortSignal.timeout(100)).catch((reason: unknown) => reason);
  if (!(error instanceof KzError)) throw new Error('the lock was taken');
  expect(error.code).toBe('provider-timeout');
  return error;
}

function filesLeft(): string[] {
  return readdirSync(join(path, '..')).sort();
}

describe('one process', () => {
  it('runs one action at a time and returns what it returns', async () => {
    let inside = 0;
    let most = 0;
    const action = async (): Promise<number> => {
      most = Math.max(most, ++inside);
      await new Promise(setImmediate);
      return inside--;
    };
    expect(await Promise.all(Array.from({ length: 20 }, () => withFileLock(path, action, soon())))).toEqual(Array(20).fill(1));
    expect(most).toBe(1);
    expect(filesLeft()).toEqual(['file']);
  });

  it('releases the lock when the action fails', async () => {
    const failing = withFileLock(path, () => Promise.reject(new Error('boom')), soon());
    await expect(failing).rejects.toThrow('boom');
    expect(await withFileLock(path, () => Promise.resolve('next'), soon())).toBe('next');
    expect(filesLeft()).toEqual(['file']);
  });

  it('the lock is a private file that says who holds it', async () => {
    await withFileLock(
      path,
      () => {
        expect(statSync(`${path}.lock`).mode & 0o777).toBe(0o600);
        expect(lockText()).toMatchObject({ pid: process.pid });
        expect(filesLeft()).toEqual(['file', 'file.lock']);
        return Promise.resolve();
      },
      soon(),
    );
  });

  it('a symbolic link and its target share one lock', async () => {
    const link = join(top, `link-${path.split('/').at(-2) ?? ''}`);
    symlinkSync(path, link);
    await withFileLock(
      link,
      async () => {
        await timesOut();
      },
      soon(),
    );
  });

  it('creates the folder of a file that is to come', async () => {
    const later = join(path, '..', 'new', 'file');
    expect(await withFileLock(later, () => Promise.resolve(1), soon())).toBe(1);
    expect(statSync(join(later, '..')).mode & 0o777).toBe(0o700);
  });

  it('does not start the action when the signal has aborted', async () => {
    let ran = false;
    const action = (): Promise<void> => {
      ran = true;
      return Promise.resolve();
    };
    await expect(withFileLock(path, action, AbortSignal.abort())).rejects.toMatchObject({ code: 'provider-timeout' });
    expect(ran).toBe(false);
  });

  it('says once, and why, that it cannot make the lock', async () => {
    const long = join(path, '..', 'n'.repeat(252));
    await expect(withFileLock(long, () => Promise.resolve(), soon())).rejects.toMatchObject({
      code: 'write-failed',
      message: `cannot write ${long}.lock: the name is too long`,
    });
  });

  it('says which lock it cannot write', async () => {
    await expect(withFileLock(join(path, 'below'), () => Promise.resolve(), soon())).rejects.toMatchObject({
      code: 'write-failed',
      message: `cannot write ${join(path, 'below')}: a part of the path is not a folder`,
    });
  });
});

describe('many processes', () => {
  it('lose no update', async () => {
    const children = Array.from({ length: 6 }, () => linesOf(start('count', path, '20')));
    expect(await Promise.all(children)).toEqual(Array(6).fill(['ok']));
    expect(readFileSync(path, 'utf8')).toBe('120');
    expect(filesLeft()).toEqual(['file']);
  });

  it('lose no update among others that are killed while they hold the lock', async () => {
    const crashing = Array.from({ length: 12 }, () => linesOf(start('crash', path)));
    const counting = Array.from({ length: 6 }, () => linesOf(start('count', path, '20')));
    expect(await Promise.all(counting)).toEqual(Array(6).fill(['ok']));
    expect(await Promise.all(crashing)).toEqual(Array(12).fill([]));
    expect(readFileSync(path, 'utf8')).toBe('120');
    expect(await withFileLock(path, () => Promise.resolve('free'), soon())).toBe('free');
    expect(filesLeft()).toEqual(['file']);
  });
});

describe('a lock that somebody holds', () => {
  it('is waited for until the signal aborts, and the error names the holder', async () => {
    const child = await holder();
    const error = await timesOut();
    expect(error.message).toMatch(new RegExp(`^gave up waiting for ${path}\\.lock, which process ${String(child.pid)} on .+ holds$`));
    expect(error.hint).toBe(`if that process is gone, run \`rm ${path}.lock\``);
    expect(filesLeft()).toEqual(['file', 'file.lock']);
  });

  it('is taken over when the holder was killed', async () => {
    const child = await holder();
    child.kill('SIGKILL');
    await once(child, 'exit');
    expect(existsSync(`${path}.lock`)).toBe(true);
    expect(await withFileLock(path, () => Promise.resolve('mine'), soon())).toBe('mine');
    expect(filesLeft()).toEqual(['file']);
  });

  it.runIf(hasProc)('is taken over when the holder is a zombie', async () => {
    // The shell becomes a `sleep`, which never collects its dead child.
    const script = '"$0" "$@" & echo $!; exec sleep 60';
    const shell = spawn('sh', ['-c', script, process.execPath, program, 'hold', path], { stdio: ['ignore', 'pipe', 'inherit'] });
    onTestFinished(() => {
      shell.kill('SIGKILL');
    });
    const pid = Number(await firstLine(shell));
    while (!existsSync(`${path}.lock`)) await new Promise(setImmediate);
    expect(lockText()).toMatchObject({ pid });
    process.kill(pid, 'SIGKILL');
    expect(await withFileLock(path, () => Promise.resolve('mine'), soon())).toBe('mine');
    expect(() => process.kill(pid, 0)).not.toThrow();
  });

  it.runIf(hasProc)('is taken over when another process got the holder’s pid', async () => {
    const { place } = await ownLock();
    writeFileSync(`${path}.lock`, JSON.stringify({ pid: process.pid, start: '1', place, id: 'x' }));
    expect(await withFileLock(path, () => Promise.resolve('mine'), soon())).toBe('mine');
  });

  it('is left alone when its process runs where we cannot look', async () => {
    const own = await ownLock();
    const foreign = JSON.stringify({ ...own, pid: 2 ** 30, place: 'another-host pid:[1]', id: 'x' });
    writeFileSync(`${path}.lock`, foreign);
    expect((await timesOut()).message).toContain(`process ${String(2 ** 30)} on another-host`);
    expect(readFileSync(`${path}.lock`, 'utf8')).toBe(foreign);
  });

  it.each(['', '{"pid":', '[]', '{"pid":-1,"start":"","place":"","id":""}', '{"pid":"1","start":"","place":"","id":""}'])(
    'is respected for a minute when it cannot be read: %s',
    async (text) => {
      writeFileSync(`${path}.lock`, text);
      expect((await timesOut()).message).toBe(`gave up waiting for ${path}.lock, which another process holds`);
      const twoMinutesAgo = Date.now() / 1000 - 120;
      utimesSync(`${path}.lock`, twoMinutesAgo, twoMinutesAgo);
      expect(await withFileLock(path, () => Promise.resolve('mine'), soon())).toBe('mine');
    },
  );

  it.each(['a FIFO', 'a folder', 'a link to a device', 'a link to a FIFO', 'a link to nowhere'])(
    'is %s: waited for until the signal aborts, and never removed',
    async (kind) => {
      const lock = `${path}.lock`;
      if (kind === 'a folder') mkdirSync(lock);
      else if (kind === 'a FIFO') execFileSync('mkfifo', [lock]);
      else {
        execFileSync('mkfifo', [`${path}.fifo`]);
        symlinkSync(kind === 'a link to a device' ? '/dev/zero' : kind === 'a link to a FIFO' ? `${path}.fifo` : '/nowhere/x', lock);
      }
      execFileSync('touch', ['-h', '-d', '2020-01-01', lock]);
      const error = await timesOut();
      expect(error.message).toBe(`gave up waiting for ${lock}, which is not a regular file`);
      expect(error.hint).toBe(`run \`ls -ld ${lock}\`, and move it away`);
      expect(lstatSync(lock).isFile()).toBe(false);
    },
    10_000,
  );

  it('is not read to its end when it is large', async () => {
    writeFileSync(`${path}.lock`, '');
    truncateSync(`${path}.lock`, 3 * 2 ** 30);
    await timesOut();
  });

  it.runIf(existsSync('/etc/machine-id'))('is left alone when its process runs on another machine of the same name', async () => {
    const own = await ownLock();
    const [host = '', namespace = ''] = String(own.place).split(' ');
    expect(own.place).toMatch(/ [0-9a-f]{16}$/);
    expect(own.place).not.toContain(readFileSync('/etc/machine-id', 'utf8').trim().slice(0, 16));
    for (const place of [`${host} ${namespace}`, `${host} ${namespace} 0123456789abcdef`]) {
      writeFileSync(`${path}.lock`, JSON.stringify({ ...own, pid: 2 ** 30, place }));
      expect((await timesOut()).message).toContain(`process ${String(2 ** 30)} on ${host}`);
    }
  });

  it('is taken over when the process that took it over was killed too', async () => {
    const child = await holder();
    child.kill('SIGKILL');
    await once(child, 'exit');
    const dead = readFileSync(`${path}.lock`, 'utf8');
    writeFileSync(`${path}.lock.reclaim`, dead);
    expect(await withFileLock(path, () => Promise.resolve('mine'), soon())).toBe('mine');
    expect(filesLeft()).toEqual(['file']);
  });

  it('is not released by somebody who lost it', async () => {
    const other = JSON.stringify({ ...(await ownLock()), id: 'other' });
    await withFileLock(
      path,
      () => {
        writeFileSync(`${path}.lock`, other);
        return Promise.resolve();
      },
      soon(),
    );
    expect(readFileSync(`${path}.lock`, 'utf8')).toBe(other);
  });
});

/** What a lock of this process holds. */
async function ownLock(): Promise<Record<string, unknown>> {
  return withFileLock(path, () => Promise.resolve(lockText()), soon());
}
