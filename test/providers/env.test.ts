import { randomBytes } from 'node:crypto';
import { expect, it } from 'vitest';
import { openEnv } from '../../src/providers/env.ts';
import type { Outcome } from '../../src/providers/provider.ts';

const CANARY = `CANARY-${randomBytes(8).toString('hex')}`;

async function get(env: Record<string, string | undefined>, ...names: string[]): Promise<readonly Outcome[]> {
  const provider = openEnv({ env, userDirectory: '/nowhere' });
  return provider.get(
    names.map((text) => ({ text, directory: '/' })),
    new AbortController().signal,
  );
}

it('gives one outcome per name, in order', async () => {
  const [a, missing, b] = await get({ A: CANARY, B: 'b' }, 'A', 'NOPE', 'B');
  expect(a?.ok === true && a.secret.reveal()).toBe(CANARY);
  expect(missing?.ok === false && missing.error.code).toBe('secret-missing');
  expect(missing?.ok === false && missing.error.message).toBe(`variable "NOPE" is not set in kz's environment`);
  expect(b?.ok === true && b.secret.reveal()).toBe('b');
});

it('gives an empty value as it is', async () => {
  const [outcome] = await get({ A: '' }, 'A');
  expect(outcome?.ok === true && outcome.secret.reveal()).toBe('');
});

it.each(['toString', '__proto__', 'constructor', '', 'A B', 'A\0B', 'UNSET'])('%j is not set', async (name) => {
  const [outcome] = await get({ A: 'a', UNSET: undefined }, name);
  expect(outcome?.ok === false && outcome.error.code).toBe('secret-missing');
});

it.each(['KEYZERO_PASSPHRASE', 'KEYZERO_AGE_KEY'])('%s is not handed out', async (name) => {
  for (const env of [{ [name]: CANARY }, {}]) {
    const [outcome] = await get(env, name);
    expect(outcome).toMatchObject({ ok: false, error: { code: 'ref-invalid' } });
    expect(outcome?.ok === false && outcome.error.message).toBe(
      `env ref "${name}" opens kz's own store, and kz does not hand it out as a value`,
    );
  }
});

it('reads the real environment', async () => {
  const [outcome] = await get(process.env, 'PATH');
  expect(outcome?.ok === true && outcome.secret.reveal()).toBe(process.env.PATH);
});

it('cannot write', () => {
  expect(Object.keys(openEnv({ env: {}, userDirectory: '/nowhere' }))).toEqual(['get']);
});
