// One descriptor of kz, and the filter before it.
import { write } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { promisify } from 'node:util';
import { systemCode } from '../core/errors.ts';
import type { Flow } from './flow.ts';

export interface Filter {
  /** What may leave by now. It is written before the next chunk is pushed. */
  push(chunk: Buffer): Buffer;
  /** What was held back. What is pushed afterwards begins anew. */
  end(): Buffer;
}

/** Somebody who shares the descriptor made it non-blocking, and it is full. */
const RETRY_MS = 5;

/** The second one where the reader of a pair of sockets left something unread. */
const NOBODY_READS: ReadonlySet<string> = new Set(['EPIPE', 'ECONNRESET']);

const writeSome = promisify(write);

export class Outlet {
  readonly #descriptor: number;
  readonly #filter: Filter;
  readonly #onLost: ((code: string) => void) | undefined;
  /** Of the last flow that was given to `carry`. */
  #turn: Promise<void> = Promise.resolve();
  #isBroken = false;
  #isWriting = false;

  constructor(descriptor: number, filter: Filter, onLost?: (code: string) => void) {
    this.#descriptor = descriptor;
    this.#filter = filter;
    this.#onLost = onLost;
  }

  get isWriting(): boolean {
    return this.#isWriting;
  }

  /**
   * Until the end of the flow, after the ones before it. When the descriptor cannot be written any more the flow is stopped, and its child gets
   * at its next write what it would have got without kz: PIPE, or EPIPE.
   */
  carry(flow: Flow): Promise<void> {
    const carried = this.#turn.then(() => this.#carry(flow));
    this.#turn = carried.catch(() => undefined);
    return carried;
  }

  /** After the last flow. */
  async end(): Promise<void> {
    if (!this.#isBroken) await this.#write(this.#filter.end());
  }

  async #carry(flow: Flow): Promise<void> {
    if (this.#isBroken) {
      flow.stop();
      return;
    }
    for await (const chunk of flow.chunks()) {
      const isWritten = await this.#write(this.#filtered(chunk));
      if (!isWritten) return;
    }
    // What one child did not finish the next one does not continue: half a line of JSON would make text of the line behind it.
    await this.end();
  }

  /** What a filter that has failed let through cannot be trusted. */
  #filtered(chunk: Buffer): Buffer {
    try {
      return this.#filter.push(chunk);
    } catch (error) {
      this.#isBroken = true;
      throw error;
    }
  }

  async #write(bytes: Buffer): Promise<boolean> {
    this.#isWriting = true;
    try {
      for (let written = 0; written < bytes.length;) written += await this.#writeFrom(bytes, written);
      return true;
    } catch (error) {
      this.#isBroken = true;
      const code = systemCode(error) ?? 'unknown error';
      if (!NOBODY_READS.has(code)) this.#onLost?.(code);
      return false;
    } finally {
      this.#isWriting = false;
    }
  }

  async #writeFrom(bytes: Buffer, start: number): Promise<number> {
    try {
      const { bytesWritten } = await writeSome(this.#descriptor, bytes, start, bytes.length - start, null);
      return bytesWritten;
    } catch (error) {
      if (systemCode(error) !== 'EAGAIN') throw error;
      await delay(RETRY_MS);
      return 0;
    }
  }
}
