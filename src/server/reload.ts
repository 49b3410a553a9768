// A bundle that changes while it is served. The new one takes over between two calls; one that is wrong changes nothing, and that is said. What it
// was wrong for may be beside it (the file of a key), or pass (no descriptors left): it is tried again quietly.
import { setTimeout as pause } from 'node:timers/promises';
import { KzError } from '../core/errors.ts';
import { identify, watchPaths } from '../providers/file-watch.ts';
import { compileBundle, type Compiled, type CompileOptions } from './compile.ts';

/** For what has no events: bind mounts of single files, network file systems. */
const POLL_MS = 10_000;

/** A file that is written in place is a part of itself for a moment, and a part of a bundle can be one that allows more: `… && org == 'acme'` cut off. */
const SETTLE_MS = 250;

export interface ReloadOptions extends CompileOptions {
  readonly adopt: (compiled: Compiled) => void;
  /** The old one goes on. */
  readonly refuse: (error: KzError) => void;
  readonly signal: AbortSignal;
  /** What `identify` said of the file before the bundle that serves was read. */
  readonly known: string;
  /** Until one that was refused is tried again, in milliseconds. */
  readonly retryMs?: number;
  /** How long the file must have stayed the same. */
  readonly settleMs?: number;
}

export class Reloader {
  readonly #path: string;
  readonly #options: ReloadOptions;
  #running: Promise<void> | undefined;
  #again = false;
  #retry: NodeJS.Timeout | undefined;

  constructor(path: string, options: ReloadOptions) {
    this.#path = path;
    this.#options = options;
    const changed = (): void => {
      this.now();
    };
    watchPaths([{ path, known: options.known, changed }], POLL_MS, options.signal);
    options.signal.addEventListener('abort', () => {
      clearTimeout(this.#retry);
    });
  }

  /** One at a time; what changes meanwhile is read afterwards. */
  now(): void {
    if (this.#running !== undefined) {
      this.#again = true;
      return;
    }
    this.#begin(this.#options.refuse);
  }

  #begin(refuse: ReloadOptions['refuse']): void {
    this.#running = this.#load(refuse).finally(() => {
      this.#running = undefined;
      if (!this.#again) return;
      this.#again = false;
      this.now();
    });
  }

  async #load(refuse: ReloadOptions['refuse']): Promise<void> {
    const { adopt, signal, retryMs = POLL_MS, settleMs = SETTLE_MS } = this.#options;
    clearTimeout(this.#retry);
    const before = await identify(this.#path);
    const found = await this.#compile();
    await pause(settleMs, undefined, { ref: false });
    const after = await identify(this.#path);
    // After the last wait: who has ended takes nothing over any more, and calls nothing wrong.
    if (signal.aborted) return;
    if (after !== before) {
      this.#again = true;
    } else if (!(found instanceof KzError)) {
      adopt(found);
    } else {
      refuse(found);
      this.#retry = setTimeout(() => {
        if (this.#running === undefined) this.#begin(() => undefined);
      }, retryMs).unref();
    }
  }

  async #compile(): Promise<Compiled | KzError> {
    try {
      return await compileBundle(this.#path, this.#options);
    } catch (error) {
      return error instanceof KzError ? error : new KzError('internal', 'the bundle could not be read', { cause: error });
    }
  }
}
