// HTTP/1.1, straight down: authorize → swap → dial → forward → remask → audit.
import type { IncomingMessage, ServerResponse } from 'node:http';
import { authorize } from './authorize.ts';
import type { Exchange } from './exchange.ts';
import { refusalOf } from './failure.ts';
import { requestHead, swapFields } from './head.ts';
import { isPrepared, prepare } from './prepare.ts';
import { planRequestBody } from './request-body.ts';
import { breakOff, refuse, respond, type Child } from './respond-http1.ts';
import { proceed, send } from './send-http1.ts';

/** Never rejects: whatever happens, the child gets an answer or a broken connection, and the audit log a line. */
export async function forwardHttp1(exchange: Exchange, request: IncomingMessage, response: ServerResponse): Promise<void> {
  response.sendDate = false;
  if (response.socket === null) waitInLine({ request, response });
  let incoming: IncomingMessage | undefined;
  try {
    const head = requestHead(request.rawHeaders);
    const go = (): void => {
      if (head.expectsContinue) proceed(request, response);
    };
    const inbound = { head, source: request, connection: request.socket, proceed: go };
    const refusal = authorize(exchange, head) ?? (isPrepared(exchange) ? await prepare(exchange, inbound) : undefined);
    if (refusal !== undefined) {
      refuse(exchange, { request, response }, refusal);
      return;
    }
    const target = exchange.swap.target(exchange.path, exchange.notes);
    swapFields(head.fields, exchange.swap, exchange.notes);
    const body = await planRequestBody(exchange, inbound, go);
    if (body.kind === 'refused') {
      refuse(exchange, { request, response }, body.refusal);
      return;
    }
    incoming = await send(exchange, { head, target, body, request, response });
    await respond(exchange, incoming, response);
    exchange.finish(incoming.statusCode ?? null);
  } catch (error) {
    // Nobody reads it any further.
    incoming?.destroy();
    fail(exchange, { request, response }, error);
  }
}

function fail(exchange: Exchange, child: Child, error: unknown): void {
  const refusal = refusalOf(error, exchange);
  // Not `request.destroyed`: that is true of every request that was read to its end.
  if (child.response.closed || child.request.socket.destroyed) {
    exchange.finish(null, { error: 'client-gone' });
  } else if (child.response.headersSent) {
    // A body that ends early must not look complete.
    breakOff(child);
    exchange.finish(child.response.statusCode, refusal.end);
  } else {
    refuse(exchange, child, refusal);
  }
}

/** By connection: answers that come behind another one's (pipelining). */
const inLine = new WeakMap<object, Set<ServerResponse>>();

/** Node tells the end of a connection only to the answer that is being written; those behind it would wait, and their upstreams with them. */
function waitInLine({ request: { socket }, response }: Child): void {
  const known = inLine.get(socket);
  const waiting = known ?? new Set<ServerResponse>();
  waiting.add(response);
  response.once('close', () => waiting.delete(response));
  if (known !== undefined) return;
  inLine.set(socket, waiting);
  socket.once('close', () => {
    for (const each of waiting) if (each.socket === null) each.destroy().emit('close');
  });
}
