// Lines for a descriptor that somebody else opened, which is nearly always a pipe: standard output of a container. Its reader may be slow for a
// moment, and is waited for, up to a bound; the server is not held up by it. Never closes the descriptor.
import { writeSync } from 'node:fs';
import { stderr, stdout } from 'node:process';
import { systemCode } from '../core/errors.ts';

/** In characters. */
const MOST_WAITING = 16_777_216;

/** Until a full pipe is tried again. */
const RETRY_MS = 10;

/** How long `close` waits for the reader. */
const PATIENCE_MS = 2000;

export class DescriptorAppender {
  readonly #descriptor: number;
  readonly #onLost: (code: string) => void;
  #lines: string[] = [];
  #waiting = 0;
  /** What a full pipe did not take. */
  #rest: Buffer = Buffer.alloc(0);
  #turn: NodeJS.Immediate | undefined;
  #retry: NodeJS.Timeout | undefined;
  #lost = 0;

  constructor(descriptor: number, onLost: (code: string) => void) {
    this.#descriptor = descriptor;
    this.#onLost = onLost;
    makeNonBlocking(descriptor);
  }

  get lost(): number {
    return this.#lost;
  }

  push(line: string): void {
    if (this.#waiting + line.length > MOST_WAITING) {
      this.#lose(1, 'EAGAIN');
      return;
    }
    this.#lines.push(line);
    this.#waiting += line.length;
    if (this.#retry === undefined)
      this.#turn ??= setImmediate(() => {
        this.flush();
      });
  }

  /** True when nothing waits any more. */
  flush(): boolean {
    clearImmediate(this.#turn);
    clearTimeout(this.#retry);
    this.#turn = undefined;
    this.#retry = undefined;
    if (this.#rest.length > 0) this.#rest = this.#write(this.#rest);
    if (this.#rest.length === 0) {
      const bytes = Buffer.from(this.#lines.join(''));
      this.#lines = [];
      this.#rest = this.#write(bytes);
      this.#waiting = this.#rest.length;
    }
    if (this.#rest.length === 0) return true;
    this.#retry = setTimeout(() => {
      this.flush();
    }, RETRY_MS);
    this.#retry.unref();
    return false;
  }

  /** Waits for the reader a little; what it has not taken then is lost. */
  async close(): Promise<void> {
    for (let waited = 0; !this.flush() && waited < PATIENCE_MS; waited += RETRY_MS) {
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    }
    clearTimeout(this.#retry);
    const unread = linesIn(this.#rest) + this.#lines.length;
    if (unread > 0) this.#lose(unread, 'EAGAIN');
    this.#rest = Buffer.alloc(0);
    this.#lines = [];
    this.#waiting = 0;
  }

  /** Gives back what a full pipe did not take. What fails otherwise is lost for good. */
  #write(bytes: Buffer): Buffer {
    let written = 0;
    try {
      while (written < bytes.length) written += writeSync(this.#descriptor, bytes, written);
    } catch (error) {
      const code = systemCode(error) ?? 'unknown error';
      if (code === 'EAGAIN') return bytes.subarray(written);
      this.#lose(linesIn(bytes.subarray(written)), code);
    }
    return Buffer.alloc(0);
  }

  #lose(count: number, code: string): void {
    const isFirst = this.#lost === 0;
    this.#lost += count;
    if (isFirst) this.#onLost(code);
  }
}

/** Node does that to a pipe when its stream is first looked at, and has no other way. A write to a full one would stop the whole process. */
function makeNonBlocking(descriptor: number): void {
  if (descriptor === 1) stdout.on('error', ignore);
  if (descriptor === 2) stderr.on('error', ignore);
}

/** Whoever writes to the descriptor finds out for itself. */
function ignore(): void {
  return;
}

function linesIn(bytes: Buffer): number {
  return bytes.toString('latin1').split('\n').length - 1;
}
