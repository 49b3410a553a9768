// All that the preload uses of Node's private parts, so that a reader, or a new Node, finds it in one place. A socket that waits for the
// proxy gets the handle of the connection that was made there, through the same door by which Node gives it the next handle when the first
// address of a host did not answer ("happy eyeballs"). From then on the socket is Node's own again: no stream in between, nothing patched.
import { Socket } from 'node:net';

interface Handle {
  reading: boolean;
  readStop(): number;
}

interface TlsHandle extends Handle {
  /** Takes bytes of the other side. */
  receive(bytes: Buffer): void;
  enableSessionCallbacks(): void;
  enableKeylogCallback(): void;
}

/** There since Node 18.20 and 20.0, and the same up to Node 26. */
interface PrivateParts {
  connecting: boolean;
  /** Of a TLS socket only: its handle again. */
  ssl?: TlsHandle | null;
  _handle: TlsHandle | null;
  /** Set: this is TLS on top of a socket that somebody else connects. */
  readonly _parent: unknown;
  /** The name a certificate is checked against if TLS starts on this socket later. */
  _host: string | null;
  _peername: { address?: string; family?: string; port: number } | null;
  _undestroy(): void;
  _unrefTimer(): void;
}

const ADOPT = Object.getOwnPropertySymbols(Socket.prototype).find(({ description }) => /^k?reinitializeHandle$/i.test(description ?? ''));

export function privateParts(socket: Socket): PrivateParts {
  return socket as unknown as PrivateParts;
}

/** Whether this Node has all of it. */
export function canAdopt(): boolean {
  return [ADOPT, '_undestroy', '_unrefTimer'].every(
    (name) => name !== undefined && typeof Reflect.get(Socket.prototype, name) === 'function',
  );
}

/** Moves the open connection of `giver`, which is of no use afterwards, into `taker`. Call it when `giver` has nothing left to write. */
export function adoptConnection(taker: Socket, giver: Socket): void {
  const from = privateParts(giver);
  const to = privateParts(taker);
  const handle = from._handle;
  const adopt: unknown = ADOPT && Reflect.get(taker, ADOPT);
  if (handle === null || typeof adopt !== 'function') throw new Error('the connection to the proxy is gone');
  handle.readStop();
  handle.reading = false;
  from._handle = null;
  giver.destroy();
  // Adopting also resets the streams, which would forget an end() that was called while the socket was connecting.
  to._undestroy = () => undefined;
  Reflect.apply(adopt, taker, [handle]);
  Reflect.deleteProperty(taker, '_undestroy');
  if ('ssl' in to && to._handle) restoreTls(taker, to._handle);
}

/** What adopting a handle loses of a TLS socket: Node keeps it with the handle before. */
function restoreTls(socket: Socket, handle: TlsHandle): void {
  privateParts(socket).ssl = handle;
  if (socket.listenerCount('session') > 0) handle.enableSessionCallbacks();
  if (socket.listenerCount('keylog') > 0) handle.enableKeylogCallback();
}
