import { expect, it } from 'vitest';
import { Secret } from '../../src/core/secret.ts';
import { childEnvironment, type EnvironmentPlan } from '../../src/run/environment.ts';

function build(parent: Record<string, string>, plan: Partial<EnvironmentPlan> = {}) {
  return childEnvironment(parent, { secrets: new Map(), declared: [], clean: false, keep: [], ...plan });
}

it('inherits everything and lets a secret win, naming what it replaced', () => {
  const { variables, replaced, removed } = build({ A: 'old', B: 'b' }, { secrets: new Map([['A', new Secret('new')]]), declared: ['A'] });
  expect(variables).toEqual({ A: 'new', B: 'b' });
  expect(replaced).toEqual(['A']);
  expect(removed).toEqual([]);
});

it('removes a declared secret that was not selected, even when it is inherited and kept', () => {
  const { variables, removed } = build({ A: 'a', B: 'b' }, { declared: ['A'], keep: ['A'] });
  expect(variables).toEqual({ B: 'b' });
  expect(removed).toEqual(['A']);
});

it('keeps the essential list and what is named with a clean environment', () => {
  const parent = { PATH: '/bin', HOME: '/h', EDITOR: 'vi', KEEP: 'k' };
  expect(build(parent, { clean: true, keep: ['KEEP', 'NOT_THERE'] }).variables).toEqual({ PATH: '/bin', HOME: '/h', KEEP: 'k' });
});

it('does not pass on the keys to kz’s own stores unless they are named', () => {
  const parent = { KEYZERO_PASSPHRASE: 'p', KEYZERO_AGE_KEY: 'k', KEYZERO_ENV: 'e' };
  expect(build(parent).variables).toEqual({ KEYZERO_ENV: 'e' });
  expect(build(parent, { keep: ['KEYZERO_PASSPHRASE'] }).variables).toEqual({ KEYZERO_PASSPHRASE: 'p', KEYZERO_ENV: 'e' });
});

it('does not pass on what the shell hook put aside', () => {
  expect(build({ __kz_was_TOKEN: 'old', __kz_state: 'x', B: 'b' }).variables).toEqual({ B: 'b' });
});

it('refuses a value that execve would refuse, by name', () => {
  const long = new Secret('x'.repeat(131_072));
  expect(() => build({}, { secrets: new Map([['BIG', long]]) })).toThrow('BIG is too long');
  expect(() => build({}, { secrets: new Map([['OK', new Secret('x'.repeat(131_000))]]) })).not.toThrow();
});
