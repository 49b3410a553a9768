// Programs that know of no proxy, in front of the doors of a sandbox: names, HTTP and TLS of real clients, and one host in all that they say.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import https from 'node:https';
import net from 'node:net';
import type { LookupFunction } from 'node:net';
import tls from 'node:tls';
import { afterEach, describe, expect, it } from 'vitest';
import { openDoors } from '../../src/proxy/doors.ts';
import { ProxyServer } from '../../src/proxy/server.ts';
import { CREDENTIAL, HAS_WIDE_LOOPBACK, Inside } from './inside.ts';
import { replyOf, type Lab } from './lab.ts';

const HOST = 'api.example.com';
const OTHER = 'evil.example.net';

let inside = new Inside();
afterEach(async () => {
  await inside.end();
  inside = new Inside();
});

function keysReceived({ received }: Lab): unknown[] {
  return received.map(({ headers }) => headers['x-api-key']);
}

describe.skipIf(!HAS_WIDE_LOOPBACK)('a client that knows of no proxy (needs all of 127.0.0.0/8)', () => {
  it('looks up a name and speaks HTTPS: its token is swapped', async () => {
    const lab = await inside.start(() => ({ secrets: [{ name: 'TOKEN', hosts: [HOST] }] }));
    const lookup: LookupFunction = (name, _options, callback) => {
      inside.resolve(name).then(
        (address) => {
          callback(null, [{ address, family: 4 }]);
        },
        () => {
          callback(new Error('no address'), []);
        },
      );
    };
    const at = { host: HOST, port: inside.secure, lookup, agent: false, ca: lab.authority.certificate };
    const request = https.request({ ...at, path: '/v1', headers: { 'x-api-key': lab.token() } });
    request.end();
    expect(await replyOf(request)).toMatchObject({ status: 200, text: 'ok' });
    expect(keysReceived(lab)).toEqual([lab.value()]);
    expect(lab.exchanges).toMatchObject([{ protocol: 'http/1.1', tls: true, host: HOST, port: inside.secure, path: '/v1', status: 200 }]);
  });

  it('speaks HTTP/2, as its upstream does', async () => {
    const lab = await inside.start(() => ({
      secrets: [{ name: 'TOKEN', hosts: [HOST] }],
      serveHttp2: (stream, headers) => {
        stream.respond({ ':status': 200 });
        stream.end(headers['x-api-key'] === lab.value() ? 'swapped' : 'not swapped');
      },
    }));
    const authority = `${HOST}:${String(inside.secure)}`;
    const answer = await inside.stream(HOST, { ':path': '/', ':authority': authority, 'x-api-key': lab.token() });
    expect(answer).toMatchObject({ status: 200, text: 'swapped' });
    expect(lab.exchanges).toMatchObject([{ protocol: 'h2', host: HOST }]);
  });

  it('speaks HTTP in the clear', async () => {
    const lab = await inside.start(({ plain }) => ({ secrets: [{ name: 'TOKEN', hosts: [`${HOST}:${String(plain)}`] }] }));
    const headers = { host: `${HOST}:${String(inside.plain)}`, 'x-api-key': lab.token() };
    expect(await inside.ask(await inside.dial(HOST, inside.plain), headers)).toMatchObject({ status: 200, text: 'ok' });
    expect(keysReceived(lab)).toEqual([lab.value()]);
  });

  it('speaks TLS without naming anybody: the address says who is meant', async () => {
    const lab = await inside.start();
    const socket = await inside.secured(HOST, { serverName: '' });
    expect(await inside.ask(socket, { host: HOST })).toMatchObject({ status: 200 });
    expect(lab.exchanges).toMatchObject([{ host: HOST, status: 200 }]);
  });

  it('is told what would allow a request, and what is forbidden', async () => {
    await inside.start(() => ({ rules: [{ allow: true, host: HOST, path: '/public' }] }));
    const refusal = await inside.ask(await inside.secured(HOST), { host: HOST }, '/private');
    expect(refusal).toMatchObject({ status: 403, headers: { 'x-kz-error': 'denied' } });
    expect(refusal.text).toContain(`host = "${HOST}"`);
  });

  it('has five hundred connections at the same time', async () => {
    const lab = await inside.start();
    const address = await inside.resolve(HOST);
    const asked = Array.from({ length: 500 }, async () => inside.ask(await inside.dial(address, inside.plain), { host: HOST }));
    expect((await Promise.all(asked)).filter(({ status }) => status === 200)).toHaveLength(500);
    expect(lab.exchanges).toHaveLength(500);
  });
});

describe.skipIf(!HAS_WIDE_LOOPBACK)('one host: address, TLS and request (needs all of 127.0.0.0/8)', () => {
  it('another name in TLS is 421, under a certificate for the name that was asked for', async () => {
    const lab = await inside.start();
    const socket = await inside.secured(HOST, { serverName: OTHER });
    expect(await inside.ask(socket, { host: OTHER })).toMatchObject({ status: 421, headers: { 'x-kz-error': 'host-mismatch' } });
    const again = await inside.secured(HOST, { serverName: OTHER });
    expect(await inside.ask(again, { host: HOST })).toMatchObject({ status: 421 });
    expect(lab.received).toEqual([]);
    expect(lab.exchanges).toMatchObject([
      { host: HOST, decision: 'blocked', why: 'host-mismatch' },
      { host: HOST, decision: 'blocked', why: 'host-mismatch' },
    ]);
  });

  it('another Host is 421, in TLS and in the clear', async () => {
    const lab = await inside.start();
    expect(await inside.ask(await inside.secured(HOST), { host: OTHER })).toMatchObject({ status: 421 });
    expect(await inside.ask(await inside.dial(HOST, inside.plain), { host: OTHER })).toMatchObject({ status: 421 });
    expect(await inside.ask(await inside.dial(HOST, inside.plain), { host: `${HOST}:1` })).toMatchObject({ status: 421 });
    expect(lab.received).toEqual([]);
  });

  it('another :authority is 421', async () => {
    const lab = await inside.start(() => ({
      serveHttp2: (stream) => {
        stream.respond({ ':status': 200 });
        stream.end('reached');
      },
    }));
    const answer = await inside.stream(HOST, { ':path': '/', ':authority': OTHER });
    expect(answer).toMatchObject({ status: 421, code: 'host-mismatch' });
    expect(lab.exchanges).toMatchObject([{ host: HOST, why: 'host-mismatch' }]);
  });

  it('a name for the address of another is 421: addresses are never shared', async () => {
    await inside.start();
    const [first, second] = [await inside.resolve(HOST), await inside.resolve('b.example.com')];
    expect(first).not.toBe(second);
    expect(await inside.ask(await inside.dial(second, inside.plain), { host: HOST })).toMatchObject({ status: 421 });
  });
});

describe('an address that no name stands behind', () => {
  const LITERAL = '203.0.112.9';
  const start = (rules: boolean) =>
    inside.start(({ plain, secure }) => ({
      dialled: LITERAL,
      doors: { reach: 'any' },
      ...(rules ? { rules: [plain, secure].map((port) => ({ allow: true, host: LITERAL, port })) } : {}),
    }));

  it('is decided as that address', async () => {
    const lab = await start(true);
    expect(await inside.ask(await inside.dial('127.0.0.1', inside.plain), { host: LITERAL })).toMatchObject({ status: 200 });
    expect(lab.exchanges).toMatchObject([{ host: LITERAL, port: inside.plain, why: 'rule' }]);
  });

  it('takes no name in TLS or Host but its own', async () => {
    const lab = await start(false);
    expect(await inside.ask(await inside.dial('127.0.0.1', inside.plain), { host: HOST })).toMatchObject({ status: 421 });
    const socket = tls.connect({
      socket: await inside.dial('127.0.0.1', inside.secure),
      ca: lab.authority.certificate,
      servername: OTHER,
    });
    expect(await inside.ask(socket, { host: LITERAL })).toMatchObject({ status: 421 });
    expect(lab.received).toEqual([]);
  });

  it.each(['169.254.169.254', '10.0.0.1', '192.168.1.1'])('%s needs a rule that names it, as ever', async (dialled) => {
    const lab = await inside.start(() => ({ dialled, doors: { reach: 'any' } }));
    const reply = await inside.ask(await inside.dial('127.0.0.1', inside.plain), { host: dialled });
    expect(reply).toMatchObject({ status: 403, headers: { 'x-kz-error': 'address-forbidden' } });
    expect(lab.exchanges).toMatchObject([{ host: dialled, why: 'address-forbidden' }]);
  });
});

describe('the door of the proxy', () => {
  const connect = async (login: string): Promise<string> => {
    const wire = await inside.wire('127.0.0.1', inside.proxyPort);
    wire.socket.write(`CONNECT ${HOST}:443 HTTP/1.1\r\nHost: ${HOST}\r\n${login}\r\n`);
    await wire.until('\r\n\r\n');
    return wire.text.slice(0, 12);
  };
  const basic = (password: string) => `Proxy-Authorization: Basic ${Buffer.from(`kz:${password}`).toString('base64')}\r\n`;

  it('asks nobody for a credential, and takes no wrong one', async () => {
    const lab = await inside.start();
    expect(await connect('')).toBe('HTTP/1.1 200');
    expect(await connect(basic(CREDENTIAL))).toBe('HTTP/1.1 200');
    expect(await connect(basic('wrong'))).toBe('HTTP/1.1 407');
    expect(lab.events).toMatchObject([{ type: 'refused', why: 'no-credential' }]);
  });

  it('forwards, in the clear and inside of CONNECT', async () => {
    const lab = await inside.start();
    const plain = await inside.dial('127.0.0.1', inside.proxyPort);
    expect(await inside.ask(plain, { host: `${HOST}:${String(inside.plain)}` }, `http://${HOST}:${String(inside.plain)}/x`)).toMatchObject({
      status: 200,
    });
    const wire = await inside.dial('127.0.0.1', inside.proxyPort);
    wire.write(`CONNECT ${HOST}:${String(inside.secure)} HTTP/1.1\r\nHost: ${HOST}\r\n\r\n`);
    await once(wire, 'data');
    const socket = tls.connect({ socket: wire, ca: lab.authority.certificate, servername: HOST });
    expect(await inside.ask(socket, { host: HOST })).toMatchObject({ status: 200 });
    expect(lab.received.map(({ url }) => url)).toEqual(['/x', '/']);
  });
});

it('takes servers and a name server that another process opened', async () => {
  const lab = await inside.start(() => ({ doors: { reach: 'any' } }));
  const code = `
    const { createServer } = require('node:net');
    for (const name of ['proxy', 'direct']) {
      const server = createServer().listen(0, '127.0.0.1', () => process.send(name, server, () => server.close()));
    }
    const socket = require('node:dgram').createSocket('udp4').bind(0, '127.0.0.1', () => process.send('dns', socket, () => socket.close()));
    process.once('message', () => process.disconnect());
  `;
  const helper = spawn(process.execPath, ['-e', code], { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] });
  const passed = new Map<unknown, unknown>();
  while (passed.size < 3) {
    const [name, handle] = (await once(helper, 'message')) as [unknown, unknown];
    passed.set(name, handle);
  }
  helper.send('done');
  const [front, direct] = [passed.get('proxy'), passed.get('direct')];
  if (!(front instanceof net.Server) || !(direct instanceof net.Server)) throw new Error('no servers came');
  const dns = passed.get('dns') as import('node:dgram').Socket;
  const proxy = ProxyServer.behind(lab.session, { credential: CREDENTIAL });
  const doors = openDoors(lab.session, proxy, { proxy: front, direct: [direct], dns, loopback: [] }, { reach: 'any' });
  const resolver = inside.resolver;
  resolver.setServers([`127.0.0.1:${String(dns.address().port)}`]);
  expect(await resolver.resolve4(HOST)).toEqual(['198.18.0.1']);
  const socket = await inside.dial('127.0.0.1', doors.proxyPort);
  expect(await inside.ask(socket, { host: HOST }, `http://${HOST}/`)).toMatchObject({ status: 200 });
  doors.close();
  await proxy.close();
  await expect(resolver.resolve4(HOST)).rejects.toThrow();
});
