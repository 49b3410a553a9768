import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Decrypter, Encrypter, generateX25519Identity, identityToRecipient } from 'age-encryption';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { bundle } from '../fixtures/bundle.ts';
import { CANARY, failure, mode, PASSPHRASE, StoreHome } from '../fixtures/store-home.ts';

const hasAge = spawnSync('age', ['--version']).status === 0;

let top: string;
let at: StoreHome;

beforeAll(() => {
  top = mkdtempSync(join(tmpdir(), 'kz-store-'));
});

beforeEach(() => {
  at = new StoreHome(top);
});

afterAll(() => {
  rmSync(top, { recursive: true });
});

function identityIn(path: string): string {
  return /^AGE-SECRET-KEY-1.*$/m.exec(readFileSync(path, 'utf8'))?.[0] ?? '';
}

/** Replaces the store by another plaintext, encrypted to its own key. */
async function plant(plaintext: string | Uint8Array): Promise<void> {
  const encrypter = new Encrypter();
  encrypter.addRecipient(await identityToRecipient(identityIn(at.keyPath)));
  writeFileSync(at.storePath, await encrypter.encrypt(plaintext));
}

describe('a store with its key in a file', () => {
  it('keeps values from one process to the next', async () => {
    await at.open().put('a', CANARY);
    await at.open().put('b', 'two\nlines “ü” 🔑 \u0000');
    await at.open().put('c', '');
    expect(await at.open().get('c', 'none', 'a', 'b', 'a')).toEqual(['', 'secret-missing', CANARY, 'two\nlines “ü” 🔑 \u0000', CANARY]);
    await at.open().put('a', 'replaced');
    expect(await at.open().get('a', 'b')).toEqual(['replaced', 'two\nlines “ü” 🔑 \u0000']);
  });

  it('is private, and holds no value in the clear', async () => {
    await at.open().put('some-name', CANARY);
    expect(readdirSync(at.folder).sort()).toEqual(['store.age', 'store.key']);
    expect([mode(at.folder), mode(at.storePath), mode(at.keyPath)]).toEqual(['700', '600', '600']);
    const bytes = readFileSync(at.storePath).toString('latin1');
    expect(bytes).not.toContain(CANARY);
    expect(bytes).not.toContain('some-name');
  });

  it('says what is missing', async () => {
    expect(await at.open().outcomes('no "such"')).toMatchObject([
      { error: { code: 'secret-missing', message: '"no \\"such\\"" is not in ~/.config/keyzero/store.age' } },
    ]);
    expect(await at.open().remove('a')).toBe(false);
    expect(readdirSync(at.home)).toEqual([]);
  });

  it('removes a value once', async () => {
    await at.open().put('a', '1');
    await at.open().put('b', '2');
    expect([await at.open().remove('a'), await at.open().remove('a')]).toEqual([true, false]);
    expect(await at.open().get('a', 'b')).toEqual(['secret-missing', '2']);
    expect(await at.open().remove('b')).toBe(true);
    await at.open().put('c', '3');
    expect(await at.open().get('b', 'c')).toEqual(['secret-missing', '3']);
  });

  it.each(['__proto__', 'constructor', 'toString', 'a/b#c', 'ünï', ' ', '10', '9', '"'])(
    'takes %j as a name like any other',
    async (name) => {
      expect(await at.open().get(name)).toEqual(['secret-missing']);
      await at.open().put('before', 'x');
      expect(await at.open().get(name)).toEqual(['secret-missing']);
      await at.open().put(name, CANARY);
      expect(await at.open().get(name, 'before')).toEqual([CANARY, 'x']);
      expect(await at.open().remove(name)).toBe(true);
      expect(await at.open().get(name, 'before')).toEqual(['secret-missing', 'x']);
    },
  );

  it.each(['', 'a\nb', '\u0000', '\u007f', '\u009b'])('refuses %j as a name', async (name) => {
    expect(await at.open().get(name, 'a')).toEqual(['ref-invalid', 'secret-missing']);
    expect((await failure(at.open().put(name, CANARY))).code).toBe('ref-invalid');
    expect((await failure(at.open().remove(name))).code).toBe('ref-invalid');
  });

  it('uses another file and its own key for options.path', async () => {
    const path = join(at.home, 'deep', 'team.age');
    await at.open({ path }).put('a', 'team');
    await at.open().put('a', 'mine');
    expect(readdirSync(join(at.home, 'deep')).sort()).toEqual(['team.age', 'team.key']);
    expect(await at.open({ path: '~/deep/team.age' }).get('a')).toEqual(['team']);
    expect(await at.open().get('a')).toEqual(['mine']);
  });

  it('follows symbolic links to the store and the key', async () => {
    mkdirSync(join(at.home, 'elsewhere'));
    mkdirSync(at.folder, { recursive: true });
    symlinkSync('../../elsewhere/s', at.storePath);
    symlinkSync('../../elsewhere/k', at.keyPath);
    await at.open().put('a', '1');
    await at.open().put('b', '2');
    expect(readdirSync(join(at.home, 'elsewhere')).sort()).toEqual(['k', 's']);
    expect(await at.open().get('a', 'b')).toEqual(['1', '2']);
  });

  it('says where a value goes', async () => {
    const expected = '~/.config/keyzero/store.age, encrypted with ~/.config/keyzero/store.key';
    expect(at.open().destination()).toBe(expected);
    expect(readdirSync(at.home)).toEqual([]);
    await at.open().put('a', '1');
    expect(at.open({ identity: 'file' }).destination()).toBe(expected);
    // What is on disk counts, not what a new store would get.
    expect(at.open({}, { KEYZERO_PASSPHRASE: PASSPHRASE }).destination()).toContain(expected);
    expect(await at.open({}, { KEYZERO_PASSPHRASE: PASSPHRASE }).get('a')).toEqual(['1']);
  });

  it('loses nothing when twenty processes put at once', async () => {
    const program = await bundle('contender', top);
    const names = Array.from({ length: 20 }, (_, index) => `name-${String(index)}`);
    const children = names.map((name) =>
      spawn(process.execPath, [program, 'put', at.folder, name, `value of ${name}`], { stdio: 'ignore' }),
    );
    const ends = (await Promise.all(children.map((child) => once(child, 'exit')))) as [number][];
    expect(ends.map(([code]) => code)).toEqual(names.map(() => 0));
    expect(await at.open().get(...names)).toEqual(names.map((name) => `value of ${name}`));
    expect(readdirSync(at.folder).sort()).toEqual(['store.age', 'store.key']);
  });
});

describe('the age format', () => {
  it('is what the age library reads and writes', async () => {
    await at.open().put('a', CANARY);
    const decrypter = new Decrypter();
    decrypter.addIdentity(identityIn(at.keyPath));
    const plaintext = JSON.parse(await decrypter.decrypt(readFileSync(at.storePath), 'text')) as unknown;
    expect(plaintext).toEqual({ version: 1, secrets: { a: CANARY } });
    await plant(JSON.stringify({ version: 1, secrets: { b: 'by hand' } }));
    chmodSync(at.storePath, 0o600);
    expect(await at.open().get('b')).toEqual(['by hand']);
  });

  it.skipIf(!hasAge)('is what the age program reads and writes', async () => {
    await at.open().put('a', CANARY);
    const plaintext = execFileSync('age', ['-d', '-i', at.keyPath, at.storePath], { encoding: 'utf8' });
    expect(JSON.parse(plaintext)).toEqual({ version: 1, secrets: { a: CANARY } });
    const recipient = execFileSync('age-keygen', ['-y', at.keyPath], { encoding: 'utf8' }).trim();
    expect(readFileSync(at.keyPath, 'utf8')).toMatch(
      /^# created: \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ\n# public key: age1\w+\nAGE-SECRET-KEY-1\w+\n$/,
    );
    expect(readFileSync(at.keyPath, 'utf8')).toContain(`# public key: ${recipient}\n`);
    const armored = execFileSync('age', ['-a', '-r', recipient], { input: '{"version": 1, "secrets": {"b": "by hand"}}' });
    writeFileSync(at.storePath, armored, { mode: 0o600 });
    expect(await at.open().get('b')).toEqual(['by hand']);
  });

  it.skipIf(!hasAge)('reads with a key that age-keygen made', async () => {
    mkdirSync(at.folder, { recursive: true });
    execFileSync('age-keygen', ['-o', at.keyPath], { stdio: 'ignore' });
    const before = readFileSync(at.keyPath, 'utf8');
    await at.open().put('a', CANARY);
    expect(await at.open().get('a')).toEqual([CANARY]);
    expect(readFileSync(at.keyPath, 'utf8')).toBe(before);
  });
});

describe('what it refuses', () => {
  beforeEach(async () => {
    await at.open().put('a', CANARY);
  });

  it.each([
    ['is empty', ''],
    ['is no age file', 'hello\n'],
    ['is plain JSON', `{"version": 1, "secrets": {"a": "${CANARY}"}}\n`],
    ['is zeros', '\0'.repeat(5000)],
  ])('a store that %s', async (_, text) => {
    writeFileSync(at.storePath, text);
    expect(await at.refuses(at.open())).toMatchObject({
      code: 'provider-corrupt',
      message: 'cannot decrypt ~/.config/keyzero/store.age: it is damaged, or not an age file',
    });
  });

  it('a store that is cut off', async () => {
    const bytes = readFileSync(at.storePath);
    for (const size of [10, 100, bytes.length - 1]) {
      writeFileSync(at.storePath, bytes.subarray(0, size));
      expect((await at.refuses(at.open())).code).toBe('provider-corrupt');
    }
  });

  it('a store that was encrypted with another key', async () => {
    rmSync(at.keyPath);
    const identity = await generateX25519Identity();
    writeFileSync(at.keyPath, `${identity}\n`, { mode: 0o600 });
    const error = await at.refuses(at.open());
    expect(error.code).toBe('provider-corrupt');
    expect(error.message).toContain('was encrypted with another key than ~/.config/keyzero/store.key');
  });

  it('a store of a newer version', async () => {
    for (const text of [`{"version": 2, "secrets": {"a": "${CANARY}"}}`, `{"version": 3, "entries": ["${CANARY}"]}`]) {
      await plant(text);
      expect(await at.refuses(at.open())).toMatchObject({ code: 'provider-corrupt', hint: 'update kz' });
    }
  });

  it.each([
    '',
    CANARY,
    `{"version": 1, "secrets": {"a": "${CANARY}"}`,
    'null',
    '[]',
    '{}',
    '{"version": 1}',
    '{"version": "1", "secrets": {}}',
    '{"version": 0, "secrets": {}}',
    '{"version": 1, "secrets": null}',
    `{"version": 1, "secrets": ["${CANARY}"]}`,
    '{"version": 1, "secrets": {"a": 1}}',
  ])('a store that decrypts to %s', async (text) => {
    await plant(text);
    expect(await at.refuses(at.open())).toMatchObject({
      code: 'provider-corrupt',
      message: '~/.config/keyzero/store.age decrypts to something that is not a kz store',
    });
  });

  it('a store that decrypts to bytes that are not UTF-8', async () => {
    await plant(Buffer.from('{"version": 1, "secrets": {"a": "\xff"}}', 'latin1'));
    expect((await at.refuses(at.open())).code).toBe('provider-corrupt');
  });

  it('a store without its key, and makes no new one', async () => {
    rmSync(at.keyPath);
    const error = await at.refuses(at.open());
    expect(error).toMatchObject({
      code: 'provider-locked',
      message: 'cannot decrypt ~/.config/keyzero/store.age: its key is missing (~/.config/keyzero/store.key)',
    });
    expect(error.hint).toContain('restore the key from a backup');
  });

  it.each([
    ['', 'provider-locked', 'holds no age identity'],
    ['# only a comment\n', 'provider-locked', 'holds no age identity'],
    ['AGE-SECRET-KEY-1QQQQ\n', 'provider-corrupt', 'line 1 of ~/.config/keyzero/store.key is not an age identity'],
    [`# x\n\n${CANARY}\n`, 'provider-corrupt', 'line 3 of ~/.config/keyzero/store.key is not an age identity'],
    ['AGE-PLUGIN-YUBIKEY-1QQQQ\n', 'provider-locked', 'line 1 of ~/.config/keyzero/store.key is a plugin or SSH key'],
    ['AGE-SECRET-KEY-PQ-1QQQQ\n', 'provider-corrupt', 'AGE-SECRET-KEY-PQ-1 identity has a typing error'],
  ])('a key that is %j', async (text, code, message) => {
    writeFileSync(at.keyPath, text);
    const error = await at.refuses(at.open());
    expect(error.code).toBe(code);
    expect(error.message).toContain(message);
  });

  it('a key that is broken also when there is no store yet', async () => {
    rmSync(at.storePath);
    writeFileSync(at.keyPath, 'broken\n');
    expect(await at.open().get('a')).toEqual(['secret-missing']);
    expect((await failure(at.open().put('a', CANARY))).code).toBe('provider-corrupt');
    expect(readFileSync(at.keyPath, 'utf8')).toBe('broken\n');
  });

  it('a store or a key that others can read', async () => {
    for (const path of [at.storePath, at.keyPath]) {
      chmodSync(path, 0o644);
      expect(await at.refuses(at.open())).toMatchObject({ code: 'config-untrusted', hint: `run \`chmod 600 ${path}\`` });
      chmodSync(path, 0o600);
    }
    expect(await at.open().get('a')).toEqual([CANARY]);
  });

  it('a store whose lock stays taken', async () => {
    writeFileSync(join(at.folder, 'store.age.lock'), 'somebody');
    expect((await failure(at.open().put('a', 'x', 100))).code).toBe('provider-timeout');
    expect(await at.open().get('a')).toEqual([CANARY]);
  });
});
