// `kz explain`: what blind mode would do with one request, without sending it.
import { readFileSync, writeFileSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Story, type Ended } from './kz.ts';

let story: Story;

beforeEach(() => {
  story = new Story();
});

afterEach(() => {
  story.end();
});

/** Columns are separated by two spaces or more. */
function rows(text: string): string[][] {
  return text.split('\n').map((line) => line.split(/ {2,}/));
}

function row(text: string, name: string): string[] | undefined {
  return rows(text).find(([first]) => first === name);
}

interface Answer {
  readonly allowed: boolean;
  readonly secrets: readonly Readonly<Record<string, unknown>>[];
}

async function answer(args: readonly string[], env: Record<string, string> = {}): Promise<Answer> {
  const { code, stdout } = await story.kz(['explain', '--json', ...args], { env });
  const parsed = JSON.parse(stdout) as Answer;
  expect(code).toBe(parsed.allowed ? 0 : 1);
  return parsed;
}

const RULES = `
[[blind.connections]]
allow = true
host = "api.example.com"
methods = ["GET", "HEAD"]
path = "/v1/**"

[[blind.connections]]
allow = true
host = "*.example.org"

[[blind.connections]]
allow = false
host = "*"
`;

describe('the rule', () => {
  it('that decides is named with its line and its words', async () => {
    const config = story.config(RULES);
    const { code, stdout, stderr } = await story.kz(['explain', 'https://api.example.com/v1/users?page=2']);
    expect([code, stderr]).toEqual([0, '']);
    expect(stdout).toBe(
      [
        'GET https://api.example.com/v1/users',
        'verdict  allowed',
        'host     api.example.com:443',
        `rule     allowed by ${config}:2 (host = "api.example.com", methods = ["GET", "HEAD"], path = "/v1/**")`,
        'address  any: the rule names the host',
        '',
      ].join('\n'),
    );
    expect(await answer(['https://api.example.com/v1/users', '--method', 'head'])).toMatchObject({
      schema_version: 1,
      method: 'HEAD',
      url: 'https://api.example.com/v1/users',
      host: 'api.example.com',
      port: 443,
      written: null,
      allowed: true,
      decision: { allow: true, why: 'rule', rule: { index: 0, file: config, line: 2, allow: true, path: '/v1/**' } },
      address: { kind: null, named: true },
      missing_rule: null,
    });
  });

  it('that denies comes with the one to put above it, as narrow as those beside it, and with that it is allowed', async () => {
    const config = story.config(RULES);
    const asked = ['explain', 'https://api.example.com/v1/a*b', '--method', 'POST'];
    const denied = await story.kz(asked);
    expect(denied.code).toBe(1);
    expect(row(denied.stdout, 'rule')).toEqual(['rule', `denied by ${config}:12 (host = "*")`]);
    const [, place = '', toml = ''] = /add above (.*):\n((?: {2}.*\n)+)/.exec(denied.stdout) ?? [];
    expect(place).toBe(`${config}:12`);
    expect(toml.trim().split(/\n +/)).toEqual([
      '[[blind.connections]]',
      'allow = true',
      'host = "api.example.com"',
      'methods = ["POST"]',
      'path = "/v1/a%2Ab"',
    ]);
    const lines = readFileSync(config, 'utf8').split('\n');
    writeFileSync(config, [...lines.slice(0, 11), toml, ...lines.slice(11)].join('\n'));
    expect((await story.kz(asked)).code).toBe(0);
    expect((await story.kz(['explain', 'https://api.example.com/v1/other', '--method', 'POST'])).code).toBe(1);
  });

  it('may be missing: no rule matches, or there are none', async () => {
    const config = story.config('[[blind.connections]]\nallow = true\nhost = "a.example"\n');
    const { code, stdout } = await story.kz(['explain', 'wss://b.example:8443/x']);
    expect(code).toBe(1);
    expect(row(stdout, 'rule')).toEqual(['rule', 'denied: no rule matches it']);
    expect(stdout).toContain(
      `To allow it, add to ${config}:\n  [[blind.connections]]\n  allow = true\n  host = "b.example"\n  port = 8443\n`,
    );
    story.config('[secrets]\n');
    const free = await story.kz(['explain', 'ws://b.example/x']);
    expect([free.code, row(free.stdout, 'rule')]).toEqual([0, ['rule', 'allowed: there are no rules']]);
  });

  it('with a path never allows a path that servers read in different ways', async () => {
    story.config(RULES);
    const { code, stdout } = await story.kz(['explain', 'https://api.example.com/v1/a%2fb']);
    expect(code).toBe(1);
    expect(row(stdout, 'path')).toEqual(['path', 'servers may read it in different ways: no rule with a path can allow it']);
  });

  it('that cannot be compiled is an error with its place', async () => {
    const config = story.config('[[blind.connections]]\nallow = true\nhost = "re:(a+)+b"\n');
    expect(await story.kz(['explain', 'https://a.example/'])).toMatchObject({
      code: 1,
      stderr: expect.stringContaining(`${config}:1:9: blind.connections.0 has a host "re:(a+)+b" that takes too long`) as string,
    });
  });
});

describe('the host', () => {
  const SPELLINGS: readonly (readonly [written: string, host: string])[] = [
    ['API.Example.ORG.', 'api.example.org'],
    ['bücher.example.org', 'xn--bcher-kva.example.org'],
    ['0x7f.1', '127.0.0.1'],
    ['[::ffff:7f00:1]', '127.0.0.1'],
  ];

  it.each(SPELLINGS)('%s is read as %s', async (written, host) => {
    story.config(RULES);
    const { stdout } = await story.kz(['explain', `https://${written}/`]);
    expect(row(stdout, 'host')).toEqual(['host', `${host}:443, written "${written}"`]);
    expect(await answer([`https://${written}/`])).toMatchObject({ host, written, allowed: host.endsWith('.example.org') });
  });
});

describe('an address', () => {
  const PRIVATE: readonly (readonly [url: string, kind: string])[] = [
    ['http://127.0.0.1:8080/', 'loopback'],
    ['http://localhost/', 'loopback'],
    ['http://app.localhost/', 'loopback'],
    ['http://10.1.2.3/', 'private'],
    ['http://[fe80::1]/', 'link-local'],
    ['http://169.254.169.254/latest/meta-data', 'metadata'],
    ['http://0.0.0.0/', 'special'],
  ];

  it.each(PRIVATE)('such as %s is refused, and reached when a rule names it', async (url, kind) => {
    const config = story.config('[secrets]\n');
    expect(await answer([url])).toMatchObject({
      allowed: false,
      decision: { allow: true, why: 'no-rules' },
      address: { kind, named: false },
    });
    const { code, stdout } = await story.kz(['explain', url]);
    expect(code).toBe(1);
    expect(stdout).toContain('refused, as no rule names it');
    // The first rule denies all else: what has to follow it is there too.
    const toml = [...stdout.matchAll(/^ {2}(?=\[\[|allow|host|port)(.*)$/gm)].map(([, line]) => line).join('\n');
    writeFileSync(config, toml);
    expect(await answer([url])).toMatchObject({ allowed: true, address: { kind, named: true } });
    expect((await answer(['https://elsewhere.example/'])).allowed).toBe(true);
    // A rule for any host names nobody.
    story.config('[[blind.connections]]\nallow = true\nhost = "*"\n');
    const any = await story.kz(['explain', url]);
    expect([any.code, any.stdout.includes(`add above ${config}:1:`)]).toEqual([1, true]);
  });

  it('that is public is public, and that of a name is not looked up', async () => {
    story.config('[[blind.connections]]\nallow = true\nhost = "*"\n');
    expect(await answer(['https://1.1.1.1/'])).toMatchObject({ allowed: true, address: { kind: 'public', named: false } });
    const { stdout } = await story.kz(['explain', 'https://surely-not-there.invalid/']);
    expect(row(stdout, 'address')).toEqual(['address', 'only a public one: no rule names the host']);
  });
});

describe('a secret', () => {
  const env = (): Record<string, string> => ({
    GH: story.canary('ghp_'),
    PLAIN: story.canary(),
    HOOK: `https://hooks.slack.com/services/T0/B0/${story.canary()}`,
    PEM: story.guard(`-----BEGIN PRIVATE KEY-----\n${story.canary()}\n-----END PRIVATE KEY-----`),
  });

  const CONFIG = `
[secrets]
WITH_HOSTS = { provider = "exec", ref = "touch was-run", hosts = ["api.example.com", "*.example.net"], swap = ["header:x-key", "path"] }
VENDOR = { provider = "env", ref = "GH" }
HOOK = { provider = "env", ref = "HOOK" }
BY_RULES = { provider = "env", ref = "PLAIN" }
GONE = { provider = "env", ref = "NOWHERE" }
SPARE = { provider = "env", ref = "NOWHERE", required = false }
OPEN = { provider = "env", ref = "PLAIN", expose = true, hosts = ["api.example.com"] }
PEM = { provider = "env", ref = "PEM" }

[[blind.connections]]
allow = true
host = "api.example.com"

[[blind.connections]]
allow = true
host = "*"
`;

  it('says whether its token is swapped there, where in a request, and why', async () => {
    story.config(CONFIG);
    const { code, stdout, stderr } = await story.kz(['explain', 'https://api.example.com/'], { env: env() });
    expect([code, stderr]).toEqual([0, '']);
    const table = stdout.slice(stdout.indexOf('SECRET'));
    expect(rows(table).slice(0, 9)).toEqual([
      ['SECRET', 'SWAPPED', 'WHERE', 'MAY GO TO'],
      ['WITH_HOSTS', 'yes', 'header:x-key, path', 'api.example.com, *.example.net (its hosts)'],
      ['VENDOR', 'no', 'default', 'api.github.com, github.com, uploads.github.com and 8 more (the vendor of its prefix)'],
      ['HOOK', 'no', 'path', 'hooks.slack.com (the host in its value)'],
      ['BY_RULES', 'yes', 'default', 'api.example.com (the hosts that rules name)'],
      ['GONE', 'unknown', '-', 'its value is needed to tell: GONE is missing (provider: env, ref: NOWHERE)'],
      ['SPARE', 'absent', '-', 'it is optional and not there'],
      ['OPEN', 'exposed', '-', 'api.example.com (its hosts); a request with its value is sent'],
      ['PEM', 'refused', '-', 'a blind run does not start with it: PEM is a private key, which a program uses itself'],
    ]);
    expect(stdout).toContain('\ndefault: Authorization, Cookie');
    expect(rows(stdout.slice(stdout.indexOf('To swap'))).slice(1, 3)).toEqual([
      ['', 'VENDOR', 'hosts = ["api.example.com"]'],
      ['', 'HOOK', 'hosts = ["api.example.com"]'],
    ]);
  });

  it('has a JSON form with the same facts', async () => {
    story.config(CONFIG);
    const { secrets } = await answer(['https://elsewhere.example/'], env());
    const named = (name: string) => secrets.find((secret) => secret.name === name);
    expect(secrets.map(({ name, state, swapped }) => [name, state, swapped])).toEqual([
      ['WITH_HOSTS', 'masked', false],
      ['VENDOR', 'masked', false],
      ['HOOK', 'masked', false],
      ['BY_RULES', 'masked', false],
      ['GONE', 'unknown', null],
      ['SPARE', 'absent', false],
      ['OPEN', 'exposed', false],
      ['PEM', 'refused', null],
    ]);
    expect(named('WITH_HOSTS')).toMatchObject({
      scope: { from: 'hosts', hosts: ['api.example.com', '*.example.net'], covers: false },
      swap: ['header:x-key', 'path'],
      hosts_needed: ['api.example.com', '*.example.net', 'elsewhere.example'],
    });
    expect(named('BY_RULES')).toMatchObject({ scope: { from: 'rules', covers: false }, swap: null, hosts_needed: ['elsewhere.example'] });
    expect(named('GONE')).toMatchObject({ scope: null, problem: { code: 'secret-missing' } });
  });

  it('that goes where rules say comes with the rule that is missing', async () => {
    story.config('[secrets]\nA = { provider = "env", ref = "A" }\n[[blind.connections]]\nallow = true\nhost = "a.example"\n');
    const { code, stdout } = await story.kz(['explain', 'https://b.example/'], { env: { A: story.canary() } });
    expect(code).toBe(1);
    expect(stdout).toContain('Nothing is sent. Were it allowed:\n');
    expect(stdout).not.toContain('To swap');
  });

  it('without hosts in a config without rules may go anywhere, unless the scope is strict', async () => {
    const env = { A: story.canary() };
    story.config('[secrets]\nA = { provider = "env", ref = "A" }\n');
    const { stdout } = await story.kz(['explain', 'https://a.example/'], { env });
    expect(row(stdout, 'A')?.slice(1)).toEqual(['yes', 'default', 'any host: it has no hosts, and none can be inferred']);
    story.config('[secrets]\nA = { provider = "env", ref = "A" }\n[blind]\nscope = "strict"\n');
    expect((await answer(['https://a.example/'], env)).secrets).toMatchObject([{ state: 'refused', swapped: null }]);
  });

  it('of a document is there too, and an entry of the config wins', async () => {
    story.config(
      '[secrets]\nA = { provider = "env", ref = "A", hosts = ["a.example"] }\n[[secrets_from]]\nprovider = "env"\nref = "DOCUMENT"\n',
    );
    const DOCUMENT = JSON.stringify({ A: story.canary(), B: story.canary('sk-ant-') });
    const { secrets } = await answer(['https://a.example/'], { DOCUMENT });
    expect(secrets.map(({ name, swapped, scope }) => [name, swapped, (scope as { from: string }).from])).toEqual([
      ['A', true, 'hosts'],
      ['B', false, 'vendor'],
    ]);
  });

  it('with hosts needs no provider', async () => {
    story.config('[secrets]\nA = { provider = "exec", ref = "touch was-run", hosts = ["a.example"] }\n');
    expect((await answer(['https://a.example/'])).secrets).toMatchObject([{ name: 'A', swapped: true }]);
    expect(() => readFileSync(`${story.project}/was-run`)).toThrow('ENOENT');
  });
});

describe('a URL', () => {
  it.each([
    ['api.example.com/user', 'starts with https://'],
    ['ftp://api.example.com/', 'starts with https://'],
    ['https:api.example.com', 'starts with https://'],
    ['https://a b.example/', 'starts with https://'],
    ['https://', 'neither a name nor an address'],
    ['https://a..b/', 'neither a name nor an address'],
    ['https://a.example:99999/', 'neither a name nor an address'],
    ['https://a%2eb.example/', 'neither a name nor an address'],
    ['', 'starts with https://'],
  ])('%j is none that kz can ask about', async (url, problem) => {
    story.config(RULES);
    const { code, stdout, stderr } = await story.kz(['explain', url]);
    expect([code, stdout]).toEqual([2, '']);
    expect(stderr).toContain(problem);
    expect(stderr).toContain('kz: hint: kz explain https://api.github.com/user\n');
  });

  it('goes with a method that is one', async () => {
    story.config(RULES);
    expect(await story.kz(['explain', 'https://a.example/', '--method', 'GET /'])).toMatchObject({ code: 2, stdout: '' });
    expect((await story.kz(['explain', 'wss://a.example/', '--method', 'POST'])).stderr).toContain('a WebSocket is opened with GET');
  });

  it('is shown without its user, its query, and what in its path is a value or looks like one', async () => {
    const value = 'wQ7x2Lk9Zt4Bn8Vc3Hy6Rd1M';
    story.config('[secrets]\nHOOK = { provider = "env", ref = "HOOK" }\n');
    const shown = async (url: string): Promise<string | undefined> => {
      const ended: Ended = await story.kz(['explain', url], { env: { HOOK: 'https://hooks.example.com/x/plain-value-of-it' } });
      expect(ended.stdout + ended.stderr).not.toContain(value);
      return ended.stdout.split('\n')[0];
    };
    expect(await shown(`https://me:${value}@a.example/x?key=${value}#${value}`)).toBe('GET https://a.example/x');
    expect(await shown(`https://a.example/bot/${value}/send`)).toBe('GET https://a.example/bot/…/send');
    expect(await shown('wss://hooks.example.com/x/plain-value-of-it')).not.toContain('plain-value');
    expect((await story.kz(['explain', `nonsense://${value}`])).stderr).not.toContain(value);
  });
});
