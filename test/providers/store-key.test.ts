import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Decrypter } from 'age-encryption';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { KzError } from '../../src/core/errors.ts';
import type { Secret } from '../../src/core/secret.ts';
import type { Outcome, Provider } from '../../src/providers/provider.ts';
import { CANARY, failure, mode, PASSPHRASE, StoreHome } from '../fixtures/store-home.ts';

let top: string;
let at: StoreHome;

beforeAll(() => {
  top = mkdtempSync(join(tmpdir(), 'kz-store-key-'));
});

beforeEach(() => {
  at = new StoreHome(top);
});

afterAll(() => {
  rmSync(top, { recursive: true });
});

describe('a store with its key under a passphrase', () => {
  const env = { KEYZERO_PASSPHRASE: PASSPHRASE };

  it('is made when KEYZERO_PASSPHRASE is set, and needs it from then on', async () => {
    const store = at.open({}, env);
    expect(store.destination()).toBe(
      '~/.config/keyzero/store.age, encrypted with ~/.config/keyzero/store.key.age and the passphrase in KEYZERO_PASSPHRASE',
    );
    await store.put('a', CANARY);
    expect(readdirSync(at.folder).sort()).toEqual(['store.age', 'store.key.age']);
    expect(mode(`${at.keyPath}.age`)).toBe('600');
    expect(await at.open({ identity: 'file' }, env).get('a')).toEqual([CANARY]);

    for (const without of [{}, { KEYZERO_PASSPHRASE: '' }]) {
      expect(await at.refuses(at.open({}, without))).toMatchObject({ code: 'provider-locked', hint: 'set KEYZERO_PASSPHRASE' });
    }
    expect(await at.refuses(at.open({}, { KEYZERO_PASSPHRASE: 'wrong' }))).toMatchObject({
      code: 'provider-locked',
      message: 'the passphrase does not open ~/.config/keyzero/store.key.age',
    });

    const decrypter = new Decrypter();
    decrypter.addPassphrase(PASSPHRASE);
    expect(await decrypter.decrypt(readFileSync(`${at.keyPath}.age`), 'text')).toMatch(
      /^# created: .+\n# public key: age1\w+\nAGE-SECRET-KEY-1\w+\n$/,
    );

    writeFileSync(`${at.keyPath}.age`, `${CANARY}\n`);
    expect((await at.refuses(at.open({}, env))).code).toBe('provider-corrupt');
  });

  it('asks for the passphrase before it makes anything', async () => {
    const error = await failure(at.open({ identity: 'passphrase' }).put('a', CANARY));
    expect(error).toMatchObject({ code: 'provider-locked', hint: 'set KEYZERO_PASSPHRASE' });
    expect(readdirSync(at.folder)).toEqual([]);
  });
});

describe('a store with its key in the system keychain', () => {
  /** A keychain in memory; `problem` is what each call to `get` answers instead. */
  function keychain(problem?: KzError): { open: () => Promise<Provider>; entries: Map<string, Secret> } {
    const entries = new Map<string, Secret>();
    const provider: Provider = {
      get: (refs) =>
        Promise.resolve(
          refs.map(({ text }): Outcome => {
            const secret = entries.get(text);
            if (secret !== undefined && problem === undefined) return { ok: true, secret };
            return { ok: false, error: problem ?? new KzError('secret-missing', 'no entry') };
          }),
        ),
      put: ({ text }, secret) => {
        entries.set(text, secret);
        return Promise.resolve();
      },
    };
    return { open: () => Promise.resolve(provider), entries };
  }

  it('keeps only a note of it on disk', async () => {
    const { open, entries } = keychain();
    const store = at.open({ identity: 'keychain' }, {}, open);
    expect(store.destination()).toBe('~/.config/keyzero/store.age, encrypted with a key in the system keychain');
    await store.put('a', CANARY);
    expect([...entries.keys()]).toEqual(['keyzero/store-identity']);
    expect(readdirSync(at.folder).sort()).toEqual(['store.age', 'store.key.keychain']);
    expect(readFileSync(`${at.keyPath}.keychain`, 'utf8')).not.toContain('AGE-SECRET-KEY');
    expect(await at.open({}, {}, open).get('a')).toEqual([CANARY]);
    await at.open({}, {}, open).put('b', '2');
    expect(await at.open({}, {}, open).get('a', 'b')).toEqual([CANARY, '2']);
  });

  it('shares the key of another store instead of replacing it', async () => {
    const { open } = keychain();
    const path = join(at.home, 'other.age');
    await at.open({ identity: 'keychain' }, {}, open).put('a', '1');
    await at.open({ identity: 'keychain', path }, {}, open).put('a', '2');
    expect(await at.open({}, {}, open).get('a')).toEqual(['1']);
    expect(await at.open({ path }, {}, open).get('a')).toEqual(['2']);
  });

  it('says so when the key is gone', async () => {
    const { open, entries } = keychain();
    await at.open({ identity: 'keychain' }, {}, open).put('a', CANARY);
    entries.clear();
    const error = await at.refuses(at.open({}, {}, open));
    expect(error).toMatchObject({ code: 'provider-locked', message: 'the key of the store is not available: no entry' });
    expect(entries.size).toBe(0);
  });

  it('makes no store when there is no keychain', async () => {
    const { open } = keychain(new KzError('provider-unavailable', 'no keychain here', { hint: 'use the store' }));
    const error = await failure(at.open({ identity: 'keychain' }, {}, open).put('a', CANARY));
    expect(error).toMatchObject({ code: 'provider-unavailable', hint: 'set `identity = "file"` in [providers.store]' });
    expect(readdirSync(at.folder)).toEqual([]);
  });
});
