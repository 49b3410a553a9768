// The protocol as lines: one message in UTF-8 on each. A line that is no message is answered with an error, so that a client does not wait for what never
// comes; only what may itself be an answer, or wants none, is passed over.
import { isUtf8 } from 'node:buffer';
import type { Readable, Writable } from 'node:stream';
import type { JSONRPCMessage, Transport } from './mcp-sdk.ts';

export interface McpStreams {
  readonly stdin: Readable;
  readonly stdout: Writable;
}

/** Longest message, as clients have it, too. */
export const MAX_LINE_BYTES = 10_485_760;

const LINE_FEED = 10;
const PARSE_ERROR = -32700;
const INVALID_REQUEST = -32600;

/** Does not listen for the end of the streams, nor for their errors: whoever made them knows when it is over. */
export class LineTransport implements Transport {
  onmessage?: Transport['onmessage'];
  onclose?: Transport['onclose'];
  onerror?: Transport['onerror'];
  /** Settles when it was closed, by whomever. */
  readonly closed: Promise<void>;
  readonly #streams: McpStreams;
  readonly #parse: (value: unknown) => JSONRPCMessage;
  #settleClosed: () => void = () => undefined;
  #isClosed = false;
  #pieces: Buffer[] = [];
  #length = 0;

  /** `parse` throws for what is no message. */
  constructor(streams: McpStreams, parse: (value: unknown) => JSONRPCMessage) {
    this.#streams = streams;
    this.#parse = parse;
    this.closed = new Promise((resolve) => {
      this.#settleClosed = resolve;
    });
  }

  start(): Promise<void> {
    this.#streams.stdin.on('data', this.#read);
    return Promise.resolve();
  }

  /** Settles when the message was handed on: a slow reader slows what waits for this. */
  send(message: JSONRPCMessage): Promise<void> {
    return this.#write(message);
  }

  close(): Promise<void> {
    if (this.#isClosed) return Promise.resolve();
    this.#isClosed = true;
    this.#streams.stdin.off('data', this.#read).pause();
    this.#pieces = [];
    this.onclose?.();
    this.#settleClosed();
    return Promise.resolve();
  }

  readonly #read = (chunk: Buffer): void => {
    let rest = chunk;
    for (let end = rest.indexOf(LINE_FEED); end !== -1; end = rest.indexOf(LINE_FEED)) {
      if (!this.#keep(rest.subarray(0, end))) return;
      const line = Buffer.concat(this.#pieces);
      this.#pieces = [];
      this.#length = 0;
      this.#take(line);
      rest = rest.subarray(end + 1);
    }
    this.#keep(rest);
  };

  /** False when the line got too long, or it is over: where the next message begins, nobody can say then. */
  #keep(piece: Buffer): boolean {
    if (this.#isClosed) return false;
    this.#length += piece.length;
    this.#pieces.push(piece);
    if (this.#length <= MAX_LINE_BYTES) return true;
    this.#refuse(INVALID_REQUEST, `a message may have at most ${String(MAX_LINE_BYTES)} bytes`);
    void this.close();
    return false;
  }

  #take(line: Buffer): void {
    if (!isUtf8(line)) {
      this.#refuse(PARSE_ERROR, 'the message is not in UTF-8');
      return;
    }
    const text = line.toString('utf8').trim();
    if (text === '') return;
    const value = parseJson(text);
    if (value === undefined) {
      this.#refuse(PARSE_ERROR, 'the message is not JSON');
      return;
    }
    const message = this.#parsed(value);
    if (message !== undefined) this.onmessage?.(message);
    else if (Array.isArray(value)) this.#refuse(INVALID_REQUEST, 'batches are not served');
    else if (wantsAnswer(value)) this.#refuse(INVALID_REQUEST, 'this is no message of the protocol', idOf(value));
  }

  #parsed(value: unknown): JSONRPCMessage | undefined {
    try {
      return this.#parse(value);
    } catch {
      return undefined;
    }
  }

  #refuse(code: number, message: string, id?: string | number): void {
    const answer = { jsonrpc: '2.0', ...(id === undefined ? {} : { id }), error: { code, message } } as const;
    this.#write(answer).catch(() => undefined);
  }

  #write(message: JSONRPCMessage): Promise<void> {
    if (this.#isClosed) return Promise.reject(new Error('the connection is closed'));
    return new Promise((resolve, reject) => {
      this.#streams.stdout.write(`${JSON.stringify(message)}\n`, (error) => {
        if (error) reject(error);
        else resolve();
      });
    });
  }
}

/** Undefined for what is no JSON, which has no value of that name. */
function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** Neither an answer nor a notification, as far as can be told. */
function wantsAnswer(value: unknown): boolean {
  if (typeof value !== 'object' || value === null) return true;
  if ('result' in value || 'error' in value) return false;
  return 'id' in value || !('method' in value);
}

/** Undefined when no answer could carry it. */
function idOf(value: unknown): string | number | undefined {
  if (typeof value !== 'object' || value === null || !('id' in value)) return undefined;
  const { id } = value;
  return typeof id === 'string' || (typeof id === 'number' && Number.isSafeInteger(id)) ? id : undefined;
}
