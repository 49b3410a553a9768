// `backends`: where values live. A backend is a provider of `.keyzero.toml` under its name or one of KeyZero's, with the options of its table.
import * as z from 'zod/mini';
import type { BackendEntry } from './bundle.ts';
import { isMapping, named, nameOf, readKeys, unknownKey, type Keys, type Mapping, type Reading, type Report } from './bundle-keys.ts';
import { BACKEND_NAME } from './bundle-schema.ts';
import type { Path } from './bundle-yaml.ts';
import { mergeProviders } from './load.ts';
import { canonicalProvider, PROVIDER_ALIASES, PROVIDER_NAMES, type ProviderAlias, type ProviderName } from './provider-names.ts';
import { providers, type ProviderOptions } from './schema.ts';
import { suggest } from '../core/suggest.ts';

const text = z.string().check(z.minLength(1));

/** KeyZero's: a dotenv file. */
const ENV_FILE = 'env_file';

const TYPES = [ENV_FILE, ...PROVIDER_NAMES, ...(Object.keys(PROVIDER_ALIASES) as ProviderAlias[])].filter((name) => name !== 'keyzero');

let optionsSchema: ReturnType<typeof providers> | undefined;

/** Undefined when it is wrong, after reporting everything that is. */
export function readBackend(name: string, value: unknown, path: Path, reading: Reading): BackendEntry | undefined {
  const { report } = reading;
  const what = nameOf('backend', name, 0);
  if (!z.safeParse(BACKEND_NAME, name).success) {
    report({ path, message: 'the name of a backend is empty, too long, or holds a character that cannot be seen' });
  }
  if (!isMapping(value)) {
    report({ path, message: `${what} is not a mapping`, hint: 'write `{ type: env_file, path: ./secrets.env }`' });
    return undefined;
  }
  const { type, ...options } = value;
  if (typeof type !== 'string' || !TYPES.some((known) => known === type)) {
    report(typeProblem(type, { path, what, isThere: Object.hasOwn(value, 'type') }));
    return undefined;
  }
  const at = reading.place(path);
  if (type === ENV_FILE) {
    const found = readKeys({ type: text, path: text }, value, { path, what, additions: { path: 'add `path: ./secrets.env`' } }, report);
    return found.path === undefined ? undefined : { name, type, provider: 'file', options: {}, path: reading.absolute(found.path), at };
  }
  const provider = canonicalProvider(type as ProviderName | ProviderAlias);
  const read = readOptions(provider, options, { path, what }, report);
  return read === undefined ? undefined : { name, type, provider, options: mergeProviders({}, read, reading.absolute), at };
}

function typeProblem(type: unknown, { path, what, isThere }: { path: Path; what: string; isThere: boolean }): Parameters<Report>[0] {
  const near = typeof type === 'string' ? suggest(type.slice(0, 60), TYPES) : undefined;
  const choices = `one of ${TYPES.join(', ')}`;
  if (!isThere) return { path, message: `${what} has no type`, hint: `add \`type: …\`: ${choices}` };
  if (type === 'keyzero') {
    return {
      path: [...path, 'type'],
      message: 'type "keyzero": a server does not ask another one',
      hint: 'name the backend that the other server uses',
    };
  }
  if (type === 'aws_sts') {
    return {
      path: [...path, 'type'],
      message: 'type "aws_sts" is of an older KeyZero: kz asks AWS for no sessions',
      hint: '`type: exec` with a `command` that prints one; or a resource whose value is a key, from `type: aws`',
    };
  }
  if (type === null || typeof type !== 'string') return { path: [...path, 'type'], message: 'type is not text', hint: choices };
  return {
    path: [...path, 'type'],
    message: `unknown ${named('type', type)}`,
    hint: near === undefined ? choices : `did you mean ${JSON.stringify(near)}?`,
  };
}

function readOptions(
  provider: ProviderName,
  options: Mapping,
  where: { path: Path; what: string },
  report: Report,
): ProviderOptions | undefined {
  const keys = optionKeys(provider);
  const [unknown] = Object.keys(options).filter((key) => !Object.hasOwn(keys, key));
  if (Object.keys(keys).length === 0 && unknown !== undefined) {
    report({ ...unknownKey(unknown, ['type'], where), hint: `provider ${provider} has no options` });
    return undefined;
  }
  // An exec table has its command: without it the ref's first word is the program, and refs are in the hands of whoever asks.
  const found = readKeys(keys, options, where, report);
  const complete = z.safeParse(allOptions(), { [provider]: found });
  return complete.success ? complete.data : undefined;
}

function allOptions(): ReturnType<typeof providers> {
  optionsSchema ??= providers();
  return optionsSchema;
}

/** Of the provider's table in `.keyzero.toml`. */
function optionKeys(provider: ProviderName): Keys {
  let schema: z.core.$ZodType = allOptions().def.shape[provider];
  for (;;) {
    const { def } = (schema as z.core.$ZodTypes)._zod;
    if (def.type === 'object') return def.shape as Keys;
    if (def.type === 'optional') schema = def.innerType;
    else if (def.type === 'lazy') schema = def.getter();
    else return {};
  }
}
