// What zod found wrong, in words for the person who wrote the file.
import type * as z from 'zod/mini';
import { looksLikeSecretValue } from '../core/credential-shape.ts';
import { suggest } from '../core/suggest.ts';
import { PROVIDER_NAMES } from './provider-names.ts';

export interface Issue {
  readonly path: readonly (string | number)[];
  readonly message: string;
  readonly hint?: string | undefined;
}

/** What somebody wrote by mistake is short; what is longer was pasted. */
const LONGEST_QUOTE = 60;

type ZodIssue = z.core.$ZodIssue;

export interface Checked {
  readonly document: unknown;
  readonly schema: z.core.$ZodType;
  /** Where in the file the document stands. */
  readonly prefix: readonly string[];
}

/** The words that the user wrote are looked up in the document that was checked. */
export function describeIssue(issue: ZodIssue, { document, schema, prefix }: Checked): Issue[] {
  return describeInside(issue, document, schema, prefix).map((found) => ({ ...found, path: [...prefix, ...found.path] }));
}

function describeInside(issue: ZodIssue, document: unknown, schema: z.core.$ZodType, prefix: readonly string[]): Issue[] {
  const path = issue.path.map((part) => (typeof part === 'number' ? part : String(part)));
  if (issue.code === 'unrecognized_keys')
    return issue.keys.map((key) => unknownKey(key, { path, prefix, known: keysAt(schema, issue.path) }));
  const key = lastName(path);
  const value = valueAt(document, path);
  if (issue.code === 'invalid_union') {
    const meant = issue.errors.filter((errors) => !errors.some((error) => isOfAnotherKind(error, value)));
    const [errors] = meant;
    if (errors === undefined || meant.length > 1) return [{ path, ...invalidUnion(key, value) }];
    return errors.flatMap((error) => describeInside({ ...error, path: [...issue.path, ...error.path] }, document, schema, prefix));
  }
  if (value === undefined)
    return [{ path, message: `${dotted([...prefix, ...path.slice(0, -1)])} has no ${key}`, hint: `add \`${key} = …\`` }];
  return [{ path, ...describeValue(issue, key, value) }];
}

function describeValue(issue: ZodIssue, key: string, value: unknown): { message: string; hint?: string | undefined } {
  switch (issue.code) {
    case 'invalid_type':
      return { message: `${key} is ${typeName(value)}, not ${withArticle(issue.expected)}`, hint: typeHint(key, value, issue.expected) };
    case 'invalid_value':
      return invalidChoice(key, value, issue.values.map(String));
    case 'too_small':
      return {
        message:
          issue.minimum === 1 && typeof value !== 'number' ? `${key} is empty` : `${key} is too small (at least ${String(issue.minimum)})`,
      };
    case 'too_big':
      return { message: `${key} is too large (at most ${String(issue.maximum)})` };
    case 'custom':
      return { message: `${issue.params?.isPrivate === true ? key : named(key, value)} ${issue.message}`, hint: hintOf(issue.params) };
    default:
      return { message: `${named(key, value)} does not have the right form`, hint: FORMS[key] };
  }
}

function hintOf(params: { readonly hint?: unknown } | undefined): string | undefined {
  return typeof params?.hint === 'string' ? params.hint : undefined;
}

/** What does have the right form. */
const FORMS: Readonly<Record<string, string>> = {
  swap: 'one of header:NAME, query:NAME, body:FIELD, path, body, default',
  methods: 'in capitals: "GET"',
  path: 'starts with /: "/user/**"',
  check: 'a method and an address: "GET https://api.github.com/user"',
  on_rotate: 'one of restart, none, signal:HUP (INT, TERM, QUIT, USR1, USR2)',
  address: 'an address with its scheme: "https://vault.internal:8200"',
  endpoint: 'an address with its scheme: "https://vpce-1a2b.example.com"',
  url: 'an address with its scheme: "https://kz.internal"',
  recipients: 'public keys of age: "age1…"',
  sandbox: 'one of "auto", "strict", "off"; or a table: [blind.sandbox]',
};

function typeHint(key: string, value: unknown, expected: string): string | undefined {
  if (key === 'connections' && expected === 'array') return 'write [[blind.connections]], with two brackets';
  if (expected === 'array' && typeof value === 'number') return `${key} = [${String(value)}]`;
  if (typeof value !== 'string' || value.length > LONGEST_QUOTE || looksLikeSecretValue(value)) return undefined;
  if (expected === 'array') return `${key} = [${JSON.stringify(value)}]`;
  if (expected === 'number' && /^\d+$/.test(value)) return `without quotes: ${value}`;
  return undefined;
}

/** The key and what the user wrote, unless that is or may hold a secret in the wrong place: a private key among the recipients, say. */
function named(key: string, value: unknown): string {
  const written = JSON.stringify(value);
  const quotable =
    written.length <= LONGEST_QUOTE && typeof value !== 'object' && !(typeof value === 'string' && looksLikeSecretValue(value));
  return quotable ? `${key} ${written}` : key;
}

function invalidChoice(key: string, value: unknown, choices: readonly string[]): { message: string; hint?: string } {
  const names = key === 'provider' ? PROVIDER_NAMES : choices;
  const near = typeof value === 'string' ? suggest(value, choices) : undefined;
  return {
    message: `unknown ${named(key, value)}`,
    hint: near === undefined ? `one of ${names.join(', ')}` : `did you mean ${JSON.stringify(near)}?`,
  };
}

function invalidUnion(key: string, value: unknown): { message: string; hint?: string | undefined } {
  if (key === 'keys') return { message: 'keys is neither a list of keys nor a table of variable name → key' };
  return { message: `${named(key, value)} does not have the right form`, hint: FORMS[key] };
}

/** Where a word or a table may stand, what was written says which of them was meant, and only that one's problems are worth reading. */
function isOfAnotherKind({ code, path }: ZodIssue, value: unknown): boolean {
  return path.length === 0 && (code === 'invalid_type' || (code === 'invalid_value' && typeof value !== 'string'));
}

interface Whereabouts {
  readonly path: readonly (string | number)[];
  readonly prefix: readonly string[];
  readonly known: readonly string[];
}

function unknownKey(key: string, { path, prefix, known }: Whereabouts): Issue {
  const near = suggest(key, known);
  const table = dotted([...prefix, ...path]);
  const where = table === '' ? '' : ` in ${table}`;
  return {
    path: [...path, key],
    message: `unknown key ${JSON.stringify(key)}${where}`,
    hint: near === undefined ? `known keys: ${known.join(', ')}` : `did you mean ${JSON.stringify(near)}?`,
  };
}

/** The keys that the schema allows at a path: what an unknown key could have meant. */
function keysAt(schema: z.core.$ZodType, path: readonly PropertyKey[]): string[] {
  const def = (schema as z.core.$ZodTypes)._zod.def;
  if (def.type === 'optional') return keysAt(def.innerType, path);
  if (def.type === 'lazy') return keysAt(def.getter(), path);
  if (def.type === 'union') return def.options.flatMap((option) => keysAt(option, path));
  const [part, ...rest] = path;
  if (def.type === 'object') {
    if (part === undefined) return Object.keys(def.shape);
    const inner = def.shape[String(part)];
    return inner === undefined ? [] : keysAt(inner, rest);
  }
  if (part === undefined) return [];
  if (def.type === 'record') return keysAt(def.valueType, rest);
  return def.type === 'array' ? keysAt(def.element, rest) : [];
}

function lastName(path: readonly (string | number)[]): string {
  const names = path.filter((part) => typeof part === 'string');
  return names.at(-1) ?? 'the file';
}

function dotted(path: readonly (string | number)[]): string {
  return path.map(String).join('.');
}

function valueAt(document: unknown, path: readonly (string | number)[]): unknown {
  let value = document;
  for (const part of path) {
    if (typeof value !== 'object' || value === null || !Object.hasOwn(value, part)) return undefined;
    value = (value as Record<string | number, unknown>)[part];
  }
  return value;
}

function typeName(value: unknown): string {
  if (Array.isArray(value)) return 'a list';
  if (value instanceof Date) return 'a date';
  return typeof value === 'object' ? 'a table' : withArticle(typeof value);
}

function withArticle(type: string): string {
  const names: Record<string, string> = {
    array: 'a list',
    object: 'a table',
    record: 'a table',
    int: 'a whole number',
    boolean: 'true or false',
  };
  return names[type] ?? `a ${type}`;
}
