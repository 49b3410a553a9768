// The entry point: find the command, run it, turn what was thrown into an error message and an exit status. Nothing else sets a status.
import { Command, CommanderError } from 'commander';
import { KzError } from '../core/errors.ts';
import { COMMANDS, type CommandRow } from './commands.ts';
import { endSoon, Interrupted, useDefaultAction } from './exit.ts';
import { VERSION } from './built.ts';
import { BrokenPipe, print, printError } from './ui.ts';
import { unknownCommand, usageError } from './usage.ts';

/** 128 + SIGPIPE: what a program that does not ignore the signal ends with. */
const BROKEN_PIPE_STATUS = 141;

/** `kz run` failed before the child started. docker(1) and env(1) use the same number. */
const NOT_STARTED_STATUS = 125;

/** What kz itself takes; everything else follows a command. */
const OWN_FLAGS = ['-h', '--help', '-V', '--version'];

async function main(words: readonly string[]): Promise<void> {
  const request = asRequest(words);
  const [typed = ''] = request;
  const row = COMMANDS.find(({ name, aliases }) => name === typed || aliases?.includes(typed) === true);
  let program: Command | undefined;
  try {
    if (row === undefined && !OWN_FLAGS.includes(typed)) throw unknownCommand(typed);
    program = await buildProgram(row);
    await program.parseAsync(request, { from: 'user' });
  } catch (error) {
    if (error instanceof Interrupted) error.end();
    else {
      process.exitCode = fail(error, row, fullName(program, request));
      endSoon();
    }
  }
}

/** `server start`: what was typed of a command that has commands of its own. */
function fullName(program: Command | undefined, [first = '', second = '']: readonly string[]): string {
  const inner = program?.commands.find((command) => command.name() === first)?.commands.find((command) => command.name() === second);
  return inner === undefined ? first : `${first} ${second}`;
}

/** kz alone is a question about kz, and `kz help run` is `kz run --help`. */
function asRequest(words: readonly string[]): readonly string[] {
  const [first, ...rest] = words;
  if (first === undefined) return ['--help'];
  return first === 'help' ? [...rest.slice(0, 1), '--help'] : words;
}

async function buildProgram(chosen: CommandRow | undefined): Promise<Command> {
  const program = configured(new Command('kz'))
    .description('Run programs with secrets resolved from where they live.')
    .version(VERSION, '-V, --version')
    .enablePositionalOptions()
    .addHelpText(
      'after',
      '\nExample:\n  kz run -- node server.js\n  kz run --blind -- node agent.js    it gets masked tokens, not the values',
    );
  // The list of commands is for those who named none, and building it takes a millisecond.
  for (const row of chosen === undefined ? COMMANDS : [chosen]) {
    const command = configured(program.command(row.name)).summary(row.summary).description(row.summary);
    command.aliases([...(row.aliases ?? [])]);
    if (row === chosen) (await row.load())(command);
  }
  return program;
}

function configured(command: Command): Command {
  return command.exitOverride().configureOutput({ writeOut: print, writeErr: () => undefined, outputError: () => undefined });
}

/** The exit status for what was thrown, after saying what it was. */
function fail(error: unknown, row: CommandRow | undefined, typed: string): number {
  if (error instanceof BrokenPipe) return BROKEN_PIPE_STATUS;
  if (error instanceof CommanderError && error.exitCode === 0) return 0;
  const known = asKzError(error, typed);
  printError(known);
  return row?.name === 'run' && known.exitStatus < 126 ? NOT_STARTED_STATUS : known.exitStatus;
}

function asKzError(error: unknown, typed: string): KzError {
  if (error instanceof KzError) return error;
  return error instanceof CommanderError ? usageError(error, typed) : internal(error);
}

/** A mistake of ours. Its message could quote anything, so only the place is shown. */
function internal(error: unknown): KzError {
  const stack = error instanceof Error ? (error.stack ?? '') : '';
  const frame = stack.split('\n').find((line) => line.trimStart().startsWith('at '));
  const name = error instanceof Error ? error.constructor.name : typeof error;
  return new KzError('internal', `unexpected ${name} ${frame?.trim() ?? ''}`.trim(), {
    hint: 'this is a bug in kz; please report it',
    cause: error,
  });
}

// Node would open its debugger on USR1, and whoever may attach to that reads every value.
useDefaultAction('SIGUSR1');
void main(process.argv.slice(2));
