// A blind run in isolation, on a terminal: the keys mean what they mean without.
import { readFileSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { ISOLATION_NOTE, NO_ISOLATION, ownTemporary, READS_FIXTURES } from './isolation.ts';
import { FIXTURES, KZ, NODE, Story } from './kz.ts';
import { alive, descendants, stopped, waitFor, waitUntilGone } from './processes.ts';
import { NO_TERMINAL, Terminal } from './terminal.ts';

const RECORDER = [NODE, `${FIXTURES}recorder.mjs`];
const RUN = ['run', '--blind', '--sandbox', 'strict'];
const INTERRUPT = '\u0003';
const SUSPEND = '\u001A';
const QUIT = '\u001C';
const END_OF_INPUT = '\u0004';

let story: Story;
let terminals: Terminal[];
/** Of whatever was started, as they are outside: inside they have other numbers. */
let leftovers: number[];

beforeEach(() => {
  story = new Story();
  terminals = [];
  leftovers = [];
  story.config(`${READS_FIXTURES}[secrets]\nTOKEN = { provider = "env", ref = "SOURCE", hosts = ["api.example.test"] }\n`);
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
  const terminal = await Terminal.start(story, command, { ...ownEnvironment(), ...env });
  terminals.push(terminal);
  return terminal;
}

function ownEnvironment(): Record<string, string> {
  return { SOURCE: story.canary(), TMPDIR: ownTemporary(story) };
}

function run(words: readonly string[], env: Record<string, string> = {}): Promise<Terminal> {
  return open([NODE, KZ, ...RUN, '--', ...words], env);
}

/** Waits for a recorder, and returns every process below `root` at that moment. */
async function recorder(terminal: Terminal, root = terminal.pid): Promise<number[]> {
  await terminal.sees('ready ');
  await terminal.sees('\r\n');
  const below = descendants(root);
  leftovers.push(...below);
  return below;
}

/** Whose first word is Node's and whose second is the recorder's: not kz, nor bubblewrap, nor a shell. */
function theRecorder(tree: readonly number[]): number {
  const [found] = tree.filter((pid) => readFileSync(`/proc/${String(pid)}/cmdline`, 'utf8').startsWith(RECORDER.join('\0')));
  if (found === undefined) throw new Error('there is no recorder');
  return found;
}

describe.skipIf(NO_ISOLATION !== undefined || NO_TERMINAL !== undefined)(
  `isolated, on a terminal${NO_ISOLATION === undefined && NO_TERMINAL !== undefined ? ` (skipped: ${NO_TERMINAL})` : ISOLATION_NOTE}`,
  () => {
    describe('a shell with job control', () => {
      async function shell(): Promise<Terminal> {
        const terminal = await run(['bash', '--norc', '--noprofile', '-i'], { PS1: 'INSIDE> ', HISTFILE: '/dev/null' });
        await terminal.sees('INSIDE> ');
        return terminal;
      }

      it('^C interrupts the job in front once, and not the shell', async () => {
        const terminal = await shell();
        terminal.type(`${RECORDER.join(' ')} SIGQUIT=exit:4\n`);
        await recorder(terminal);
        terminal.type(INTERRUPT);
        await terminal.sees('got SIGINT');
        terminal.type(QUIT);
        await terminal.sees('INSIDE> ');
        expect(terminal.count('got SIGINT')).toBe(1);
        terminal.type('echo "status $?"\n');
        await terminal.sees('status 4\r\n');
        terminal.type('sleep 86400\n');
        await terminal.sees('sleep 86400\r\n');
        await waitFor('the job', () => descendants(terminal.pid).length > 0);
        terminal.type(INTERRUPT);
        await terminal.sees('INSIDE> ');
        terminal.type('echo "status $?"\n');
        await terminal.sees('status 130\r\n');
        terminal.type('exit 3\n');
        expect(await terminal.ended).toEqual({ code: 3 });
      });

      it('^C at its prompt leaves the shell and kz where they are', async () => {
        const terminal = await shell();
        terminal.type(INTERRUPT);
        await terminal.sees('^C');
        await terminal.sees('INSIDE> ');
        terminal.type('echo "still $((20 + 3))"\n');
        await terminal.sees('still 23\r\n');
        terminal.type(END_OF_INPUT);
        expect(await terminal.ended).toEqual({ code: 0 });
      });

      it('^Z stops the job in front, bg and fg continue it', async () => {
        const terminal = await shell();
        terminal.type(`${RECORDER.join(' ')} SIGINT=exit:3\n`);
        const tree = await recorder(terminal);
        for (let times = 0; times < 2; times += 1) {
          terminal.type(SUSPEND);
          await terminal.sees('Stopped');
          await terminal.sees('INSIDE> ');
          expect(tree.filter(stopped)).toHaveLength(1);
          terminal.type(times === 0 ? 'bg; fg\n' : 'fg\n');
          await waitFor('the job to go on', () => !tree.some(stopped));
        }
        terminal.type(INTERRUPT);
        await terminal.sees('got SIGINT');
        await terminal.sees('INSIDE> ');
        terminal.type('echo "status $?"\n');
        await terminal.sees('status 3\r\n');
        terminal.type('exit\n');
        expect(await terminal.ended).toEqual({ code: 0 });
      });

      it('follows the window', async () => {
        const terminal = await shell();
        terminal.type('stty size\n');
        await terminal.sees('24 80\r\n');
        terminal.resize(33, 99);
        terminal.type('stty size\n');
        await terminal.sees('33 99\r\n');
        terminal.type('exit\n');
        await terminal.ended;
      });
    });

    it('^C reaches a program with an answer to it exactly once each time', async () => {
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

    it('^C gives kz the status that the program chooses', async () => {
      const terminal = await run([...RECORDER, 'SIGINT=exit:3']);
      await recorder(terminal);
      terminal.type(INTERRUPT);
      expect(await terminal.ended).toEqual({ code: 3 });
    });

    it.each([
      ['^C', INTERRUPT, 'SIGINT', 2],
      ['^\\', QUIT, 'SIGQUIT', 3],
    ])('%s ends a program without an answer to it', async (_, key, signal, number) => {
      const terminal = await run([...RECORDER, `${signal}=die`]);
      const tree = await recorder(terminal);
      terminal.type(key);
      expect([{ signal }, { code: 128 + number }]).toContainEqual(await terminal.ended);
      await waitUntilGone(tree);
    });

    it('signals for kz reach the program once', async () => {
      const terminal = await run(RECORDER);
      await recorder(terminal);
      for (const signal of ['SIGHUP', 'SIGUSR1', 'SIGUSR2', 'SIGUSR1'] as const) {
        process.kill(terminal.pid, signal);
        await terminal.sees(`got ${signal}`);
      }
      expect(['SIGHUP', 'SIGUSR1', 'SIGUSR2'].map((name) => terminal.count(`got ${name}`))).toEqual([1, 2, 1]);
      process.kill(terminal.pid, 'SIGKILL');
    });

    it('the program has the terminal on 0, 1 and 2, and follows its window', async () => {
      const terminal = await run([NODE, `${FIXTURES}window.mjs`]);
      await terminal.sees('terminals true true true size 24x80\r\n');
      terminal.resize(33, 99);
      await terminal.sees('resized 33x99\r\n');
      terminal.type(INTERRUPT);
      await terminal.ended;
    });

    it('the program may change the modes of the terminal, and read what is typed', async () => {
      const terminal = await run(['sh', '-c', 'stty -echo -icanon; echo ready; read -r line </dev/tty; echo "read $line"; exit 5']);
      await terminal.sees('ready');
      expect(await terminal.modes()).toEqual({ echo: false, canonical: false });
      terminal.type('hello\n');
      await terminal.sees('read hello\r\n');
      expect(await terminal.ended).toEqual({ code: 5 });
    });

    it('^Z in the shell outside stops kz and the program, and fg continues both', async () => {
      const terminal = await open(['bash', '--norc', '--noprofile', '-i'], { PS1: 'OUTSIDE> ', HISTFILE: '/dev/null' });
      await terminal.sees('OUTSIDE> ');
      terminal.type(`${[NODE, KZ, ...RUN, '--', ...RECORDER, 'SIGINT=exit:3'].join(' ')}\n`);
      const tree = await recorder(terminal);
      const [kz = 0] = tree;
      const program = theRecorder(tree);
      for (let times = 0; times < 2; times += 1) {
        terminal.type(SUSPEND);
        await terminal.sees('Stopped');
        await terminal.sees('OUTSIDE> ');
        expect([stopped(kz), stopped(program)]).toEqual([true, true]);
        terminal.type('fg\n');
        await waitFor('both to go on', () => !stopped(kz) && !stopped(program));
      }
      terminal.type(INTERRUPT);
      await terminal.sees('got SIGINT');
      await terminal.sees('OUTSIDE> ');
      terminal.type('echo "status $?"\n');
      await terminal.sees('status 3\r\n');
      expect(terminal.count('got SIGINT')).toBe(1);
      await waitUntilGone(tree);
      terminal.type('exit\n');
      await terminal.ended;
    });

    it('the end of the terminal ends the tree', async () => {
      const terminal = await run(['sh', '-c', `${RECORDER.join(' ')} SIGHUP=die; true`]);
      const tree = [terminal.pid, ...(await recorder(terminal))];
      await terminal.hangUp();
      await waitUntilGone(tree);
    });
  },
);
