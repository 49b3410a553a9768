// The fields of a message head as they go on: raw, in their order and with their case, without what concerns one connection only. Node's own
// parsers have read them; nothing here parses the protocol again.
import type { Remasker } from '../mask/remask.ts';
import type { Swap, SwapNotes } from '../mask/swap.ts';

/** name, value, name, value, … as in `message.rawHeaders`; bytes as latin1. */
export type RawFields = readonly string[];

/** RFC 9110 7.6.1: for this connection only. What the Connection field names goes too. */
const HOP_BY_HOP = new Set([
  'connection',
  'keep-alive',
  'proxy-connection',
  'proxy-authorization',
  'proxy-authenticate',
  'upgrade',
  'http2-settings',
]);

/** What the checks and the framing need to know; read in the one pass that copies the fields. */
export interface RequestHead {
  /** Everything that goes on, except Host, Content-Length and Transfer-Encoding, which the caller writes. */
  readonly fields: string[];
  readonly hosts: string[];
  /** How many Content-Length fields there were. */
  lengths: number;
  contentLength: number | undefined;
  contentType: string | undefined;
  contentEncoding: string | undefined;
  hasTransferEncoding: boolean;
  expectsContinue: boolean;
  wantsTrailers: boolean;
  /** Names of fields behind the body. Only a chunked message may announce them, so the caller writes it there. */
  trailer: string | undefined;
}

export function requestHead(raw: RawFields): RequestHead {
  const head: RequestHead = {
    fields: [],
    hosts: [],
    lengths: 0,
    contentLength: undefined,
    contentType: undefined,
    contentEncoding: undefined,
    hasTransferEncoding: false,
    expectsContinue: false,
    wantsTrailers: false,
    trailer: undefined,
  };
  return filled(head, raw, REQUEST_FIELDS);
}

export interface ResponseHead {
  /** Everything that goes on, except Content-Length and Content-Encoding, which the caller writes. */
  readonly fields: string[];
  contentLength: number | undefined;
  contentType: string | undefined;
  contentEncoding: string | undefined;
  trailer: string | undefined;
  /** It has a transfer coding beside `chunked`. */
  isCoded: boolean;
}

export function responseHead(raw: RawFields): ResponseHead {
  const head: ResponseHead = {
    fields: [],
    contentLength: undefined,
    contentType: undefined,
    contentEncoding: undefined,
    trailer: undefined,
    isCoded: false,
  };
  return filled(head, raw, RESPONSE_FIELDS);
}

/** `done`: the field does not go on as it is. */
type Read<Head> = (head: Head, value: string, name: string) => 'done' | 'pass';

const REQUEST_FIELDS: ReadonlyMap<string, Read<RequestHead>> = new Map<string, Read<RequestHead>>([
  [
    'host',
    (head, value) => {
      head.hosts.push(value);
      return 'done';
    },
  ],
  [
    'content-length',
    (head, value) => {
      head.lengths += 1;
      head.contentLength = Number(value);
      return 'done';
    },
  ],
  [
    'transfer-encoding',
    (head) => {
      head.hasTransferEncoding = true;
      return 'done';
    },
  ],
  [
    'te',
    (head, value) => {
      // The only value that may be forwarded.
      head.wantsTrailers ||= /\btrailers\b/i.test(value);
      return 'done';
    },
  ],
  [
    'accept-encoding',
    (head, _value, name) => {
      // What comes back is searched for values; a server that compresses anyway is decoded.
      head.fields.push(name, 'identity');
      return 'done';
    },
  ],
  // A server that answers in UTF-16 or EBCDIC because it was asked to would not be understood here.
  ['accept-charset', () => 'done'],
  [
    // The same within gRPC's messages.
    'grpc-accept-encoding',
    (head, _value, name) => {
      head.fields.push(name, 'identity');
      return 'done';
    },
  ],
  [
    'expect',
    (head, value) => {
      head.expectsContinue = value.toLowerCase() === '100-continue';
      return 'done';
    },
  ],
  [
    'trailer',
    (head, value) => {
      head.trailer = value;
      return 'done';
    },
  ],
  [
    'content-type',
    (head, value) => {
      // Of two that differ nobody knows which one counts: a token that is in a field by one may be in free text by the other.
      head.contentType = head.contentType === undefined || head.contentType === value ? value : '';
      return 'pass';
    },
  ],
  [
    'content-encoding',
    (head, value) => {
      head.contentEncoding = head.contentEncoding === undefined ? value : `${head.contentEncoding}, ${value}`;
      return 'pass';
    },
  ],
]);

const RESPONSE_FIELDS: ReadonlyMap<string, Read<ResponseHead>> = new Map<string, Read<ResponseHead>>([
  [
    'content-length',
    (head, value) => {
      head.contentLength = Number(value);
      return 'done';
    },
  ],
  [
    'content-encoding',
    (head, value) => {
      head.contentEncoding = head.contentEncoding === undefined ? value : `${head.contentEncoding}, ${value}`;
      return 'done';
    },
  ],
  [
    // Framing is this connection's own; any other coding would hide the body from the search, and nobody asked for one.
    'transfer-encoding',
    (head, value) => {
      if (!/^\s*chunked\s*$/i.test(value)) head.isCoded = true;
      return 'done';
    },
  ],
  // It would invite the child to HTTP/3, past the proxy.
  ['alt-svc', () => 'done'],
  [
    'trailer',
    (head, value) => {
      head.trailer = value;
      return 'done';
    },
  ],
  [
    'content-type',
    (head, value) => {
      head.contentType = value;
      return 'pass';
    },
  ],
]);

function filled<Head extends { readonly fields: string[] }>(head: Head, raw: RawFields, readers: ReadonlyMap<string, Read<Head>>): Head {
  forEachField(raw, (name, lower, value) => {
    if (readers.get(lower)?.(head, value, name) !== 'done') head.fields.push(name, value);
  });
  return head;
}

/** Every field that is not for one connection only. */
function forEachField(raw: RawFields, visit: (name: string, lower: string, value: string) => void): void {
  const dropped = namedByConnection(raw);
  for (let index = 0; index < raw.length; index += 2) {
    const name = raw[index] ?? '';
    const lower = name.toLowerCase();
    if (!HOP_BY_HOP.has(lower) && dropped?.has(lower) !== true) visit(name, lower, raw[index + 1] ?? '');
  }
}

/** Swaps in place, field by field. */
export function swapFields(fields: string[], swap: Swap, notes: SwapNotes): void {
  for (let index = 1; index < fields.length; index += 2) {
    const value = fields[index] ?? '';
    fields[index] = swap.header(fields[index - 1] ?? '', value, notes);
  }
}

/** Remasks in place, names too, and adds the names of the secrets that were there to `found`. */
export function remaskFields(fields: string[], remasker: Remasker, found: Set<string>): void {
  if (remasker.isEmpty) return;
  // Nearly always there is nothing, and one search says so.
  const names = remasker.namesIn(fields.join('\n'));
  if (names.length === 0) return;
  for (const name of names) found.add(name);
  for (let index = 0; index < fields.length; index += 1) fields[index] = remasker.text(fields[index] ?? '');
}

/** The same for what `responseHead` took out of the fields and the caller puts back. */
export function remaskHead(head: ResponseHead, remasker: Remasker, found: Set<string>): void {
  remaskFields(head.fields, remasker, found);
  for (const key of ['contentEncoding', 'trailer'] as const) {
    const taken = [head[key] ?? ''];
    remaskFields(taken, remasker, found);
    if (head[key] !== undefined) head[key] = taken[0];
  }
}

/** Without HTTP/2's pseudo-header fields, which come first. */
export function regularFields(raw: RawFields): RawFields {
  let start = 0;
  while ((raw[start] ?? '').startsWith(':')) start += 2;
  return start === 0 ? raw : raw.slice(start);
}

function namedByConnection(raw: RawFields): Set<string> | undefined {
  let named: Set<string> | undefined;
  for (let index = 0; index < raw.length; index += 2) {
    const name = raw[index] ?? '';
    if (name.length !== 10 || name.toLowerCase() !== 'connection') continue;
    for (const part of (raw[index + 1] ?? '').split(',')) {
      const token = part.trim().toLowerCase();
      if (token !== '' && token !== 'close' && token !== 'keep-alive') (named ??= new Set()).add(token);
    }
  }
  return named;
}

/** The field that names the trailers, where they may be named. */
export function announced(trailer: string | undefined): string[] {
  return trailer === undefined ? [] : ['Trailer', trailer];
}

export function pairs(flat: readonly string[]): [string, string][] {
  const list: [string, string][] = [];
  for (let index = 0; index + 1 < flat.length; index += 2) list.push([flat[index] ?? '', flat[index + 1] ?? '']);
  return list;
}
