// One mapping of a bundle against the keys it may have. Each key is checked by itself, so that one mistake hides no other; words are for
// the person who wrote the file.
import * as z from 'zod/mini';
import { looksLikeSecretValue } from '../core/credential-shape.ts';
import type { Place } from '../core/errors.ts';
import { suggest } from '../core/suggest.ts';
import type { Path } from './bundle-yaml.ts';

export interface BundleProblem {
  readonly path: Path;
  readonly message: string;
  readonly hint?: string | undefined;
}

export type Report = (problem: BundleProblem) => void;

/** What every part of a bundle is read with. */
export interface Reading {
  readonly report: Report;
  readonly place: (path: Path) => Place;
  /** Paths start at the bundle's folder. */
  readonly absolute: (path: string) => string;
}

/** Key → schema. A key whose schema takes `undefined` may be left out. */
export type Keys = Readonly<Record<string, z.ZodMiniType>>;

/** What is missing here is missing in the file, or wrong; `has` knows which. */
export type Found<K extends Keys> = { readonly [Key in keyof K]?: z.infer<K[Key]> };

export type Mapping = Readonly<Record<string, unknown>>;

export interface Whereabouts {
  readonly path: Path;
  /** In an error: `resource "github/pat"`. */
  readonly what: string;
  /** Key → what to add when it is missing. */
  readonly additions?: Readonly<Record<string, string>>;
}

/** The keys that are right, after reporting every other one. */
export function readKeys<K extends Keys>(keys: K, mapping: Mapping, { path, what, additions = {} }: Whereabouts, report: Report): Found<K> {
  for (const key of Object.keys(mapping)) if (!Object.hasOwn(keys, key)) report(unknownKey(key, Object.keys(keys), { path, what }));
  const found: [string, unknown][] = [];
  for (const [key, schema] of Object.entries(keys)) {
    const result = z.safeParse(schema, mapping[key]);
    if (result.success) {
      if (result.data !== undefined) found.push([key, result.data]);
    } else if (!has(mapping, key)) report({ path, message: `${what} has no ${key}`, hint: additions[key] ?? addition(key, schema) });
    else for (const issue of result.error.issues) report(describe(issue, { path: [...path, key], key, value: mapping[key] }));
  }
  return Object.fromEntries(found) as Found<K>;
}

function addition(key: string, schema: z.ZodMiniType): string {
  const { def } = (schema as z.core.$ZodType as z.core.$ZodTypes)._zod;
  const choices = def.type === 'enum' ? Object.values(def.entries) : [];
  return `add \`${key}: …\`${choices.length === 0 ? '' : `: one of ${choices.join(', ')}`}`;
}

export function has(mapping: Mapping, key: string): boolean {
  return Object.hasOwn(mapping, key);
}

/** An object without the keys that are undefined. */
export function defined<T extends object>(object: T): { [K in keyof T]?: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(object).filter(([, value]) => value !== undefined)) as {
    [K in keyof T]?: Exclude<T[K], undefined>;
  };
}

export function isMapping(value: unknown): value is Mapping {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

export function unknownKey(key: string, known: readonly string[], { path, what }: Whereabouts): BundleProblem {
  const typed = key.slice(0, LONGEST_QUOTE);
  const meant = [...(OTHER_WORDS.get(typed) ?? []), suggest(typed, known)].filter((word) => word !== undefined && known.includes(word));
  const near = [...new Set(meant)].map((word) => JSON.stringify(word)).join(' or ');
  return {
    path: [...path, key],
    message: `unknown key${quotable(key) ? ` ${JSON.stringify(key)}` : ''} in ${what}`,
    hint: near === '' ? `known keys: ${known.join(', ')}` : `did you mean ${near}?`,
  };
}

/** What the same is called elsewhere: by an older KeyZero, in JWTs, by other servers of policies. */
const OTHER_WORDS: ReadonlyMap<string, readonly string[]> = new Map([
  ['allow', ['effect']],
  ['allowed_hosts', ['hosts']],
  ['aud', ['audience']],
  ['backend', ['resolver']],
  ['condition', ['rule']],
  ['decision', ['expect']],
  ['domains', ['hosts']],
  ['expression', ['rule']],
  ['iss', ['issuer_url']],
  ['issuer', ['issuer_url']],
  ['jwks_uri', ['jwks_url']],
  ['key', ['from', 'field']],
  ['path', ['from', 'paths']],
  ['resource', ['ref']],
  ['secret_id', ['from']],
  ['url', ['issuer_url', 'address']],
  ['when', ['rule']],
]);

/** `resource "github/pat"`, or `the 3rd of resources` when it has no name that could be repeated. */
export function nameOf(kind: string, name: unknown, index: number): string {
  return typeof name === 'string' && quotable(name) ? `${kind} ${JSON.stringify(name)}` : `${kind} number ${String(index + 1)}`;
}

/** The key and what was written, unless that may be a secret in the wrong place. */
export function named(key: string, value: unknown): string {
  const text = typeof value === 'string' ? value : JSON.stringify(value);
  if (typeof value === 'object' || !quotable(text)) return key;
  return `${key} ${JSON.stringify(value)}`;
}

const LONGEST_QUOTE = 60;

export function quotable(text: string): boolean {
  return text !== '' && text.length <= LONGEST_QUOTE && !looksLikeSecretValue(text);
}

interface Judged {
  readonly path: Path;
  readonly key: string;
  readonly value: unknown;
}

function describe(issue: z.core.$ZodIssue, judged: Judged): BundleProblem {
  const inner = issue.path.map((part) => (typeof part === 'number' ? part : String(part)));
  const path = [...judged.path, ...inner];
  const key = inner.findLast((part) => typeof part === 'string') ?? judged.key;
  const value = valueAt(judged.value, inner);
  switch (issue.code) {
    case 'invalid_type':
      return { path, ...wrongType(key, value, issue.expected) };
    case 'invalid_union':
      return {
        path,
        message: isEmpty(value) ? `${key} is empty` : `${named(key, value)} ${UNIONS[key] ?? 'does not have the right form'}`,
        hint: UNION_HINTS[`${key} ${typeof value}`],
      };
    case 'invalid_value':
      return { path, ...wrongChoice(key, value, issue.values.map(String)) };
    case 'too_small':
    case 'too_big':
      return { path, message: wrongSize(issue, key, value) };
    case 'custom':
      return {
        path,
        message: `${issue.params?.isPrivate === true ? key : named(key, value)} ${issue.message}`,
        hint: hintOf(issue.params),
      };
    default:
      return { path, message: `${named(key, value)} does not have the right form`, hint: FORMS[key] };
  }
}

function wrongSize(issue: z.core.$ZodIssueTooSmall | z.core.$ZodIssueTooBig, key: string, value: unknown): string {
  if (issue.code === 'too_big') return `${key} is too ${typeof value === 'number' ? 'large' : 'long'} (at most ${String(issue.maximum)})`;
  return isEmpty(value) ? `${key} is empty` : `${named(key, value)} is too small`;
}

const UNIONS: Readonly<Record<string, string>> = {
  audience: 'is neither text nor a list of texts',
  ttl: 'is neither a duration such as 15m nor a number of seconds',
  version: 'is not "1"',
};

const UNION_HINTS: Readonly<Record<string, string>> = { 'audience number': 'put it in quotes' };

/** What does have the right form, of the options whose schema says no more. */
const FORMS: Readonly<Record<string, string>> = {
  address: 'an address with its scheme: "https://vault.internal:8200"',
  endpoint: 'an address with its scheme: "https://vpce-1a2b.example.com"',
  recipients: 'public keys of age: "age1…"',
};

function wrongType(key: string, value: unknown, expected: string): { message: string; hint?: string | undefined } {
  const message = isEmpty(value) ? `${key} is empty` : `${key} is ${typeName(value)}, not ${TYPES[expected] ?? expected}`;
  return { message, hint: typeHint(key, value, expected) };
}

const TYPES: Readonly<Record<string, string>> = {
  string: 'text',
  array: 'a list',
  object: 'a mapping',
  record: 'a mapping',
  boolean: 'true or false',
  number: 'a number',
};

function typeName(value: unknown): string {
  if (Array.isArray(value)) return 'a list';
  return typeof value === 'boolean' ? `the word ${String(value)} without quotes` : (TYPES[typeof value] ?? typeof value);
}

function typeHint(key: string, value: unknown, expected: string): string | undefined {
  if (expected === 'array' && typeof value === 'string' && quotable(value)) return `write \`${key}: [${JSON.stringify(value)}]\``;
  if (typeof value === 'number' && DURATIONS.includes(key)) return `write ${String(value)}s, if seconds are meant`;
  if (expected === 'string' && ['number', 'boolean'].includes(typeof value)) return 'put it in quotes';
  return undefined;
}

const DURATIONS = ['max_age'];

function wrongChoice(key: string, value: unknown, choices: readonly string[]): { message: string; hint: string } {
  const near = typeof value === 'string' ? (suggest(value.slice(0, LONGEST_QUOTE), choices) ?? onlyLonger(value, choices)) : undefined;
  return {
    message: isEmpty(value) ? `${key} is empty` : `unknown ${named(key, value)}`,
    hint: near === undefined ? `one of ${choices.join(', ')}` : `did you mean ${JSON.stringify(near)}?`,
  };
}

/** `github` for `github-actions`. */
function onlyLonger(typed: string, choices: readonly string[]): string | undefined {
  const [longer, ...others] = choices.filter((choice) => typed.length > 2 && choice.startsWith(typed.toLowerCase()));
  return others.length === 0 ? longer : undefined;
}

function hintOf(params: unknown): string | undefined {
  return isMapping(params) && typeof params.hint === 'string' ? params.hint : undefined;
}

function isEmpty(value: unknown): boolean {
  return value === null || value === '' || (Array.isArray(value) && value.length === 0);
}

function valueAt(value: unknown, path: Path): unknown {
  let found = value;
  for (const part of path) {
    if (typeof found !== 'object' || found === null || !Object.hasOwn(found, part)) return undefined;
    found = (found as Record<string | number, unknown>)[part];
  }
  return found;
}
