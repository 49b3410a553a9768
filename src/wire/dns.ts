// Questions and answers of DNS (RFC 1035, RFC 6891), for a name server that knows its answers and asks nobody. Sans-I/O. Strict: one question,
// nothing compressed in it; what no resolver sends is a format error, and what is no query gets no reply at all.

export interface Question {
  /** In the case in which it was sent, without the final dot. Undefined when a label holds what no host name has: a dot, a space, UTF-8. */
  readonly name: string | undefined;
  readonly type: number;
}

/** `address` is IPv4. `no-data`: the name exists, and has nothing of that type. */
export type Answer = { readonly address: string } | 'no-data' | 'no-such-name' | 'failed';

/** The type of a question for an IPv4 address. */
export const TYPE_A = 1;

/** How long resolvers may remember an address, in seconds. */
const TIME_TO_LIVE = 60;

/** Undefined for what gets no reply. Never throws by itself, whatever the datagram holds; no reply is longer than 512 bytes. */
export function replyTo(datagram: Uint8Array, answer: (question: Question) => Answer): Buffer | undefined {
  const bytes = Buffer.from(datagram.buffer, datagram.byteOffset, datagram.byteLength);
  // Two name servers that answer each other's answers never stop.
  if (bytes.length < HEADER_LENGTH || (bytes.readUInt16BE(FLAGS_AT) & IS_REPLY) !== 0) return undefined;
  if ((bytes.readUInt16BE(FLAGS_AT) & OPCODE) !== 0) return message(bytes, { code: CODES.notImplemented });
  const query = parse(bytes);
  if (query === undefined) return message(bytes, { code: CODES.malformed });
  if ((query.edns?.version ?? 0) !== 0) return message(bytes, { code: CODES.badVersion, query });
  if (query.class !== CLASS_IN) return message(bytes, { code: CODES.refused, query });
  const found = answer(query);
  if (typeof found === 'string') return message(bytes, { code: CODES[found], query });
  return message(bytes, { code: CODES['no-data'], query, address: found.address });
}

const HEADER_LENGTH = 12;
const FLAGS_AT = 2;
const IS_REPLY = 0x8000;
const OPCODE = 0x7800;
const IS_TRUNCATED = 0x0200;
/** Recursion desired, checking disabled: repeated in the reply. */
const REPEATED = 0x0110;
/** Without it Go takes an empty answer for that of a server that does not know. */
const RECURSION_AVAILABLE = 0x0080;
const CLASS_IN = 1;
const TYPE_OPT = 41;
const LONGEST_LABEL = 63;
const LONGEST_NAME = 255;

/** The name of the question, by its place (RFC 1035 4.1.4). */
const SAME_NAME = 0xc000 | HEADER_LENGTH;

/** What kz itself would take in one datagram; it sends far less. */
const LARGEST_DATAGRAM = 1232;

const CODES = { 'no-data': 0, malformed: 1, failed: 2, 'no-such-name': 3, notImplemented: 4, refused: 5, badVersion: 16 } as const;

interface Edns {
  readonly version: number;
  /** RFC 3225: repeated in the reply. */
  readonly wantsSignatures: boolean;
}

interface Query extends Question {
  readonly class: number;
  /** Name, type and class as they were sent: a resolver may have chosen the case of each letter, to know its answer by it. */
  readonly question: Buffer;
  readonly edns: Edns | undefined;
}

class MalformedQuery extends Error {}

function insist(holds: boolean): void {
  if (!holds) throw new MalformedQuery();
}

function parse(bytes: Buffer): Query | undefined {
  try {
    return parseQuery(bytes);
  } catch (error) {
    if (error instanceof MalformedQuery) return undefined;
    throw error;
  }
}

function parseQuery(bytes: Buffer): Query {
  const [questions, answers, authorities, additional] = [4, 6, 8, 10].map((at) => bytes.readUInt16BE(at));
  insist(questions === 1 && answers === 0 && authorities === 0 && (bytes.readUInt16BE(FLAGS_AT) & IS_TRUNCATED) === 0);
  const reader = new Reader(bytes, HEADER_LENGTH);
  const name = reader.name();
  const type = reader.integer();
  const about = { name, type, class: reader.integer(), question: bytes.subarray(HEADER_LENGTH, reader.offset) };
  return { ...about, edns: extension(reader, additional ?? 0) };
}

/** Of the additional records only this one says something about the reply. What comes after them is ignored. */
function extension(reader: Reader, records: number): Edns | undefined {
  let found: Edns | undefined;
  for (let left = records; left > 0; left--) {
    const name = reader.name();
    const type = reader.integer();
    reader.integer();
    const [, version = 0, flags = 0] = reader.take(4);
    reader.take(reader.integer());
    if (type !== TYPE_OPT) continue;
    insist(found === undefined && name === '');
    found = { version, wantsSignatures: (flags & 0x80) !== 0 };
  }
  return found;
}

interface Reply {
  readonly code: number;
  readonly query?: Query;
  readonly address?: string;
}

function message(request: Buffer, { code, query, address }: Reply): Buffer {
  const header = Buffer.alloc(HEADER_LENGTH);
  const flags = request.readUInt16BE(FLAGS_AT) & (OPCODE | REPEATED);
  header.writeUInt16BE(request.readUInt16BE(0), 0);
  header.writeUInt16BE(IS_REPLY | flags | RECURSION_AVAILABLE | (code & 0x0f), FLAGS_AT);
  header.writeUInt16BE(query === undefined ? 0 : 1, 4);
  header.writeUInt16BE(address === undefined ? 0 : 1, 6);
  header.writeUInt16BE(query?.edns === undefined ? 0 : 1, 10);
  return Buffer.concat([
    header,
    ...(query === undefined ? [] : [query.question]),
    ...(address === undefined ? [] : [addressRecord(address)]),
    ...(query?.edns === undefined ? [] : [optRecord(code >> 4, query.edns)]),
  ]);
}

function addressRecord(address: string): Buffer {
  const record = Buffer.alloc(16);
  record.writeUInt16BE(SAME_NAME, 0);
  record.writeUInt16BE(TYPE_A, 2);
  record.writeUInt16BE(CLASS_IN, 4);
  record.writeUInt32BE(TIME_TO_LIVE, 6);
  record.writeUInt16BE(4, 10);
  record.set(address.split('.').map(Number), 12);
  return record;
}

/** RFC 6891 6.1.2: the sender's limit in place of a class, the rest of the code and the flags in place of a time to live. */
function optRecord(code: number, { wantsSignatures }: Edns): Buffer {
  const record = Buffer.alloc(11);
  record.writeUInt16BE(TYPE_OPT, 1);
  record.writeUInt16BE(LARGEST_DATAGRAM, 3);
  record.writeUInt8(code, 5);
  record.writeUInt8(wantsSignatures ? 0x80 : 0, 7);
  return record;
}

const HOST_LABEL = /^[A-Za-z0-9_-]+$/;

/** Whoever reads behind the end has a malformed query. */
class Reader {
  offset: number;
  readonly #bytes: Buffer;

  constructor(bytes: Buffer, offset: number) {
    this.#bytes = bytes;
    this.offset = offset;
  }

  take(count: number): Buffer {
    insist(this.offset + count <= this.#bytes.length);
    this.offset += count;
    return this.#bytes.subarray(this.offset - count, this.offset);
  }

  integer(): number {
    return this.take(2).readUInt16BE(0);
  }

  /** A length above 63 is a reference to another name, or nothing at all. Empty for the root. */
  name(): string | undefined {
    const start = this.offset;
    const labels: string[] = [];
    for (let length = this.take(1).readUInt8(0); length > 0; length = this.take(1).readUInt8(0)) {
      insist(length <= LONGEST_LABEL);
      labels.push(this.take(length).toString('latin1'));
    }
    insist(this.offset - start <= LONGEST_NAME);
    return labels.every((label) => HOST_LABEL.test(label)) ? labels.join('.') : undefined;
  }
}
