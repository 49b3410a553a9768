// Bytes that are not HTTP: carried where a rule names host and port, refused anywhere else.
import type net from 'node:net';
import { afterEach, expect, it } from 'vitest';
import { Scene, Wire } from './scene.ts';

const scene = new Scene();
afterEach(() => scene.end());

const RULE = { allow: true, host: 'db.example.com', port: 5432 };
const SECRETS = [{ name: 'TOKEN', hosts: ['db.example.com:5432'] }];

async function start(onConnection: (socket: net.Socket, wire: Wire) => void = () => undefined, rule: object = RULE): Promise<Wire[]> {
  const wires: Wire[] = [];
  await scene.start({
    secrets: SECRETS,
    rules: [{ ...RULE, port: undefined, ...rule }],
    raw: (socket) => {
      const wire = new Wire(socket);
      wires.push(wire);
      onConnection(socket, wire);
    },
  });
  return wires;
}

it('a client that speaks first is carried, its tokens as they are, and values that come back are overwritten', async () => {
  const wires = await start();
  const { lab } = scene;
  const child = scene.child(await lab.connect('db.example.com:5432'));
  child.socket.write(`\0\0\0\x08 ${lab.token()}`);
  await expect.poll(() => wires[0]?.text).toBe(`\0\0\0\x08 ${lab.token()}`);
  wires[0]?.socket.write(`\x01${lab.value()}\x02`);
  await child.until('\x02');
  expect(child.bytes).toHaveLength(lab.value().length + 2);
  wires[0]?.socket.end();
  await child.closed();
  child.socket.end();
  await expect.poll(() => lab.exchanges).toMatchObject([{ protocol: 'raw', method: null, path: null, remasked: ['TOKEN'], error: null }]);
});

it('a server that speaks first is heard', async () => {
  await start((socket) => socket.write('5.7.42-log\n'));
  const child = scene.child(await scene.lab.connect('db.example.com:5432'));
  await child.until('5.7.42-log\n');
});

it.each(['child', 'upstream'])('a %s that breaks off ends both sides', async (who) => {
  const wires = await start();
  const child = scene.child(await scene.lab.connect('db.example.com:5432'));
  child.socket.write('\0\0\0\0');
  await expect.poll(() => wires[0]?.text).toBe('\0\0\0\0');
  (who === 'child' ? child : wires[0])?.socket.resetAndDestroy();
  await expect.poll(() => (who === 'child' ? wires[0] : child)?.how).not.toBe('open');
  await expect.poll(() => scene.lab.exchanges).toMatchObject([{ protocol: 'raw', error: 'reset' }]);
});

it.each([
  ['without a port', {}],
  ['for another port', { port: 5433 }],
  ['for every host', { host: '*', port: 5432 }],
  ['with methods', { port: 5432, methods: ['GET'] }],
  ['that denies', { port: 5432, allow: false }],
])('is not for a rule %s', async (_which, rule) => {
  const wires = await start(undefined, rule);
  const child = scene.child(await scene.lab.connect('db.example.com:5432'));
  child.socket.write('\0\0\0\0');
  await child.closed();
  expect(wires).toEqual([]);
  expect(scene.lab.events).toMatchObject([{ type: 'refused', why: 'not-http', host: 'db.example.com', port: 5432 }]);
});

it('says why there is no connection', async () => {
  await scene.start({ rules: [RULE], dial: { lookup: () => Promise.resolve([]) } });
  const child = scene.child(await scene.lab.connect('db.example.com:5432'));
  child.socket.write('\0\0\0\0');
  await child.closed();
  expect(scene.lab.exchanges).toMatchObject([{ protocol: 'raw', error: 'dns' }]);
});
