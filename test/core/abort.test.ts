import { setTimeout as pause } from 'node:timers/promises';
import { getEventListeners } from 'node:events';
import { describe, expect, it } from 'vitest';
import { orAborted, reasonOf, withDeadline } from '../../src/core/abort.ts';

const never = new Promise<never>(() => undefined);

function listeners(signal: AbortSignal): number {
  return getEventListeners(signal, 'abort').length;
}

describe('orAborted', () => {
  it('is what the work comes to, and listens no more', async () => {
    const { signal } = new AbortController();
    expect(await orAborted(Promise.resolve(1), signal)).toBe(1);
    await expect(orAborted(Promise.reject(new Error('failed')), signal)).rejects.toThrow('failed');
    expect(listeners(signal)).toBe(0);
  });

  it('gives up when the signal aborts, or has aborted, and leaves a late failure to nobody', async () => {
    const controller = new AbortController();
    const reason = new Error('enough');
    const late = pause(20).then(() => {
      throw new Error('late');
    });
    const waiting = orAborted(late, controller.signal);
    controller.abort(reason);
    await expect(waiting).rejects.toBe(reason);
    await expect(orAborted(never, controller.signal)).rejects.toBe(reason);
    await pause(40);
  });

  it('leaves the work a moment to say what it waited for', async () => {
    const controller = new AbortController();
    const waiting = orAborted(
      pause(5).then(() => 'last words'),
      controller.signal,
      10_000,
    );
    controller.abort();
    expect(await waiting).toBe('last words');
    await expect(orAborted(never, controller.signal, 1)).rejects.toMatchObject({ name: 'AbortError' });
  });
});

it('a moment that is not needed any more is not waited for', async () => {
  const controller = new AbortController();
  let asked = 0;
  Object.defineProperty(controller.signal, 'reason', { get: () => (asked += 1) });
  const waiting = orAborted(pause(1), controller.signal, 20);
  controller.abort();
  await waiting;
  await pause(40);
  expect(asked).toBe(0);
});

describe('withDeadline', () => {
  it('is what the work comes to, and keeps neither listener nor timer', async () => {
    const { signal } = new AbortController();
    let inner: AbortSignal | undefined;
    const work = async (own: AbortSignal): Promise<number> => {
      inner = own;
      await pause(1);
      return listeners(signal);
    };
    expect(await withDeadline(20, signal, work)).toBe(1);
    expect(listeners(signal)).toBe(0);
    await pause(40);
    expect(inner?.aborted).toBe(false);
  });

  it('aborts with the outer signal, for its reason, also one that had aborted before', async () => {
    const controller = new AbortController();
    const waiting = withDeadline(60_000, controller.signal, (signal) => orAborted(never, signal));
    controller.abort(new Error('enough'));
    await expect(waiting).rejects.toThrow('enough');
    await expect(withDeadline(60_000, controller.signal, (signal) => orAborted(never, signal))).rejects.toThrow('enough');
  });

  it('aborts when it is late', async () => {
    const { signal } = new AbortController();
    await expect(withDeadline(5, signal, (own) => orAborted(never, own))).rejects.toMatchObject({ name: 'TimeoutError' });
    expect(listeners(signal)).toBe(0);
  });
});

it('a reason is always an error', () => {
  expect(reasonOf(AbortSignal.abort('why'))).toMatchObject({ message: 'aborted', cause: 'why' });
  expect(reasonOf(AbortSignal.abort())).toMatchObject({ name: 'AbortError' });
});
