// The request as it reaches a real TLS upstream, where it may go at all, and how it is given up.
import { getEventListeners, once } from 'node:events';
import http from 'node:http';
import type net from 'node:net';
import { expect, it } from 'vitest';
import { Secret } from '../../../src/core/secret.ts';
import { readFetch, sendFetch } from '../../../src/server/fetch/fetch.ts';
import { canary, failureOf, fetchFrom, REF, resource } from './fetching.ts';
import { startUpstreams } from './upstream.ts';

const URL_ = 'https://api.test/';

async function gone(socket: net.Socket | undefined): Promise<void> {
  if (socket === undefined) throw new Error('there was no connection');
  if (!socket.closed) await once(socket, 'close');
}

it('sends the request with the credential', async () => {
  const upstreams = await startUpstreams();
  const value = canary();
  const input = {
    url: 'https://api.test/repos/a%2Fb?x=1#y',
    method: 'POST',
    headers: { 'X-A': 'é', 'content-type': 'text/plain' },
    body: 'ä',
  };
  expect(await fetchFrom(upstreams, input, { value })).toMatchObject({ status: 200, body: 'ok', remasked: false });
  const [received] = upstreams.received;
  expect(received?.rawHeaders).toEqual([
    ...['Host', 'api.test', 'User-Agent', 'kz', 'Accept', '*/*', 'X-A', 'é', 'content-type', 'text/plain', 'Accept-Encoding', 'identity'],
    ...['Content-Length', '2', 'Connection', 'close', 'Authorization', `Bearer ${value}`],
  ]);
  expect(received).toMatchObject({ method: 'POST', url: '/repos/a%2Fb?x=1', body: Buffer.from('ä') });
});

it('puts it into another header, the query, or a login', async () => {
  const upstreams = await startUpstreams();
  const value = `${canary()}&/`;
  await fetchFrom(upstreams, URL_, { value, location: { kind: 'header', name: 'X-Api-Key', prefix: '' } });
  await fetchFrom(upstreams, URL_, { value, location: { kind: 'query', name: 'key' } });
  await fetchFrom(upstreams, 'https://api.test/a?b=c', { value, location: { kind: 'query', name: 'key' } });
  await fetchFrom(upstreams, URL_, { value, location: { kind: 'basic', user: 'me' } });
  const [header, query, longer, basic] = upstreams.received;
  expect(header?.headers).toMatchObject({ 'x-api-key': value });
  expect(query?.url).toBe(`/?key=${encodeURIComponent(value)}`);
  expect(longer?.url).toBe(`/a?b=c&key=${encodeURIComponent(value)}`);
  expect(basic?.headers.authorization).toBe(`Basic ${Buffer.from(`me:${value}`).toString('base64')}`);
});

it('names a port that is not the usual one, and an address in brackets', async () => {
  const upstreams = await startUpstreams({ address: '[2606:4700::1111]' });
  await fetchFrom(upstreams, 'https://[2606:4700::1111]:8443/', { hosts: ['[2606:4700::1111]'] });
  expect(upstreams.received[0]?.headers.host).toBe('[2606:4700::1111]:8443');
  expect(upstreams.dialled).toEqual(['2606:4700::1111:8443']);
});

it('sends nothing when the value cannot be sent', async () => {
  const upstreams = await startUpstreams();
  const failure = await failureOf(() => fetchFrom(upstreams, URL_, { value: 'S3CRET-value\n' }));
  expect(failure.code).toBe('secret-unavailable');
  expect(failure.text).not.toContain('S3CRET');
  expect(upstreams.dialled).toEqual([]);
});

it.each([
  ['127.0.0.1', 'loopback'],
  ['169.254.169.254', 'metadata'],
  ['::ffff:10.0.0.1', 'private'],
  ['::ffff:169.254.169.254', 'metadata'],
  ['10.1.2.3', 'private'],
  ['0.0.0.0', 'special'],
  ['::', 'special'],
  ['::1', 'loopback'],
  ['fd00:ec2::254', 'metadata'],
  ['fe80::1', 'link-local'],
  ['64:ff9b::a9fe:a9fe', 'metadata'],
  ['100.100.100.200', 'metadata'],
])('refuses a name below a wildcard that is at %s', async (address, kind) => {
  const upstreams = await startUpstreams({ lookup: { 'a.api.test': [address] } });
  const failure = await failureOf(() => fetchFrom(upstreams, 'https://a.api.test/', { hosts: ['*.api.test'] }));
  expect(failure).toMatchObject({ code: 'address-forbidden', message: `a.api.test is at ${address}, a ${kind} address` });
  expect(upstreams.dialled).toEqual([]);
});

it.each([
  'https://127.0.0.1/',
  'https://[::1]/',
  'https://[::ffff:7f00:1]/',
  'https://2130706433/',
  'https://0/',
  'https://169.254.169.254/latest/',
])('refuses %s where any host is allowed', async (url) => {
  const upstreams = await startUpstreams();
  expect((await failureOf(() => fetchFrom(upstreams, url, { hosts: ['*'] }))).code).toBe('address-forbidden');
  expect(upstreams.dialled).toEqual([]);
});

it('dials a private address of a host that is named exactly, also beside a wildcard', async () => {
  const upstreams = await startUpstreams({ lookup: { 'intranet.test': ['10.0.0.1'] } });
  await fetchFrom(upstreams, 'https://intranet.test/', { hosts: ['*', 'intranet.test'] });
  expect(upstreams.dialled).toEqual(['10.0.0.1:443']);
  // Its connection is still open, and is not for those whom only the wildcard covers.
  expect((await failureOf(() => fetchFrom(upstreams, 'https://intranet.test/', { hosts: ['*'] }))).code).toBe('address-forbidden');
});

it('dials only the addresses that are public', async () => {
  const upstreams = await startUpstreams({ lookup: { 'a.api.test': ['127.0.0.1', '203.0.112.7'] } });
  await fetchFrom(upstreams, 'https://a.api.test/', { hosts: ['*.api.test'] });
  expect(upstreams.dialled).toEqual(['203.0.112.7:443']);
});

it('asks through http where the port is named', async () => {
  const upstreams = await startUpstreams();
  await fetchFrom(upstreams, 'http://api.test:8080/x', { hosts: ['api.test:8080'] });
  expect(upstreams.received[0]).toMatchObject({ url: '/x', headers: { host: 'api.test:8080' } });
});

it.each([
  ['a name that does not exist', { lookup: () => Promise.reject(Object.assign(new Error('x'), { code: 'ENOTFOUND' })) }, 'ENOTFOUND'],
  ['a certificate that nobody knows', { ca: [] }, 'SELF_SIGNED_CERT_IN_CHAIN'],
])('fails for %s', async (_what, dial, code) => {
  const upstreams = await startUpstreams({ dial });
  const failure = await failureOf(() => fetchFrom(upstreams, URL_));
  expect(failure.code).toBe('upstream-failed');
  expect(failure.message).toContain(code);
  expect(upstreams.received).toEqual([]);
});

it('fails for a certificate of another host, and sends nothing', async () => {
  const upstreams = await startUpstreams({ address: '[2606:4700::1111]' });
  const failure = await failureOf(() => fetchFrom(upstreams, 'https://[2606:4700::2222]/', { hosts: ['[2606:4700::2222]'] }));
  expect(failure).toMatchObject({ code: 'upstream-failed' });
  expect(upstreams.received).toEqual([]);
});

it('gives up after its time, and closes the connection', async () => {
  const upstreams = await startUpstreams({ serve: () => undefined });
  const failure = await failureOf(() => fetchFrom(upstreams, URL_, { timeoutMs: 200 }));
  expect(failure).toMatchObject({ code: 'upstream-timeout', message: 'api.test had not answered in full after 0.2 s' });
  await gone(upstreams.connections[0]);
});

it('gives up on an answer that drips', async () => {
  const upstreams = await startUpstreams({
    serve: (_request, response) => {
      response.write('a');
    },
  });
  expect((await failureOf(() => fetchFrom(upstreams, URL_, { timeoutMs: 200 }))).code).toBe('upstream-timeout');
  await gone(upstreams.connections[0]);
});

it('is cancelled before it has begun', async () => {
  const upstreams = await startUpstreams();
  expect((await failureOf(() => fetchFrom(upstreams, URL_, { signal: AbortSignal.abort() }))).code).toBe('cancelled');
  expect(upstreams.dialled).toEqual([]);
});

it('is cancelled while it connects', async () => {
  const controller = new AbortController();
  const upstreams = await startUpstreams({
    dial: {
      lookup: () => {
        controller.abort();
        return new Promise(() => undefined);
      },
    },
  });
  expect((await failureOf(() => fetchFrom(upstreams, URL_, { signal: controller.signal }))).code).toBe('cancelled');
});

it('leaves a connection that came too late in order', async () => {
  const controller = new AbortController();
  let found: (addresses: readonly string[]) => void = () => undefined;
  const first = new Promise<readonly string[]>((resolve) => (found = resolve));
  const answers = [first, Promise.resolve(['203.0.112.2'])];
  const lookup = (): Promise<readonly string[]> => {
    controller.abort();
    return answers.shift() ?? Promise.reject(new Error('asked too often'));
  };
  const upstreams = await startUpstreams({ dial: { lookup } });
  expect((await failureOf(() => fetchFrom(upstreams, URL_, { signal: controller.signal }))).code).toBe('cancelled');
  found(['203.0.112.1']);
  expect((await fetchFrom(upstreams, URL_)).body).toBe('ok');
  expect((await fetchFrom(upstreams, URL_)).body).toBe('ok');
  expect(upstreams.received.length).toBe(2);
});

it('is cancelled while it waits for an answer', async () => {
  const controller = new AbortController();
  const upstreams = await startUpstreams({
    serve: () => {
      controller.abort();
    },
  });
  expect((await failureOf(() => fetchFrom(upstreams, URL_, { signal: controller.signal }))).code).toBe('cancelled');
  await gone(upstreams.connections[0]);
});

it('is cancelled in the middle of a slow answer, and closes the connection at once', async () => {
  const controller = new AbortController();
  const upstreams = await startUpstreams({
    serve: (_request, response) => {
      response.write('beginning');
    },
  });
  const { signal } = controller;
  let time = 0;
  const progress = (): void => {
    controller.abort();
  };
  const failure = await failureOf(() => fetchFrom(upstreams, URL_, { signal, progress, now: () => (time += 1000) }));
  expect(failure.code).toBe('cancelled');
  await gone(upstreams.connections[0]);
});

it('leaves no listener on a signal that lives longer', async () => {
  const controller = new AbortController();
  const upstreams = await startUpstreams();
  for (let round = 0; round < 3; round += 1) await fetchFrom(upstreams, URL_, { signal: controller.signal });
  expect(getEventListeners(controller.signal, 'abort')).toEqual([]);
  expect(upstreams.connections.length).toBe(1);
});

it('reports progress at most every 250 ms', async () => {
  const upstreams = await startUpstreams({
    serve: (_request, response) => {
      let left = 20;
      const more = (): void => {
        left -= 1;
        if (left === 0) response.end();
        else response.write('0123456789', () => setImmediate(more));
      };
      more();
    },
  });
  const seen: number[] = [];
  let time = 0;
  await fetchFrom(upstreams, URL_, { progress: (bytes) => seen.push(bytes), now: () => (time += 100) });
  expect(seen.length).toBeGreaterThan(0);
  expect(seen.length).toBeLessThanOrEqual(7);
  expect(seen).toEqual([...seen].sort((a, b) => a - b));
});

/** Serves one request on each connection, and breaks it off at the second. */
function oneEach(): http.RequestListener {
  const served = new WeakSet<net.Socket>();
  return (request, response) => {
    if (served.has(request.socket)) {
      request.socket.destroy();
      return;
    }
    served.add(request.socket);
    response.end('ok');
  };
}

it('sends again once what an old connection lost, when that is safe', async () => {
  const upstreams = await startUpstreams({ serve: oneEach() });
  for (let round = 0; round < 3; round += 1) {
    expect((await fetchFrom(upstreams, URL_)).body).toBe('ok');
    await new Promise(setImmediate);
  }
  expect(upstreams.connections.length).toBe(3);
});

it('does not send a POST again', async () => {
  const upstreams = await startUpstreams({ serve: oneEach() });
  await fetchFrom(upstreams, URL_);
  await new Promise(setImmediate);
  expect((await failureOf(() => fetchFrom(upstreams, { url: URL_, method: 'POST', body: 'x' }))).code).toBe('upstream-failed');
  expect(upstreams.connections.length).toBe(1);
});

it('reads an answer that comes before the upload is done, and leaves the connection to nobody', async () => {
  const upstreams = await startUpstreams({
    raw: (socket) => {
      socket.once('data', () => {
        socket.pause();
        socket.write('HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno');
      });
    },
  });
  const body = 'a'.repeat(1024 * 1024);
  expect(await fetchFrom(upstreams, { url: URL_, method: 'POST', body })).toMatchObject({ status: 413, body: 'no' });
});

it('carries 200 requests at once', async () => {
  const upstreams = await startUpstreams({ serve: (request, response) => response.end(request.url) });
  const value = canary();
  const paths = Array.from({ length: 200 }, (_none, index) => `/${String(index)}`);
  const results = await Promise.all(paths.map((path) => fetchFrom(upstreams, `https://api.test${path}`, { value })));
  expect(results.map(({ body }) => body)).toEqual(paths);
});

it('marks what it found with the ref that was asked for', async () => {
  const upstreams = await startUpstreams({ serve: (request, response) => response.end(request.headers.authorization) });
  const { entry } = resource();
  const credential = { entry: { ...entry, ref: 'github/*' }, ref: REF, secret: new Secret(canary()) };
  const { signal } = new AbortController();
  const result = await sendFetch(readFetch({ url: URL_ }), credential, { upstream: upstreams.upstream, signal });
  expect(result.body).toBe(`Bearer [redacted:${REF}]`);
});
