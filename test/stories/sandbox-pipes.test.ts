// A blind run in isolation, on pipes: statuses, signals and bytes are what they are without, and nothing of it is left behind.
import { randomBytes } from 'node:crypto';
import { readdirSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { ISOLATION_NOTE, NO_ISOLATION, ownTemporary, READS_FIXTURES } from './isolation.ts';
import { FIXTURES, NODE, Story, type StartOptions } from './kz.ts';
import { alive, descendants, isRunning, Running, waitFor, waitUntilGone } from './processes.ts';

const RECORDER = [NODE, `${FIXTURES}recorder.mjs`];
const RUN = ['run', '--blind', '--sandbox', 'strict'];

let story: Story;
/** Of whatever was started, as they are outside: inside they have other numbers. */
let leftovers: number[];

beforeEach(() => {
  story = new Story();
  leftovers = [];
  story.config(`${READS_FIXTURES}[secrets]\nTOKEN = { provider = "env", ref = "SOURCE", hosts = ["api.example.test"] }\n`);
});

afterEach(() => {
  for (const pid of leftovers) if (alive(pid)) process.kill(pid, 'SIGKILL');
  story.end();
});

function start(words: readonly string[], options: StartOptions = {}): Running {
  const env = { SOURCE: story.canary(), TMPDIR: ownTemporary(story) };
  return new Running(story.start([...RUN, ...words], { ...options, env }));
}

/** Without waiting for its pipes, which whatever it left behind would keep open. */
function exited({ child }: Running): Promise<void> {
  return waitFor('the end of kz', () => child.exitCode !== null || child.signalCode !== null);
}

describe.skipIf(NO_ISOLATION !== undefined)(`isolated, on pipes${ISOLATION_NOTE}`, () => {
  it.each([
    ['exit 0', 0],
    ['exit 3', 3],
    ['exec /nowhere/at-all', 127],
  ])('%s is the end of kz', async (script, code) => {
    expect(await start(['--', 'sh', '-c', `exec 2>&-; ${script}`]).ended).toMatchObject({ code, signal: null, stderr: '' });
  });

  it('a program that is not there is told as ever', async () => {
    const { code, stdout, stderr } = await start(['--', './nothing-here']).ended;
    expect({ code, stdout }).toEqual({ code: 127, stdout: '' });
    expect(stderr).toMatch(/^kz: error: .*\.\/nothing-here/);
  });

  it.each([
    ['SIGSEGV', 11],
    ['SIGTERM', 15],
    ['SIGKILL', 9],
  ])('the end by %s is told, as a signal or as a shell would', async (signal, number) => {
    const { code, signal: by, stderr } = await start(['--', 'sh', '-c', `kill -${signal.slice(3)} $$`]).ended;
    expect([
      [null, signal],
      [128 + number, null],
    ]).toContainEqual([code, by]);
    expect(stderr).toBe('');
  });

  it('TERM ends a child of a child of a child that ignores it, after the grace', async () => {
    const inner = `${RECORDER.join(' ')}; true`;
    const running = start(['--grace', '300ms', '--', 'sh', '-c', `sh -c "sh -c '${inner}'; true"; true`], { keepInput: true });
    await running.numbers('ready');
    const tree = descendants(running.pid);
    leftovers.push(...tree);
    running.send('SIGTERM');
    const { stderr } = await running.ended;
    expect(stderr).toBe('');
    await waitUntilGone(tree);
  });

  it('TERM reaches the program, which chooses the status', async () => {
    const running = start(['--', ...RECORDER, 'SIGTERM=exit:7']);
    await running.numbers('ready');
    running.send('SIGTERM');
    expect(await running.ended).toMatchObject({ code: 7, signal: null, stderr: '' });
    expect(running.count('got SIGTERM')).toBe(1);
  });

  it.each(['SIGKILL', 'SIGTERM'] as const)('%s for kz leaves nothing behind, not even what has left its session', async (signal) => {
    const away = `setsid sh -c '${RECORDER.join(' ')} & wait' & wait`;
    const running = start(['--grace', '300ms', '--', 'sh', '-c', away]);
    await running.numbers('ready');
    const tree = descendants(running.pid);
    leftovers.push(...tree);
    running.send(signal);
    await running.ended;
    await waitUntilGone(tree);
  });

  it('a start that fails leaves nothing of the sandbox behind, however far that has come', async () => {
    const name = `nothing-${randomBytes(6).toString('hex')}`;
    // What is half built is ended at a different point each time.
    const all = Array.from({ length: 20 }, () => start(['--', name]));
    for (const running of all) await exited(running);
    expect(all.map(({ child }) => child.exitCode)).toEqual(all.map(() => 127));
    await waitFor('the end of every sandbox', () => !isRunning(name));
  });

  // More than one each time: what is half built is ended at whatever point it has reached.
  it.each(['SIGINT', 'SIGTERM', 'SIGKILL'] as const)('%s while the secrets are fetched leaves nothing behind', async (signal) => {
    const name = `kept-${randomBytes(6).toString('hex')}`;
    story.write('provider', '#!/bin/sh\n: > "$0.$$"\nexec sleep 86400\n', 0o755);
    story.config('[secrets]\nTOKEN = { provider = "exec", ref = "./provider", hosts = ["api.example.test"] }\n');
    const all = Array.from({ length: 6 }, () => start(['--', 'true', name]));
    await waitFor('the providers', () => readdirSync(story.project).filter((file) => file.startsWith('provider.')).length === all.length);
    leftovers.push(...all.flatMap(({ pid }) => descendants(pid)));
    for (const running of all) running.send(signal);
    for (const running of all) await exited(running);
    // A provider's program outlives a kz that is killed; the sandbox must not.
    await waitFor('the end of every sandbox', () => !isRunning(name));
  });

  it('as many arguments as anywhere', async () => {
    const words = Array.from({ length: 20_000 }, (_, index) => String(index));
    expect(await start(['--', 'sh', '-c', 'echo $#', 'sh', ...words]).ended).toMatchObject({ code: 0, stdout: '20000\n' });
  });

  it('the end of its input reaches the program', async () => {
    const running = start(['--', ...RECORDER, 'stdin'], { keepInput: true });
    await running.numbers('ready');
    running.child.stdin?.end();
    expect(await running.ended).toMatchObject({ code: 0, signal: null });
  });

  it('5 MB come through byte for byte', async () => {
    const input = randomBytes(5_000_000);
    const { bytes, code, stderr } = await start(['--', 'cat'], { input }).ended;
    expect({ code, stderr, same: bytes.equals(input) }).toEqual({ code: 0, stderr: '', same: true });
  });

  it('its standard error is its own', async () => {
    const { stdout, stderr } = await start(['--', 'sh', '-c', 'echo out; echo err >&2']).ended;
    expect({ stdout, stderr }).toEqual({ stdout: 'out\n', stderr: 'err\n' });
  });

  it('what it has open beside 0, 1 and 2 is nothing', async () => {
    const { stdout } = await start(['--', 'sh', '-c', 'exec ls /proc/self/fd']).ended;
    // The last one is the folder that ls itself reads.
    expect(stdout).toBe('0\n1\n2\n3\n');
  });
});
