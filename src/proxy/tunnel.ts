// What is inside a CONNECT tunnel, or a connection that a door of the sandbox took: TLS, HTTP in the clear, or something else, told by its first bytes.
import { TLSSocket } from 'node:tls';
import type { Socket } from 'node:net';
import { canonicalHost, type HostPort } from '../core/host-name.ts';
import { decide, decideConnection } from '../policy/decide.ts';
import { parseClientHello } from '../wire/client-hello.ts';
import { peek } from '../wire/peek.ts';
import type { Session, Target } from './exchange.ts';
import type { HttpServers } from './http-servers.ts';
import { relay } from './relay.ts';

export interface Tunnel {
  readonly socket: Socket;
  /** What came behind the CONNECT request, and was read with it. */
  readonly head: Buffer;
  /** What CONNECT named, or the name that the dialled address stands for. TLS and every request must agree with it. */
  readonly authority: HostPort;
}

type Opening =
  | { readonly kind: 'tls'; readonly serverName: string | undefined; readonly protocols: readonly string[] }
  | { readonly kind: 'http' | 'http2' | 'other' | 'silent' | 'closed' };

/** A client that waits for the server to speak first (MySQL, SMTP) sends nothing; one that speaks TLS or HTTP does so at once. */
const SILENCE_MS = 400;

/** A client has this long to send a whole ClientHello. */
const HELLO_MS = 30_000;

export async function openTunnel(session: Session, servers: HttpServers, { socket, head, authority }: Tunnel): Promise<void> {
  const mayRelay = relays(session, authority);
  const { opening, bytes } = await readOpening(socket, head, mayRelay && mayBeSilent(authority) ? SILENCE_MS : HELLO_MS);
  if (socket.destroyed) return;
  if (bytes.length > 0) socket.unshift(bytes);
  const clear = { ...authority, tls: false };
  switch (opening.kind) {
    case 'tls':
      await openTls(session, servers, { socket, target: { ...authority, tls: true }, hello: opening });
      return;
    case 'http':
      servers.accept('http/1.1', socket, { target: clear, mismatch: undefined });
      // Paused since its first bytes were read, and a server does not start what somebody stopped.
      socket.resume();
      return;
    case 'http2':
      servers.accept('h2', socket, { target: clear, mismatch: undefined });
      return;
    case 'other':
    case 'silent':
      if (mayRelay) await relay(session, socket, clear);
      else refused(session, socket, { authority, why: 'not-http' });
      return;
    case 'closed':
      socket.destroy();
  }
}

/** On the usual ports the client speaks first, however long it takes. */
function mayBeSilent({ port }: HostPort): boolean {
  return port !== 443 && port !== 80;
}

interface TlsTunnel {
  readonly socket: Socket;
  readonly target: Target;
  readonly hello: Extract<Opening, { kind: 'tls' }>;
}

async function openTls(session: Session, servers: HttpServers, { socket, target, hello }: TlsTunnel): Promise<void> {
  const named = hello.serverName === undefined ? target.host : (canonicalHost(hello.serverName) ?? '');
  const mismatch = named === target.host ? undefined : named;
  const protocol = await chooseProtocol(session, target, mismatch === undefined ? hello.protocols : []);
  if (socket.destroyed) return;
  // Inherited by the TLS socket. Half-open is for bytes that are relayed; HTTP/2 would not notice that the child is gone.
  socket.allowHalfOpen = false;
  const tls = new TLSSocket(socket, {
    isServer: true,
    // For a name that differs: what the client verifies is the name that it asked for, and it is told of the difference in HTTP.
    secureContext: session.authority.contextFor(mismatch === undefined || mismatch === '' ? target.host : mismatch),
    ...(protocol === undefined ? {} : { ALPNProtocols: [protocol] }),
  });
  tls.on('error', () => {
    refused(session, tls, { authority: target, why: 'bad-tls' });
  });
  tls.once('secure', () => {
    // What tls.Server does. HTTP/2 would wait for the end of the handshake by an event that only clients emit.
    Reflect.set(tls, 'secureConnecting', false);
    servers.accept(protocol ?? 'http/1.1', tls, { target, mismatch });
  });
}

/** What the upstream speaks, of what the client offers: both sides speak the same, so nothing is translated. */
async function chooseProtocol(session: Session, target: Target, offered: readonly string[]): Promise<'h2' | 'http/1.1' | undefined> {
  if (!offered.includes('h2')) return offered.includes('http/1.1') ? 'http/1.1' : undefined;
  const fallback = offered.includes('http/1.1') ? 'http/1.1' : 'h2';
  const { rule, allow } = decideConnection(target, session.rules);
  // Nothing is dialled for a host that no rule allows.
  if (!allow) return fallback;
  try {
    return await session.upstream.protocolOf({ ...target, namedByRule: rule?.namesHost === true, owner: session.owner });
  } catch {
    // The request will say why.
    return fallback;
  }
}

/** Bytes that are not HTTP are carried only where a rule says so: host and port by name. */
function relays(session: Session, authority: HostPort): boolean {
  const { allow, rule } = decide(authority, session.rules);
  return allow && rule?.namesHost === true && rule.port !== undefined;
}

function refused(session: Session, socket: Socket, { authority, why }: { authority: HostPort; why: 'not-http' | 'bad-tls' }): void {
  session.audit({ type: 'refused', time: new Date().toISOString(), why, host: authority.host, port: authority.port });
  socket.destroy();
}

/** Reads until it is clear what this is. What was read comes back in `bytes`. */
function readOpening(socket: Socket, head: Buffer, patienceMs: number): Promise<{ opening: Opening; bytes: Buffer }> {
  return new Promise((resolve) => {
    let bytes = head;
    const timer = setTimeout(() => {
      finish({ kind: bytes.length === 0 ? 'silent' : 'other' });
    }, patienceMs);
    const finish = (opening: Opening): void => {
      clearTimeout(timer);
      socket.pause();
      socket.off('data', onData).off('end', onEnd).off('close', onEnd);
      resolve({ opening, bytes });
    };
    const look = (): boolean => {
      const opening = openingOf(bytes);
      if (opening !== undefined) finish(opening);
      return opening !== undefined;
    };
    const onData = (chunk: Buffer): void => {
      bytes = bytes.length === 0 ? chunk : Buffer.concat([bytes, chunk]);
      look();
    };
    const onEnd = (): void => {
      finish({ kind: 'closed' });
    };
    if (bytes.length > 0 && look()) return;
    socket.on('data', onData).on('end', onEnd).on('close', onEnd);
    socket.resume();
  });
}

function openingOf(bytes: Buffer): Opening | undefined {
  const first = bytes.length === 0 ? 'incomplete' : peek(bytes);
  if (first === 'incomplete') return undefined;
  if (first !== 'tls') return { kind: first };
  const hello = parseClientHello(bytes);
  if (hello.state === 'incomplete') return undefined;
  return hello.state === 'ok' ? { kind: 'tls', serverName: hello.serverName, protocols: hello.protocols } : { kind: 'other' };
}
