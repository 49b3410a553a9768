// `kz list`: what is declared. Contacts no provider, so completion scripts may call it.
import type { Command } from 'commander';
import { documentNames, type Config } from '../../config/load.ts';
import { openConfig, withConfigFlags, type ConfigFlags } from '../options.ts';
import { NOTHING_DECLARED } from '../presence.ts';
import { notice, print, printJson, table } from '../ui.ts';

interface ListFlags extends ConfigFlags {
  readonly json?: boolean;
  readonly names?: boolean;
}

interface Row {
  readonly name: string;
  readonly provider: string;
  readonly ref: string;
  readonly required: boolean;
  readonly description?: string;
  readonly file: string;
}

export function defineList(command: Command): void {
  withConfigFlags(command)
    .option('--json', 'print JSON')
    .option('--names', 'print names only')
    .addHelpText('after', '\nExample:\n  kz list --env production')
    .action(list);
}

async function list(flags: ListFlags): Promise<void> {
  const { config } = await openConfig(flags);
  const rows = declared(config);
  if (flags.json === true) printJson(rows);
  else if (flags.names === true) print(rows.map(({ name }) => (name === UNKNOWN_NAMES ? '' : `${name}\n`)).join(''));
  else if (rows.length === 0) notice(NOTHING_DECLARED);
  else print(table([['NAME', 'PROVIDER', 'REF', ''], ...rows.map(cells)]));
}

/** Stands for the keys of a document that the config does not list: they are known only when it is read. */
const UNKNOWN_NAMES = '*';

function declared(config: Config): Row[] {
  const own = [...config.secrets.values()].map(({ name, provider, ref, required = true, description, origin }) => {
    return { name, provider, ref, required, ...(description === undefined ? {} : { description }), file: origin.file.path };
  });
  const fromDocuments = config.documents.flatMap((document) => {
    const names = document.keys === undefined ? [UNKNOWN_NAMES] : documentNames(document);
    const { provider, ref, required = true, origin } = document;
    return names.filter((name) => !config.secrets.has(name)).map((name) => ({ name, provider, ref, required, file: origin.file.path }));
  });
  return [...own, ...fromDocuments];
}

function cells({ name, provider, ref, required, description }: Row): string[] {
  return [name, provider, ref, [required ? '' : '(optional)', description ?? ''].filter((part) => part !== '').join(' ')];
}
