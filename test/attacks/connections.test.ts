// Published attacks 17, Alt-Svc around the proxy, 18, redirects that carry the credential to another host (sbx-releases #568), 11, one connection
// for two hosts (onecli #178), 13, what comes behind CONNECT, and 16, answers that mint sessions (nono #946).
import http from 'node:http';
import http2 from 'node:http2';
import net from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import { Lab } from '../proxy/lab.ts';
import { RawUpstream, sayOk, Wire } from './wire.ts';

let lab: Lab | undefined;
let upstream: RawUpstream | undefined;
let session: http2.ClientHttp2Session | undefined;

afterEach(async () => {
  session?.destroy();
  await lab?.close();
  upstream?.close();
  lab = upstream = session = undefined;
});

const SECRETS = [{ name: 'TOKEN', hosts: ['api.example.com', 'api.example.com:80'] }];

describe('a redirect', () => {
  it.each([301, 302, 303, 307, 308])('redirect: a %d to another host is not followed, and that host gets no value', async (status) => {
    const seen: http.IncomingHttpHeaders[] = [];
    lab = await Lab.start({
      secrets: SECRETS,
      serve: (request, response) => {
        seen.push(request.headers);
        const isFirst = request.headers.host === 'api.example.com';
        response.writeHead(isFirst ? status : 200, isFirst ? { location: 'https://evil.example.net/take' } : {}).end();
      },
    });
    const headers = { authorization: `Bearer ${lab.token()}` };
    const reply = await lab.ask('https://api.example.com/', { headers });
    expect(reply.status).toBe(status);
    expect(reply.headers.location).toBe('https://evil.example.net/take');
    expect(seen).toHaveLength(1);
    // A client that follows keeps its header, or does not; there it is a masked token.
    await lab.ask('https://evil.example.net/take', { headers });
    expect(seen.map(({ authorization }) => authorization)).toEqual([`Bearer ${lab.value()}`, `Bearer ${lab.token()}`]);
  });
});

describe('a way around the proxy', () => {
  it('Alt-Svc: an invitation to HTTP/3 does not reach the child, over HTTP/1.1 or HTTP/2', async () => {
    const invitation = { 'alt-svc': 'h3=":443"; ma=86400', 'x-other': 'y' };
    lab = await Lab.start({
      serve: (_request, response) => response.writeHead(200, invitation).end(),
      serveHttp2: (stream) => {
        stream.additionalHeaders({ ':status': 103, ...invitation });
        stream.respond({ ':status': 200, ...invitation });
        const { session } = stream;
        // Only servers have it, and the types give a stream any session.
        if (session !== undefined && 'altsvc' in session)
          (session as http2.ServerHttp2Session).altsvc('h3=":443"', 'https://api.example.com');
        stream.end();
      },
    });
    const reply = await lab.ask('https://api.example.com/');
    expect(reply.headers).toMatchObject({ 'x-other': 'y' });
    expect(reply.headers['alt-svc']).toBeUndefined();
    const socket = await lab.tunnel('api.example.com:443', { alpn: ['h2'] });
    session = http2.connect('https://api.example.com', { createConnection: () => socket });
    const invitations: string[] = [];
    session.on('altsvc', (alt) => invitations.push(alt));
    const stream = session.request({ ':path': '/' });
    stream.on('headers', (early: http2.IncomingHttpHeaders) => invitations.push(...[early['alt-svc'] ?? []].flat()));
    const headers = await new Promise<http2.IncomingHttpHeaders>((resolve) => stream.once('response', resolve));
    await new Promise((resolve) => stream.resume().once('close', resolve));
    expect(headers).toMatchObject({ 'x-other': 'y' });
    expect(headers['alt-svc']).toBeUndefined();
    expect(invitations).toEqual([]);
  });

  it.each(['h2c', 'TLS/1.0, HTTP/1.1', 'foo/2', 'websocket, h2c'])(
    'upgrade: to %s it is answered as the plain request that it is',
    async (protocol) => {
      upstream = await RawUpstream.start(sayOk);
      lab = await Lab.start({ secrets: SECRETS, dial: { open: upstream.open } });
      const wire = new Wire(await lab.connect('api.example.com:80'));
      wire.write(
        `GET /x HTTP/1.1\r\nHost: api.example.com\r\nConnection: Upgrade\r\nUpgrade: ${protocol}\r\nX-Api-Key: ${lab.token()}\r\n\r\n`,
      );
      // In the new protocol, as the child hopes: nobody forwards it.
      wire.write(`PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n${lab.token()}`);
      await wire.closed();
      expect(wire.text).toMatch(/^HTTP\/1\.1 200 OK\r\n/);
      expect(upstream.seen).toHaveLength(1);
      expect(upstream.seen[0]).toMatch(/^GET \/x HTTP\/1\.1\r\n/);
      expect(upstream.seen[0]).not.toMatch(/^Upgrade:|PRI \*/im);
    },
  );

  it.each([
    ['an SSH banner', 'SSH-2.0-OpenSSH_9.2\r\n'],
    ['SOCKS', '\x05\x01\x00\x05\x01\x00\x01\x7f\x00\x00\x01\x00\x50'],
    ['noise', '\x80\x2e\x01\x00\x02\x00\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff'],
    ['a broken ClientHello', '\x16\x03\x01\x00\x10\x01\x00\x00\x0c\x03\x03\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff'],
    ['a TLS alert', '\x15\x03\x01\x00\x02\x02\x28'],
  ])('garbage behind CONNECT: %s is carried nowhere without a rule for host and port', async (_what, bytes) => {
    for (const rules of [[], [{ allow: true, host: 'api.example.com' }], [{ allow: true, host: '*', port: 443 }]]) {
      upstream = await RawUpstream.start(sayOk);
      lab = await Lab.start({ rules, dial: { open: upstream.open } });
      const wire = new Wire(await lab.connect('api.example.com:443'));
      wire.write(Buffer.from(`${bytes}${lab.token()}\r\n\r\n`, 'latin1'));
      await wire.closed();
      expect(wire.text).not.toContain('200 OK');
      expect(upstream.seen).toEqual([]);
      await lab.close();
      upstream.close();
    }
  });

  it('garbage behind CONNECT: with a rule for host and port no token in it is swapped', async () => {
    upstream = await RawUpstream.start((socket) => socket.write('hello'));
    lab = await Lab.start({
      rules: [{ allow: true, host: 'db.example.com', port: 5432 }],
      secrets: [{ name: 'TOKEN' }],
      dial: { open: upstream.open },
    });
    const wire = new Wire(await lab.connect('db.example.com:5432'));
    wire.write(`\0\0\0\x08${lab.token()}`);
    await wire.until(() => wire.text.includes('hello'));
    await expect.poll(() => upstream?.seen.join(''), { timeout: 10_000 }).toBe(`\0\0\0\x08${lab.token()}`);
  });
});

describe('connections to upstreams', () => {
  it('connection mixing: two hosts at one address never share a connection', async () => {
    const paths = new Map<unknown, Set<string>>();
    lab = await Lab.start({
      serve: (request, response) => {
        const hosts = paths.get(request.socket) ?? new Set<string>();
        paths.set(request.socket, hosts.add(request.headers.host ?? ''));
        response.end('ok');
      },
    });
    for (const host of ['a.example.com', 'b.example.com', 'a.example.com', 'b.example.com', 'a.example.com:8443'])
      await lab.ask(`https://${host}/`);
    expect([...paths.values()].map((hosts) => [...hosts]).sort()).toEqual([['a.example.com'], ['a.example.com:8443'], ['b.example.com']]);
  });

  it('connection mixing: a connection that a rule allowed to a private address serves no other request', async () => {
    const opened: string[] = [];
    const rules = [
      { allow: true, host: 'internal.example.com', path: '/named' },
      { allow: true, host: '*' },
    ];
    const started = await Lab.start({
      rules,
      dial: {
        lookup: () => Promise.resolve(['127.0.0.1']),
        open: (address) => {
          opened.push(address);
          return net.connect(started.upstreamPort, '127.0.0.1');
        },
      },
    });
    lab = started;
    expect((await lab.ask('https://internal.example.com/named')).status).toBe(200);
    expect((await lab.ask('https://internal.example.com/other')).status).toBe(403);
    expect(opened).toHaveLength(1);
  });

  it('connection mixing: an idle connection on which more bytes came is not used again', async () => {
    let sockets = 0;
    upstream = await RawUpstream.start((socket, soFar) => {
      if (soFar.split('\r\n\r\n').length !== 2) return;
      sockets += 1;
      const own = `own${String(sockets)}`;
      socket.write(`HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n${own}`, () => {
        setImmediate(() => socket.write('HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison'));
      });
    });
    lab = await Lab.start({ dial: { open: upstream.open } });
    const first = await lab.ask('http://api.example.com/1');
    const second = await lab.ask('http://api.example.com/2');
    expect([first.text, second.text].join(' ')).not.toContain('poison');
  });

  it('connection mixing: a certificate of another host is refused', async () => {
    lab = await Lab.start();
    const started = lab;
    const stranger = await Lab.start();
    const at = stranger.upstreamPort;
    const lied = await Lab.start({ dial: { open: () => net.connect(at, '127.0.0.1') } });
    expect((await lied.ask('https://api.example.com/', { headers: { authorization: lied.token() } })).status).toBe(502);
    expect(stranger.received).toEqual([]);
    await Promise.all([stranger.close(), lied.close()]);
    expect(started.events).toEqual([]);
  });
});

describe('an answer that mints a session', () => {
  // Documented: what a server hands out for the first time is not known here, and passes.
  it('session minting: a fresh access token in an OAuth answer passes, and the client secret in it does not', async () => {
    const fresh = 'fresh-9f2c7b1e5a';
    const started = await Lab.start({
      secrets: [{ name: 'TOKEN', hosts: ['auth.example.com'] }],
      serve: (request, response) => {
        let body = '';
        request.on('data', (chunk: Buffer) => (body += chunk.toString()));
        request.on('end', () =>
          response.setHeader('content-type', 'application/json').end(JSON.stringify({ access_token: fresh, request: body })),
        );
      },
    });
    lab = started;
    const body = `grant_type=client_credentials&client_secret=${started.token()}`;
    const headers = { 'content-type': 'application/x-www-form-urlencoded', 'content-length': body.length };
    const reply = await started.ask('https://auth.example.com/token', { method: 'POST', headers, body });
    expect(JSON.parse(reply.text)).toEqual({ access_token: fresh, request: body });
  });
});
