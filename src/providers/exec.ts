// The output of a program: the way for strangers to plug in. No shell, no standard input; what the program writes to its standard error
// is thrown away, because it may hold the secret. One program at a time: most of them ask something to unlock.
import type { ProviderOptions } from '../config/schema.ts';
import { KzError } from '../core/errors.ts';
import { SECRET_ZERO } from '../core/secret-zero.ts';
import { Secret } from '../core/secret.ts';
import { decodeText, withoutFinalNewline } from './document.ts';
import { quoted, runProgram, type Program, type ProgramEnd } from './program.ts';
import type { Outcome, Provider, ProviderContext, Ref } from './provider.ts';
import { joinWords, splitWords } from './words.ts';

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

/** Throws only what the signal was aborted with. */
async function askProgram(ref: Ref, setup: Setup, signal: AbortSignal): Promise<Outcome> {
  try {
    const invocation = parseRef(ref, setup);
    const text = decodeText(await printedBy(invocation, signal));
    if (text === undefined) throw new KzError('secret-invalid', `what program ${quoted(invocation)} printed is not UTF-8 text`);
    return { ok: true, secret: new Secret(withoutFinalNewline(text)) };
  } catch (error) {
    if (error instanceof KzError && !signal.aborted) return { ok: false, error };
    throw error;
  }
}

function parseRef({ text, directory }: Ref, { command, env }: Setup): Program {
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

async function printedBy(invocation: Program, signal: AbortSignal): Promise<Uint8Array> {
  const end = await runProgram(invocation, signal);
  if (end.status !== 0) throw failed(invocation, end);
  return end.output;
}

function failed(invocation: Program, { status, signal }: ProgramEnd): KzError {
  const { program, args, directory } = invocation;
  const how = status === null ? `was killed by ${signal ?? 'a signal'}` : `failed with status ${String(status)}`;
  return new KzError('provider-failed', `program ${quoted(invocation)} ${how}`, {
    hint: `to see why, run \`cd ${joinWords([directory])} && ${joinWords([program, ...args])}\``,
  });
}
