// Tokens that were verified a moment ago, by their hash. Never holds a token. What it answers is at most a minute old, so that a key that is taken
// away, or a token that expires, is not trusted for longer.
import { createHash } from 'node:crypto';
import { remember } from '../remembered.ts';

const LONGEST_MS = 60_000;
const MOST = 1000;

export class JwtCache<T> {
  readonly #entries = new Map<string, { readonly value: T; readonly from: number; readonly until: number }>();

  get(hash: string, nowMs: number): T | undefined {
    const entry = this.#entries.get(hash);
    if (entry === undefined) return undefined;
    // Also when the clock was set back.
    if (nowMs >= entry.from && nowMs < entry.until) return entry.value;
    this.#entries.delete(hash);
    return undefined;
  }

  /** Until `until` at the latest, milliseconds since the epoch as `nowMs`. The oldest makes room. */
  set(hash: string, value: T, { nowMs, until }: { readonly nowMs: number; readonly until: number }): void {
    remember(this.#entries, hash, { value, from: nowMs, until: Math.min(until, nowMs + LONGEST_MS) }, MOST);
  }
}

export function hashOf(jwt: string): string {
  return createHash('sha256').update(jwt).digest('hex');
}
