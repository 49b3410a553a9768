// Variables of kz's own environment. Reads, never writes; an empty variable is a value, and the caller decides what it is worth. Refuses
// the keys to kz's own stores: a config must not be able to ask for them.
import { KzError } from '../core/errors.ts';
import { SECRET_ZERO } from '../core/secret-zero.ts';
import { Secret } from '../core/secret.ts';
import type { Outcome, Provider, ProviderContext } from './provider.ts';

export function openEnv(context: ProviderContext): Provider {
  return {
    get: (refs) => Promise.resolve(refs.map((ref) => lookUp(ref.text, context.env))),
  };
}

function lookUp(name: string, env: ProviderContext['env']): Outcome {
  if (SECRET_ZERO.includes(name)) return { ok: false, error: refused(name) };
  const value = Object.hasOwn(env, name) ? env[name] : undefined;
  if (value !== undefined) return { ok: true, secret: new Secret(value) };
  const error = new KzError('secret-missing', `variable ${JSON.stringify(name)} is not set in kz's environment`, {
    hint: 'set it where kz is started; an MCP client passes on only the variables in its `env` block',
  });
  return { ok: false, error };
}

function refused(name: string): KzError {
  return new KzError('ref-invalid', `env ref ${JSON.stringify(name)} opens kz's own store, and kz does not hand it out as a value`, {
    hint: `a program that has to have it gets it with \`--keep-env ${name}\``,
  });
}
