import { execFileSync, spawnSync } from 'node:child_process';
import {
  chmodSync,
  closeSync,
  constants,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Appender, AuditLog, type AuditLogOptions } from '../../src/audit/log.ts';
import { readEvents } from '../../src/audit/read.ts';
import { runFileName, runState, listRuns } from '../../src/audit/runs.ts';
import { KzError } from '../../src/core/errors.ts';
import { exchange, STARTED } from './samples.ts';

let root: string;
let folder: string;

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'kz-audit-'));
  folder = join(root, 'state', 'runs');
});

afterEach(() => {
  rmSync(root, { recursive: true, force: true });
});

function options(more: Partial<AuditLogOptions> = {}): AuditLogOptions {
  return { folder, started: STARTED, remask: (text) => text, onLost: () => undefined, ...more };
}

function turn(): Promise<void> {
  return new Promise((resolve) => {
    setImmediate(resolve);
  });
}

describe('a log', () => {
  it('starts with what the run is, in a file and folders for its owner only', async () => {
    const now = new Date('2026-11-21T07:55:54.123Z');
    const log = AuditLog.open(options({ now }));
    expect(log.path).toBe(join(folder, `2026-11-21T07-55-54.123Z-${log.run}.jsonl`));
    expect(log.run).toMatch(/^[0-9a-f]{8}$/);
    expect([...readEvents(log.path)]).toEqual([
      { type: 'run-started', schema_version: 1, time: now.toISOString(), run: log.run, pid: process.pid, ...STARTED },
    ]);
    const modes = [log.path, folder, join(root, 'state')].map((path) => statSync(path).mode & 0o777);
    expect(modes).toEqual([0o600, 0o700, 0o700]);
    await log.close();
  });

  it('is private whatever the umask and the folder were', async () => {
    mkdirSync(folder, { recursive: true });
    chmodSync(folder, 0o755);
    const before = process.umask(0);
    try {
      const log = AuditLog.open(options());
      expect([statSync(log.path).mode & 0o777, statSync(folder).mode & 0o777]).toEqual([0o600, 0o700]);
      await log.close();
    } finally {
      process.umask(before);
    }
  });

  it('keeps the order, and is written by the next turn', async () => {
    const log = AuditLog.open(options());
    for (let id = 1; id <= 500; id++) log.write(exchange({ id }));
    expect([...readEvents(log.path)]).toHaveLength(1);
    await turn();
    const ids = [...readEvents(log.path)].flatMap((event) => (event.type === 'exchange' ? [event.id] : []));
    expect(ids).toEqual(Array.from({ length: 500 }, (_, index) => index + 1));
    await log.close();
  });

  it('has everything after close, also when a turn is not over', async () => {
    const log = AuditLog.open(options());
    log.write(exchange());
    log.write({ type: 'run-ended', time: new Date().toISOString(), status: 'exit 0', lost: log.lost });
    await log.close();
    expect([...readEvents(log.path)].map(({ type }) => type)).toEqual(['run-started', 'exchange', 'run-ended']);
    expect(listRuns(folder).map(runState)).toEqual(['ended']);
  });

  it('writes a burst before its turn ends', async () => {
    const log = AuditLog.open(options());
    for (let id = 1; id <= 700; id++) log.write(exchange({ id, path: `/${'x'.repeat(2000)}` }));
    expect(statSync(log.path).size).toBeGreaterThan(1_000_000);
    await log.close();
    expect([...readEvents(log.path)]).toHaveLength(701);
  });

  it('counts what comes after close as lost', async () => {
    const codes: string[] = [];
    const log = AuditLog.open(options({ onLost: (code) => codes.push(code) }));
    await log.close();
    log.write(exchange());
    await turn();
    expect([log.lost, codes]).toEqual([1, ['EBADF']]);
  });

  it('is complete when the program exits without closing it', async () => {
    const { build } = await import('esbuild');
    const { outputFiles } = await build({
      stdin: {
        contents: `import { AuditLog } from './src/audit/log.ts';
          import { exchange, STARTED } from './test/audit/samples.ts';
          const log = AuditLog.open({ folder: process.argv[2], started: STARTED, remask: (text) => text, onLost: () => undefined });
          for (let id = 1; id <= 50; id++) log.write(exchange({ id }));
          process.exit(3);`,
        resolveDir: process.cwd(),
        loader: 'ts',
      },
      bundle: true,
      platform: 'node',
      format: 'cjs',
      write: false,
    });
    const program = join(root, 'program.cjs');
    writeFileSync(program, outputFiles[0]?.contents ?? '');
    expect(spawnSync(process.execPath, [program, folder]).status).toBe(3);
    const [run] = listRuns(folder);
    expect([...readEvents(run?.path ?? '')]).toHaveLength(51);
    expect(run === undefined ? '' : runState(run)).toBe('killed');
  });

  it('that cannot be made is an error before anything starts', () => {
    writeFileSync(join(root, 'state'), '');
    expect(() => AuditLog.open(options())).toThrow(KzError);
    try {
      AuditLog.open(options());
    } catch (error) {
      expect(error).toMatchObject({ code: 'write-failed', hint: 'let XDG_STATE_HOME name a folder that kz may write to' });
    }
  });
});

describe('a write that fails', () => {
  it.skipIf(process.platform !== 'linux')('on a full disk is counted and told once', () => {
    const codes: string[] = [];
    const file = new Appender(openSync('/dev/full', 'a'), (code) => codes.push(code));
    for (let count = 0; count < 3; count++) {
      file.push('{}\n');
      file.push('{}\n');
      file.flush();
    }
    file.close();
    expect([file.lost, codes]).toEqual([6, ['ENOSPC']]);
  });

  it('in the middle of a line costs the rest of that line, and later lines are whole', () => {
    // A pipe that nobody empties takes a part of what is written, as a disk does that becomes full.
    const pipe = join(root, 'pipe');
    execFileSync('mkfifo', [pipe]);
    const reader = openSync(pipe, constants.O_RDONLY | constants.O_NONBLOCK);
    const codes: string[] = [];
    const file = new Appender(openSync(pipe, constants.O_WRONLY | constants.O_NONBLOCK), (code) => codes.push(code));
    const line = `${JSON.stringify('x'.repeat(30_000))}\n`;
    for (let count = 0; count < 5; count++) file.push(line);
    file.flush();
    let text = drain(reader);
    const complete = text.split('\n').length - 1;
    expect(codes).toEqual(['EAGAIN']);
    expect(file.lost).toBe(5 - complete);
    expect(text.endsWith('\n')).toBe(false);
    file.push('"later"\n');
    file.flush();
    text += drain(reader);
    expect(text.split('\n').slice(complete + 1)).toEqual(['"later"', '']);
    expect(file.lost).toBe(5 - complete);
    file.close();
    closeSync(reader);
  });

  function drain(descriptor: number): string {
    const buffer = Buffer.alloc(1_000_000);
    let length = 0;
    for (;;) {
      try {
        const count = readSync(descriptor, buffer, length, buffer.length - length, null);
        if (count === 0) break;
        length += count;
      } catch {
        break;
      }
    }
    return buffer.toString('latin1', 0, length);
  }
});

describe('old logs', () => {
  const DAY = 86_400_000;
  const now = new Date();

  /** A pid that no process can have. */
  const GONE = 2 ** 31 - 1;

  function old(days: number, facts: { pid: number; ended: boolean; quietDays?: number }): string {
    const startedAt = new Date(now.getTime() - days * DAY);
    const id = Math.floor(Math.random() * 2 ** 32)
      .toString(16)
      .padStart(8, '0');
    const name = runFileName(startedAt, id);
    const lines = [{ type: 'run-started', pid: facts.pid }, ...(facts.ended ? [{ type: 'run-ended' }] : [])];
    mkdirSync(folder, { recursive: true });
    writeFileSync(join(folder, name), lines.map((line) => `${JSON.stringify(line)}\n`).join(''));
    const touched = new Date(now.getTime() - (facts.quietDays ?? days) * DAY);
    utimesSync(join(folder, name), touched, touched);
    return name;
  }

  async function left(): Promise<string[]> {
    const log = AuditLog.open(options({ now }));
    await log.close();
    return readdirSync(folder).filter((name) => join(folder, name) !== log.path);
  }

  it('go after 30 days', async () => {
    old(31, { pid: GONE, ended: true });
    old(40, { pid: GONE, ended: false });
    const young = old(29, { pid: GONE, ended: true });
    expect(await left()).toEqual([young]);
  });

  it('stay while somebody may still write them', async () => {
    const elsewhere = old(31, { pid: GONE, ended: false, quietDays: 0 });
    old(32, { pid: GONE, ended: false, quietDays: 2 });
    expect(await left()).toEqual([elsewhere]);
  });

  it('go beyond the newest 100, except those that go on', async () => {
    const alive = old(0.0003, { pid: process.pid, ended: false });
    const newer = Array.from({ length: 99 }, (_, index) => old(0.0001 + index / 1e6, { pid: GONE, ended: true }));
    old(3, { pid: GONE, ended: true });
    old(2, { pid: GONE, ended: false });
    expect((await left()).sort()).toEqual([alive, ...newer].sort());
  });

  it('are told from files of other people', async () => {
    mkdirSync(folder, { recursive: true });
    const names = ['notes.jsonl', '2020-01-01T00-00-00.000Z-0a1b2c3d.jsonl.bak', '2020-01-01T00-00-00.000Z-0a1b2c3g.jsonl'];
    for (const name of names) writeFileSync(join(folder, name), '');
    expect((await left()).sort()).toEqual(names.sort());
  });
});
