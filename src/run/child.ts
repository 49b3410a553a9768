// One child process: spawn, forward signals, report how it ended. kz reads nothing from the child's stdin and writes nothing of its own to
// the child's stdout: the child inherits the descriptors themselves, or pipes whose output passes filters.
import { spawn, type ChildProcess, type StdioOptions } from 'node:child_process';
import { accessSync, closeSync, constants, openSync, readSync, statSync, type Stats } from 'node:fs';
import { join } from 'node:path';
import { KzError, systemCode } from '../core/errors.ts';
import { ChildTree, hasControllingTerminal, type ChildEnd, type StartedChild } from './child-tree.ts';
import type { Connection, FilteredOutput, Output } from './filtered-output.ts';
import type { Signals } from './signals.ts';

export type Command = readonly [string, ...string[]];
export type ChildVariables = Readonly<Record<string, string>>;

export interface ChildOptions {
  readonly env: ChildVariables;
  /** Descriptors that the child inherits beside 0-2, under the same numbers. */
  readonly descriptors: readonly number[];
  /** Milliseconds between the first TERM and KILL. MCP clients give two seconds before they KILL kz itself. */
  readonly graceMs: number;
  /** Held, or not delivered to anybody yet. */
  readonly signals: Signals;
  /** What the child's output passes before it leaves kz. See `needsFilter`. */
  readonly output?: Output | undefined;
}

/** What all children of one run have in common. */
export interface Launch {
  readonly command: Command;
  readonly descriptors: readonly number[];
  readonly graceMs: number;
  readonly ownGroup: boolean;
  readonly output: FilteredOutput | undefined;
}

/**
 * Resolves when the child has ended and its filtered output has arrived. Throws `command-not-found`, `command-not-executable`, `start-failed`,
 * and what a filter throws.
 */
export async function runChild(command: Command, options: ChildOptions): Promise<ChildEnd> {
  return runLaunch(await prepareLaunch(command, options), options);
}

/** As `runChild`. */
export async function runLaunch(launch: Launch, { env, signals }: Pick<ChildOptions, 'env' | 'signals'>): Promise<ChildEnd> {
  const tree = await startChild(launch, env);
  signals.deliverTo((signal) => {
    tree.deliver(signal);
  });
  return tree.ended();
}

export async function prepareLaunch(
  command: Command,
  { descriptors, graceMs, output }: Omit<ChildOptions, 'env' | 'signals'>,
): Promise<Launch> {
  return { command, descriptors, graceMs, ownGroup: !hasControllingTerminal(), output: await openOutput(output) };
}

/** Throws what `runChild` throws before the start. */
export async function startChild(launch: Launch, env: ChildVariables): Promise<ChildTree> {
  const { graceMs, ownGroup } = launch;
  const output = launch.output?.connect();
  try {
    const child = await start(launch, env, output);
    output?.begin(child);
    return new ChildTree(child, { ownGroup, graceMs, output });
  } catch (error) {
    output?.close();
    throw error;
  }
}

/** Most runs have none, and do without the code. */
async function openOutput(output: Output | undefined): Promise<FilteredOutput | undefined> {
  if (output?.stdout === undefined && output?.stderr === undefined) return undefined;
  const { FilteredOutput } = await import('./filtered-output.ts');
  return new FilteredOutput(output);
}

function start({ command, descriptors, ownGroup }: Launch, env: ChildVariables, output: Connection | undefined): Promise<StartedChild> {
  const [program, ...args] = command;
  return new Promise((resolve, reject) => {
    const fail = (error: unknown): void => {
      reject(startError(program, error, env.PATH));
    };
    try {
      const child = spawn(program, args, { env, stdio: stdioOf(descriptors, output), detached: ownGroup });
      child.once('error', fail);
      if (isStarted(child)) resolve(child);
    } catch (error) {
      fail(error);
    }
  });
}

/** `ignore` leaves what is above 2 closed. */
function stdioOf(descriptors: readonly number[], output: Connection | undefined): StdioOptions {
  const count = Math.max(2, ...descriptors) + 1;
  return Array.from({ length: count }, (_, descriptor) => {
    if (descriptor < 3) return output?.stdio(descriptor) ?? descriptor;
    return descriptors.includes(descriptor) ? descriptor : 'ignore';
  });
}

function isStarted(child: ChildProcess): child is StartedChild {
  return child.pid !== undefined;
}

/** What starting it would throw, where that can be told from the file: for a program that something else starts. */
export function refuseMissing(program: string, path: string | undefined): void {
  const found = placesOf(program, path).filter((place) => look(place)?.isFile());
  const isFolder = program.includes('/') && look(program)?.isDirectory() === true;
  if (found.length === 0 && !isFolder) throw notFound(program, path, undefined);
  const script = found.find(isExecutable);
  if (script === undefined) throw notExecutable(program, undefined);
  const interpreter = interpreterOf(script);
  if (interpreter !== undefined && look(interpreter) === undefined) throw withoutInterpreter(script, undefined);
}

/** What its first line names. */
function interpreterOf(path: string): string | undefined {
  try {
    const file = openSync(path, 'r');
    try {
      const start = Buffer.alloc(256);
      const text = start.toString('latin1', 0, readSync(file, start));
      return /^#![ \t]*(\/[^\s]+)/.exec(text)?.[1];
    } finally {
      closeSync(file);
    }
  } catch {
    return undefined;
  }
}

function placesOf(program: string, path: string | undefined): string[] {
  return program.includes('/') ? [program] : (path ?? '').split(':').map((folder) => join(folder, program));
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

function startError(program: string, error: unknown, path: string | undefined): KzError {
  switch (systemCode(error)) {
    case 'ENOENT':
    case 'ENOTDIR':
      return notFound(program, path, error);
    case 'EACCES':
    case 'EPERM':
    case 'ENOEXEC':
      return notExecutable(program, error);
    default:
      return new KzError('start-failed', `cannot start ${program} (${systemCode(error) ?? 'unknown error'})`, { cause: error });
  }
}

function notExecutable(program: string, cause: unknown): KzError {
  if (program.includes('/') && look(program)?.isDirectory() === true) {
    return new KzError('command-not-executable', `${program} is a folder, not a program`, { cause });
  }
  return new KzError('command-not-executable', `${program} was found but cannot be executed`, {
    hint: `make it executable (chmod +x), or name its interpreter: kz run -- node ${program}`,
    cause,
  });
}

/** A script whose interpreter is missing gives the same error as a program that is missing. */
function notFound(program: string, path: string | undefined, cause: unknown): KzError {
  const script = placesOf(program, path).find((place) => look(place)?.isFile());
  if (script !== undefined) return withoutInterpreter(script, cause);
  if (program.includes('/')) return new KzError('command-not-found', `${program} is not there`, { cause });
  return new KzError('command-not-found', `${program} is not on PATH (${path ?? 'PATH is not set'})`, {
    hint: 'write the full path of the program; programs started from a desktop have a short PATH',
    cause,
  });
}

function withoutInterpreter(script: string, cause: unknown): KzError {
  return new KzError('command-not-executable', `${script} names an interpreter that is not there`, {
    hint: 'look at its first line (#!)',
    cause,
  });
}

function look(path: string): Stats | undefined {
  try {
    return statSync(path);
  } catch {
    return undefined;
  }
}
