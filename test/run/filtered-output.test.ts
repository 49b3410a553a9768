// A child whose output passes a filter: it is what it would be without kz but for what the filter replaces, and so is the child's life.
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { closeSync, existsSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { bundle } from '../fixtures/bundle.ts';
import { collect, FIXTURES, Story } from '../stories/kz.ts';
import { alive, descendants, waitFor, waitUntilGone } from '../stories/processes.ts';
import { NO_TERMINAL, Terminal } from '../stories/terminal.ts';
import { Wrapped, type Kind, type WrappedOptions } from './wrapped.ts';

const KINDS = ['socket', 'pipe'] as const satisfies Kind[];
const NODE = process.execPath;
const ONLY_LINUX = process.platform !== 'linux';

let folder: string;
let wrapper: string;
let running: Wrapped[] = [];
let leftovers: number[] = [];

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'kz-output-'));
  wrapper = await bundle('wrapper', folder);
});

afterAll(() => {
  rmSync(folder, { recursive: true });
});

afterEach(async () => {
  for (const { pid } of running) leftovers.push(pid);
  for (const pid of leftovers) if (alive(pid)) process.kill(pid, 'SIGKILL');
  await waitUntilGone(leftovers);
  running = [];
  leftovers = [];
});

function start(command: readonly string[], options: WrappedOptions = {}): Wrapped {
  const wrapped = new Wrapped(wrapper, command, options);
  running.push(wrapped);
  return wrapped;
}

function shell(script: string, options: WrappedOptions = {}): Wrapped {
  return start(['sh', '-c', script], options);
}

/** Waits until a child that counts what it writes has been held up: it has written something, and then nothing for a while. */
async function heldUp(file: string): Promise<number> {
  let last = 0;
  let times = 0;
  await waitFor('the child to be held up', () => {
    const done = existsSync(file) ? Number(readFileSync(file, 'utf8')) : 0;
    times = done > 0 && done === last ? times + 1 : 0;
    last = done;
    return times === 20;
  });
  return last;
}

describe.each(KINDS)('into a %s', (kind) => {
  it('every byte arrives as it is', async () => {
    const { stdout, process: child } = await finished(start([NODE, `${FIXTURES}every-byte.mjs`], { kind }));
    const direct = await collect(spawn(NODE, [`${FIXTURES}every-byte.mjs`]));
    expect(stdout.equals(direct.bytes)).toBe(true);
    expect(child.exitCode).toBe(0);
  });

  it('what the filter looks for is replaced in both, also between two writes, and what it held back comes at the end', async () => {
    const wrapped = shell('printf "a CAN"; sh -c :; printf "ARY ü"; printf "b CANARY c" >&2; printf "and CAN"; exit 7', { kind });
    expect(await wrapped.ended()).toEqual({ code: 7, signal: null, stdout: 'a ****** üand CAN', stderr: 'b ****** c' });
  });

  it('a large output is complete', async () => {
    const size = 100 * 1024 * 1024;
    const wrapped = start([NODE, `${FIXTURES}flood.mjs`, String(size)], { kind, unread: true });
    const hash = createHash('sha256');
    let length = 0;
    wrapped.onOutput((chunk) => {
      hash.update(chunk);
      length += chunk.length;
    });
    expect(await wrapped.ended()).toMatchObject({ code: 0 });
    const block = Buffer.alloc(65_536, 'abcdefghijklmnopqrstuvwxyz\n');
    const expected = createHash('sha256');
    for (let left = size; left > 0; left -= block.length) expected.update(block);
    expect(length).toBe(size);
    expect(hash.digest('hex')).toBe(expected.digest('hex'));
  });

  it('a reader that is slow holds the child up', async () => {
    const counted = join(folder, `slow-${kind}`);
    const size = 50 * 1024 * 1024;
    const wrapped = start([NODE, `${FIXTURES}progress.mjs`, String(size), counted], { kind, unread: true });
    expect(await heldUp(counted)).toBeLessThan(3 * 1024 * 1024);
    wrapped.read();
    expect(await wrapped.ended()).toMatchObject({ code: 0 });
    expect(wrapped.stdout.length).toBe(size);
  });

  it.each([
    // Of a pair of sockets the other side sees ECONNRESET first, when something was left unread, as without kz.
    ['gets PIPE', ['yes'], kind === 'pipe' ? { code: null, signal: 'SIGPIPE' } : { code: 1, signal: null }],
    ['gets EPIPE when it ignores the signal', [NODE, `${FIXTURES}flood.mjs`, '10000000000'], { code: 9, signal: null }],
  ])('a child whose reader has left %s', async (_, command, end) => {
    const wrapped = start(command, { kind, unread: true });
    const first = new Promise<void>((resolve) => {
      wrapped.onOutput(() => {
        resolve();
      });
    });
    await first;
    wrapped.stopReading();
    expect(await wrapped.exited).toEqual(end);
  });

  it('is waited for when the child has ended', async () => {
    const wrapped = shell('echo child $$; head -c 60000 /dev/zero; head -c 60000 /dev/zero; exec 1>&-; exit 3', { kind, unread: true });
    wrapped.read();
    expect(await wrapped.ended()).toMatchObject({ code: 3 });
    expect(wrapped.stdout.toString().replace(/^child \d+\n/, '').length).toBe(120_000);
  });

  it('a job that the child left behind is waited for while it has the pipe', async () => {
    const wrapped = shell('exec 4<&0; (read -r line <&4; echo "late $line CANARY") & echo child $$; exit 3', { kind });
    const [child = 0] = await wrapped.numbers('child');
    await waitUntilGone([child]);
    wrapped.type('word\n');
    expect(await wrapped.ended()).toMatchObject({ code: 3, stdout: `child ${String(child)}\nlate word ******\n` });
  });

  it.each(['SIGINT', 'SIGHUP', 'SIGQUIT'] as const)('%s ends that wait, and the job stays', async (signal) => {
    const wrapped = shell('sleep 86400 & echo job $!; echo child $$; exit 3', { kind });
    leftovers.push(...(await wrapped.numbers('job')));
    await waitUntilGone(await wrapped.numbers('child'));
    wrapped.send(signal);
    expect(await wrapped.exited).toEqual({ code: 3, signal: null });
    expect(leftovers.every(alive)).toBe(true);
  });

  it('TERM ends the wait and the job', async () => {
    const wrapped = shell('(trap "" TERM; while :; do sleep 0.1; done) & echo job $!; echo child $$; exit 3', { kind, graceMs: 100 });
    const jobs = await wrapped.numbers('job');
    leftovers.push(...jobs);
    await waitUntilGone(await wrapped.numbers('child'));
    wrapped.send('SIGTERM');
    expect(await wrapped.exited).toEqual({ code: 3, signal: null });
    await waitUntilGone(jobs);
  });

  it('TERM ends also the wait for somebody who got away with the pipe', async () => {
    const escape = `require('child_process').spawn('sleep', ['86400'], { detached: true, stdio: 'inherit' })`;
    const wrapped = start([NODE, '-e', `const job = ${escape}; console.log('job ' + job.pid); job.unref()`], { kind });
    const [job = 0] = await wrapped.numbers('job');
    leftovers.push(job);
    wrapped.send('SIGTERM');
    await wrapped.exited;
  });

  it('what the child writes on TERM arrives', async () => {
    const wrapped = shell('trap "head -c 200000 /dev/zero; echo bye CANARY; exit 4" TERM; echo ready; while :; do sleep 0.05; done', {
      kind,
    });
    await wrapped.said('ready\n');
    wrapped.send('SIGTERM');
    const { code, stdout } = await wrapped.ended();
    expect({ code, length: stdout.length, last: stdout.slice(-11) }).toEqual({ code: 4, length: 200_017, last: 'bye ******\n' });
  });

  it('TERM ends kz by it when nobody reads what is still to be written', async () => {
    const counted = join(folder, `stuck-${kind}`);
    const words = [NODE, `${FIXTURES}progress.mjs`, String(50 * 1024 * 1024), counted];
    const wrapped = shell(`trap "exit 0" TERM; ${words.join(' ')} & wait`, { kind, unread: true });
    await heldUp(counted);
    wrapped.send('SIGTERM');
    expect(await wrapped.exited).toEqual({ code: null, signal: 'SIGTERM' });
  });

  it('both to the same place stay in order', async () => {
    const lines = Array.from({ length: 50 }, (_, index) => `out ${String(index)}\nerr ${String(index)}\n`).join('');
    const script = 'i=0; while [ $i -lt 50 ]; do echo out $i; echo err $i >&2; i=$((i+1)); done';
    const { code, stdout } = await shell(script, { kind, joined: true }).ended();
    expect({ code, stdout }).toEqual({ code: 0, stdout: lines });
  });

  it.skipIf(ONLY_LINUX)('the child has the descriptors that it would have', async () => {
    const list = ['sh', '-c', 'ls /proc/self/fd'] as const;
    const direct = await collect(spawn(list[0], list.slice(1), { stdio: ['pipe', 'pipe', 'pipe'] }));
    expect(await start(list, { kind }).ended()).toMatchObject({ stdout: direct.stdout, stderr: '' });
  });

  it('a filter that fails lets nothing through, and kz says so after the child', async () => {
    const wrapped = shell('echo good; sleep 0.1; echo bad CANARY; exit 0', { kind, failsAt: 'bad' });
    expect(await wrapped.ended()).toMatchObject({ code: 1, stdout: 'good\n', stderr: 'internal\n' });
  });

  it.each(['SIGTERM', 'SIGKILL', 'SIGSEGV'] as const)('a child that dies of %s gives kz the same end', async (signal) => {
    expect(await shell(`kill -${signal.slice(3)} $$`, { kind }).ended()).toMatchObject({ code: null, signal });
  });

  it('a program that is not there is an error, and kz ends', async () => {
    expect(await start(['no-such-program'], { kind }).ended()).toMatchObject({ code: 127, stderr: 'command-not-found\n' });
  });
});

describe('into a pipe or a file', () => {
  const OPENS = 'echo to stdout CANARY > /dev/stdout; echo to stderr > /dev/stderr';

  it('the child may open /dev/stdout and /dev/stderr', async () => {
    expect(await shell(OPENS).ended()).toMatchObject({ code: 0, stdout: 'to stdout ******\n', stderr: 'to stderr\n' });
  });

  it('a file holds what the child wrote, after what it held', async () => {
    const file = join(folder, 'log');
    const append = openSync(file, 'a');
    await collect(
      spawn('sh', ['-c', 'echo before; "$@" 2>&1; echo after', 'sh', NODE, wrapper, '{}', 'sh', '-c', OPENS], {
        stdio: ['ignore', append, 'inherit'],
      }),
    );
    closeSync(append);
    expect(readFileSync(file, 'utf8')).toBe('before\nto stdout ******\nto stderr\nafter\n');
  });

  it('a file that cannot grow is reported, and the child gets PIPE', async () => {
    const script = 'ulimit -f 8; "$@" > "$0"; echo "status $?" >&2';
    const { stderr } = await collect(spawn('bash', ['-c', script, join(folder, 'small'), NODE, wrapper, '{}', 'yes'], { stdio: 'pipe' }));
    expect(stderr).toBe('lost EFBIG\nstatus 141\n');
  });

  it('without a place to make one, the child gets a pair of sockets', async () => {
    const env = { TMPDIR: join(folder, 'nowhere') };
    expect(await shell('echo a CANARY; echo b >&2', { env }).ended()).toMatchObject({ code: 0, stdout: 'a ******\n', stderr: 'b\n' });
    expect(await shell('echo a CANARY; exec 1>&-; echo b >&2', { env, joined: true }).ended()).toMatchObject({ code: 0 });
  });

  it('no name of a pipe is left', async () => {
    const own = mkdtempSync(join(folder, 'tmp-'));
    await shell('echo a', { env: { TMPDIR: own } }).ended();
    expect((await collect(spawn('ls', ['-A', own]))).stdout).toBe('');
  });
});

describe.skipIf(ONLY_LINUX)('flags of descriptors that kz shares (Linux)', () => {
  const O_NONBLOCK = 0o4000;

  function isNonBlocking(pid: number, descriptor: number): boolean {
    const text = readFileSync(`/proc/${String(pid)}/fdinfo/${String(descriptor)}`, 'utf8');
    return (Number.parseInt(/flags:\s+(\d+)/.exec(text)?.[1] ?? '0', 8) & O_NONBLOCK) !== 0;
  }

  it.each(KINDS)('a %s stays blocking', async (kind) => {
    const wrapped = shell('echo ready; read -r line', { kind });
    await wrapped.said('ready\n');
    expect([0, 1, 2].map((descriptor) => isNonBlocking(wrapped.pid, descriptor))).toEqual([false, false, false]);
  });

  it.each(KINDS)('a %s that somebody made non-blocking loses nothing, and the child’s own is blocking', async (kind) => {
    const size = 5 * 1024 * 1024;
    const makeNonBlocking =
      'import fcntl, os, sys; fcntl.fcntl(1, fcntl.F_SETFL, os.O_NONBLOCK | fcntl.fcntl(1, fcntl.F_GETFL)); os.execvp(sys.argv[1], sys.argv[1:])';
    const counted = join(folder, `non-blocking-${kind}`);
    const inner = ['{}', NODE, `${FIXTURES}progress.mjs`, String(size), counted];
    // The outer one gives the inner one a stream that is non-blocking from its first moment.
    const wrapped = start(['python3', '-c', makeNonBlocking, NODE, wrapper, ...inner], { kind, unread: true });
    await heldUp(counted);
    wrapped.read();
    expect(await wrapped.ended()).toMatchObject({ code: 0 });
    expect(wrapped.stdout.length).toBe(size);
  });
});

describe.skipIf(NO_TERMINAL !== undefined)(`on a terminal${NO_TERMINAL === undefined ? '' : ` (${NO_TERMINAL})`}`, () => {
  it('^C ends kz when only a job that ignores it still has the pipe', async () => {
    const story = new Story();
    const child = '(trap "" INT; echo job; exec sleep 86400) & echo child $$; exit 3';
    const script = 'trap : INT; ("$@"; echo "status $?") | (trap "" INT; cat); read -r line';
    const terminal = await Terminal.start(story, ['bash', '-c', script, 'bash', NODE, wrapper, '{}', 'sh', '-c', child]);
    try {
      await terminal.sees('child ');
      const pid = Number.parseInt(await terminal.sees('\r\n'), 10);
      await waitFor('the job', () => terminal.shown.includes('job\r\n'));
      leftovers.push(...descendants(terminal.pid));
      await waitUntilGone([pid]);
      terminal.type('\u0003');
      await terminal.sees('^C');
      await waitFor('the status', () => terminal.shown.includes('status 3\r\n'));
    } finally {
      leftovers.push(...descendants(terminal.pid));
      terminal.close();
      story.end();
    }
  });
});

async function finished(wrapped: Wrapped): Promise<Wrapped> {
  await wrapped.ended();
  return wrapped;
}
