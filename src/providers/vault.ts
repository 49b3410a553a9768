// HashiCorp Vault and OpenBao: kv secrets of both versions, and whatever else of theirs is read with GET. What they issue to kz ends with it.
import { KzError } from '../core/errors.ts';
import { Secret } from '../core/secret.ts';
import type { Outcome, Provider, ProviderContext, Ref } from './provider.ts';
import { fieldText, readDocument, type VaultDocument } from './vault-document.ts';
import { changeFields, locateField, writableRef } from './vault-kv.ts';
import { VaultMounts } from './vault-mounts.ts';
import { parseVaultRef, type VaultPath, type VaultRef } from './vault-ref.ts';
import { VaultServer, type VaultOptions } from './vault-server.ts';
import { VaultSession } from './vault-session.ts';
import { wide } from './wide.ts';

export function openVault(options: VaultOptions, { env }: ProviderContext): Provider {
  const server = new VaultServer(options, env);
  const session = new VaultSession({ options, env, server });
  const mounts = new VaultMounts(session);
  return {
    async get(refs, signal) {
      signal.throwIfAborted();
      const [outcomes] = await Promise.all([getAll(refs, { session, mounts }, signal), session.learnEnd(signal)]);
      return outcomes;
    },

    async put(ref, secret, signal) {
      const { place, field } = await locateField(ref, mounts, server, signal);
      // Not a spread of an entry: a field may be called `__proto__`.
      await changeFields(place, (fields) => Object.fromEntries([...Object.entries(fields), [field, secret.reveal()]]), session, signal);
    },

    async remove(ref, signal) {
      const { place, field } = await locateField(ref, mounts, server, signal);
      const without = (fields: object): Record<string, unknown> | undefined =>
        Object.hasOwn(fields, field) ? Object.fromEntries(Object.entries(fields).filter(([name]) => name !== field)) : undefined;
      return changeFields(place, without, session, signal);
    },

    destination(ref) {
      const { path, field } = writableRef(ref);
      return `field ${JSON.stringify(field)} of ${JSON.stringify(path)} in ${server.who}`;
    },

    async check(signal) {
      await server.checkHealth(signal);
      return session.describe(signal);
    },

    login: () => session.lease,
    renew: (lease, signal) => session.renew(lease, signal),

    async close(signal) {
      await session.close(signal);
      await server.close();
    },
  };
}

interface Vault {
  readonly session: VaultSession;
  readonly mounts: VaultMounts;
}

type Found = { readonly document: VaultDocument } | { readonly error: KzError };

/** Every path is asked once, however many refs name it and however they spell it: most engines make something new for every question. */
async function getAll(refs: readonly Ref[], { session, mounts }: Vault, signal: AbortSignal): Promise<Outcome[]> {
  const parsed = refs.map((ref) => attempt(() => parseVaultRef(ref)));
  const wanted = new Map(parsed.flatMap((each) => ('value' in each ? [[keyOf(each.value), each.value] as const] : [])));
  const documents = new Map<string, Promise<VaultDocument>>();
  const found = new Map<string, Found>();
  await wide([...wanted], async ([key, path]) => {
    found.set(
      key,
      await toFound(async () => {
        const place = await mounts.find(path, signal);
        const same = keyOf(place);
        const document = documents.get(same) ?? readDocument(place, session, signal);
        documents.set(same, document);
        return document;
      }).catch((error: unknown) => {
        // One path that hangs, an engine whose database does not answer for instance, does not take along what came of the others.
        const works = [...found.values()].some((each) => 'document' in each);
        if (signal.aborted && works) return { error: late(path, session, error) };
        throw error;
      }),
    );
  });
  return parsed.map((each) => ('error' in each ? { ok: false, error: each.error } : toOutcome(each.value, found, session)));
}

function keyOf({ path, version }: VaultPath): string {
  return `${path}?${String(version ?? 0)}`;
}

/** What speaks for the whole server is thrown, and ends the other questions. */
const OF_ONE_PATH: readonly string[] = ['ref-invalid', 'secret-missing', 'secret-invalid', 'provider-denied', 'provider-failed'];

async function toFound(read: () => Promise<VaultDocument>): Promise<Found> {
  try {
    return { document: await read() };
  } catch (error) {
    if (error instanceof KzError && OF_ONE_PATH.includes(error.code)) return { error };
    throw error;
  }
}

function late({ path }: VaultPath, { server }: VaultSession, cause: unknown): KzError {
  if (cause instanceof KzError && cause.code === 'provider-timeout') return cause;
  const message = `${server.who} did not answer for ${JSON.stringify(path)} in time`;
  return new KzError('provider-timeout', message, { hint: 'allow more with --timeout 60s', cause });
}

function toOutcome(ref: VaultRef, found: ReadonlyMap<string, Found>, { server }: VaultSession): Outcome {
  const there = found.get(keyOf(ref));
  if (there === undefined) throw new Error(`unreachable: nobody asked for ${ref.path}`);
  if ('error' in there) return { ok: false, error: there.error };
  const { document } = there;
  const text = attempt(() => fieldText(document, ref.field, server.who));
  if ('error' in text) return { ok: false, error: text.error };
  return { ok: true, secret: new Secret(text.value), lease: document.lease, version: document.version };
}

function attempt<T>(work: () => T): { readonly value: T } | { readonly error: KzError } {
  try {
    return { value: work() };
  } catch (error) {
    if (error instanceof KzError) return { error };
    throw error;
  }
}
