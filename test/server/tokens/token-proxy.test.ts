import { randomBytes } from 'node:crypto';
import { gzipSync, gunzipSync } from 'node:zlib';
import { afterEach, describe, expect, it } from 'vitest';
import { Seal } from '../../../src/server/tokens/seal.ts';
import { TokenLab, type TokenLabOptions } from './token-lab.ts';

const HOST = 'https://api.github.com';
let lab: TokenLab;

afterEach(async () => {
  await lab.close();
});

async function start(options: TokenLabOptions = {}): Promise<string> {
  lab = await TokenLab.start(options);
  return lab.token();
}

function last(): { readonly url: string; readonly headers: NodeJS.Dict<string | string[]>; readonly body: Buffer } {
  const received = lab.upstream.received.at(-1);
  if (received === undefined) throw new Error('nothing was received');
  return received;
}

describe('a token becomes its value', () => {
  it('in a header', async () => {
    const token = await start();
    const reply = await lab.ask(`${HOST}/user`, { headers: { authorization: `Bearer ${token}` } });
    expect(reply.status).toBe(200);
    expect(last().headers.authorization).toBe(`Bearer ${lab.value()}`);
    expect(lab.decisions).toMatchObject([
      { ask: { tool: 'proxy', face: 'proxy', ref: 'github/pat', request: { method: 'GET', host: 'api.github.com', path: '/user' } } },
    ]);
    expect(lab.events).toMatchObject([
      { caller: { sub: 'alice' }, refs: ['github/pat'], event: { decision: 'allowed', swapped: [{ where: 'header authorization' }] } },
    ]);
  });

  it('in Basic credentials', async () => {
    const token = await start();
    await lab.ask(`${HOST}/user`, { headers: { authorization: `Basic ${Buffer.from(`git:${token}`).toString('base64')}` } });
    expect(Buffer.from(String(last().headers.authorization).slice(6), 'base64').toString()).toBe(`git:${lab.value()}`);
  });

  it('in a query parameter', async () => {
    const token = await start();
    await lab.ask(`${HOST}/user?access_token=${token}&page=2`);
    expect(last().url).toBe(`/user?access_token=${lab.value()}&page=2`);
  });

  it('in JSON, with and without a length', async () => {
    const token = await start();
    for (const chunked of [false, true]) {
      const body = JSON.stringify({ client: { client_secret: token }, note: token });
      await lab.ask(`${HOST}/login`, { method: 'POST', headers: { 'content-type': 'application/json' }, body, chunked });
      expect(JSON.parse(last().body.toString())).toEqual({ client: { client_secret: lab.value() }, note: token });
    }
  });

  it('in a form, and in a form of several parts', async () => {
    const token = await start();
    const form = { 'content-type': 'application/x-www-form-urlencoded' };
    await lab.ask(`${HOST}/login`, { method: 'POST', headers: form, body: `grant_type=x&client_secret=${token}` });
    expect(last().body.toString()).toBe(`grant_type=x&client_secret=${lab.value()}`);
    const parts = { 'content-type': 'multipart/form-data; boundary=b' };
    const body = (text: string): string => `--b\r\nContent-Disposition: form-data; name="password"\r\n\r\n${text}\r\n--b--\r\n`;
    await lab.ask(`${HOST}/login`, { method: 'POST', headers: parts, body: body(token) });
    expect(last().body.toString()).toBe(body(lab.value()));
  });

  it('in a compressed body', async () => {
    const token = await start();
    const headers = { 'content-type': 'application/json', 'content-encoding': 'gzip' };
    await lab.ask(`${HOST}/login`, { method: 'POST', headers, body: gzipSync(JSON.stringify({ password: token })) });
    expect(JSON.parse(gunzipSync(last().body).toString())).toEqual({ password: lab.value() });
  });

  it('in HTTP/2', async () => {
    const seen: { auth: unknown; body: string }[] = [];
    const token = await start({
      upstream: {
        serveHttp2: (stream, headers) => {
          let body = '';
          stream.on('data', (chunk: Buffer) => (body += chunk.toString()));
          stream.on('end', () => {
            seen.push({ auth: headers.authorization, body });
            stream.respond({ ':status': 200 });
            stream.end(`you are ${String(headers.authorization)}`);
          });
        },
      },
    });
    const get = await lab.ask2('api.github.com:443', { ':path': '/user', authorization: `Bearer ${token}` });
    expect(get).toMatchObject({ status: 200, text: `you are Bearer ${token}` });
    const post = { ':method': 'POST', ':path': '/login', 'content-type': 'application/json' };
    await lab.ask2('api.github.com:443', post, JSON.stringify({ password: token }));
    await lab.ask2('api.github.com:443', { ':path': '/user', 'content-type': 'application/json' });
    expect(seen).toEqual([
      { auth: `Bearer ${lab.value()}`, body: '' },
      { auth: undefined, body: JSON.stringify({ password: lab.value() }) },
      { auth: undefined, body: '' },
    ]);
    const refused = await lab.ask2('api.github.com:443', {
      ':path': '/user',
      authorization: `Bearer ${await lab.token('github/pat', 'bob')}`,
    });
    expect(refused).toMatchObject({ status: 403, code: 'token-invalid' });
  });

  it('in the clear, where the port is named', async () => {
    const token = await start({ resources: [{ ref: 'github/pat', hosts: ['plain.example:80', 'other.example'] }] });
    await lab.ask('http://plain.example/x', { headers: { authorization: `Bearer ${token}` } });
    expect(last().headers.authorization).toBe(`Bearer ${lab.value()}`);
    const reply = await lab.ask('http://other.example/x', { headers: { authorization: `Bearer ${token}` } });
    expect([reply.status, reply.headers['x-kz-error']]).toEqual([403, 'url-forbidden']);
  });

  it('in the handshake of a WebSocket', async () => {
    const token = await start();
    const headers = {
      authorization: `Bearer ${token}`,
      connection: 'Upgrade',
      upgrade: 'websocket',
      'sec-websocket-key': 'AAAAAAAAAAAAAAAAAAAAAA==',
    };
    // The upstream does not switch, which is an answer like any other.
    expect((await lab.ask(`${HOST}/socket`, { headers })).status).toBe(200);
    expect(last().headers.authorization).toBe(`Bearer ${lab.value()}`);
    const theirs = await lab.token('github/pat', 'bob');
    const refused = await lab.ask(`${HOST}/socket`, { headers: { ...headers, authorization: `Bearer ${theirs}` } });
    expect([refused.status, refused.headers['x-kz-error']]).toEqual([403, 'token-invalid']);
  });

  it('twice in one request, and for two resources', async () => {
    await start({ resources: [{ ref: 'a', location: { kind: 'header', name: 'X-Thing', prefix: '' } }, { ref: 'b' }] });
    const [a, b] = [await lab.token('a'), await lab.token('b')];
    await lab.ask(`${HOST}/user?token=${a}`, { headers: { authorization: `Bearer ${b}`, 'x-thing': a } });
    expect(last()).toMatchObject({
      url: `/user?token=${lab.value('a')}`,
      headers: { authorization: `Bearer ${lab.value('b')}`, 'x-thing': lab.value('a') },
    });
    expect(lab.fetched).toBe(2);
  });

  it('on every server that has the key', async () => {
    const keys = [randomBytes(32), randomBytes(32)];
    const token = await start({ seal: Seal.open(keys) });
    const { resources, values } = lab;
    await lab.close();
    lab = await TokenLab.start({
      seal: Seal.open([...keys].reverse()),
      resources: resources.map(({ entry: { ref } }) => ({ ref, value: values.get(ref) ?? '' })),
    });
    await lab.ask(`${HOST}/user`, { headers: { authorization: `Bearer ${token}` } });
    expect(last().headers.authorization).toBe(`Bearer ${lab.value()}`);
  });
});

describe('a token stays', () => {
  it('in a path, in free text, in a header that is echoed', async () => {
    const token = await start();
    const body = JSON.stringify({ text: `look: ${token}.` });
    const headers = { 'content-type': 'application/json', 'user-agent': token };
    await lab.ask(`${HOST}/x/${token}`, { method: 'POST', headers, body });
    expect(last()).toMatchObject({ url: `/x/${token}`, headers: { 'user-agent': token } });
    expect(last().body.toString()).toBe(body);
    expect(lab.fetched).toBe(0);
    expect(lab.events[0]?.event).toMatchObject({ swapped: [], left: [{ reason: 'slot' }, { reason: 'slot' }, { reason: 'slot' }] });
  });

  it('there, even when it is of no use to anybody', async () => {
    await start();
    const reply = await lab.ask(`${HOST}/x`, { method: 'POST', headers: { 'content-type': 'text/plain' }, body: 'say KZ_TOK_abc, please' });
    expect([reply.status, last().body.toString()]).toEqual([200, 'say KZ_TOK_abc, please']);
  });

  it('in a body of more than 1 MiB, while the one in the head is swapped', async () => {
    const token = await start();
    const body = JSON.stringify({ password: token, filler: 'x'.repeat(1024 * 1024) });
    for (const chunked of [false, true]) {
      const headers = { 'content-type': 'application/json', authorization: `Bearer ${token}` };
      const reply = await lab.ask(`${HOST}/x`, { method: 'POST', headers, body, chunked });
      expect(reply.status).toBe(200);
      expect(last().body.equals(Buffer.from(body))).toBe(true);
      expect(last().headers.authorization).toBe(`Bearer ${lab.value()}`);
      expect(lab.events.at(-1)?.isBodyUnread).toBe(true);
    }
    const small = JSON.stringify({ password: token, filler: 'x'.repeat(1024 * 1024 - 1000) });
    await lab.ask(`${HOST}/x`, { method: 'POST', headers: { 'content-type': 'application/json' }, body: small });
    expect(last().body.toString()).toContain(lab.value());
  });

  it('in a body that nobody here can decode', async () => {
    const token = await start();
    const headers = { 'content-type': 'application/json', 'content-encoding': 'x-own', authorization: `Bearer ${token}` };
    await lab.ask(`${HOST}/x`, { method: 'POST', headers, body: JSON.stringify({ password: token }) });
    expect(last().body.toString()).toContain(token);
    expect(lab.events.at(-1)?.isBodyUnread).toBe(true);
  });
});

describe('what comes back', () => {
  it('has the token in place of the value, also in later answers on other connections', async () => {
    let known = '';
    const token = await start({
      upstream: {
        serve: (request, response) => {
          known = request.headers.authorization ?? known;
          response.setHeader('x-echo', known);
          response.end(JSON.stringify({ you: known, base64: Buffer.from(known.slice(7)).toString('base64') }));
        },
      },
    });
    const first = await lab.ask(`${HOST}/login`, { headers: { authorization: `Bearer ${token}` } });
    const second = await lab.ask(`${HOST}/whoami`);
    for (const { headers, text } of [first, second]) {
      expect(headers['x-echo']).toBe(`Bearer ${token}`);
      expect(JSON.parse(text)).toEqual({ you: `Bearer ${token}`, base64: Buffer.from(token).toString('base64') });
    }
    expect(known).toBe(`Bearer ${lab.value()}`);
  });
});
