// Why does it not work here? Everything that has a part in it, looked at at once: config, providers, secrets, leases, keychain, machine,
// runtimes, and with `live` whether credentials still work. Collects and never throws; reads values and tells none.
import { setMaxListeners } from 'node:events';
import type { Config } from '../config/load.ts';
import { sandboxSettings } from '../config/sandbox-settings.ts';
import type { FoundFile } from '../config/find.ts';
import { KzError } from '../core/errors.ts';
import { Remasker } from '../mask/remask.ts';
import type { Rule } from '../policy/rule.ts';
import { keychainFacts, type KeychainFacts } from '../providers/keychain-facts.ts';
import type { Lease } from '../providers/provider.ts';
import type { Access } from '../providers/resolve.ts';
import { resolveSecrets, type Resolved } from '../providers/secrets.ts';
import { wide } from '../providers/wide.ts';
import { probeSandbox, sandboxTools, type SandboxAvailability, type SandboxTools } from '../sandbox/availability.ts';
import { checkBlind } from './blind-check.ts';
import { rulesOf } from './blind-rules.ts';
import { blindSecrets } from './blind-secrets.ts';
import { checkCredential, checkText, credentialDialer, unsendable, type CheckedSecret, type CredentialHealth } from './credential-check.ts';
import { isForDatabase } from './database.ts';
import { lookAtMachine, type Machine } from './doctor-machine.ts';
import { askProvider, isExplained, providerFinding, usedProviders, type ProviderFinding } from './doctor-providers.ts';
import { findRuntimes, type Runtime } from './doctor-runtimes.ts';
import type { Variables } from './environment.ts';

/** A config that was loaded, or why none was. */
export interface Subject {
  readonly found: { readonly files: readonly FoundFile[]; readonly searched: readonly string[] };
  readonly opened: { readonly config: Config; readonly access: Access } | undefined;
  /** Of loading it. */
  readonly problems: readonly KzError[];
}

export interface DoctorOptions {
  readonly env: Variables;
  /** The path by which kz was started. */
  readonly program: string;
  /** Send the requests of `check`. */
  readonly live: boolean;
  /** Default: those of this machine. */
  readonly tools?: SandboxTools;
}

export interface Diagnosis {
  readonly config: ConfigFinding;
  readonly providers: readonly ProviderFinding[];
  readonly secrets: readonly SecretFinding[];
  readonly leases: readonly LeaseFinding[];
  readonly checks: readonly CheckFinding[];
}

export interface Surroundings {
  readonly keychain: KeychainFacts;
  readonly machine: Machine;
  readonly runtimes: readonly Runtime[];
  readonly sandbox: SandboxAvailability;
}

export interface ConfigFinding {
  readonly files: readonly FoundFile[];
  readonly searched: readonly string[];
  readonly config: Config | undefined;
  readonly problems: readonly KzError[];
  readonly warnings: readonly string[];
}

export interface SecretFinding {
  readonly secret: Resolved;
  /** Its provider's own error says it all. */
  readonly isExplained: boolean;
  readonly concerns: readonly Concern[];
}

/** What does not stop anything, and may be what somebody is looking for. */
export type Concern =
  | { readonly kind: 'short' }
  | { readonly kind: 'any-host' }
  | { readonly kind: 'database' }
  /** A blind run would not start with it. */
  | { readonly kind: 'not-blind'; readonly error: KzError };

export interface LeaseFinding {
  readonly provider: string;
  /** The secrets that live as long; none: what kz is logged in with. */
  readonly names: readonly string[];
  readonly expiresAt: number;
  readonly remainingMs: number;
  readonly renewable: boolean;
}

export interface CheckFinding {
  readonly name: string;
  /** Method and address. */
  readonly request: string;
  readonly health: CredentialHealth | NotAsked;
}

export type NotAsked =
  | { readonly state: 'not-asked'; readonly why: 'no-live' | 'no-value' }
  /** It would not be sent with `live` either. */
  | { readonly state: 'not-asked'; readonly why: 'not-allowed'; readonly error: KzError };

/** What has nothing to do with any config. Before `diagnose`: starting a dozen programs would be in what the providers seem to take. */
export async function lookAround({ env, program, tools = sandboxTools() }: DoctorOptions, signal: AbortSignal): Promise<Surroundings> {
  setMaxListeners(0, signal);
  const [machine, runtimes, sandbox] = await Promise.all([
    lookAtMachine(env, program),
    findRuntimes({ env }, signal),
    probeSandbox(tools, {}, signal),
  ]);
  return { machine, runtimes, keychain: keychainFacts(), sandbox };
}

/** When the signal aborts, what was not known by then has an error that says so. */
export async function diagnose(subject: Subject, options: DoctorOptions, signal: AbortSignal): Promise<Diagnosis> {
  setMaxListeners(0, signal);
  const [config, asked] = await Promise.all([
    lookAtConfig(subject),
    subject.opened === undefined ? NOTHING : askAll(subject.opened, options, signal),
  ]);
  return { config, ...asked };
}

/** Does everything work that the config needs? Warnings have no say. */
export function isHealthy(diagnosis: Diagnosis & Pick<Surroundings, 'sandbox'>): boolean {
  const { config, providers, secrets, checks } = diagnosis;
  return (
    !lacksSandbox(diagnosis) &&
    config.problems.length === 0 &&
    providers.every(({ state }) => state !== 'failed') &&
    secrets.every(({ secret }) => secret.state !== 'failed') &&
    checks.every(({ health }) => health.state === 'accepted' || health.state === 'not-asked')
  );
}

/** The config insists on a sandbox, and there is none. */
export function lacksSandbox({ config: { config }, sandbox }: Pick<Diagnosis, 'config'> & Pick<Surroundings, 'sandbox'>): boolean {
  return sandbox.level === 'none' && sandboxSettings(config?.blind).mode === 'strict';
}

type Asked = Omit<Diagnosis, 'config'>;

const NOTHING: Asked = { providers: [], secrets: [], leases: [], checks: [] };

async function lookAtConfig({ found, opened, problems }: Subject): Promise<ConfigFinding> {
  const config = opened?.config;
  if (config === undefined) return { ...found, config, problems, warnings: [] };
  const { files, searched } = config;
  try {
    const { warnings } = await checkBlind(config);
    return { files, searched, config, problems, warnings };
  } catch (error) {
    if (!(error instanceof KzError)) throw error;
    return { files, searched, config, problems: [...problems, ...flat(error)], warnings: [] };
  }
}

export function flat(error: KzError): readonly KzError[] {
  return error.code === 'several' ? error.problems : [error];
}

/** Leases are given back even when time is over: so long for that. */
const CLOSE_MS = 1_000;

async function askAll(opened: { config: Config; access: Access }, options: DoctorOptions, signal: AbortSignal): Promise<Asked> {
  const { config, access } = opened;
  try {
    const names = usedProviders(config);
    const [answers, { secrets }] = await Promise.all([
      Promise.all(names.map((name) => askProvider(name, access, signal))),
      resolveSecrets(config, {}, access, signal),
    ]);
    const providers = await Promise.all(
      names.map((name, index) => providerFinding(name, answers[index] ?? { state: 'no-check' }, secrets, access)),
    );
    const findings = await lookAtSecrets(config, secrets, providers);
    const checks = await proveCredentials(config, secrets, options, signal);
    return { providers, secrets: findings, leases: leasesOf(secrets, providers), checks };
  } finally {
    await access.close(AbortSignal.timeout(CLOSE_MS));
  }
}

async function lookAtSecrets(
  config: Config,
  secrets: readonly Resolved[],
  providers: readonly ProviderFinding[],
): Promise<SecretFinding[]> {
  const rules = await usableRules(config);
  return secrets.map((secret) => {
    const provider = providers.find(({ name }) => name === secret.source.provider);
    return {
      secret,
      isExplained: secret.state === 'failed' && isExplained(secret.error, provider),
      concerns: concernsOf(config, secret, rules),
    };
  });
}

/** Rules that are wrong are among the config's problems already. */
async function usableRules(config: Config): Promise<readonly Rule[]> {
  try {
    return await rulesOf(config);
  } catch {
    return [];
  }
}

function concernsOf(config: Config, secret: Resolved, rules: readonly Rule[]): Concern[] {
  if (secret.state !== 'set') return [];
  const short: Concern[] = Remasker.tooShort(secret.secret) ? [{ kind: 'short' }] : [];
  try {
    const { guarded, exposed } = blindSecrets(config, [secret], rules);
    if (exposed.size > 0) return short;
    const database: Concern[] = isForDatabase(secret.secret) ? [{ kind: 'database' }] : [];
    const open: Concern[] = guarded.some(({ scope }) => scope.from === 'any') ? [{ kind: 'any-host' }] : [];
    return [...short, ...database, ...open];
  } catch (error) {
    if (!(error instanceof KzError)) throw error;
    return [...short, { kind: 'not-blind', error }];
  }
}

/** Values that come from one lease live and end together. */
function leasesOf(secrets: readonly Resolved[], providers: readonly ProviderFinding[]): LeaseFinding[] {
  const now = Date.now();
  const finding = (provider: string, names: readonly string[], { expiresAt, renewable }: Lease): LeaseFinding => {
    return { provider, names, expiresAt, remainingMs: expiresAt - now, renewable };
  };
  const groups = new Map<string, { provider: string; names: string[]; lease: Lease }>();
  for (const secret of secrets) {
    if (secret.state !== 'set' || secret.lease === undefined) continue;
    const { provider } = secret.source;
    const key = `${provider}\0${secret.lease.id}`;
    const group = groups.get(key) ?? { provider, names: [], lease: secret.lease };
    group.names.push(secret.name);
    groups.set(key, group);
  }
  return [
    ...providers.flatMap(({ name, login }) => (login === undefined ? [] : [finding(name, [], login)])),
    ...[...groups.values()].map(({ provider, names, lease }) => finding(provider, names, lease)),
  ];
}

async function proveCredentials(
  config: Config,
  secrets: readonly Resolved[],
  { env, live }: DoctorOptions,
  signal: AbortSignal,
): Promise<CheckFinding[]> {
  const checked = [...config.secrets.values()].flatMap(({ name, check, hosts, swap }): CheckedSecret[] =>
    check === undefined ? [] : [{ name, check, hosts, swap }],
  );
  const unasked = (declaration: CheckedSecret, why: 'no-live' | 'no-value'): CheckFinding => {
    return { name: declaration.name, request: checkText(declaration.check), health: { state: 'not-asked', why } };
  };
  if (!live || checked.length === 0) {
    return checked.map((declaration) => {
      const error = unsendable(declaration);
      const finding = unasked(declaration, 'no-live');
      return error === undefined ? finding : { ...finding, health: { state: 'not-asked', why: 'not-allowed', error } };
    });
  }
  const dialer = await usableDialer(config, env);
  return wide(checked, async (declaration) => {
    const secret = secrets.find(({ name }) => name === declaration.name);
    if (secret?.state !== 'set') return unasked(declaration, 'no-value');
    const health: CredentialHealth =
      dialer instanceof KzError
        ? { state: 'not-sent', error: dialer }
        : await checkCredential(declaration, secret.secret, { dialer }, signal);
    return { name: declaration.name, request: checkText(declaration.check), health };
  });
}

async function usableDialer(config: Config, env: Variables): Promise<Awaited<ReturnType<typeof credentialDialer>> | KzError> {
  try {
    return await credentialDialer(config.blind, env);
  } catch (error) {
    if (error instanceof KzError) return error;
    throw error;
  }
}
