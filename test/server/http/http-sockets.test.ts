import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import http from 'node:http';
import https from 'node:https';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import type { KzError } from '../../../src/core/errors.ts';
import { ServerFailure } from '../../../src/server/failure.ts';
import { call, CALLER, closeLabs, deferred, lab, openLab, raw } from './http-lab.ts';

afterEach(closeLabs);

describe('limits', () => {
  it('of a caller: 429, and when to come again', async () => {
    const at = await lab({ limits: { rate: 1, burst: 1 } });
    const refs = ['a', 'b', 'c'];
    expect((await call(at, '/v1/resolve', { body: { refs } })).status).toBe(200);
    const reply = await call(at, '/v1/resolve', { body: { refs } });
    expect([reply.status, reply.json]).toEqual([429, { error: 'this caller asks too often', code: 'rate-limited' }]);
    expect(reply.headers['retry-after']).toBe('2');
  });

  it('of all callers: 503, while probes are answered', async () => {
    const { promise, resolve } = deferred();
    const at = await lab({
      limits: { inFlight: 2 },
      resolve: async () => {
        await promise;
        return { allowed: true, policy: 'p', mode: 'masked' };
      },
    });
    const running = [call(at, '/v1/resolve', { body: { ref: 'a' } }), call(at, '/v1/resolve', { body: { ref: 'b' } })];
    await expect.poll(() => at.limits.inFlight).toBe(2);
    const reply = await call(at, '/v1/resolve', { body: { ref: 'c' } });
    expect([reply.status, reply.headers['retry-after'], reply.json]).toEqual([
      503,
      '1',
      { error: 'too many requests are in flight', code: 'overloaded' },
    ]);
    expect((await call(at, '/healthz')).status).toBe(200);
    expect((await call(at, '/metrics')).text).toContain('\nkz_in_flight 2\n');
    resolve();
    expect((await Promise.all(running)).map(({ status }) => status)).toEqual([200, 200]);
    expect(at.limits.inFlight).toBe(0);
  });

  it('of those that nobody knows: they leave room for callers, however slowly they send to /mcp', async () => {
    const at = await lab({
      limits: { inFlight: 4, strangers: 2 },
      mcp: (request, response) => request.resume().once('end', () => response.end('done')),
    });
    const { port, hostname } = new URL(at.server.url);
    const slow = Array.from({ length: 3 }, (_, index) => {
      const socket = net.connect(Number(port), hostname);
      const token = index === 0 ? 'Authorization: Bearer bad\r\n' : '';
      socket.on('error', () => undefined).write(`POST /mcp HTTP/1.1\r\nHost: localhost\r\n${token}Content-Length: 9\r\n\r\n{`);
      return socket;
    });
    const [refused] = (await Promise.race(slow.map((socket) => once(socket, 'data')))) as [Buffer];
    expect(refused.toString()).toMatch(/^HTTP\/1\.1 503 .*"code":"overloaded"/s);
    expect(at.limits.inFlight).toBe(2);
    expect((await call(at, '/mcp', { body: 'anything' })).text).toBe('done');
    expect((await call(at, '/v1/resolve', { body: { ref: 'a' } })).status).toBe(200);
    for (const socket of slow) socket.destroy();
    await expect.poll(() => at.limits.inFlight).toBe(0);
    expect((await call(at, '/mcp', { method: 'DELETE' })).text).toBe('done');
  });

  it('of one caller: half of all places', async () => {
    const { promise, resolve } = deferred();
    const at = await lab({
      limits: { inFlight: 4, rate: 100, burst: 100 },
      mcp: (_request, response) => response.end('done'),
      resolve: async () => {
        await promise;
        return { allowed: true, policy: 'p', mode: 'masked' };
      },
    });
    const running = ['a', 'b'].map((ref) => call(at, '/v1/resolve', { body: { ref } }));
    await expect.poll(() => at.limits.inFlight).toBe(2);
    const reply = await call(at, '/v1/resolve', { body: { ref: 'c' } });
    expect([reply.status, reply.headers['retry-after'], reply.json]).toEqual([
      ...[429, '1', { error: 'this caller has too many requests in flight', code: 'rate-limited' }],
    ]);
    expect(at.refused).toEqual([{ code: 'rate-limited', caller: CALLER, tool: 'resolve' }]);
    expect((await call(at, '/mcp', { body: {} })).status).toBe(429);
    resolve();
    expect((await Promise.all(running)).map(({ status }) => status)).toEqual([200, 200]);
    expect((await call(at, '/mcp', { body: {} })).text).toBe('done');
    expect((await call(at, '/v1/resolve', { body: { ref: 'd' } })).status).toBe(200);
  });

  it('leave room for 1,000 calls at once', async () => {
    const at = await lab();
    const agent = new http.Agent({ maxSockets: 1000 });
    const replies = await Promise.all(
      Array.from({ length: 1000 }, (_, index) => call(at, '/v1/resolve', { body: { ref: `r/${String(index)}` }, agent })),
    );
    agent.destroy();
    expect(
      replies.every(
        ({ status, json }, index) => status === 200 && Object.hasOwn((json as { results: object }).results, `r/${String(index)}`),
      ),
    ).toBe(true);
    expect([at.asked.length, at.limits.inFlight]).toEqual([1000, 0]);
  });
});

describe('slow clients', () => {
  const quick = { timeouts: { head: 100, request: 200, check: 20 } };

  it('do not hold a connection with half a head', async () => {
    expect(await raw(await lab(quick), 'GET /healthz HTTP/1.1\r\nHost: loc')).toMatch(/^HTTP\/1\.1 408 /);
  });

  it('do not hold one with half a body', async () => {
    const at = await lab(quick);
    const head =
      'POST /v1/resolve HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer good\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n';
    expect(await raw(at, `${head}{"ref"`)).toMatch(/^HTTP\/1\.1 408 /);
    await expect.poll(() => at.limits.inFlight).toBe(0);
    expect(at.asked).toEqual([]);
  });
});

describe('a client that goes away', () => {
  it('stops what was done for it', async () => {
    const begun = deferred();
    const ended = deferred<unknown>();
    const at = await lab({
      resolve: (_caller, _ask, signal) => {
        begun.resolve();
        return new Promise((_resolve, reject) => {
          signal.addEventListener('abort', () => {
            ended.resolve(signal.aborted);
            reject(new ServerFailure('cancelled', 'the call was cancelled'));
          });
        });
      },
    });
    const gone = new AbortController();
    const reply = call(at, '/v1/resolve', { body: { ref: 'a' }, signal: gone.signal });
    await begun.promise;
    gone.abort();
    await expect(reply).rejects.toThrow('aborted');
    expect(await ended.promise).toBe(true);
    await expect.poll(() => at.limits.inFlight).toBe(0);
    expect(at.metrics.text()).toContain('route="/v1/resolve",status="499"');
  });

  it('in the middle of its body asks for nothing', async () => {
    const at = await lab();
    const socket = net.connect(Number(new URL(at.server.url).port), '127.0.0.1');
    socket.write(
      'POST /v1/resolve HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer good\r\nContent-Type: application/json\r\nContent-Length: 11\r\n\r\n{"ref"',
    );
    await expect.poll(() => at.limits.inFlight).toBe(1);
    socket.destroy();
    await expect.poll(() => at.limits.inFlight).toBe(0);
    expect(at.asked).toEqual([]);
  });

  it('with one side only gets its answer', async () => {
    const at = await lab();
    const socket = net.connect(Number(new URL(at.server.url).port), '127.0.0.1');
    socket.end('GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n');
    let text = '';
    for await (const chunk of socket) text += String(chunk);
    expect(text).toMatch(/^HTTP\/1\.1 200 /);
  });
});

describe('the door for MCP', () => {
  it('is guarded, counted, and otherwise left alone', async () => {
    const seen: string[] = [];
    const at = await lab({
      mcp: (request, response) => {
        seen.push(`${request.method ?? ''} ${String(request.headers.authorization)}`);
        request.resume().once('end', () => response.writeHead(202, { 'content-type': 'text/x-mcp' }).end(String(at.limits.inFlight)));
      },
    });
    const reply = await call(at, '/mcp', { method: 'POST', body: 'anything' });
    expect([reply.status, reply.text, reply.headers['cache-control']]).toEqual([202, '1', 'no-store']);
    expect((await call(at, '/mcp', { method: 'DELETE' })).status).toBe(202);
    expect((await call(at, '/mcp', { method: 'PUT' })).status).toBe(405);
    expect((await call(at, '/mcp', { headers: { host: 'evil.example.com' } })).status).toBe(403);
    expect((await call(at, '/mcp', { headers: { origin: 'https://evil.example.com' } })).status).toBe(403);
    expect(seen).toEqual(['POST Bearer good', 'DELETE undefined']);
    await expect.poll(() => at.limits.inFlight).toBe(0);
    expect(at.metrics.text()).toContain('kz_request_duration_seconds_count{route="/mcp",status="202"} 2');
  });
});

describe('the end', () => {
  it('waits for what runs, and refuses what is new', async () => {
    const { promise, resolve } = deferred();
    const begun = deferred();
    const at = await openLab({
      resolve: async () => {
        begun.resolve();
        await promise;
        return { allowed: true, policy: 'p', mode: 'masked' };
      },
    });
    const running = call(at, '/v1/resolve', { body: { ref: 'a' } });
    await begun.promise;
    const closed = at.server.close();
    const late = await call(at, '/v1/resolve', { body: { ref: 'b' } });
    expect([late.status, late.json, late.headers['retry-after'], late.headers.connection]).toEqual([
      ...[503, { error: 'this server is shutting down', code: 'overloaded' }, '1', 'close'],
    ]);
    // It lives, and can be looked at, but gets nothing new.
    const probes = await Promise.all(['/healthz', '/metrics', '/readyz'].map((path) => call(at, path)));
    expect(probes.map(({ status, headers }) => [status, headers.connection])).toEqual([
      ...[200, 200, 503].map((status) => [status, 'close']),
    ]);
    resolve();
    const reply = await running;
    expect([reply.status, reply.headers.connection]).toEqual([200, 'close']);
    await closed;
    await expect(call(at, '/healthz')).rejects.toThrow('ECONNREFUSED');
  });

  it('does not wait for ever', async () => {
    const begun = deferred();
    const aborted = deferred();
    const at = await openLab({
      timeouts: { drain: 50 },
      resolve: (_caller, _ask, signal) => {
        begun.resolve();
        signal.addEventListener('abort', () => {
          aborted.resolve();
        });
        return new Promise(() => undefined);
      },
    });
    const running = call(at, '/v1/resolve', { body: { ref: 'a' } });
    running.catch(() => undefined);
    await begun.promise;
    await at.server.close();
    await aborted.promise;
    await expect(running).rejects.toThrow();
  });

  it('does not wait for connections that are idle', async () => {
    const at = await openLab();
    const agent = new http.Agent({ keepAlive: true });
    await call(at, '/healthz', { agent });
    const before = performance.now();
    await Promise.all([at.server.close(), at.server.close()]);
    expect(performance.now() - before).toBeLessThan(1000);
    agent.destroy();
  });
});

describe('listening', () => {
  it('on a port that is taken is an error with its address', async () => {
    const at = await lab();
    const address = new URL(at.server.url).host;
    await expect(openLab({ address })).rejects.toThrow(
      expect.objectContaining({ code: 'start-failed', message: `cannot listen on ${address}: something else listens there` }) as KzError,
    );
  });

  it('with TLS, and with another certificate from then on', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'kz-http-'));
    const identity = (name: string) => {
      const [cert, key] = [join(folder, `${name}.crt`), join(folder, `${name}.key`)];
      const args = ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2', '-subj', `/CN=${name}`];
      execFileSync('openssl', [...args, '-addext', 'subjectAltName=IP:127.0.0.1', '-keyout', key, '-out', cert], { stdio: 'ignore' });
      return { cert: readFileSync(cert, 'utf8'), key: readFileSync(key, 'utf8') };
    };
    const [first, second] = [identity('first'), identity('second')];
    rmSync(folder, { recursive: true });
    const { server } = await lab({ tls: first });
    expect(server.url).toMatch(/^https:\/\/127\.0\.0\.1:\d+$/);
    const status = (ca: string) =>
      new Promise((resolve) => {
        https
          .get(`${server.url}/healthz`, { ca, agent: false }, (response) => {
            response.resume();
            resolve(response.statusCode);
          })
          .on('error', () => {
            resolve(undefined);
          });
      });
    expect([await status(first.cert), await status(second.cert)]).toEqual([200, undefined]);
    server.reloadTls(second);
    expect([await status(first.cert), await status(second.cert)]).toEqual([undefined, 200]);
    expect(() => {
      server.reloadTls({ cert: first.cert, key: second.key });
    }).toThrow(expect.objectContaining({ code: 'config-invalid' }) as KzError);
    expect(await status(second.cert)).toBe(200);
    // Plain text gets nothing.
    await expect(fetch(`${server.url.replace('https', 'http')}/healthz`)).rejects.toThrow();
    // Nor does who says nothing hold up the end.
    const silent = net.connect(Number(new URL(server.url).port), '127.0.0.1');
    silent.on('error', () => undefined);
    await once(silent, 'connect');
    await server.close();
    await expect(openLab({ tls: { cert: 'no', key: 'no' } })).rejects.toThrow('cannot use the TLS certificate and key');
  });
});
