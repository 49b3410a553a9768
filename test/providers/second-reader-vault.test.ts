// What must not pass for an absent secret, become a value, or be left behind.
import { describe, expect, it } from 'vitest';
import { NEVER, rejection } from './vault-bench.ts';
import { matching, VaultLab } from './vault-lab.ts';

const lab = VaultLab.forThisFile();
const { open, get, one, appRole } = lab;

const DENIED = { status: 403, body: { errors: ['1 error occurred:\n\t* permission denied\n\n'] } };

describe('404', () => {
  it.each<[string, unknown]>([
    ['a web server', undefined],
    ['another API', { message: 'Not Found' }],
    ['an engine that does not know the path', { errors: ['1 error occurred:\n\t* unsupported path\n\n'] }],
    ['a namespace that is not there', { errors: ['namespace not found'] }],
  ])('of %s does not mean that the secret is absent', async (_what, body) => {
    lab.fake.intercept = () => ({ status: 404, body });
    expect(await one(open())).toMatchObject({
      ok: false,
      error: { code: 'provider-failed', message: matching(/answered 404 for "kv\/app"/) },
    });
  });

  it('of Vault does', async () => {
    expect(await one(open(), 'kv/absent#x')).toMatchObject({ ok: false, error: { code: 'secret-missing' } });
    expect(await one(open(), 'old/absent#x')).toMatchObject({ ok: false, error: { code: 'secret-missing' } });
  });
});

it('does not give out its own token, also not by way of a namespace', async () => {
  await lab.fake.request('POST', 'sys/namespaces/team', {});
  const outcomes = await get(open(), ['team/auth/token/lookup-self#id', 'team/auth/token/lookup-self']);
  for (const outcome of outcomes) expect(outcome).toMatchObject({ ok: false, error: { code: 'ref-invalid' } });
});

describe('a login of kz’s own', () => {
  it('is given back although its policy does not allow to renew it', async () => {
    const vault = await appRole();
    expect(await one(vault)).toMatchObject({ ok: true });
    const token = String(lab.fake.asked.find(({ path }) => path.startsWith('kv/'))?.headers['x-vault-token']);
    lab.fake.intercept = ({ path }) => (path === 'auth/token/renew-self' ? DENIED : undefined);
    const lease = vault.login?.();
    if (lease === undefined) throw new Error('no login');
    expect(await rejection(vault.renew?.(lease, NEVER) ?? Promise.resolve())).toMatchObject({ code: 'lease-ended' });
    expect(await one(vault)).toMatchObject({ ok: true });
    await vault.close?.(NEVER);
    expect((await lab.fake.request('POST', 'auth/token/lookup', { token })).status).toBe(403);
    expect(lab.fake.paths.filter((path) => path.endsWith('/login'))).toHaveLength(1);
  });

  it('is not thrown away because a server failed when it was asked about it', async () => {
    const vault = await appRole();
    await one(vault);
    lab.fake.intercept = ({ path }) => (path.startsWith('kv/') ? DENIED : { status: 500, body: { errors: ['internal error'] } });
    expect(await one(vault)).toMatchObject({ ok: false, error: { code: 'provider-failed' } });
    lab.fake.intercept = undefined;
    expect(await one(vault)).toMatchObject({ ok: true });
    expect(lab.fake.paths.filter((path) => path.endsWith('/login'))).toHaveLength(1);
  });

  it('is not made again after the last one was given back', async () => {
    const vault = await appRole();
    await one(vault);
    await vault.close?.(NEVER);
    lab.fake.asked.length = 0;
    expect(await one(vault)).toMatchObject({ ok: false, error: { code: 'provider-failed' } });
    expect(lab.fake.paths).toEqual([]);
  });
});

it('gives what it has when one path hangs, and names that one', async () => {
  await lab.fake.request('POST', 'kv/data/slow', { data: { x: 'y' } });
  lab.fake.intercept = ({ path }) => (path === 'kv/data/slow' ? 'hang' : undefined);
  const outcomes = await get(open(), ['kv/app#x', 'kv/slow#x', 'old/absent#x'], AbortSignal.timeout(500));
  expect(outcomes).toMatchObject([
    { ok: true },
    { ok: false, error: { code: 'provider-timeout', message: matching(/did not answer for "kv\/slow" in time/) } },
    { ok: false, error: { code: 'secret-missing' } },
  ]);
});
