// The faces of the server against clients that behave badly: who leaves at the wrong moment, who asks from a web page, who does not read.
import { spawn, type ChildProcess, type ChildProcessWithoutNullStreams } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import net from 'node:net';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { call, CALLER, closeLabs, deferred, lab, raw } from '../../server/http/http-lab.ts';
import { ServeLab } from '../../server/serve-lab.ts';
import { KZ } from '../../stories/kz.ts';

afterEach(closeLabs);

const HEAD =
  'POST /v1/resolve HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer good\r\nContent-Type: application/json\r\nContent-Length: 10\r\n\r\n';

describe('a client that goes away', () => {
  it('while its token is verified is not waited for: its place among those in flight is free again', async () => {
    const verified = deferred();
    const at = await lab({
      service: {
        bundleVersion: '1',
        verify: async () => {
          await verified.promise;
          return CALLER;
        },
        refused: () => undefined,
      },
    });
    const { port, hostname } = new URL(at.server.url);
    const sockets = Array.from({ length: 20 }, () => net.connect(Number(port), hostname));
    for (const socket of sockets) socket.on('error', () => undefined).write(HEAD);
    await expect.poll(() => at.limits.inFlight).toBe(20);
    for (const socket of sockets) socket.resetAndDestroy();
    await expect.poll(() => at.metrics.text()).toContain('kz_request_duration_seconds_count{route="/v1/resolve",status="499"} 20\n');
    verified.resolve();
    await expect.poll(() => at.limits.inFlight).toBe(0);
    expect(at.asked).toEqual([]);
  });
});

describe('readiness', () => {
  it('is found out once for all who ask, however long that takes', async () => {
    const { promise, resolve } = deferred();
    let asked = 0;
    const at = await lab({
      ready: async () => {
        asked += 1;
        await promise;
        return { ok: true, problems: [] };
      },
    });
    const first = Array.from({ length: 50 }, () => call(at, '/readyz'));
    await new Promise((later) => setTimeout(later, 1200));
    const later = Array.from({ length: 50 }, () => call(at, '/readyz'));
    await expect.poll(() => asked).toBe(1);
    resolve();
    expect(new Set((await Promise.all([...first, ...later])).map(({ status }) => status))).toEqual(new Set([200]));
    expect(asked).toBe(1);
  });
});

describe('a web page', () => {
  const ASK = JSON.stringify({ resource: 'a/value' });
  const CALL = JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'tools/call', params: { name: 'list_resources', arguments: {} } });

  it.each<[string, string, Record<string, string>, string]>([
    ['that was rebound to loopback', '/v1/resolve', { host: 'evil.test', 'content-type': 'application/json' }, ASK],
    ['that names itself', '/v1/resolve', { origin: 'https://evil.test', 'content-type': 'application/json' }, ASK],
    ['in a sandbox', '/v1/resolve', { origin: 'null', 'content-type': 'application/json' }, ASK],
    ['of another port', '/v1/resolve', { origin: 'http://localhost:1', 'content-type': 'application/json' }, ASK],
    ['that needs no preflight', '/v1/resolve', { 'content-type': 'text/plain' }, ASK],
    ['with a form', '/v1/resolve', { 'content-type': 'application/x-www-form-urlencoded' }, `${ASK}=`],
    ['that says two types', '/v1/resolve', { 'content-type': 'text/plain; application/json' }, ASK],
    ['without a type', '/v1/resolve', {}, ASK],
    ['that asks MCP, rebound', '/mcp', { host: 'evil.test', 'content-type': 'application/json' }, CALL],
    ['that asks MCP, by its name', '/mcp', { origin: 'https://evil.test', 'content-type': 'application/json' }, CALL],
    ['that asks MCP as text', '/mcp', { origin: 'null', 'content-type': 'text/plain' }, CALL],
  ])('%s is refused before its body or its token is looked at', async (_, path, headers, body) => {
    let verified = 0;
    const verify = (): Promise<typeof CALLER> => {
      verified += 1;
      return Promise.resolve(CALLER);
    };
    const mcp = (): void => {
      verified += 1;
    };
    const at = await lab({ service: { bundleVersion: '1', verify, refused: () => undefined }, mcp });
    const all = { host: 'localhost', authorization: 'Bearer good', ...headers };
    const head = Object.entries(all).map(([name, value]) => `${name}: ${value}\r\n`);
    const answer = await raw(
      at,
      `POST ${path} HTTP/1.1\r\n${head.join('')}connection: close\r\ncontent-length: ${String(body.length)}\r\n\r\n${body}`,
    );
    expect(answer).toMatch(/^HTTP\/1\.1 (?:403|415) /);
    expect(answer.toLowerCase()).not.toContain('access-control-');
    expect([verified, at.asked]).toEqual([0, []]);
  });

  it('gets no leave from a preflight', async () => {
    const at = await lab();
    const reply = await call(at, '/v1/resolve', {
      method: 'OPTIONS',
      headers: { origin: 'https://evil.test', 'access-control-request-method': 'POST' },
    });
    expect(reply.status).toBe(403);
    expect(Object.keys(reply.headers).filter((name) => name.startsWith('access-control'))).toEqual([]);
  });
});

describe('the process', () => {
  let served: ServeLab;
  const children: ChildProcess[] = [];

  beforeEach(() => {
    served = new ServeLab();
    writeFileSync(served.path('agent.jwt'), served.jwt());
  });

  afterEach(async () => {
    for (const child of children.splice(0)) if (child.exitCode === null && child.signalCode === null) child.kill('SIGKILL');
    await served.end();
  });

  function spawnServer(...args: string[]): ChildProcessWithoutNullStreams {
    const child = spawn(process.execPath, [KZ, 'server', 'start', '--bundle', served.bundle, ...args], {
      cwd: served.folder,
      env: { PATH: process.env.PATH, HOME: served.folder, XDG_STATE_HOME: served.path('state') },
    });
    children.push(child);
    return child;
  }

  async function addressOf({ stderr }: ChildProcessWithoutNullStreams): Promise<string> {
    let text = '';
    for await (const chunk of stderr) {
      text += String(chunk);
      const [, url] = /listening on (\S+)/.exec(text) ?? [];
      if (url !== undefined) return url;
    }
    throw new Error(text);
  }

  function ask(url: string, resource = 'a/value'): Promise<Response> {
    const headers = { authorization: `Bearer ${served.jwt()}`, 'content-type': 'application/json' };
    return fetch(`${url}/v1/resolve`, { method: 'POST', headers, body: JSON.stringify({ resource }) });
  }

  it('serves on when nobody reads its log, and says in it how much was lost', async () => {
    const child = spawnServer('--listen', '127.0.0.1:0', '--rate', 'off');
    child.stdout.pause();
    const url = await addressOf(child);
    for (let round = 0; round < 20; round++) {
      const replies = await Promise.all(Array.from({ length: 25 }, () => ask(url)));
      expect(new Set(replies.map(({ status }) => status))).toEqual(new Set([200]));
    }
    const ended = once(child, 'exit');
    child.kill('SIGTERM');
    let text = '';
    child.stdout.setEncoding('utf8').on('data', (chunk: string) => (text += chunk));
    expect(await ended).toEqual([0, null]);
    await once(child.stdout, 'close').catch(() => undefined);
    const lines = text.trimEnd().split('\n');
    expect(lines).toHaveLength(502);
    expect(JSON.parse(lines.at(-1) ?? '')).toMatchObject({ type: 'server-ended', lost: 0 });
  });

  it.each(['SIGTERM', 'end of input'])('ends at %s although its MCP client reads nothing', async (how) => {
    const child = spawnServer('--mcp', '--audit', './audit.jsonl', '--jwt-file', 'agent.jwt');
    const send = (message: object): boolean => child.stdin.write(`${JSON.stringify({ jsonrpc: '2.0', ...message })}\n`);
    let errors = '';
    child.stderr.setEncoding('utf8').on('data', (chunk: string) => (errors += chunk));
    child.stdin.on('error', () => undefined);
    const clientInfo = { name: 'test', version: '1' };
    send({ id: 0, method: 'initialize', params: { protocolVersion: '2025-06-18', capabilities: {}, clientInfo } });
    await once(child.stdout, 'readable');
    send({ method: 'notifications/initialized' });
    for (let id = 1; id <= 300; id++) send({ id, method: 'tools/list', params: {} });
    send({ id: 301, method: 'tools/call', params: { name: 'list_resources', arguments: {} } });
    await expect.poll(() => served.lines.length, { timeout: 5000 }).toBe(2);
    const ended = once(child, 'exit');
    if (how === 'SIGTERM') child.kill('SIGTERM');
    else child.stdin.end();
    expect(await ended).toEqual([0, null]);
    expect(served.lines.map(({ type }) => type)).toEqual(['server-started', 'decision', 'server-ended']);
    expect(errors).toBe('');
  });

  it('ends in order while a backend is asked', async () => {
    served.writeBundle(['file: { type: env_file, path: ./secrets.env }', 'file: { type: exec, command: [sh, -c, "sleep 15"] }']);
    const child = spawnServer('--listen', '127.0.0.1:0', '--audit', './audit.jsonl');
    const url = await addressOf(child);
    let errors = '';
    child.stderr.on('data', (chunk: Buffer) => (errors += chunk.toString()));
    const asking = ask(url).catch((error: unknown) => error);
    await expect.poll(async () => (await fetch(`${url}/metrics`)).text()).toContain('\nkz_in_flight 1\n');
    const ended = once(child, 'exit');
    child.kill('SIGTERM');
    child.kill('SIGHUP');
    child.kill('SIGTERM');
    expect(await ended).toEqual([0, null]);
    await asking;
    expect(served.decisions).toMatchObject([{ ref: 'a/value', outcome: 'failed', code: 'cancelled' }]);
    expect(served.lines.at(-1)?.type).toBe('server-ended');
    expect(errors).not.toMatch(/\n\s+at |Unhandled|Warning:/);
  }, 20_000);
});
