import { execFileSync } from 'node:child_process';
import { chmodSync, existsSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { enterProjects, othersProjects, privateFolder } from '../../src/run/blind-folder.ts';
import { Tripwire } from '../../src/run/tripwire.ts';

const NOBODY: ReadonlySet<string> = new Set();

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
  expect(tripwire.close(NOBODY)).toEqual([]);
  expect(existsSync(local)).toBe(false);
});

it('leaves the stand-in where the program took the right to remove it, and goes on', () => {
  chmodSync(folder, 0o777);
  asSomebody(() => {
    const tripwire = new Tripwire([local, editor], []);
    writeFileSync(editor, 'x');
    asOwner(() => {
      chmodSync(folder, 0o555);
    });
    expect(tripwire.close(NOBODY)).toEqual([editor]);
  });
  expect(existsSync(local)).toBe(true);
});

it('says what was made meanwhile', () => {
  const tripwire = new Tripwire([local, editor], []);
  writeFileSync(editor, 'x');
  expect(tripwire.close(NOBODY)).toEqual([editor]);
});

it('leaves what a person wrote in place of the stand-in, and says so', () => {
  const tripwire = new Tripwire([local], []);
  writeFileSync(local, '[secrets]\n');
  expect(tripwire.close(NOBODY)).toEqual([local]);
  expect(existsSync(local)).toBe(true);
});

it('leaves another file of that name alone, even an empty one, and says so', () => {
  const tripwire = new Tripwire([local], []);
  rmSync(local);
  writeFileSync(local, '', { mode: 0o644 });
  expect(tripwire.close(NOBODY)).toEqual([local]);
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
  expect(tripwire.close(NOBODY)).toEqual([]);
  expect(existsSync(commondir)).toBe(false);
  expect(git('log', '--format=%s')).toBe('a\n');
});

it('does not stand in for it elsewhere in a repository, and says what was made', () => {
  const module = join(folder, 'commondir');
  const tripwire = new Tripwire([module], []);
  expect(tripwire.standIns).toEqual([]);
  writeFileSync(module, '../elsewhere\n');
  expect(tripwire.close(NOBODY)).toEqual([module]);
});

it('does not mind a folder in which nothing can be made, or one that is gone', () => {
  const lost = join(folder, 'lost', '.keyzero.local.toml');
  const tripwire = new Tripwire([lost], []);
  expect(tripwire.standIns).toEqual([]);
  expect(tripwire.close(NOBODY)).toEqual([]);
  const second = new Tripwire([local], []);
  rmSync(folder, { recursive: true });
  expect(second.close(NOBODY)).toEqual([]);
});

it('is shared by runs in one project: the last one takes the stand-in away', () => {
  const first = new Tripwire([local], []);
  const second = new Tripwire([local], []);
  const third = new Tripwire([], [local]);
  expect(second.standIns).toEqual([local]);
  expect(first.close(new Set([folder]))).toEqual([]);
  expect(second.close(new Set([folder]))).toEqual([]);
  expect(existsSync(local)).toBe(true);
  expect(third.close(new Set(['/elsewhere']))).toEqual([]);
  expect(existsSync(local)).toBe(false);
});

it('says what became of the stand-in of another run', () => {
  const first = new Tripwire([local], []);
  const second = new Tripwire([], [local]);
  expect(first.close(NOBODY)).toEqual([]);
  writeFileSync(local, '[secrets]\n');
  expect(second.close(NOBODY)).toEqual([local]);
});

it('knows the projects in which other runs work, as long as they live', () => {
  const mine = privateFolder();
  const other = privateFolder();
  try {
    enterProjects(other, ['/a', '/b\nc']);
    enterProjects(mine, ['/mine']);
    expect([...othersProjects(mine)]).toEqual(expect.arrayContaining(['/a', '/b\nc']));
    expect(othersProjects(mine).has('/mine')).toBe(false);
    rmSync(other, { recursive: true });
    expect(othersProjects(mine).has('/a')).toBe(false);
  } finally {
    rmSync(mine, { recursive: true, force: true });
    rmSync(other, { recursive: true, force: true });
  }
});

/** Root may remove anything. */
function asSomebody(action: () => void): void {
  const isRoot = process.geteuid?.() === 0;
  if (isRoot) process.seteuid?.(65_534);
  try {
    action();
  } finally {
    if (isRoot) process.seteuid?.(0);
  }
}

function asOwner(action: () => void): void {
  const user = process.geteuid?.() ?? 0;
  if (process.getuid?.() === 0) process.seteuid?.(0);
  try {
    action();
  } finally {
    if (process.getuid?.() === 0) process.seteuid?.(user);
  }
}
