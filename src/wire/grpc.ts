// gRPC's messages inside a body (a flag, four bytes of length, that many bytes): where one ends, nothing is held back any longer, or whoever
// waits for its last byte would wait for the next message. https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md

/** As in `Replacer`; it may not change the length. */
export interface MessageRewriter {
  push(chunk: Buffer): Buffer;
  end(): Buffer;
  readonly found: ReadonlySet<string>;
}

const HEADER = 5;

/** A rewriter for the whole body, made of one for each message. Bytes that are no messages pass as they are. */
export class GrpcMessages {
  readonly found = new Set<string>();
  readonly #open: () => MessageRewriter;
  #header: Buffer = Buffer.alloc(0);
  #left = 0;
  #message: MessageRewriter | undefined;

  constructor(open: () => MessageRewriter) {
    this.#open = open;
  }

  push(chunk: Buffer): Buffer {
    const out: Buffer[] = [];
    let rest = chunk;
    while (rest.length > 0) {
      rest = this.#message === undefined ? this.#readHeader(rest, out) : this.#readPayload(this.#message, rest, out);
    }
    return joined(out);
  }

  /** The body broke off inside a message, or there is nothing left. */
  end(): Buffer {
    const rest = this.#message?.end();
    this.#message = undefined;
    return rest === undefined ? this.#header : joined([this.#header, rest]);
  }

  #readHeader(bytes: Buffer, out: Buffer[]): Buffer {
    const taken = bytes.subarray(0, HEADER - this.#header.length);
    this.#header = joined([this.#header, taken]);
    if (this.#header.length === HEADER) {
      this.#left = this.#header.readUInt32BE(1);
      out.push(this.#header);
      this.#header = Buffer.alloc(0);
      if (this.#left > 0) this.#message = this.#open();
    }
    return bytes.subarray(taken.length);
  }

  #readPayload(message: MessageRewriter, bytes: Buffer, out: Buffer[]): Buffer {
    const payload = bytes.subarray(0, this.#left);
    this.#left -= payload.length;
    out.push(message.push(payload));
    if (this.#left === 0) {
      out.push(message.end());
      for (const name of message.found) this.found.add(name);
      this.#message = undefined;
    }
    return bytes.subarray(payload.length);
  }
}

function joined(parts: readonly Buffer[]): Buffer {
  const [first] = parts;
  return parts.length === 1 && first !== undefined ? first : Buffer.concat(parts);
}
