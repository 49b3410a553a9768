import { randomBytes } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { proposeFromDotenv, proposeFromMcp, type Proposals } from '../../src/config/propose.ts';

const canary = (): string => `CANARY-${randomBytes(20).toString('hex')}`;

const secretNames = (found: Proposals): string[] => found.secrets.map((secret) => secret.name);
const settingNames = (found: Proposals): string[] => found.settings.map((setting) => setting.name);

function expectNoValue(found: Proposals): void {
  expect(JSON.stringify(found)).not.toContain('CANARY');
}

describe('proposeFromDotenv', () => {
  it('sorts the variables of a web application', () => {
    const found = proposeFromDotenv(
      `# Application
NODE_ENV=production
PORT=3000
LOG_LEVEL=debug
APP_URL=https://app.example.com
NEXT_PUBLIC_API_KEY=${canary()}
DATABASE_URL="postgresql://app:${canary()}@db:5432/app?schema=public"
export REDIS_URL=redis://localhost:6379
JWT_SECRET='${canary()}'   # rotate me
JWT_EXPIRES_IN=15m
  STRIPE_SECRET_KEY = sk_test_${canary()}
STRIPE_PUBLISHABLE_KEY=pk_test_51Habc
GOOGLE_APPLICATION_CREDENTIALS=./service-account.json
SMTP_HOST=smtp.example.com
SMTP_PASS=
BASIC_AUTH=false
MAX_TOKENS=4096
`,
      '.env',
    );
    expect(secretNames(found)).toEqual(['DATABASE_URL', 'REDIS_URL', 'JWT_SECRET', 'STRIPE_SECRET_KEY', 'SMTP_PASS']);
    expect(settingNames(found)).toEqual([
      'NODE_ENV',
      'PORT',
      'LOG_LEVEL',
      'APP_URL',
      'NEXT_PUBLIC_API_KEY',
      'JWT_EXPIRES_IN',
      'STRIPE_PUBLISHABLE_KEY',
      'GOOGLE_APPLICATION_CREDENTIALS',
      'SMTP_HOST',
      'BASIC_AUTH',
      'MAX_TOKENS',
    ]);
    expect(found.servers).toEqual([]);
    expectNoValue(found);
  });

  it('finds by value what the name hides, and says what it looks like', () => {
    const text = [
      `GH=ghp_${randomBytes(18).toString('hex')}`,
      `BACKEND=https://user:${canary()}@api.example.com`,
      `SIGNER=${randomBytes(32).toString('hex')}`,
      `COMMIT_SHA=${randomBytes(20).toString('hex')}`,
      'PLAIN=${GH}',
    ].join('\n');
    expect(proposeFromDotenv(text, 'prod.env')).toEqual({
      secrets: [
        { name: 'GH', source: 'prod.env', reason: 'has a value that looks like a GitHub token' },
        { name: 'BACKEND', source: 'prod.env', reason: 'has a value that looks like a URL with a password' },
        { name: 'SIGNER', source: 'prod.env', reason: 'has a value that looks like a long random string' },
      ],
      settings: [{ name: 'COMMIT_SHA' }, { name: 'PLAIN' }],
      servers: [],
      notes: [],
    });
  });

  const body = `MIIEvQIBADANBgkqhkiG\nCANARYabcdefgh=\nCANARYx==\nCANARY_KEY=${'A'.repeat(4)}`;
  const key = `-----BEGIN PRIVATE KEY-----\n${body}\n-----END PRIVATE KEY-----`;

  it.each([
    ['double quotes', `A_KEY="${key}"\nLAST=1\n`],
    ['single quotes and a comment', `A_KEY='${key}' # "x"\nLAST=1`],
    ['backticks', `A_KEY=\`${key}\`\nLAST=1`],
    ['escaped quotes', `A_KEY="a \\" b\nCANARY_ONE=1 \\"\nCANARY_TWO=2"\nLAST=1`],
    ['no quotes', `A_KEY=${key}\nLAST=1`],
    ['a quote that is never closed', `A_KEY="${key}\nLAST=1`],
    ['text behind the quote', `A_KEY="${key}" oops\nLAST=1`],
    ['CRLF', `A_KEY="${key}"\nLAST=1\n`.replaceAll('\n', '\r\n')],
    ['a byte order mark', `\uFEFFA_KEY="${key}"\nLAST=1\n`],
    ['a short value in one quote', `A_KEY="it's\nLAST=1\n`],
    ['a quote in the next value', `A_KEY="x\nLAST="1"\n`],
  ])('makes no name of a value over many lines in %s', (_what, text) => {
    const found = proposeFromDotenv(text, '.env');
    expect([secretNames(found), settingNames(found)]).toEqual([['A_KEY'], ['LAST']]);
    expectNoValue(found);
  });

  it('shows nothing of a key without its end', () => {
    const found = proposeFromDotenv(`A_KEY=-----BEGIN PRIVATE KEY-----\n${body}\n`, '.env');
    expect([secretNames(found), settingNames(found)]).toEqual([['A_KEY'], []]);
    expectNoValue(found);
  });

  it('passes over what is no assignment', () => {
    const text = '#TOKEN=x\n  # SECRET=y\n\nexport\nexport PATH\njust words\n=x\n1TOKEN=x\nA B=x\n[section]\nTOKEN\n\u0000\nOK=1';
    const found = proposeFromDotenv(text, '.env');
    expect([secretNames(found), settingNames(found)]).toEqual([[], ['OK']]);
  });

  it('never proposes a name that cannot be a secret', () => {
    const found = proposeFromDotenv(`KEYZERO_PASSPHRASE=${canary()}\nNODE_OPTIONS=--x\nLD_TOKEN=x\nmy.token=x\napi-key=x\nTOKEN=x`, '.env');
    expect([secretNames(found), settingNames(found)]).toEqual([
      ['TOKEN'],
      ['KEYZERO_PASSPHRASE', 'NODE_OPTIONS', 'LD_TOKEN', 'my.token', 'api-key'],
    ]);
    expectNoValue(found);
  });

  it('names a repeated variable once', () => {
    const found = proposeFromDotenv(`X=1\nX=https://u:${canary()}@h\nTOKEN=a\nTOKEN=b\nY=1\nY=2`, '.env');
    expect([secretNames(found), settingNames(found), found.notes]).toEqual([['X', 'TOKEN'], ['Y'], []]);
  });

  it('has nothing to say about an empty file', () => {
    expect(proposeFromDotenv('', '.env')).toEqual({ secrets: [], settings: [], servers: [], notes: [] });
  });

  it('is quick on long input', () => {
    const started = performance.now();
    for (const unit of ['A="', "A='x\n", 'A=`', 'A="\\"', '-----BEGIN ', 'A=-----BEGIN \n', ' ', 'export ', 'a', '\\'])
      proposeFromDotenv(unit.repeat(5000), '.env');
    expect(performance.now() - started).toBeLessThan(5000);
  });
});

describe('proposeFromMcp', () => {
  it('reads the file of Claude and Cursor', () => {
    const text = JSON.stringify({
      mcpServers: {
        github: {
          command: 'npx',
          args: ['-y', '@modelcontextprotocol/server-github'],
          env: { GITHUB_PERSONAL_ACCESS_TOKEN: `ghp_${canary()}`, GITHUB_HOST: 'github.com', LOG_LEVEL: 'info' },
        },
        database: { type: 'stdio', command: 'node', args: ['./server.js', `postgresql://u:${canary()}@h/db`, '--port', 5432] },
        remote: { type: 'http', url: 'https://mcp.example.com', headers: { Authorization: `Bearer ${canary()}`, Accept: 'text/plain' } },
      },
    });
    const found = proposeFromMcp(text, '.mcp.json');
    expect(found).toEqual({
      secrets: [{ name: 'GITHUB_PERSONAL_ACCESS_TOKEN', source: '.mcp.json (github)', reason: 'is named like a secret' }],
      settings: [{ name: 'GITHUB_HOST' }, { name: 'LOG_LEVEL' }],
      servers: [
        {
          name: 'github',
          command: 'npx',
          args: ['-y', '@modelcontextprotocol/server-github'],
          hiddenArgs: [],
          secrets: ['GITHUB_PERSONAL_ACCESS_TOKEN'],
          settings: ['GITHUB_HOST', 'LOG_LEVEL'],
          references: [],
        },
        {
          name: 'database',
          command: 'node',
          args: ['./server.js', '[secret]', '--port', '5432'],
          hiddenArgs: [1],
          secrets: [],
          settings: [],
          references: [],
        },
      ],
      notes: ['server remote sends a secret in its header Authorization, which `kz run` cannot supply'],
    });
    expectNoValue(found);
  });

  it('reads the file of VS Code', () => {
    const text = JSON.stringify({
      inputs: [{ type: 'promptString', id: 'pat', description: 'token', password: true }],
      servers: {
        gh: {
          type: 'stdio',
          command: 'docker',
          args: ['run', '-i', '--rm', '-e', 'GITHUB_TOKEN', 'ghcr.io/github/github-mcp-server'],
          env: {
            GITHUB_TOKEN: '${input:pat}',
            API_KEY: `\${API_KEY:-${canary()}}`,
            HOST: '${env:HOST}',
            ROOT: '${workspaceFolder}/x',
            EMPTY: null,
          },
          envFile: '${workspaceFolder}/.env',
        },
      },
    });
    const found = proposeFromMcp(`\uFEFF${text}`, '.vscode/mcp.json');
    expect(secretNames(found)).toEqual(['GITHUB_TOKEN', 'API_KEY']);
    expect(found.servers).toEqual([
      {
        name: 'gh',
        command: 'docker',
        args: ['run', '-i', '--rm', '-e', 'GITHUB_TOKEN', 'ghcr.io/github/github-mcp-server'],
        hiddenArgs: [],
        secrets: ['GITHUB_TOKEN', 'API_KEY'],
        settings: ['HOST', 'ROOT', 'EMPTY'],
        references: [
          { name: 'GITHUB_TOKEN', to: 'input:pat' },
          { name: 'API_KEY', to: 'API_KEY' },
          { name: 'HOST', to: 'env:HOST' },
        ],
        envFile: '${workspaceFolder}/.env',
      },
    ]);
    expectNoValue(found);
  });

  it('reads the settings of VS Code, and files that have both', () => {
    const server = (name: string) => ({ command: 'x', env: { [name]: 'y' } });
    expect(secretNames(proposeFromMcp(JSON.stringify({ mcp: { servers: { a: server('A_TOKEN') } } }), 'settings.json'))).toEqual([
      'A_TOKEN',
    ]);
    const both = { servers: { a: server('A_TOKEN') }, mcpServers: { b: server('B_TOKEN') } };
    expect(secretNames(proposeFromMcp(JSON.stringify(both), 'x')).sort()).toEqual(['A_TOKEN', 'B_TOKEN']);
  });

  it('says when servers disagree about one name', () => {
    const server = (value: string) => ({ command: 'x', env: { API_KEY: value, PORT: value } });
    const text = JSON.stringify({ mcpServers: { a: server(canary()), b: server(canary()), c: server('${API_KEY}'), d: server('') } });
    const found = proposeFromMcp(text, 'm.json');
    expect(found.secrets).toEqual([{ name: 'API_KEY', source: 'm.json (a)', reason: 'is named like a secret' }]);
    expect(found.notes[0]).toBe('API_KEY differs between m.json (a) and m.json (b), and one entry holds one value');
    expectNoValue(found);
    const same = canary();
    expect(proposeFromMcp(JSON.stringify({ mcpServers: { a: server(same), b: server(same) } }), 'm.json').notes).toEqual([]);
  });

  it('leaves out servers that kz starts already', () => {
    const env = { TOKEN: 'x' };
    const found = proposeFromMcp(
      JSON.stringify({ mcpServers: { a: { command: 'kz', args: ['run'], env }, b: { command: '/usr/bin/kz', env } } }),
      'm.json',
    );
    expect([secretNames(found), found.servers]).toEqual([['TOKEN'], []]);
  });

  const value = canary();
  it.each<[args: unknown[], hidden: number[]]>([
    [['--token', value], [1]],
    [['--api-key', 'short'], [1]],
    [['--pass', 'short'], [1]],
    [[`--api-key=${value}`], [0]],
    [['--password=short'], [0]],
    [['-e', `GITHUB_TOKEN=${value}`, '-e', 'PORT=1'], [1]],
    [['--header', `Authorization: Bearer ${value}`], [1]],
    [['--header', `X-Api-Key:${value}`], [1]],
    [['-c', `FOO=1 API_TOKEN=${value} node server.js`], [1]],
    [
      [`{"apiKey":"${value}"}`, `{ "a": { "password" : "short" } }`],
      [0, 1],
    ],
    [[`https://mcp.example.com/s/${value.slice(7)}/sse`], [0]],
    [[`https://mcp.example.com/sse?api_key=${value}`], [0]],
    [
      [`sk-${value}`, value.slice(7)],
      [0, 1],
    ],
    [['--token', '${TOKEN}', '--header', 'Authorization: Bearer ${TOKEN}', '--key=$KEY'], []],
    [['--token', '--verbose'], []],
    [['--token-file', './t', '--port', 3000, true, null, { a: 1 }], []],
    [['-y', '@scope/server@1.2.3', './dist/index.js', '--url', 'https://mcp.example.com:8080/sse', '--author', 'me'], []],
  ])('hides among %j the arguments %j', (args, hidden) => {
    const found = proposeFromMcp(JSON.stringify({ mcpServers: { a: { command: 'x', args } } }), 'm.json');
    expect(found.servers[0]?.hiddenArgs).toEqual(hidden);
    expect(found.servers[0]?.args.map((arg, index) => (arg === '[secret]' ? index : -1)).filter((index) => index >= 0)).toEqual(hidden);
    expectNoValue(found);
    expect(JSON.stringify(found)).not.toContain(value.slice(7));
  });

  it.each([
    ['', 'm.json is not valid JSON (comments and trailing commas are not read)'],
    [
      `{ "mcpServers": { "a": { "env": { "TOKEN": ${canary()} } } } }`,
      'm.json is not valid JSON (comments and trailing commas are not read)',
    ],
    [`// hi\n{}`, 'm.json is not valid JSON (comments and trailing commas are not read)'],
    ['{}', 'm.json has no mcpServers and no servers'],
    ['null', 'm.json has no mcpServers and no servers'],
    ['[]', 'm.json has no mcpServers and no servers'],
    ['{"mcpServers": [1], "servers": "x", "mcp": 1}', 'm.json has no mcpServers and no servers'],
    ['{"mcpServers": {"a": 1}}', 'm.json has no mcpServers and no servers'],
  ])('has a problem with %j', (text, problem) => {
    const found = proposeFromMcp(text, 'm.json');
    expect(found).toEqual({ secrets: [], settings: [], servers: [], notes: [], problem });
  });

  it('passes over fields of the wrong type', () => {
    const text =
      '{"mcpServers": {"a": {"command": 1, "env": "x"}, "b": {"command": "x", "args": "y", "env": [1], "headers": 1, "envFile": 2}, "__proto__": {"env": {"TOKEN": 12345}}}}';
    const found = proposeFromMcp(text, 'm.json');
    expect(secretNames(found)).toEqual(['TOKEN']);
    expect(found.servers).toEqual([{ name: 'b', command: 'x', args: [], hiddenArgs: [], secrets: [], settings: [], references: [] }]);
  });
});
