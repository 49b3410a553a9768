// Refs as callers ask for them (`github/pat`, `db/prod#password`) and the globs of rules and resources. Refuses every ref that two programs could
// take for different ones: there is nothing to decode, to resolve or to fold in what is left.

/** Longer than anybody writes by hand; matching takes time that grows with ref × stars. */
export const LONGEST_REF = 512;

const FIELD = /^[\w.@:+=,~/-]+$/;
const UNFIT = /[^\w.@:+=,~/#-]/u;

/** What is wrong with a ref, to go after "the ref `x`", or undefined. */
export function refProblem(text: string): string | undefined {
  if (text === '') return 'is empty';
  if (text.length > LONGEST_REF) return `is longer than ${String(LONGEST_REF)} characters`;
  const unfit = UNFIT.exec(text)?.[0];
  if (unfit !== undefined) return `has a character that no ref can have: ${JSON.stringify(unfit)}`;
  const hash = text.indexOf('#');
  const path = hash === -1 ? text : text.slice(0, hash);
  if (hash !== -1 && !FIELD.test(text.slice(hash + 1))) return 'has no field, or more than one, after its `#`';
  const segments = path.split('/');
  if (segments.includes('')) return 'has an empty segment';
  return segments.some((segment) => segment === '.' || segment === '..') ? 'has a `.` or `..` segment' : undefined;
}

export interface RefGlob {
  /** Without stars: it matches itself only. */
  readonly isExact: boolean;
  /** How many `{1}`, `{2}`, … there are. */
  readonly stars: number;
  /** What each star matched, from left to right, or undefined. In time that grows with stars × length of the ref. */
  match(ref: string): readonly string[] | undefined;
}

/**
 * `*` is any characters up to the next `/`, `**` any at all; `**` with `/` after it, at the start or after a `/`, is any number of whole segments,
 * none too. Everything else is itself, in its case. A field belongs to the last segment: `db/*` matches `db/prod#a/b`.
 */
export function compileRefGlob(glob: string): RefGlob | { readonly problem: string } {
  const problem = globProblem(glob);
  if (problem !== undefined) return { problem };
  const tokens = tokensOf(glob);
  const isExact = tokens.stars.length === 0;
  return {
    isExact,
    stars: tokens.stars.length,
    match: isExact ? (ref) => (ref === glob ? [] : undefined) : (ref) => matchTokens(tokens, ref),
  };
}

/** What every ref starts with that the glob matches. */
export function literalPrefix(glob: string): string {
  const star = glob.indexOf('*');
  return star === -1 ? glob : glob.slice(0, star);
}

/** Stars stand for characters of refs, so a glob is a ref once its stars are letters. */
function globProblem(glob: string): string | undefined {
  if (glob.includes('***')) return 'has more than two stars in a row';
  return refProblem(glob.replaceAll('*', 'x'));
}

/** `*`, `**`, and the `**` that takes whole segments and the slash after each. */
type Star = 'within' | 'across' | 'segments';

interface Tokens {
  readonly stars: readonly Star[];
  /** One more than stars: what is before, between and behind them. */
  readonly literals: readonly string[];
}

function tokensOf(glob: string): Tokens {
  const stars: Star[] = [];
  const literals: string[] = [];
  let from = 0;
  for (const { 0: found, index } of glob.matchAll(/(?<![^/])\*\*\/|\*\*?/g)) {
    literals.push(glob.slice(from, index));
    stars.push(found.endsWith('/') ? 'segments' : found === '**' ? 'across' : 'within');
    from = index + found.length;
  }
  return { stars, literals: [...literals, glob.slice(from)] };
}

/** One attempt to match: each star takes as little as it can. Where a star has failed once, it is never tried again. */
function matchTokens({ stars, literals }: Tokens, ref: string): readonly string[] | undefined {
  const first = literals[0] ?? '';
  if (!ref.startsWith(first)) return undefined;
  const hash = ref.indexOf('#');
  const pathEnd = hash === -1 ? ref.length : hash;
  const width = ref.length + 1;
  const failed = stars.length > 1 ? new Uint8Array(stars.length * width) : undefined;
  const captures: string[] = [];
  return fits(0, first.length) ? captures : undefined;

  /** The star, and everything after it, from `start` on. */
  function fits(star: number, start: number): boolean {
    const last = lastEnd(star, start);
    const tail = star + 1 === stars.length ? ref.length - (literals[star + 1] ?? '').length : start;
    for (let end = Math.max(start, tail); end <= last; end++) {
      const cell = star * width + end;
      if (failed?.[cell] === 1) return false;
      if (isEnd(star, start, end) && continues(star, end)) {
        captures[star] = captured(star, ref.slice(start, end));
        return true;
      }
      if (failed !== undefined) failed[cell] = 1;
    }
    return false;
  }

  function lastEnd(star: number, start: number): number {
    if (stars[star] === 'across') return ref.length;
    // There is no segment in a field.
    if (stars[star] === 'segments') return Math.max(start, pathEnd);
    const slash = ref.indexOf('/', start);
    return slash === -1 || slash > pathEnd ? ref.length : slash;
  }

  function isEnd(star: number, start: number, end: number): boolean {
    return stars[star] !== 'segments' || end === start || ref[end - 1] === '/';
  }

  function continues(star: number, end: number): boolean {
    const literal = literals[star + 1] ?? '';
    if (star + 1 === stars.length) return end + literal.length === ref.length && ref.endsWith(literal);
    return ref.startsWith(literal, end) && fits(star + 1, end + literal.length);
  }

  function captured(star: number, text: string): string {
    return stars[star] === 'segments' && text !== '' ? text.slice(0, -1) : text;
  }
}
