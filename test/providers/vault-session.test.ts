// Being logged in to Vault, keeping what was issued alive, and writing, on the in-process fake.
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { inspect } from 'node:util';
import { describe, expect, it, vi } from 'vitest';
import { Secret } from '../../src/core/secret.ts';
import type { VaultRequest, VaultServer } from '../../src/providers/vault-server.ts';
import { VaultSession } from '../../src/providers/vault-session.ts';
import { canary, NEVER, rejection, revealed, type VaultOptions } from './vault-bench.ts';
import { matching, VaultLab } from './vault-lab.ts';

const lab = VaultLab.forThisFile();
const { open, get, one, ref, appRole } = lab;

describe('what it needs to log in', () => {
  it('is a token: of VAULT_TOKEN, BAO_TOKEN or ~/.vault-token', async () => {
    const options = { address: lab.fake.address };
    expect(await one(open(options, { BAO_TOKEN: lab.fake.token }))).toMatchObject({ ok: true });
    expect(await rejection(get(open(options, {}), ['kv/app#x']))).toMatchObject({ code: 'provider-locked', hint: matching(/vault login/) });
    expect(await rejection(get(open(options, { VAULT_ROLE_ID: 'x' }), ['kv/app#x']))).toMatchObject({ hint: matching(/auth = "approle"/) });
    writeFileSync(join(lab.folder, '.vault-token'), lab.fake.token);
    expect(await one(open(options, {}))).toMatchObject({ ok: true });
    rmSync(join(lab.folder, '.vault-token'));
    const broken = await rejection(get(open(options, { VAULT_TOKEN: 'hvs.CANARY\nx: y' }), ['kv/app#x']));
    expect(broken).toMatchObject({ code: 'provider-locked' });
    expect(inspect(broken)).not.toContain('CANARY');
  });

  it.each<[string, VaultOptions, Record<string, string>, [code: string, hint: RegExp]]>([
    ['a role id', { auth: 'approle' }, {}, ['provider-locked', /role_id/]],
    ['the variable it names', { auth: 'approle', role_id: 'x', secret_id_env: 'MINE' }, {}, ['provider-locked', /set MINE/]],
    ['a role', { auth: 'kubernetes' }, {}, ['config-invalid', /`role`/]],
    ['a JWT', { auth: 'jwt' }, {}, ['provider-locked', /jwt_env/]],
    ['a permission of GitHub', { auth: 'jwt' }, { GITHUB_ACTIONS: 'true' }, ['provider-locked', /id-token: write/]],
    ['a token file', { auth: 'token', token_file: '/nonexistent/token' }, { VAULT_TOKEN: 'unused' }, ['provider-locked', /vault login/]],
  ])('is %s', async (_what, options, env, [code, hint]) => {
    const error = await rejection(get(open({ address: lab.fake.address, ...options }, env), ['kv/app#x']));
    expect(error).toMatchObject({ code, hint: matching(hint) });
    expect(lab.fake.asked).toEqual([]);
  });

  it('is a file that is there', async () => {
    const vault = open({ address: lab.fake.address, auth: 'kubernetes', role: 'app', jwt_file: join(lab.folder, 'absent') }, {});
    expect(await rejection(get(vault, ['kv/app#x']))).toMatchObject({
      code: 'provider-locked',
      message: matching(/absent", which does not exist/),
    });
  });

  it('is not a second factor', async () => {
    lab.fake.intercept = ({ path }) =>
      path.endsWith('/login') ? { status: 200, body: { auth: { client_token: '', mfa_requirement: {} } } } : undefined;
    expect(await rejection(get(await appRole(), ['kv/app#x']))).toMatchObject({
      code: 'provider-locked',
      message: matching(/second factor/),
    });
  });
});

describe('a login', () => {
  it('is one for many who ask at once, also when the first of them gives up', async () => {
    const vault = await appRole();
    const first = new AbortController();
    lab.fake.intercept = ({ path }) => {
      if (!path.endsWith('/login') || first.signal.aborted) return undefined;
      first.abort();
      return 'hang';
    };
    const [gaveUp, ...others] = await Promise.allSettled([
      get(vault, ['kv/app#x'], first.signal),
      get(vault, ['kv/app#x']),
      get(vault, ['kv/app#x']),
    ]);
    expect(gaveUp.status).toBe('rejected');
    expect(others.map(({ status }) => status)).toEqual(['fulfilled', 'fulfilled']);
    expect(lab.fake.paths.filter((path) => path.endsWith('/login'))).toHaveLength(2);
  });

  it('of kz’s own is renewed for ten minutes, that of the user for as long as it was', async () => {
    const own = await appRole();
    await get(own, ['kv/app#x']);
    const lease = own.login?.();
    if (lease === undefined) throw new Error('no lease');
    await own.renew?.(lease, NEVER);
    const token = await lab.userToken({ policies: ['root'], ttl: '2h' });
    const user = open({ address: lab.fake.address }, { VAULT_TOKEN: token });
    await get(user, ['kv/app#x']);
    await user.renew?.(user.login?.() ?? lease, NEVER);
    const asked = lab.fake.asked.filter(({ path }) => path === 'auth/token/renew-self').map(({ body: sent }) => sent as unknown);
    expect(asked).toEqual([{ increment: 600 }, { increment: 7200 }]);
  });

  it('with a batch token gives back each lease, because that token cannot be revoked', async () => {
    await lab.fake.request('POST', 'sys/mounts/db', { type: 'database' });
    await lab.fake.request('POST', 'db/roles/ro', { default_ttl: '1h' });
    const vault = await appRole('batch');
    await get(vault, ['db/creds/ro#username', 'db/creds/ro#password']);
    lab.fake.asked.length = 0;
    await vault.close?.(NEVER);
    expect(lab.fake.paths).toEqual(['PUT sys/leases/revoke']);
  });

  it('is given back silently: nothing to give, nobody there, nothing allowed', async () => {
    await open().close?.(NEVER);
    expect(lab.fake.asked).toEqual([]);
    const denied = await appRole();
    await get(denied, ['kv/app#x']);
    lab.fake.intercept = () => ({ status: 403, body: { errors: ['permission denied'] } });
    await denied.close?.(NEVER);
    lab.fake.intercept = undefined;
    const gone = await appRole();
    await get(gone, ['kv/app#x']);
    await lab.fake.close();
    await gone.close?.(NEVER);
  });
});

describe('renewing', () => {
  const lease = { id: 'db/creds/ro/x', expiresAt: Date.now() + 1000, durationMs: 60_000, renewable: true };

  it.each<[string, number, unknown, string]>([
    ['nothing left', 200, { lease_id: lease.id, lease_duration: 0, renewable: true }, 'lease-ended'],
    ['nothing said', 204, undefined, 'lease-ended'],
    ['not known', 400, { errors: ['lease not found'] }, 'lease-ended'],
    ['server in trouble', 500, { errors: ['CANARY'] }, 'provider-failed'],
    ['policy', 403, { errors: ['permission denied'] }, 'provider-denied'],
  ])('%s', async (_name, status, body, code) => {
    lab.fake.intercept = ({ path }) => (path === 'sys/leases/renew' ? { status, body } : undefined);
    const error = await rejection(open().renew?.(lease, NEVER));
    expect(error).toMatchObject({ code });
    expect(inspect(error)).not.toContain('CANARY');
  });

  it('asks for as long as it was, and says when it ends now', async () => {
    lab.fake.intercept = ({ path }) =>
      path === 'sys/leases/renew' ? { status: 200, body: { lease_duration: 30, renewable: false } } : undefined;
    const renewed = await open().renew?.(lease, NEVER);
    expect(renewed).toMatchObject({ id: lease.id, durationMs: 30_000, renewable: false });
    expect(lab.fake.asked.at(-1)?.body).toEqual({ lease_id: lease.id, increment: 60 });
  });
});

describe('writing', () => {
  it('gives way to whoever was faster, and keeps what they wrote', async () => {
    let once = true;
    lab.fake.intercept = ({ method, path }) => {
      if (!once || method !== 'POST' || path !== 'kv/data/app') return undefined;
      once = false;
      void lab.fake.request('POST', 'kv/data/app', { data: { x: 'theirs', z: '1' } });
      return { status: 400, body: { errors: ['check-and-set parameter did not match the current version'] } };
    };
    const vault = open();
    await vault.put?.(ref('kv/app#mine'), new Secret('2'), NEVER);
    expect((await get(vault, ['kv/app#mine', 'kv/app#x', 'kv/app#z'])).map(revealed)).toEqual(['2', 'theirs', '1']);
  });

  it('does not go on for ever, and does not tell what the server says', async () => {
    lab.fake.intercept = ({ method }) =>
      method === 'POST' ? { status: 400, body: { errors: ['check-and-set parameter did not match the current version'] } } : undefined;
    const put = (): Promise<void> | undefined => open().put?.(ref('kv/app#x'), new Secret(canary()), NEVER);
    expect(await rejection(put())).toMatchObject({ code: 'provider-failed', message: matching(/changes all the time/) });
    lab.fake.intercept = ({ method, body }) => (method === 'POST' ? { status: 500, body: { errors: [JSON.stringify(body)] } } : undefined);
    const error = await rejection(put());
    expect(error).toMatchObject({ code: 'provider-failed' });
    expect(inspect(error)).not.toContain('CANARY');
  });
});

describe('a session that is closed', () => {
  it('gives back what is issued while it gives the rest back', async () => {
    const revoked: unknown[] = [];
    let answer: (() => void) | undefined;
    const server = {
      who: 'Vault',
      ask: async ({ path, body }: VaultRequest) => {
        if (path === 'sys/leases/revoke') {
          revoked.push(body);
          if (revoked.length === 1) await new Promise<void>((resolve) => (answer = resolve));
        }
        return { status: 200, body: {}, errors: '' };
      },
    } as unknown as VaultServer;
    const session = new VaultSession({ options: {}, env: { VAULT_TOKEN: canary() }, server });
    await session.ask({ path: 'database/creds/one' }, NEVER);
    session.issued('one');
    const closed = session.close(NEVER);
    await vi.waitUntil(() => answer !== undefined);
    // Its question was under way; another one's failure had ended the command.
    session.issued('two');
    answer?.();
    await closed;
    expect(revoked).toEqual([{ lease_id: 'one' }, { lease_id: 'two' }]);
  });
});
