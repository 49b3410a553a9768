import { expect, it } from 'vitest';
import { valueProblems } from '../../src/config/value.ts';

const PEM = '-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA\n-----END PUBLIC KEY-----\n';

it.each([
  ['url', ['https://x.y/z', 'postgres://u:p@h:5432/d', 'redis://:p@h'], ['x', 'http://', 'https://a b', 'javascript:x', '//x']],
  [
    'pem',
    [PEM, PEM.trimEnd(), PEM.replaceAll('\n', '\r\n')],
    ['x', PEM.replace('END PUBLIC', 'END PRIVATE'), '-----BEGIN X-----', ` ${PEM}`],
  ],
  ['json', ['{}', '[1]', 'null', '"x"'], ['', '{', "{'a':1}"]],
  ['email', ['a@b.c'], ['a', 'a@b', 'a b@c.d', '@b.c']],
  [
    'uuid',
    ['123e4567-e89b-12d3-a456-426614174000', '123E4567-E89B-12D3-A456-426614174000'],
    ['123e4567', '{123e4567-e89b-12d3-a456-426614174000}'],
  ],
  ['int', ['0', '-5', '+7', '123456789012345678901234567890'], ['', '1.5', '0x10', '1e3', ' 1']],
  ['base64', ['YQ==', 'YWI=', 'YWJj'], ['', 'Y', 'YQ', 'YQ===', 'a_b-', 'YQ==\n']],
] as const)('type %s', (type, good, bad) => {
  for (const value of good) expect(valueProblems(value, { type }), value).toEqual([]);
  for (const value of bad) expect(valueProblems(value, { type }), value).toEqual([`is not of type ${type}`]);
});

it('counts characters, not UTF-16 units', () => {
  expect(valueProblems('🔑🔑', { min_length: 2, max_length: 2 })).toEqual([]);
  expect(valueProblems('🔑', { min_length: 2 })).toEqual(['has 1 characters, fewer than min_length = 2']);
  expect(valueProblems('abc', { max_length: 2 })).toEqual(['has 3 characters, more than max_length = 2']);
});

it('anchors a pattern at both ends', () => {
  expect(valueProblems('abc', { pattern: 'b' })).toEqual(['does not match its pattern']);
  expect(valueProblems('b\n', { pattern: 'b' })).toEqual(['does not match its pattern']);
  expect(valueProblems('ab', { pattern: 'a|ab' })).toEqual([]);
});

it('gives up on a pattern that backtracks without end', () => {
  expect(valueProblems(`${'a'.repeat(60)}!`, { pattern: '(a+)+' })).toEqual(['cannot be checked: its pattern takes too long']);
  expect(valueProblems('@'.repeat(200_000), { type: 'email' })).toEqual(['is not of type email']);
});

it('says everything that is wrong and nothing of the value', () => {
  const value = 'CANARY-1234';
  const problems = valueProblems(value, { starts_with: 'ghp_', one_of: ['a'], max_length: 3, type: 'int', pattern: 'x' });
  expect(problems).toHaveLength(5);
  expect(problems.join()).not.toContain('CANARY');
});
