// What happens to the body of a request: passed on untouched where nothing may be swapped in it, otherwise rewritten; where the child announced
// a length, the new one is known before the first byte goes out.
import type { IncomingMessage } from 'node:http';
import type { ServerHttp2Stream } from 'node:http2';
import { Readable } from 'node:stream';
import type { BodySwap } from '../mask/body-text.ts';
import { SwapNotes } from '../mask/swap.ts';
import { requestBody } from './body-length.ts';
import { ClosedEarly, collect, rewritten, type Way } from './body.ts';
import { decoderFor, encoderFor } from './coding.ts';
import type { Exchange } from './exchange.ts';
import type { RequestHead } from './head.ts';
import { cannotRewrite, valueOutOfScope, type Refusal } from './refusal.ts';
import { spool } from './spool.ts';

export type RequestBody =
  | { readonly kind: 'none' }
  | { readonly kind: 'whole'; readonly bytes: Buffer }
  | {
      readonly kind: 'stream';
      readonly source: Readable;
      readonly way: Way;
      /** Left out: its end is marked otherwise. */
      readonly length?: number | undefined;
      /** Nothing of it was read yet: the upstream may answer the child's `Expect: 100-continue`. */
      readonly unread: boolean;
    }
  | { readonly kind: 'refused'; readonly refusal: Refusal };

/** `proceed` is called before the first byte is read here: the child may be waiting for a 100 (Continue). */
export function planRequestBody(exchange: Exchange, inbound: Inbound, proceed: () => void): Promise<RequestBody> {
  const given = exchange.prepared?.body;
  return given === undefined ? unprepared(exchange, inbound, proceed) : Promise.resolve(prepared(exchange, inbound, given));
}

async function unprepared(exchange: Exchange, inbound: Inbound, proceed: () => void): Promise<RequestBody> {
  const { head, source } = inbound;
  const { mode } = requestBody({
    method: exchange.request.method,
    httpVersion: exchange.request.protocol === 'h2' ? '2.0' : '1.1',
    contentLength: head.contentLength === undefined ? undefined : String(head.contentLength),
    transferEncoding: head.hasTransferEncoding ? 'chunked' : undefined,
    contentEncoding: head.contentEncoding,
    ended: 'endAfterHeaders' in source && source.endAfterHeaders,
  });
  if (mode === 'none') return { kind: 'none' };
  const rewriter = exchange.swap.body(head.contentType, exchange.notes);
  if (rewriter !== undefined && decoderFor(head.contentEncoding).kind !== 'identity') return recoded(inbound, rewriter);
  if (mode === 'whole') {
    proceed();
    return whole(exchange, inbound, await collect(source), rewriter);
  }
  if (rewriter === undefined) return { kind: 'stream', source, way: {}, length: head.contentLength, unread: true };
  if (mode === 'stream') return { kind: 'stream', source, way: { rewriter }, unread: true };
  proceed();
  return spooled(exchange, inbound, rewriter);
}

/** What `prepare` has read already, or has left alone on purpose. */
function prepared(exchange: Exchange, { head, source }: Inbound, body: Buffer | 'untouched'): RequestBody {
  if (body === 'untouched') return { kind: 'stream', source, way: {}, length: head.contentLength, unread: true };
  const rewriter = exchange.prepared?.isOpaque === true ? undefined : exchange.swap.body(head.contentType, exchange.notes);
  if (rewriter === undefined || decoderFor(head.contentEncoding).kind === 'identity') return whole(exchange, { head }, body, rewriter);
  const plan = recoded({ head, source: Readable.from([body]) }, rewriter);
  return plan.kind === 'stream' ? { ...plan, unread: false } : plan;
}

export interface Inbound {
  readonly head: RequestHead;
  readonly source: IncomingMessage | ServerHttp2Stream;
}

/** It is in memory anyway, so it is searched for values too. */
function whole(exchange: Exchange, { head }: Pick<Inbound, 'head'>, body: Buffer, rewriter: BodySwap | undefined): RequestBody {
  const { host, port } = exchange.request.target;
  const trespasser = exchange.session.guard.trespasserIn(body, host, port);
  if (trespasser !== undefined) return { kind: 'refused', refusal: valueOutOfScope(trespasser, exchange) };
  if (rewriter === undefined) return { kind: 'whole', bytes: body };
  const search = exchange.swap.search(head.contentType);
  return { kind: 'whole', bytes: search.push(body) || search.end() ? rewritten(rewriter, body) : body };
}

/** The coding is taken off and put on again. The length of the result is not known before its end. */
function recoded({ head, source }: { readonly head: RequestHead; readonly source: Readable }, rewriter: BodySwap): RequestBody {
  const decoder = decoderFor(head.contentEncoding);
  const encoder = encoderFor(head.contentEncoding);
  if (decoder.kind !== 'coded' || encoder.kind !== 'coded') {
    const message = `a body with Content-Encoding ${head.contentEncoding ?? ''} cannot be rewritten; send it without, or as gzip`;
    return { kind: 'refused', refusal: cannotRewrite(message) };
  }
  return { kind: 'stream', source, way: { before: decoder.open(), rewriter, after: encoder.open() }, unread: true };
}

/** Without a token it goes on as it came. Otherwise `measure` runs over the body to know its new length, and another one makes it. */
async function spooled(exchange: Exchange, { head, source }: Inbound, measure: BodySwap): Promise<RequestBody> {
  const search = exchange.swap.search(head.contentType);
  const file = await spool(source, { folder: exchange.session.spoolFolder, see: (chunk) => search.push(chunk) });
  const body = { kind: 'stream', source: file.raw, unread: false } as const;
  if (!search.end()) return { ...body, way: {}, length: file.length };
  const length = await file.measure(measure);
  // That took a while, and who sends the request listens only from then on.
  if (isGone(source)) {
    file.raw.destroy();
    throw new ClosedEarly('the child');
  }
  return { ...body, way: { rewriter: exchange.swap.body(head.contentType, new SwapNotes()) }, length };
}

function isGone(source: Inbound['source']): boolean {
  return 'endAfterHeaders' in source ? source.closed : source.socket.destroyed;
}
