import { statSync, type Stats } from 'node:fs';
import { expect, it } from 'vitest';
import { reachable } from '../../src/sandbox/reachable.ts';
import { NOTHING } from './mount-model.ts';

/** Of another user: a private home, an open one, one for the group of root, and a private folder in the open one. */
const FOLDERS: Readonly<Record<string, Partial<Stats>>> = {
  '/home/private': { uid: 1000, gid: 1000, mode: 0o40700 },
  '/home/open': { uid: 1000, gid: 1000, mode: 0o40755 },
  '/home/group': { uid: 1000, gid: 0, mode: 0o40710 },
  '/home/open/.ssh': { uid: 1000, gid: 1000, mode: 0o40700 },
};

function look(path: string): Stats {
  return Object.assign(statSync('/'), { uid: 0, gid: 0, mode: 0o40700 }, FOLDERS[path]);
}

const CONFINEMENT = {
  ...NOTHING,
  writable: ['/home/private/project', '/home/open/project', '/home/group/project', '/root/project'],
  hidden: [
    { path: '/home/private/.aws', kind: 'folder' as const },
    { path: '/home/open/.ssh', kind: 'folder' as const },
    { path: '/home/open/.ssh/id', kind: 'file' as const },
  ],
};

it('leaves out for root what is in private folders of others', () => {
  const { writable, hidden } = reachable(CONFINEMENT, 0, look);
  expect(writable).toEqual(['/home/open/project', '/home/group/project', '/root/project']);
  expect(hidden.map(({ path }) => path)).toEqual(['/home/open/.ssh']);
});

it('leaves nothing out for anybody else', () => {
  expect(reachable(CONFINEMENT, 1000, look)).toBe(CONFINEMENT);
});

it('leaves in what cannot be looked at', () => {
  const { writable } = reachable(CONFINEMENT, 0, () => {
    throw new Error('gone');
  });
  expect(writable).toEqual(CONFINEMENT.writable);
});
