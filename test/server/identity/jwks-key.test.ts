// Key sets that a careless or lying server hands out: keys with which others can sign, too many keys, and keys that cannot be told apart.
import { createPublicKey, verify } from 'node:crypto';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { ServerFailure } from '../../../src/server/failure.ts';
import { Verifier } from '../../../src/server/identity/verify.ts';
import { base64url, SigningKey, TestIssuer } from './issuer.ts';

const signal = new AbortController().signal;

let issuer: TestIssuer;

beforeAll(async () => {
  issuer = await TestIssuer.start({ keys: [new SigningKey('RS256', { kid: 'main' })] });
});

afterAll(async () => {
  await issuer.close();
});

async function refusal(token: string, by: Verifier): Promise<ServerFailure> {
  const error: unknown = await by.verify(token, signal).catch((thrown: unknown) => thrown);
  expect(error).toBeInstanceOf(ServerFailure);
  return error as ServerFailure;
}

it('weak keys of a server: RSA with 1024 bits, an exponent of 1, a private key, a key for encryption', async () => {
  const weak = new SigningKey('RS256', { size: 1024 });
  const careless = await TestIssuer.start({ keys: [weak] });
  const own = await Verifier.open([careless.entry()], { env: {} });
  expect((await refusal(careless.token(), own)).message).toMatch(/has no key for RS256/);
  expect((await own.check(signal)).get('lab')?.message).toBe('all its keys are too weak: RSA keys have 2048 bits or more');

  const { key } = issuer;
  for (const change of [
    { e: 'AQ' },
    { d: 'AQAB' },
    { use: 'enc' },
    { key_ops: ['encrypt'] },
    { alg: 'RS384' },
    { kty: 'oct' },
    { kid: 7 },
  ]) {
    careless.jwks = { keys: [{ ...key.jwk, ...change }] };
    const fresh = await Verifier.open([careless.entry()], { env: {} });
    expect((await refusal(key.sign(careless.claims()), fresh)).message).toMatch(/has no key for RS256/);
  }
  await careless.close();
});

it('an Ed25519 key with which everybody can sign: a point of small order', async () => {
  const careless = await TestIssuer.start({ keys: [new SigningKey('EdDSA', { kid: 'a' })] });
  const identity = Buffer.from(`01${'00'.repeat(31)}`, 'hex');
  const forged = `${base64url('{"alg":"EdDSA","kid":"a"}')}.${base64url(JSON.stringify(careless.claims()))}`;
  const signature = Buffer.concat([identity, Buffer.alloc(32)]);
  for (const [first, last] of [
    [0x01, 0x00],
    [0x01, 0x80],
    [0x00, 0x00],
    [0xee, 0x7f],
  ] as const) {
    const x = Buffer.alloc(32, first > 1 ? 0xff : 0);
    x.writeUInt8(first, 0);
    x.writeUInt8(last, 31);
    const jwk = { kty: 'OKP', crv: 'Ed25519', x: base64url(x), kid: 'a' };
    if (first !== 0) expect(verify(null, Buffer.from(forged), createPublicKey({ key: jwk, format: 'jwk' }), signature)).toBe(true);
    careless.jwks = { keys: [jwk] };
    const own = await Verifier.open([careless.entry()], { env: {} });
    expect((await refusal(`${forged}.${base64url(signature)}`, own)).message).toMatch(/has no key for EdDSA/);
    const pem = createPublicKey({ key: jwk, format: 'jwk' }).export({ type: 'spki', format: 'pem' }).toString();
    const entry = careless.entry({ keysFrom: 'static', staticKeys: [careless.key.static({ pem })] });
    await expect(Verifier.open([entry], { env: {} })).rejects.toThrow('is too weak');
  }
  await careless.close();
});

it('no kid, and more keys than anybody should try', async () => {
  const many = await TestIssuer.start({ keys: Array.from({ length: 11 }, () => new SigningKey('ES256')) });
  const own = await Verifier.open([many.entry()], { env: {} });
  expect((await own.verify(many.token(), signal)).sub).toBe('lab-subject');
  expect((await refusal(many.token({}, { kid: undefined }), own)).hint).toMatch(/must write `kid`/);
  await many.close();
});

it('no kid, and a few keys: the one that fits is found', async () => {
  const few = await TestIssuer.start({ keys: Array.from({ length: 4 }, () => new SigningKey('EdDSA')) });
  const own = await Verifier.open([few.entry()], { env: {} });
  expect((await own.verify(few.token({}, { kid: undefined }), signal)).sub).toBe('lab-subject');
  expect((await refusal(new SigningKey('EdDSA').sign(few.claims(), { kid: undefined }), own)).message).toMatch(/signature/);
  await few.close();
});

it('two keys under one kid: both are tried', async () => {
  const twins = await TestIssuer.start({ keys: [new SigningKey('ES256', { kid: 'a' }), new SigningKey('ES256', { kid: 'a' })] });
  const own = await Verifier.open([twins.entry()], { env: {} });
  for (const key of twins.keys) expect((await own.verify(key.sign(twins.claims()), signal)).sub).toBe('lab-subject');
  await twins.close();
});

it('a static key without kid, and a token with one', async () => {
  const key = new SigningKey('ES256');
  const own = await Verifier.open([issuer.entry({ keysFrom: 'static', staticKeys: [{ alg: key.alg, pem: key.pem, at: { file: 'b' } }] })], {
    env: {},
  });
  expect((await refusal(key.sign(issuer.claims()), own)).hint).toMatch(/one of its static keys has no `kid`/);
  expect((await own.verify(key.sign(issuer.claims(), { kid: undefined }), signal)).sub).toBe('lab-subject');
});
