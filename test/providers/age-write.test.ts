import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { armor } from 'age-encryption';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { AgeHome, CANARY, failure, writeIdentity } from '../fixtures/age-home.ts';

const hasAge = spawnSync('age', ['--version']).status === 0;

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

describe('put', () => {
  it.each([
    ['secrets.env.age', '# why\nexport A=old # first\nB=2\n', `# why\nexport A=${CANARY} # first\nB=2\n`],
    ['secrets.json.age', '{\n  "B": 12345678901234567890,\n  "A": "old"\n}\n', `{\n  "B": 12345678901234567890,\n  "A": "${CANARY}"\n}\n`],
    ['secrets.toml.age', '# why\nA = "old" # first\n\n[t]\nB = 2\n', `# why\nA = "${CANARY}" # first\n\n[t]\nB = 2\n`],
  ])('changes one key of %s and keeps everything else, the armor too', async (name, before, after) => {
    for (const write of ['seal', 'sealArmored'] as const) {
      await at[write](name, before);
      await at.put(at.shared, `${name}#A`, CANARY);
      expect(at.isArmored(name)).toBe(write === 'sealArmored');
      expect(await at.unseal(name)).toBe(after);
      expect(await at.unseal(name, at.other.identity)).toBe(after);
      expect(await at.get({}, `${name}#A`)).toEqual([CANARY]);
      expect(statSync(join(at.repository, name)).mode & 0o777).toBe(0o600);
      expect(readdirSync(at.repository)).toEqual([name]);
    }
  });

  it.each([
    ['new.env.age', `A=${CANARY}\n`],
    ['new.json.age', `{\n  "A": "${CANARY}"\n}\n`],
    ['new.toml.age', `A = "${CANARY}"\n`],
  ])('starts %s, armored, for ourselves', async (name, expected) => {
    await at.put({}, `deep/${name}#A`, CANARY);
    expect(at.isArmored(`deep/${name}`)).toBe(true);
    expect(await at.unseal(`deep/${name}`)).toBe(expected);
    expect(statSync(join(at.repository, 'deep')).mode & 0o777).toBe(0o700);
  });

  it('does not guess who else may read a file that is there', async () => {
    await at.seal('a.env.age', 'A=1\n', [at.own.recipient, at.other.recipient]);
    const before = readFileSync(join(at.repository, 'a.env.age'));
    for (const setup of [{}, { options: { recipients: [] } }]) {
      for (const work of [() => at.put(setup, 'a.env.age#A', CANARY), () => at.remove(setup, 'a.env.age#A')]) {
        expect(await failure(work())).toMatchObject({ code: 'config-invalid', hint: 'set `recipients = ["age1…"]` in [providers.age]' });
      }
    }
    expect(readFileSync(join(at.repository, 'a.env.age'))).toEqual(before);
  });

  it.each(['a.env.age', 'b.json.age'])('changes %s again and again when nobody else reads it', async (name) => {
    for (const key of ['A', 'B', 'C']) await at.put({}, `${name}#${key}`, `${CANARY}-${key}`);
    expect(await at.unseal(name)).toContain(`${CANARY}-C`);
    await at.seal(name, name.endsWith('json.age') ? '{"A":"1"}' : 'A=1\n', [at.own.recipient]);
    await at.put({}, `${name}#A`, CANARY);
    expect(await at.unseal(name)).toContain(CANARY);
  });

  it('writes to ourselves once, also when the config names us', async () => {
    await at.put({ options: { recipients: [at.own.recipient, at.other.recipient] } }, 'a.env.age#A', CANARY);
    const header = armor.decode(readFileSync(join(at.repository, 'a.env.age'), 'utf8'));
    expect(
      Buffer.from(header)
        .toString('latin1')
        .match(/^-> X25519 /gm),
    ).toHaveLength(2);
  });

  it('replaces the whole text when the ref names no key', async () => {
    await at.put({}, 'cert.pem.age', 'first\n');
    await at.put(at.shared, 'cert.pem.age', CANARY);
    expect(await at.unseal('cert.pem.age')).toBe(CANARY);
  });

  it('never replaces what it cannot read', async () => {
    await at.seal('foreign.env.age', 'A=1\n', [at.other.recipient]);
    await at.seal('syntax.env.age', `${CANARY}\n`);
    await at.seal('config.yaml.age', `A: ${CANARY}\n`);
    writeFileSync(join(at.repository, 'plain.env.age'), `A=${CANARY}\n`);
    writeFileSync(join(at.repository, 'empty.env.age'), '');
    const snapshot = (): string[] => readdirSync(at.repository).map((name) => `${name} ${readFileSync(join(at.repository, name), 'hex')}`);
    const before = snapshot();
    const codes: Record<string, string> = {
      'foreign.env.age': 'provider-denied',
      'syntax.env.age': 'secret-invalid',
      'config.yaml.age': 'provider-read-only',
      'plain.env.age': 'provider-corrupt',
      'empty.env.age': 'provider-corrupt',
    };
    for (const [name, code] of Object.entries(codes)) {
      expect((await failure(at.put(at.shared, `${name}#A`, 'x'))).code).toBe(code);
      expect((await failure(at.remove(at.shared, `${name}#A`))).code).toBe(code);
    }
    for (const name of ['foreign.env.age', 'plain.env.age', 'empty.env.age']) {
      expect((await failure(at.put(at.shared, name, 'x'))).code).toBe(codes[name]);
      expect((await failure(at.remove(at.shared, name))).code).toBe(codes[name]);
    }
    expect(snapshot()).toEqual(before);
  });

  it('refuses a recipient that cannot be one, and writes nothing', async () => {
    const error = await failure(at.put({ options: { recipients: ['age1yubikey1qqqq'] } }, 'a.env.age#A', CANARY));
    expect(error).toMatchObject({ code: 'config-invalid', message: '"age1yubikey1qqqq" is not an age recipient that kz can encrypt to' });
    expect(readdirSync(at.repository)).toEqual([]);
  });

  it('needs an identity even for a new file, so that kz can read what it wrote', async () => {
    rmSync(at.identityPath);
    expect((await failure(at.put(at.shared, 'a.env.age#A', CANARY))).code).toBe('provider-locked');
    expect(existsSync(join(at.repository, 'a.env.age'))).toBe(false);
  });

  it('loses nothing when several write at once', async () => {
    const names = Array.from({ length: 10 }, (_, index) => `NAME_${String(index)}`);
    await Promise.all(names.map((name) => at.put(at.shared, `a.env.age#${name}`, `value of ${name}`)));
    expect(await at.get({}, ...names.map((name) => `a.env.age#${name}`))).toEqual(names.map((name) => `value of ${name}`));
  });

  it('follows a symbolic link', async () => {
    mkdirSync(join(at.repository, 'real'));
    symlinkSync('real/a.env.age', join(at.repository, 'a.env.age'));
    await at.put({}, 'a.env.age#A', CANARY);
    expect(readdirSync(join(at.repository, 'real'))).toEqual(['a.env.age']);
    expect(await at.get({}, 'a.env.age#A')).toEqual([CANARY]);
  });

  it('says where the value goes', () => {
    expect(at.provider().destination?.(at.ref('a.env.age#A'))).toBe('~/project/a.env.age, key A, encrypted to your own age identity');
    expect(at.provider({ options: { recipients: ['age1a', 'age1b'] } }).destination?.(at.ref('a.pem.age'))).toBe(
      '~/project/a.pem.age, encrypted to your own age identity and 2 configured recipients',
    );
  });
});

describe('remove', () => {
  it('takes one key out, once', async () => {
    await at.seal('a.env.age', `# why\nA=${CANARY}\nB=2\n`);
    expect([await at.remove(at.shared, 'a.env.age#A'), await at.remove(at.shared, 'a.env.age#A')]).toEqual([true, false]);
    expect(await at.unseal('a.env.age')).toBe('# why\nB=2\n');
    expect(await at.remove(at.shared, 'none.env.age#A')).toBe(false);
    expect(readdirSync(at.repository)).toEqual(['a.env.age']);
  });

  it('removes the file when the ref names no key', async () => {
    await at.seal('cert.pem.age', CANARY);
    expect([await at.remove({}, 'cert.pem.age'), await at.remove({}, 'cert.pem.age')]).toEqual([true, false]);
    expect(readdirSync(at.repository)).toEqual([]);
  });
});

describe.skipIf(!hasAge)('the age program', () => {
  it('reads what kz writes', async () => {
    await at.put(at.shared, 'a.env.age#A', CANARY);
    for (const key of [at.own.identity, at.other.identity]) {
      writeIdentity(join(at.home, 'key.txt'), key);
      const plaintext = execFileSync('age', ['-d', '-i', join(at.home, 'key.txt'), join(at.repository, 'a.env.age')], { encoding: 'utf8' });
      expect(plaintext).toBe(`A=${CANARY}\n`);
    }
  });

  it('writes what kz reads and changes', async () => {
    for (const flags of [[], ['-a']]) {
      const args = [...flags, '-r', at.other.recipient, '-r', at.own.recipient, '-o', join(at.repository, 'a.env.age')];
      execFileSync('age', args, { input: `A=${CANARY}\n` });
      expect(await at.get({}, 'a.env.age#A')).toEqual([CANARY]);
      await at.put(at.shared, 'a.env.age#B', '2');
      expect(await at.get({}, 'a.env.age#A', 'a.env.age#B')).toEqual([CANARY, '2']);
    }
  });
});
