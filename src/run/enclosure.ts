// The process that becomes a sandboxed program (Linux). Its outer part, a network with nothing in it, is built while kz still fetches the
// secrets; there it waits until kz gives it the rest, through a pipe. kz gets the sockets that listen in that network, so that it can accept
// from outside of it; nothing of kz stays inside.
import { spawn, type ChildProcess, type StdioOptions } from 'node:child_process';
import type { Socket as Datagrams } from 'node:dgram';
import { once } from 'node:events';
import { Socket, type Server } from 'node:net';
import { constants } from 'node:os';
import { join } from 'node:path';
import { KzError } from '../core/errors.ts';
import { OUTER_ARGUMENTS } from '../sandbox/bubblewrap.ts';
import type { ExpectedMount } from '../sandbox/mount-roots.ts';
import { nodeDoorsCommand } from '../sandbox/node-doors.ts';
import { ChildTree, hasControllingTerminal, isEnding, type ChildEnd, type StartedChild } from './child-tree.ts';
import type { ChildOptions, Command } from './child.ts';
import type { Connection } from './filtered-output.ts';
import { killTree, livingProcesses, send } from './process-tree.ts';

/** `tcp:127.0.0.1:3128`, `udp:127.0.0.1:53` */
export type Door = `${'tcp' | 'udp'}:${string}:${string}`;

export interface EnclosureTools {
  readonly sh: string;
  readonly bwrap: string;
  /** Where there is none, Node does its part: slower, and ^C ends the program at once. */
  readonly perl: string | undefined;
  /** What Node cannot do without perl: make every address lead to the doors. */
  readonly ip: string | undefined;
}

export interface EnclosureOptions {
  /** Absolute paths of the programs that it is made of. */
  readonly tools: EnclosureTools;
  /** The folder with the programs of src/stage/. */
  readonly stage: string;
  readonly command: Command;
  readonly doors: readonly Door[];
  readonly seccomp: Buffer;
  /** What the program's output passes. */
  readonly output: Connection | undefined;
  /**
   * `nested`: two bubblewraps, and every address leads to the doors. `single`: one, in which nobody has capabilities; the doors are opened
   * after `build`, and only ports above 1023 can be one.
   */
  readonly shape: 'nested' | 'single';
  /** From the moment when it has everything to the program's start, in milliseconds. Default: 10 seconds. */
  readonly startMs?: number | undefined;
}

/** The doors, as they were asked for, with what listens there. */
export type OpenDoors = ReadonlyMap<Door, Server | Datagrams>;

/** How far the doors reach: `lo` where nobody can lead every address to them. */
export function reachOf(shape: EnclosureOptions['shape'], { perl, ip }: Pick<EnclosureTools, 'perl' | 'ip'>): 'any' | 'lo' {
  return shape === 'single' || (perl === undefined && ip === undefined) ? 'lo' : 'any';
}

/** Descriptors on the way to the program. 2 is for what goes wrong there, and the program's own standard error waits at 7. */
const FD = { channel: 3, arguments: 4, seccomp: 5, status: 6, stderr: 7, rest: 8 } as const;

const IGNORED = 'HUP INT QUIT USR1 USR2 TERM';

/** What bubblewrap says when it fails is a line; more is not read. */
const LARGEST_COMPLAINT = 4096;

/** For the doors, and again from then to the program's start. */
const SETUP_MS = 10_000;

/** The last word on the way to the program: what comes behind it says nothing of the sandbox. */
const STARTED = /^started$/m;

/** What the program is given, and what has to be mounted where, or it is not started. */
export interface Beginning {
  readonly mounts: readonly ExpectedMount[];
  readonly environment: Readonly<Record<string, string>>;
}

export class Enclosure {
  readonly #child: StartedChild;
  readonly #options: EnclosureOptions;
  readonly #ownGroup: boolean;
  readonly #open = new Map<Door, Server | Datagrams>();
  readonly #doors: Promise<OpenDoors>;
  readonly #started: Promise<void>;
  #hasBegun = false;
  #isClosed = false;
  #complaint = '';
  #status = '';

  /** Throws `start-failed` when not even the shell can be started. */
  static open(options: EnclosureOptions): Enclosure {
    const ownGroup = !hasControllingTerminal();
    const { tools, output, seccomp } = options;
    const words = ['-c', `${tools.perl === undefined ? '' : `trap "" ${IGNORED}; `}exec "$@"`, 'kz', ...commandLine(options)];
    const child = spawn(tools.sh, words, { env: {}, stdio: stdioOf(output), detached: ownGroup });
    if (!isStarted(child)) {
      child.on('error', () => undefined);
      throw new KzError('start-failed', `cannot start ${tools.sh}`);
    }
    for (const stream of child.stdio) stream?.on('error', () => undefined);
    pipeOf(child, FD.seccomp).end(seccomp);
    return new Enclosure(child, options, ownGroup);
  }

  private constructor(child: StartedChild, options: EnclosureOptions, ownGroup: boolean) {
    this.#child = child;
    this.#options = options;
    this.#ownGroup = ownGroup;
    this.#started = new Promise((resolve) => {
      pipeOf(child, 2).on('data', (chunk: Buffer) => {
        // What is said once the program runs is not about the way to it, and may be the program's.
        if (!this.#hasStarted) this.#complaint = (this.#complaint + chunk.toString('latin1')).slice(0, LARGEST_COMPLAINT);
        if (STARTED.test(this.#complaint)) resolve();
      });
    });
    pipeOf(child, FD.status).on('data', (chunk: Buffer) => {
      this.#status = (this.#status + chunk.toString('latin1')).slice(0, LARGEST_COMPLAINT);
    });
    this.#doors = this.#receive();
    // Whoever awaits it hears of it.
    this.#doors.catch(() => undefined);
  }

  /** Rejects with `sandbox-failed` when it ends before they are open. With `single`, they open after `build`. */
  get doors(): Promise<OpenDoors> {
    return this.#doors;
  }

  /**
   * Gives the inner bubblewrap its arguments: it builds the sandbox, and waits in it for `run`. Without perl nobody can wait in there: then the
   * program starts at once, and the arguments have to hold its environment.
   */
  build(words: readonly string[]): void {
    // A last word by which perl knows that it has all of them; without perl, bubblewrap reads them itself.
    pipeOf(this.#child, FD.arguments).end(withNul([...words, ...(this.waits ? ['end'] : [])]));
  }

  /** Does `build` wait for `run`? */
  get waits(): boolean {
    return this.#options.tools.perl !== undefined;
  }

  /**
   * Gives the rest and waits for the end of the program. Throws `sandbox-failed` when the sandbox could not be built: then the program was not
   * started.
   */
  async run(beginning: Beginning, { graceMs, signals }: Pick<ChildOptions, 'graceMs' | 'signals'>): Promise<ChildEnd> {
    const { output } = this.#options;
    const child = this.#child;
    if (!isRunning(child)) await this.#refuseFailure();
    this.#hasBegun = true;
    output?.begin({ stdout: child.stdout, stderr: optionalPipeOf(child, FD.stderr) ?? null });
    const tree = new ChildTree(child, { ownGroup: this.#ownGroup, graceMs, output, program: () => this.#programPid() });
    this.#give(beginning);
    const received = new Set<NodeJS.Signals>();
    // The program may have been started in that moment, unheard: then this is how it ends, and not what it was sent.
    let cutShort: NodeJS.Signals | undefined;
    // Nobody on the way would take a signal, so it waits there; one that ends the program ends the way to it.
    signals.deliverTo((signal) => {
      received.add(signal);
      if (!isEnding(signal) || this.#hasStarted) return;
      cutShort ??= signal;
      this.#kill();
    });
    const late = setTimeout(() => {
      // After a sleep of the machine the time is over before anything is heard that was said meanwhile: that comes first.
      setImmediate(() => {
        if (!this.#hasStarted && isRunning(child)) this.#kill();
      });
    }, this.#options.startMs ?? SETUP_MS);
    void this.#started.then(() => {
      clearTimeout(late);
      for (const signal of received) tree.deliver(signal);
      signals.deliverTo((signal) => {
        received.add(signal);
        tree.deliver(signal);
      });
    });
    const end = await tree.ended();
    clearTimeout(late);
    if (cutShort !== undefined && (!this.#hasStarted || wasKilled(end))) return { signal: cutShort };
    await this.#refuseFailure();
    return asProgramEnded(end, received);
  }

  #give({ mounts, environment }: Beginning): void {
    const rest = [
      ...mounts.flatMap(({ path, root }) => ['mount', path, root]),
      ...Object.entries(environment).flatMap(([name, value]) => ['env', `${name}=${value}`]),
      ...this.#options.command.flatMap((word) => ['arg', word]),
    ];
    pipeOf(this.#child, FD.rest).end(this.waits ? withNul([...rest, 'end']) : '');
  }

  /** Ends what was not begun. */
  close(): void {
    if (this.#hasBegun || this.#isClosed) return;
    this.#isClosed = true;
    const child = this.#child;
    const destroyStreams = (): void => {
      for (const stream of child.stdio) stream?.destroy();
    };
    if (isRunning(child)) {
      this.#kill();
      // Not before: the end of the pipe with the arguments would be the last of them, where nobody waits for the last word.
      child.once('exit', destroyStreams);
    } else {
      destroyStreams();
    }
    if (child.connected) child.disconnect();
    for (const door of this.#open.values()) closeQuietly(door);
    this.#options.output?.close();
  }

  #kill(): void {
    if (this.#ownGroup) send(-this.#child.pid, 'SIGKILL');
    else killTree(this.#child.pid);
  }

  async #receive(): Promise<OpenDoors> {
    const open = this.#open;
    const { doors } = this.#options;
    const child = this.#child;
    const all = new Promise<void>((resolve) => {
      if (doors.length === 0) resolve();
      child.on('message', (message: { readonly door?: Door }, handle: unknown) => {
        // A door that could not be passed comes without a socket.
        if (this.#isClosed && handle !== undefined) closeQuietly(handle as Server | Datagrams);
        else if (message.door !== undefined && handle !== undefined) open.set(message.door, handle as Server | Datagrams);
        if (open.size === doors.length) resolve();
      });
    });
    await Promise.race([all, once(child, 'exit').then(() => this.#refuseFailure()), late()]);
    return open;
  }

  /** Returns only when the program was started. */
  async #refuseFailure(): Promise<void> {
    const complaints = pipeOf(this.#child, 2);
    if (!complaints.destroyed && !complaints.readableEnded) await once(complaints, 'close');
    if (this.#hasStarted) return;
    const [line = ''] = this.#complaint.split('\n');
    const why = line === '' ? 'it ended before the program was started' : printable(line);
    throw new KzError('sandbox-failed', `the sandbox could not be built: ${why}`);
  }

  get #hasStarted(): boolean {
    return STARTED.test(this.#complaint);
  }

  /** On this side of the pid namespace: what bubblewrap's process 1 started first. */
  #programPid(): number | undefined {
    const [, init] = /"child-pid": (\d+)/.exec(this.#status) ?? [];
    if (init === undefined) return undefined;
    const children = livingProcesses().filter(({ parent }) => parent === Number(init));
    return children.sort((a, b) => Number(a.started) - Number(b.started))[0]?.pid;
  }
}

function commandLine({ tools, stage, command, doors, shape }: EnclosureOptions): string[] {
  const { bwrap, perl } = tools;
  const inner = [bwrap, '--args', String(FD.arguments), '--seccomp', String(FD.seccomp), '--json-status-fd', String(FD.status), '--'];
  const start =
    perl === undefined ? [...shellStart(tools), ...command] : [perl, join(stage, 'start.pl'), String(FD.stderr), String(FD.rest)];
  const how = reachOf(shape, tools);
  if (perl === undefined) {
    const opening = nodeDoorsCommand({ ...tools, node: process.execPath, program: join(stage, 'doors.cjs'), channel: FD.channel }, how);
    return around(shape, [...opening, ...doors, '--'], { inner, start });
  }
  const stageDoors = [perl, join(stage, 'doors.pl'), how];
  const complete = `args:${String(FD.arguments)}`;
  if (shape === 'nested') return around(shape, [...stageDoors, complete, ...doors, '--'], { inner, start });
  return [...stageDoors, complete, '--', ...around(shape, [...stageDoors, ...doors, '--'], { inner, start })];
}

function around(
  shape: EnclosureOptions['shape'],
  opening: readonly string[],
  { inner, start }: Record<'inner' | 'start', readonly string[]>,
): string[] {
  return shape === 'nested' ? [inner[0] ?? '', ...OUTER_ARGUMENTS, '--', ...opening, ...inner, ...start] : [...inner, ...opening, ...start];
}

/** A shell cannot take back what is ignored; without perl nothing is. */
function shellStart({ sh }: EnclosureTools): string[] {
  const closed = [FD.stderr, FD.arguments, FD.seccomp, FD.status, FD.rest].map((descriptor) => `${String(descriptor)}>&-`).join(' ');
  return [sh, '-c', `echo started >&2; exec 2>&${String(FD.stderr)} ${closed}; exec "$@"`, 'kz'];
}

function stdioOf(output: Connection | undefined): StdioOptions {
  return [0, output?.stdio(1) ?? 1, 'pipe', 'ipc', 'pipe', 'pipe', 'pipe', output?.stdio(2) ?? 2, 'pipe'];
}

/**
 * Who waits for the program in the sandbox tells of a signal as shells do. When it is the one that kz was sent too, the program most likely died
 * of it, and a shell that waits for kz should hear that: it ends a loop at ^C.
 */
function asProgramEnded(end: ChildEnd, received: ReadonlySet<NodeJS.Signals>): ChildEnd {
  if (!('code' in end)) return end;
  const signal = [...received].find((each) => 128 + constants.signals[each] === end.code);
  return signal === undefined ? end : { signal };
}

function wasKilled(end: ChildEnd): boolean {
  return 'signal' in end && end.signal === 'SIGKILL';
}

function late(): Promise<never> {
  return new Promise((_, reject) => {
    setTimeout(() => {
      reject(new KzError('sandbox-failed', `the doors of the sandbox were not open after ${String(SETUP_MS / 1000)} s`));
    }, SETUP_MS).unref();
  });
}

function pipeOf(child: ChildProcess, descriptor: number): Socket {
  const pipe = optionalPipeOf(child, descriptor);
  if (pipe === undefined) throw new Error('a child without the pipe that it was started with');
  return pipe;
}

function optionalPipeOf(child: ChildProcess, descriptor: number): Socket | undefined {
  const stream: unknown = child.stdio.at(descriptor);
  return stream instanceof Socket ? stream : undefined;
}

function isRunning({ exitCode, signalCode }: ChildProcess): boolean {
  return exitCode === null && signalCode === null;
}

function isStarted(child: ChildProcess): child is StartedChild {
  return child.pid !== undefined;
}

function closeQuietly(door: Server | Datagrams): void {
  try {
    door.close();
  } catch {
    // Whoever took it has closed it.
  }
}

function withNul(words: readonly string[]): string {
  return words.map((word) => `${word}\0`).join('');
}

function printable(text: string): string {
  return text.replace(/[^\x20-\x7e]/g, '?').slice(0, 300);
}
