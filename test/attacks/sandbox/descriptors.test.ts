// Attacks by way of descriptors: a folder that kz was given as standard input, more connections than kz may have open, and the pipe that the way
// to the program complains through.
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { IsolatedStory } from '../../stories/isolated.ts';
import { ISOLATION_NOTE, NO_ISOLATION } from '../../stories/isolation.ts';
import { has, KZ, NODE } from '../../stories/kz.ts';
import { descendants, Running, waitUntilGone } from '../../stories/processes.ts';

let story: IsolatedStory;

beforeEach(() => {
  story = new IsolatedStory();
});

afterEach(() => {
  story.end(['key']);
});

type Mode = 'off' | 'strict' | 'auto';

/** kz, started by a shell that does something before. */
function prepared(script: string, mode: Mode, command: readonly string[]): Running {
  const kz = [NODE, KZ, 'run', '--blind', '--sandbox', mode, '--', ...command];
  return new Running(story.startProgram(['sh', '-c', `${script}; exec "$@"`, 'sh', ...kz], { keepInput: true }));
}

describe.skipIf(NO_ISOLATION !== undefined)(`a folder as a standard stream${ISOLATION_NOTE}`, () => {
  const STREAMS = [
    ['input', 0],
    ['output', 1],
    ['error', 2],
  ] as const;

  function reading(descriptor: number, mode: Mode): Running {
    mkdirSync(join(story.home, '.ssh'));
    writeFileSync(join(story.home, '.ssh/key'), story.canary());
    const program = 'rev < "/proc/self/fd/$1/.ssh/key" > found';
    return prepared(`exec ${String(descriptor)}< "$HOME"`, mode, ['sh', '-c', program, 'sh', String(descriptor)]);
  }

  async function found(running: Running): Promise<string> {
    await running.ended;
    return (await story.plain(['cat', 'found'])).stdout;
  }

  it.each(STREAMS)('standard %s: without a sandbox it is a way to every file below', async (_, descriptor) => {
    expect(await found(reading(descriptor, 'off'))).toMatch(/[0-9a-f]{24}-YRANAC/);
  });

  it.each(STREAMS.flatMap((stream) => (['strict', 'auto'] as const).map((mode) => [...stream, mode] as const)))(
    'standard %s (%i) is refused (%s), and nothing is started',
    async (name, descriptor, mode) => {
      const running = reading(descriptor, mode);
      const { code, stdout, stderr } = await running.ended;
      const said = `kz: error: standard ${name} is a folder\nkz: hint: redirect it to a file, or leave it as it is\n`;
      expect({ code, stdout, stderr }).toEqual({ code: 125, stdout: '', stderr: descriptor === 2 ? '' : said });
      expect(await story.plain(['test', '-e', 'found'])).toMatchObject({ code: 1 });
    },
  );
});

describe.skipIf(NO_ISOLATION !== undefined)(`more connections than kz may have open${ISOLATION_NOTE}`, () => {
  /** Itself started with that limit too, so several have the connections. */
  const MOST = 256;
  const PROCESSES = 4;
  const EACH = 200;

  /** Each says when all of its connections are made: the system makes them, whether kz accepts them or not. */
  const HOLDER = `const net = require('net'); let made = 0; const sockets = [];
    for (let i = 0; i < ${String(EACH)}; i++) sockets.push(net.connect(80, '203.0.113.1', () => { if (++made === ${String(EACH)}) process.send('made') }).on('error', () => {}));
    setInterval(() => {}, 60_000);`;

  /** Then asks the proxy for a host that is denied, once a line of its input says so, and holds them still or not. */
  const PROGRAM = `const { spawn } = require('child_process'); const net = require('net'); let made = 0;
    const without = Object.fromEntries(Object.entries(process.env).filter(([name]) => name !== 'NODE_OPTIONS'));
    const holders = Array.from({ length: ${String(PROCESSES)} }, () => spawn(process.execPath, ['-e', ${JSON.stringify(HOLDER)}], { env: without, stdio: ['ignore', 'inherit', 'inherit', 'ipc'] })
      .on('message', () => { if (++made === ${String(PROCESSES)}) console.log('ready 1') }));
    process.stdin.once('data', async () => {
      await Promise.all(holders.map((each) => new Promise((resolve) => { each.on('exit', resolve).kill('SIGKILL') })));
      const { hostname, port, username, password } = new URL(process.env.HTTPS_PROXY);
      const ask = () => net.connect(port, hostname, function () {
        this.write('CONNECT denied.example:443 HTTP/1.1\\r\\nHost: denied.example:443\\r\\nProxy-Authorization: Basic ' + Buffer.from(username + ':' + password).toString('base64') + '\\r\\n\\r\\n');
      }).once('data', (data) => { console.log(String(data).split('\\r\\n')[0]); process.exit(4) }).on('error', ask).on('close', ask);
      ask();
    });`;

  function flooding(): Running {
    story.blind('[[blind.connections]]\nallow = true\nhost = "api.example"\n');
    return prepared(`ulimit -n ${String(MOST)}`, 'strict', [NODE, '-e', PROGRAM]);
  }

  it('kz still hears TERM, and ends', async () => {
    const running = flooding();
    await running.numbers('ready');
    const tree = descendants(running.pid);
    running.send('SIGTERM');
    expect(await running.ended).toMatchObject({ code: null, signal: 'SIGTERM' });
    await waitUntilGone(tree);
  });

  it('kz serves again when they are closed', async () => {
    const running = flooding();
    await running.numbers('ready');
    running.child.stdin?.end('go on\n');
    const { code, stdout } = await running.ended;
    expect({ code, stdout }).toEqual({ code: 4, stdout: expect.stringMatching(/^ready 1\nHTTP\/1\.1 \d/) as string });
  });
});

const NO_TAKING =
  NO_ISOLATION ?? (process.arch !== 'x64' && process.arch !== 'arm64' ? 'unknown processor' : has('python3') ? undefined : 'no python3');

describe.skipIf(NO_TAKING !== undefined)(`the pipe for complaints${NO_TAKING === undefined ? '' : ` (skipped: ${NO_TAKING})`}`, () => {
  /** Of the first process, which bubblewrap left there: what is written to its standard error kz reads. */
  const PROGRAM = `import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
process = libc.syscall(434, 1, 0)
pipe = libc.syscall(438, process, 2, 0)
print('taken' if pipe >= 0 else os.strerror(ctypes.get_errno()), flush=True)
for text in (b'x', b'kz: error: bwrap\\n', b'x' * 100000):
    os.write(pipe, text)
sys.exit(6)`;

  it.each(['6', '0'])('what the program writes there changes nothing: status %s', async (status) => {
    const { code, stdout, stderr } = await story.strict(['python3', '-I', '-c', PROGRAM.replace('exit(6)', `exit(${status})`)]);
    expect({ code, stdout, stderr }).toEqual({ code: Number(status), stdout: 'taken\n', stderr: '' });
  });
});
