// MCP over HTTP, both eras, without sessions: each request gets a server of its own. Whoever mounts this has checked Host and Origin before.
// The server's own token is not for callers from here: anything that can open a port of this machine would be it.
import { isUtf8 } from 'node:buffer';
import { once } from 'node:events';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { ReadableStream } from 'node:stream/web';
import { endOfAll } from '../../core/abort.ts';
import { GRACE_MS } from '../grace.ts';
import { makeMcpServer, withRememberedHealth, type McpOptions } from './mcp.ts';
import type { McpHttpHandler } from './mcp-sdk.ts';

export type McpHttpOptions = Omit<McpOptions, 'ownJwt'>;

export interface McpHttp {
  /** Answers the request, whatever it is; never rejects. */
  handle(request: IncomingMessage, response: ServerResponse): Promise<void>;
  /** Ends the streams of events, as the protocol has it: nobody would wait for their end. Calls go on. */
  drain(): Promise<void>;
  /** Aborts the calls that run, and lets them come to their end. */
  close(): Promise<void>;
}

/** The body of a `fetch` call at its longest, and what is around it. */
const MAX_BODY_BYTES = 1_114_112;

/** Nothing of ours ever changes while it is served, so nobody needs many of these. */
const MAX_SUBSCRIPTIONS = 16;

export async function openMcpHttp(options: McpHttpOptions): Promise<McpHttp> {
  const sdk = await import('./mcp-sdk.ts');
  const { version, useCases, onInternal } = withRememberedHealth(options);
  const running = new Set<Promise<unknown>>();
  const open = (): McpHttpHandler =>
    sdk.createMcpHandler(
      ({ requestInfo }) => {
        const jwt = bearerOf(requestInfo?.headers.get('authorization'));
        return makeMcpServer(sdk, { version, useCases, onInternal }, { isOpen: true, jwt, running });
      },
      { maxSubscriptions: MAX_SUBSCRIPTIONS },
    );
  const handlers: Handlers = { calls: open(), streams: open(), over: new Set(), clients: new Set() };
  return {
    handle: async (request, response) => {
      try {
        await handle(handlers, request, response);
      } catch (error) {
        onInternal?.(error);
        await send(refusal(500, -32603, 'the server could not do this'), response).catch(() => undefined);
      }
    },
    drain: () => end(handlers, 'streams'),
    close: async () => {
      await end(handlers, 'streams');
      await end(handlers, 'calls');
      // The SDK does not know of the calls of former versions of the protocol.
      for (const client of handlers.clients) client.abort();
      await endOfAll(running, GRACE_MS);
    },
  };
}

interface Handlers {
  readonly calls: McpHttpHandler;
  readonly streams: McpHttpHandler;
  /** Which of the two take nothing any more. */
  readonly over: Set<'calls' | 'streams'>;
  /** Who waits for an answer. */
  readonly clients: Set<AbortController>;
}

async function end(handlers: Handlers, which: 'calls' | 'streams'): Promise<void> {
  handlers.over.add(which);
  await handlers[which].close();
}

async function handle(handlers: Handlers, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const gone = new AbortController();
  handlers.clients.add(gone);
  response.once('close', () => {
    handlers.clients.delete(gone);
    gone.abort();
  });
  try {
    await send(await answerTo(handlers, request, gone.signal), response);
  } catch (error) {
    if (!response.headersSent && !gone.signal.aborted) throw error;
    // The client is gone, or the answer broke off: there is nobody to tell, or no way to.
    response.destroy();
  }
}

async function answerTo(handlers: Handlers, request: IncomingMessage, signal: AbortSignal): Promise<Response> {
  const body = await readBody(request);
  if (body === undefined) return refusal(413, -32600, 'the message is too long');
  // Decoding would put other characters where the wrong bytes are, and those would be sent on.
  if (!isUtf8(body)) return refusal(400, -32700, 'the message is not in UTF-8');
  const message = parse(body);
  // One message of a batch would count for all of them where requests are counted, and no version of the protocol needs them any more.
  if (Array.isArray(message)) return refusal(400, -32600, 'batches are not served');
  const which = message !== undefined && isStream(message) ? 'streams' : 'calls';
  // A message may take longer to come than the server to end.
  if (handlers.over.has(which)) return refusal(503, -32603, 'this server is shutting down');
  const method = request.method ?? 'GET';
  const init = { method, headers: headersOf(request), signal };
  // The address is not the one that the client wrote: nothing here depends on it.
  const address = 'http://localhost/mcp';
  if (message !== undefined) return handlers[which].fetch(new Request(address, init), { parsedBody: message });
  return handlers.calls.fetch(new Request(address, method === 'POST' ? { ...init, body: body.toString('utf8') } : init));
}

function isStream(message: unknown): boolean {
  return typeof message === 'object' && message !== null && 'method' in message && message.method === 'subscriptions/listen';
}

/** Undefined when there is too much of it. */
async function readBody(request: IncomingMessage): Promise<Buffer | undefined> {
  if (Number(request.headers['content-length'] ?? 0) > MAX_BODY_BYTES) return undefined;
  const chunks: Buffer[] = [];
  let length = 0;
  // Ending the request's stream would end the connection before the answer.
  for await (const chunk of request.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
    length += chunk.length;
    if (length > MAX_BODY_BYTES) return undefined;
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

/** Undefined for what is no JSON, or not there: the SDK has the words for it. */
function parse(body: Buffer): unknown {
  try {
    return JSON.parse(body.toString('utf8'));
  } catch {
    return undefined;
  }
}

function headersOf(request: IncomingMessage): Headers {
  const headers = new Headers();
  for (const [name, value] of Object.entries(request.headers)) {
    for (const each of [value ?? []].flat()) headers.append(name, each);
  }
  return headers;
}

function bearerOf(authorization: string | null | undefined): string | undefined {
  return /^Bearer +(\S+) *$/i.exec(authorization ?? '')?.[1];
}

function refusal(status: number, code: number, message: string): Response {
  // Of a message that is too long, the rest is not read.
  const headers = status === 413 ? { connection: 'close' } : undefined;
  return Response.json({ jsonrpc: '2.0', id: null, error: { code, message } }, { status, ...(headers === undefined ? {} : { headers }) });
}

async function send(answer: Response, response: ServerResponse): Promise<void> {
  const headers: Record<string, string> = Object.fromEntries(answer.headers);
  // Without sessions, messages are all that there is.
  if (answer.status === 405) headers.allow = 'POST';
  response.writeHead(answer.status, headers);
  if (answer.body === null) {
    response.end();
    return;
  }
  // Of a Response, whose type in Node says nothing of its chunks.
  await writeAll(answer.body as ReadableStream<Uint8Array>, response);
}

/** Not `pipeline`, which adds so many listeners to the response that Node warns of a leak. */
async function writeAll(body: ReadableStream<Uint8Array>, response: ServerResponse): Promise<void> {
  const reader = body.getReader();
  const gone = new AbortController();
  response.once('close', () => {
    gone.abort();
    // Also ends a read that waits for an event that nobody will see.
    reader.cancel().catch(() => undefined);
  });
  for (let next = await reader.read(); !next.done; next = await reader.read()) {
    if (!response.write(next.value)) await once(response, 'drain', { signal: gone.signal });
  }
  response.end();
}
