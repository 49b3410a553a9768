// The variables that hold what kz's providers log in with.
import type { Config } from '../config/load.ts';
import { LOGINS, SECRET_ZERO } from '../core/secret-zero.ts';
import { Secret } from '../core/secret.ts';
import type { Redacted } from '../mask/redact.ts';
import type { Variables } from './environment.ts';

/** Those that the config's own options name. */
export function namedLogins({ providers }: Config): string[] {
  const { role_id_env, secret_id_env, jwt_env } = providers.vault ?? {};
  return [role_id_env, secret_id_env, jwt_env, providers.keyzero?.jwt_env].filter((name) => name !== undefined);
}

/** What of them a direct program has: one that prints its environment prints them too. */
export function loginsToHide(config: Config, variables: Variables): readonly Redacted[] {
  return [...SECRET_ZERO, ...LOGINS, ...namedLogins(config)].flatMap((name) => {
    const value = variables[name];
    return value === undefined || value === '' ? [] : [{ name, secret: new Secret(value) }];
  });
}
