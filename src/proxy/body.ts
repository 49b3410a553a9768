// Bodies on their way through: transforms around what swaps and remasks, and the one pipe that ends both sides when one fails.
import { PassThrough, pipeline, type Duplex, type Readable, type Writable } from 'node:stream';
import type { Exchange } from './exchange.ts';

/** A streaming rewriter: what is held back comes with a later call, at the latest with `end`. */
export interface Rewriter {
  push(chunk: Buffer): Buffer;
  end(): Buffer;
  /** As `push`, without joining what was held back and what follows. */
  pieces?(chunk: Buffer): readonly Buffer[];
}

/** The whole of a body at once. */
export function rewritten(rewriter: Rewriter, body: Buffer): Buffer {
  const first = rewriter.push(body);
  const rest = rewriter.end();
  return rest.length === 0 ? first : Buffer.concat([first, rest]);
}

/** All of it, of which there is little: the caller has looked at Content-Length. Rejects when the body ends early. */
export function collect(source: Readable): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    source.on('data', (chunk: Buffer) => chunks.push(chunk));
    source.once('end', () => {
      const [first] = chunks;
      resolve(chunks.length === 1 && first !== undefined ? first : Buffer.concat(chunks));
    });
    source.once('error', reject);
    source.once('close', () => {
      // An error object for every small body would be a twentieth of what it costs.
      if (!source.readableEnded) reject(new ClosedEarly('the source'));
    });
  });
}

export interface Way {
  /** Content codings that are taken off or put on, in the order in which the bytes run through them. */
  readonly before?: readonly Duplex[];
  readonly rewriter?: Rewriter | undefined;
  readonly after?: readonly Duplex[];
  /** Of the source, chunk by chunk. */
  readonly count?: (bytes: number) => void;
  /** Asked at the end of the source, where that alone does not tell: Node ends a stream of HTTP/2 that broke off as if it were complete. */
  readonly isWhole?: () => boolean;
  /** What becomes of a source that is not read any further; left out: it is destroyed. */
  readonly letGo?: () => void;
  /** What a sink that breaks off needs beside being destroyed; called once. */
  readonly breakOff?: (error: Error) => void;
}

/**
 * From source to sink, no faster than the sink takes it. When either side fails both end, and the sink never as if the body were complete.
 * Resolves when everything was handed over. Not `stream.pipeline`: for a small body that costs more than the rest of the exchange.
 */
export function pump(source: Readable, sink: Writable, { before = [], rewriter, after = [], ...way }: Way): Promise<void> {
  const { count, isWhole, letGo, breakOff } = way;
  return new Promise((resolve, reject) => {
    const from = through(letGo !== undefined && before.length > 0 ? apart(source) : source, before);
    const to = into(after, sink);
    let ended = false;
    const fail = (error: Error): void => {
      off();
      source.unpipe();
      if (letGo === undefined) source.destroy();
      else letGo();
      if (breakOff === undefined) sink.destroy();
      else breakOff(error);
      reject(error);
    };
    const onData = (chunk: Buffer): void => {
      count?.(chunk.length);
      guarded(fail, () => {
        if (!writeAll(to, rewriter === undefined ? [chunk] : (rewriter.pieces?.(chunk) ?? [rewriter.push(chunk)]))) from.pause();
      });
    };
    const onDrain = (): void => {
      from.resume();
    };
    const onEnd = (): void => {
      guarded(fail, () => {
        if (isWhole?.() === false) throw new ClosedEarly('the source');
        ended = true;
        const rest = rewriter?.end();
        if (rest === undefined || rest.length === 0) to.end();
        else to.end(rest);
      });
    };
    const onSourceClose = (): void => {
      if (!ended) fail(new ClosedEarly('the source'));
    };
    const onSinkClose = (): void => {
      if (!sink.writableFinished) fail(new ClosedEarly('the sink'));
    };
    const onFinish = (): void => {
      off();
      resolve();
    };
    const off = (): void => {
      from.off('data', onData).off('end', onEnd).off('error', fail).off('close', onSourceClose);
      to.off('drain', onDrain).off('error', fail);
      sink.off('finish', onFinish).off('error', fail).off('close', onSinkClose);
      // An error that comes later has nobody to tell.
      for (const stream of [from, sink]) stream.on('error', () => undefined);
    };
    from.on('data', onData).on('end', onEnd).on('error', fail).on('close', onSourceClose);
    to.on('drain', onDrain).on('error', fail);
    sink.on('finish', onFinish).on('close', onSinkClose);
    if (to !== sink) sink.on('error', fail);
    if (from.destroyed && !from.readableEnded) onSourceClose();
    else if (sink.destroyed) onSinkClose();
  });
}

function guarded(fail: (error: Error) => void, step: () => void): void {
  try {
    step();
  } catch (error) {
    fail(error instanceof Error ? error : new Error('the body cannot be rewritten'));
  }
}

/** In one go. False: wait for 'drain'. */
function writeAll(to: Writable, pieces: readonly Buffer[]): boolean {
  const [first] = pieces;
  if (pieces.length === 1 && first !== undefined) return first.length === 0 || to.write(first);
  to.cork();
  for (const piece of pieces) if (piece.length > 0) to.write(piece);
  to.uncork();
  return !to.writableNeedDrain;
}

/** One side was gone before the body was complete. */
export class ClosedEarly extends Error {
  readonly code = 'ECONNRESET';

  constructor(who: string) {
    super(`${who} closed early`);
  }
}

/** Fails with its source, and does not take it along when what reads it fails. */
function apart(source: Readable): Readable {
  const copy = source.pipe(new PassThrough());
  source.once('close', () => {
    if (!source.readableEnded) copy.destroy(new ClosedEarly('the source'));
  });
  return copy;
}

/** The source through the stages. Whichever fails, what comes back fails with its error. */
export function through(source: Readable, stages: readonly Duplex[]): Readable {
  const last = stages.at(-1);
  if (last === undefined) return source;
  pipeline([source, ...stages], () => undefined);
  return last;
}

/** What is written to the result comes out of the stages into the sink. */
function into(stages: readonly Duplex[], sink: Writable): Writable {
  const [first] = stages;
  if (first === undefined) return sink;
  pipeline([...stages, sink], () => undefined);
  return first;
}

/** Writes down which secrets a rewriter took out of a response. */
export function note(exchange: Exchange, rewriter: { readonly found: ReadonlySet<string> } | undefined): void {
  for (const name of rewriter?.found ?? []) exchange.remasked.add(name);
}
