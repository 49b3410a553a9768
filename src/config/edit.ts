// Edits of `.keyzero.toml` that leave everything else as its author wrote it: comments, order, quotes, line endings. Pure text to
// text. Every result is parsed again, and refused unless it differs from the original in that one entry only.
import { isDeepStrictEqual } from 'node:util';
import { parse } from 'smol-toml';
import { parseTOML, type AST } from 'toml-eslint-parser';
import { KzError } from '../core/errors.ts';
import { FILE_KEYS } from './schema.ts';

export type EntryValue = string | number | boolean | readonly string[];

/** One secret's declaration: `provider`, `ref` and what else the schema allows. */
export type EntryFields = Readonly<Record<string, EntryValue>>;

export interface SecretAddress {
  /** The table `[<environment>.secrets]`; `[secrets]` when left out. */
  readonly environment?: string | undefined;
  readonly name: string;
}

type Table = Record<string, unknown>;
type Path = readonly (string | number)[];

/**
 * Adds the entry at the end of its table, which is created when missing, or changes the fields that differ in an existing one, in
 * whatever form it is written. Throws `config-syntax` when the text is not TOML, `config-invalid` when a table's name is taken by a
 * value, and `write-failed` when the result would not say exactly what was asked.
 */
export function setSecret(source: string, { environment, name, entry }: SecretAddress & { readonly entry: EntryFields }): string {
  const table = tablePath(environment);
  const path = [...table, name];
  const { mark, text } = splitMark(source);
  const document = parseDocument(text);
  requireTables(document, table);
  const current = valueAt(document, path);
  const edited = isTable(current) ? setFields(text, path, current, entry) : setValue(text, path, inlineTable(entry));
  verify(text, edited, table, { name, entry });
  return mark + edited;
}

/** Undefined when there is no such entry. Comments above it and its table stay. Throws as `setSecret` does. */
export function removeSecret(source: string, { environment, name }: SecretAddress): string | undefined {
  const table = tablePath(environment);
  const path = [...table, name];
  const { mark, text } = splitMark(source);
  if (valueAt(parseDocument(text), path) === undefined) return undefined;
  let edited = removeValue(text, path);
  // An empty `[production.secrets]` still declares an environment.
  if (valueAt(parseDocument(edited), table) === undefined) edited = insertTable(edited, table);
  verify(text, edited, table, { name });
  return mark + edited;
}

function tablePath(environment: string | undefined): readonly string[] {
  if (environment === undefined) return ['secrets'];
  if ((FILE_KEYS as readonly string[]).includes(environment)) {
    throw new KzError('usage', `${JSON.stringify(environment)} cannot be an environment: it is a table of its own in the config`);
  }
  return [environment, 'secrets'];
}

function splitMark(source: string): { mark: string; text: string } {
  return source.startsWith('\uFEFF') ? { mark: '\uFEFF', text: source.slice(1) } : { mark: '', text: source };
}

function parseDocument(text: string): Table {
  return readToml(() => parse(text));
}

function readToml<T>(read: () => T): T {
  try {
    return read();
  } catch (error) {
    throw new KzError('config-syntax', 'cannot edit a config that is not valid TOML', { cause: error, hint: 'run `kz validate`' });
  }
}

function requireTables(document: Table, path: readonly string[]): void {
  for (let length = 1; length <= path.length; length++) {
    const value = valueAt(document, path.slice(0, length));
    if (value === undefined || isTable(value)) continue;
    throw new KzError('config-invalid', `cannot add a secret: ${keys(path.slice(0, length))} is not a table`);
  }
}

function setFields(source: string, path: Path, current: Table, entry: EntryFields): string {
  let text = source;
  for (const [field, value] of Object.entries(entry)) {
    if (!Object.hasOwn(current, field) || !isDeepStrictEqual(current[field], value)) text = setValue(text, [...path, field], toml(value));
  }
  // Last, so that an entry of dotted keys is never without one.
  for (const field of Object.keys(current)) {
    if (!Object.hasOwn(entry, field)) text = removeValue(text, [...path, field]);
  }
  return text;
}

function setValue(text: string, path: Path, value: string): string {
  const pair = readLayout(text).pairs.find((candidate) => isSame(candidate.path, path));
  if (pair !== undefined) return splice(text, pair.node.value.range, value);
  return insertValue(removeValue(text, path), path, value);
}

/** In the parent's own table, else in the inline table or beside the dotted keys that hold the parent, else in a new table. */
function insertValue(text: string, path: Path, value: string): string {
  const layout = readLayout(text);
  const parent = path.slice(0, -1);
  const table = layout.tables.find((candidate) => isSame(candidate.path, parent));
  if (table !== undefined) return insertLine(text, table.node.body.at(-1) ?? table.node, `${keys(path.slice(-1))} = ${value}`);
  const inline = findInline(layout, parent);
  if (inline !== undefined) return insertMember(layout, inline.node, `${keys(path.slice(inline.path.length))} = ${value}`);
  const sibling = layout.pairs.findLast(({ path: other, depth }) => startsWith(other, parent) && depth < parent.length);
  if (sibling !== undefined) return insertLine(text, sibling.node, `${keys(path.slice(sibling.depth))} = ${value}`);
  return appendTable(text, parent, `${keys(path.slice(-1))} = ${value}`);
}

function insertTable(text: string, path: Path): string {
  const layout = readLayout(text);
  const inline = findInline(layout, path);
  return inline === undefined ? appendTable(text, path) : insertMember(layout, inline.node, `${keys(path.slice(inline.path.length))} = {}`);
}

function removeValue(source: string, path: Path): string {
  let text = source;
  for (;;) {
    const layout = readLayout(text);
    const table = layout.tables.find((candidate) => startsWith(candidate.path, path));
    const pair = layout.pairs.find((candidate) => startsWith(candidate.path, path));
    if (table !== undefined) text = removeTable(text, table.node.range);
    else if (pair !== undefined) text = removePair(layout, pair.node);
    else return text;
  }
}

interface Layout {
  readonly text: string;
  /** Every `key = value`, also inside inline tables, outer before inner. `depth` is the length of the path of what holds it. */
  readonly pairs: readonly { readonly path: Path; readonly depth: number; readonly node: AST.TOMLKeyValue }[];
  readonly tables: readonly { readonly path: Path; readonly node: AST.TOMLTable }[];
  /** The offset of every comma that is not inside a string. */
  readonly commas: readonly number[];
}

/** Offsets move with every change, so each step reads the text anew; these files are small. */
function readLayout(text: string): Layout {
  const program = readToml(() => parseTOML(text, { tomlVersion: '1.1' }));
  const pairs: { path: Path; depth: number; node: AST.TOMLKeyValue }[] = [];
  const tables: { path: Path; node: AST.TOMLTable }[] = [];
  for (const node of program.body[0].body) {
    if (node.type === 'TOMLKeyValue') addPair(node, []);
    else {
      tables.push({ path: node.resolvedKey, node });
      for (const pair of node.body) addPair(pair, node.resolvedKey);
    }
  }
  const commas = program.tokens.filter(({ type, value }) => type === 'Punctuator' && value === ',').map(({ range }) => range[0]);
  return { text, pairs, tables, commas };

  function addPair(node: AST.TOMLKeyValue, parent: Path): void {
    const path = [...parent, ...node.key.keys.map((key) => (key.type === 'TOMLBare' ? key.name : key.value))];
    pairs.push({ path, depth: parent.length, node });
    if (node.value.type === 'TOMLInlineTable') for (const inner of node.value.body) addPair(inner, path);
  }
}

/** The innermost inline table on the way to `path`, which may be its own. */
function findInline({ pairs }: Layout, path: Path): { path: Path; node: AST.TOMLInlineTable } | undefined {
  const inline = pairs.flatMap((pair) => (pair.node.value.type === 'TOMLInlineTable' ? { path: pair.path, node: pair.node.value } : []));
  return inline.findLast((candidate) => startsWith(path, candidate.path));
}

/** Below a pair, indented like it, or below the header of an empty table. */
function insertLine(text: string, { type, range: [start, end] }: AST.TOMLTable | AST.TOMLKeyValue, line: string): string {
  const indent = type === 'TOMLTable' ? '' : indentAt(text, start);
  const offset = endOfLine(text, end);
  return splice(text, [offset, offset], newline(text) + indent + line);
}

function appendTable(text: string, path: Path, line?: string): string {
  const eol = newline(text);
  const lines = [`[${keys(path)}]`, ...(line === undefined ? [] : [line])].join(eol) + eol;
  if (text.trim() === '') return text + lines;
  return text + (text.endsWith('\n') ? '' : eol) + (endsWithBlankLine(text) ? '' : eol) + lines;
}

/** The blank lines behind it go too when blank lines, or nothing, stand before it. */
function removeTable(text: string, range: AST.Range): string {
  const [start, end] = linesOf(text, range);
  const before = text.slice(0, start);
  const after = text.slice(end);
  if (before !== '' && !endsWithBlankLine(before)) return before + after;
  const rest = after.replace(/^(?:[ \t]*\r?\n)+/, '');
  return rest === '' ? before.replace(/(\r?\n)(?:[ \t]*\r?\n)+$/, '$1') : before + rest;
}

function removePair(layout: Layout, pair: AST.TOMLKeyValue): string {
  if (pair.parent.type === 'TOMLInlineTable') return removeMember(layout, pair, pair.parent);
  return splice(layout.text, linesOf(layout.text, pair.range), '');
}

function insertMember({ text, commas }: Layout, { body, range }: AST.TOMLInlineTable, member: string): string {
  const [open, close] = [range[0] + 1, range[1] - 1];
  const last = body.at(-1);
  if (last === undefined) return splice(text, [open, text.slice(open, close).trim() === '' ? close : open], ` ${member} `);
  const end = last.range[1];
  const comma = commas.find((offset) => offset >= end && offset < close);
  const after = comma === undefined ? end : comma + 1;
  const lineEnd = endOfLine(text, after);
  const [before, behind] = comma === undefined ? [',', ''] : ['', ','];
  // The closing brace on the same line: go on there. Otherwise a line of its own, below a comment on the last one.
  if (lineEnd >= close) return splice(text, [after, after], `${before} ${member}${behind}`);
  const line = newline(text) + indentAt(text, last.range[0]) + member + behind;
  return splice(splice(text, [lineEnd, lineEnd], line), [end, end], before);
}

function removeMember({ text, commas }: Layout, pair: AST.TOMLKeyValue, { body, range }: AST.TOMLInlineTable): string {
  const [start, end] = pair.range;
  const index = body.indexOf(pair);
  const next = body[index + 1]?.range[0] ?? range[1];
  const comma = commas.find((offset) => offset >= end && offset < next);
  const stop = comma === undefined ? end : comma + 1;
  if (body.length === 1 && (text.slice(range[0] + 1, start) + text.slice(stop, range[1] - 1)).trim() === '')
    return splice(text, range, '{}');
  const [lineStart, lineEnd] = linesOf(text, [start, stop]);
  const isAlone = text.slice(lineStart, start).trim() === '' && /^[ \t]*(?:#[^\n]*)?$/.test(text.slice(stop, endOfLine(text, stop)));
  if (isAlone) return splice(text, [lineStart, lineEnd], '');
  const previous = body[index - 1]?.range[1];
  if (comma !== undefined || previous === undefined) return splice(text, [start, stop + blanksAt(text, stop)], '');
  // A comma that ends its line may stay, and a comment may stand behind it.
  return splice(text, [text.slice(previous, start).includes('\n') ? start : previous, end], '');
}

function splice(text: string, [start, end]: readonly [number, number], replacement: string): string {
  return text.slice(0, start) + replacement + text.slice(end);
}

function newline(text: string): string {
  return /\r?\n/.exec(text)?.[0] ?? '\n';
}

/** The offset of the line break behind `offset`, or the end of the text. */
function endOfLine(text: string, offset: number): number {
  const found = text.slice(offset).search(/\r?\n/);
  return found === -1 ? text.length : offset + found;
}

/** From the start of the first line to behind the line break of the last. */
function linesOf(text: string, [start, end]: readonly [number, number]): [number, number] {
  const feed = text.indexOf('\n', end);
  return [text.lastIndexOf('\n', start - 1) + 1, feed === -1 ? text.length : feed + 1];
}

function indentAt(text: string, offset: number): string {
  const start = text.lastIndexOf('\n', offset - 1) + 1;
  return text.slice(start, start + blanksAt(text, start));
}

function blanksAt(text: string, offset: number): number {
  return text.slice(offset).search(/[^ \t]|$/);
}

function endsWithBlankLine(text: string): boolean {
  return /(?:^|\n)[ \t]*\r?\n$/.test(text);
}

function toml(value: EntryValue): string {
  if (typeof value === 'string') return quote(value);
  return typeof value === 'object' ? `[${value.map(quote).join(', ')}]` : String(value);
}

function inlineTable(entry: EntryFields): string {
  const members = Object.entries(entry).map(([field, value]) => `${keys([field])} = ${toml(value)}`);
  return members.length === 0 ? '{}' : `{ ${members.join(', ')} }`;
}

/** JSON's escapes are all TOML's too; JSON only leaves DEL bare. */
function quote(text: string): string {
  return JSON.stringify(text).replaceAll('\x7f', '\\u007f');
}

function keys(path: Path): string {
  return path.map((key) => (/^[A-Za-z0-9_-]+$/.test(String(key)) ? String(key) : quote(String(key)))).join('.');
}

function isSame(a: Path, b: Path): boolean {
  return a.length === b.length && startsWith(a, b);
}

function startsWith(path: Path, start: Path): boolean {
  return start.every((part, index) => path[index] === part);
}

function valueAt(document: Table, path: Path): unknown {
  let value: unknown = document;
  for (const part of path) {
    if (!isTable(value) || !Object.hasOwn(value, part)) return undefined;
    value = value[part];
  }
  return value;
}

function isTable(value: unknown): value is Table {
  return typeof value === 'object' && value !== null && !Array.isArray(value) && !(value instanceof Date);
}

/** Parsed again: the entry says what was asked (or is gone), and without it both texts say the same. */
function verify(before: string, after: string, table: readonly string[], { name, entry }: { name: string; entry?: EntryFields }): void {
  const cause = failure(() => {
    const written = valueAt(parse(after), [...table, name]);
    const isAsAsked = entry === undefined ? written === undefined : isTable(written) && isDeepStrictEqual({ ...written }, { ...entry });
    return isAsAsked && isDeepStrictEqual(withoutEntry(before, table, name), withoutEntry(after, table, name));
  });
  if (cause === undefined) return;
  const hint =
    entry === undefined
      ? `delete it from [${keys(table)}] by hand`
      : `add to [${keys(table)}] by hand: ${keys([name])} = ${inlineTable(entry)}`;
  const what = entry === undefined ? 'remove' : 'write';
  throw new KzError('write-failed', `cannot ${what} ${name} without changing anything else in the config`, { hint, ...cause });
}

function failure(holds: () => boolean): { cause?: unknown } | undefined {
  try {
    return holds() ? undefined : {};
  } catch (cause) {
    return { cause };
  }
}

function withoutEntry(text: string, path: readonly string[], name: string): Table {
  const document: Table = parse(text);
  let table = document;
  for (const key of path) {
    const inner = table[key];
    if (isTable(inner)) table = inner;
    else table = table[key] = Object.create(null) as Table;
  }
  Reflect.deleteProperty(table, name);
  return document;
}
