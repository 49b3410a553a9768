// `kz run` whose output is piped: the values are not in it, and the program is otherwise what it would be without kz.
import { randomBytes } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { collect, KZ, NODE, Story, type Ended, type StartOptions } from './kz.ts';
import { Running } from './processes.ts';
import { inShell } from './shell.ts';
import { NO_TERMINAL, Terminal } from './terminal.ts';

let story: Story;
let token: string;

beforeEach(() => {
  story = new Story();
  token = story.canary();
  story.config('[secrets]\nTOKEN = { provider = "env", ref = "SOURCE" }\n');
});

afterEach(() => {
  story.end();
});

function kz(args: readonly string[], options: StartOptions = {}): Promise<Ended> {
  return story.kz(args, { ...options, env: { SOURCE: token, ...options.env } });
}

function sh(script: string, flags: readonly string[] = [], options: StartOptions = {}): Promise<Ended> {
  return kz(['run', ...flags, '--', 'sh', '-c', script], options);
}

describe('a value that the program prints', () => {
  it('is hidden in both streams', async () => {
    const { stdout, stderr, code } = await sh('echo "out $TOKEN."; echo "err $TOKEN." >&2; exit 3');
    expect({ stdout, stderr, code }).toEqual({ stdout: 'out [redacted:TOKEN].\n', stderr: 'err [redacted:TOKEN].\n', code: 3 });
  });

  it('is hidden when it is written in pieces', async () => {
    const { stdout } = await sh('printf "%.10s" "$TOKEN"; sh -c :; printf "%s\\n" "${TOKEN#??????????}"');
    expect(stdout).toBe('[redacted:TOKEN]\n');
  });

  it('is hidden in JSON, whose framing stays', async () => {
    const { stdout } = await sh(`printf '{"id": 1,\t"error":"cannot reach db with %s"}\\n' "$TOKEN"`);
    expect(stdout).toBe('{"id": 1,\t"error":"cannot reach db with [redacted:TOKEN]"}\n');
  });

  it('stays with --no-redact', async () => {
    expect((await sh('echo "$TOKEN"', ['--no-redact'], { reveals: true })).stdout).toBe(`${token}\n`);
  });

  it('is hidden in a file, and in a pipe of the shell', async () => {
    const run = `kz run -- sh -c 'echo "$TOKEN" > /dev/stdout; echo "$TOKEN" > /dev/stderr'`;
    const { stdout, stderr } = await inShell(story, `${run} >out 2>err; ${run} 2>&1 | cat`, { SOURCE: token });
    const expected = '[redacted:TOKEN]\n';
    expect([readFileSync(join(story.project, 'out'), 'utf8'), readFileSync(join(story.project, 'err'), 'utf8')]).toEqual([
      expected,
      expected,
    ]);
    expect({ stdout, stderr }).toEqual({ stdout: expected + expected, stderr: '' });
  });

  it.skipIf(NO_TERMINAL !== undefined)('is hidden on a terminal with --redact only', async () => {
    const shown = async (flags: readonly string[]): Promise<string> => {
      const terminal = await Terminal.start(story, [NODE, KZ, 'run', ...flags, '--', 'sh', '-c', 'echo "$TOKEN"; echo done'], {
        SOURCE: token,
      });
      await terminal.sees('done\r\n');
      expect(await terminal.ended).toEqual({ code: 0 });
      terminal.close();
      return terminal.shown;
    };
    expect(await shown(['--redact'])).toBe('[redacted:TOKEN]\r\ndone\r\n');
    expect(await shown([])).toBe(`${token}\r\ndone\r\n`);
  });
});

describe('everything else', () => {
  it('that is random passes byte by byte', async () => {
    const input = randomBytes(5 * 1024 * 1024);
    const { bytes, code } = await kz(['run', '--', 'cat'], { input });
    expect(code).toBe(0);
    expect(bytes.equals(input)).toBe(true);
  });

  it('keeps its order where both streams lead to the same place', async () => {
    const script = 'i=0; while [ $i -lt 20 ]; do echo out $i; echo err $i >&2; i=$((i+1)); done';
    const { stdout } = await inShell(story, `kz run -- sh -c '${script}' 2>&1 | cat`, { SOURCE: token });
    expect(stdout).toBe(Array.from({ length: 20 }, (_, index) => `out ${String(index)}\nerr ${String(index)}\n`).join(''));
  });

  it('arrives before the next message is asked for: what cannot become a value is not held back', async () => {
    const running = new Running(story.start(['run', '--', 'cat'], { env: { SOURCE: token }, keepInput: true }));
    for (const word of ['ping', 'pong', '{"jsonrpc":"2.0","id":1}']) {
      running.child.stdin?.write(`${word}\n`);
      await running.said(word);
    }
    running.child.stdin?.end();
    expect((await running.ended).code).toBe(0);
  });

  it('leaves nothing behind in the folder for temporary files', async () => {
    await inShell(story, 'kz run -- true | cat', { SOURCE: token });
    expect(readdirSync(story.folder).filter((name) => name.startsWith('kz-'))).toEqual([]);
  });

  it('ends with the reader', async () => {
    const script = '("$@"; echo "status $?" >&2) | head -n 1';
    const child = story.startProgram(['sh', '-c', script, 'sh', NODE, KZ, 'run', '--', 'yes', 'x'], { env: { SOURCE: token } });
    expect(await collect(child)).toMatchObject({ stdout: 'x\n', stderr: 'status 141\n' });
  });
});

describe('a restart', () => {
  it('hides the value before and the value after it', async () => {
    const next = story.canary();
    story.write('token', token, 0o600);
    story.config('[secrets]\nTOKEN = { provider = "file", ref = "./token", on_rotate = "restart" }\n');
    const script = `trap 'exit 0' TERM; echo "start $TOKEN"; while :; do sleep 0.05; done`;
    const running = new Running(story.start(['run', '-q', '--', 'sh', '-c', script]));
    await running.said('start [redacted:TOKEN]');
    story.write('token', next);
    await running.said('start [redacted:TOKEN]', 2);
    running.send('SIGTERM');
    const { stdout } = await running.ended;
    story.examine(stdout, 'the output');
    story.write('token', 'gone');
  });
});
