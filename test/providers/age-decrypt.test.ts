import { createHash, randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { inflateSync } from 'node:zlib';
import { armor, Decrypter, Encrypter, generateX25519Identity, identityToRecipient } from 'age-encryption';
import { describe, expect, it } from 'vitest';
import { dearmor, decryptX25519, identityBytes, isArmored } from '../../src/providers/age-decrypt.ts';

/** See the license in the file. The format is described at https://github.com/C2SP/CCTV/tree/main/age */
const { vectors } = JSON.parse(readFileSync(join(import.meta.dirname, '../fixtures/age-vectors.json'), 'utf8')) as {
  vectors: Record<string, string>;
};

interface Vector {
  readonly facts: ReadonlyMap<string, string>;
  readonly identities: readonly string[];
  readonly file: Buffer;
}

function readVector(text: string): Vector {
  const bytes = Buffer.from(text, 'base64');
  const end = bytes.indexOf('\n\n');
  const lines = bytes.toString('utf8', 0, end).split('\n');
  const pairs = lines.map((line): [string, string] => [line.slice(0, line.indexOf(':')), line.slice(line.indexOf(':') + 2)]);
  const facts = new Map(pairs);
  const rest = bytes.subarray(end + 2);
  return {
    facts,
    identities: pairs.flatMap(([name, value]) => (name === 'identity' ? [value] : [])),
    file: facts.get('compressed') === 'zlib' ? inflateSync(rest) : rest,
  };
}

function decrypt({ facts, identities, file }: Vector): string {
  const isArmor = facts.get('armored') === 'yes';
  try {
    const plaintext = decryptX25519(isArmor ? dearmor(file) : file, identities);
    return plaintext === undefined ? 'no match' : createHash('sha256').update(plaintext).digest('hex');
  } catch (error) {
    return error instanceof TypeError || error instanceof RangeError ? String(error) : 'failure';
  }
}

function expected({ facts }: Vector): string {
  const expectation = facts.get('expect') ?? '';
  if (expectation === 'success') return facts.get('payload') ?? '';
  return expectation === 'no match' ? expectation : 'failure';
}

async function encrypt(plaintext: Uint8Array, ...identities: string[]): Promise<Uint8Array> {
  const encrypter = new Encrypter();
  for (const identity of identities) encrypter.addRecipient(await identityToRecipient(identity));
  return encrypter.encrypt(plaintext);
}

describe('the test vectors of the age format', () => {
  it.each(Object.entries(vectors))('%s', (_, text) => {
    const vector = readVector(text);
    expect(decrypt(vector)).toBe(expected(vector));
  });

  it('hold every kind of outcome', () => {
    const outcomes = Object.values(vectors).map((text) => readVector(text).facts.get('expect'));
    const kinds = ['armor failure', 'header failure', 'HMAC failure', 'no match', 'payload failure', 'success'];
    expect([...new Set(outcomes)].sort()).toEqual([...kinds].sort());
  });
});

describe('against the age library', () => {
  it.each([0, 1, 15, 16, 17, 65_535, 65_536, 65_537, 131_071, 131_072, 131_073, 1_000_000])('reads %i bytes', async (size) => {
    const identity = await generateX25519Identity();
    const plaintext = randomBytes(size);
    const file = await encrypt(plaintext, identity);
    for (const sealed of [file, dearmor(Buffer.from(armor.encode(file)))]) {
      expect(plaintext.equals(decryptX25519(sealed, [identity]) ?? Buffer.from('no match'))).toBe(true);
    }
  });

  it('finds its recipient among others, and the right one of many identities', async () => {
    const [a, b, c] = await Promise.all([generateX25519Identity(), generateX25519Identity(), generateX25519Identity()]);
    const file = await encrypt(Buffer.from('text'), a, b);
    for (const identities of [[a], [b], [c, b], [b, a]]) expect(Buffer.from(decryptX25519(file, identities) ?? []).toString()).toBe('text');
    expect(decryptX25519(file, [c])).toBeUndefined();
    expect(decryptX25519(file, [])).toBeUndefined();
  });

  it('reads a view into a larger buffer', async () => {
    const identity = await generateX25519Identity();
    const file = await encrypt(Buffer.from('text'), identity);
    const larger = Buffer.concat([randomBytes(7), file, randomBytes(9)]);
    expect(decryptX25519(new Uint8Array(larger.buffer, larger.byteOffset + 7, file.length), [identity])).toEqual(Buffer.from('text'));
  });

  it('accepts no file that is cut off or has a changed byte', async () => {
    const identity = await generateX25519Identity();
    const file = await encrypt(randomBytes(40), identity);
    const outcome = (bytes: Uint8Array): string => {
      try {
        return decryptX25519(bytes, [identity]) === undefined ? 'no match' : 'read';
      } catch {
        return 'failure';
      }
    };
    for (let index = 0; index < file.length; index++) {
      expect(outcome(file.subarray(0, index))).toBe('failure');
      const changed = Uint8Array.from(file);
      changed[index] = (changed[index] ?? 0) ^ 1;
      expect(outcome(changed)).not.toBe('read');
    }
    expect(outcome(Buffer.concat([file, Buffer.from([0])]))).toBe('failure');
  });

  it('agrees on which identities have a typing error', async () => {
    const identity = await generateX25519Identity();
    expect(identityBytes(identity)).toHaveLength(32);
    const accepts = (text: string): boolean => {
      try {
        new Decrypter().addIdentity(text);
        return true;
      } catch {
        return false;
      }
    };
    for (let index = 0; index < identity.length; index++) {
      for (const letter of 'QPZR1b ') {
        const changed = identity.slice(0, index) + letter + identity.slice(index + 1);
        expect([changed, identityBytes(changed) !== undefined]).toEqual([changed, accepts(changed)]);
      }
    }
    for (const text of ['', 'AGE-SECRET-KEY-1', identity.toLowerCase(), `${identity}\n`, ` ${identity}`, identity.slice(0, -1)]) {
      expect(identityBytes(text)).toBeUndefined();
    }
  });
});

describe('isArmored', () => {
  it('looks at the first line, not at the rest', async () => {
    const file = await encrypt(Buffer.from('-----BEGIN AGE ENCRYPTED FILE-----'), await generateX25519Identity());
    expect(isArmored(file)).toBe(false);
    expect(isArmored(Buffer.from(armor.encode(file)))).toBe(true);
    expect(isArmored(Buffer.from(`\r\n \n${armor.encode(file)}`))).toBe(true);
    expect(isArmored(Buffer.alloc(0))).toBe(false);
  });
});
