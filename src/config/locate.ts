// Where in a TOML text a key is written. Loads a second TOML parser, one that keeps positions, so import this file only to report.
import { parseTOML, type AST } from 'toml-eslint-parser';

export interface Position {
  /** From 1. */
  readonly line: number;
  /** From 1, in UTF-16 units; a byte order mark is not counted. */
  readonly column: number;
}

type Path = readonly (string | number)[];

/**
 * A function that finds, in this text, the key at a path, or its nearest ancestor that is written in the text. A number in the path is an
 * element: of `[[table]]` its own header, of a list the value itself. The function gives undefined when not even the first key is there,
 * or the text is not TOML. The text is parsed once, however much is asked.
 */
export function locator(source: string): (path: Path) => Position | undefined {
  const positions = readPositions(source);
  return (path) => {
    for (let length = path.length; length > 0; length--) {
      const position = positions?.get(JSON.stringify(path.slice(0, length)));
      if (position !== undefined) return position;
    }
    return undefined;
  };
}

type Positions = Map<string, Position>;

function readPositions(source: string): Positions | undefined {
  const program = parse(source);
  if (program === undefined) return undefined;
  const defined: Positions = new Map();
  const mentioned: Positions = new Map();
  for (const node of program.body[0].body) {
    if (node.type === 'TOMLTable') addTable(node);
    else addPair(node, []);
  }
  // `[secrets]` is a better place for `secrets` than an earlier `[secrets.NAME]`.
  return new Map([...mentioned, ...defined]);

  function addTable(table: AST.TOMLTable): void {
    addKeys(table.key, table.resolvedKey);
    for (const pair of table.body) addPair(pair, table.resolvedKey);
  }

  function addPair(pair: AST.TOMLKeyValue, parent: Path): void {
    const path = [...parent, ...pair.key.keys.map(keyName)];
    addKeys(pair.key, path, parent.length);
    addValue(pair.value, path);
  }

  function addValue(value: AST.TOMLContentNode, path: Path): void {
    if (value.type === 'TOMLInlineTable') {
      for (const pair of value.body) addPair(pair, path);
    } else if (value.type === 'TOMLArray') {
      for (const [index, element] of value.elements.entries()) {
        add(defined, [...path, index], element);
        addValue(element, [...path, index]);
      }
    }
  }

  /** Each name on the way stands for the path up to it; the numbers of `[[tables]]` stand at the name before them. */
  function addKeys(key: AST.TOMLKey, path: Path, start = 0): void {
    let index = -1;
    for (let length = start + 1; length <= path.length; length++) {
      if (typeof path[length - 1] === 'string') index++;
      const node = key.keys[index];
      if (node !== undefined) add(length === path.length ? defined : mentioned, path.slice(0, length), node);
    }
  }
}

function add(positions: Positions, path: Path, node: AST.HasLocs): void {
  const key = JSON.stringify(path);
  const { line, column } = node.loc.start;
  if (!positions.has(key)) positions.set(key, { line, column: column + 1 });
}

function keyName(key: AST.TOMLBare | AST.TOMLQuoted): string {
  return key.type === 'TOMLBare' ? key.name : key.value;
}

/** 1.1 is what smol-toml reads: inline tables over several lines, `\e` and `\x41`. */
function parse(source: string): AST.TOMLProgram | undefined {
  try {
    return parseTOML(source.replace(/^\uFEFF/, ''), { tomlVersion: '1.1' });
  } catch {
    return undefined;
  }
}
