// What a blind child finds in its environment: masked tokens, the way out through kz, and none of what kz or the user log in with.
import { statSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { FIXTURES, NODE, Story, type Ended, type StartOptions } from './kz.ts';

const SHOW = ['--', NODE, `${FIXTURES}show.mjs`];
const MASKED = 'kz_masked_[0-9a-f]{32}';

let story: Story;

beforeEach(() => {
  story = new Story();
});

afterEach(() => {
  story.end();
});

interface Shown {
  readonly env: Readonly<Record<string, string>>;
  readonly stderr: string;
}

/** Secrets with hosts, so that nothing is to be said about them; their sources are in the environment, as `SOURCE_NAME`. */
function secrets(lines: Readonly<Record<string, string>>, blind = ''): void {
  const text = Object.entries(lines).map(
    ([name, more]) => `${name} = { provider = "env", ref = "SOURCE_${name}", hosts = ["api.example"]${more === '' ? '' : `, ${more}`} }`,
  );
  story.config(`[secrets]\n${text.join('\n')}\n${blind}`);
}

function kz(flags: readonly string[], env: Record<string, string>, options: StartOptions = {}): Promise<Ended> {
  return story.kz(['run', '--blind', ...flags, ...SHOW], { ...options, env });
}

async function shown(flags: readonly string[], env: Record<string, string>, options: StartOptions = {}): Promise<Shown> {
  const { stdout, stderr, code } = await kz(flags, env, options);
  expect(code, stderr).toBe(0);
  return { env: (JSON.parse(stdout) as { env: Record<string, string> }).env, stderr };
}

describe('a secret', () => {
  it('is a masked token, another one in each run', async () => {
    secrets({ TOKEN: '' });
    const value = story.canary();
    const first = await shown([], { SOURCE_TOKEN: value, TOKEN: 'inherited' });
    expect(first.env.TOKEN).toMatch(new RegExp(`^${MASKED}$`));
    expect(first.env).not.toHaveProperty('SOURCE_TOKEN');
    expect(first.stderr).toBe('');
    const second = await shown([], { SOURCE_TOKEN: value });
    expect(second.env.TOKEN).not.toBe(first.env.TOKEN);
  });

  it('keeps the public start of its vendor, unless its shape says otherwise', async () => {
    secrets({ TOKEN: '', PLAIN: 'shape = "plain"', EXACT: 'shape = "exact"' });
    const value = story.canary('ghp_');
    const { env } = await shown([], { SOURCE_TOKEN: value, SOURCE_PLAIN: value, SOURCE_EXACT: value });
    expect(env.TOKEN).toMatch(new RegExp(`^ghp_${MASKED}$`));
    expect(env.PLAIN).toMatch(new RegExp(`^${MASKED}$`));
    expect(env.EXACT).toMatch(/^ghp_[A-Z]{6}-\w{24}$/);
    expect(env.EXACT).toHaveLength(value.length);
  });

  it('that is a URL stays one that a driver can read', async () => {
    secrets({ DATABASE_URL: '' });
    const password = story.canary();
    const { env } = await shown([], { SOURCE_DATABASE_URL: `postgres://admin:${password}@db.example:5432/app?sslmode=require` });
    expect(env.DATABASE_URL).toMatch(new RegExp(`^postgres://admin:${MASKED}@db\\.example:5432/app\\?sslmode=require$`));
  });

  it('that was not selected is missing, also when it is inherited', async () => {
    secrets({ TOKEN: '', OTHER: '' });
    const { env } = await shown(['--only', 'TOKEN'], { SOURCE_TOKEN: story.canary(), OTHER: story.canary() });
    expect(env.TOKEN).toMatch(new RegExp(`^${MASKED}$`));
    expect(env).not.toHaveProperty('OTHER');
  });
});

describe('a value that cannot be masked', () => {
  const KEY = `-----BEGIN PRIVATE KEY-----\nMIGHAgEAMBMGByqGSM49\n-----END PRIVATE KEY-----\n`;

  it('such as a private key stops the run, and the hint says what would help', async () => {
    secrets({ SIGNING: '' });
    const { code, stdout, stderr } = await kz([], { SOURCE_SIGNING: story.guard(KEY) });
    expect({ code, stdout }).toEqual({ code: 125, stdout: '' });
    expect(stderr).toBe(
      'kz: error: SIGNING is a private key, which a program uses itself\n' +
        'kz: hint: give the program the real value: `expose = true` on SIGNING\n',
    );
  });

  it('of several lines stops the run, by name', async () => {
    secrets({ LINES: '', MORE: '', TOKEN: '' });
    const { code, stdout, stderr } = await kz([], {
      SOURCE_LINES: `${story.canary()}\n${story.canary()}`,
      SOURCE_MORE: `${story.canary()}\r\n`,
      SOURCE_TOKEN: story.canary(),
    });
    expect({ code, stdout }).toEqual({ code: 125, stdout: '' });
    expect(stderr).toContain('kz: error: LINES has more than one line, so it cannot be sent in a header\n');
    expect(stderr).toContain('MORE');
    expect(stderr).not.toContain('TOKEN');
  });

  it('of several lines is fine where it is sent in a body', async () => {
    secrets({ LINES: 'swap = ["body:key"]' });
    const { env } = await shown([], { SOURCE_LINES: `${story.canary()}\n${story.canary()}` });
    expect(env.LINES).toMatch(new RegExp(`^${MASKED}$`));
  });

  it('is given as it is with expose = true, and kz says so at every start', async () => {
    secrets({ SIGNING: 'expose = true', TOKEN: '' });
    const env = { SOURCE_SIGNING: KEY, SOURCE_TOKEN: story.canary() };
    for (let start = 1; start <= 2; start += 1) {
      const result = await shown(['--no-redact'], env);
      expect(result.env.SIGNING).toBe(KEY);
      expect(result.env.TOKEN).toMatch(new RegExp(`^${MASKED}$`));
      expect(result.stderr).toBe('kz: SIGNING is exposed: the program gets its real value (expose = true)\n');
    }
  });

  it('is hidden with expose = true in what the program prints, where a masked token is not', async () => {
    secrets({ SIGNING: 'expose = true', TOKEN: '' });
    const script = 'echo "$TOKEN $SIGNING $TOKEN"; echo "$TOKEN $SIGNING" >&2; printf %s "$SIGNING" | cmp -s - key';
    story.write('key', KEY);
    const env = { SOURCE_SIGNING: KEY, SOURCE_TOKEN: story.canary() };
    const { code, stdout, stderr } = await story.kz(['run', '--blind', '-q', '--', 'sh', '-c', script], { env });
    expect(code).toBe(0);
    const [, masked = ''] = new RegExp(`^(${MASKED}) `).exec(stdout) ?? [];
    expect(stdout).toBe(`${masked} [redacted:SIGNING]\n ${masked}\n`);
    expect(stderr).toBe(`${masked} [redacted:SIGNING]\n\n`);
  });
});

describe('where a secret may go', () => {
  const config = (blind = ''): string => story.config(`[secrets]\nTOKEN = { provider = "env", ref = "SOURCE" }\n${blind}`);

  it('without hosts is anywhere, with a warning', async () => {
    config();
    const { stderr } = await shown([], { SOURCE: story.canary() });
    expect(stderr).toBe('kz: warning: TOKEN may be sent to any host; add `hosts = ["…"]` to TOKEN\n');
  });

  it('must be known with scope = "strict"', async () => {
    config('[blind]\nscope = "strict"\n');
    const { code, stdout, stderr } = await kz([], { SOURCE: story.canary() });
    expect({ code, stdout }).toEqual({ code: 125, stdout: '' });
    expect(stderr).toBe(
      'kz: error: TOKEN has no hosts, and none can be inferred ([blind] scope = "strict")\nkz: hint: add `hosts = ["…"]` to TOKEN\n',
    );
  });

  it.each([
    ['its vendor', 'ghp_', ''],
    ['a rule that names a host', '', '[[blind.connections]]\nallow = true\nhost = "api.example"\n'],
  ])('is known from %s', async (_, prefix, rules) => {
    config(`[blind]\nscope = "strict"\n${rules}`);
    const { stderr } = await shown([], { SOURCE: story.canary(prefix) });
    expect(stderr).toBe('');
  });
});

describe('the rest of the environment', () => {
  const PLAIN = { EDITOR: 'vi', CI: '1', npm_config_loglevel: 'warn', MAX_TOKENS: '4096', NODE_ENV: 'test' };
  const credentials = (): Record<string, string> => ({
    GITHUB_TOKEN: story.canary(),
    VAULT_TOKEN: story.canary(),
    AWS_SECRET_ACCESS_KEY: story.canary(),
    KZ_PASSPHRASE: story.canary(),
    // Of no telling name.
    SETTING: story.guard('ghp_0a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R'),
  });

  it('is there, except for what is a credential: -v lists those', async () => {
    secrets({ TOKEN: '' });
    const dropped = credentials();
    const { env, stderr } = await shown(['-v'], { ...PLAIN, ...dropped, SOURCE_TOKEN: story.canary() });
    expect(env).toMatchObject({ ...PLAIN, HOME: story.home, LANG: 'C.UTF-8' });
    const line = stderr.split('\n').find((each) => each.includes('not passed on'));
    for (const name of [...Object.keys(dropped), 'SOURCE_TOKEN']) {
      expect(env).not.toHaveProperty(name);
      expect(line).toMatch(new RegExp(`[: ]${name}(?:,|$)`));
    }
  });

  it('with a value of a secret in it, under any name, is not there', async () => {
    secrets({ TOKEN: '' });
    const value = story.canary();
    const { env } = await shown([], {
      SOURCE_TOKEN: value,
      COPY: value,
      EMBEDDED: `{"x":"${value}"}`,
      BASE: Buffer.from(value).toString('base64'),
    });
    for (const name of ['COPY', 'EMBEDDED', 'BASE']) expect(env).not.toHaveProperty(name);
  });

  it.each([
    ['--keep-env', ['--keep-env', 'DEPLOY_TOKEN'], ''],
    ['keep_env', [], '[blind]\nkeep_env = ["DEPLOY_TOKEN"]\n'],
  ])('holds a credential that %s names, but never a secret that way', async (_, flags, blind) => {
    secrets({ TOKEN: '' }, blind.replace('"]', '", "COPY", "SOURCE_TOKEN"]'));
    const value = story.canary();
    const kept = flags.map((flag) => (flag === 'DEPLOY_TOKEN' ? 'DEPLOY_TOKEN,COPY,SOURCE_TOKEN' : flag));
    const { env } = await shown(kept, { SOURCE_TOKEN: value, COPY: value, DEPLOY_TOKEN: 'meant-for-the-program' });
    expect(env.DEPLOY_TOKEN).toBe('meant-for-the-program');
    for (const name of ['COPY', 'SOURCE_TOKEN']) expect(env).not.toHaveProperty(name);
  });

  it.each([
    ['--clean-env', ['--clean-env'], ''],
    ['clean_env', [], '[blind]\nclean_env = true\n'],
  ])('is short with %s: what starts a program, and the way out', async (_, flags, blind) => {
    secrets({ TOKEN: '' }, blind);
    const { env } = await shown(flags, { ...PLAIN, SOURCE_TOKEN: story.canary() });
    for (const name of Object.keys(PLAIN)) expect(env).not.toHaveProperty(name);
    expect(env).toMatchObject({ HOME: story.home, TOKEN: expect.stringMatching(MASKED) as string });
    expect(env.HTTPS_PROXY).toBeDefined();
  });
});

describe('the way out', () => {
  it('is one proxy in every spelling, and one bundle of certificates, in a folder that is gone afterwards', async () => {
    secrets({ TOKEN: '' });
    const parent = {
      HTTPS_PROXY: 'http://corporate.example:8080',
      ALL_PROXY: 'socks5://other.example',
      NO_PROXY: '*',
      SSL_CERT_DIR: '/etc',
    };
    const { env } = await shown([], { ...parent, SOURCE_TOKEN: story.canary(), NODE_OPTIONS: '--max-http-header-size=20000' });
    const proxy = env.HTTPS_PROXY ?? '';
    expect(proxy).toMatch(/^http:\/\/kz:[\w-]{32}@127\.0\.0\.1:\d+$/);
    for (const name of ['HTTP_PROXY', 'http_proxy', 'https_proxy', 'ALL_PROXY', 'all_proxy', 'npm_config_https_proxy'])
      expect(env[name]).toBe(proxy);
    expect([env.NO_PROXY, env.no_proxy]).toEqual(['', '']);
    expect(env).not.toHaveProperty('SSL_CERT_DIR');
    const bundle = env.SSL_CERT_FILE ?? '';
    expect(bundle.startsWith(`${story.folder}/kz-blind-`)).toBe(true);
    for (const name of ['CURL_CA_BUNDLE', 'REQUESTS_CA_BUNDLE', 'GIT_SSL_CAINFO', 'PIP_CERT', 'npm_config_cafile'])
      expect(env[name]).toBe(bundle);
    expect(env.NODE_OPTIONS).toMatch(/^--max-http-header-size=20000 --require ".+\.cjs"$/);
    for (const file of [bundle, env.NODE_EXTRA_CA_CERTS, env.KEYZERO_CA]) expect(() => statSync(file ?? '')).toThrow('ENOENT');
  });

  it('takes no value of a secret along that is in what it adds to', async () => {
    secrets({ TOKEN: '' });
    const value = story.canary();
    const { env } = await shown([], { SOURCE_TOKEN: value, NODE_OPTIONS: `--title=${value}`, JAVA_TOOL_OPTIONS: `-Dapp.token=${value}` });
    expect(env.NODE_OPTIONS).toMatch(/^--require "/);
    expect(env.JAVA_TOOL_OPTIONS).toMatch(/^-Dhttp\.proxyHost=/);
  });

  it('is private while it lasts', async () => {
    secrets({ TOKEN: '' });
    const script = 'cd "$(dirname "$SSL_CERT_FILE")" && stat -c "%a" . * && grep -c PRIVATE *';
    const { stdout } = await story.kz(['run', '--blind', '--', 'sh', '-c', script], { env: { SOURCE_TOKEN: story.canary() } });
    const lines = stdout.trim().split('\n');
    const modes = lines.filter((line) => !line.includes(':'));
    expect(modes[0]).toBe('700');
    expect(new Set(modes.slice(1))).toEqual(new Set(['600']));
    for (const line of lines.filter((each) => each.includes(':'))) expect(line).toMatch(/:0$/);
  });

  it('is found from everywhere, also with a relative TMPDIR', async () => {
    secrets({ TOKEN: '' });
    const script = 'cd / && test -r "$SSL_CERT_FILE" && test -r "$NODE_EXTRA_CA_CERTS"';
    const { code, stderr } = await story.kz(['run', '--blind', '--', 'sh', '-c', script], {
      env: { SOURCE_TOKEN: story.canary(), TMPDIR: '.' },
    });
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  });

  it('needs a folder for temporary files', async () => {
    secrets({ TOKEN: '' });
    const { code, stdout, stderr } = await kz([], { SOURCE_TOKEN: story.canary(), TMPDIR: '/nonexistent' });
    expect({ code, stdout }).toEqual({ code: 125, stdout: '' });
    expect(stderr).toMatch(/^kz: error: cannot write \/nonexistent: .*\nkz: hint: let TMPDIR name a folder that kz may write to\n$/);
  });
});
