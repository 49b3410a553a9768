// The first bytes of a TLS connection, read for the name the client wants (SNI) and the protocols it offers (ALPN).
// Follows RFC 8446 4.1.2 and the record layer of RFC 5246 6.2.1. Sans-I/O: it neither answers nor decrypts, and with Encrypted
// Client Hello it sees the outer name only. Strict where two readers could differ: what is said twice is invalid.

export type Hello =
  | { readonly state: 'incomplete' }
  | { readonly state: 'invalid' }
  | { readonly state: 'ok'; readonly serverName: string | undefined; readonly protocols: readonly string[] };

/**
 * Give it everything that has arrived so far, again whenever more has; what follows the hello is ignored. Undecided for at most 64 KiB.
 * `serverName` is what the client sent, as latin1 and not yet canonical. GREASE values (RFC 8701) are no protocols.
 */
export function parseClientHello(bytes: Uint8Array): Hello {
  try {
    const message = handshakeMessage(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength));
    return message === undefined ? { state: 'incomplete' } : { state: 'ok', ...helloFacts(new Fields(message)) };
  } catch (error) {
    if (error instanceof MalformedHello) return { state: 'invalid' };
    throw error;
  }
}

const HANDSHAKE = 22;
const CLIENT_HELLO = 1;
const RECORD_HEADER = 5;
const MESSAGE_HEADER = 4;
const MAX_RECORD = 2 ** 14;
const MAX_BYTES = 2 ** 16;
const SERVER_NAME = 0;
const HOST_NAME = 0;
const ALPN = 16;

class MalformedHello extends Error {}

/** The body of the hello out of as many records as it takes; undefined while some of it is missing. */
function handshakeMessage(bytes: Buffer): Buffer | undefined {
  const fragments: Buffer[] = [];
  let have = 0;
  let need = MESSAGE_HEADER;
  let offset = 0;
  while (have < need) {
    const fragment = recordFragment(bytes.subarray(offset));
    if (fragment === undefined) break;
    offset += RECORD_HEADER + fragment.announced;
    fragments.push(fragment.bytes);
    have += fragment.bytes.length;
    if (need === MESSAGE_HEADER) need = messageLength(fragments, have);
  }
  // Both, so that it does not matter in what pieces it arrives or how small its records are.
  insist(need <= MAX_BYTES && offset <= MAX_BYTES);
  return have < need ? undefined : Buffer.concat(fragments).subarray(MESSAGE_HEADER, need);
}

function recordFragment(bytes: Buffer): { bytes: Buffer; announced: number } | undefined {
  const [type, major] = bytes;
  insist((type ?? HANDSHAKE) === HANDSHAKE && (major ?? 3) === 3);
  if (bytes.length < RECORD_HEADER) return undefined;
  const announced = bytes.readUInt16BE(3);
  // An empty handshake fragment is forbidden (RFC 8446 5.1): it would let a peer send for ever without getting anywhere.
  insist(announced > 0 && announced <= MAX_RECORD);
  return { bytes: bytes.subarray(RECORD_HEADER, RECORD_HEADER + announced), announced };
}

/** With its header; just the header's length while that is not there yet. */
function messageLength(fragments: readonly Buffer[], have: number): number {
  insist((fragments[0]?.[0] ?? CLIENT_HELLO) === CLIENT_HELLO);
  return have < MESSAGE_HEADER ? MESSAGE_HEADER : MESSAGE_HEADER + Buffer.concat(fragments).readUIntBE(1, 3);
}

function helloFacts(hello: Fields): { serverName: string | undefined; protocols: readonly string[] } {
  hello.take(2 + 32);
  insist(hello.vector(1).length <= 32);
  const suites = hello.vector(2).length;
  insist(suites >= 2 && suites % 2 === 0);
  insist(hello.vector(1).length >= 1);
  const extensions = readExtensions(hello);
  const names = extensions.get(SERVER_NAME);
  const protocols = extensions.get(ALPN);
  return {
    serverName: names === undefined ? undefined : hostName(names),
    protocols: protocols === undefined ? [] : protocolNames(protocols),
  };
}

/** Before TLS 1.3 a hello may end without any. */
function readExtensions(hello: Fields): Map<number, Fields> {
  const found = new Map<number, Fields>();
  if (hello.atEnd) return found;
  const extensions = new Fields(hello.vector(2));
  insist(hello.atEnd);
  while (!extensions.atEnd) {
    const type = extensions.integer(2);
    insist(!found.has(type));
    found.set(type, new Fields(extensions.vector(2)));
  }
  return found;
}

/** RFC 6066 3. Names of a kind that nobody has defined are skipped; all of them begin with their length. */
function hostName(extension: Fields): string | undefined {
  const list = new Fields(extension.vector(2));
  insist(extension.atEnd && !list.atEnd);
  let name: string | undefined;
  while (!list.atEnd) {
    const kind = list.integer(1);
    const text = list.vector(2).toString('latin1');
    if (kind !== HOST_NAME) continue;
    insist(name === undefined && text !== '');
    name = text;
  }
  return name;
}

/** RFC 7301 3.1. */
function protocolNames(extension: Fields): readonly string[] {
  const list = new Fields(extension.vector(2));
  insist(extension.atEnd && !list.atEnd);
  const names: Buffer[] = [];
  while (!list.atEnd) {
    const name = list.vector(1);
    insist(name.length > 0);
    names.push(name);
  }
  return names.filter((name) => !isGrease(name)).map((name) => name.toString('latin1'));
}

function isGrease(name: Buffer): boolean {
  const [first = 0, second] = name;
  return name.length === 2 && first === second && (first & 0x0f) === 0x0a;
}

function insist(holds: boolean): void {
  if (!holds) throw new MalformedHello();
}

/** Reads on through a structure of TLS's presentation language; whoever reads behind its end has a malformed hello. */
class Fields {
  readonly #bytes: Buffer;
  #offset = 0;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  get atEnd(): boolean {
    return this.#offset === this.#bytes.length;
  }

  take(count: number): Buffer {
    insist(this.#offset + count <= this.#bytes.length);
    this.#offset += count;
    return this.#bytes.subarray(this.#offset - count, this.#offset);
  }

  integer(size: number): number {
    return this.take(size).readUIntBE(0, size);
  }

  /** What a length of so many bytes announces. */
  vector(lengthSize: number): Buffer {
    return this.take(this.integer(lengthSize));
  }
}
