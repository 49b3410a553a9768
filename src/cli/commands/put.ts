// `kz put`: write a value where the config says it lives. The value comes from the terminal, a pipe or a file, never from the command line,
// which shells remember and every process can read.
import type { Command } from 'commander';
import type { Config, Declaration } from '../../config/load.ts';
import { KzError } from '../../core/errors.ts';
import type { Access } from '../../providers/resolve.ts';
import { resolveSecrets, type Resolved } from '../../providers/secrets.ts';
import { giveBack, openConfig, withConfigFlags, withDeadline, withTimeoutFlag, type ConfigFlags } from '../options.ts';
import { hasTerminal } from '../prompt.ts';
import { notice, printError } from '../ui.ts';
import {
  acceptable,
  askForValue,
  declarationOf,
  destinationOf,
  openForWriting,
  readValue,
  writeAndReadBack,
  type WritableProvider,
} from '../write-secret.ts';

interface PutFlags extends ConfigFlags {
  readonly missing?: boolean;
  readonly fromFile?: string;
}

export function definePut(command: Command): void {
  withTimeoutFlag(withConfigFlags(command))
    .argument('[name]', 'the secret, as the config calls it')
    .option('--missing', 'ask for every required secret that has no value yet')
    .option('--from-file <path>', 'read the value from a file')
    .addHelpText('after', '\nExample:\n  kz put GITHUB_TOKEN\n  kz put TLS_KEY < key.pem\n  kz put --missing')
    .allowExcessArguments()
    .action(async (name: string | undefined, flags: PutFlags) => {
      if (command.args.length > 1) throw valueAsArgument(name);
      await (flags.missing === true ? putMissing(name, flags) : put(name, flags));
    });
}

/** What people try first. The value itself is not repeated. */
function valueAsArgument(name = 'NAME'): KzError {
  return new KzError('usage', 'a value does not go on the command line: shells remember it, and every process can read it', {
    hint: `kz put ${name} asks for it; or pipe it: kz put ${name} < FILE`,
  });
}

async function put(name: string | undefined, flags: PutFlags): Promise<void> {
  if (name === undefined) throw new KzError('usage', 'name one secret, or use --missing', { hint: 'kz put GITHUB_TOKEN' });
  const { config, access } = await openConfig(flags);
  const declaration = declarationOf(name, config);
  const provider = await openForWriting(declaration, access);
  notice(`${name} goes to ${destinationOf(declaration, provider)}`);
  const value = await readValue(declaration, flags.fromFile);
  await store({ declaration, provider }, value, flags).finally(() => giveBack(access));
}

/** A secret that a person at the terminal can give a value. */
interface Target {
  readonly declaration: Declaration;
  readonly provider: WritableProvider;
}

async function putMissing(name: string | undefined, flags: PutFlags): Promise<void> {
  if (name !== undefined || flags.fromFile !== undefined) {
    throw new KzError('usage', '--missing asks for every value and takes no name and no file', { hint: 'kz put --missing' });
  }
  const { config, access } = await openConfig(flags);
  const { secrets: resolved } = await withDeadline(flags, (signal) => resolveSecrets(config, {}, access, signal));
  const { targets, others } = await sorted(resolved, config, access);
  if (targets.length === 0 && others.length === 0) notice('every required secret has a value');
  if (targets.length > 0 && !hasTerminal()) throw KzError.all([...others, nobodyToAsk(targets)]);
  let left = others.length;
  for (const [index, target] of targets.entries()) {
    if (targets.length > 1) notice(`[${String(index + 1)}/${String(targets.length)}] ${target.declaration.name}`);
    if (!(await putOne(target, flags))) left += 1;
  }
  await giveBack(access);
  for (const error of others) printError(error);
  if (left > 0) process.exitCode = 1;
}

/** What can be stored from here, and the errors of what has to be mended elsewhere. */
async function sorted(resolved: readonly Resolved[], config: Config, access: Access): Promise<{ targets: Target[]; others: KzError[] }> {
  const targets: Target[] = [];
  const others: KzError[] = [];
  for (const secret of resolved) {
    if (secret.state !== 'failed') continue;
    const target = isMissing(secret.error) ? await targetOf(config.secrets.get(secret.name), access) : undefined;
    if (target === undefined) others.push(secret.error);
    else targets.push(target);
  }
  return { targets, others };
}

/** Missing, or stored with a shape that its declaration refuses. */
function isMissing({ code }: KzError): boolean {
  return ['secret-missing', 'secret-empty', 'secret-invalid'].includes(code);
}

async function targetOf(declaration: Declaration | undefined, access: Access): Promise<Target | undefined> {
  try {
    return declaration === undefined ? undefined : { declaration, provider: await openForWriting(declaration, access) };
  } catch (error) {
    if (error instanceof KzError) return undefined;
    throw error;
  }
}

function nobodyToAsk(targets: readonly Target[]): KzError {
  const names = targets.map(({ declaration }) => declaration.name);
  return new KzError('no-terminal', `there is no terminal to ask on; missing: ${names.join(', ')}`, {
    hint: `pipe them one at a time: kz put ${names[0] ?? 'NAME'} < FILE`,
  });
}

/** Asks until the value is acceptable; an empty line skips. False when the secret still has no value. */
async function putOne(target: Target, flags: PutFlags): Promise<boolean> {
  const { declaration, provider } = target;
  notice(`${declaration.name} goes to ${destinationOf(declaration, provider)} (leave empty to skip)`);
  for (;;) {
    try {
      const value = await askForValue(declaration, notice);
      if (value === '') return false;
      await store(target, value, flags);
      return true;
    } catch (error) {
      if (!(error instanceof KzError) || error.code === 'cancelled') throw error;
      printError(error);
      if (error.code !== 'secret-invalid') return false;
    }
  }
}

async function store({ declaration, provider }: Target, value: string, flags: PutFlags): Promise<void> {
  const secret = acceptable(declaration, value);
  await withDeadline(flags, (signal) => writeAndReadBack(declaration, secret, provider, signal));
  notice(`${declaration.name}=set(${String(secret.length)} chars) in ${declaration.provider} ${declaration.ref}`);
}
