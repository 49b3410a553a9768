// Changes one key of a dotenv, JSON or TOML text and keeps everything else as it is: order, comments, indentation. Every edit is read
// back and compared before it is returned; what cannot be done that way is refused with `provider-read-only`.
import { isDeepStrictEqual } from 'node:util';
import { KzError } from '../core/errors.ts';
import { TextCursor } from '../core/text-cursor.ts';
import { parseDocument, selectKey, type Document, type DocumentFormat } from './document.ts';

export interface DocumentText {
  readonly text: string;
  readonly format: DocumentFormat;
  /** Names the document in errors. */
  readonly what: string;
}

/** The text with the key set to the value. The key is found as selectKey finds it; a new one becomes a top-level key. */
export async function setKey(document: DocumentText, key: string, value: string): Promise<string> {
  const before = await parse(document);
  const path = findPath(before, key, document);
  for (const edit of await edits(document, path ?? [key], path === undefined, value)) {
    if (await isExact({ ...document, text: edit }, before, path ?? [key], value)) return edit;
  }
  throw readOnly(`kz cannot write this value as ${JSON.stringify(key)} of ${document.what}`, 'keep it in a JSON file, or in the store');
}

/** The text without the key; undefined when it has none. */
export async function removeKey(document: DocumentText, key: string): Promise<string | undefined> {
  const before = await parse(document);
  const path = findPath(before, key, document);
  if (path === undefined) return undefined;
  const edit = await removal(document, path);
  if (await isExact({ ...document, text: edit }, before, path, undefined)) return edit;
  throw readOnly(`kz cannot remove ${JSON.stringify(key)} from ${document.what} without touching other values`);
}

async function parse({ text, format, what }: DocumentText): Promise<Document> {
  return parseDocument(text, format, what);
}

/** Undefined when there is no such key. Refuses a key that holds more than one value, and an item of a list. */
function findPath(document: Document, key: string, { what }: DocumentText): readonly string[] | undefined {
  const path = document.has(key) ? [key] : walk(Object.fromEntries(document), key);
  const found = path === undefined ? selectKey(document, key) : valueAt(document, path);
  if (path === undefined && found !== undefined) throw readOnly(`kz cannot change an item of a list (${key} in ${what})`);
  if (typeof found === 'object' && found !== null) throw readOnly(`${key} in ${what} holds more than one value`);
  return path;
}

function walk(value: unknown, keys: string): readonly string[] | undefined {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return undefined;
  if (Object.hasOwn(value, keys)) return [keys];
  const dot = keys.indexOf('.');
  const head = keys.slice(0, Math.max(dot, 0));
  if (dot === -1 || !Object.hasOwn(value, head)) return undefined;
  const rest = walk(Reflect.get(value, head), keys.slice(dot + 1));
  return rest && [head, ...rest];
}

function valueAt(document: Document, [head = '', ...rest]: readonly string[]): unknown {
  let value = document.get(head);
  for (const key of rest) value = typeof value === 'object' && value !== null ? (Reflect.get(value, key) as unknown) : undefined;
  return value;
}

async function isExact(edited: DocumentText, before: Document, path: readonly string[], value: string | undefined): Promise<boolean> {
  try {
    const after = await parse(edited);
    return valueAt(after, path) === value && isDeepStrictEqual(without(after, path), without(before, path));
  } catch {
    return false;
  }
}

/**
 * The document without the value at the path, also without the order of its keys, which nothing reads, and without a table that this
 * leaves empty: TOML's `db.password = "x"` takes `db` along.
 */
function without(document: Document, [head = '', ...rest]: readonly string[]): Document {
  const copy = new Map(document);
  const value = copy.get(head);
  const inner =
    rest.length === 0 || typeof value !== 'object' || value === null ? new Map() : without(new Map(Object.entries(value)), rest);
  if (inner.size === 0) copy.delete(head);
  else copy.set(head, inner);
  return copy;
}

/** Texts to try, the best form first. */
async function edits({ text, format, what }: DocumentText, path: readonly string[], isNew: boolean, value: string): Promise<string[]> {
  switch (format) {
    case 'dotenv': {
      const [key = ''] = path;
      if (!/^[\w.-]+$/.test(key)) throw new KzError('ref-invalid', `${JSON.stringify(key)} cannot be a name in a dotenv file (${what})`);
      return dotenvForms(value).map((form) => setDotenv(text, key, form));
    }
    case 'json':
      return [isNew ? addJson(text, path[0] ?? '', value) : replaceJson(text, path, value)];
    case 'toml': {
      const { setTomlValue, tomlString } = await import('../config/toml-text.ts');
      return [editToml(what, () => setTomlValue(text, path, tomlString(value)))];
    }
    case 'yaml':
      throw yamlIsReadOnly(what);
  }
}

async function removal({ text, format, what }: DocumentText, path: readonly string[]): Promise<string> {
  switch (format) {
    case 'dotenv':
      return dotenvLines(text)
        .filter(({ name }) => name === path[0])
        .reduceRight((rest, { start, end }) => splice(rest, start, end, ''), text);
    case 'json':
      return removeJson(text, path);
    case 'toml': {
      const { removeTomlValue } = await import('../config/toml-text.ts');
      return editToml(what, () => removeTomlValue(text, path));
    }
    case 'yaml':
      throw yamlIsReadOnly(what);
  }
}

function editToml(what: string, edit: () => string): string {
  try {
    return edit();
  } catch {
    // Without the cause: it is about a decrypted text.
    throw readOnly(
      `kz cannot change ${what}: it uses a form of TOML that kz can only read`,
      'change it by hand: decrypt, edit and encrypt it with `age`',
    );
  }
}

function yamlIsReadOnly(what: string): KzError {
  return readOnly(`kz reads YAML but does not write it (${what})`, 'use a dotenv, JSON or TOML file');
}

function readOnly(message: string, hint?: string): KzError {
  return new KzError('provider-read-only', message, { hint });
}

function splice(text: string, start: number, end: number, replacement: string): string {
  return text.slice(0, start) + replacement + text.slice(end);
}

interface DotenvLine {
  readonly name: string;
  readonly start: number;
  readonly valueStart: number;
  readonly valueEnd: number;
  /** Behind the newline. */
  readonly end: number;
}

const DOTENV_LINE =
  /([^\S\n]*(?:export[^\S\n]+)?([\w.-]+)(?:[^\S\n]*=|:(?=[^\S\n]))[^\S\n]*)('(?:\\'|[^'])*'|"(?:\\"|[^"])*"|`(?:\\`|[^`])*`|[^#\n]*?)[^\S\n]*(?:#[^\n]*)?(?:\n|$)/y;
const OTHER_LINE = /[^\n]*(?:\n|$)/y;

function dotenvLines(text: string): DotenvLine[] {
  const lines: DotenvLine[] = [];
  const cursor = new TextCursor(text);
  while (!cursor.atEnd) {
    const start = cursor.offset;
    const match = cursor.take(DOTENV_LINE);
    const [, before = '', name = '', value = ''] = match ?? [];
    const valueStart = start + before.length;
    if (match === null) cursor.take(OTHER_LINE);
    else lines.push({ name, start, valueStart, valueEnd: valueStart + value.length, end: cursor.offset });
  }
  return lines;
}

function setDotenv(text: string, key: string, form: string): string {
  const line = dotenvLines(text).findLast(({ name }) => name === key);
  if (line !== undefined) return splice(text, line.valueStart, line.valueEnd, form);
  const separator = text === '' || text.endsWith('\n') ? '' : '\n';
  return `${text}${separator}${key}=${form}\n`;
}

/** Which of these means the value depends on its quotes, backslashes and newlines: the caller reads each one back. */
function dotenvForms(value: string): string[] {
  const escaped = `"${value.replace(/\r/g, '\\r').replace(/\n/g, '\\n')}"`;
  const forms = [`'${value}'`, `"${value}"`, `\`${value}\``];
  if (/^[\w./:@%+,=-]+$/.test(value)) return [value, ...forms];
  return /[\r\n]/.test(value) ? [escaped, ...forms] : forms;
}

interface Member {
  readonly key: string;
  readonly start: number;
  readonly valueStart: number;
  readonly end: number;
}

interface JsonObject {
  readonly members: readonly Member[];
  /** Behind the `{`, and at the `}`. */
  readonly open: number;
  readonly close: number;
}

function replaceJson(text: string, path: readonly string[], value: string): string {
  const { member } = findMember(text, path);
  return splice(text, member.valueStart, member.end, JSON.stringify(value));
}

function addJson(text: string, key: string, value: string): string {
  const { members, open, close } = readObject(text, text.indexOf('{'));
  const entry = `${JSON.stringify(key)}: ${JSON.stringify(value)}`;
  const last = members.at(-1);
  if (last === undefined) return splice(text, open, close, `\n  ${entry}\n`);
  const indentation = /\s*$/.exec(text.slice(0, last.start))?.[0] ?? '';
  return splice(text, last.end, last.end, `,${indentation}${entry}`);
}

function removeJson(text: string, path: readonly string[]): string {
  const { object, member } = findMember(text, path);
  const index = object.members.indexOf(member);
  const [previous, next] = [object.members[index - 1], object.members[index + 1]];
  if (next !== undefined) return splice(text, member.start, next.start, '');
  return previous === undefined ? splice(text, object.open, object.close, '') : splice(text, previous.end, member.end, '');
}

/** The text has been parsed, so it is JSON, and the path is in it. Of two equal keys the last one counts, as for JSON.parse. */
function findMember(text: string, path: readonly string[]): { object: JsonObject; member: Member } {
  let start = text.indexOf('{');
  for (const [index, key] of path.entries()) {
    const object = readObject(text, start);
    const member = object.members.findLast((candidate) => candidate.key === key);
    if (member === undefined) break;
    if (index === path.length - 1) return { object, member };
    start = member.valueStart;
  }
  throw new Error('unreachable: the parser found this key');
}

function readObject(text: string, start: number): JsonObject {
  const members: Member[] = [];
  let token = nextToken(text, start + 1);
  while (token.text !== '}') {
    if (token.text !== ',') {
      const colon = nextToken(text, token.end);
      const first = nextToken(text, colon.end);
      const end = valueEnd(text, first);
      members.push({ key: JSON.parse(token.text) as string, start: token.start, valueStart: first.start, end });
      token = { ...token, end };
    }
    token = nextToken(text, token.end);
  }
  return { members, open: start + 1, close: token.start };
}

interface Token {
  readonly text: string;
  readonly start: number;
  readonly end: number;
}

function valueEnd(text: string, first: Token): number {
  let token = first;
  for (let depth = 0; ; token = nextToken(text, token.end)) {
    if (token.text === '{' || token.text === '[') depth++;
    if (token.text === '}' || token.text === ']') depth--;
    if (depth === 0) return token.end;
  }
}

const JSON_TOKEN = /\s*("(?:[^"\\]+|\\.)*"|[{}[\],:]|[^\s{}[\],:"]+)/y;

function nextToken(text: string, offset: number): Token {
  JSON_TOKEN.lastIndex = offset;
  const token = JSON_TOKEN.exec(text)?.[1];
  if (token === undefined) throw new Error('unreachable: the parser found no end to this');
  return { text: token, start: JSON_TOKEN.lastIndex - token.length, end: JSON_TOKEN.lastIndex };
}
