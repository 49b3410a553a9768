// The way of an isolated program from the start of kz to its first instruction: whatever is in the environment, however long the command is,
// whenever a signal comes, and where half of the sandbox cannot be built.
import { spawnSync } from 'node:child_process';
import { existsSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { IsolatedStory, STRICT } from './isolated.ts';
import { ISOLATION_NOTE, NO_ISOLATION } from './isolation.ts';
import { collect, FIXTURES, KZ, NODE, type Ended } from './kz.ts';
import { alive, descendants, isRunning, Running, waitFor, waitUntilGone } from './processes.ts';

const RECORDER = [NODE, `${FIXTURES}recorder.mjs`];

let story: IsolatedStory;
let marker: string;

beforeEach(() => {
  story = new IsolatedStory();
  marker = `marker-${randomBytes(8).toString('hex')}`;
});

afterEach(() => {
  story.end();
});

describe.skipIf(NO_ISOLATION !== undefined)(`what the way to an isolated program must not obey${ISOLATION_NOTE}`, () => {
  it.each([
    ['LC_ALL', 'xx_XX.UTF-8'],
    ['LANG', 'xx_XX.UTF-8'],
    ['PERL5OPT', '-MNot::There'],
    ['PERL5LIB', '/nowhere/at/all'],
    ['PERL_UNICODE', 'SDA'],
    ['PERLIO', ':nothing'],
    ['LD_PRELOAD', '/nowhere/library.so'],
    ['LD_LIBRARY_PATH', '/nowhere/at/all'],
    ['BASH_ENV', '/nowhere/at/all'],
    ['ENV', '/nowhere/at/all'],
    ['POSIXLY_CORRECT', '1'],
    ['a variable whose name is no word', 'value'],
    ['EMPTY', ''],
    ['LINES', 'one\ntwo = "three"\nend'],
  ])('%s=%j: the program runs with it, as without', async (name, value) => {
    const env = { [name]: value };
    const command = ['env', '-0'];
    const [isolated, plain] = await Promise.all([story.strict(command, { env }), story.plain(command, { env })]);
    expect(isolated.code).toBe(0);
    expect(isolated.stdout.split('\0')).toContain(`${name}=${value}`);
    expect(namesIn(isolated)).toEqual(namesIn(plain));
    // With LD_PRELOAD each program complains, kz's Node too.
    if (name !== 'LD_PRELOAD') expect(isolated.stderr).toBe('');
  });

  it.each([0, 7])('LC_ALL and PERL5OPT together, and the status is the program’s: %i', async (status) => {
    const env = { LC_ALL: 'xx_XX.UTF-8', PERL5OPT: '-MNot::There', PERL5LIB: '/nowhere' };
    expect(await story.strict(['sh', '-c', `exit ${String(status)}`], { env })).toMatchObject({ code: status, stderr: '' });
  });
});

/** What the session sets has other names in a sandbox only for a folder of temporary files. */
function namesIn({ stdout }: Ended): string[] {
  const names = stdout
    .split('\0')
    .map((each) => each.split('=')[0] ?? '')
    .filter((name) => name !== '');
  return names.sort();
}

describe.skipIf(NO_ISOLATION !== undefined)(`how much an isolated program may be given${ISOLATION_NOTE}`, () => {
  it('20,000 arguments', async () => {
    const many = Array.from({ length: 20_000 }, (_, index) => `word-${String(index)}`);
    const program = 'console.log(process.argv.length - 1, process.argv[1], process.argv.at(-1))';
    const { code, stdout, stderr } = await story.strict([NODE, '-e', program, ...many]);
    expect({ code, stdout, stderr }).toEqual({ code: 0, stdout: '20000 word-0 word-19999\n', stderr: '' });
  });

  it('an argument that is empty, and some with every sign', async () => {
    const odd = ['', 'end', 'arg', '--', 'line\nline', 'quote \' " \\', 'ü €', '-x=y', ''];
    const { stdout } = await story.strict([NODE, '-e', 'console.log(JSON.stringify(process.argv.slice(1)))', '--', ...odd]);
    expect(JSON.parse(stdout)).toEqual(odd);
  });

  it('3,000 variables', async () => {
    const env = Object.fromEntries(Array.from({ length: 3000 }, (_, index) => [`SETTING_${String(index)}`, `plain-${String(index)}`]));
    const { code, stdout, stderr } = await story.strict(['sh', '-c', 'env | grep -c "^SETTING_[0-9]*=plain-"; echo "$SETTING_2999"'], {
      env,
    });
    expect({ code, stdout, stderr }).toEqual({ code: 0, stdout: '3000\nplain-2999\n', stderr: '' });
  });
});

describe.skipIf(NO_ISOLATION !== undefined)(`the port that kz takes inside${ISOLATION_NOTE}`, () => {
  let server: Server | undefined;

  afterEach(async () => {
    await new Promise((resolve) => {
      if (server === undefined) resolve(undefined);
      else server.close(resolve);
    });
  });

  it('is free for `allow_loopback` all the same', async ({ skip }) => {
    server = createServer((socket) => {
      socket.on('error', () => undefined).end('this is outside');
    });
    const isFree = await new Promise((resolve) => {
      server?.once('error', () => {
        resolve(false);
      });
      server?.listen(3128, '127.0.0.1', () => {
        resolve(true);
      });
    });
    if (isFree !== true) server = undefined;
    skip(isFree !== true, 'port 3128 of this machine is taken');
    story.blind('[blind.sandbox]\nallow_loopback = [3128]');
    const program = `import net from 'node:net'; let text = '';
      net.connect(3128, '127.0.0.1').on('data', (chunk) => (text += chunk)).on('end', () => { console.log(text, new URL(process.env.HTTPS_PROXY).port !== '3128'); process.exit() });`;
    const { code, stdout, stderr } = await story.node(program);
    expect({ code, stdout, stderr }).toEqual({ code: 0, stdout: 'this is outside true\n', stderr: '' });
  });
});

describe.skipIf(NO_ISOLATION !== undefined)(`signals on the way${ISOLATION_NOTE}`, () => {
  const SIGNALS = ['SIGTERM', 'SIGINT', 'SIGHUP'] as const;
  /** How many processes there were below kz so far. Before the last there is the program, which says so. */
  const MOMENTS = [0, 1, 2, 3, 4, 5, 6];
  const TIMES = Number(process.env.KZ_SIGNAL_RUNS ?? '1');

  async function struck(signal: NodeJS.Signals, processes: number): Promise<Ended> {
    const running = story.running([...RECORDER, ...SIGNALS.map((each) => `${each}=exit:7`), marker]);
    const seen = new Set<number>();
    // Not all of them live at the same time.
    await waitFor(`${String(processes)} processes`, () => {
      for (const pid of descendants(running.pid)) seen.add(pid);
      return seen.size >= processes || running.stdout.includes('ready') || running.child.exitCode !== null;
    });
    running.send(signal);
    const ended = await running.ended;
    await waitUntilGone([...seen]);
    return ended;
  }

  it.each(SIGNALS.flatMap((signal) => MOMENTS.map((moment) => [signal, moment] as const)))(
    '%s, with %i processes: kz ends by it or as the program says, and nobody is left',
    async (signal, moment) => {
      for (let time = 0; time < TIMES; time += 1) {
        const { code, signal: by, stdout } = await struck(signal, moment);
        // A program that has an answer gives it.
        expect([7, signal]).toContain(code ?? by);
        if (stdout.includes('got')) expect(code).toBe(7);
        expect(isRunning(marker)).toBe(false);
      }
    },
    60_000,
  );

  /** A provider that waits for the story. */
  async function fetching(command: readonly string[]): Promise<Running> {
    story.write('provider', '#!/bin/sh\nmkfifo "$0.gate"; : > "$0.runs"; read -r line < "$0.gate"; echo value\n', 0o755);
    story.config('[secrets]\nTOKEN = { provider = "exec", ref = "./provider", hosts = ["api.example"] }\n');
    const running = story.running(command);
    await waitFor('the provider', () => existsSync(join(story.project, 'provider.runs')));
    return running;
  }

  it.each(['SIGUSR1', 'SIGUSR2'] as const)('%s, sent before the program is there, reaches it', async (signal) => {
    const running = await fetching(['sleep', '86400']);
    running.send(signal);
    writeFileSync(join(story.project, 'provider.gate'), 'go on\n');
    expect(await running.ended).toMatchObject({ code: null, signal, stderr: '' });
  });

  it.each(SIGNALS)('%s while the secrets are fetched: nothing is started', async (signal) => {
    const running = await fetching(['sh', '-c', ': > started', marker]);
    const tree = descendants(running.pid);
    running.send(signal);
    expect(await running.ended).toMatchObject({ code: null, signal });
    await waitUntilGone(tree);
    expect([isRunning(marker), existsSync(join(story.project, 'started'))]).toEqual([false, false]);
  });
});

describe.skipIf(NO_ISOLATION !== undefined)(`errors before the program${ISOLATION_NOTE}`, () => {
  /** Without a sandbox, with a second for the sandbox: who waits for a process that is gone already waits for longer. */
  const MORE_MS = 1000;

  async function timed(start: () => Promise<Ended>): Promise<[Ended, number]> {
    const begun = performance.now();
    const ended = await start();
    return [ended, performance.now() - begun];
  }

  it.each([
    ['a program that is not there', ['not-there-at-all'], 127],
    ['a path that is not there', ['./not-there-at-all'], 127],
    ['a folder', ['./'], 126],
    ['a file that nobody may execute', ['./.keyzero.toml'], 126],
    ['an interpreter that is not there', ['./script'], 126],
  ])('%s: kz ends at once, as without, and nobody is left', async (_, [first = ''], status) => {
    story.write('script', '#!/nowhere/interpreter\n', 0o755);
    const [plain, plainMs] = await timed(() => story.plain([first, marker]));
    const [isolated, ms] = await timed(() => story.strict([first, marker]));
    expect({ plain: plain.code, isolated: isolated.code, stdout: isolated.stdout }).toEqual({
      plain: status,
      isolated: status,
      stdout: '',
    });
    expect(isolated.stderr).toMatch(/^kz: error: /);
    expect(ms).toBeLessThan(plainMs + MORE_MS);
    expect(isRunning(marker)).toBe(false);
  });

  it('a secret that is missing: the same', async () => {
    story.config('[secrets]\nTOKEN = { provider = "env", ref = "NOWHERE", hosts = ["api.example"] }\n');
    const [plain, plainMs] = await timed(() => story.plain(['true', marker]));
    const running = story.running(['true', marker]);
    const [isolated, ms] = await timed(() => running.ended);
    expect(isolated).toEqual(plain);
    expect(ms).toBeLessThan(plainMs + MORE_MS);
    expect(isRunning(marker)).toBe(false);
  });
});

/** As container runtimes leave /proc: then nobody in a new user namespace can have one of their own. */
const MASK = 'mount -t tmpfs -o ro tmpfs /proc/irq && mount --bind -o ro /proc/sys /proc/sys';

const NO_MASKS = NO_ISOLATION ?? maskProblem();

function maskProblem(): string | undefined {
  if (process.getuid?.() !== 0) return 'the tests are not run by root, who owns what is mounted';
  const proc = ['bwrap', '--ro-bind', '/', '/', '--dev', '/dev', '--unshare-user', '--unshare-pid', '--proc', '/proc', 'true'];
  const { status } = spawnSync('unshare', ['-m', 'sh', '-c', `${MASK} && ! "$@"`, 'sh', ...proc], { stdio: 'ignore' });
  return status === 0 ? undefined : 'a mask on /proc hinders nobody here';
}

describe.skipIf(NO_MASKS !== undefined)(
  `where only the inner part of the sandbox fails${NO_MASKS === undefined ? '' : ` (skipped: ${NO_MASKS})`}`,
  () => {
    function masked(words: readonly string[]): Promise<Ended> {
      return collect(story.startProgram(['unshare', '-m', 'sh', '-c', `${MASK} && exec "$@"`, 'sh', NODE, KZ, ...words]));
    }

    it.each([[[]], [['--redact']]])('auto: one warning, and the program runs %j', async (flags) => {
      const { code, stdout, stderr } = await masked([
        'run',
        '--blind',
        '--sandbox',
        'auto',
        ...flags,
        '--',
        'sh',
        '-c',
        'echo runs; exit 5',
        marker,
      ]);
      expect({ code, stdout }).toEqual({ code: 5, stdout: 'runs\n' });
      expect(stderr).toMatch(
        /^kz: warning: no sandbox \(.*\): the program can read your files and go around the proxy; to get it: .*; --sandbox off accepts that\n$/,
      );
      expect(isRunning(marker)).toBe(false);
    });

    it('strict: an error with what to type, and nothing is started', async () => {
      const { code, stdout, stderr } = await masked([...STRICT, '--', 'sh', '-c', 'echo runs', marker]);
      expect({ code, stdout }).toEqual({ code: 125, stdout: '' });
      expect(stderr).toMatch(/^kz: error: there is no sandbox on this machine: .*\nkz: hint: .*\n$/);
      expect(isRunning(marker)).toBe(false);
    });

    it('auto: the program gets its signals and its input all the same', async () => {
      const kz = [NODE, KZ, 'run', '--blind', '--sandbox', 'auto', '--', ...RECORDER, 'SIGTERM=exit:7', marker];
      const running = new Running(story.startProgram(['unshare', '-m', 'sh', '-c', `${MASK} && exec "$@"`, 'sh', ...kz]));
      const [pid = 0] = await running.numbers('ready');
      expect(alive(pid)).toBe(true);
      running.send('SIGTERM');
      expect(await running.ended).toMatchObject({ code: 7 });
      await waitUntilGone([pid]);
    });
  },
);
