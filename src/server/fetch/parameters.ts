// Names of parameters, in a query and in a body, compared as the most lenient servers read them. And what some of them do: a POST with
// `_method=DELETE` is a DELETE to Rails, Laravel and Symfony.
import { Buffer } from 'node:buffer';

/** Is there a parameter with one of these names, in any spelling: escaped once or more often, in other case, `name[]`, `name.x`? */
export function hasParameter(query: string, names: readonly string[]): boolean {
  const shortest = Math.min(...names.map(({ length }) => length));
  // Some servers part at semicolons too. A body can hold a million parts, and no reading makes a name longer than it is written.
  const pairs = query.match(new RegExp(`[^&;]{${String(shortest)},}`, 'g')) ?? [];
  return isAmong(
    pairs.map((pair) => pair.split('=', 1)[0] ?? ''),
    names,
  );
}

export interface Parameters {
  readonly method: string;
  /** Without the question mark. */
  readonly query: string;
  readonly contentType: string | undefined;
  /** Without a content coding. Undefined: nobody can look at it. */
  readonly body: Buffer | undefined;
}

/** Does it have a parameter that frameworks take for the method, in place of that of the request? */
export function namesMethod({ method, query, contentType, body }: Parameters): boolean {
  if (hasParameter(query, METHOD_PARAMETERS)) return true;
  if (body === undefined) return false;
  return bodyKinds(contentType, method).some((kind) => hasMethod(body, kind));
}

function hasMethod(body: Buffer, kind: BodyKind): boolean {
  switch (kind) {
    case 'form':
      return hasParameter(body.toString('latin1'), METHOD_PARAMETERS);
    case 'parts':
      return CONTINUED_NAME.test(body.toString('latin1')) || isAmong(partNames(body.toString('latin1')), METHOD_PARAMETERS);
    case 'json':
      return isAmong(topNames(body.toString()), METHOD_PARAMETERS);
  }
}

type BodyKind = 'form' | 'parts' | 'json';

const KINDS: readonly (readonly [BodyKind, RegExp])[] = [
  ['form', /x-www-form-urlencoded/i],
  ['parts', /multipart\//i],
  ['json', /[/+]json\b/i],
];

/** Where frameworks look for parameters: in all that they may take it for. A boundary can be another type's name. Empty: nowhere. */
export function bodyKinds(contentType = '', method: string): readonly BodyKind[] {
  // Of no type at all: Rack takes it for a form. Of two types it is left to the server which of them counts.
  if (contentType.trim() === '') return method === 'POST' ? KINDS.map(([kind]) => kind) : [];
  return KINDS.flatMap(([kind, word]) => (word.test(contentType) ? [kind] : []));
}

const METHOD_PARAMETERS = ['_method', 'x-http-method', 'x-http-method-override', 'x-method-override'];

/**
 * Of multipart bodies (RFC 7578 4.2): quoted or not, with escapes, and as RFC 8187 writes other charsets. Where the parts are is not asked, so what
 * looks like a name is looked through for the next one. None that is meant is longer, however it is escaped.
 */
const PART_NAME = /\bname(\*?)\s*=\s*(?=(["']?)\s*([^\r\n]{0,128}))/gi;

/** RFC 2231, section 3: in pieces, which nobody needs who means well. */
const CONTINUED_NAME = /content-disposition:[^\r\n]{0,1000}\bname\*\d/i;

function partNames(body: string): readonly string[] {
  return Array.from(body.matchAll(PART_NAME), ([, star, quote = '', text = '']) => {
    if (star === '*') return upTo('', quote === "'" ? quote + text : text).replace(/^[^']*'[^']*'/, '');
    return upTo(quote, text);
  });
}

/** A quote that nobody closes ends with its line. */
function upTo(quote: string, text: string): string {
  if (quote === '') return /^[^\s;"]*/.exec(text)?.[0] ?? '';
  if (quote === "'") return /^[^']*/.exec(text)?.[0] ?? '';
  return (/^(?:[^"\\]|\\.)*/.exec(text)?.[0] ?? '').replace(/\\(.)/g, '$1');
}

/** Of a JSON object; what does not parse has none. */
function topNames(body: string): readonly string[] {
  // Nearly never.
  if (!/method|\\u/i.test(body)) return [];
  try {
    const value: unknown = JSON.parse(body.replace(/^\uFEFF/, ''));
    return typeof value === 'object' && value !== null ? Object.keys(value) : [];
  } catch {
    return [];
  }
}

function isAmong(found: readonly string[], names: readonly string[]): boolean {
  const wanted = new Set(names.flatMap((name) => spellings(Buffer.from(name).toString('latin1'))));
  return [...new Set(found)].some((each) => spellings(each).some((name) => wanted.has(name)));
}

/** Once is usual; gateways decode once more. */
const DECODINGS = 3;

function spellings(raw: string): readonly string[] {
  let text = raw.replaceAll('+', ' ');
  const found = [bare(text)];
  for (let round = 0; round < DECODINGS && text.includes('%'); round += 1) {
    text = decoded(text);
    found.push(bare(text));
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
