// What is said of a value that changes when the program is not there any more to get it.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { loadConfig } from '../../src/config/load.ts';
import { resolveSecrets } from '../../src/providers/secrets.ts';
import { keepRotating } from '../../src/run/direct-rotation.ts';
import { Rotating } from '../../src/run/on-rotate.ts';
import { Signals } from '../../src/run/signals.ts';
import { SupervisedChild } from '../../src/run/supervised-child.ts';
import { HandClock, OneShelf, settled, Shelf } from '../fixtures/shelf.ts';

let folder: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'kz-direct-rotation-'));
});

afterEach(() => {
  rmSync(folder, { recursive: true, force: true });
});

it.each(['restart', 'signal:HUP'])('a program that has ended is not said to get %s', async (action) => {
  writeFileSync(join(folder, '.keyzero.toml'), `[secrets]\nA = { provider = "file", ref = "a", on_rotate = "${action}" }\n`);
  const config = await loadConfig({ env: { HOME: folder }, cwd: folder });
  const shelf = new Shelf(new HandClock());
  shelf.values.set('a', 'CANARY-1');
  const access = new OneShelf(shelf);
  const { secrets } = await resolveSecrets(config, {}, access, AbortSignal.timeout(10_000));
  const signals = new Signals();
  const child = await SupervisedChild.start(['true'], { env: { PATH: '/usr/bin:/bin' }, descriptors: [], graceMs: 1000, signals });
  const told: string[] = [];
  const keeper = keepRotating(child, {
    ...{ config, access, secrets, rotating: new Rotating(config, secrets), environment: () => ({}), redact: () => undefined },
    tell: ({ text }) => told.push(text),
    delayMs: () => 0,
  });
  try {
    await child.ended();
    // A job that the program left behind may keep kz waiting for its output.
    shelf.values.set('a', 'CANARY-2');
    shelf.touch('a');
    await settled();
    expect(told).toEqual(['A changed: the program has ended or is ending, and does not get it']);
  } finally {
    await keeper?.close();
    signals.close();
  }
});
