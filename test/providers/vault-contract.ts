// What the vault provider does, on any server that speaks Vault's HTTP API: the in-process fake (vault.test.ts) and a real one
// (test/live/vault.test.ts) run the same tests. All that a test needs it sets up itself, through the API, with the root token.
import { afterAll, afterEach, beforeAll, vi } from 'vitest';
import { VaultBench, type VaultTestServer } from './vault-bench.ts';
import { dynamicContract } from './vault-contract-dynamic.ts';
import { kvContract } from './vault-contract-kv.ts';
import { loginContract } from './vault-contract-login.ts';
import { methodsContract } from './vault-contract-methods.ts';

export type { VaultTestAnswer, VaultTestServer } from './vault-bench.ts';
export { canary, expectError, rejection, revealed } from './vault-bench.ts';

/** What not every server has. `approle`, `kv`, `token` and `sys` all of them do. */
export interface VaultCapabilities {
  /** The `database` engine, and `database` of the server. */
  readonly database: boolean;
  /** The `jwt` auth method. */
  readonly jwt: boolean;
  /** The `kubernetes` auth method, and `kubernetes` of the server. */
  readonly kubernetes: boolean;
  /** The `aws` auth method; the test brings an STS of its own. */
  readonly aws: boolean;
  /** OpenBao and Vault Enterprise. */
  readonly namespaces: boolean;
}

/** `open` is called once; its server is closed after the last test. */
export function vaultContract(open: () => Promise<VaultTestServer>, capabilities: VaultCapabilities): void {
  const bench = new VaultBench(open);
  const { setUp } = bench;

  beforeAll(async () => {
    await bench.start();
    await setUp('POST', 'sys/mounts/kz2', { type: 'kv', options: { version: '2' } });
    await setUp('POST', 'sys/mounts/team/kz1', { type: 'kv', options: { version: '1' } });
    await setUp('PUT', 'sys/policies/acl/kz-reader', {
      policy: 'path "kz2/data/open/*" { capabilities = ["read"] }\npath "dynamic/creds/*" { capabilities = ["read"] }',
    });
    await setUp('POST', 'sys/auth/approle', { type: 'approle' });
    await setUp('POST', 'auth/approle/role/ci', { token_policies: 'kz-reader', token_ttl: '1h', token_max_ttl: '4h' });
    if (capabilities.database) await setUpDatabase();
  }, 120_000);

  afterEach(async () => {
    vi.unstubAllEnvs();
    await bench.closeProviders();
  });

  afterAll(() => bench.close());

  async function setUpDatabase(): Promise<void> {
    const { database } = bench.server;
    if (database === undefined) throw new Error('a server with a database has to say how to reach it');
    await setUp('POST', 'sys/mounts/dynamic', { type: 'database' });
    await setUp('POST', 'dynamic/config/app', { ...database.config, allowed_roles: '*' });
    const role = { db_name: 'app', creation_statements: database.creationStatements, default_ttl: '30m', max_ttl: '2h' };
    await setUp('POST', 'dynamic/roles/ro', role);
  }

  kvContract(bench);
  loginContract(bench);
  dynamicContract(bench, capabilities);
  methodsContract(bench, capabilities);
}
