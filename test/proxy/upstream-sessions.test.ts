import { once } from 'node:events';
import http2 from 'node:http2';
import https from 'node:https';
import net from 'node:net';
import type { SecureContext } from 'node:tls';
import { afterEach, expect, it } from 'vitest';
import { Authority } from '../../src/proxy/authority.ts';
import { DialError, Dialer, type Target } from '../../src/proxy/dial.ts';
import { UpstreamAgent } from '../../src/proxy/upstream-agent.ts';
import { UpstreamSessions } from '../../src/proxy/upstream-sessions.ts';

const authority = Authority.create();
const closing: (() => void)[] = [];
afterEach(() => {
  for (const close of closing.splice(0)) close();
});

interface Upstream {
  readonly target: Target;
  readonly connections: net.Socket[];
  readonly sessions: http2.ServerHttp2Session[];
}

interface Serving extends http2.SecureServerOptions {
  readonly plain?: boolean;
  readonly onStream?: (stream: http2.ServerHttp2Stream) => void;
}

function SNICallback(name: string, done: (error: null, context: SecureContext) => void): void {
  done(null, authority.contextFor(name));
}

async function upstream({ plain = false, onStream = hello, ...options }: Serving = {}): Promise<Upstream> {
  const server = plain ? http2.createServer(options) : http2.createSecureServer({ SNICallback, ...options });
  const sessions: http2.ServerHttp2Session[] = [];
  server.on('session', (session) => {
    sessions.push(session);
    session.on('error', () => undefined);
  });
  server.on('stream', (stream) => {
    stream.on('error', () => undefined);
    onStream(stream);
  });
  return { ...(await listening(server)), sessions };
}

function hello(stream: http2.ServerHttp2Stream): void {
  stream.respond({ ':status': 200 });
  stream.end('hello');
}

async function listening(server: net.Server): Promise<Omit<Upstream, 'sessions'>> {
  const connections: net.Socket[] = [];
  server.on('connection', (socket: net.Socket) => {
    connections.push(socket);
    socket.on('error', () => undefined);
    closing.push(() => socket.destroy());
  });
  closing.push(() => server.close());
  await once(server.listen(0, '127.0.0.1'), 'listening');
  const address = server.address();
  const port = typeof address === 'object' && address !== null ? address.port : 0;
  return { target: { host: 'api.test', port, tls: true, namedByRule: true }, connections };
}

function pools(options?: { idleMs?: number }) {
  const dialer = new Dialer({ ca: [authority.certificate], lookup: () => Promise.resolve(['127.0.0.1']) });
  const agent = new UpstreamAgent(dialer);
  const sessions = new UpstreamSessions(dialer, agent, options);
  closing.push(() => {
    sessions.destroy();
    agent.destroy();
  });
  return { agent, sessions };
}

const HEADERS = { ':method': 'GET', ':path': '/' };

async function body(stream: http2.ClientHttp2Stream): Promise<string> {
  let text = '';
  for await (const chunk of stream) text += String(chunk);
  return text;
}

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 5));
}

it('carries streams on one session', async () => {
  const { target, connections } = await upstream();
  const { sessions } = pools();
  const streams = await Promise.all([1, 2, 3].map(() => sessions.request(target, HEADERS)));
  expect(await Promise.all(streams.map(body))).toEqual(['hello', 'hello', 'hello']);
  expect(await body(await sessions.request(target, HEADERS))).toBe('hello');
  expect(connections).toHaveLength(1);
});

it('learns that an upstream speaks HTTP/2, and uses the connection that found out', async () => {
  const { target, connections } = await upstream();
  const { sessions } = pools();
  expect(await Promise.all([sessions.protocolOf(target), sessions.protocolOf(target)])).toEqual(['h2', 'h2']);
  expect(await body(await sessions.request(target, HEADERS))).toBe('hello');
  expect(await sessions.protocolOf(target)).toBe('h2');
  expect(connections).toHaveLength(1);
});

it('learns that an upstream speaks HTTP/1.1, and hands the connection to the agent', async () => {
  const server = https.createServer({ SNICallback }, (_request, response) => response.end('one'));
  const { target, connections } = await listening(server);
  const { agent, sessions } = pools();
  expect(await sessions.protocolOf(target)).toBe('http/1.1');
  const request = agent.request(target, { method: 'GET', path: '/', headers: ['Host', 'api.test'] });
  request.end();
  await once(request, 'response');
  expect([request.reusedSocket, connections.length]).toEqual([true, 1]);
  await expect(sessions.request(target, HEADERS)).rejects.toMatchObject({ code: 'tls' });
});

it('speaks HTTP/2 without TLS to whom it is told', async () => {
  const { target, connections } = await upstream({ plain: true });
  const { sessions } = pools();
  const plain = { ...target, tls: false };
  expect(await sessions.protocolOf(plain)).toBe('http/1.1');
  expect(await body(await sessions.request(plain, HEADERS))).toBe('hello');
  expect(await body(await sessions.request(plain, HEADERS))).toBe('hello');
  expect(connections).toHaveLength(1);
});

it('opens another session beyond the peer’s limit of streams', async () => {
  const waiting: http2.ServerHttp2Stream[] = [];
  const { target, connections } = await upstream({
    settings: { maxConcurrentStreams: 2 },
    onStream: (stream) => {
      if (waiting.push(stream) === 5) for (const each of waiting) hello(each);
    },
  });
  const { sessions } = pools();
  const streams = await Promise.all([1, 2, 3, 4, 5].map(() => sessions.request(target, HEADERS)));
  expect(await Promise.all(streams.map(body))).toEqual(Array(5).fill('hello'));
  expect(connections).toHaveLength(3);
});

it('waits in line at the sixteenth session', async () => {
  const { target, connections } = await upstream({ settings: { maxConcurrentStreams: 1 } });
  const { sessions } = pools();
  const all = Array.from({ length: 60 }, async () => body(await sessions.request(target, HEADERS)));
  expect(await Promise.all(all)).toEqual(Array(60).fill('hello'));
  expect(connections.length).toBeLessThanOrEqual(16);
});

it('leaves a session that says GOAWAY, and lets its streams finish', async () => {
  const waiting: http2.ServerHttp2Stream[] = [];
  const {
    target,
    connections,
    sessions: served,
  } = await upstream({
    onStream: (stream) => {
      if (connections.length === 1) waiting.push(stream);
      else hello(stream);
    },
  });
  const { sessions } = pools();
  const before = await sessions.request(target, HEADERS);
  await until(() => waiting.length === 1);
  const session = before.session;
  served[0]?.goaway(0);
  await until(() => session?.closed === true);
  expect(await body(await sessions.request(target, HEADERS))).toBe('hello');
  expect(connections).toHaveLength(2);
  for (const each of waiting) hello(each);
  expect(await body(before)).toBe('hello');
});

it('replaces a session whose connection broke', async () => {
  const { target, connections } = await upstream({
    onStream: (stream) => {
      if (connections.length === 1) connections[0]?.resetAndDestroy();
      else hello(stream);
    },
  });
  const { sessions } = pools();
  const broken = await sessions.request(target, HEADERS);
  await expect(body(broken)).rejects.toThrow();
  expect(await body(await sessions.request(target, HEADERS))).toBe('hello');
});

it('shows by its code that a stream was cut off with its connection', async () => {
  const { target, connections } = await upstream({
    onStream: (stream) => {
      stream.respond({ ':status': 200 });
      stream.write('half', () => connections[0]?.end());
    },
  });
  const { sessions } = pools();
  const stream = await sessions.request(target, HEADERS);
  stream.on('error', () => undefined).resume();
  await new Promise((resolve) => stream.once('close', resolve));
  expect(stream.rstCode).not.toBe(http2.constants.NGHTTP2_NO_ERROR);
});

it('closes idle sessions, and no busy one', async () => {
  const waiting: http2.ServerHttp2Stream[] = [];
  const { target, connections } = await upstream({ onStream: (stream) => waiting.push(stream) });
  const { sessions } = pools({ idleMs: 20 });
  const stream = await sessions.request(target, HEADERS);
  const text = body(stream);
  await new Promise((resolve) => setTimeout(resolve, 100));
  for (const each of waiting) hello(each);
  expect(await text).toBe('hello');
  await until(() => connections[0]?.closed === true);
});

it('does not read ahead of a reader that has stopped', async () => {
  let sent = 0;
  const { target } = await upstream({
    onStream: (stream) => {
      stream.respond({ ':status': 200 });
      const write = (): void => {
        while (sent < 64 * 1024 * 1024) {
          sent += 65_536;
          if (!stream.write(Buffer.alloc(65_536))) return;
        }
      };
      stream.on('drain', write);
      write();
    },
  });
  const { sessions } = pools();
  const stream = await sessions.request(target, HEADERS);
  await once(stream, 'response');
  let before = -1;
  while (before !== sent) {
    before = sent;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  expect(sent).toBeGreaterThan(512 * 1024);
  expect(sent).toBeLessThan(4 * 1024 * 1024);
});

it('says why there is no session', async () => {
  const { target } = await upstream();
  const { sessions } = pools();
  await expect(sessions.protocolOf({ ...target, namedByRule: false })).rejects.toMatchObject({ code: 'address-forbidden' });
  await expect(sessions.request({ ...target, namedByRule: false }, HEADERS)).rejects.toBeInstanceOf(DialError);
  const other = await listening(net.createServer((socket) => socket.once('data', () => socket.end('HTTP/1.1 400 Bad Request\r\n\r\n'))));
  await expect(sessions.request({ ...other.target, tls: false }, HEADERS)).rejects.toMatchObject({ code: 'reset' });
});

it('gives up on a peer that ends every session at once', async () => {
  const { target, connections, sessions: served } = await upstream();
  const { sessions } = pools();
  const timer = setInterval(() => {
    for (const session of served) session.destroy();
  }, 1);
  closing.push(() => {
    clearInterval(timer);
  });
  const outcome = await sessions
    .request(target, HEADERS)
    .then(body)
    .catch((error: unknown) => error);
  expect(outcome === 'hello' || outcome instanceof Error).toBe(true);
  expect(connections.length).toBeLessThanOrEqual(20);
});

it('stops waiting at the signal', async () => {
  const { target } = await listening(net.createServer((socket) => socket.resume()));
  const { sessions } = pools();
  const controller = new AbortController();
  const waiting = [sessions.protocolOf(target, controller.signal), sessions.request(target, HEADERS, {}, controller.signal)];
  setImmediate(() => {
    controller.abort(new Error('enough'));
  });
  for (const each of waiting) await expect(each).rejects.toThrow('enough');
  await expect(sessions.protocolOf({ ...target, namedByRule: false }, controller.signal)).rejects.toThrow('enough');
});

it('ends everything when it is closed', async () => {
  const { target, connections } = await upstream({ onStream: () => undefined });
  const { sessions } = pools();
  const stream = await sessions.request(target, HEADERS);
  const text = body(stream);
  sessions.destroy();
  await expect(text).rejects.toThrow();
  await until(() => connections.every((socket) => socket.closed));
  await expect(sessions.request(target, HEADERS)).rejects.toThrow('the proxy is closed');
});
