import http from 'node:http';
import http2 from 'node:http2';
import { afterEach, expect, it } from 'vitest';
import { replyOf } from '../../proxy/lab.ts';
import { TokenLab } from './token-lab.ts';

const AUTHORITY = 'api.github.com:443';
let lab: TokenLab;

afterEach(async () => {
  await lab.close();
});

it('a client that waits for a 100 gets one, and its body is swapped', async () => {
  lab = await TokenLab.start();
  const body = JSON.stringify({ password: await lab.token() });
  const socket = await lab.tunnel(AUTHORITY);
  const headers = { host: 'api.github.com', 'content-type': 'application/json', 'content-length': body.length, expect: '100-continue' };
  const request = http.request({ createConnection: () => socket, method: 'POST', path: '/x', headers });
  const reply = replyOf(request);
  await new Promise<void>((resolve) => {
    request.once('continue', resolve);
    request.flushHeaders();
  });
  request.end(body);
  expect((await reply).status).toBe(200);
  expect(lab.upstream.received[0]?.body.toString()).toBe(JSON.stringify({ password: lab.value() }));
  expect(lab.upstream.received[0]?.headers.expect).toBeUndefined();
});

it('a large body over HTTP/2 arrives as it was sent, although its start was read here', async () => {
  let size = 0;
  const serveHttp2 = (stream: http2.ServerHttp2Stream): void => {
    stream.on('data', (chunk: Buffer) => (size += chunk.length));
    stream.on('end', () => {
      stream.respond({ ':status': 200 });
      stream.end(String(size));
    });
  };
  lab = await TokenLab.start({ upstream: { serveHttp2 } });
  const body = JSON.stringify({ filler: 'x'.repeat(5_000_000), password: await lab.token() });
  const head = { ':method': 'POST', ':path': '/x', 'content-type': 'application/json' };
  expect(await lab.ask2(AUTHORITY, head, body)).toMatchObject({ status: 200, text: String(body.length) });
  expect(lab.events.at(-1)?.isBodyUnread).toBe(true);
});

it('an empty body without a length is one', async () => {
  lab = await TokenLab.start();
  const headers = { 'content-type': 'application/json' };
  const reply = await lab.ask('https://api.github.com/x', { method: 'POST', headers, body: '', chunked: true });
  expect([reply.status, lab.upstream.received[0]?.body.length]).toEqual([200, 0]);
});

it('a question to a backend ends with the client that it is for', async () => {
  lab = await TokenLab.start();
  const token = await lab.token();
  const socket = await lab.tunnel(AUTHORITY);
  const aborted = new Promise<void>((resolve) => {
    lab.backend = (signal) =>
      new Promise((_resolve, reject) => {
        signal.addEventListener('abort', () => {
          reject(new Error('given up'));
          resolve();
        });
        socket.destroy();
      });
  });
  const asked = lab.ask('https://api.github.com/user', { headers: { authorization: `Bearer ${token}` } }, socket);
  await expect(asked).rejects.toThrow();
  await aborted;
  lab.backend = () => Promise.resolve();
  const reply = await lab.ask('https://api.github.com/user', { headers: { authorization: `Bearer ${token}` } });
  expect([reply.status, lab.upstream.received.length]).toEqual([200, 1]);
  const gone: unknown = expect.objectContaining({ type: 'exchange', status: null, error: 'client-gone' });
  expect(lab.events.map(({ event }) => event)).toContainEqual(gone);
});

it('an expired JWT ends a connection of HTTP/2', async () => {
  let time = Date.now();
  const serveHttp2 = (stream: http2.ServerHttp2Stream): void => {
    stream.respond({ ':status': 200 });
    stream.end();
  };
  lab = await TokenLab.start({ upstream: { serveHttp2 }, now: () => time });
  lab.add('carol', time + 1000);
  const socket = await lab.tunnel(AUTHORITY, 'carol', ['h2']);
  const session = http2.connect(`https://${AUTHORITY}`, { createConnection: () => socket });
  const closed = new Promise((resolve) => session.once('close', resolve));
  const statuses: unknown[] = [];
  for (let turn = 0; turn < 2; turn++) {
    const stream = session.request({ ':path': '/' });
    const head = await new Promise<http2.IncomingHttpHeaders>((resolve) => stream.once('response', resolve));
    statuses.push(head[':status']);
    stream.resume();
    time += 1000;
  }
  await closed;
  expect(statuses).toEqual([200, 401]);
});

it('a WebSocket is opened with the value, and tells the token', async () => {
  lab = await TokenLab.start({
    upstream: {
      serve: ({ socket, headers: { authorization = '' } }) => {
        socket.write('HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n');
        socket.write(Buffer.concat([Buffer.of(0x81, authorization.length), Buffer.from(authorization)]));
      },
    },
  });
  const token = await lab.token();
  const socket = await lab.tunnel(AUTHORITY);
  const fields = ['Connection: Upgrade', 'Upgrade: websocket', 'Sec-WebSocket-Version: 13', 'Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=='];
  socket.write(`GET /socket HTTP/1.1\r\nHost: api.github.com\r\nAuthorization: Bearer ${token}\r\n${fields.join('\r\n')}\r\n\r\n`);
  let text = '';
  await new Promise<void>((resolve) => {
    socket.on('data', (bytes: Buffer) => {
      text += bytes.toString('latin1');
      if (text.includes(`Bearer ${token}`)) resolve();
    });
  });
  expect(text).toMatch(/^HTTP\/1\.1 101 /);
  expect(text).not.toContain(lab.value());
});
