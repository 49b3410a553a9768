// What children write to standard output and standard error, on its way through filters to kz's own descriptors 1 and 2. Byte by byte what
// the filter makes of it: nothing is added, and nothing leaves by a clock. It never makes a descriptor of kz non-blocking, since others may
// write to the same pipe.
import type { ChildProcess } from 'node:child_process';
import { closeSync } from 'node:fs';
import { Socket } from 'node:net';
import type { Readable } from 'node:stream';
import { Flow } from './flow.ts';
import { Outlet, type Filter } from './outlet.ts';
import { isSocket, leadToTheSame } from './output-kind.ts';
import { close, openPipes, type RealPipe } from './real-pipe.ts';

export interface Output {
  /** A stream without a filter is inherited. Where both lead to the same place, this one filters both. */
  readonly stdout?: Filter | undefined;
  readonly stderr?: Filter | undefined;
  /** Told once a stream when it cannot be written any more for another reason than that nobody reads it: ENOSPC, EIO. */
  readonly onLost?: ((code: string) => void) | undefined;
}

type Descriptor = 1 | 2;

/** After the whole tree has ended, the wait for the end of a pipe that somebody else may hold, and then for a reader that does not read. */
const END_MS = 250;
const STUCK_MS = 100;

/** The two streams for all children of one run. */
export class FilteredOutput {
  readonly #separate: readonly Route[];
  readonly #common: readonly Route[] | undefined;

  constructor({ stdout, stderr, onLost }: Output) {
    const routes: Route[] = [];
    if (stdout !== undefined) routes.push({ descriptors: [1], outlet: new Outlet(1, stdout, onLost) });
    if (stderr !== undefined) routes.push({ descriptors: [2], outlet: new Outlet(2, stderr, onLost) });
    this.#separate = routes;
    const [first] = routes;
    // One pipe for both keeps the order in which the child wrote.
    if (first !== undefined && routes.length === 2 && leadToTheSame(1, 2)) this.#common = [{ ...first, descriptors: [1, 2] }];
  }

  /** The pipes for one child. */
  connect(): Connection {
    if (this.#common !== undefined) {
      const pipes = openPipes(1);
      if (pipes !== undefined) return new Connection(this.#common, pipes);
    }
    // Where kz has a socket, its child could not have opened it either.
    const real = this.#separate.filter(({ descriptors }) => !descriptors.some(isSocket));
    const pipes = real.length === 0 ? undefined : openPipes(real.length);
    if (pipes === undefined) return new Connection(this.#separate, []);
    return new Connection([...real, ...this.#separate.filter((route) => !real.includes(route))], pipes);
  }
}

interface Route {
  readonly descriptors: readonly Descriptor[];
  readonly outlet: Outlet;
}

/** Between one child and kz's descriptors. */
export class Connection {
  readonly #routes: readonly Route[];
  /** Of the first routes; the others have pairs of sockets. */
  readonly #pipes: readonly RealPipe[];
  readonly #flows: Flow[] = [];
  #carried: Promise<unknown> = Promise.resolve();
  #timer: NodeJS.Timeout | undefined;
  #isStuck = false;
  readonly #givenUp: Promise<void>;
  #resolveGivenUp: () => void = () => undefined;

  constructor(routes: readonly Route[], pipes: readonly RealPipe[]) {
    this.#routes = routes;
    this.#pipes = pipes;
    this.#givenUp = new Promise((resolve) => {
      this.#resolveGivenUp = resolve;
    });
  }

  /** What the child gets on `descriptor`, for `spawn`. */
  stdio(descriptor: number): number | 'pipe' {
    const index = this.#routes.findIndex(({ descriptors }) => descriptors.some((each) => each === descriptor));
    return index < 0 ? descriptor : (this.#pipes[index]?.writer ?? 'pipe');
  }

  /** The child has its ends of the pipes. */
  begin(child: Pick<ChildProcess, 'stdout' | 'stderr'>): void {
    const carried = this.#routes.map(({ descriptors, outlet }, index) => {
      const flow = new Flow(this.#source(child, descriptors, index));
      this.#flows.push(flow);
      return outlet.carry(flow);
    });
    this.#carried = Promise.all(carried);
    // Whoever awaits `finish` hears of it.
    this.#carried.catch(() => undefined);
  }

  /** There is no child. */
  close(): void {
    for (const pipe of this.#pipes) close(pipe);
  }

  /**
   * Everything that was written has arrived, what the filters held back too, and nothing can come any more: as for any program in a pipeline, a
   * job that the child left behind with the pipe open keeps it waiting. Or `giveUpSoon` was called.
   */
  async finish(): Promise<void> {
    await Promise.race([this.#end(), this.#givenUp]);
    clearTimeout(this.#timer);
  }

  /** Another child follows: whoever still holds this pipe is not of this run any more, once it is read to where it was left. */
  expectEnd(): void {
    for (const flow of this.#flows) flow.expectEnd(END_MS);
  }

  /** Nobody is left who should write. */
  giveUpSoon(): void {
    this.#timer ??= setTimeout(() => {
      for (const flow of this.#flows) flow.stop();
      this.#timer = setTimeout(() => {
        this.#isStuck = this.#routes.some(({ outlet }) => outlet.isWriting);
        this.#resolveGivenUp();
      }, STUCK_MS);
    }, END_MS);
  }

  /** A write waits for a reader, in a thread that Node waits for when it exits. Only a signal ends kz now. */
  get isStuck(): boolean {
    return this.#isStuck;
  }

  async #end(): Promise<void> {
    await this.#carried;
    await Promise.all(this.#routes.map(({ outlet }) => outlet.end()));
  }

  #source(child: Pick<ChildProcess, 'stdout' | 'stderr'>, [descriptor]: readonly Descriptor[], index: number): Readable {
    const pipe = this.#pipes[index];
    if (pipe !== undefined) {
      closeSync(pipe.writer);
      return new Socket({ fd: pipe.reader, readable: true, writable: false });
    }
    const stream = descriptor === 1 ? child.stdout : child.stderr;
    if (stream === null) throw new Error('a child without the pipe that it was started with');
    return stream;
  }
}
