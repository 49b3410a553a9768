// For sessions that learn from each request which tokens are in it: the hook, and the body that such a session reads before it is forwarded.
// A blind run has none of this; its tokens are known when it starts.
import { Readable, type Duplex } from 'node:stream';
import { ClosedEarly, through } from './body.ts';
import { decoderFor } from './coding.ts';
import type { Exchange, Request, Session } from './exchange.ts';
import type { RequestHead } from './head.ts';
import type { Refusal } from './refusal.ts';

/** A request that passed authorize.ts. The signal: its connection is gone. */
export type Prepare = (request: Unprepared, signal: AbortSignal) => Promise<Prepared>;

export interface Unprepared {
  readonly request: Request;
  /** Its fields may be changed. */
  readonly head: RequestHead;
  /** Undefined: of a WebSocket, which has none. Who reads it gives what was read back, or to `Prepared.body`. */
  readonly source: Readable | undefined;
  /** Before the first byte of `source` is read: the child may be waiting for a 100 (Continue). */
  readonly proceed: () => void;
}

export interface Prepared {
  /** What serves this request. */
  readonly session: Session;
  readonly refusal?: Refusal | undefined;
  /** In place of the child's path and query. */
  readonly path?: string | undefined;
  /** The whole body, as it came. `untouched`: it goes on as it comes, and nothing is swapped in it. Left out: as in a blind run. */
  readonly body?: Buffer | 'untouched' | undefined;
  /** Nothing is swapped in the bytes of `body` either: nobody could look at what is in them. */
  readonly isOpaque?: boolean;
}

interface Inbound extends Omit<Unprepared, 'request'> {
  readonly connection: Duplex;
}

export function isPrepared({ session }: Exchange): boolean {
  return session.prepare !== undefined;
}

/** Undefined when the request may go on. Throws when the child is gone by then. */
export async function prepare(exchange: Exchange, { connection, ...inbound }: Inbound): Promise<Refusal | undefined> {
  const abort = new AbortController();
  const onClose = (): void => {
    abort.abort();
  };
  // One for each request that came without waiting for the answers before it.
  connection.setMaxListeners(0);
  connection.once('close', onClose);
  try {
    const prepared = await exchange.session.prepare?.({ request: exchange.request, ...inbound }, abort.signal);
    // First: its session is told of the end.
    if (prepared !== undefined) exchange.adopt(prepared);
    if (connection.destroyed) throw new ClosedEarly('the child');
    return prepared?.refusal;
  } finally {
    connection.off('close', onClose);
  }
}

/** All of it; undefined when it is larger, and then nothing of it is lost: whoever reads the source gets it from the start. */
export function readUpTo(source: Readable, limit: number): Promise<Buffer | undefined> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let size = 0;
    const onReadable = (): void => {
      for (let chunk = source.read() as Buffer | null; chunk !== null; chunk = source.read() as Buffer | null) {
        chunks.push(chunk);
        size += chunk.length;
        if (size <= limit) continue;
        off();
        source.unshift(Buffer.concat(chunks));
        resolve(undefined);
        return;
      }
    };
    const onEnd = (): void => {
      off();
      resolve(Buffer.concat(chunks));
    };
    const onClose = (): void => {
      off();
      reject(new ClosedEarly('the child'));
    };
    const off = (): void => {
      source.off('readable', onReadable).off('end', onEnd).off('error', onClose).off('close', onClose);
    };
    source.on('readable', onReadable).on('end', onEnd).on('error', onClose).on('close', onClose);
    if (source.destroyed) onClose();
  });
}

/** A body without its content coding. Undefined: it cannot be taken off, or what comes out is larger than the limit. */
export async function decoded(body: Buffer, contentEncoding: string | undefined, limit: number): Promise<Buffer | undefined> {
  const decoder = decoderFor(contentEncoding);
  if (decoder.kind === 'identity') return body;
  if (decoder.kind === 'unsupported') return undefined;
  try {
    const chunks: Buffer[] = [];
    let size = 0;
    for await (const chunk of through(Readable.from([body]), decoder.open()) as AsyncIterable<Buffer>) {
      chunks.push(chunk);
      size += chunk.length;
      if (size > limit) return undefined;
    }
    return Buffer.concat(chunks);
  } catch {
    return undefined;
  }
}
