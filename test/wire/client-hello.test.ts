// What real clients send first, hellos made by hand, and what a hostile client could send instead. Node's TLS server is the oracle.
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { createServer, connect as connectTcp, type AddressInfo, type Socket } from 'node:net';
import { connect, createServer as createTlsServer, type ConnectionOptions } from 'node:tls';
import { expect, it } from 'vitest';
import { parseClientHello } from '../../src/wire/client-hello.ts';
import { CAPTURED } from './captured-hellos.ts';

it.each(CAPTURED)('reads the hello of $client, and is patient until its last byte', ({ bytes, serverName, protocols }) => {
  expect(parseClientHello(bytes)).toEqual({ state: 'ok', serverName, protocols });
  for (let end = 0; end < bytes.length; end++) expect(parseClientHello(bytes.subarray(0, end))).toEqual({ state: 'incomplete' });
});

it.each(CAPTURED)('reads the hello of $client out of records of any size', ({ bytes, serverName, protocols }) => {
  const message = bytes.subarray(5);
  for (const size of [1, 2, 3, 4, 5, 7, 64, 255, 256]) {
    expect(parseClientHello(records(message, size))).toEqual({ state: 'ok', serverName, protocols });
  }
  for (let at = 1; at < message.length; at++) {
    const two = Buffer.concat([record(message.subarray(0, at)), record(message.subarray(at))]);
    expect(parseClientHello(two)).toEqual({ state: 'ok', serverName, protocols });
    expect(parseClientHello(two.subarray(0, -1))).toEqual({ state: 'incomplete' });
  }
});

it.each(CAPTURED)('ignores what follows the hello of $client', ({ bytes, serverName, protocols }) => {
  expect(parseClientHello(Buffer.concat([bytes, Buffer.from('GET / HTTP/1.1')]))).toEqual({ state: 'ok', serverName, protocols });
  const sameRecord = record(Buffer.concat([bytes.subarray(5), Buffer.from('more')]));
  expect(parseClientHello(sameRecord)).toEqual({ state: 'ok', serverName, protocols });
});

it.each(CAPTURED)('reads the same names as Node in the hello of $client', async ({ bytes }) => {
  const hello = parseClientHello(bytes);
  const seen = await readByNode(bytes);
  expect(hello).toEqual({ state: 'ok', serverName: seen.serverName, protocols: seen.protocols });
});

it.each<[string, ConnectionOptions, string | undefined, string[]]>([
  ['nothing', {}, undefined, []],
  ['SNI', { servername: 'xn--bcher-kva.example' }, 'xn--bcher-kva.example', []],
  ['ALPN', { ALPNProtocols: ['h2', 'http/1.1'] }, undefined, ['h2', 'http/1.1']],
  ['both', { servername: 'api.github.com', ALPNProtocols: ['http/1.1'] }, 'api.github.com', ['http/1.1']],
])('reads what this Node sends: %s', async (_name, options, serverName, protocols) => {
  const bytes = await firstBytes((port) => {
    connect({ host: '127.0.0.1', port, ...options }).on('error', () => undefined);
  });
  expect(parseClientHello(bytes)).toEqual({ state: 'ok', serverName, protocols });
});

it.each([
  [
    'curl',
    (port: number) => [
      '-sk',
      '--noproxy',
      '*',
      '--connect-to',
      `www.example.org:443:127.0.0.1:${String(port)}`,
      'https://www.example.org/',
    ],
  ],
  ['openssl', (port: number) => ['s_client', '-connect', `127.0.0.1:${String(port)}`, '-servername', 'www.example.org']],
])('reads what the %s of this machine sends', async (command, args) => {
  const bytes = await firstBytes((port) => execFile(command, args(port), () => undefined).once('error', () => undefined).pid !== undefined);
  if (bytes.length === 0) return;
  expect(parseClientHello(bytes)).toMatchObject({ state: 'ok', serverName: 'www.example.org' });
});

it('needs no extensions, as before TLS 1.3', () => {
  expect(parseClientHello(record(hello({ extensions: undefined })))).toEqual({ state: 'ok', serverName: undefined, protocols: [] });
});

it('passes over GREASE, in extensions and in protocols', () => {
  const extensions = [
    [0x0a0a, ''],
    [0, sni('a.example')],
    [0xfafa, '\0'],
    [16, alpn('\x8a\x8a', 'h2', '\x0a\x1a')],
  ] as const;
  expect(parseClientHello(record(hello({ extensions })))).toEqual({ state: 'ok', serverName: 'a.example', protocols: ['h2', '\x0a\x1a'] });
});

it('hands on a hostile name as it is, for others to refuse', () => {
  const name = 'api.x.com\0.evil.com';
  expect(parseClientHello(record(hello({ extensions: [[0, sni(name)]] })))).toMatchObject({ serverName: name });
});

it('skips names of other kinds', () => {
  const extensions = [[0, length(2, `\x07${length(2, 'other')}\0${length(2, 'a.example')}`)]] as const;
  expect(parseClientHello(record(hello({ extensions })))).toMatchObject({ serverName: 'a.example' });
});

it.each([
  [
    'two SNI extensions',
    hello({
      extensions: [
        [0, sni('a.example')],
        [0, sni('b.example')],
      ],
    }),
  ],
  ['two host names', hello({ extensions: [[0, length(2, `\0${length(2, 'a.example')}\0${length(2, 'b.example')}`)]] })],
  ['an empty host name', hello({ extensions: [[0, sni('')]] })],
  ['an empty SNI extension', hello({ extensions: [[0, '']] })],
  ['an empty list of names', hello({ extensions: [[0, length(2, '')]] })],
  ['bytes behind the list of names', hello({ extensions: [[0, `${sni('a.example')}x`]] })],
  [
    'two ALPN extensions',
    hello({
      extensions: [
        [16, alpn('h2')],
        [16, alpn('h2')],
      ],
    }),
  ],
  ['an empty protocol', hello({ extensions: [[16, alpn('h2', '')]] })],
  ['no protocols', hello({ extensions: [[16, alpn()]] })],
  ['a protocol longer than its list', hello({ extensions: [[16, length(2, '\x09h2')]] })],
  ['bytes behind the extensions', hello({ extensions: [[0, sni('a.example')]], after: 'x' })],
  ['a session id of 33 bytes', hello({ session: 'x'.repeat(33) })],
  ['no cipher suites', hello({ suites: '' })],
  ['half a cipher suite', hello({ suites: '\x13\x01\x13' })],
  ['no compression methods', hello({ compression: '' })],
  ['another message', Buffer.concat([Buffer.from([2]), hello({}).subarray(1)])],
  ['a hello cut short', Buffer.from([1, 0, 0, 2, 3, 3])],
])('calls %s invalid', (_name, message) => {
  expect(parseClientHello(record(message))).toEqual({ state: 'invalid' });
  expect(parseClientHello(records(message, 1))).toEqual({ state: 'invalid' });
});

it.each([
  ['HTTP', Buffer.from('GET / HTTP/1.1\r\n')],
  ['an alert', Buffer.from([21, 3, 1, 0, 2, 2, 40])],
  ['another version', Buffer.from([22, 2, 0, 0, 5])],
  ['an empty record', Buffer.from([22, 3, 1, 0, 0])],
  ['a record of more than 16 KiB', Buffer.from([22, 3, 1, 0x40, 1])],
  ['an alert between two records', Buffer.concat([record(hello({}).subarray(0, 20)), Buffer.from([21, 3, 1, 0, 2, 2, 40])])],
  [
    'an empty record between two',
    Buffer.concat([record(hello({}).subarray(0, 20)), record(Buffer.alloc(0)), record(hello({}).subarray(20))]),
  ],
  ['an announced hello of 64 KiB and a byte', record(Buffer.from([1, 1, 0, 1]))],
])('calls %s invalid as soon as it shows', (_name, bytes) => {
  expect(parseClientHello(bytes)).toEqual({ state: 'invalid' });
});

it('takes a hello of nearly 64 KiB, and none that takes more bytes than that', () => {
  const big = hello({
    extensions: [
      [0, sni('a.example')],
      [0x1234, 'x'.repeat(60_000)],
    ],
  });
  expect(parseClientHello(records(big, 2 ** 14))).toMatchObject({ state: 'ok', serverName: 'a.example' });
  const drip = records(big, 10);
  expect(parseClientHello(drip)).toEqual({ state: 'invalid' });
  expect(parseClientHello(drip.subarray(0, 65_535))).toEqual({ state: 'incomplete' });
  expect(parseClientHello(drip.subarray(0, 65_560))).toEqual({ state: 'invalid' });
});

it('never throws and never waits for more than it may, whatever byte is changed', () => {
  const bytes = record(
    hello({
      extensions: [
        [0, sni('a.example')],
        [16, alpn('h2')],
      ],
    }),
  );
  for (let at = 0; at < bytes.length; at++) {
    for (const value of [0, 1, 0x7f, 0xff]) {
      const changed = Buffer.from(bytes);
      changed[at] = value;
      expect(['ok', 'invalid', 'incomplete']).toContain(parseClientHello(changed).state);
      expect(parseClientHello(Buffer.concat([changed, Buffer.alloc(70_000)])).state).not.toBe('incomplete');
    }
  }
});

interface HelloParts {
  readonly session?: string;
  readonly suites?: string;
  readonly compression?: string;
  readonly extensions?: readonly (readonly [type: number, body: string])[] | undefined;
  readonly after?: string;
}

/** A hello by hand; its text is latin1. */
function hello(parts: HelloParts): Buffer {
  const { session = '', suites = '\x13\x01', compression = '\0', after = '' } = parts;
  const list = parts.extensions?.map(([type, body]) => integer(2, type) + length(2, body)).join('');
  const extensions = list === undefined ? '' : length(2, list);
  const body = `\x03\x03${'r'.repeat(32)}${length(1, session)}${length(2, suites)}${length(1, compression)}${extensions}${after}`;
  return Buffer.from(`\x01${length(3, body)}`, 'latin1');
}

function sni(name: string): string {
  return length(2, `\0${length(2, name)}`);
}

function alpn(...names: string[]): string {
  return length(2, names.map((name) => length(1, name)).join(''));
}

function length(size: number, text: string): string {
  return integer(size, text.length) + text;
}

function integer(size: number, value: number): string {
  const bytes = Buffer.alloc(size);
  bytes.writeUIntBE(value, 0, size);
  return bytes.toString('latin1');
}

function record(fragment: Uint8Array): Buffer {
  return Buffer.concat([Buffer.from([22, 3, 1, fragment.length >> 8, fragment.length & 255]), fragment]);
}

function records(message: Uint8Array, size: number): Buffer {
  const fragments: Buffer[] = [];
  for (let at = 0; at < message.length; at += size) fragments.push(record(message.subarray(at, at + size)));
  return Buffer.concat(fragments);
}

/** What a client sends before anybody answers; nothing when it could not be started. */
async function firstBytes(start: (port: number) => unknown): Promise<Buffer> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  try {
    const accepted = once(server, 'connection') as Promise<[Socket]>;
    if (start((server.address() as AddressInfo).port) === false) return Buffer.alloc(0);
    const [socket] = await accepted;
    let bytes = Buffer.alloc(0);
    for await (const chunk of socket as AsyncIterable<Buffer>) {
      bytes = Buffer.concat([bytes, chunk]);
      if (parseClientHello(bytes).state !== 'incomplete') break;
    }
    return bytes;
  } finally {
    server.close();
  }
}

async function readByNode(bytes: Buffer): Promise<{ serverName: string | undefined; protocols: string[] }> {
  let serverName: string | undefined;
  let protocols: string[] = [];
  const server = createTlsServer({
    SNICallback: (name, done) => {
      serverName = name;
      done(null);
    },
    ALPNCallback: (offer) => {
      protocols = offer.protocols;
      if (offer.servername) serverName = offer.servername;
      return undefined;
    },
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const socket = connectTcp((server.address() as AddressInfo).port, '127.0.0.1').resume();
  socket.on('error', () => undefined);
  socket.write(bytes);
  await once(server, 'tlsClientError');
  socket.destroy();
  server.close();
  return { serverName, protocols };
}
