// MCP over this process's own pipes. Nothing but the protocol goes to standard output. It is over when the client is gone, by whichever sign
// that shows first: a server that outlives its client is an orphan that nobody finds.
import type { Readable, Writable } from 'node:stream';
import { endOfAll } from '../../core/abort.ts';
import { GRACE_MS } from '../grace.ts';
import { makeMcpServer, withRememberedHealth, type McpOptions } from './mcp.ts';
import { LineTransport, type McpStreams } from './mcp-lines.ts';

/** Serves until the client closes its side, its messages cannot be read or written, or `signal` is aborted. Calls that run then are aborted. */
export async function serveMcpStdio(options: McpOptions, { stdin, stdout }: McpStreams, signal: AbortSignal): Promise<'closed'> {
  const sdk = await import('./mcp-sdk.ts');
  const shared = withRememberedHealth(options);
  const running = new Set<Promise<unknown>>();
  const transport = new LineTransport({ stdin, stdout }, sdk.parseJSONRPCMessage);
  const gone = Promise.race([endOf(stdin), endOf(stdout), aborted(signal)]);
  const server = sdk.serveStdio(() => makeMcpServer(sdk, shared, { running }), { transport });
  // The transport closes by itself when a message is too long.
  await Promise.race([gone, transport.closed]);
  await server.close();
  await endOfAll(running, GRACE_MS);
  return 'closed';
}

/** Also keeps an error of the stream from ending the process. */
function endOf(stream: Readable | Writable): Promise<void> {
  return new Promise((resolve) => {
    // What came in together with the end is answered first, as far as that takes no time.
    const onEnd = (): void => {
      setImmediate(resolve);
    };
    for (const event of ['end', 'close', 'error']) stream.on(event, onEnd);
    if (stream.destroyed) onEnd();
  });
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    signal.addEventListener(
      'abort',
      () => {
        resolve();
      },
      { once: true },
    );
  });
}
