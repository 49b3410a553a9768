// Logins that every server has: approle, and a token of the user.
import { randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { inspect } from 'node:util';
import { describe, expect, it } from 'vitest';
import { text, canary, rejection, login, renew, NEVER, type VaultBench } from './vault-bench.ts';

export function loginContract(bench: VaultBench): void {
  const { setUp, provider, get, value, write2, userToken, approleEnv, accessors } = bench;

  describe('a login with approle', () => {
    it('reads, knows its end, and is revoked when the provider closes', async () => {
      const secret = canary();
      await write2('open/approle', { x: secret });
      const env = await approleEnv();
      const before = await accessors();
      const vault = provider({ auth: 'approle' }, env);
      expect(vault.login?.()).toBeUndefined();
      expect(await value(vault, 'kz2/open/approle#x')).toBe(secret);
      const [accessor = ''] = (await accessors()).filter((each) => !before.includes(each));
      const lease = vault.login?.();
      expect(lease).toMatchObject({ durationMs: 3_600_000, renewable: true });
      expect(lease?.expiresAt).toBeGreaterThan(Date.now() + 3_500_000);
      await vault.close?.(NEVER);
      expect((await bench.server.request('POST', 'auth/token/lookup-accessor', { accessor })).status).toBeGreaterThanOrEqual(400);
    });

    it('asks for a short life when it is renewed, so that a crash leaves nothing for long', async () => {
      const vault = provider({ auth: 'approle' }, await approleEnv());
      await get(vault, 'kz2/open/approle#x');
      const renewed = await renew(vault, login(vault));
      expect(renewed).toMatchObject({ id: login(vault).id, durationMs: 600_000, renewable: true });
      expect(vault.login?.()).toEqual(renewed);
      expect(await renew(vault, renewed)).toMatchObject({ durationMs: 600_000 });
    });

    it('is made once for many refs, and again when the token has gone', async () => {
      await write2('open/again1', { x: canary() });
      await write2('open/again2', { x: canary() });
      const before = await accessors();
      const vault = provider({ auth: 'approle' }, await approleEnv());
      await Promise.all([get(vault, 'kz2/open/again1#x', 'kz2/open/again2#x'), get(vault, 'kz2/open/again2#x')]);
      const made = (await accessors()).filter((each) => !before.includes(each));
      expect(made).toHaveLength(1);
      const old = login(vault);
      await setUp('POST', 'auth/token/revoke-accessor', { accessor: made[0] });
      expect(await rejection(renew(vault, old))).toMatchObject({ code: 'lease-ended' });
      const outcomes = await get(vault, 'kz2/open/again1#x', 'kz2/open/again2#x');
      expect(outcomes.map((outcome) => outcome.ok)).toEqual([true, true]);
      expect((await accessors()).filter((each) => !before.includes(each))).toHaveLength(1);
    });

    it('is locked when the bench.server refuses it, or has no such method', async () => {
      const secretId = `CANARY-${randomBytes(8).toString('hex')}`;
      const env = { ...(await approleEnv()), VAULT_SECRET_ID: secretId };
      const error = await rejection(get(provider({ auth: 'approle' }, env), 'kz2/open/app#x'));
      expect(error).toMatchObject({ code: 'provider-locked', message: expect.stringMatching(/refused the approle login/) as string });
      expect(inspect(error)).not.toContain(secretId);
      const elsewhere = await rejection(get(provider({ auth: 'approle', mount: 'nowhere' }, await approleEnv()), 'kz2/open/app#x'));
      expect(elsewhere).toMatchObject({ code: 'provider-locked', hint: expect.stringMatching(/`mount`/) as string });
    });

    it('takes the ids from files and other variables, and needs no secret id where the role binds none', async () => {
      await write2('open/files', { x: 'y' });
      const env = await approleEnv();
      const file = join(bench.folder, 'secret-id');
      writeFileSync(file, `${env.VAULT_SECRET_ID ?? ''}\n`);
      const options = { auth: 'approle', role_id: env.VAULT_ROLE_ID ?? '', secret_id_file: file } as const;
      expect(await value(provider(options, {}), 'kz2/open/files#x')).toBe('y');
      const named = { auth: 'approle', role_id_env: 'MY_ROLE', secret_id_env: 'MY_SECRET' } as const;
      const other = await approleEnv();
      expect(
        await value(provider(named, { MY_ROLE: other.VAULT_ROLE_ID ?? '', MY_SECRET: other.VAULT_SECRET_ID ?? '' }), 'kz2/open/files#x'),
      ).toBe('y');
      await setUp('POST', 'auth/approle/role/open', {
        token_policies: 'kz-reader',
        bind_secret_id: false,
        token_bound_cidrs: '127.0.0.0/8',
        secret_id_bound_cidrs: '127.0.0.0/8',
      });
      const roleId = text(await setUp('GET', 'auth/approle/role/open/role-id'), 'data', 'role_id');
      expect(await value(provider({ auth: 'approle', role_id: roleId }, {}), 'kz2/open/files#x')).toBe('y');
    });

    it('is found in good health', async () => {
      const health = await provider({ auth: 'approle' }, await approleEnv()).check?.(NEVER);
      expect(health?.detail).toMatch(/^token of approle ci, (59|60) minutes left$/);
    });
  });

  describe('a token of the user', () => {
    it('has an end when it has a life, which a renewal never brings nearer', async () => {
      await write2('open/token', { x: canary() });
      const vault = provider({}, { VAULT_TOKEN: await userToken({ policies: ['kz-reader'], ttl: '2h' }) });
      await get(vault, 'kz2/open/token#x');
      expect(login(vault)).toMatchObject({ durationMs: 7_200_000, renewable: true });
      const renewed = await renew(vault, login(vault));
      expect(renewed.durationMs).toBeGreaterThan(7_100_000);
      expect(renewed.expiresAt).toBeGreaterThan(Date.now() + 7_100_000);
    });

    it('is not revoked, and without an end it is no lease', async () => {
      const token = await userToken({ policies: ['kz-reader'], ttl: '1h' });
      const vault = provider({}, { VAULT_TOKEN: token });
      await get(vault, 'kz2/open/token#x');
      await vault.close?.(NEVER);
      expect((await bench.server.request('POST', 'auth/token/lookup', { token })).status).toBe(200);
      const root = provider();
      await get(root, 'kz2/open/token#x');
      expect(root.login?.()).toBeUndefined();
      expect(await root.check?.(NEVER)).toEqual({ detail: 'token of root, which has no end' });
    });

    it('that cannot be renewed says so, and so does one that has gone', async () => {
      const fixed = provider({}, { VAULT_TOKEN: await userToken({ policies: ['kz-reader'], ttl: '1h', renewable: false }) });
      await get(fixed, 'kz2/open/token#x');
      expect(login(fixed)).toMatchObject({ renewable: false });
      expect(await rejection(renew(fixed, login(fixed)))).toMatchObject({ code: 'lease-ended' });
      const token = await userToken({ policies: ['kz-reader'], ttl: '1h' });
      const gone = provider({}, { VAULT_TOKEN: token });
      await get(gone, 'kz2/open/token#x');
      await setUp('POST', 'auth/token/revoke', { token });
      expect(await rejection(renew(gone, login(gone)))).toMatchObject({ code: 'lease-ended' });
      expect(await rejection(gone.check?.(NEVER))).toMatchObject({ code: 'provider-locked' });
    });

    it('is read from a file', async () => {
      await write2('open/file', { x: 'y' });
      const file = join(bench.folder, 'token');
      writeFileSync(file, `${await userToken({ policies: ['kz-reader'] })}\n`);
      expect(await value(provider({ token_file: file }, { VAULT_TOKEN: 'unused' }), 'kz2/open/file#x')).toBe('y');
    });
  });
}
