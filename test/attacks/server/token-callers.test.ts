// What a caller tries whose time is over, or who sends what stands for somebody else: JWTs, and tokens that are JWTs.
import { generateKeyPairSync } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import http from 'node:http';
import type net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { ShortLived } from '../../../src/server/tokens/short-lived.ts';
import { replyOf } from '../../proxy/lab.ts';
import { basic, TokenLab, type TokenLabOptions } from '../../server/tokens/token-lab.ts';

const HOST = 'https://api.github.com';
const MINUTE_MS = 60_000;
let lab: TokenLab | undefined;
let folder: string | undefined;

afterEach(async () => {
  await lab?.close();
  lab = undefined;
  if (folder !== undefined) rmSync(folder, { recursive: true });
  folder = undefined;
});

async function start(options: TokenLabOptions = {}): Promise<TokenLab> {
  lab = await TokenLab.start(options);
  return lab;
}

function bearer(token: string): { headers: { authorization: string } } {
  return { headers: { authorization: `Bearer ${token}` } };
}

describe('a connection that was opened with a JWT', () => {
  it('ends its use when the JWT is not taken any more', async () => {
    let time = Date.now();
    const open = await start({ now: () => time });
    const token = await open.token();
    const socket = await open.tunnel('api.github.com:443');
    expect((await open.ask(`${HOST}/user`, bearer(token), socket)).status).toBe(200);
    open.callers.delete('alice');
    time += MINUTE_MS + 1;
    const reply = await open.ask(`${HOST}/user`, bearer(token), socket);
    expect([reply.status, reply.headers['x-kz-error'], open.upstream.received.length]).toEqual([401, 'jwt-invalid', 1]);
  });

  it('is of whom the JWT means now', async () => {
    let time = Date.now();
    const open = await start({ now: () => time });
    const seen: string[] = [];
    open.policy = ({ identity }) => {
      seen.push(identity.actor);
      return true;
    };
    const token = await open.token();
    const socket = await open.tunnel('api.github.com:443');
    await open.ask(`${HOST}/user`, bearer(token), socket);
    const alice = open.callers.get('alice');
    if (alice === undefined) throw new Error('alice is gone');
    open.callers.set('alice', { ...alice, identity: { ...alice.identity, actor: 'alice of another map' } });
    time += MINUTE_MS + 1;
    expect((await open.ask(`${HOST}/user`, bearer(token), socket)).status).toBe(200);
    expect(seen).toEqual(['alice', 'alice of another map']);
  });

  it('carries nothing whose body came when the JWT was over', async () => {
    let time = Date.now();
    const open = await start({ now: () => time });
    const token = await open.token();
    open.add('carol', time + 1000);
    const carols = await open.seal.seal({ ref: 'github/pat', issuer: 'lab', sub: 'carol', expiresAt: time + MINUTE_MS });
    const socket = await open.tunnel('api.github.com:443', 'carol');
    const request = http.request({
      createConnection: () => socket,
      method: 'POST',
      path: '/user',
      setHost: false,
      headers: { host: 'api.github.com', 'content-type': 'application/json', 'content-length': 2, authorization: `Bearer ${carols}` },
    });
    const reply = replyOf(request);
    const before = open.decisions.length;
    request.write('{');
    await new Promise((resolve) => setTimeout(resolve, 50));
    time += 2000;
    request.end('}');
    const { status, headers } = await reply;
    expect([status, headers['x-kz-error'], open.decisions.length, token === '']).toEqual([401, 'jwt-expired', before, false]);
  });
});

describe('a token', () => {
  const JSON_TYPE = { 'content-type': 'application/json' };
  const twice = (text: string): string => Buffer.from(Buffer.from(text).toString('base64')).toString('base64');

  it.each<[how: string, spell: (token: string) => { path?: string; headers?: http.OutgoingHttpHeaders; body?: string }]>([
    ['escaped in a query', (token) => ({ path: `/a?access_token=${token.replaceAll('_', '%5F')}` })],
    ['escaped in JSON', (token) => ({ headers: JSON_TYPE, body: `{"password":"\\u004b${token.slice(1)}"}` })],
    ['in other case', (token) => ({ headers: { authorization: `Bearer ${token.replace('KZ_TOK_', 'kz_tok_')}` } })],
    ['in base64 of base64', (token) => ({ headers: { authorization: `Basic ${twice(`${token}:x`)}` } })],
    ['backwards', (token) => ({ headers: { 'x-api-key': Array.from(token).reverse().join('') } })],
    ['in two halves', (token) => ({ headers: { 'x-api-key': token.slice(0, 5), 'x-auth-token': token.slice(5) } })],
    ['in a header that the connection keeps', (token) => ({ headers: { connection: 'x-api-key', 'x-api-key': token } })],
  ])('%s stands for nothing', async (_how, spell) => {
    const open = await start();
    const { path = '/a', ...asked } = spell(await open.token());
    expect((await open.ask(HOST + path, { method: 'POST', ...asked })).status).toBe(200);
    const [received] = open.upstream.received;
    const text = `${received?.url ?? ''} ${JSON.stringify(received?.headers)} ${received?.body.toString() ?? ''}`;
    expect([open.fetched, text.includes('CANARY'), twice(text).includes(twice(open.value()))]).toEqual([0, false, false]);
  });

  it('that is none, beside a good one, lets nothing through, and no backend is asked', async () => {
    const open = await start();
    const [good, theirs] = [await open.token(), await open.token('github/pat', 'bob')];
    const wrong = good.slice(0, -1) + (good.endsWith('A') ? 'Q' : 'A');
    for (const bad of [wrong, `KZ_TOK_KZ_TOK_${good}`, good.slice(0, -1), 'KZ_TOK_']) {
      const reply = await open.ask(`${HOST}/a`, { headers: { authorization: `Bearer ${good}`, cookie: `a=${good}; b=${bad}` } });
      expect([reply.status, reply.headers['x-kz-error'], open.fetched], bad).toEqual([403, 'token-invalid', 0]);
    }
    const reply = await open.ask(`${HOST}/a`, { headers: { authorization: `Bearer ${good}`, 'x-api-key': theirs } });
    expect([reply.status, reply.headers['x-kz-error'], open.upstream.received]).toEqual([403, 'token-invalid', []]);
  });
});

describe('policies about paths', () => {
  it('see the path as every server reads it, or none', async () => {
    const open = await start();
    const paths: string[] = [];
    open.policy = (_caller, { request }) => {
      paths.push(request?.path ?? '?');
      return true;
    };
    const token = await open.token();
    const socket = await open.tunnel('api.github.com:443');
    for (const path of ['/repos/../user', '/%61dmin', '/a/%2e%2e/b', '/a//b', '/a;x/b', '/a%2fb', '/a?b=/../c'])
      await open
        .ask(`${HOST}/`, {}, socket)
        .then(() => raw(socket, path, token))
        .catch(() => undefined);
    expect(paths).toEqual(['/user', '/admin', '', '', '', '', '/a']);
  });

  async function raw(socket: net.Socket, path: string, token: string): Promise<void> {
    const request = http.request({
      createConnection: () => socket,
      path,
      setHost: false,
      headers: { host: 'api.github.com', connection: 'keep-alive', authorization: `Bearer ${token}` },
    });
    request.end();
    await replyOf(request);
  }
});

describe('a short-lived token', () => {
  async function shortLived(): Promise<ShortLived> {
    folder = mkdtempSync(join(tmpdir(), 'kz-tokens-'));
    const path = join(folder, 'key.pem');
    const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    writeFileSync(path, privateKey.export({ type: 'pkcs8', format: 'pem' }), { mode: 0o600 });
    return ShortLived.open({ signing: { path, from: 'test' } });
  }

  async function scene(
    resource: { hosts?: readonly string[] } = {},
  ): Promise<{ open: TokenLab; sign: (sub: string, caller?: string) => Promise<string> }> {
    const keys = await shortLived();
    const resources = [
      { ref: 'github/pat', mode: 'short_lived' as const, ...resource },
      { ref: 'other', hosts: ['api.github.com'] },
    ];
    const open = await start({ shortLived: keys, resources });
    const sign = (sub: string, caller?: string): Promise<string> =>
      keys.sign({ ref: 'github/pat', resolver: 'lab', issuer: 'lab', sub, caller, expiresAt: Date.now() + MINUTE_MS });
    return { open, sign };
  }

  it('of somebody else is of no use beside one’s own JWT', async () => {
    const { open, sign } = await scene();
    const reply = await open.ask(`${HOST}/user`, bearer(await sign('bob')));
    expect([reply.status, reply.headers['x-kz-error'], open.fetched]).toEqual([403, 'token-invalid', 0]);
  });

  it('without its caller inside opens no door, nor with that of somebody else', async () => {
    const { open, sign } = await scene();
    const bob = open.callers.get('bob');
    if (bob === undefined) throw new Error('bob is gone');
    const token = await open.token('other', 'alice');
    for (const caller of [undefined, 'x', await open.seal.sealCaller(bob), token.slice('KZ_TOK_'.length)]) {
      expect((await open.connect('api.github.com:443', basic(await sign('alice', caller)))).head).toMatch(/^HTTP\/1\.1 407/);
    }
  });

  it('goes nowhere but to the hosts and ports that the resource names', async () => {
    const { open, sign } = await scene({ hosts: ['api.github.com:443'] });
    open.resources = [...open.resources, ...open.resources.slice(1)];
    const jwt = await sign('alice');
    expect((await open.ask(`${HOST}/user`, bearer(jwt))).status).toBe(200);
    const reply = await open.ask('https://api.github.com:8443/user', bearer(jwt));
    expect([reply.status, reply.headers['x-kz-error']]).toEqual([403, 'url-forbidden']);
  });
});
