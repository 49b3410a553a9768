// The reading end of one pipe from one child.
import type { Readable } from 'node:stream';

/** More than any pipe holds: what comes after that was written by somebody who outlived the child. */
const MOST_LEFT_BEHIND = 2 * 1024 * 1024;

export class Flow {
  readonly #source: Readable;
  /** Between two chunks, with nothing to do. */
  #isWaiting = false;
  #chunks = 0;
  #mayStillCome = Infinity;

  constructor(source: Readable) {
    this.#source = source;
    source.on('error', () => undefined);
    // At the child's exit Node sets its pipes flowing, and what nobody takes then is lost; not with such a listener.
    source.on('readable', () => undefined);
  }

  /** One at a time: nothing more is read than what fits into a buffer while the one before is on its way. Ends also when `stop` is called. */
  async *chunks(): AsyncGenerator<Buffer, void> {
    const source: AsyncIterable<Buffer> = this.#source;
    this.#isWaiting = true;
    try {
      for await (const chunk of source) {
        this.#chunks += 1;
        this.#mayStillCome -= chunk.length;
        if (this.#mayStillCome < 0) return;
        this.#isWaiting = false;
        yield chunk;
        this.#isWaiting = true;
      }
    } catch {
      // Stopped, or broken: in any case the end.
    } finally {
      this.stop();
    }
  }

  /** Its writers have ended: stops when nothing has come for so long, and however much may come from others. */
  expectEnd(quietMs: number): void {
    this.#mayStillCome = MOST_LEFT_BEHIND;
    const look = (seen: number): void => {
      setTimeout(() => {
        if (this.#source.destroyed) return;
        if (this.#isWaiting && this.#chunks === seen) this.stop();
        else look(this.#chunks);
      }, quietMs).unref();
    };
    look(this.#chunks);
  }

  /** Whoever writes from now on gets EPIPE. */
  stop(): void {
    this.#isWaiting = false;
    this.#source.destroy();
  }
}
