// The output of a program: the way for strangers to plug in. No shell, no standard input; what the program writes to its standard error
// is thrown away, because it may hold the secret. One program at a time: most of them ask something to unlock.
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { resolve } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import type { ProviderOptions } from '../config/schema.ts';
import { KzError, systemCode } from '../core/errors.ts';
import { SECRET_ZERO } from '../core/secret-zero.ts';
import { Secret } from '../core/secret.ts';
import { decodeText, MAX_TEXT_BYTES, withoutFinalNewline } from './document.ts';
import type { Outcome, Provider, ProviderContext, Ref } from './provider.ts';
import { joinWords, splitWords } from './words.ts';

/** After SIGTERM a program has this long to put its things away. */
const GRACE_MS = 1000;

/** The ref's words follow the configured command; without one, the first word is the program. */
export function openExec(options: ProviderOptions['exec'], context: ProviderContext): Provider {
  const env = Object.fromEntries(Object.entries(context.env).filter(([name]) => !SECRET_ZERO.includes(name)));
  return {
    async get(refs, signal) {
      const outcomes: Outcome[] = [];
      for (const ref of refs) outcomes.push(await askProgram(ref, { command: options?.command ?? [], env }, signal));
      return outcomes;
    },
  };
}

interface Setup {
  readonly command: readonly string[];
  readonly env: ProviderContext['env'];
}

interface Invocation {
  readonly program: string;
  readonly args: readonly string[];
  readonly directory: string;
  readonly env: ProviderContext['env'];
}

/** Throws only what the signal was aborted with. */
async function askProgram(ref: Ref, setup: Setup, signal: AbortSignal): Promise<Outcome> {
  try {
    const invocation = parseRef(ref, setup);
    const text = decodeText(await run(invocation, signal));
    if (text === undefined) throw new KzError('secret-invalid', `what program ${quoted(invocation)} printed is not UTF-8 text`);
    return { ok: true, secret: new Secret(withoutFinalNewline(text)) };
  } catch (error) {
    if (error instanceof KzError && !signal.aborted) return { ok: false, error };
    throw error;
  }
}

function parseRef({ text, directory }: Ref, { command, env }: Setup): Invocation {
  const split = splitWords(text);
  if ('problem' in split) throw new KzError('ref-invalid', `exec ref ${JSON.stringify(text)} ${split.problem}`);
  const [program = '', ...args] = [...command, ...split.words];
  if (program === '') {
    const hint = 'start the ref with a program, or set `command` in [providers.exec]';
    throw new KzError('ref-invalid', `exec ref ${JSON.stringify(text)} names no program`, { hint });
  }
  if ([program, ...args].some((word) => word.includes('\0'))) {
    throw new KzError('ref-invalid', `exec ref ${JSON.stringify(text)} holds a NUL character, which no argument can`);
  }
  return { program, args, directory, env };
}

/** What the program printed. Rejects with what the signal was aborted with, once the program and what it started are gone. */
async function run(invocation: Invocation, signal: AbortSignal): Promise<Uint8Array> {
  signal.throwIfAborted();
  const child = start(invocation);
  const closed = once(child, 'close');
  const chunks: Buffer[] = [];
  let size = 0;
  let ending: Promise<void> | undefined;
  const end = (): void => {
    ending ??= endGroup(child, closed);
  };
  // There is none when no file descriptor was left to start with; the error event follows.
  child.stdout?.on('data', (chunk: Buffer) => {
    size += chunk.length;
    if (size > MAX_TEXT_BYTES) end();
    else chunks.push(chunk);
  });
  signal.addEventListener('abort', end, { once: true });
  try {
    await closed;
    await ending;
  } catch (error) {
    throw startError(invocation, error);
  } finally {
    signal.removeEventListener('abort', end);
  }
  signal.throwIfAborted();
  if (size > MAX_TEXT_BYTES) throw new KzError('secret-invalid', `program ${quoted(invocation)} printed more than 1 MiB`);
  if (child.exitCode !== 0) throw failed(invocation, child);
  return Buffer.concat(chunks);
}

/** Some errors are thrown here, the others (ENOENT among them) are events of the child. */
function start(invocation: Invocation): ChildProcess {
  const { program, args, directory, env } = invocation;
  // Only a name without a slash is looked up in PATH, as everywhere. A group of its own, so that all of it can be ended.
  const path = program.includes('/') ? resolve(directory, program) : program;
  try {
    return spawn(path, args, { cwd: directory, env, stdio: ['ignore', 'pipe', 'ignore'], detached: true });
  } catch (error) {
    throw startError(invocation, error);
  }
}

/** What left the group can still hold the pipe open; nobody waits for that. */
async function endGroup({ pid, stdout }: ChildProcess, closed: Promise<unknown>): Promise<void> {
  if (pid === undefined) return;
  signalGroup(pid, 'SIGTERM');
  await Promise.race([closed, wait(GRACE_MS, undefined, { ref: false })]);
  signalGroup(pid, 'SIGKILL');
  stdout?.destroy();
}

function signalGroup(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(-pid, signal);
  } catch {
    // All of it is gone already.
  }
}

function startError(invocation: Invocation, cause: unknown): KzError {
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

function failed(invocation: Invocation, { exitCode, signalCode }: ChildProcess): KzError {
  const { program, args, directory } = invocation;
  const how = exitCode === null ? `was killed by ${signalCode ?? 'a signal'}` : `failed with status ${String(exitCode)}`;
  return new KzError('provider-failed', `program ${quoted(invocation)} ${how}`, {
    hint: `to see why, run \`cd ${joinWords([directory])} && ${joinWords([program, ...args])}\``,
  });
}

function quoted({ program }: Invocation): string {
  return JSON.stringify(program);
}
