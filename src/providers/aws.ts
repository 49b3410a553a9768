// AWS: Secrets Manager and the Parameter Store. Each secret is asked for once however many of its keys are wanted; values go nowhere but
// into the outcomes.
import type { ProviderOptions } from '../config/schema.ts';
import { KzError } from '../core/errors.ts';
import { Secret } from '../core/secret.ts';
import { suggest } from '../core/suggest.ts';
import type { Found, Stored } from './aws-batches.ts';
import { ParameterStore } from './aws-parameters.ts';
import { parseAwsRef, sourceOf, versionOf, type AwsRef } from './aws-ref.ts';
import { SecretsManager } from './aws-secrets-manager.ts';
import { AwsSession } from './aws-session.ts';
import { decodeText, parseDocument, selectKey, type Document } from './document.ts';
import type { DocumentText } from './edit-document.ts';
import type { Outcome, Provider, ProviderContext, Ref } from './provider.ts';

/** Credentials and region: AWS's standard chain. */
export function openAws(options: NonNullable<ProviderOptions['aws']>, context: ProviderContext): Provider {
  const session = new AwsSession(options, context.env);
  const services: Services = { secrets: new SecretsManager(session), parameters: new ParameterStore(session) };
  return {
    async get(refs, signal) {
      signal.throwIfAborted();
      const parsed = refs.map(tryParse);
      const found = await readSources(parsed, services, signal);
      const documents = new Map<string, Promise<Document>>();
      return Promise.all(parsed.map((ref) => outcomeOf(ref, found, documents)));
    },

    async put(ref, secret, signal) {
      const target = parseForWriting(ref);
      const text = target.key === undefined ? secret.reveal() : await withKey(target, secret, services, signal);
      await write(target, text, services, signal);
    },

    async remove(ref, signal) {
      const target = parseForWriting(ref);
      if (target.key === undefined) {
        return target.service === 'secret' ? services.secrets.remove(target, signal) : services.parameters.remove(target, signal);
      }
      const text = await documentOf(target, services, signal);
      const { removeKey } = await import('./edit-document.ts');
      const edited = text === undefined ? undefined : await removeKey(asJson(target, text), target.key);
      if (edited === undefined) return false;
      await write(target, edited, services, signal);
      return true;
    },

    destination(ref) {
      const { service, region, id, key } = parseAwsRef(ref.text);
      const place = session.where(service === 'secret' ? 'SECRETS_MANAGER' : 'SSM', region ?? session.configuredRegion);
      const what = service === 'secret' ? 'secret' : 'SecureString';
      return `${place}, ${what} ${id}${key === undefined ? '' : `, key ${key}`}`;
    },

    async check(signal) {
      return { detail: await whoami(session, signal) };
    },

    close() {
      session.close();
      return Promise.resolve();
    },
  };
}

interface Services {
  readonly secrets: SecretsManager;
  readonly parameters: ParameterStore;
}

function tryParse({ text }: Ref): AwsRef | KzError {
  try {
    return parseAwsRef(text);
  } catch (error) {
    if (error instanceof KzError) return error;
    throw error;
  }
}

async function readSources(refs: readonly (AwsRef | KzError)[], { secrets, parameters }: Services, signal: AbortSignal): Promise<Found> {
  const sources = new Map<string, AwsRef>();
  for (const ref of refs) if (!(ref instanceof KzError)) sources.set(sourceOf(ref), ref);
  const all = [...sources.values()];
  const found = await Promise.all([
    secrets.read(
      all.filter((ref) => ref.service === 'secret'),
      signal,
    ),
    parameters.read(
      all.filter((ref) => ref.service === 'parameter'),
      signal,
    ),
  ]);
  return new Map(found.flatMap((each) => [...each]));
}

async function outcomeOf(ref: AwsRef | KzError, found: Found, documents: Map<string, Promise<Document>>): Promise<Outcome> {
  if (ref instanceof KzError) return { ok: false, error: ref };
  const stored = found.get(sourceOf(ref)) ?? new KzError('provider-failed', `AWS gave no answer for ${ref.label}`);
  if (stored instanceof KzError) return { ok: false, error: isWritable(ref) ? stored : toStoreFirst(stored, ref) };
  try {
    return { ok: true, secret: new Secret(await valueOf(ref, stored, documents)), version: stored.version };
  } catch (error) {
    if (error instanceof KzError) return { ok: false, error };
    throw error;
  }
}

/** A binary secret has, beside the text that its bytes may be, one key: `base64`. */
async function valueOf(ref: AwsRef, stored: Stored, documents: Map<string, Promise<Document>>): Promise<string> {
  const { key, label } = ref;
  if (key === 'base64' && stored.bytes !== undefined) return Buffer.from(stored.bytes).toString('base64');
  const text = textOf(ref, stored);
  if (key === undefined) return text;
  const document = documents.get(sourceOf(ref)) ?? parseDocument(text, 'json', label);
  documents.set(sourceOf(ref), document);
  return selectKey(await document, key) ?? missingKey(await document, key, ref);
}

function textOf(ref: AwsRef, { text, bytes }: Stored): string {
  const decoded = text ?? (bytes === undefined ? undefined : decodeText(bytes));
  if (decoded !== undefined) return decoded;
  throw new KzError('secret-invalid', `${ref.label} is binary and not UTF-8 text`, {
    hint: 'to get base64 of it, end the ref with `#base64`',
  });
}

function missingKey(document: Document, key: string, ref: AwsRef): never {
  const near = suggest(key, [...document.keys()]);
  const usual = isWritable(ref) ? undefined : 'correct the key in the ref';
  throw new KzError('secret-missing', `${ref.label} has no key ${JSON.stringify(key)}`, {
    hint: near === undefined ? usual : `did you mean ${JSON.stringify(near)}?`,
  });
}

/** Else `kz put` would be proposed, which refuses such a ref. */
function toStoreFirst(error: KzError, { label }: AwsRef): KzError {
  if (error.hint?.startsWith('if ') !== true) return error;
  return new KzError(error.code, error.message, { hint: `store ${label} first; ${error.hint}`, cause: error });
}

/** AWS only reads versions, and parameters by their ARNs. */
function isWritable(ref: AwsRef): boolean {
  return versionOf(ref) === undefined && !(ref.service === 'parameter' && ref.region !== undefined);
}

function parseForWriting({ text }: Ref): AwsRef {
  const ref = parseAwsRef(text);
  const readOnly = (problem: string, hint: string): KzError =>
    new KzError('provider-read-only', `aws ref ${JSON.stringify(text)} ${problem}`, { hint });
  const version = versionOf(ref);
  if (version !== undefined) throw readOnly(`names a version (${version}), which nothing can change`, 'write the ref without it');
  if (ref.service === 'parameter' && ref.region !== undefined)
    throw readOnly('is an ARN, which AWS only reads', 'write it as `ssm:///path/name`');
  return ref;
}

async function write(target: AwsRef, text: string, { secrets, parameters }: Services, signal: AbortSignal): Promise<void> {
  if (target.service === 'secret') await secrets.write(target, text, signal);
  else await parameters.write(target, text, signal);
}

/** The whole document with one key changed. AWS has no compare-and-swap: a change by somebody else in between is lost. */
async function withKey(target: AwsRef, secret: Secret, services: Services, signal: AbortSignal): Promise<string> {
  const text = (await documentOf(target, services, signal)) ?? '{}';
  const { setKey } = await import('./edit-document.ts');
  return setKey(asJson(target, text), target.key ?? '', secret.reveal());
}

/** Undefined when there is none yet. */
async function documentOf(target: AwsRef, services: Services, signal: AbortSignal): Promise<string | undefined> {
  const stored = (await readSources([target], services, signal)).get(sourceOf(target));
  if (stored instanceof KzError) {
    if (stored.code === 'secret-missing') return undefined;
    throw stored;
  }
  if (stored?.bytes !== undefined) throw new KzError('provider-read-only', `${target.label} is binary: kz cannot change a key of it`);
  return stored?.text;
}

function asJson({ label }: AwsRef, text: string): DocumentText {
  return { text, format: 'json', what: label };
}

/** Listing proves the login and the way there. Where it is not allowed, the refusal proves the same. */
async function whoami(session: AwsSession, signal: AbortSignal): Promise<string> {
  const region = await session.region();
  const detail = `${session.where('SECRETS_MANAGER', region)}${session.profile === undefined ? '' : `, profile ${session.profile}`}`;
  try {
    await session.secrets(
      { action: 'secretsmanager:ListSecrets', what: 'one secret' },
      (client, sdk, options) => client.send(new sdk.ListSecretsCommand({ MaxResults: 1 }), options),
      signal,
    );
    return detail;
  } catch (error) {
    if (error instanceof KzError && error.code === 'provider-denied')
      return `${detail}; not allowed to list secrets, which kz does not need`;
    throw error;
  }
}
