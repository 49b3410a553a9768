// The backends of bundles that serve no more. Calls that had begun may still ask them, and use what they lent; then they take it back.
import type { Backends } from './backends.ts';

/** How long backends have to take back what they lent, in milliseconds. */
const GIVE_BACK_MS = 1500;

/** Node has no longer timers. */
const LONGEST_MS = 2 ** 31 - 1;

export class Retired {
  readonly #waiting = new Set<Backends>();
  /** Those whose time was up and that are not done. */
  readonly #closing = new Set<Promise<void>>();

  /** Closes them after `ms`. Keeps no process alive. */
  add(backends: Backends, ms: number): void {
    this.#waiting.add(backends);
    const close = (): void => {
      if (!this.#waiting.delete(backends)) return;
      const closing = giveBack(backends).finally(() => this.#closing.delete(closing));
      this.#closing.add(closing);
    };
    setTimeout(close, Math.min(ms, LONGEST_MS)).unref();
  }

  /** Closes them, and all that wait, at once. Never rejects. */
  async close(backends: Backends): Promise<void> {
    const all = [backends, ...this.#waiting];
    this.#waiting.clear();
    await Promise.all([...all.map(giveBack), ...this.#closing]);
  }
}

/** What cannot be given back ends by itself: a lease has a life. */
async function giveBack(backends: Backends): Promise<void> {
  await backends.close(AbortSignal.timeout(GIVE_BACK_MS)).catch(() => undefined);
}
