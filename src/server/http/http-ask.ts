// What the bodies of `POST /v1/resolve` and `POST /v1/fetch` may say. Checks shapes only: refs, URLs, methods and headers are judged where they
// are used. Names no key and no value of the body, which may hold a secret that was put into the wrong place.
import type { Mode } from '../../config/bundle.ts';
import { isRecord } from '../../core/record.ts';
import { suggest } from '../../core/suggest.ts';
import { ServerFailure } from '../failure.ts';
import { BODY_ENCODINGS } from '../fetch/fetch-request.ts';
import type { FetchCall, ResolveInput } from '../use-cases.ts';

/** What a resource gives away: a sealed token, a JWT or, in mode `direct`, the value. As it is sent. */
export interface ResolveResult {
  readonly allowed: true;
  readonly policy: string;
  readonly mode: Mode;
  readonly value?: string;
  readonly token?: string;
  /** In seconds. */
  readonly ttl?: number;
  /** ISO 8601. */
  readonly expires_at?: string;
  /** Where the token is good. */
  readonly proxy?: string;
  readonly hint?: string;
}

/** Several refs that are asked for the same way; at least one, none twice. */
export interface ResolveAsks extends Omit<ResolveInput, 'ref'> {
  readonly refs: readonly string[];
}

const MOST_REFS = 100;
const MOST_HEADERS = 100;
/** In bytes, as JSON. */
const LARGEST_CONTEXT = 16_384;

/** Throws `request-invalid`, or `too-large` for the context. */
export function parseResolve(body: unknown): ResolveAsks {
  const fields = fieldsOf(body, ['resource', 'resources', 'ref', 'refs', 'resolver', 'context']);
  return { refs: refsOf(fields), resolver: optionalText(fields, 'resolver'), context: contextOf(fields) };
}

/** Throws as `parseResolve`. */
export function parseFetch(body: unknown): FetchCall {
  const fields = fieldsOf(body, ['resource', 'ref', 'resolver', 'url', 'method', 'headers', 'body', 'body_encoding', 'context']);
  const resource = optionalText(fields, oneOf(fields, ['resource', 'ref']));
  const url = optionalText(fields, 'url');
  if (resource === undefined || url === undefined) throw invalid('the body must have `resource` and `url`');
  const encoding = optionalText(fields, 'body_encoding') ?? 'utf8';
  const bodyEncoding = BODY_ENCODINGS.find((known) => known === encoding);
  if (bodyEncoding === undefined) throw invalid('`body_encoding` must be `utf8` or `base64`');
  return {
    resource,
    resolver: optionalText(fields, 'resolver'),
    url,
    method: optionalText(fields, 'method') ?? 'GET',
    headers: headersOf(fields.get('headers')),
    body: optionalText(fields, 'body'),
    bodyEncoding,
    context: contextOf(fields),
  };
}

type Fields = ReadonlyMap<string, unknown>;

/** A null is a field that was left out. */
function fieldsOf(body: unknown, known: readonly string[]): Fields {
  if (!isRecord(body)) throw invalid('the body must be an object');
  const entries = Object.entries(body);
  const stranger = entries.find(([key]) => !known.includes(key))?.[0];
  if (stranger !== undefined) {
    const nearest = suggest(stranger.slice(0, 64), known);
    const hint = nearest === undefined ? `the keys are ${known.join(', ')}` : `did you mean \`${nearest}\`?`;
    throw invalid('the body has an unknown key', hint);
  }
  return new Map(entries.filter(([, value]) => value !== null));
}

function refsOf(fields: Fields): string[] {
  const value = fields.get(oneOf(fields, ['resource', 'resources', 'ref', 'refs']));
  const refs = [...new Set<unknown>(Array.isArray(value) ? value : [value])];
  if (refs.length === 0) throw invalid('no ref is asked for');
  if (refs.length > MOST_REFS) throw invalid(`more than ${String(MOST_REFS)} refs are asked for`);
  if (!refs.every((ref) => typeof ref === 'string')) throw invalid('`resource` must be a ref, `resources` a list of refs');
  return refs;
}

/** Two names for one thing: exactly one of them may be there. */
function oneOf(fields: Fields, names: readonly [string, ...string[]]): string {
  const [name, second] = names.filter((each) => fields.has(each));
  if (name === undefined) throw invalid(`the body must have \`${names[0]}\``);
  if (second !== undefined) throw invalid(`the body has both \`${name}\` and \`${second}\``);
  return name;
}

function optionalText(fields: Fields, name: string): string | undefined {
  const value = fields.get(name);
  if (value !== undefined && typeof value !== 'string') throw invalid(`\`${name}\` must be text`);
  return value;
}

function contextOf(fields: Fields): Readonly<Record<string, unknown>> | undefined {
  const value = fields.get('context');
  if (value === undefined) return undefined;
  if (!isRecord(value)) throw invalid('`context` must be an object');
  if (Buffer.byteLength(JSON.stringify(value)) > LARGEST_CONTEXT) {
    throw new ServerFailure('too-large', `\`context\` is larger than ${String(LARGEST_CONTEXT / 1024)} KiB`);
  }
  return value;
}

function headersOf(value: unknown = {}): Record<string, string> {
  if (!isRecord(value)) throw invalid('`headers` must be an object');
  const entries = Object.entries(value);
  if (entries.length > MOST_HEADERS) throw invalid(`there are more than ${String(MOST_HEADERS)} headers`);
  return Object.fromEntries(
    entries.map(([name, text]) => {
      if (typeof text !== 'string') throw invalid('every value in `headers` must be text');
      return [name, text];
    }),
  );
}

function invalid(message: string, hint?: string): ServerFailure {
  return new ServerFailure('request-invalid', message, { hint });
}
