// Who may use the proxy: whoever has the run's credential, and a process of the run that cannot send one.
import { once } from 'node:events';
import { connect } from 'node:net';
import { afterEach, expect, it } from 'vitest';
import { peerBelongsTo } from '../../src/proxy/peer-process.ts';
import { ProxyServer } from '../../src/proxy/server.ts';
import { Lab } from './lab.ts';

const NO_CREDENTIAL = '';

let lab: Lab | undefined;
afterEach(async () => {
  await lab?.close();
});

it.skipIf(process.platform !== 'linux')('lets in a process of the run that sends no credential', async () => {
  lab = await Lab.start({ isOurs: (client) => peerBelongsTo(client, () => [process.pid]) });
  await expect(lab.connect('api.example.test:443', NO_CREDENTIAL)).resolves.toBeDefined();
  lab.examine(JSON.stringify(lab.events));
});

it('refuses a process of another run that sends none', async () => {
  lab = await Lab.start({ isOurs: (client) => peerBelongsTo(client, () => []) });
  await expect(lab.connect('api.example.test:443', NO_CREDENTIAL)).rejects.toThrow('407');
});

it('refuses a wrong credential, of whatever process', async () => {
  lab = await Lab.start({ isOurs: () => Promise.resolve(true) });
  await expect(lab.connect('api.example.test:443', 'wrong')).rejects.toThrow('407');
});

it('keeps as many connections as it is to, and closes what comes beyond them', async () => {
  lab = await Lab.start();
  const never = (): Promise<never> => new Promise(() => undefined);
  const proxy = await ProxyServer.open(lab.session, never, { host: '127.0.0.1', port: 0, mostConnections: 2 });
  const kept = [connect(proxy.port, '127.0.0.1'), connect(proxy.port, '127.0.0.1')];
  await Promise.all(kept.map((socket) => once(socket, 'connect')));
  const beyond = connect(proxy.port, '127.0.0.1').resume();
  beyond.on('error', () => undefined);
  await once(beyond, 'close');
  expect(kept.map(({ destroyed }) => destroyed)).toEqual([false, false]);
  for (const socket of kept) socket.destroy();
  await proxy.close();
});
