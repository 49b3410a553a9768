// `kz list` and `kz status`: what is declared, and what is there. Presence, never value.
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Story } from './kz.ts';

let story: Story;

beforeEach(() => {
  story = new Story();
});

afterEach(() => {
  story.end(['values.json']);
});

/** Columns are separated by two spaces or more. */
function rows(table: string): string[][] {
  return table
    .trimEnd()
    .split('\n')
    .map((line) => line.split(/ {2,}/));
}

const CONFIG = `
[secrets]
SET = { provider = "env", ref = "SOURCE", description = "the token of the bot" }
SPARE = { provider = "store", ref = "spare", required = false }
FALLBACK = { provider = "env", ref = "NOWHERE", default = "eleven", description = "has a default" }
GONE = { provider = "store", ref = "gone" }
SHORT = { provider = "env", ref = "SOURCE", max_length = 3 }
LATER = { provider = "keyzero", ref = "github/pat" }

[production.secrets]
SET = { provider = "store", ref = "prod" }

[[secrets_from]]
provider = "file"
ref = "values.json"
keys = ["FROM_FILE", "NOT_IN_FILE"]
`;

describe('kz list', () => {
  beforeEach(() => {
    story.config(CONFIG);
  });

  it('shows what is declared and asks no provider', async () => {
    const { code, stdout, stderr } = await story.kz(['list']);
    expect([code, stderr]).toEqual([0, '']);
    expect(rows(stdout)).toEqual([
      ['NAME', 'PROVIDER', 'REF'],
      ['SET', 'env', 'SOURCE', 'the token of the bot'],
      ['SPARE', 'store', 'spare', '(optional)'],
      ['FALLBACK', 'env', 'NOWHERE', 'has a default'],
      ['GONE', 'store', 'gone'],
      ['SHORT', 'env', 'SOURCE'],
      ['LATER', 'keyzero', 'github/pat'],
      ['FROM_FILE', 'file', 'values.json'],
      ['NOT_IN_FILE', 'file', 'values.json'],
    ]);
    expect(await story.kz(['ls'])).toMatchObject({ stdout });
  });

  it('shows the entries of an environment', async () => {
    const { stdout } = await story.kz(['list', '--env', 'production']);
    expect(rows(stdout)[1]).toEqual(['SET', 'store', 'prod']);
  });

  it('has a JSON form', async () => {
    const { stdout } = await story.kz(['list', '--json']);
    const list = JSON.parse(stdout) as unknown[];
    expect(list).toHaveLength(8);
    expect(list.slice(0, 2)).toEqual([
      {
        name: 'SET',
        provider: 'env',
        ref: 'SOURCE',
        required: true,
        description: 'the token of the bot',
        file: `${story.project}/.keyzero.toml`,
      },
      { name: 'SPARE', provider: 'store', ref: 'spare', required: false, file: `${story.project}/.keyzero.toml` },
    ]);
  });

  it('prints names for scripts, and only those', async () => {
    story.config(
      '[secrets]\nB = { provider = "env", ref = "B" }\nA = { provider = "env", ref = "A" }\n\n[[secrets_from]]\nprovider = "file"\nref = "all.json"\n',
    );
    expect((await story.kz(['list', '--names'])).stdout).toBe('B\nA\n');
    expect(rows((await story.kz(['list'])).stdout).at(-1)).toEqual(['*', 'file', 'all.json']);
  });

  it('says so when there is nothing', async () => {
    story.config('');
    const nothing = 'kz: no secret is declared; `kz add` declares one\n';
    expect(await story.kz(['list'])).toMatchObject({ code: 0, stdout: '', stderr: nothing });
    expect(await story.kz(['status'])).toMatchObject({ code: 0, stdout: '', stderr: nothing });
    expect(await story.kz(['list', '--json'])).toMatchObject({ code: 0, stdout: '[]\n', stderr: '' });
  });
});

describe('kz status', () => {
  beforeEach(() => {
    story.config(CONFIG);
    story.write('values.json', JSON.stringify({ FROM_FILE: story.canary() }));
  });

  const status = (args: readonly string[] = []) => story.kz(['status', ...args], { env: { SOURCE: story.canary() } });

  it('says of each secret whether it is there, and how to mend what is not', async () => {
    const { code, stdout, stderr } = await status();
    expect(code).toBe(1);
    const [header, ...body] = rows(stdout);
    expect(header).toEqual(['NAME', 'STATUS', 'PROVIDER', 'REF', 'TOOK']);
    for (const row of body) expect(row.at(-1)).toMatch(/^\d+ ms$/);
    expect(body.map((row) => row.slice(0, 4))).toEqual([
      ['SET', 'set(31 chars)', 'env', 'SOURCE'],
      ['SPARE', 'absent', 'store', 'spare'],
      ['FALLBACK', 'set(6 chars) by default', 'env', 'NOWHERE'],
      ['GONE', 'missing', 'store', 'gone'],
      ['SHORT', 'invalid', 'env', 'SOURCE'],
      ['LATER', 'provider-unavailable', 'keyzero', 'github/pat'],
      ['FROM_FILE', 'set(31 chars)', 'file', 'values.json'],
      ['NOT_IN_FILE', 'missing', 'file', 'values.json'],
    ]);
    expect(stderr.split('\n')).toEqual([
      'kz: error: GONE is missing (provider: store, ref: gone)',
      'kz: hint: run `kz put GONE`',
      'kz: error: SHORT has 31 characters, more than max_length = 3 (provider: env, ref: SOURCE)',
      'kz: hint: correct SOURCE in the environment that starts kz',
      'kz: error: LATER: the kz server has no address: neither the config nor KEYZERO_URL names one',
      'kz: hint: set `url` in [providers.keyzero], or KEYZERO_URL',
      'kz: error: NOT_IN_FILE is missing: file values.json has no key "NOT_IN_FILE"',
      'kz: hint: give it a value in the document, or correct `keys`',
      '',
    ]);
  });

  it('has a JSON form with the same facts', async () => {
    const { code, stdout, stderr } = await status(['--json']);
    expect([code, stderr]).toEqual([1, '']);
    const document = JSON.parse(stdout) as { secrets: Record<string, unknown>[] };
    expect(document).toMatchObject({ schema_version: 1, environment: null, files: [{ path: `${story.project}/.keyzero.toml` }] });
    expect(document.secrets.map(({ name, state }) => [name, state])).toEqual([
      ['SET', 'set'],
      ['SPARE', 'absent'],
      ['FALLBACK', 'set'],
      ['GONE', 'failed'],
      ['SHORT', 'failed'],
      ['LATER', 'failed'],
      ['FROM_FILE', 'set'],
      ['NOT_IN_FILE', 'failed'],
    ]);
    expect(document.secrets[0]).toMatchObject({ provider: 'env', ref: 'SOURCE', length: 31, from: 'provider' });
    expect(document.secrets[2]).toMatchObject({ length: 6, from: 'default' });
    expect(document.secrets[3]).toMatchObject({ error: { code: 'secret-missing', hint: 'run `kz put GONE`' } });
  });

  it('is 0 when every required secret is there', async () => {
    story.config(
      '[secrets]\nSET = { provider = "env", ref = "SOURCE" }\nSPARE = { provider = "env", ref = "NOWHERE", required = false }\n',
    );
    expect(await status()).toMatchObject({ code: 0, stderr: '' });
  });

  it('says with -v which files it read, and asks an environment for its own', async () => {
    story.config(
      '[secrets]\nSET = { provider = "env", ref = "NOWHERE" }\n[production.secrets]\nSET = { provider = "env", ref = "SOURCE" }\n',
    );
    expect(await status()).toMatchObject({ code: 1 });
    const { code, stderr } = await status(['-v', '--env', 'production']);
    expect([code, stderr]).toEqual([0, `kz: config ${story.project}/.keyzero.toml (walking up from ${story.project})\n`]);
    expect(JSON.parse((await status(['--json', '--env', 'production'])).stdout)).toMatchObject({ environment: 'production' });
  });

  it('counts characters, not bytes', async () => {
    story.config('[secrets]\nSET = { provider = "env", ref = "EMOJI" }\n');
    expect((await story.kz(['status'], { env: { EMOJI: '🔑é' } })).stdout).toContain('set(2 chars)');
  });
});
