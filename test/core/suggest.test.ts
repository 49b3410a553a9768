import { expect, it } from 'vitest';
import { suggest } from '../../src/core/suggest.ts';

it.each([
  ['reff', ['ref', 'refresh'], 'ref'],
  ['vualt', ['vault', 'file'], 'vault'],
  ['PRODUCTION', ['production'], 'production'],
  ['x', ['y'], 'y'],
  ['xyz', ['abc'], undefined],
  ['provider', [], undefined],
])('%s suggests %j → %s', (typed, known, expected) => {
  expect(suggest(typed, known)).toBe(expected);
});
