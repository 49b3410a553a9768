// A caller with a good JWT who wants the value itself, or what is not its own: through echoes, through other connections, through time.
import http from 'node:http';
import { gzipSync } from 'node:zlib';
import { afterEach, describe, expect, it } from 'vitest';
import { requestHead } from '../../../src/proxy/head.ts';
import { tokensIn } from '../../../src/server/tokens/token-search.ts';
import { replyOf } from '../../proxy/lab.ts';
import { basic, TokenLab, type TokenLabOptions } from '../../server/tokens/token-lab.ts';

const HOST = 'https://api.github.com';
let lab: TokenLab | undefined;

afterEach(async () => {
  await lab?.close();
  lab = undefined;
});

async function start(options: TokenLabOptions = {}): Promise<TokenLab> {
  lab = await TokenLab.start(options);
  return lab;
}

function bearer(token: string): { headers: { authorization: string } } {
  return { headers: { authorization: `Bearer ${token}` } };
}

function inHeaders(tokens: readonly string[]): Record<string, string> {
  return Object.fromEntries(tokens.map((token, index) => [`x-${String(index)}-api-key`, token]));
}

/** An upstream that says what it was told, when it is told to. */
class Echo {
  readonly waiting: (() => void)[] = [];
  readonly ports: (number | undefined)[] = [];

  readonly serve: http.RequestListener = (request, response) => {
    this.ports.push(request.socket.remotePort);
    const say = (): void => {
      response.end(`you are ${request.headers.authorization ?? 'nobody'}`);
    };
    if (request.url === '/slow') this.waiting.push(say);
    else say();
  };
}

async function until(isTrue: () => boolean): Promise<void> {
  while (!isTrue()) await new Promise((resolve) => setImmediate(resolve));
}

describe('an answer is searched for the values that its request carried', () => {
  const many = Array.from({ length: 81 }, (_, index) => ({ ref: `many/${String(index)}` }));

  it('although the caller has used many others meanwhile', async () => {
    const echo = new Echo();
    const open = await start({ resources: [{ ref: 'github/pat' }, ...many], upstream: { serve: echo.serve } });
    const token = await open.token();
    const slow = open.ask(`${HOST}/slow`, bearer(token));
    await until(() => echo.waiting.length === 1);
    for (let from = 0; from < 80; from += 16) {
      const tokens = await Promise.all(many.slice(from, from + 16).map(({ ref }) => open.token(ref)));
      expect((await open.ask(`${HOST}/user`, { headers: inHeaders(tokens) })).status).toBe(200);
    }
    echo.waiting[0]?.();
    expect((await slow).text).toBe(`you are Bearer ${token}`);
  });

  it('of long ago, although it has used many tokens of another value since then', async () => {
    let kept = '';
    const serve: http.RequestListener = (request, response) => {
      kept = request.headers.authorization ?? kept;
      response.end(kept);
    };
    const open = await start({ resources: [{ ref: 'github/pat' }, { ref: 'other' }], upstream: { serve } });
    const token = await open.token();
    await open.ask(`${HOST}/note`, bearer(token));
    for (let round = 0; round < 5; round += 1) {
      const tokens = await Promise.all(Array.from({ length: 16 }, () => open.token('other')));
      expect((await open.ask(`${HOST}/user`, { headers: inHeaders(tokens) })).status).toBe(200);
    }
    expect((await open.ask(`${HOST}/note`)).text).toBe(`Bearer ${token}`);
  });

  it('although the backend has another one by now', async () => {
    const echo = new Echo();
    const open = await start({ upstream: { serve: echo.serve } });
    const token = await open.token();
    const slow = open.ask(`${HOST}/slow`, bearer(token));
    await until(() => echo.waiting.length === 1);
    open.values.set('github/pat', 'CANARY-the-next-one-0123456789');
    expect((await open.ask(`${HOST}/user`, bearer(token))).text).toBe(`you are Bearer ${token}`);
    echo.waiting[0]?.();
    expect((await slow).text).toBe(`you are Bearer ${token}`);
  });

  it('in early hints, trailers and the reason too', async () => {
    const open = await start({
      upstream: {
        serve: (request, response) => {
          const value = request.headers.authorization ?? '';
          response.writeEarlyHints({ link: '</a>; rel=preload', 'x-early': value });
          response.writeHead(200, value, { trailer: 'x-late', 'x-head': value });
          response.write(value.slice(0, 20));
          setImmediate(() => {
            response.write(value.slice(20));
            response.addTrailers({ 'x-late': value });
            response.end();
          });
        },
      },
    });
    const token = await open.token();
    const socket = await open.tunnel('api.github.com:443');
    const said: Buffer[] = [];
    socket.on('data', (bytes: Buffer) => said.push(bytes));
    const closed = new Promise((resolve) => socket.once('close', resolve));
    socket.write(`GET / HTTP/1.1\r\nHost: api.github.com\r\nConnection: close\r\nTE: trailers\r\nAuthorization: Bearer ${token}\r\n\r\n`);
    await closed;
    const text = Buffer.concat(said).toString('latin1');
    expect(text).not.toContain('CANARY');
    expect(text.split(token).length).toBeGreaterThan(3);
  });
});

describe('two callers', () => {
  it('share no connection to an upstream', async () => {
    const echo = new Echo();
    const open = await start({ upstream: { serve: echo.serve } });
    for (const jwt of ['alice', 'alice', 'bob', 'alice']) await open.ask(`${HOST}/user`, { jwt });
    const [first, second, bobs, last] = echo.ports;
    expect([second === first, bobs === first, last === first]).toEqual([true, false, true]);
  });

  it('nor a session of HTTP/2', async () => {
    const ports: (number | undefined)[] = [];
    const open = await start({
      upstream: {
        serveHttp2: (stream) => {
          ports.push(stream.session?.socket.remotePort);
          stream.respond({ ':status': 200 });
          stream.end();
        },
      },
    });
    await open.ask2('api.github.com:443', { ':path': '/' });
    await open.ask2('api.github.com:443', { ':path': '/' });
    const bob = open.callers.get('bob');
    if (bob === undefined) throw new Error('nobody is there');
    // Whoever sends this JWT now is bob.
    open.callers.set('alice', bob);
    await open.ask2('api.github.com:443', { ':path': '/' });
    expect([ports[0] === ports[1], ports[1] === ports[2]]).toEqual([true, false]);
  });

  it('on one connection are told apart by each request, and nobody is let in without a credential', async () => {
    const open = await start({ resources: [{ ref: 'github/pat', hosts: ['plain.example:80'] }] });
    const [mine, theirs] = [await open.token(), await open.token('github/pat', 'bob')];
    const socket = await open.open();
    const ask = async (headers: http.OutgoingHttpHeaders): Promise<number> => {
      const request = http.request({
        createConnection: () => socket,
        path: 'http://plain.example/user',
        setHost: false,
        headers: { host: 'plain.example', connection: 'keep-alive', ...headers },
      });
      request.end();
      return (await replyOf(request)).status;
    };
    const as = (jwt: string, token: string): http.OutgoingHttpHeaders => ({
      'proxy-authorization': basic(jwt),
      authorization: `Bearer ${token}`,
    });
    const statuses = [
      await ask(as('alice', mine)),
      await ask(as('bob', mine)),
      await ask(as('bob', theirs)),
      await ask({ authorization: `Bearer ${mine}` }),
      await ask(as('alice', theirs)),
      await ask(as('alice', mine)),
    ];
    expect(statuses).toEqual([200, 403, 200, 407, 403, 200]);
    expect(open.upstream.received.map(({ headers }) => headers['proxy-authorization'])).toEqual([undefined, undefined, undefined]);
  });
});

describe('requests that come all at once on one connection', () => {
  it('are told apart, each with its own answer, and no warning comes of it', async () => {
    const warnings: Error[] = [];
    const warned = (warning: Error): void => void warnings.push(warning);
    process.on('warning', warned);
    const serve: http.RequestListener = (request, response) => {
      setTimeout(() => response.end(`for ${request.url ?? ''}: ${request.headers.authorization ?? ''};`), Math.random() * 20);
    };
    const open = await start({ resources: [{ ref: 'github/pat', hosts: ['plain.example:80'] }], upstream: { serve } });
    const tokens = { alice: await open.token(), bob: await open.token('github/pat', 'bob') };
    const asked = Array.from({ length: 40 }, (_, index) => {
      return { index, as: index % 2 === 0 ? 'alice' : 'bob', of: index % 3 === 0 ? 'alice' : 'bob' } as const;
    });
    const socket = await open.open();
    let text = '';
    socket.on('data', (bytes: Buffer) => (text += bytes.toString('latin1')));
    const written = asked.map(({ index, as, of }) =>
      [
        `POST http://plain.example/${String(index)} HTTP/1.1\r\nHost: plain.example`,
        `Proxy-Authorization: ${basic(as)}\r\nAuthorization: Bearer ${tokens[of]}`,
        'Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}',
      ].join('\r\n'),
    );
    socket.write(written.join(''));
    await until(() => text.split('HTTP/1.1 ').length === 41);
    await until(() => text.includes(`for /${String(asked.filter(({ as, of }) => as === of).at(-1)?.index ?? 0)}:`));
    process.off('warning', warned);
    const statuses = Array.from(text.matchAll(/HTTP\/1\.1 (\d+)/g), ([, status]) => status);
    expect(statuses).toEqual(asked.map(({ as, of }) => (as === of ? '200' : '403')));
    const answers = Array.from(text.matchAll(/for \/(\d+): Bearer (KZ_TOK_[\w.-]+);/g), ([, index, token]) => [Number(index), token]);
    expect(answers).toEqual(asked.filter(({ as, of }) => as === of).map(({ index, of }) => [index, tokens[of]]));
    expect([warnings, text.includes('CANARY')]).toEqual([[], false]);
  });

  it('of a client that goes away meanwhile, go nowhere, and are written down', async () => {
    const open = await start();
    let answer: () => void = () => undefined;
    open.backend = () => new Promise((resolve) => (answer = resolve));
    const socket = await open.tunnel('api.github.com:443');
    socket.write(`GET / HTTP/1.1\r\nHost: api.github.com\r\nAuthorization: Bearer ${await open.token()}\r\n\r\n`);
    await until(() => open.fetched === 1);
    socket.destroy();
    await new Promise((resolve) => setTimeout(resolve, 50));
    answer();
    await until(() => open.events.length === 1);
    expect(open.events).toMatchObject([{ event: { error: 'client-gone' }, refs: ['github/pat'] }]);
    expect(open.upstream.received).toEqual([]);
  });
});

describe('many and large', () => {
  it('texts that begin like a token cost little', () => {
    const target = { host: 'a.example', port: 443, tls: true };
    const request = { protocol: 'http/1.1', method: 'POST', path: '/', target } as const;
    const head = requestHead([]);
    const bodies = [
      `KZ_TOK_${'.'.repeat(8900)}a `,
      'KZ_TOK_',
      'KZ_TOK_ ',
      `KZ_TOK_${'A'.repeat(20)}..${'A'.repeat(16)}.${'A'.repeat(8000)} `,
      'KZ_TOK_AAAAAAAAAAAAAAAAAAAA..',
      'KZ_TOK_AAAAAAAAAAAAAAAAAAAA..AAAAAAAAAAAAAAAA.AAAAAAAAAAAAAAAAA.',
    ];
    for (const part of bodies) {
      const body = Buffer.from(part.repeat(Math.floor((1024 * 1024) / part.length)));
      const before = performance.now();
      tokensIn({ request, head, body });
      expect([part.slice(0, 40), performance.now() - before < 1000]).toEqual([part.slice(0, 40), true]);
    }
  });

  it('a body of which nobody knows what is in it goes on as it came, beside a token in the head', async () => {
    const open = await start();
    const token = await open.token();
    const body = gzipSync(JSON.stringify({ password: token, filler: 'a'.repeat(40 * 1024 * 1024) }));
    const headers = { 'content-type': 'application/json', 'content-encoding': 'gzip', authorization: `Bearer ${token}` };
    const reply = await open.ask(`${HOST}/login`, { method: 'POST', headers, body });
    expect(reply.status).toBe(200);
    expect(open.upstream.received[0]?.body.equals(body)).toBe(true);
    expect(open.events.at(-1)).toMatchObject({ isBodyUnread: true });
  });
});

describe('places that are none', () => {
  it('of a token of somebody else: the Host, a trailer, a chunk extension, a key of JSON, the name of a part', async () => {
    const open = await start();
    const token = await open.token('github/pat', 'bob');
    const socket = await open.tunnel('api.github.com:443');
    const said = new Promise<string>((resolve) => {
      let text = '';
      socket.on('data', (bytes: Buffer) => (text += bytes.toString('latin1')));
      socket.once('close', () => {
        resolve(text);
      });
    });
    socket.write(
      `POST /x HTTP/1.1\r\nHost: api.github.com\r\nConnection: close\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\nTrailer: authorization\r\n\r\n` +
        `2;x=${token}\r\n{}\r\n0\r\nauthorization: Bearer ${token}\r\n\r\n`,
    );
    expect(await said).toMatch(/^HTTP\/1\.1 200/);
    const json = { method: 'POST', headers: { 'content-type': 'application/json' } };
    expect((await open.ask(`${HOST}/x`, { ...json, body: JSON.stringify({ [token]: 'x', [`${token}_password`]: 'y' }) })).status).toBe(200);
    const parts = { 'content-type': 'multipart/form-data; boundary=b' };
    const body = `--b\r\nContent-Disposition: form-data; name="${token}"\r\n\r\nx\r\n--b--\r\n`;
    expect((await open.ask(`${HOST}/x`, { method: 'POST', headers: parts, body })).status).toBe(200);
    expect(open.fetched).toBe(0);
    expect((await open.ask(`${HOST}/x`, { headers: { host: `${token}.github.com` } })).status).toBe(421);
  });

  it('of the value, in frames of a WebSocket and in bytes that are not HTTP', async () => {
    const open = await start({ resources: [{ ref: 'github/pat', hosts: ['api.github.com:8443', 'api.github.com'] }] });
    const { socket } = await open.connect('api.github.com:8443', basic('alice'));
    const closed = new Promise((resolve) => socket.once('close', resolve));
    socket.write(`\0\x01${await open.token()}`);
    await closed;
    expect(open.upstream.received).toEqual([]);
  });
});
