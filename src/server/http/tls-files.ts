// The certificate that the server shows, also after its files were replaced, and the one that it writes down for the clients of its proxy.
import { readFile, writeFile } from 'node:fs/promises';
import { resolve as absolute } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { KzError, systemCode } from '../../core/errors.ts';
import { watchPaths } from '../../providers/file-watch.ts';
import type { TlsIdentity } from './http.ts';

export interface TlsFiles {
  readonly certFile: string;
  readonly keyFile: string;
}

export interface TlsReloadOptions {
  readonly files: TlsFiles;
  /** What is served now. */
  readonly served: TlsIdentity;
  /** Throws for what cannot be served; the old one goes on. */
  readonly adopt: (identity: TlsIdentity) => void;
  readonly tell: (level: 'notice' | 'warning', text: string) => void;
  readonly signal: AbortSignal;
}

/** For what has no events. */
const POLL_MS = 10_000;

/** Certificate and key are two files: who replaces them one after the other is given the time. */
const PATIENCE_MS = 1000;

export class TlsReloader {
  readonly #options: TlsReloadOptions;
  #served: TlsIdentity;
  /** What was told of files that are wrong, so that it is told once. */
  #told: string | undefined;
  #turn: Promise<void> = Promise.resolve();

  constructor(options: TlsReloadOptions) {
    this.#options = options;
    this.#served = options.served;
    const { certFile, keyFile } = options.files;
    const changed = (): void => {
      this.#next(async () => {
        if (!(await this.#load())) this.#again();
      });
    };
    const watched = [certFile, keyFile].map((file) => ({ path: absolute(file), known: undefined, changed }));
    watchPaths(watched, POLL_MS, options.signal);
    // What they became since they were read.
    changed();
  }

  /** For who asks, and is told in any case. */
  now(): void {
    this.#next(async () => {
      await this.#load(() => true);
    });
  }

  /** Nobody who asks meanwhile waits for it. */
  #again(): void {
    const later = delay(PATIENCE_MS, undefined, { signal: this.#options.signal, ref: false });
    const load = (): void => {
      this.#next(async () => {
        await this.#load((problem) => problem !== this.#told);
      });
    };
    // It ends early when the server does.
    later.then(load).catch(() => undefined);
  }

  #next(work: () => Promise<void>): void {
    this.#turn = this.#turn.then(work);
  }

  /** False: what is in the files cannot be served. `isNews` says whether to tell. */
  async #load(isNews: (problem: string) => boolean = () => false): Promise<boolean> {
    const { files, adopt, tell, signal } = this.#options;
    try {
      const identity = await readTls(files);
      if (signal.aborted) return true;
      const isServed = identity.cert === this.#served.cert && identity.key === this.#served.key;
      if (!isServed) adopt(identity);
      this.#told = undefined;
      if (isServed) return true;
      this.#served = identity;
      tell('notice', `serving with the new certificate in ${files.certFile}`);
      return true;
    } catch (error) {
      if (signal.aborted) return true;
      const problem = error instanceof KzError ? error.message : 'the TLS files cannot be read';
      if (isNews(problem)) {
        this.#told = problem;
        tell('warning', `${problem}; the old certificate goes on`);
      }
      return false;
    }
  }
}

/** Throws `config-unreadable`. Whether they are what they should be is found out by who serves with them. */
export async function readTls({ certFile, keyFile }: TlsFiles): Promise<TlsIdentity> {
  return { cert: await readPem(certFile, '--tls-cert'), key: await readPem(keyFile, '--tls-key') };
}

/** Everybody may read it: it is public. */
export async function writeCertificate(path: string, pem: string): Promise<void> {
  try {
    await writeFile(path, pem, { mode: 0o644 });
  } catch (error) {
    throw new KzError('write-failed', `cannot write ${path}, which --proxy-ca-file names (${systemCode(error) ?? 'unknown error'})`, {
      cause: error,
    });
  }
}

async function readPem(path: string, flag: string): Promise<string> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    throw new KzError('config-unreadable', `cannot read ${path}, which ${flag} names (${systemCode(error) ?? 'unknown error'})`, {
      cause: error,
    });
  }
}
