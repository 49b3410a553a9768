// What is not YAML, in our words: the library's quote the file, and what is in the wrong place may be a secret. Where a mistake is noticed late, its
// place is where it began.

export interface SyntaxMistake {
  readonly message: string;
  readonly hint?: string | undefined;
  readonly offset: number;
}

/** `tokens` are the lexer's, of the whole text. */
export function syntaxMistake(code: string, offset: number, text: string, tokens: () => Iterable<string>): SyntaxMistake {
  const line = lineAt(text, offset);
  const strange = /(?! )\p{Zs}/u.exec(line.text)?.[0].codePointAt(0);
  if (strange !== undefined) {
    const name = `U+${strange.toString(16).toUpperCase().padStart(4, '0')}`;
    return { message: `not valid YAML: the line has a space that YAML does not know (${name})`, hint: 'write an ordinary space', offset };
  }
  const open = openMistake(code, offset, tokens);
  if (open !== undefined) return open;
  if (code === 'UNEXPECTED_TOKEN' && /["']\s+$/.test(text.slice(line.start, offset))) {
    const hint = 'write `|` after the key, and the value as it is on the next line, indented';
    return { message: 'not valid YAML: the value goes on after its closing quote', hint, offset };
  }
  // A dash is missed where a key stands too far left to belong to what is above it.
  const isIndent = code === 'MISSING_CHAR' && offset === line.start && line.text.startsWith(' ');
  const [message, hint] = SYNTAX[isIndent ? 'BAD_INDENT' : code] ?? ['not valid YAML'];
  return { message, hint, offset };
}

function openMistake(code: string, offset: number, tokens: () => Iterable<string>): SyntaxMistake | undefined {
  const bracket = code === 'BAD_INDENT' ? openBracket(placed(tokens()), offset) : undefined;
  if (bracket !== undefined) return { message: 'not valid YAML: this bracket is not closed', offset: bracket };
  const quote = code === 'MISSING_CHAR' ? openQuote(placed(tokens()), offset) : undefined;
  return quote === undefined ? undefined : { message: 'not valid YAML: this quote is not closed', offset: quote };
}

function lineAt(text: string, offset: number): { readonly start: number; readonly text: string } {
  const start = text.lastIndexOf('\n', offset - 1) + 1;
  const end = text.indexOf('\n', start);
  return { start, text: text.slice(start, end === -1 ? undefined : end) };
}

interface Placed {
  readonly token: string;
  readonly at: number;
}

/** Of the lexer: signs that stand for no text. The last one ends brackets that were not closed. */
const SIGNS = ['\u0002', '\u001f', '\u0018'];
const FLOW_END = '\u0018';

function* placed(tokens: Iterable<string>): Iterable<Placed> {
  let at = 0;
  for (const token of tokens) {
    yield { token, at };
    if (!SIGNS.includes(token)) at += token.length;
  }
}

/** It swallows what follows: the parser complains where it gives up. */
function openBracket(tokens: Iterable<Placed>, offset: number): number | undefined {
  const open: number[] = [];
  for (const { token, at } of tokens) {
    if (at > offset) return undefined;
    if (token === FLOW_END && open.length > 0) return open.at(-1);
    if (token === '[' || token === '{') open.push(at);
    else if (token === ']' || token === '}') open.pop();
  }
  return undefined;
}

function openQuote(tokens: Iterable<Placed>, offset: number): number | undefined {
  for (const { token, at } of tokens) if (/^["']/.test(token) && at + token.length >= offset) return isClosed(token) ? undefined : at;
  return undefined;
}

/** As the lexer sees it: an escaped quote ends nothing. */
function isClosed(token: string): boolean {
  return token.startsWith('"') ? /^"(?:[^"\\]|\\[\s\S])*"$/.test(token) : /^'(?:[^']|'')*'$/.test(token);
}

const SYNTAX: Readonly<Record<string, readonly [message: string, hint?: string]>> = {
  BAD_ALIAS: ['a bundle has no aliases (*)', 'a value that starts with * needs quotes: "*.example.com"'],
  BAD_DQ_ESCAPE: ['not valid YAML: an unknown escape in double quotes', 'in single quotes a backslash is a backslash'],
  BAD_INDENT: ['not valid YAML: wrong indentation', 'the keys of one mapping start in one column'],
  BAD_SCALAR_START: ['not valid YAML: a value cannot start with this character', 'put the value in quotes'],
  BLOCK_AS_IMPLICIT_KEY: ['not valid YAML: a second colon in one line', 'a value with `: ` in it needs quotes'],
  BLOCK_IN_FLOW: ['not valid YAML: a bracket is not closed'],
  KEY_OVER_1024_CHARS: ['not valid YAML: a key is longer than 1024 characters'],
  MISSING_CHAR: ['not valid YAML: a quote, a bracket, a comma, a colon or a space is missing'],
  MULTILINE_IMPLICIT_KEY: ['not valid YAML: a key without a colon, or one over several lines'],
  NON_STRING_KEY: ['not valid YAML here: a key is text', 'a key that starts with { or [ needs quotes'],
  TAB_AS_INDENT: ['not valid YAML: a tab where only spaces may indent'],
  UNEXPECTED_TOKEN: ['not valid YAML: this does not belong here'],
};
