// What a second reader found: servers and programs that end kz itself, values that slip through fields which nobody searched, and bodies that kz
// and a server take apart differently.
import http2 from 'node:http2';
import type net from 'node:net';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Lab } from '../proxy/lab.ts';
import { RawUpstream } from './wire.ts';

let lab: Lab | undefined;
let upstream: RawUpstream | undefined;
const uncaught: unknown[] = [];
let before: NodeJS.UncaughtExceptionListener[] = [];
let beforeRejections: NodeJS.UnhandledRejectionListener[] = [];

function keep(error: unknown): void {
  uncaught.push(error);
}

// Either one ends kz, and the run with it.
beforeEach(() => {
  before = process.listeners('uncaughtException');
  beforeRejections = process.listeners('unhandledRejection');
  process.removeAllListeners('uncaughtException').on('uncaughtException', keep);
  process.removeAllListeners('unhandledRejection').on('unhandledRejection', keep);
});

afterEach(async () => {
  await lab?.close();
  upstream?.close();
  lab = upstream = undefined;
  process.removeAllListeners('uncaughtException').removeAllListeners('unhandledRejection');
  for (const each of before) process.on('uncaughtException', each);
  for (const each of beforeRejections) process.on('unhandledRejection', each);
  expect(uncaught.splice(0)).toEqual([]);
});

/** Every upstream is bare bytes that say `answer` to a whole head. */
async function against(answer: string): Promise<Lab> {
  upstream = await RawUpstream.start((socket, soFar) => {
    if (soFar.endsWith('\r\n\r\n')) socket.write(answer, 'latin1');
  });
  lab = await Lab.start({ dial: { open: upstream.open } });
  return lab;
}

const OK = 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok';

function handshake(host: string): string {
  const key = 'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n';
  return `GET /ws HTTP/1.1\r\nHost: ${host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n${key}\r\n`;
}

/** What comes back in a tunnel until it holds `until` so many times. */
async function exchanged(socket: net.Socket, bytes: string, until: string, times = 1): Promise<string> {
  let text = '';
  socket.on('data', (chunk: Buffer) => (text += chunk.toString('latin1')));
  socket.write(bytes);
  await expect.poll(() => text.split(until).length - 1, { timeout: 10_000 }).toBe(times);
  return text;
}

describe('a server does not end kz', () => {
  it.each([
    ['a reason that Node would not write', 'HTTP/1.1 200 O\x01K\r\nContent-Length: 2\r\n\r\nok'],
    ['a status that does not exist', 'HTTP/1.1 099 Odd\r\nContent-Length: 2\r\n\r\nok'],
  ])('with %s', async (_what, answer) => {
    const { status, text } = await (await against(answer)).ask('http://api.example.com/');
    expect([status, text]).toEqual([502, expect.stringContaining('api.example.com failed')]);
    const socket = await lab?.connect('api.example.com:80');
    if (socket !== undefined) await exchanged(socket, handshake('api.example.com'), 'HTTP/1.1 502 Bad Gateway');
    await expect.poll(() => lab?.exchanges.map((each) => each.status)).toEqual([502, 502]);
  });

  it('and the connection of an answer that was not passed on is closed', async () => {
    let open = 0;
    upstream = await RawUpstream.start((socket) => {
      open += 1;
      socket.once('close', () => (open -= 1)).write('HTTP/1.1 099 Odd\r\nTransfer-Encoding: chunked\r\n\r\n');
    });
    lab = await Lab.start({ dial: { open: upstream.open } });
    expect((await lab.ask('http://api.example.com/')).status).toBe(502);
    await expect.poll(() => open, { timeout: 10_000 }).toBe(0);
  });

  const end = frame(0, 1, Buffer.from('hi'));
  const whole = Buffer.concat([frame(1, 4, Buffer.of(0x88)), end]);
  it.each([
    ['trailers that belong to HTTP/1', trailers(field('http2-settings', 'x')), undefined],
    ['trailers that are there twice', trailers(field('etag', 'x'), field('etag', 'y')), undefined],
    ['hints that are there twice', Buffer.concat([head(field(':status', '103'), field('etag', 'x'), field('etag', 'y')), whole]), 200],
    ['fields that are there twice', Buffer.concat([head(Buffer.of(0x88), field('etag', 'x'), field('etag', 'y')), end]), 502],
  ])('with %s over HTTP/2', async (_what, answer, status) => {
    const settings = Buffer.concat([frame(4, 0, Buffer.alloc(0), 0), frame(4, 1, Buffer.alloc(0), 0)]);
    const asked = new WeakSet<net.Socket>();
    upstream = await RawUpstream.start((socket, soFar) => {
      if (socket.bytesWritten === 0) socket.write(settings);
      if (!HEAD_OF_FIRST_STREAM.test(soFar) || asked.has(socket)) return;
      asked.add(socket);
      socket.write(answer);
    });
    lab = await Lab.start({ dial: { open: upstream.open } });
    const socket = await lab.connect('api.example.com:80');
    const session = http2.connect('http://api.example.com', { createConnection: () => socket });
    const stream = session.request({ ':path': '/', ':authority': 'api.example.com' });
    let got: number | undefined;
    stream.on('response', ({ ':status': code }) => (got = code)).on('error', () => undefined);
    stream.resume();
    await new Promise((resolve) => stream.once('close', resolve));
    if (status === undefined) expect(stream.rstCode).toBe(http2.constants.NGHTTP2_INTERNAL_ERROR);
    else expect(got).toBe(status);
    session.destroy();
  });
});

// eslint-disable-next-line no-control-regex -- bytes of a frame
const HEAD_OF_FIRST_STREAM = /\0\0.\x01.\0\0\0\x01/s;

function frame(type: number, flags: number, body: Buffer, stream = 1): Buffer {
  const start = Buffer.alloc(9);
  start.writeUIntBE(body.length, 0, 3);
  start.writeUInt8(type, 3);
  start.writeUInt8(flags, 4);
  start.writeUInt32BE(stream, 5);
  return Buffer.concat([start, body]);
}

/** Written out, in no table. */
function field(name: string, value: string): Buffer {
  return Buffer.concat([Buffer.of(0, name.length), Buffer.from(name), Buffer.of(value.length), Buffer.from(value)]);
}

function head(...fields: readonly Buffer[]): Buffer {
  return frame(1, 4, Buffer.concat(fields));
}

function trailers(...fields: readonly Buffer[]): Buffer {
  return Buffer.concat([head(Buffer.of(0x88)), frame(0, 0, Buffer.from('hi')), frame(1, 5, Buffer.concat(fields))]);
}

describe('a program does not end kz', () => {
  const get = 'GET /slow HTTP/1.1\r\nHost: api.example.com\r\n\r\n';

  it.each([
    ['api.example.com', 'HTTP/1.1 200 OK'],
    ['other.example.com', 'HTTP/1.1 421 Misdirected Request'],
  ])('with a WebSocket to %s behind a request that is not answered yet', async (host, answer) => {
    upstream = await RawUpstream.start((socket, soFar) => {
      // Long enough for the handshake to be there as well.
      if (soFar.includes('/slow')) setTimeout(() => socket.write(OK), 50);
      else socket.write(OK);
    });
    lab = await Lab.start({ dial: { open: upstream.open } });
    const text = await exchanged(await lab.connect('api.example.com:80'), get + handshake(host), 'HTTP/1.1 ', 2);
    expect(text.indexOf('HTTP/1.1 200 OK')).toBe(0);
    expect(text.lastIndexOf(answer)).toBe(text.lastIndexOf('HTTP/1.1 '));
  });
});

describe('a value does not come back', () => {
  it.each(['content-encoding', 'trailer'])('in %s', async (name) => {
    lab = await Lab.start({
      serve: ({ headers }, response) => {
        response.writeHead(200, { [name]: String(headers.authorization).slice('Bearer '.length) });
        response.end('ok');
      },
    });
    const { rawHeaders } = await lab.ask('https://api.example.com/', { headers: { authorization: `Bearer ${lab.token()}` } });
    expect(rawHeaders).toContain(lab.token());
    lab.examine(rawHeaders.join('\n'));
    expect(lab.exchanges[0]?.remasked).toEqual(['TOKEN']);
  });

  it('in an alphabet that the program asked for', async () => {
    lab = await Lab.start({
      serve: ({ headers }, response) => {
        response.end(Buffer.from(String(headers.authorization), headers['accept-charset'] === 'utf-16le' ? 'utf16le' : 'utf8'));
      },
    });
    const headers = { authorization: `Bearer ${lab.token()}`, 'accept-charset': 'utf-16le' };
    const { body } = await lab.ask('https://api.example.com/', { headers });
    lab.examine(body.toString('utf16le'));
    expect(body.toString()).toContain(lab.token());
  });
});

describe('what kz takes for a field is none for the server', () => {
  const TWO_WAYS = [
    ['--B', 'Content-Disposition: form-data; name="comment"', ''],
    ['--A', 'Content-Disposition: form-data; name="password"', '', 'TOKEN', '--A--'],
    ['--B--', ''],
  ]
    .flat()
    .join('\r\n');
  const NESTED = '{"comment":"\\u0000","password":"TOKEN"}';

  it.each<[string, string[], string]>([
    ['two boundaries in two fields', ['multipart/form-data; boundary=B', 'multipart/form-data; boundary=A'], TWO_WAYS],
    ['a boundary in another parameter', ['multipart/form-data; x="; boundary=A;" ;boundary =B'], TWO_WAYS],
    ['a boundary in two spellings', ["multipart/form-data; boundary*=utf-8''B; boundary=A"], TWO_WAYS],
    ['two types', ['text/plain', 'application/json'], NESTED],
    ['a name with a NUL', ['application/x-www-form-urlencoded'], 'comment%00password=TOKEN'],
    ['a name behind a bracket', ['application/x-www-form-urlencoded'], 'comment[x]_password=TOKEN'],
    ['a JSON name with a NUL', ['application/json'], '{"comment\\u0000_password":"TOKEN"}'],
  ])('%s', async (_what, types, text) => {
    lab = await Lab.start({ secrets: [{ name: 'TOKEN', hosts: ['api.example.com'] }] });
    const body = text.replace('TOKEN', lab.token());
    const headers = ['Host', 'api.example.com', 'Content-Length', String(body.length), ...types.flatMap((type) => ['Content-Type', type])];
    await lab.ask('https://api.example.com/', { method: 'POST', headers, body });
    expect(lab.received[0]?.body.toString()).toBe(body);
  });

  it('and a type that is there twice is still one', async () => {
    lab = await Lab.start({ secrets: [{ name: 'TOKEN', hosts: ['api.example.com'] }] });
    const body = `{"password":"${lab.token()}"}`;
    const type = ['Content-Type', 'application/json'];
    const headers = ['Host', 'api.example.com', 'Content-Length', String(body.length), ...type, ...type];
    await lab.ask('https://api.example.com/', { method: 'POST', headers, body });
    expect(lab.received[0]?.body.toString()).toBe(`{"password":"${lab.value()}"}`);
  });
});

describe('a head is the same, byte by byte', () => {
  it('also in front of a stream', async () => {
    const seen: Buffer[] = [];
    lab = await Lab.start({
      secrets: [{ name: 'TOKEN', value: 'CANARY-pässwörd-12345', hosts: ['api.example.com'] }],
      serve: (request, response) => {
        seen.push(Buffer.from(String(request.headers.authorization), 'latin1'));
        request.resume();
        response.writeHead(200, { 'x-name': '\xe9' });
        response.write(Buffer.from('a'));
        response.end(Buffer.from('b'));
      },
    });
    const headers = { authorization: `Bearer ${lab.token()}`, 'transfer-encoding': 'chunked' };
    const reply = await lab.ask('https://api.example.com/', { method: 'POST', headers, body: 'x' });
    expect(seen).toEqual([Buffer.from(`Bearer ${lab.value()}`)]);
    expect([reply.headers['x-name'], reply.text]).toEqual(['\xe9', 'ab']);
  });
});

it('a server does not hide a body in a transfer coding', async () => {
  const to = await against('HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n');
  const reply = await to.ask('http://api.example.com/');
  expect([reply.status, reply.headers['x-kz-error']]).toEqual([502, 'upstream-failed']);
  expect(reply.text).toContain('TRANSFER_CODING');
});
