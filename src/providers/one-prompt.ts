// Several kz that start together would each have the same program ask the user to unlock. So one asks at a time, and the others find it
// unlocked. It is a courtesy and guards nothing: nobody waits for long for a holder that may be gone.
import { isHeldElsewhere, withFileLock, type LockWords } from '../core/file-lock.ts';
import { KzError } from '../core/errors.ts';

export interface PromptLock extends Partial<Pick<LockWords, 'busy'>> {
  readonly path: string;
  /** So long somebody on another host or in another container is waited for. Default: 5 seconds. */
  readonly unseenMs?: number;
}

/** Without a folder to put a lock in, everybody asks. */
export async function onePromptAtATime<T>(
  { path, busy, unseenMs = 5000 }: PromptLock,
  action: () => Promise<T>,
  signal: AbortSignal,
): Promise<T> {
  let running: Promise<T> | undefined;
  const start = (): Promise<T> => (running = action());
  const patience = new AbortController();
  const look = setInterval(() => {
    isHeldElsewhere(path).then(
      (isElsewhere) => {
        if (isElsewhere) patience.abort();
      },
      () => undefined,
    );
  }, unseenMs);
  try {
    return await withFileLock(busy === undefined ? path : { path, busy }, start, AbortSignal.any([signal, patience.signal]));
  } catch (error) {
    if (running !== undefined) return await running;
    const isVain = patience.signal.aborted && !signal.aborted;
    if (isVain || (error instanceof KzError && error.code === 'write-failed')) return await action();
    throw error;
  } finally {
    clearInterval(look);
  }
}
