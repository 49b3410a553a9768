// `kz run` on a terminal: the child shares its group and its descriptors with kz, and the keys mean what they mean without kz.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { FIXTURES, KZ, NODE, Story } from './kz.ts';
import { alive, isWatched, stopped, waitFor, waitUntilGone, descendants } from './processes.ts';
import { NO_TERMINAL, Terminal } from './terminal.ts';

const RECORDER = [NODE, `${FIXTURES}recorder.mjs`];
const INTERRUPT = '\u0003';
const SUSPEND = '\u001A';
const QUIT = '\u001C';

let story: Story;
let terminals: Terminal[];
let leftovers: number[];

beforeEach(() => {
  story = new Story();
  terminals = [];
  leftovers = [];
  story.config('[secrets]\nTOKEN = { provider = "env", ref = "SOURCE" }\n');
});

afterEach(() => {
  for (const terminal of terminals) {
    story.examine(terminal.shown, 'what the terminal showed');
    terminal.close();
  }
  for (const pid of leftovers) if (alive(pid)) process.kill(pid, 'SIGKILL');
  story.end();
});

async function open(command: readonly [string, ...string[]], env: Record<string, string> = {}): Promise<Terminal> {
  const terminal = await Terminal.start(story, command, { SOURCE: story.canary(), ...env });
  terminals.push(terminal);
  return terminal;
}

function run(words: readonly string[], flags: readonly string[] = []): Promise<Terminal> {
  return open([NODE, KZ, 'run', ...flags, '--', ...words]);
}

/** The pid of the recorder that has just started. It is ended with the story whatever happens. */
async function recorder(terminal: Terminal): Promise<number> {
  await terminal.sees('ready ');
  const pid = Number.parseInt(await terminal.sees('\r\n'), 10);
  leftovers.push(pid);
  return pid;
}

describe.skipIf(NO_TERMINAL !== undefined)(`on a terminal${NO_TERMINAL === undefined ? '' : ` (${NO_TERMINAL})`}`, () => {
  describe('^C', () => {
    it('reaches the child once each time, and kz outlives it', async () => {
      const terminal = await run(RECORDER);
      await recorder(terminal);
      for (let times = 1; times <= 5; times += 1) {
        terminal.type(INTERRUPT);
        await terminal.sees('got SIGINT');
        // Whatever kz sent on top is there before this one.
        terminal.type(QUIT);
        await terminal.sees('got SIGQUIT');
        expect([terminal.count('got SIGINT'), terminal.count('got SIGQUIT')]).toEqual([times, times]);
      }
      process.kill(terminal.pid, 'SIGKILL');
    });

    it('gives kz the status that the child chooses', async () => {
      const terminal = await run([...RECORDER, 'SIGINT=exit:3']);
      const child = await recorder(terminal);
      await waitFor('the watchdog', () => isWatched(child));
      terminal.type(INTERRUPT);
      expect(await terminal.ended).toEqual({ code: 3 });
      await waitFor('the end of the watchdog', () => !isWatched(child));
    });

    it('ends kz by the same signal when the child has no answer', async () => {
      const terminal = await run([...RECORDER, 'SIGINT=die']);
      const child = await recorder(terminal);
      terminal.type(INTERRUPT);
      expect(await terminal.ended).toEqual({ signal: 'SIGINT' });
      await waitFor('the end of the watchdog', () => !isWatched(child));
    });

    it('ends a shell script that runs kz, as without kz', async () => {
      const terminal = await open(['sh', '-c', '"$@"; echo went on', 'sh', NODE, KZ, 'run', '--', ...RECORDER, 'SIGINT=die']);
      await recorder(terminal);
      terminal.type(INTERRUPT);
      expect(await terminal.ended).toEqual({ signal: 'SIGINT' });
      expect(terminal.shown).not.toContain('went on');
    });

    it('while the secrets are resolved ends kz and the provider’s program', async () => {
      story.write('provider', `#!/bin/sh\necho $$ > "$0.new" && mv "$0.new" "$0.pid"\nexec sleep 86400\n`, 0o755);
      story.config('[secrets]\nTOKEN = { provider = "exec", ref = "./provider" }\n');
      const terminal = await run(['echo', 'started']);
      const pidOf = (): number => Number(readFileSync(join(story.project, 'provider.pid'), 'utf8'));
      await waitFor('the provider', () => {
        try {
          return pidOf() > 0;
        } catch {
          return false;
        }
      });
      terminal.type(INTERRUPT);
      expect(await terminal.ended).toEqual({ signal: 'SIGINT' });
      expect(terminal.shown).toBe('^C');
      await waitUntilGone([pidOf()]);
    });
  });

  it('^\\ ends child and kz', async () => {
    const terminal = await run([...RECORDER, 'SIGQUIT=die']);
    await recorder(terminal);
    terminal.type(QUIT);
    expect(await terminal.ended).toEqual({ signal: 'SIGQUIT' });
  });

  it('other signals for kz reach the child once', async () => {
    const terminal = await run(RECORDER, ['--grace', '1m']);
    const child = await recorder(terminal);
    for (const signal of ['SIGTERM', 'SIGHUP', 'SIGUSR1', 'SIGUSR2'] as const) {
      process.kill(terminal.pid, signal);
      await terminal.sees(`got ${signal}`);
    }
    process.kill(terminal.pid, 'SIGUSR1');
    await terminal.sees('got SIGUSR1');
    expect(['SIGTERM', 'SIGHUP', 'SIGUSR1', 'SIGUSR2'].map((name) => terminal.count(`got ${name}`))).toEqual([1, 1, 2, 1]);
    process.kill(child, 'SIGKILL');
    expect(await terminal.ended).toEqual({ signal: 'SIGKILL' });
  });

  it('TERM ends the whole tree', async () => {
    const inner = RECORDER.join(' ');
    const terminal = await run(['sh', '-c', `${inner} & sh -c "${inner}; true"; true`], ['--grace', '300ms']);
    const pids = [await recorder(terminal), await recorder(terminal)];
    process.kill(terminal.pid, 'SIGTERM');
    expect(await terminal.ended).toEqual({ signal: 'SIGTERM' });
    await waitUntilGone(pids);
  });

  it('KILL for kz ends the whole tree', async () => {
    const shell = await open(['sh', '-c', '"$@"; read -r line', 'sh', NODE, KZ, 'run', '--', 'sh', '-c', `${RECORDER.join(' ')}; true`]);
    const child = await recorder(shell);
    const [kz = 0, middle = 0] = descendants(shell.pid);
    await waitFor('the watchdog', () => isWatched(middle));
    process.kill(kz, 'SIGKILL');
    await waitUntilGone([child, middle]);
    shell.type('\n');
    expect(await shell.ended).toEqual({ code: 0 });
  });

  it('the child has the terminal on 0, 1 and 2, and follows its window', async () => {
    const terminal = await run([NODE, `${FIXTURES}window.mjs`]);
    await terminal.sees('terminals true true true size 24x80\r\n');
    terminal.resize(33, 99);
    await terminal.sees('resized 33x99\r\n');
    terminal.type(INTERRUPT);
    expect(await terminal.ended).toEqual({ signal: 'SIGINT' });
  });

  it('the child may read from the terminal and change its modes, which stay as it leaves them', async () => {
    const child = 'stty -echo -icanon; echo ready; read -r line; echo "read $line"; exit 5';
    const terminal = await open(['sh', '-c', '"$@"; echo status $?; read -r line', 'sh', NODE, KZ, 'run', '--', 'sh', '-c', child]);
    await terminal.sees('ready');
    expect(await terminal.modes()).toEqual({ echo: false, canonical: false });
    terminal.type('hello\n');
    await terminal.sees('read hello\r\nstatus 5\r\n');
    expect(await terminal.modes()).toEqual({ echo: false, canonical: false });
    terminal.type('\n');
    expect(await terminal.ended).toEqual({ code: 0 });
  });

  describe('in a shell with job control', () => {
    async function shell(): Promise<Terminal> {
      const terminal = await open(['bash', '--norc', '--noprofile', '-i'], { PS1: 'PROMPT> ', HISTFILE: '/dev/null' });
      await terminal.sees('PROMPT> ');
      return terminal;
    }

    function kzLine(words: readonly string[]): string {
      return [NODE, KZ, 'run', '--', ...words].join(' ');
    }

    it.skipIf(process.platform !== 'linux')('^Z stops kz and the child, and fg continues both', async () => {
      const terminal = await shell();
      terminal.type(`${kzLine([...RECORDER, 'SIGINT=exit:3'])}\n`);
      const child = await recorder(terminal);
      const [kz = 0] = descendants(terminal.pid);
      for (let times = 0; times < 2; times += 1) {
        terminal.type(SUSPEND);
        await terminal.sees('Stopped');
        await terminal.sees('PROMPT> ');
        expect([stopped(kz), stopped(child)]).toEqual([true, true]);
        terminal.type('fg\n');
        await waitFor('both to go on', () => !stopped(kz) && !stopped(child));
      }
      terminal.type(INTERRUPT);
      await terminal.sees('got SIGINT');
      await terminal.sees('PROMPT> ');
      terminal.type('echo "status $?"\n');
      await terminal.sees('status 3\r\n');
      expect(alive(child)).toBe(false);
      terminal.type('exit\n');
      await terminal.ended;
    });

    it('bg lets it go on in the background, where ^C does not reach it and a signal for kz does', async () => {
      const terminal = await shell();
      terminal.type(`${kzLine(RECORDER)} &\n`);
      const child = await recorder(terminal);
      const [kz = 0] = descendants(terminal.pid);
      terminal.type(INTERRUPT);
      await terminal.sees('^C');
      await terminal.sees('PROMPT> ');
      process.kill(kz, 'SIGINT');
      await terminal.sees('got SIGINT');
      process.kill(kz, 'SIGUSR1');
      await terminal.sees('got SIGUSR1');
      expect(terminal.count('got SIGINT')).toBe(1);
      process.kill(child, 'SIGKILL');
      terminal.type('wait; exit 0\n');
      await terminal.ended;
    });

    it('the end of the terminal ends the tree', async () => {
      const terminal = await shell();
      terminal.type(`${kzLine(['sh', '-c', `"${RECORDER.join(' ')} SIGHUP=die; true"`])}\n`);
      const child = await recorder(terminal);
      const tree = [terminal.pid, ...descendants(terminal.pid)];
      expect(tree).toContain(child);
      await terminal.hangUp();
      await waitUntilGone(tree);
    });
  });

  it('the end of the terminal ends the tree, also when kz is what the terminal was opened for', async () => {
    const terminal = await run(['sh', '-c', `${RECORDER.join(' ')} SIGHUP=die; true`]);
    const child = await recorder(terminal);
    const tree = [terminal.pid, ...descendants(terminal.pid)];
    expect(tree).toContain(child);
    await terminal.hangUp();
    await waitUntilGone(tree);
  });

  it.each([
    ['kz is what the terminal was opened for', []],
    ['a shell is, whose end tells the whole group', ['sh', '-c', '"$@"; true', 'sh']],
  ])('a child with an answer to the end of the terminal hears of it once, and stays: %s', async (_, shell) => {
    const log = join(story.folder, 'log');
    const [first, ...rest] = [...shell, NODE, KZ, 'run', '--', ...RECORDER, `log=${log}`];
    const terminal = await open([first, ...rest]);
    const child = await recorder(terminal);
    const kz = shell.length === 0 ? terminal.pid : (descendants(terminal.pid)[0] ?? 0);
    const heard = (): string[] => readFileSync(log, 'utf8').split('\n').slice(1, -1);
    await terminal.hangUp();
    await waitFor('the end of the terminal to reach the child', () => heard().includes('got SIGHUP'));
    process.kill(kz, 'SIGUSR1');
    await waitFor('a signal after that', () => heard().includes('got SIGUSR1'));
    expect(heard()).toEqual(['got SIGHUP', 'got SIGUSR1']);
    process.kill(child, 'SIGKILL');
    await waitUntilGone([kz]);
  });

  it('a child under nohup(1) does not hear of the end of the terminal', async () => {
    const noted = join(story.folder, 'noted');
    const script = `trap 'echo yes > ${noted}; exit 6' USR1; echo ready $$ > /dev/tty; while :; do sleep 0.05; done`;
    const terminal = await run(['nohup', 'sh', '-c', script]);
    const child = await recorder(terminal);
    await terminal.hangUp();
    process.kill(terminal.pid, 'SIGUSR1');
    expect(await terminal.ended).toEqual({ code: 6 });
    expect(readFileSync(noted, 'utf8')).toBe('yes\n');
    expect(alive(child)).toBe(false);
  });
});
