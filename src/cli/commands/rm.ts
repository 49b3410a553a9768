// `kz rm`: remove a value from its provider, and with --entry its entry from the config.
import type { Command } from 'commander';
import type { Declaration } from '../../config/load.ts';
import { KzError } from '../../core/errors.ts';
import type { Provider } from '../../providers/provider.ts';
import { refOf } from '../../providers/secrets.ts';
import { readConfig, writeConfig } from '../config-file.ts';
import { giveBack, openConfig, withConfigFlags, withDeadline, withTimeoutFlag, type ConfigFlags } from '../options.ts';
import { confirm, hasTerminal } from '../prompt.ts';
import { notice, printable } from '../ui.ts';
import { declarationOf, destinationOf } from '../write-secret.ts';

interface RemoveFlags extends ConfigFlags {
  readonly yes?: boolean;
  readonly entry?: boolean;
}

export function defineRemove(command: Command): void {
  withTimeoutFlag(withConfigFlags(command))
    .argument('<name>', 'the secret, as the config calls it')
    .option('-y, --yes', 'do not ask')
    .option('--entry', 'remove its entry from the config too')
    .addHelpText('after', '\nExample:\n  kz rm OLD_TOKEN --entry')
    .action(remove);
}

async function remove(name: string, flags: RemoveFlags): Promise<void> {
  const { config, access } = await openConfig(flags);
  const declaration = declarationOf(name, config);
  const provider = await access.open(declaration.provider);
  if (provider.remove === undefined && flags.entry !== true) throw readOnly(declaration);
  // Before anything is removed: an entry that cannot be edited must not be left without its value.
  const withoutEntry = flags.entry === true ? await editedConfig(declaration) : undefined;
  if (flags.yes !== true) await askFirst(declaration, provider);
  if (provider.remove !== undefined) await removeValue(declaration, provider, flags).finally(() => giveBack(access));
  if (withoutEntry === undefined) return;
  await writeConfig(declaration.origin.file.path, withoutEntry);
  notice(`removed its entry from ${declaration.origin.file.path}`);
}

function readOnly({ name, provider, ref }: Declaration): KzError {
  return new KzError('provider-read-only', `${name} comes from ${provider} ${ref}, which kz cannot write`, {
    hint: 'to remove only its entry from the config, add --entry',
  });
}

async function editedConfig({ name, origin }: Declaration): Promise<string | undefined> {
  const { removeSecret } = await import('../../config/edit.ts');
  const [first] = origin.path;
  const environment = origin.path.length === 3 && typeof first === 'string' ? first : undefined;
  return removeSecret(readConfig(origin.file.path) ?? '', { environment, name });
}

async function askFirst(declaration: Declaration, provider: Provider): Promise<void> {
  const { name } = declaration;
  if (!hasTerminal())
    throw new KzError('no-terminal', 'there is no terminal to ask on', { hint: `to remove without asking: kz rm ${name} --yes` });
  const what = provider.remove === undefined ? `the entry of ${name}` : `${name} from ${destinationOf(declaration, provider)}`;
  if (!(await confirm(printable(`Remove ${what}?`), false))) throw new KzError('cancelled', 'nothing was removed');
}

async function removeValue(
  { name, provider: providerName, ref, origin }: Declaration,
  provider: Provider,
  flags: RemoveFlags,
): Promise<void> {
  const removed = await withDeadline(flags, async (signal) => provider.remove?.(refOf(ref, origin), signal));
  notice(removed === true ? `removed ${name} from ${providerName} ${ref}` : `${providerName} has no ${ref}; no value was removed`);
}
