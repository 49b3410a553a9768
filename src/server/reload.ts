// A bundle that changes while it is served. The new one takes over between two calls; one that is wrong changes nothing, and that is said.
import { KzError } from '../core/errors.ts';
import { watchPaths } from '../providers/file-watch.ts';
import { compileBundle, type Compiled, type CompileOptions } from './compile.ts';

/** For what has no events: bind mounts of single files, network file systems. */
const POLL_MS = 10_000;

export interface ReloadOptions extends CompileOptions {
  readonly adopt: (compiled: Compiled) => void;
  /** The old one goes on. */
  readonly refuse: (error: KzError) => void;
  readonly signal: AbortSignal;
  /** What `identify` said of the file before the bundle that serves was read. */
  readonly known: string;
}

export class Reloader {
  readonly #path: string;
  readonly #options: ReloadOptions;
  #running: Promise<void> | undefined;
  #again = false;

  constructor(path: string, options: ReloadOptions) {
    this.#path = path;
    this.#options = options;
    const changed = (): void => {
      this.now();
    };
    watchPaths([{ path, known: options.known, changed }], POLL_MS, options.signal);
  }

  /** One at a time; what changes meanwhile is read afterwards. */
  now(): void {
    if (this.#running !== undefined) {
      this.#again = true;
      return;
    }
    this.#running = this.#load().finally(() => {
      this.#running = undefined;
      if (!this.#again) return;
      this.#again = false;
      this.now();
    });
  }

  async #load(): Promise<void> {
    const { adopt, refuse, signal } = this.#options;
    try {
      const compiled = await compileBundle(this.#path, this.#options);
      if (!signal.aborted) adopt(compiled);
    } catch (error) {
      refuse(error instanceof KzError ? error : new KzError('internal', 'the bundle could not be read', { cause: error }));
    }
  }
}
