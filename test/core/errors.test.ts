import { expect, it } from 'vitest';
import { formatPlace, KzError, systemCode } from '../../src/core/errors.ts';

it('has an exit status for every code', () => {
  expect(new KzError('usage', 'x').exitStatus).toBe(2);
  expect(new KzError('secret-missing', 'x').exitStatus).toBe(1);
  expect(new KzError('command-not-executable', 'x').exitStatus).toBe(126);
  expect(new KzError('command-not-found', 'x').exitStatus).toBe(127);
});

it('is the problem itself when there is one, and holds them all when there are several', () => {
  const one = new KzError('secret-missing', 'a');
  const two = new KzError('secret-empty', 'b');
  expect(KzError.all([one])).toBe(one);
  expect(KzError.all([one, two])).toMatchObject({ code: 'several', problems: [one, two], message: '2 problems' });
});

it('writes a place as far as it is known', () => {
  expect(formatPlace({ file: 'a.toml' })).toBe('a.toml');
  expect(formatPlace({ file: 'a.toml', line: 3, column: 5 })).toBe('a.toml:3:5');
});

it('reads the code of a system error and of nothing else', () => {
  expect(systemCode(Object.assign(new Error('x'), { code: 'ENOENT' }))).toBe('ENOENT');
  expect(systemCode(new Error('x'))).toBeUndefined();
  expect(systemCode({ code: 'ENOENT' })).toBeUndefined();
  expect(systemCode(new KzError('write-failed', 'x'))).toBeUndefined();
});
