import { generateKeyPairSync, type KeyObject } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { decodeJwt, decodeProtectedHeader, SignJWT } from 'jose';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { CredentialLocation } from '../../../src/config/bundle.ts';
import { looksShortLived, ShortLived } from '../../../src/server/tokens/short-lived.ts';
import { TokenLab } from './token-lab.ts';

const EC = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const RSA = generateKeyPairSync('rsa', { modulusLength: 2048 });
let folder = '';

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'kz-keys-'));
});

afterAll(async () => {
  await rm(folder, { recursive: true });
});

let files = 0;

async function file(key: KeyObject | string): Promise<string> {
  const path = join(folder, `key-${String((files += 1))}.pem`);
  const pem = typeof key === 'string' ? key : key.export({ format: 'pem', type: key.type === 'private' ? 'pkcs8' : 'spki' });
  await writeFile(path, pem);
  return path;
}

async function signing(key: KeyObject | string, now?: () => number): Promise<ShortLived> {
  return ShortLived.open({ signing: { path: await file(key), from: 'KEYZERO_SIGNING_KEY_PATH' }, ...(now === undefined ? {} : { now }) });
}

async function verifying(key: KeyObject | string): Promise<ShortLived> {
  return ShortLived.open({ verifying: { path: await file(key), from: 'KEYZERO_PUBLIC_KEY_PATH' } });
}

const facts = (): Parameters<ShortLived['sign']>[0] => ({
  ...{ ref: 'github/pat', resolver: 'lab', issuer: 'lab', sub: 'alice', expiresAt: Date.now() + 300_000 },
});

describe('a short-lived token', () => {
  it.each([
    ['ES256', EC],
    ['RS256', RSA],
  ])('is signed with %s, and verified with the public key alone', async (alg, pair) => {
    const jwt = await (await signing(pair.privateKey)).sign(facts());
    expect(decodeProtectedHeader(jwt).alg).toBe(alg);
    expect(decodeJwt(jwt)).toMatchObject({ iss: 'keyzero', aud: 'keyzero-proxy', resource: 'github/pat', resolver: 'lab', sub: 'alice' });
    expect(looksShortLived(jwt)).toBe(true);
    const proxy = await verifying(pair.publicKey);
    expect(proxy.canSign).toBe(false);
    expect(await proxy.verify(jwt)).toMatchObject({ ref: 'github/pat', resolver: 'lab', issuer: 'lab', sub: 'alice' });
    await expect(proxy.sign(facts())).rejects.toMatchObject({ code: 'mode-forbidden' });
  });

  it('is refused when it is signed by others, for others, unsigned, or incomplete', async () => {
    const proxy = await signing(EC.privateKey);
    const claims = { ...{ iss: 'keyzero', aud: 'keyzero-proxy', sub: 's', jti: 'j', issuer: 'lab', resource: 'r', resolver: 'x' } };
    const made = (changed: Record<string, unknown>, key: KeyObject = EC.privateKey, alg = 'ES256'): Promise<string> =>
      new SignJWT({ ...claims, ...changed }).setProtectedHeader({ alg }).setIssuedAt().setExpirationTime('5m').sign(key);
    await proxy.verify(await made({}));
    const other = generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey;
    const unsigned = `${Buffer.from('{"alg":"none"}').toString('base64url')}.${(await made({})).split('.')[1] ?? ''}.`;
    const bad = [
      ...[await made({}, other), await made({}, RSA.privateKey, 'RS256'), await made({ aud: 'x' }), await made({ iss: 'x' })],
      ...[await made({ resource: undefined }), await made({ sub: undefined }), await made({ jti: undefined }), await made({ resource: 7 })],
      ...[unsigned, 'x', ''],
    ];
    for (const jwt of bad) await expect(proxy.verify(jwt)).rejects.toMatchObject({ code: 'token-invalid' });
  });

  it('ends, after an hour at most', async () => {
    let time = Date.now();
    const server = await signing(EC.privateKey, () => time);
    const jwt = await server.sign({ ...facts(), expiresAt: time + 86_400_000 });
    time += 3_590_000;
    await server.verify(jwt);
    time += 20_000;
    await expect(server.verify(jwt)).rejects.toMatchObject({ code: 'token-expired' });
  });
});

describe('keys', () => {
  it('are refused by kind, with the name of the variable and of the file', async () => {
    const wrong: [() => Promise<unknown>, string][] = [
      [() => signing(generateKeyPairSync('ec', { namedCurve: 'P-384' }).privateKey), 'KEYZERO_SIGNING_KEY_PATH'],
      [() => signing(generateKeyPairSync('rsa', { modulusLength: 1024 }).privateKey), 'KEYZERO_SIGNING_KEY_PATH'],
      [() => signing(generateKeyPairSync('ed25519').privateKey), 'KEYZERO_SIGNING_KEY_PATH'],
      [() => signing('CANARY-no-pem'), 'KEYZERO_SIGNING_KEY_PATH'],
      [() => signing(EC.publicKey), 'KEYZERO_SIGNING_KEY_PATH'],
      [() => verifying(EC.privateKey), 'KEYZERO_PUBLIC_KEY_PATH'],
      [() => verifying('CANARY-no-pem'), 'KEYZERO_PUBLIC_KEY_PATH'],
    ];
    for (const [opened, variable] of wrong) {
      const error: unknown = await opened().catch((caught: unknown) => caught);
      expect(error).toMatchObject({ code: 'config-invalid', message: expect.stringContaining(variable) as string });
      expect(JSON.stringify(error) + String(error)).not.toContain('CANARY');
    }
  });

  it('come from the environment, and must belong together', async () => {
    expect(await ShortLived.fromEnvironment({})).toBeUndefined();
    const env = { KEYZERO_SIGNING_KEY_PATH: await file(EC.privateKey), KEYZERO_PUBLIC_KEY_PATH: await file(EC.publicKey) };
    expect((await ShortLived.fromEnvironment(env))?.canSign).toBe(true);
    const mixed = { ...env, KEYZERO_PUBLIC_KEY_PATH: await file(RSA.publicKey) };
    await expect(ShortLived.fromEnvironment(mixed)).rejects.toMatchObject({ code: 'config-invalid' });
    await expect(ShortLived.fromEnvironment({ KEYZERO_SIGNING_KEY_PATH: '/nowhere' })).rejects.toMatchObject({ code: 'config-unreadable' });
  });
});

describe('through the proxy', () => {
  let lab: TokenLab;
  afterEach(async () => {
    await lab.close();
  });

  async function start(location?: CredentialLocation): Promise<{ jwt: string; shortLived: ShortLived }> {
    const shortLived = await signing(EC.privateKey);
    const resource = { ref: 'github/pat', mode: 'short_lived' as const, ...(location === undefined ? {} : { location }) };
    lab = await TokenLab.start({ shortLived, resources: [resource] });
    return { jwt: await shortLived.sign(facts()), shortLived };
  }

  const ask = (jwt: string, path = '/user'): ReturnType<TokenLab['ask']> =>
    lab.ask(`https://api.github.com${path}`, { headers: { authorization: `Bearer ${jwt}`, 'x-api-key': 'mine' } });

  it('it becomes the credential, where the resource wants it', async () => {
    const header = await start();
    expect((await ask(header.jwt)).status).toBe(200);
    expect(lab.upstream.received[0]?.headers).toMatchObject({ authorization: `Bearer ${lab.value()}`, 'x-api-key': 'mine' });
    expect(lab.decisions[0]?.ask).toMatchObject({ ref: 'github/pat', resolver: 'lab' });
    await lab.close();

    const bare = await start({ kind: 'header', name: 'X-Api-Key', prefix: '' });
    await ask(bare.jwt);
    expect(lab.upstream.received[0]?.headers['x-api-key']).toBe(lab.value());
    expect(lab.upstream.received[0]?.headers.authorization).toBeUndefined();
    await lab.close();

    const query = await start({ kind: 'query', name: 'k' });
    // None of the spellings in which a server may take the client's own for it.
    await ask(query.jwt, '/user?a=1&k=mine&K[]=mine&%256b=mine');
    expect(lab.upstream.received[0]?.url).toBe(`/user?a=1&k=${lab.value()}`);
    expect(lab.events[0]?.event).toMatchObject({ path: '/user?a=1&k=mine&K[]=mine&%256b=mine' });
    await lab.close();

    const basic = await start({ kind: 'basic', user: 'git' });
    await ask(basic.jwt);
    const sent = lab.upstream.received[0]?.headers.authorization ?? '';
    expect(Buffer.from(sent.slice(6), 'base64').toString()).toBe(`git:${lab.value()}`);
  });

  it('it is refused of another caller, for another host, or once the resource has another mode', async () => {
    const { jwt, shortLived } = await start();
    const theirs = await shortLived.sign({ ...facts(), sub: 'bob' });
    expect((await ask(theirs)).headers['x-kz-error']).toBe('token-invalid');
    const [resource] = lab.resources;
    if (resource === undefined) throw new Error('no resource');
    expect((await ask(await lab.token())).headers['x-kz-error']).toBe('mode-forbidden');
    lab.resources = [{ ...resource, entry: { ...resource.entry, mode: 'masked' } }];
    expect((await ask(jwt)).headers['x-kz-error']).toBe('mode-forbidden');
    expect([lab.upstream.received, lab.fetched]).toEqual([[], 0]);
  });

  it('it opens the proxy when it says who calls', async () => {
    const { shortLived } = await start();
    const alice = lab.callers.get('alice');
    if (alice === undefined) throw new Error('no caller');
    const jwt = await shortLived.sign({ ...facts(), caller: await lab.seal.sealCaller({ ...alice, claims: { team: 'x' } }) });
    lab.policy = ({ claims }) => claims.team === 'x';
    const reply = await lab.ask('https://api.github.com/user', { jwt, headers: { authorization: `Bearer ${jwt}` } });
    expect(reply.status).toBe(200);
    expect(lab.upstream.received[0]?.headers.authorization).toBe(`Bearer ${lab.value()}`);
    const silent = await shortLived.sign(facts());
    expect((await lab.connect('api.github.com:443', `Bearer ${silent}`)).head).toMatch(/^HTTP\/1\.1 407 [^]*x-kz-error: token-invalid/);
    const bob = lab.callers.get('bob');
    if (bob === undefined) throw new Error('no caller');
    const mixed = await shortLived.sign({ ...facts(), caller: await lab.seal.sealCaller(bob) });
    expect((await lab.connect('api.github.com:443', `Bearer ${mixed}`)).head).toMatch(/^HTTP\/1\.1 407/);
  });
});
