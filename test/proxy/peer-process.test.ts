import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import net from 'node:net';
import { afterAll, describe, expect, it } from 'vitest';
import { peerBelongsTo } from '../../src/proxy/peer-process.ts';

const children: ChildProcess[] = [];
afterAll(() => {
  for (const child of children) child.kill('SIGKILL');
});

/** A child that connects to us, as this side sees the connection. */
async function accepted(bind: string, to: string): Promise<{ socket: net.Socket; pid: number }> {
  const server = net.createServer();
  await once(server.listen(0, bind), 'listening');
  const address = server.address();
  const port = typeof address === 'object' && address !== null ? address.port : 0;
  const child = spawn(process.execPath, ['-e', `require('net').connect(${String(port)}, '${to}').on('error', () => {})`], {
    stdio: 'ignore',
  });
  children.push(child);
  const [socket] = (await once(server, 'connection')) as [net.Socket];
  socket.on('error', () => undefined);
  server.close();
  return { socket, pid: child.pid ?? 0 };
}

describe.runIf(process.platform === 'linux')('peerBelongsTo', () => {
  it.each([
    ['127.0.0.1', '127.0.0.1'],
    ['127.0.0.1', '::ffff:127.0.0.1'],
    ['127.0.0.3', '127.0.0.3'],
    ['::', '127.0.0.1'],
    ['::1', '::1'],
  ])('knows the process behind a connection to %s (dialled as %s)', async (bind, to) => {
    const { socket, pid } = await accepted(bind, to);
    expect(await peerBelongsTo(socket, () => [process.pid, pid])).toBe(true);
    expect(await peerBelongsTo(socket, () => [process.pid])).toBe(false);
    expect(await peerBelongsTo(socket, () => [])).toBe(false);
    socket.destroy();
  });

  it('does not take our own end for the other one', async () => {
    const { socket } = await accepted('127.0.0.1', '127.0.0.1');
    expect(await peerBelongsTo(socket, () => [process.pid])).toBe(false);
    socket.destroy();
  });

  it('says no to what it cannot find', async () => {
    const { socket, pid } = await accepted('127.0.0.1', '127.0.0.1');
    const ends = { localAddress: socket.localAddress, localPort: socket.localPort, remoteAddress: socket.remoteAddress };
    const tree = () => [pid, 999_999_999];
    expect(await peerBelongsTo({ ...ends, remotePort: 1 }, tree)).toBe(false);
    expect(await peerBelongsTo({ ...ends, remotePort: socket.remotePort, remoteAddress: '127.0.0.9' }, tree)).toBe(false);
    expect(await peerBelongsTo({ ...ends, remotePort: socket.remotePort, remoteAddress: '192.168.0.1' }, tree)).toBe(false);
    expect(await peerBelongsTo({}, tree)).toBe(false);
    expect(await peerBelongsTo({ ...ends, remotePort: socket.remotePort }, tree)).toBe(true);
    socket.destroy();
  });
});
