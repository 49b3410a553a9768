// `kz trust`: let the shell hook load this folder's config.
import type { Command } from 'commander';
import { trust } from '../../config/trust.ts';
import { openConfig, withConfigFlags, type ConfigFlags } from '../options.ts';
import { notice } from '../ui.ts';

export function defineTrust(command: Command): void {
  withConfigFlags(command)
    .addHelpText(
      'after',
      '\nOnly `kz hook` asks for this, because it runs on every change of folder.\nA changed file has to be trusted again.\n\nExample:\n  kz trust',
    )
    .action(trustConfig);
}

async function trustConfig(flags: ConfigFlags): Promise<void> {
  const { config, access } = await openConfig(flags);
  const added = trust(config.files, access.context.userDirectory);
  for (const path of added) notice(`trusted ${path}`);
  if (added.length === 0) notice('already trusted');
}
