// What a declaration makes of a value: documents that hold many, templates, fields, encodings, defaults.
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Story, type Ended } from './kz.ts';

let story: Story;

beforeEach(() => {
  story = new Story();
});

afterEach(() => {
  story.end(['app.json', 'app.yaml', 'app.env']);
});

/** Every secret as `kz run` would set it. */
async function exported(args: readonly string[] = [], env: Record<string, string> = {}): Promise<Record<string, string>> {
  const { code, stdout, stderr } = await story.kz(['export', '--format', 'json', ...args], { env, reveals: true });
  expect([code, stderr]).toEqual([0, '']);
  return JSON.parse(stdout) as Record<string, string>;
}

async function refused(args: readonly string[] = [], env: Record<string, string> = {}): Promise<string> {
  const { code, stdout, stderr }: Ended = await story.kz(['export', ...args], { env });
  expect([code, stdout]).toEqual([1, '']);
  return stderr;
}

describe('[[secrets_from]]', () => {
  const config = (keys: string, more = ''): string =>
    story.config(`[[secrets_from]]\nprovider = "file"\nref = "app.json"\n${keys}\n${more}`);

  let values: { DATABASE_URL: string; 'db-password': string; nested: { key: string; list: string[] }; PORT: number };

  beforeEach(() => {
    values = {
      DATABASE_URL: story.canary('postgres://'),
      'db-password': story.canary(),
      nested: { key: story.canary(), list: [story.canary()] },
      PORT: 5432,
    };
    story.write('app.json', JSON.stringify(values));
  });

  it('takes the keys of a list', async () => {
    config('keys = ["DATABASE_URL", "PORT"]');
    expect(await exported()).toEqual({ DATABASE_URL: values.DATABASE_URL, PORT: '5432' });
  });

  it('takes keys under other names, also from deep inside', async () => {
    config('keys = { PASSWORD = "db-password", KEY = "nested.key", FIRST = "nested.list.0", ALL = "nested" }');
    expect(await exported()).toEqual({
      PASSWORD: values['db-password'],
      KEY: values.nested.key,
      FIRST: values.nested.list[0],
      ALL: JSON.stringify(values.nested),
    });
  });

  it('takes every key when none is named, and none that is no name for a variable', async () => {
    config('');
    const stderr = await refused();
    expect(stderr).toContain('db-password is not a variable name');
    expect(stderr).toContain('kz: hint: name the wanted keys');
    story.write('app.json', JSON.stringify({ A: 'a', B: 'b' }));
    expect(await exported()).toEqual({ A: 'a', B: 'b' });
    expect(await exported(['--only', 'B'])).toEqual({ B: 'b' });
    story.write('app.json', JSON.stringify({ A: 'a', LD_PRELOAD: '/lib.so' }));
    expect(await refused()).toContain('LD_PRELOAD cannot be a secret');
  });

  it('says which keys are missing, empty, or not there at all', async () => {
    config('keys = ["DATABASE_URL", "GONE", "EMPTY"]');
    story.write('app.json', JSON.stringify({ ...values, EMPTY: '' }));
    const stderr = await refused();
    expect(stderr).toContain('GONE is missing: file app.json has no key "GONE"');
    expect(stderr).toContain('EMPTY is empty (from file app.json)');
    story.write('app.json', '{ "DATABASE_URL": ');
    expect(await refused()).toContain('file app.json is not valid JSON');
  });

  it('gives way to an entry of the same name', async () => {
    config('keys = ["DATABASE_URL", "PORT"]', '[secrets]\nPORT = { provider = "env", ref = "SOURCE" }\n');
    expect(await exported([], { SOURCE: '1' })).toEqual({ PORT: '1', DATABASE_URL: values.DATABASE_URL });
  });

  it('may be optional as a whole', async () => {
    story.config(
      '[[secrets_from]]\nprovider = "file"\nref = "gone.json"\nrequired = false\n[secrets]\nA = { provider = "env", ref = "SOURCE" }\n',
    );
    expect(await exported([], { SOURCE: 'a' })).toEqual({ A: 'a' });
    story.config('[[secrets_from]]\nprovider = "file"\nref = "gone.json"\nkeys = ["A"]\nrequired = false\n');
    expect(await exported(['--only', 'A'])).toEqual({});
    expect((await story.kz(['status'])).stdout).toMatch(/^A +absent/m);
    expect((await story.kz(['get', 'A'])).stderr).toBe('kz: error: A is optional and has no value\n');
    story.config('[[secrets_from]]\nprovider = "file"\nref = "gone.json"\nkeys = ["A"]\n');
    expect(await refused()).toContain('A: file "gone.json" does not exist');
  });

  it('reads YAML and dotenv as well', async () => {
    const token = story.canary();
    story.write('app.yaml', `TOKEN: ${token}\nCODE: 0123\n`);
    story.write('app.env', `export OTHER='${token}'\n# a comment\n`);
    story.config('[[secrets_from]]\nprovider = "file"\nref = "app.yaml"\n[[secrets_from]]\nprovider = "file"\nref = "app.env"\n');
    expect(await exported()).toEqual({ TOKEN: token, CODE: '0123', OTHER: token });
  });
});

describe('a declaration', () => {
  it('fills a template, picks a field, decodes', async () => {
    const [user, password] = [story.canary(), story.canary()];
    const document = JSON.stringify({ user, password, port: 5432 });
    story.config(`[secrets]
URL = { provider = "env", ref = "DOCUMENT", template = "postgres://{user}:{password}@db:{port}/{{app}}", type = "url" }
PASSWORD = { provider = "env", ref = "DOCUMENT", json_key = "password" }
BY_REF = { provider = "file", ref = "app.json#password" }
DECODED = { provider = "env", ref = "ENCODED", encoding = "base64" }
BOTH = { provider = "env", ref = "ENCODED_DOCUMENT", encoding = "base64", json_key = "user" }
`);
    story.write('app.json', document);
    const env = {
      DOCUMENT: document,
      ENCODED: Buffer.from(`${password}\n`).toString('base64'),
      ENCODED_DOCUMENT: Buffer.from(document).toString('base64url'),
    };
    expect(await exported([], env)).toEqual({
      URL: `postgres://${user}:${password}@db:5432/{app}`,
      PASSWORD: password,
      BY_REF: password,
      DECODED: `${password}\n`,
      BOTH: user,
    });
  });

  it('says what it could not make, and shows nothing of what it had', async () => {
    story.config(`[secrets]
TEMPLATE = { provider = "env", ref = "DOCUMENT", template = "{user}:{gone}" }
FIELD = { provider = "env", ref = "DOCUMENT", json_key = "gone" }
NO_JSON = { provider = "env", ref = "TEXT", json_key = "a" }
NO_BASE64 = { provider = "env", ref = "TEXT", encoding = "base64" }
`);
    const stderr = await refused([], { DOCUMENT: JSON.stringify({ user: story.canary() }), TEXT: `%${story.canary()}` });
    expect(stderr).toContain('TEMPLATE: DOCUMENT has no field "gone" for its template');
    expect(stderr).toContain('FIELD is missing (provider: env, ref: DOCUMENT), which has no "gone"');
    expect(stderr).toContain('NO_JSON (ref: TEXT) is not valid JSON');
    expect(stderr).toContain('NO_BASE64 is not base64, as its encoding says');
  });

  it('does not propose to put what kz put would refuse', async () => {
    story.config('[secrets]\nFIELD = { provider = "store", ref = "document", json_key = "a" }\n');
    expect(await refused()).toBe(
      'kz: error: FIELD is missing (provider: store, ref: document)\nkz: hint: store the whole document as store document\n',
    );
  });

  it('has a default for what is missing or empty, and may be optional', async () => {
    story.config(`[secrets]
DEFAULT = { provider = "env", ref = "GONE", default = "fallback" }
EMPTY = { provider = "env", ref = "NOTHING", default = "fallback" }
OPTIONAL = { provider = "env", ref = "GONE", required = false }
OPTIONAL_EMPTY = { provider = "env", ref = "NOTHING", required = false }
`);
    expect(await exported([], { NOTHING: '' })).toEqual({ DEFAULT: 'fallback', EMPTY: 'fallback' });
    story.config(
      '[secrets]\nEMPTY = { provider = "env", ref = "NOTHING" }\nBAD = { provider = "env", ref = "GONE", default = "x", min_length = 2 }\n',
    );
    const stderr = await refused([], { NOTHING: '' });
    expect(stderr).toContain('EMPTY is empty (provider: env, ref: NOTHING)');
    expect(stderr).toContain('BAD has 1 characters, fewer than min_length = 2');
  });

  it('notices what an MCP client did not expand', async () => {
    story.config('[secrets]\nA = { provider = "env", ref = "SOURCE" }\n');
    expect(await refused([], { SOURCE: '${GITHUB_TOKEN}' })).toContain('A is an unexpanded ${…} reference');
  });
});
