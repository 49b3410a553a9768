// A connection to kz's proxy with the CONNECT handshake done on it.
import { isIPv6, Socket } from 'node:net';
import { isSuccess, readAnswer } from './answer.ts';
import type { Proxy } from './proxy-url.ts';
import type { Target } from './target.ts';

export type Outcome = { readonly ok: true; readonly rest: Buffer } | { readonly ok: false; readonly error: Error };

/** What a plain socket does on `connect`, untouched by the preload. */
export type Connect = (this: Socket, options: { host: string; port: number }) => unknown;

/** Calls `done` once: with the socket ready for the target's bytes, or with an error to show and the socket closed. */
export function openTunnel(connect: Connect, proxy: Proxy, target: Target, done: (outcome: Outcome) => void): Socket {
  const tunnel = new Socket();
  let bytes = Buffer.alloc(0);
  const finish = (outcome: Outcome) => {
    tunnel.removeAllListeners();
    // The connection may still break while it changes hands.
    tunnel.on('error', () => undefined);
    if (!outcome.ok) tunnel.destroy();
    done(outcome);
  };
  const read = (ended: boolean) => {
    const answer = readAnswer(bytes, ended);
    if (answer === undefined) return;
    if (isSuccess(answer.status)) finish({ ok: true, rest: answer.rest });
    else finish({ ok: false, error: refused(target, answer.status, answer.reason) });
  };
  tunnel.on('data', (chunk: Buffer) => {
    bytes = Buffer.concat([bytes, chunk]);
    read(false);
  });
  tunnel.on('end', () => {
    read(true);
  });
  tunnel.on('error', (error: NodeJS.ErrnoException) => {
    finish({ ok: false, error: unreachable(target, proxy, error) });
  });
  Reflect.apply(connect, tunnel, [{ host: proxy.host, port: proxy.port }]);
  // The other side of loopback is a proxy that waits for small records: Nagle's algorithm could only add delay.
  tunnel.setNoDelay(true);
  tunnel.write(request(target, proxy));
  return tunnel;
}

function request(target: Target, proxy: Proxy): string {
  const authority = authorityOf(target);
  return `CONNECT ${authority} HTTP/1.1\r\nHost: ${authority}\r\nProxy-Authorization: ${proxy.authorization}\r\n\r\n`;
}

function authorityOf({ host, port }: Target): string {
  return `${isIPv6(host) ? `[${host}]` : host}:${String(port)}`;
}

/** Looks like a refused connection, since that is what it is to the program; the message has the proxy's reason. */
function refused(target: Target, status: number, reason: string): Error {
  const to = `connect ${authorityOf(target)}`;
  if (status === 0) return connectError(`${to}: kz's proxy gave no answer`, target, { code: 'ECONNRESET' });
  return connectError(`${to}: kz's proxy answered ${String(status)}${reason && `: ${reason}`}`, target, { code: 'ECONNREFUSED', status });
}

function unreachable(target: Target, { host, port }: Proxy, cause: NodeJS.ErrnoException): Error {
  const { code = 'ECONNREFUSED' } = cause;
  const message = `connect ${authorityOf(target)}: no connection to kz's proxy on ${authorityOf({ host, port })} (${code})`;
  return connectError(message, target, { code, cause });
}

function connectError(message: string, { host, port }: Target, facts: object): Error {
  return Object.assign(new Error(message), { syscall: 'connect', address: host, port, ...facts });
}
