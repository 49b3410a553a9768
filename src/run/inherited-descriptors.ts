// The descriptors beyond 0-2 that kz was started with: `3<file`, zsh's <(…), make's jobserver. Node marks them close-on-exec when it
// starts, so the child gets only those that are named to spawn. What kz opened itself must never be among them.
import { closeSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';

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

/**
 * Closes those that every child would inherit without being given them: Node marks low ones only. Not the standard ones, and nothing of kz's own,
 * which are all marked. Linux only.
 */
export function closeInherited(): void {
  if (process.platform !== 'linux') return;
  for (const { descriptor } of openDescriptors()) if (isUnmarked(descriptor)) closeSync(descriptor);
}

const CLOSE_ON_EXEC = 0o2000000;

function isUnmarked(descriptor: number): boolean {
  try {
    const [, flags = ''] = /^flags:\s*([0-7]+)$/m.exec(readFileSync(`/proc/self/fdinfo/${String(descriptor)}`, 'latin1')) ?? [];
    return flags !== '' && (Number.parseInt(flags, 8) & CLOSE_ON_EXEC) === 0;
  } catch {
    return false;
  }
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
