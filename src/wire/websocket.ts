// WebSocket frames (RFC 6455 5) of one direction on their way through: the payload of messages goes through a transform and is framed
// anew, control frames pass between the fragments. Sans-I/O, and nothing is collected: a message may leave in more fragments than it
// came in, but it starts, ends and reads as one. It knows no extensions, so none may have been negotiated.
import { randomBytes } from 'node:crypto';

/** As in `BodySwap` and `Replacer`: one for each message. */
export interface MessageTransform {
  push(chunk: Buffer): Buffer;
  end(): Buffer;
}

/** What a payload is to those who read it; a close reason is text. */
export type Payload = 'text' | 'binary';

export interface FrameRelayOptions {
  /** Frames to a server are masked, frames to a client are not. */
  readonly to: 'server' | 'client';
  /** Called for each message and each close reason. Without it, or when it gives none, frames pass byte by byte, still checked. */
  readonly transform?: ((kind: Payload) => MessageTransform | undefined) | undefined;
  /** Binary messages go through the transform too, and the payloads of pings and pongs. */
  readonly binary?: boolean | undefined;
  /** Where masking keys come from. */
  readonly random?: ((bytes: number) => Buffer) | undefined;
}

/** What a peer sent is no stream of frames that may be relayed. The connection is past saving: close it, with status 1002. */
export class FrameError extends Error {
  readonly code: 'extension' | 'opcode' | 'order' | 'masking' | 'length' | 'control';

  constructor(code: FrameError['code']) {
    super(PROBLEMS[code]);
    this.name = 'FrameError';
    this.code = code;
  }
}

/** Takes the bytes of one direction in any pieces. After a `FrameError` it is of no use, and what else was in that piece is lost. */
export class FrameRelay {
  readonly #isMasked: boolean;
  readonly #transformFor: (kind: Payload) => MessageTransform | undefined;
  readonly #binary: boolean;
  readonly #random: (bytes: number) => Buffer;
  #header = NOTHING;
  #frame: Frame | undefined;
  #control: Buffer[] = [];
  #message: Message | undefined;
  #isClosed = false;

  constructor(options: FrameRelayOptions) {
    this.#isMasked = options.to === 'server';
    this.#transformFor = options.transform ?? (() => undefined);
    this.#binary = options.binary ?? false;
    this.#random = options.random ?? randomBytes;
  }

  /** What may be written on now, in order. Bytes behind a close frame are dropped: nobody may read them (RFC 6455 5.5.1). */
  push(chunk: Buffer): Buffer[] {
    const out: Buffer[] = [];
    let rest = chunk;
    while (!this.#isClosed) {
      const payload = this.#frame === undefined ? this.#readHeader(rest, out) : rest;
      if (payload === undefined) break;
      rest = this.#readPayload(payload, out);
      if (this.#frame !== undefined) break;
    }
    return out;
  }

  /** What follows the header; undefined while it is incomplete. */
  #readHeader(bytes: Buffer, out: Buffer[]): Buffer | undefined {
    const held = this.#header.length;
    const start = held === 0 ? bytes : Buffer.concat([this.#header, bytes.subarray(0, MAX_HEADER)]);
    const frame = parseHeader(start, this.#isMasked);
    if (frame === undefined) {
      this.#header = Buffer.from(start);
      return undefined;
    }
    this.#header = NOTHING;
    this.#frame = frame;
    if (!isControl(frame.opcode)) {
      this.#enterMessage(frame);
      if (this.#message?.transform === undefined) out.push(frame.header);
    }
    return bytes.subarray(frame.header.length - held);
  }

  #enterMessage(frame: Frame): void {
    if ((frame.opcode === CONTINUATION) !== (this.#message !== undefined)) throw new FrameError('order');
    if (frame.opcode === CONTINUATION) return;
    const mayChange = frame.opcode === TEXT || this.#binary;
    this.#message = {
      opcode: frame.opcode,
      transform: mayChange ? this.#transformFor(frame.opcode === TEXT ? 'text' : 'binary') : undefined,
    };
  }

  #readPayload(bytes: Buffer, out: Buffer[]): Buffer {
    const frame = this.#frame;
    if (frame === undefined) return bytes;
    const payload = bytes.subarray(0, frame.left);
    const offset = frame.length - frame.left;
    frame.left -= payload.length;
    if (frame.left === 0) this.#frame = undefined;
    if (isControl(frame.opcode)) this.#relayControl(frame, payload, out);
    else this.#relayData(frame, { payload, offset }, out);
    return bytes.subarray(payload.length);
  }

  #relayData(frame: Frame, { payload, offset }: { payload: Buffer; offset: number }, out: Buffer[]): void {
    const message = this.#message;
    if (message === undefined) return;
    const isEnd = frame.isFinal && frame.left === 0;
    if (isEnd) this.#message = undefined;
    if (message.transform === undefined) {
      if (payload.length > 0) out.push(payload);
      return;
    }
    const changed = payload.length === 0 ? NOTHING : message.transform.push(unmask(payload, frame.key, offset));
    const whole = isEnd ? joined(changed, message.transform.end()) : changed;
    if (!isEnd && whole.length === 0) return;
    out.push(...this.#write(message.opcode, isEnd, whole));
    message.opcode = CONTINUATION;
  }

  #relayControl(frame: Frame, payload: Buffer, out: Buffer[]): void {
    if (payload.length > 0) this.#control.push(payload);
    if (frame.left > 0) return;
    const whole = Buffer.concat(this.#control);
    this.#control = [];
    if (frame.opcode === CLOSE) this.#isClosed = true;
    const kept = frame.opcode === CLOSE ? CLOSE_CODE : 0;
    const mayChange = frame.opcode === CLOSE || this.#binary;
    const transform = mayChange && whole.length > kept ? this.#transformFor(frame.opcode === CLOSE ? 'text' : 'binary') : undefined;
    if (transform === undefined) {
      out.push(Buffer.concat([frame.header, whole]));
      return;
    }
    const plain = unmask(whole, frame.key, 0);
    const changed = joined(transform.push(plain.subarray(kept)), transform.end());
    out.push(...this.#write(frame.opcode, true, Buffer.concat([plain.subarray(0, kept), cutText(changed, MAX_CONTROL - kept)])));
  }

  #write(opcode: number, isFinal: boolean, payload: Buffer): Buffer[] {
    const key = this.#isMasked ? this.#random(4) : NOTHING;
    const header = Buffer.concat([frameHeader(opcode | (isFinal ? FIN : 0), payload.length, this.#isMasked), key]);
    return payload.length === 0 ? [header] : [header, unmask(payload, key, 0)];
  }
}

/** The value of Sec-WebSocket-Extensions without those that compress messages; undefined when nothing is left to offer. */
export function stripExtensions(value: string | undefined): string | undefined {
  const offers = value?.match(OFFER)?.map((offer) => offer.trim()) ?? [];
  const kept = offers.filter((offer) => offer !== '' && !COMPRESSION.test(offer));
  return kept.length === 0 ? undefined : kept.join(', ');
}

interface Frame {
  /** As it came. */
  readonly header: Buffer;
  readonly isFinal: boolean;
  readonly opcode: number;
  readonly length: number;
  /** Empty when the frame is not masked. */
  readonly key: Buffer;
  left: number;
}

interface Message {
  /** Of the next frame that leaves. */
  opcode: number;
  readonly transform: MessageTransform | undefined;
}

const PROBLEMS = {
  extension: 'a websocket frame uses an extension that was not negotiated',
  opcode: 'a websocket frame has a reserved opcode',
  order: 'a websocket fragment is out of order',
  masking: 'a websocket frame is masked though it must not be, or not though it must',
  length: 'a websocket frame states its length in a way that is forbidden',
  control: 'a websocket control frame is fragmented, too long, or without the status it must have',
} as const;

const NOTHING = Buffer.alloc(0);
const FIN = 0x80;
const RESERVED_BITS = 0x70;
const OPCODE = 0x0f;
const MASKED = 0x80;
const MAX_HEADER = 14;
const MAX_CONTROL = 125;
const CLOSE_CODE = 2;
const CONTINUATION = 0;
const TEXT = 1;
const BINARY = 2;
const CLOSE = 8;
const PONG = 10;

/** Commas inside a quoted parameter separate nothing. */
const OFFER = /(?:"(?:\\.|[^"\\])*"|[^,"]|")+/g;
const COMPRESSION = /^(?:permessage-|(?:x-webkit-)?deflate-)/i;

/** Undefined while bytes are missing; what is wrong already throws at once. */
function parseHeader(bytes: Buffer, mustBeMasked: boolean): Frame | undefined {
  const [first, second] = bytes;
  if (first === undefined) return undefined;
  checkFirst(first);
  if (second === undefined) return undefined;
  if (((second & MASKED) !== 0) !== mustBeMasked) throw new FrameError('masking');
  const opcode = first & OPCODE;
  const short = second & 0x7f;
  if (isControl(opcode)) checkControlLength(opcode, short);
  const keyStart = { 126: 4, 127: 10 }[short] ?? 2;
  const end = keyStart + (mustBeMasked ? 4 : 0);
  if (bytes.length < end) return undefined;
  const length = payloadLength(bytes, short);
  const key = bytes.subarray(keyStart, end);
  return { header: bytes.subarray(0, end), isFinal: (first & FIN) !== 0, opcode, length, key, left: length };
}

function checkFirst(first: number): void {
  const opcode = first & OPCODE;
  if ((first & RESERVED_BITS) !== 0) throw new FrameError('extension');
  if (opcode > PONG || (opcode > BINARY && opcode < CLOSE)) throw new FrameError('opcode');
  if (isControl(opcode) && (first & FIN) === 0) throw new FrameError('control');
}

function checkControlLength(opcode: number, length: number): void {
  if (length > MAX_CONTROL || (opcode === CLOSE && length === 1)) throw new FrameError('control');
}

/** The shortest form is the only one allowed (RFC 6455 5.2). */
function payloadLength(bytes: Buffer, short: number): number {
  if (short < 126) return short;
  const length = short === 126 ? bytes.readUInt16BE(2) : Number(bytes.readBigUInt64BE(2));
  const isShortest = length > (short === 126 ? MAX_CONTROL : 0xffff);
  if (!isShortest || length > Number.MAX_SAFE_INTEGER) throw new FrameError('length');
  return length;
}

function isControl(opcode: number): boolean {
  return opcode >= CLOSE;
}

function frameHeader(first: number, length: number, isMasked: boolean): Buffer {
  const mask = isMasked ? MASKED : 0;
  if (length <= MAX_CONTROL) return Buffer.from([first, mask | length]);
  const isLong = length > 0xffff;
  const header = Buffer.alloc(isLong ? 10 : 4);
  header[0] = first;
  header[1] = mask | (isLong ? 127 : 126);
  if (isLong) header.writeBigUInt64BE(BigInt(length), 2);
  else header.writeUInt16BE(length, 2);
  return header;
}

/** Masks as well. A copy, unless there is no key: the caller's bytes stay as they are. `offset`: how much of the payload came before. */
function unmask(payload: Buffer, key: Buffer, offset: number): Buffer {
  if (key.length === 0) return payload;
  const out = Buffer.allocUnsafe(payload.length);
  const word = Buffer.concat([key, key]).readUInt32LE(offset & 3);
  for (let index = 0; index < payload.length; index++) out[index] = (payload[index] ?? 0) ^ (word >>> ((index & 3) << 3));
  return out;
}

function joined(first: Buffer, second: Buffer): Buffer {
  if (second.length === 0) return first;
  return first.length === 0 ? second : Buffer.concat([first, second]);
}

/** Not in the middle of a UTF-8 sequence. */
function cutText(text: Buffer, most: number): Buffer {
  let end = Math.min(text.length, most);
  while (end > 0 && end < text.length && ((text[end] ?? 0) & 0xc0) === 0x80) end--;
  return text.subarray(0, end);
}
