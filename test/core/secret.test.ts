import { inspect } from 'node:util';
import { expect, it } from 'vitest';
import { Secret } from '../../src/core/secret.ts';

const VALUE = 'CANARY-2b7e';
const secret = new Secret(VALUE);

it('gives its value to reveal() and to nothing else', () => {
  expect(secret.reveal()).toBe(VALUE);
  const shown = [
    String(secret),
    secret as unknown as string,
    JSON.stringify({ secret }),
    inspect(secret, { showHidden: true, depth: 9 }),
    inspect({ deep: [new Map([[secret, secret]])] }, { depth: 9 }),
    Object.entries(secret).join(),
    'concatenated '.concat(secret as unknown as string),
    new Error(`failed with ${secret as unknown as string}`).stack,
    JSON.stringify(structuredCloneOf(secret)),
  ];
  expect(shown.join('\n')).not.toContain('CANARY');
  expect(String(secret)).toBe('[secret]');
});

it('counts characters', () => {
  expect(new Secret('🔑é').length).toBe(2);
});

it('compares values, not objects', () => {
  expect(secret.equals(new Secret(VALUE))).toBe(true);
  expect(secret.equals(new Secret('x'))).toBe(false);
});

function structuredCloneOf(value: unknown): unknown {
  try {
    return structuredClone(value);
  } catch {
    return 'not cloneable';
  }
}
