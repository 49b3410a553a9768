import { randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { StaticKey } from '../../../src/config/bundle.ts';
import { KzError } from '../../../src/core/errors.ts';
import { Verifier } from '../../../src/server/identity/verify.ts';
import { SigningKey, TestIssuer, type EntryOptions, type SigningAlg } from './issuer.ts';

const START = Date.parse('2026-06-01T12:00:00Z');
const GITHUB_URL = 'https://token.actions.githubusercontent.com';
const signal = new AbortController().signal;

let nowMs = START;
const now = (): number => nowMs;
let issuer: TestIssuer;
let github: TestIssuer;
let verifier: Verifier;

beforeAll(async () => {
  issuer = await TestIssuer.start({ now });
  github = await TestIssuer.start({ now, issuerUrl: GITHUB_URL });
  verifier = await open({});
});

afterAll(async () => {
  await Promise.all([issuer.close(), github.close()]);
});

beforeEach(() => {
  nowMs = START;
});

function open(options: EntryOptions, env = {}): Promise<Verifier> {
  return Verifier.open([issuer.entry(options)], { env, now });
}

describe('a good token', () => {
  it('of GitHub Actions says who calls', async () => {
    const own = await Verifier.open([github.entry({ name: 'github', type: 'github-actions' })], { env: {}, now });
    const caller = await own.verify(github.githubToken({ jti: 'job-1' }), signal);
    expect(caller).toMatchObject({
      issuer: 'github',
      iss: GITHUB_URL,
      sub: 'repo:acme/api:ref:refs/heads/main',
      id: 'job-1',
      expiresAt: START + 300_000,
    });
    expect(caller.identity).toMatchObject({
      org: 'acme',
      service: 'acme/api',
      env: 'production',
      branch: 'refs/heads/main',
      actor: 'octocat',
    });
    expect(caller.claims.run_id).toBe('6543210987');
  });

  it('of a Kubernetes service account says who calls', async () => {
    const own = await open({ name: 'cluster', type: 'kubernetes' });
    const caller = await own.verify(issuer.kubernetesToken({ jti: undefined }), signal);
    expect(caller).toMatchObject({ issuer: 'cluster', sub: 'system:serviceaccount:payments:api' });
    expect(caller.identity).toMatchObject({ org: 'payments', service: 'api' });
    expect(caller.id).toMatch(/^sha256:[0-9a-f]{16}$/);
  });

  it('holds nothing of the token itself', async () => {
    const token = issuer.token();
    const text = JSON.stringify(await verifier.verify(token, signal));
    for (const part of token.split('.')) expect(text).not.toContain(part);
  });

  it.each<SigningAlg>(['RS256', 'RS512', 'PS256', 'PS384', 'ES256', 'ES384', 'ES512', 'EdDSA'])('is verified with %s', async (alg) => {
    const key = new SigningKey(alg);
    issuer.jwks = { keys: [issuer.key.jwk, key.jwk] };
    const own = await open({});
    expect((await own.verify(key.sign(issuer.claims()), signal)).sub).toBe('lab-subject');
    issuer.jwks = undefined;
  });

  it.each<SigningAlg>(['HS256', 'HS384', 'HS512'])('is verified with %s and a static key', async (alg) => {
    const key = new SigningKey(alg);
    const own = await open({ keysFrom: 'static', staticKeys: [key.static()] });
    expect((await own.verify(key.sign(issuer.claims()), signal)).sub).toBe('lab-subject');
  });

  it('may name no key when one fits', async () => {
    expect((await verifier.verify(issuer.token({}, { kid: undefined }), signal)).sub).toBe('lab-subject');
  });

  it.each(['JWT', 'at+jwt', 'application/at+jwt', 'jwt', undefined])('may be of the type %s', async (typ) => {
    expect((await verifier.verify(issuer.token({}, { typ }), signal)).sub).toBe('lab-subject');
  });

  it('is for one of several audiences', async () => {
    const own = await open({ audience: ['kz', 'kz-staging'] });
    expect((await own.verify(issuer.token({ aud: ['other', 'kz-staging'] }), signal)).sub).toBe('lab-subject');
  });

  it('is for any audience where the bundle says so', async () => {
    const own = await open({ audience: [] });
    expect((await own.verify(issuer.token({ aud: 'whatever' }), signal)).sub).toBe('lab-subject');
  });

  it('is of one of two issuers with the same key set, which is fetched once', async () => {
    const second = issuer.entry({ name: 'second', issuerUrl: 'https://second.example' });
    const own = await Verifier.open([issuer.entry({ name: 'first' }), second], { env: {}, now });
    const fetches = issuer.fetches;
    expect((await own.verify(issuer.token({ iss: second.issuerUrl }), signal)).issuer).toBe('second');
    expect((await own.verify(issuer.token(), signal)).issuer).toBe('first');
    expect(issuer.fetches - fetches).toBe(1);
  });

  it('is taken until 30 seconds after it expired', async () => {
    const token = issuer.token();
    nowMs = START + 329_000;
    expect((await verifier.verify(token, signal)).expiresAt).toBe(START + 300_000);
  });

  it('is verified once in a while, and never after it expired', async () => {
    const token = issuer.token({ exp: issuer.seconds() + 10 });
    const first = await verifier.verify(token, signal);
    expect(await verifier.verify(token, signal)).toBe(first);
    nowMs += 20_000;
    expect(await verifier.verify(token, signal)).not.toBe(first);
    nowMs += 20_000;
    await expect(verifier.verify(token, signal)).rejects.toMatchObject({ code: 'jwt-expired' });
  });

  it('is verified anew after a minute', async () => {
    const token = issuer.token();
    const first = await verifier.verify(token, signal);
    nowMs += 59_000;
    expect(await verifier.verify(token, signal)).toBe(first);
    nowMs += 1000;
    expect(await verifier.verify(token, signal)).not.toBe(first);
  });
});

describe('a token is refused', () => {
  const cases: readonly [string, Record<string, unknown>, string, RegExp][] = [
    ['that expired', { exp: START / 1000 - 300 }, 'jwt-expired', /^the token expired 5 minutes ago$/],
    ['for another audience', { aud: 'other' }, 'jwt-invalid', /^the token is for the audience "other", not "kz"$/],
    ['for several other audiences', { aud: ['a', 'b'] }, 'jwt-invalid', /audience "a", "b", not "kz"$/],
    ['for an audience that cannot be shown', { aud: 'x'.repeat(101) }, 'jwt-invalid', /audience \(not printable\), not "kz"$/],
    ['for no audience', { aud: undefined }, 'jwt-invalid', /^the token has no `aud`, which kz needs$/],
    ['for an empty list of audiences', { aud: [] }, 'jwt-invalid', /audience of nobody, not "kz"$/],
    ['without an end', { exp: undefined }, 'jwt-invalid', /has no `exp`/],
    ['with an end that is text', { exp: '9999999999' }, 'jwt-invalid', /`exp` in another form than a time/],
    ['with an end beyond all time', { exp: 1e300 }, 'jwt-invalid', /`exp` that is no time/],
    ['without a subject', { sub: undefined }, 'jwt-invalid', /has no `sub`/],
    ['with an empty subject', { sub: '' }, 'jwt-invalid', /`sub` that is empty or no text/],
    ['with a subject that is no text', { sub: { a: 1 } }, 'jwt-invalid', /`sub` that is empty or no text/],
    ['not valid yet', { nbf: START / 1000 + 120 }, 'jwt-invalid', /^the token is valid from 2 minutes in the future$/],
    ['issued in the future', { iat: START / 1000 + 120 }, 'jwt-invalid', /^the token was issued 2 minutes in the future$/],
    ['with an issue time that is text', { iat: 'now' }, 'jwt-invalid', /`iat`/],
    ['of an unknown issuer', { iss: 'https://evil.example' }, 'issuer-unknown', /of the issuer "https:\/\/evil\.example", which/],
    ['without an issuer', { iss: undefined }, 'jwt-invalid', /has no issuer/],
    ['with a list of issuers', { iss: ['a'] }, 'jwt-invalid', /has no issuer/],
  ];

  it.each(cases)('%s', async (_name, claims, code, message) => {
    await expect(verifier.verify(issuer.token(claims), signal)).rejects.toMatchObject({
      code,
      message: expect.stringMatching(message) as string,
    });
  });

  it.each([undefined, ''])('when there is none: %j', async (jwt) => {
    await expect(verifier.verify(jwt, signal)).rejects.toMatchObject({ code: 'jwt-missing', status: 401 });
  });

  it('whose issuer has one slash more', async () => {
    const hint = expect.stringContaining('with or without the / at the end') as string;
    await expect(verifier.verify(issuer.token({ iss: `${issuer.url}/` }), signal)).rejects.toMatchObject({ code: 'issuer-unknown', hint });
  });

  it('older than max_age', async () => {
    const own = await open({ maxAgeMs: 3_600_000 });
    const token = issuer.token({ iat: issuer.seconds() - 7200 });
    const message = 'the token was issued 2 hours ago; issuer "lab" takes it for 1 hour';
    await expect(own.verify(token, signal)).rejects.toMatchObject({ code: 'jwt-expired', message });
    await expect(own.verify(issuer.token({ iat: undefined }), signal)).rejects.toMatchObject({
      message: 'the token has no `iat`, which kz needs',
    });
  });

  it('when max_age ends while it is remembered', async () => {
    const own = await open({ maxAgeMs: 3_600_000 });
    const token = issuer.token({ iat: issuer.seconds() - 3620 });
    await own.verify(token, signal);
    nowMs += 20_000;
    await expect(own.verify(token, signal)).rejects.toMatchObject({ code: 'jwt-expired' });
  });

  it('when the call was cancelled', async () => {
    const own = await open({});
    await expect(own.verify(issuer.token(), AbortSignal.abort())).rejects.toMatchObject({ code: 'cancelled' });
  });
});

describe('a verifier', () => {
  it('reads static keys from the bundle, a file and a variable', async () => {
    const keys = [new SigningKey('ES256'), new SigningKey('EdDSA'), new SigningKey('HS256'), new SigningKey('HS512')] as const;
    const [inline, inFile, inVariable, secretInFile] = keys;
    const file = join(issuer.folder, 'key.pem');
    const secretFile = join(issuer.folder, 'key.txt');
    writeFileSync(file, inFile.pem);
    writeFileSync(secretFile, `${secretInFile.secret}\n`);
    const at = { file: '/bundle.yaml' };
    const staticKeys = [
      inline.static(),
      { kid: inFile.kid, alg: 'EdDSA', pemFile: file, at },
      { kid: inVariable.kid, alg: 'HS256', secretEnv: 'JWT_KEY', at },
      { kid: secretInFile.kid, alg: 'HS512', pemFile: secretFile, at },
    ];
    const own = await open({ keysFrom: 'static', staticKeys }, { JWT_KEY: inVariable.secret });
    for (const key of keys) expect((await own.verify(key.sign(issuer.claims()), signal)).sub).toBe('lab-subject');
  });

  it('takes static keys beside those of a server', async () => {
    const key = new SigningKey('HS256');
    const own = await open({ staticKeys: [key.static()] });
    expect((await own.verify(key.sign(issuer.claims()), signal)).sub).toBe('lab-subject');
    expect((await own.verify(issuer.token(), signal)).sub).toBe('lab-subject');
  });

  const canary = `CANARY-${randomBytes(4).toString('hex')}`;
  const refused: readonly [string, () => EntryOptions, RegExp][] = [
    ['RSA keys with 1024 bits', () => staticKey(new SigningKey('RS256', { size: 1024 }).static()), /too weak: RSA keys have 2048 bits/],
    ['short key material', () => staticKey({ alg: 'HS256', pem: canary }), /has 15 bytes of key material; HS256 needs at least 32/],
    ['HS512 key material of 32 bytes', () => staticKey({ alg: 'HS512', pem: new SigningKey('HS256').secret }), /HS512 needs at least 64/],
    ['a public key as a secret', () => staticKey({ alg: 'HS256', pem: issuer.key.pem }), /is a PEM key, which is no secret/],
    ['a secret as a public key', () => staticKey({ alg: 'RS256', pem: canary }), /is no PEM public key/],
    ['a key of another kind', () => staticKey({ alg: 'RS256', pem: new SigningKey('ES256').pem }), /is for ES256, not for "RS256"/],
    ['a curve of another algorithm', () => staticKey({ alg: 'ES256', pem: new SigningKey('ES384').pem }), /is for ES384, not for "ES256"/],
    ['the algorithm none', () => staticKey({ alg: 'none', pem: issuer.key.pem }), /not for "none"/],
    ['a private key', () => staticKey({ alg: 'RS256', pem: '-----BEGIN PRIVATE KEY-----\nAA\n-----END PRIVATE KEY-----' }), /private key/],
    [
      'a variable that is not set',
      () => staticKey({ alg: 'HS256', secretEnv: 'JWT_KEY' }),
      /needs the variable "JWT_KEY", which is not set/,
    ],
    [
      'a key file that is missing',
      () => staticKey({ alg: 'RS256', pemFile: '/nowhere/key.pem' }),
      /cannot be read from "\/nowhere\/key\.pem": ENOENT/,
    ],
    ['algorithms that no key is for', () => ({ algorithms: ['HS256'] }), /leaves none that its keys are for/],
    ['keys over http from elsewhere', () => ({ jwksUrl: 'http://keys.example/jwks' }), /no keys can be fetched from jwks_url/],
    ['a user in the address', () => ({ jwksUrl: 'https://u:p@keys.example/jwks' }), /no keys can be fetched from jwks_url/],
    [
      'discovery at what is no URL',
      () => ({ keysFrom: 'discovery', issuerUrl: 'accounts.example' }),
      /no keys can be fetched from issuer_url "accounts/,
    ],
    [
      'a key set file that is missing',
      () => ({ keysFrom: 'file', jwksFile: '/nowhere/jwks.json' }),
      /cannot read file "\/nowhere\/jwks\.json" \(ENOENT\)/,
    ],
  ];

  function staticKey(key: Omit<StaticKey, 'at'>): EntryOptions {
    return { keysFrom: 'static', staticKeys: [{ at: { file: '/bundle.yaml', line: 9, column: 7 }, ...key }] };
  }

  it.each(refused)('is not opened with %s', async (_name, options, message) => {
    const error = await open(options()).catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(KzError);
    expect(error).toMatchObject({
      code: 'config-invalid',
      message: expect.stringMatching(message) as string,
      at: { file: '/bundle.yaml' },
    });
    expect(`${String(error)} ${String((error as KzError).hint)}`).not.toContain(canary);
  });

  it('is not opened, and says all that is wrong', async () => {
    const weak = new SigningKey('HS256', { size: 8 });
    const entries = [
      issuer.entry({ name: 'a', keysFrom: 'static', staticKeys: [weak.static(), weak.static({ kid: 'b' })] }),
      issuer.entry({ name: 'c', algorithms: ['none'] }),
    ];
    const error = await Verifier.open(entries, { env: {} }).catch((thrown: unknown) => thrown as KzError);
    expect((error as KzError).problems.map(({ at }) => at?.line)).toEqual([9, 9, 3]);
  });
});
