import { execFileSync } from 'node:child_process';
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
  expect(tripwire.close()).toEqual([]);
  expect(existsSync(local)).toBe(false);
});

it('says what was made meanwhile', () => {
  const tripwire = new Tripwire([local, editor], []);
  writeFileSync(editor, 'x');
  expect(tripwire.close()).toEqual([editor]);
});

it('leaves what a person wrote in place of the stand-in, and says so', () => {
  const tripwire = new Tripwire([local], []);
  writeFileSync(local, '[secrets]\n');
  expect(tripwire.close()).toEqual([local]);
  expect(existsSync(local)).toBe(true);
});

it('leaves another file of that name alone, and an empty one is no news', () => {
  const tripwire = new Tripwire([local], []);
  // The inode of the first one is still in use, or the second could get it.
  writeFileSync(join(folder, 'other'), '');
  rmSync(local);
  writeFileSync(join(folder, 'third'), '');
  writeFileSync(local, '');
  expect(tripwire.close()).toEqual([]);
  expect(existsSync(local)).toBe(true);
});

it('stands in for the file by which git takes its settings from elsewhere, with what changes nothing', () => {
  execFileSync('git', ['init', '-q', folder]);
  const commondir = join(folder, '.git', 'commondir');
  const tripwire = new Tripwire([commondir], []);
  expect(tripwire.standIns).toEqual([commondir]);
  writeFileSync(join(folder, 'a'), 'a');
  const git = (...words: string[]): string =>
    execFileSync('git', ['-c', 'user.name=a', '-c', 'user.email=a@b', '-C', folder, ...words], { encoding: 'utf8' });
  git('add', 'a');
  git('commit', '-q', '-m', 'a');
  expect(git('status', '--porcelain')).toBe('');
  expect(tripwire.close()).toEqual([]);
  expect(existsSync(commondir)).toBe(false);
  expect(git('log', '--format=%s')).toBe('a\n');
});

it('does not stand in for it elsewhere in a repository, and says what was made', () => {
  const module = join(folder, 'commondir');
  const tripwire = new Tripwire([module], []);
  expect(tripwire.standIns).toEqual([]);
  writeFileSync(module, '../elsewhere\n');
  expect(tripwire.close()).toEqual([module]);
});

it('does not mind a folder in which nothing can be made, or one that is gone', () => {
  const lost = join(folder, 'lost', '.keyzero.local.toml');
  const tripwire = new Tripwire([lost], []);
  expect(tripwire.standIns).toEqual([]);
  expect(tripwire.close()).toEqual([]);
  const second = new Tripwire([local], []);
  rmSync(folder, { recursive: true });
  expect(second.close()).toEqual([]);
});

it('watches the stand-in of another run, which takes it away when it ends', () => {
  const first = new Tripwire([local], []);
  const [second, third] = [new Tripwire([], [local]), new Tripwire([], [local])];
  expect(first.close()).toEqual([]);
  expect(second.close()).toEqual([]);
  writeFileSync(local, '[secrets]\n');
  expect(third.close()).toEqual([local]);
});
