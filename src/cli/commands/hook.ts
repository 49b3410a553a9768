// `kz hook`: load a folder's secrets into an interactive shell on entering it, and take them back on leaving.
import { createHash } from 'node:crypto';
import { Option, type Command } from 'commander';
import type { Config } from '../../config/load.ts';
import { isTrusted } from '../../config/trust.ts';
import { KzError } from '../../core/errors.ts';
import type { Resolved } from '../../providers/secrets.ts';
import { prepare } from '../../run/prepare.ts';
import type { Variable } from '../export-formats.ts';
import {
  HOOK_SCRIPTS,
  HOOK_SHELLS,
  isReserved,
  parseState,
  previousName,
  updateScript,
  type HookShell,
  type HookState,
} from '../hook-script.ts';
import { giveBackUnlessLeased, openConfig, withConfigFlags, withDeadline, withTimeoutFlag, type ConfigFlags } from '../options.ts';
import { notice, print, printError } from '../ui.ts';

interface HookFlags extends ConfigFlags {
  readonly shell: HookShell;
  /** The state that the hook left in the shell last time; present when the hook itself calls. */
  readonly update?: string;
}

export function defineHook(command: Command): void {
  withTimeoutFlag(withConfigFlags(command))
    .addOption(new Option('--shell <shell>', 'which shell to print the hook for').choices([...HOOK_SHELLS]).makeOptionMandatory())
    .addOption(new Option('--update <state>').hideHelp())
    .addHelpText(
      'after',
      '\nA folder’s secrets are loaded on entering it, after one `kz trust`, and taken\nback on leaving it.\n\nExample:\n  eval "$(kz hook --shell zsh)"        # in ~/.zshrc\n  eval "$(kz hook --shell bash)"       # in ~/.bashrc\n  kz hook --shell fish | source        # in config.fish',
    )
    .action(hook);
}

async function hook(flags: HookFlags): Promise<void> {
  if (flags.update === undefined) {
    print(HOOK_SCRIPTS[flags.shell]);
    return;
  }
  const before = parseState(flags.shell, flags.update);
  takeBack(before.names);
  const { from, variables } = await lookHere(before, flags);
  // Another folder of the same project: its values are there already, and asking for them again could open a dialog.
  if (from !== before.from || !LOADED.test(from)) print(updateScript(flags.shell, before, from, variables));
}

/** As the shell will do it: what the last folder set must not be found in the environment and taken for a value of this one. */
function takeBack(names: readonly string[]): void {
  for (const name of names) {
    const was = process.env[previousName(name)];
    if (was === undefined) Reflect.deleteProperty(process.env, name);
    else process.env[name] = was;
  }
}

interface Found {
  readonly from: string;
  readonly variables: readonly Variable[];
}

const LOADED = /^[0-9a-f]{64}$/;

/** Nothing here may stop a prompt: every failure is told on standard error and means that no variable is set. */
async function lookHere(before: HookState, flags: HookFlags): Promise<Found> {
  try {
    const { config, access } = await openConfig(flags);
    if (!isTrusted(config.files, access.context.userDirectory)) {
      const untrusted = config.files.find((file) => file.layer !== 'user')?.path ?? '.keyzero.toml';
      notice(`${untrusted} is not loaded into this shell; look at it, then run \`kz trust\``);
      return { from: 'waiting', variables: [] };
    }
    const from = fingerprint(config);
    if (from === before.from) return { from, variables: [] };
    const { secrets } = await withDeadline(flags, (signal) => prepare(config, { clean: false, keep: [] }, access, signal));
    await giveBackUnlessLeased(access, secrets);
    return { from, variables: withoutReserved(flags.shell, secrets.flatMap(variableOf)) };
  } catch (error) {
    if (!(error instanceof KzError)) throw error;
    if (error.code !== 'config-not-found') printError(error);
    return { from: 'none', variables: [] };
  }
}

function fingerprint({ files, environment }: Config): string {
  const hash = createHash('sha256').update(environment?.name ?? '');
  for (const { path, text } of files) hash.update('\0').update(path).update('\0').update(text);
  return hash.digest('hex');
}

/** An error, because the update that follows `kz trust` is a quiet one; the other variables are set all the same. */
function withoutReserved(shell: HookShell, variables: readonly Variable[]): Variable[] {
  const reserved = variables.filter(({ name }) => isReserved(shell, name)).map(({ name }) => name);
  if (reserved.length > 0) {
    const what = `${reserved.join(', ')} cannot be set in this shell: ${shell} uses ${reserved.length === 1 ? 'this name' : 'these names'} itself`;
    printError(
      new KzError('secret-invalid', what, { hint: 'for a program: `kz run -- PROGRAM`; for the shell, give the secret another name' }),
    );
  }
  return variables.filter(({ name }) => !isReserved(shell, name));
}

function variableOf(secret: Resolved): Variable[] {
  return secret.state === 'set' ? [{ name: secret.name, value: secret.secret.reveal() }] : [];
}
