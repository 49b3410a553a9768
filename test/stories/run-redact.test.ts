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

  it('is not hidden when it is short enough to be a word of something else, which kz validate says', async () => {
    story.config('[secrets]\nTOKEN = { provider = "env", ref = "SOURCE", max_length = 7 }\n');
    const { stdout } = await sh('echo "$TOKEN, a storage"', [], { env: { SOURCE: 'storage' } });
    expect(stdout).toBe('storage, a storage\n');
    expect((await story.kz(['validate'])).stderr).toContain(
      'TOKEN is shorter than 8 bytes: what the program prints is not searched for it',
    );
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

  it('is hidden when it is written partly to one stream and partly to the other, where both lead to the same place', async () => {
    const script = 'printf "%.10s" "$TOKEN"; printf "%s\\n" "${TOKEN#??????????}" >&2';
    const { stdout } = await inShell(story, `kz run -- sh -c '${script}' 2>&1 | cat`, { SOURCE: token });
    expect(stdout).toBe('[redacted:TOKEN]\n');
  });
});

describe.skipIf(NO_TERMINAL !== undefined)('a terminal', () => {
  const SCRIPT = 'echo "$TOKEN"; echo "$TOKEN" >&2; for fd in 1 2; do test -t $fd; echo "$fd $?" >&2; done; echo done >&2';

  async function shown(...program: readonly [string, ...string[]]): Promise<string> {
    const terminal = await Terminal.start(story, program, { SOURCE: token });
    await terminal.sees('done\r\n');
    expect(await terminal.ended).toEqual({ code: 0 });
    terminal.close();
    return terminal.shown.replaceAll('\r\n', ' ');
  }

  it('shows the value, and is the program’s own', async () => {
    expect(await shown(NODE, KZ, 'run', '--', 'sh', '-c', SCRIPT)).toBe(`${token} ${token} 1 0 2 0 done `);
  });

  it('does not show it with --redact', async () => {
    const hidden = '[redacted:TOKEN] [redacted:TOKEN] 1 1 2 1 done ';
    expect(await shown(NODE, KZ, 'run', '--redact', '--', 'sh', '-c', SCRIPT)).toBe(hidden);
  });

  it('shows the value on standard error while standard output is piped', async () => {
    const pipeline = '"$@" | sed "s/^/piped /" >out';
    const text = await shown('sh', '-c', pipeline, 'sh', NODE, KZ, 'run', '--', 'sh', '-c', SCRIPT);
    expect(text).toBe(`${token} 1 1 2 0 done `);
    expect(readFileSync(join(story.project, 'out'), 'utf8')).toBe('piped [redacted:TOKEN]\n');
  });
});

function hex(text: string): string {
  return Buffer.from(text).toString('hex');
}

/** What becomes of the value of a JavaScript expression, as text on both streams and in a string of JSON. */
async function everywhere(text: string, env: Readonly<Record<string, string>>): Promise<string[]> {
  const script = `console.log(text); console.error(text); console.log(JSON.stringify({ id: 7, error: { message: text } }))`;
  const program = `const text = ${text}; ${script}`;
  const { stdout, stderr, code } = await kz(['run', '--', NODE, '-e', program], { env });
  expect(code).toBe(0);
  const line = stdout.trimEnd().split('\n').at(-1) ?? '';
  const { id, error } = JSON.parse(line) as { id: number; error: { message: string } };
  expect(id).toBe(7);
  return [...stdout.slice(0, -line.length - 1).split(/\n$/, 1), ...stderr.split(/\n$/, 1), error.message];
}

describe('of a connection string that is a secret', () => {
  let env: Record<string, string>;

  beforeEach(() => {
    const password = story.canary('pä/ss"@ ');
    env = { SOURCE: story.guard(`postgresql://app:${encodeURIComponent(password)}@db.example:5432/app`) };
  });

  it.each([
    ['alone, in the words of a driver', 'decodeURIComponent(new URL(process.env.TOKEN).password)', '[redacted:TOKEN]'],
    ['as it is written there', 'new URL(process.env.TOKEN).password', '%5Bredacted%3ATOKEN%5D'],
    ['in hex', `Buffer.from(decodeURIComponent(new URL(process.env.TOKEN).password)).toString('hex')`, hex('[redacted:TOKEN]')],
  ])('the password is hidden %s', async (_, code, mark) => {
    const expected = `FATAL: password ${mark} is wrong`;
    expect(await everywhere(`'FATAL: password ' + ${code} + ' is wrong'`, env)).toEqual([expected, expected, expected]);
  });

  it.each(['a', 'ap', 'app'])('the login of a Basic header is hidden behind the user %s', async (user) => {
    const text = `'> Authorization: Basic ' + Buffer.from('${user}:' + decodeURIComponent(new URL(process.env.TOKEN).password)).toString('base64')`;
    for (const shown of await everywhere(text, env)) {
      const [, login = ''] = /^> Authorization: Basic (\S+)$/.exec(shown) ?? [];
      expect(Buffer.from(login, 'base64').toString()).toMatch(new RegExp(`^${user}:.{0,2}\\[redacted:TOKEN\\]`));
    }
  });
});

describe('of a connection string that kz knows nothing of', () => {
  it.each([
    ['postgresql://app:', '@db.example:5432/app?sslmode=require'],
    ['postgresql+asyncpg://app:', '@db.example/app'],
    ['mysql://root:', '@127.0.0.1:3306/app'],
    ['redis://:', '@cache.example:6379/0'],
    ['rediss://default:', '@cache.example'],
    ['mongodb://app:', '@a.example:27017,b.example:27017/app?replicaSet=rs0'],
    ['mongodb+srv://app:', '@cluster.example/app'],
    ['amqp://guest:', '@queue.example:5672/%2f'],
    ['https://x-access-token:', '@git.example/a/b.git'],
  ])('the password is hidden: %s…%s', async (before, behind) => {
    const URL = `${before}${story.canary()}${behind}`;
    const expected = `cannot connect to "${before}[redacted]${behind}": timeout`;
    expect(await everywhere(`'cannot connect to "' + process.env.URL + '": timeout'`, { URL })).toEqual([expected, expected, expected]);
  });

  it.each([
    'http://localhost:4873/@types/node',
    'redis://cache.example:6379',
    'postgresql://app@db.example/app',
    'see https://a.example: me@b',
  ])('nothing is hidden where there is no password: %s', async (text) => {
    expect(await everywhere(JSON.stringify(text), {})).toEqual([text, text, text]);
  });
});

describe('everything else', () => {
  it('that is random passes byte by byte', async () => {
    const input = randomBytes(5 * 1024 * 1024);
    const { bytes, code } = await kz(['run', '--', 'cat'], { input });
    expect(code).toBe(0);
    expect(bytes.equals(input)).toBe(true);
  });

  it('that is JSON-RPC passes byte by byte, whatever looks like a value, a password or an escape in it', async () => {
    const close = [
      token.slice(0, -1),
      token.slice(1),
      token.toUpperCase(),
      'redis://cache.example:6379',
      'http://a:4873/@b',
      '\u0000\u001f',
    ];
    const raw = String.raw`"\ud83d \u00e4\/\u2028\\u0041", 1e400, 12345678901234567890, -0, 1.10, {"a":1,"a":2}`;
    const line = (index: number, size: number): string =>
      `{"jsonrpc" : "2.0","id":${String(index)},\t"result":{"text":${JSON.stringify(close)},"raw":[${raw}],"more":"${'ä€😀\u007f'.repeat(size)}"}}${index % 5 === 0 ? '\r\n' : '\n'}`;
    const lines = Array.from({ length: 2000 }, (_, index) => line(index, index % 200 === 0 ? 100_000 : index % 500));
    const input = Buffer.from([...lines, line(2000, 600_000), '{"unfinished": "'].join(''));
    expect(input.length).toBeGreaterThan(20 * 1024 * 1024);
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
