// Processes in stories: what a running one says, whether one is alive, and waiting for something to become true.
import { execFileSync, type ChildProcess } from 'node:child_process';
import { livingProcesses, statFields, withDescendants } from '../../src/run/process-tree.ts';
import { collect, type Ended } from './kz.ts';

const DEADLINE_MS = 10_000;

/** Polls until `predicate` holds. Throws, with what was waited for, after the deadline. */
export async function waitFor(what: string, predicate: () => boolean, deadlineMs = DEADLINE_MS): Promise<void> {
  const deadline = performance.now() + deadlineMs;
  while (!predicate()) {
    if (performance.now() > deadline) throw new Error(`waited ${String(deadlineMs)} ms in vain: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

/** A zombie is not alive. */
export function alive(pid: number): boolean {
  return livingProcesses().some((process) => process.pid === pid);
}

export function waitUntilGone(pids: readonly number[], deadlineMs?: number): Promise<void> {
  return waitFor(`the end of ${pids.join(', ')}`, () => !pids.some(alive), deadlineMs);
}

/** Until its parent knows that it has ended, too. */
export function waitUntilReaped(pid: number): Promise<void> {
  return waitFor(`the end of ${String(pid)}, and its parent to see it`, () => !exists(pid));
}

function exists(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}

/** Stopped by job control. Linux only. */
export function stopped(pid: number): boolean {
  return statFields(pid)[0] === 'T';
}

/** Is there a process whose command line holds `text`? */
export function isRunning(text: string): boolean {
  return execFileSync('ps', ['-A', '-ww', '-o', 'args='], { encoding: 'utf8' }).includes(text);
}

/** Does the watchdog of the kz that started `child` live? */
export function isWatched(child: number): boolean {
  return isRunning(`kz-watchdog ${String(child)} `);
}

/** A started program, followed while it runs. */
export class Running {
  readonly child: ChildProcess;
  readonly ended: Promise<Ended>;
  #stdout = '';
  #stderr = '';

  constructor(child: ChildProcess) {
    this.child = child;
    this.ended = collect(child);
    child.stdout?.on('data', (chunk: Buffer) => (this.#stdout += chunk.toString('latin1')));
    child.stderr?.on('data', (chunk: Buffer) => (this.#stderr += chunk.toString('latin1')));
  }

  get pid(): number {
    if (this.child.pid === undefined) throw new Error('it did not start');
    return this.child.pid;
  }

  get stdout(): string {
    return this.#stdout;
  }

  get stderr(): string {
    return this.#stderr;
  }

  send(signal: NodeJS.Signals): void {
    process.kill(this.pid, signal);
  }

  /** How often the program has said `line` so far. */
  count(line: string): number {
    return this.#stdout.split('\n').filter((said) => said === line).length;
  }

  /** Waits until it has said `line` so many times, and nothing less. */
  async said(line: string, times = 1): Promise<void> {
    await waitFor(`${String(times)} × ${line} in ${JSON.stringify(this.#stdout + this.#stderr)}`, () => this.count(line) >= times);
  }

  /** Waits until `text` is somewhere on its standard error. */
  async warned(text: string): Promise<void> {
    await waitFor(`${text} in ${JSON.stringify(this.#stderr)}`, () => this.#stderr.includes(text));
  }

  /** Waits for the numbers that the program prints after `word`, such as the pids in `ready 4711`. */
  async numbers(word: string, count = 1): Promise<number[]> {
    const find = (): number[] => [...this.#stdout.matchAll(new RegExp(`${word} (\\d+)\n`, 'g'))].map(([, number]) => Number(number));
    await waitFor(`${word} in ${JSON.stringify(this.#stdout + this.#stderr)}`, () => find().length >= count);
    return find();
  }
}

/** Every living descendant of `root`, parents before children, without `root` itself. */
export function descendants(root: number): number[] {
  const living = livingProcesses();
  const roots = living.filter(({ pid }) => pid === root);
  return withDescendants(roots, living).flatMap(({ pid }) => (pid === root ? [] : [pid]));
}
