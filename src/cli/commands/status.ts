// `kz status`: which secrets are there. Presence, never value.
import type { Command } from 'commander';
import type { Config } from '../../config/load.ts';
import { KzError } from '../../core/errors.ts';
import { resolveSecrets, type Resolved } from '../../providers/secrets.ts';
import { giveBack, openConfig, withConfigFlags, withDeadline, withTimeoutFlag, type ConfigFlags } from '../options.ts';
import { NOTHING_DECLARED, presence } from '../presence.ts';
import { detail, notice, print, printError, printJson, table } from '../ui.ts';

interface StatusFlags extends ConfigFlags {
  readonly json?: boolean;
}

export function defineStatus(command: Command): void {
  withTimeoutFlag(withConfigFlags(command))
    .option('--json', 'print JSON')
    .addHelpText('after', '\nExits with 1 when a required secret is missing or invalid.\n\nExample:\n  kz status --env production')
    .action(status);
}

async function status(flags: StatusFlags): Promise<void> {
  const { config, access } = await openConfig(flags);
  const reading = withDeadline(flags, (signal) => resolveSecrets(config, {}, access, signal));
  const { secrets } = await reading.finally(() => giveBack(access));
  const failures = secrets.flatMap((secret) => (secret.state === 'failed' ? [secret.error] : []));
  if (flags.json === true) printJson(document(config, secrets));
  else {
    for (const file of config.files) detail(`config ${file.path} (${file.how})`);
    if (secrets.length === 0) notice(NOTHING_DECLARED);
    else print(table([['NAME', 'STATUS', 'PROVIDER', 'REF', 'TOOK'], ...secrets.map(cells)]));
    if (failures.length > 0) printError(KzError.all(failures));
  }
  if (failures.length > 0) process.exitCode = 1;
}

function cells(secret: Resolved): string[] {
  const { name, source, tookMs } = secret;
  const state = secret.state === 'failed' ? secret.error.code.replace(/^secret-/, '') : presence(secret);
  return [name, state, source.provider, source.ref, `${tookMs.toFixed(0)} ms`];
}

function document(config: Config, secrets: readonly Resolved[]): unknown {
  return {
    schema_version: 1,
    environment: config.environment?.name ?? null,
    files: config.files.map(({ path, how }) => ({ path, how })),
    secrets: secrets.map((secret) => ({
      name: secret.name,
      state: secret.state,
      provider: secret.source.provider,
      ref: secret.source.ref,
      took_ms: Math.round(secret.tookMs),
      ...(secret.state === 'set' ? { length: secret.secret.length, from: secret.from } : {}),
      ...(secret.state === 'failed'
        ? { error: { code: secret.error.code, message: secret.error.message, hint: secret.error.hint ?? null } }
        : {}),
    })),
  };
}
