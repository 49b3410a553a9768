// `kz rm`: remove a value from its provider, and with --entry its line from the config.
import type { Command } from 'commander';
import type { Declaration } from '../../config/load.ts';
import { KzError } from '../../core/errors.ts';
import { openProvider, type Access } from '../../providers/resolve.ts';
import { refOf, undeclared } from '../../providers/secrets.ts';
import { readConfig, writeConfig } from '../config-file.ts';
import { openConfig, withConfigFlags, withDeadline, withTimeoutFlag, type ConfigFlags } from '../options.ts';
import { confirm, hasTerminal } from '../prompt.ts';
import { notice } from '../ui.ts';

interface RemoveFlags extends ConfigFlags {
  readonly yes?: boolean;
  readonly entry?: boolean;
}

export function defineRemove(command: Command): void {
  withTimeoutFlag(withConfigFlags(command))
    .argument('<name>', 'the secret, as the config calls it')
    .option('-y, --yes', 'do not ask')
    .option('--entry', 'remove its line from the config too')
    .addHelpText('after', '\nExample:\n  kz rm OLD_TOKEN --entry')
    .action(remove);
}

async function remove(name: string, flags: RemoveFlags): Promise<void> {
  const { config, access } = await openConfig(flags);
  const declaration = config.secrets.get(name);
  if (declaration === undefined) throw undeclared(name, [...config.secrets.keys()]);
  if (flags.yes !== true) {
    if (!hasTerminal()) throw new KzError('no-terminal', 'there is no terminal to ask on', { hint: 'add --yes to remove without asking' });
    if (!(await confirm(`Remove ${name} (provider: ${declaration.provider}, ref: ${declaration.ref})?`, false)))
      throw new KzError('cancelled', 'nothing was removed');
  }
  await removeValue(declaration, access, flags);
  if (flags.entry === true) await removeEntry(declaration);
}

async function removeValue(declaration: Declaration, access: Access, flags: RemoveFlags): Promise<void> {
  const { name, provider: providerName, ref, origin } = declaration;
  const provider = await openProvider(providerName, access);
  if (provider.remove === undefined) {
    if (flags.entry === true) return;
    throw new KzError('provider-read-only', `${name} comes from ${providerName} ${ref}, which kz cannot write`, {
      hint: 'to remove only its line from the config, add --entry',
    });
  }
  const removed = await withDeadline(flags, async (signal) => provider.remove?.(refOf(ref, origin), signal));
  notice(removed === true ? `removed ${name} from ${providerName} ${ref}` : `${providerName} has no ${ref}; nothing to remove`);
}

async function removeEntry({ name, origin }: Declaration): Promise<void> {
  const { removeSecret } = await import('../../config/edit.ts');
  const [first] = origin.path;
  const environment = origin.path.length === 3 && typeof first === 'string' ? { environment: first } : {};
  const text = removeSecret(readConfig(origin.file.path), { ...environment, name });
  if (text === undefined) return;
  await writeConfig(origin.file.path, text);
  notice(`removed its line from ${origin.file.path}`);
}
