// `kz validate`, `kz add` and what could never work: refs that name nothing, checks that would never be sent, rotation that nothing starts,
// tokens for a database.
import { readFileSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Story } from './kz.ts';

let story: Story;

beforeEach(() => {
  story = new Story();
});

afterEach(() => {
  story.end();
});

/** Without the folder. */
async function validate(config: string): Promise<{ code: number | null; said: string[] }> {
  story.config(config);
  const { code, stderr } = await story.kz(['validate']);
  return { code, said: stderr.trimEnd().replaceAll(`${story.project}/`, '').split('\n') };
}

const REFS = [
  ['aws', 's3://bucket', 'aws ref "s3://bucket" names neither a secret nor a parameter'],
  ['vault', 'nopath', 'vault ref "nopath" names a mount, and no path in it'],
  ['vault', 'sys/mounts', 'vault ref "sys/mounts" is one of Vault’s own paths, which hold no secrets of yours'],
  ['1password', 'vault/item', '1password ref "vault/item" does not start with op://'],
  ['gcp', 'a/b/c', 'gcp ref "a/b/c" is not the name of a secret'],
] as const;

describe('a ref that can name nothing', () => {
  it('is a problem with its place, in documents too', async () => {
    const lines = REFS.map(([provider, ref], index) => `A${String(index)} = { provider = "${provider}", ref = "${ref}" }\n`).join('');
    const { code, said } = await validate(`[secrets]\n${lines}\n[[secrets_from]]\nprovider = "aws"\nref = "prod"\n`);
    expect(code).toBe(1);
    expect(said.filter((line) => line.startsWith('kz: error'))).toEqual([
      ...REFS.map(([provider, , message], index) => {
        const column = `A0 = { provider = "${provider}", `.length + 1;
        return `kz: error: .keyzero.toml:${String(index + 2)}:${String(column)}: A${String(index)}: ${message}`;
      }),
      'kz: error: .keyzero.toml:10:1: aws ref "prod" names neither a secret nor a parameter',
    ]);
    const { valid, problems } = JSON.parse((await story.kz(['validate', '--json'])).stdout) as { valid: boolean; problems: unknown[] };
    expect([valid, problems[0]]).toEqual([false, expect.objectContaining({ code: 'ref-invalid', line: 2 })]);
  });

  it.each(REFS)('is not added: %s %s', async (provider, ref, message) => {
    const path = story.config('[secrets]\n');
    const { code, stderr } = await story.kz(['add', 'A', '-p', provider, '-r', ref]);
    expect([code, stderr.split('\n')[0]]).toEqual([1, `kz: error: ${message}`]);
    expect(readFileSync(path, 'utf8')).toBe('[secrets]\n');
  });

  it('is none of those that the docs show', async () => {
    const { code } = await validate(`[secrets]
A = { provider = "aws", ref = "sm://prod/db#password" }
B = { provider = "vault", ref = "secret/prod/db#password" }
C = { provider = "1password", ref = "op://vault/item/field" }
D = { provider = "gcp", ref = "name-in-the-project" }
`);
    expect(code).toBe(0);
  });
});

describe('a check', () => {
  it('of a host that the hosts do not cover is a problem', async () => {
    expect(
      await validate(`[secrets]
A = { provider = "env", ref = "A", hosts = ["api.test"], check = "GET https://far.test/user" }
B = { provider = "env", ref = "B", hosts = ["*.api.test"], check = "GET https://eu.api.test/user" }
C = { provider = "env", ref = "C", check = "GET https://far.test/user" }
`),
    ).toEqual({
      code: 1,
      said: [
        'kz: error: .keyzero.toml:2:58: A: its `check` asks far.test, where the secret may not go (its `hosts` do not cover it)',
        'kz: hint: add "far.test" to its `hosts`, or correct `check`',
      ],
    });
  });

  it('of the wrong form is told with the right one, and so is an address', async () => {
    expect(
      await validate(`[secrets]
A = { provider = "env", ref = "A", check = "https://api.github.com/user" }

[providers.vault]
address = "vault"
`),
    ).toMatchObject({
      code: 1,
      said: [
        expect.stringContaining('check "https://api.github.com/user" does not have the right form'),
        'kz: hint: a method and an address: "GET https://api.github.com/user"',
        expect.stringContaining('address "vault" does not have the right form'),
        'kz: hint: an address with its scheme: "https://vault.internal:8200"',
      ],
    });
  });
});

describe('rotation that never does anything', () => {
  it('is warned of', async () => {
    expect(
      await validate(`[secrets]
AWS = { provider = "aws", ref = "sm://a", on_rotate = "restart" }
AWS_READ = { provider = "aws", ref = "sm://a", on_rotate = "restart", refresh = "15m" }
FILE = { provider = "file", ref = "a", on_rotate = "signal:HUP" }
VAULT = { provider = "vault", ref = "kv/a#b", on_rotate = "restart" }
OWN = { provider = "env", ref = "A", on_rotate = "restart", refresh = "15m" }
READ = { provider = "exec", ref = "x", refresh = "15m" }
NONE = { provider = "exec", ref = "x", on_rotate = "none" }

[[secrets_from]]
provider = "aws"
ref = "sm://all"
on_rotate = "restart"
`),
    ).toEqual({
      code: 0,
      said: [
        'kz: warning: .keyzero.toml:2:43: AWS is never read again: on_rotate needs refresh = "15m" with provider aws',
        'kz: warning: .keyzero.toml:6:38: OWN never changes: on_rotate has no effect with provider env',
        'kz: warning: .keyzero.toml:7:40: READ: refresh has no effect without on_rotate, but for blind runs',
        'kz: warning: .keyzero.toml:13:1: the document "sm://all" is never read again: on_rotate needs refresh = "15m" with provider aws',
      ],
    });
  });

  it('is none where the config is for blind runs, of what the program does not have itself', async () => {
    const read = 'provider = "exec", ref = "x", refresh = "15m"';
    expect((await validate(`[secrets]\nA = { ${read} }\nB = { ${read}, expose = true }\n[blind]\n`)).said).toEqual([
      'kz: warning: .keyzero.toml:3:37: B: refresh has no effect without on_rotate, but for blind runs',
    ]);
  });
});

describe('a token for a database', () => {
  it('is warned of where the config tells', async () => {
    const end = 'is for a database, where tokens are not swapped; set expose = true, or run without --blind';
    expect(
      await validate(`[secrets]
A = { provider = "env", ref = "A", starts_with = "postgres://" }
B = { provider = "env", ref = "B", template = "mysql://app:{password}@db/app" }
C = { provider = "env", ref = "C", starts_with = "redis://", expose = true }
D = { provider = "env", ref = "D", starts_with = "https://" }
`),
    ).toEqual({ code: 0, said: [`kz: warning: .keyzero.toml:2:36: A ${end}`, `kz: warning: .keyzero.toml:3:36: B ${end}`] });
  });

  it('is warned of by a blind run and by doctor', async () => {
    story.config('[secrets]\nDATABASE_URL = { provider = "env", ref = "SOURCE" }\n');
    const env = { SOURCE: `postgres://app:${story.canary()}@db.example:5432/app` };
    const end = 'is for a database, where tokens are not swapped; set expose = true, or run without --blind';
    const { code, stderr } = await story.kz(['run', '--blind', '--', 'true'], { env });
    expect([code, stderr]).toEqual([0, `kz: warning: DATABASE_URL ${end}\n`]);
    expect((await story.kz(['doctor'], { env })).stdout).toContain(`          ${end}\n`);
  });
});

describe('one reason for several secrets', () => {
  it('is said once, with their names', async () => {
    story.config(`[secrets]
A = { provider = "vault", ref = "kv/a#b" }
B = { provider = "vault", ref = "kv/c#d" }

[providers.vault]
address = "http://127.0.0.1:1"
`);
    const env = { VAULT_TOKEN: story.canary() };
    for (const args of [['status'], ['run', '--', 'true']]) {
      const { stderr } = await story.kz(args, { env });
      const errors = stderr.split('\n').filter((line) => line.startsWith('kz: error'));
      expect(errors).toEqual([expect.stringMatching(/^kz: error: cannot reach vault at http:\/\/127\.0\.0\.1:1: .* \(A, B\)$/)]);
    }
  });
});
