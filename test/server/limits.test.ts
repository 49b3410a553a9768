import { describe, expect, it } from 'vitest';
import { ServerFailure } from '../../src/server/failure.ts';
import { Limits } from '../../src/server/limits.ts';

const A = { issuer: 'github', sub: 'repo:acme/app' };

function limited(rate: number, burst: number) {
  const clock = { now: 0 };
  return { clock, limits: new Limits({ rate, burst, inFlight: 3, clock: () => clock.now }) };
}

function refusal(work: () => unknown): ServerFailure {
  try {
    work();
  } catch (error) {
    if (error instanceof ServerFailure) return error;
    throw error;
  }
  throw new Error('it was not refused');
}

describe('how often one caller may ask', () => {
  it('is its burst at once, then its rate', () => {
    const { clock, limits } = limited(10, 5);
    for (let count = 0; count < 5; count++) limits.take(A);
    const { code, status, retryAfterMs } = refusal(() => {
      limits.take(A);
    });
    expect([code, status, retryAfterMs]).toEqual(['rate-limited', 429, 100]);
    clock.now = 99;
    expect(() => {
      limits.take(A);
    }).toThrow();
    clock.now = 100;
    limits.take(A);
    clock.now = 100_000;
    for (let count = 0; count < 5; count++) limits.take(A);
    expect(() => {
      limits.take(A);
    }).toThrow();
  });

  it('is its own affair', () => {
    const { limits } = limited(1, 1);
    limits.take(A);
    limits.take({ ...A, sub: 'other' });
    limits.take({ ...A, issuer: 'other' });
    // Would be the same text without a separator.
    limits.take({ issuer: 'github\u0000', sub: 'repo:acme/app' });
    expect(limits.callers).toBe(4);
  });

  it('counts what is asked in one call, which may leave a debt', () => {
    const { clock, limits } = limited(10, 5);
    limits.take(A, 25);
    expect(
      refusal(() => {
        limits.take(A);
      }).retryAfterMs,
    ).toBe(2100);
    clock.now = 2100;
    limits.take(A);
  });

  it('is not limited by a rate of zero', () => {
    const { limits } = limited(0, 0);
    for (let count = 0; count < 1000; count++) limits.take(A);
    expect(limits.callers).toBe(0);
  });

  it('remembers a bounded number, the latest ones', () => {
    const { limits } = limited(1, 1);
    limits.take(A);
    for (let index = 0; index < 9999; index++) limits.take({ issuer: 'i', sub: String(index) });
    expect(() => {
      limits.take(A);
    }).toThrow();
    for (let index = 0; index < 20_000; index++) limits.take({ issuer: 'j', sub: String(index) });
    expect(limits.callers).toBe(10_000);
    limits.take(A);
  });
});

describe('how many requests may be in flight', () => {
  it('is a number, and each place is given back once', () => {
    const { limits } = limited(1, 1);
    const leave = [limits.enter(), limits.enter(), limits.enter()];
    const { code, status, retryAfterMs } = refusal(() => limits.enter());
    expect([code, status, retryAfterMs]).toEqual(['overloaded', 503, 1000]);
    leave[0]?.();
    leave[0]?.();
    expect(limits.inFlight).toBe(2);
    limits.enter();
    expect(() => limits.enter()).toThrow();
  });
});

describe('who may be in flight', () => {
  it('of those that nobody knows, is a number of its own within all', () => {
    const limits = new Limits({ rate: 0, burst: 1, inFlight: 3, strangers: 1 });
    const leave = limits.enterAsStranger();
    expect(refusal(() => limits.enterAsStranger())).toMatchObject({ code: 'overloaded', retryAfterMs: 1000 });
    expect(limits.inFlight).toBe(1);
    leave();
    leave();
    expect(limits.inFlight).toBe(0);
    const known = [limits.enter(), limits.enter(), limits.enter()];
    expect(refusal(() => limits.enterAsStranger()).code).toBe('overloaded');
    for (const each of known) each();
    limits.enterAsStranger()();
    expect(limits.inFlight).toBe(0);
  });

  it('of one caller, is half of all, unless nothing is limited', () => {
    const { limits } = limited(1, 1);
    const leave = [limits.enterAs(A), limits.enterAs(A)];
    expect(refusal(() => limits.enterAs(A))).toMatchObject({ code: 'rate-limited', status: 429, retryAfterMs: 1000 });
    limits.enterAs({ ...A, sub: 'other' });
    leave[0]?.();
    leave[0]?.();
    limits.enterAs(A);
    expect(refusal(() => limits.enterAs(A)).code).toBe('rate-limited');
    const free = limited(0, 1).limits;
    for (let count = 0; count < 5; count++) free.enterAs(A);
  });
});
