// One key of a TOML text, changed in place. Its own file, because the parser with positions is only loaded for this.
import { parseTOML, type AST } from 'toml-eslint-parser';
import { KzError } from '../core/errors.ts';

const BY_HAND = 'change it by hand: decrypt, edit and encrypt it with `age`';

/** The path comes from a parsed document, so something is there. */
export function replaceToml(text: string, path: readonly string[], value: string): string {
  const [start, end] = findEntry(text, path).value.range;
  return text.slice(0, start) + quote(value) + text.slice(end);
}

/** A new top-level key, behind the others and before the first table. */
export function addToml(text: string, key: string, value: string): string {
  const { body } = topLevel(text);
  const line = `${/^[\w-]+$/.test(key) ? key : quote(key)} = ${quote(value)}\n`;
  const last = body.filter((node) => node.type === 'TOMLKeyValue').at(-1);
  const at = last === undefined ? (body.length === 0 ? text.length : 0) : lineEnd(text, last.range[1]);
  const separator = at === 0 || text[at - 1] === '\n' ? '' : '\n';
  return text.slice(0, at) + separator + line + text.slice(at);
}

export function removeToml(text: string, path: readonly string[]): string {
  const entry = findEntry(text, path);
  if (entry.parent.type === 'TOMLInlineTable') throw unsupported(path);
  const start = text.lastIndexOf('\n', entry.range[0]) + 1;
  return text.slice(0, start) + text.slice(lineEnd(text, entry.range[1]));
}

function topLevel(text: string): AST.TOMLTopLevelTable {
  try {
    return parseTOML(text).body[0];
  } catch {
    // Without the cause: it is about a decrypted text.
    throw new KzError('provider-read-only', 'kz cannot change this TOML file: it uses a form that only its reader knows', {
      hint: BY_HAND,
    });
  }
}

function findEntry(text: string, path: readonly string[]): AST.TOMLKeyValue {
  const entry = entriesOf(topLevel(text).body, []).find(
    ({ keys }) => keys.length === path.length && keys.every((key, i) => key === path[i]),
  );
  if (entry === undefined) throw unsupported(path);
  return entry.node;
}

interface Entry {
  readonly keys: readonly (string | number)[];
  readonly node: AST.TOMLKeyValue;
}

function entriesOf(nodes: readonly (AST.TOMLKeyValue | AST.TOMLTable)[], prefix: readonly (string | number)[]): Entry[] {
  return nodes.flatMap((node) => {
    if (node.type === 'TOMLTable') return entriesOf(node.body, node.resolvedKey);
    const keys = [...prefix, ...node.key.keys.map((part) => (part.type === 'TOMLBare' ? part.name : part.value))];
    return node.value.type === 'TOMLInlineTable' ? entriesOf(node.value.body, keys) : [{ keys, node }];
  });
}

/** A TOML basic string has JSON's escapes, and wants DEL escaped too. */
function quote(value: string): string {
  return JSON.stringify(value).replace(/\x7f/g, '\\u007f');
}

function lineEnd(text: string, offset: number): number {
  const newline = text.indexOf('\n', offset);
  return newline === -1 ? text.length : newline + 1;
}

function unsupported(path: readonly string[]): KzError {
  return new KzError('provider-read-only', `kz cannot change ${path.join('.')} where it stands in the TOML file`, {
    hint: BY_HAND,
  });
}
