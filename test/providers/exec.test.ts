import { execFileSync, spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdtemp, readFile, realpath, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { inspect } from 'node:util';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import type { KzError } from '../../src/core/errors.ts';
import { openExec } from '../../src/providers/exec.ts';
import type { Outcome, Provider } from '../../src/providers/provider.ts';
import { bundle } from '../fixtures/bundle.ts';

const CANARY = `CANARY-${randomBytes(8).toString('hex')}`;
const NEVER = new AbortController().signal;

let folder: string;
beforeAll(async () => {
  folder = await realpath(await mkdtemp(join(tmpdir(), 'kz-exec-')));
});
afterAll(async () => {
  await rm(folder, { recursive: true });
});

function open(command?: string[], env: Record<string, string | undefined> = process.env): Provider {
  return openExec(command === undefined ? undefined : { command }, { env, userDirectory: '/nowhere' });
}

async function get(provider: Provider, ...texts: string[]): Promise<readonly Outcome[]> {
  return provider.get(
    texts.map((text) => ({ text, directory: folder })),
    NEVER,
  );
}

async function value(text: string, provider = open()): Promise<string> {
  const [outcome] = await get(provider, text);
  if (outcome?.ok !== true) throw outcome?.error ?? new Error('no outcome');
  return outcome.secret.reveal();
}

async function failure(text: string, provider = open()): Promise<KzError> {
  const [outcome] = await get(provider, text);
  if (outcome?.ok !== false) throw new Error(`${text} gave a value`);
  expect(inspect(outcome.error, { depth: 9 })).not.toContain(CANARY);
  return outcome.error;
}

async function script(name: string, body: string): Promise<string> {
  await writeFile(join(folder, name), `#!/bin/sh\n${body}\n`, { mode: 0o700 });
  return `./${name}`;
}

/** A zombie that nobody has collected is not alive. */
function isAlive(pid: string): boolean {
  try {
    return !execFileSync('ps', ['-o', 'stat=', '-p', pid], { encoding: 'utf8' }).startsWith('Z');
  } catch {
    return false;
  }
}

describe('the value', () => {
  it.each([
    ['without a newline', 'a', 'a'],
    ['with one newline', 'a\\n', 'a'],
    ['with CRLF', 'a\\r\\n', 'a'],
    ['with two newlines', 'a\\n\\n', 'a\n'],
    ['with several lines', 'a\\nb\\n', 'a\nb'],
    ['in unicode', 'p\\303\\244ss\\n', 'päss'],
    ['of nothing', '', ''],
  ])('%s', async (_case, format, expected) => {
    expect(await value(`printf '${format}'`)).toBe(expected);
  });

  it('may have 1 MiB and not a byte more', async () => {
    expect(await value('head -c 1048576 /dev/zero')).toHaveLength(1_048_576);
    const error = await failure('head -c 1048577 /dev/zero');
    expect([error.code, error.message]).toEqual(['secret-invalid', 'program "head" printed more than 1 MiB']);
  });

  it('stops a program that never stops printing', async () => {
    expect((await failure(await script('yes', `exec yes ${CANARY}`))).message).toBe('program "./yes" printed more than 1 MiB');
  });

  it('is UTF-8', async () => {
    const error = await failure(`printf '\\377'`);
    expect([error.code, error.message]).toEqual(['secret-invalid', 'what program "printf" printed is not UTF-8 text']);
  });
});

describe('the program', () => {
  it('gets the configured words, then those of the ref, and no shell', async () => {
    const show = await script('show', `for word; do printf '<%s>' "$word"; done`);
    expect(await value(`a 'b c' $HOME "*" ';' d\\ e`, open([show, '-o', 'x y']))).toBe('<-o><x y><a><b c><$HOME><*><;><d e>');
    expect(await value(`${show} a`)).toBe('<a>');
    expect(await value('   ', open([show, 'only']))).toBe('<only>');
  });

  it('runs in the folder of the config, with the environment of kz and no input', async () => {
    expect(await value(await script('where', 'pwd; cat'))).toBe(folder);
    expect(await value(await script('env', `printf %s "$KZ_TEST_VALUE"`), open(undefined, { KZ_TEST_VALUE: CANARY }))).toBe(CANARY);
  });

  it('does not get the keys to the stores of kz', async () => {
    const inherits = await script('inherits', `printf %s "$KEYZERO_PASSPHRASE$KEYZERO_AGE_KEY$KEYZERO_AGE_IDENTITY"`);
    const env = { KEYZERO_PASSPHRASE: CANARY, KEYZERO_AGE_KEY: CANARY, KEYZERO_AGE_IDENTITY: 'a path' };
    expect(await value(inherits, open(undefined, env))).toBe('a path');
  });

  it('is looked up in PATH only by a bare name', async () => {
    await script('bare', 'echo here');
    expect(await value('bare', open(undefined, { PATH: `/nowhere:${folder}:/usr/bin:/bin` }))).toBe('here');
    const error = await failure('bare', open(undefined, { PATH: '/usr/bin:/bin' }));
    expect([error.code, error.message]).toEqual(['provider-unavailable', 'program "bare" was not found in PATH']);
    expect(error.hint).toContain('(PATH is /usr/bin:/bin)');
  });

  it('is not there', async () => {
    await writeFile(join(folder, 'broken'), '#!/nowhere/sh\n', { mode: 0o700 });
    await writeFile(join(folder, 'plain'), '#!/bin/sh\n', { mode: 0o600 });
    for (const ref of ['./nope', 'nope/nope', './plain/nope', './broken', '/nowhere/x']) {
      const error = await failure(ref);
      expect([error.code, error.message]).toEqual(['provider-unavailable', `program "${ref}" was not found`]);
    }
    const error = await failure('./plain');
    expect([error.code, error.message]).toEqual(['provider-unavailable', 'program "./plain" is not executable']);
    expect(error.hint).toBe('run `chmod +x ./plain`');
  });

  it('fails, and nothing of what it said is repeated', async () => {
    const fails = await script('fails', `echo ${CANARY}; echo ${CANARY} >&2; exit 3`);
    const error = await failure(`${fails} 'a b'`);
    expect([error.code, error.message]).toEqual(['provider-failed', 'program "./fails" failed with status 3']);
    expect(error.hint).toBe(`to see why, run \`cd ${folder} && ./fails 'a b'\``);
    const killed = await failure(await script('killed', `echo ${CANARY}; kill -9 $$`));
    expect(killed.message).toBe('program "./killed" was killed by SIGKILL');
  });

  it('may write to its standard error', async () => {
    expect(await value(await script('chatty', `head -c 2000000 /dev/zero >&2; echo fine`))).toBe('fine');
  });

  it('cannot be started', async () => {
    const error = await failure(`true ${'x'.repeat(3_000_000)}`);
    expect([error.code, error.message]).toEqual(['provider-failed', 'cannot start program "true": E2BIG']);
  });

  it('cannot be started when no file descriptor is left', async () => {
    const starved = await bundle('starved', folder);
    const { stdout, stderr } = spawnSync(process.execPath, [starved, 'exec', folder], { encoding: 'utf8' });
    expect([stdout, stderr]).toEqual(['provider-failed: cannot start program "true": EMFILE\n', '']);
  });

  it.each(['', '  ', `'' a`, 'a\0b', `a 'b`, 'a\\'])('%j is not a ref', async (ref) => {
    expect((await failure(ref)).code).toBe('ref-invalid');
  });

  it('runs alone, in order, and one that fails stops no other', async () => {
    const alone = await script('alone', `echo "start $1" >> log; ls / >/dev/null; echo "end $1" >> log; [ "$1" != 2 ] && echo "$1"`);
    const outcomes = await get(open(), ...['1', '2', '3'].map((word) => `${alone} ${word}`));
    expect(outcomes.map((outcome) => (outcome.ok ? outcome.secret.reveal() : outcome.error.code))).toEqual(['1', 'provider-failed', '3']);
    expect(await readFile(join(folder, 'log'), 'utf8')).toBe('start 1\nend 1\nstart 2\nend 2\nstart 3\nend 3\n');
  });
});

describe('a signal', () => {
  it('ends the program and all that it started, also what ignores SIGTERM', async () => {
    const stubborn = await script('stubborn', `trap '' TERM\n(trap '' TERM; while :; do sleep 1; done) &\necho "$$ $!" > pids\nwait`);
    const controller = new AbortController();
    const work = open().get([{ text: stubborn, directory: folder }], controller.signal);
    await vi.waitFor(() => {
      expect(existsSync(join(folder, 'pids'))).toBe(true);
    });
    controller.abort(new Error('too late'));
    await expect(work).rejects.toThrow('too late');
    const pids = (await readFile(join(folder, 'pids'), 'utf8')).trim().split(' ');
    expect(pids).toHaveLength(2);
    await vi.waitFor(() => {
      expect(pids.filter(isAlive)).toEqual([]);
    });
  });

  it('lets a program clean up', async () => {
    const polite = await script('polite', `trap 'echo cleaned > cleaned; exit 1' TERM\ntouch polite-started\nwhile :; do sleep 0.05; done`);
    const controller = new AbortController();
    const work = open().get([{ text: polite, directory: folder }], controller.signal);
    await vi.waitFor(() => {
      expect(existsSync(join(folder, 'polite-started'))).toBe(true);
    });
    controller.abort(new Error('too late'));
    await expect(work).rejects.toThrow('too late');
    expect(await readFile(join(folder, 'cleaned'), 'utf8')).toBe('cleaned\n');
  });

  it('starts nothing when it is aborted already', async () => {
    const touch = await script('touch', 'touch touched');
    const work = open().get([{ text: touch, directory: folder }], AbortSignal.abort(new Error('stop')));
    await expect(work).rejects.toThrow('stop');
    expect(existsSync(join(folder, 'touched'))).toBe(false);
  });
});
