import { createHash } from 'node:crypto';
import type net from 'node:net';
import zlib from 'node:zlib';
import { afterEach, describe, expect, it } from 'vitest';
import { onHead, Scene, withLogin, type Wire } from './scene.ts';

const scene = new Scene();
afterEach(() => scene.end());

const HOSTS = ['api.example.com', 'api.example.com:80'];
const KEY = 'dGhlIHNhbXBsZSBub25jZQ==';
const TEXT = 1;
const BINARY = 2;
const CLOSE = 8;
const PING = 9;

interface Open {
  readonly child: Wire;
  readonly upstream: Wire;
  /** Of the handshake, as the upstream got it. */
  readonly head: string;
}

interface Handshake {
  readonly swap?: readonly string[];
  /** What the child adds to its handshake. */
  readonly fields?: (token: string) => string;
  readonly path?: (token: string) => string;
  /** What the upstream adds to its answer. */
  readonly answer?: (value: string) => string;
}

async function open({ swap, fields = () => '', path = () => '/ws', answer = () => '' }: Handshake = {}): Promise<Open> {
  const upstreams: { wire: Wire; head: string }[] = [];
  await scene.start({
    secrets: [{ name: 'TOKEN', hosts: HOSTS, ...(swap === undefined ? {} : { swap }) }],
    raw: (socket) => {
      socket.once('end', () => socket.end());
      onHead(socket, (head, wire) => {
        if (upstreams.length > 0) return;
        upstreams.push({ wire, head });
        const accept = createHash('sha1').update(`${KEY}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest('base64');
        const lines = ['HTTP/1.1 101 Switching Protocols', 'Upgrade: websocket', 'Connection: Upgrade', `Sec-WebSocket-Accept: ${accept}`];
        socket.write(`${lines.join('\r\n')}\r\n${answer(scene.lab.value())}\r\n`, 'latin1');
      });
    },
  });
  const token = scene.lab.token();
  const child = await scene.send(
    `GET http://api.example.com${path(token)} HTTP/1.1\r\nHost: api.example.com\r\n{login}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n` +
      `Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ${KEY}\r\n${fields(token)}\r\n`,
  );
  await child.until('\r\n\r\n');
  const [first] = upstreams;
  if (first === undefined) throw new Error('no handshake arrived');
  return { child, upstream: first.wire, head: first.head };
}

function frame(opcode: number, payload: string | Buffer, { masked = false, final = true } = {}): Buffer {
  const bytes = Buffer.from(payload);
  const length = bytes.length < 126 ? Buffer.from([bytes.length]) : Buffer.from([126, bytes.length >> 8, bytes.length & 255]);
  if (masked) length.writeUInt8(length.readUInt8(0) | 0x80, 0);
  const key = masked ? Buffer.from([1, 2, 3, 4]) : Buffer.alloc(0);
  return Buffer.concat([
    Buffer.from([opcode | (final ? 0x80 : 0)]),
    length,
    key,
    ...(masked ? [bytes.map((byte, index) => byte ^ ((index % 4) + 1))] : [bytes]),
  ]);
}

interface Message {
  readonly opcode: number;
  readonly payload: string;
}

interface Frame extends Message {
  readonly isFinal: boolean;
  readonly end: number;
}

function frameAt(bytes: Buffer, at: number): Frame | undefined {
  if (bytes.length < at + 2) return undefined;
  const [first = 0, second = 0] = bytes.subarray(at, at + 2);
  const isLong = (second & 0x7f) === 126;
  const isMasked = (second & 0x80) !== 0;
  const start = at + (isLong ? 4 : 2);
  const from = start + (isMasked ? 4 : 0);
  const end = from + (isLong ? bytes.readUInt16BE(at + 2) : second & 0x7f);
  if (bytes.length < end) return undefined;
  const key = isMasked ? bytes.subarray(start, from) : Buffer.alloc(4);
  const payload = Buffer.from(bytes.subarray(from, end).map((byte, index) => byte ^ (key[index % 4] ?? 0))).toString('latin1');
  return { opcode: first & 15, payload, isFinal: (first & 0x80) !== 0, end };
}

/** The messages in what came after the head; fragments are put together. */
function messages(wire: Wire): Message[] {
  const bytes = Buffer.from(wire.body, 'latin1');
  const list: Message[] = [];
  let parts: Message = { opcode: 0, payload: '' };
  for (let frame = frameAt(bytes, 0); frame !== undefined; frame = frameAt(bytes, frame.end)) {
    const { opcode, payload, isFinal } = frame;
    if (opcode >= CLOSE) {
      list.push({ opcode, payload });
      continue;
    }
    parts = opcode === 0 ? { opcode: parts.opcode, payload: parts.payload + payload } : { opcode, payload };
    if (isFinal) list.push(parts);
  }
  return list;
}

describe('the handshake of a WebSocket', () => {
  it('is swapped in its fields and its query, and remasked in the answer', async () => {
    const { child, head } = await open({
      path: (token) => `/ws?token=${token}&note=${token}`,
      fields: (token) => `Authorization: Bearer ${token}\r\n`,
      answer: (value) => `X-Echo: ${value}\r\n`,
    });
    const { lab } = scene;
    expect(head).toMatch(new RegExp(`^GET /ws\\?token=${lab.value()}&note=${lab.token()} HTTP/1.1\r\n`));
    expect(head).toContain(`\r\nAuthorization: Bearer ${lab.value()}\r\n`);
    expect(head).not.toMatch(/proxy-authorization/i);
    expect(child.text).toContain(`\r\nX-Echo: ${lab.token()}\r\n`);
    child.socket.destroy();
    await expect.poll(() => lab.exchanges).toMatchObject([{ protocol: 'websocket', status: 101, remasked: ['TOKEN'] }]);
  });

  it('offers no compression, and keeps the subprotocol', async () => {
    const { child, head } = await open({
      fields: () =>
        'Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits, x-other\r\nSec-WebSocket-Protocol: chat, superchat\r\n',
      answer: () => 'Sec-WebSocket-Protocol: chat\r\n',
    });
    expect(head).toContain('\r\nSec-WebSocket-Extensions: x-other\r\n');
    expect(head).toContain('\r\nSec-WebSocket-Protocol: chat, superchat\r\n');
    expect(child.text).toContain('\r\nSec-WebSocket-Protocol: chat\r\n');
  });

  it('that the upstream refuses gets the answer, decoded and masked', async () => {
    await scene.start({
      secrets: [{ name: 'TOKEN', hosts: HOSTS }],
      raw: (socket) => {
        onHead(socket, () => {
          const body = zlib.gzipSync(`no, ${scene.lab.value()}`);
          socket.write(`HTTP/1.1 401 Unauthorized\r\nContent-Encoding: gzip\r\nContent-Length: ${String(body.length)}\r\n\r\n`);
          socket.write(body);
        });
      },
    });
    const all = await (await scene.send(handshake('websocket'))).closed();
    expect(all).toMatch(/^HTTP\/1.1 401 Unauthorized\r\n/);
    expect(all).toContain(`no, ${scene.lab.token()}`);
    expect(all).not.toMatch(/content-encoding/i);
    expect(scene.lab.exchanges).toMatchObject([{ status: 401, remasked: ['TOKEN'] }]);
  });

  it('that no rule allows, or that leads nowhere, is answered', async () => {
    await scene.start({ rules: [{ allow: false, host: '*' }] });
    expect(await (await scene.send(handshake('websocket'))).closed()).toMatch(/^HTTP\/1.1 403 .*x-kz-error: denied/is);
    await scene.end();
    await scene.start({ dial: { lookup: () => Promise.resolve([]) } });
    expect(await (await scene.send(handshake('websocket'))).closed()).toMatch(/^HTTP\/1.1 502 .*x-kz-error: upstream-dns/is);
  });

  it.each(['to the proxy', 'in a tunnel'])(
    'for anything but WebSocket is a plain request, %s, with its body and in its turn',
    async (way) => {
      await scene.start();
      const { lab } = scene;
      const child = scene.child(way === 'in a tunnel' ? await lab.connect('api.example.com:80') : await lab.open());
      const first = 'GET http://api.example.com/first HTTP/1.1\r\nHost: api.example.com\r\n{login}\r\n\r\n';
      const second = handshake('h2c').replace('GET', 'POST').slice(0, -2) + 'HTTP2-Settings: AAMAAABk\r\nContent-Length: 5\r\n\r\nhello';
      const text = first + second;
      child.socket.write(
        withLogin(lab, way === 'in a tunnel' ? text.replaceAll('http://api.example.com', '').replaceAll('{login}\r\n', '') : text),
      );
      await child.closed();
      expect(child.text.match(/HTTP\/1.1 200 OK\r\n/g)).toHaveLength(2);
      expect(lab.received).toMatchObject([
        { method: 'GET', url: '/first' },
        { method: 'POST', url: '/ws', body: Buffer.from('hello') },
      ]);
      for (const { headers } of lab.received) expect(Object.keys(headers).join()).not.toMatch(/upgrade|http2-settings|proxy/);
    },
  );

  function handshake(protocol: string): string {
    return `GET http://api.example.com/ws HTTP/1.1\r\nHost: api.example.com\r\n{login}\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: ${protocol}\r\n\r\n`;
  }
});

describe('the messages of a WebSocket', () => {
  it('are swapped where the secret says so, and nowhere else', async () => {
    for (const swap of [['body'], undefined]) {
      const { child, upstream } = await open({ ...(swap === undefined ? {} : { swap }) });
      const { lab } = scene;
      child.socket.write(frame(TEXT, `{"identify":"${lab.token()}"}`, { masked: true }));
      child.socket.write(frame(BINARY, lab.token(), { masked: true }));
      await expect.poll(() => messages(upstream)).toHaveLength(2);
      expect(messages(upstream)).toEqual([
        { opcode: TEXT, payload: `{"identify":"${swap === undefined ? lab.token() : lab.value()}"}` },
        { opcode: BINARY, payload: lab.token() },
      ]);
      await scene.end();
    }
  });

  it('are swapped across fragments, in any pieces', async () => {
    const { child, upstream } = await open({ swap: ['body'] });
    const text = `say ${scene.lab.token()} now`;
    const sent = Buffer.concat([
      frame(TEXT, text.slice(0, 20), { masked: true, final: false }),
      frame(PING, 'ping', { masked: true }),
      frame(0, text.slice(20), { masked: true }),
    ]);
    for (const byte of sent) {
      child.socket.write(Buffer.from([byte]));
      await new Promise(setImmediate);
    }
    await expect
      .poll(() => messages(upstream))
      .toEqual([
        { opcode: PING, payload: 'ping' },
        { opcode: TEXT, payload: `say ${scene.lab.value()} now` },
      ]);
  });

  it('are remasked on the way back, binary ones at their length', async () => {
    const { child, upstream } = await open();
    const { lab } = scene;
    upstream.socket.write(frame(TEXT, `got ${lab.value().slice(0, 9)}`, { final: false }));
    upstream.socket.write(frame(0, `${lab.value().slice(9)}.`));
    upstream.socket.write(frame(BINARY, Buffer.from(`\0${lab.value()}\0`)));
    await expect
      .poll(() => messages(child))
      .toEqual([
        { opcode: TEXT, payload: `got ${lab.token()}.` },
        { opcode: BINARY, payload: `\0${lab.token().slice(0, lab.value().length)}\0` },
      ]);
  });

  it('end with the code and the reason of whoever closes', async () => {
    const { child, upstream } = await open();
    upstream.socket.write(frame(CLOSE, Buffer.concat([Buffer.from([0x0f, 0xa1]), Buffer.from(`bye ${scene.lab.value()}`)])));
    await expect.poll(() => messages(child)).toEqual([{ opcode: CLOSE, payload: `\x0f\xa1bye ${scene.lab.token()}` }]);
    child.socket.write(frame(CLOSE, Buffer.from([0x0f, 0xa1]), { masked: true }));
    await expect.poll(() => messages(upstream)).toEqual([{ opcode: CLOSE, payload: '\x0f\xa1' }]);
    upstream.socket.end();
    await child.closed();
    child.socket.destroy();
    await expect.poll(() => scene.lab.exchanges).toMatchObject([{ protocol: 'websocket', status: 101, error: null }]);
  });

  it.each(['child', 'upstream'] as const)('end on both sides when the %s breaks off', async (who) => {
    const both = await open();
    const other = who === 'child' ? both.upstream : both.child;
    (both[who].socket satisfies net.Socket).resetAndDestroy();
    await expect.poll(() => other.how).not.toBe('open');
    await expect.poll(() => scene.lab.exchanges).toMatchObject([{ status: 101 }]);
  });

  it('that break the rules of framing end the connection', async () => {
    const { child, upstream } = await open();
    child.socket.write(frame(TEXT, 'not masked'));
    await expect.poll(() => upstream.how).not.toBe('open');
    await child.closed();
    expect(messages(upstream)).toEqual([]);
  });
});
