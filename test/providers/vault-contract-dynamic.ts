// Credentials that an engine makes for whoever asks, and their leases.
import { describe, expect, it, vi } from 'vitest';
import { Secret } from '../../src/core/secret.ts';
import type { Lease, Outcome } from '../../src/providers/provider.ts';
import type { VaultCapabilities } from './vault-contract.ts';
import { at, canary, revealed, rejection, renew, NEVER, type VaultBench } from './vault-bench.ts';

export function dynamicContract(bench: VaultBench, capabilities: VaultCapabilities): void {
  const { setUp, provider, ref, get, one, approleEnv } = bench;

  describe.skipIf(!capabilities.database)(`dynamic credentials${capabilities.database ? '' : ' (skipped: no database)'}`, () => {
    async function leases(): Promise<string[]> {
      const { body } = await bench.server.request('GET', 'sys/leases/lookup/dynamic/creds/ro?list=true');
      return (at(body, 'data', 'keys') as string[] | undefined) ?? [];
    }

    function leaseOf(outcome: Outcome | undefined): Lease {
      if (outcome?.ok !== true || outcome.lease === undefined) throw new Error('no lease');
      return outcome.lease;
    }

    async function isAlive(lease: Lease): Promise<boolean> {
      return (await bench.server.request('PUT', 'sys/leases/lookup', { lease_id: lease.id })).status === 200;
    }

    it('are one request and one lease for all their fields', async () => {
      const before = await leases();
      const outcomes = await get(provider(), 'dynamic/creds/ro#username', 'dynamic/creds/ro#password', 'dynamic/creds/ro');
      const [username = '', password = '', whole = ''] = outcomes.map(revealed);
      expect(JSON.parse(whole)).toMatchObject({ username, password });
      expect((await leases()).length).toBe(before.length + 1);
      const [first] = outcomes.map(leaseOf);
      expect(outcomes.map(leaseOf)).toEqual([first, first, first]);
      expect(first).toMatchObject({ durationMs: 1_800_000, renewable: true });
      expect(first?.expiresAt).toBeGreaterThan(Date.now() + 1_700_000);
    });

    it('live on when their lease is renewed, and not when it has ended', async () => {
      const vault = provider();
      const lease = leaseOf(await one(vault, 'dynamic/creds/ro'));
      const renewed = await renew(vault, lease);
      expect(renewed).toMatchObject({ id: lease.id, renewable: true });
      expect(renewed.expiresAt).toBeGreaterThanOrEqual(lease.expiresAt - 1000);
      await setUp('PUT', 'sys/leases/revoke', { lease_id: lease.id, sync: true });
      expect(await rejection(renew(vault, renewed))).toMatchObject({ code: 'lease-ended' });
      expect(await rejection(renew(vault, { ...lease, renewable: false }))).toMatchObject({ code: 'lease-ended' });
    });

    it('are revoked when the provider closes, with the token of the user left alone', async () => {
      const vault = provider();
      const lease = leaseOf(await one(vault, 'dynamic/creds/ro'));
      expect(await isAlive(lease)).toBe(true);
      await vault.close?.(NEVER);
      await vi.waitUntil(async () => !(await isAlive(lease)), { timeout: 10_000 });
    });

    it('are revoked with the token of kz', async () => {
      const vault = provider({ auth: 'approle' }, await approleEnv());
      const lease = leaseOf(await one(vault, 'dynamic/creds/ro#password'));
      await vault.close?.(NEVER);
      await vi.waitUntil(async () => !(await isAlive(lease)), { timeout: 10_000 });
    });

    it('cannot be written, and a role that is not there is named', async () => {
      const vault = provider();
      const put = vault.put?.(ref('dynamic/creds/ro#password'), new Secret(canary()), NEVER);
      expect(await rejection(put)).toMatchObject({ code: 'provider-read-only' });
      const outcome = await one(vault, 'dynamic/creds/nobody#password');
      expect(outcome).toMatchObject({ ok: false, error: { message: expect.stringMatching(/"dynamic\/creds\/nobody"/) as string } });
    });
  });
}
