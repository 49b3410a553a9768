// Gives a socket the bytes that came in one piece with the proxy's answer, the way it gets all others.
import type { Socket } from 'node:net';
import { privateParts } from './private-parts.ts';

/** `onread` is the option of that name that the socket was made with, if any. */
export function deliver(socket: Socket, onread: unknown, bytes: Buffer): void {
  if (bytes.length === 0 || socket.destroyed) return;
  const { ssl } = privateParts(socket);
  if (ssl) ssl.receive(bytes);
  else if (isOnRead(onread)) fill(onread, bytes);
  else socket.push(bytes);
}

interface OnRead {
  readonly buffer: Uint8Array | (() => Uint8Array);
  callback(length: number, buffer: Uint8Array): boolean;
}

function isOnRead(value: unknown): value is OnRead {
  return typeof value === 'object' && value !== null && 'buffer' in value && 'callback' in value && typeof value.callback === 'function';
}

function fill(onread: OnRead, bytes: Buffer): void {
  let done = 0;
  while (done < bytes.length) {
    const buffer = typeof onread.buffer === 'function' ? onread.buffer() : onread.buffer;
    const part = bytes.subarray(done, done + buffer.length);
    buffer.set(part);
    onread.callback(part.length, buffer);
    done += part.length;
  }
}
