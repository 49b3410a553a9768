import { expect, it } from 'vitest';
import { parseDuration } from '../../src/core/duration.ts';

it.each([
  ['500ms', 500],
  ['20s', 20_000],
  ['15m', 900_000],
  ['2h', 7_200_000],
  ['1d', 86_400_000],
  ['0s', 0],
])('%s is %d milliseconds', (text, ms) => {
  expect(parseDuration(text)).toBe(ms);
});

it.each(['', '5', 's', '1.5s', '-1s', '1 s', '1s ', '1w', '99999999999s', '25d', '600h'])('%j is no duration', (text) => {
  expect(parseDuration(text)).toBeUndefined();
});
