// `kz get`: one value, to standard output. One of the two commands whose purpose is to reveal.
import type { Command } from 'commander';
import type { Config } from '../../config/load.ts';
import { KzError } from '../../core/errors.ts';
import type { Access } from '../../providers/resolve.ts';
import { resolveSecrets } from '../../providers/secrets.ts';
import { giveBackUnlessLeased, openConfig, withConfigFlags, withDeadline, withTimeoutFlag, type ConfigFlags } from '../options.ts';
import { print, printJson } from '../ui.ts';
import { howToStore } from '../write-secret.ts';

interface GetFlags extends ConfigFlags {
  readonly json?: boolean;
  readonly newline: boolean;
}

export function defineGet(command: Command): void {
  withTimeoutFlag(withConfigFlags(command))
    .argument('<name>', 'the secret, as the config calls it')
    .option('-n, --no-newline', 'print no newline after the value')
    .option('--json', 'print {"name", "value"}')
    .addHelpText('after', '\nExample:\n  kz get GITHUB_TOKEN | gh auth login --with-token')
    .action(get);
}

async function get(name: string, flags: GetFlags): Promise<void> {
  const { config, access } = await openConfig(flags);
  const { secrets } = await withDeadline(flags, (signal) => resolveSecrets(config, { only: [name] }, access, signal));
  await giveBackUnlessLeased(access, secrets);
  const [secret] = secrets;
  if (secret?.state === 'failed') throw secret.error;
  if (secret?.state !== 'set') throw await absent(name, config, access);
  const value = secret.secret.reveal();
  if (flags.json === true) printJson({ name, value });
  else print(flags.newline ? `${value}\n` : value);
}

async function absent(name: string, config: Config, access: Access): Promise<KzError> {
  const declaration = config.secrets.get(name);
  const hint = declaration === undefined ? undefined : await howToStore(declaration, access);
  return new KzError('secret-missing', `${name} is optional and has no value`, { hint });
}
