// `kz run` from the child's side: its arguments, environment and standard streams are what they would be without kz, plus the secrets.
import { createHash, randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { collect, FIXTURES, KZ, NODE, Story, type Ended, type StartOptions } from './kz.ts';
import { waitFor } from './processes.ts';

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

interface Shown {
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  readonly cwd: string;
}

const SHOW = [NODE, `${FIXTURES}show.mjs`];

/** Runs kz with the source of TOKEN in its environment. */
function kz(args: readonly string[], options: StartOptions = {}): Promise<Ended> {
  return story.kz(args, { ...options, env: { SOURCE: token, ...options.env } });
}

/** What the program says of itself, in which the value is redacted. */
async function shown(args: readonly string[], options: StartOptions = {}): Promise<Shown> {
  const { stdout, stderr, code } = await kz(args, options);
  expect({ stderr, code }).toEqual({ stderr: '', code: 0 });
  return JSON.parse(stdout) as Shown;
}

/** The value as the program has it. */
async function revealed(flags: readonly string[], env: Record<string, string> = {}): Promise<Shown['env']> {
  return (await shown(['run', '--no-redact', ...flags, '--', ...SHOW], { env, reveals: true })).env;
}

describe('arguments', () => {
  const AWKWARD = [
    'two words',
    ' leading and trailing ',
    '',
    '"double"',
    "'single'",
    '$HOME',
    '`id`',
    '$(id)',
    '*',
    '~',
    '\\',
    'a\nb',
    '\t',
    'ü€𐍈',
    ';',
    '#',
    '%s',
  ];

  it('reach the program as they are, without a shell', async () => {
    expect((await shown(['run', '--', ...SHOW, ...AWKWARD])).args).toEqual(AWKWARD);
  });

  it('are the same without --', async () => {
    expect((await shown(['run', ...SHOW, ...AWKWARD])).args).toEqual(AWKWARD);
  });

  it.each([
    ['flags of kz', ['--only', 'X', '-q', '--env', 'production', '--grace', '0', '--blind', '--config', 'x', '-c', '-e', '-v']],
    ['flags that ask kz about itself', ['--help', '-h', '--version', '-V']],
    ['names of commands', ['help', 'run', 'put', 'get']],
    ['a -- of its own', ['--', 'a', '--', '--']],
    ['a trailing --', ['a', '--']],
    ['a lone dash', ['-', '-']],
    ['flags with values', ['--a=b', '-ab', '--', '--c', 'd']],
  ])('after the program belong to it: %s', async (_, args) => {
    expect((await shown(['run', '--', ...SHOW, ...args])).args).toEqual(args);
    expect((await shown(['run', ...SHOW, ...args])).args).toEqual(args);
  });

  it('before the program belong to kz', async () => {
    const run = ['run', '--only', 'TOKEN', '--no-redact', '-q', ...SHOW, '--only', 'NOTHING', '--redact'];
    const { args, env } = await shown(run, { reveals: true });
    expect(args).toEqual(['--only', 'NOTHING', '--redact']);
    expect(env.TOKEN).toBe(token);
  });

  it('may be long', async () => {
    const long = ['x'.repeat(100_000), ...Array.from({ length: 2000 }, (_, index) => String(index))];
    expect((await shown(['run', '--', ...SHOW, ...long])).args).toEqual(long);
  });

  it('include the name of the program: one that starts with a dash is not a flag after --', async () => {
    const folder = join(story.project, 'bin');
    story.write('bin/--weird', '#!/bin/sh\necho weird "$@"\n', 0o755);
    const { stdout, code } = await kz(['run', '--', '--weird', '-q'], { env: { PATH: `${folder}:/usr/bin:/bin` } });
    expect({ stdout, code }).toEqual({ stdout: 'weird -q\n', code: 0 });
  });

  it('are expanded by nobody: a glob, a tilde and a variable stay', async () => {
    story.write('a.txt', '');
    expect((await shown(['run', '--', ...SHOW, '*.txt', '~/x', '$TOKEN'])).args).toEqual(['*.txt', '~/x', '$TOKEN']);
  });
});

describe('environment', () => {
  it('holds the secret, which beats an inherited variable of its name, and everything else unchanged', async () => {
    const extra = { TOKEN: 'inherited', PLAIN: 'a=b  c', EMPTY: '', LINES: 'a\nb', _: 'x', KEYZERO_TEST: '1' };
    expect(await revealed([], extra)).toEqual({ ...story.environment(), ...extra, SOURCE: token, TOKEN: token });
  });

  it('starts the child where kz was started', async () => {
    expect((await shown(['run', '--', ...SHOW])).cwd).toBe(story.project);
  });

  it('with --only lacks declared secrets that were not selected, also when they are inherited', async () => {
    story.config('[secrets]\nTOKEN = { provider = "env", ref = "SOURCE" }\nOTHER = { provider = "env", ref = "NOWHERE" }\n');
    const env = await revealed(['--only', 'TOKEN'], { OTHER: 'inherited', PLAIN: 'yes' });
    expect(env.TOKEN).toBe(token);
    expect(env.PLAIN).toBe('yes');
    expect(env).not.toHaveProperty('OTHER');
  });

  it('lacks an optional secret that is absent, also when it is inherited', async () => {
    story.config('[secrets]\nOPTIONAL = { provider = "env", ref = "NOWHERE", required = false }\n');
    expect(await revealed([], { OPTIONAL: 'inherited' })).not.toHaveProperty('OPTIONAL');
  });

  it('with --clean-env holds a short list and the secrets', async () => {
    const env = await revealed(['--clean-env'], { TERM: 'xterm', TZ: 'UTC', PLAIN: 'no', LD_DEBUG: '' });
    const { PATH, HOME, TMPDIR, LANG } = story.environment();
    expect(env).toEqual({ PATH, HOME, TMPDIR, LANG, TERM: 'xterm', TZ: 'UTC', TOKEN: token });
  });

  it('with --clean-env and --keep-env holds the kept ones too', async () => {
    const env = await revealed(['--clean-env', '--keep-env', 'ONE,TWO', '--keep-env', 'THREE'], {
      ONE: '1',
      TWO: '2',
      THREE: '3',
      FOUR: '4',
    });
    expect(env).toMatchObject({ ONE: '1', TWO: '2', THREE: '3', TOKEN: token });
    expect(env).not.toHaveProperty('FOUR');
  });

  it('never holds the passphrase of kz, unless it is kept by name', async () => {
    const passphrase = story.canary();
    expect(await revealed([], { KEYZERO_PASSPHRASE: passphrase })).not.toHaveProperty('KEYZERO_PASSPHRASE');
    const kept = await revealed(['--keep-env', 'KEYZERO_PASSPHRASE'], { KEYZERO_PASSPHRASE: passphrase });
    expect(kept.KEYZERO_PASSPHRASE).toBe(passphrase);
  });

  it('holds a value with newlines, quotes and other scripts as it is', async () => {
    token = story.guard(`line 1 ${token}\nline "2" '$x' \\ ü€𐍈\n`);
    expect((await revealed([])).TOKEN).toBe(token);
  });

  it('with -v is described by name and length, on standard error', async () => {
    const { stdout, stderr } = await kz(['run', '-v', '--', 'true'], { env: { TOKEN: 'old', KEYZERO_PASSPHRASE: story.canary() } });
    expect(stdout).toBe('');
    expect(stderr).toContain(`kz: TOKEN=set(${String(token.length)} chars) from env SOURCE\n`);
    expect(stderr).toContain('kz: replaced inherited: TOKEN\n');
    expect(stderr).toContain('kz: not passed on: KEYZERO_PASSPHRASE\n');
  });
});

describe('standard output', () => {
  const EVERY_BYTE = Buffer.concat([
    Buffer.from(Array.from({ length: 256 }, (_, index) => index)),
    Buffer.from([0xff, 0xfe, 0xc3, 0x28, 0xe2, 0x82, 0x0d, 0x0a, 0x0d]),
    Buffer.from(Array.from({ length: 256 }, (_, index) => index)),
  ]);

  it.each([['quiet', '-q'] as const, ['verbose', '-v'] as const])('is the child’s, byte by byte, when kz is %s', async (_, flag) => {
    const { bytes } = await kz(['run', flag, '--', NODE, `${FIXTURES}every-byte.mjs`]);
    expect(bytes.equals(EVERY_BYTE)).toBe(true);
  });

  it('is apart from standard error, which is the child’s too', async () => {
    const child = story.start(['run', '--', NODE, `${FIXTURES}every-byte.mjs`], { env: { SOURCE: token } });
    const error: Buffer[] = [];
    child.stderr?.on('data', (chunk: Buffer) => error.push(chunk));
    await collect(child);
    expect(Buffer.concat(error).equals(Buffer.from(EVERY_BYTE).reverse())).toBe(true);
  });

  it('loses nothing of a flood', async () => {
    const size = 20 * 1024 * 1024;
    const { bytes, code } = await kz(['run', '--', NODE, `${FIXTURES}flood.mjs`, String(size)]);
    const block = Buffer.alloc(65_536, 'abcdefghijklmnopqrstuvwxyz\n');
    const expected = createHash('sha256');
    for (let left = size; left > 0; left -= block.length) expected.update(block);
    expect(code).toBe(0);
    expect(bytes.length).toBe(size);
    expect(createHash('sha256').update(bytes).digest('hex')).toBe(expected.digest('hex'));
  });

  it.each([
    // 128 + SIGPIPE is what the shell says of a program that died by it; kz is one of them.
    ['gets PIPE', ['yes'], 141],
    ['gets EPIPE when it ignores the signal', [NODE, `${FIXTURES}flood.mjs`, '1000000000'], 9],
  ])('is a pipe whose writer, once the reader has left, %s, as without kz', async (_, program, status) => {
    for (const command of [[NODE, KZ, 'run', '--', ...program], program]) {
      // A pipe of the shell: what Node calls a pipe is a pair of sockets, which fails in other ways.
      const child = story.startProgram(['sh', '-c', '("$@"; echo "status $?" >&2) | head -c 2', 'sh', ...command], {
        env: { SOURCE: token },
      });
      const { stdout, stderr } = await collect(child);
      expect({ length: stdout.length, stderr }).toEqual({ length: 2, stderr: `status ${String(status)}\n` });
    }
  });

  it('stays blocking: kz leaves no flag on a pipe that it shares', async () => {
    const script = 'import fcntl, os; print([bool(fcntl.fcntl(f, fcntl.F_GETFL) & os.O_NONBLOCK) for f in (0, 1, 2)])';
    const { stdout } = await kz(['run', '-v', '--', 'python3', '-c', script], { input: 'x', env: { PATH: process.env.PATH ?? '' } });
    expect(stdout).toBe('[False, False, False]\n');
  });
});

describe('standard input', () => {
  it('reaches the child byte by byte', async () => {
    const input = randomBytes(5 * 1024 * 1024);
    const { bytes, code } = await kz(['run', '--', 'cat'], { input });
    expect(code).toBe(0);
    expect(bytes.equals(input)).toBe(true);
  });

  it('ends for the child when it ends for kz', async () => {
    const child = story.start(['run', '--', 'cat'], { env: { SOURCE: token }, keepInput: true });
    const ended = collect(child);
    let echoed = '';
    child.stdout?.on('data', (chunk: Buffer) => (echoed += chunk.toString()));
    child.stdin?.write('ping\n');
    await waitFor('the echo', () => echoed === 'ping\n');
    child.stdin?.end();
    expect((await ended).code).toBe(0);
  });

  it('is not read by kz: what the child leaves is there for the next program', async () => {
    const input = randomBytes(20_000).toString('base64');
    const script = '"$0" "$1" run -- dd bs=1 count=3 2>/dev/null; cat';
    const { stdout } = await collect(story.startProgram(['sh', '-c', script, NODE, KZ], { env: { SOURCE: token }, input }));
    expect(stdout).toBe(input);
  });

  it('is not read by a kz that fails', async () => {
    const child = story.startProgram(['sh', '-c', '"$0" "$1" run -- cat; cat', NODE, KZ], { input: 'all of it' });
    const { stdout, stderr } = await collect(child);
    expect(stdout).toBe('all of it');
    expect(stderr).toContain('TOKEN is missing');
  });

  it('may be closed, like the other two', async () => {
    const child = story.startProgram(['sh', '-c', '"$0" "$1" run -- sh -c "exit 3" <&- >&- 2>&-', NODE, KZ], { env: { SOURCE: token } });
    expect((await collect(child)).code).toBe(3);
  });
});

describe.skipIf(process.platform !== 'linux')('other descriptors (Linux)', () => {
  it('are inherited under their numbers', async () => {
    const three = story.write('three', 'three\n');
    const script = '"$0" "$1" run -- bash -c "cat <&3; echo out >&4; cat <&12" 3<"$2" 4>four 12<"$2"; cat four';
    const { stdout, stderr } = await collect(story.startProgram(['bash', '-c', script, NODE, KZ, three], { env: { SOURCE: token } }));
    expect({ stdout, stderr }).toEqual({ stdout: 'three\nthree\nout\n', stderr: '' });
  });

  it('include those of a shell’s <(…)', async () => {
    const script = '"$0" "$1" run -- cat <(echo one) <(echo two)';
    const { stdout, stderr } = await collect(story.startProgram(['bash', '-c', script, NODE, KZ], { env: { SOURCE: token } }));
    expect({ stdout, stderr }).toEqual({ stdout: 'one\ntwo\n', stderr: '' });
  });

  it('of kz itself are not', async () => {
    const { stdout } = await kz(['run', '--', 'sh', '-c', 'ls /proc/self/fd | wc -l']);
    const bare = await collect(story.startProgram(['sh', '-c', 'ls /proc/self/fd | wc -l']));
    expect(stdout).toBe(bare.stdout);
  });
});

describe('exit status', () => {
  it.each([0, 1, 2, 3, 42, 64, 77, 100, 124, 125, 126, 127, 128, 129, 130, 137, 141, 143, 200, 254, 255])(
    '%i is the child’s',
    async (status) => {
      const { code, signal, stdout, stderr } = await kz(['run', '--', 'sh', '-c', `exit ${String(status)}`]);
      expect({ code, signal, stdout, stderr }).toEqual({ code: status, signal: null, stdout: '', stderr: '' });
    },
  );
});
