import { once } from 'node:events';
import http from 'node:http';
import net from 'node:net';
import tls from 'node:tls';
import { afterEach, expect, it } from 'vitest';
import { Authority } from '../../src/proxy/authority.ts';
import { DialError, Dialer, type Target } from '../../src/proxy/dial.ts';
import { UpstreamAgent } from '../../src/proxy/upstream-agent.ts';

const authority = Authority.create();
const closing: (() => void)[] = [];
afterEach(() => {
  for (const close of closing.splice(0)) close();
});

const loopback = new Dialer({ ca: [authority.certificate], lookup: () => Promise.resolve(['127.0.0.1']) });

function agentFor(dialer: Pick<Dialer, 'connect'> = loopback, options?: { idleMs: number }) {
  const agent = new UpstreamAgent(dialer, options);
  closing.push(() => {
    agent.destroy();
  });
  return agent;
}

interface Upstream {
  readonly target: Target;
  /** The server's ends, in the order of their arrival. */
  readonly sockets: net.Socket[];
}

async function upstream(onSocket: (socket: net.Socket) => void): Promise<Upstream> {
  const sockets: net.Socket[] = [];
  const server = net.createServer((socket) => {
    sockets.push(socket);
    socket.on('error', () => undefined);
    closing.push(() => socket.destroy());
    onSocket(socket);
  });
  closing.push(() => server.close());
  await once(server.listen(0, '127.0.0.1'), 'listening');
  const address = server.address();
  const port = typeof address === 'object' && address !== null ? address.port : 0;
  return { target: { host: 'api.test', port, tls: false, namedByRule: true }, sockets };
}

function web(onRequest: http.RequestListener): Promise<Upstream> {
  const server = http.createServer({ keepAliveTimeout: 0 }, onRequest);
  return upstream((socket) => server.emit('connection', socket));
}

/** Answers every request with these bytes, as they are. */
function raw(answer: string): Promise<Upstream> {
  return upstream((socket) => socket.on('data', () => socket.write(answer)));
}

async function get(agent: UpstreamAgent, target: Target, path = '/') {
  const request = agent.request(target, { method: 'GET', path, headers: ['Host', target.host] });
  const [response] = await answer(request);
  let body = '';
  for await (const chunk of response) body += String(chunk);
  // The connection is free once Node has said so.
  await new Promise(setImmediate);
  return { reused: request.reusedSocket, status: response.statusCode, body };
}

async function answer(request: http.ClientRequest): Promise<[http.IncomingMessage]> {
  request.end();
  return (await once(request, 'response')) as [http.IncomingMessage];
}

async function ended(socket: net.Socket | undefined): Promise<void> {
  if (socket === undefined) throw new Error('there is no such connection');
  if (!socket.closed) await new Promise((resolve) => socket.once('close', resolve));
}

it('uses a connection again, for the same upstream only', async () => {
  const { target, sockets } = await web((_request, response) => response.end('hello'));
  const agent = agentFor();
  expect(await get(agent, target)).toEqual({ reused: false, status: 200, body: 'hello' });
  expect(await get(agent, { ...target })).toEqual({ reused: true, status: 200, body: 'hello' });
  expect(sockets).toHaveLength(1);
  for (const other of [{ host: 'other.test' }, { host: '127.0.0.1' }])
    expect((await get(agent, { ...target, ...other })).reused).toBe(false);
});

it('keeps what a rule allowed apart from what it did not', async () => {
  const { target } = await web((_request, response) => response.end());
  const open = () => Promise.resolve(net.connect(target.port, '127.0.0.1'));
  const agent = agentFor({ connect: open });
  expect((await get(agent, target)).reused).toBe(false);
  expect((await get(agent, { ...target, namedByRule: false })).reused).toBe(false);
  expect((await get(agent, target)).reused).toBe(true);
});

it('speaks TLS, and asks for HTTP/1.1', async () => {
  const server = http.createServer((_request, response) => response.end('secure'));
  const protocols: unknown[] = [];
  const { target, sockets } = await upstream((socket) => {
    const secure = new tls.TLSSocket(socket, {
      isServer: true,
      secureContext: authority.contextFor('api.test'),
      ALPNProtocols: ['h2', 'http/1.1'],
    });
    secure.on('secure', () => {
      protocols.push(secure.alpnProtocol);
      server.emit('connection', secure);
    });
  });
  const agent = agentFor();
  for (const reused of [false, true]) expect(await get(agent, { ...target, tls: true })).toEqual({ reused, status: 200, body: 'secure' });
  expect([protocols, sockets.length]).toEqual([['http/1.1'], 1]);
});

it('sends the fields as they are given', async () => {
  const seen: string[][] = [];
  const { target } = await web((request, response) => {
    seen.push(request.rawHeaders);
    request.resume().on('end', () => response.end());
  });
  const headers = ['hOsT', 'api.test', 'X-A', '1', 'x-a', '2', 'Content-Length', '2', 'X-Latin', 'caf\xe9'];
  const request = agentFor().request(target, { method: 'POST', path: '/?q=%2f', headers });
  request.write(Buffer.from('ok'));
  const [response] = await answer(request);
  response.resume();
  expect(seen).toEqual([[...headers, 'Connection', 'keep-alive']]);
});

it('opens one connection per request at a time, and takes the newest idle one', async () => {
  const waiting: http.ServerResponse[] = [];
  const { target, sockets } = await web((request, response) => {
    if (request.url === '/at-once') response.end(String(request.socket.remotePort));
    else if (waiting.push(response) === 3) for (const each of waiting) each.end();
  });
  const agent = agentFor();
  await Promise.all([1, 2, 3].map(() => get(agent, target)));
  expect(sockets).toHaveLength(3);
  const first = await get(agent, target, '/at-once');
  expect(await get(agent, target, '/at-once')).toEqual({ reused: true, status: 200, body: first.body });
  expect(sockets).toHaveLength(3);
});

it('drops a connection that the server closed', async () => {
  const { target, sockets } = await web((_request, response) => response.end());
  const agent = agentFor();
  await get(agent, target);
  sockets[0]?.end();
  await ended(sockets[0]);
  expect((await get(agent, target)).reused).toBe(false);
});

it('does not take bytes that came between two requests for an answer', async () => {
  const { target, sockets } = await raw('HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ntrue');
  const agent = agentFor();
  expect((await get(agent, target)).body).toBe('true');
  await new Promise((resolve) => sockets[0]?.write('HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfalse', resolve));
  await new Promise(setImmediate);
  expect(await get(agent, target)).toMatchObject({ body: 'true', reused: false });
  await ended(sockets[0]);
});

it.each([
  ['Keep-Alive: timeout=1', false],
  ['keep-alive: max=10, timeout=5', true],
  ['Keep-Alive: timeout=', true],
  ['Connection: close', false],
])('keeps a connection after `%s`: %s', async (field, reused) => {
  const { target } = await raw(`HTTP/1.1 200 OK\r\n${field}\r\nContent-Length: 0\r\n\r\n`);
  const agent = agentFor();
  await get(agent, target);
  expect((await get(agent, target)).reused).toBe(reused);
});

it('closes a connection that is idle for too long', async () => {
  const { target, sockets } = await web((_request, response) => response.end());
  const agent = agentFor(loopback, { idleMs: 30 });
  await Promise.all([get(agent, target), get(agent, target)]);
  await Promise.all(sockets.map((socket) => ended(socket)));
  expect((await get(agent, target)).reused).toBe(false);
});

it('keeps 256 idle connections at the most', async () => {
  const waiting: http.ServerResponse[] = [];
  const { target, sockets } = await web((_request, response) => {
    if (waiting.push(response) === 300) for (const each of waiting) each.end();
  });
  const agent = agentFor();
  await Promise.all(Array.from({ length: 300 }, () => get(agent, target)));
  while (sockets.filter((socket) => !socket.closed).length > 256) await new Promise(setImmediate);
  expect(sockets.filter((socket) => !socket.closed)).toHaveLength(256);
});

it('does not keep a connection whose answer was given up', async () => {
  const { target, sockets } = await web((request, response) => {
    if (request.url === '/long') response.write('first');
    else response.end();
  });
  const agent = agentFor();
  const request = agent.request(target, { method: 'GET', path: '/long', headers: ['Host', 'api.test'] });
  const [response] = await answer(request);
  await once(response, 'data');
  request.destroy();
  await ended(sockets[0]);
  expect((await get(agent, target)).reused).toBe(false);
});

it('tells the caller when a reused connection broke before the answer', async () => {
  let requests = 0;
  const { target } = await web((request, response) => {
    requests += 1;
    if (requests === 2) request.socket.resetAndDestroy();
    else response.end();
  });
  const agent = agentFor();
  await get(agent, target);
  const request = agent.request(target, { method: 'GET', path: '/', headers: ['Host', 'api.test'] });
  await expect(answer(request)).rejects.toMatchObject({ code: 'ECONNRESET' });
  expect(request.reusedSocket).toBe(true);
});

it('passes on why there is no connection', async () => {
  const error = new DialError('address-forbidden', 'api.test is at 10.0.0.1, a private address');
  const agent = agentFor({ connect: () => Promise.reject(error) });
  const target = { host: 'api.test', port: 80, tls: false, namedByRule: false };
  await expect(get(agent, target)).rejects.toBe(error);
});

it('keeps the connection of a request that was given up while it was dialled', async () => {
  const { target, sockets } = await web((_request, response) => response.end());
  const agent = agentFor();
  const request = agent.request(target, { method: 'GET', path: '/', headers: ['Host', 'api.test'] });
  const closed = new Promise((resolve) => request.once('close', resolve));
  request.on('error', () => undefined).end();
  request.destroy();
  await closed;
  await new Promise(setImmediate);
  expect((await get(agent, target)).reused).toBe(true);
  expect(sockets).toHaveLength(1);
});

it('leaves an upgraded connection to its taker', async () => {
  const { target, sockets } = await raw('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\nhello');
  const agent = agentFor();
  const headers = ['Host', 'api.test', 'Connection', 'Upgrade', 'Upgrade', 'x'];
  const request = agent.request(target, { method: 'GET', path: '/', headers });
  request.end();
  const [, socket, head] = (await once(request, 'upgrade')) as [http.IncomingMessage, net.Socket, Buffer];
  expect(String(head)).toBe('hello');
  agent.destroy();
  expect(socket.destroyed).toBe(false);
  socket.destroy();
  await ended(sockets[0]);
});

it('takes over a connection that was dialled elsewhere', async () => {
  const { target, sockets } = await web((_request, response) => response.end());
  const agent = agentFor();
  const socket = net.connect(target.port, '127.0.0.1');
  await once(socket, 'connect');
  agent.adopt(target, socket);
  expect((await get(agent, target)).reused).toBe(true);
  expect(sockets).toHaveLength(1);
});

it('ends idle and busy connections when it is closed, and opens none afterwards', async () => {
  const { target, sockets } = await web((request, response) => {
    if (request.url !== '/never') response.end();
  });
  const agent = agentFor(new Dialer({ ca: [], lookup: () => Promise.resolve(['127.0.0.1']) }));
  const busy = get(agent, target, '/never');
  await Promise.all([get(agent, target), get(agent, target)]);
  agent.destroy();
  await expect(busy).rejects.toThrow('socket hang up');
  await Promise.all(sockets.map((socket) => ended(socket)));
  await expect(get(agent, target)).rejects.toThrow('the proxy is closed');
});

it('does not keep the process alive with idle connections', async () => {
  const { target, sockets } = await web((_request, response) => response.end());
  const agent = agentFor();
  await get(agent, target);
  for (const socket of sockets) socket.unref();
  const before = active();
  agent.destroy();
  await ended(sockets[0]);
  expect(active()).toBe(before);
});

/** Connections that keep the process alive. */
function active(): number {
  return process.getActiveResourcesInfo().filter((name) => name === 'TCPSocketWrap').length;
}
