// The signals that reach kz while it prepares and runs a program.

export const FORWARDED = ['SIGTERM', 'SIGINT', 'SIGHUP', 'SIGQUIT', 'SIGUSR1', 'SIGUSR2'] as const satisfies NodeJS.Signals[];

/**
 * One listener from the first moment to the last. With one listener after the other a signal is lost now and then: Node tells only those who
 * listened when it arrived, and only if they still do when it gets to tell them.
 */
export class Signals {
  readonly #waiting: NodeJS.Signals[] = [];
  #receive: ((signal: NodeJS.Signals) => void) | undefined;

  readonly #listener = (signal: NodeJS.Signals): void => {
    if (this.#receive === undefined) this.#waiting.push(signal);
    else this.#receive(signal);
  };

  constructor() {
    for (const signal of FORWARDED) process.on(signal, this.#listener);
  }

  /** Everything from now on, after what came while nobody received. */
  deliverTo(receive: (signal: NodeJS.Signals) => void): void {
    this.#receive = receive;
    for (const signal of this.#waiting.splice(0)) receive(signal);
  }

  /** Until the next `deliverTo`. */
  hold(): void {
    this.#receive = undefined;
  }

  /** From then on they do to kz what they do to any program. */
  close(): void {
    for (const signal of FORWARDED) process.off(signal, this.#listener);
  }
}
