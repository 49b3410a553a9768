import { copyFileSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
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
    expect(await at.open({ identity: 'passphrase' }, env).get('a')).toEqual([CANARY]);

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
    expect(error).toMatchObject({
      code: 'provider-locked',
      message: 'cannot make a store under a passphrase: KEYZERO_PASSPHRASE is not set',
      hint: 'set KEYZERO_PASSPHRASE; for a key without a passphrase, set `identity = "file"` in [providers.store]',
    });
    expect(readdirSync(at.folder)).toEqual([]);
  });

  it.each([{}, { identity: 'passphrase' }] as const)('is not made with an empty passphrase, nor without one: %j', async (options) => {
    const empty = { KEYZERO_PASSPHRASE: '' };
    expect(at.open(options, empty).destination()).toContain('the passphrase in KEYZERO_PASSPHRASE');
    const error = await failure(at.open(options, empty).put('a', CANARY));
    expect([error.code, error.message]).toEqual(['provider-locked', 'cannot make a store under a passphrase: KEYZERO_PASSPHRASE is empty']);
    expect(readdirSync(at.folder)).toEqual([]);
    await at.open({ identity: 'file' }, empty).put('a', CANARY);
    expect(await at.open({}, empty).get('a')).toEqual([CANARY]);
  });
});

describe('a foreign key', () => {
  const env = { KEYZERO_PASSPHRASE: PASSPHRASE };

  it('beside the own one is refused, whichever was there first', async () => {
    await at.open({}, env).put('a', CANARY);
    const foreign = new StoreHome(top);
    await foreign.open().put('a', 'planted');
    copyFileSync(foreign.keyPath, at.keyPath);
    copyFileSync(foreign.storePath, at.storePath);
    for (const options of [{}, { identity: 'file' }, { identity: 'passphrase' }] as const) {
      const error = await at.refuses(at.open(options, env));
      expect(error).toMatchObject({
        code: 'provider-corrupt',
        message: 'the store has two keys, ~/.config/keyzero/store.key and ~/.config/keyzero/store.key.age',
      });
      expect(error.hint).toContain('move away the one that is not yours');
    }
  });

  it('in the file that marks the keychain is refused as well', async () => {
    await at.open().put('a', CANARY);
    writeFileSync(`${at.keyPath}.keychain`, '', { mode: 0o600 });
    expect((await at.refuses(at.open())).message).toBe(
      'the store has two keys, ~/.config/keyzero/store.key and ~/.config/keyzero/store.key.keychain',
    );
  });

  it('of another kind than the configured one is refused', async () => {
    await at.open({ identity: 'file' }, env).put('a', CANARY);
    for (const identity of ['passphrase', 'keychain'] as const) {
      expect(await at.refuses(at.open({ identity }, env))).toMatchObject({
        code: 'config-invalid',
        message: `the key of the store is ~/.config/keyzero/store.key, but the config says identity = "${identity}"`,
        hint: 'if that key is yours, set `identity = "file"` in [providers.store]; else move it and the store away',
      });
    }
  });

  it('is not mistaken for one under the passphrase: what is shown before writing says so', async () => {
    await at.open().put('a', CANARY);
    const store = at.open({}, env);
    expect(await store.get('a')).toEqual([CANARY]);
    expect(store.destination()).toBe(
      '~/.config/keyzero/store.age, encrypted with ~/.config/keyzero/store.key (not with KEYZERO_PASSPHRASE)',
    );
  });
});

describe('a store with its key in the system keychain', () => {
  /** A keychain in memory; `problem` is what each call to `get` answers instead. */
  function keychain(problem?: KzError): { open: () => Promise<Provider>; entries: Map<string, Secret>; calls: string[] } {
    const entries = new Map<string, Secret>();
    const calls: string[] = [];
    const provider: Provider = {
      async get(refs) {
        calls.push('get');
        const outcomes = refs.map(({ text }): Outcome => {
          const secret = entries.get(text);
          if (secret !== undefined && problem === undefined) return { ok: true, secret };
          return { ok: false, error: problem ?? new KzError('secret-missing', 'no entry') };
        });
        // An answer takes its time, in which others may ask.
        for (let turn = 0; turn < 200; turn++) await new Promise(setImmediate);
        return outcomes;
      },
      put: ({ text }, secret) => {
        calls.push('put');
        entries.set(text, secret);
        return Promise.resolve();
      },
    };
    return { open: () => Promise.resolve(provider), entries, calls };
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

  it('shares one key among stores that are made at once', async () => {
    const { open, entries, calls } = keychain();
    const path = join(at.home, 'other.age');
    await Promise.all([
      at.open({ identity: 'keychain' }, {}, open).put('a', '1'),
      at.open({ identity: 'keychain', path }, {}, open).put('a', '2'),
    ]);
    expect(calls).toEqual(['get', 'put', 'get', 'get']);
    expect(entries.size).toBe(1);
    expect(await at.open({}, {}, open).get('a')).toEqual(['1']);
    expect(await at.open({ path }, {}, open).get('a')).toEqual(['2']);
    expect(readdirSync(at.folder).sort()).toEqual(['store.age', 'store.key.keychain']);
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
