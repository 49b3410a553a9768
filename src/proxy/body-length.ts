// How a body may be sent on once its text may have become longer or shorter: whole, at its old length, or of no announced length.
// Pure tables, the first line that fits decides; who forwards acts on the answer.
import { decoderFor } from './coding.ts';

/**
 * - `none`: there is no body; headers stay as they are, a Content-Length too.
 * - `whole`: collect it, rewrite it, announce the new length.
 * - `stream-same-length`: rewrite in place without changing the length; every header stays as it is.
 * - `stream-chunked`: stream it without Content-Length (chunked, DATA frames, or until the connection closes).
 */
export type ResponseMode = 'none' | 'whole' | 'stream-same-length' | 'stream-chunked';

/** `spool`: to a file first, to know the new length. `stream`: without Content-Length. */
export type RequestMode = 'none' | 'whole' | 'spool' | 'stream';

/** `decode`: the content coding is taken off. A response then goes on without Content-Encoding; a request gets its coding back. */
export interface BodyPlan<Mode> {
  readonly mode: Mode;
  readonly decode: boolean;
}

/** Header values as node:http gives them. */
export interface BodyFacts {
  readonly method: string;
  /** `1.0`, `1.1`, `2.0`: of the message this is about. */
  readonly httpVersion: string;
  readonly contentLength?: string | undefined;
  readonly transferEncoding?: string | undefined;
  readonly contentType?: string | undefined;
  readonly contentEncoding?: string | undefined;
  /** HTTP/2 said with the headers that nothing follows (END_STREAM). */
  readonly ended?: boolean | undefined;
}

export interface ResponseFacts extends BodyFacts {
  /** Of the request this answers. */
  readonly method: string;
  readonly status: number;
}

export const WHOLE_RESPONSE = 64 * 1024;
export const WHOLE_REQUEST = 1024 * 1024;

export function responseBody(facts: ResponseFacts): BodyPlan<ResponseMode> {
  const length = knownLength(facts);
  const line = RESPONSES.find(({ when }) => when(facts, length));
  return { mode: line?.mode ?? 'stream-chunked', decode: line?.decode ?? false };
}

export function requestBody(facts: BodyFacts): BodyPlan<RequestMode> {
  const length = knownLength(facts);
  const line = REQUESTS.find(({ when }) => when(facts, length));
  const mode = line?.mode ?? 'stream';
  return { mode, decode: mode !== 'none' && isDecodable(facts) };
}

interface Line<Facts, Mode> {
  readonly when: (facts: Facts, length: number | undefined) => boolean;
  readonly mode: Mode;
  readonly decode?: boolean;
}

const RESPONSES: readonly Line<ResponseFacts, ResponseMode>[] = [
  { when: hasNoBody, mode: 'none' },
  { when: ({ ended }, length) => ended === true || length === 0, mode: 'none' },
  // Content-Range speaks of bytes as the origin has them; a part of something compressed cannot be decoded either.
  { when: isPartial, mode: 'stream-same-length' },
  { when: isDecodable, mode: 'stream-chunked', decode: true },
  { when: (_facts, length) => length === undefined, mode: 'stream-chunked' },
  // A coding that nobody here can take off: no byte may move.
  { when: isOpaque, mode: 'stream-same-length' },
  { when: (_facts, length) => length !== undefined && length <= WHOLE_RESPONSE, mode: 'whole' },
  { when: ({ contentType }) => !isTextual(contentType), mode: 'stream-same-length' },
];

const REQUESTS: readonly Line<BodyFacts, RequestMode>[] = [
  { when: ({ ended }, length) => ended === true || length === 0, mode: 'none' },
  // HTTP/1 says so when there is a body (RFC 9112 6.3); HTTP/2 says when there is none.
  { when: (facts, length) => length === undefined && !isHttp2(facts) && !isSet(facts.transferEncoding), mode: 'none' },
  { when: (_facts, length) => length === undefined, mode: 'stream' },
  { when: (_facts, length) => length !== undefined && length <= WHOLE_REQUEST, mode: 'whole' },
  // Measuring would mean to compress twice and to get the same bytes both times.
  { when: isDecodable, mode: 'stream' },
  { when: () => true, mode: 'spool' },
];

/** Undefined when the end of the body is marked otherwise: Transfer-Encoding overrules Content-Length (RFC 9112 6.3). */
function knownLength({ contentLength, transferEncoding }: BodyFacts): number | undefined {
  if (isSet(transferEncoding) || contentLength === undefined || !/^\d{1,15}$/.test(contentLength)) return undefined;
  return Number(contentLength);
}

function hasNoBody({ method, status }: ResponseFacts): boolean {
  const tunnel = method === 'CONNECT' && status >= 200 && status < 300;
  return method === 'HEAD' || status < 200 || status === 204 || status === 304 || tunnel;
}

function isPartial({ status, contentType }: ResponseFacts): boolean {
  return status === 206 || mediaType(contentType) === 'multipart/byteranges';
}

function isDecodable({ contentEncoding }: BodyFacts): boolean {
  return decoderFor(contentEncoding).kind === 'coded';
}

function isOpaque({ contentEncoding }: BodyFacts): boolean {
  return decoderFor(contentEncoding).kind === 'unsupported';
}

function isHttp2({ httpVersion }: BodyFacts): boolean {
  return httpVersion.startsWith('2');
}

function isSet(value: string | undefined): boolean {
  return value !== undefined && value !== '';
}

const TEXTUAL =
  /^(text\/.+|application\/(.*json.*|xml|javascript|ecmascript|x-javascript|x-www-form-urlencoded|x-ndjson|graphql|yaml|x-yaml|toml)|.+\+(json|xml|yaml))$/;

function isTextual(contentType: string | undefined): boolean {
  return TEXTUAL.test(mediaType(contentType));
}

function mediaType(contentType: string | undefined): string {
  return (contentType?.split(';', 1)[0] ?? '').trim().toLowerCase();
}
