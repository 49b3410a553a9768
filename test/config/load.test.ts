import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { locator } from '../../src/config/locate.ts';
import { ENTRY, Project } from './project.ts';

describe('layers', () => {
  it('takes the later file, and within a file the environment', async () => {
    const project = new Project({
      '~/.config/keyzero/config.toml': '[secrets]\nA = { provider = "env", ref = "user" }\nU = { provider = "env", ref = "user" }',
      '.keyzero.toml': `[secrets]
A = { provider = "env", ref = "project" }
B = { provider = "env", ref = "project" }
C = { provider = "env", ref = "project" }
[production.secrets]
B = { provider = "env", ref = "production" }
C = { provider = "env", ref = "production" }`,
      '.keyzero.local.toml': '[secrets]\nC = { provider = "env", ref = "local" }',
    });
    const refs = async (environment?: string) => {
      const config = await project.load({ environment });
      return Object.fromEntries([...config.secrets.values()].map(({ name, ref }) => [name, ref]));
    };
    expect(await refs()).toEqual({ A: 'project', U: 'user', B: 'project', C: 'local' });
    expect(await refs('production')).toEqual({ A: 'project', U: 'user', B: 'production', C: 'local' });
  });

  it('replaces an entry whole: an option of the weaker one does not survive', async () => {
    const project = new Project({
      '.keyzero.toml':
        '[secrets]\nA = { provider = "env", ref = "x", json_key = "k" }\n[dev.secrets]\nA = { provider = "file", ref = "y" }',
    });
    const config = await project.load({ environment: 'dev' });
    expect(config.secrets.get('A')).toMatchObject({ provider: 'file', ref: 'y' });
    expect(config.secrets.get('A')?.json_key).toBeUndefined();
  });

  it('merges provider options key by key and resolves their paths where they are written', async () => {
    const project = new Project({
      '~/.config/keyzero/config.toml': '[providers.age]\nidentity = "~/keys/age.txt"\n[providers.store]\npath = "my.age"',
      '.keyzero.toml': `[secrets]\nA = ${ENTRY}\n[providers.store]\nidentity = "passphrase"`,
    });
    const { providers } = await project.load();
    expect(providers.age?.identity).toBe(join(project.home, 'keys/age.txt'));
    expect(providers.store).toEqual({ path: join(project.home, '.config/keyzero/my.age'), identity: 'passphrase' });
  });

  it('knows aliases by their canonical name', async () => {
    const project = new Project({ '.keyzero.toml': '[secrets]\nA = { provider = "hashicorp", ref = "kv/a#b" }' });
    expect((await project.load()).secrets.get('A')?.provider).toBe('vault');
  });

  it('remembers which file the rules are from, and the line of each', async () => {
    const rule = (host: string) => `[[blind.connections]]\nallow = true\nhost = "${host}"\n`;
    const project = new Project({
      '~/.config/keyzero/config.toml': rule('user'),
      '.keyzero.toml': `[secrets]\nA = ${ENTRY}\n[blind]\nupstream_ca = "ca.pem"\n${rule('a')}${rule('b')}`,
      '.keyzero.local.toml': '[blind]\nscope = "strict"',
    });
    const { blind, blindOrigin } = await project.load();
    expect(blind).toMatchObject({ scope: 'strict', upstream_ca: join(project.folder, 'ca.pem') });
    expect(blind?.connections?.map(({ host }) => host)).toEqual(['a', 'b']);
    expect(blindOrigin?.file.path).toBe(join(project.folder, '.keyzero.toml'));
    const locate = locator(blindOrigin?.file.text ?? '');
    expect([0, 1].map((index) => locate([...(blindOrigin?.path ?? []), index])?.line)).toEqual([5, 8]);
    project.write('.keyzero.local.toml', '[blind]\nconnections = []');
    expect((await project.load()).blindOrigin?.file.path).toBe(join(project.folder, '.keyzero.local.toml'));
    project.write('.keyzero.toml', `[secrets]\nA = ${ENTRY}`);
    project.write('.keyzero.local.toml', '[blind]\nscope = "strict"');
    project.write('~/.config/keyzero/config.toml', '');
    expect((await project.load()).blindOrigin).toBeUndefined();
  });

  it('gives no name a meaning of its own', async () => {
    const project = new Project({ '.keyzero.toml': `[secrets]\nconstructor = ${ENTRY}\ntoString = ${ENTRY}` });
    expect([...(await project.load()).secrets.keys()]).toEqual(['constructor', 'toString']);
    project.write('.keyzero.toml', `[secrets]\n__proto__ = ${ENTRY}`);
    expect(await project.problems()).toHaveLength(1);
  });
});

describe('every key of the contract', () => {
  it('is accepted', async () => {
    const project = new Project({
      '.keyzero.toml': `
[secrets]
A = { provider = "keychain", ref = "github-pat", hosts = ["api.github.com", "*.example.com:8443"], starts_with = "ghp_", swap = ["header:x-thing", "query:k", "body:client.assertion", "path", "body"], shape = "exact", expose = false, refresh = "15m", on_rotate = "signal:HUP" }
B = { provider = "vault", ref = "database/creds/readonly", template = "postgres://{username}:{password}@prod-db:5432/app" }
C = { provider = "file", ref = "/run/secrets/redis/REDIS_URL", type = "url", required = false, default = "x", description = "d" }
D = { provider = "env", ref = "X", min_length = 1, max_length = 9, pattern = "a+", one_of = ["a"], json_key = "k", encoding = "base64" }
[production.secrets]
A = { provider = "aws", ref = "sm://prod/github-pat" }
[[production.secrets_from]]
provider = "store"
ref = "app"
[[secrets_from]]
provider = "aws"
ref = "sm://prod/app"
keys = ["E"]
[[secrets_from]]
provider = "aws"
ref = "sm://prod/app"
keys = { F = "db.url" }
[providers.vault]
address = "https://vault.internal:8200"
[providers.aws]
region = "eu-west-1"
[providers.exec]
command = ["gopass", "show", "-o"]
[providers.keychain]
service = "work"
[providers.age]
recipients = ["age1qqqq"]
[blind]
upstream_ca = "certs/internal-ca.pem"
scope = "strict"
keep_env = ["A_TOKEN"]
clean_env = true
[blind.sandbox]
mode = "auto"
read = ["~/data"]
write = ["/var/cache/app"]
hide = ["notes"]
allow_loopback = [1, 65535]
[[blind.connections]]
allow = true
host = "re:api-[0-9]+\\\\.example\\\\.com"
port = 443
methods = ["GET"]
path = "/v1"
[[blind.connections]]
allow = false
host = "*"
`,
    });
    const config = await project.load({ environment: 'production' });
    expect([...config.secrets.keys()]).toEqual(['A', 'B', 'C', 'D']);
    expect(config.documents.map(({ provider, ref }) => `${provider} ${ref}`)).toEqual([
      'aws sm://prod/app',
      'aws sm://prod/app',
      'store app',
    ]);
    expect(config.blind?.upstream_ca).toBe(join(project.folder, 'certs/internal-ca.pem'));
    expect(config.environments).toEqual(['production']);
  });
});

describe('what is wrong', () => {
  const cases: [string, string, string[]][] = [
    [
      'an unknown key',
      `[secrets]\nA = { provider = "env", reff = "x", ref = "y" }`,
      ['.keyzero.toml:2:25 unknown key "reff" in secrets.A (did you mean "ref"?)'],
    ],
    ['an unknown section', `[sercets]\nA = ${ENTRY}`, ['.keyzero.toml:1:2 unknown key "sercets" (did you mean "secrets"?)']],
    [
      'an unknown provider',
      '[secrets]\nA = { provider = "vualt", ref = "x" }',
      ['.keyzero.toml:2:7 unknown provider "vualt" (did you mean "vault"?)'],
    ],
    ['a missing ref', '[secrets]\nA = { provider = "env" }', ['.keyzero.toml:2:1 secrets.A has no ref (add `ref = …`)']],
    ['an empty ref', '[secrets]\nA = { provider = "env", ref = "" }', ['.keyzero.toml:2:25 ref is empty']],
    ['a string instead of a table', '[secrets]\nA = "x"', ['.keyzero.toml:2:1 A is a string, not a table']],
    [
      'a wrong type',
      '[secrets]\nA = { provider = "env", ref = "x", required = "no" }',
      ['.keyzero.toml:2:36 required is a string, not true or false'],
    ],
    [
      'a bad duration',
      '[secrets]\nA = { provider = "env", ref = "x", refresh = "soon" }',
      ['.keyzero.toml:2:36 refresh "soon" is not a duration such as 30s, 15m or 2h'],
    ],
    [
      'a bad host',
      '[secrets]\nA = { provider = "env", ref = "x", hosts = ["*.com"] }',
      ['.keyzero.toml:2:45 hosts "*.com" is too wide: `*.` needs at least two labels behind it'],
    ],
    [
      'a bad expression',
      '[secrets]\nA = { provider = "env", ref = "x", pattern = "(" }',
      ['.keyzero.toml:2:36 pattern "(" is not a valid regular expression'],
    ],
    [
      'a name that loads code',
      `[secrets]\nLD_PRELOAD = ${ENTRY}`,
      ['.keyzero.toml:2:1 LD_PRELOAD cannot be a secret: it changes which code a program loads'],
    ],
    [
      'a name of kz’s own',
      `[secrets]\nKEYZERO_ENV = ${ENTRY}`,
      ['.keyzero.toml:2:1 KEYZERO_ENV cannot be a secret: KEYZERO_ variables configure kz itself'],
    ],
    [
      'a name that is none',
      `[secrets]\nmy-token = ${ENTRY}`,
      ['.keyzero.toml:2:1 my-token is not a variable name (letters, digits and _, not starting with a digit)'],
    ],
    [
      'an unknown connection key',
      '[secrets]\n[[blind.connections]]\nallow = true\nhost = "*"\nprot = 1',
      ['.keyzero.toml:5:1 unknown key "prot" in blind.connections.0 (did you mean "port"?)'],
    ],
    [
      'a wrong key of a document, and what is neither list nor table',
      '[secrets]\n[[secrets_from]]\nprovider = "env"\nref = "a"\nkeys = { A = 1 }\n[[secrets_from]]\nprovider = "env"\nref = "a"\nkeys = "A"',
      [
        '.keyzero.toml:5:10 A is a number, not a string',
        '.keyzero.toml:9:1 keys is neither a list of keys nor a table of variable name → key',
      ],
    ],
    [
      'an unknown provider section',
      '[secrets]\n[providers.vualt]\naddress = "https://x"',
      ['.keyzero.toml:2:12 unknown key "vualt" in providers (did you mean "vault"?)'],
    ],
    [
      'an environment with a stray key',
      `[production]\nA = ${ENTRY}`,
      ['.keyzero.toml:2:1 unknown key "A" in production (known keys: secrets, secrets_from)'],
    ],
  ];

  it.each(cases)('names %s with its place', async (_what, text, expected) => {
    expect(await new Project({ '.keyzero.toml': text }).problems()).toEqual(expected);
  });

  it('is reported all at once, over all files', async () => {
    const project = new Project({
      '.keyzero.toml':
        '[secrets]\nA = { provider = "nope", ref = "x" }\nB = { provider = "env" }\n[x.secrets]\nPATH = { provider = "env", ref = "x", x = 1 }',
      '.keyzero.local.toml': '[secrets]\nC = 1',
    });
    expect(await project.problems()).toHaveLength(5);
  });

  it('is cut short when it is endless, and takes no time that grows with its square', async () => {
    const lines = Array.from({ length: 4000 }, (_, index) => `S${String(index)} = { provider = "nope", ref = "x" }`);
    const problems = await new Project({ '.keyzero.toml': `[secrets]\n${lines.join('\n')}` }).problems();
    expect(problems).toHaveLength(21);
    expect(problems.at(-1)).toBe('and 3980 more problems');
  });

  it('does not quote what may be a secret in the wrong place', async () => {
    const key = `AGE-SECRET-KEY-1${'Q'.repeat(58)}`;
    const problems = await new Project({ '.keyzero.toml': `[secrets]\n[providers.age]\nrecipients = ["${key}"]` }).problems();
    expect(problems).toHaveLength(1);
    expect(problems[0]).not.toContain(key);
  });

  it('gives line and column of bad TOML, and nothing of its text', async () => {
    const [problem] = await new Project({ '.keyzero.toml': '[secrets]\nA = { default = "CANARY-5f2b, }\n' }).problems();
    expect(problem).toMatch(/^\.keyzero\.toml:2:\d+ not valid TOML: /);
    expect(problem).not.toContain('CANARY');
  });

  it('is the size of a file that nobody writes by hand', async () => {
    const [problem] = await new Project({ '.keyzero.toml': `# ${'x'.repeat(1_048_576)}` }).problems();
    expect(problem).toContain('is larger than 1 MiB');
  });

  it('never falls back from a broken local file', async () => {
    const project = new Project({ '.keyzero.toml': `[secrets]\nA = ${ENTRY}`, '.keyzero.local.toml': 'broken' });
    expect(await project.problems()).toHaveLength(1);
  });
});
