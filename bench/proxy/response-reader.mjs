// Finds the end of HTTP/1.1 responses, one after the other, as cheaply as it can be done: a load generator shares the cores with what it
// measures. Not a parser for the world: heads come from the benchmark's own upstream through one proxy.

const LENGTH = /\r\ncontent-length: *(\d+)/i;
const CHUNKED = /\r\ntransfer-encoding: *chunked/i;
const END_OF_HEAD = '\r\n\r\n';

export class ResponseReader {
  status = 0;
  /** Of the body, decoded. */
  bytes = 0;
  head = '';
  /** @type {'head' | 'length' | 'size' | 'chunk' | 'end'} */
  #state = 'head';
  #left = 0;
  /** @type {Buffer | undefined} a head that is not complete */
  #before;
  #line = '';
  /** @type {((piece: Buffer) => void) | undefined} */
  #onBody;

  /** @param {(piece: Buffer) => void} [onBody] gets the body as it comes */
  constructor(onBody) {
    this.#onBody = onBody;
  }

  /**
   * True when this chunk is the last of a response; the next one begins another.
   * @param {Buffer} chunk
   */
  push(chunk) {
    const from = this.#state === 'head' ? this.#readHead(chunk) : { rest: chunk, at: 0 };
    if (from === undefined) return false;
    const done = this.#state === 'length' ? this.#readLength(from.rest, from.at) : this.#readChunks(from.rest, from.at);
    if (done) this.#state = 'head';
    return done;
  }

  /** @param {Buffer} chunk */
  #readHead(chunk) {
    const all = this.#before === undefined ? chunk : Buffer.concat([this.#before, chunk]);
    const end = all.indexOf(END_OF_HEAD);
    if (end < 0) {
      this.#before = all;
      return undefined;
    }
    this.#before = undefined;
    this.head = all.toString('latin1', 0, end);
    this.status = Number(this.head.slice(9, 12));
    this.bytes = 0;
    const length = LENGTH.exec(this.head);
    if (length !== null) {
      this.#state = 'length';
      this.#left = Number(length[1]);
    } else if (CHUNKED.test(this.head)) {
      this.#state = 'size';
      this.#line = '';
    } else {
      throw new Error('a response of unknown length');
    }
    return { rest: all, at: end + END_OF_HEAD.length };
  }

  /**
   * @param {Buffer} chunk
   * @param {number} at
   */
  #readLength(chunk, at) {
    const here = chunk.length - at;
    this.#left -= here;
    this.bytes += here;
    if (here > 0) this.#onBody?.(at === 0 ? chunk : chunk.subarray(at));
    if (this.#left < 0) throw new Error('more than a response announced');
    return this.#left === 0;
  }

  /**
   * @param {Buffer} chunk
   * @param {number} start
   */
  #readChunks(chunk, start) {
    let at = start;
    while (at < chunk.length) {
      if (this.#state === 'chunk') {
        // Two more than the data: the line end after it.
        const here = Math.min(this.#left, chunk.length - at);
        const data = Math.min(here, Math.max(0, this.#left - 2));
        this.bytes += data;
        if (data > 0) this.#onBody?.(chunk.subarray(at, at + data));
        this.#left -= here;
        at += here;
        if (this.#left === 0) this.#state = 'size';
        continue;
      }
      const newline = chunk.indexOf(10, at);
      const stop = newline < 0 ? chunk.length : newline;
      this.#line += chunk.toString('latin1', at, stop);
      at = stop + 1;
      if (newline < 0) return false;
      const line = this.#line;
      this.#line = '';
      if (this.#state === 'end') {
        if (line === '\r') return true;
      } else {
        const size = Number.parseInt(line, 16);
        this.#left = size + 2;
        this.#state = size === 0 ? 'end' : 'chunk';
      }
    }
    return false;
  }
}
