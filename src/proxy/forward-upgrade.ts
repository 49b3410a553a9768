// WebSocket over HTTP/1.1: the handshake goes the way of every request, the frames through a relay that swaps in text where the secret allows
// it and remasks what comes back. Any other upgrade never gets here.
import { ServerResponse, type ClientRequest, type IncomingMessage } from 'node:http';
import type { Duplex } from 'node:stream';
import { FrameRelay, stripExtensions } from '../wire/websocket.ts';
import { authorize } from './authorize.ts';
import { pump, type Rewriter } from './body.ts';
import type { Exchange } from './exchange.ts';
import { refusalOf } from './failure.ts';
import { refuse, respond } from './respond-http1.ts';
import { hostField } from './send-http1.ts';
import { remaskFields, requestHead, responseHead, swapFields } from './head.ts';
import { isPrepared, prepare } from './prepare.ts';
import { hostMismatch } from './refusal.ts';

export interface Upgrade {
  readonly request: IncomingMessage;
  readonly socket: Duplex;
  /** What came behind the request. */
  readonly head: Buffer;
  /** The name in TLS, when it is another one than the tunnel's. */
  readonly mismatch: string | undefined;
}

/** Never rejects. */
export async function forwardUpgrade(exchange: Exchange, { request, socket, head, mismatch }: Upgrade): Promise<void> {
  socket.on('error', () => undefined);
  const response = new ServerResponse(request);
  // Node took its parser off the connection, which therefore ends with this answer.
  response.shouldKeepAlive = false;
  const refusal = mismatch === undefined ? undefined : hostMismatch(mismatch, exchange.request.target);
  if (refusal !== undefined) {
    answerOn(request, response);
    refuse(exchange, { request, response }, refusal);
    return;
  }
  try {
    await open(exchange, { request, socket, head, response });
  } catch (error) {
    const { end } = refusalOf(error, exchange);
    if (response.headersSent || !socket.writable) {
      socket.destroy();
      exchange.finish(null, end);
    } else {
      answerOn(request, response);
      refuse(exchange, { request, response }, refusalOf(error, exchange));
    }
  }
}

interface Opening {
  readonly request: IncomingMessage;
  readonly socket: Duplex;
  readonly head: Buffer;
  readonly response: ServerResponse;
}

async function open(exchange: Exchange, opening: Opening): Promise<void> {
  const { request, socket, response } = opening;
  const head = requestHead(request.rawHeaders);
  const inbound = { head, source: undefined, connection: socket, proceed: () => undefined };
  const refusal = authorize(exchange, head) ?? (isPrepared(exchange) ? await prepare(exchange, inbound) : undefined);
  if (refusal !== undefined) {
    answerOn(request, response);
    refuse(exchange, { request, response }, refusal);
    return;
  }
  const path = exchange.swap.target(exchange.path, exchange.notes);
  const fields = withoutCompression(head.fields);
  swapFields(fields, exchange.swap, exchange.notes);
  const upstream = exchange.session.upstream.request(exchange.target, {
    method: exchange.request.method,
    path,
    headers: ['Host', hostField(head, exchange.target), ...fields, 'Connection', 'Upgrade', 'Upgrade', 'websocket'],
  });
  socket.once('close', () => upstream.destroy());
  const answer = await answerOf(upstream);
  if (answer.socket === undefined) {
    answerOn(request, response);
    // The upstream says no: what it says is an ordinary response.
    await respond(exchange, answer.incoming, response);
    exchange.finish(answer.incoming.statusCode ?? null);
    return;
  }
  await relayFrames(exchange, opening, { ...answer, socket: answer.socket });
}

/** Frames are read and written here, so nobody may compress them. */
function withoutCompression(fields: string[]): string[] {
  const kept: string[] = [];
  for (let index = 0; index < fields.length; index += 2) {
    const name = fields[index] ?? '';
    const value = fields[index + 1] ?? '';
    if (name.toLowerCase() !== 'sec-websocket-extensions') {
      kept.push(name, value);
      continue;
    }
    const offers = stripExtensions(value);
    if (offers !== undefined) kept.push(name, offers);
  }
  return kept;
}

interface Answer {
  readonly incoming: IncomingMessage;
  /** Undefined when the upstream did not switch protocols. */
  readonly socket: Duplex | undefined;
  readonly head: Buffer;
}

function answerOf(upstream: ClientRequest): Promise<Answer> {
  return new Promise((resolve, reject) => {
    upstream.once('upgrade', (incoming, socket, head) => {
      resolve({ incoming, socket, head });
    });
    upstream.once('response', (incoming) => {
      resolve({ incoming, socket: undefined, head: Buffer.alloc(0) });
    });
    upstream.on('error', reject);
    upstream.end();
  });
}

async function relayFrames(exchange: Exchange, { socket, head }: Opening, answer: Answer & { readonly socket: Duplex }): Promise<void> {
  const { remasker } = exchange.session;
  const upstream = answer.socket;
  upstream.on('error', () => undefined);
  const { fields } = responseHead(answer.incoming.rawHeaders);
  remaskFields(fields, remasker, exchange.remasked);
  socket.write(switching(fields), 'latin1');
  if (head.length > 0) socket.unshift(head);
  if (answer.head.length > 0) upstream.unshift(answer.head);
  const up = new FrameRelay({ to: 'server', transform: () => exchange.swap.frame(exchange.notes) });
  const down = new FrameRelay({
    to: 'client',
    binary: true,
    transform: (kind) => {
      if (remasker.isEmpty) return undefined;
      // Binary messages often say lengths of their own.
      const message = remasker.stream({ sameLength: kind === 'binary' });
      return {
        push: (chunk) => message.push(chunk),
        end: () => {
          const rest = message.end();
          for (const name of message.found) exchange.remasked.add(name);
          return rest;
        },
      };
    },
  });
  try {
    await Promise.all([
      pump(socket, upstream, { rewriter: relaying(up), count: (bytes) => (exchange.bytesUp += bytes) }),
      pump(upstream, socket, { rewriter: relaying(down), count: (bytes) => (exchange.bytesDown += bytes) }),
    ]);
    exchange.finish(101);
  } catch {
    // Either side hung up without a closing handshake, which is how most WebSockets end.
    socket.destroy();
    upstream.destroy();
    exchange.finish(101);
  }
}

function switching(fields: readonly string[]): string {
  const lines = ['HTTP/1.1 101 Switching Protocols', 'Upgrade: websocket', 'Connection: Upgrade'];
  for (let index = 0; index < fields.length; index += 2) lines.push(`${fields[index] ?? ''}: ${fields[index + 1] ?? ''}`);
  return `${lines.join('\r\n')}\r\n\r\n`;
}

function relaying(relay: FrameRelay): Rewriter {
  return { push: (chunk) => Buffer.concat(relay.push(chunk)), end: () => Buffer.alloc(0) };
}

function answerOn({ socket }: IncomingMessage, response: ServerResponse): void {
  if (response.socket !== null) return;
  response.once('finish', () => {
    socket.end();
  });
  response.assignSocket(socket);
}
