// How much the server takes on: a token bucket for each caller, and caps on what is in flight: of all, of one caller, of those that nobody knows.
// All refuse at once; nothing is queued here.
import { ServerFailure } from './failure.ts';
import type { Caller } from './identity/verify.ts';
import { callerKey, remember } from './remembered.ts';

export interface LimitOptions {
  /** Questions a second for each caller. 0: no limit. */
  readonly rate: number;
  /** How many of them may come at once. */
  readonly burst: number;
  /** Requests at the same time, of all callers. */
  readonly inFlight: number;
  /** How many of these may be of callers whose token was not verified before the body was read. Left out: all. */
  readonly strangers?: number;
  /** In milliseconds, and never backwards. */
  readonly clock?: () => number;
}

export const DEFAULT_LIMITS: LimitOptions = { rate: 100, burst: 200, inFlight: 1024, strangers: 64 };

/** Callers that are remembered. Beyond it the one that was quiet longest starts anew, which gives it at most one more burst. */
const MOST_CALLERS = 10_000;

interface Bucket {
  readonly tokens: number;
  readonly at: number;
}

export class Limits {
  readonly #rate: number;
  readonly #burst: number;
  readonly #most: number;
  readonly #mostStrangers: number;
  readonly #clock: () => number;
  /** The one that was quiet longest comes first. */
  readonly #buckets = new Map<string, Bucket>();
  /** Of each caller, in flight. */
  readonly #own = new Map<string, number>();
  #inFlight = 0;
  #strangers = 0;

  constructor({ rate, burst, inFlight, strangers = inFlight, clock = () => performance.now() }: LimitOptions = DEFAULT_LIMITS) {
    this.#rate = rate;
    this.#burst = Math.max(1, burst);
    this.#most = inFlight;
    this.#mostStrangers = strangers;
    this.#clock = clock;
  }

  get inFlight(): number {
    return this.#inFlight;
  }

  /** Callers that are remembered. */
  get callers(): number {
    return this.#buckets.size;
  }

  /** Gives what ends it; calling that twice does no harm. Throws `overloaded`. */
  enter(): () => void {
    if (this.#inFlight >= this.#most) {
      throw new ServerFailure('overloaded', 'too many requests are in flight', { retryAfterMs: 1000 });
    }
    this.#inFlight += 1;
    return once(() => {
      this.#inFlight -= 1;
    });
  }

  /** As `enter`, for whom nobody knows: they send as slowly as they like, and must leave room for callers. Throws `overloaded`. */
  enterAsStranger(): () => void {
    if (this.#strangers >= this.#mostStrangers) {
      throw new ServerFailure('overloaded', 'too many requests without a good token are in flight', { retryAfterMs: 1000 });
    }
    const leave = this.enter();
    this.#strangers += 1;
    return once(() => {
      this.#strangers -= 1;
      leave();
    });
  }

  /**
   * Beside `enter`. With half of all places, one caller that sends slowly, or asks for what takes long, leaves room for the others. Throws
   * `rate-limited`.
   */
  enterAs(caller: Pick<Caller, 'issuer' | 'sub'>): () => void {
    if (this.#rate <= 0) return () => undefined;
    const key = callerKey(caller);
    const own = this.#own.get(key) ?? 0;
    if (own >= Math.ceil(this.#most / 2)) {
      throw new ServerFailure('rate-limited', 'this caller has too many requests in flight', { retryAfterMs: 1000 });
    }
    this.#own.set(key, own + 1);
    return once(() => {
      const left = (this.#own.get(key) ?? 1) - 1;
      if (left > 0) this.#own.set(key, left);
      else this.#own.delete(key);
    });
  }

  /**
   * Asked before there is an answer. Who has a token left may ask for several things at once and goes into debt: no call is too large ever, and
   * none is cheaper than its parts. Throws `rate-limited`.
   */
  take(caller: Pick<Caller, 'issuer' | 'sub'>, count = 1): void {
    if (this.#rate <= 0) return;
    const key = callerKey(caller);
    const now = this.#clock();
    const tokens = this.#tokens(key, now);
    const isAllowed = tokens >= 1;
    remember(this.#buckets, key, { tokens: isAllowed ? tokens - count : tokens, at: now }, MOST_CALLERS);
    if (!isAllowed) {
      throw new ServerFailure('rate-limited', 'this caller asks too often', {
        retryAfterMs: Math.ceil(((1 - tokens) / this.#rate) * 1000),
      });
    }
  }

  #tokens(key: string, now: number): number {
    const bucket = this.#buckets.get(key);
    if (bucket === undefined) return this.#burst;
    return Math.min(this.#burst, bucket.tokens + ((now - bucket.at) / 1000) * this.#rate);
  }
}

function once(leave: () => void): () => void {
  let isOver = false;
  return () => {
    if (isOver) return;
    isOver = true;
    leave();
  };
}
