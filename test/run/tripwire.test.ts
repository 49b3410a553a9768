import { existsSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { Tripwire } from '../../src/run/tripwire.ts';

let folder: string;
let local: string;
let editor: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'kz-tripwire-'));
  local = join(folder, '.keyzero.local.toml');
  editor = join(folder, '.vscode');
});

afterEach(() => {
  rmSync(folder, { recursive: true, force: true });
});

it('stands in for a local config while the program runs, and takes that away', () => {
  const tripwire = new Tripwire([local, editor], []);
  expect(tripwire.standIns).toEqual([local]);
  expect([statSync(local).size, statSync(local).mode & 0o777, existsSync(editor)]).toEqual([0, 0o600, false]);
  expect(tripwire.close()).toEqual({ appeared: [], removed: [] });
  expect(existsSync(local)).toBe(false);
});

it('says what was made meanwhile', () => {
  const tripwire = new Tripwire([local, editor], []);
  writeFileSync(editor, 'x');
  expect(tripwire.close()).toEqual({ appeared: [editor], removed: [] });
});

it('leaves what a person wrote in place of the stand-in, and says so', () => {
  const tripwire = new Tripwire([local], []);
  writeFileSync(local, '[secrets]\n');
  expect(tripwire.close()).toEqual({ appeared: [local], removed: [] });
  expect(existsSync(local)).toBe(true);
});

it('leaves another file of that name alone, even an empty one', () => {
  const tripwire = new Tripwire([local], []);
  // The inode of the first one is still in use, or the second could get it.
  writeFileSync(join(folder, 'other'), '');
  rmSync(local);
  writeFileSync(join(folder, 'third'), '');
  writeFileSync(local, '');
  expect(tripwire.close()).toEqual({ appeared: [local], removed: [] });
  expect(existsSync(local)).toBe(true);
});

it('takes away what git would obey at once, and says so', () => {
  const commondir = join(folder, 'commondir');
  const tripwire = new Tripwire([commondir], []);
  writeFileSync(commondir, '../elsewhere\n');
  expect(tripwire.close()).toEqual({ appeared: [], removed: [commondir] });
  expect(existsSync(commondir)).toBe(false);
});

it('does not mind a folder in which nothing can be made, or one that is gone', () => {
  const lost = join(folder, 'lost', '.keyzero.local.toml');
  const tripwire = new Tripwire([lost], []);
  expect(tripwire.standIns).toEqual([]);
  expect(tripwire.close()).toEqual({ appeared: [], removed: [] });
  const second = new Tripwire([local], []);
  rmSync(folder, { recursive: true });
  expect(second.close()).toEqual({ appeared: [], removed: [] });
});

it('watches the stand-in of another run, which takes it away when it ends', () => {
  const first = new Tripwire([local], []);
  const [second, third] = [new Tripwire([], [local]), new Tripwire([], [local])];
  expect(first.close()).toEqual({ appeared: [], removed: [] });
  expect(second.close()).toEqual({ appeared: [], removed: [] });
  writeFileSync(local, '[secrets]\n');
  expect(third.close()).toEqual({ appeared: [local], removed: [] });
});
