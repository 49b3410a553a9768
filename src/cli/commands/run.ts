// `kz run`: resolve, then spawn.
import { basename } from 'node:path';
import { Option, type Command } from 'commander';
import type { Config } from '../../config/load.ts';
import { ON_ROTATE } from '../../config/rotation.ts';
import { KzError } from '../../core/errors.ts';
import { suggest } from '../../core/suggest.ts';
import type { Resolved } from '../../providers/secrets.ts';
import type { Access } from '../../providers/resolve.ts';
import type { Notice } from '../../run/blind-secrets.ts';
import type { ChildEnd } from '../../run/child-tree.ts';
import { runChild, type ChildOptions, type Command as ChildCommand } from '../../run/child.ts';
import { openRedaction, runDirect } from '../../run/direct.ts';
import type { ChildEnvironment } from '../../run/environment.ts';
import { inheritedDescriptors } from '../../run/inherited-descriptors.ts';
import { prepare, resolveAll } from '../../run/prepare.ts';
import type { Redaction } from '../../run/redaction.ts';
import { Signals } from '../../run/signals.ts';
import { PRELOAD, VERSION } from '../built.ts';
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
  const resolution = await withDeadline(flags, (signal) => resolveAll(config, flags, access, signal), child.signals);
  const { openBlindRun } = await import('../../run/blind.ts');
  const run = await openBlindRun(config, resolution, {
    env: access.context.env,
    access,
    version: VERSION,
    command: basename(command[0]),
    preload: PRELOAD,
    clean: flags.cleanEnv ?? false,
    keep: flags.keepEnv ?? [],
    tell,
  });
  report(config, resolution.secrets, run.environment);
  let status = 'not started';
  try {
    const redaction = await blindRedaction(config, resolution.secrets, flags.redact);
    const end = await runChild(command, { env: run.environment.variables, output: redaction?.output, ...child });
    status = 'code' in end ? `exit ${String(end.code)}` : `signal ${end.signal}`;
    return end;
  } finally {
    await run.close(status);
  }
}

/** A blind child has only what is exposed; the rest it cannot print. */
async function blindRedaction(config: Config, secrets: readonly Resolved[], wanted: boolean | undefined): Promise<Redaction | undefined> {
  const hidden = secrets
    .filter((each) => each.state === 'set')
    .filter(({ name }) => wanted === true || config.secrets.get(name)?.expose === true);
  return hidden.length === 0 ? undefined : openRedaction(hidden, wanted, tell);
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

function summary(secret: Resolved): string {
  return `${secret.name}=${presence(secret)} from ${secret.source.provider} ${secret.source.ref}`;
}
