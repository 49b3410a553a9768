// Names of query and form parameters, compared as the most lenient servers read them.

/** Is there a parameter with one of these names, in any spelling: escaped once or more often, in other case, `name[]`, `name.x`? */
export function hasParameter(query: string, names: readonly string[]): boolean {
  const wanted = new Set(names.flatMap((name) => spellings(Buffer.from(name).toString('latin1'))));
  // Some servers part at semicolons too.
  return query.split(/[&;]/).some((pair) => spellings(pair.split('=', 1)[0] ?? '').some((name) => wanted.has(name)));
}

/** Once is usual; gateways decode once more. */
const DECODINGS = 3;

function spellings(raw: string): readonly string[] {
  const found: string[] = [];
  let text = raw.replaceAll('+', ' ');
  for (let round = 0; round <= DECODINGS; round += 1) {
    found.push(bare(text));
    text = decoded(text);
  }
  return found;
}

/** Each character one byte; what is no escape stays. */
function decoded(text: string): string {
  return text.replace(/%([\da-f]{2})/gi, (_found, digits: string) => String.fromCharCode(Number.parseInt(digits, 16)));
}

/** PHP ends a name at its first bracket or NUL, drops space in front and takes dots and spaces for underscores; ASP.NET ignores case. */
function bare(name: string): string {
  const [head = ''] = name.trimStart().split(/[[\]\0]/, 1);
  return head.trim().toLowerCase().replace(/[. -]/g, '_');
}
