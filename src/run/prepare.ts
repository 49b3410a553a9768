// Everything between a configuration and a child: resolve what it may have, refuse when anything is missing, build its environment.
import type { Config } from '../config/load.ts';
import { KzError } from '../core/errors.ts';
import type { Access } from '../providers/resolve.ts';
import { resolveSecrets, type Resolution, type Resolved, type Selection } from '../providers/secrets.ts';
import { childEnvironment, type ChildEnvironment } from './environment.ts';

export interface PrepareOptions extends Selection {
  readonly clean: boolean;
  readonly keep: readonly string[];
}

export interface Prepared {
  readonly secrets: readonly Resolved[];
  readonly environment: ChildEnvironment;
  /** The environment with these secrets instead, after a rotation. Throws `secret-invalid` for a value that none can hold. */
  readonly withSecrets: (secrets: readonly Resolved[]) => ChildEnvironment;
}

/** Throws what `resolveAll` throws. */
export async function prepare(config: Config, options: PrepareOptions, access: Access, signal: AbortSignal): Promise<Prepared> {
  const { secrets, names } = await resolveAll(config, options, access, signal);
  const withSecrets = (some: readonly Resolved[]): ChildEnvironment =>
    childEnvironment(access.context.env, {
      secrets: new Map(some.flatMap((secret) => (secret.state === 'set' ? [[secret.name, secret.secret]] : []))),
      declared: names,
      clean: options.clean,
      keep: options.keep,
    });
  return { secrets, environment: withSecrets(secrets), withSecrets };
}

/** Throws one error that holds every missing or invalid secret: a program never starts with half of them. */
export async function resolveAll(config: Config, selection: Selection, access: Access, signal: AbortSignal): Promise<Resolution> {
  const resolution = await resolveSecrets(config, selection, access, signal);
  const problems = resolution.secrets.flatMap((secret) => (secret.state === 'failed' ? [secret.error] : []));
  if (problems.length > 0) throw KzError.all(problems);
  return resolution;
}
