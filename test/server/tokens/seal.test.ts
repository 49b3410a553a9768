import { randomBytes } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { CompactEncrypt } from 'jose';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Seal, TOKEN_SHAPE, type SealFacts } from '../../../src/server/tokens/seal.ts';
import { loadTokenKeys } from '../../../src/server/tokens/token-keys.ts';

const NOW = 1_800_000_000_000;
const now = (): number => NOW;
const FACTS: SealFacts = {
  ...{ ref: 'github/pat#token', issuer: 'lab', sub: 'repo:a/b', hosts: ['api.github.com'], policy: 'p' },
  ...{ context: { ticket: 'T-1' }, expiresAt: NOW + 60_000 },
};

describe('a token', () => {
  it('says to who has the key what was sealed, and is not the same twice', async () => {
    const seal = Seal.random({ now });
    const [one, two] = [await seal.seal(FACTS), await seal.seal(FACTS)];
    const { ref, issuer, sub, hosts, policy, context } = FACTS;
    expect(await seal.unseal(one)).toMatchObject({ ref, issuer, sub, hosts, policy, context, iat: NOW / 1000, exp: NOW / 1000 + 60 });
    expect(one).not.toBe(two);
    expect((await seal.unseal(one)).jti).not.toBe((await seal.unseal(two)).jti);
  });

  it('goes unchanged through a header, a URL, JSON and a form', async () => {
    const token = await Seal.random().seal({ ...FACTS, expiresAt: Date.now() + 60_000 });
    expect(token).toMatch(/^KZ_TOK_[A-Za-z0-9_.-]+$/);
    expect(TOKEN_SHAPE.exec(`say ${token}.`)?.[0]).toBe(token);
    expect([encodeURIComponent(token), JSON.stringify(token)]).toEqual([token, `"${token}"`]);
  });

  it('holds nothing that can be read', async () => {
    const token = await Seal.random({ now }).seal(FACTS);
    const texts = token
      .slice(7)
      .split('.')
      .map((part) => Buffer.from(part, 'base64url').toString('latin1'));
    for (const text of texts) for (const part of ['github', 'repo:', 'lab', 'T-1']) expect(text).not.toContain(part);
  });

  it('lives as long as it was given, and an hour at most', async () => {
    let time = NOW;
    const seal = Seal.random({ now: () => time });
    const [short, long] = [await seal.seal(FACTS), await seal.seal({ ...FACTS, expiresAt: NOW + 86_400_000 })];
    time = NOW + 59_000;
    await seal.unseal(short);
    time = NOW + 60_000;
    await expect(seal.unseal(short)).rejects.toMatchObject({ code: 'token-expired' });
    time = NOW + 3_599_000;
    await seal.unseal(long);
    time = NOW + 3_600_000;
    await expect(seal.unseal(long)).rejects.toMatchObject({ code: 'token-expired' });
    time = NOW - 61_000;
    await expect(seal.unseal(short)).rejects.toMatchObject({ code: 'token-invalid' });
  });

  it('is not made of facts that are too large for a header', async () => {
    const facts = { ...FACTS, context: { text: 'x'.repeat(5000) } };
    await expect(Seal.random({ now }).seal(facts)).rejects.toMatchObject({ code: 'request-invalid' });
  });
});

describe('keys', () => {
  it('turn: the first seals, all of them open', async () => {
    const [old, fresh] = [randomBytes(32), randomBytes(32)];
    const before = await Seal.open([old], { now }).seal(FACTS);
    const rotated = Seal.open([fresh, old], { now });
    expect(await rotated.unseal(before)).toMatchObject({ ref: FACTS.ref });
    const after = await rotated.seal(FACTS);
    expect(await Seal.open([old, fresh], { now }).unseal(after)).toMatchObject({ ref: FACTS.ref });
    await expect(Seal.open([old], { now }).unseal(after)).rejects.toMatchObject({ code: 'token-invalid' });
  });

  it('have 32 bytes', () => {
    expect(() => Seal.open([randomBytes(16)])).toThrow(TypeError);
    expect(() => Seal.open([])).toThrow(TypeError);
  });
});

describe('what is no token', () => {
  const key = randomBytes(32);
  const seal = Seal.open([key], { now });

  async function refused(token: string): Promise<void> {
    await expect(seal.unseal(token), token).rejects.toMatchObject({ code: 'token-invalid', status: 403 });
  }

  it('is refused with any character changed, added or left out', async () => {
    const token = await seal.seal(FACTS);
    for (let at = 0; at < token.length; at++) {
      const other = token[at] === 'B' ? 'A' : 'B';
      await refused(token.slice(0, at) + other + token.slice(at + 1));
      await refused(token.slice(0, at) + token.slice(at + 1));
    }
    for (const bad of [`${token}A`, `${token}.`, ` ${token}`, `${token}=`, token.slice(7), 'KZ_TOK_', '', 'KZ_TOK_....'])
      await refused(bad);
  });

  it('is refused in all spellings of the same bytes but one', async () => {
    const token = await seal.seal(FACTS);
    const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_';
    const lastOne = alphabet.indexOf(token.at(-1) ?? '');
    for (const low of [1, 2, 3]) await refused(token.slice(0, -1) + (alphabet[lastOne ^ low] ?? ''));
  });

  it('is refused with another header', async () => {
    const { kid } = JSON.parse(Buffer.from((await seal.seal(FACTS)).slice(7).split('.')[0] ?? '', 'base64url').toString()) as {
      kid: string;
    };
    const payload = Buffer.from(JSON.stringify({ v: 1, ref: 'r', issuer: 'i', sub: 's', jti: 'j', iat: NOW / 1000, exp: NOW / 1000 + 60 }));
    const made = async (header: { alg: string; enc: string; [name: string]: unknown }, bytes: Uint8Array = key): Promise<string> =>
      `KZ_TOK_${await new CompactEncrypt(payload).setProtectedHeader(header).encrypt(bytes)}`;
    expect(await seal.unseal(await made({ alg: 'dir', enc: 'A256GCM', kid }))).toMatchObject({ ref: 'r' });
    await refused(await made({ alg: 'dir', enc: 'A256GCM' }));
    await refused(await made({ alg: 'dir', enc: 'A256GCM', kid: 'other' }));
    await refused(await made({ alg: 'dir', enc: 'A256GCM', kid, zip: 'DEF' }));
    await refused(await made({ alg: 'dir', enc: 'A256GCM', kid, typ: 'JWT' }));
    await refused(await made({ alg: 'A256GCMKW', enc: 'A256GCM', kid }));
    await refused(await made({ alg: 'dir', enc: 'A128CBC-HS256', kid }));
    await refused(await made({ alg: 'dir', enc: 'A256GCM', kid }, randomBytes(32)));
  });

  it('is refused when a caller was sealed, and the other way round', async () => {
    const identity = { org: '', service: '', env: '', action: '', branch: '', actor: '', groups: ['g'] };
    const caller = { issuer: 'lab', iss: 'https://i', sub: 's', id: '1', identity, claims: { a: 1 }, expiresAt: NOW };
    const sealed = await seal.sealCaller(caller);
    expect(await seal.unsealCaller(sealed)).toEqual(caller);
    await refused(`KZ_TOK_${sealed}`);
    expect(await seal.unsealCaller((await seal.seal(FACTS)).slice(7))).toBeUndefined();
    expect(await seal.unsealCaller('a.b')).toBeUndefined();
  });
});

describe('a file of keys', () => {
  let folder = '';
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'kz-keys-'));
  });
  afterEach(async () => {
    await rm(folder, { recursive: true });
  });

  async function load(text: string): Promise<readonly Uint8Array[]> {
    const path = join(folder, 'keys');
    await writeFile(path, text);
    return loadTokenKeys({ path, from: 'KEYZERO_TOKEN_KEY_PATH' });
  }

  it('has one in each line', async () => {
    const keys = [randomBytes(32), randomBytes(32)];
    const text = `# new\n${keys[0]?.toString('base64') ?? ''}\r\n\n${keys[1]?.toString('base64url') ?? ''}\n`;
    expect((await load(text)).map((key) => Buffer.from(key).toString('hex'))).toEqual(keys.map((key) => key.toString('hex')));
  });

  it('names what is wrong, and quotes nothing', async () => {
    await expect(load('')).rejects.toMatchObject({
      code: 'config-invalid',
      message: expect.stringContaining('KEYZERO_TOKEN_KEY_PATH') as string,
    });
    const short = randomBytes(31).toString('base64');
    const error: unknown = await load(`# one\n${short}`).catch((caught: unknown) => caught);
    expect(error).toMatchObject({ code: 'config-invalid', at: { line: 2 }, hint: 'openssl rand -base64 32' });
    expect(String(error)).not.toContain(short);
    const missing = { path: join(folder, 'none'), from: '--token-key-file' };
    await expect(loadTokenKeys(missing)).rejects.toMatchObject({
      code: 'config-unreadable',
      message: expect.stringContaining('ENOENT') as string,
    });
  });
});
