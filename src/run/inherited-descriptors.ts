// The descriptors beyond 0-2 that kz was started with: `3<file`, zsh's <(…), make's jobserver. Node marks them close-on-exec when it
// starts, so the child gets only those that are named to spawn. What kz opened itself must never be among them.
import { readdirSync, readlinkSync } from 'node:fs';

/** Call it before anything is opened: a socket or a file that is open by then is taken for an inherited one. Linux only. */
export function inheritedDescriptors(): number[] {
  // One of them is the channel to a parent that is Node too; which one is not known any more.
  if (process.platform !== 'linux' || process.connected) return [];
  const open = openDescriptors();
  // The first thing that Node opens, on the lowest free number.
  const firstOwn = open.find(({ target }) => target === 'anon_inode:[eventpoll]')?.descriptor;
  if (firstOwn === undefined) return [];
  const above = open.filter(({ descriptor }) => descriptor > firstOwn).map(({ target }) => target);
  const isOwn = (target: string): boolean => target.startsWith('anon_inode:') || (target.startsWith('pipe:') && isPair(target, above));
  return open.flatMap(({ descriptor, target }) => (descriptor < firstOwn || !isOwn(target) ? [descriptor] : []));
}

interface Open {
  readonly descriptor: number;
  readonly target: string;
}

function openDescriptors(): Open[] {
  try {
    const numbers = readdirSync('/proc/self/fd').map(Number);
    return numbers.sort((a, b) => a - b).flatMap((descriptor) => (descriptor > 2 ? describe(descriptor) : []));
  } catch {
    return [];
  }
}

function describe(descriptor: number): Open[] {
  try {
    return [{ descriptor, target: readlinkSync(`/proc/self/fd/${String(descriptor)}`) }];
  } catch {
    // The one that read the folder; it is closed by now.
    return [];
  }
}

/** Node wakes its own threads through pipes of which it holds both ends. */
function isPair(target: string, targets: readonly string[]): boolean {
  return targets.filter((other) => other === target).length > 1;
}
