// The whole way of a token, with nothing made up: a bundle, a server with all its faces, a JWT, and an upstream with TLS on loopback.
import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import http from 'node:http';
import https from 'node:https';
import net, { type AddressInfo } from 'node:net';
import tls from 'node:tls';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Authority } from '../../../src/proxy/authority.ts';
import type { RunningServer } from '../../../src/server/serve.ts';
import { replyOf, type Reply } from '../../proxy/lab.ts';
import { post, ServeLab, urlOf } from '../serve-lab.ts';

const outside = Authority.create();
let lab: ServeLab;
let upstream: https.Server;
let received: http.IncomingHttpHeaders[];
let sockets: net.Socket[];

beforeEach(async () => {
  received = [];
  sockets = [];
  upstream = https.createServer(
    {
      SNICallback: (name, done) => {
        done(null, outside.contextFor(name));
      },
    },
    ({ headers }: http.IncomingMessage, response) => {
      received.push(headers);
      response.end(`you are ${headers.authorization ?? 'nobody'}`);
    },
  );
  await new Promise<void>((resolve) => upstream.listen(0, '127.0.0.1', resolve));
  lab = new ServeLab();
  writeFileSync(lab.path('outside.pem'), outside.certificate);
  lab.writeBundle(...TO_LOOPBACK());
});

afterEach(async () => {
  for (const socket of sockets) socket.destroy();
  await lab.end();
  upstream.closeAllConnections();
  upstream.close();
});

function authority(): string {
  return `localhost:${String((upstream.address() as AddressInfo).port)}`;
}

type Change = readonly [string, string];

const TO_LOOPBACK = (): Change[] => [
  ['hosts: [api.example.com]', `hosts: ["${authority()}"]`],
  [
    '  - { ref: a/value,',
    `  - { ref: a/signed, resolver: file, from: ONE, hosts: ["${authority()}"], methods: [GET], mode: short_lived }\n  - { ref: a/value,`,
  ],
];

async function start(env: Readonly<Record<string, string>> = {}): Promise<RunningServer> {
  const { context } = lab.options();
  const own = { ...context, env: { ...context.env, SSL_CERT_FILE: lab.path('outside.pem'), ...env } };
  return lab.start({ proxy: '127.0.0.1:0', proxyCaFile: lab.path('proxy.pem'), context: own });
}

/** With which any number of servers work as one. */
function sharedKeys(): Record<string, string> {
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  writeFileSync(lab.path('signing.pem'), privateKey.export({ type: 'pkcs8', format: 'pem' }), { mode: 0o600 });
  writeFileSync(lab.path('token.key'), `${randomBytes(32).toString('base64')}\n`, { mode: 0o600 });
  return { KEYZERO_SIGNING_KEY_PATH: lab.path('signing.pem'), KEYZERO_TOKEN_KEY_PATH: lab.path('token.key') };
}

async function resolve(server: RunningServer, resource = 'a/masked', jwt = lab.jwt()): Promise<string> {
  const { json } = await post(server, '/v1/resolve', { resource }, jwt);
  const token = Object.values((json as Answer).results ?? {})[0]?.token;
  if (token === undefined) throw new Error(JSON.stringify(json));
  return token;
}

interface Answer {
  readonly results?: Readonly<Record<string, { readonly token?: string }>>;
}

async function open(server: RunningServer, credential: string): Promise<tls.TLSSocket | string> {
  const socket = net.connect(Number(new URL(urlOf(server, 'proxy: ')).port), '127.0.0.1');
  sockets.push(socket);
  socket.on('error', () => undefined);
  const login = Buffer.from(`kz:${credential}`).toString('base64');
  socket.write(`CONNECT ${authority()} HTTP/1.1\r\nHost: ${authority()}\r\nProxy-Authorization: Basic ${login}\r\n\r\n`);
  const head = await new Promise<string>((done) => {
    socket.once('data', (bytes: Buffer) => {
      done(bytes.toString('latin1'));
    });
  });
  if (!head.startsWith('HTTP/1.1 200')) return head;
  const secure = tls.connect({
    socket,
    ca: readFileSync(lab.path('proxy.pem'), 'utf8'),
    servername: 'localhost',
    ALPNProtocols: ['http/1.1'],
  });
  sockets.push(secure);
  await new Promise<void>((done, fail) => {
    secure.once('secureConnect', done);
    secure.once('error', fail);
  });
  return secure;
}

async function use(on: tls.TLSSocket | string, token: string): Promise<Reply> {
  if (typeof on === 'string') throw new Error(on);
  const request = http.request({
    createConnection: () => on,
    path: '/user?page=1',
    setHost: false,
    headers: { host: authority(), connection: 'keep-alive', authorization: `Bearer ${token}` },
  });
  request.end();
  return replyOf(request);
}

async function reload(server: RunningServer, ...changes: readonly Change[]): Promise<void> {
  lab.told.splice(0);
  lab.writeBundle(...TO_LOOPBACK(), ...changes);
  server.reload();
  await expect.poll(() => lab.texts()).toContain('anew');
}

function codeOf({ status, headers }: Reply): unknown[] {
  return [status, headers['x-kz-error']];
}

describe('a masked token', () => {
  it('is resolved, used through the proxy, and becomes itself again in the answer', async () => {
    const server = await start();
    const token = await resolve(server);
    expect(token).toMatch(/^KZ_TOK_/);
    const reply = await use(await open(server, lab.jwt()), token);
    expect([reply.status, reply.text]).toEqual([200, `you are Bearer ${token}`]);
    expect(received[0]?.authorization).toBe(`Bearer ${lab.value}`);
    await expect.poll(() => lab.decisions.length).toBe(2);
    const common = {
      outcome: 'allowed',
      code: null,
      issuer: 'lab',
      sub: 'me',
      jti: 'one',
      ref: 'a/masked',
      mode: 'masked',
      policy: 'reads',
    };
    expect(lab.decisions).toMatchObject([
      { ...common, face: 'http', tool: 'resolve' },
      { ...common, face: 'proxy', tool: 'proxy', host: 'localhost', method: 'GET', path: '/user' },
    ]);
    const log = JSON.stringify(lab.lines);
    for (const hidden of [lab.value, token, lab.jwt().split('.')[2] ?? '']) expect(log).not.toContain(hidden);
  });

  it('is of no use once a bundle without its policy is there, on the connection that was open too', async () => {
    const server = await start();
    const token = await resolve(server);
    const connection = await open(server, lab.jwt());
    expect((await use(connection, token)).status).toBe(200);
    await reload(server, ["ref.matches('a/**')", "ref.matches('b/**')"]);
    expect(codeOf(await use(connection, token))).toEqual([403, 'denied']);
    expect(received).toHaveLength(1);
    await expect
      .poll(() => lab.decisions.filter(({ outcome }) => outcome === 'denied'))
      .toMatchObject([{ face: 'proxy', tool: 'proxy', ref: 'a/masked', code: 'denied', policy: 'default-deny', host: 'localhost' }]);
  });

  it('is of no use once its issuer is another one, or its resource has other hosts', async () => {
    const server = await start();
    const token = await resolve(server);
    const connection = await open(server, lab.jwt());
    expect((await use(connection, token)).status).toBe(200);
    await reload(server, ['issuer_url: https://issuer.test', 'issuer_url: https://other.test']);
    expect(codeOf(await use(connection, token))).toEqual([401, 'issuer-unknown']);
    await reload(server);
    const again = await open(server, lab.jwt());
    expect((await use(again, token)).status).toBe(200);
    await reload(server, [
      `ref: a/masked, resolver: file, from: ONE, hosts: ["${authority()}"]`,
      'ref: a/masked, resolver: file, from: ONE, hosts: [api.example.com]',
    ]);
    expect(codeOf(await use(again, token))).toEqual([403, 'url-forbidden']);
    expect(received).toHaveLength(2);
  });

  it('is its caller’s alone', async () => {
    const server = await start();
    const token = await resolve(server);
    const reply = await use(await open(server, lab.jwt({ sub: 'you', jti: 'two' })), token);
    expect([codeOf(reply), received]).toEqual([[403, 'token-invalid'], []]);
  });
});

describe('a short-lived token', () => {
  it('is not signed without a key', async () => {
    const { status, json } = await post(await start(), '/v1/resolve', { resource: 'a/signed' }, lab.jwt());
    expect([status, json]).toMatchObject([403, { code: 'mode-forbidden' }]);
  });

  it('is put in place of the credential, and is a credential of the proxy too', async () => {
    const server = await start(sharedKeys());
    const token = await resolve(server, 'a/signed');
    for (const credential of [lab.jwt(), token]) {
      const reply = await use(await open(server, credential), token);
      expect([reply.status, reply.text]).toEqual([200, `you are Bearer ${token}`]);
    }
    expect(received.map(({ authorization }) => authorization)).toEqual([`Bearer ${lab.value}`, `Bearer ${lab.value}`]);
  });

  it('is no JWT of a caller: neither over HTTP nor over MCP', async () => {
    const server = await start(sharedKeys());
    const token = await resolve(server, 'a/signed');
    expect(await post(server, '/v1/resolve', { resource: 'a/value' }, token)).toMatchObject({
      status: 401,
      json: { code: 'issuer-unknown' },
    });
    const call = { name: 'resolve', arguments: { resource: 'a/masked' } };
    const answer = await fetch(`${urlOf(server)}/mcp`, {
      method: 'POST',
      headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json', accept: 'application/json, text/event-stream' },
      body: JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'tools/call', params: call }),
    });
    const text = await answer.text();
    expect(text).not.toContain('KZ_TOK_');
    expect([answer.status >= 400 || text.includes('isError'), text.includes(lab.value)]).toEqual([true, false]);
  });

  it('is of no use when its issuer left the bundle', async () => {
    const server = await start(sharedKeys());
    const token = await resolve(server, 'a/signed');
    await reload(server, ['issuer_url: https://issuer.test', 'issuer_url: https://other.test']);
    expect(codeOf(await use(await open(server, token), token))).toEqual([401, 'issuer-unknown']);
  });

  it('says who calls on every server that shares both keys, and on no other', async () => {
    const keys = sharedKeys();
    const token = await resolve(await start(keys), 'a/signed');
    const replica = await start(keys);
    expect((await use(await open(replica, token), token)).status).toBe(200);
    const { KEYZERO_SIGNING_KEY_PATH = '' } = keys;
    const alone = await start({ KEYZERO_SIGNING_KEY_PATH });
    expect(await open(alone, token)).toMatch(/^HTTP\/1\.1 407 /);
    // The JWT of the caller itself still is one.
    expect((await use(await open(alone, lab.jwt()), token)).status).toBe(200);
    const stranger = await start({ ...sharedKeys() });
    expect(codeOf(await use(await open(stranger, lab.jwt()), token))).toEqual([403, 'token-invalid']);
  });
});
