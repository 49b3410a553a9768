// The path of a request as servers may read it, and the patterns of rules that it is held against. Refuses to guess: a path that two
// servers would take for different resources has no reading at all.

/** A path of today's servers is shorter; matching takes time that may grow with its square. */
const LONGEST_PATH = 8192;

const CLEAN = /^\/[\w\-.~!$&'()+,=:@/]*$/;
const PLAIN_CHARACTER = /[\w\-.~!$&'()+,;=:@]/;
/** Raw control characters, backslash, query, fragment, and what is no byte. */
const UNFIT = /[^ -\xff]|[\x7f\\?#]/;
/** Half an escape, or an escaped control character, slash or backslash. */
const UNFIT_ESCAPE = /%(?![\da-f]{2})|%(?:[01][\da-f]|7f|2f|5c)/i;
const ESCAPED_DOT_SEGMENT = /\/(?=\.?%2e)(?:\.|%2e){1,2}(?=\/|;|%3b|$)/i;
/** Whoever decodes twice sees an escape here. */
const ESCAPED_TWICE = /%25[\dA-Fa-f]{2}/;

const NONE: readonly string[] = [];

/**
 * Every way in which a server may read a path (without query; each character one byte): with escapes of plain characters decoded and dot
 * segments removed, and, where there are empty segments (`//`) or parameters (`;x`), also without these, as nginx and Java servers read it.
 * Empty for an ambiguous path: encoded slash, backslash, dot segment or control character, backslash, doubly encoded, malformed, no path.
 */
export function readings(path: string): readonly string[] {
  if (path.length > LONGEST_PATH || !path.startsWith('/')) return NONE;
  const text = CLEAN.test(path) ? path : canonical(path);
  if (text === undefined) return NONE;
  if (!text.includes('//') && !text.includes(';')) return [withoutDotSegments(text)];
  const bare = text.replace(/;[^/]*/g, '');
  return [text, bare, text.replace(/\/+/g, '/'), bare.replace(/\/+/g, '/')].map(withoutDotSegments);
}

/** Stands for `**` in a compiled pattern: no canonical path holds it, nor `*`. */
const ACROSS = '>';
const WITHIN = '*';

/**
 * The compiled pattern: anchored at both ends, `*` for any characters except `/`, `**` for any at all, everything else for itself (a star
 * is `%2A`). Or a sentence that says what is wrong with it.
 */
export function parsePathPattern(pattern: string): { readonly compiled: string } | { readonly problem: string } {
  if (!pattern.startsWith('/')) return { problem: 'does not start with a slash' };
  if (pattern.includes('//') || pattern.includes(';'))
    return { problem: 'has an empty segment or a parameter, which servers read differently' };
  const text = canonical(Buffer.from(pattern).toString('latin1'), WITHIN);
  if (text === undefined) return { problem: 'is not a plain path: no query, no backslash, no encoded slash' };
  if (withoutDotSegments(text) !== text) return { problem: 'has a `.` or `..` segment' };
  return { compiled: text.replace(/\*{2,}/g, ACROSS) };
}

/**
 * Only the last star of each kind is ever tried again: what an earlier one could still give up, a later one can take. So a path that wants
 * to be slow gets squares, never powers.
 */
export function matchesPath(compiled: string, path: string): boolean {
  let [p, i] = [0, 0];
  let [across, acrossEnd] = [-1, 0];
  let [within, withinEnd] = [-1, 0];
  while (i < path.length) {
    const wanted = compiled[p];
    if (wanted === ACROSS) [across, acrossEnd, within] = [p++, i, -1];
    else if (wanted === WITHIN) [within, withinEnd] = [p++, i];
    else if (wanted === path[i]) [p, i] = [p + 1, i + 1];
    else if (within !== -1 && path[withinEnd] !== '/') [p, i] = [within + 1, ++withinEnd];
    else if (across !== -1) [p, i, within] = [across + 1, ++acrossEnd, -1];
    else return false;
  }
  while (compiled[p] === ACROSS || compiled[p] === WITHIN) p++;
  return p === compiled.length;
}

/** Each byte in one spelling: itself, or `%` and two upper-case digits. `*` is escaped unless it is to be kept. */
function canonical(path: string, kept?: string): string | undefined {
  if (UNFIT.test(path) || UNFIT_ESCAPE.test(path) || ESCAPED_DOT_SEGMENT.test(path)) return undefined;
  const text = path.replace(/%([\da-f]{2})|[^/]/gi, (found, digits?: string) => {
    if (digits === undefined) return found === kept || PLAIN_CHARACTER.test(found) ? found : escaped(found);
    const character = String.fromCharCode(Number.parseInt(digits, 16));
    return PLAIN_CHARACTER.test(character) ? character : found.toUpperCase();
  });
  return ESCAPED_TWICE.test(text) || !isUtf8(text) ? undefined : text;
}

function escaped(byte: string): string {
  return `%${byte.charCodeAt(0).toString(16).toUpperCase().padStart(2, '0')}`;
}

/** Lenient decoders take `%C0%AF` for a slash. */
function isUtf8(text: string): boolean {
  if (!/%[89A-F]/.test(text)) return true;
  try {
    decodeURIComponent(text);
    return true;
  } catch {
    return false;
  }
}

/** RFC 3986, section 5.2.4. */
function withoutDotSegments(path: string): string {
  if (!path.includes('/.')) return path;
  const segments = path.split('/').slice(1);
  const kept: string[] = [];
  for (const [index, segment] of segments.entries()) {
    const isDots = segment === '.' || segment === '..';
    if (segment === '..') kept.pop();
    if (!isDots) kept.push(segment);
    else if (index === segments.length - 1) kept.push('');
  }
  return `/${kept.join('/')}`;
}
