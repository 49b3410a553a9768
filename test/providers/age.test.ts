import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { generateHybridIdentity, identityToRecipient } from 'age-encryption';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { AgeHome, CANARY, failure, writeIdentity, type Setup } from '../fixtures/age-home.ts';

let top: string;
let at: AgeHome;

beforeAll(() => {
  top = mkdtempSync(join(tmpdir(), 'kz-age-'));
});

beforeEach(async () => {
  at = await AgeHome.create(top);
});

afterAll(() => {
  rmSync(top, { recursive: true });
});

describe('get', () => {
  it.each([
    ['secrets.env.age', `# comment\nA=${CANARY}\nexport B='two words'\n`],
    ['.env.age', `A=${CANARY}\nB="two words"`],
    ['secrets.json.age', `{"A": "${CANARY}", "B": "two words"}`],
    ['secrets.toml.age', `A = "${CANARY}"\nB = 'two words'\n`],
    ['secrets.yaml.age', `A: ${CANARY}\nB: two words\n`],
    ['secrets.age', `{"A": "${CANARY}", "B": "two words"}`],
  ])('reads keys of %s, binary and armored', async (name, plaintext) => {
    for (const write of ['seal', 'sealArmored'] as const) {
      await at[write](name, plaintext);
      expect(await at.get({}, `${name}#B`, `${name}#C`, `${name}#A`, name)).toEqual(['two words', 'secret-missing', CANARY, plaintext]);
    }
  });

  it('reads a field of a nested document', async () => {
    await at.seal('app.json.age', `{"db": {"password": "${CANARY}", "port": 5432}}`);
    expect(await at.get({}, 'app.json.age#db.password', 'app.json.age#db.port')).toEqual([CANARY, '5432']);
  });

  it('finds the file from the folder of the config, from home, and anywhere', async () => {
    mkdirSync(join(at.repository, 'sub.age'));
    await at.seal('sub.age/a.env.age', `A=${CANARY}`);
    const path = join(at.repository, 'sub.age', 'a.env.age');
    expect(await at.get({}, 'sub.age/a.env.age#A', '~/project/sub.age/a.env.age#A', `${path}#A`)).toEqual([CANARY, CANARY, CANARY]);
  });

  it('gives each ref its own outcome', async () => {
    await at.seal('good.env.age', `A=${CANARY}`);
    await at.seal('foreign.env.age', `A=${CANARY}`, [at.other.recipient]);
    await at.seal('syntax.env.age', `${CANARY}\n`);
    writeFileSync(join(at.repository, 'plain.env.age'), `A=${CANARY}\n`);
    const refs = ['none.env.age#A', 'foreign.env.age#A', 'syntax.env.age#A', 'plain.env.age#A', 'good.env#A', 'good.env.age#A'];
    const codes = ['secret-missing', 'provider-denied', 'secret-invalid', 'provider-corrupt', 'ref-invalid', CANARY];
    expect(await at.get({}, ...refs)).toEqual(codes);
    for (const text of refs.slice(0, -1)) await at.getFailure({}, text);
  });

  it.each(['', 'a', 'a.env', '.age', '#A', 'a.age#', 'a.agex#A', 'a.env#b', 'a\n.age#A', 'a.age#A\u0007'])(
    'refuses the ref %j',
    async (text) => {
      expect((await at.getFailure({}, text)).code).toBe('ref-invalid');
      expect((await failure(at.put({}, text, CANARY))).code).toBe('ref-invalid');
      expect((await failure(at.remove({}, text))).code).toBe('ref-invalid');
      expect(readdirSync(at.repository)).toEqual([]);
    },
  );

  it('refuses a file that is cut off, and text that is not UTF-8', async () => {
    await at.seal('a.env.age', `A=${CANARY}\n`.repeat(100));
    const path = join(at.repository, 'a.env.age');
    writeFileSync(path, readFileSync(path).subarray(0, -5));
    expect(await at.getFailure({}, 'a.env.age#A')).toMatchObject({
      code: 'provider-corrupt',
      message: 'cannot decrypt ~/project/a.env.age: it is damaged, or not an age file',
    });
    await at.seal('a.env.age', Buffer.from([0x41, 0x3d, 0xff]));
    expect((await at.getFailure({}, 'a.env.age')).code).toBe('provider-corrupt');
  });

  it('does not wait for a FIFO, and says that a folder is no file', async () => {
    execFileSync('mkfifo', [join(at.repository, 'fifo.env.age')]);
    mkdirSync(join(at.repository, 'folder.env.age'));
    for (const [name, kind] of [
      ['fifo', 'a FIFO'],
      ['folder', 'a folder'],
    ]) {
      const error = await at.getFailure({}, `${name ?? ''}.env.age#A`);
      expect([error.code, error.message]).toEqual([
        'ref-invalid',
        `age file ~/project/${name ?? ''}.env.age is ${kind ?? ''}, not a regular file`,
      ]);
    }
  });

  it('reads no device behind a link, and at most 8 MiB', async () => {
    symlinkSync('/dev/zero', join(at.repository, 'zero.env.age'));
    writeFileSync(join(at.repository, 'large.env.age'), '');
    truncateSync(join(at.repository, 'large.env.age'), 8 * 1_048_576 + 1);
    const problems = {
      'zero.env.age': ['ref-invalid', 'age file ~/project/zero.env.age is a device, not a regular file'],
      'large.env.age': ['secret-invalid', 'age file ~/project/large.env.age is larger than 8 MiB'],
    };
    for (const [name, problem] of Object.entries(problems)) {
      for (const error of [
        await at.getFailure({}, name),
        await failure(at.put({}, `${name}#A`, CANARY)),
        await failure(at.remove({}, name)),
      ])
        expect([error.code, error.message]).toEqual(problem);
    }
    expect(lstatSync(join(at.repository, 'zero.env.age')).isSymbolicLink()).toBe(true);
  });

  it('says that a document is nested too deeply', async () => {
    await at.seal('deep.json.age', `{"a": ${'['.repeat(200_000)}${']'.repeat(200_000)}}`);
    expect((await at.getFailure({}, 'deep.json.age#a')).message).toBe('~/project/deep.json.age is nested too deeply');
    expect((await failure(at.put({}, 'deep.json.age#b', CANARY))).message).toBe('~/project/deep.json.age is nested too deeply');
  });
});

describe('identities', () => {
  beforeEach(async () => {
    await at.seal('a.env.age', `A=${CANARY}`, [at.other.recipient]);
  });

  it('come from the options, then from KEYZERO_AGE_IDENTITY, then from KEYZERO_AGE_KEY, then from age.txt', async () => {
    const [right, wrong] = [join(at.home, 'right.txt'), join(at.home, 'wrong.txt')];
    writeIdentity(right, at.own.identity, at.other.identity);
    writeIdentity(wrong, at.own.identity);
    const read = (setup: Setup): Promise<unknown[]> => at.get(setup, 'a.env.age#A');
    const env = { KEYZERO_AGE_IDENTITY: wrong, KEYZERO_AGE_KEY: at.own.identity };
    expect(await read({ options: { identity: right }, env })).toEqual([CANARY]);
    expect(await read({ options: { identity: '~/right.txt' } })).toEqual([CANARY]);
    expect(await read({ env: { ...env, KEYZERO_AGE_IDENTITY: right } })).toEqual([CANARY]);
    expect(await read({ env: { KEYZERO_AGE_IDENTITY: '~/right.txt' } })).toEqual([CANARY]);
    expect(await read({ env: { KEYZERO_AGE_IDENTITY: '', KEYZERO_AGE_KEY: at.other.identity } })).toEqual([CANARY]);
    expect(await read({ env: { KEYZERO_AGE_IDENTITY: wrong, KEYZERO_AGE_KEY: at.other.identity } })).toEqual(['provider-denied']);
    expect(await read({ env: { KEYZERO_AGE_IDENTITY: '', KEYZERO_AGE_KEY: '' } })).toEqual(['provider-denied']);
    writeIdentity(at.identityPath, at.other.identity);
    expect(await read({})).toEqual([CANARY]);
  });

  it('are paths, and a key in their place is never quoted', async () => {
    const hint = 'use KEYZERO_AGE_KEY for the key itself';
    const keys = [at.other.identity, at.other.identity.toLowerCase(), `# a comment\n${at.other.identity}`, `./${at.other.identity}`];
    for (const key of keys) {
      const cases = [
        [{ env: { KEYZERO_AGE_IDENTITY: key } }, 'KEYZERO_AGE_IDENTITY holds a key, not the path of a file'],
        [{ options: { identity: key } }, '`identity` in [providers.age] holds a key, not the path of a file'],
      ] as const;
      for (const [setup, message] of cases) {
        expect(await at.getFailure(setup, 'a.env.age#A')).toMatchObject({ code: 'config-invalid', message, hint });
        expect(await failure(at.put(setup, 'new.env.age#A', CANARY))).toMatchObject({ code: 'config-invalid', message, hint });
      }
    }
  });

  it('may be post-quantum', async () => {
    const hybrid = await generateHybridIdentity();
    await at.seal('pq.env.age', `A=${CANARY}`, [await identityToRecipient(hybrid)]);
    expect(await at.get({}, 'pq.env.age#A')).toEqual(['provider-denied']);
    expect(await at.get({ env: { KEYZERO_AGE_KEY: `${at.own.identity}\n${hybrid}`, KEYZERO_AGE_IDENTITY: '' } }, 'pq.env.age#A')).toEqual([
      CANARY,
    ]);
  });

  it('are named in the error when they do not fit or are missing', async () => {
    expect((await at.getFailure({}, 'a.env.age#A')).message).toBe(
      'cannot decrypt ~/project/a.env.age: it is not encrypted to the identity in ~/.config/keyzero/age.txt',
    );
    rmSync(at.identityPath);
    expect(await at.getFailure({}, 'a.env.age#A')).toMatchObject({
      code: 'provider-locked',
      message: 'no age identity for ~/project/a.env.age: ~/.config/keyzero/age.txt does not exist',
    });
  });

  it('are refused when others can read the file, or when it holds something else', async () => {
    const path = at.identityPath;
    chmodSync(path, 0o644);
    expect(await at.getFailure({}, 'a.env.age#A')).toMatchObject({ code: 'config-untrusted', hint: `run \`chmod 600 ${path}\`` });
    chmodSync(path, 0o600);
    writeFileSync(path, '-----BEGIN OPENSSH PRIVATE KEY-----\n');
    expect((await at.getFailure({}, 'a.env.age#A')).message).toContain('line 1 of ~/.config/keyzero/age.txt is a plugin or SSH key');
    expect((await at.getFailure({ env: { KEYZERO_AGE_KEY: CANARY } }, 'a.env.age#A')).message).toBe(
      'line 1 of KEYZERO_AGE_KEY is not an age identity (AGE-SECRET-KEY-1…)',
    );
  });
});
