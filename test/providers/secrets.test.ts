import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { loadConfig } from '../../src/config/load.ts';
import type { KzError } from '../../src/core/errors.ts';
import { Access } from '../../src/providers/resolve.ts';
import { resolveSecrets } from '../../src/providers/secrets.ts';

let folder: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'kz-secrets-'));
});

afterEach(() => {
  rmSync(folder, { recursive: true, force: true });
});

/** `[secrets]` lines or a whole file, and kz’s environment → name: value, `(absent)` or the error’s code. */
async function resolve(text: string, env: Record<string, string> = {}, only?: string[]): Promise<Record<string, string>> {
  const results = await outcomes(text, env, only);
  return Object.fromEntries(
    results.map((result) => {
      if (result.state === 'set') return [result.name, result.secret.reveal()];
      return [result.name, result.state === 'absent' ? '(absent)' : result.error.code];
    }),
  );
}

async function errorOf(text: string, env: Record<string, string> = {}): Promise<KzError> {
  const [result] = await outcomes(text, env);
  if (result?.state !== 'failed') throw new Error('it did not fail');
  return result.error;
}

async function outcomes(text: string, env: Record<string, string>, only?: string[]) {
  writeFileSync(join(folder, '.keyzero.toml'), text.includes('[') && text.trimStart().startsWith('[') ? text : `[secrets]\n${text}`);
  const config = await loadConfig({ env: { HOME: folder, ...env }, cwd: folder });
  const context = { env, userDirectory: join(folder, '.config/keyzero') };
  const { secrets } = await resolveSecrets(config, { only }, new Access(config.providers, context), AbortSignal.timeout(10_000));
  return secrets;
}

describe('one value', () => {
  it('is taken as it is', async () => {
    expect(await resolve('A = { provider = "env", ref = "X" }', { X: ' $2a$10$ "x" ' })).toEqual({ A: ' $2a$10$ "x" ' });
  });

  it('is decoded from base64, with or without line breaks', async () => {
    const line = 'A = { provider = "env", ref = "X", encoding = "base64" }';
    expect(await resolve(line, { X: 'aMOk\nbGxv' })).toEqual({ A: 'hällo' });
    expect(await resolve(line, { X: '%%%' })).toEqual({ A: 'secret-invalid' });
    expect(await resolve(line, { X: '/////w==' })).toEqual({ A: 'secret-invalid' });
  });

  it('is a field of a JSON document', async () => {
    const line = 'A = { provider = "env", ref = "X", json_key = "db.port" }';
    expect(await resolve(line, { X: '{"db":{"port":5432}}' })).toEqual({ A: '5432' });
    expect(await resolve(line, { X: '{"db.port":"exact"}' })).toEqual({ A: 'exact' });
    expect(await resolve(line, { X: '{"db":{"port":null}}' })).toEqual({ A: 'secret-missing' });
    expect(await resolve(line, { X: 'not json' })).toEqual({ A: 'secret-invalid' });
  });

  it('is a template over the fields of a document', async () => {
    const line = 'A = { provider = "env", ref = "X", template = "postgres://{username}:{password}@h/{{x}}" }';
    expect(await resolve(line, { X: '{"username":"u","password":"p{username}"}' })).toEqual({ A: 'postgres://u:p{username}@h/{x}' });
    expect(await resolve(line, { X: '{"username":"u"}' })).toEqual({ A: 'secret-invalid' });
  });

  it('must have the declared shape, also as a default', async () => {
    expect(await resolve('A = { provider = "env", ref = "X", starts_with = "ghp_" }', { X: 'abc' })).toEqual({ A: 'secret-invalid' });
    expect(await resolve('A = { provider = "env", ref = "X", type = "int", default = "x" }')).toEqual({ A: 'secret-invalid' });
  });

  it('that is an unexpanded reference is not a value', async () => {
    const error = await errorOf('A = { provider = "env", ref = "X" }', { X: '${GITHUB_TOKEN}' });
    expect(error.message).toContain('unexpanded');
  });
});

describe('no value', () => {
  it('is an error that names provider, ref and the way out', async () => {
    expect(await errorOf('A = { provider = "env", ref = "X" }')).toMatchObject({
      code: 'secret-missing',
      message: 'A is missing (provider: env, ref: X)',
      hint: 'set X in the environment that starts kz',
    });
    expect(await errorOf('A = { provider = "store", ref = "x" }')).toMatchObject({ code: 'secret-missing', hint: 'run `kz put A`' });
  });

  it('is an error too when it is empty, unless the secret is optional', async () => {
    expect(await resolve('A = { provider = "env", ref = "X" }', { X: '' })).toEqual({ A: 'secret-empty' });
    expect(await resolve('A = { provider = "env", ref = "X", required = false }', { X: '' })).toEqual({ A: '(absent)' });
    expect(await resolve('A = { provider = "env", ref = "X", default = "d" }', { X: '' })).toEqual({ A: 'd' });
  });

  it('is the default, or absent when optional', async () => {
    expect(
      await resolve('A = { provider = "env", ref = "X", default = "d" }\nB = { provider = "env", ref = "X", required = false }'),
    ).toEqual({ A: 'd', B: '(absent)' });
  });

  it('does not hide a provider that fails: optional is about absence only', async () => {
    expect(await resolve('A = { provider = "keyzero", ref = "x", required = false }')).toEqual({ A: 'provider-unavailable' });
    expect(await resolve('A = { provider = "exec", ref = "false", default = "d" }', { PATH: '/usr/bin:/bin' })).toEqual({
      A: 'provider-failed',
    });
  });

  it('leaves the other secrets alone', async () => {
    expect(
      await resolve('A = { provider = "env", ref = "X" }\nB = { provider = "env", ref = "Y" }\nC = { provider = "keyzero", ref = "x" }', {
        Y: 'y',
      }),
    ).toEqual({
      A: 'secret-missing',
      B: 'y',
      C: 'provider-unavailable',
    });
  });
});

describe('documents', () => {
  const document = (keys: string) =>
    `[secrets]\nOWN = { provider = "env", ref = "X" }\n[[secrets_from]]\nprovider = "file"\nref = "app.json"\n${keys}`;
  const json = (value: unknown) => {
    writeFileSync(join(folder, 'app.json'), JSON.stringify(value));
  };

  it('give all their top-level keys, and a declared secret wins', async () => {
    json({ A: 'a', B: 2, OWN: 'document' });
    expect(await resolve(document(''), { X: 'own' })).toEqual({ OWN: 'own', A: 'a', B: '2' });
  });

  it('give the listed keys, under other names if wanted', async () => {
    json({ A: 'a', db: { url: 'u' } });
    expect(await resolve(document('keys = ["A"]'), { X: 'x' })).toEqual({ OWN: 'x', A: 'a' });
    expect(await resolve(document('keys = { DATABASE_URL = "db.url" }'), { X: 'x' })).toEqual({ OWN: 'x', DATABASE_URL: 'u' });
  });

  it('fail by name for what is missing, empty, or no variable name', async () => {
    json({ EMPTY: '', 'bad-name': 'x', PATH: '/evil' });
    expect(await resolve(document('keys = ["GONE", "EMPTY"]'), { X: 'x' })).toMatchObject({
      GONE: 'secret-missing',
      EMPTY: 'secret-empty',
    });
    expect(await resolve(document(''), { X: 'x' })).toMatchObject({ 'bad-name': 'secret-invalid', PATH: 'secret-invalid' });
  });

  it('that are not there fail for every name they would give, unless optional', async () => {
    expect(await resolve(document('keys = ["A", "B"]'), { X: 'x' })).toEqual({ OWN: 'x', A: 'secret-missing', B: 'secret-missing' });
    expect(await resolve(document('keys = ["A"]\nrequired = false'), { X: 'x' })).toEqual({ OWN: 'x', A: '(absent)' });
  });

  it('are JSON when their name does not say otherwise: a lone token is not a list of names', async () => {
    writeFileSync(join(folder, 'token'), 'CANARYabcdefghijklmnopqrstuvwxyz0123456789=');
    const results = await outcomes('[[secrets_from]]\nprovider = "file"\nref = "token"', {});
    expect(JSON.stringify(results)).not.toContain('CANARYabc');
    expect(results.map(({ state }) => state)).toEqual(['failed']);
  });

  it('may be dotenv, YAML or TOML, by their name', async () => {
    writeFileSync(join(folder, 'app.yaml'), 'A: "1"\nB: true\n');
    writeFileSync(join(folder, 'app.env'), "C='x y'\n");
    expect(
      await resolve('[[secrets_from]]\nprovider = "file"\nref = "app.yaml"\n[[secrets_from]]\nprovider = "file"\nref = "app.env"'),
    ).toEqual({ A: '1', B: 'true', C: 'x y' });
  });
});

describe('a selection', () => {
  const text =
    '[secrets]\nA = { provider = "env", ref = "X" }\nB = { provider = "vault", ref = "x" }\n[[secrets_from]]\nprovider = "file"\nref = "app.json"\nkeys = ["C"]';

  it('asks only what it needs: a broken provider of another secret does not matter', async () => {
    expect(await resolve(text, { X: 'x' }, ['A'])).toEqual({ A: 'x' });
  });

  it('reaches into documents', async () => {
    writeFileSync(join(folder, 'app.json'), '{"C":"c"}');
    expect(await resolve(text, { X: 'x' }, ['C'])).toEqual({ C: 'c' });
  });

  it('says what is wrong with a document that may have had the name', async () => {
    writeFileSync(join(folder, 'app.json'), 'not json');
    const whole = text.replace('keys = ["C"]', '');
    expect(await resolve(whole, { X: 'x' }, ['A', 'NEW'])).toEqual({ A: 'x', 'file app.json': 'secret-invalid' });
  });

  it('does not repeat a value that was typed for a name', async () => {
    for (const typed of ['A=CANARY-1', 'ghp_abcdefghijklmnopqrstuvwxyz0123456789']) {
      const error = await resolve(text, { X: 'x' }, [typed]).catch((caught: unknown) => caught as KzError);
      expect(error).toMatchObject({ code: 'usage', message: 'that is not the name of a secret' });
    }
  });

  it('refuses a name that nothing declares', async () => {
    await expect(resolve(text, { X: 'x' }, ['AA'])).rejects.toMatchObject({ code: 'secret-undeclared', hint: 'did you mean A?' });
  });
});
