// Flags that several commands share, and what they open.
import { Option, type Command } from 'commander';
import { loadConfig, type Config } from '../config/load.ts';
import { userDirectory } from '../config/find.ts';
import { parseDuration } from '../core/duration.ts';
import { KzError } from '../core/errors.ts';
import { suggest } from '../core/suggest.ts';
import { Access } from '../providers/resolve.ts';
import type { ProviderContext } from '../providers/provider.ts';
import type { Resolved } from '../providers/secrets.ts';
import { Signals } from '../run/signals.ts';
import { interruptible } from './exit.ts';
import { setVoice } from './ui.ts';

export interface ConfigFlags {
  readonly config?: string;
  readonly env?: string;
  readonly quiet?: boolean;
  readonly verbose?: boolean;
  /** Milliseconds; set by commands that ask providers. */
  readonly timeout?: number;
}

/** MCP clients give a server 30 seconds to answer; two thirds of that leave it time to start. */
const DEFAULT_TIMEOUT_MS = 20_000;

export function withConfigFlags(command: Command): Command {
  return command
    .option('-c, --config <file>', 'use this file instead of looking for .keyzero.toml')
    .option('-e, --env <name>', 'environment: use [<name>.secrets] (default: $KEYZERO_ENV)')
    .option('-q, --quiet', 'print errors only')
    .option('-v, --verbose', 'say what was found where (never values)');
}

export function withTimeoutFlag(command: Command): Command {
  return command.addOption(
    new Option('--timeout <duration>', 'longest wait for the providers').argParser(durationArgument).default(DEFAULT_TIMEOUT_MS, '20s'),
  );
}

/** A command that is nothing without one of these behind it. */
export function withSubcommands(command: Command, names: readonly string[]): void {
  command
    .usage('<command> [options]')
    .argument('[command]')
    .action((typed: string | undefined) => {
      const whole = `kz ${command.name()}`;
      const near = typed === undefined ? undefined : suggest(typed, names);
      const hint = near === undefined ? names.map((name) => `\`${whole} ${name}\``).join(' or ') : `did you mean \`${whole} ${near}\`?`;
      throw new KzError('usage', typed === undefined ? `${whole} needs a command` : `${whole} has no command ${JSON.stringify(typed)}`, {
        hint,
      });
    });
}

/** Milliseconds. Throws a usage error for anything that is not a duration. */
export function durationArgument(text: string): number {
  const ms = parseDuration(text);
  if (ms === undefined) throw new KzError('usage', `${JSON.stringify(text)} is not a duration such as 500ms, 20s or 12h`);
  return ms;
}

/** `A,B` and repeated flags both work. */
export function listArgument(text: string, previous: readonly string[] | undefined): string[] {
  const names = text
    .split(',')
    .map((name) => name.trim())
    .filter((name) => name !== '');
  // What was meant is a variable that is not set; taken as it stands, `--only ''` would start a program without any secret.
  if (names.length === 0) throw new KzError('usage', 'an empty list of names', { hint: 'write the names with commas: A,B' });
  return [...(previous ?? []), ...names];
}

export interface Opened {
  readonly config: Config;
  readonly access: Access;
}

export async function openConfig(flags: ConfigFlags): Promise<Opened> {
  useVoice(flags);
  const config = await loadConfig({ explicit: flags.config, environment: flags.env, env: process.env, cwd: workingFolder() });
  return { config, access: new Access(config.providers, providerContext()) };
}

/** Throws `config-not-found` where there is none any more: in a shell whose folder was removed. */
export function workingFolder(): string {
  try {
    return process.cwd();
  } catch (error) {
    throw new KzError('config-not-found', 'the working folder is gone', { hint: 'cd to one that is there', cause: error });
  }
}

/** After the last use of what was read: leases and logins would outlive kz. Nobody waits long for it. */
export async function giveBack(access: Access): Promise<void> {
  await access.close(AbortSignal.timeout(GIVE_BACK_MS));
}

/** For a command that gives values away: what has a lease must live on, and the login that it hangs on with it. */
export async function giveBackUnlessLeased(access: Access, secrets: readonly Resolved[]): Promise<void> {
  if (!secrets.some((each) => each.state === 'set' && each.lease !== undefined)) await giveBack(access);
}

const GIVE_BACK_MS = 1500;

export function providerContext(): ProviderContext {
  return { env: givenEnvironment(), userDirectory: userDirectory(process.env) };
}

/**
 * What kz was started with. One variable is not left in the process: Node asks for it at every TLS connection, in the libraries of the
 * providers too. It is meant for the programs that kz starts, which get it, and turns off no check of kz's own.
 */
function givenEnvironment(): ProviderContext['env'] {
  uncheckedTls ??= process.env[UNCHECKED_TLS];
  Reflect.deleteProperty(process.env, UNCHECKED_TLS);
  return uncheckedTls === undefined ? process.env : { ...process.env, [UNCHECKED_TLS]: uncheckedTls };
}

const UNCHECKED_TLS = 'NODE_TLS_REJECT_UNAUTHORIZED';
let uncheckedTls: string | undefined;

export function useVoice(flags: ConfigFlags): void {
  setVoice({ quiet: flags.quiet ?? false, verbose: flags.verbose ?? false });
}

/**
 * Aborts the action when its time is over or a signal arrives (then it throws `Interrupted`): the programs that providers started have
 * groups of their own, so nobody else ends them. The timer keeps the process alive on purpose: a provider that hangs without any open handle
 * must still time out.
 */
export async function withDeadline<T>(flags: ConfigFlags, action: (signal: AbortSignal) => Promise<T>, heldByCaller?: Signals): Promise<T> {
  const signals = heldByCaller ?? new Signals();
  const controller = new AbortController();
  const timer = setTimeout(() => {
    controller.abort();
  }, flags.timeout ?? DEFAULT_TIMEOUT_MS);
  try {
    return await interruptible(signals, controller.signal, action);
  } finally {
    clearTimeout(timer);
    if (heldByCaller === undefined) signals.close();
  }
}
