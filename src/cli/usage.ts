// A command line that kz cannot read, in words. Never repeats what may be a value that somebody typed where it does not belong.
import { existsSync } from 'node:fs';
import type { CommanderError } from 'commander';
import { KzError } from '../core/errors.ts';
import { suggest } from '../core/suggest.ts';
import { COMMANDS } from './commands.ts';

/** The first word is neither a command nor a flag of kz itself. */
export function unknownCommand(typed: string): KzError {
  if (typed.startsWith('-')) {
    const hint = typed === '--' ? 'to start a program: kz run -- PROGRAM' : 'flags of a command follow it: kz COMMAND --help';
    return new KzError('usage', typed === '--' ? 'no command before --' : `kz itself has no ${named(typed)}`, { hint });
  }
  const near = suggest(
    typed,
    COMMANDS.map(({ name }) => name),
  );
  const hint = near === undefined ? 'run `kz --help`; to start a program, `kz run -- PROGRAM`' : `did you mean \`kz ${near}\`?`;
  return new KzError('usage', `unknown command ${JSON.stringify(typed)}`, { hint });
}

/** commander's message is its only sign of what was wrong; test/stories/usage.test.ts pins them. `command` is the one that was typed. */
export function usageError({ code, message }: CommanderError, command: string): KzError {
  const text = message.replace(/^error: /, '').replace(/\.$/, '');
  const usage = (problem: string, hint = `run \`kz ${command} --help\``): KzError => new KzError('usage', problem, { hint });
  switch (code) {
    case 'commander.unknownOption': {
      const [, flag = '', near] = /^unknown option '(.*?)'(?:\n\(Did you mean (.*)\?\))?$/s.exec(text) ?? [];
      return usage(`kz ${command} has no ${named(flag)}`, near === undefined ? undefined : `did you mean ${near}?`);
    }
    case 'commander.excessArguments':
      return usage(`kz ${command} takes ${text.includes('Expected 0 ') ? 'no arguments' : 'one argument'}`);
    case 'commander.missingArgument':
      return usage(`kz ${command} needs a ${text.replace(/^.*'(.*)'$/, '<$1>')}`);
    case 'commander.optionMissingArgument':
      return usage(`${flagOf(text)} needs a value`);
    case 'commander.missingMandatoryOptionValue':
      return usage(`kz ${command} needs ${flagOf(text)}`, flagOf(text) === '--bundle' ? bundleHere() : undefined);
    default:
      return invalidChoice(text) ?? usage(text);
  }
}

/** What is probably meant. */
function bundleHere(): string | undefined {
  return existsSync('bundle.yaml') ? 'add `-b bundle.yaml`' : undefined;
}

function invalidChoice(text: string): KzError | undefined {
  const [, typed, argument, list] = /'([^']*)' is invalid(?: for argument '(.*)')?\. Allowed choices are (.*)$/s.exec(text) ?? [];
  if (typed === undefined || list === undefined) return undefined;
  const near = suggest(typed, list.split(', '));
  return new KzError('usage', `${argument ?? flagOf(text)} cannot be ${JSON.stringify(typed)}`, {
    hint: near === undefined ? `one of ${list}` : `did you mean ${near}?`,
  });
}

/** `'-p, --provider <provider>'` → `--provider`. */
function flagOf(text: string): string {
  return /--[\w-]+/.exec(text)?.[0] ?? 'the flag';
}

/** `flag --token` for `--token=VALUE`; `such flag` for what is not a flag at all, such as a PEM key. */
function named(flag: string): string {
  const word = /^(--?[A-Za-z][A-Za-z-]*)(?:=.*)?$/s.exec(flag)?.[1];
  return word === undefined ? 'such flag' : `flag ${word}`;
}
