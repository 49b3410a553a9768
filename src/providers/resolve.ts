// Refs → outcomes: grouped by provider, each provider asked once with all its refs, all providers in parallel, under one deadline.
import type { ProviderName } from '../config/provider-names.ts';
import type { ProviderOptions } from '../config/schema.ts';
import { KzError } from '../core/errors.ts';
import type { Outcome, Provider, ProviderContext, Ref } from './provider.ts';
import { PROVIDERS } from './table.ts';

export interface Lookup {
  readonly provider: ProviderName;
  readonly ref: Ref;
}

export interface Answer {
  readonly outcome: Outcome;
  /** Milliseconds that the provider took for the call that this ref was part of. */
  readonly tookMs: number;
}

export interface Access {
  readonly options: ProviderOptions;
  readonly context: ProviderContext;
}

/** One answer per lookup, in the same order. Never throws for a provider's failure: each of its refs gets the error. */
export async function resolveRefs(lookups: readonly Lookup[], access: Access, signal: AbortSignal): Promise<readonly Answer[]> {
  const groups = groupByProvider(lookups);
  const answers = new Map<string, Answer>();
  await Promise.all(
    [...groups].map(async ([name, refs]) => {
      const unique = [...refs.values()];
      const start = Date.now();
      const outcomes = await askProvider(name, unique, access, signal);
      const tookMs = Date.now() - start;
      for (const [index, ref] of unique.entries()) {
        const outcome = outcomes[index] ?? failure(new KzError('provider-failed', `provider ${name} gave no answer for ${ref.text}`));
        answers.set(refKey(name, ref), { outcome, tookMs });
      }
    }),
  );
  return lookups.map(({ provider, ref }) => {
    const answer = answers.get(refKey(provider, ref));
    if (answer === undefined) throw new Error(`unreachable: no answer for ${provider} ${ref.text}`);
    return answer;
  });
}

/** Throws `provider-not-built` for a provider that this version only knows by name. */
export async function openProvider(name: ProviderName, access: Access): Promise<Provider> {
  const row = PROVIDERS[name];
  if (row.open === undefined) {
    const built = Object.entries(PROVIDERS).flatMap(([other, { open }]) => (open === undefined ? [] : [other]));
    throw new KzError('provider-not-built', `provider ${JSON.stringify(name)} is not built yet`, {
      hint: `use one of ${built.join(', ')}`,
    });
  }
  return row.open(access.options, access.context);
}

function groupByProvider(lookups: readonly Lookup[]): Map<ProviderName, Map<string, Ref>> {
  const groups = new Map<ProviderName, Map<string, Ref>>();
  for (const { provider, ref } of lookups) {
    const refs = groups.get(provider) ?? new Map<string, Ref>();
    refs.set(refKey(provider, ref), ref);
    groups.set(provider, refs);
  }
  return groups;
}

function refKey(provider: ProviderName, ref: Ref): string {
  return [provider, ref.directory, ref.text].join('\0');
}

async function askProvider(name: ProviderName, refs: readonly Ref[], access: Access, signal: AbortSignal): Promise<readonly Outcome[]> {
  try {
    const provider = await openProvider(name, access);
    return await orAborted(provider.get(refs, signal), signal);
  } catch (error) {
    return refs.map(() => failure(providerError(name, error, signal)));
  }
}

function providerError(name: ProviderName, error: unknown, signal: AbortSignal): KzError {
  if (signal.aborted) {
    return new KzError('provider-timeout', `provider ${name} did not answer in time`, {
      hint: 'allow more with --timeout 60s',
      cause: error,
    });
  }
  return error instanceof KzError ? error : new KzError('provider-failed', `provider ${name} failed`, { cause: error });
}

/** A provider that does not listen to the signal must not hold the others up. */
async function orAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  signal.throwIfAborted();
  return new Promise<T>((resolve, reject) => {
    const onAbort = (): void => {
      reject(new Error('aborted', { cause: signal.reason }));
    };
    signal.addEventListener('abort', onAbort, { once: true });
    work.then(resolve, reject).finally(() => {
      signal.removeEventListener('abort', onAbort);
    });
  });
}

function failure(error: KzError): Outcome {
  return { ok: false, error };
}
