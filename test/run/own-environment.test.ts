// What others see of a process's environment, and what it has itself. The process is a real one; others are programs of the same user.
import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { build } from 'esbuild';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';

const NODE = process.execPath;
const CANARY = `CANARY-${Math.random().toString(36).slice(2)}`;
const ON_LINUX = process.platform === 'linux';
const AS_USER = ['setpriv', '--reuid', '1000', '--regid', '1000', '--clear-groups', '--'];
const HAS_USER = process.getuid?.() === 0 && works([...AS_USER, 'true']);
const WITHOUT_PROC = ['bwrap', '--dev-bind', '/', '/', '--tmpfs', '/proc', '--'];
const WITH_PROC_READ_ONLY = ['bwrap', '--dev-bind', '/', '/', '--ro-bind', '/proc', '/proc', '--'];

/** Starts the command with variables as they are: twice the same one, any bytes, also what is no variable. */
const RAW = `
import ctypes, json, sys
variables, command = (json.loads(each) for each in sys.argv[1:])
def array(texts, encoding):
    return (ctypes.c_char_p * (len(texts) + 1))(*[each.encode(encoding) for each in texts], None)
ctypes.CDLL(None).execve(command[0].encode(), array(command, "utf8"), array(variables, "latin1"))`;

const PROGRAM = `
import { spawnSync } from 'node:child_process';
import { hideOwnEnvironment } from './src/run/own-environment.ts';
const own = () => ({ variables: Object.entries(process.env), argv: process.argv, title: process.title, direct: process.env.CANARY });
const childs = () => spawnSync('/usr/bin/env', ['-0'], { maxBuffer: 2 ** 24 }).stdout.toString('latin1');
const identity = process.env;
const before = { ...own(), childs: childs() };
const hidden = hideOwnEnvironment();
process.stdout.write(JSON.stringify({ before, hidden, after: { ...own(), childs: childs() }, same: identity === process.env }) + '\\n');
process.stdin.resume();`;

interface State {
  readonly variables: [string, string][];
  readonly argv: string[];
  readonly title: string;
  readonly direct?: string;
  /** What a child gets by default. */
  readonly childs: string;
}

interface Told {
  readonly before: State;
  readonly after: State;
  readonly hidden: boolean;
  readonly same: boolean;
}

let folder: string;
let program: string;
let child: ChildProcess | undefined;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'kz-own-environment-'));
  chmodSync(folder, 0o755);
  program = join(folder, 'program.mjs');
  const stdin = { contents: PROGRAM, resolveDir: join(import.meta.dirname, '../..'), loader: 'js' as const };
  await build({ stdin, outfile: program, bundle: true, platform: 'node', format: 'esm', logLevel: 'error' });
});

afterAll(() => {
  rmSync(folder, { recursive: true });
});

afterEach(async () => {
  if (child === undefined) return;
  const exited = once(child, 'exit');
  child.stdin?.end();
  await exited;
  child = undefined;
});

function works([file = '', ...args]: readonly string[]): boolean {
  return spawnSync(file, args, { stdio: 'ignore' }).status === 0;
}

/** The program stays until the test ends. */
async function told(env: NodeJS.ProcessEnv, prefix: readonly string[] = []): Promise<Told> {
  const [file, ...args] = [...prefix, NODE, program, CANARY];
  return answer(spawn(file, args, { env, stdio: ['pipe', 'pipe', 'inherit'] }));
}

async function answer(started: ChildProcess & { stdout: NodeJS.ReadableStream }): Promise<Told> {
  child = started;
  for await (const line of createInterface(started.stdout)) return JSON.parse(line) as Told;
  throw new Error('it said nothing');
}

/** What another process reads, as the same user. */
function seen(file: 'environ' | 'cmdline', prefix: readonly string[] = []): Buffer {
  const [reader, ...args] = [...prefix, 'cat', `/proc/${String(child?.pid)}/${file}`];
  const { status, stdout } = spawnSync(reader, args, { maxBuffer: 2 ** 24 });
  expect(status).toBe(0);
  return stdout;
}

function expectHidden(result: Told, prefix: readonly string[] = []): void {
  expect(result.hidden).toBe(true);
  expect(result.same).toBe(true);
  expect(result.after).toEqual(result.before);
  expect(seen('environ', prefix).every((byte) => byte === 0)).toBe(true);
  expect(seen('cmdline', prefix).toString()).toBe([NODE, program, CANARY, ''].join('\0'));
}

describe.skipIf(!ON_LINUX)('on Linux', () => {
  it('nobody sees what it was started with, and it has everything', async () => {
    const env = { ...process.env, CANARY, EMPTY: '', TZ: 'Asia/Tokyo', LANG: 'C.UTF-8' };
    const result = await told(env);
    expectHidden(result);
    expect(result.after.direct).toBe(CANARY);
    expect(new Map(result.after.variables)).toEqual(new Map(Object.entries(env)));
    expect(result.after.childs).toContain(`\0CANARY=${CANARY}\0EMPTY=\0`);
  });

  it('has odd names and values', async () => {
    const env = {
      CANARY,
      'with space': ' x ',
      'a.b-c%%': '=y=',
      'BASH_FUNC_f%%': '() {\n echo $1\n}',
      ünï: 'größe 日本 🔑',
      constructor: '1',
      toString: '3',
      7: 'seven',
      '': 'no name',
    };
    Object.defineProperty(env, '__proto__', { value: 'prototype', enumerable: true });
    const result = await told(env);
    expectHidden(result);
    expect(new Map(result.after.variables).get('ünï')).toBe('größe 日本 🔑');
    expect(new Map(result.after.variables).get('__proto__')).toBe('prototype');
  });

  it('has an environment of a megabyte', async () => {
    const env = {
      CANARY,
      ...Object.fromEntries(Array.from({ length: 40 }, (_, index) => [`LARGE_${String(index)}`, CANARY.repeat(1500)])),
    };
    expectHidden(await told(env));
    expect(seen('environ').length).toBeGreaterThan(600_000);
  });

  it('has none, and that is hidden', async () => {
    const result = await told({});
    expectHidden(result);
    expect(result.after.variables).toEqual([]);
  });

  it.skipIf(!works(['python3', '-c', 'import ctypes']))(
    'has what a variable can be that is there twice, or is none, or is no text (needs python3)',
    async () => {
      const variables = [
        'TWICE=first',
        `CANARY=${CANARY}`,
        'no variable',
        'TWICE=second',
        '=no name',
        '',
        'BYTES=\xff\xfe',
        '\xffNAME=x',
        'LAST=1',
      ];
      const args = ['-c', RAW, JSON.stringify(variables), JSON.stringify([NODE, program, CANARY])];
      const { before, after, ...result } = await answer(spawn('python3', args, { stdio: ['pipe', 'pipe', 'inherit'] }));
      // Node lists a variable that is there twice two times, with the first value.
      const once = { ...before, variables: unique(before.variables), childs: unique(before.childs.split('\0')).join('\0') };
      expectHidden({ ...result, before: once, after: { ...after, childs: unique(after.childs.split('\0')).join('\0') } });
      expect(new Map(after.variables)).toEqual(new Map(Object.entries({ TWICE: 'first', CANARY, BYTES: '\ufffd\ufffd', LAST: '1' })));
    },
  );

  it.skipIf(!HAS_USER)('does it for an ordinary user too (needs root and setpriv)', async () => {
    expectHidden(await told({ ...process.env, CANARY }, AS_USER), AS_USER);
  });

  it.skipIf(!works([...WITHOUT_PROC, 'true'])).each([
    ['there is no /proc', WITHOUT_PROC],
    ['/proc is read-only', WITH_PROC_READ_ONLY],
  ])('says so when it cannot, and has everything: %s (needs bwrap)', async (_, prefix) => {
    const { hidden, same, before, after } = await told({ ...process.env, CANARY }, prefix);
    expect([hidden, same]).toEqual([false, true]);
    expect(after).toEqual(before);
    expect(after.direct).toBe(CANARY);
  });
});

it.skipIf(ON_LINUX)('elsewhere it says that it cannot', async () => {
  const { hidden, before, after } = await told({ ...process.env, CANARY });
  expect(hidden).toBe(false);
  expect(after).toEqual(before);
});

function unique<T>(values: readonly T[]): T[] {
  return [...new Map(values.map((value) => [JSON.stringify(value), value])).values()];
}
