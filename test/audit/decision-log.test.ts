import { execFileSync, spawnSync } from 'node:child_process';
import {
  chmodSync,
  closeSync,
  constants,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  rmSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { DecisionLog, decisionId, serverLogFolder, type DecisionLogOptions } from '../../src/audit/decision-log.ts';
import { runFileName } from '../../src/audit/runs.ts';
import { KzError } from '../../src/core/errors.ts';
import { decision } from './decision-samples.ts';

const STARTED = { version: '1.2.3', bundle: '/srv/bundle.yaml', bundle_version: '1', bundle_sha256: 'ab' };

let root: string;
let folder: string;

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'kz-decisions-'));
  folder = join(root, 'state', 'server');
});

afterEach(() => {
  rmSync(root, { recursive: true, force: true });
});

function open(more: Partial<DecisionLogOptions> = {}): DecisionLog {
  return DecisionLog.open({ sink: { to: 'folder', folder }, started: STARTED, onLost: () => undefined, ...more });
}

function eventsIn(text: string): Record<string, unknown>[] {
  return text
    .split('\n')
    .slice(0, -1)
    .map((line) => JSON.parse(line) as Record<string, unknown>);
}

function typesIn(path: string): unknown[] {
  return eventsIn(readFileSync(path, 'utf8')).map(({ type }) => type);
}

describe('in a folder', () => {
  it('is a file for its owner only, from the first line to the last', async () => {
    const now = new Date('2026-11-21T07:55:54.123Z');
    const before = process.umask(0);
    const log = open({ now });
    process.umask(before);
    expect(log.path).toMatch(/state\/server\/2026-11-21T07-55-54\.123Z-[0-9a-f]{8}\.jsonl$/);
    const path = log.path ?? '';
    expect([path, folder, join(root, 'state')].map((each) => statSync(each).mode & 0o777)).toEqual([0o600, 0o700, 0o700]);
    log.write(decision({ id: 'a' }));
    log.write({ type: 'bundle-reloaded', time: now.toISOString(), ok: false, bundle_version: '1', bundle_sha256: 'ab', problems: 3 });
    log.write(decision({ id: 'b' }));
    await log.close();
    await log.close();
    log.write(decision({ id: 'after the end' }));
    expect(eventsIn(readFileSync(path, 'utf8'))).toEqual([
      {
        ...{ type: 'server-started', schema_version: 1, time: now.toISOString(), server: path.slice(-14, -6), pid: process.pid },
        ...STARTED,
      },
      decision({ id: 'a' }),
      { type: 'bundle-reloaded', time: now.toISOString(), ok: false, bundle_version: '1', bundle_sha256: 'ab', problems: 3 },
      decision({ id: 'b' }),
      { type: 'server-ended', time: expect.any(String) as string, lost: 0 },
    ]);
  });

  it('keeps what a process wrote that exits without closing', async () => {
    const { build } = await import('esbuild');
    const { outputFiles } = await build({
      stdin: {
        contents: `import { DecisionLog } from './src/audit/decision-log.ts';
          import { decision } from './test/audit/decision-samples.ts';
          const log = DecisionLog.open({ sink: { to: 'folder', folder: process.argv[2] }, started: {}, onLost: () => {} });
          for (let id = 1; id <= 50; id++) log.write(decision());
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
    expect(typesIn(join(folder, readdirSync(folder)[0] ?? ''))).toHaveLength(51);
  });

  it('removes old ones that nobody writes, and nothing else', async () => {
    mkdirSync(folder, { recursive: true });
    const old = new Date(Date.now() - 40 * 86_400_000);
    const line = (pid: number) => `{"type":"server-started","pid":${String(pid)}}\n`;
    const put = (name: string, text: string, at: Date) => {
      writeFileSync(join(folder, name), text);
      utimesSync(join(folder, name), at, at);
    };
    const dead = runFileName(old, '00000001');
    const quietToday = runFileName(old, '00000002');
    const young = runFileName(new Date(Date.now() - 86_400_000), '00000003');
    put(dead, line(2 ** 30), old);
    put(quietToday, line(2 ** 30), new Date());
    put(young, line(2 ** 30), old);
    put('notes.jsonl', 'mine\n', old);
    const log = open();
    await log.close();
    expect(readdirSync(folder).sort()).toEqual([quietToday, young, (log.path ?? '').slice(folder.length + 1), 'notes.jsonl'].sort());
  });

  it('does not start where it cannot write', () => {
    const file = join(root, 'file');
    writeFileSync(file, '');
    expect(() => open({ sink: { to: 'folder', folder: join(file, 'server') } })).toThrow(
      expect.objectContaining({ code: 'write-failed', hint: 'let XDG_STATE_HOME name a folder that kz may write to' }) as KzError,
    );
  });

  it('is beside the logs of runs', () => {
    expect(serverLogFolder({ XDG_STATE_HOME: '/state' })).toBe('/state/keyzero/server');
    expect(serverLogFolder({ XDG_STATE_HOME: 'relative', HOME: '/home/a' })).toBe('/home/a/.local/state/keyzero/server');
  });
});

describe('in a file that the administrator names', () => {
  it('goes on at its end, and makes it private', async () => {
    const path = join(root, 'kz.jsonl');
    writeFileSync(path, '{"type":"older"}\n');
    chmodSync(path, 0o644);
    const log = open({ sink: { to: 'file', path } });
    log.write(decision());
    await log.close();
    expect(typesIn(path)).toEqual(['older', 'server-started', 'decision', 'server-ended']);
    expect(statSync(path).mode & 0o777).toBe(0o600);
  });

  it('goes on at the beginning when the file is truncated under it', async () => {
    const path = join(root, 'kz.jsonl');
    const log = open({ sink: { to: 'file', path } });
    log.write(decision());
    await new Promise(setImmediate);
    writeFileSync(path, '');
    log.write(decision());
    await log.close();
    expect(typesIn(path)).toEqual(['decision', 'server-ended']);
  });

  it('may be a device, and may not be a FIFO that nobody reads', async () => {
    await open({ sink: { to: 'file', path: '/dev/null' } }).close();
    const fifo = join(root, 'fifo');
    execFileSync('mkfifo', [fifo]);
    expect(() => open({ sink: { to: 'file', path: fifo } })).toThrow(`cannot write ${fifo}: ENXIO`);
    symlinkSync(join(root, 'no', 'such'), join(root, 'link'));
    expect(() => open({ sink: { to: 'file', path: join(root, 'link') } })).toThrow(
      expect.objectContaining({ code: 'write-failed' }) as KzError,
    );
  });

  it.runIf(process.platform === 'linux')('counts what a full disk loses, and tells once', async () => {
    const told: string[] = [];
    const log = open({ sink: { to: 'file', path: '/dev/full' }, onLost: (code) => told.push(code) });
    for (let index = 0; index < 3; index++) {
      log.write(decision());
      await new Promise(setImmediate);
    }
    expect([log.lost, told]).toEqual([4, ['ENOSPC']]);
    await log.close();
  });
});

describe('to a descriptor', () => {
  /** Both ends of a pipe that is not blocking, as Node's standard output is. */
  function pipe() {
    const path = join(root, 'pipe');
    execFileSync('mkfifo', [path]);
    const read = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
    const write = openSync(path, constants.O_WRONLY | constants.O_NONBLOCK);
    const take = (): string => {
      const buffer = Buffer.alloc(1 << 20);
      try {
        return buffer.toString('utf8', 0, readSync(read, buffer));
      } catch {
        return '';
      }
    };
    return { read, write, take };
  }

  it('waits for a reader that is slow', async () => {
    const { read, write, take } = pipe();
    const told: string[] = [];
    const log = open({ sink: { to: 'descriptor', descriptor: write }, onLost: (code) => told.push(code) });
    for (let index = 0; index < 5000; index++) log.write(decision({ id: String(index) }));
    let text = '';
    const isClosed = log.close().then(() => true);
    while (!(await Promise.race([isClosed, new Promise((resolve) => setTimeout(resolve, 1))]))) text += take();
    text += take();
    const events = eventsIn(text);
    expect(events.map(({ id }) => id).slice(1, -1)).toEqual(Array.from({ length: 5000 }, (_, index) => String(index)));
    expect([events.at(0)?.type, events.at(-1)]).toEqual(['server-started', expect.objectContaining({ type: 'server-ended', lost: 0 })]);
    expect([log.lost, told]).toEqual([0, []]);
    // It is not the log's own: it is open still.
    closeSync(write);
    closeSync(read);
  });

  it('does not wait for ever, and counts', async () => {
    const { read, write } = pipe();
    const told: string[] = [];
    const log = open({ sink: { to: 'descriptor', descriptor: write }, onLost: (code) => told.push(code) });
    for (let index = 0; index < 5000; index++) log.write(decision({ id: String(index) }));
    await log.close();
    expect(log.lost).toBeGreaterThan(4000);
    expect(told).toEqual(['EAGAIN']);
    closeSync(write);
    closeSync(read);
  });

  it('keeps a bounded amount for it', () => {
    const { read, write } = pipe();
    const log = open({ sink: { to: 'descriptor', descriptor: write } });
    const line = decision({ ref: 'r'.repeat(512) });
    for (let index = 0; index < 30_000; index++) log.write(line);
    expect(log.lost).toBeGreaterThan(5000);
    closeSync(read);
    return log.close().then(() => {
      closeSync(write);
    });
  });

  it('survives a reader that ends', async () => {
    const { read, write } = pipe();
    const told: string[] = [];
    const log = open({ sink: { to: 'descriptor', descriptor: write }, onLost: (code) => told.push(code) });
    await new Promise(setImmediate);
    closeSync(read);
    log.write(decision());
    await new Promise(setImmediate);
    expect([log.lost, told]).toEqual([1, ['EPIPE']]);
    await log.close();
    closeSync(write);
  });
});

describe('to nowhere', () => {
  it('writes nothing and loses nothing', async () => {
    const log = open({ sink: { to: 'none' } });
    log.write(decision());
    await log.close();
    expect([log.lost, log.path, readdirSync(root)]).toEqual([0, undefined, []]);
  });
});

it('gives each request an id of its own', () => {
  const ids = Array.from({ length: 1000 }, decisionId);
  expect(new Set(ids).size).toBe(1000);
  expect(ids.every((id) => /^[0-9a-f]{16}$/.test(id))).toBe(true);
});
