import { randomBytes } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { loadConfig } from '../../src/config/load.ts';
import { Secret } from '../../src/core/secret.ts';
import { blindSecrets } from '../../src/run/blind-secrets.ts';
import { isForDatabase } from '../../src/run/database.ts';
import type { SetSecret } from '../../src/providers/secrets.ts';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const password = `CANARY-${randomBytes(12).toString('hex')}`;

describe('a value is for a database', () => {
  it.each([
    ...['postgres', 'postgresql', 'postgresql+asyncpg', 'mysql', 'mysql2', 'mariadb', 'redis', 'rediss', 'mongodb', 'mongodb+srv'],
    ...['amqp', 'amqps', 'jdbc:postgresql', 'POSTGRES'],
  ])('when its scheme is %s', (scheme) => {
    expect(isForDatabase(new Secret(`${scheme}://app:${password}@db.example/app`))).toBe(scheme !== 'mysql2');
  });

  it.each(['https://u:p@postgres.example/', 'clickhouse+http://u:p@h/', 'redis+https://h', 'see postgres://db', 'postgres:x', password])(
    'and not when it is %j',
    (text) => {
      expect(isForDatabase(new Secret(text))).toBe(false);
    },
  );
});

describe('a blind run', () => {
  it.each([
    ['', ['warning: DATABASE_URL is for a database, where tokens are not swapped; set expose = true, or run without --blind']],
    [', expose = true', ['notice: DATABASE_URL is exposed: the program gets its real value (expose = true)']],
  ])('says so of one with %j', async (more, said) => {
    const folder = mkdtempSync(join(tmpdir(), 'kz-database-'));
    try {
      const path = join(folder, '.keyzero.toml');
      writeFileSync(path, `[secrets]\nDATABASE_URL = { provider = "env", ref = "X"${more} }\n`);
      const config = await loadConfig({ explicit: path, env: {}, cwd: folder });
      const [declaration] = config.secrets.values();
      if (declaration === undefined) throw new Error('not declared');
      const { name, provider, ref, origin } = declaration;
      const secret = new Secret(`postgres://app:${password}@db.example:5432/app`);
      const resolved: SetSecret = { name, source: { provider, ref, origin }, tookMs: 0, state: 'set', secret, from: 'provider' };
      const { notices } = blindSecrets(config, [resolved], []);
      expect(notices.map(({ level, text }) => `${level}: ${text}`)).toEqual(said);
      expect(JSON.stringify(notices)).not.toContain(password);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});
