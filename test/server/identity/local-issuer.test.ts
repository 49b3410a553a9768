// The key of a user's own issuer, and what is signed with it.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { ensureLocalKey, readLocalKey, signToken } from '../../../src/server/identity/local-issuer.ts';
import { unprovenClaims } from '../../../src/server/policies/policy-explain.ts';

const folder = mkdtempSync(join(tmpdir(), 'kz-local-issuer-'));

afterAll(() => {
  rmSync(folder, { recursive: true, force: true });
});

it('is one key for all who make it at the same time', async () => {
  const path = join(folder, 'race', 'issuer.pem');
  const keys = await Promise.all(Array.from({ length: 5 }, () => ensureLocalKey(path)));
  expect(new Set(keys.map(({ kid }) => kid))).toEqual(new Set([readLocalKey(path).kid]));
});

it('signs no claim that would take the place of what a token says of itself', async () => {
  const key = await ensureLocalKey(join(folder, 'issuer.pem'));
  const claims = JSON.parse('{"iss":"x","sub":"x","aud":"x","exp":"x","iat":"x","jti":"x","__proto__":"x","team":"a"}') as Record<
    string,
    string
  >;
  const asked = { issuer: 'https://local.example', audience: 'kz', subject: 'agent', claims, ttlMs: 60_000, kid: undefined };
  const { iss, sub, aud, exp, iat, jti, team } = unprovenClaims(await signToken(key, asked));
  expect([iss, sub, aud, team]).toEqual(['https://local.example', 'agent', 'kz', 'a']);
  expect(Number(exp) - Number(iat)).toBe(60);
  expect(jti).not.toBe('x');
});
