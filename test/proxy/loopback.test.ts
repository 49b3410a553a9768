// The host's own loopback: a server there may listen on either of its addresses.
import net from 'node:net';
import { once } from 'node:events';
import { afterEach, expect, it } from 'vitest';
import { DialError } from '../../src/proxy/dial.ts';
import { dialLoopback } from '../../src/proxy/loopback.ts';

const servers: net.Server[] = [];
afterEach(() => {
  for (const server of servers.splice(0)) server.close();
});

async function listen(host: string, greeting: string): Promise<number> {
  const server = net.createServer((socket) => socket.end(greeting));
  servers.push(server);
  await new Promise<void>((resolve, reject) => server.once('error', reject).listen({ host, port: 0 }, resolve));
  const address = server.address();
  return typeof address === 'object' && address !== null ? address.port : 0;
}

async function greetingAt(port: number): Promise<string> {
  const socket = await dialLoopback(port);
  const [bytes] = (await once(socket, 'data')) as [Buffer];
  socket.destroy();
  return bytes.toString();
}

const hasIPv6 = await listen('::1', '').then(
  () => true,
  () => false,
);

it('is dialled at 127.0.0.1', async () => {
  expect(await greetingAt(await listen('127.0.0.1', 'four'))).toBe('four');
});

it.skipIf(!hasIPv6)('is dialled at ::1 when nobody listens at 127.0.0.1 (needs IPv6)', async () => {
  expect(await greetingAt(await listen('::1', 'six'))).toBe('six');
});

it('where nobody listens at all is refused', async () => {
  const port = await listen('127.0.0.1', '');
  servers.splice(0).forEach((server) => server.close());
  const error: unknown = await dialLoopback(port).catch((reason: unknown) => reason);
  expect(error).toBeInstanceOf(DialError);
  expect(error).toMatchObject({ code: 'refused', detail: `connecting to 127.0.0.1:${String(port)} failed (ECONNREFUSED)` });
});
