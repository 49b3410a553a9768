// Refs → outcomes: grouped by provider, each provider asked once with all its refs, all providers in parallel, under one deadline.
import { setMaxListeners } from 'node:events';
import type { ProviderName } from '../config/provider-names.ts';
import type { ProviderOptions } from '../config/schema.ts';
import { orAborted } from '../core/abort.ts';
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

/** The providers of one command or one run, each opened once. */
export class Access {
  readonly options: ProviderOptions;
  readonly context: ProviderContext;
  readonly #opened = new Map<ProviderName, Promise<Provider>>();

  constructor(options: ProviderOptions, context: ProviderContext) {
    this.options = options;
    this.context = context;
  }

  open(name: ProviderName): Promise<Provider> {
    const opened = this.#opened.get(name) ?? PROVIDERS[name].open(this.options, this.context);
    this.#opened.set(name, opened);
    return opened;
  }

  /** Gives back what would outlive kz. Failures are not told: what is not given back ends by itself. */
  async close(signal: AbortSignal): Promise<void> {
    const providers = await Promise.allSettled(this.#opened.values());
    this.#opened.clear();
    await Promise.allSettled(providers.map(async (opened) => (opened.status === 'fulfilled' ? opened.value.close?.(signal) : undefined)));
  }
}

/** One answer per lookup, in the same order. Never throws for a provider's failure: each of its refs gets the error. */
export async function resolveRefs(lookups: readonly Lookup[], access: Access, signal: AbortSignal): Promise<readonly Answer[]> {
  // Every provider listens, some once for each request; Node warns of more than ten.
  setMaxListeners(0, signal);
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

/** A provider that does not listen to the signal must not hold the others up. After an abort it has so long to say what it was waiting for. */
export const LAST_WORDS_MS = 50;

async function askProvider(name: ProviderName, refs: readonly Ref[], access: Access, signal: AbortSignal): Promise<readonly Outcome[]> {
  try {
    const provider = await access.open(name);
    // Before it is asked: nobody would hear how that fails.
    signal.throwIfAborted();
    return await orAborted(provider.get(refs, signal), signal, LAST_WORDS_MS);
  } catch (error) {
    return refs.map(() => failure(providerError(name, error, signal)));
  }
}

function providerError(name: ProviderName, error: unknown, signal: AbortSignal): KzError {
  const isTold = error instanceof KzError && error.code === 'provider-timeout';
  if (signal.aborted && !isTold) {
    return new KzError('provider-timeout', `provider ${name} did not answer in time`, {
      hint: 'allow more with --timeout 60s',
      cause: error,
    });
  }
  return error instanceof KzError ? error : new KzError('provider-failed', `provider ${name} failed`, { cause: error });
}

function failure(error: KzError): Outcome {
  return { ok: false, error };
}
