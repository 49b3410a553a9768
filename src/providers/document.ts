// Many values in one text: a JSON, YAML, TOML or dotenv document, and how to pick one of its values. Errors say where a text stops
// being a document, never what it holds; that is why the parsers' own errors, which quote the text, are not kept as causes.
import path from 'node:path';
import { KzError } from '../core/errors.ts';
import { TextCursor } from '../core/text-cursor.ts';

export type DocumentFormat = 'json' | 'yaml' | 'dotenv' | 'toml';

/** More than any secret needs; a provider that finds more has read the wrong thing. */
export const MAX_TEXT_BYTES = 1_048_576;

/** In place of a number that a double does not keep: refused when it is asked for, so that it does not stand in the way of other keys. */
const INEXACT = Symbol('inexact');

/** Deeper than any document of secrets; what walks through one may recurse. */
const MAX_DEPTH = 100;

/** The top-level keys in the order of the text. A Map, so that `__proto__` is a key like any other. */
export type Document = ReadonlyMap<string, unknown>;

const FORMAT_NAMES = { json: 'JSON', yaml: 'YAML', dotenv: 'dotenv', toml: 'TOML' } as const satisfies Record<DocumentFormat, string>;

/** Undefined when the bytes are not UTF-8. A byte order mark is not part of the text. */
export function decodeText(bytes: Uint8Array): string | undefined {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch {
    return undefined;
  }
}

/** Editors and `echo` end a text with a newline that is not part of the value; only that one goes. */
export function withoutFinalNewline(text: string): string {
  return text.replace(/\r?\n$/, '');
}

/**
 * Throws `secret-invalid` when the text is not a document of this format, is nested too deeply, or holds a list or a single value. `what`
 * names it at the start of the message: `file config/app.json`.
 */
export async function parseDocument(text: string, format: DocumentFormat, what: string): Promise<Document> {
  const content = await parse(text.replace(/^\uFEFF/, ''), format, what);
  if (isDeep(content)) throw tooDeep(what);
  if (content instanceof Map) return content as Document;
  if (isRecord(content)) return new Map(Object.entries(content));
  const found = Array.isArray(content) ? 'a list' : 'a single value';
  throw new KzError('secret-invalid', `${what} holds ${found} instead of keys and values`);
}

/** By the file's name. When that says nothing, a text that starts with `{` is JSON; the rest is dotenv. */
export function documentFormat(file: string, text = ''): DocumentFormat {
  return namedFormat(file) ?? (/^\uFEFF?\s*\{/.test(text) ? 'json' : 'dotenv');
}

/** Undefined when the file's name says nothing about its format. */
export function namedFormat(file: string): DocumentFormat | undefined {
  switch (path.extname(file).toLowerCase()) {
    case '.json':
      return 'json';
    case '.yaml':
    case '.yml':
      return 'yaml';
    case '.toml':
      return 'toml';
    default:
      return /(^|\.)env(\.|$)/i.test(path.basename(file)) ? 'dotenv' : undefined;
  }
}

/**
 * The value as text: of the top-level key with exactly this name, else at the dotted path (`db.password`, `hosts.0`). Numbers and
 * booleans are written as JSON writes them, objects and lists as compact JSON. Undefined when it is not there, or null. Throws
 * `secret-invalid` for what holds a number with more digits than can be kept.
 */
export function selectKey(document: Document, key: string): string | undefined {
  const value = document.has(key) ? document.get(key) : findPath(Object.fromEntries(document), key);
  if (typeof value === 'string') return value;
  if (value instanceof Date) return value.toISOString();
  if (holdsInexact(value)) {
    const message = `what ${JSON.stringify(key)} holds is or has a number with more digits than kz can keep`;
    throw new KzError('secret-invalid', message, { hint: 'quote it in the document, as text' });
  }
  const text = toJson(value);
  return text === 'null' ? undefined : text;
}

async function parse(text: string, format: DocumentFormat, what: string): Promise<unknown> {
  switch (format) {
    case 'json':
      return parseJson(text, what);
    case 'yaml':
      return parseYaml(text, what);
    case 'toml':
      return parseToml(text, what);
    case 'dotenv':
      return parseDotenv(text, what);
  }
}

const JSON_TOKEN = /"(?:[^"\\]+|\\.)*"|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/g;

/**
 * Like JSON.parse, but an integer that a double cannot hold becomes a BigInt: account numbers and ids keep their last digits. Any other
 * number that it cannot hold becomes INEXACT.
 */
function parseJson(text: string, what: string): unknown {
  try {
    const content: unknown = JSON.parse(text);
    const mark = crypto.randomUUID();
    const marked = text.replace(JSON_TOKEN, (token) => (isKept(token) ? token : `"${mark}${token}"`));
    if (marked === text) return content;
    return JSON.parse(marked, (_key, value: unknown) =>
      typeof value === 'string' && value.startsWith(mark) ? exactly(value.slice(mark.length)) : value,
    );
  } catch (error) {
    if (error instanceof RangeError) throw tooDeep(what);
    const offset = /at position (\d+)/.exec(error instanceof Error ? error.message : '')?.[1];
    throw notA('json', what, offset === undefined ? undefined : lineAt(text, Number(offset)));
  }
}

const INTEGER = /^-?\d+$/;

function isKept(token: string): boolean {
  if (token.startsWith('"')) return true;
  return INTEGER.test(token) ? Number.isSafeInteger(Number(token)) : sizeOf(token) === sizeOf(String(Number(token)));
}

function exactly(token: string): unknown {
  return INTEGER.test(token) ? BigInt(token) : INEXACT;
}

/** The same text for the same number but for its sign, however it is written: `1.50` and `15e-1` are `15e-1`. */
function sizeOf(token: string): string {
  const [, whole = '', fraction = '', exponent = '0'] = /^-?(\d+)(?:\.(\d+))?(?:[eE]([+-]?\d+))?$/.exec(token) ?? [];
  const digits = (whole + fraction).replace(/^0+/, '');
  let end = digits.length;
  while (digits.charAt(end - 1) === '0') end -= 1;
  return end === 0 ? digits : `${digits.slice(0, end)}e${String(Number(exponent) - fraction.length + digits.length - end)}`;
}

async function parseYaml(text: string, what: string): Promise<unknown> {
  const yaml = await import('yaml');
  if (isDeepYaml(new yaml.Lexer().lex(text))) throw tooDeep(what);
  const document = yaml.parseDocument(text, { uniqueKeys: true, intAsBigInt: true, prettyErrors: false, logLevel: 'error' });
  const [problem] = document.errors;
  if (problem !== undefined) throw notA('yaml', what, lineAt(text, problem.pos[0]));
  yaml.visit(document, {
    // A number that would print otherwise than it is written (`0123`, `1e10`, `1.50`) is a password that nobody put in quotes.
    Scalar(_key, node) {
      const isNumber = typeof node.value === 'number' || typeof node.value === 'bigint';
      if (isNumber && node.source !== undefined && String(node.value) !== node.source) node.value = node.source;
    },
    Alias(_key, node, parents) {
      const isInside = parents.some(
        (parent) => yaml.isCollection(parent) && parent.anchor === node.source && parent === node.resolve(document),
      );
      if (isInside) throw badAlias(what);
    },
  });
  try {
    const content: unknown = document.toJS({ maxAliasCount: 100 });
    return content;
  } catch {
    throw badAlias(what);
  }
}

/**
 * Asked before the parser, which recurses: deep enough, it takes a minute or the whole process down. Outside of brackets every level
 * has an indicator or a column of indentation in front of it.
 */
function isDeepYaml(tokens: Iterable<string>): boolean {
  let brackets = 0;
  let column = 0;
  for (const token of tokens) {
    if (/^\r?\n$/.test(token)) column = 0;
    else if (/^[[{]$/.test(token)) brackets++;
    else if (/^[\]}]$/.test(token)) brackets--;
    else if (brackets <= 0 && /^(?: +|[-?:])$/.test(token)) column += token.length;
    if (brackets > 2 * MAX_DEPTH || (column > 2 * MAX_DEPTH && /^[-?:]$/.test(token))) return true;
  }
  return false;
}

function badAlias(what: string): KzError {
  return new KzError('secret-invalid', `${what} cannot be read as YAML: an alias holds itself, or aliases make it too large`);
}

async function parseToml(text: string, what: string): Promise<unknown> {
  const toml = await import('smol-toml');
  try {
    return toml.parse(text, { integersAsBigInt: 'asNeeded' });
  } catch (error) {
    throw notA('toml', what, error instanceof toml.TomlError ? error.line : undefined);
  }
}

const DOTENV_NAME = /[^\S\n]*(?:export[^\S\n]+)?([\w.-]+)(?:[^\S\n]*=|:(?=[^\S\n]))[^\S\n]*/y;
const DOTENV_IGNORED = /[^\S\n]*(?:#.*)?(?:\n|$)/y;
const DOTENV_BARE = /([^#\n]*)(?:#.*)?(?:\n|$)/y;
const DOTENV_QUOTED: Readonly<Record<string, RegExp>> = {
  "'": /'((?:\\'|[^'])*)'[^\S\n]*(?:#.*)?(?:\n|$)/y,
  '"': /"((?:\\"|[^"])*)"[^\S\n]*(?:#.*)?(?:\n|$)/y,
  '`': /`((?:\\`|[^`])*)`[^\S\n]*(?:#.*)?(?:\n|$)/y,
};

/**
 * The rules of the `dotenv` package: quotes may hold newlines, only double quotes expand `\n` and `\r`, an escaped quote keeps its
 * backslash, `$` is a character, the last of two equal names wins. Stricter in one point: what it would skip or guess is an error.
 */
function parseDotenv(original: string, what: string): Document {
  const text = original.replace(/\r\n?/g, '\n');
  const values = new Map<string, unknown>();
  const cursor = new TextCursor(text);
  while (!cursor.atEnd) {
    if (cursor.take(DOTENV_IGNORED) !== null) continue;
    const start = cursor.offset;
    const name = cursor.take(DOTENV_NAME)?.[1];
    if (name === undefined) throw notA('dotenv', what, lineAt(text, start), 'a line is NAME=value or a # comment');
    const quote = text.charAt(cursor.offset);
    const quoted = DOTENV_QUOTED[quote];
    const value = cursor.take(quoted ?? DOTENV_BARE)?.[1];
    if (value === undefined) {
      throw notA('dotenv', what, lineAt(text, start), 'a quoted value ends with the same quote, and only a comment may follow');
    }
    values.set(name, quoted === undefined ? value.trim() : quote === '"' ? value.replace(/\\n/g, '\n').replace(/\\r/g, '\r') : value);
  }
  return values;
}

/** Level by level, without recursion. What several aliases share is looked at once. */
function isDeep(content: unknown): boolean {
  let level = new Set([content]);
  for (let depth = 0; level.size > 0; depth++) {
    if (depth > MAX_DEPTH) return true;
    level = new Set([...level].flatMap(childrenOf));
  }
  return false;
}

function childrenOf(value: unknown): unknown[] {
  if (value instanceof Map) return [...value.values()];
  if (Array.isArray(value)) return value;
  return isRecord(value) ? Object.values(value) : [];
}

function holdsInexact(value: unknown): boolean {
  return value === INEXACT || childrenOf(value).some(holdsInexact);
}

function tooDeep(what: string): KzError {
  return new KzError('secret-invalid', `${what} is nested too deeply`, { hint: `kz reads up to ${String(MAX_DEPTH)} levels` });
}

function notA(format: DocumentFormat, what: string, line?: number, hint?: string): KzError {
  const place = line === undefined ? '' : ` (line ${String(line)})`;
  return new KzError('secret-invalid', `${what} is not valid ${FORMAT_NAMES[format]}${place}`, { hint });
}

function lineAt(text: string, offset: number): number {
  return text.slice(0, offset).split('\n').length;
}

/** At every level the rest of the path may be one key with dots in it: `data.tls.crt` finds `tls.crt` in `data`. */
function findPath(value: unknown, keys: string): unknown {
  if (!Array.isArray(value) && !isRecord(value)) return undefined;
  if (hasKey(value, keys)) return Reflect.get(value, keys);
  const dot = keys.indexOf('.');
  const head = keys.slice(0, Math.max(dot, 0));
  return dot === -1 || !hasKey(value, head) ? undefined : findPath(Reflect.get(value, head), keys.slice(dot + 1));
}

function hasKey(value: object, key: string): boolean {
  return Object.hasOwn(value, key) && !(Array.isArray(value) && key === 'length');
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value) && !(value instanceof Date);
}

/** JSON.stringify for what the parsers return: it knows BigInt, and TOML's dates, which stay days or times. */
function toJson(value: unknown): string {
  if (typeof value === 'bigint') return value.toString();
  if (value instanceof Date) return JSON.stringify(value.toISOString());
  if (Array.isArray(value)) return `[${value.map(toJson).join(',')}]`;
  if (!isRecord(value)) return value === undefined ? 'null' : JSON.stringify(value);
  return `{${Object.entries(value)
    .map(([key, item]) => `${JSON.stringify(key)}:${toJson(item)}`)
    .join(',')}}`;
}
