// Secrets in the repository: an age-encrypted dotenv, TOML or JSON file, shared through its recipients. Never replaces a file that it
// could not decrypt, and never guesses who may read a file that others wrote.
import { unlink } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import type { ProviderOptions } from '../config/schema.ts';
import { KzError, systemCode } from '../core/errors.ts';
import { withFileLock } from '../core/file-lock.ts';
import { absolutePath, shortPath } from '../core/home-path.ts';
import { readPrivateFile, writeError, writePrivateFile } from '../core/private-file.ts';
import { Secret } from '../core/secret.ts';
import { isArmored, readerCount } from './age-decrypt.ts';
import { decryptFile, encryptFile, parseIdentities, recipientOf } from './age-file.ts';
import { documentFormat, parseDocument, selectKey, type Document } from './document.ts';
import type { DocumentText } from './edit-document.ts';
import { readGuardedFile } from './guarded-file.ts';
import type { Outcome, Provider, ProviderContext, Ref } from './provider.ts';

type AgeOptions = NonNullable<ProviderOptions['age']>;

export function openAge(options: AgeOptions, context: ProviderContext): Provider {
  const settings: Settings = { options, context };
  return {
    async get(refs) {
      const opened = new Map<string, Promise<Opened | KzError>>();
      return Promise.all(refs.map((ref) => outcomeOf(ref, opened, settings)));
    },

    async put(ref, secret, signal) {
      const target = parseRef(ref, context);
      const change = async (): Promise<void> => {
        const file = await readSealed(target);
        const { armored, text } = file === undefined ? NEW_FILE : await unseal(file, target, settings);
        const recipients = await recipientsFor(target, file, settings);
        const edited = await withValue(documentText(target, text), target.key, secret);
        await writePrivateFile(target.path, await encryptFile(Buffer.from(edited), { recipients, armored }));
      };
      // Before there is a lock: beside what a link in a repository leads to, a device say, none has a place.
      await readSealed(target);
      await withFileLock(target.path, change, signal);
    },

    async remove(ref, signal) {
      const target = parseRef(ref, context);
      if ((await readSealed(target)) === undefined) return false;
      const change = async (): Promise<boolean> => {
        const file = await readSealed(target);
        if (file === undefined) return false;
        const { armored, text } = await unseal(file, target, settings);
        if (target.key === undefined) {
          await unlink(target.path).catch((error: unknown) => {
            throw writeError(target.path, error);
          });
          return true;
        }
        const { removeKey } = await import('./edit-document.ts');
        const edited = await removeKey(documentText(target, text), target.key);
        if (edited === undefined) return false;
        const recipients = await recipientsFor(target, file, settings);
        await writePrivateFile(target.path, await encryptFile(Buffer.from(edited), { recipients, armored }));
        return true;
      };
      return withFileLock(target.path, change, signal);
    },

    destination(ref) {
      const { label, key } = parseRef(ref, context);
      const others = options.recipients?.length ?? 0;
      const readers =
        others === 0
          ? 'your own age identity'
          : `your own age identity and ${String(others)} configured recipient${others === 1 ? '' : 's'}`;
      return `${key === undefined ? label : `${label}, key ${key}`}, encrypted to ${readers}`;
    },
  };
}

interface Settings {
  readonly options: AgeOptions;
  readonly context: ProviderContext;
}

interface Target {
  readonly path: string;
  /** The path, for people. */
  readonly label: string;
  /** Undefined: the whole text. */
  readonly key: string | undefined;
}

function parseRef(ref: Ref, { env }: ProviderContext): Target {
  const match = /\p{Cc}/u.test(ref.text) ? null : /^(.*?[^/]\.age)(?:#(.+))?$/.exec(ref.text);
  if (match === null) {
    throw new KzError('ref-invalid', `age ref ${JSON.stringify(ref.text)} does not name a file that ends in .age`, {
      hint: 'write it as `secrets.env.age#NAME`, or without `#NAME` for the whole file',
    });
  }
  const [, file = '', key] = match;
  const path = absolutePath(file, ref.directory, env);
  return { path, label: shortPath(path, env), key };
}

function documentText({ path, label }: Target, text: string): DocumentText {
  return { text, format: documentFormat(basename(path, '.age'), text), what: label };
}

/** A file as it is read: its text, and its keys once one is asked for. */
interface Opened {
  readonly text: string;
  readonly document: () => Promise<Document>;
}

async function outcomeOf(ref: Ref, opened: Map<string, Promise<Opened | KzError>>, settings: Settings): Promise<Outcome> {
  try {
    const target = parseRef(ref, settings.context);
    const pending = opened.get(target.path) ?? openOnce(target, settings);
    opened.set(target.path, pending);
    const file = await pending;
    if (file instanceof KzError) return { ok: false, error: file };
    if (target.key === undefined) return { ok: true, secret: new Secret(file.text) };
    const value = selectKey(await file.document(), target.key);
    if (value !== undefined) return { ok: true, secret: new Secret(value) };
    return { ok: false, error: new KzError('secret-missing', `${target.label} has no key ${JSON.stringify(target.key)}`) };
  } catch (error) {
    if (error instanceof KzError) return { ok: false, error };
    throw error;
  }
}

async function openOnce(target: Target, settings: Settings): Promise<Opened | KzError> {
  try {
    const file = await readSealed(target);
    if (file === undefined) return new KzError('secret-missing', `age file ${target.label} does not exist`);
    const { text } = await unseal(file, target, settings);
    let parsed: Promise<Document> | undefined;
    return { text, document: () => (parsed ??= parseDocument(text, documentText(target, text).format, target.label)) };
  } catch (error) {
    if (error instanceof KzError) return error;
    throw error;
  }
}

/** Undefined when there is no such file. It may be open to everybody: that is what the encryption is for. */
async function readSealed({ path, label }: Target): Promise<Uint8Array | undefined> {
  try {
    return await readGuardedFile(path, { label: `age file ${label}`, maxMebibytes: 8 });
  } catch (error) {
    const code = systemCode(error);
    if (code === 'ENOENT' || code === 'ENOTDIR') return undefined;
    if (code === undefined) throw error;
    throw new KzError(code === 'EACCES' ? 'provider-denied' : 'provider-failed', `cannot read ${label} (${code})`, { cause: error });
  }
}

interface Unsealed {
  readonly text: string;
  readonly armored: boolean;
}

/** Text in git: armored. */
const NEW_FILE: Unsealed = { text: '', armored: true };

async function unseal(file: Uint8Array, { label }: Target, settings: Settings): Promise<Unsealed> {
  const { identities, source } = readIdentities(label, settings);
  const plaintext = await decryptFile(file, identities, label);
  if (plaintext === undefined) {
    throw new KzError('provider-denied', `cannot decrypt ${label}: it is not encrypted to the identity in ${source}`, {
      hint: 'ask somebody who can read it to add your recipient and encrypt it again',
    });
  }
  try {
    return { text: new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(plaintext), armored: isArmored(file) };
  } catch {
    throw new KzError('provider-corrupt', `${label} decrypts to something that is not text`);
  }
}

interface Identities {
  readonly identities: readonly string[];
  readonly source: string;
}

function readIdentities(label: string, { options, context }: Settings): Identities {
  const { env, userDirectory } = context;
  const named = options.identity ?? (env.KEYZERO_AGE_IDENTITY === '' ? undefined : env.KEYZERO_AGE_IDENTITY);
  if (named !== undefined) refuseKey(named, options.identity === undefined ? 'KEYZERO_AGE_IDENTITY' : '`identity` in [providers.age]');
  if (named === undefined && env.KEYZERO_AGE_KEY !== undefined && env.KEYZERO_AGE_KEY !== '') {
    return { identities: parseIdentities(env.KEYZERO_AGE_KEY, 'KEYZERO_AGE_KEY'), source: 'KEYZERO_AGE_KEY' };
  }
  const path = absolutePath(named ?? join(userDirectory, 'age.txt'), process.cwd(), env);
  const source = shortPath(path, env);
  const bytes = readPrivateFile(path);
  if (bytes !== undefined) return { identities: parseIdentities(Buffer.from(bytes).toString('utf8'), source), source };
  throw new KzError('provider-locked', `no age identity for ${label}: ${source} does not exist`, {
    hint: `run \`mkdir -p ${dirname(source)} && age-keygen -o ${source}\`, or set KEYZERO_AGE_IDENTITY to the file that has it`,
  });
}

/** Paths are quoted in messages. */
function refuseKey(named: string, where: string): void {
  if (!/AGE-SECRET-KEY-/i.test(named)) return;
  throw new KzError('config-invalid', `${where} holds a key, not the path of a file`, { hint: 'use KEYZERO_AGE_KEY for the key itself' });
}

/**
 * Ourselves, and whom the config names. Who reads an existing file its header does not say, only how many do: of one reader, who could
 * decrypt it just now, we know that it is us.
 */
async function recipientsFor({ label }: Target, file: Uint8Array | undefined, settings: Settings): Promise<readonly string[]> {
  const configured = settings.options.recipients ?? [];
  if (file !== undefined && configured.length === 0 && readerCount(file) > 1) {
    throw new KzError('config-invalid', `${label} has other readers, and no recipients are configured to encrypt it to`, {
      hint: 'set `recipients = ["age1…"]` in [providers.age]',
    });
  }
  const [own = ''] = readIdentities(label, settings).identities;
  return [await recipientOf(own), ...configured];
}

async function withValue(document: DocumentText, key: string | undefined, secret: Secret): Promise<string> {
  if (key === undefined) return secret.reveal();
  const { setKey } = await import('./edit-document.ts');
  const text = document.text === '' && document.format === 'json' ? '{}\n' : document.text;
  return setKey({ ...document, text }, key, secret.reveal());
}
