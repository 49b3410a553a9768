// What a JWT says of itself before anything is proven: its header, and who it claims to be from. Refuses every form that has ever been used to choose
// the key or the algorithm from within the token (RFC 8725), and what two parsers could read differently. Quotes nothing of the token.
import { isRecord } from '../../core/record.ts';
import { decodeText } from '../../providers/document.ts';
import { ServerFailure } from '../failure.ts';

export interface JwtParts {
  readonly alg: string;
  readonly kid: string | undefined;
  /** Unproven. */
  readonly iss: string;
}

/** In bytes. The largest of real ones, GitHub's and those of clusters, have 2 KiB. */
const LONGEST = 8192;

/** Would choose the key, or the way in which the signature is made. */
const REFUSED_HEADERS = ['jwk', 'jku', 'x5u', 'x5c', 'crit', 'b64', 'zip', 'enc'];

/** Tokens of other kinds (logout, DPoP, security events) are no proof of who calls: RFC 8725, section 3.11. */
const TYPES = ['jwt', 'at+jwt', 'jose'];

/** What may be looked into at all. Throws `jwt-missing`, and `jwt-invalid` for what is too long. */
export function requireJwt(jwt: string | undefined): string {
  if (jwt === undefined || jwt === '') {
    throw new ServerFailure('jwt-missing', 'no token was given', {
      hint: 'over HTTP, send it as `Authorization: Bearer <jwt>`; over MCP’s standard input, the operator gives it with --jwt-file',
    });
  }
  if (jwt.length > LONGEST) throw invalid('is longer than 8 KiB', 'ask the issuer for one with fewer claims');
  return jwt;
}

/** Throws `jwt-invalid`. */
export function parseJwt(jwt: string): JwtParts {
  const parts = jwt.split('.');
  if (parts.length === 5) throw invalid('is encrypted (JWE)', 'ask the issuer for a signed one');
  const [header, payload, signature] = parts;
  const isShaped = parts.length === 3 && parts.every(isBase64Url);
  if (!isShaped || header === undefined || payload === undefined) {
    throw invalid('is no JWT', /^bearer /i.test(jwt) ? 'leave `Bearer` out' : 'it is three parts of base64url with dots between');
  }
  return { ...checkHeader(parseObject(header, 'header'), signature), iss: issuerOf(parseObject(payload, 'payload')) };
}

/** In the one spelling that its bytes have: a token has one hash, then. */
function isBase64Url(part: string): boolean {
  return /^[\w-]*$/.test(part) && Buffer.from(part, 'base64url').toString('base64url') === part;
}

function checkHeader(header: Readonly<Record<string, unknown>>, signature = ''): Omit<JwtParts, 'iss'> {
  const { alg, kid, typ } = header;
  if (typeof alg !== 'string') throw invalid('names no algorithm');
  if (alg.toLowerCase() === 'none' || signature === '') throw invalid('is not signed', 'a token without a signature proves nothing');
  const refused = REFUSED_HEADERS.find((name) => Object.hasOwn(header, name));
  if (refused !== undefined) throw invalid(`has \`${refused}\` in its header, which kz takes from no token`);
  if (kid !== undefined && typeof kid !== 'string') throw invalid('has a `kid` that is no text');
  const isKnownType = typ === undefined || (typeof typ === 'string' && TYPES.includes(typ.toLowerCase().replace(/^application\//, '')));
  if (!isKnownType) throw invalid('is for another purpose: its `typ` is not JWT', 'send an ID token or an access token');
  return { alg, kid };
}

function issuerOf({ iss }: Readonly<Record<string, unknown>>): string {
  if (typeof iss === 'string' && iss !== '') return iss;
  throw invalid('has no issuer (`iss`)');
}

function parseObject(part: string, where: string): Readonly<Record<string, unknown>> {
  const text = decodeText(Buffer.from(part, 'base64url'));
  const value = text === undefined ? undefined : parseJson(text);
  if (text === undefined || !isRecord(value)) throw invalid(`has a ${where} that is no JSON object`);
  if (hasDuplicateKey(text)) throw invalid(`has a ${where} with the same key twice`);
  return value;
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

const TOKEN = /"[^"\\]*(?:\\.[^"\\]*)*"|[{}[\]:]/g;

/** `text` is JSON. At any depth. */
function hasDuplicateKey(text: string): boolean {
  const open: (Set<string> | undefined)[] = [];
  let word = '';
  for (const [token] of text.matchAll(TOKEN)) {
    if (token === '{') open.push(new Set());
    else if (token === '[') open.push(undefined);
    else if (token === '}' || token === ']') open.pop();
    else if (token !== ':') word = token;
    else {
      const keys = open.at(-1);
      const key = word.includes('\\') ? String(JSON.parse(word)) : word.slice(1, -1);
      if (keys?.has(key) === true) return true;
      keys?.add(key);
    }
  }
  return false;
}

function invalid(problem: string, hint?: string): ServerFailure {
  return new ServerFailure('jwt-invalid', `the token ${problem}`, { hint });
}
