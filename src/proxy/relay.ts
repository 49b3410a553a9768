// Bytes that kz does not read, for a host and port that a rule names, or a port of this machine: carried as they are. No token is swapped in them, and a value that comes back
// is overwritten at its own length, since nothing is known of their framing; one that comes in two chunks is not found.
import type { Socket } from 'node:net';
import { Swap } from '../mask/swap.ts';
import { note, pump, rewritten } from './body.ts';
import { DialError } from './dial.ts';
import { Exchange, type Session, type Target } from './exchange.ts';
import { refusalOf } from './failure.ts';

/** For what `allow_loopback` allows, where no rule is asked. */
export interface Granted {
  readonly grant: 'allow-loopback';
  readonly open: () => Promise<Socket>;
}

export async function relay(session: Session, socket: Socket, target: Target, granted?: Granted): Promise<void> {
  const swap = new Swap(session.table, target.host, target.port, false);
  const request = { protocol: 'raw', target, method: '', path: '', ...(granted === undefined ? {} : { grant: granted.grant }) } as const;
  const exchange = new Exchange(session, request, swap);
  try {
    const upstream = await (granted === undefined ? session.upstream.connect(exchange.target) : granted.open());
    const { remasker } = session;
    const found = new Set<string>();
    const remask = {
      // Chunk by chunk: bytes held back until more come would stall whoever waits for the end of a message.
      push: (chunk: Buffer) => {
        const search = remasker.stream({ sameLength: true });
        const bytes = rewritten(search, chunk);
        for (const name of search.found) found.add(name);
        return bytes;
      },
      end: () => Buffer.alloc(0),
      found,
    };
    const carried = Promise.all([
      pump(socket, upstream, { count: (bytes) => (exchange.bytesUp += bytes) }),
      pump(upstream, socket, { rewriter: remasker.isEmpty ? undefined : remask, count: (bytes) => (exchange.bytesDown += bytes) }),
    ]);
    // Stopped since its first bytes were looked at.
    socket.resume();
    await carried;
    note(exchange, remask);
    exchange.finish(null);
  } catch (error) {
    // Not an end in order, which would be an answer of no bytes.
    if (!socket.destroyed) socket.resetAndDestroy();
    const { end } = refusalOf(error, exchange);
    exchange.finish(null, error instanceof DialError ? end : { error: 'reset' });
  }
}
