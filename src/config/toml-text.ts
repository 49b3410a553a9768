// A TOML text changed in place: one value is set or taken away, and everything else stays as its author wrote it: comments, order, quotes,
// line endings. Pure text to text. It does not read its result back: the caller does, who knows what else must not have changed.
// A text that is not TOML makes its parser throw; how much of that may be told depends on whose text it is, so that is the caller's too.
// Loads a second TOML parser, one that keeps positions, so import this file only to edit.
import { parseTOML, type AST } from 'toml-eslint-parser';

/** One key or more. What stands in a list has no path. */
export type TomlPath = readonly string[];

/**
 * The text with this value, a TOML literal, at the path: in the place and the form of what is there already, else behind the last key
 * of its table, which is added at the end when it is missing. What the path leads through are tables, or nothing yet.
 */
export function setTomlValue(source: string, path: TomlPath, literal: string): string {
  return behindMark(source, (text) => setValue(text, path, literal));
}

/** The text without the value, or the table and all below it; the same text when nothing is there. Comments above it stay. */
export function removeTomlValue(source: string, path: TomlPath): string {
  return behindMark(source, (text) => removeValue(text, path));
}

/** The text with an empty table at the path, where nothing may be yet. */
export function insertTomlTable(source: string, path: TomlPath): string {
  return behindMark(source, (text) => insertTable(text, path));
}

/** A literal. JSON's escapes are all TOML's too; JSON only leaves DEL bare. */
export function tomlString(text: string): string {
  return JSON.stringify(text).replaceAll('\x7f', '\\u007f');
}

/** `production."my key"`. */
export function tomlKey(path: TomlPath): string {
  return path.map((key) => (/^[A-Za-z0-9_-]+$/.test(key) ? key : tomlString(key))).join('.');
}

type Path = readonly (string | number)[];

/** The parser does not take a byte order mark for one. */
function behindMark(source: string, edit: (text: string) => string): string {
  return source.startsWith('\uFEFF') ? `\uFEFF${edit(source.slice(1))}` : edit(source);
}

function setValue(text: string, path: TomlPath, literal: string): string {
  const pair = readLayout(text).pairs.find((candidate) => isSame(candidate.path, path));
  if (pair !== undefined) return splice(text, pair.node.value.range, literal);
  return insertValue(removeValue(text, path), path, literal);
}

/** In the parent's own table, else in the inline table or beside the dotted keys that hold the parent, else in a new table. */
function insertValue(text: string, path: TomlPath, literal: string): string {
  const layout = readLayout(text);
  const parent = path.slice(0, -1);
  const line = (depth: number) => `${tomlKey(path.slice(depth))} = ${literal}`;
  if (parent.length === 0) return insertAtTop(layout, line(0));
  const table = layout.tables.find((candidate) => isSame(candidate.path, parent));
  if (table !== undefined) return insertLine(text, table.node.body.at(-1) ?? table.node, line(parent.length));
  const inline = findInline(layout, parent);
  if (inline !== undefined) return insertMember(layout, inline.node, line(inline.path.length));
  const sibling = layout.pairs.findLast(({ path: other, depth }) => startsWith(other, parent) && depth < parent.length);
  if (sibling !== undefined) return insertLine(text, sibling.node, line(sibling.depth));
  return appendTable(text, parent, line(parent.length));
}

function insertTable(text: string, path: TomlPath): string {
  const layout = readLayout(text);
  const inline = findInline(layout, path);
  return inline === undefined
    ? appendTable(text, path)
    : insertMember(layout, inline.node, `${tomlKey(path.slice(inline.path.length))} = {}`);
}

function removeValue(source: string, path: TomlPath): string {
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
  const program = parseTOML(text, { tomlVersion: '1.1' });
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

/** Behind the other top-level keys, else before the first table and the comment right above it, else at the end. */
function insertAtTop({ text, pairs, tables }: Layout, line: string): string {
  const eol = newline(text);
  const last = pairs.findLast(({ depth }) => depth === 0)?.node;
  const [table] = tables;
  const offset = last !== undefined ? linesOf(text, last.range)[1] : table === undefined ? text.length : startOfBlock(text, table.node);
  const separator = offset === 0 || text[offset - 1] === '\n' ? '' : eol;
  return splice(text, [offset, offset], separator + (last === undefined ? '' : indentAt(text, last.range[0])) + line + eol);
}

/** Above a first table there are only comments and blank lines: behind the last of those. */
function startOfBlock(text: string, { range }: AST.TOMLTable): number {
  const [start] = linesOf(text, range);
  const blank = [...text.slice(0, start).matchAll(/(?<![^\n])[ \t]*\r?\n/g)].at(-1);
  return blank === undefined ? 0 : blank.index + blank[0].length;
}

/** Below a pair, indented like it, or below the header of an empty table. */
function insertLine(text: string, { type, range: [start, end] }: AST.TOMLTable | AST.TOMLKeyValue, line: string): string {
  const indent = type === 'TOMLTable' ? '' : indentAt(text, start);
  const offset = endOfLine(text, end);
  return splice(text, [offset, offset], newline(text) + indent + line);
}

function appendTable(text: string, path: TomlPath, line?: string): string {
  const eol = newline(text);
  const lines = [`[${tomlKey(path)}]`, ...(line === undefined ? [] : [line])].join(eol) + eol;
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

function isSame(a: Path, b: Path): boolean {
  return a.length === b.length && startsWith(a, b);
}

function startsWith(path: Path, start: Path): boolean {
  return start.every((part, index) => path[index] === part);
}
