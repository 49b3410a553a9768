// `kz add`: one more line in the config. On a terminal it asks for what the flags leave out.
import { basename, dirname, join } from 'node:path';
import { Option, type Command } from 'commander';
import { findConfig, LOCAL_FILE, PROJECT_FILE } from '../../config/find.ts';
import { PROVIDER_NAMES, type ProviderName } from '../../config/provider-names.ts';
import { nameProblem, typedName } from '../../config/variable-name.ts';
import type { EntryValue } from '../../config/edit.ts';
import { looksLikeSecretValue } from '../../core/credential-shape.ts';
import { KzError } from '../../core/errors.ts';
import { suggest } from '../../core/suggest.ts';
import { Access } from '../../providers/resolve.ts';
import { PROVIDERS } from '../../providers/table.ts';
import { readConfig, writeConfig } from '../config-file.ts';
import { listArgument, providerContext, useVoice, withConfigFlags, workingFolder, type ConfigFlags } from '../options.ts';
import { ask, hasTerminal } from '../prompt.ts';
import { shellQuote } from '../quote.ts';
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

async function add(givenName: string | undefined, flags: AddFlags): Promise<void> {
  useVoice(flags);
  const path = targetFile(flags);
  const before = readConfig(path) ?? '';
  const { removeSecret, setSecret } = await import('../../config/edit.ts');
  const name = givenName ?? (await missing('Variable name:', 'the variable’s name', hintFor('GITHUB_TOKEN', flags)));
  const problem = nameProblem(name);
  if (problem !== undefined) throw new KzError('usage', `${typedName(name) ?? 'that'} ${problem}`);
  const address = { name, environment: flags.env };
  if (flags.force !== true && removeSecret(before, address) !== undefined) {
    throw new KzError('usage', `${name} is already declared in ${placeOf(path, flags)}`, { hint: 'add --force to replace the entry' });
  }
  const { provider, fields } = await complete(name, flags);
  await writeConfig(path, setSecret(before, { ...address, entry: fields }));
  notice(`declared ${name} in ${placeOf(path, flags)}`);
  await tellNext(name, provider, flags);
}

function targetFile(flags: AddFlags): string {
  const { files } = findConfig({ explicit: flags.config, env: process.env, cwd: workingFolder() });
  const project = files.find(({ layer }) => layer === 'project')?.path;
  if (project === undefined) throw new KzError('config-not-found', `no ${PROJECT_FILE} here or above`, { hint: 'run `kz init` first' });
  if (flags.local !== true) return project;
  if (basename(project) === PROJECT_FILE) return join(dirname(project), LOCAL_FILE);
  throw new KzError('usage', `${project} has no local file beside it: only a ${PROJECT_FILE} does`);
}

function placeOf(path: string, { env }: AddFlags): string {
  return env === undefined ? path : `[${env}.secrets] of ${path}`;
}

interface Entry {
  readonly provider: ProviderName;
  readonly fields: Record<string, EntryValue>;
}

async function complete(name: string, flags: AddFlags): Promise<Entry> {
  const provider =
    flags.provider ?? providerNamed(await missing(`Provider (${PROVIDER_NAMES.join(', ')}):`, '--provider', hintFor(name, flags)));
  const { checkRef, example } = PROVIDERS[provider];
  const ref = flags.ref ?? (await missing(`Ref (such as ${example}):`, '--ref', hintFor(name, flags)));
  await checkRef?.(ref);
  const fields: Record<string, EntryValue> = { provider, ref };
  if (flags.hosts !== undefined) fields.hosts = flags.hosts;
  if (flags.optional === true) fields.required = false;
  if (flags.description !== undefined) fields.description = flags.description;
  return { provider, fields };
}

/** The command that was meant, as far as it was typed; a value that was typed where the ref belongs is not repeated. */
function hintFor(name: string, { provider = 'store', ref }: AddFlags): string {
  const own = ref === undefined || looksLikeSecretValue(ref) ? undefined : /^[\w./:@+-]+$/.test(ref) ? ref : shellQuote(ref);
  return `kz add ${typedName(name) ?? 'NAME'} --provider ${provider} --ref ${own ?? PROVIDERS[provider].example}`;
}

async function missing(question: string, what: string, hint: string): Promise<string> {
  if (!hasTerminal()) throw new KzError('usage', `${what} is missing`, { hint });
  const answer = (await ask({ text: question, echo: true })).trim();
  if (answer === '') throw new KzError('cancelled', 'nothing was added');
  return answer;
}

function providerNamed(text: string): ProviderName {
  const name = PROVIDER_NAMES.find((known) => known === text);
  if (name !== undefined) return name;
  const near = suggest(text, PROVIDER_NAMES);
  throw new KzError('usage', `unknown provider ${JSON.stringify(text)}`, {
    hint: near === undefined ? `one of ${PROVIDER_NAMES.join(', ')}` : `did you mean ${near}?`,
  });
}

async function tellNext(name: string, provider: ProviderName, flags: AddFlags): Promise<void> {
  const opened = await new Access({}, providerContext()).open(provider);
  const environment = flags.env === undefined ? '' : ` --env ${flags.env}`;
  notice(
    opened.put === undefined ? `to see whether it is there: kz status${environment}` : `to store its value: kz put ${name}${environment}`,
  );
}
