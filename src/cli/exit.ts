// How kz ends when a signal had a part in it: so that whoever started kz cannot tell it from the program that it ran.
import { closeSync, writeFileSync } from 'node:fs';
import { constants } from 'node:os';
import type { ChildEnd } from '../run/child-tree.ts';
import type { Signals } from '../run/signals.ts';

/** What was interrupted has this long to end the programs that it started. */
const CLEANUP_MS = 1500;

/** Ends kz as its child ended, whatever else is still open. */
export function mirror(end: ChildEnd): never {
  if ('code' in end) leave(end.code);
  dieBy(end.signal);
}

/** A signal arrived while kz itself was at work. */
export class Interrupted extends Error {
  readonly signal: NodeJS.Signals;

  constructor(signal: NodeJS.Signals) {
    super(`interrupted by ${signal}`);
    this.name = 'Interrupted';
    this.signal = signal;
  }

  /** Ends kz by the signal, as soon as nothing is left that is still cleaning up. */
  end(): void {
    process.once('exit', () => dieBy(this.signal));
    setTimeout(() => dieBy(this.signal), CLEANUP_MS).unref();
  }
}

/** Some libraries listen to no signal: what they still wait for (a credential process, a token server) does not keep a kz that has failed. */
export function endSoon(): void {
  setTimeout(() => process.exit(), CLEANUP_MS).unref();
}

/**
 * Aborts `action` when a signal arrives or `outer` is aborted, and throws `Interrupted` in the first case once it has settled. Afterwards the
 * signals are held.
 */
export async function interruptible<T>(signals: Signals, outer: AbortSignal, action: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const controller = new AbortController();
  const expire = (): void => {
    controller.abort(outer.reason);
  };
  outer.addEventListener('abort', expire, { once: true });
  signals.deliverTo((signal) => {
    controller.abort(new Interrupted(signal));
  });
  try {
    const result = await action(controller.signal);
    refuseInterrupted(controller.signal);
    return result;
  } catch (error) {
    refuseInterrupted(controller.signal);
    throw error;
  } finally {
    signals.hold();
    outer.removeEventListener('abort', expire);
  }
}

/** Whatever came of the action, nobody waits for it any more. */
function refuseInterrupted({ reason }: { readonly reason: unknown }): void {
  if (reason instanceof Interrupted) throw reason;
}

/** The signal itself, not 128 + n: callers look at WIFSIGNALED, and a shell stops its script only then. */
function dieBy(signal: NodeJS.Signals): never {
  leaveNoCore();
  useDefaultAction(signal);
  process.kill(process.pid, signal);
  // Still here: process 1 ignores signals that it does not handle. Elsewhere another thread may be the one that takes it.
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 100);
  leave(128 + constants.signals[signal]);
}

/**
 * At its exit Node sets the terminal to what it was at the start: against the will of the child (`stty`), under the feet of the program in
 * the foreground, and with an abort when the terminal is gone. It leaves descriptors alone that are closed.
 */
function leave(status: number): never {
  for (const descriptor of [0, 1, 2]) {
    try {
      closeSync(descriptor);
    } catch {
      // It was closed before.
    }
  }
  process.exit(status);
}

/** Our core would hold every value, and where its name is just `core` it would replace the one of the child. Linux only. */
function leaveNoCore(): void {
  if (process.platform !== 'linux') return;
  try {
    writeFileSync('/proc/self/coredump_filter', '0');
    process.chdir('/proc');
  } catch {
    // No /proc: nothing better is left.
  }
}

/** Node ignores PIPE and XFSZ and opens its debugger on USR1. Taking the last listener away leaves the system's own action behind. */
export function useDefaultAction(signal: NodeJS.Signals): void {
  if (signal === 'SIGKILL' || signal === 'SIGSTOP') return;
  process.on(signal, () => undefined);
  process.removeAllListeners(signal);
}
