// Request side of blind mode: masked tokens become values where both the secret's hosts and its slots allow it, written as that place needs it.
// Everything else passes unchanged, byte for byte, and tokens that were left are noted. Refuses nothing: who calls decides what a note means.
import { Buffer } from 'node:buffer';
import { formFormat, IN_PATH, percentEncode } from './body-form.ts';
import { jsonEscape, jsonFormat } from './body-json.ts';
import { multipartFormat } from './body-multipart.ts';
import { textFormat, TokenBody, TokenSearch, xmlEscape, type BodySwap, type Format, type Place } from './body-text.ts';
import { isFixedHeader } from './slot.ts';
import type { TokenEntry, TokenTable } from './table.ts';

/** Where a token was. Names come from the request: printable ASCII, and cut when they are long. */
export interface Sighting {
  /** Of the secret. */
  readonly name: string;
  /** `header authorization`, `query token`, `body client.secret`, `path`, `body`, `frame`. */
  readonly where: string;
  /** What `swap = […]` would have to say; empty when nothing allows a token there. */
  readonly slot: string;
}

export interface Left extends Sighting {
  /** `encoding`: the value cannot be written there; `expired`: its lease is over. */
  readonly reason: 'host' | 'slot' | 'encoding' | 'expired';
}

const MOST_NOTES = 50;

/** What happened to the tokens of one request, each secret once for each place. */
export class SwapNotes {
  readonly swapped: Sighting[] = [];
  readonly left: Left[] = [];

  addSwapped(sighting: Sighting): void {
    add(this.swapped, sighting);
  }

  addLeft(left: Left): void {
    add(this.left, left);
  }
}

function add<T extends Sighting>(list: T[], sighting: T): void {
  if (list.length < MOST_NOTES && !list.some(({ name, where }) => name === sighting.name && where === sighting.where)) list.push(sighting);
}

interface Spot {
  readonly where: string;
  readonly slot: string;
  readonly isSlot: boolean;
  /** The bytes to put, as latin1; undefined when the value cannot stand here. */
  readonly write: (value: string) => string | undefined;
}

/** For the requests to one host. Keeps nothing of a request. */
export class Swap {
  readonly #table: TokenTable;
  readonly #inScope: ReadonlySet<TokenEntry>;

  /** `host` is canonical. */
  constructor(table: TokenTable, host: string, port: number, tls = true) {
    this.#table = table;
    this.#inScope = table.inScope(host, port, tls);
  }

  /** Values are latin1, as of node:http. Basic credentials are decoded, and encoded again when a token was in them. */
  header(name: string, value: string, notes: SwapNotes): string {
    const [, scheme = '', encoded = '', end = ''] = BASIC.exec(value) ?? [];
    if (encoded !== '') {
      const decoded = Buffer.from(encoded, 'base64').toString('latin1');
      const swapped = this.#headerText(name, decoded, notes);
      if (swapped !== decoded) return scheme + Buffer.from(swapped, 'latin1').toString('base64') + end;
    }
    return this.#headerText(name, value, notes);
  }

  /** Origin-form: a path, and perhaps a query. */
  target(target: string, notes: SwapNotes): string {
    if (!target.includes('%') && !this.#table.holdsToken(target)) return target;
    const mark = target.indexOf('?');
    const path = this.#path(mark === -1 ? target : target.slice(0, mark), notes);
    return mark === -1 ? path : `${path}?${this.#query(target.slice(mark + 1), notes)}`;
  }

  /** Undefined: nothing may be swapped in such a body, and it can pass unscanned. */
  body(contentType: string | undefined, notes: SwapNotes): BodySwap | undefined {
    if (this.#inScope.size === 0) return undefined;
    const { format, hasFields, write } = bodyKind(contentType ?? '', this.#table);
    const isPossible = [...this.#inScope].some(({ slots }) => slots.body || (hasFields && slots.fields));
    if (!isPossible) return undefined;
    return new TokenBody(this.#table, format, (entry, place, length) => {
      const writable = (value: string) => {
        const bytes = Buffer.from(write(value));
        return place === undefined || (place.fixedLength === true && bytes.length !== length) ? undefined : bytes.toString('latin1');
      };
      return asBytes(this.#judge(entry, { ...bodySpot(entry, place), write: writable }, notes));
    });
  }

  /** Whether there is a token in a body at all: much faster to know than what `body` makes of one. */
  search(contentType: string | undefined): TokenSearch {
    return new TokenSearch(this.#table, bodyKind(contentType ?? '', this.#table).format);
  }

  /** One WebSocket text message. Undefined: nothing may be swapped in one. */
  frame(notes: SwapNotes): BodySwap | undefined {
    if (![...this.#inScope].some(({ slots }) => slots.frame)) return undefined;
    const format = frameFormat();
    return new TokenBody(this.#table, format, (entry) => {
      const write = (value: string) => utf8(format.isJson() ? jsonEscape(value) : value);
      return asBytes(this.#judge(entry, { where: 'frame', slot: 'body', isSlot: entry.slots.frame, write }, notes));
    });
  }

  #headerText(name: string, text: string, notes: SwapNotes): string {
    if (!this.#table.holdsToken(text)) return text;
    const lower = name.toLowerCase();
    const spot = { where: `header ${shown(lower)}`, slot: isFixedHeader(lower) ? '' : `header:${lower}`, write: headerValue };
    let swapped = '';
    let done = 0;
    for (const { start, end, entry } of this.#table.findAll(text)) {
      const put = this.#judge(entry, { ...spot, isSlot: entry.slots.header(lower) }, notes);
      if (put === undefined) continue;
      swapped += text.slice(done, start) + put;
      done = end;
    }
    return done === 0 ? text : swapped + text.slice(done);
  }

  #path(path: string, notes: SwapNotes): string {
    const format = { ...formFormat(this.#table), tracker: textFormat().tracker };
    const write = (value: string) => percentEncode(value, IN_PATH);
    return this.#whole(path, format, (entry) =>
      this.#judge(entry, { where: 'path', slot: 'path', isSlot: entry.slots.path, write }, notes),
    );
  }

  #query(query: string, notes: SwapNotes): string {
    return this.#whole(query, formFormat(this.#table), (entry, place) => {
      const name = place?.path?.[0];
      const spot = name === undefined ? { where: 'query', slot: '' } : named('query', name, '');
      const isSlot = name !== undefined && entry.slots.query(name);
      return this.#judge(entry, { ...spot, isSlot, write: (value) => percentEncode(value) }, notes);
    });
  }

  #whole(text: string, format: Format, judge: (entry: TokenEntry, place: Place | undefined) => string | undefined): string {
    const body = new TokenBody(this.#table, format, (entry, place) => asBytes(judge(entry, place)));
    return body.push(Buffer.from(text, 'latin1')).toString('latin1') + body.end().toString('latin1');
  }

  /** Both questions, and the only place where a value takes a token's. */
  #judge(entry: TokenEntry, spot: Spot, notes: SwapNotes): string | undefined {
    const sighting = { name: entry.name, where: spot.where, slot: spot.slot };
    const mayGo = this.#inScope.has(entry) && spot.isSlot && entry.isExpired !== true;
    const put = mayGo ? spot.write(entry.secret.reveal()) : undefined;
    if (put !== undefined) notes.addSwapped(sighting);
    else if (!this.#inScope.has(entry)) notes.addLeft({ ...sighting, reason: 'host' });
    else if (!spot.isSlot) notes.addLeft({ ...sighting, reason: 'slot' });
    else notes.addLeft({ ...sighting, reason: entry.isExpired === true ? 'expired' : 'encoding' });
    return put;
  }
}

const BASIC = /^(\s*basic +)([A-Za-z0-9+/_-]+={0,2})(\s*)$/i;

/** Never what would end a header or start another. */
function headerValue(value: string): string | undefined {
  // eslint-disable-next-line no-control-regex -- these are what it looks for
  return /[\0-\x08\x0a-\x1f\x7f]/.test(value) ? undefined : utf8(value);
}

function utf8(text: string): string {
  return Buffer.from(text).toString('latin1');
}

function asBytes(latin1: string | undefined): Buffer | undefined {
  return latin1 === undefined ? undefined : Buffer.from(latin1, 'latin1');
}

interface BodyKind {
  readonly format: Format;
  readonly hasFields: boolean;
  readonly write: (value: string) => string;
}

/** Before all: formats that hold lengths, among them some whose name ends in `+json`. */
const WITH_LENGTHS = /^application\/(?:grpc|connect\+|octet-stream$|(?:[\w.-]+[.+-])?(?:protobuf|proto|cbor|msgpack|bson|avro|thrift)\b)/;
const JSON_TYPE =
  /^(?:application|text)\/(?:(?:x-)?(?:json|ndjson|jsonl|json-seq|jsonlines)|x-amz-json-[\d.]+|json5?-?rpc)$|\+json(?:-seq)?$/;
const XML_TYPE = /^(?:application|text)\/(?:xml|html)$|\+xml$/;

function bodyKind(contentType: string, table: TokenTable): BodyKind {
  const type = contentType.replace(/;.*/s, '').trim().toLowerCase();
  const raw = (value: string) => value;
  if (WITH_LENGTHS.test(type)) return { format: textFormat(true), hasFields: false, write: raw };
  if (JSON_TYPE.test(type)) return { format: jsonFormat(table), hasFields: true, write: jsonEscape };
  if (type === 'application/x-www-form-urlencoded') {
    return { format: formFormat(table), hasFields: true, write: (value) => percentEncode(value) };
  }
  const multipart = type === 'multipart/form-data' ? multipartFormat(contentType) : undefined;
  if (multipart !== undefined) return { format: multipart, hasFields: true, write: raw };
  return { format: textFormat(), hasFields: false, write: XML_TYPE.test(type) ? xmlEscape : raw };
}

function bodySpot(entry: TokenEntry, place: Place | undefined): Omit<Spot, 'write'> {
  const path = place?.path ?? [];
  const isSlot = entry.slots.body || (path.length > 0 && entry.slots.field(path, place?.inFile));
  return { ...named('body', path.join('.'), 'body'), isSlot };
}

/** `otherwise`: the slot for a place whose name no config can hold. */
function named(kind: 'query' | 'body', name: string, otherwise: string): { readonly where: string; readonly slot: string } {
  if (name === '') return { where: kind, slot: otherwise };
  const text = shown(name);
  return { where: `${kind} ${text}`, slot: text === name ? `${kind}:${name}` : otherwise };
}

const LONGEST_SHOWN = 120;

function shown(name: string): string {
  const text = name.slice(0, LONGEST_SHOWN).replace(/[^\x20-\x7e]/g, '?');
  return name.length > LONGEST_SHOWN ? `${text}...` : text;
}

/** A message says nothing of its type: one that starts like a JSON object or array is taken for JSON. */
function frameFormat(): Format & { isJson(): boolean } {
  const place: Place = { path: undefined };
  let first: string | undefined;
  const advance = (bytes: Buffer, from: number, to: number) => {
    first ??= /\S/.exec(bytes.toString('latin1', from, to))?.[0];
  };
  return { tracker: { advance, place: () => place }, isJson: () => first === '{' || first === '[' };
}
