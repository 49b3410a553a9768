// One value on its way into a provider: where it will go, is it acceptable, write, read back.
import { isatty } from 'node:tty';
import { documentNames, type Config, type Declaration } from '../config/load.ts';
import { valueProblems } from '../config/value.ts';
import { KzError } from '../core/errors.ts';
import { Secret } from '../core/secret.ts';
import type { Provider } from '../providers/provider.ts';
import type { Access } from '../providers/resolve.ts';
import { refOf, undeclared } from '../providers/secrets.ts';
import { PROVIDERS } from '../providers/table.ts';
import { ask } from './prompt.ts';
import { readText } from './read-text.ts';
import { notice, printable } from './ui.ts';

export type WritableProvider = Provider & Required<Pick<Provider, 'put'>>;

/** Throws `secret-undeclared`, or `provider-read-only` for a secret that only a document gives. */
export function declarationOf(name: string, config: Config): Declaration {
  const declaration = config.secrets.get(name);
  if (declaration !== undefined) return declaration;
  const document = config.documents.find((candidate) => documentNames(candidate).includes(name));
  if (document === undefined) throw undeclared(name, [...config.secrets.keys()]);
  throw new KzError(
    'provider-read-only',
    `${name} is one key of a document (${document.provider} ${document.ref}), which kz does not change`,
    {
      hint: 'change the document with its own tool',
    },
  );
}

/** Throws `provider-read-only` when this secret cannot be written through kz. */
export async function openForWriting(declaration: Declaration, access: Access): Promise<WritableProvider> {
  const { name, provider: providerName, ref } = declaration;
  const provider = await access.open(providerName);
  if (!isWritable(provider)) {
    throw new KzError('provider-read-only', `${name} comes from ${providerName} ${ref}, which kz cannot write`, {
      hint: `change it at its source (${PROVIDERS[providerName].summary})`,
    });
  }
  if (declaration.json_key !== undefined || declaration.template !== undefined) {
    throw new KzError('provider-read-only', `${name} is made from a document (${providerName} ${ref}), which kz does not change`, {
      hint: 'change the document with its own tool, or name the field in the ref: `path#key`',
    });
  }
  return provider;
}

/** A hint: the command that stores a value, or what to do where kz cannot. */
export async function howToStore(declaration: Declaration, access: Access): Promise<string | undefined> {
  try {
    await openForWriting(declaration, access);
    return `run \`kz put ${declaration.name}\``;
  } catch (error) {
    if (error instanceof KzError) return error.hint;
    throw error;
  }
}

export function destinationOf(declaration: Declaration, provider: Provider): string {
  const { provider: name, ref, origin } = declaration;
  return provider.destination?.(refOf(ref, origin)) ?? `${name} ${ref}`;
}

/** The prompt is KeyZero's, to the letter. */
export async function askForValue({ name, provider, ref, description }: Declaration, note: (text: string) => void): Promise<string> {
  if (description !== undefined) note(`${name}: ${description}`);
  return ask({ text: printable(`Enter value for ${name} (provider: ${provider}, ref: ${ref}):`), echo: false });
}

/** From a file, from the terminal, or from standard input. */
export async function readValue(declaration: Declaration, fromFile: string | undefined): Promise<string> {
  if (fromFile !== undefined) return readText(fromFile);
  return isatty(0) ? askForValue(declaration, notice) : readText(0);
}

/** Throws `secret-empty` or `secret-invalid`, with everything that is wrong and nothing of the value. */
export function acceptable(declaration: Declaration, value: string): Secret {
  const { name } = declaration;
  if (value === '') throw new KzError('secret-empty', `${name}: an empty value is not stored`, { hint: `to remove it: kz rm ${name}` });
  const problems = valueProblems(value, declaration);
  if (value.includes('\0')) problems.push('holds a NUL character, which no environment variable can');
  if (problems.length > 0) throw new KzError('secret-invalid', `${name} ${problems.join(', ')}; nothing was stored`);
  return new Secret(value);
}

/** Throws when the provider does not give back what it was given. */
export async function writeAndReadBack(
  declaration: Declaration,
  secret: Secret,
  provider: WritableProvider,
  signal: AbortSignal,
): Promise<void> {
  const { name, encoding, origin, ref: text } = declaration;
  const ref = refOf(text, origin);
  const stored = encoding === 'base64' ? new Secret(Buffer.from(secret.reveal(), 'utf8').toString('base64')) : secret;
  await provider.put(ref, stored, signal);
  const [back] = await provider.get([ref], signal);
  if (back?.ok === true && back.secret.equals(stored)) return;
  const cause = back?.ok === false ? back.error : undefined;
  throw new KzError('write-failed', `${name} was written, but reading it back gave something else`, {
    hint: `look at ${declaration.provider} ${text} with its own tool`,
    cause,
  });
}

function isWritable(provider: Provider): provider is WritableProvider {
  return provider.put !== undefined;
}
