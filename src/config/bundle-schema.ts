// Which keys each part of a bundle may have, and what each value must look like by itself. What holds between keys is checked by the file
// of that part.
import * as z from 'zod/mini';
import { isLoopbackHost } from '../core/address.ts';
import { parseDuration } from '../core/duration.ts';
import { matchesHost, parseHostPattern } from '../core/host-pattern.ts';
import { parseLocation } from './bundle-location.ts';

/** Signed with a private key; what is published proves it. */
const ASYMMETRIC_ALGORITHMS = [...['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512', 'ES256', 'ES384', 'ES512', 'EdDSA']] as const;
/** Signed with what also proves it: only with a key that the bundle names itself. */
export const HMAC_ALGORITHMS = ['HS256', 'HS384', 'HS512'] as const;

export const ISSUER_TYPES = ['github-actions', 'kubernetes', 'gcp', 'aws', 'custom'] as const;

type Context = z.core.$RefinementCtx;

const LONGEST_NAME = 128;
const LONGEST_REF = 512;
const LONGEST_DESCRIPTION = 1000;

const text = z.string().check(z.minLength(1));
const optionalText = z.optional(text);
const name = text.check(z.maxLength(LONGEST_NAME), z.superRefine(withoutControls));
const texts = z.array(text).check(z.minLength(1));
const duration = z.string().check(z.superRefine(asDuration));
const algorithm = z.enum([...ASYMMETRIC_ALGORITHMS, ...HMAC_ALGORITHMS]);

export const BACKEND_NAME = name;

export const VERSION = z.union([z.literal('1'), z.literal(1)]);

export const ISSUER_KEYS = {
  name,
  issuer_url: text.check(z.superRefine(issuerAddress)),
  type: z.enum(ISSUER_TYPES),
  audience: z.union([text, texts]),
  jwks_url: z.optional(text.check(z.superRefine(webAddress))),
  jwks_file: optionalText,
  ca: optionalText,
  token_file: optionalText,
  static_keys: z.optional(z.array(z.unknown()).check(z.minLength(1))),
  algorithms: z.optional(z.array(algorithm).check(z.minLength(1))),
  max_age: z.optional(duration),
  map: z.optional(z.unknown()),
};

export const STATIC_KEY_KEYS = {
  kid: optionalText,
  alg: algorithm,
  pem: optionalText,
  pem_file: optionalText,
  secret_env: z.optional(text.check(z.superRefine(variableName))),
};

const claimPath = z.union([text.check(z.superRefine(dottedPath)), texts]);

/** The words for callers that policies have: policy/identity.ts. */
export const MAP_KEYS = {
  org: z.optional(claimPath),
  service: z.optional(claimPath),
  env: z.optional(claimPath),
  action: z.optional(claimPath),
  branch: z.optional(claimPath),
  actor: z.optional(claimPath),
  groups: z.optional(claimPath),
};

export const POLICY_KEYS = { name, rule: text, effect: z.enum(['allow', 'deny']) };

export const RESOURCE_KEYS = {
  ref: text.check(z.maxLength(LONGEST_REF)),
  resolver: text,
  from: z.optional(text),
  field: optionalText,
  mode: z.optional(z.enum(['masked', 'direct', 'short_lived'])),
  ttl: z.optional(z.union([duration, z.int().check(z.gte(1), z.lte(1_000_000))])),
  credential_location: z.optional(text.check(z.superRefine(location))),
  hosts: z.optional(z.array(z.string().check(z.superRefine(host))).check(z.minLength(1))),
  methods: z.optional(z.array(z.string().check(z.superRefine(method))).check(z.minLength(1))),
  paths: z.optional(z.array(z.string().check(z.superRefine(path))).check(z.minLength(1))),
  check: z.optional(z.string().check(z.superRefine(request))),
  description: z.optional(text.check(z.maxLength(LONGEST_DESCRIPTION))),
};

/** Of `GET https://…`. Undefined for what is none. */
export function parseCheck(written: string): { readonly method: string; readonly url: string } | undefined {
  const [, verb, url] = /^(GET|HEAD|POST) (https:\/\/[^\s#\\]+)$/.exec(written) ?? [];
  if (verb === undefined || url === undefined || !URL.canParse(url)) return undefined;
  const { username, password } = new URL(url);
  return username === '' && password === '' ? { method: verb, url } : undefined;
}

export function covers(pattern: string, url: string): boolean {
  const parsed = parseHostPattern(pattern);
  const { hostname, port } = new URL(url);
  return !('problem' in parsed) && matchesHost(parsed, hostname.replace(/\.$/, ''), port === '' ? 443 : Number(port));
}

/** A space is one; any other is not the space that it looks like. U+2800 is a letter of no dots. */
const UNSEEN = /(?! )[\p{Cc}\p{Cf}\p{Z}\p{Default_Ignorable_Code_Point}\u2800]/u;

function withoutControls(value: string, context: Context): void {
  if (UNSEEN.test(value)) fail(context, 'holds a character that cannot be seen');
}

function asDuration(value: string, context: Context): void {
  const ms = parseDuration(value);
  if (ms === undefined || ms === 0) fail(context, 'is not a duration such as 30s, 15m or 2h');
}

/** OpenID Connect Discovery 1.0, section 3: neither query nor fragment. */
function issuerAddress(value: string, context: Context): void {
  if (/^https?:[^#]*\?/i.test(value)) fail(context, 'has a ? query', { isPrivate: true });
  else webAddress(value, context);
}

/** Keys and tokens travel there: plain http is for this machine alone. */
function webAddress(value: string, context: Context): void {
  // Of ASCII: other letters look like those of somebody else's name.
  if (!/^https?:\/\/[\x21-\x5b\x5d-\x7e]+$/i.test(value) || !URL.canParse(value)) {
    const hint = /^[\w-]+(?:\.[\w-]+)+(?:[:/][\w./:-]*)?$/.test(value) ? `write https://${value}` : undefined;
    fail(context, 'is not an address such as https://issuer.example.com', { hint });
    return;
  }
  const { protocol, hostname, username, password, hash } = new URL(value);
  if (username !== '' || password !== '') fail(context, 'names a user: credentials do not belong here', { isPrivate: true });
  else if (hash !== '') fail(context, 'has a # fragment');
  else if (protocol !== 'https:' && !isLoopbackHost(hostname))
    fail(context, 'is not https', { hint: 'plain http is for this machine alone' });
}

function variableName(value: string, context: Context): void {
  if (!/^[A-Za-z_][A-Za-z0-9_]*$/.test(value))
    fail(context, 'is not the name of a variable', { isPrivate: true, hint: 'the variable holds the key; the bundle only names it' });
}

function dottedPath(value: string, context: Context): void {
  const keys = value.replace(/^claims\./, '').split('.');
  if (keys.includes('') || value === 'claims') fail(context, 'is not a path such as claims.org.id, or a list of keys');
}

function location(value: string, context: Context): void {
  const parsed = parseLocation(value);
  if (!('problem' in parsed)) return;
  const hint = locationMeant(value);
  fail(context, parsed.problem, { isPrivate: !/^(?!basic)[\w-]*(?::[\w-]*(?::.{0,16})?)?$/.test(value), hint });
}

/** Of a header without the word in front of it, and of a space too many. */
function locationMeant(value: string): string | undefined {
  if (/^(?:header:)?(?:(?:authorization)?[: ]*bearer|header)$/i.test(value)) return 'write `header:Authorization:Bearer`';
  return /^(?!basic|query)[A-Za-z][\w-]{0,40}$/.test(value) ? `write \`header:${value}\`` : undefined;
}

function host(value: string, context: Context): void {
  const pattern = parseHostPattern(value);
  if (value.startsWith('re:'))
    fail(context, 'is an expression of [[blind.connections]]', { hint: 'name the hosts: api.example.com, "*.example.com"' });
  else if ('problem' in pattern) fail(context, pattern.problem, { isPrivate: value.includes('@'), hint: hostIn(value) });
  else if (pattern.wildcard && pattern.labels.length === 0)
    fail(context, 'would let the value go anywhere', { hint: 'name the hosts: api.example.com' });
}

/** Of an address in the place of a host. What has a user may have a password, too. */
function hostIn(value: string): string | undefined {
  const [, name, path] = /^(?:https?:\/\/)?([\w.-]+(?::\d+)?)((?:\/[^@]*)?)$/i.exec(value) ?? [];
  if (name === undefined || 'problem' in parseHostPattern(name)) return undefined;
  return `write ${name}${path === '' || path === '/' ? '' : '; what follows belongs in `paths`'}`;
}

function method(value: string, context: Context): void {
  const upper = value.toUpperCase();
  if (/^[A-Z]+$/.test(upper) && upper !== value) fail(context, 'is not in capitals', { hint: `write ${upper}` });
  else if (value === '*') fail(context, 'would let the value be used for anything', { hint: 'name the methods: [GET, POST]' });
  else if (!/^[A-Z][A-Z-]{0,31}$/.test(value)) fail(context, 'is not a method such as GET');
  else if (value === 'CONNECT' || value === 'TRACE') fail(context, 'cannot carry a credential');
}

/** The rest is seen when the patterns are compiled. */
function path(value: string, context: Context): void {
  if (!value.startsWith('/')) fail(context, 'does not start with a slash');
}

function request(value: string, context: Context): void {
  if (parseCheck(value) === undefined)
    fail(context, 'is not a method and an https address such as GET https://api.example.com/user', { isPrivate: true });
}

interface Facts {
  readonly hint?: string | undefined;
  /** What was written may hold a credential. */
  readonly isPrivate?: boolean;
}

function fail(context: Context, message: string, facts: Facts = {}): void {
  context.addIssue({ code: 'custom', message, params: { ...facts } });
}
