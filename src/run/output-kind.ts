// What kz's own standard output and standard error lead to.
import { fstatSync, type BigIntStats } from 'node:fs';

/**
 * Whether what goes there is read or kept by a program: a pipe, a socket or a regular file. False for a terminal, for other devices such as
 * /dev/null, and for a descriptor that is closed.
 */
export function needsFilter(descriptor: number): boolean {
  const found = look(descriptor);
  return found !== undefined && (found.isFIFO() || found.isSocket() || found.isFile());
}

export function isSocket(descriptor: number): boolean {
  return look(descriptor)?.isSocket() ?? false;
}

/** `2>&1`: what is written to one stands between what is written to the other, in the order in which it was written. */
export function leadToTheSame(one: number, other: number): boolean {
  const first = look(one);
  const second = look(other);
  return first !== undefined && first.dev === second?.dev && first.ino === second.ino;
}

function look(descriptor: number): BigIntStats | undefined {
  try {
    return fstatSync(descriptor, { bigint: true });
  } catch {
    return undefined;
  }
}
