// `kz validate`: is the configuration right? Reads files only; no provider is asked.
import type { Command } from 'commander';
import type { Config } from '../../config/load.ts';
import { KzError } from '../../core/errors.ts';
import { SHORTEST_FORM } from '../../mask/form.ts';
import type { BlindCheck, KnownScope } from '../../run/blind-check.ts';
import { checkConfig } from '../../run/config-check.ts';
import { openConfig, withConfigFlags, type ConfigFlags } from '../options.ts';
import { print, printJson, printLine, table, warn } from '../ui.ts';

interface ValidateFlags extends ConfigFlags {
  readonly json?: boolean;
}

export function defineValidate(command: Command): void {
  withConfigFlags(command)
    .option('--json', 'print JSON')
    .addHelpText(
      'after',
      '\nReports every problem at once, with file:line:column, those of blind mode too.\nTo check the values: `kz status`. To ask about a request: `kz explain URL`.\n\nExample:\n  kz validate --json',
    )
    .action(validate);
}

async function validate(flags: ValidateFlags): Promise<void> {
  try {
    const { config } = await openConfig(flags);
    report(config, await checkConfig(config), flags);
  } catch (error) {
    if (flags.json !== true || !(error instanceof KzError)) throw error;
    const problems = error.code === 'several' ? error.problems : [error];
    printJson({ schema_version: 1, valid: false, problems: problems.map(problemJson), warnings: [] });
    process.exitCode = error.exitStatus;
  }
}

function report(config: Config, blind: BlindCheck, flags: ValidateFlags): void {
  const warnings = [...tooShort(config), ...blind.warnings];
  if (flags.json === true) {
    const { environments, environment, files } = config;
    printJson({
      schema_version: 1,
      valid: true,
      files: files.map(({ path, how }) => ({ path, how })),
      environment: environment?.name ?? null,
      environments,
      secrets: config.secrets.size,
      secrets_scope: blind.scopes,
      rules: blind.rules,
      problems: [],
      warnings,
    });
    return;
  }
  for (const warning of warnings) warn(warning);
  for (const { path } of config.files) printLine(`${path}: ok`);
  printLine(summary(config));
  if (blind.isUsed) reportBlind(blind);
}

function reportBlind({ rules, scopes }: BlindCheck): void {
  printLine(
    rules === 0 ? 'no connection rules: all hosts are allowed' : `${counted(rules, 'connection rule')}: what none matches is denied`,
  );
  if (scopes.length > 0) print(`\n${table([['SECRET', 'MAY GO TO', ''], ...scopes.map(scopeCells)])}`);
}

function scopeCells({ name, from, hosts, exposed }: KnownScope): string[] {
  const known = from === 'value' ? '-' : hosts.join(', ');
  return [name, known, [KNOWN_FROM[from], ...(exposed ? ['exposed: the program has the value'] : [])].join('; ')];
}

const KNOWN_FROM: Readonly<Record<KnownScope['from'], string>> = {
  hosts: 'its hosts',
  starts_with: 'from its starts_with',
  template: 'from its template',
  value: 'depends on the value and the rules; ask `kz explain URL`',
};

/** `declares 2 secrets and 1 document; environments: production, staging`. */
function summary({ secrets, documents, environments, environment }: Config): string {
  const counts = [counted(secrets.size, 'secret'), ...(documents.length === 0 ? [] : [counted(documents.length, 'document')])];
  const list = environments.map((name) => (name === environment?.name ? `${name} (active)` : name)).join(', ');
  return `declares ${counts.join(' and ')}${list === '' ? '' : `; environments: ${list}`}`;
}

function counted(count: number, what: string): string {
  return `${String(count)} ${what}${count === 1 ? '' : 's'}`;
}

/** By what the config says; what the values are `kz doctor` says. */
function tooShort(config: Config): string[] {
  return [...config.secrets.values()]
    .filter(({ max_length: most = Infinity, one_of: choices }) => {
      const longest = choices === undefined ? Infinity : Math.max(...choices.map(({ length }) => length));
      return Math.min(most, longest) < SHORTEST_FORM;
    })
    .map(({ name }) => `${name} is shorter than ${String(SHORTEST_FORM)} bytes: what the program prints is not searched for it`);
}

function problemJson(problem: KzError): unknown {
  const { code, message, hint, at } = problem;
  return { code, message, hint: hint ?? null, file: at?.file ?? null, line: at?.line ?? null, column: at?.column ?? null };
}
