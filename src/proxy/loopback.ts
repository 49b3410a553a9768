// The host's own loopback, for the ports of it that the config gives to a sandbox with `allow_loopback`. Dials nothing else.
import net from 'node:net';
import { systemCode } from '../core/errors.ts';
import { DialError } from './dial.ts';

const TIMEOUT_MS = 10_000;

/** Many servers listen on one of the two only. Throws a DialError. What comes back has a listener for 'error'. */
export async function dialLoopback(port: number): Promise<net.Socket> {
  try {
    return await dial('127.0.0.1', port);
  } catch (error) {
    return dial('::1', port).catch(() => {
      throw error;
    });
  }
}

function dial(host: string, port: number): Promise<net.Socket> {
  return new Promise((resolve, reject) => {
    // Half-open: the end of a request is not the end of its answer.
    const socket = net.connect({ host, port, noDelay: true, allowHalfOpen: true });
    const place = `${host}:${String(port)}`;
    const timer = setTimeout(() => {
      socket.destroy();
      reject(new DialError('timeout', `${place} did not answer`));
    }, TIMEOUT_MS);
    socket.once('connect', () => {
      clearTimeout(timer);
      resolve(socket);
    });
    socket.on('error', (cause) => {
      clearTimeout(timer);
      const code = systemCode(cause) ?? 'unknown reason';
      reject(new DialError(code === 'ECONNREFUSED' ? 'refused' : 'unreachable', `connecting to ${place} failed (${code})`, { cause }));
    });
  });
}
