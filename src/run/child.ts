// One child process: spawn, forward signals, end the tree, report how it ended. kz reads nothing from the child's stdin and writes
// nothing to its stdout: the child inherits the descriptors themselves.
import { spawn, type ChildProcess } from 'node:child_process';
import { closeSync, constants, openSync, statSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { KzError, systemCode } from '../core/errors.ts';
import { descendants, statFields } from './process-tree.ts';
import { startWatchdog, type Watchdog } from './watchdog.ts';

export type ChildEnd = { readonly code: number } | { readonly signal: NodeJS.Signals };

export interface ChildOptions {
  readonly env: Readonly<Record<string, string>>;
  /** Milliseconds between the first TERM and KILL. MCP clients give two seconds before they KILL kz itself. */
  readonly graceMs: number;
}

const FORWARDED = ['SIGTERM', 'SIGINT', 'SIGHUP', 'SIGQUIT', 'SIGUSR1', 'SIGUSR2'] as const satisfies NodeJS.Signals[];

/** A program that ends sooner needs no watchdog, and should not wait for one to start. */
const WATCHDOG_AFTER_MS = 30;

/** Resolves when the child has ended. Throws `command-not-found`, `command-not-executable` or `start-failed`. */
export async function runChild(command: readonly [string, ...string[]], options: ChildOptions): Promise<ChildEnd> {
  const ownGroup = !hasControllingTerminal();
  // The handlers come before the spawn: a signal between the two would kill kz alone, and a child inherits ignored signals.
  const pending: NodeJS.Signals[] = [];
  let onSignal = (signal: NodeJS.Signals): void => void pending.push(signal);
  const handler = (signal: NodeJS.Signals): void => {
    onSignal(signal);
  };
  for (const signal of FORWARDED) process.on(signal, handler);
  try {
    const child = await start(command, options.env, ownGroup);
    const tree = new ChildTree(child, ownGroup, options.graceMs);
    onSignal = (signal) => {
      tree.deliver(signal);
    };
    for (const signal of pending) tree.deliver(signal);
    return await tree.ended();
  } finally {
    for (const signal of FORWARDED) process.off(signal, handler);
  }
}

/** Without a controlling terminal nobody delivers ^C to a group, so the child gets its own, which can be signalled as a whole. */
function hasControllingTerminal(): boolean {
  try {
    closeSync(openSync('/dev/tty', constants.O_RDONLY | constants.O_NOCTTY));
    return true;
  } catch {
    return false;
  }
}

type Started = ChildProcess & { readonly pid: number };

function start(command: readonly [string, ...string[]], env: Readonly<Record<string, string>>, ownGroup: boolean): Promise<Started> {
  const [program, ...args] = command;
  return new Promise((resolve, reject) => {
    const fail = (error: unknown): void => {
      reject(startError(program, error, env.PATH));
    };
    try {
      const child = spawn(program, args, { env, stdio: 'inherit', detached: ownGroup });
      child.once('error', fail);
      if (isStarted(child)) resolve(child);
    } catch (error) {
      fail(error);
    }
  });
}

function isStarted(child: ChildProcess): child is Started {
  return child.pid !== undefined;
}

function startError(program: string, error: unknown, path: string | undefined): KzError {
  switch (systemCode(error)) {
    case 'ENOENT':
      return notFound(program, path, error);
    case 'EACCES':
    case 'EPERM':
    case 'ENOEXEC':
      return new KzError('command-not-executable', `${program} was found but cannot be executed`, {
        hint: `make it executable (chmod +x), or name its interpreter: kz run -- node ${program}`,
        cause: error,
      });
    default:
      return new KzError('start-failed', `cannot start ${program} (${systemCode(error) ?? 'unknown error'})`, { cause: error });
  }
}

function notFound(program: string, path: string | undefined, cause: unknown): KzError {
  if (!program.includes('/')) {
    return new KzError('command-not-found', `${program} is not on PATH (${path ?? 'PATH is not set'})`, {
      hint: 'write the full path of the program; programs started from a desktop have a short PATH',
      cause,
    });
  }
  if (statSync(program, { throwIfNoEntry: false }) === undefined)
    return new KzError('command-not-found', `${program} is not there`, { cause });
  return new KzError('command-not-executable', `${program} names an interpreter that is not there`, {
    hint: 'look at its first line (#!)',
    cause,
  });
}

/** The child and everything below it, from the start to the last process. */
class ChildTree {
  readonly #child: Started;
  readonly #ownGroup: boolean;
  readonly #graceMs: number;
  readonly #exit: Promise<ChildEnd>;
  readonly #known = new Set<number>();
  #alive = true;
  #killed: Promise<void> | undefined;

  constructor(child: Started, ownGroup: boolean, graceMs: number) {
    this.#child = child;
    this.#ownGroup = ownGroup;
    this.#graceMs = graceMs;
    this.#exit = new Promise((resolve) => {
      child.once('close', (code, signal) => {
        this.#alive = false;
        resolve(signal === null ? { code: code ?? 1 } : { signal });
      });
    });
  }

  async ended(): Promise<ChildEnd> {
    let watchdog: Watchdog | undefined;
    const late = setTimeout(() => {
      watchdog = startWatchdog(this.#child.pid, this.#ownGroup);
    }, WATCHDOG_AFTER_MS);
    try {
      const end = await this.#exit;
      await this.#killed;
      return end;
    } finally {
      clearTimeout(late);
      watchdog?.dismiss();
    }
  }

  deliver(signal: NodeJS.Signals): void {
    if (cameFromTerminal(signal, this.#ownGroup)) return;
    this.#signal(signal);
    if (signal === 'SIGTERM') this.#killed ??= this.#killAfterGrace();
  }

  /** Ends early when the whole tree is gone. A child that exits at once may leave others behind (npx does), and they get KILL too. */
  async #killAfterGrace(): Promise<void> {
    const deadline = Date.now() + this.#graceMs;
    while (Date.now() < deadline) {
      await delay(Math.min(20, this.#graceMs));
      if (!this.#alive && !this.#survivors()) return;
    }
    this.#signal('SIGKILL');
  }

  #survivors(): boolean {
    if (this.#ownGroup) return send(-this.#child.pid, 0);
    return [...this.#known].some((pid) => send(pid, 0));
  }

  #signal(signal: NodeJS.Signals): void {
    if (this.#ownGroup) {
      send(-this.#child.pid, signal);
      return;
    }
    if (this.#alive) for (const pid of descendants(this.#child.pid)) this.#known.add(pid);
    if (this.#alive) send(this.#child.pid, signal);
    // INT, HUP and the others are for the child; TERM and KILL are for the tree.
    if (signal === 'SIGTERM' || signal === 'SIGKILL') for (const pid of this.#known) send(pid, signal);
  }
}

/** The terminal sends ^C and ^\ to the whole foreground group: the child has it already, and a second one would end a clean stop. */
function cameFromTerminal(signal: NodeJS.Signals, ownGroup: boolean): boolean {
  if (ownGroup || (signal !== 'SIGINT' && signal !== 'SIGQUIT')) return false;
  if (process.platform !== 'linux') return true;
  // In the background (tpgid is another group) the terminal sends nothing, so this one was sent by a program, to us alone.
  const [, , group, , , foreground] = statFields('self');
  return group === foreground;
}

/** False when there is nobody to signal. */
function send(pid: number, signal: NodeJS.Signals | 0): boolean {
  try {
    process.kill(pid, signal);
    return true;
  } catch {
    return false;
  }
}
