import { expect, it } from 'vitest';
import * as z from 'zod/mini';
import { isPlainTable } from '../../src/config/plain.ts';
import { fileSchema } from '../../src/config/schema.ts';

/** Values of every kind, most of them wrong for most keys. */
const VALUES: readonly unknown[] = [
  'env',
  'store',
  'hashicorp',
  'vualt',
  '',
  'x',
  '{a}',
  true,
  false,
  0,
  -1,
  1.5,
  16,
  1_048_576,
  1_048_577,
  NaN,
  Infinity,
  9n,
  null,
  undefined,
  [],
  ['x'],
  {},
  { a: 1 },
  new Date(0),
  'base64',
  'url',
  '15m',
  'soon',
  '(',
  '*.com',
];
const KEYS = [
  'provider',
  'ref',
  'required',
  'default',
  'description',
  'type',
  'min_length',
  'max_length',
  'starts_with',
  'pattern',
  'one_of',
  'json_key',
  'encoding',
  'template',
  'hosts',
  'swap',
  'shape',
  'expose',
  'refresh',
  'on_rotate',
  'constructor',
  '__proto__',
  'toString',
  'reff',
];

it('says yes only to what the schema accepts, unchanged', () => {
  let plain = 0;
  for (const key of KEYS) {
    for (const value of VALUES) {
      for (const rest of [{ provider: 'env', ref: 'x' }, { provider: 'env' }, { ref: 'x' }]) {
        const entry = Object.defineProperty({ ...rest }, key, { value, enumerable: true, configurable: true });
        const table = { secrets: { A: entry, B: { provider: 'file', ref: 'y' } } };
        if (!isPlainTable(table)) continue;
        plain += 1;
        expect(z.safeParse(fileSchema, table), `${key} = ${String(value)}`).toEqual({ success: true, data: table });
      }
    }
  }
  expect(plain).toBeGreaterThan(50);
});

it.each([
  [null],
  ['x'],
  [[]],
  [new Date(0)],
  [{ secrets: [] }],
  [{ secrets: 'x' }],
  [{ secrets: { A: 'x' } }],
  [{ blind: {} }],
  [{ secrets: {}, x: 1 }],
])('leaves %j to the schema', (table) => {
  expect(isPlainTable(table)).toBe(false);
});

it('leaves `__proto__` to the check of names', () => {
  const secrets = Object.defineProperty({}, '__proto__', { value: { provider: 'env', ref: 'x' }, enumerable: true });
  expect(isPlainTable({ secrets })).toBe(false);
});

it('knows the usual config', () => {
  expect(isPlainTable({})).toBe(true);
  expect(isPlainTable({ secrets: { A: { provider: 'keychain', ref: 'github-pat', min_length: 8, required: false, default: '' } } })).toBe(
    true,
  );
});
