// The vault provider against a real Vault, and what it does to a real PostgreSQL.
import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { vaultProblem } from '../../scripts/live/vault.mjs';
import { Secret } from '../../src/core/secret.ts';
import type { Lease, Outcome, Provider } from '../../src/providers/provider.ts';
import { openVault } from '../../src/providers/vault.ts';
import { rejection, revealed, vaultContract } from '../providers/vault-contract.ts';
import { postgresProblem, startPostgres, type Login, type Postgres } from './postgres.ts';
import { startVault, type LiveVault } from './vault-server.ts';

const NEVER = new AbortController().signal;
const noVault = vaultProblem();
const noDatabase = noVault ?? postgresProblem();

function skipped(problem: string | undefined): string {
  return problem === undefined ? '' : ` (skipped: ${problem})`;
}

function open({ address }: LiveVault, env: Readonly<Record<string, string>>, ca?: string): Provider {
  return openVault({ address, ...(ca !== undefined && { ca }) }, { env: { HOME: tmpdir(), ...env }, userDirectory: tmpdir() });
}

function get(provider: Provider, ...refs: string[]): Promise<readonly Outcome[]> {
  return provider.get(
    refs.map((text) => ({ text, directory: '/' })),
    NEVER,
  );
}

describe.skipIf(noVault !== undefined)(`secrets in a real vault${skipped(noVault)}`, () => {
  let postgres: Postgres | undefined;
  afterAll(async () => {
    await postgres?.stop();
  });

  async function start(): Promise<LiveVault> {
    postgres = noDatabase === undefined ? await startPostgres() : undefined;
    return startVault({ postgres });
  }

  vaultContract(start, { database: noDatabase === undefined, jwt: true, kubernetes: true, aws: true, namespaces: false });
});

describe.skipIf(noVault !== undefined)(`a real vault that does not open${skipped(noVault)}`, () => {
  it('is sealed, and then it is not', async () => {
    const vault = await startVault();
    await vault.request('POST', 'secret/data/app', { data: { x: 'y' } });
    const provider = open(vault, { VAULT_TOKEN: vault.token });
    await vault.seal();
    for (const ask of [() => get(provider, 'secret/app#x'), () => provider.check?.(NEVER)]) {
      expect(await rejection(ask())).toMatchObject({ code: 'provider-locked', message: expect.stringMatching(/ is sealed$/) as string });
    }
    await vault.unseal();
    expect((await get(provider, 'secret/app#x')).map(revealed)).toEqual(['y']);
    await vault.close();
    expect(await rejection(get(open(vault, { VAULT_TOKEN: vault.token }), 'secret/app#x'))).toMatchObject({ code: 'provider-unavailable' });
  });

  it('has a certificate that only its own authority vouches for', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'kz-vault-tls-'));
    const vault = await startVault({ tls: true });
    const ca = join(folder, 'ca.pem');
    writeFileSync(ca, vault.certificate ?? '');
    const env = { VAULT_TOKEN: vault.token };
    const secret = `CANARY-${randomBytes(8).toString('hex')}`;
    const provider = open(vault, env, ca);
    await provider.put?.({ text: 'secret/app#x', directory: '/' }, new Secret(secret), NEVER);
    expect((await get(provider, 'secret/app#x')).map(revealed)).toEqual([secret]);
    expect((await get(open(vault, { ...env, VAULT_CACERT: ca }), 'secret/app#x')).map(revealed)).toEqual([secret]);
    expect(await rejection(get(open(vault, env), 'secret/app#x'))).toMatchObject({ code: 'provider-unavailable' });
    await vault.close();
    rmSync(folder, { recursive: true });
  });
});

describe.skipIf(noDatabase !== undefined)(`users that a real vault makes in a real PostgreSQL${skipped(noDatabase)}`, () => {
  let postgres: Postgres;
  let vault: LiveVault;
  beforeAll(async () => {
    postgres = await startPostgres();
    vault = await startVault({ postgres });
    const { config, creationStatements } = vault.database ?? {};
    await vault.request('POST', 'sys/mounts/database', { type: 'database' });
    await vault.request('POST', 'database/config/app', { ...config, allowed_roles: '*' });
    const role = { db_name: 'app', creation_statements: creationStatements };
    await vault.request('POST', 'database/roles/hours', { ...role, default_ttl: '1h', max_ttl: '4h' });
    await vault.request('POST', 'database/roles/seconds', { ...role, default_ttl: '2s', max_ttl: '2s' });
  });
  afterAll(async () => {
    await vault.close();
    await postgres.stop();
  });

  async function issue(provider: Provider, role: string): Promise<{ login: Login; lease: Lease }> {
    const outcomes = await get(provider, `database/creds/${role}#username`, `database/creds/${role}#password`);
    const [username = '', password = ''] = outcomes.map(revealed);
    const [first, second] = outcomes.map((outcome) => (outcome.ok ? outcome.lease : undefined));
    if (first === undefined) throw new Error('no lease');
    expect(second).toEqual(first);
    return { login: { username, password }, lease: first };
  }

  function whoAmI(login: Login): Promise<string> {
    return postgres.query(login, 'select current_user');
  }

  /** Those that Vault has made. */
  async function users(): Promise<string[]> {
    const lines = await postgres.query(postgres.administrator, `select rolname from pg_roles where rolname like 'v-%'`);
    return lines.split('\n').filter((line) => line !== '');
  }

  /** Vault answers a revocation before it has told the database. */
  async function refused(login: Login): Promise<void> {
    await vi.waitUntil(async () => !(await users()).includes(login.username), { timeout: 20_000, interval: 100 });
    await expect(whoAmI(login)).rejects.toThrow(/password authentication failed|does not exist/);
  }

  it('log in, live longer when renewed, and are gone when the provider closes', async () => {
    const provider = open(vault, { VAULT_TOKEN: vault.token });
    const { login, lease } = await issue(provider, 'hours');
    expect(await whoAmI(login)).toBe(login.username);
    expect(await users()).toEqual([login.username]);
    await postgres.query(postgres.administrator, `alter role "${login.username}" valid until '2000-01-01'`);
    await expect(whoAmI(login)).rejects.toThrow(/password authentication failed/);
    const renewed = await provider.renew?.(lease, NEVER);
    expect(renewed).toMatchObject({ id: lease.id, durationMs: 3_600_000, renewable: true });
    expect(await whoAmI(login)).toBe(login.username);
    await provider.close?.(NEVER);
    await refused(login);
  });

  it('end with the login of kz, whatever it was', async () => {
    await vault.request('PUT', 'sys/policies/acl/database', { policy: 'path "database/creds/*" { capabilities = ["read"] }' });
    await vault.request('POST', 'sys/auth/approle', { type: 'approle' });
    await vault.request('POST', 'auth/approle/role/app', { token_policies: 'database', token_ttl: '1h' });
    const roleId = await vault.request('GET', 'auth/approle/role/app/role-id');
    const secretId = await vault.request('POST', 'auth/approle/role/app/secret-id');
    const ids = { ...dataOf(roleId.body), ...dataOf(secretId.body) };
    const env = { VAULT_ROLE_ID: ids.role_id ?? '', VAULT_SECRET_ID: ids.secret_id ?? '' };
    const provider = openVault({ address: vault.address, auth: 'approle' }, { env, userDirectory: tmpdir() });
    const { login } = await issue(provider, 'hours');
    expect(await whoAmI(login)).toBe(login.username);
    await provider.close?.(NEVER);
    await refused(login);
  });

  it('end by themselves, and then others are made', async () => {
    const provider = open(vault, { VAULT_TOKEN: vault.token });
    const { login, lease } = await issue(provider, 'seconds');
    expect(lease).toMatchObject({ durationMs: 2000, renewable: true });
    await refused(login);
    expect(await rejection(provider.renew?.(lease, NEVER))).toMatchObject({ code: 'lease-ended' });
    const again = await issue(provider, 'seconds');
    expect(again.login.username).not.toBe(login.username);
    await provider.close?.(NEVER);
  });
});

function dataOf(body: unknown): Record<string, string> {
  return (body as { data: Record<string, string> }).data;
}
