// Runs one program and keeps what it prints: no shell, nothing on the terminal. What it prints may hold a secret, on standard error as
// well, so none of it is ever part of a message.
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { resolve } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { KzError, systemCode } from '../core/errors.ts';
import type { ProviderContext } from './provider.ts';
import { joinWords } from './words.ts';

export interface Program {
  readonly program: string;
  readonly args: readonly string[];
  readonly directory: string;
  readonly env: ProviderContext['env'];
  /** What it reads from its standard input, and nothing when left out. */
  readonly input?: string;
  /** How much it may print; 1 when left out. */
  readonly maxMebibytes?: number;
  /** Standard error is thrown away, unless somebody wants to judge by it. */
  readonly keepsErrors?: boolean;
  /**
   * It stays in kz's session, and only the program itself can be ended. Otherwise it leads a group of its own, has no terminal, and all that
   * it started is ended with it.
   */
  readonly staysInSession?: boolean;
}

export interface ProgramEnd {
  /** Null when a signal ended it. */
  readonly status: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly output: Uint8Array;
  /** The first 64 KiB of its standard error, to look for known words in and never to be shown. */
  readonly errors: string;
}

/** After SIGTERM a program has this long to put its things away. */
const GRACE_MS = 1000;

const MOST_ERROR_BYTES = 65_536;

/**
 * Any end is an answer. Throws `provider-unavailable` or `provider-failed` when it cannot be started, `secret-invalid` when it prints too
 * much, and what the signal was aborted with, once the program is gone.
 */
export async function runProgram(program: Program, signal: AbortSignal): Promise<ProgramEnd> {
  signal.throwIfAborted();
  const child = start(program);
  const closed = once(child, 'close');
  let ending: Promise<void> | undefined;
  const end = (): void => {
    ending ??= endChild(child, closed, program);
  };
  const mebibytes = program.maxMebibytes ?? 1;
  const output = collect(child.stdout, mebibytes * 1_048_576, end);
  const errors = collect(child.stderr, MOST_ERROR_BYTES, () => undefined);
  feed(child, program.input);
  signal.addEventListener('abort', end, { once: true });
  try {
    await closed;
    await ending;
  } catch (error) {
    throw startError(program, error);
  } finally {
    signal.removeEventListener('abort', end);
  }
  signal.throwIfAborted();
  if (output.isFull) throw new KzError('secret-invalid', `program ${quoted(program)} printed more than ${String(mebibytes)} MiB`);
  const { exitCode: status, signalCode } = child;
  return { status, signal: signalCode, output: Buffer.concat(output.chunks), errors: Buffer.concat(errors.chunks).toString() };
}

/** The program's name as messages show it. */
export function quoted({ program }: Pick<Program, 'program'>): string {
  return JSON.stringify(program);
}

/** Some errors are thrown here, the others (ENOENT among them) are events of the child. */
function start(invocation: Program): ChildProcess {
  const { program, args, directory, env, input, keepsErrors = false, staysInSession = false } = invocation;
  // Only a name without a slash is looked up in PATH, as everywhere.
  const path = program.includes('/') ? resolve(directory, program) : program;
  try {
    return spawn(path, args, {
      cwd: directory,
      env,
      stdio: [input === undefined ? 'ignore' : 'pipe', 'pipe', keepsErrors ? 'pipe' : 'ignore'],
      detached: !staysInSession,
    });
  } catch (error) {
    throw startError(invocation, error);
  }
}

interface Collected {
  readonly chunks: Buffer[];
  isFull: boolean;
}

/** There is no stream when it is not wanted, or when no file descriptor was left to start with; the error event follows. */
function collect(stream: ChildProcess['stdout'], mostBytes: number, onFull: () => void): Collected {
  const collected: Collected = { chunks: [], isFull: false };
  let size = 0;
  stream?.on('data', (chunk: Buffer) => {
    size += chunk.length;
    if (size <= mostBytes) {
      collected.chunks.push(chunk);
    } else {
      collected.isFull = true;
      onFull();
    }
  });
  return collected;
}

/** A program that ends before it has read everything says with its status what it thinks of it; the broken pipe says nothing more. */
function feed({ stdin }: ChildProcess, input: string | undefined): void {
  stdin?.on('error', () => undefined);
  stdin?.end(input);
}

/** What left the group can still hold the pipes open; nobody waits for that. */
async function endChild(child: ChildProcess, closed: Promise<unknown>, { staysInSession = false }: Program): Promise<void> {
  if (child.pid === undefined) return;
  const target = staysInSession ? child.pid : -child.pid;
  sendSignal(target, 'SIGTERM');
  await Promise.race([closed, wait(GRACE_MS, undefined, { ref: false })]);
  // The number of a single process may belong to another one as soon as it was collected.
  if (!staysInSession || (child.exitCode === null && child.signalCode === null)) sendSignal(target, 'SIGKILL');
  child.stdin?.destroy();
  child.stdout?.destroy();
  child.stderr?.destroy();
}

function sendSignal(target: number, signal: NodeJS.Signals): void {
  try {
    process.kill(target, signal);
  } catch {
    // All of it is gone already.
  }
}

function startError(invocation: Program, cause: unknown): KzError {
  const { program, env } = invocation;
  const code = systemCode(cause);
  if ((code === 'ENOENT' || code === 'ENOTDIR') && program.includes('/')) {
    const hint = `relative paths start at ${invocation.directory}; a script also needs the interpreter in its first line`;
    return new KzError('provider-unavailable', `program ${quoted(invocation)} was not found`, { hint, cause });
  }
  if (code === 'ENOENT') {
    const hint = `write its full path, or start kz with a PATH that has it (PATH is ${env.PATH ?? 'not set'})`;
    return new KzError('provider-unavailable', `program ${quoted(invocation)} was not found in PATH`, { hint, cause });
  }
  if (code === 'EACCES') {
    const hint = `run \`chmod +x ${joinWords([program])}\``;
    return new KzError('provider-unavailable', `program ${quoted(invocation)} is not executable`, { hint, cause });
  }
  return new KzError('provider-failed', `cannot start program ${quoted(invocation)}: ${code ?? 'unknown error'}`, { cause });
}
