// A program that is stopped and started again when its environment has changed: one child after the other, with the same standard input and
// the same way out. A child that ends by itself ends the run.
import { isEnding, type ChildEnd, type ChildTree } from './child-tree.ts';
import { prepareLaunch, startChild, type ChildOptions, type ChildVariables, type Command, type Launch } from './child.ts';

/** ^C asks a program to end, and it may take its time; one that stays after that has made something else of it. */
const MAY_BE_ENDING_MS = 10_000;

export class SupervisedChild {
  readonly #launch: Launch;
  readonly #end: Promise<ChildEnd>;
  #tree: ChildTree;
  /** The environment of the child that takes the place of this one; undefined when none is wanted. */
  #next: ChildVariables | undefined;
  /** The user wants an end: no child follows. */
  #isEnding = false;
  /** The signal by which the user said so while there was no child to hear it. */
  #between: NodeJS.Signals | undefined;
  /** When the user last sent a signal that ends most programs. */
  #interruptedAt = -Infinity;
  /** A replacement that waits for what comes of that. */
  #later: { env: ChildVariables } | undefined;

  /** Throws what `runChild` throws before the start. */
  static async start(command: Command, options: ChildOptions): Promise<SupervisedChild> {
    const launch = await prepareLaunch(command, options);
    const supervised = new SupervisedChild(launch, await startChild(launch, options.env));
    options.signals.deliverTo((signal) => {
      supervised.#deliver(signal);
    });
    return supervised;
  }

  private constructor(launch: Launch, tree: ChildTree) {
    this.#launch = launch;
    this.#tree = tree;
    this.#end = this.#supervise();
    // Whoever awaits `ended` hears of it, also when that is later.
    this.#end.catch(() => undefined);
  }

  /** How the last child ended, when its output has arrived. Throws what `runChild` throws, also for a child that takes another's place. */
  ended(): Promise<ChildEnd> {
    return this.#end;
  }

  /** The last child has ended or was asked to: no other one follows. */
  get isOver(): boolean {
    return this.#isEnding || (this.#next === undefined && !this.#tree.isAlive);
  }

  /**
   * Stops the child and its tree (TERM, grace, KILL) and starts it anew. Asked again before that has happened, it starts once, with the last
   * environment. Nothing happens when the child has ended by itself, or the user has asked for an end. After ^C it waits: the child may be on
   * its way out, and whoever ended it does not want another one.
   */
  replace(env: ChildVariables): void {
    if (this.#isEnding) return;
    const waitMs = this.#interruptedAt + MAY_BE_ENDING_MS - performance.now();
    if (waitMs > 0 && this.#next === undefined) this.#replaceLater(env, waitMs);
    else this.#replaceNow(env);
  }

  /** From kz, not from the user. A child that is about to be replaced does not get it. */
  signal(signal: NodeJS.Signals): void {
    if (this.#next === undefined) this.#tree.signal(signal);
  }

  #replaceLater(env: ChildVariables, waitMs: number): void {
    const isWaiting = this.#later !== undefined;
    this.#later = { env };
    if (isWaiting) return;
    setTimeout(() => {
      const { env: last } = this.#later ?? { env };
      this.#later = undefined;
      this.replace(last);
    }, waitMs).unref();
  }

  #replaceNow(env: ChildVariables): void {
    if (this.#next !== undefined || this.#tree.stop()) this.#next = env;
  }

  async #supervise(): Promise<ChildEnd> {
    for (;;) {
      await this.#tree.gone();
      if (this.#next === undefined || this.#isEnding) return this.#last();
      await this.#startNext(this.#next);
    }
  }

  async #last(): Promise<ChildEnd> {
    const end = await this.#tree.ended();
    return this.#between === undefined ? end : { signal: this.#between };
  }

  async #startNext(env: ChildVariables): Promise<void> {
    const before = this.#tree;
    before.release();
    try {
      this.#tree = await startChild(this.#launch, env);
    } catch (error) {
      await before.ended();
      throw error;
    }
    // Asked again during the start.
    if (this.#next !== env && this.#tree.stop()) return;
    this.#next = undefined;
  }

  #deliver(signal: NodeJS.Signals): void {
    if (isEnding(signal)) this.#interruptedAt = performance.now();
    if (signal === 'SIGTERM' || (this.#next !== undefined && isEnding(signal))) {
      this.#isEnding = true;
      if (this.#next !== undefined && !this.#tree.isAlive) this.#between ??= signal;
    }
    this.#tree.deliver(signal);
  }
}
