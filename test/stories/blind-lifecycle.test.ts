// A blind run from its start to its end: status, signals and streams as without kz, nothing left behind, and nothing that goes out any more
// once kz is gone.
import { readdirSync, utimesSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { FIXTURES, NODE, Story, type StartOptions } from './kz.ts';
import { alive, isWatched, Running, waitFor, waitUntilGone } from './processes.ts';
import { answerJson, Upstream } from './upstream.ts';

const RECORDER = [NODE, `${FIXTURES}recorder.mjs`];
const CLIENT = [NODE, `${FIXTURES}blind-client.mjs`];

let story: Story;
let upstream: Upstream;
let value: string;
let leftovers: number[];

beforeEach(async () => {
  story = new Story();
  value = story.canary();
  leftovers = [];
  upstream = await Upstream.start((request, response) => {
    answerJson(response, { you: request.headers.authorization });
  });
  upstream.configure(story, '[secrets]\nTOKEN = { provider = "env", ref = "SOURCE", hosts = ["api.example"] }\n');
});

afterEach(async () => {
  for (const pid of leftovers) if (alive(pid)) process.kill(pid, 'SIGKILL');
  await waitUntilGone(leftovers);
  story.end();
  await upstream.stop();
});

function start(args: readonly string[], options: StartOptions = {}): Running {
  const env = { ...upstream.environment, SOURCE: value, ...options.env };
  return new Running(story.start(['run', '--blind', ...args], { ...options, env }));
}

/** The private folders of runs. */
function folders(): string[] {
  return readdirSync(story.folder).filter((name) => name.startsWith('kz-blind-'));
}

async function ready(running: Running): Promise<number> {
  const [pid = 0] = await running.numbers('ready');
  leftovers.push(pid);
  return pid;
}

describe('the end of the program', () => {
  it.each([
    ['exit 0', 0],
    ['exit 7', 7],
    ['exec /nowhere/at-all', 127],
  ])('%s is the end of kz, and the folder of the run is gone', async (script, code) => {
    expect(await start(['--', 'sh', '-c', `exec 2>&-; ${script}`]).ended).toMatchObject({ code, signal: null, stderr: '' });
    expect(folders()).toEqual([]);
  });

  it.each(['SIGTERM', 'SIGKILL', 'SIGSEGV', 'SIGINT'] as const)('by %s is the end of kz', async (signal) => {
    expect(await start(['--', 'sh', '-c', `kill -${signal.slice(3)} $$`]).ended).toMatchObject({
      code: null,
      signal,
      stdout: '',
      stderr: '',
    });
    expect(folders()).toEqual([]);
  });

  it('that cannot be started is told as ever', async () => {
    const { code, stdout, stderr } = await start(['--', './nothing-here']).ended;
    expect({ code, stdout }).toEqual({ code: 127, stdout: '' });
    expect(stderr).toMatch(/^kz: error: .*\.\/nothing-here/);
    expect(folders()).toEqual([]);
  });

  it('does not wait for what it left running, which can send nothing any more', async () => {
    const script = `trap "" TERM; "$@" term=https://api.example/late & echo started; read -r line`;
    const running = start(['--', 'sh', '-c', script, 'sh', ...CLIENT], { keepInput: true });
    const pid = await ready(running);
    running.child.stdin?.end('go on\n');
    await waitFor('the end of kz', () => running.child.exitCode !== null);
    expect(running.child.exitCode).toBe(0);
    expect(folders()).toEqual([]);
    process.kill(pid, 'SIGTERM');
    await running.ended;
    expect(running.stdout).toContain('{"failed":"');
    expect(upstream.received).toEqual([]);
  });
});

describe('signals', () => {
  it('reach the program once, and it chooses the status', async () => {
    const running = start(['--', ...RECORDER, 'SIGTERM=exit:7']);
    await ready(running);
    running.send('SIGUSR2');
    await running.said('got SIGUSR2');
    running.send('SIGTERM');
    expect(await running.ended).toMatchObject({ code: 7, signal: null, stderr: '' });
    expect([running.count('got SIGUSR2'), running.count('got SIGTERM')]).toEqual([1, 1]);
    expect(folders()).toEqual([]);
  });

  it('TERM ends a tree that ignores it after the grace', async () => {
    const running = start(['--grace', '300ms', '--', 'sh', '-c', `${RECORDER.join(' ')}; true`]);
    const pid = await ready(running);
    running.send('SIGTERM');
    expect(await running.ended).toMatchObject({ stderr: '' });
    expect(alive(pid)).toBe(false);
    expect(folders()).toEqual([]);
  });

  it('during the grace the program can still send what it has to', async () => {
    const running = start(['--', ...CLIENT, 'term=https://api.example/goodbye']);
    await ready(running);
    running.send('SIGTERM');
    expect(await running.ended).toMatchObject({ code: 0, stderr: '' });
    expect(running.stdout).toContain('"status":200');
    expect(upstream.received.map(({ path, headers }) => [path, headers.authorization])).toEqual([['/goodbye', `Bearer ${value}`]]);
    story.examine(running.stdout, 'the answer');
  });

  it('the end of standard input is the program’s to see', async () => {
    const running = start(['--', ...RECORDER, 'stdin'], { keepInput: true });
    await ready(running);
    running.child.stdin?.end();
    expect(await running.ended).toMatchObject({ code: 0, stderr: '' });
  });
});

describe('kz killed by KILL', () => {
  /** Once its watchdog is there, which ends the program then. */
  async function killed(running: Running, child: number): Promise<void> {
    await waitFor('the watchdog', () => isWatched(child));
    running.send('SIGKILL');
  }

  it('leaves a program whose requests fail closed, and no process', async () => {
    const running = start(['--', ...CLIENT, 'https://api.example/before', 'term=https://api.example/after']);
    const pid = await ready(running);
    await killed(running, pid);
    expect(await running.ended).toMatchObject({ signal: 'SIGKILL' });
    await waitUntilGone([pid]);
    const lines = running.stdout.split('\n').filter((line) => line.startsWith('{'));
    expect(lines.map((line) => JSON.parse(line) as unknown)).toEqual([
      expect.objectContaining({ status: 200 }),
      { failed: expect.stringMatching(/^(?:ECONNREFUSED|ECONNRESET|UND_ERR_SOCKET)$/) as string },
    ]);
    expect(upstream.received.map(({ path }) => path)).toEqual(['/before']);
  });

  it('leaves a folder without secrets, which a run of a later day takes away', async () => {
    const running = start(['--', ...RECORDER]);
    const pid = await ready(running);
    expect(folders()).toHaveLength(1);
    await killed(running, pid);
    await running.ended;
    await waitUntilGone([pid]);
    const left = folders();
    const days = new Date(Date.now() - 48 * 3_600_000);
    for (const folder of left) utimesSync(join(story.folder, folder), days, days);
    const next = start(['--', ...RECORDER, 'stdin'], { keepInput: true });
    await ready(next);
    expect(folders()).toHaveLength(1);
    expect(folders()).not.toEqual(left);
    next.child.stdin?.end();
    await next.ended;
    expect(folders()).toEqual([]);
  });
});

describe('two runs at once', () => {
  it('leave each other’s folders alone', async () => {
    const [one, two] = [start(['--', ...RECORDER, 'stdin'], { keepInput: true }), start(['--', ...RECORDER, 'stdin'], { keepInput: true })];
    await Promise.all([ready(one), ready(two)]);
    expect(folders()).toHaveLength(2);
    for (const running of [one, two]) running.child.stdin?.end();
    await Promise.all([one.ended, two.ended]);
    expect(folders()).toEqual([]);
  });
});

describe('standard streams', () => {
  it('carry the bytes of the program and none of kz', async () => {
    const { bytes, stderr, code } = await start(['--', NODE, `${FIXTURES}every-byte.mjs`]).ended;
    const alone = await new Running(story.startProgram([NODE, `${FIXTURES}every-byte.mjs`])).ended;
    expect(bytes.equals(alone.bytes)).toBe(true);
    expect({ stderr, code }).toEqual({ stderr: alone.stderr, code: alone.code });
  });

  it('carry input as it is', async () => {
    const input = Buffer.from(Array.from({ length: 100_000 }, (_, index) => index % 256));
    expect((await start(['--', 'cat'], { input }).ended).bytes.equals(input)).toBe(true);
  });

  it('stay silent while requests are refused', async () => {
    const { stdout, stderr } = await start(['--', ...CLIENT, 'http://169.254.169.254/latest/meta-data/']).ended;
    expect(stdout).toContain('"code":"address-forbidden"');
    expect(stderr).toBe('');
  });
});
