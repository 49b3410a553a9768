// The provider keyzero and the server that it is for, as two programs.
import { generateKeyPairSync, sign } from 'node:crypto';
import type { ChildProcess } from 'node:child_process';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { Story } from './kz.ts';

let story: Story;
let value: string;
let address: string;
let server: ChildProcess;
const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });

beforeEach(async () => {
  story = new Story();
  value = story.canary();
  story.write('served/secrets.env', `ONE=${value}\n`, 0o600);
  story.write('served/bundle.yaml', bundle());
  server = story.start(['server', 'start', '--bundle', 'served/bundle.yaml', '--listen', '127.0.0.1:0', '--audit', 'none']);
  address = await addressOf(server);
});

afterEach(async () => {
  const gone = new Promise((resolve) => server.once('close', resolve));
  server.kill('SIGTERM');
  await gone;
  story.end(['served/secrets.env']);
});

function bundle(): string {
  const pem = publicKey.export({ type: 'spki', format: 'pem' }).toString();
  return `version: "1"
issuers:
  - name: ci
    issuer_url: https://ci.example
    type: github-actions
    audience: kz
    static_keys:
      - kid: a
        alg: ES256
        pem: ${JSON.stringify(pem)}
policies:
  - { name: no-prod, rule: "ref.matches('prod/**')", effect: deny }
  - { name: acme, rule: "org == 'acme'", effect: allow }
resources:
  - { ref: a/one, resolver: file, from: ONE, mode: direct }
  - { ref: a/masked, resolver: file, from: ONE, hosts: [api.github.com], methods: [GET] }
backends:
  file: { type: env_file, path: ./secrets.env }
`;
}

function jwt(claims: object = {}): string {
  const now = Math.floor(Date.now() / 1000);
  const all = { iss: 'https://ci.example', sub: 'repo:acme/x', aud: 'kz', iat: now, exp: now + 600, repository_owner: 'acme', ...claims };
  const signed = [{ alg: 'ES256', kid: 'a' }, all].map((part) => Buffer.from(JSON.stringify(part)).toString('base64url')).join('.');
  return `${signed}.${sign('sha256', Buffer.from(signed), { key: privateKey, dsaEncoding: 'ieee-p1363' }).toString('base64url')}`;
}

function addressOf({ stderr }: ChildProcess): Promise<string> {
  return new Promise((resolve, reject) => {
    let said = '';
    stderr?.on('data', (chunk: Buffer) => {
      said += chunk.toString();
      const found = /listening on (http:\/\/127\.0\.0\.1:\d+)/.exec(said)?.[1];
      if (found !== undefined) resolve(found);
    });
    stderr?.once('end', () => {
      reject(new Error(said));
    });
  });
}

const ONE = '[secrets]\nONE = { provider = "keyzero", ref = "a/one" }\n';

it('give a program the values that the policies allow its token', async () => {
  story.config(`${ONE}[providers.keyzero]\njwt_file = "token"\n`);
  story.write('token', story.guard(jwt()), 0o600);
  const env = { KEYZERO_URL: address };
  const { code, stdout, stderr } = await story.kz(['run', '--no-redact', '--', 'sh', '-c', 'printf %s "$ONE"'], { env, reveals: true });
  expect([code, stdout, stderr]).toEqual([0, value, '']);
  story.write('token', '');
});

it('say of each ref why there is no value, and what to do', async () => {
  const more = ['a/masked', 'a/none', 'prod/x'].map((ref, index) => `X${String(index)} = { provider = "keyzero", ref = "${ref}" }\n`);
  story.config(`${ONE}${more.join('')}[providers.keyzero]\nurl = "${address}"\n`);
  const { code, stderr } = await story.kz(['status'], { env: { KEYZERO_JWT: story.guard(jwt()) } });
  expect(code).toBe(1);
  const who = `kz server at ${address}`;
  expect(stderr.split('\n').filter((line) => line.startsWith('kz: error:'))).toEqual([
    `kz: error: X0: ${who} gives only a token for a/masked (mode masked), which works through its proxy alone`,
    'kz: error: X1 is missing (provider: keyzero, ref: a/none)',
    expect.stringContaining(`kz: error: X2: ${who} denies prod/x (denied`),
  ]);
});

it.each([
  ['for somebody else', { aud: 'vault' }, 'jwt-invalid'],
  ['of another issuer', { iss: 'https://evil.example' }, 'issuer-unknown'],
  ['that has ended', { exp: Math.floor(Date.now() / 1000) - 3600 }, 'jwt-expired'],
])('take no token %s', async (_what, claims, failure) => {
  story.config(`${ONE}[providers.keyzero]\nurl = "${address}"\n`);
  const { code, stderr } = await story.kz(['get', 'ONE'], { env: { KEYZERO_JWT: story.guard(jwt(claims)) } });
  expect(code).toBe(1);
  expect(stderr).toContain(`kz server at ${address} does not accept the token from KEYZERO_JWT (${failure})`);
});

it('tell kz doctor whose token it is, and when it ends', async () => {
  story.config(`${ONE}[providers.keyzero]\nurl = "${address}"\n`);
  const { stdout } = await story.kz(['doctor'], { env: { KEYZERO_JWT: story.guard(jwt()) } });
  expect(stdout).toMatch(/ok +keyzero .*token of https:\/\/ci\.example, 9 minutes left/);
});
