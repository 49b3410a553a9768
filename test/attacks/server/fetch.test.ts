// What a caller of `fetch`, the upstream it asks, or both together try: to see the value, to have it sent elsewhere, to get another caller's answer.
import { once } from 'node:events';
import { expect, it } from 'vitest';
import { Secret } from '../../../src/core/secret.ts';
import { readFetch, sendFetch, type FetchInput, type FetchResult } from '../../../src/server/fetch/fetch.ts';
import { openCel } from '../../../src/policy/cel.ts';
import { permit } from '../../../src/policy/permit.ts';
import { ServerFailure } from '../../../src/server/failure.ts';
import type { Ask } from '../../../src/server/service.ts';
import { UseCases, type UseCaseParts } from '../../../src/server/use-cases.ts';
import type { Caller } from '../../../src/server/identity/verify.ts';
import { canary, failureOf, fetchFrom, REF, resource, type FetchSetting } from '../../server/fetch/fetching.ts';
import { startUpstreams, type Upstreams } from '../../server/fetch/upstream.ts';

const URL_ = 'https://api.test/';
const MARK = `[redacted:${REF}]`;
const METHODS = ['GET', 'HEAD', 'POST', 'DELETE'];

/** Answers the first bytes of each connection with these, then keeps quiet. */
function answering(...pieces: readonly (string | Buffer)[]): Promise<Upstreams> {
  return startUpstreams({
    raw: (socket) => {
      socket.once('data', () => {
        for (const piece of pieces) socket.write(piece);
      });
    },
  });
}

function ask(upstreams: Upstreams, input: FetchInput | string = URL_, setting: FetchSetting = {}): Promise<FetchResult> {
  return fetchFrom(upstreams, input, { methods: METHODS, ...setting });
}

// --- One connection, two callers ---

/** A server that does not read bodies where it expects none: what is left of one is the beginning of the next request. */
function bodiless(): Promise<Upstreams> {
  return startUpstreams({
    raw: (socket) => {
      let held = '';
      socket.on('data', (chunk: Buffer) => {
        held += chunk.toString('latin1');
        for (let end = held.indexOf('\r\n\r\n'); end >= 0; end = held.indexOf('\r\n\r\n')) {
          const head = held.slice(0, end);
          held = held.slice(end + 4);
          socket.write(`HTTP/1.1 200 OK\r\nContent-Length: ${String(head.length)}\r\n\r\n${head}`);
        }
      });
    },
  });
}

it.each(['GET', 'DELETE', 'POST'])('what a server leaves of the body of a %s is no part of the next caller’s request', async (method) => {
  const upstreams = await bodiless();
  const smuggled = 'POST /comments HTTP/1.1\r\nHost: api.test\r\nX-Swallowed: ';
  await ask(upstreams, { url: URL_, method, body: smuggled });
  await new Promise(setImmediate);
  const victim = await ask(upstreams, 'https://api.test/victim');
  expect(victim.body).toMatch(/^GET \/victim HTTP\/1\.1\r\n/);
  expect(upstreams.dialled.length).toBe(2);
});

it.each([
  ['HEAD', 'HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n'],
  ['GET', 'HTTP/1.1 204 No Content\r\n\r\n'],
  ['GET', 'HTTP/1.1 304 Not Modified\r\n\r\n'],
])('an answer to %s that has a body all the same is nobody’s next answer', async (method, head) => {
  // What is behind the head is the beginning of an answer that ends after the next caller has asked.
  const upstreams = await startUpstreams({
    raw: (socket) => {
      socket.once('data', () => {
        socket.write(`${head}HTTP/1.1 200 OK\r\nX-Held: `);
        socket.once('data', () => socket.write('HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged'));
      });
    },
  });
  await ask(upstreams, { url: URL_, method });
  await new Promise(setImmediate);
  await ask(upstreams, { url: 'https://api.test/victim', method });
  expect(upstreams.dialled.length).toBe(2);
});

const FORGED = 'HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged';

it.each([
  ['in one piece', `HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok${FORGED}`],
  ['with a body that is longer than it says', 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokforged'],
  ['with a chunk too many', 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n6\r\nforged\r\n0\r\n\r\n'],
])('of two answers to one request, %s, the second is nobody’s', async (_how, text) => {
  const upstreams = await answering(text);
  expect((await ask(upstreams)).body).toBe('ok');
  await new Promise(setImmediate);
  expect((await ask(upstreams)).body).toBe('ok');
  expect(upstreams.dialled.length).toBe(2);
});

it('an answer too many that comes once the next request is sent is not another caller’s, nor about another ref', async () => {
  // What a header of the first answer splits: no client can tell that the rest of it is not the second answer.
  const upstreams = await startUpstreams({
    raw: (socket) => {
      socket.once('data', () => {
        socket.write('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok');
        socket.once('data', () => socket.write(FORGED));
      });
    },
  });
  const { entry } = resource();
  const send = (ref: string, sub: string): Promise<FetchResult> =>
    sendFetch(
      readFetch({ url: URL_ }),
      { entry, ref, secret: new Secret(canary()) },
      { upstream: upstreams.upstream, signal: new AbortController().signal, caller: { issuer: 'dev', sub } },
    );
  for (const [ref, sub] of [
    ['a', 'one'],
    ['a', 'two'],
    ['b', 'one'],
    ['b', 'two'],
  ] as const) {
    expect((await send(ref, sub)).body).toBe('ok');
    await new Promise(setImmediate);
  }
  expect(upstreams.dialled.length).toBe(4);
  // Who asks again for the same goes on with the connection that there is.
  expect((await send('a', 'one')).body).toBe('forged');
});

it('an answer that two readers would end in different places fails, and its connection is gone', async () => {
  const answers = [
    'Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n',
    'Content-Length: 2\r\nContent-Length: 3\r\n\r\nok!',
    'Content-Length: +2\r\n\r\nok',
    'Content-Length: 2\r\nX\r\n\r\nok',
    'Transfer-Encoding : chunked\r\nContent-Length: 2\r\n\r\nok',
    'Transfer-Encoding: chunked, gzip\r\n\r\n2\r\nok\r\n0\r\n\r\n',
    'Transfer-Encoding: chunked\r\n\r\n0x2\r\nok\r\n0\r\n\r\n',
  ];
  for (const rest of answers) {
    const upstreams = await answering(`HTTP/1.1 200 OK\r\n${rest}`);
    expect((await failureOf(() => ask(upstreams, URL_, { timeoutMs: 2000 }))).code, rest).toBe('upstream-failed');
    const [socket] = upstreams.connections;
    if (socket?.closed === false) await once(socket, 'close');
  }
});

it('a connection whose answer was cut at the limit serves nobody else', async () => {
  const upstreams = await answering(`HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n${'a'.repeat(100_000)}`);
  expect(await ask(upstreams, URL_, { limit: 100 })).toMatchObject({ truncated: true });
  await ask(upstreams, URL_, { limit: 100 });
  expect(upstreams.dialled.length).toBe(2);
});

it('a connection whose answer came too late serves nobody else', async () => {
  const upstreams = await startUpstreams({
    raw: (socket) => {
      socket.once('data', () => socket.write('HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nlate'));
    },
  });
  const failures = [0, 1].map(() => failureOf(() => ask(upstreams, URL_, { timeoutMs: 50 })));
  expect((await Promise.all(failures)).map(({ code }) => code)).toEqual(['upstream-timeout', 'upstream-timeout']);
  expect((await failureOf(() => ask(upstreams, URL_, { timeoutMs: 50 }))).code).toBe('upstream-timeout');
  expect(upstreams.dialled.length).toBe(3);
});

it('callers who ask at the same time get their own answers, whoever gives up', async () => {
  const upstreams = await startUpstreams({
    serve: (request, response) => {
      setTimeout(() => response.end(`${String(request.url)} ${String(request.headers.authorization)}`), Number(request.url?.length) * 3);
    },
  });
  const calls = Array.from({ length: 120 }, async (_none, index) => {
    const path = `/${'x'.repeat(index % 7)}${String(index)}`;
    const timeoutMs = index % 5 === 0 ? 5 : 10_000;
    const result = await ask(upstreams, `https://api.test${path}`, { timeoutMs }).catch(() => undefined);
    return result === undefined || result.body === `${path} Bearer ${MARK}`;
  });
  expect(await Promise.all(calls)).toEqual(calls.map(() => true));
});

it('interim answers carry nothing to the caller, and their number ends with its time', async () => {
  const value = canary();
  const upstreams = await answering(
    `HTTP/1.1 103 Early\r\nX-Echo: ${value}\r\n\r\nHTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok`,
  );
  expect(await ask(upstreams, URL_, { value })).toMatchObject({ status: 200, headers: {}, body: 'ok' });
  const flood = await startUpstreams({
    raw: (socket) => {
      socket.once('data', () => {
        const more = (): void => {
          if (!socket.destroyed) socket.write('HTTP/1.1 103 Early\r\n\r\n', () => setImmediate(more));
        };
        more();
      });
    },
  });
  expect((await failureOf(() => ask(flood, URL_, { timeoutMs: 100 }))).code).toBe('upstream-timeout');
});

it('trailers are not given', async () => {
  const value = canary();
  const upstreams = await answering(
    `HTTP/1.1 200 OK\r\nTrailer: X-T\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-T: ${value}\r\n\r\n`,
  );
  expect(JSON.stringify(await ask(upstreams, URL_, { value }))).not.toContain('x-t');
});

// --- Elsewhere ---

it('a host is one, however it is written', async () => {
  const upstreams = await startUpstreams({});
  for (const url of ['https://api.test./', 'https://\uff41pi.test/', 'https://API.test:443/']) await ask(upstreams, url);
  expect(upstreams.received.map(({ headers }) => headers.host)).toEqual(['api.test', 'api.test', 'api.test']);
});

const ELSEWHERE = [
  'https://\u0430pi.test/',
  'https://api.test.evil.test/',
  'https://api.test@evil.test/',
  'https://evil.test\\@api.test/',
  'https://evil.test#@api.test/',
  'https://evil.test?@api.test/',
  'https://api.test:0443/',
  'https://%61pi.test/',
  'https://api%2etest/',
  'https://[fe80::1%25eth0]/',
  'https://2130706433/',
  'https://0x7f.1/',
  'https://localhost./',
  'https:/api.test/',
  'https:\\\\api.test/',
  'http://api.test/',
  'ftp://api.test/',
  ' https://api.test/',
  'https://api.test/\r\nX: y',
  'https://api\u00ad.test/\u2028',
];

it('nothing is sent to what is another host, or may be', async () => {
  const upstreams = await startUpstreams({});
  for (const url of ELSEWHERE) expect((await failureOf(() => ask(upstreams, url))).code, url).toBe('url-forbidden');
  expect(upstreams.dialled).toEqual([]);
});

it('a name that moves to a private address is not dialled there', async () => {
  const answers = [['203.0.112.1'], ['169.254.169.254'], ['::ffff:10.0.0.1'], ['64:ff9b::7f00:1']];
  const upstreams = await startUpstreams({ dial: { lookup: () => Promise.resolve(answers.shift() ?? []) } });
  const setting = { hosts: ['*.api.test'] };
  const input = { url: 'https://a.api.test/', method: 'POST', body: 'x' };
  expect((await ask(upstreams, input, setting)).status).toBe(200);
  for (let round = 0; round < 3; round += 1) expect((await failureOf(() => ask(upstreams, input, setting))).code).toBe('address-forbidden');
  expect(upstreams.dialled).toEqual(['203.0.112.1:443']);
});

it('a redirect is not followed, and does not tell the value that it repeats', async () => {
  const value = canary();
  const upstreams = await startUpstreams({
    serve: (request, response) => {
      response.writeHead(307, { location: `https://evil.test${String(request.url)}`, refresh: `0; url=//evil.test/?${value}` }).end();
    },
  });
  const result = await ask(upstreams, 'https://api.test/?a=b', { value, location: { kind: 'query', name: 'key' } });
  expect(result).toMatchObject({ status: 307, headers: { location: `https://evil.test/?a=b&key=${MARK}` } });
  expect(JSON.stringify(result)).not.toContain(value);
  expect(upstreams.dialled.length).toBe(1);
});

// --- Past a rule ---

it('a rule that denies a path is not passed by a path that servers read in different ways', async () => {
  const cel = await openCel();
  const policies = (['deny', 'allow'] as const).map((effect) => {
    const rule = cel.compile(effect === 'deny' ? "request.path.startsWith('/admin')" : "ref == 'github/pat'");
    if (!('evaluate' in rule)) throw new Error('the rule does not compile');
    return { name: effect, effect, rule };
  });
  const outcomes: (string | undefined)[] = [];
  const service = {
    with: (caller: Caller, ask_: Ask): Promise<never> => {
      const request = { tool: 'fetch' as const, ...(ask_.request ?? { method: '', host: '', path: '' }) };
      outcomes.push(permit({ ...caller, ref: ask_.ref, context: {}, request }, policies).policy);
      return Promise.reject(new ServerFailure('denied', 'that is all'));
    },
  } as unknown as UseCaseParts['service'];
  const useCases = new UseCases({ service } as UseCaseParts);
  const identity = { org: '', service: '', env: '', action: '', branch: '', actor: '', groups: [] };
  const caller: Caller = { issuer: 'dev', iss: 'https://dev.test', sub: 'me', id: 'x', identity, claims: {}, expiresAt: 0 };
  const paths = ['/admin', '/%61dmin', '/x/../admin', '//admin', '/;x/admin', '/x%2f..%2fadmin', '/%2e%2e;/admin', '/%2561dmin', '/public'];
  for (const path of paths) {
    const call = { resource: REF, url: `https://api.test${path}` };
    await failureOf(() => useCases.fetch(caller, call, { face: 'http', signal: new AbortController().signal }));
  }
  expect(outcomes).toEqual(paths.map((path) => (path === '/public' ? 'allow' : 'deny')));
});
