// Several kz that start together would each have the same program ask the user to unlock. So one asks at a time, and the others find it
// unlocked.
import { withFileLock, type LockWords } from '../core/file-lock.ts';
import { KzError } from '../core/errors.ts';

/** Without a folder to put a lock in, everybody asks. */
export async function onePromptAtATime<T>(lock: string | LockWords, action: () => Promise<T>, signal: AbortSignal): Promise<T> {
  let running: Promise<T> | undefined;
  const start = (): Promise<T> => (running = action());
  try {
    return await withFileLock(lock, start, signal);
  } catch (error) {
    if (error instanceof KzError && error.code === 'write-failed') return running ?? action();
    throw error;
  }
}
