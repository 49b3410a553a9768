// `kz run` and signals, without a terminal: how the child died, what reaches it, and that nothing of it stays behind.
import { randomInt } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { collect, FIXTURES, KZ, NODE, Story, type StartOptions } from './kz.ts';
import { alive, isRunning, isWatched, Running, waitFor, waitUntilGone } from './processes.ts';

const RECORDER = [NODE, `${FIXTURES}recorder.mjs`];
const FORWARDED = ['SIGTERM', 'SIGINT', 'SIGHUP', 'SIGQUIT', 'SIGUSR1', 'SIGUSR2'] as const;

let story: Story;
let leftovers: number[];

beforeEach(() => {
  story = new Story();
  leftovers = [];
  story.config('[secrets]\nTOKEN = { provider = "env", ref = "SOURCE" }\n');
});

afterEach(async () => {
  story.end();
  for (const pid of leftovers) if (alive(pid)) process.kill(pid, 'SIGKILL');
  await waitUntilGone(leftovers);
});

function start(args: readonly string[], options: StartOptions = {}): Running {
  return new Running(story.start(args, { ...options, env: { SOURCE: story.canary(), ...options.env } }));
}

/** The pids that the recorders of `running` announce. They are ended with the story whatever happens. */
async function recorders(running: Running, count = 1): Promise<number[]> {
  const pids = await running.numbers('ready', count);
  leftovers.push(...pids);
  return pids;
}

/** A command line that nothing else on this machine has. */
function longSleep(): string {
  return `sleep 86400.${String(randomInt(1e9))}`;
}

async function watched(child: number): Promise<void> {
  await waitFor('the watchdog', () => isWatched(child));
}

async function unwatched(child: number): Promise<void> {
  await waitFor('the end of the watchdog', () => !isWatched(child));
}

describe('a child that dies by a signal', () => {
  const SIGNALS = 'HUP INT QUIT ILL TRAP ABRT BUS FPE KILL USR1 SEGV USR2 PIPE ALRM TERM XCPU XFSZ VTALRM PROF SYS'.split(' ');

  it.each(SIGNALS)('of %s gives kz the same end', async (name) => {
    const { signal, code, stdout, stderr } = await start(['run', '--', 'sh', '-c', `kill -${name} $$`]).ended;
    expect({ signal, code, stdout, stderr }).toEqual({ signal: `SIG${name}`, code: null, stdout: '', stderr: '' });
  });

  it('may leave a core dump, and kz none: it would hold every value, and replace the one of the child', async () => {
    story.write('below/.keep', '');
    const script = 'ulimit -c unlimited 2>/dev/null; exec "$@"';
    const words = ['sh', '-c', 'cd below; kill -ABRT $$'];
    const shell = story.startProgram(['sh', '-c', script, 'sh', NODE, KZ, 'run', '--', ...words], { env: { SOURCE: story.canary() } });
    expect((await collect(shell)).signal).toBe('SIGABRT');
    rmSync(join(story.project, 'below'), { recursive: true });
    expect(readdirSync(story.project)).toEqual(['.keyzero.toml']);
  });
});

describe('a signal for kz', () => {
  it.each(FORWARDED)('%s reaches the child once, at once', async (signal) => {
    const running = start(['run', '--grace', '1m', '--', ...RECORDER, 'stdin'], { keepInput: true });
    await recorders(running);
    for (let times = 1; times <= 5; times += 1) {
      const sent = performance.now();
      running.send(signal);
      await running.said(`got ${signal}`, times);
      expect(performance.now() - sent).toBeLessThan(2000);
    }
    // Whatever kz sent twice is there before this one.
    const fence = signal === 'SIGUSR2' ? 'SIGUSR1' : 'SIGUSR2';
    running.send(fence);
    await running.said(`got ${fence}`);
    expect(running.count(`got ${signal}`)).toBe(5);
    running.child.stdin?.end();
    expect(await running.ended).toMatchObject({ code: 0, stderr: '' });
  });

  it.each(FORWARDED)('%s ends a child that does nothing about it, and kz with it', async (signal) => {
    const running = start(['run', '--', 'sh', '-c', 'echo ready $$; exec sleep 86400']);
    await recorders(running);
    running.send(signal);
    expect(await running.ended).toMatchObject({ signal, stderr: '' });
  });

  it('TERM gives kz the status that the child chooses', async () => {
    const running = start(['run', '--', ...RECORDER, 'SIGTERM=exit:7']);
    await recorders(running);
    running.send('SIGTERM');
    expect(await running.ended).toMatchObject({ code: 7, signal: null });
  });

  it.each(['sh', 'exec'])('TERM right at the spawn is not lost (%s)', async (how) => {
    for (let round = 0; round < 5; round += 1) {
      const sleep = longSleep();
      const script = how === 'exec' ? `kill -TERM $PPID; exec ${sleep}` : `kill -TERM $PPID; ${sleep}; true`;
      expect(await start(['run', '--', 'sh', '-c', script]).ended).toMatchObject({ signal: 'SIGTERM', stderr: '' });
      expect(isRunning(sleep)).toBe(false);
    }
  });

  it('TERM at any moment of the start ends it, with nothing left', async () => {
    const { length } = await Promise.all(
      Array.from({ length: 24 }, async (_, index) => {
        const sleep = longSleep();
        const running = start(['run', '--', 'sh', '-c', `${sleep}; true`]);
        // Spread over the start; what is tested is that no moment is a bad one.
        await new Promise((resolve) => setTimeout(resolve, index * 15));
        running.send('SIGTERM');
        expect(await running.ended).toMatchObject({ signal: 'SIGTERM', stderr: '' });
        expect(isRunning(sleep)).toBe(false);
      }),
    );
    expect(length).toBe(24);
  });
});

describe('a signal while the secrets are resolved', () => {
  const STOPS = ['SIGTERM', 'SIGINT', 'SIGHUP', 'SIGQUIT'] as const;

  /** The provider says its pid in a file, since its standard output is the secret. */
  async function slowProvider(script: string): Promise<{ running: Running; provider: number }> {
    const pidFile = join(story.folder, 'provider.pid');
    story.write('provider', `#!/bin/sh\necho $$ > ${pidFile}.new && mv ${pidFile}.new ${pidFile}\n${script}\n`, 0o755);
    story.config('[secrets]\nTOKEN = { provider = "exec", ref = "./provider" }\n');
    const running = start(['run', '--', 'sh', '-c', 'echo started']);
    await waitFor('the provider', () => existsSync(pidFile));
    const provider = Number(readFileSync(pidFile, 'utf8'));
    leftovers.push(provider);
    return { running, provider };
  }

  it.each(STOPS)('%s ends kz by it, and the provider’s program, and the child is never started', async (signal) => {
    const { running, provider } = await slowProvider('exec sleep 86400');
    running.send(signal);
    expect(await running.ended).toMatchObject({ signal, stdout: '', stderr: '' });
    await waitUntilGone([provider]);
  });

  it('TERM ends also a provider’s program that ignores it', async () => {
    const { running, provider } = await slowProvider('trap "" TERM; while :; do sleep 0.1; done');
    running.send('SIGTERM');
    expect(await running.ended).toMatchObject({ signal: 'SIGTERM', stdout: '', stderr: '' });
    await waitUntilGone([provider]);
  });

  it('TERM wins when the value comes at the same moment', async () => {
    story.write('provider', '#!/bin/sh\nkill -TERM $PPID\necho value\n', 0o755);
    story.config('[secrets]\nTOKEN = { provider = "exec", ref = "./provider" }\n');
    expect(await start(['run', '--', 'sh', '-c', 'echo started; exec sleep 86400']).ended).toMatchObject({ signal: 'SIGTERM', stderr: '' });
  });

  it('USR1 does not open Node’s debugger', async () => {
    const { running } = await slowProvider('exec sleep 86400');
    running.send('SIGUSR1');
    expect(await running.ended).toMatchObject({ signal: 'SIGUSR1', stdout: '', stderr: '' });
  });
});

describe('TERM ends the whole tree', () => {
  const GRACE = ['--grace', '300ms'];

  it('below shells that do not forward, as npx, npm and sh stand above a server', async () => {
    const inner = RECORDER.join(' ');
    const running = start(['run', ...GRACE, '--', 'sh', '-c', `sh -c "${inner} SIGTERM=exit:0; true"; true`]);
    const pids = await recorders(running);
    running.send('SIGTERM');
    await running.ended;
    expect(pids.some(alive)).toBe(false);
    expect(running.count('got SIGTERM')).toBe(1);
  });

  it('of children that ignore it', async () => {
    const running = start(['run', ...GRACE, '--', ...RECORDER]);
    const pids = await recorders(running);
    running.send('SIGTERM');
    expect(await running.ended).toMatchObject({ signal: 'SIGKILL', stderr: '' });
    await waitUntilGone(pids);
  });

  it('of children that ignore it, by default before an MCP client loses patience with kz', async () => {
    const running = start(['run', '--', 'sh', '-c', `${RECORDER.join(' ')}; true`]);
    const pids = await recorders(running);
    const sent = performance.now();
    running.send('SIGTERM');
    await running.ended;
    await waitUntilGone(pids);
    expect(performance.now() - sent).toBeLessThan(5000);
  });

  it('when the child goes at once and its own children ignore it', async () => {
    const recorder = RECORDER.join(' ');
    const running = start(['run', ...GRACE, '--', 'sh', '-c', `${recorder} & ${recorder} & wait`]);
    const pids = await recorders(running, 2);
    running.send('SIGTERM');
    expect(await running.ended).toMatchObject({ signal: 'SIGTERM' });
    await waitUntilGone(pids);
  });

  it('also of those in a group and a session of their own', async () => {
    const running = start(['run', ...GRACE, '--', NODE, `${FIXTURES}apart.mjs`]);
    const pids = await recorders(running);
    running.send('SIGTERM');
    expect(await running.ended).toMatchObject({ signal: 'SIGTERM' });
    await waitUntilGone(pids);
    expect(running.count('got SIGTERM')).toBe(1);
  });

  it('with one TERM for each, also below others', async () => {
    const recorder = RECORDER.join(' ');
    const running = start(['run', ...GRACE, '--', 'sh', '-c', `${recorder} & ${recorder} & ${recorder} & ${recorder}; true`]);
    const pids = await recorders(running, 4);
    running.send('SIGTERM');
    await running.ended;
    await waitUntilGone(pids);
    expect(running.count('got SIGTERM')).toBe(4);
  });

  it('with one TERM for those whom another kz, or timeout(1), forwards it to', async () => {
    const running = start(['run', '--grace', '1m', '--', NODE, KZ, 'run', '--grace', '1m', '--', ...RECORDER]);
    const [pid = 0] = await recorders(running);
    running.send('SIGTERM');
    await running.said('got SIGTERM');
    // Long enough for kz to look after the tree several times.
    for (let times = 1; times <= 30; times += 1) {
      running.send('SIGUSR2');
      await running.said('got SIGUSR2', times);
    }
    expect(running.count('got SIGTERM')).toBe(1);
    process.kill(pid, 'SIGKILL');
    expect(await running.ended).toMatchObject({ signal: 'SIGKILL' });
  });

  it('and kz does not wait for the grace when the tree is gone', async () => {
    const running = start(['run', '--grace', '1m', '--', 'sh', '-c', `${RECORDER.join(' ')} SIGTERM=exit:0 & wait`]);
    await recorders(running);
    running.send('SIGTERM');
    expect(await running.ended).toMatchObject({ signal: 'SIGTERM' });
  });

  it('at once with --grace 0s', async () => {
    const running = start(['run', '--grace', '0s', '--', ...RECORDER]);
    const pids = await recorders(running);
    running.send('SIGTERM');
    await running.ended;
    await waitUntilGone(pids);
  });

  it('when the child is stopped', async () => {
    const running = start(['run', ...GRACE, '--', ...RECORDER]);
    const [pid = 0] = await recorders(running);
    process.kill(pid, 'SIGSTOP');
    running.send('SIGTERM');
    expect(await running.ended).toMatchObject({ signal: 'SIGKILL' });
  });
});

describe('kz killed by KILL', () => {
  it.each([
    ['a child', (recorder: string) => recorder],
    ['a tree', (recorder: string) => `sh -c "${recorder} & ${recorder}; true"; true`],
    ['those in a group of their own', () => `${NODE} ${FIXTURES}apart.mjs`],
  ])('leaves nothing: %s that ignores TERM', async (name, script) => {
    const running = start(['run', '--', 'sh', '-c', `echo child $$; ${script(RECORDER.join(' '))}; true`]);
    const [child = 0] = await running.numbers('child');
    const pids = [child, ...(await recorders(running, name === 'a tree' ? 2 : 1))];
    await watched(child);
    running.send('SIGKILL');
    await waitUntilGone(pids);
    await unwatched(child);
    expect(await running.ended).toMatchObject({ signal: 'SIGKILL' });
  });

  it('gives everybody TERM first, once', async () => {
    const recorder = RECORDER.join(' ');
    const script = `echo child $$; ${recorder} & ${NODE} ${FIXTURES}apart.mjs & ${recorder}; true`;
    // What they say after kz is gone can be heard only when its pipe is theirs.
    const running = start(['run', '--no-redact', '--', 'sh', '-c', script]);
    const pids = await recorders(running, 3);
    const [child = 0] = await running.numbers('child');
    await watched(child);
    running.send('SIGKILL');
    await waitUntilGone(pids);
    await running.ended;
    expect(running.count('got SIGTERM')).toBe(3);
  });
});

describe('after the child has ended', () => {
  it('what it left running stays: a daemon is not kz’s to end', async () => {
    const sleep = longSleep();
    const script = `${sleep} >/dev/null 2>&1 & echo ready $!; read -r line`;
    const running = start(['run', '--', 'sh', '-c', `echo child $$; ${script}`], { keepInput: true });
    const [daemon = 0] = await recorders(running);
    const [child = 0] = await running.numbers('child');
    await watched(child);
    running.child.stdin?.end('go on\n');
    expect(await running.ended).toMatchObject({ code: 0 });
    await unwatched(child);
    expect(alive(daemon)).toBe(true);
  });

  it('no watchdog is left: by itself', async () => {
    const running = start(['run', '--', ...RECORDER, 'stdin'], { keepInput: true });
    const [child = 0] = await recorders(running);
    await watched(child);
    // The end of standard input is the child's to see, and the polite way to stop a server.
    running.child.stdin?.end();
    expect(await running.ended).toMatchObject({ code: 0, signal: null });
    await unwatched(child);
  });

  it.each(['SIGTERM', 'SIGINT', 'SIGKILL'] as const)('no watchdog is left: by %s', async (signal) => {
    const running = start(['run', '--', ...RECORDER, `${signal}=die`]);
    const [child = 0] = await recorders(running);
    await watched(child);
    process.kill(child, signal);
    expect(await running.ended).toMatchObject({ signal });
    await unwatched(child);
  });
});
