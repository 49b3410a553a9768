// The server that hands out an issuer's keys: how it is asked, whom kz believes, and where the bearer token goes.
import { randomBytes } from 'node:crypto';
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { KeyServer } from '../../../src/server/identity/key-server.ts';
import { Verifier } from '../../../src/server/identity/verify.ts';
import { SigningKey, TestIssuer, type IssuerOptions, type Trouble } from './issuer.ts';

const signal = new AbortController().signal;
const started: TestIssuer[] = [];

afterEach(async () => {
  for (const issuer of started.splice(0)) await issuer.close();
});

async function start(options: IssuerOptions = {}): Promise<TestIssuer> {
  const issuer = await TestIssuer.start({ keys: [new SigningKey('ES256')], ...options });
  started.push(issuer);
  return issuer;
}

function bearerFile(issuer: TestIssuer, bearer: string): string {
  const file = join(issuer.folder, 'token');
  writeFileSync(file, `${bearer}\n`);
  return file;
}

const canary = (): string => `CANARY-${randomBytes(8).toString('hex')}`;

async function expectKid(server: KeyServer, issuer: TestIssuer): Promise<void> {
  expect((await server.keys(signal)).keys.map(({ kid }) => kid)).toEqual([issuer.key.kid]);
}

async function expectFailure(server: KeyServer, message: RegExp, code = 'provider-failed'): Promise<void> {
  await expect(server.keys(signal)).rejects.toMatchObject({ code, message: expect.stringMatching(message) as string });
}

describe('TLS', () => {
  it('is verified with authorities of its own', async () => {
    const issuer = await start({ tls: true });
    await expectKid(new KeyServer(issuer.entry()), issuer);
  });

  it('is verified whatever NODE_TLS_REJECT_UNAUTHORIZED says', async () => {
    const issuer = await start({ tls: true });
    const server = new KeyServer({ issuerUrl: issuer.url, jwksUrl: issuer.jwksUrl });
    process.env.NODE_TLS_REJECT_UNAUTHORIZED = '0';
    try {
      await expectFailure(
        server,
        /^cannot reach https:\/\/localhost:\d+\/jwks \((?:UNABLE_TO|SELF_SIGNED|DEPTH_ZERO)/,
        'provider-unavailable',
      );
    } finally {
      delete process.env.NODE_TLS_REJECT_UNAUTHORIZED;
    }
    expect(issuer.requests).toEqual([]);
  });

  it('is not spoken by a server of plain http', async () => {
    const issuer = await start();
    const server = new KeyServer({ issuerUrl: issuer.url, jwksUrl: issuer.jwksUrl.replace('http', 'https') });
    await expectFailure(server, /^cannot reach https/, 'provider-unavailable');
  });

  it('needs an authority file that is there', async () => {
    const issuer = await start({ tls: true });
    rmSync(issuer.caFile);
    await expectFailure(new KeyServer(issuer.entry()), /^cannot read file ".*ca\.pem": ENOENT$/, 'provider-unavailable');
  });
});

describe('a bearer token', () => {
  it('is read anew each time', async () => {
    const bearer = canary();
    const issuer = await start({ bearer });
    const server = new KeyServer({ ...issuer.entry(), tokenFile: bearerFile(issuer, canary()) });
    await expectFailure(server, /\/jwks answered 401$/);
    bearerFile(issuer, bearer);
    await expectKid(server, issuer);
  });

  it('is needed when a file for it is named', async () => {
    const issuer = await start();
    const tokenFile = bearerFile(issuer, 'two words');
    await expectFailure(new KeyServer({ ...issuer.entry(), tokenFile }), /holds no bearer token$/);
    rmSync(tokenFile);
    await expectFailure(new KeyServer({ ...issuer.entry(), tokenFile }), /cannot read file ".*token": ENOENT$/, 'provider-unavailable');
    expect(issuer.requests).toEqual([]);
  });

  it('is given to discovery and to the keys', async () => {
    const bearer = canary();
    const issuer = await start({ tls: true, bearer });
    await expectKid(new KeyServer({ ...issuer.entry({ keysFrom: 'discovery' }), tokenFile: bearerFile(issuer, bearer) }), issuer);
  });

  it('is not given to another server that discovery names', async () => {
    const bearer = canary();
    const elsewhere = await start({ bearer });
    const issuer = await start({ bearer });
    issuer.discovery = { jwks_uri: elsewhere.jwksUrl };
    const server = new KeyServer({ ...issuer.entry({ keysFrom: 'discovery' }), tokenFile: bearerFile(issuer, bearer) });
    await expectFailure(server, /answered 401$/);
    expect(elsewhere.fetches).toBe(1);
  });
});

describe('OIDC discovery', () => {
  it('leads to the keys that verify a token', async () => {
    const issuer = await start();
    const verifier = await Verifier.open([issuer.entry({ keysFrom: 'discovery' })], { env: {} });
    expect((await verifier.verify(issuer.token(), signal)).sub).toBe('lab-subject');
    expect(issuer.requests).toEqual(['/.well-known/openid-configuration', '/jwks']);
  });

  const wrong: readonly [string, Record<string, unknown>, RegExp][] = [
    ['of another issuer', { issuer: 'https://evil.example' }, /is the discovery document of another issuer$/],
    ['with one slash more', { issuer: 'https://lab/' }, /another issuer$/],
    ['without an issuer', { issuer: undefined }, /another issuer$/],
    ['to keys over http', { jwks_uri: 'http://keys.example/jwks' }, /names no https URL as its jwks_uri$/],
    ['to a file', { jwks_uri: 'file:///etc/passwd' }, /names no https URL/],
    ['to a user and a password', { jwks_uri: 'https://u:p@127.0.0.1/' }, /names no https URL/],
    ['without keys', { jwks_uri: undefined }, /names no https URL/],
  ];

  it.each(wrong)('%s is not followed', async (_name, discovery, message) => {
    const issuer = await start();
    issuer.discovery = discovery;
    await expectFailure(new KeyServer(issuer.entry({ keysFrom: 'discovery' })), message);
    expect(issuer.fetches).toBe(0);
  });

  it.each<[Trouble, RegExp]>([
    ['garbage', /openid-configuration is no JSON$/],
    ['huge', /is longer than 1 MiB$/],
    ['redirect', /openid-configuration redirects/],
    [404, /openid-configuration answered 404$/],
  ])('%s', async (trouble, message) => {
    const issuer = await start();
    issuer.discoveryTrouble = trouble;
    await expectFailure(new KeyServer(issuer.entry({ keysFrom: 'discovery' })), message);
    expect(issuer.requests).toEqual(['/.well-known/openid-configuration']);
  });
});

it('is given up when the signal aborts', async () => {
  const issuer = await start();
  issuer.trouble = 'slow';
  await expect(new KeyServer(issuer.entry()).keys(AbortSignal.timeout(30))).rejects.toMatchObject({ code: 'provider-timeout' });
});
