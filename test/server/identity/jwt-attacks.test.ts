// What has been done to verifiers of JWTs, done to this one: RFC 8725, and the advisories of the libraries of the last ten years.
import { createHash, createPublicKey } from 'node:crypto';
import { inspect } from 'node:util';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { ServerFailure, type FailureCode } from '../../../src/server/failure.ts';
import { Verifier } from '../../../src/server/identity/verify.ts';
import { base64url, SigningKey, signWithSecret, TestIssuer } from './issuer.ts';

const signal = new AbortController().signal;

let issuer: TestIssuer;
let other: TestIssuer;
let verifier: Verifier;
const attacker = new SigningKey('RS256', { kid: 'main' });

beforeAll(async () => {
  issuer = await TestIssuer.start({ keys: [new SigningKey('ES256'), new SigningKey('RS256', { kid: 'main' })] });
  other = await TestIssuer.start({ keys: [new SigningKey('RS256', { kid: 'main' })] });
  verifier = await Verifier.open([issuer.entry(), other.entry({ name: 'other' })], { env: {} });
  expect((await verifier.verify(issuer.token(), signal)).issuer).toBe('lab');
});

afterAll(async () => {
  await Promise.all([issuer.close(), other.close()]);
});

/** Fails when something of the token is in what a caller or a log could get. */
async function refusal(token: string, by = verifier): Promise<ServerFailure> {
  const error = await by.verify(token, signal).then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  expect(error).toBeInstanceOf(ServerFailure);
  const text = inspect(error, { depth: 9, showHidden: true });
  for (const part of token.split('.').filter((each) => each.length > 8))
    expect(text.includes(part), 'a part of the token is in the error').toBe(false);
  return error as ServerFailure;
}

async function expectRefused(token: string, message: RegExp, code: FailureCode = 'jwt-invalid'): Promise<void> {
  const error = await refusal(token);
  expect({ code: error.code, message: error.message }).toEqual({ code, message: expect.stringMatching(message) as string });
}

const header = (fields: Record<string, unknown>): string => base64url(JSON.stringify({ alg: 'RS256', kid: 'main', typ: 'JWT', ...fields }));

it.each(['none', 'None', 'NONE', 'nOnE'])('alg %s, without and with a signature', async (alg) => {
  const [, payload = '', signature = ''] = issuer.token().split('.');
  await expectRefused(`${header({ alg })}.${payload}.`, /is not signed/);
  await expectRefused(`${header({ alg })}.${payload}.${signature}`, /is not signed/);
});

it('a good header and no signature', async () => {
  const [head = '', payload = ''] = issuer.token().split('.');
  await expectRefused(`${head}.${payload}.`, /is not signed/);
  await expectRefused(`${head}.${payload}`, /is no JWT/);
});

it('HS256 with the public key as the secret, in every form', async () => {
  const { key } = issuer;
  const spki = createPublicKey(key.pem).export({ type: 'spki', format: 'der' });
  const pkcs1 = createPublicKey(key.pem).export({ type: 'pkcs1', format: 'pem' });
  const secrets = [
    key.pem,
    key.pem.trimEnd(),
    spki,
    pkcs1,
    String(key.jwk.n),
    Buffer.from(String(key.jwk.n), 'base64url'),
    JSON.stringify(key.jwk),
    '',
  ];
  for (const alg of ['HS256', 'HS384', 'HS512']) {
    for (const secret of secrets) {
      await expectRefused(
        signWithSecret(secret, { alg, kid: 'main' }, issuer.claims()),
        /is signed with HS\d{3}, which issuer "lab" does not take/,
      );
    }
  }
});

it('HS256 with the public key, where the issuer has an HS256 key too', async () => {
  const secret = new SigningKey('HS256', { kid: 'main' });
  const both = await Verifier.open([issuer.entry({ staticKeys: [secret.static()] })], { env: {} });
  expect((await both.verify(secret.sign(issuer.claims()), signal)).sub).toBe('lab-subject');
  const error = await refusal(signWithSecret(issuer.key.pem, { alg: 'HS256', kid: 'main' }, issuer.claims()), both);
  expect(error.message).toMatch(/signature of the token is not that of/);
  // And the other way about: the secret's kid with an algorithm of key pairs.
  expect((await refusal(attacker.sign(issuer.claims()), both)).code).toBe('jwt-invalid');
});

it('an HS key in a key set, which nobody should take', async () => {
  const secret = new SigningKey('HS256', { kid: 'oct' });
  const careless = await TestIssuer.start({ keys: [issuer.key] });
  careless.jwks = { keys: [{ kty: 'oct', k: base64url(secret.secret), kid: 'oct', alg: 'HS256', use: 'sig' }, careless.key.jwk] };
  const own = await Verifier.open([careless.entry()], { env: {} });
  expect((await refusal(secret.sign(careless.claims()), own)).message).toMatch(/HS256, which issuer "lab" does not take/);
  await careless.close();
});

it.each(['jwk', 'jku', 'x5u', 'x5c', 'crit', 'b64', 'zip', 'enc'])('%s in the header', async (name) => {
  const values: Record<string, unknown> = {
    jwk: attacker.jwk,
    jku: `${other.url}/jwks`,
    x5u: `${other.url}/jwks`,
    x5c: [base64url(attacker.pem)],
    crit: ['b64'],
    b64: false,
    zip: 'DEF',
    enc: 'A128GCM',
  };
  const message = new RegExp(`has \`${name}\` in its header`);
  const before = other.requests.length;
  await expectRefused(attacker.sign(issuer.claims(), { [name]: values[name] }), message);
  await expectRefused(issuer.token({}, { [name]: values[name] }), message);
  expect(other.requests.length).toBe(before);
});

it('a critical extension that nobody knows', async () => {
  await expectRefused(issuer.token({}, { crit: ['x'], x: 1 }), /has `crit`/);
});

it('a key of another issuer under the same kid', async () => {
  await expectRefused(other.key.sign(issuer.claims()), /signature of the token is not that of issuer "lab"/);
});

it('the claims of another token', async () => {
  const [head = '', , signature = ''] = issuer.token().split('.');
  const [, payload = ''] = issuer.token({ sub: 'admin' }).split('.');
  await expectRefused(`${head}.${payload}.${signature}`, /signature/);
});

it('one changed bit in the signature', async () => {
  const token = issuer.token();
  const at = token.length - 20;
  await expectRefused(`${token.slice(0, at)}${token[at] === 'A' ? 'B' : 'A'}${token.slice(at + 1)}`, /signature/);
});

it('an ES256 signature of zeros (CVE-2022-21449)', async () => {
  const [key] = issuer.keys;
  const [head = '', payload = ''] = (key?.sign(issuer.claims()) ?? '').split('.');
  await expectRefused(`${head}.${payload}.${base64url(Buffer.alloc(64))}`, /signature/);
});

it('an ES256 signature in the form of DER', async () => {
  const [key] = issuer.keys;
  const [head = '', payload = ''] = (key?.sign(issuer.claims()) ?? '').split('.');
  await expectRefused(`${head}.${payload}.${base64url(Buffer.from('3006020101020101', 'hex'))}`, /signature/);
});

it('PS256 with a key that says RS256', async () => {
  const [, payload = ''] = issuer.token().split('.');
  await expectRefused(`${header({ alg: 'PS256' })}.${payload}.AAAA`, /has no key for PS256 with the token’s `kid`/);
});

it('an algorithm that the issuer does not take', async () => {
  const narrow = await Verifier.open([issuer.entry({ algorithms: ['ES256'] })], { env: {} });
  const error = await refusal(issuer.token(), narrow);
  expect(error).toMatchObject({ message: 'the token is signed with RS256, which issuer "lab" does not take', hint: 'it takes ES256' });
  const [key] = issuer.keys;
  expect((await narrow.verify(key?.sign(issuer.claims()), signal)).sub).toBe('lab-subject');
});

it.each([['RS1'], ['ES256K'], ['A128KW'], ['__proto__'], ['toString'], ['rs256'], ['RS256 ']])('the algorithm %s', async (alg) => {
  await expectRefused(issuer.token({}, { alg }), /which issuer "lab" does not take/);
});

it.each([[['RS256']], [null], [256], [{ name: 'RS256' }], [undefined]])('an algorithm that is no text: %j', async (alg) => {
  await expectRefused(issuer.token({}, { alg }), /names no algorithm/);
});

it.each([[{}], [0], [null], [['main']]])('a kid that is no text: %j', async (kid) => {
  await expectRefused(issuer.token({}, { kid }), /`kid` that is no text/);
});

it.each(['../../../../dev/null', "' OR 1=1 --", 'main\0', '__proto__', '', 'x'.repeat(4000)])(
  'a kid that means something elsewhere: %j',
  async (kid) => {
    await expectRefused(issuer.token({}, { kid }), /has no key for RS256 with the token’s `kid`/);
  },
);

it('two parsers, two tokens: the same key twice, in the header and in the claims', async () => {
  const good = JSON.stringify(issuer.claims());
  const head = '{"alg":"RS256","kid":"main"}';
  await expectRefused(issuer.key.signParts('{"alg":"RS256","kid":"main","alg":"RS256"}', good), /header with the same key twice/);
  await expectRefused(issuer.key.signParts(head, good.replace('{', '{"sub":"admin",')), /payload with the same key twice/);
  await expectRefused(issuer.key.signParts(head, good.replace('{', '{"\\u0073ub":"admin",')), /payload with the same key twice/);
  await expectRefused(issuer.key.signParts(head, good.replace('{', '{"a":[{"b":{"c":1,"c":2}}],')), /payload with the same key twice/);
  const fine = good.replace('{', '{"a":[{"b":1},{"b":1},":","\\"b\\":1"],"d":{"b":1,"sub":"x","{":1,"}":2},');
  expect((await verifier.verify(issuer.key.signParts(head, fine), signal)).sub).toBe('lab-subject');
});

it('claims that are no JSON object', async () => {
  for (const payload of ['', 'null', '[]', '"text"', '42', '{', '{}x', '\u0000', '{"iss":"\ud800"'] as const) {
    await expectRefused(issuer.key.signParts('{"alg":"RS256","kid":"main"}', payload), /has a payload that is no JSON object/);
  }
  await expectRefused(`${header({})}.${base64url(Buffer.from([0x7b, 0xff, 0x7d]))}.AAAA`, /has a payload that is no JSON object/);
});

it('nested as deep as 8 KiB allow', async () => {
  const deep = `${'['.repeat(2500)}${']'.repeat(2500)}`;
  const payload = JSON.stringify(issuer.claims()).replace('{', `{"deep":${deep},`);
  expect((await verifier.verify(issuer.key.signParts('{"alg":"RS256","kid":"main"}', payload), signal)).sub).toBe('lab-subject');
  await expectRefused(issuer.key.signParts(`{"alg":"RS256","deep":${'['.repeat(2500)}`, '{}'), /header that is no JSON object/);
});

it('the prototype among the claims', async () => {
  const payload = JSON.stringify(issuer.claims()).replace(
    '{',
    '{"__proto__":{"sub":"admin","polluted":1},"constructor":{"prototype":{"polluted":1}},',
  );
  const { sub } = await verifier.verify(issuer.key.signParts('{"alg":"RS256","kid":"main"}', payload), signal);
  expect(sub).toBe('lab-subject');
  expect('polluted' in {}).toBe(false);
});

it('a token of more than 8 KiB, before anything of it is read', async () => {
  await expectRefused(issuer.token({ more: 'x'.repeat(8192) }), /is longer than 8 KiB/);
  await expectRefused('.'.repeat(1_000_000), /is longer than 8 KiB/);
});

it('an encrypted token', async () => {
  await expectRefused(`${header({ alg: 'RSA-OAEP', enc: 'A256GCM' })}.AAAA.AAAA.AAAA.AAAA`, /is encrypted \(JWE\)/);
});

it.each(['x', '..', '...', 'a.b', 'a.b.c.d', 'a b.c.d', 'ä.b.c', '{"alg":"none"}', 'a.b.c\n', '\0.\0.\0', 'a+/.b.c', 'YQ==.b.c'])(
  'what is no token: %j',
  async (token) => {
    expect((await refusal(token)).code).toBe('jwt-invalid');
  },
);

it('a token with `Bearer` before it', async () => {
  expect(await refusal(`Bearer ${issuer.token()}`)).toMatchObject({ code: 'jwt-invalid', hint: 'leave `Bearer` out' });
});

it.each(['logout+jwt', 'dpop+jwt', 'secevent+jwt', 'JWE', 7, null])('a token for another purpose: %j', async (typ) => {
  await expectRefused(issuer.token({}, { typ }), /is for another purpose/);
});

it('a token that tells of an event, whatever its type says', async () => {
  const events = { 'http://schemas.openid.net/event/backchannel-logout': {} };
  for (const typ of ['JWT', undefined])
    await expectRefused(issuer.token({ events }, { typ }), /tells of an event, and is no proof of who calls/);
});

it.each([{ jkt: 'k' }, { 'x5t#S256': 'c' }, { jwk: {} }, null])(
  'a token for the holder of a key, by somebody who has only found it: %j',
  async (cnf) => {
    await expectRefused(issuer.token({ cnf }), /is for the holder of a key \(`cnf`\), which kz does not ask for/);
  },
);

it('a JWT within a JWT', async () => {
  await expectRefused(issuer.key.signParts('{"alg":"RS256","kid":"main","cty":"JWT"}', issuer.token()), /payload that is no JSON object/);
});

it('the JSON forms of a JWS', async () => {
  const [head, payload, signature] = issuer.token().split('.');
  await expectRefused(JSON.stringify({ protected: head, payload, signature }), /is no JWT/);
});

it('an issuer that differs in letters, path or encoding', async () => {
  const upper = issuer.url.replace('http', 'HTTP');
  for (const iss of [upper, `${issuer.url}/.`, `${issuer.url}#x`, ` ${issuer.url}`, `${issuer.url}\0`]) {
    expect((await refusal(issuer.token({ iss }))).code).toBe('issuer-unknown');
  }
});

it('an audience that only contains ours', async () => {
  for (const aud of ['kz ', 'KZ', 'kzx', 'other kz', ['kzx'], [['kz']], { kz: true }, true, null, 0]) {
    await expectRefused(issuer.token({ aud }), /audience|`aud`/);
  }
});

it('an issuer name that would break a terminal or a log', async () => {
  expect((await refusal(issuer.token({ iss: 'https://x\u001b[2J\n' }))).message).toBe(
    'the token is of the issuer (not printable), which the bundle does not have',
  );
});

it('a good token in another spelling: what base64url ignores at the end of a part', async () => {
  const token = issuer.token();
  const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_';
  const last = alphabet.indexOf(token.at(-1) ?? '');
  const twin = `${token.slice(0, -1)}${alphabet[last ^ 1] ?? ''}`;
  const bytes = (jwt: string): Buffer => Buffer.from(jwt.split('.')[2] ?? '', 'base64url');
  expect(bytes(twin)).toEqual(bytes(token));
  await expectRefused(twin, /is no JWT/);
});

it('random bytes, a thousand times: always a refusal, never another error', async () => {
  const [head = '', payload = '', signature = ''] = issuer.token().split('.');
  for (let seed = 0; seed < 1000; seed++) {
    const bytes = createHash('sha256').update(String(seed)).digest();
    const parts = [head, payload, signature];
    const which = (bytes[0] ?? 0) % 3;
    const part = Buffer.from(parts[which] ?? '', 'base64url');
    const at = bytes.readUInt16BE(1) % part.length;
    part[at] = (part[at] ?? 0) ^ ((bytes[3] ?? 0) | 1);
    parts[which] = base64url(part);
    expect(['jwt-invalid', 'issuer-unknown', 'jwt-expired']).toContain((await refusal(parts.join('.'))).code);
  }
});
