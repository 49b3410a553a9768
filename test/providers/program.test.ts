import { randomBytes } from 'node:crypto';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { inspect } from 'node:util';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { KzError } from '../../src/core/errors.ts';
import { runProgram, type Program, type ProgramEnd } from '../../src/providers/program.ts';

const CANARY = `CANARY-${randomBytes(8).toString('hex')}`;
const NEVER = new AbortController().signal;

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'kz-program-'));
});
afterAll(() => {
  rmSync(folder, { recursive: true });
});

function run(body: string, more: Partial<Program> = {}, signal = NEVER): Promise<ProgramEnd> {
  return runProgram({ program: 'sh', args: ['-c', body], directory: folder, env: process.env, ...more }, signal);
}

function text({ output }: ProgramEnd): string {
  return Buffer.from(output).toString();
}

async function thrown(work: Promise<unknown>): Promise<KzError> {
  const error: unknown = await work.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  if (!(error instanceof KzError)) throw new Error(`no KzError: ${inspect(error)}`);
  expect(inspect(error, { depth: 9 })).not.toContain(CANARY);
  return error;
}

describe('input', () => {
  it('reaches the program whole, and then ends', async () => {
    const input = `${CANARY}\n${'x'.repeat(1_000_000)}`;
    expect(text(await run('cat', { input }))).toBe(input);
    expect(text(await run('cat; echo done', { input: '' }))).toBe('done\n');
  });

  it('is none unless there is some', async () => {
    expect(text(await run('cat'))).toBe('');
  });

  it('that is not read breaks nothing', async () => {
    const end = await run('exec 0<&-; exit 3', { input: 'x'.repeat(5_000_000) });
    expect(end.status).toBe(3);
  });
});

describe('the end', () => {
  it('has the status, or the signal', async () => {
    expect(await run('exit 7')).toMatchObject({ status: 7, signal: null });
    expect(await run('kill -9 $$')).toMatchObject({ status: null, signal: 'SIGKILL' });
  });

  it('has what was written to standard error when that is wanted, up to 64 KiB', async () => {
    expect((await run(`echo ${CANARY} >&2`)).errors).toBe('');
    expect((await run(`echo ${CANARY} >&2`, { keepsErrors: true })).errors).toBe(`${CANARY}\n`);
    const end = await run('head -c 3000000 /dev/zero >&2; echo fine', { keepsErrors: true });
    expect(text(end)).toBe('fine\n');
    expect(end.errors.length).toBeLessThanOrEqual(65_536);
  });

  it('is an error when it prints too much', async () => {
    expect((await run('head -c 3000000 /dev/zero', { maxMebibytes: 4 })).output).toHaveLength(3_000_000);
    const error = await thrown(run('cat /dev/zero', { maxMebibytes: 2 }));
    expect([error.code, error.message]).toEqual(['secret-invalid', 'program "sh" printed more than 2 MiB']);
  });

  it('is an error when there is no such program', async () => {
    const error = await thrown(run('', { program: 'kz-nowhere', input: CANARY }));
    expect([error.code, error.message]).toEqual(['provider-unavailable', 'program "kz-nowhere" was not found in PATH']);
  });
});

describe('a program that stays in the session', () => {
  const sessionOf = 'ps -o sid= -p $$';

  it('has the session of kz, and another one otherwise', async () => {
    const [here, shared, own] = await Promise.all([
      run(`ps -o sid= -p ${String(process.pid)}`),
      run(sessionOf, { staysInSession: true }),
      run(`${sessionOf}; echo $$`),
    ]);
    expect(text(shared).trim()).toBe(text(here).trim());
    const [session, pid] = text(own).trim().split(/\s+/);
    expect(session).toBe(pid);
  });

  it('is ended, also when it ignores SIGTERM', async () => {
    const controller = new AbortController();
    const body = `trap '' TERM; echo $$ > ignores; while :; do sleep 0.1; done`;
    const work = run(body, { staysInSession: true, keepsErrors: true, input: '' }, controller.signal);
    await vi.waitFor(() => {
      expect(existsSync(join(folder, 'ignores'))).toBe(true);
    });
    controller.abort(new Error('too late'));
    await expect(work).rejects.toThrow('too late');
    const pid = Number(readFileSync(join(folder, 'ignores'), 'utf8'));
    await vi.waitFor(() => {
      expect(() => process.kill(pid, 0)).toThrow('ESRCH');
    });
  });

  it('is not started after the end', async () => {
    writeFileSync(join(folder, 'untouched'), '');
    await expect(run('rm untouched', {}, AbortSignal.abort(new Error('stop')))).rejects.toThrow('stop');
    expect(existsSync(join(folder, 'untouched'))).toBe(true);
  });
});
