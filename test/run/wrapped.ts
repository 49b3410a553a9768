// The wrapper of test/fixtures/wrapper.ts as a running program whose output goes into a pair of sockets, as a Node client gives it, or into
// a pipe of the kernel, as a shell does.
import { spawn, type ChildProcess } from 'node:child_process';
import { closeSync } from 'node:fs';
import { Socket } from 'node:net';
import type { Readable } from 'node:stream';
import { openPipes, type RealPipe } from '../../src/run/real-pipe.ts';
import { waitFor } from '../stories/processes.ts';

export type Kind = 'socket' | 'pipe';

export interface WrappedOptions {
  readonly kind?: Kind;
  /** Standard output and standard error lead to the same place (`2>&1`). */
  readonly joined?: boolean;
  /** Nothing is read before `read()`. */
  readonly unread?: boolean;
  readonly env?: Readonly<Record<string, string>>;
  readonly supervised?: boolean;
  readonly graceMs?: number;
  readonly failsAt?: string;
}

export interface WrappedEnd {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

export class Wrapped {
  readonly process: ChildProcess;
  /** The wrapper's own end; what it wrote may not all be read yet. */
  readonly exited: Promise<WrappedEnd>;
  readonly #sources: readonly Readable[];
  readonly #chunks: [Buffer[], Buffer[]] = [[], []];
  readonly #closed: Promise<unknown>;
  #obeyed = '';

  constructor(wrapper: string, command: readonly string[], options: WrappedOptions = {}) {
    const pipes = options.kind === 'socket' ? [] : pipesOrFail(options.joined === true ? 1 : 2);
    this.process = startWrapper(wrapper, command, options, pipes);
    this.#sources = pipes.length > 0 ? pipes.map(readable) : socketsOf(this.process);
    for (const { writer } of pipes) closeSync(writer);
    this.exited = new Promise((resolve) => {
      this.process.once('exit', (code, signal) => {
        resolve({ code, signal });
      });
    });
    this.#closed = Promise.all(this.#sources.map((source) => new Promise((resolve) => source.once('close', resolve))));
    // At the exit of a child Node lets go of what nobody reads; not with such a listener.
    for (const source of this.#sources) source.on('readable', nothing);
    this.process.stdin?.on('error', nothing);
    this.#orders.on('data', (chunk: Buffer) => (this.#obeyed += chunk.toString())).on('error', nothing);
    if (options.unread !== true) this.read();
  }

  get pid(): number {
    return this.process.pid ?? 0;
  }

  get stdout(): Buffer {
    return Buffer.concat(this.#chunks[0]);
  }

  get stderr(): string {
    return Buffer.concat(this.#chunks[1]).toString();
  }

  read(): void {
    for (const [index, source] of this.#sources.entries()) take(source, (chunk) => this.#chunks[index === 0 ? 0 : 1].push(chunk));
  }

  /** In the place of `read()`. */
  onOutput(each: (chunk: Buffer) => void): void {
    for (const [index, source] of this.#sources.entries()) take(source, index === 0 ? each : nothing);
  }

  /** Only standard error is read. */
  onErrors(each: (chunk: Buffer) => void): void {
    const [, errors] = this.#sources;
    if (errors !== undefined) take(errors, each);
  }

  /** Leaves, as a reader that has enough. */
  stopReading(): void {
    for (const source of this.#sources) source.destroy();
  }

  /** Waits for the end of the wrapper and of its output. */
  async ended(): Promise<WrappedEnd & { readonly stdout: string; readonly stderr: string }> {
    const end = await this.exited;
    await this.#closed;
    return { ...end, stdout: this.stdout.toString(), stderr: this.stderr };
  }

  type(text: string): void {
    this.process.stdin?.write(text);
  }

  send(signal: NodeJS.Signals): void {
    process.kill(this.pid, signal);
  }

  /** Without waiting for it. */
  tell(...orders: readonly unknown[]): void {
    this.#orders.write(orders.map((order) => `${JSON.stringify(order)}\n`).join(''));
  }

  /** Resolves when the wrapper has taken notice. */
  async order(...orders: readonly unknown[]): Promise<void> {
    const before = this.#answers();
    this.tell(...orders);
    await waitFor('the wrapper to obey', () => this.#answers() >= before + orders.length);
  }

  async said(text: string): Promise<void> {
    await waitFor(text, () => this.stdout.includes(text)).catch((error: unknown) => {
      throw new Error(`it said ${JSON.stringify(this.stdout.toString())} and ${JSON.stringify(this.stderr)}`, { cause: error });
    });
  }

  /** The numbers that were printed after `word`, such as the pids in `ready 4711`. */
  async numbers(word: string, count = 1): Promise<number[]> {
    const find = (): number[] =>
      [...this.stdout.toString().matchAll(new RegExp(`${word} (\\d+)\n`, 'g'))].map(([, number]) => Number(number));
    await waitFor(`${String(count)} × ${word}`, () => find().length >= count).catch((error: unknown) => {
      throw new Error(`it said ${JSON.stringify(this.stdout.toString())} and ${JSON.stringify(this.stderr)}`, { cause: error });
    });
    return find();
  }

  #answers(): number {
    return this.#obeyed.split('\n').length - 1;
  }

  get #orders(): Socket {
    const [, , , channel] = this.process.stdio;
    if (!(channel instanceof Socket)) throw new Error('no channel for orders');
    return channel;
  }
}

function startWrapper(wrapper: string, command: readonly string[], options: WrappedOptions, [out, err]: readonly RealPipe[]): ChildProcess {
  const { joined = false, env, supervised, graceMs, failsAt } = options;
  const node = [process.execPath, wrapper, JSON.stringify({ supervised, graceMs, failsAt }), ...command];
  return spawn('sh', ['-c', joined ? 'exec "$@" 2>&1' : 'exec "$@"', 'sh', ...node], {
    env: { PATH: process.env.PATH, ...env },
    stdio: ['pipe', out?.writer ?? 'pipe', err?.writer ?? 'pipe', 'pipe'],
    detached: true,
  });
}

function pipesOrFail(count: number): RealPipe[] {
  const pipes = openPipes(count);
  if (pipes === undefined) throw new Error('no mkfifo(1)');
  return pipes;
}

function readable({ reader }: RealPipe): Readable {
  return new Socket({ fd: reader, readable: true, writable: false });
}

function socketsOf({ stdout, stderr }: ChildProcess): Readable[] {
  return [stdout, stderr].flatMap((stream) => stream ?? []);
}

function take(source: Readable, each: (chunk: Buffer) => void): void {
  source.off('readable', nothing);
  source.on('data', each);
}

function nothing(): void {
  // It only has to be there.
}
