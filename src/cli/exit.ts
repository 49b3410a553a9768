// kz ends as its child ended, so that whoever started kz cannot tell the difference.
import { constants } from 'node:os';
import type { ChildEnd } from '../run/child.ts';

/** Killed by a signal → the same signal for ourselves: callers look at WIFSIGNALED, and a shell stops its script only then. */
export function mirror(end: ChildEnd): void {
  if ('code' in end) {
    process.exitCode = end.code;
    return;
  }
  const status = 128 + constants.signals[end.signal];
  process.exitCode = status;
  // Node starts its inspector on USR1 and ignores PIPE, and process 1 ignores what it does not handle: those end with 128 + n.
  if (end.signal === 'SIGUSR1') return;
  process.kill(process.pid, end.signal);
}
