// A program that lives longer than the database users that a real Vault makes for it in a real PostgreSQL.
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { vaultProblem } from '../../scripts/live/vault.mjs';
import { BlindAsker } from '../stories/blind-asker.ts';
import { has, Story } from '../stories/kz.ts';
import { Running, waitFor } from '../stories/processes.ts';
import { answerJson, Upstream } from '../stories/upstream.ts';
import { postgresProblem, startPostgres, type Login, type Postgres } from './postgres.ts';
import { startVault, type LiveVault } from './vault-server.ts';

const problem = vaultProblem() ?? postgresProblem() ?? (has('psql') ? undefined : 'no psql in /usr/bin');

/** A life of a user is 8 seconds at the most, and a server under load takes its time. */
const LONG_MS = 30_000;

/** Asks the database when it starts and whenever it is told to. */
const ASKS =
  `while :; do printf 'user '; psql -X -A -t -d "$DATABASE_URL" -c 'select current_user' || echo nobody; ` +
  `echo "ready $$"; read -r _ || exit 3; done`;

describe.skipIf(problem !== undefined)(`what a real vault lends${problem === undefined ? '' : ` (skipped: ${problem})`}`, () => {
  let postgres: Postgres;
  let vault: LiveVault;
  let story: Story;

  beforeAll(async () => {
    postgres = await startPostgres();
    vault = await startVault({ postgres });
    const { config, creationStatements } = vault.database ?? {};
    await vault.request('POST', 'sys/mounts/database', { type: 'database' });
    await vault.request('POST', 'database/config/app', { ...config, allowed_roles: '*' });
    const role = { db_name: 'app', creation_statements: creationStatements, default_ttl: '4s', max_ttl: '8s' };
    await vault.request('POST', 'database/roles/app', role);
    await vault.request('POST', 'database/roles/hours', { ...role, default_ttl: '1h', max_ttl: '4h' });
    await vault.request('POST', 'sys/auth/approle', { type: 'approle' });
    await vault.request('PUT', 'sys/policies/acl/database', { policy: 'path "database/creds/*" { capabilities = ["read"] }' });
    await vault.request('POST', 'auth/approle/role/app', { token_policies: 'database', token_ttl: '1h' });
    await vault.request('POST', 'auth/approle/role/seconds', { token_policies: 'database', token_ttl: '4s', token_max_ttl: '8s' });
  });

  afterAll(async () => {
    await vault.close();
    await postgres.stop();
  });

  beforeEach(() => {
    story = new Story();
    story.guard(vault.token);
  });

  afterEach(() => {
    story.end();
  });

  function provider(more = ''): string {
    return `[providers.vault]\naddress = "${vault.address}"\n${more}\n`;
  }

  function databaseUrl(role: string): string {
    const template = `postgres://{username}:{password}@127.0.0.1:${String(postgres.port)}/postgres`;
    return `DATABASE_URL = { provider = "vault", ref = "database/creds/${role}", template = "${template}"`;
  }

  async function appRole(role = 'app'): Promise<Record<string, string>> {
    const [roleId, secretId] = [
      await vault.request('GET', `auth/approle/role/${role}/role-id`),
      await vault.request('POST', `auth/approle/role/${role}/secret-id`),
    ].map(({ body }) => (body as { data: Record<string, string> }).data);
    return { VAULT_ROLE_ID: roleId?.role_id ?? '', VAULT_SECRET_ID: story.guard(secretId?.secret_id ?? '') };
  }

  function administer(statement: string): Promise<string> {
    return postgres.query(postgres.administrator, statement);
  }

  /** Until when the database lets this user in. */
  function validUntil(user: string): Promise<string> {
    return administer(`select rolvaliduntil from pg_roles where rolname = '${user}'`);
  }

  async function prolonged(user: string): Promise<void> {
    const first = await validUntil(user);
    expect(first).not.toBe('');
    await vi.waitUntil(async () => (await validUntil(user)) > first, { timeout: LONG_MS, interval: 50 });
  }

  /** Vault answers a revocation before it has told the database. */
  async function gone(users: readonly string[]): Promise<void> {
    const query = `select rolname from pg_roles where rolname like 'v-%'`;
    await vi.waitUntil(async () => !(await administer(query)).split('\n').some((user) => users.includes(user)), {
      timeout: LONG_MS,
      interval: 100,
    });
  }

  it('is prolonged, and then replaced while it still works, for a program that has it', { timeout: 90_000 }, async () => {
    story.config(
      `${provider()}[secrets]\n${databaseUrl('app')}, on_rotate = "restart" }\n` +
        `PASSWORD = { provider = "vault", ref = "database/creds/app#password" }\n`,
    );
    const running = new Running(story.start(['run', '--', 'sh', '-c', ASKS], { env: { VAULT_TOKEN: vault.token }, keepInput: true }));
    const users = (): string[] => [...running.stdout.matchAll(/^user (v-\S+)\n/gm)].map(([, user = '']) => user);
    const [first = 0] = await running.numbers('ready');
    const [user = ''] = users();
    await prolonged(user);
    running.child.stdin?.write('\n');
    expect(await running.numbers('ready', 2)).toEqual([first, first]);
    expect(users()).toEqual([user, user]);
    await waitFor('another program', () => users().length >= 3, LONG_MS);
    const pids = await running.numbers('ready', 3);
    expect(pids[2]).not.toBe(first);
    const next = users()[2] ?? '';
    expect(next).not.toBe(user);
    running.child.stdin?.end();
    const { code, stdout, stderr } = await running.ended;
    expect(code).toBe(3);
    expect(stdout).not.toContain('nobody');
    expect(stderr).toMatch(/^(?:kz: DATABASE_URL, PASSWORD changed: the program is restarted\n)+$/);
    await gone(users());
    await expect(postgres.query({ username: next, password: 'any' }, 'select 1')).rejects.toThrow(/authentication failed|does not exist/);
  });

  it.each([
    ['a token', '', () => Promise.resolve({ VAULT_TOKEN: vault.token })],
    ['a login', 'auth = "approle"', () => appRole()],
  ])('is given back with %s when the program ends', async (_who, more, env) => {
    story.config(`${provider(more)}[secrets]\n${databaseUrl('hours')} }\n`);
    const { code, stdout, stderr } = await story.kz(['run', '--', 'sh', '-c', ASKS], { env: await env() });
    expect({ code, stderr }).toEqual({ code: 3, stderr: '' });
    const [, user = ''] = /^user (v-\S+)\n/.exec(stdout) ?? [];
    expect(user).not.toBe('');
    await gone([user]);
  });

  it.each([
    ['a token', '', 'app', () => Promise.resolve({ VAULT_TOKEN: vault.token })],
    ['a login', 'auth = "approle"', 'app', () => appRole()],
    ['a login that ends first', 'auth = "approle"', 'hours', () => appRole('seconds')],
  ])('is replaced under a blind program, and given back with %s', { timeout: 90_000 }, async (_who, more, role, env) => {
    const logins: Login[] = [];
    // Lets in whom the database lets in.
    const upstream = await Upstream.start((request, response) => {
      const credential = story.guard((request.headers.authorization ?? '').replace('Bearer ', ''));
      const [username = '', password = ''] = credential.split(':');
      logins.push({ username, password });
      postgres.query({ username, password }, 'select current_user').then(
        (user) => {
          answerJson(response, { isKnown: user === username, credential });
        },
        () => {
          answerJson(response, { credential }, 401);
        },
      );
    });
    const token = `TOKEN = { provider = "vault", ref = "database/creds/${role}", template = "{username}:{password}", hosts = ["api.example"] }`;
    upstream.configure(story, `${provider(more)}[secrets]\n${token}\n`);
    const asker = new BlindAsker(story, upstream, await env());
    const pid = await asker.pid();
    await asker.ask();
    if (role === 'app') await prolonged(logins[0]?.username ?? '');
    await asker.ask();
    await waitFor('another user', () => asker.running.stderr.includes('TOKEN changed'), LONG_MS);
    await asker.ask();
    const { code, stdout, stderr } = await asker.end();
    expect(code).toBe(0);
    expect(stderr).toMatch(/^(?:kz: TOKEN changed: the next request carries the new value\n)+$/);
    expect(asker.running.count(`done ${String(pid)}`)).toBe(3);
    expect(stdout.match(/\\"isKnown\\":true/g)).toHaveLength(3);
    story.examine(stdout, 'what the program printed');
    const [first, second, third] = logins;
    expect(second).toEqual(first);
    expect(third?.username).not.toBe(first?.username);
    await gone(logins.map(({ username }) => username));
    for (const login of logins) await expect(postgres.query(login, 'select 1')).rejects.toThrow(/authentication failed|does not exist/);
    await upstream.stop();
  });
});
