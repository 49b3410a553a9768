// A blind run that is given up before it has begun.
import { cpSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { loadConfig } from '../../src/config/load.ts';
import { Access } from '../../src/providers/resolve.ts';
import { runBlindChild } from '../../src/run/blind-child.ts';
import { Signals } from '../../src/run/signals.ts';
import { ISOLATION_NOTE, NO_ISOLATION } from '../stories/isolation.ts';
import { isRunning, waitFor } from '../stories/processes.ts';

let folder: string;
let directory: string;

beforeEach(() => {
  directory = process.cwd();
  folder = mkdtempSync(join(tmpdir(), 'kz-blind-child-'));
  for (const name of ['home', 'project', 'temporary']) mkdirSync(join(folder, name));
  cpSync(fileURLToPath(new URL('../../src/stage/', import.meta.url)), join(folder, 'stage'), { recursive: true });
  writeFileSync(join(folder, 'project', '.keyzero.toml'), '[blind]\n');
  vi.stubEnv('TMPDIR', join(folder, 'temporary'));
  process.chdir(join(folder, 'project'));
});

afterEach(() => {
  process.chdir(directory);
  vi.unstubAllEnvs();
  rmSync(folder, { recursive: true, force: true });
});

describe.skipIf(NO_ISOLATION !== undefined)(`a sandbox that is begun when a signal comes${ISOLATION_NOTE}`, () => {
  // The option decides when it is begun: before the secrets are fetched, or afterwards.
  it.each([undefined, true])('leaves nothing of what was begun (redacted: %s)', async (redact) => {
    const env = { HOME: join(folder, 'home'), PATH: '/usr/bin:/bin' };
    const config = await loadConfig({ env, cwd: join(folder, 'project') });
    const signals = new Signals();
    let begun = false;
    const run = runBlindChild(['true'], config, {
      ...{ env, signals, redact, sandbox: 'strict', version: '0', preload: 'none', programs: join(folder, 'stage') },
      ...{ clean: false, keep: [], graceMs: 1000, tell: () => undefined, onPrepared: () => undefined },
      access: new Access({}, { env, userDirectory: env.HOME }),
      resolve: () => Promise.resolve({ secrets: [], names: [], missing: [] } as never),
      // As `interruptible` does: what the action gives back nobody gets.
      within: async (action) => {
        await action(new AbortController().signal);
        begun = isRunning(join(folder, 'stage'));
        throw new Error('interrupted');
      },
    }).finally(() => {
      signals.close();
    });
    await expect(run).rejects.toThrow('interrupted');
    expect(begun).toBe(true);
    await waitFor('its end', () => !isRunning(join(folder, 'stage')));
    expect(readdirSync(join(folder, 'temporary'))).toEqual([]);
    expect(readdirSync(join(folder, 'project'))).toEqual(['.keyzero.toml']);
  });
});
