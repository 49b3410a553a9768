// `kz run`: resolve, then spawn.
import { basename } from 'node:path';
import { Option, type Command } from 'commander';
import type { Config } from '../../config/load.ts';
import { KzError } from '../../core/errors.ts';
import type { Resolved } from '../../providers/secrets.ts';
import type { ChildEnd } from '../../run/child-tree.ts';
import { runChild, type ChildOptions } from '../../run/child.ts';
import type { ChildEnvironment } from '../../run/environment.ts';
import { inheritedDescriptors } from '../../run/inherited-descriptors.ts';
import { prepare, resolveAll } from '../../run/prepare.ts';
import { Signals } from '../../run/signals.ts';
import { PRELOAD, VERSION } from '../built.ts';
import { mirror } from '../exit.ts';
import {
  durationArgument,
  listArgument,
  openConfig,
  withConfigFlags,
  withDeadline,
  withTimeoutFlag,
  type ConfigFlags,
} from '../options.ts';
import { detail, notice, warn } from '../ui.ts';
import { presence } from '../presence.ts';

interface RunFlags extends ConfigFlags {
  readonly only?: string[];
  readonly cleanEnv?: boolean;
  readonly keepEnv?: string[];
  readonly blind?: boolean;
  readonly grace: number;
}

/** MCP clients send TERM and, two seconds later, KILL to kz alone: the tree must be gone before that. */
const GRACE_MS = 1500;

export function defineRun(command: Command): void {
  withTimeoutFlag(withConfigFlags(command))
    .argument('<command...>', 'the program and its arguments, started as they are, without a shell')
    .option('--only <names>', 'give the program only these secrets (A,B)', listArgument)
    .option('--clean-env', 'start from a short list of variables instead of the whole environment')
    .option('--keep-env <names>', 'inherit these too, with --clean-env or --blind (A,B)', listArgument)
    .option('--blind', 'give the program masked tokens instead of the values')
    .addOption(
      new Option('--grace <duration>', 'time between TERM and KILL when kz is asked to stop')
        .argParser(durationArgument)
        .default(GRACE_MS, '1500ms'),
    )
    .passThroughOptions()
    .addHelpText(
      'after',
      '\nExample:\n  kz run -- node server.js\n  kz run --only GITHUB_TOKEN --env production -- npx -y some-mcp-server\n  kz run --blind -- node agent.js',
    )
    .action(run);
}

async function run(words: string[], flags: RunFlags): Promise<void> {
  const [program, ...args] = words;
  if (program === undefined || program === '') throw new KzError('usage', 'no program to run', { hint: 'kz run -- node server.js' });
  const descriptors = inheritedDescriptors();
  const signals = new Signals();
  try {
    const child = { descriptors, graceMs: flags.grace, signals };
    if (flags.blind === true) mirror(await runBlind([program, ...args], flags, child));
    const { variables: env } = await prepared(flags, signals);
    mirror(await runChild([program, ...args], { env, ...child }));
  } finally {
    signals.close();
  }
}

async function prepared(flags: RunFlags, signals: Signals): Promise<ChildEnvironment> {
  const { config, access } = await openConfig(flags);
  const options = { only: flags.only, clean: flags.cleanEnv ?? false, keep: flags.keepEnv ?? [] };
  const { secrets, environment } = await withDeadline(flags, (signal) => prepare(config, options, access, signal), signals);
  report(config, secrets, environment);
  return environment;
}

/** What `-v` says, before the program starts. */
function report(config: Config, secrets: readonly Resolved[], environment: ChildEnvironment): void {
  for (const { path, how } of config.files) detail(`config ${path} (${how})`);
  for (const secret of secrets) detail(summary(secret));
  if (environment.replaced.length > 0) detail(`replaced inherited: ${environment.replaced.join(', ')}`);
  if (environment.removed.length > 0) detail(`not passed on: ${environment.removed.join(', ')}`);
}

async function runBlind(command: readonly [string, ...string[]], flags: RunFlags, child: Omit<ChildOptions, 'env'>): Promise<ChildEnd> {
  const { config, access } = await openConfig(flags);
  const resolution = await withDeadline(flags, (signal) => resolveAll(config, flags, access, signal), child.signals);
  const { openBlindRun } = await import('../../run/blind.ts');
  const run = await openBlindRun(config, resolution, {
    env: process.env,
    access,
    version: VERSION,
    command: basename(command[0]),
    preload: PRELOAD,
    clean: flags.cleanEnv ?? false,
    keep: flags.keepEnv ?? [],
    tell: ({ level, text }) => {
      (level === 'warning' ? warn : notice)(text);
    },
  });
  report(config, resolution.secrets, run.environment);
  let status = 'not started';
  try {
    const end = await runChild(command, { env: run.environment.variables, ...child });
    status = 'code' in end ? `exit ${String(end.code)}` : `signal ${end.signal}`;
    return end;
  } finally {
    await run.close(status);
  }
}

function summary(secret: Resolved): string {
  return `${secret.name}=${presence(secret)} from ${secret.source.provider} ${secret.source.ref}`;
}
