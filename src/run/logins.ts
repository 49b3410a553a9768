// The variables of kz's own environment that hold what its providers log in with.
import type { Config } from '../config/load.ts';
import { LOGINS, SECRET_ZERO } from '../core/secret-zero.ts';
import { Secret } from '../core/secret.ts';
import type { Redacted } from '../mask/redact.ts';

/** Those that the config's own options name, and the usual ones. */
export function loginNames({ providers }: Config): string[] {
  const { role_id_env, secret_id_env, jwt_env } = providers.vault ?? {};
  return [...SECRET_ZERO, ...LOGINS, role_id_env, secret_id_env, jwt_env].filter((name) => name !== undefined);
}

/** A direct program inherits them, and a program that prints its environment prints them too. */
export function loginsToHide(config: Config, env: Readonly<Record<string, string | undefined>>): readonly Redacted[] {
  return loginNames(config).flatMap((name) => {
    const value = env[name];
    return value === undefined || value === '' ? [] : [{ name, secret: new Secret(value) }];
  });
}
