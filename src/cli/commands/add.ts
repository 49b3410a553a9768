// `kz add`: one more line in the config. On a terminal it asks for what the flags leave out.
import { basename, dirname, join } from 'node:path';
import { Option, type Command } from 'commander';
import { findConfig, LOCAL_FILE, PROJECT_FILE } from '../../config/find.ts';
import { PROVIDER_NAMES, type ProviderName } from '../../config/provider-names.ts';
import { nameProblem } from '../../config/variable-name.ts';
import type { EntryValue } from '../../config/edit.ts';
import { KzError } from '../../core/errors.ts';
import { PROVIDERS } from '../../providers/table.ts';
import { readConfig, writeConfig } from '../config-file.ts';
import { listArgument, useVoice, withConfigFlags, type ConfigFlags } from '../options.ts';
import { ask, hasTerminal } from '../prompt.ts';
import { notice } from '../ui.ts';

interface AddFlags extends ConfigFlags {
  readonly provider?: ProviderName;
  readonly ref?: string;
  readonly hosts?: string[];
  readonly description?: string;
  readonly optional?: boolean;
  readonly local?: boolean;
  readonly force?: boolean;
}

export function defineAdd(command: Command): void {
  withConfigFlags(command)
    .argument('[name]', 'the variable that the program reads')
    .addOption(new Option('-p, --provider <provider>', 'where the value lives').choices([...PROVIDER_NAMES]))
    .option('-r, --ref <ref>', 'what the provider calls it')
    .option('--hosts <hosts>', 'blind mode: where it may be sent (A,B)', listArgument)
    .option('--description <text>', 'shown when kz asks for the value')
    .option('--optional', 'the program starts without it')
    .option('--local', `write to ${LOCAL_FILE}, which is yours alone`)
    .option('--force', 'replace an existing entry')
    .addHelpText(
      'after',
      '\nWith --env NAME the entry goes to [NAME.secrets].\n\nExample:\n  kz add GITHUB_TOKEN --provider keychain --ref github-pat --hosts api.github.com',
    )
    .action(add);
}

async function add(name: string | undefined, flags: AddFlags): Promise<void> {
  useVoice(flags);
  const path = targetFile(flags);
  const entry = await complete(name, flags);
  const { setSecret } = await import('../../config/edit.ts');
  const before = readOrEmpty(path);
  const address = { name: entry.name, ...(flags.env === undefined ? {} : { environment: flags.env }) };
  if (flags.force !== true) await refuseExisting(before, address, path);
  await writeConfig(path, setSecret(before, { ...address, entry: entry.fields }));
  notice(`declared ${entry.name} in ${path}`);
  if (['keychain', 'store', 'age'].includes(entry.provider)) notice(`store its value with: kz put ${entry.name}`);
}

function targetFile(flags: AddFlags): string {
  const { files } = findConfig({ explicit: flags.config, env: process.env, cwd: process.cwd() });
  const project = files.find(({ layer }) => layer === 'project')?.path;
  if (flags.local === true) return join(project === undefined ? process.cwd() : dirname(project), LOCAL_FILE);
  if (project !== undefined) return project;
  throw new KzError('config-not-found', `no ${PROJECT_FILE} here or above`, { hint: 'run `kz init` first' });
}

function readOrEmpty(path: string): string {
  try {
    return readConfig(path);
  } catch (error) {
    if (basename(path) === LOCAL_FILE) return '';
    throw error;
  }
}

interface Entry {
  readonly name: string;
  readonly provider: ProviderName;
  readonly fields: Record<string, EntryValue>;
}

async function complete(givenName: string | undefined, flags: AddFlags): Promise<Entry> {
  const name = givenName ?? (await missing('Variable name:', 'the variable’s name'));
  const problem = nameProblem(name);
  if (problem !== undefined) throw new KzError('usage', `${name} ${problem}`);
  const provider = flags.provider ?? providerNamed(await missing(`Provider (${PROVIDER_NAMES.join(', ')}):`, '--provider'));
  const ref = flags.ref ?? (await missing(`Ref (such as ${PROVIDERS[provider].example}):`, '--ref'));
  const fields: Record<string, EntryValue> = { provider, ref };
  if (flags.hosts !== undefined) fields.hosts = flags.hosts;
  if (flags.optional === true) fields.required = false;
  if (flags.description !== undefined) fields.description = flags.description;
  return { name, provider, fields };
}

async function missing(question: string, what: string): Promise<string> {
  if (!hasTerminal())
    throw new KzError('usage', `${what} is missing`, { hint: 'kz add GITHUB_TOKEN --provider keychain --ref github-pat' });
  const answer = (await ask({ text: question, echo: true })).trim();
  if (answer === '') throw new KzError('cancelled', 'nothing was added');
  return answer;
}

function providerNamed(text: string): ProviderName {
  const name = PROVIDER_NAMES.find((known) => known === text);
  if (name === undefined)
    throw new KzError('usage', `unknown provider ${JSON.stringify(text)}`, { hint: `one of ${PROVIDER_NAMES.join(', ')}` });
  return name;
}

async function refuseExisting(source: string, address: { name: string; environment?: string }, path: string): Promise<void> {
  const { removeSecret } = await import('../../config/edit.ts');
  if (removeSecret(source, address) === undefined) return;
  throw new KzError('usage', `${address.name} is already declared in ${path}`, { hint: 'add --force to replace the entry' });
}
