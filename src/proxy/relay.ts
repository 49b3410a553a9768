// Bytes that are not HTTP, for a host and port that a rule names: carried as they are. No token is swapped in them, and a value that comes back
// is overwritten at its own length, since nothing is known of their framing; one that comes in two chunks is not found.
import type { Duplex } from 'node:stream';
import { Swap } from '../mask/swap.ts';
import { note, pump, rewritten } from './body.ts';
import { DialError } from './dial.ts';
import { Exchange, type Session, type Target } from './exchange.ts';
import { refusalOf } from './failure.ts';

export async function relay(session: Session, socket: Duplex, target: Target): Promise<void> {
  const swap = new Swap(session.table, target.host, target.port, false);
  const exchange = new Exchange(session, { protocol: 'raw', target, method: '', path: '' }, swap);
  try {
    const upstream = await session.upstream.connect(exchange.target);
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
    socket.destroy();
    const { end } = refusalOf(error, exchange);
    exchange.finish(null, error instanceof DialError ? end : { error: 'reset' });
  }
}
