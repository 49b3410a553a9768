// From the first secret to the last process of an isolated run: it is built beside the fetch, ends with the program, and leaves nothing behind,
// whoever fails or gives up first.
import { randomBytes } from 'node:crypto';
import { existsSync, readdirSync, readlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { IsolatedStory, STRICT } from './isolated.ts';
import { ISOLATION_NOTE, NO_ISOLATION } from './isolation.ts';
import { FIXTURES, NODE } from './kz.ts';
import { alive, descendants, isRunning, Running, waitFor, waitUntilGone } from './processes.ts';

const RECORDER = [NODE, `${FIXTURES}recorder.mjs`];
/** Less than any deadline of kz's own, and more than a start takes on a busy machine. */
const SOON_MS = 5_000;

let story: IsolatedStory;
/** In the arguments of every program of a test, and so in those of all that is built for it. */
let marker: string;
let leftovers: number[];

beforeEach(() => {
  story = new IsolatedStory();
  marker = `marker-${randomBytes(8).toString('hex')}`;
  leftovers = [];
});

afterEach(() => {
  for (const pid of leftovers) if (alive(pid)) process.kill(pid, 'SIGKILL');
  story.end();
});

async function ready(running: Running): Promise<number[]> {
  await running.numbers('ready');
  const tree = descendants(running.pid);
  leftovers.push(...tree);
  return tree;
}

/** Of a process as it is outside: `net:[4026531833]`. */
function network(pid: number): string | undefined {
  try {
    return readlinkSync(`/proc/${String(pid)}/ns/net`);
  } catch {
    return undefined;
  }
}

/** Who is in it. A namespace in which nobody is and that nobody holds open is gone. */
function inhabitants(namespace: string): number[] {
  const pids = readdirSync('/proc').map(Number).filter(Number.isInteger);
  return pids.filter((pid) => network(pid) === namespace);
}

/** A provider that says that it runs and then does what the script says. */
function provider(script: string, more = ''): void {
  story.write('provider', `#!/bin/sh\n: > "$0.runs"\n${script}\n`, 0o755);
  story.config(`[secrets]\nTOKEN = { provider = "exec", ref = "./provider", hosts = ["api.example"] }\n${more}`);
}

function begun(): boolean {
  return existsSync(join(story.project, 'provider.runs'));
}

describe.skipIf(NO_ISOLATION !== undefined)(`an isolated run${ISOLATION_NOTE}`, () => {
  describe('signals for kz', () => {
    it.each(['SIGTERM', 'SIGINT', 'SIGHUP'] as const)('%s reaches the program once, which chooses the status', async (signal) => {
      const running = story.running([...RECORDER, `${signal}=exit:7`, marker]);
      const tree = await ready(running);
      // Whatever else kz would send is there before this one.
      running.send('SIGUSR1');
      await running.said('got SIGUSR1');
      running.send(signal);
      expect(await running.ended).toMatchObject({ code: 7, signal: null, stderr: '' });
      expect([running.count(`got ${signal}`), running.count('got SIGUSR1')]).toEqual([1, 1]);
      await waitUntilGone(tree);
      expect(isRunning(marker)).toBe(false);
    });

    it.each(['SIGTERM', 'SIGINT', 'SIGHUP'] as const)('%s ends a program without an answer to it, and kz ends by it', async (signal) => {
      const running = story.running([...RECORDER, `${signal}=die`, marker]);
      const tree = await ready(running);
      running.send(signal);
      expect(await running.ended).toMatchObject({ code: null, signal, stderr: '' });
      await waitUntilGone(tree);
    });

    it('TERM gives the program the grace to finish, and not more', async () => {
      const program = `process.on('SIGTERM', () => { console.log('got'); process.stdin.on('end', () => { console.log('finished'); process.exit(4) }).resume() });
        setInterval(() => {}, 60_000); console.log('ready 1')`;
      const patient = story.running([NODE, '-e', program], { keepInput: true });
      await ready(patient);
      patient.send('SIGTERM');
      await patient.said('got');
      patient.child.stdin?.end();
      expect(await patient.ended).toMatchObject({ code: 4, stderr: '' });
      expect(patient.count('finished')).toBe(1);
      const deaf = story.running([...RECORDER, marker], { flags: ['--grace', '200ms'] });
      const tree = await ready(deaf);
      deaf.send('SIGTERM');
      await deaf.ended;
      expect(deaf.count('got SIGTERM')).toBe(1);
      await waitUntilGone(tree);
    });
  });

  describe('the end', () => {
    it('of the program is that of what it has left running, and of the namespace', async () => {
      const daemon = `setsid ${RECORDER.join(' ')} ${marker} </dev/null >ready 2>&1 & until grep -qs ready ready; do sleep 0.01; done`;
      const running = story.running(['sh', '-c', `${daemon}; echo ready 1; read -r line; exit 3`, marker], { keepInput: true });
      const tree = await ready(running);
      const own = network(process.pid);
      const [namespace = ''] = new Set(tree.flatMap((pid) => network(pid) ?? []).filter((each) => each !== own));
      expect(inhabitants(namespace).length).toBeGreaterThan(1);
      running.child.stdin?.end('go on\n');
      expect(await running.ended).toMatchObject({ code: 3, stderr: '' });
      await waitUntilGone(tree);
      expect([isRunning(marker), inhabitants(namespace)]).toEqual([false, []]);
    });

    it('of kz by KILL is the end of everything, also of a daemon', async () => {
      const daemon = `setsid ${RECORDER.join(' ')} ${marker} </dev/null >log 2>&1 & until grep -qs ready log; do sleep 0.01; done`;
      const running = story.running(['sh', '-c', `${daemon}; echo ready 1; exec sleep 86400`, marker]);
      const tree = await ready(running);
      const own = network(process.pid);
      const [namespace = ''] = new Set(tree.flatMap((pid) => network(pid) ?? []).filter((each) => each !== own));
      expect(inhabitants(namespace).length).toBeGreaterThan(1);
      running.send('SIGKILL');
      await running.ended;
      await waitUntilGone(tree);
      expect([isRunning(marker), inhabitants(namespace)]).toEqual([false, []]);
    });

    it('leaves no file of the run', async () => {
      expect(await story.strict(['sh', '-c', 'test -r "$SSL_CERT_FILE"'])).toMatchObject({ code: 0, stderr: '' });
      expect(readdirSync(story.temporary)).toEqual([]);
    });
  });

  it('is one of several at once, each with processes, ports and a folder of its own', async () => {
    const program = `require('http').createServer().listen(4000, '127.0.0.1', () => console.log('ready ' + process.pid)); process.stdin.on('end', () => process.exit(5)).resume()`;
    const [one, two] = [1, 2].map(() => story.running([NODE, '-e', program, marker], { keepInput: true }));
    if (one === undefined || two === undefined) throw new Error('there are two');
    await Promise.all([ready(one), ready(two)]);
    one.child.stdin?.end();
    expect(await one.ended).toMatchObject({ code: 5, stderr: '' });
    expect(two.child.exitCode).toBeNull();
    two.child.stdin?.end();
    expect(await two.ended).toMatchObject({ code: 5, stderr: '' });
    expect(isRunning(marker)).toBe(false);
  });

  describe('beside the secrets', () => {
    it('is built while they are fetched, and the program starts when they are there', async () => {
      provider('until test -e "$0.go"; do sleep 0.01; done; echo value-of-the-provider');
      const running = story.running(['sh', '-c', 'echo "$TOKEN"', marker]);
      await waitFor('the provider', begun);
      const own = network(process.pid);
      await waitFor('a network of its own', () => descendants(running.pid).some((pid) => ![own, undefined].includes(network(pid))));
      expect(running.stdout).toBe('');
      writeFileSync(join(story.project, 'provider.go'), '');
      expect(await running.ended).toMatchObject({ code: 0, stderr: '', stdout: expect.stringMatching(/^kz_masked_\w+\n$/) as string });
    });

    it.each([
      ['are missing', 'exit 0'],
      ['cannot be fetched', 'echo no >&2; exit 1'],
    ])('that %s it ends with kz, which says the same as without', async (_, script) => {
      provider(script);
      const started = performance.now();
      const isolated = await story.strict(['sh', '-c', ': > started', marker]);
      expect(performance.now() - started).toBeLessThan(SOON_MS);
      expect(isolated).toEqual(await story.plain(['sh', '-c', ': > started', marker]));
      expect(isolated).toMatchObject({ code: 125, stdout: '' });
      expect([isRunning(marker), existsSync(join(story.project, 'started'))]).toEqual([false, false]);
    });

    it('that take too long it ends with kz', async () => {
      provider('exec sleep 86400');
      const started = performance.now();
      const { code, stdout, stderr } = await story.strict(['true', marker], { flags: ['--timeout', '300ms'] });
      expect(performance.now() - started).toBeLessThan(SOON_MS);
      expect({ code, stdout }).toEqual({ code: 125, stdout: '' });
      expect(stderr).toMatch(/^kz: error: /);
      expect(isRunning(marker)).toBe(false);
    });

    it.each(['SIGINT', 'SIGTERM', 'SIGHUP'] as const)('%s ends both, and kz by it', async (signal) => {
      provider('exec sleep 86400');
      const running = new Running(story.start([...STRICT, '--', 'true', marker]));
      await waitFor('the provider', begun);
      await waitFor('the sandbox', () => isRunning(`true ${marker}`));
      const tree = descendants(running.pid);
      leftovers.push(...tree);
      const started = performance.now();
      running.send(signal);
      expect(await running.ended).toMatchObject({ code: null, signal, stdout: '' });
      expect(performance.now() - started).toBeLessThan(SOON_MS);
      await waitUntilGone(tree);
      expect(isRunning(marker)).toBe(false);
    });

    it('a sandbox whose settings are refused is not left waiting', async () => {
      story.blind('[blind.sandbox]\nwrite = ["nowhere"]');
      const running = story.running(['true', marker]);
      expect(await running.ended).toMatchObject({ code: 125, stdout: '' });
      expect(isRunning(marker)).toBe(false);
    });
  });
});
