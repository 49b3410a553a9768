// Words as a POSIX shell splits them, and back: quotes and backslashes (POSIX.1-2024, XCU 2.2), nothing else. No variables, no globs,
// no operators: `$HOME`, `*` and `|` are characters.

const PIECE = /[ \t\n]+|'[^']*'|"(?:\\[\s\S]|[^"\\])*"|\\[\s\S]|[^ \t\n'"\\]+/y;

/** The words, or what is wrong with the text, as the end of a sentence that starts with it. */
export function splitWords(text: string): { readonly words: readonly string[] } | { readonly problem: string } {
  const words: string[] = [];
  let word: string | undefined;
  for (PIECE.lastIndex = 0; PIECE.lastIndex < text.length;) {
    const start = PIECE.lastIndex;
    const piece = PIECE.exec(text)?.[0];
    if (piece === undefined) return { problem: text.charAt(start) === '\\' ? 'ends with a backslash' : 'has a quote that is not closed' };
    if (/^[ \t\n]/.test(piece)) {
      if (word !== undefined) words.push(word);
      word = undefined;
    } else if (piece !== '\\\n') {
      word = (word ?? '') + withoutQuotes(piece);
    }
  }
  if (word !== undefined) words.push(word);
  return { words };
}

/** A line to type: `splitWords` of it gives the same words. */
export function joinWords(words: readonly string[]): string {
  return words.map((word) => (/^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`)).join(' ');
}

function withoutQuotes(piece: string): string {
  switch (piece.charAt(0)) {
    case "'":
      return piece.slice(1, -1);
    case '"':
      // Between double quotes a backslash is a character, except in front of these; before a newline it joins two lines.
      return piece.slice(1, -1).replace(/\\([$`"\\\n])/g, (_match, character: string) => (character === '\n' ? '' : character));
    case '\\':
      return piece.slice(1);
    default:
      return piece;
  }
}
