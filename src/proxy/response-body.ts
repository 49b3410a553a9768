// What happens to the body of a response: decoded where it came encoded, searched for values, and sent on with a length wherever it keeps one.
import type { Duplex } from 'node:stream';
import type { Replacer } from '../mask/replace.ts';
import { responseBody } from './body-length.ts';
import type { Remasker } from '../mask/remask.ts';
import { GrpcMessages } from '../wire/grpc.ts';
import { decoderFor } from './coding.ts';
import type { Exchange } from './exchange.ts';
import type { ResponseHead } from './head.ts';

export type ResponseBody =
  | { readonly kind: 'none' }
  | { readonly kind: 'whole'; readonly rewriter: Remasking }
  | {
      readonly kind: 'stream';
      readonly way: { readonly before?: readonly Duplex[]; readonly rewriter?: Remasking };
      readonly length?: number | undefined;
      /** The coding was taken off: Content-Encoding does not go on. */
      readonly decoded: boolean;
    };

type Remasking = Pick<Replacer, 'push' | 'end' | 'found'>;

export interface ResponseFacts {
  readonly status: number;
  /** HTTP/2 said that nothing follows. */
  readonly ended: boolean;
}

export function planResponseBody(exchange: Exchange, head: ResponseHead, { status, ended }: ResponseFacts): ResponseBody {
  const { mode, decode } = responseBody({
    method: exchange.request.method,
    status,
    httpVersion: exchange.request.protocol === 'h2' ? '2.0' : '1.1',
    contentLength: head.contentLength === undefined ? undefined : String(head.contentLength),
    contentType: head.contentType,
    contentEncoding: head.contentEncoding,
    ended,
  });
  if (mode === 'none') return { kind: 'none' };
  const { remasker } = exchange.session;
  if (remasker.isEmpty) return { kind: 'stream', way: {}, length: head.contentLength, decoded: false };
  switch (mode) {
    case 'whole':
      return { kind: 'whole', rewriter: remasker.stream() };
    case 'stream-same-length':
      return { kind: 'stream', way: { rewriter: remasker.stream({ sameLength: true }) }, length: head.contentLength, decoded: false };
    case 'stream-chunked': {
      if (isGrpc(head.contentType)) return { kind: 'stream', way: { rewriter: grpcMessages(remasker) }, decoded: false };
      const decoder = decoderFor(head.contentEncoding);
      const before = decode && decoder.kind === 'coded' ? decoder.open() : [];
      return { kind: 'stream', way: { before, rewriter: remasker.stream() }, decoded: decode };
    }
  }
}

function isGrpc(contentType: string | undefined): boolean {
  return /^application\/grpc\b/i.test(contentType ?? '');
}

/** Lengths stay as they are: a message says its own, and so do the fields inside. */
function grpcMessages(remasker: Remasker): GrpcMessages {
  return new GrpcMessages(() => remasker.stream({ sameLength: true }));
}
