// A child that is replaced while it runs.
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { bundle } from '../fixtures/bundle.ts';
import { FIXTURES, Story } from '../stories/kz.ts';
import { alive, descendants, isWatched, stopped, waitFor, waitUntilGone, waitUntilReaped } from '../stories/processes.ts';
import { NO_TERMINAL, Terminal } from '../stories/terminal.ts';
import { Wrapped, type Kind, type WrappedOptions } from './wrapped.ts';

const KINDS = ['socket', 'pipe'] as const satisfies Kind[];
const NODE = process.execPath;
const RECORDER = `${NODE} ${FIXTURES}recorder.mjs`;

/** Answers every line of its standard input. */
const ECHO = 'echo "start $VALUE"; while read -r line; do echo "$VALUE $line"; done; echo "end $VALUE"; exit 3';

let folder: string;
let wrapper: string;
let running: Wrapped[] = [];
let leftovers: number[] = [];

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'kz-supervised-'));
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
  const wrapped = new Wrapped(wrapper, command, { supervised: true, env: { VALUE: 'one' }, ...options });
  running.push(wrapped);
  return wrapped;
}

function shell(script: string, options: WrappedOptions = {}): Wrapped {
  return start(['sh', '-c', script], options);
}

/** The pids of recorders. They are ended with the test whatever happens. */
async function recorders(wrapped: Wrapped, count: number): Promise<number[]> {
  const pids = await wrapped.numbers('ready', count);
  leftovers.push(...pids);
  return pids;
}

describe('a replacement', () => {
  it.each(KINDS)('has the new environment, and goes on with the same input and output (%s)', async (kind) => {
    const wrapped = shell(ECHO, { kind });
    wrapped.type('a CAN\n');
    await wrapped.said('one a CAN\n');
    await wrapped.order({ replace: { VALUE: 'two' } });
    await wrapped.said('start two\n');
    wrapped.type('b CANARY\n');
    await wrapped.said('two b ******\n');
    await wrapped.order({ replace: { VALUE: 'three' } });
    await wrapped.said('start three\n');
    wrapped.process.stdin?.end('c\n');
    const stdout = 'start one\none a CAN\nstart two\ntwo b ******\nstart three\nthree c\nend three\n';
    expect(await wrapped.ended()).toEqual({ code: 3, signal: null, stdout, stderr: '' });
  });

  it('is started when nothing of the tree before is left', async () => {
    const wrapped = shell(`sh -c "${RECORDER} SIGTERM=exit:0 & ${RECORDER}; true"; true`, { graceMs: 300 });
    const before = await recorders(wrapped, 2);
    await wrapped.order({ replace: {} });
    await wrapped.numbers('ready', 3);
    expect(before.some(alive)).toBe(false);
    await recorders(wrapped, 4);
    wrapped.send('SIGTERM');
    expect(await wrapped.exited).toMatchObject({ signal: 'SIGTERM' });
    await waitUntilGone(leftovers);
  });

  it('follows a child that ignores TERM, after the grace', async () => {
    const wrapped = shell(`exec ${RECORDER}`, { graceMs: 200 });
    const [before = 0] = await recorders(wrapped, 1);
    await wrapped.order({ replace: {} });
    const [, after = 0] = await recorders(wrapped, 2);
    expect(alive(before)).toBe(false);
    process.kill(after, 'SIGKILL');
    expect(await wrapped.ended()).toMatchObject({ signal: 'SIGKILL', stderr: '' });
  });

  it('is one when it is asked for several times, with the last environment', async () => {
    const wrapped = shell(`trap 'echo told; read -r line; exit 0' TERM; echo "start $VALUE"; while :; do sleep 0.05; done`);
    await wrapped.said('start one\n');
    await wrapped.order({ replace: { VALUE: 'two' } }, { replace: { VALUE: 'three' } });
    await wrapped.said('told\n');
    await wrapped.order({ replace: { VALUE: 'four' } });
    wrapped.type('go\n');
    await wrapped.said('start four\n');
    wrapped.send('SIGKILL');
    await wrapped.exited;
    expect(wrapped.stdout.toString()).toBe('start one\ntold\nstart four\n');
  });

  it('of a child that has just ended by itself is not started, whichever kz hears first', async () => {
    for (let round = 0; round < 5; round += 1) {
      const wrapped = shell('echo child $$; read -r line; exit 5');
      const [child = 0] = await wrapped.numbers('child');
      wrapped.send('SIGSTOP');
      await waitFor('kz to stop', () => process.platform !== 'linux' || stopped(wrapped.pid));
      wrapped.type('go\n');
      await waitUntilGone([child]);
      wrapped.tell({ replace: {} });
      wrapped.send('SIGCONT');
      expect(await wrapped.ended()).toMatchObject({ code: 5, stdout: `child ${String(child)}\n` });
    }
  });

  it.each(KINDS)('writes after what the one before wrote, also when the reader was slow (%s)', async (kind) => {
    const script = `trap 'echo bye $VALUE; exit 0' TERM; echo "start $VALUE" >&2; if [ $VALUE = one ]; then head -c 150000 /dev/zero; fi;
      echo "now $VALUE"; if [ $VALUE = two ]; then exit 4; fi; while :; do sleep 0.05; done`;
    const wrapped = shell(script, { kind, unread: true, graceMs: 500 });
    let errors = '';
    wrapped.onErrors((chunk) => (errors += chunk.toString()));
    await waitFor('the first child', () => errors.includes('start one\n'));
    await wrapped.order({ replace: { VALUE: 'two' } });
    await waitFor('the second child', () => errors.includes('start two\n'));
    wrapped.read();
    const { code, stdout } = await wrapped.ended();
    expect(code).toBe(4);
    const words = stdout.replace(/\0+/, '');
    expect(words.endsWith('now two\n')).toBe(true);
    expect(stdout.indexOf('now two')).toBe(stdout.length - 'now two\n'.length);
    expect(stdout.lastIndexOf('\0')).toBeLessThan(stdout.indexOf('now two'));
  });

  it('is heard although somebody got away with the pipe of the one before', async () => {
    const escape = `const { spawn } = require('child_process'); console.log('value ' + process.env.VALUE);
      if (process.env.VALUE === 'one') spawn('sh', ['-c', 'sleep 86400 & echo "job $!"'], { detached: true, stdio: 'inherit' }).unref();
      setInterval(() => undefined, 1000); process.on('SIGHUP', () => process.exit(6));`;
    const wrapped = start([NODE, '-e', escape]);
    const jobs = await wrapped.numbers('job');
    leftovers.push(...jobs);
    await wrapped.order({ replace: { VALUE: 'two' } });
    await wrapped.said('value two\n');
    await wrapped.order({ signal: 'SIGHUP' });
    expect(await wrapped.exited).toEqual({ code: 6, signal: null });
  });

  it('that cannot be started ends kz, after the one before and all that it wrote', async () => {
    const program = join(folder, 'program');
    writeFileSync(program, '#!/bin/sh\ntrap "echo bye; exit 0" TERM\necho child $$\nwhile :; do sleep 0.05; done\n');
    chmodSync(program, 0o755);
    const wrapped = start([program]);
    const [child = 0] = await wrapped.numbers('child');
    rmSync(program);
    await wrapped.order({ replace: {} });
    const { code, stdout, stderr } = await wrapped.ended();
    expect({ code, stdout }).toEqual({ code: 127, stdout: `child ${String(child)}\nbye\n` });
    expect(stderr).toMatch(/^command-not-found$/m);
    expect(alive(child)).toBe(false);
  });

  it('does not go on with what the child before it left unfinished', async () => {
    const wrapped = shell('printf %s "$VALUE"; echo go >&2; exec sleep 60', { env: { VALUE: 'x CAN' } });
    const starts = (count: number) => waitFor('the start', () => wrapped.stderr.split('go').length > count);
    await starts(1);
    await wrapped.order({ replace: { VALUE: 'ARY' } });
    await starts(2);
    wrapped.send('SIGTERM');
    expect(await wrapped.ended()).toMatchObject({ signal: 'SIGTERM', stdout: 'x CANARY' });
  });

  it('has a watchdog of its own', async () => {
    const wrapped = shell(`echo child $$; ${RECORDER}; true`, { graceMs: 200 });
    const [first = 0] = await wrapped.numbers('child');
    await recorders(wrapped, 1);
    await waitFor('the watchdog', () => isWatched(first));
    await wrapped.order({ replace: {} });
    const [, second = 0] = await wrapped.numbers('child', 2);
    await recorders(wrapped, 2);
    await waitFor('the second watchdog', () => isWatched(second));
    expect(isWatched(first)).toBe(false);
    wrapped.send('SIGKILL');
    await waitUntilGone([second, ...leftovers]);
    await waitFor('the end of the watchdog', () => !isWatched(second));
  });
});

describe('a signal', () => {
  it('of kz reaches the child and changes nothing else', async () => {
    const wrapped = shell(`exec ${RECORDER} SIGUSR2=exit:8`);
    await recorders(wrapped, 1);
    await wrapped.order({ signal: 'SIGHUP' });
    await wrapped.said('got SIGHUP\n');
    await wrapped.order({ signal: 'SIGUSR2' });
    expect(await wrapped.ended()).toMatchObject({ code: 8 });
  });

  it.each(['SIGTERM', 'SIGINT', 'SIGHUP', 'SIGQUIT'] as const)('%s of the user during a replacement ends the run', async (signal) => {
    const wrapped = shell(`exec ${RECORDER}`);
    const [child = 0] = await recorders(wrapped, 1);
    await wrapped.order({ replace: {} });
    await wrapped.said('got SIGTERM\n');
    wrapped.send(signal);
    await waitFor(
      'it to reach the child',
      () => wrapped.stdout.toString().split(`got ${signal}\n`).length === (signal === 'SIGTERM' ? 3 : 2),
    );
    await wrapped.order({ replace: {} });
    process.kill(child, 'SIGKILL');
    expect(await wrapped.ended()).toMatchObject({ signal: 'SIGKILL', stderr: '' });
    expect(await wrapped.numbers('ready')).toEqual([child]);
  });

  it.each(['SIGTERM', 'SIGINT'] as const)(
    '%s of the user when the child has gone, and only its tree has not, ends kz by it',
    async (signal) => {
      const wrapped = shell(`${RECORDER} & echo child $$; trap "exit 0" TERM; while :; do sleep 0.05; done`, { graceMs: 2000 });
      const [job = 0] = await recorders(wrapped, 1);
      const [child = 0] = await wrapped.numbers('child');
      await wrapped.order({ replace: {} });
      await waitUntilReaped(child);
      wrapped.send(signal);
      await wrapped.said('got SIGTERM\n');
      expect(await wrapped.ended()).toMatchObject({ signal });
      expect(await wrapped.numbers('child')).toEqual([child]);
      expect(alive(job)).toBe(false);
    },
  );

  it('INT of the user ends the run, also when a replacement is asked for while the child is on its way out', async () => {
    const wrapped = shell('trap "echo stopping; read -r _; exit 9" INT; echo child $$; while :; do sleep 0.05; done');
    const [child = 0] = await wrapped.numbers('child');
    wrapped.send('SIGINT');
    await wrapped.said('stopping');
    await wrapped.order({ replace: {} });
    wrapped.type('stopped\n');
    expect(await wrapped.ended()).toMatchObject({ code: 9, stdout: `child ${String(child)}\nstopping\n` });
  });

  it('USR1 of the user goes to whoever runs', async () => {
    const wrapped = shell(`exec ${RECORDER} SIGTERM=exit:0`);
    await recorders(wrapped, 1);
    await wrapped.order({ replace: {} });
    const [, second = 0] = await recorders(wrapped, 2);
    wrapped.send('SIGUSR1');
    await wrapped.said('got SIGUSR1\n');
    process.kill(second, 'SIGKILL');
    await wrapped.ended();
  });

  it('TERM of the user ends the run as without a replacement', async () => {
    const wrapped = shell(`exec ${RECORDER} SIGTERM=exit:7`);
    await recorders(wrapped, 1);
    wrapped.send('SIGTERM');
    expect(await wrapped.ended()).toMatchObject({ code: 7, signal: null });
  });
});

describe.skipIf(NO_TERMINAL !== undefined)(`on a terminal${NO_TERMINAL === undefined ? '' : ` (${NO_TERMINAL})`}`, () => {
  let story: Story;

  it('the new child reads from it and gets its keys, and kz and the shell do not notice', async () => {
    story = new Story();
    // There is no third descriptor for orders here: they come from a FIFO.
    const orders = join(story.folder, 'orders');
    const script = 'trap : INT; mkfifo "$0" && exec 3<>"$0" && "$@"; echo "status $?"; read -r line';
    const child = ['sh', '-c', `trap 'echo interrupted; exit 9' INT; ${ECHO}`];
    const terminal = await Terminal.start(story, ['sh', '-c', script, orders, NODE, wrapper, '{"supervised":true}', ...child], {
      VALUE: 'one',
    });
    try {
      await terminal.sees('start one\r\n');
      const [kz = 0, first = 0] = descendants(terminal.pid);
      writeFileSync(orders, '{"replace":{"VALUE":"two"}}\n');
      await terminal.sees('start two\r\n');
      expect([alive(kz), alive(first)]).toEqual([true, false]);
      terminal.type('a\n');
      await terminal.sees('two a\r\n');
      terminal.type('\u0003');
      await terminal.sees('interrupted\r\n');
      await terminal.sees('status 9\r\n');
      terminal.type('\n');
      expect(await terminal.ended).toEqual({ code: 0 });
    } finally {
      terminal.close();
      story.end(['orders']);
    }
  });
});

it('stays out of the way of a plain run', () => {
  // `kz run` starts all day: what only some runs need is behind import().
  const text = readFileSync(new URL('../../src/run/child.ts', import.meta.url), 'utf8');
  expect([...text.matchAll(/^import (?!type).* from '(.*)';$/gm)].map(([, from]) => from)).not.toContain('./filtered-output.ts');
});
