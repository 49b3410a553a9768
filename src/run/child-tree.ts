// The child and everything below it, from the start to the last process: who gets which signal, and what happens to those who stay.
import type { ChildProcess } from 'node:child_process';
import { closeSync, constants, openSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import type { Connection } from './filtered-output.ts';
import { livingProcesses, send, statFields, withDescendants, type Process } from './process-tree.ts';
import { startWatchdog, type Watchdog } from './watchdog.ts';

export type ChildEnd = { readonly code: number } | { readonly signal: NodeJS.Signals };

export type StartedChild = ChildProcess & { readonly pid: number };

export interface TreeOptions {
  /** The child leads a process group of its own. */
  readonly ownGroup: boolean;
  /** Milliseconds between the first TERM and KILL. */
  readonly graceMs: number;
  /** What does not inherit kz's descriptors. */
  readonly output?: Connection | undefined;
  /** The process that a signal for the child is meant for, where the child only waits for it and takes no signal itself. */
  readonly program?: (() => number | undefined) | undefined;
}

/** Who sends one of these wants an end, also of a kz whose child has ended. */
const ENDING: ReadonlySet<NodeJS.Signals> = new Set(['SIGTERM', 'SIGINT', 'SIGHUP', 'SIGQUIT']);

/** A program that ends sooner needs no watchdog, and should not wait for one to start. */
const WATCHDOG_AFTER_MS = 30;

const POLL_MS = 20;

export class ChildTree {
  readonly #child: StartedChild;
  readonly #options: TreeOptions;
  readonly #exit: Promise<ChildEnd>;
  /** pid → when it began, of every process that was seen below the child: one whose parent died is found again by it. */
  #known: ReadonlyMap<number, string> = new Map();
  #alive = true;
  #killed: Promise<void> | undefined;
  #gone: Promise<ChildEnd> | undefined;
  #lastEnding: NodeJS.Signals = 'SIGTERM';

  constructor(child: StartedChild, options: TreeOptions) {
    this.#child = child;
    this.#options = options;
    // Not `close`, which waits for some kinds of pipes and not for others: what comes through them has its own end.
    this.#exit = new Promise((resolve) => {
      child.once('exit', (code, signal) => {
        this.#alive = false;
        resolve(signal === null ? { code: code ?? 1 } : { signal });
      });
    });
  }

  get isAlive(): boolean {
    return this.#alive;
  }

  /** The child, and where it was stopped its whole tree. What they wrote may still be on its way. */
  gone(): Promise<ChildEnd> {
    this.#gone ??= this.#untilGone();
    return this.#gone;
  }

  /** `gone`, and all output has arrived. Call it for the last child of a run only. */
  async ended(): Promise<ChildEnd> {
    const end = await this.gone();
    const { output } = this.#options;
    if (output === undefined) return end;
    if (this.#killed !== undefined) output.giveUpSoon();
    await output.finish();
    // TERM may have come in the meantime, for what the child left behind.
    await this.#killed;
    return output.isStuck ? { signal: this.#lastEnding } : end;
  }

  /** Another child follows. */
  release(): void {
    this.#options.output?.expectEnd();
  }

  /** TERM ends the whole tree, now or after the grace; what the other signals mean is up to the child. */
  deliver(signal: NodeJS.Signals): void {
    if (!cameFromTerminal(signal, this.#options.ownGroup)) {
      if (signal === 'SIGTERM') this.#terminate();
      else this.signal(signal);
    }
    if (!isEnding(signal)) return;
    this.#lastEnding = signal;
    if (!this.#alive) void this.#giveUpOutput();
  }

  /** For the child alone, or its group where it has one. */
  signal(signal: NodeJS.Signals): void {
    if (this.#alive) this.#signalChild(signal);
  }

  /** What TERM does. False when the child had ended by itself. */
  stop(): boolean {
    if (!this.#alive || isZombie(this.#child.pid)) return false;
    this.#terminate();
    return true;
  }

  async #untilGone(): Promise<ChildEnd> {
    let watchdog: Watchdog | undefined;
    const late = setTimeout(() => {
      watchdog = startWatchdog(this.#child.pid, this.#options.ownGroup);
    }, WATCHDOG_AFTER_MS);
    try {
      const end = await this.#exit;
      await this.#killed;
      return end;
    } finally {
      clearTimeout(late);
      await watchdog?.dismiss();
    }
  }

  async #giveUpOutput(): Promise<void> {
    await this.#killed;
    this.#options.output?.giveUpSoon();
  }

  #terminate(): void {
    this.#signalTree('SIGTERM');
    this.#killed ??= this.#killAfterGrace();
  }

  /** Ends early when the whole tree is gone. A child that exits at once may leave others behind (npx does), and they get KILL too. */
  async #killAfterGrace(): Promise<void> {
    const { graceMs } = this.#options;
    const start = performance.now();
    let told = false;
    while (performance.now() < start + graceMs) {
      await delay(Math.min(POLL_MS, graceMs));
      if (!this.#alive && this.#members().length === 0) return;
      // Not at once: timeout(1) and a second kz forward to those whom they gave a group of their own.
      if (told || (this.#alive && performance.now() < start + graceMs / 2)) continue;
      this.#signalOutsiders('SIGTERM');
      told = true;
    }
    this.#signalTree('SIGKILL');
    this.#signalOutsiders('SIGKILL');
  }

  #signalChild(signal: NodeJS.Signals): void {
    const { pid } = this.#child;
    send(this.#options.ownGroup ? -pid : this.#program(signal), signal);
  }

  #program(signal: NodeJS.Signals): number {
    const { program } = this.#options;
    return (signal === 'SIGKILL' ? undefined : program?.()) ?? this.#child.pid;
  }

  /** The group at once, so that nobody can fork away; where it is kz's too, the child and everybody below it. */
  #signalTree(signal: NodeJS.Signals): void {
    const { pid } = this.#child;
    // Before anything is signalled: a process whose parent died belongs to init.
    const members = this.#members();
    if (this.#alive || (this.#options.ownGroup && members.some(({ group }) => group === pid))) this.#signalChild(signal);
    if (this.#options.ownGroup) return;
    for (const member of members) if (member.pid !== pid) send(member.pid, signal);
  }

  /** Those who left the child's group. */
  #signalOutsiders(signal: NodeJS.Signals): void {
    if (!this.#options.ownGroup) return;
    for (const { pid, group } of this.#members()) if (group !== this.#child.pid) send(pid, signal);
  }

  /** Everybody who is alive, the child included. */
  #members(): readonly Process[] {
    const living = livingProcesses();
    const { pid } = this.#child;
    const roots = living.filter((each) => {
      if (each.pid === pid) return this.#alive;
      return (this.#options.ownGroup && each.group === pid) || this.#known.get(each.pid) === each.started;
    });
    const members = withDescendants(roots, living);
    this.#known = new Map(members.map((member) => [member.pid, member.started]));
    return members;
  }
}

export function isEnding(signal: NodeJS.Signals): boolean {
  return ENDING.has(signal);
}

/** Without a controlling terminal nobody delivers ^C to a group, so the child gets its own, which can be signalled as a whole. */
export function hasControllingTerminal(): boolean {
  try {
    closeSync(openSync('/dev/tty', constants.O_RDONLY | constants.O_NOCTTY));
    return true;
  } catch {
    return false;
  }
}

/** What the terminal or the shell sent to the whole group the child has already, and a second ^C would end a clean stop. */
function cameFromTerminal(signal: NodeJS.Signals, ownGroup: boolean): boolean {
  if (ownGroup) return false;
  const [, , group, session, , foreground] = statFields('self');
  switch (signal) {
    case 'SIGINT':
    case 'SIGQUIT':
      // In the background (tpgid is another group) the terminal sends nothing, so this one was sent by a program, to us alone.
      return process.platform !== 'linux' || group === foreground;
    case 'SIGHUP':
      // Hung up, the kernel tells the leader of the session, alone; everybody else hears it by group.
      return process.platform === 'linux' && !hasControllingTerminal() && session !== String(process.pid);
    default:
      return false;
  }
}

/** It has ended, and Node does not know it yet. */
function isZombie(pid: number): boolean {
  return process.platform === 'linux' && statFields(pid)[0] === 'Z';
}
