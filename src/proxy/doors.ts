// The doors of a sandbox: sockets that listen in the program's network namespace, where every address leads to them, and that are kz's to accept
// from. A connection is told by the address that the program dialled: a name that it looked up here, an address as such, or a port of this
// machine. Nothing is decided here about names and addresses: that is tunnel.ts, as for CONNECT. What means nothing is refused.
import type { Socket as Datagrams } from 'node:dgram';
import { isIPv6, type Server, type Socket } from 'node:net';
import type { RefusedWhy } from '../audit/event.ts';
import { addressKind } from '../core/address.ts';
import { canonicalHost, type HostPort } from '../core/host-name.ts';
import { replyTo } from '../wire/dns.ts';
import type { Session } from './exchange.ts';
import { dialLoopback } from './loopback.ts';
import { Names, type Reach } from './names.ts';
import { relay } from './relay.ts';
import type { ProxyServer } from './server.ts';

/** They listen already. Nobody may connect before `openDoors` was called: such a connection is never answered. */
export interface Received {
  /** For clients that know of the proxy. */
  readonly proxy: Server;
  /** On the ports that rules and schemes name, at every address. */
  readonly direct: readonly Server[];
  /** The name server. */
  readonly dns?: Datagrams | undefined;
  /** Each leads to the same port of the host's loopback. */
  readonly loopback: readonly Server[];
}

export interface DoorOptions {
  readonly reach: Reach;
  /** Ports of the host's loopback that a direct door serves too: two doors cannot have one port. */
  readonly loopbackPorts?: readonly number[];
  /** Default: 127.0.0.1, then ::1. Throws a DialError. */
  readonly dialLoopback?: (port: number) => Promise<Socket>;
}

export interface Doors {
  readonly proxyPort: number;
  /** Ends every connection that came in by a door, and closes the doors. The proxy stays its caller's. */
  close(): void;
}

/** `proxy` may be one that listens elsewhere, or `ProxyServer.behind`. */
export function openDoors(session: Session, proxy: ProxyServer, received: Received, options: DoorOptions): Doors {
  const { direct, loopback, dns } = received;
  const names = new Names({
    rules: session.rules,
    ports: direct.map(portOf),
    reach: options.reach,
    onDenied: (host) => {
      refused(session, 'denied-name', { host, port: null });
    },
  });
  const loopbackPorts = new Set([...loopback.map(portOf), ...(options.loopbackPorts ?? [])]);
  const inside = { session, proxy, names, loopbackPorts, options, turnAway: turningAway(session) };
  const sockets = new Set<Socket>();
  open(received.proxy, sockets, (socket) => {
    proxy.accept(socket);
  });
  for (const server of [...direct, ...loopback]) {
    open(server, sockets, (socket) => {
      enter(inside, socket);
    });
  }
  if (dns !== undefined) serveNames(dns, names);
  return {
    proxyPort: portOf(received.proxy),
    close: () => {
      for (const server of [received.proxy, ...direct, ...loopback]) server.close();
      if (dns !== undefined) closeQuietly(dns);
      for (const socket of sockets) socket.destroy();
    },
  };
}

function portOf(server: Server): number {
  const address = server.address();
  return typeof address === 'object' && address !== null ? address.port : 0;
}

function open(server: Server, sockets: Set<Socket>, onConnection: (socket: Socket) => void): void {
  // A connection that could not be accepted, for want of descriptors: the next one may be.
  server.on('error', () => undefined);
  server.on('connection', (socket: Socket) => {
    sockets.add(socket);
    socket.once('close', () => sockets.delete(socket));
    socket.on('error', () => undefined);
    // As Node's HTTP server has its own connections; a passed server knows no options.
    socket.allowHalfOpen = true;
    socket.setNoDelay(true);
    onConnection(socket);
  });
}

interface Inside {
  readonly session: Session;
  readonly proxy: ProxyServer;
  readonly names: Names;
  readonly loopbackPorts: ReadonlySet<number>;
  readonly options: DoorOptions;
  readonly turnAway: (socket: Socket, why: RefusedWhy, dialled: HostPort) => void;
}

function enter(inside: Inside, socket: Socket): void {
  const dialled = dialledBy(socket);
  if (dialled === undefined) {
    socket.destroy();
    return;
  }
  const { host, port } = dialled;
  const { proxy, names, loopbackPorts, turnAway } = inside;
  const name = names.at(host);
  if (name !== undefined) proxy.tunnel(socket, { host: name, port });
  else if (names.isStandIn(host)) turnAway(socket, 'unknown-address', dialled);
  else if (!isLoopback(host)) proxy.tunnel(socket, dialled);
  else if (loopbackPorts.has(port)) carry(inside, socket, port);
  else turnAway(socket, 'closed-loopback', dialled);
}

/** Canonical. Undefined for a connection that is over already. */
function dialledBy({ localAddress = '', localPort }: Socket): HostPort | undefined {
  const host = canonicalHost(isIPv6(localAddress) ? `[${localAddress}]` : localAddress);
  return host === undefined || localPort === undefined ? undefined : { host, port: localPort };
}

function isLoopback(host: string): boolean {
  return addressKind(host.replace(/^\[|\]$/g, '')) === 'loopback';
}

function carry({ session, options }: Inside, socket: Socket, port: number): void {
  const open = options.dialLoopback ?? dialLoopback;
  const target = { host: '127.0.0.1', port, tls: false };
  relay(session, socket, target, { grant: 'allow-loopback', open: () => open(port) }).catch(() => socket.destroy());
}

/** In the log of a run. A program that tries again at once makes hundreds a second. */
const MOST_REFUSED = 1000;

/** Like a port where nobody listens, as far as that goes once a connection is there. */
function turningAway(session: Session): Inside['turnAway'] {
  let count = 0;
  return (socket, why, dialled) => {
    count += 1;
    if (count <= MOST_REFUSED) refused(session, why, dialled);
    else if (count === MOST_REFUSED + 1) refused(session, why, { host: null, port: null });
    socket.resetAndDestroy();
  };
}

function refused(session: Session, why: RefusedWhy, { host, port }: { readonly host: string | null; readonly port: number | null }): void {
  session.audit({ type: 'refused', time: new Date().toISOString(), why, host, port });
}

/** In bytes. Who asks faster than it reads asks again. */
const MOST_UNSENT = 262_144;

/** In bytes; the system may give less. A query for which there is no room is lost, and a resolver waits for five seconds. */
const ROOM_FOR_QUERIES = 1_048_576;

function serveNames(dns: Datagrams, names: Names): void {
  dns.on('error', () => undefined);
  dns.setRecvBufferSize(ROOM_FOR_QUERIES);
  dns.on('message', (datagram, { address, port }) => {
    // Nobody can be answered at port 0; Node would throw.
    if (port === 0 || dns.getSendQueueSize() > MOST_UNSENT) return;
    const reply = replyTo(datagram, (question) => names.answer(question));
    if (reply !== undefined) dns.send(reply, port, address, () => undefined);
  });
}

function closeQuietly(dns: Datagrams): void {
  try {
    dns.close();
  } catch {
    // It is closed already.
  }
}
