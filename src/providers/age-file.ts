// Age files with the age library where speed does not matter, and with age-decrypt.ts where it does. Loads the library only when it
// has to. Refuses plugin and SSH identities.
import { KzError } from '../core/errors.ts';
import { dearmor, decryptX25519, identityBytes, isArmored } from './age-decrypt.ts';

/**
 * The identities in the text of an `age-keygen` file. `what` names the file in errors: an identity that cannot be one is
 * `provider-corrupt`, none at all is `provider-locked`.
 */
export function parseIdentities(text: string, what: string): readonly string[] {
  const identities: string[] = [];
  for (const [index, line] of text.split('\n').entries()) {
    const word = line.trim();
    if (word === '' || word.startsWith('#')) continue;
    if (!isPostQuantum(word) && identityBytes(word) === undefined) throw notAnIdentity(word, `line ${String(index + 1)} of ${what}`);
    identities.push(word);
  }
  if (identities.length === 0) throw new KzError('provider-locked', `${what} holds no age identity`);
  return identities;
}

/** Undefined when none of the identities opens the file. Throws `provider-corrupt` when it is damaged or no age file. */
export async function decryptFile(file: Uint8Array, identities: readonly string[], what: string): Promise<Uint8Array | undefined> {
  const classic = identities.filter((identity) => !isPostQuantum(identity));
  try {
    const sealed = isArmored(file) ? dearmor(file) : file;
    return decryptX25519(sealed, classic) ?? (await decryptPostQuantum(sealed, identities.filter(isPostQuantum)));
  } catch (error) {
    throw error instanceof KzError ? error : damaged(what, error);
  }
}

/** Undefined when the passphrase is wrong. Throws `provider-corrupt` like decryptFile. Takes about a second: that is scrypt's purpose. */
export async function decryptWithPassphrase(file: Uint8Array, passphrase: string, what: string): Promise<Uint8Array | undefined> {
  const { Decrypter, armor } = await import('age-encryption');
  const decrypter = new Decrypter();
  decrypter.addPassphrase(passphrase);
  try {
    return await decrypter.decrypt(isArmored(file) ? armor.decode(Buffer.from(file).toString('latin1')) : file);
  } catch (error) {
    if (isNoMatch(error)) return undefined;
    // Without the cause: the library quotes the first line of what is no age file.
    throw damaged(what);
  }
}

export interface EncryptOptions {
  readonly recipients: readonly string[];
  readonly armored?: boolean;
}

/** Throws `config-invalid` for a recipient that cannot be one. */
export async function encryptFile(plaintext: Uint8Array, { recipients, armored = false }: EncryptOptions): Promise<Uint8Array> {
  const { Encrypter, armor } = await import('age-encryption');
  const encrypter = new Encrypter();
  for (const recipient of new Set(recipients)) {
    try {
      encrypter.addRecipient(recipient);
    } catch (error) {
      throw new KzError('config-invalid', `${JSON.stringify(recipient)} is not an age recipient that kz can encrypt to`, {
        hint: 'correct `recipients` in [providers.age]; plugin recipients need the age program',
        cause: error,
      });
    }
  }
  const file = await encrypter.encrypt(plaintext);
  return armored ? Buffer.from(armor.encode(file)) : file;
}

export async function encryptWithPassphrase(plaintext: Uint8Array, passphrase: string): Promise<Uint8Array> {
  const { Encrypter } = await import('age-encryption');
  const encrypter = new Encrypter();
  encrypter.setPassphrase(passphrase);
  return encrypter.encrypt(plaintext);
}

export async function newIdentity(): Promise<string> {
  const { generateX25519Identity } = await import('age-encryption');
  return generateX25519Identity();
}

/** The public half of an identity that parseIdentities returned. */
export async function recipientOf(identity: string): Promise<string> {
  const { identityToRecipient } = await import('age-encryption');
  return identityToRecipient(identity);
}

function isPostQuantum(identity: string): boolean {
  return identity.startsWith('AGE-SECRET-KEY-PQ-1');
}

async function decryptPostQuantum(file: Uint8Array, identities: readonly string[]): Promise<Uint8Array | undefined> {
  if (identities.length === 0) return undefined;
  const { Decrypter } = await import('age-encryption');
  const decrypter = new Decrypter();
  try {
    for (const identity of identities) decrypter.addIdentity(identity);
  } catch {
    throw new KzError('provider-corrupt', 'an AGE-SECRET-KEY-PQ-1 identity has a typing error');
  }
  try {
    return await decrypter.decrypt(file);
  } catch (error) {
    if (isNoMatch(error)) return undefined;
    throw new Error('the age file is damaged', { cause: error });
  }
}

/** The library has no error classes. Tests with a wrong passphrase and a wrong key notice when it changes its words. */
function isNoMatch(error: unknown): boolean {
  return error instanceof Error && error.message.startsWith('no identity matched');
}

function notAnIdentity(word: string, where: string): KzError {
  if (word.startsWith('AGE-PLUGIN-') || word.startsWith('-----BEGIN ') || word.startsWith('ssh-')) {
    return new KzError('provider-locked', `${where} is a plugin or SSH key, or an encrypted file, none of which kz can use`, {
      hint: 'run `age-keygen` for an identity that kz can use',
    });
  }
  return new KzError('provider-corrupt', `${where} is not an age identity (AGE-SECRET-KEY-1…)`);
}

function damaged(what: string, cause?: unknown): KzError {
  return new KzError('provider-corrupt', `cannot decrypt ${what}: it is damaged, or not an age file`, { cause });
}
