// How long the policies may think for one caller. Rules are the operator's, but what they walk through is the caller's: claims and context can be
// made so that every question is a slow one, and while a rule is evaluated nobody else is answered.
import { ServerFailure } from '../failure.ts';
import type { Caller } from '../identity/verify.ts';
import { callerKey, remember } from '../remembered.ts';

/** At once, in milliseconds. A usual question takes less than one. */
const MOST_MS = 2000;
/** What is given back of each millisecond that goes by: one caller has this part of the process at most. */
const SHARE = 0.25;
/** What is quicker is not worth remembering. */
const LEAST_MS = 1;
/** Callers that are remembered; the one that asked longest ago makes room. */
const MOST_CALLERS = 10_000;

interface Debt {
  readonly ms: number;
  readonly at: number;
}

export class DecidingTime {
  readonly #clock: () => number;
  readonly #debts = new Map<string, Debt>();

  /** In milliseconds, and never backwards. */
  constructor(clock: () => number = () => performance.now()) {
    this.#clock = clock;
  }

  /** Does the work, and counts how long it took. Throws `rate-limited` for who has no time left. */
  of<T>(caller: Pick<Caller, 'issuer' | 'sub'>, work: () => T): T {
    const key = callerKey(caller);
    const started = this.#clock();
    const debt = this.#debt(key, started);
    if (debt >= MOST_MS) {
      throw new ServerFailure('rate-limited', 'it takes too long to decide what this caller asks', {
        retryAfterMs: Math.ceil((debt - MOST_MS + 1) / SHARE),
      });
    }
    try {
      return work();
    } finally {
      const at = this.#clock();
      if (at - started >= LEAST_MS) remember(this.#debts, key, { ms: debt + at - started, at }, MOST_CALLERS);
    }
  }

  #debt(key: string, now: number): number {
    const { ms, at } = this.#debts.get(key) ?? { ms: 0, at: now };
    return Math.max(0, ms - (now - at) * SHARE);
  }
}
