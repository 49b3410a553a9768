// Tokens of callers and keys of issuers: every forgery that has a name, and issuers that are down, slow, huge, or change their keys.
import { createHmac } from 'node:crypto';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { SigningKey, TestIssuer, type Claims, type Trouble } from '../server/identity/issuer.ts';
import { waitFor } from './processes.ts';
import type { Json } from './server-parts.ts';
import { Scene, type Served } from './server-scene.ts';

let scene: Scene;

const url = (path: string): string => `https://api.example${path}`;

/** What the upstream got last. */
const received = () => scene.upstream.received.at(-1);

describe('refuses a token', () => {
  let served: Served;
  let rsa: SigningKey;

  beforeAll(async () => {
    scene = await Scene.start();
    rsa = new SigningKey('RS256');
    scene.issuer.keys = [rsa, ...scene.issuer.keys];
    served = await scene.serve(['--rate', 'off']);
  });

  afterAll(async () => {
    await scene.end();
  });

  const sign = (header: Claims, key: string): string => {
    const claims = scene.issuer.claims({ org: 'acme' });
    const signed = [header, claims].map((part) => Buffer.from(JSON.stringify(part)).toString('base64url')).join('.');
    return `${signed}.${createHmac('sha256', key).update(signed).digest('base64url')}`;
  };
  const now = (): number => scene.issuer.seconds();

  it.each<[string, () => string, string?]>([
    ['that is not signed (alg none)', () => sign({ alg: 'none' }, 'x').replace(/[^.]*$/, '')],
    ['alg none with a signature', () => sign({ alg: 'none' }, 'x')],
    ['alg nOnE', () => sign({ alg: 'nOnE' }, 'x')],
    ['signed with the public key as a secret', () => sign({ alg: 'HS256', kid: rsa.kid }, rsa.pem)],
    ['signed with the public key as a secret, trimmed', () => sign({ alg: 'HS256', kid: rsa.kid }, rsa.pem.trim())],
    ['signed with the JWK as a secret', () => sign({ alg: 'HS256', kid: rsa.kid }, JSON.stringify(rsa.jwk))],
    ['of one algorithm that says another', () => scene.token({}, { alg: 'RS256', kid: rsa.kid })],
    ['PS256 with a key for RS256', () => scene.token({}, { alg: 'PS256', kid: rsa.kid })],
    [
      'with the key of somebody else',
      () => new SigningKey('ES256', { kid: scene.issuer.key.kid }).sign(scene.issuer.claims({ org: 'acme' })),
    ],
    ['with a key that it brings', () => scene.token({}, { jwk: new SigningKey('ES256').jwk })],
    ['with a key that is elsewhere', () => scene.token({}, { jku: 'https://api.example/jwks' })],
    ['that wants more', () => scene.token({}, { crit: ['exp'] })],
    ['for somebody else', () => scene.token({ aud: 'other' })],
    ['for nobody', () => scene.token({ aud: undefined })],
    ['of nobody', () => scene.token({ iss: undefined })],
    ['of an unknown issuer', () => scene.token({ iss: 'https://evil.example' }), 'issuer-unknown'],
    ['of almost the issuer', () => scene.token({ iss: `${scene.issuer.url}/` }), 'issuer-unknown'],
    ['of yesterday', () => scene.token({ exp: now() - 86_400 }), 'jwt-expired'],
    ['of a minute ago', () => scene.token({ exp: now() - 60 }), 'jwt-expired'],
    ['without an end', () => scene.token({ exp: undefined })],
    ['with an end in words', () => scene.token({ exp: '2999-01-01' })],
    ['of tomorrow', () => scene.token({ nbf: now() + 86_400 })],
    ['issued tomorrow', () => scene.token({ iat: now() + 86_400 })],
    ['about nobody', () => scene.token({ sub: undefined })],
    ['with an unknown kid', () => scene.token({}, { kid: 'nope' })],
    ['with a kid that is a path', () => scene.token({}, { kid: '../../dev/null' })],
    ['with a kid that is a number', () => scene.token({}, { kid: 1 })],
    ['of another kind', () => scene.token({}, { typ: 'logout+jwt' })],
    ['of more than 8 KB', () => scene.token({ more: 'x'.repeat(8192) })],
    ['whose signature was cut', () => scene.token().slice(0, -2)],
    ['whose claims were changed', () => changed(scene.token({ org: 'other' }))],
    ['that is none', () => 'abc'],
    ['of five parts', () => 'a.b.c.d.e'],
  ])('%s', async (_, make, code = 'jwt-invalid') => {
    const jwt = make();
    const before = served.decisions.length;
    const answers = [await served.resolve('github/raw', { jwt }), await served.fetch({ url: url('/stolen') }, { jwt })];
    for (const { status, json, text, headers } of answers) {
      expect(status, text).toBe(401);
      expect(json.code).toBe(code);
      expect(headers['www-authenticate']).toBe('Bearer realm="kz", error="invalid_token"');
      expect(text).not.toContain(jwt);
    }
    expect(received()?.path).not.toBe('/stolen');
    // What came before may have been written late, so it is counted from the end.
    await waitFor('its lines', () => served.decisions.length >= before + 2 && served.decisions.at(-1)?.code === code);
    expect(served.decisions.at(-1)).toMatchObject({ outcome: 'denied', code, sub: null, jti: null, tool: null });
  });

  it('with an array of audiences that has ours, it takes', async () => {
    expect((await served.resolve('github/pat', { jwt: scene.token({ aud: ['other', 'kz'] }) })).status).toBe(200);
    expect((await served.resolve('github/pat', { jwt: scene.guardToken(rsa.sign(scene.issuer.claims({ org: 'acme' }))) })).status).toBe(
      200,
    );
  });

  it('with the same claim twice', async () => {
    const { alg, kid } = scene.issuer.key;
    const claims = JSON.stringify(scene.issuer.claims({ org: 'other' })).replace('{', '{"org":"acme",');
    const jwt = scene.issuer.key.signParts(JSON.stringify({ alg, kid }), claims);
    expect((await served.resolve('github/pat', { jwt })).status).toBe(401);
  });

  it('that is not there, or in the wrong place', async () => {
    const jwt = scene.token();
    const body = { resource: 'github/raw' };
    const missing = await served.ask('/v1/resolve', { body });
    expect(missing).toMatchObject({ status: 401, json: { code: 'jwt-missing' } });
    expect(missing.headers['www-authenticate']).toBe('Bearer realm="kz"');
    expect((await served.ask(`/v1/resolve?access_token=${jwt}`, { body })).status).toBe(400);
    expect((await served.ask('/v1/resolve', { body: { ...body, jwt } })).status).toBe(401);
    expect((await served.ask('/v1/resolve', { body, headers: { authorization: `Basic ${jwt}` } })).status).toBe(401);
    expect((await served.ask('/v1/resolve', { body, headers: { cookie: `token=${jwt}` } })).status).toBe(401);
  });

  it('that comes twice', async () => {
    const jwt = scene.token();
    const head = [
      'POST /v1/resolve HTTP/1.1',
      'Host: localhost',
      `Authorization: Bearer ${jwt}`,
      'Authorization: Bearer x',
      'Connection: close',
    ];
    const body = '{"resource":"github/raw"}';
    const text = [...head, 'Content-Type: application/json', `Content-Length: ${String(body.length)}`, '', body].join('\r\n');
    expect(await served.raw(text)).toMatch(/^HTTP\/1\.1 400 /);
  });
});

/** With the claims of somebody else. */
function changed(jwt: string): string {
  const [header = '', payload = '', signature = ''] = jwt.split('.');
  const claims = JSON.parse(Buffer.from(payload, 'base64url').toString()) as Json;
  return [header, Buffer.from(JSON.stringify({ ...claims, org: 'acme' })).toString('base64url'), signature].join('.');
}

describe('keys', () => {
  beforeEach(async () => {
    scene = await Scene.start();
  });

  afterEach(async () => {
    await scene.end();
  });

  it('takes HS256 with a static key only, which a variable holds', async () => {
    const key = new SigningKey('HS256');
    scene.story.guard(key.secret);
    const issuer = scene.issuer.yaml({ map: { org: 'claims.org' }, static_keys: [{ kid: key.kid, alg: 'HS256', secret_env: 'SHARED' }] });
    scene.bundle({ issuers: [issuer] });
    const served = await scene.serve([], { env: { SHARED: key.secret } });
    const jwt = scene.guardToken(key.sign(scene.issuer.claims({ org: 'acme' })));
    expect((await served.resolve('github/pat', { jwt })).status).toBe(200);
    expect((await served.resolve('github/pat')).status).toBe(200);
    const other = scene.guardToken(new SigningKey('HS256', { kid: key.kid }).sign(scene.issuer.claims({ org: 'acme' })));
    expect((await served.resolve('github/pat', { jwt: other })).status).toBe(401);
  });

  it('lets nobody in while keys cannot be had, and says so', async () => {
    const troubles: Trouble[] = ['down', 'slow', 'huge', 'endless', 'many', 'garbage', 'redirect', 500];
    const issuers = await Promise.all(troubles.map(() => TestIssuer.start({ keys: [new SigningKey('ES256')] })));
    for (const [index, issuer] of issuers.entries()) issuer.trouble = troubles[index];
    scene.bundle({
      issuers: [scene.lab, ...issuers.map((issuer, index) => issuer.yaml({ name: `sick-${String(index)}`, map: { org: 'claims.org' } }))],
    });
    const served = await scene.serve();
    const ready = served.ask('/readyz');
    const answers = await Promise.all(
      issuers.map((issuer) => served.resolve('github/raw', { jwt: scene.guardToken(issuer.token({ org: 'acme' })) })),
    );
    for (const [index, { status, json, headers, text }] of answers.entries()) {
      expect(status, `${String(troubles[index])}: ${text}`).toBe(503);
      expect(json.code).toBe('keys-unavailable');
      expect(headers['retry-after']).toBe('5');
      expect(text).not.toContain('CANARY-garbage');
    }
    const { status, json } = await ready;
    // One issuer is well, and its callers are served.
    expect({ status, is: json.status }).toEqual({ status: 200, is: 'degraded' });
    expect(json.problems).toHaveLength(troubles.length);
    // The others are served.
    expect((await served.resolve('github/pat')).status).toBe(200);
    expect((await served.ask('/healthz')).status).toBe(200);
    await Promise.all(issuers.map((issuer) => issuer.close()));
  });

  it('finds a new key when the issuer has one, and forgets the old one', async () => {
    const served = await scene.serve();
    const old = scene.token();
    expect((await served.resolve('github/pat', { jwt: old })).status).toBe(200);
    scene.issuer.rotate();
    expect((await served.resolve('github/pat', { jwt: scene.token() })).status).toBe(200);
    const before = scene.issuer.fetches;
    const stranger = (): string => scene.guardToken(new SigningKey('ES256').sign(scene.issuer.claims({ org: 'acme' })));
    const answers = await Promise.all(Array.from({ length: 20 }, () => served.resolve('github/pat', { jwt: stranger() })));
    expect(answers.map(({ status }) => status)).toEqual(Array(20).fill(401));
    // Who makes kids up does not make kz hammer the issuer.
    expect(scene.issuer.fetches - before).toBeLessThanOrEqual(1);
  });

  it('serves with the keys that it has when the issuer is gone', async () => {
    const served = await scene.serve();
    expect((await served.resolve('github/pat')).status).toBe(200);
    scene.issuer.trouble = 'down';
    expect((await served.resolve('github/pat')).status).toBe(200);
  });

  it('finds keys through discovery', async () => {
    scene.bundle({ issuers: [scene.issuer.yaml({ jwks_url: undefined, map: { org: 'claims.org' } })] });
    const served = await scene.serve();
    expect((await served.resolve('github/pat')).status).toBe(200);
    expect(scene.issuer.requests).toEqual(['/.well-known/openid-configuration', '/jwks']);
  });
});
