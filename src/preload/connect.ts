// `socket.connect`, patched: the one place that every TCP client of Node passes (net, tls, http, https, http2, fetch, WebSocket, and all
// libraries on top of them). A socket for a remote target stays "connecting" until the proxy has answered, then it is the connection.
// The name of the target goes to the proxy as it is: `lookup`, `family` and `localAddress` have no meaning on this side of it.
import { isIP, Socket } from 'node:net';
import { deliver } from './deliver.ts';
import { adoptConnection, privateParts } from './private-parts.ts';
import type { Proxy } from './proxy-url.ts';
import { readCall, targetOf } from './target.ts';
import type { Call, Target } from './target.ts';
import { openTunnel } from './tunnel.ts';
import type { Outcome } from './tunnel.ts';

export function routeSockets(proxy: Proxy): void {
  // eslint-disable-next-line @typescript-eslint/unbound-method -- it is called with a socket each time
  const direct = Socket.prototype.connect;
  const open: Open = (target, done) => openTunnel(direct, proxy, target, done);
  function connect(this: Socket, ...args: unknown[]): unknown {
    const call = readCall(args);
    // With a parent this is TLS on top of a socket that has been connected already.
    const target = privateParts(this)._parent ? undefined : targetOf(call.options);
    if (target === undefined || (target.host === proxy.host && target.port === proxy.port)) return Reflect.apply(direct, this, args);
    connectThrough(this, call, target, open);
    return this;
  }
  Object.assign(Socket.prototype, { connect });
}

type Open = (target: Target, done: (outcome: Outcome) => void) => Socket;

/** Gives up the tunnel that a socket waits for. */
const abandonOf = new WeakMap<Socket, () => void>();

function connectThrough(socket: Socket, call: Call, target: Target, open: Open): void {
  // Closed and connected again before the proxy answered the first time.
  abandonOf.get(socket)?.();
  if (call.onConnect !== undefined) socket.once('connect', call.onConnect);
  beginConnecting(socket, target);
  const tunnel = open(target, (outcome) => {
    stopWaiting();
    if (!outcome.ok) return void socket.destroy(outcome.error);
    if (socket.destroyed) return void tunnel.destroy();
    completeConnecting(socket, tunnel, target, () => {
      deliver(socket, call.options.onread, outcome.rest);
    });
  });
  const stopWaiting = waitFor(tunnel, socket);
}

/** What Node's own connect does before it has an address. */
function beginConnecting(socket: Socket, { host }: Target): void {
  const parts = privateParts(socket);
  if (socket.destroyed) parts._handle = null;
  // A socket may be connected again after it was closed.
  if (parts._handle === null) parts._undestroy();
  parts._peername = null;
  if (!isIP(host)) parts._host = host;
  parts._unrefTimer();
  parts.connecting = true;
}

/** What the program does to the socket meanwhile concerns the tunnel: one that ignored unref() would keep a program from ending. */
function waitFor(tunnel: Socket, socket: Socket): () => void {
  const stopWaiting = () => {
    socket.off('close', onClose);
    abandonOf.delete(socket);
    Reflect.deleteProperty(socket, 'ref');
    Reflect.deleteProperty(socket, 'unref');
  };
  const abandon = () => {
    stopWaiting();
    tunnel.destroy();
  };
  const onClose = () => {
    if (socket.destroyed) abandon();
  };
  abandonOf.set(socket, abandon);
  socket.on('close', onClose);
  socket.ref = () => (tunnel.ref(), socket);
  socket.unref = () => (tunnel.unref(), socket);
  return stopWaiting;
}

/** What Node's own connect does when the other side has accepted. */
function completeConnecting(socket: Socket, tunnel: Socket, { host, port }: Target, deliverRest: () => void): void {
  const parts = privateParts(socket);
  try {
    adoptConnection(socket, tunnel);
  } catch (error) {
    tunnel.destroy();
    return void socket.destroy(error instanceof Error ? error : undefined);
  }
  parts.connecting = false;
  // The address of the proxy would be a lie, and that of a name is known to the proxy only.
  parts._peername = isIP(host) ? { address: host, family: `IPv${String(isIP(host))}`, port } : { port };
  parts._unrefTimer();
  socket.emit('connect');
  socket.emit('ready');
  deliverRest();
  if (!socket.destroyed && !socket.isPaused()) socket.read(0);
}
