import { expect, it } from 'vitest';
import { mountedPaths } from '../../src/sandbox/bubblewrap.ts';
import type { Confinement } from '../../src/sandbox/confinement.ts';
import { expectedMounts } from '../../src/sandbox/mount-roots.ts';
import { NOTHING, OPTIONS } from './mount-model.ts';

const CONFINEMENT: Confinement = {
  ...NOTHING,
  ...{ temporary: ['/tmp'], writable: ['/w'], guarded: ['/w/a/b'], hidden: [{ path: '/w/.env', kind: 'file' }], readable: ['/tmp/x'] },
  replaced: [{ path: '/etc/hosts', contents: '' }],
};

/** As the kernel writes it. */
const TABLE = [
  '1 0 8:1 / / rw - ext4 /dev/sda rw',
  '2 1 8:2 /@home /home rw shared:1 - btrfs /dev/sdb rw',
  '3 2 8:3 / /home/me/a\\040b rw - xfs /dev/sdc rw',
  '4 1 8:4 / /srv/data rw - ext4 /dev/sdd rw',
  '5 1 0:9 /x /srv rw - tmpfs none rw',
  '6 2 8:5 /y /home rw - ext4 /dev/sde rw',
].join('\n');

function rootOf(path: string, table = TABLE): string | undefined {
  return expectedMounts([{ path, source: path }], table)[0]?.root;
}

it('names every mount and where it comes from, but those that may be links', () => {
  const replacements = new Map([['/etc/hosts', '/run-folder/1']]);
  expect(mountedPaths(CONFINEMENT, { ...OPTIONS, replacements }).map(({ path, source }) => [path, source])).toEqual([
    ['/tmp', undefined],
    ['/w', '/w'],
    ['/w/a', '/w/a'],
    ['/w/.env', '/run-folder/empty'],
    ['/etc/hosts', '/run-folder/1'],
    ['/w/a/b', '/w/a/b'],
  ]);
});

it.each([
  ['/', '/'],
  ['/etc/hosts', '/etc/hosts'],
  ['/homes/x', '/homes/x'],
  ['/srv/data/x', '/x/data/x'],
  ['/home', '/y'],
  ['/home/you', '/y/you'],
])('expects of %s the root %s: what is mounted over something covers it', (path, root) => {
  expect(rootOf(path)).toBe(root);
});

it('reads what the kernel escapes', () => {
  expect(rootOf('/home/me/a b/c', TABLE.split('\n').slice(0, 3).join('\n'))).toBe('/c');
});

it('expects an empty file system to be one from its root', () => {
  expect(expectedMounts([{ path: '/tmp', source: undefined }], TABLE)).toEqual([{ path: '/tmp', root: '/' }]);
});

it('expects nothing where it cannot be told', () => {
  expect(expectedMounts([{ path: '/a', source: '/a' }], '')).toEqual([]);
});
