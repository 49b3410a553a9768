// The key of the embedded store: an age identity in a file beside it, the same file under a passphrase, or in the system keychain.
// What exists on disk says which. Never makes a new key for a store that has one, nor replaces a key, nor guesses which of two it is, nor
// accepts another kind than the configured one: whoever can put files beside a store could else put theirs in place of it.
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { KzError } from '../core/errors.ts';
import { shortPath } from '../core/home-path.ts';
import { readPrivateFile, writePrivateFile } from '../core/private-file.ts';
import { Secret } from '../core/secret.ts';
import { decryptWithPassphrase, encryptWithPassphrase, newIdentity, parseIdentities, recipientOf } from './age-file.ts';
import type { Provider, ProviderContext, Ref } from './provider.ts';

export type KeyKind = 'file' | 'passphrase' | 'keychain';

export interface StoreKey {
  /** The identities; undefined when there is no key yet. */
  read(signal: AbortSignal): Promise<readonly string[] | undefined>;
  /** Makes the key of a new store. Only for who holds the store's lock and has seen that `read` finds none. */
  create(signal: AbortSignal): Promise<readonly string[]>;
  /** Where the key is, or will be, in words for a person. */
  describe(): string;
}

export interface StoreKeyOptions {
  /** Where the key is, or a new one goes. By default what exists; a new one under the passphrase when that is set, else in a file. */
  readonly kind: KeyKind | undefined;
  readonly openKeychain: () => Promise<Provider>;
}

const KEYCHAIN_REF = 'keyzero/store-identity';
const KINDS = ['file', 'passphrase', 'keychain'] as const satisfies KeyKind[];

export function openStoreKey(store: string, options: StoreKeyOptions, context: ProviderContext): StoreKey {
  const stem = store.replace(/\.age$/, '');
  const paths = { file: `${stem}.key`, passphrase: `${stem}.key.age`, keychain: `${stem}.key.keychain` };
  const show = (kind: KeyKind): string => shortPath(paths[kind], context.env);
  const { KEYZERO_PASSPHRASE: passphrase } = context.env;
  const existing = (): KeyKind | undefined =>
    theOnly(
      KINDS.filter((kind) => existsSync(paths[kind])),
      options.kind,
      show,
    );
  const planned = options.kind ?? (passphrase === undefined ? 'file' : 'passphrase');
  const unlock = rememberUnlocked();

  return {
    async read(signal) {
      const kind = existing();
      if (kind === undefined) return undefined;
      const what = show(kind);
      if (kind === 'keychain') return parseIdentities(await fromKeychain(store, options, signal), 'the key in the system keychain');
      const bytes = readPrivateFile(paths[kind]);
      if (bytes === undefined) return undefined;
      return parseIdentities(kind === 'file' ? toText(bytes) : await unlock(bytes, requirePassphrase(passphrase, what), what), what);
    },

    async create(signal) {
      const text = await newKeyText();
      switch (planned) {
        case 'file':
          await writePrivateFile(paths.file, Buffer.from(text));
          return parseIdentities(text, show('file'));
        case 'passphrase': {
          const sealed = await encryptWithPassphrase(Buffer.from(text), passphraseForNew(passphrase));
          await writePrivateFile(paths.passphrase, sealed);
          return parseIdentities(text, show('passphrase'));
        }
        case 'keychain': {
          const kept = await intoKeychain(text, store, { ...options, userDirectory: context.userDirectory }, signal);
          const marker = `The key of this store is in the system keychain, as ${KEYCHAIN_REF}.\n`;
          await writePrivateFile(paths.keychain, Buffer.from(marker));
          return parseIdentities(kept, 'the key in the system keychain');
        }
      }
    },

    describe() {
      switch (existing() ?? planned) {
        case 'file':
          // Two stores may share one environment, so this is no error, but nobody should take this store for one under the passphrase.
          return passphrase !== undefined && passphrase !== '' ? `${show('file')} (not with KEYZERO_PASSPHRASE)` : show('file');
        case 'passphrase':
          return `${show('passphrase')} and the passphrase in KEYZERO_PASSPHRASE`;
        case 'keychain':
          return 'a key in the system keychain';
      }
    },
  };
}

function theOnly(found: readonly KeyKind[], configured: KeyKind | undefined, show: (kind: KeyKind) => string): KeyKind | undefined {
  const [kind, other] = found;
  if (kind === undefined) return undefined;
  if (other !== undefined) {
    throw new KzError('provider-corrupt', `the store has two keys, ${show(kind)} and ${show(other)}`, {
      hint: 'move away the one that is not yours, together with a store.age that came with it',
    });
  }
  if (configured === undefined || configured === kind) return kind;
  throw new KzError('config-invalid', `the key of the store is ${show(kind)}, but the config says identity = "${configured}"`, {
    hint: `if that key is yours, set \`identity = "${kind}"\` in [providers.store]; else move it and the store away`,
  });
}

/** What age-keygen writes, so that the stock program reads it. */
async function newKeyText(): Promise<string> {
  const identity = await newIdentity();
  const created = new Date().toISOString().replace(/\.\d+Z$/, 'Z');
  return `# created: ${created}\n# public key: ${await recipientOf(identity)}\n${identity}\n`;
}

function requirePassphrase(passphrase: string | undefined, what: string): string {
  if (passphrase !== undefined && passphrase !== '') return passphrase;
  throw new KzError('provider-locked', `${what} is locked with a passphrase`, { hint: 'set KEYZERO_PASSPHRASE' });
}

/** An empty one is a CI secret that is not set, and no wish for a key without a passphrase. */
function passphraseForNew(passphrase: string | undefined): string {
  if (passphrase !== undefined && passphrase !== '') return passphrase;
  const state = passphrase === undefined ? 'not set' : 'empty';
  throw new KzError('provider-locked', `cannot make a store under a passphrase: KEYZERO_PASSPHRASE is ${state}`, {
    hint: 'set KEYZERO_PASSPHRASE; for a key without a passphrase, set `identity = "file"` in [providers.store]',
  });
}

/** `kz put` opens the key twice, and scrypt takes a second each time. */
function rememberUnlocked(): (sealed: Uint8Array, passphrase: string, what: string) => Promise<string> {
  let last: { readonly sealed: Uint8Array; readonly text: string } | undefined;
  return async (sealed, passphrase, what) => {
    if (last !== undefined && Buffer.compare(last.sealed, sealed) === 0) return last.text;
    const plaintext = await decryptWithPassphrase(sealed, passphrase, what);
    if (plaintext === undefined) {
      throw new KzError('provider-locked', `the passphrase does not open ${what}`, { hint: 'correct KEYZERO_PASSPHRASE' });
    }
    last = { sealed, text: toText(plaintext) };
    return last.text;
  };
}

async function fromKeychain(store: string, { openKeychain }: StoreKeyOptions, signal: AbortSignal): Promise<string> {
  const [outcome] = await (await openKeychain()).get([keychainRef(store)], signal);
  if (outcome?.ok === true) return outcome.secret.reveal();
  throw new KzError(
    'provider-locked',
    `the key of the store is not available: ${outcome?.error.message ?? 'the keychain gave no answer'}`,
    {
      hint: 'unlock the system keychain, or restore its entry',
      cause: outcome?.error,
    },
  );
}

interface KeychainOptions extends StoreKeyOptions {
  readonly userDirectory: string;
}

/** Under a lock of all stores: of two that look at once, both would find nothing, and the second replace the key of the first. */
async function intoKeychain(text: string, store: string, options: KeychainOptions, signal: AbortSignal): Promise<string> {
  const { withFileLock } = await import('../core/file-lock.ts');
  return withFileLock(join(options.userDirectory, 'store-identity'), () => shareOrPut(text, store, options, signal), signal);
}

/** Returns what the keychain holds afterwards: a key that is there already, another store's, is shared and not replaced. */
async function shareOrPut(text: string, store: string, options: StoreKeyOptions, signal: AbortSignal): Promise<string> {
  const keychain = await options.openKeychain();
  const [before] = await keychain.get([keychainRef(store)], signal);
  if (before?.ok === true) return before.secret.reveal();
  if (before?.error.code !== 'secret-missing' || keychain.put === undefined) {
    throw new KzError(before?.error.code ?? 'provider-failed', before?.error.message ?? 'the keychain gave no answer', {
      hint: 'set `identity = "file"` in [providers.store]',
      cause: before?.error,
    });
  }
  await keychain.put(keychainRef(store), new Secret(text), signal);
  return fromKeychain(store, options, signal);
}

function keychainRef(store: string): Ref {
  return { text: KEYCHAIN_REF, directory: dirname(store) };
}

function toText(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('utf8');
}
