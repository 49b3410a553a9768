// `kz run`: resolve, then spawn.
import { Option, type Command } from 'commander';
import type { Config } from '../../config/load.ts';
import { ON_ROTATE } from '../../config/rotation.ts';
import { SANDBOX_MODES, type SandboxMode } from '../../config/sandbox-settings.ts';
import { KzError } from '../../core/errors.ts';
import { suggest } from '../../core/suggest.ts';
import type { Resolved } from '../../providers/secrets.ts';
import type { Access } from '../../providers/resolve.ts';
import type { Notice } from '../../run/blind-secrets.ts';
import type { ChildEnd } from '../../run/child-tree.ts';
import type { ChildOptions, Command as ChildCommand } from '../../run/child.ts';
import { runDirect } from '../../run/direct.ts';
import type { ChildEnvironment } from '../../run/environment.ts';
import { inheritedDescriptors } from '../../run/inherited-descriptors.ts';
import { prepare, resolveAll } from '../../run/prepare.ts';
import { Signals } from '../../run/signals.ts';
import { PRELOAD, PROGRAMS, VERSION } from '../built.ts';
import { mirror } from '../exit.ts';
import {
  durationArgument,
  giveBack,
  listArgument,
  openConfig,
  withConfigFlags,
  withDeadline,
  withTimeoutFlag,
  type ConfigFlags,
} from '../options.ts';
import { detail, everythingTold, tellWithoutWaiting } from '../ui.ts';
import { presence } from '../presence.ts';

interface RunFlags extends ConfigFlags {
  readonly only?: string[];
  readonly cleanEnv?: boolean;
  readonly keepEnv?: string[];
  readonly blind?: boolean;
  readonly sandbox?: SandboxMode;
  readonly redact?: boolean;
  readonly onRotate?: string;
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
      new Option('--sandbox <mode>', 'with --blind: auto (where this machine can), strict (or do not start), off').argParser(
        sandboxArgument,
      ),
    )
    .option('--redact', 'hide the values in what the program prints, also on a terminal')
    .option('--no-redact', 'hide nothing, also where the output is piped')
    .addOption(new Option('--on-rotate <action>', 'when a secret changes: restart, none, signal:HUP').argParser(rotateArgument))
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
  if (flags.sandbox !== undefined && flags.blind !== true) {
    throw new KzError('usage', '--sandbox is for blind programs', { hint: 'kz run --blind --sandbox strict -- node agent.js' });
  }
  const descriptors = inheritedDescriptors();
  const signals = new Signals();
  let mirrored: ChildEnd;
  try {
    const child = { descriptors, graceMs: flags.grace, signals };
    const { config, access } = await openConfig(flags);
    try {
      mirrored = await (flags.blind === true ? runBlind : runWithValues)([program, ...args], { flags, config, access, child });
    } finally {
      await giveBack(access);
    }
  } finally {
    signals.close();
  }
  mirror((await everythingTold()) ? mirrored : { signal: 'SIGTERM' });
}

interface Run {
  readonly flags: RunFlags;
  readonly config: Config;
  readonly access: Access;
  readonly child: Omit<ChildOptions, 'env'>;
}

async function runWithValues(command: ChildCommand, { flags, config, access, child }: Run): Promise<ChildEnd> {
  const options = { only: flags.only, clean: flags.cleanEnv ?? false, keep: flags.keepEnv ?? [] };
  const prepared = await withDeadline(flags, (signal) => prepare(config, options, access, signal), child.signals);
  report(config, prepared.secrets, prepared.environment);
  return runDirect(command, { config, access, prepared, redact: flags.redact, onRotate: flags.onRotate, tell, ...child });
}

function tell({ level, text }: Notice): void {
  tellWithoutWaiting(level, text);
}

/** What `-v` says, before the program starts. */
function report(config: Config, secrets: readonly Resolved[], environment: ChildEnvironment): void {
  for (const { path, how } of config.files) detail(`config ${path} (${how})`);
  for (const secret of secrets) detail(summary(secret));
  if (environment.replaced.length > 0) detail(`replaced inherited: ${environment.replaced.join(', ')}`);
  if (environment.removed.length > 0) detail(`not passed on: ${environment.removed.join(', ')}`);
}

async function runBlind(command: ChildCommand, { flags, config, access, child }: Run): Promise<ChildEnd> {
  const { runBlindChild } = await import('../../run/blind-child.ts');
  const within = <T>(action: (signal: AbortSignal) => Promise<T>): Promise<T> => withDeadline(flags, action, child.signals);
  return runBlindChild(command, config, {
    ...{ access, tell, within, version: VERSION, preload: PRELOAD, programs: PROGRAMS },
    ...child,
    env: access.context.env,
    clean: flags.cleanEnv ?? false,
    keep: flags.keepEnv ?? [],
    sandbox: flags.sandbox,
    redact: flags.redact,
    resolve: () => within((signal) => resolveAll(config, flags, access, signal)),
    onPrepared: (secrets, { environment }) => {
      report(config, secrets, environment);
    },
  });
}

/** The schema's own check, for a flag. */
function rotateArgument(text: string): string {
  if (ON_ROTATE.test(text)) return text;
  const signal = `signal:${text.replace(/^(?:signal:)?(?:SIG)?/i, '').toUpperCase()}`;
  const near = ON_ROTATE.test(signal) ? signal : suggest(text, ['restart', 'none']);
  throw new KzError('usage', `--on-rotate cannot be ${JSON.stringify(text)}`, {
    hint: near === undefined ? 'one of restart, none, signal:HUP (INT, TERM, QUIT, USR1, USR2)' : `did you mean ${near}?`,
  });
}

function sandboxArgument(text: string): SandboxMode {
  const mode = SANDBOX_MODES.find((each) => each === text);
  if (mode !== undefined) return mode;
  const near = suggest(text, SANDBOX_MODES);
  throw new KzError('usage', `--sandbox cannot be ${JSON.stringify(text)}`, {
    hint: near === undefined ? `one of ${SANDBOX_MODES.join(', ')}` : `did you mean ${near}?`,
  });
}

function summary(secret: Resolved): string {
  return `${secret.name}=${presence(secret)} from ${secret.source.provider} ${secret.source.ref}`;
}
