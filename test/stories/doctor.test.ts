// `kz doctor`: why does it not work here? In an empty folder, with a broken config, with what is missing or down, and with `--live`.
import { symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { KZ, Story, type Ended, type StartOptions } from './kz.ts';
import { Upstream } from './upstream.ts';

let story: Story;

beforeEach(() => {
  story = new Story();
});

afterEach(() => {
  story.end(['values.json']);
});

interface Found {
  readonly name: string;
  readonly state: string;
  readonly error: { readonly code: string; readonly message: string; readonly hint: string | null } | null;
}

interface Report {
  readonly schema_version: number;
  readonly ok: boolean;
  readonly config: { readonly ok: boolean; readonly files: unknown[]; readonly searched: string[]; readonly problems: unknown[] };
  readonly environment: unknown;
  readonly providers: readonly Found[];
  readonly secrets: readonly (Found & { readonly length?: number; readonly warnings: readonly { readonly kind: string }[] })[];
  readonly leases: readonly unknown[];
  readonly checks: readonly (Found & { readonly request: string; readonly status: number | null })[];
  readonly keychain: { readonly backend: string };
  readonly machine: { readonly kz_on_path: string | null; readonly warnings: readonly { readonly text: string }[] };
  readonly runtimes: readonly { readonly name: string; readonly path: string | null; readonly version: string | null }[];
  readonly sandbox: Readonly<Record<'level' | 'backend' | 'version' | 'why' | 'fix', string | null>>;
}

async function report(args: readonly string[] = [], options: StartOptions = {}): Promise<Report & Pick<Ended, 'code'>> {
  const { stdout, stderr, code } = await story.kz(['doctor', '--json', ...args], options);
  expect(stderr).toBe('');
  const document = JSON.parse(stdout) as Report;
  expect(document).toMatchObject({ schema_version: 1, ok: code === 0 });
  return { ...document, code };
}

/** The lines of one section, without its title. */
function section(text: string, title: string): string[] {
  const found = text.split('\n\n').find((each) => each.startsWith(title)) ?? '';
  return found.split('\n').slice(1);
}

describe('in an empty folder', () => {
  it('says where it looked, and goes on', async () => {
    const { code, stdout, stderr } = await story.kz(['doctor']);
    expect([code, stderr]).toEqual([1, '']);
    const config = section(stdout, 'config');
    expect(config[0]).toBe('  FAIL  no .keyzero.toml found; looked for');
    expect(config).toContain(`          ${story.project}/.keyzero.toml`);
    expect(config).toContain('          ~/.config/keyzero/config.toml');
    expect(config.at(-1)).toMatch(/hint: run `kz init`/);
    expect(section(stdout, 'programs').some((line) => /^ {2}ok +node +\d/.test(line))).toBe(true);
    expect(stdout.trimEnd().split('\n').at(-1)).toBe('1 thing does not work');
  });

  it('has a JSON form with the same facts', async () => {
    const document = await report();
    expect(document).toMatchObject({
      code: 1,
      config: { ok: false, files: [], problems: [{ code: 'config-not-found' }] },
      environment: null,
      providers: [],
      secrets: [],
      leases: [],
      checks: [],
      sandbox: { level: expect.stringMatching(/^(full|basic|none)$/) as string },
    });
    expect(document.config.searched).toContain(`${story.project}/.keyzero.toml`);
    expect(document.runtimes.find(({ name }) => name === 'node')).toMatchObject({ path: expect.stringMatching(/\/node$/) as string });
  });

  it('says that a file that was named is not there', async () => {
    const { stdout } = await story.kz(['doctor', '--config', 'nowhere.toml']);
    expect(section(stdout, 'config')).toEqual([
      `  FAIL  --config names ${story.project}/nowhere.toml, which is not there`,
      '          hint: check the path, or run `kz init` to write one',
    ]);
    expect(await report([], { env: { KEYZERO_CONFIG: 'gone' } })).toMatchObject({ config: { problems: [{ code: 'config-not-found' }] } });
  });
});

describe('a broken config', () => {
  it('is told with every problem and its place', async () => {
    const file = story.config('[secrets]\nA = { provider = "nope", ref = 1 }\nB = { provider = "env", ref = "B", hots = ["x"] }\n');
    const { code, stdout } = await story.kz(['doctor']);
    expect(code).toBe(1);
    const failed = section(stdout, 'config').filter((line) => line.includes('FAIL'));
    expect(failed.map((line) => line.replace(/: .*/, ''))).toEqual([
      `  FAIL  ${file}:2:7`,
      `  FAIL  ${file}:2:26`,
      `  FAIL  ${file}:3:${String('B = { provider = "env", ref = "B", '.length + 1)}`,
    ]);
    expect(await report()).toMatchObject({
      config: { files: [{ path: file, layer: 'project' }], problems: [{ line: 2 }, { line: 2 }, { line: 3 }] },
    });
  });

  it('may be no TOML, or name an environment that it does not have', async () => {
    story.config('[secrets\n');
    expect(await report()).toMatchObject({ config: { problems: [{ code: 'config-syntax', line: 1 }] } });
    story.config('[secrets]\nA = { provider = "env", ref = "A" }\n[production.secrets]\n');
    expect(await report(['--env', 'prodction'])).toMatchObject({ config: { problems: [{ code: 'environment-unknown' }] } });
  });

  it('may be one that only a blind run refuses', async () => {
    story.config('[secrets]\nA = { provider = "env", ref = "A", swap = ["header:Host"] }\n');
    const document = await report([], { env: { A: story.canary() } });
    expect(document).toMatchObject({ ok: false, config: { problems: [{ code: 'config-invalid', line: 2 }] }, secrets: [{ state: 'set' }] });
  });
});

describe('a config that loads', () => {
  it('works when everything that it needs does', async () => {
    story.config(
      '[secrets]\nSPARE = { provider = "store", ref = "spare", required = false }\n[production.secrets]\nA = { provider = "env", ref = "SOURCE", hosts = ["a.test"] }\n',
    );
    const { code, stdout, stderr } = await story.kz(['doctor', '--env', 'production'], { env: { SOURCE: story.canary() } });
    expect([code, stderr]).toEqual([0, '']);
    expect(section(stdout, 'config')).toEqual([
      `  ok    ${story.project}/.keyzero.toml  project  walking up from ${story.project}`,
      '  ok    environment production (from --env)',
    ]);
    expect(section(stdout, 'secrets').map((line) => line.replace(/ +/g, ' ').replace(/\d+ ms/, 'ms'))).toEqual([
      ' ok SPARE absent store spare ms',
      ' ok A set(31 chars) env SOURCE ms',
    ]);
    expect(stdout.trimEnd().split('\n').at(-1)).toBe('everything that the config needs works');
    expect(await story.kz(['doctor', '-q', '--env', 'production'], { env: { SOURCE: story.canary() } })).toMatchObject({
      code: 0,
      stdout: '',
    });
  });

  const CONFIG = `[secrets]
SET = { provider = "env", ref = "SOURCE" }
PIN = { provider = "env", ref = "PIN", hosts = ["a.test"] }
GONE = { provider = "store", ref = "gone" }
ONE = { provider = "exec", ref = "false" }
TWO = { provider = "exec", ref = "false" }
[[secrets_from]]
provider = "file"
ref = "values.json"
keys = ["FROM_FILE", "NOT_IN_FILE"]
`;

  it('is told secret by secret, with how to mend what is wrong', async () => {
    story.config(CONFIG);
    story.write('values.json', JSON.stringify({ FROM_FILE: story.canary() }));
    const env = { SOURCE: story.canary(), PIN: story.guard('47\u00a79x') };
    const document = await report([], { env });
    expect(document.code).toBe(1);
    expect(document.providers.map(({ name, state }) => [name, state])).toEqual([
      ['env', 'ok'],
      ['store', 'ok'],
      ['exec', 'failed'],
      ['file', 'ok'],
    ]);
    expect(
      document.secrets.map(({ name, state, length, error, warnings }) => [
        name,
        length ?? error?.code ?? state,
        ...warnings.map(({ kind }) => kind),
      ]),
    ).toEqual([
      ['SET', 31, 'any-host'],
      ['PIN', 5, 'short'],
      ['GONE', 'secret-missing'],
      ['ONE', 'provider-failed'],
      ['TWO', 'provider-failed'],
      ['FROM_FILE', 31, 'any-host'],
      ['NOT_IN_FILE', 'secret-missing'],
    ]);
    const { stdout } = await story.kz(['doctor'], { env });
    expect(stdout).toContain('          GONE is missing (provider: store, ref: gone)\n          hint: run `kz put GONE`\n');
    // Said once for both of its secrets.
    expect(stdout.match(/program "false" failed with status 1/g)).toHaveLength(1);
    expect(stdout).toContain('  !     SET, FROM_FILE: no `hosts`');
    expect((await story.kz(['doctor', '-q'], { env })).stdout).not.toContain('SET');
  });

  it('names a provider that does not answer in time', async () => {
    story.config('[secrets]\nSLOW = { provider = "exec", ref = "sleep 60" }\nA = { provider = "env", ref = "SOURCE" }\n');
    const document = await report(['--timeout', '300ms'], { env: { SOURCE: story.canary() } });
    expect(document.providers).toMatchObject([
      { name: 'exec', state: 'failed', error: { code: 'provider-timeout' } },
      { name: 'env', state: 'ok' },
    ]);
  });

  it('says what a keychain that is not there means', async () => {
    story.config('[secrets]\nA = { provider = "keychain", ref = "a" }\n');
    const document = await report([], { env: { DBUS_SESSION_BUS_ADDRESS: `unix:path=${story.folder}/bus` } });
    if (process.platform !== 'linux') return;
    expect(document.providers).toMatchObject([{ name: 'keychain', state: 'failed', error: { code: 'provider-unavailable' } }]);
    expect(document.keychain).toMatchObject({ backend: 'none', detail: expect.stringContaining('which is not there') as string });
  });

  it('is looked at as an MCP client starts it, with few variables', async () => {
    story.config('[secrets]\nA = { provider = "env", ref = "A", required = false }\n');
    const document = await report([], { env: { HOME: '' } });
    expect(document.machine.warnings.map(({ text }) => text)).toEqual([
      expect.stringMatching(/^HOME is not set/),
      'kz is not on PATH, so MCP clients and hooks do not find it by name',
    ]);
    symlinkSync(KZ, join(story.folder, 'kz'));
    const found = await report([], { env: { PATH: `${story.folder}:${story.environment().PATH ?? ''}` } });
    expect(found.machine).toMatchObject({ kz_on_path: join(story.folder, 'kz'), warnings: [] });
  });

  it('is not looked at with wrong flags', async () => {
    expect(await story.kz(['doctor', '--timeout', 'soon'])).toMatchObject({ code: 2, stdout: '' });
    expect(await story.kz(['doctor', '--env', ''])).toMatchObject({ code: 1 });
    story.config('');
    expect(await story.kz(['doctor', '--env', ''])).toMatchObject({ code: 2, stdout: '' });
  });
});

describe('--live', () => {
  let upstream: Upstream;
  let good = '';

  beforeEach(async () => {
    good = story.canary();
    upstream = await Upstream.start((request, response) => {
      const isGood = request.headers.authorization === `Bearer ${good}` || request.headers['x-key'] === good;
      // As careless as a server can be: it repeats what it got.
      response.writeHead(isGood ? 302 : 401, { location: 'https://elsewhere.test/', 'x-echo': request.headers.authorization ?? '' });
      response.end(JSON.stringify(request.headers));
    });
    upstream.configure(
      story,
      `[secrets]
GOOD = { provider = "env", ref = "GOOD", check = "GET https://api.test/user?q=1" }
KEY = { provider = "env", ref = "GOOD", check = "HEAD https://api.test/key", swap = ["header:X-Key"], hosts = ["api.test"] }
BAD = { provider = "env", ref = "BAD", check = "GET https://api.test/user" }
FAR = { provider = "env", ref = "GOOD", check = "GET https://far.test/user", hosts = ["api.test"] }
NONE = { provider = "env", ref = "NONE", check = "GET https://api.test/user", required = false }
PLAIN = { provider = "env", ref = "GOOD" }
`,
    );
  });

  afterEach(async () => {
    await upstream.stop();
  });

  const env = (): Record<string, string> => ({ ...upstream.environment, GOOD: good, BAD: story.canary() });

  it('proves each credential that says how', async () => {
    const document = await report(['--live'], { env: env() });
    expect(document.checks.map(({ name, request, state, status, error }) => [name, request, state, status, error?.code])).toEqual([
      ['GOOD', 'GET https://api.test/user', 'accepted', 302, undefined],
      ['KEY', 'HEAD https://api.test/key', 'accepted', 302, undefined],
      ['BAD', 'GET https://api.test/user', 'refused', 401, 'secret-invalid'],
      ['FAR', 'GET https://far.test/user', 'not-sent', null, 'config-invalid'],
      ['NONE', 'GET https://api.test/user', 'not-asked', null, undefined],
    ]);
    expect(document.code).toBe(1);
    // Redirects are not followed, and what may not go there did not.
    expect(upstream.received.map(({ host, path }) => `${host}${path}`).sort()).toEqual([
      'api.test/key',
      'api.test/user',
      'api.test/user?q=1',
    ]);
    expect(upstream.connects.every((target) => target === 'api.test:443')).toBe(true);
  });

  it('shows it to people', async () => {
    const { stdout } = await story.kz(['doctor', '--live'], { env: env() });
    const lines = section(stdout, 'credentials').map((line) => line.replace(/\d+ ms/, 'ms'));
    expect(lines.slice(0, 5)).toEqual([
      '  ok    GOOD  GET https://api.test/user  302 in ms',
      '  ok    KEY   HEAD https://api.test/key  302 in ms',
      '  FAIL  BAD   GET https://api.test/user  refused',
      '          BAD: the credential was refused (GET https://api.test/user answered 401)',
      '          hint: renew it at api.test, then store the new value',
    ]);
  });

  it('is asked for: otherwise nothing is sent', async () => {
    const document = await report([], { env: env() });
    expect(document).toMatchObject({ code: 0 });
    expect(document.checks.map(({ state }) => state)).toEqual(Array.from({ length: 5 }, () => 'not-asked'));
    expect(upstream.received).toEqual([]);
    const { stdout } = await story.kz(['doctor'], { env: env() });
    const lines = section(stdout, 'credentials');
    expect(lines[0]).toBe('  -     GOOD  GET https://api.test/user  not asked: --live sends it');
    expect(lines.slice(3, 5)).toEqual([
      '  !     FAR   GET https://far.test/user  not sent: FAR: its `check` asks far.test, where the secret may not go (its `hosts` do not cover it)',
      '          hint: add "far.test" to its `hosts`, or correct `check`',
    ]);
    expect(document.checks[3]).toMatchObject({ name: 'FAR', why: 'not-allowed', error: { code: 'config-invalid' } });
  });
});
