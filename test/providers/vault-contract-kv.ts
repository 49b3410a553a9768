// kv secrets of both versions, read and written, on any server.
import { randomBytes } from 'node:crypto';
import { inspect } from 'node:util';
import { describe, expect, it } from 'vitest';
import { Secret } from '../../src/core/secret.ts';
import { canary, revealed, expectError, rejection, NEVER, type VaultBench } from './vault-bench.ts';

export function kvContract(bench: VaultBench): void {
  const { setUp, provider, ref, get, one, value, write2, write1, userToken } = bench;

  describe('kv version 2', () => {
    it('gives a field with and without the data segment, with and without a leading slash, and its version', async () => {
      const secret = canary();
      await write2('open/app', { password: secret, user: 'app' });
      const refs = ['kz2/open/app#password', 'kz2/data/open/app#password', '/kz2/open/app#password', 'kz2/open/app#user'];
      const outcomes = await get(provider(), ...refs);
      expect(outcomes.map(revealed)).toEqual([secret, secret, secret, 'app']);
      expect(outcomes.map((outcome) => outcome.ok && outcome.version)).toEqual(['1', '1', '1', '1']);
      expect(outcomes.map((outcome) => outcome.ok && outcome.lease)).toEqual([undefined, undefined, undefined, undefined]);
    });

    it('gives the whole secret as JSON without a field', async () => {
      const data = { username: 'app', password: canary(), port: 5432 };
      await write2('open/whole', data);
      expect(JSON.parse(await value(provider(), 'kz2/open/whole'))).toEqual(data);
    });

    it('gives numbers and booleans as their text, objects as JSON, and null as nothing', async () => {
      await write2('open/kinds', { port: 5432, tls: true, db: { name: 'x', hosts: ['a'] }, none: null, empty: '' });
      const outcomes = await get(provider(), ...['port', 'tls', 'db', 'db.name', 'none', 'empty'].map((key) => `kz2/open/kinds#${key}`));
      expect(outcomes.map((outcome) => (outcome.ok ? outcome.secret.reveal() : outcome.error.code))).toEqual([
        '5432',
        'true',
        // Vault keeps no order of keys: it sorts them.
        '{"hosts":["a"],"name":"x"}',
        'x',
        'secret-missing',
        '',
      ]);
    });

    it('gives an older version, and says which one it gave', async () => {
      const [old, now] = [canary(), canary()];
      await write2('open/versions', { x: old });
      await write2('open/versions', { x: now });
      const vault = provider();
      const outcomes = await get(vault, 'kz2/open/versions?version=1#x', 'kz2/open/versions#x', 'kz2/open/versions?version=2#x');
      expect(outcomes.map(revealed)).toEqual([old, now, now]);
      expect(outcomes.map((outcome) => outcome.ok && outcome.version)).toEqual(['1', '2', '2']);
      expectError(await one(vault, 'kz2/open/versions?version=7#x'), 'secret-missing', /version 7/);
    });

    it('says that a secret was deleted, or destroyed', async () => {
      await write2('open/deleted', { x: canary() });
      await setUp('DELETE', 'kz2/data/open/deleted');
      await write2('open/destroyed', { x: canary() });
      await setUp('PUT', 'kz2/destroy/open/destroyed', { versions: [1] });
      const vault = provider();
      const [deleted, destroyed] = await get(vault, 'kz2/open/deleted#x', 'kz2/open/destroyed#x');
      expectError(
        deleted,
        'secret-missing',
        /version 1 of "kz2\/open\/deleted" .* was deleted/,
        /vault kv undelete -versions=1 kz2\/open\/deleted/,
      );
      expectError(destroyed, 'secret-missing', /version 1 of "kz2\/open\/destroyed" .* was destroyed/);
    });

    it('gives names with spaces, dots, percent signs and letters of all kinds', async () => {
      const secret = canary();
      await bench.server.request('POST', `kz2/data/open/${encodeURIComponent('an app')}/${encodeURIComponent('50% ü.v1')}`, {
        data: { 'a b': secret },
      });
      expect(await value(provider(), 'kz2/open/an app/50% ü.v1#a b')).toBe(secret);
    });
  });

  describe('kv version 1', () => {
    it('gives a field of a secret on a mount with a slash in its name, without a lease', async () => {
      const secret = canary();
      await write1('app', { password: secret });
      const outcome = await one(provider(), 'team/kz1/app#password');
      expect(revealed(outcome)).toBe(secret);
      expect(outcome).toMatchObject({ ok: true, lease: undefined, version: undefined });
    });

    it('has no versions', async () => {
      await write1('versions', { x: canary() });
      expectError(await one(provider(), 'team/kz1/versions?version=1#x'), 'ref-invalid', /version 1/);
    });
  });

  describe('what is not there', () => {
    it('is missing, with the nearest key', async () => {
      await write2('open/near', { password: canary() });
      const vault = provider();
      const [typo, path, old] = await get(vault, 'kz2/open/near#pasword', 'kz2/open/nothing#x', 'team/kz1/nothing#x');
      expectError(typo, 'secret-missing', /has no field "pasword"/, /did you mean "password"/);
      expectError(path, 'secret-missing', /"kz2\/open\/nothing" is not in vault at http/);
      expectError(old, 'secret-missing', /"team\/kz1\/nothing" is not in vault at http/);
    });

    it('is no engine: that is a wrong ref, or another namespace', async () => {
      expectError(await one(provider(), 'nowhere/app#x'), 'ref-invalid', /no secrets engine at "nowhere\/app"/, /namespace/);
    });

    it('does not hide what is there: of 200 refs three fail', async () => {
      const names = Array.from({ length: 200 }, (_, index) => String(index));
      const secret = canary();
      await Promise.all(
        names.filter((name) => !['7', '77', '177'].includes(name)).map((name) => write2(`open/many/${name}`, { x: `${secret}-${name}` })),
      );
      const outcomes = await get(provider(), ...names.map((name) => `kz2/open/many/${name}#x`));
      expect(outcomes.flatMap((outcome, index) => (outcome.ok ? [] : [index]))).toEqual([7, 77, 177]);
      expect(outcomes.filter((outcome) => outcome.ok).map(revealed)).toContain(`${secret}-199`);
    });
  });

  describe('what is not allowed', () => {
    it('is denied, by the path that the policy lacks, and the rest is given', async () => {
      const secret = canary();
      await write2('open/allowed', { x: secret });
      await write2('closed/app', { x: canary() });
      await write1('closed', { x: canary() });
      const vault = provider({}, { VAULT_TOKEN: await userToken({ policies: ['kz-reader'], ttl: '1h' }) });
      const [denied, allowed, elsewhere] = await get(vault, 'kz2/closed/app#x', 'kz2/open/allowed#x', 'team/kz1/closed#x');
      expectError(denied, 'provider-denied', /denies reading "kz2\/closed\/app"/, /`read` on "kz2\/data\/closed\/app"/);
      expect(allowed === undefined ? '' : revealed(allowed)).toBe(secret);
      expectError(elsewhere, 'provider-denied', /"team\/kz1\/closed"/);
    });

    it('is told from a token that is no good, also without the default policy', async () => {
      await write2('closed/nodefault', { x: canary() });
      const token = await userToken({ policies: ['kz-reader'], no_default_policy: true, ttl: '1h' });
      expectError(await one(provider({}, { VAULT_TOKEN: token }), 'kz2/closed/nodefault#x'), 'provider-denied');
      await setUp('POST', 'auth/token/revoke', { token });
      const bad = `hvs.CANARY${randomBytes(20).toString('hex')}`;
      for (const VAULT_TOKEN of [token, bad]) {
        const error = await rejection(get(provider({}, { VAULT_TOKEN }), 'kz2/open/allowed#x', 'kz2/open/b#x'));
        expect(error).toMatchObject({ code: 'provider-locked', hint: expect.stringMatching(/vault login/) as string });
        expect(inspect(error)).not.toContain(VAULT_TOKEN);
      }
    });
  });

  describe('writing', () => {
    it('changes one field of a version 2 secret and keeps the others', async () => {
      const [kept, first, second] = [canary(), canary(), canary()];
      const vault = provider();
      await vault.put?.(ref('kz2/open/put#a'), new Secret(first), NEVER);
      await vault.put?.(ref('kz2/data/open/put#b'), new Secret(kept), NEVER);
      await vault.put?.(ref('kz2/open/put#a'), new Secret(second), NEVER);
      expect(JSON.parse(await value(vault, 'kz2/open/put'))).toEqual({ a: second, b: kept });
      expect(await one(vault, 'kz2/open/put')).toMatchObject({ version: '3' });
      expect(vault.destination?.(ref('kz2/open/put#a'))).toBe(`field "a" of "kz2/open/put" in vault at ${bench.server.address}`);
    });

    it('loses nothing when several write at once', async () => {
      const vault = provider();
      const names = ['a', 'b', 'c', 'd'];
      const write = async (name: string): Promise<void> => vault.put?.(ref(`kz2/open/race#${name}`), new Secret(`${name}-value`), NEVER);
      await Promise.all(names.map(write));
      expect(Object.keys(JSON.parse(await value(vault, 'kz2/open/race')) as object).sort()).toEqual(names);
    });

    it('starts anew where the last version was deleted', async () => {
      await write2('open/again', { old: canary() });
      await setUp('DELETE', 'kz2/data/open/again');
      const secret = canary();
      const vault = provider();
      await vault.put?.(ref('kz2/open/again#new'), new Secret(secret), NEVER);
      expect(JSON.parse(await value(vault, 'kz2/open/again'))).toEqual({ new: secret });
    });

    it('removes a field, and with the last one the secret', async () => {
      await write2('open/remove', { a: canary(), b: canary() });
      const vault = provider();
      const remove = async (text: string): Promise<boolean | undefined> => vault.remove?.(ref(text), NEVER);
      expect(await remove('kz2/open/remove#c')).toBe(false);
      expect(await remove('kz2/open/never#a')).toBe(false);
      expect(await remove('kz2/open/remove#a')).toBe(true);
      expect(Object.keys(JSON.parse(await value(vault, 'kz2/open/remove')) as object)).toEqual(['b']);
      expect(await remove('kz2/open/remove#b')).toBe(true);
      expectError(await one(vault, 'kz2/open/remove#b'), 'secret-missing', /was deleted/);
      expect(await remove('kz2/open/remove#b')).toBe(false);
    });

    it('does the same on version 1', async () => {
      const vault = provider();
      const secret = canary();
      await vault.put?.(ref('team/kz1/put#a'), new Secret(secret), NEVER);
      await vault.put?.(ref('team/kz1/put#b'), new Secret('b'), NEVER);
      expect(JSON.parse(await value(vault, 'team/kz1/put'))).toEqual({ a: secret, b: 'b' });
      expect(await vault.remove?.(ref('team/kz1/put#b'), NEVER)).toBe(true);
      expect(await vault.remove?.(ref('team/kz1/put#a'), NEVER)).toBe(true);
      expectError(await one(vault, 'team/kz1/put#a'), 'secret-missing');
    });

    it('is denied by policy, and refuses a ref that names no field or a version', async () => {
      await write2('open/denied', { x: 'before' });
      const vault = provider({}, { VAULT_TOKEN: await userToken({ policies: ['kz-reader'] }) });
      const put = async (text: string): Promise<void> => vault.put?.(ref(text), new Secret(canary()), NEVER);
      expect(await rejection(put('kz2/open/denied#x'))).toMatchObject({
        code: 'provider-denied',
        hint: expect.stringMatching(/`update`/) as string,
      });
      expect(await rejection(put('kz2/open/denied'))).toMatchObject({
        code: 'ref-invalid',
        message: expect.stringMatching(/names no field/) as string,
      });
      expect(await rejection(put('kz2/open/denied?version=1#x'))).toMatchObject({ code: 'ref-invalid' });
      expect(await value(provider(), 'kz2/open/denied#x')).toBe('before');
    });
  });
}
