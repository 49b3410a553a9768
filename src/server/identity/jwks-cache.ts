// A key set that is fetched when it is needed, by one fetch for all who wait, and kept. A server that is down is not asked by every call, and its
// last set goes on verifying for a day. A caller who goes away ends its own wait, never the fetch.
import { setMaxListeners } from 'node:events';
import { orAborted } from '../../core/abort.ts';
import { KzError } from '../../core/errors.ts';
import type { KeySet } from './jwks-key.ts';

export interface KeyTimes {
  /** How long a set is taken without a question. */
  readonly freshMs: number;
  /** Between fetches because of a key that is not in the set, and after a failure while a set is there. */
  readonly cooldownMs: number;
  /** How long a failure is remembered when no set is there. */
  readonly failureMs: number;
  /** How old a set may grow while no new one can be had. */
  readonly staleMs: number;
}

export interface CacheOptions {
  readonly times: KeyTimes;
  /** Milliseconds since the epoch. */
  readonly now: () => number;
  /** For each fetch. */
  readonly timeoutMs: number;
  /** Called when fetches begin to fail while an old set is in use. */
  readonly onStale: (error: unknown) => void;
}

/**
 * Calls that wait for one fetch to its end. Anybody can send tokens of an issuer whose server does not answer, and callers of other issuers need
 * room, too: what comes beyond these waits only as long as a server needs that is well, in milliseconds.
 */
const MOST_WAITING = 256;
const PATIENCE_MS = 1000;

export class CachedKeys {
  readonly #fetch: (signal: AbortSignal) => Promise<KeySet>;
  readonly #options: CacheOptions;
  #set: { readonly keys: KeySet; readonly at: number } | undefined;
  #failure: { readonly error: Error; readonly at: number } | undefined;
  #pending: Promise<KeySet> | undefined;
  #missedAt = -Infinity;
  #waiting = 0;
  /** Of the fetch that runs: aborts with why there is no more room. One for all: the operator is told once. */
  #patience = new AbortController();

  constructor(fetch: (signal: AbortSignal) => Promise<KeySet>, options: CacheOptions) {
    this.#fetch = fetch;
    this.#options = options;
  }

  /** Of the last fetch. */
  get failure(): Error | undefined {
    return this.#failure?.error;
  }

  /** Throws what the fetch threw, when there is no set that may be used, and `provider-unavailable` when too many wait for one. */
  async current(signal: AbortSignal): Promise<KeySet> {
    const { times } = this.#options;
    const known = this.#usable();
    if (known === undefined) {
      if (this.#failure !== undefined && this.#since(this.#failure.at) < times.failureMs) throw this.#failure.error;
      return this.#wait(this.#refresh(), signal);
    }
    const age = this.#since(known.at);
    if (age < times.freshMs || (this.#failure !== undefined && this.#since(this.#failure.at) < times.cooldownMs)) return known.keys;
    const refresh = this.#refresh().catch(() => known.keys);
    // Nobody waits while the set is only a little old, nor for a server that was down the last time.
    const isWorthWaiting = age >= 2 * times.freshMs && this.#failure === undefined && this.#waiting < MOST_WAITING;
    return isWorthWaiting ? this.#wait(refresh, signal) : known.keys;
  }

  /** A set that may hold what is missing in `seen`: a newer one, or `seen` again during the cooldown and when none can be had. */
  async newerThan(seen: KeySet, signal: AbortSignal): Promise<KeySet> {
    const known = this.#usable();
    if (known !== undefined && known.keys !== seen) return known.keys;
    if (this.#pending === undefined) {
      if (this.#since(this.#missedAt) < this.#options.times.cooldownMs) return seen;
      this.#missedAt = this.#options.now();
    }
    const refresh = this.#refresh().catch(() => seen);
    return this.#wait(refresh, signal);
  }

  async #wait(keys: Promise<KeySet>, signal: AbortSignal): Promise<KeySet> {
    const isPatient = this.#waiting < MOST_WAITING;
    this.#waiting += 1;
    try {
      return await unlessAborted(isPatient ? keys : orAborted(keys, this.#patience.signal), signal);
    } finally {
      this.#waiting -= 1;
    }
  }

  #usable(): { readonly keys: KeySet; readonly at: number } | undefined {
    return this.#set !== undefined && this.#since(this.#set.at) < this.#options.times.staleMs ? this.#set : undefined;
  }

  /** Of a clock that was set back far, nothing is young. */
  #since(at: number): number {
    return Math.abs(this.#options.now() - at);
  }

  #refresh(): Promise<KeySet> {
    if (this.#pending === undefined) {
      const patience = new AbortController();
      setMaxListeners(0, patience.signal);
      const timer = setTimeout(() => {
        patience.abort(new KzError('provider-unavailable', 'too many calls wait for them'));
      }, PATIENCE_MS).unref();
      const pending = this.#fetchOnce().finally(() => {
        clearTimeout(timer);
        this.#pending = undefined;
      });
      this.#patience = patience;
      // Whoever waits hears of it.
      pending.catch(() => undefined);
      this.#pending = pending;
    }
    return this.#pending;
  }

  async #fetchOnce(): Promise<KeySet> {
    const { now, timeoutMs, onStale } = this.#options;
    const at = now();
    try {
      const keys = await this.#fetch(AbortSignal.timeout(timeoutMs));
      this.#set = { keys, at };
      this.#failure = undefined;
      return keys;
    } catch (cause) {
      const error = cause instanceof Error ? cause : new KzError('internal', 'a fetch of keys failed without an error', { cause });
      if (this.#failure === undefined && this.#usable() !== undefined) onStale(error);
      this.#failure = { error, at: now() };
      throw error;
    }
  }
}

/** Rejects with `cancelled`; the promise goes on for the others. */
async function unlessAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  // One for each call that waits with it; Node warns of more than ten.
  setMaxListeners(0, signal);
  try {
    return await orAborted(promise, signal);
  } catch (error) {
    if (!signal.aborted) throw error;
    throw new KzError('cancelled', 'a wait for keys was cancelled', { cause: signal.reason });
  }
}
