// multipart/form-data bodies (RFC 7578): which field a byte is in. Where readers might differ about where a part ends or what it is called,
// nothing is in a field.
import { Buffer } from 'node:buffer';
import type { Format, Place, Tracker } from './body-text.ts';

const LONGEST_HEAD = 16_384;
const CR = 0x0d;
const LF = 0x0a;
const HEAD_END = '\r\n\r\n';

/** Undefined when the content type names no boundary that a reader would take. */
export function multipartFormat(contentType: string): Format | undefined {
  if (!PARAMETERS.test(contentType)) return undefined;
  const boundaries = [...contentType.matchAll(CONTENT_PARAMETER)].filter(([, name = '']) => /^boundary\b/i.test(name));
  const [[, name = '', quoted, plain = ''] = [], ...more] = boundaries;
  const boundary = quoted ?? plain;
  const isOne = name.length === 'boundary'.length && more.length === 0 && boundary !== '' && boundary.length <= LONGEST_BOUNDARY;
  return isOne ? { tracker: new MultipartTracker(boundary) } : undefined;
}

const LONGEST_BOUNDARY = 200;
/** RFC 9110 5.6.6, and what some write without quotes. One reader's `x="; boundary=a"; boundary =b` is not another's. */
const PARAMETERS = /^[^;,"]*(?:;\s*(?:[\w!#$%&'*+.^`|~-]+=(?:"[^"\\]*"|[^\s;",]+)\s*)?)*$/;
const CONTENT_PARAMETER = /;\s*([^\s;,"=]+)=(?:"([^"\\]*)"|([^\s;",]+))/g;

const NOWHERE: Place = { path: undefined };

class MultipartTracker implements Tracker {
  /** What ends a part: a line feed, with a carriage return in front, and this behind. */
  readonly #delimiter: Buffer;
  #state: 'body' | 'line' | 'head' | 'lost' = 'body';
  /** How much of the line feed and the delimiter stands in front of this place. The first part may start without a line feed. */
  #matched = 1;
  #previous = CR;
  #afterReturn = true;
  /** Of a part, from the end of the delimiter's line on. */
  #head = '';
  #place = NOWHERE;

  constructor(boundary: string) {
    this.#delimiter = Buffer.from(`\n--${boundary}`, 'latin1');
  }

  advance(bytes: Buffer, from: number, to: number): void {
    const known = to === bytes.length ? bytes : bytes.subarray(0, to);
    let at = from;
    while (at < to && this.#state !== 'lost') {
      if (this.#state === 'body') at = this.#body(known, at);
      else if (this.#state === 'line') this.#lineByte(bytes[at++] ?? 0);
      else this.#headByte(bytes[at++] ?? 0);
    }
  }

  place(): Place | undefined {
    if (this.#state === 'lost') return NOWHERE;
    return this.#state === 'body' ? this.#place : undefined;
  }

  #body(bytes: Buffer, from: number): number {
    if (this.#matched === 0) {
      const feed = bytes.indexOf(LF, from);
      if (feed === -1) {
        this.#previous = bytes.at(-1) ?? 0;
        return bytes.length;
      }
      this.#afterReturn = (feed === from ? this.#previous : bytes[feed - 1]) === CR;
      this.#matched = 1;
      return feed + 1;
    }
    const byte = bytes[from] ?? 0;
    if (byte !== this.#delimiter[this.#matched]) {
      // The byte may itself be the line feed that starts a delimiter.
      this.#previous = this.#matched === 1 ? LF : 0;
      this.#matched = 0;
      return from;
    }
    if (++this.#matched === this.#delimiter.length) this.#endPart();
    return from + 1;
  }

  #endPart(): void {
    this.#matched = 0;
    this.#head = '';
    // Some readers take a bare line feed for the end of a line.
    this.#state = this.#afterReturn ? 'line' : 'lost';
  }

  /** Behind the delimiter: spaces and the end of the line. `--` ends all parts, and with anything else readers differ. */
  #lineByte(byte: number): void {
    if (this.#head === '' && (byte === 0x20 || byte === 0x09)) return;
    this.#head += String.fromCharCode(byte);
    if (this.#head === '\r\n') this.#state = 'head';
    else if (this.#head !== '\r') this.#state = 'lost';
  }

  #headByte(byte: number): void {
    this.#head += String.fromCharCode(byte);
    if (byte === LF && this.#head.endsWith(HEAD_END)) this.#startBody();
    else if (this.#head.length > LONGEST_HEAD) this.#state = 'lost';
  }

  #startBody(): void {
    this.#place = placeOf(this.#head);
    this.#state = 'body';
    this.#previous = LF;
    // Some readers take the line feed that ends the head for the one in front of a delimiter.
    this.#matched = 1;
    this.#afterReturn = false;
  }
}

/** `head`: the lines of a part's head, each with CRLF in front. */
function placeOf(head: string): Place {
  const lines = head.split('\r\n').filter((line) => line !== '');
  const fixedLength = lines.some((line) => /^content-length\s*:/i.test(line));
  const nowhere: Place = { path: undefined, fixedLength };
  const [disposition, ...more] = lines.filter((line) => /^content-disposition\s*:/i.test(line));
  // A folded line, or a bare CR or LF in one, is read in more than one way.
  if (disposition === undefined || more.length > 0 || lines.some((line) => /^[ \t]|[\r\n]/.test(line))) return nowhere;
  const parameters = parametersOf(disposition);
  const name = parameters?.get('name');
  if (parameters === undefined || name === undefined || parameters.has('name*')) return nowhere;
  return { path: [name], inFile: parameters.has('filename') || parameters.has('filename*'), fixedLength };
}

const PARAMETER = /\s*;\s*([\w*.-]+)=(?:"((?:[^"\\]|\\.)*)"|([^\s;"]*))/y;

/** Undefined when it is no `form-data`, or not written as RFC 7578 says, or says something twice. */
function parametersOf(disposition: string): ReadonlyMap<string, string> | undefined {
  const start = /^content-disposition\s*:\s*form-data/i.exec(disposition);
  if (start === null) return undefined;
  const parameters = new Map<string, string>();
  let end = start[0].length;
  for (;;) {
    PARAMETER.lastIndex = end;
    const match = PARAMETER.exec(disposition);
    if (match === null) break;
    const [whole, key = '', quoted, plain = ''] = match;
    end += whole.length;
    if (parameters.has(key.toLowerCase())) return undefined;
    parameters.set(key.toLowerCase(), fieldName(quoted ?? plain));
  }
  return /^\s*;?\s*$/.test(disposition.slice(end)) ? parameters : undefined;
}

/** Browsers write a quote as %22, others with a backslash. */
function fieldName(written: string): string {
  return Buffer.from(written.replace(/\\(["\\])/g, '$1').replaceAll('%22', '"'), 'latin1').toString();
}
