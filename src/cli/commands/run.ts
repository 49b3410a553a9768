// `kz run`: resolve, then spawn.
import { Option, type Command } from 'commander';
import { KzError } from '../../core/errors.ts';
import type { Resolved } from '../../providers/secrets.ts';
import { runChild } from '../../run/child.ts';
import type { ChildEnvironment } from '../../run/environment.ts';
import { inheritedDescriptors } from '../../run/inherited-descriptors.ts';
import { prepare } from '../../run/prepare.ts';
import { Signals } from '../../run/signals.ts';
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
import { detail } from '../ui.ts';
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
    .option('--keep-env <names>', 'with --clean-env: inherit these too (A,B)', listArgument)
    .option('--blind', 'give the program masked tokens instead of the values')
    .addOption(
      new Option('--grace <duration>', 'time between TERM and KILL when kz is asked to stop')
        .argParser(durationArgument)
        .default(GRACE_MS, '1500ms'),
    )
    .passThroughOptions()
    .addHelpText('after', '\nExample:\n  kz run -- node server.js\n  kz run --only GITHUB_TOKEN --env production -- npx -y some-mcp-server')
    .action(run);
}

async function run(words: string[], flags: RunFlags): Promise<void> {
  const [program, ...args] = words;
  if (program === undefined || program === '') throw new KzError('usage', 'no program to run', { hint: 'kz run -- node server.js' });
  if (flags.blind === true) {
    // Started in the clear instead, the program would hold every value that its user meant to keep from it.
    throw new KzError('usage', '--blind is not built yet, and the program was not started', {
      hint: 'leave --blind out to pass real values',
    });
  }
  const descriptors = inheritedDescriptors();
  const signals = new Signals();
  try {
    const { variables: env } = await prepared(flags, signals);
    mirror(await runChild([program, ...args], { env, descriptors, graceMs: flags.grace, signals }));
  } finally {
    signals.close();
  }
}

async function prepared(flags: RunFlags, signals: Signals): Promise<ChildEnvironment> {
  const { config, access } = await openConfig(flags);
  const options = { only: flags.only, clean: flags.cleanEnv ?? false, keep: flags.keepEnv ?? [] };
  const { secrets, environment } = await withDeadline(flags, (signal) => prepare(config, options, access, signal), signals);
  for (const { path, how } of config.files) detail(`config ${path} (${how})`);
  for (const secret of secrets) detail(summary(secret));
  if (environment.replaced.length > 0) detail(`replaced inherited: ${environment.replaced.join(', ')}`);
  if (environment.removed.length > 0) detail(`not passed on: ${environment.removed.join(', ')}`);
  return environment;
}

function summary(secret: Resolved): string {
  return `${secret.name}=${presence(secret)} from ${secret.source.provider} ${secret.source.ref}`;
}
