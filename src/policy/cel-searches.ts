// Which regular expressions of a rule are found anywhere in a text: `matches` searches, and whoever writes `acme/app` seldom means `evil-acme/app-x`.
import type { Usage } from './cel-syntax.ts';

/** Behind flags and opening brackets. */
const HELD_AT_START = /^(?:\((?:\?[\w-]*[:)]|\?P?<\w+>)?)*(?:\^|\\A)/;
/** Of backslashes in front of it, an odd number makes it a dollar. */
const HELD_AT_END = /(?:(?<!\\)(?:\\\\)*\$|\\z)\)*$/;
/** Is there anything at all? No anchor would change what it says. */
const ANYTHING = /^\.[*+]?$/;

/** As they are written, each once. Those under a `!` are left out. */
export function searchesOf({ matches }: Pick<Usage, 'matches'>): readonly string[] {
  const found = matches.flatMap(({ isGlob, isNegated, literal }) => (isGlob || isNegated || literal === undefined ? [] : [literal]));
  return [...new Set(found)].filter((pattern) => ![HELD_AT_START, HELD_AT_END, ANYTHING].some((form) => form.test(pattern)));
}

/** The same, of the whole text. */
export function anchored(pattern: string): string {
  return pattern.includes('|') ? `^(?:${pattern})$` : `^${pattern}$`;
}
