// The end of a blind run while something is under way.
import { once } from 'node:events';
import { chmodSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import http2 from 'node:http2';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import tls from 'node:tls';
import { afterEach, beforeEach, expect, it } from 'vitest';
import type { AuditEvent } from '../../src/audit/event.ts';
import { loadConfig } from '../../src/config/load.ts';
import { Secret } from '../../src/core/secret.ts';
import { Access } from '../../src/providers/resolve.ts';
import type { Resolution } from '../../src/providers/secrets.ts';
import { openBlindRun, type BlindRun } from '../../src/run/blind.ts';

const VALUE = 'CANARY-blind-5a1d90c7';

let folder: string;
const servers: net.Server[] = [];
const sockets = new Set<net.Socket>();

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'kz-blind-end-'));
});

afterEach(() => {
  for (const socket of sockets) socket.destroy();
  for (const server of servers.splice(0)) server.close();
  rmSync(folder, { recursive: true, force: true });
});

/** Says something only when it is told to. */
async function silent(onConnection: (socket: net.Socket) => void = () => undefined): Promise<number> {
  const server = net.createServer({ allowHalfOpen: true }, (socket) => {
    sockets.add(socket);
    socket.on('error', () => undefined);
    onConnection(socket);
  });
  servers.push(server);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return (server.address() as net.AddressInfo).port;
}

/** Until so much has come. */
async function received(socket: net.Socket, text: string): Promise<void> {
  let all = '';
  for await (const chunk of socket.iterator({ destroyOnReturn: false })) {
    all += String(chunk);
    if (all.includes(text)) return;
  }
  throw new Error(`ended without ${text}`);
}

interface Scene {
  readonly run: BlindRun;
  readonly told: readonly string[];
  /** What a client of the proxy sends, with the run's credential where it says `AUTH`. */
  readonly send: (text: string) => Promise<net.Socket>;
  readonly token: string;
  readonly log: () => readonly AuditEvent[];
}

async function scene(rules: string, env: NodeJS.ProcessEnv = {}): Promise<Scene> {
  writeFileSync(
    join(folder, '.keyzero.toml'),
    `[secrets]\nA = { provider = "env", ref = "A", hosts = ["api.example"] }\n[blind]\n${rules}`,
  );
  const own = { HOME: folder, XDG_STATE_HOME: join(folder, 'state'), ...env };
  const config = await loadConfig({ env: own, cwd: folder });
  const declaration = config.secrets.get('A');
  if (declaration === undefined) throw new Error('not declared');
  const { provider, ref, origin } = declaration;
  const resolution: Resolution = {
    secrets: [{ name: 'A', state: 'set', secret: new Secret(VALUE), from: 'provider', tookMs: 0, source: { provider, ref, origin } }],
    names: ['A'],
  } as unknown as Resolution;
  const told: string[] = [];
  const access = new Access({}, { env: own, userDirectory: folder });
  const run = await openBlindRun(config, resolution, {
    env: own,
    access,
    version: '0.0.0',
    command: 'program',
    preload: join(folder, 'preload.cjs'),
    clean: false,
    keep: [],
    tell: ({ text }) => told.push(text),
  });
  const proxy = new URL(run.environment.variables.HTTP_PROXY ?? run.environment.variables.http_proxy ?? '');
  const authorization = `Proxy-Authorization: Basic ${Buffer.from(`${proxy.username}:${proxy.password}`).toString('base64')}`;
  return {
    run,
    told,
    token: run.environment.variables.A ?? '',
    send: async (text) => {
      const socket = net.connect({ port: run.proxyPort, host: '127.0.0.1' });
      sockets.add(socket);
      socket.on('error', () => undefined);
      await once(socket, 'connect');
      socket.write(text.replace('AUTH', authorization));
      return socket;
    },
    log: () => {
      const runs = join(folder, 'state', 'keyzero');
      const files = readdirSync(runs, { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith('.jsonl'));
      return files
        .flatMap((name) => readFileSync(join(runs, name), 'utf8').trim().split('\n'))
        .map((line) => JSON.parse(line) as AuditEvent);
    },
  };
}

const turns = async (count = 50): Promise<void> => {
  for (let turn = 0; turn < count; turn++) await new Promise((resolve) => setImmediate(resolve));
};

const HTTP = (host: string, more = ''): string => `GET http://${host}/x HTTP/1.1\r\nHost: ${host}\r\nAUTH\r\n${more}\r\n`;
const WEBSOCKET =
  'Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n';
const CONNECT = (host: string): string => `CONNECT ${host} HTTP/1.1\r\nHost: ${host}\r\nAUTH\r\n\r\n`;

async function ended({ run, log, told }: Scene): Promise<{ exchanges: number; told: readonly string[]; last: string | undefined }> {
  await run.close('exit 0');
  await turns();
  const events = log();
  return { exchanges: events.filter(({ type }) => type === 'exchange').length, told: [...told], last: events.at(-1)?.type };
}

const GOOD = { exchanges: 1, last: 'run-ended', told: [] };

it.each<[string, (host: string) => string, string]>([
  ['a request without an answer', (host) => HTTP(host), ''],
  ['an answer that has begun', (host) => HTTP(host), 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n'],
  ['a WebSocket that is not open yet', (host) => HTTP(host, WEBSOCKET), ''],
  [
    'a WebSocket',
    (host) => HTTP(host, WEBSOCKET),
    'HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: x\r\n\r\n',
  ],
  [
    'an upload',
    (host) =>
      `POST http://${host}/x HTTP/1.1\r\nHost: ${host}\r\nAUTH\r\nContent-Type: application/json\r\nContent-Length: 9000000\r\n\r\n{"a":1,`,
    'skip',
  ],
  [
    'an upload with a chunked body',
    (host) => `POST http://${host}/x HTTP/1.1\r\nHost: ${host}\r\nAUTH\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n`,
    '',
  ],
])('%s has its line in the log', async (_, request, answer) => {
  let arrived: () => void = () => undefined;
  const there = new Promise<void>((resolve) => (arrived = resolve));
  const port = await silent((socket) => {
    socket.once('data', () => {
      socket.write(answer);
      arrived();
    });
  });
  const s = await scene(`[[blind.connections]]\nhost = "127.0.0.1:${String(port)}"\nallow = true\n`);
  const client = await s.send(request(`127.0.0.1:${String(port)}`));
  if (answer === 'skip') await turns(200);
  else await there;
  if (answer !== '' && answer !== 'skip') await received(client, answer.slice(0, 12));
  expect(await ended(s)).toEqual(GOOD);
});

it('bytes that are relayed have their line in the log', async () => {
  const port = await silent((socket) => {
    socket.write('hello');
  });
  const s = await scene(`[[blind.connections]]\nhost = "127.0.0.1:${String(port)}"\nallow = true\n`);
  const client = await s.send(CONNECT(`127.0.0.1:${String(port)}`));
  await received(client, 'hello');
  expect(await ended(s)).toEqual(GOOD);
});

it.each<[string, (client: net.Socket, send: Scene['send']) => void, string]>([
  ['a relay', () => undefined, 'CONNECT'],
  ['a request', () => undefined, HTTP('api.example')],
  ['a WebSocket', () => undefined, HTTP('api.example', WEBSOCKET)],
])('%s that is being connected has its line in the log', async (_, _then, request) => {
  let asked: () => void = () => undefined;
  const there = new Promise<void>((resolve) => (asked = resolve));
  const port = await silent((socket) =>
    socket.once('data', () => {
      asked();
    }),
  );
  const proxy = `http://127.0.0.1:${String(port)}`;
  const s = await scene(
    '[[blind.connections]]\nhost = "api.example"\nallow = true\n[[blind.connections]]\nhost = "db.example:5432"\nallow = true\n',
    {
      HTTPS_PROXY: proxy,
      HTTP_PROXY: proxy,
      ALL_PROXY: proxy,
    },
  );
  const client = await s.send(request === 'CONNECT' ? CONNECT('db.example:5432') : request);
  if (request === 'CONNECT') {
    await once(client, 'data');
    client.write('\x00\x01\x02\x03 not http at all');
  }
  await there;
  expect(await ended(s)).toEqual(GOOD);
});

it('a stream of HTTP/2 has its line in the log', async () => {
  let asked: () => void = () => undefined;
  const there = new Promise<void>((resolve) => (asked = resolve));
  const port = await silent((socket) => socket.once('data', asked));
  const host = `127.0.0.1:${String(port)}`;
  const s = await scene(`[[blind.connections]]\nhost = "${host}"\nallow = true\n`);
  const client = await s.send(CONNECT(host));
  await received(client, '200');
  const session = http2.connect(`http://${host}`, { createConnection: () => client });
  session.on('error', () => undefined);
  session.request({ ':path': '/x' }).on('error', () => undefined);
  await there;
  expect(await ended(s)).toEqual(GOOD);
});

it('a handshake that kz cut short is not told as bad TLS', async () => {
  const s = await scene('[[blind.connections]]\nhost = "api.example"\nallow = true\n');
  const hello = await clientHello();
  const client = await s.send(CONNECT('api.example:443'));
  await received(client, '200');
  client.write(hello);
  // The server's half of it.
  await once(client, 'data');
  expect(await ended(s)).toEqual({ ...GOOD, exchanges: 0 });
  expect(s.log().map(({ type }) => type)).toEqual(['run-started', 'run-ended']);
});

it('a client that kz is still looking at is asked nothing and told nothing', async () => {
  const port = await silent();
  const s = await scene(`[[blind.connections]]\nhost = "127.0.0.1:${String(port)}"\nallow = true\n`);
  const client = await s.send(HTTP(`127.0.0.1:${String(port)}`).replace('AUTH\r\n', ''));
  await turns(3);
  expect(client.destroyed).toBe(false);
  expect(await ended(s)).toMatchObject({ told: [], last: 'run-ended' });
});

it('that cannot remove its folder ends all the same', async () => {
  const s = await scene('[[blind.connections]]\nhost = "api.example"\nallow = true\n');
  // As a program can that the same user runs; root may remove anything.
  chmodSync(s.run.folder, 0o500);
  const isRoot = process.geteuid?.() === 0;
  if (isRoot) process.seteuid?.(65_534);
  try {
    await s.run.close('exit 0');
  } finally {
    if (isRoot) process.seteuid?.(0);
    chmodSync(s.run.folder, 0o700);
    rmSync(s.run.folder, { recursive: true });
  }
  expect(s.log().at(-1)).toMatchObject({ type: 'run-ended', status: 'exit 0' });
});

async function clientHello(): Promise<Buffer> {
  let bytes: (hello: Buffer) => void = () => undefined;
  const hello = new Promise<Buffer>((resolve) => (bytes = resolve));
  const port = await silent((socket) => socket.once('data', bytes));
  const client = tls.connect({ port, host: '127.0.0.1', servername: 'api.example' });
  client.on('error', () => undefined);
  sockets.add(client);
  return hello;
}
