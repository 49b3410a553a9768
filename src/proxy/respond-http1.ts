// The child's side of an exchange over HTTP/1.1: the upstream's answer, remasked, or one of kz's own.
import { STATUS_CODES, type ClientRequest, type IncomingMessage, type ServerResponse } from 'node:http';
import { collect, note, pump, rewritten } from './body.ts';
import type { Exchange } from './exchange.ts';
import { announced, pairs, remaskFields, remaskHead, responseHead } from './head.ts';
import { refusalBody, type Refusal } from './refusal.ts';
import { planResponseBody } from './response-body.ts';

export interface Child {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
}

/** Remasks what the upstream answers and passes it on. Rejects when it breaks off. */
export async function respond(exchange: Exchange, incoming: IncomingMessage, response: ServerResponse): Promise<void> {
  const { remasker } = exchange.session;
  const head = responseHead(incoming.rawHeaders);
  if (head.isCoded) throw new TransferCoding();
  remaskHead(head, remasker, exchange.remasked);
  const status = incoming.statusCode ?? 502;
  const plan = planResponseBody(exchange, head, { status, ended: false });
  const reason = remasker.text(incoming.statusMessage ?? '');
  const fields = head.fields;
  if (head.contentEncoding !== undefined && !(plan.kind === 'stream' && plan.decoded))
    fields.push('Content-Encoding', head.contentEncoding);
  if (plan.kind === 'none') {
    if (head.contentLength !== undefined) fields.push('Content-Length', String(head.contentLength));
    incoming.resume();
    response.writeHead(status, reason, fields);
    response.end();
    return;
  }
  if (plan.kind === 'whole') {
    const body = await collect(incoming);
    exchange.bytesDown = body.length;
    const bytes = rewritten(plan.rewriter, body);
    note(exchange, plan.rewriter);
    fields.push('Content-Length', String(bytes.length));
    response.writeHead(status, reason, fields);
    endWith(response, bytes);
    return;
  }
  if (plan.length !== undefined) fields.push('Content-Length', String(plan.length));
  // Node makes the answer a chunked one where the child knows that.
  else if (response.req.httpVersion === '1.1') fields.push(...announced(head.trailer));
  response.writeHead(status, reason, fields);
  // The head of a stream that has nothing to say yet goes out at once, and in latin1, which flushHeaders would not do.
  response.write(NOTHING);
  incoming.once('end', () => {
    const trailers = [...incoming.rawTrailers];
    remaskFields(trailers, remasker, exchange.remasked);
    try {
      if (trailers.length > 0 && plan.length === undefined) response.addTrailers(pairs(trailers));
    } catch {
      // What Node would not write; out of here it would end kz.
      response.destroy();
    }
  });
  // How the child's side ends is decided where the failure is known.
  await pump(incoming, response, { ...plan.way, count: (bytes) => (exchange.bytesDown += bytes), breakOff: () => undefined });
  note(exchange, plan.way.rewriter);
}

const NOTHING = Buffer.alloc(0);

/** In bytes. */
const SMALL = 8192;

/** Node sends a head and a string in one write, a head and a Buffer in two pieces. */
export function endWith(message: ServerResponse | ClientRequest, bytes: Buffer): void {
  if (bytes.length <= SMALL) message.end(bytes.toString('latin1'), 'latin1');
  else message.end(bytes);
}

class TransferCoding extends Error {
  readonly code = 'TRANSFER_CODING';
}

/** Answers in kz's own name and lets the rest of the request go by. */
export function refuse(exchange: Exchange, { request, response }: Child, refusal: Refusal): void {
  answer(request, response, refusal);
  exchange.finish(refusal.status, refusal.end);
}

export function answer(request: IncomingMessage, response: ServerResponse, refusal: Refusal): void {
  const { contentType, body } = refusalBody(refusal, request.headers.accept);
  // With its reason: one of the upstream's that Node would not write is still there.
  response.writeHead(refusal.status, STATUS_CODES[refusal.status] ?? '', {
    'content-type': contentType,
    'content-length': Buffer.byteLength(body),
    'x-kz-error': refusal.code,
    ...(mayGoOn(request, refusal) ? {} : { connection: 'close' }),
  });
  response.end(request.method === 'HEAD' ? undefined : body);
  // Closing on a child that still writes would take the answer away from it.
  request.resume();
}

/**
 * On the same connection. Not after what may be read in two ways, nor where a body may follow or not (Expect), nor at a wrong host's, nor for
 * a client whose time is over.
 */
function mayGoOn({ complete, headers }: IncomingMessage, { status }: Refusal): boolean {
  return status !== 400 && status !== 401 && status !== 421 && (complete || headers.expect === undefined);
}

/** HTTP/1.0 has no other mark of a body's end than that of the connection, so that must not be an orderly one. */
export function breakOff({ request, response }: Child): void {
  if (request.httpVersion === '1.0') request.socket.resetAndDestroy();
  else response.destroy();
}
