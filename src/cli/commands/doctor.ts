// `kz doctor`: why does it not work here? Looks at everything that has a part in it, and fails only after all of it was looked at.
import { realpathSync } from 'node:fs';
import type { Command } from 'commander';
import { findConfig } from '../../config/find.ts';
import { KzError } from '../../core/errors.ts';
import type { Lease } from '../../providers/provider.ts';
import {
  diagnose,
  flat,
  isHealthy,
  lookAround,
  type Surroundings,
  type CheckFinding,
  type Diagnosis,
  type LeaseFinding,
  type SecretFinding,
  type Subject,
} from '../../run/doctor.ts';
import type { ProviderFinding } from '../../run/doctor-providers.ts';
import { VERSION } from '../built.ts';
import { concernText, doctorText } from '../doctor-view.ts';
import { openConfig, withConfigFlags, withDeadline, withTimeoutFlag, workingFolder, type ConfigFlags } from '../options.ts';
import { print, printJson } from '../ui.ts';

interface DoctorFlags extends ConfigFlags {
  readonly json?: boolean;
  readonly live?: boolean;
}

const HELP = `
Looks at the config, asks each provider, reads each secret (and prints none),
and at what of this machine has a part in it. Exits with 1 when something
that the config needs does not work.

Example:
  kz doctor --live`;

export function defineDoctor(command: Command): void {
  withTimeoutFlag(withConfigFlags(command))
    .option('--live', 'also send the request of each secret’s `check`, with its value')
    .option('--json', 'print JSON')
    .addHelpText('after', HELP)
    .action(doctor);
}

async function doctor(flags: DoctorFlags): Promise<void> {
  const subject = await open(flags);
  const options = { env: process.env, program: programPath(), live: flags.live === true };
  // --timeout is for the providers.
  const surroundings = await withDeadline({}, (signal) => lookAround(options, signal));
  const diagnosis = { ...surroundings, ...(await withDeadline(flags, (signal) => diagnose(subject, options, signal))) };
  if (flags.json === true) printJson(document(diagnosis));
  else print(doctorText(diagnosis, { quiet: flags.quiet ?? false, verbose: flags.verbose ?? false, version: VERSION }));
  if (!isHealthy(diagnosis)) process.exitCode = 1;
}

/** No config, or a broken one, is something to tell, and not the end. */
async function open(flags: DoctorFlags): Promise<Subject> {
  try {
    const opened = await openConfig(flags);
    return { found: opened.config, opened, problems: [] };
  } catch (error) {
    if (!(error instanceof KzError) || error.code === 'usage') throw error;
    return { found: lookFor(flags), opened: undefined, problems: flat(error) };
  }
}

function lookFor({ config }: DoctorFlags): Subject['found'] {
  try {
    return findConfig({ explicit: config, env: process.env, cwd: workingFolder() });
  } catch {
    // What was named is not there, which the problem says already.
    return { files: [], searched: [] };
  }
}

function programPath(): string {
  const [, program = ''] = process.argv;
  try {
    return realpathSync(program);
  } catch {
    return program;
  }
}

function document(diagnosis: Diagnosis & Surroundings): unknown {
  const { config, providers, secrets, leases, checks, keychain, machine, runtimes, sandbox } = diagnosis;
  const environment = config.config?.environment;
  const { home, kzOnPath, kind, proxy, warnings, ...system } = machine;
  return {
    schema_version: 1,
    ok: isHealthy(diagnosis),
    config: {
      ok: config.problems.length === 0,
      files: config.files.map(({ path, layer, how }) => ({ path, layer, how })),
      searched: config.searched,
      environments: config.config?.environments ?? [],
      problems: config.problems.map(problemJson),
      warnings: config.warnings,
    },
    environment: environment === undefined ? null : { name: environment.name, chosen_by: environment.chosenBy },
    providers: providers.map(providerJson),
    secrets: secrets.map(secretJson),
    leases: leases.map(leaseJson),
    checks: checks.map(checkJson),
    keychain: { backend: keychain.backend, bus: keychain.bus ?? null, detail: keychain.detail },
    machine: {
      kz: VERSION,
      ...system,
      kind: kind ?? null,
      home: home ?? null,
      kz_on_path: kzOnPath ?? null,
      proxy: proxy ?? null,
      warnings: warnings.map(({ text, hint }) => ({ text, hint: hint ?? null })),
    },
    runtimes: runtimes.map(({ path, version, ...rest }) => ({ ...rest, path: path ?? null, version: version ?? null })),
    sandbox: sandboxJson(sandbox),
  };
}

function providerJson(provider: ProviderFinding): unknown {
  const { name, state, tookMs, login } = provider;
  return {
    name,
    state,
    took_ms: rounded(tookMs),
    detail: state === 'ok' ? provider.detail : null,
    login: login === undefined ? null : endJson(login),
    error: state === 'failed' && provider.error !== undefined ? problemJson(provider.error) : null,
  };
}

function secretJson({ secret, concerns }: SecretFinding): unknown {
  const { name, state, source, tookMs } = secret;
  return {
    name,
    state,
    provider: source.provider,
    ref: source.ref,
    took_ms: rounded(tookMs),
    ...(state === 'set' ? { length: secret.secret.length, from: secret.from } : {}),
    lease: state === 'set' && secret.lease !== undefined ? endJson(secret.lease) : null,
    warnings: concerns.map((concern) => ({ kind: concern.kind, text: concernText(concern) })),
    error: state === 'failed' ? problemJson(secret.error) : null,
  };
}

function leaseJson({ provider, names, remainingMs, ...end }: LeaseFinding): unknown {
  return { provider, of: names.length === 0 ? 'login' : 'secrets', names, ...endJson(end), remaining_ms: Math.round(remainingMs) };
}

/** Not the lease's id, which is a handle for whoever may revoke it. */
function endJson({ expiresAt, renewable }: Pick<Lease, 'expiresAt' | 'renewable'>): object {
  return { expires_at: new Date(expiresAt).toISOString(), renewable };
}

function checkJson({ name, request, health }: CheckFinding): unknown {
  return {
    name,
    request,
    state: health.state,
    why: 'why' in health ? health.why : null,
    status: ('status' in health ? health.status : undefined) ?? null,
    took_ms: rounded('tookMs' in health ? health.tookMs : undefined),
    error: 'error' in health ? problemJson(health.error) : null,
  };
}

function sandboxJson({ level, backend, version, why, fix }: Surroundings['sandbox']): unknown {
  return { level, backend: backend ?? null, version: version ?? null, why: why ?? null, fix: fix ?? null };
}

function problemJson({ code, message, hint, at }: KzError): unknown {
  return { code, message, hint: hint ?? null, file: at?.file ?? null, line: at?.line ?? null, column: at?.column ?? null };
}

function rounded(ms: number | undefined): number | null {
  return ms === undefined ? null : Math.round(ms);
}
