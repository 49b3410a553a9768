// YAML text → plain data that knows where each part of it is written. A strict subset of YAML 1.2: one document, keys that are text and
// stand once, no directives, anchors, aliases, tags or merge keys. So no text is larger in memory than its own size allows.
import type { Document, LineCounter, Node, Pair, Scalar, YAMLMap } from 'yaml';
import { looksLikeSecretValue } from '../core/credential-shape.ts';
import { syntaxMistake } from './bundle-syntax.ts';

export type Path = readonly (string | number)[];

/** From 1; columns in UTF-16 units. */
export interface Position {
  readonly line: number;
  readonly column: number;
}

export interface YamlProblem {
  readonly message: string;
  readonly hint?: string | undefined;
  readonly at: Position;
}

export interface YamlText {
  /** Mappings are objects without a prototype. */
  readonly content: unknown;
  /** Of the key or the list's element at a path, or of its nearest ancestor that is written. */
  place(path: Path): Position;
  /** Of the first character of the text that is the value at a path: within its quotes, or below its `|`. */
  textPlace(path: Path): Position;
}

/** Escapes count too: each may be a mistake. Parsing takes some 5 µs for one, and a resource has 30 to 60. */
const MOST_TOKENS = 100_000;

/** Outside of brackets a level has an indicator or a column of indentation in front of it. */
const MOST_LEVELS = 64;

/** What turns texts around or ends lines for some programs and not for others: a reviewer would read another bundle. Emoji and names need two of them. */
const UNSEEN = /(?![\t\n\u200c\u200d])(?!\r\n)[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/u;

/** Never throws for what the text holds. */
export async function readYaml(text: string): Promise<YamlText | { readonly problems: readonly YamlProblem[] }> {
  const unseen = unseenIn(text);
  if (unseen !== undefined) return { problems: [unseen] };
  const yaml = await import('yaml');
  const excess = excessOf(new yaml.Lexer().lex(text));
  if (excess !== undefined) return { problems: [{ message: excess, at: { line: 1, column: 1 } }] };
  const reading = new Reading(yaml, text);
  const content = reading.read();
  if (reading.problems.length > 0) return { problems: reading.problems };
  return {
    content,
    place: (path) => reading.positionOf(reading.written(content, path)?.start ?? 0),
    textPlace: (path) => reading.positionOf(reading.textStart(reading.written(content, path)) ?? 0),
  };
}

function unseenIn(text: string): YamlProblem | undefined {
  const { 0: character, index } = UNSEEN.exec(text) ?? { 0: '', index: -1 };
  if (index === -1) return undefined;
  const before = text.slice(0, index).split('\n');
  const code = character.codePointAt(0)?.toString(16).toUpperCase().padStart(4, '0') ?? '';
  return {
    message: `the file holds a character that cannot be seen (U+${code})`,
    hint: 'delete it; where a text needs it, write it with an escape in double quotes',
    at: { line: before.length, column: (before.at(-1)?.length ?? 0) + 1 },
  };
}

/** Asked before the parser, which recurses: deep enough, it takes the whole process down. */
function excessOf(tokens: Iterable<string>): string | undefined {
  let [count, brackets, column] = [0, 0, 0];
  for (const token of tokens) {
    count += token.startsWith('"') ? token.split('\\').length : 1;
    if (count > MOST_TOKENS) return 'the file holds too much: split the bundle';
    if (/^\r?\n$/.test(token)) column = 0;
    else if (/^[[{]$/.test(token)) brackets++;
    else if (/^[\]}]$/.test(token)) brackets--;
    else if (brackets <= 0 && /^(?: +|[-?:])$/.test(token)) column += token.length;
    if (brackets > MOST_LEVELS || (column > 2 * MOST_LEVELS && /^[-?:]$/.test(token))) return 'the file is nested too deeply';
  }
  return undefined;
}

/** Each is a walk through the text. Of more mistakes it is not asked where they began. */
const MOST_WALKS = 100;

type Yaml = typeof import('yaml');

interface Written {
  /** Of the key, or of the element in a list. */
  readonly start: number;
  readonly node: unknown;
}

class Reading {
  readonly problems: YamlProblem[] = [];
  readonly #yaml: Yaml;
  readonly #text: string;
  readonly #lines: LineCounter;
  readonly #written = new Map<object, Map<string | number, Written>>();

  constructor(yaml: Yaml, text: string) {
    this.#yaml = yaml;
    this.#text = text;
    this.#lines = new yaml.LineCounter();
  }

  read(): unknown {
    const [document, second] = this.#documents();
    if (second !== undefined) this.#report(second.range[0], 'a bundle is one document: nothing may follow `---` or `...`');
    const lines = new Set<number>();
    const tokens = this.#tokens();
    for (const { code, pos } of document?.errors ?? []) {
      const { line } = this.positionOf(pos[0]);
      if (lines.has(line)) continue;
      lines.add(line);
      const { offset, message, hint } = syntaxMistake(code, pos[0], this.#text, tokens);
      this.#report(offset, message, hint);
    }
    return this.problems.length > 0 ? undefined : this.#content(document?.contents);
  }

  #tokens(): () => readonly string[] {
    let walks = 0;
    let tokens: readonly string[] | undefined;
    return () => {
      walks++;
      return walks > MOST_WALKS ? [] : (tokens ??= [...new this.#yaml.Lexer().lex(this.#text)]);
    };
  }

  positionOf(offset: number): Position {
    const { line, col } = this.#lines.linePos(offset);
    return line === 0 ? { line: 1, column: offset + 1 } : { line, column: col };
  }

  written(content: unknown, path: Path): Written | undefined {
    let found: Written | undefined;
    let value = content;
    for (const part of path) {
      const next = typeof value === 'object' && value !== null ? this.#written.get(value)?.get(part) : undefined;
      if (next === undefined) break;
      found = next;
      value = (value as Record<string | number, unknown>)[part];
    }
    return found;
  }

  textStart(written: Written | undefined): number | undefined {
    if (!this.#yaml.isScalar(written?.node)) return written?.start;
    const { range, type } = written.node;
    const [start] = range ?? [written.start];
    if (type === 'QUOTE_DOUBLE' || type === 'QUOTE_SINGLE') return start + 1;
    if (type !== 'BLOCK_LITERAL' && type !== 'BLOCK_FOLDED') return start;
    const firstLine = this.#text.indexOf('\n', start) + 1;
    const indentation = /^(?:[ \t]*\r?\n)*( *)/.exec(this.#text.slice(firstLine))?.[1] ?? '';
    return firstLine + indentation.length;
  }

  /** A text can hold a million mistakes, and what takes time is where in our code each of them was noticed. */
  #documents(): Document.Parsed[] {
    const limit = Error.stackTraceLimit;
    Error.stackTraceLimit = 0;
    try {
      const tokens = [...new this.#yaml.Parser(this.#lines.addNewLine).parse(this.#text)];
      const directive = tokens.find(({ type }) => type === 'directive');
      if (directive !== undefined) {
        this.#report(directive.offset, 'a bundle has no % directives');
        return [];
      }
      // Our own look at the keys takes linear time; the library's, the square.
      const composer = new this.#yaml.Composer({ schema: 'core', uniqueKeys: false, stringKeys: true, logLevel: 'silent' });
      return [...composer.compose(tokens, true, this.#text.length)];
    } finally {
      Error.stackTraceLimit = limit;
    }
  }

  #content(node: Node | null | undefined): unknown {
    const { isAlias, isMap, isScalar, isSeq } = this.#yaml;
    if (node === null || node === undefined) return null;
    if (!this.#isPlain(node)) return null;
    if (isScalar(node)) return node.value;
    if (isMap(node)) return this.#mapping(node);
    if (!isSeq(node) || isAlias(node)) return null;
    const places = new Map<number, Written>();
    const list = node.items.map((item, index) => {
      const element = item as Node | null;
      places.set(index, { start: startOf(element) ?? startOf(node) ?? 0, node: element });
      return this.#content(element);
    });
    this.#written.set(list, places);
    return list;
  }

  #mapping(node: YAMLMap): object {
    const entries = Object.create(null) as Record<string, unknown>;
    const places = new Map<string, Written>();
    for (const pair of node.items as Pair<Scalar<string>, Node | null>[]) {
      const key = pair.key.value;
      const start = startOf(pair.key) ?? startOf(node) ?? 0;
      this.#isPlain(pair.key);
      const first = places.get(key);
      if (first !== undefined)
        this.#report(start, `${quoted(key)} is here twice (first in line ${String(this.positionOf(first.start).line)})`);
      else if (key === '<<') this.#report(start, 'a bundle has no merge keys (<<)', 'write the keys out');
      else if (key === '__proto__') this.#report(start, '__proto__ cannot be a key');
      else {
        places.set(key, { start, node: pair.value });
        entries[key] = this.#content(pair.value);
      }
    }
    this.#written.set(entries, places);
    return entries;
  }

  #isPlain(node: Node): boolean {
    const start = startOf(node) ?? 0;
    if (this.#yaml.isAlias(node)) {
      this.#report(start, 'a bundle has no aliases (*)', 'a value that starts with * needs quotes: "*.example.com"');
      return false;
    }
    if (node.tag !== undefined) this.#report(start, 'a bundle has no tags (!)', 'a value that starts with ! needs quotes: "!(…)"');
    else if ('anchor' in node) {
      this.#report(start, 'a bundle has no anchors (&)', 'a value that starts with & needs quotes');
    } else return true;
    return false;
  }

  #report(offset: number, message: string, hint?: string): void {
    this.problems.push({ message, hint, at: this.positionOf(offset) });
  }
}

function startOf(node: Node | null): number | undefined {
  return node?.range?.[0];
}

function quoted(key: string): string {
  return key.length > 60 || looksLikeSecretValue(key) ? 'a key' : JSON.stringify(key);
}
