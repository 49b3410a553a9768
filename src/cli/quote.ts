// Values as text that a shell reads back unchanged.

/** POSIX shells: single quotes take everything but a single quote. */
export function shellQuote(value: string): string {
  return `'${value.replaceAll("'", String.raw`'\''`)}'`;
}

/** fish: inside single quotes only the backslash and the quote are special. */
export function fishQuote(value: string): string {
  return `'${value.replaceAll('\\', '\\\\').replaceAll("'", String.raw`\'`)}'`;
}
