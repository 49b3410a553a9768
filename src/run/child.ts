// One child process: spawn, forward signals, report how it ended. kz reads nothing from the child's stdin and writes nothing to its
// stdout: the child inherits the descriptors themselves.
import { spawn, type ChildProcess, type StdioOptions } from 'node:child_process';
import { statSync, type Stats } from 'node:fs';
import { join } from 'node:path';
import { KzError, systemCode } from '../core/errors.ts';
import { ChildTree, hasControllingTerminal, type ChildEnd, type StartedChild } from './child-tree.ts';
import type { Signals } from './signals.ts';

export interface ChildOptions {
  readonly env: Readonly<Record<string, string>>;
  /** Descriptors that the child inherits beside 0-2, under the same numbers. */
  readonly descriptors: readonly number[];
  /** Milliseconds between the first TERM and KILL. MCP clients give two seconds before they KILL kz itself. */
  readonly graceMs: number;
  /** Held, or not delivered to anybody yet. */
  readonly signals: Signals;
}

/** Resolves when the child has ended. Throws `command-not-found`, `command-not-executable` or `start-failed`. */
export async function runChild(command: readonly [string, ...string[]], options: ChildOptions): Promise<ChildEnd> {
  const { signals, graceMs } = options;
  const ownGroup = !hasControllingTerminal();
  const child = await start(command, options, ownGroup);
  const tree = new ChildTree(child, { ownGroup, graceMs });
  signals.deliverTo((signal) => {
    tree.deliver(signal);
  });
  return tree.ended();
}

function start(command: readonly [string, ...string[]], options: ChildOptions, ownGroup: boolean): Promise<StartedChild> {
  const [program, ...args] = command;
  const { env, descriptors } = options;
  return new Promise((resolve, reject) => {
    const fail = (error: unknown): void => {
      reject(startError(program, error, env.PATH));
    };
    try {
      const child = spawn(program, args, { env, stdio: inherited(descriptors), detached: ownGroup });
      child.once('error', fail);
      if (isStarted(child)) resolve(child);
    } catch (error) {
      fail(error);
    }
  });
}

/** `ignore` leaves what is above 2 closed. */
function inherited(descriptors: readonly number[]): StdioOptions {
  const count = Math.max(2, ...descriptors) + 1;
  return Array.from({ length: count }, (_, descriptor) => (descriptor < 3 || descriptors.includes(descriptor) ? descriptor : 'ignore'));
}

function isStarted(child: ChildProcess): child is StartedChild {
  return child.pid !== undefined;
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
  const places = program.includes('/') ? [program] : (path ?? '').split(':').map((folder) => join(folder, program));
  const script = places.find((place) => look(place)?.isFile());
  if (script !== undefined) {
    return new KzError('command-not-executable', `${script} names an interpreter that is not there`, {
      hint: 'look at its first line (#!)',
      cause,
    });
  }
  if (program.includes('/')) return new KzError('command-not-found', `${program} is not there`, { cause });
  return new KzError('command-not-found', `${program} is not on PATH (${path ?? 'PATH is not set'})`, {
    hint: 'write the full path of the program; programs started from a desktop have a short PATH',
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
