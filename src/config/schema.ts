// The shape of `.keyzero.toml`: one zod schema, from which the types, `kz validate` and (with schema-descriptions.ts) the JSON Schema for
// editors all come. It is built at every start, so it is `zod/mini`, nodes are shared, and what a config rarely has is built on demand.
import * as z from 'zod/mini';
import { parseDuration } from '../core/duration.ts';
import { parseHostPattern } from '../core/host-pattern.ts';
import { ON_ROTATE } from './rotation.ts';
import { PROVIDER_ALIASES, PROVIDER_NAMES, type ProviderAlias, type ProviderName } from './provider-names.ts';
import { parseServerAddress } from './server-address.ts';

// No generated code: kz has no use for `new Function`, and for one parse it costs more than it saves.
z.config({ jitless: true });

const ALIAS_NAMES = Object.keys(PROVIDER_ALIASES) as ProviderAlias[];
const CHOICES = [...PROVIDER_NAMES, ...ALIAS_NAMES] as [ProviderName | ProviderAlias, ...(ProviderName | ProviderAlias)[]];

const VALUE_TYPES = ['url', 'pem', 'json', 'email', 'uuid', 'int', 'base64'] as const;

const CHECK = /^(GET|HEAD|POST) https?:\/\/[^\s#]+$/;

const text = z.string().check(z.minLength(1));
const anyText = z.string();
const texts = z.array(text);
const flag = z.boolean();
const provider = z.enum(CHOICES);
const optionalText = z.optional(text);
const optionalAnyText = z.optional(anyText);
const optionalTexts = z.optional(texts);
const optionalFlag = z.optional(flag);
const optionalCount = z.optional(z.int().check(z.gte(0), z.lte(1_048_576)));

const duration = z.optional(
  anyText.check(z.refine((value) => parseDuration(value) !== undefined, 'is not a duration such as 30s, 15m or 2h')),
);
const rotation = z.optional(anyText.check(z.regex(ON_ROTATE, 'is none of restart, none, signal:HUP (INT, TERM, QUIT, USR1, USR2)')));

/** One `NAME = { … }` line. */
const secretSchema = z.strictObject({
  provider,
  ref: text,
  required: optionalFlag,
  default: optionalAnyText,
  description: optionalAnyText,
  type: z.optional(z.enum(VALUE_TYPES)),
  min_length: optionalCount,
  max_length: optionalCount,
  starts_with: optionalText,
  pattern: z.optional(anyText.check(z.refine(isRegularExpression, 'is not a valid regular expression'))),
  one_of: z.optional(z.array(anyText).check(z.minLength(1))),
  json_key: optionalText,
  encoding: z.optional(z.literal('base64')),
  template: optionalText,
  hosts: z.optional(z.lazy(hostPatterns)),
  swap: z.optional(z.lazy(slots)),
  shape: z.optional(z.enum(['exact', 'plain'])),
  expose: optionalFlag,
  refresh: duration,
  on_rotate: rotation,
  check: z.optional(anyText.check(z.regex(CHECK, 'is not a method and an address such as GET https://api.example.com/user'))),
});

export type SecretEntry = z.infer<typeof secretSchema>;

const secrets = z.optional(z.record(anyText, secretSchema));

/** `[[secrets_from]]`: documents that hold many values. */
function documents() {
  return z.array(
    z.strictObject({
      provider,
      ref: text,
      keys: z.optional(z.union([texts, z.record(anyText, text)])),
      required: optionalFlag,
      refresh: duration,
      on_rotate: rotation,
    }),
  );
}

const documentsFrom = z.optional(z.lazy(documents));

export type DocumentEntry = z.infer<ReturnType<typeof documents>>[number];

/** `[<environment>.secrets]` and `[[<environment>.secrets_from]]`. */
export const environmentSchema = z.strictObject({ secrets, secrets_from: documentsFrom });

/** What `FILE_KEYS` names; every other table is an environment. */
export const fileSchema = z.strictObject({
  secrets,
  secrets_from: documentsFrom,
  providers: z.optional(z.lazy(providers)),
  blind: z.optional(z.lazy(blind)),
});

export type ProviderOptions = z.infer<ReturnType<typeof providers>>;
export type BlindEntry = z.infer<ReturnType<typeof blind>>;

const optionalUrl = z.optional(z.lazy(() => z.url()));

/** `[providers]`, and each backend of a server's bundle. */
// eslint-disable-next-line @typescript-eslint/explicit-module-boundary-types -- what it returns is the type
export function providers() {
  const ageRecipients = z.array(anyText.check(z.regex(/^age1[0-9a-z]+$/)));
  return z.strictObject({
    store: z.optional(z.strictObject({ path: optionalText, identity: z.optional(z.enum(['file', 'keychain', 'passphrase'])) })),
    age: z.optional(z.strictObject({ identity: optionalText, recipients: z.optional(ageRecipients) })),
    exec: z.optional(z.strictObject({ command: z.array(text).check(z.minLength(1)) })),
    keychain: z.optional(z.strictObject({ service: optionalText })),
    env: z.optional(z.strictObject({})),
    file: z.optional(z.strictObject({})),
    aws: z.optional(z.strictObject({ region: optionalText, profile: optionalText, endpoint: optionalUrl })),
    vault: z.optional(z.lazy(vault)),
    '1password': z.optional(z.strictObject({ account: optionalText })),
    gcp: z.optional(z.strictObject({ project: optionalText, endpoint: optionalUrl })),
    keyzero: z.optional(
      z.strictObject({
        url: z.optional(z.url().check(z.superRefine(serverAddress))),
        ca: optionalText,
        jwt_file: optionalText,
        jwt_env: optionalText,
        audience: optionalText,
      }),
    ),
  });
}

/** Nothing here is a secret: where one is needed, the option names the variable or the file that holds it. */
function vault() {
  return z.strictObject({
    address: optionalUrl,
    namespace: optionalText,
    ca: optionalText,
    auth: z.optional(z.enum(['token', 'approle', 'kubernetes', 'jwt', 'aws'])),
    mount: optionalText,
    role: optionalText,
    token_file: optionalText,
    role_id: optionalText,
    role_id_env: optionalText,
    secret_id_env: optionalText,
    secret_id_file: optionalText,
    jwt_env: optionalText,
    jwt_file: optionalText,
    audience: optionalText,
    server_id: optionalText,
  });
}

function blind() {
  const connection = z.strictObject({
    allow: flag,
    host: anyText.check(z.superRefine(ruleHost)),
    port: z.optional(z.int().check(z.gte(1), z.lte(65_535))),
    methods: z.optional(z.array(anyText.check(z.regex(/^[A-Z]+$/)))),
    path: z.optional(anyText.check(z.regex(/^\//))),
  });
  const sandboxMode = z.enum(['auto', 'strict', 'off']);
  // `[blind] sandbox = "strict"`, or a table when there is more to say.
  const sandbox = z.strictObject({
    mode: z.optional(sandboxMode),
    read: optionalTexts,
    write: optionalTexts,
    hide: optionalTexts,
    allow_loopback: z.optional(z.array(z.int().check(z.gte(1), z.lte(65_535)))),
  });
  return z.strictObject({
    upstream_ca: optionalText,
    scope: z.optional(z.enum(['strict', 'infer'])),
    keep_env: optionalTexts,
    clean_env: optionalFlag,
    sandbox: z.optional(z.union([sandboxMode, sandbox])),
    connections: z.optional(z.array(connection)),
  });
}

function hostPatterns() {
  return z.array(anyText.check(z.superRefine(secretHost))).check(z.minLength(1));
}

function slots() {
  return z.array(anyText.check(z.regex(/^(header:[A-Za-z0-9!#$%&'*+.^_`|~-]+|query:.+|body:.+|path|body|default)$/))).check(z.minLength(1));
}

/** Rules also take `re:` and a regular expression, which is anchored at both ends when it is compiled. */
function ruleHost(value: string, context: z.core.$RefinementCtx): void {
  if (!value.startsWith('re:')) secretHost(value, context);
  else if (!isRegularExpression(value.slice(3))) context.addIssue({ code: 'custom', message: 'is not a valid regular expression' });
}

/** What no URL is, is told already. */
function serverAddress(value: string, context: z.core.$RefinementCtx): void {
  const address = URL.canParse(value) ? parseServerAddress(value) : undefined;
  if (address === undefined || address instanceof URL) return;
  context.addIssue({ code: 'custom', message: address.problem, params: { hint: address.hint, isPrivate: value.includes('@') } });
}

function secretHost(value: string, context: z.core.$RefinementCtx): void {
  const pattern = parseHostPattern(value);
  if ('problem' in pattern) context.addIssue({ code: 'custom', message: pattern.problem });
}

function isRegularExpression(source: string): boolean {
  try {
    new RegExp(source, 'u');
    return true;
  } catch {
    return false;
  }
}
