import { homedir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { absolutePath, shortPath } from '../../src/core/home-path.ts';

const env = { HOME: '/home/me' };

it.each([
  ['~/a/b', '/home/me/a/b'],
  ['a/../b', '/base/b'],
  ['/a', '/a'],
  ['~', '/base/~'],
  ['~you/a', '/base/~you/a'],
])('%s is %s', (path, expected) => {
  expect(absolutePath(path, '/base', env)).toBe(expected);
});

it.each([
  ['/home/me/a/b', '~/a/b'],
  ['/home/me', '/home/me'],
  ['/home/mell/a', '/home/mell/a'],
  ['/a', '/a'],
])('%s is shown as %s', (path, expected) => {
  expect(shortPath(path, env)).toBe(expected);
});

it('asks the system when HOME is not set, and shows a root home in full', () => {
  for (const none of [{}, { HOME: '' }]) expect(absolutePath('~/a', '/base', none)).toBe(join(homedir(), 'a'));
  expect(shortPath('/a', { HOME: '/' })).toBe('/a');
});
