// The entry point: find the command, run it, turn what was thrown into an error message and an exit status. Nothing else sets a status.
import { Command, CommanderError } from 'commander';
import { KzError } from '../core/errors.ts';
import { suggest } from '../core/suggest.ts';
import { COMMANDS, type CommandRow } from './commands.ts';
import { BrokenPipe, print, printError } from './ui.ts';

/** Filled in by the build, from package.json. */
declare const KZ_VERSION: string;

/** 128 + SIGPIPE: what a program that does not ignore the signal ends with. */
const BROKEN_PIPE_STATUS = 141;

/** `kz run` failed before the child started. docker(1) and env(1) use the same number. */
const NOT_STARTED_STATUS = 125;

async function main(words: readonly string[]): Promise<void> {
  const typed = words.find((word) => !word.startsWith('-'));
  const row = COMMANDS.find(({ name, aliases }) => name === typed || aliases?.includes(typed ?? '') === true);
  try {
    if (typed !== undefined && row === undefined && typed !== 'help') throw unknownCommand(typed);
    const program = await buildProgram(row);
    await program.parseAsync(words, { from: 'user' });
  } catch (error) {
    process.exitCode = fail(error, row?.name === 'run');
  }
}

async function buildProgram(chosen: CommandRow | undefined): Promise<Command> {
  const program = configured(new Command('kz'))
    .description('Run programs with secrets resolved from where they live.')
    .version(KZ_VERSION, '-V, --version')
    .enablePositionalOptions()
    .addHelpText('after', '\nExample:\n  kz run -- node server.js');
  for (const row of COMMANDS) {
    const command = configured(program.command(row.name)).summary(row.summary).description(row.summary);
    command.aliases([...(row.aliases ?? [])]);
    if (row === chosen) (await row.load())(command);
  }
  return program;
}

function configured(command: Command): Command {
  return command.exitOverride().configureOutput({ writeOut: print, writeErr: () => undefined, outputError: () => undefined });
}

function unknownCommand(typed: string): KzError {
  const near = suggest(
    typed,
    COMMANDS.map(({ name }) => name),
  );
  const hint = near === undefined ? 'run `kz --help`; to start a program, `kz run -- PROGRAM`' : `did you mean \`kz ${near}\`?`;
  return new KzError('usage', `unknown command ${JSON.stringify(typed)}`, { hint });
}

/** The exit status for what was thrown, after saying what it was. */
function fail(error: unknown, running: boolean): number {
  if (error instanceof BrokenPipe) return BROKEN_PIPE_STATUS;
  if (error instanceof CommanderError) {
    if (error.exitCode === 0) return 0;
    printError(new KzError('usage', error.message.replace(/^error: /, ''), { hint: 'add --help to see what the command takes' }));
    return running ? NOT_STARTED_STATUS : 2;
  }
  const known = error instanceof KzError ? error : internal(error);
  printError(known);
  return running && known.exitStatus < 126 ? NOT_STARTED_STATUS : known.exitStatus;
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

// kz alone is a question about kz.
void main(process.argv.length > 2 ? process.argv.slice(2) : ['--help']);
