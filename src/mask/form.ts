// Every spelling in which a value may come back in a response, each with what takes its place: the token in the same spelling, or for
// base64 one that decodes, with the neighbours left standing, to text that holds the token. Knows nothing of base64 broken into lines
// (MIME, 76 columns), of hex that starts in the middle of a byte, or of spellings stacked more deeply than listed here.

export interface Form {
  readonly find: Buffer;
  readonly put: Buffer;
}

/** Shorter forms would be found where nobody wrote them. */
export const SHORTEST_FORM = 8;

type Spelling = (text: string) => string;

/** Distinct forms, the value itself first. A plain ASCII value has six or seven. */
export function formsOf(value: string, token: string): readonly Form[] {
  const puts = new Map<string, string>();
  for (const { find, put, spellings } of [...textParts(value, token), ...base64Parts(Buffer.from(value), Buffer.from(token))]) {
    for (const spell of spellings) {
      const text = spell(find);
      if (!puts.has(text)) puts.set(text, spell(put));
    }
  }
  return Array.from(puts, ([find, put]) => ({ find: Buffer.from(find), put: Buffer.from(put) })).filter(
    ({ find }) => find.length >= SHORTEST_FORM,
  );
}

interface Part {
  readonly find: string;
  readonly put: string;
  readonly spellings: readonly Spelling[];
}

function textParts(value: string, token: string): readonly Part[] {
  const spellings = NEVER_ESCAPED.test(value) ? [plain, ...hexSpellings] : [plain, ...hexSpellings, ...escapes];
  return [{ find: value, put: token, spellings }];
}

const plain: Spelling = (text) => text;
const hex: Spelling = (text) => Buffer.from(text).toString('hex');
const hexSpellings: readonly Spelling[] = [hex, (text) => hex(text).toUpperCase()];

/** Most values are like this: not one of the escapes below changes anything. */
const NEVER_ESCAPED = /^[\w.-]*$/;

/** What JSON.stringify writes, and who writes what else as \uXXXX. */
const jsonSpellings: readonly Spelling[] = [
  json,
  (text) => json(json(text)), // JSON in a JSON string, as MCP results carry it
  (text) => slashed(json(text)),
  (text) => unicodeEscaped(json(text), /[<>&\u2028\u2029]/g), // Go
  (text) => unicodeEscaped(json(text), /[<>&='\u2028\u2029]/g), // Gson
  (text) => unicodeEscaped(json(text), /[^\0-\x7e]/g), // Python
  (text) => slashed(unicodeEscaped(json(text), /[^\0-\x7e]/g)), // PHP
  (text) => upperEscapes(unicodeEscaped(json(text), /[^\0-\x7e]/g)),
  (text) => upperEscapes(unicodeEscaped(json(text), /\\\\|\\"|[&'+<>`]|[^\0-\x7e]/g)), // .NET
];

/** Bytes that become %XX. In form encoding a space is a plus sign. */
const percentSpellings: readonly Spelling[] = [
  /[^\w.~!*'()-]/g, // encodeURIComponent
  /[^\w.~-]/g, // all but what RFC 3986 calls unreserved
  /[^\w.~/-]/g, // Python's quote
  /[^\w.~!$&'()*+,;=:@-]/g, // a path segment of RFC 3986
  /[^\w.~!*'();/?:@&=+$,#-]/g, // encodeURI
].map((escaped) => (text: string) => percent(text, escaped));

const formSpellings: readonly Spelling[] = [
  /[^\w.* -]/g, // URLSearchParams, Java
  /[^\w.~ -]/g, // Go, Python's quote_plus
  /[^\w. -]/g, // PHP
].map((escaped) => (text: string) => percent(text, escaped).replaceAll(' ', '+'));

const htmlSpellings: readonly Spelling[] = [
  {},
  { '"': '&quot;' },
  { '"': '&quot;', "'": '&#39;' },
  { '"': '&quot;', "'": '&#039;' }, // PHP
  { '"': '&quot;', "'": '&#x27;' }, // Python, React
  { '"': '&quot;', "'": '&apos;' }, // XML
  { '"': '&#34;', "'": '&#39;' }, // Jinja
  { '"': '&#34;', "'": '&#39;', '+': '&#43;' }, // Go
  { '"': '&quot;', "'": '&#x27;', '/': '&#x2F;' }, // OWASP
  { '"': '&quot;', "'": '&#39;', '/': '&#x2F;', '`': '&#x60;', '=': '&#x3D;' }, // Mustache
  { '"': '&quot;', "'": '&#x27;', '`': '&#x60;', '=': '&#x3D;' }, // Handlebars
].map((entities) => (text: string) => html(text, entities));

const escapes: readonly Spelling[] = [
  ...jsonSpellings,
  ...[...percentSpellings, ...formSpellings].flatMap((spell) => [spell, (text: string) => lowerPercents(spell(text))]),
  ...htmlSpellings,
];

/** The inside of the JSON string. */
function json(text: string): string {
  return JSON.stringify(text).slice(1, -1);
}

/** JSON escapes never hold a slash, so it can be escaped afterwards. */
function slashed(escaped: string): string {
  return escaped.replaceAll('/', '\\/');
}

/** Of JSON text; an escaped backslash is stepped over, so that a quote behind it is not taken for an escaped one. */
function unicodeEscaped(escaped: string, units: RegExp): string {
  return escaped.replace(units, (unit) => {
    if (unit === '\\\\') return unit;
    return `\\u${unit
      .charCodeAt(unit.length - 1)
      .toString(16)
      .padStart(4, '0')}`;
  });
}

function upperEscapes(escaped: string): string {
  return escaped.replace(/\\\\|\\u[0-9a-f]{4}/g, (escape) => (escape === '\\\\' ? escape : `\\u${escape.slice(2).toUpperCase()}`));
}

function percent(text: string, escaped: RegExp): string {
  const bytes = Buffer.from(text).toString('latin1');
  return bytes.replace(escaped, (byte) => `%${byte.charCodeAt(0).toString(16).toUpperCase().padStart(2, '0')}`);
}

function lowerPercents(escaped: string): string {
  return escaped.replace(/%[0-9A-F]{2}/g, (code) => code.toLowerCase());
}

function html(text: string, entities: Readonly<Record<string, string>>): string {
  const all: Readonly<Record<string, string>> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', ...entities };
  return text.replace(/[&<>"'+/`=]/g, (character) => all[character] ?? character);
}

function base64Parts(value: Buffer, token: Buffer): readonly Part[] {
  const parts = [0, 1, 2].map((before) => ({ ...base64At(before, value, token), spellings: base64Spellings }));
  // With its padding the value is known to end here, so nothing but the token needs to stand in its place.
  const padded = { find: value.toString('base64'), put: token.toString('base64'), spellings: [plain, urlSafe] };
  return value.length % 3 === 0 ? parts : [...parts, padded];
}

const urlSafe: Spelling = (text) => text.replaceAll('+', '-').replaceAll('/', '_');

/** Base64, base64url, and base64 as URLs and JSON writers escape it. */
const base64Spellings: readonly Spelling[] = [
  plain,
  urlSafe,
  (text) => percent(text, /\W/g),
  (text) => lowerPercents(percent(text, /\W/g)),
  slashed,
  (text) => text.replaceAll('+', '\\u002B'),
];

// Fillers are letters, digits and dots, whatever ASCII bits the neighbours left standing give them, and no lower-case hex digits.
const FRONT_FILLERS: readonly (readonly number[])[] = [[], [0x01], [0x31]];
const FILLER = 0x2e;
const BACK_FILLERS: readonly (readonly number[])[] = [[], [0x74], [0x40]];

/**
 * The characters that a value alone decides when `before` bytes (mod 3) stand in front of it, and as many mod 4 to put in their place.
 * Where the value starts or ends in the middle of a character, that character stays: its bits become part of a filler byte.
 */
function base64At(before: number, value: Buffer, token: Buffer): { readonly find: string; readonly put: string } {
  const first = Math.ceil((before * 8) / 6);
  const inFront = [...Buffer.alloc(before), ...(FRONT_FILLERS[before] ?? [])];
  const behind = [...(BACK_FILLERS[(before + value.length) % 3] ?? [])];
  while ((inFront.length + token.length + behind.length - before - value.length) % 3 !== 0) behind.unshift(FILLER);
  const decided = (bytes: Buffer) => bytes.toString('base64').slice(first, Math.floor((bytes.length * 8) / 6));
  return {
    find: decided(Buffer.concat([Buffer.alloc(before), value])),
    put: decided(Buffer.concat([Buffer.from(inFront), token, Buffer.from(behind)])),
  };
}
