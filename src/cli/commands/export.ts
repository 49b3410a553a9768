// `kz export`: every value, for a shell to evaluate or a tool to read. All or nothing: one missing secret and nothing is printed.
import { appendFileSync, existsSync, readFileSync } from 'node:fs';
import { Option, type Command } from 'commander';
import { KzError, systemCode } from '../../core/errors.ts';
import { prepare } from '../../run/prepare.ts';
import { EXPORT_FORMATS, EXPORT_NAMES, type ExportFormat } from '../export-formats.ts';
import {
  listArgument,
  giveBackUnlessLeased,
  openConfig,
  withConfigFlags,
  withDeadline,
  withTimeoutFlag,
  type ConfigFlags,
} from '../options.ts';
import { notice, print } from '../ui.ts';

interface ExportFlags extends ConfigFlags {
  readonly format: ExportFormat;
  readonly only?: string[];
}

export function defineExport(command: Command): void {
  withTimeoutFlag(withConfigFlags(command))
    .addOption(new Option('-f, --format <format>', 'how to print them').choices([...EXPORT_NAMES]).default('shell'))
    .option('--only <names>', 'only these secrets (A,B)', listArgument)
    .addHelpText(
      'after',
      '\nExample:\n  eval "$(kz export)"\n  kz export --format fish | source\n  kz export --format gha      # in a GitHub Actions step',
    )
    .action(exportSecrets);
}

async function exportSecrets(flags: ExportFlags): Promise<void> {
  const githubEnvFile = flags.format === 'gha' ? requireGithubEnv() : undefined;
  const { config, access } = await openConfig(flags);
  const options = { only: flags.only, clean: false, keep: [] };
  const { secrets } = await withDeadline(flags, (signal) => prepare(config, options, access, signal));
  await giveBackUnlessLeased(access, secrets);
  const variables = secrets.flatMap((secret) => (secret.state === 'set' ? [{ name: secret.name, value: secret.secret.reveal() }] : []));
  const { output, githubEnv } = EXPORT_FORMATS[flags.format](variables);
  print(output);
  if (githubEnvFile === undefined || githubEnv === undefined) return;
  appendLines(githubEnvFile, githubEnv);
  notice(`${countOf(variables)} masked in the log and set for the steps that follow`);
}

/** Asked for before any value is printed. */
function requireGithubEnv(): string {
  const { GITHUB_ENV: file } = process.env;
  if (file !== undefined && file !== '') return file;
  throw new KzError('usage', '--format gha needs $GITHUB_ENV, which GitHub Actions sets', { hint: 'elsewhere, use --format shell' });
}

/** A step before may have left its last line without an end. */
function appendLines(file: string, text: string): void {
  try {
    const before = existsSync(file) ? readFileSync(file, 'utf8') : '';
    appendFileSync(file, before === '' || before.endsWith('\n') ? text : `\n${text}`);
  } catch (error) {
    throw new KzError('write-failed', `cannot append to $GITHUB_ENV (${systemCode(error) ?? 'unknown error'})`, { cause: error });
  }
}

function countOf({ length }: readonly unknown[]): string {
  return length === 1 ? '1 secret is' : `${String(length)} secrets are`;
}
