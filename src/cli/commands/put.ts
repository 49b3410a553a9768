// `kz put`: write a value where the config says it lives. The value comes from the terminal, a pipe or a file, never from the command line,
// which shells remember and every process can read.
import { readFileSync } from 'node:fs';
import { isatty } from 'node:tty';
import type { Command } from 'commander';
import type { Config, Declaration } from '../../config/load.ts';
import { KzError, systemCode } from '../../core/errors.ts';
import type { Access } from '../../providers/resolve.ts';
import { resolveSecrets, undeclared, type Resolved } from '../../providers/secrets.ts';
import { openConfig, withConfigFlags, withDeadline, withTimeoutFlag, type ConfigFlags } from '../options.ts';
import { hasTerminal } from '../prompt.ts';
import { notice, printError } from '../ui.ts';
import { acceptable, askForValue, destinationOf, openForWriting, writeAndReadBack, type WritableProvider } from '../write-secret.ts';

interface PutFlags extends ConfigFlags {
  readonly missing?: boolean;
  readonly fromFile?: string;
}

export function definePut(command: Command): void {
  withTimeoutFlag(withConfigFlags(command))
    .argument('[name]', 'the secret, as the config calls it')
    .option('--missing', 'ask for every secret that has no value yet')
    .option('--from-file <path>', 'read the value from a file')
    .addHelpText('after', '\nExample:\n  kz put GITHUB_TOKEN\n  kz put TLS_KEY < key.pem\n  kz put --missing')
    .action(put);
}

async function put(name: string | undefined, flags: PutFlags): Promise<void> {
  if ((name === undefined) === (flags.missing !== true)) {
    throw new KzError('usage', 'name one secret, or use --missing', { hint: 'kz put GITHUB_TOKEN' });
  }
  const { config, access } = await openConfig(flags);
  if (name === undefined) return putMissing(config, access, flags);
  const declaration = config.secrets.get(name);
  if (declaration === undefined) throw undeclared(name, [...config.secrets.keys()]);
  const provider = await openForWriting(declaration, access);
  notice(`${name} goes to ${destinationOf(declaration, provider)}`);
  const value = await readValue(declaration, flags);
  await store(declaration, value, { provider, flags });
}

async function putMissing(config: Config, access: Access, flags: PutFlags): Promise<void> {
  const resolved = await withDeadline(flags, (signal) => resolveSecrets(config, {}, access, signal));
  const open = resolved.filter(isMissing);
  const elsewhere = resolved.filter((secret) => secret.state === 'failed' && !isMissing(secret));
  if (open.length === 0 && elsewhere.length === 0) {
    notice('every required secret has a value');
    return;
  }
  if (open.length > 0 && !hasTerminal()) throw nobodyToAsk(open);
  let left = elsewhere.length;
  for (const [index, { name }] of open.entries()) {
    const declaration = config.secrets.get(name);
    if (declaration === undefined) continue;
    if (open.length > 1) notice(`[${String(index + 1)}/${String(open.length)}] ${name}`);
    if (!(await putOne(declaration, access, flags))) left += 1;
  }
  for (const secret of elsewhere) if (secret.state === 'failed') printError(secret.error);
  if (left > 0) process.exitCode = 1;
}

/** Missing, or stored with a shape that its declaration refuses: what a person at the terminal can mend. */
function isMissing(secret: Resolved): boolean {
  return secret.state === 'failed' && ['secret-missing', 'secret-empty', 'secret-invalid'].includes(secret.error.code);
}

function nobodyToAsk(open: readonly Resolved[]): KzError {
  const names = open.map(({ name }) => name);
  return new KzError('no-terminal', `there is no terminal to ask on; missing: ${names.join(', ')}`, {
    hint: `pipe them one at a time: kz put ${names[0] ?? 'NAME'} < FILE`,
  });
}

/** Asks until the value is acceptable; an empty line skips. False when the secret still has no value. */
async function putOne(declaration: Declaration, access: Access, flags: PutFlags): Promise<boolean> {
  try {
    const provider = await openForWriting(declaration, access);
    notice(`${declaration.name} goes to ${destinationOf(declaration, provider)} (leave empty to skip)`);
    for (;;) {
      const value = await askForValue(declaration, notice);
      if (value === '') return false;
      try {
        await store(declaration, value, { provider, flags });
        return true;
      } catch (error) {
        if (!(error instanceof KzError) || error.code !== 'secret-invalid') throw error;
        printError(error);
      }
    }
  } catch (error) {
    if (!(error instanceof KzError) || error.code === 'cancelled') throw error;
    printError(error);
    return false;
  }
}

async function store(declaration: Declaration, value: string, to: { provider: WritableProvider; flags: PutFlags }): Promise<void> {
  const secret = acceptable(declaration, value);
  await withDeadline(to.flags, (signal) => writeAndReadBack(declaration, secret, to.provider, signal));
  notice(`${declaration.name}=set(${String(secret.length)} chars) in ${declaration.provider} ${declaration.ref}`);
}

async function readValue(declaration: Declaration, flags: PutFlags): Promise<string> {
  if (flags.fromFile !== undefined) return readText(flags.fromFile, flags.fromFile);
  if (isatty(0)) return askForValue(declaration, notice);
  return readText(0, 'standard input');
}

/** One newline at the end is the editor's or echo's, not the secret's. */
function readText(from: string | 0, what: string): string {
  try {
    const text = new TextDecoder('utf-8', { fatal: true }).decode(readFileSync(from));
    return text.replace(/\r?\n$/, '');
  } catch (error) {
    const reason = error instanceof TypeError ? 'it is not UTF-8 text' : (systemCode(error) ?? 'unknown error');
    throw new KzError('secret-invalid', `cannot read the value from ${what}: ${reason}`, { cause: error });
  }
}
