// The embedded default: all the user's secrets in one age-encrypted file, with nothing to install and no service to run. The stock
// `age` program reads it too. Never replaces a store that it could not read.
import { join } from 'node:path';
import type { ProviderOptions } from '../config/schema.ts';
import { KzError } from '../core/errors.ts';
import { absolutePath, shortPath } from '../core/home-path.ts';
import { readPrivateFile, writePrivateFile } from '../core/private-file.ts';
import { Secret } from '../core/secret.ts';
import { decryptFile, encryptFile, recipientOf } from './age-file.ts';
import type { Outcome, Provider, ProviderContext, Ref } from './provider.ts';
import { openStoreKey, type StoreKey } from './store-key.ts';

type StoreOptions = NonNullable<ProviderOptions['store']>;

/** `openKeychain` is only called for a store whose key is in the system keychain. */
export function openStore(
  options: StoreOptions,
  context: ProviderContext,
  openKeychain: () => Promise<Provider> = async () => (await import('./keychain.ts')).openKeychain({}, context),
): Provider {
  const path = absolutePath(options.path ?? join(context.userDirectory, 'store.age'), context.userDirectory, context.env);
  const key = openStoreKey(path, { kind: options.identity, openKeychain }, context);
  const store: Store = { path, key, label: shortPath(path, context.env) };
  return {
    async get(refs, signal) {
      const contents = await read(store, signal);
      return refs.map((ref) => lookUp(ref, contents, store));
    },

    async put(ref, secret, signal) {
      const name = nameOf(ref);
      const change = async (): Promise<void> => {
        const contents = (await read(store, signal)) ?? (await start(store, signal));
        contents.secrets.set(name, secret.reveal());
        await write(store, contents);
      };
      await alone(path, change, signal);
    },

    async remove(ref, signal) {
      const name = nameOf(ref);
      if (readPrivateFile(path) === undefined) return false;
      const change = async (): Promise<boolean> => {
        const contents = await read(store, signal);
        if (contents?.secrets.delete(name) !== true) return false;
        await write(store, contents);
        return true;
      };
      return alone(path, change, signal);
    },

    destination: () => `${store.label}, encrypted with ${key.describe()}`,
  };
}

/** The change reads inside the lock, so that two at once lose nothing. Reading alone does not pay for loading the lock. */
async function alone<T>(path: string, change: () => Promise<T>, signal: AbortSignal): Promise<T> {
  const { withFileLock } = await import('../core/file-lock.ts');
  return withFileLock(path, change, signal);
}

interface Store {
  readonly path: string;
  /** The path, for people. */
  readonly label: string;
  readonly key: StoreKey;
}

interface Contents {
  readonly secrets: Map<string, string>;
  readonly identities: readonly string[];
}

/** Undefined when there is no store yet. */
async function read({ path, label, key }: Store, signal: AbortSignal): Promise<Contents | undefined> {
  const file = readPrivateFile(path);
  if (file === undefined) return undefined;
  const identities = await key.read(signal);
  if (identities === undefined) {
    throw new KzError('provider-locked', `cannot decrypt ${label}: its key is missing (${key.describe()})`, {
      hint: `restore the key from a backup; to start over without the old secrets, run \`mv ${label} ${label}.old\``,
    });
  }
  const plaintext = await decryptFile(file, identities, label);
  if (plaintext === undefined) {
    throw new KzError('provider-corrupt', `cannot decrypt ${label}: it was encrypted with another key than ${key.describe()}`, {
      hint: 'restore the key that belongs to it from a backup',
    });
  }
  return { secrets: parseSecrets(plaintext, label), identities };
}

async function start({ key }: Store, signal: AbortSignal): Promise<Contents> {
  return { secrets: new Map(), identities: (await key.read(signal)) ?? (await key.create(signal)) };
}

async function write({ path }: Store, { secrets, identities }: Contents): Promise<void> {
  const [first = ''] = identities;
  const text = `${JSON.stringify({ version: VERSION, secrets: Object.fromEntries(secrets) }, undefined, 2)}\n`;
  await writePrivateFile(path, await encryptFile(Buffer.from(text), { recipients: [await recipientOf(first)] }));
}

const VERSION = 1;

/** Errors come without a cause: JSON.parse quotes the text that it cannot read. */
function parseSecrets(plaintext: Uint8Array, label: string): Map<string, string> {
  const content = parseJson(plaintext);
  if (typeof content !== 'object' || content === null || !('version' in content)) throw notAStore(label);
  const { version } = content;
  if (typeof version === 'number' && version > VERSION) {
    throw new KzError('provider-corrupt', `${label} has version ${String(version)}, and this kz reads up to ${String(VERSION)}`, {
      hint: 'update kz',
    });
  }
  const secrets = 'secrets' in content ? content.secrets : undefined;
  if (version !== VERSION || typeof secrets !== 'object' || secrets === null || Array.isArray(secrets)) throw notAStore(label);
  const entries = Object.entries(secrets);
  if (!entries.every(isTextEntry)) throw notAStore(label);
  return new Map(entries);
}

function parseJson(plaintext: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(plaintext));
  } catch {
    return undefined;
  }
}

function isTextEntry(entry: [string, unknown]): entry is [string, string] {
  return typeof entry[1] === 'string';
}

function notAStore(label: string): KzError {
  return new KzError('provider-corrupt', `${label} decrypts to something that is not a kz store`);
}

function lookUp(ref: Ref, contents: Contents | undefined, { label }: Store): Outcome {
  try {
    const name = nameOf(ref);
    const value = contents?.secrets.get(name);
    if (value !== undefined) return { ok: true, secret: new Secret(value) };
    return { ok: false, error: new KzError('secret-missing', `${JSON.stringify(name)} is not in ${label}`) };
  } catch (error) {
    if (error instanceof KzError) return { ok: false, error };
    throw error;
  }
}

function nameOf(ref: Ref): string {
  if (ref.text !== '' && !/\p{Cc}/u.test(ref.text)) return ref.text;
  throw new KzError('ref-invalid', `store ref ${JSON.stringify(ref.text)} is not a name: it is empty or holds control characters`);
}
