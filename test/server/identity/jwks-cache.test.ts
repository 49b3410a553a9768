import { expect, it } from 'vitest';
import { CachedKeys } from '../../../src/server/identity/jwks-cache.ts';
import type { KeySet } from '../../../src/server/identity/jwks-key.ts';

const EMPTY: KeySet = { keys: [], weak: 0 };
const TIMES = { freshMs: 1000, cooldownMs: 0, failureMs: 0, staleMs: 60_000 };
const { signal } = new AbortController();

/** A key server that answers when it is told to. */
class Slow {
  now = 0;
  answer: (keys: KeySet) => void = () => undefined;
  readonly set = new CachedKeys(
    () =>
      new Promise((resolve) => {
        this.answer = resolve;
      }),
    { times: TIMES, now: () => this.now, timeoutMs: 60_000, onStale: () => undefined },
  );
}

it('lets only so many calls wait long for a key server, so that the rest of the server has room', async () => {
  const slow = new Slow();
  const waiting = Array.from({ length: 256 }, () => slow.set.current(signal));
  const started = performance.now();
  const [first, second] = await Promise.all([1, 2].map(() => slow.set.current(signal).catch((error: unknown) => error)));
  expect(first).toMatchObject({ code: 'provider-unavailable', message: 'too many calls wait for them' });
  // The same one, so that the operator is told once.
  expect(second).toBe(first);
  expect(performance.now() - started).toBeGreaterThan(900);
  slow.answer(EMPTY);
  expect(new Set(await Promise.all(waiting))).toEqual(new Set([EMPTY]));
  expect(await slow.set.current(signal)).toBe(EMPTY);
});

it('a call that goes away makes room', async () => {
  const slow = new Slow();
  const controller = new AbortController();
  const gone = Array.from({ length: 256 }, () => slow.set.current(controller.signal).catch(() => 'gone'));
  controller.abort();
  expect(new Set(await Promise.all(gone))).toEqual(new Set(['gone']));
  const next = slow.set.current(signal);
  slow.answer(EMPTY);
  expect(await next).toBe(EMPTY);
});

it('where an old set may be used, calls beyond these take it, and nobody waits for a key that may be new', async () => {
  const slow = new Slow();
  const first = slow.set.current(signal);
  slow.answer(EMPTY);
  await first;
  slow.now = 5000;
  const waiting = Array.from({ length: 256 }, () => slow.set.current(signal));
  expect(await slow.set.current(signal)).toBe(EMPTY);
  await expect(slow.set.newerThan(EMPTY, signal)).rejects.toMatchObject({ code: 'provider-unavailable' });
  const newer: KeySet = { keys: [], weak: 1 };
  slow.answer(newer);
  expect(new Set(await Promise.all(waiting))).toEqual(new Set([newer]));
});

it('no call is too many for a key server that is well', async () => {
  const slow = new Slow();
  const waiting = Array.from({ length: 1000 }, () => slow.set.current(signal));
  slow.answer(EMPTY);
  expect(new Set(await Promise.all(waiting))).toEqual(new Set([EMPTY]));
});
