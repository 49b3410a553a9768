// Variables of kz's own environment. Reads, never writes; an empty variable is a value, and the caller decides what it is worth.
import { KzError } from '../core/errors.ts';
import { Secret } from '../core/secret.ts';
import type { Outcome, Provider, ProviderContext } from './provider.ts';

export function openEnv(context: ProviderContext): Provider {
  return {
    get: (refs) => Promise.resolve(refs.map((ref) => lookUp(ref.text, context.env))),
  };
}

function lookUp(name: string, env: ProviderContext['env']): Outcome {
  const value = Object.hasOwn(env, name) ? env[name] : undefined;
  if (value !== undefined) return { ok: true, secret: new Secret(value) };
  const error = new KzError('secret-missing', `variable ${JSON.stringify(name)} is not set in kz's environment`, {
    hint: 'set it where kz is started; an MCP client passes on only the variables in its `env` block',
  });
  return { ok: false, error };
}
