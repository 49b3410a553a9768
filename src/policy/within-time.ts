// The last word on how long a computation may take. V8 itself stops it, wherever it is; that costs 0.1 ms, so it is for what may need it.
import { createContext, Script } from 'node:vm';

export type Outcome<T> = { readonly done: true; readonly value: T } | { readonly done: false };

/** Runs `work` and throws what it throws; not done when it took longer. It must be able to stop anywhere: nothing of it is cleaned up. */
export function withinTime<T>(work: () => T, timeoutMs: number): Outcome<T> {
  let value: { readonly of: T } | undefined;
  task.run = () => {
    value = { of: work() };
  };
  try {
    script.runInContext(context, { timeout: timeoutMs });
  } catch (error) {
    // Thrown by another context, so it is no instance of this one’s Error.
    const code: unknown = typeof error === 'object' && error !== null && 'code' in error ? error.code : undefined;
    if (code !== 'ERR_SCRIPT_EXECUTION_TIMEOUT') throw error;
  } finally {
    task.run = nothing;
  }
  return value === undefined ? { done: false } : { done: true, value: value.of };
}

const nothing = (): void => undefined;
const task = { run: nothing };
const context = createContext(task);
const script = new Script('run()');
