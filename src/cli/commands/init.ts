// `kz init`: a starter config, from what the project already has. It copies names, never values, and asks only on a terminal.
import { existsSync, readFileSync, statSync } from 'node:fs';
import { basename, join } from 'node:path';
import { Option, type Command } from 'commander';
import { PROJECT_FILE } from '../../config/find.ts';
import { proposeFromDotenv, proposeFromMcp, starterConfig, type Proposals, type ProposedServer } from '../../config/propose.ts';
import type { ProviderName } from '../../config/provider-names.ts';
import { KzError, systemCode } from '../../core/errors.ts';
import { writeConfig } from '../config-file.ts';
import { useVoice, type ConfigFlags } from '../options.ts';
import { confirm, hasTerminal } from '../prompt.ts';
import { notice } from '../ui.ts';

interface InitFlags extends Pick<ConfigFlags, 'quiet'> {
  readonly provider: ProviderName;
  readonly force?: boolean;
  readonly yes?: boolean;
}

/** Where kz can put a value, so that `kz put --missing` can follow. */
const PROVIDERS = ['store', 'keychain'] as const satisfies ProviderName[];

const DOTENV_FILES = ['.env', '.env.local', '.env.example'];
const MCP_FILES = ['.mcp.json', '.cursor/mcp.json', '.vscode/mcp.json'];

export function defineInit(command: Command): void {
  command
    .addOption(new Option('-p, --provider <provider>', 'where the values will live').choices([...PROVIDERS]).default('store'))
    .option('--force', `replace an existing ${PROJECT_FILE}`)
    .option('-y, --yes', 'take every proposal without asking')
    .option('-q, --quiet', 'print errors only')
    .addHelpText(
      'after',
      `\nProposes entries for what looks like a secret in ${DOTENV_FILES.join(', ')},\n${MCP_FILES.join(', ')}. It copies names, never values.\n\nExample:\n  kz init --provider keychain`,
    )
    .action(init);
}

async function init(flags: InitFlags): Promise<void> {
  useVoice(flags);
  const path = join(process.cwd(), PROJECT_FILE);
  if (existsSync(path) && flags.force !== true) {
    throw new KzError('usage', `${PROJECT_FILE} is already there`, { hint: 'add to it with `kz add`, or replace it with --force' });
  }
  const proposals = [...DOTENV_FILES.flatMap(fromDotenv), ...MCP_FILES.flatMap(fromMcp)];
  const secrets = proposals.flatMap((proposal) => proposal.secrets);
  tell(proposals);
  const taken = secrets.length > 0 && (await agreed(flags)) ? secrets : [];
  await writeConfig(
    path,
    starterConfig({ names: taken.map(({ name }) => name), provider: flags.provider, project: basename(process.cwd()) }),
  );
  notice(`wrote ${path}`);
  if (taken.length === 0) {
    notice('next: `kz add` declares a secret');
    return;
  }
  notice('next: `kz put --missing` stores the values, `kz status` shows what is there; then delete them where they are now');
  for (const server of proposals.flatMap((proposal) => proposal.servers)) if (server.secrets.length > 0) notice(wrapped(server));
}

async function agreed(flags: InitFlags): Promise<boolean> {
  if (flags.yes === true || !hasTerminal()) return true;
  return confirm('Declare these?', true);
}

function fromDotenv(name: string): Proposals[] {
  return proposalsOf(name, proposeFromDotenv);
}

function fromMcp(name: string): Proposals[] {
  return proposalsOf(name, proposeFromMcp);
}

/** Regular files only: reading a FIFO would wait for its writer. */
function proposalsOf(name: string, propose: (text: string, name: string) => Proposals): Proposals[] {
  try {
    return statSync(name, { throwIfNoEntry: false })?.isFile() === true ? [propose(readFileSync(name, 'utf8'), name)] : [];
  } catch (error) {
    return [
      { secrets: [], settings: [], servers: [], notes: [], problem: `cannot read ${name} (${systemCode(error) ?? 'unknown error'})` },
    ];
  }
}

function tell(proposals: readonly Proposals[]): void {
  const seen = new Set<string>();
  for (const { problem, secrets, notes } of proposals) {
    if (problem !== undefined) notice(problem);
    for (const { name, source, reason } of secrets) {
      if (!seen.has(name)) notice(`${name} in ${source} ${reason}`);
      seen.add(name);
    }
    for (const note of notes) notice(note);
  }
}

/** The entry of an MCP client’s file that starts this server through kz. */
function wrapped({ name, command, args, secrets, settings, hiddenArgs }: ProposedServer): string {
  const entry = { command: 'kz', args: ['run', '--only', secrets.join(','), '--', command, ...args] };
  const kept = settings.length === 0 ? '' : `, and keep ${settings.join(', ')} in its env`;
  const hidden = hiddenArgs.length === 0 ? '' : `; what stands for [secret] stays on its command line, where every process can read it`;
  return `to start ${name} with its secrets: ${JSON.stringify({ [name]: entry })}${kept}${hidden}`;
}
