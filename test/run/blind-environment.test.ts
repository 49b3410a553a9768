import { randomBytes } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { Secret } from '../../src/core/secret.ts';
import { blindEnvironment, mayBeAddedTo, type BlindEnvironmentPlan } from '../../src/run/blind-environment.ts';

const CANARY = `CANARY-${randomBytes(12).toString('hex')}`;
const RANDOM = 'k3Jq9XzP7vB2mN5tR8wY4cL6hF1dS0gA';

function build(parent: Record<string, string>, plan: Partial<BlindEnvironmentPlan> = {}) {
  const holdsSecret = (text: string) => [CANARY, Buffer.from(CANARY).toString('base64')].some((form) => text.includes(form));
  return blindEnvironment(parent, { masked: new Map(), declared: [], session: new Map(), clean: false, keep: [], holdsSecret, ...plan });
}

describe('what a blind child inherits', () => {
  it.each([
    ['PATH', '/usr/bin:/bin'],
    ['HOME', '/home/u'],
    ['LOG_LEVEL', 'debug'],
    ['API_URL', 'https://api.example.com/v1'],
    ['DATABASE_HOST', 'db.internal'],
    ['MAX_TOKENS', '4096'],
    ['TOKENIZERS_PARALLELISM', 'false'],
    ['TOKEN_URL', 'https://login.example.com/token'],
    ['PWD', '/work'],
    ['COLORTERM', 'truecolor'],
    ['LS_COLORS', 'rs=0:di=01;34:ln=01;36:*.tar=01;31'],
    ['SSH_AUTH_SOCK', '/tmp/ssh-x/agent.1'],
    ['GPG_AGENT_INFO', '/run/user/0/gnupg/S.gpg-agent:0:1'],
    ['DBUS_SESSION_BUS_ADDRESS', 'unix:path=/run/user/0/bus'],
    ['AWS_PROFILE', 'dev'],
    ['AWS_REGION', 'eu-west-1'],
    ['VAULT_ADDR', 'https://vault.internal:8200'],
    ['KEYZERO_ENV', 'production'],
    ['KEYZERO_CONFIG', '/w/.keyzero.toml'],
    ['GITHUB_SHA', '2fd4e1c67a2d28fced849ee1bb76e7391b93eb12'],
    ['INVOCATION_ID', '0e2c8c7f9b1d4a6f8e3b5d7c9a1f2b4d'],
    ['NODE_OPTIONS', '--max-old-space-size=4096'],
    ['JAVA_TOOL_OPTIONS', '-Xmx1g'],
    ['npm_config_user_agent', 'npm/10.8.2 node/v20.20.2 linux x64'],
    ['REVERSE_PROXY_COUNT', '1'],
    ['ANGLE', 'basic authorization of users'],
    ['EMPTY', ''],
  ])('%s=%s', (name, value) => {
    expect(build({ [name]: value })).toEqual({ variables: { [name]: value }, removed: [], replaced: [] });
  });
});

const DROPPED: readonly (readonly [string, string])[] = [
  ...[
    ...[
      'KEYZERO_PASSPHRASE',
      'KEYZERO_AGE_KEY',
      'VAULT_TOKEN',
      'VAULT_ROLE_ID',
      'VAULT_SECRET_ID',
      'OP_SERVICE_ACCOUNT_TOKEN',
      'OP_CONNECT_TOKEN',
    ],
    ...[
      'OP_SESSION_my',
      'BWS_ACCESS_TOKEN',
      'BW_SESSION',
      'BW_PASSWORD',
      'BW_CLIENTID',
      'BW_CLIENTSECRET',
      'DOPPLER_TOKEN',
      'INFISICAL_TOKEN',
    ],
    ...['AWS_ACCESS_KEY_ID', 'AWS_SECRET_ACCESS_KEY', 'AWS_SESSION_TOKEN', 'AWS_SECURITY_TOKEN', 'AWS_WEB_IDENTITY_TOKEN_FILE'],
    ...['AWS_CONTAINER_CREDENTIALS_FULL_URI', 'AWS_CONTAINER_CREDENTIALS_RELATIVE_URI', 'AWS_CONTAINER_AUTHORIZATION_TOKEN'],
    ...['AZURE_CLIENT_SECRET', 'AZURE_FEDERATED_TOKEN_FILE', 'GOOGLE_APPLICATION_CREDENTIALS', 'SOPS_AGE_KEY', 'SOPS_AGE_KEY_FILE'],
    ...[
      'GITHUB_TOKEN',
      'githubToken',
      'API_KEY',
      'OPENAI_API_KEY_2',
      'DB_PASSWORD',
      'PGPASSWORD',
      'MYSQL_PWD',
      'SSH_PASSPHRASE',
      'MY_CREDENTIALS',
    ],
    ...[
      'CLIENT_SECRET',
      'PRIVATE_KEY',
      'DATABASE_URL',
      'SENTRY_DSN',
      'npm_config__authToken',
      'npm_config__auth',
      'ACTIONS_ID_TOKEN_REQUEST_TOKEN',
    ],
    ...[
      'HTTP_PROXY',
      'http_proxy',
      'HTTPS_PROXY',
      'https_proxy',
      'ALL_PROXY',
      'all_proxy',
      'NO_PROXY',
      'no_proxy',
      'FTP_PROXY',
      'Https_Proxy',
    ],
    ...[
      'npm_config_proxy',
      'npm_config_https_proxy',
      'npm_config_noproxy',
      'YARN_HTTPS_PROXY',
      'CARGO_HTTP_PROXY',
      'PIP_PROXY',
      'wss_proxy',
    ],
    ...[
      'SSL_CERT_FILE',
      'SSL_CERT_DIR',
      'NODE_EXTRA_CA_CERTS',
      'REQUESTS_CA_BUNDLE',
      'CURL_CA_BUNDLE',
      'GIT_SSL_CAINFO',
      'AWS_CA_BUNDLE',
      'PIP_CERT',
    ],
    ...['__kz_was_TOKEN', '__kz_state'],
  ].map((name) => [name, 'x'] as const),
  ['PLAIN', 'ghp_16C7e42F292c6912E7710c838347Ae178B4a'],
  ['PLAIN', 'Bearer abcdefgh12345678'],
  ['PLAIN', 'eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJl'],
  ['PLAIN', '-----BEGIN OPENSSH PRIVATE KEY-----\nabc\n-----END OPENSSH PRIVATE KEY-----'],
  ['PLAIN', 'postgres://admin:hunter22@db:5432/app'],
  ['PLAIN', 'https://hooks.example.com/?token=abcdefgh1234'],
  ['PLAIN', RANDOM],
  ['BUILD_ID', 'ghp_16C7e42F292c6912E7710c838347Ae178B4a'],
  ['NEXT_PUBLIC_X', 'ghp_16C7e42F292c6912E7710c838347Ae178B4a'],
  ['MCP_CONFIG', '{"env":{"T":"ghp_16C7e42F292c6912E7710c838347Ae178B4a"}}'],
  ['CURL_FLAGS', '-sS -H "X-Key: ghp_16C7e42F292c6912E7710c838347Ae178B4a"'],
  ['GIT_CONFIG_VALUE_0', 'AUTHORIZATION: basic eC1hY2Nlc3MtdG9rZW46YWJj'],
  ['HEADERS', '{"Authorization": "Bearer abcdefgh12345678"}'],
];

describe('what stays behind', () => {
  it.each(DROPPED)('%s=%s', (name, value) => {
    expect(build({ [name]: value, B: 'b' })).toEqual({ variables: { B: 'b' }, removed: [name], replaced: [] });
  });

  it.each(DROPPED.filter(([name]) => !name.startsWith('__kz_')))('%s=%s is re-admitted by name', (name, value) => {
    expect(build({ [name]: value }, { keep: [name] }).variables).toEqual({ [name]: value });
  });

  it('is what providers name, too', () => {
    const parent = { MY_LOGIN: 'x', B: 'b' };
    expect(build(parent, { credentials: ['MY_LOGIN'] })).toMatchObject({ variables: { B: 'b' }, removed: ['MY_LOGIN'] });
    expect(build(parent, { credentials: ['MY_LOGIN'], keep: ['MY_LOGIN'] }).variables).toEqual(parent);
  });

  it('keeps a random value whose name explains it', () => {
    expect(build({ CACHE_ID: RANDOM, COMMIT: RANDOM, OTHER: RANDOM })).toMatchObject({ removed: ['OTHER'] });
  });
});

describe('a real value', () => {
  it.each([
    ['as it is', CANARY],
    ['inside another', `--flag=${CANARY}!`],
    ['encoded', Buffer.from(CANARY).toString('base64')],
  ])('is not inherited %s, not even when its name is kept', (_, value) => {
    expect(build({ PLAIN: value })).toMatchObject({ variables: {}, removed: ['PLAIN'] });
    expect(build({ PLAIN: value }, { keep: ['PLAIN'] })).toMatchObject({ variables: {}, removed: ['PLAIN'] });
    expect(build({ PLAIN: value }, { keep: ['PLAIN'], clean: true }).variables).toEqual({});
  });

  it('is replaced by the masked text under the name of its secret', () => {
    const plan = { masked: new Map([['A', 'kz_masked_a']]), declared: ['A', 'B'], keep: ['A', 'B'] };
    expect(build({ A: CANARY, B: 'of the environment' }, plan)).toEqual({
      variables: { A: 'kz_masked_a' },
      removed: ['B'],
      replaced: ['A'],
    });
    expect(build({}, plan)).toEqual({ variables: { A: 'kz_masked_a' }, removed: [], replaced: [] });
  });

  it('is given where the config exposes it', () => {
    const plan = { exposed: new Map([['A', new Secret(CANARY)]]), declared: ['A'] };
    expect(build({ A: 'old', COPY: CANARY }, plan)).toEqual({ variables: { A: CANARY }, removed: ['COPY'], replaced: ['A'] });
  });

  it('that is by chance part of what every program needs does not keep it from starting', () => {
    const parent = { PATH: '/usr/lib/postgresql/bin', HOME: '/var/lib/postgresql', USER: 'postgres', NOTE: 'postgres' };
    const { variables, removed } = build(parent, { holdsSecret: (text) => text.includes('postgres') });
    expect(Object.keys(variables)).toEqual(['PATH', 'HOME', 'USER']);
    expect(removed).toEqual(['NOTE']);
  });
});

it('lets the session win, over what is inherited, kept, clean or secret', () => {
  const session = new Map([
    ['HTTPS_PROXY', 'http://kz:c@127.0.0.1:1'],
    ['NODE_OPTIONS', '--max-old-space-size=1 --require "/p"'],
    ['NO_PROXY', ''],
  ]);
  const parent = { HTTPS_PROXY: 'http://corp', NODE_OPTIONS: '--max-old-space-size=1', https_proxy: 'http://corp', NO_PROXY: '*' };
  const expected = Object.fromEntries(session);
  expect(build(parent, { session })).toEqual({ variables: expected, removed: ['https_proxy'], replaced: [] });
  expect(build(parent, { session, clean: true }).variables).toEqual(expected);
  expect(build(parent, { session, keep: Object.keys(parent) }).variables).toEqual({ ...expected, https_proxy: 'http://corp' });
  expect(build(parent, { session, masked: new Map([['HTTPS_PROXY', 'kz_masked_x']]) }).variables).toEqual(expected);
});

describe('what the session’s own variables start with', () => {
  const plan = { declared: [], clean: false, keep: [], holdsSecret: (text: string) => text.includes(CANARY) };

  it.each(['NODE_OPTIONS', 'JAVA_TOOL_OPTIONS'])('is what %s held, unless there is a credential in it', (name) => {
    expect(mayBeAddedTo({ [name]: '-Xmx1g', PATH: '/bin' }, plan)).toMatchObject({ [name]: '-Xmx1g', PATH: '/bin' });
    for (const text of [`-Xmx1g -Dapp.token=${CANARY}`, `--title=ghp_${randomBytes(18).toString('hex')}`]) {
      expect(mayBeAddedTo({ [name]: text, PATH: '/bin' }, plan)).toEqual({ PATH: '/bin' });
    }
    expect(mayBeAddedTo({ [name]: '-Xmx1g' }, { ...plan, clean: true })[name]).toBeUndefined();
    expect(mayBeAddedTo({ [name]: '-Xmx1g' }, { ...plan, clean: true, keep: [name] })[name]).toBe('-Xmx1g');
  });
});

it('keeps the essential list, and what is named, when it is clean', () => {
  const essential = { PATH: '1', HOME: '2', USER: '3', LOGNAME: '4', SHELL: '5', TERM: '6', LANG: '7', LC_ALL: '8', TMPDIR: '9', TZ: '10' };
  const parent = { ...essential, EDITOR: 'vi', KEEP: 'k', GITHUB_TOKEN: 'x' };
  const { variables, removed } = build(parent, { clean: true, keep: ['KEEP', 'NOT_THERE'] });
  expect(variables).toEqual({ ...essential, KEEP: 'k' });
  expect(removed).toEqual(['EDITOR', 'GITHUB_TOKEN']);
});

it('refuses a text that execve would refuse, by name', () => {
  expect(() => build({}, { masked: new Map([['BIG', 'x'.repeat(131_072)]]) })).toThrow('BIG is too long');
  expect(() => build({}, { exposed: new Map([['BIG', new Secret('x'.repeat(131_072))]]) })).toThrow('BIG is too long');
});

it('judges long values in no time', () => {
  const start = performance.now();
  build({
    A: 'a '.repeat(60_000),
    B: 'a='.repeat(60_000),
    C: 'authorization:'.repeat(9000),
    D: 'x_'.repeat(60_000),
    ['P_'.repeat(5000)]: 'x',
  });
  expect(performance.now() - start).toBeLessThan(2000);
});

it('leaves out the count of git’s settings when one of them had to stay behind', () => {
  const settings = { GIT_CONFIG_COUNT: '1', GIT_CONFIG_KEY_0: 'http.extraheader' };
  const plan = { masked: new Map(), declared: [], session: new Map(), clean: false, keep: [], holdsSecret: () => false };
  const plain = { ...settings, GIT_CONFIG_VALUE_0: 'X-Trace: 1' };
  expect(blindEnvironment(plain, plan).variables).toEqual(plain);
  const login = { ...settings, GIT_CONFIG_VALUE_0: 'Authorization: Basic Q0FOQVJZOkNBTkFSWS1DQU5BUlk=' };
  expect(blindEnvironment(login, plan)).toMatchObject({
    variables: { GIT_CONFIG_KEY_0: 'http.extraheader' },
    removed: ['GIT_CONFIG_VALUE_0'],
  });
  expect(blindEnvironment(login, plan).variables).not.toHaveProperty('GIT_CONFIG_COUNT');
});
