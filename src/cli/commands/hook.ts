// `kz hook`: load a folder's secrets into an interactive shell on entering it, and take them back on leaving.
import { Option, type Command } from 'commander';
import { isTrusted } from '../../config/trust.ts';
import { KzError } from '../../core/errors.ts';
import { prepare } from '../../run/prepare.ts';
import type { Variable } from '../export-formats.ts';
import { HOOK_SCRIPTS, HOOK_SHELLS, updateScript, type HookShell } from '../hook-script.ts';
import { openConfig, withConfigFlags, withDeadline, withTimeoutFlag, type ConfigFlags } from '../options.ts';
import { notice, print, printError } from '../ui.ts';

interface HookFlags extends ConfigFlags {
  readonly shell: HookShell;
  /** The names that the hook set last time; present when the hook itself calls. */
  readonly update?: string;
}

export function defineHook(command: Command): void {
  withTimeoutFlag(withConfigFlags(command))
    .addOption(new Option('--shell <shell>', 'which shell to print the hook for').choices([...HOOK_SHELLS]).makeOptionMandatory())
    .addOption(new Option('--update <names>').hideHelp())
    .addHelpText(
      'after',
      '\nEach folder’s config is loaded only after `kz trust`.\n\nExample:\n  eval "$(kz hook --shell zsh)"        # in ~/.zshrc\n  eval "$(kz hook --shell bash)"       # in ~/.bashrc\n  kz hook --shell fish | source        # in config.fish',
    )
    .action(hook);
}

async function hook(flags: HookFlags): Promise<void> {
  if (flags.update === undefined) print(HOOK_SCRIPTS[flags.shell]);
  else print(updateScript(flags.shell, flags.update, await variablesHere(flags)));
}

/** Nothing here may stop a prompt: every failure is told on standard error and means that no variable is set. */
async function variablesHere(flags: HookFlags): Promise<Variable[]> {
  try {
    const { config, access } = await openConfig(flags);
    if (!isTrusted(config.files, access.context.userDirectory)) {
      const untrusted = config.files.find((file) => file.layer !== 'user')?.path ?? '.keyzero.toml';
      notice(`${untrusted} is not loaded into this shell; look at it, then run \`kz trust\``);
      return [];
    }
    const { secrets } = await withDeadline(flags, (signal) => prepare(config, { clean: false, keep: [] }, access, signal));
    return secrets.flatMap((secret) => (secret.state === 'set' ? [{ name: secret.name, value: secret.secret.reveal() }] : []));
  } catch (error) {
    if (!(error instanceof KzError)) throw error;
    if (error.code !== 'config-not-found') printError(error);
    return [];
  }
}
