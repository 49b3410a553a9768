import { describe, expect, it } from 'vitest';
import { TokenTable } from '../../src/mask/table.ts';
import { entry, OTHER, tableOf, TOKEN } from '../fixtures/masked-body.ts';

const EXACT = 'a1B2c3D4e5F6g7H8i9';
const table = tableOf(
  { value: 'CANARY-1' },
  { name: 'B', token: OTHER, value: 'CANARY-2' },
  { name: 'C', token: EXACT, value: 'CANARY-3' },
);
const found = (text: string) => table.findAll(text).map(({ start, end, entry: { name } }) => `${name}@${String(start)}-${String(end)}`);

it('knows its tokens', () => {
  expect(table.entry(OTHER)?.name).toBe('B');
  expect(table.entry(OTHER.slice(4))).toBeUndefined();
  expect(table.entries).toHaveLength(3);
});

describe('holdsToken', () => {
  it.each([
    [TOKEN, true],
    [`x${OTHER}y`, true],
    [`x${EXACT}y`, true],
    ['kz_masked_', true],
    ['kz_masked', false],
    ['', false],
    [EXACT.toLowerCase(), false],
  ])('%j: %s', (text, expected) => {
    expect(table.holdsToken(text)).toBe(expected);
    expect(table.holdsToken(Buffer.from(text))).toBe(expected);
  });

  it('of an empty table', () => {
    const empty = new TokenTable([]);
    expect(empty.findAll(TOKEN)).toEqual([]);
    expect(empty.unfinished(TOKEN)).toBe(0);
    expect(empty.tail(Buffer.from(TOKEN))).toBe('');
  });
});

it.each<[string, string[]]>([
  [TOKEN, ['A@0-42']],
  [`${TOKEN}${TOKEN}`, ['A@0-42', 'A@42-84']],
  [`${EXACT}${TOKEN}${EXACT}`, ['C@0-18', 'A@18-60', 'C@60-78']],
  [`ghp_${TOKEN}`, ['A@4-46']],
  [OTHER, ['B@0-46']],
  [OTHER.slice(4), []],
  [`hp_${OTHER.slice(4)}`, []],
  [`xyz_${OTHER.slice(4)}`, []],
  [`kz_masked_${TOKEN}`, ['A@10-52']],
  [TOKEN.toUpperCase(), []],
  [TOKEN.slice(0, -1), []],
  ['', []],
])('finds in %s', (text, expected) => {
  expect(found(text)).toEqual(expected);
});

it('finds the first, and then the longest, of tokens that overlap', () => {
  const overlapping = tableOf(
    { name: 'X', token: 'abcdef', value: '1' },
    { name: 'Y', token: 'abc', value: '2' },
    { name: 'Z', token: 'efgh', value: '3' },
  );
  expect(overlapping.findAll('abcdefgh abc efgh').map(({ entry: { name } }) => name)).toEqual(['X', 'Y', 'Z']);
});

it.each([
  ['', 0],
  ['x', 0],
  ['k', 1],
  ['xkz_masked_', 10],
  ['kz_masked_1', 0],
  [`x${TOKEN.slice(0, 41)}`, 41],
  [TOKEN, 0],
  [`ghp_${TOKEN.slice(0, 12)}`, 12],
  [OTHER.slice(0, 14), 14],
  [`${TOKEN}gh`, 2],
  ['kkkk', 1],
])('%j may go on for %i characters', (text, expected) => {
  expect(table.unfinished(text)).toBe(expected);
  expect(table.unfinished(table.tail(Buffer.from(text)))).toBe(expected);
});

it('says whether a token may be written in another way', () => {
  expect(table.mayBeEscaped).toBe(false);
  expect(tableOf({ token: 'a/b', value: 'x' }).mayBeEscaped).toBe(true);
});

it('remembers which secrets may go to a host, not to another port of it', () => {
  const scoped = new TokenTable([
    entry({ value: 'x', hosts: ['a.com:1'] }),
    entry({ name: 'B', token: OTHER, value: 'y', hosts: ['a.com'] }),
  ]);
  expect([...scoped.inScope('a.com', 1)].map(({ name }) => name)).toEqual(['A', 'B']);
  expect([...scoped.inScope('a.com', 2)].map(({ name }) => name)).toEqual(['B']);
  expect(scoped.inScope('a.com', 1)).toBe(scoped.inScope('a.com', 1));
  for (let port = 1; port < 2000; port++) expect(scoped.inScope('b.com', port).size).toBe(0);
});
