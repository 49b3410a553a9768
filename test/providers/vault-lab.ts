// A fake Vault for each test of a file, with two kv mounts and approle, and short words for asking it.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, expect } from 'vitest';
import type { Outcome, Provider, Ref } from '../../src/providers/provider.ts';
import { openVault } from '../../src/providers/vault.ts';
import { FakeVault } from '../fixtures/vault-fake.ts';
import { NEVER, text, type VaultOptions } from './vault-bench.ts';

type Env = Readonly<Record<string, string>>;

export class VaultLab {
  #fake: FakeVault | undefined;
  #folder = '';

  /** To be called where a test file begins: it makes and closes the fakes. */
  static forThisFile(): VaultLab {
    const lab = new VaultLab();
    beforeAll(() => {
      lab.#folder = mkdtempSync(join(tmpdir(), 'kz-vault-'));
    });
    beforeEach(async () => {
      lab.#fake = await FakeVault.start();
      await lab.#setUp();
    });
    afterEach(() => lab.fake.close());
    afterAll(() => {
      rmSync(lab.#folder, { recursive: true });
    });
    return lab;
  }

  get fake(): FakeVault {
    if (this.#fake === undefined) throw new Error('only within a test');
    return this.#fake;
  }

  get folder(): string {
    return this.#folder;
  }

  readonly open = (options: VaultOptions = { address: this.fake.address }, env: Env = { VAULT_TOKEN: this.fake.token }): Provider =>
    openVault(options, { env: { HOME: this.folder, ...env }, userDirectory: this.folder });

  readonly ref = (name: string): Ref => ({ text: name, directory: this.folder });

  readonly get = (vault: Provider, refs: readonly string[], signal = NEVER): Promise<readonly Outcome[]> =>
    vault.get(refs.map(this.ref), signal);

  readonly one = async (vault: Provider, ref = 'kv/app#x'): Promise<Outcome | undefined> => (await this.get(vault, [ref]))[0];

  readonly appRole = async (role = 'ci'): Promise<Provider> => {
    const roleId = await this.fake.request('GET', `auth/approle/role/${role}/role-id`);
    const secretId = await this.fake.request('POST', `auth/approle/role/${role}/secret-id`, {});
    const env = { VAULT_ROLE_ID: text(roleId, 'body', 'data', 'role_id'), VAULT_SECRET_ID: text(secretId, 'body', 'data', 'secret_id') };
    return this.open({ address: this.fake.address, auth: 'approle' }, env);
  };

  readonly userToken = async (body: Readonly<Record<string, unknown>>): Promise<string> =>
    text(await this.fake.request('POST', 'auth/token/create', body), 'body', 'auth', 'client_token');

  async #setUp(): Promise<void> {
    const { fake } = this;
    await fake.request('POST', 'sys/mounts/kv', { type: 'kv', options: { version: '2' } });
    await fake.request('POST', 'sys/mounts/old', { type: 'kv' });
    await fake.request('POST', 'kv/data/app', { data: { x: 'y' } });
    await fake.request('POST', 'sys/auth/approle', { type: 'approle' });
    await fake.request('POST', 'auth/approle/role/ci', { token_policies: 'root', token_ttl: '1h' });
    await fake.request('POST', 'auth/approle/role/batch', { token_policies: 'root', token_ttl: '1h', token_type: 'batch' });
  }
}

export function matching(pattern: RegExp): unknown {
  return expect.stringMatching(pattern);
}
