// Waiting that can be given up. When it is over nothing of it is kept: on Node 20 `AbortSignal.any` and `AbortSignal.timeout` keep what they made,
// and all that listens to it, until the garbage collector goes through the whole heap.

/**
 * What `work` comes to, or the signal's reason, `graceMs` after it aborts. The work itself goes on, because it knows no signals or others wait for
 * it; nobody hears how it ends then.
 */
export function orAborted<T>(work: Promise<T>, signal: AbortSignal, graceMs = 0): Promise<T> {
  return new Promise<T>((resolve, reject) => {
    let grace: NodeJS.Timeout | undefined;
    const giveUp = (): void => {
      reject(reasonOf(signal));
    };
    const onAbort = (): void => {
      if (graceMs > 0) grace = setTimeout(giveUp, graceMs);
      else giveUp();
    };
    if (signal.aborted) onAbort();
    else signal.addEventListener('abort', onAbort, { once: true });
    work.then(resolve, reject).finally(() => {
      clearTimeout(grace);
      signal.removeEventListener('abort', onAbort);
    });
  });
}

/** Gives `work` a signal that aborts when `outer` does, and with a `TimeoutError` after `ms`. */
export async function withDeadline<T>(ms: number, outer: AbortSignal, work: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const controller = new AbortController();
  const onAbort = (): void => {
    controller.abort(outer.reason);
  };
  const timer = setTimeout(() => {
    controller.abort(new DOMException(`not done after ${String(ms)} ms`, 'TimeoutError'));
  }, ms);
  outer.addEventListener('abort', onAbort, { once: true });
  if (outer.aborted) onAbort();
  try {
    return await work(controller.signal);
  } finally {
    clearTimeout(timer);
    outer.removeEventListener('abort', onAbort);
  }
}

/** When all of `work` has ended, however it did, and after `ms` in any case. */
export async function endOfAll(work: Iterable<Promise<unknown>>, ms: number): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const patience = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, ms);
  });
  await Promise.race([Promise.allSettled(work), patience]);
  clearTimeout(timer);
}

/** Always an error. */
export function reasonOf({ reason }: AbortSignal): Error {
  return reason instanceof Error ? reason : new Error('aborted', { cause: reason });
}
