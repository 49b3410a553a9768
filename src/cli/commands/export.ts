// `kz export`: every value, for a shell to evaluate or a tool to read. All or nothing: one missing secret and nothing is printed.
import { appendFileSync } from 'node:fs';
import { Option, type Command } from 'commander';
import { KzError, systemCode } from '../../core/errors.ts';
import { prepare } from '../../run/prepare.ts';
import { EXPORT_FORMATS, type ExportFormat } from '../export-formats.ts';
import { listArgument, openConfig, withConfigFlags, withDeadline, withTimeoutFlag, type ConfigFlags } from '../options.ts';
import { notice, print } from '../ui.ts';

interface ExportFlags extends ConfigFlags {
  readonly format: ExportFormat;
  readonly only?: string[];
}

export function defineExport(command: Command): void {
  withTimeoutFlag(withConfigFlags(command))
    .addOption(new Option('-f, --format <format>', 'how to print them').choices(Object.keys(EXPORT_FORMATS)).default('shell'))
    .option('--only <names>', 'only these secrets (A,B)', listArgument)
    .addHelpText('after', '\nExample:\n  eval "$(kz export)"\n  kz export --format gha      # in a GitHub Actions step')
    .action(exportSecrets);
}

async function exportSecrets(flags: ExportFlags): Promise<void> {
  const { config, access } = await openConfig(flags);
  const options = { only: flags.only, clean: false, keep: [] };
  const { secrets } = await withDeadline(flags, (signal) => prepare(config, options, access, signal));
  const variables = secrets.flatMap((secret) => (secret.state === 'set' ? [{ name: secret.name, value: secret.secret.reveal() }] : []));
  const { output, githubEnv } = EXPORT_FORMATS[flags.format](variables) as { output: string; githubEnv?: string };
  print(output);
  if (githubEnv !== undefined) appendToGithubEnv(githubEnv, variables.length);
}

function appendToGithubEnv(text: string, count: number): void {
  const { GITHUB_ENV: file } = process.env;
  if (file === undefined || file === '') {
    throw new KzError('usage', '--format gha needs $GITHUB_ENV, which GitHub Actions sets', { hint: 'elsewhere, use --format shell' });
  }
  try {
    appendFileSync(file, text);
  } catch (error) {
    throw new KzError('write-failed', `cannot append to $GITHUB_ENV (${systemCode(error) ?? 'unknown error'})`, { cause: error });
  }
  notice(`${String(count)} secrets are masked in the log and set for the steps that follow`);
}
