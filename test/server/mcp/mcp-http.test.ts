import { createServer, request as httpRequest, type IncomingMessage } from 'node:http';
import type { AddressInfo } from 'node:net';
import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client';
import { Client as FormerClient } from '@modelcontextprotocol/sdk/client/index.js';
import { StreamableHTTPClientTransport as FormerTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import { afterEach, describe, expect, it } from 'vitest';
import type { McpHttp, McpHttpOptions } from '../../../src/server/mcp/mcp-http.ts';
import { openMcpHttp } from '../../../src/server/mcp/mcp-http.ts';
import { canary, Fakes, fetched, give, hanging, type Speaker } from './mcp-fakes.ts';

const closers: (() => Promise<unknown>)[] = [];

afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

async function serve(options: McpHttpOptions): Promise<{ readonly url: URL; readonly mcp: McpHttp }> {
  const mcp = await openMcpHttp(options);
  const server = createServer((request, response) => void mcp.handle(request, response));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  closers.push(async () => {
    await mcp.close();
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  });
  return { url: new URL(`http://127.0.0.1:${String((server.address() as AddressInfo).port)}/mcp`), mcp };
}

type Asker = Pick<Speaker, 'tools' | 'call'>;

type Connect = (url: URL, jwt?: string) => Promise<Asker>;

const requestOf = (jwt?: string): { requestInit?: RequestInit } => {
  return jwt === undefined ? {} : { requestInit: { headers: { authorization: `Bearer ${jwt}` } } };
};

function present(mode: 'auto' | 'legacy'): Connect {
  return async (url, jwt) => {
    const client = new Client({ name: 'test', version: '1' }, { versionNegotiation: { mode } });
    await client.connect(new StreamableHTTPClientTransport(url, requestOf(jwt)));
    closers.push(() => client.close());
    return {
      tools: async () => (await client.listTools()).tools,
      call: async (name, parameters = {}, options = {}) => give(await client.callTool({ name, arguments: parameters }, options)),
    };
  };
}

const former: Connect = async (url, jwt) => {
  const client = new FormerClient({ name: 'test', version: '1' });
  await client.connect(new FormerTransport(url, requestOf(jwt)));
  closers.push(() => client.close());
  return {
    tools: async () => (await client.listTools()).tools,
    call: async (name, parameters = {}, options = {}) => give(await client.callTool({ name, arguments: parameters }, undefined, options)),
  };
};

const CLIENTS: Readonly<Record<string, Connect>> = { modern: present('auto'), legacy: present('legacy'), former };

const FETCH = { resource: 'a', url: 'https://a.example' };

describe.each(Object.entries(CLIENTS))('%s client', (_, connect) => {
  it('lists and calls', async () => {
    const fakes = new Fakes();
    const { url } = await serve(fakes.options);
    const { tools, call } = await connect(url, 'bearer');
    expect((await tools()).map(({ name }) => name)).toEqual(['resolve', 'fetch', 'list_resources']);
    expect(await call('resolve', { resource: 'a' })).toMatchObject({ isError: false, structured: { token: 'KZ_TOK_eyJ.a-b_c.d' } });
    expect(await call('fetch', FETCH)).toMatchObject({ structured: { status: 200, body: '{"a":1}' } });
    expect(await call('fetch', { resource: 'a' })).toMatchObject({
      isError: true,
      text: expect.stringMatching(/^Input validation/) as unknown,
    });
    expect(fakes.jwts).toEqual(['bearer', 'bearer']);
  });

  it('takes the argument before the header, and never the server’s own', async () => {
    const fakes = new Fakes();
    const { url } = await serve(fakes.options);
    await (await connect(url, 'bearer')).call('list_resources', { jwt: 'mine' });
    expect((await (await connect(url)).call('list_resources')).text).toMatch(/^jwt-missing/);
    expect(fakes.jwts).toEqual(['mine', undefined]);
  });

  it('says nothing of what an error says', async () => {
    const fakes = new Fakes();
    const value = canary();
    fakes.onFetch = () => Promise.reject(new Error(value));
    const { url } = await serve(fakes.options);
    const { text } = await (await connect(url, 'x')).call('fetch', FETCH);
    expect(text).toMatch(/^internal/);
    expect(text).not.toContain(value);
  });

  it('stops a call whose client is gone', async () => {
    const fakes = new Fakes();
    const { url } = await serve(fakes.options);
    const { call } = await connect(url, 'x');
    const started = hanging(fakes);
    const cancel = new AbortController();
    const lost = expect(call('fetch', FETCH, { signal: cancel.signal })).rejects.toThrow();
    const signal = await started;
    const stopped = new Promise((resolve) => {
      signal.addEventListener('abort', resolve);
    });
    cancel.abort();
    await lost;
    // Former clients say so in a message of its own, which cannot reach a server without sessions: only closing the connection does.
    await closers.pop()?.();
    await stopped;
  });

  it('reports progress', async () => {
    const fakes = new Fakes();
    fakes.onFetch = (_input, progress) => {
      progress(1000);
      return Promise.resolve(fetched('x'));
    };
    const { url } = await serve(fakes.options);
    const seen: number[] = [];
    await (await connect(url, 'x')).call('fetch', FETCH, { onprogress: ({ progress }) => seen.push(progress) });
    expect(seen).toEqual([1000]);
  });

  it('serves 100 calls at once', async () => {
    const fakes = new Fakes();
    fakes.onFetch = ({ url }) => Promise.resolve(fetched(url));
    const { url } = await serve(fakes.options);
    const { call } = await connect(url, 'x');
    const urls = Array.from({ length: 100 }, (_, index) => `https://a.example/${String(index)}`);
    const answers = await Promise.all(urls.map((each) => call('fetch', { resource: 'a', url: each })));
    expect(answers.map(({ structured }) => (structured as { body: string }).body)).toEqual(urls);
  });

  it('shows its health only to who says who asks', async () => {
    const fakes = new Fakes();
    let asked = 0;
    const health = () => {
      asked += 1;
      return Promise.resolve({ bundleVersion: 'b', uptimeMs: 1, backends: [], resources: [{ ref: 'secret-name', ok: true }] });
    };
    const { url } = await serve({ ...fakes.options, useCases: { ...fakes.useCases, health } });
    expect((await (await connect(url)).call('health_check')).text).toMatch(/^jwt-missing/);
    const { call } = await connect(url, 'x');
    for (let round = 0; round < 3; round += 1) expect(await call('health_check')).toMatchObject({ structured: { status: 'ok' } });
    // Each request has a server of its own, and they remember together.
    expect(asked).toBe(1);
  });
});

const LIST = JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'tools/list' });
const HEADERS = { 'content-type': 'application/json', accept: 'application/json, text/event-stream' };

describe('bad requests', () => {
  const post = (url: URL, body: string | Buffer, headers: Record<string, string> = {}): Promise<Response> => {
    return fetch(url, { method: 'POST', headers: { ...HEADERS, ...headers }, body });
  };

  it.each<[string, string | Buffer, number]>([
    ['no JSON', '{"a":', 400],
    ['what is not UTF-8', Buffer.from(`{"jsonrpc":"2.0","id":1,"method":"ping","params":{"a":"\u00ff"}}`, 'latin1'), 400],
    ['an empty body', '', 400],
    ['a batch', `[${LIST},${LIST}]`, 400],
    ['no message', '{"a":1}', 400],
    ['a message of 2 MB', `{"a":"${'x'.repeat(2_000_000)}"}`, 413],
  ])('refuses %s', async (_, body, status) => {
    const { url } = await serve(new Fakes().options);
    const answer = await post(url, body);
    expect(answer.status).toBe(status);
    expect(await answer.json()).toMatchObject({ jsonrpc: '2.0', error: {} });
  });

  it('does not read on when too much comes without a length', async () => {
    const { url } = await serve(new Fakes().options);
    const answer = new Promise<IncomingMessage>((resolve, reject) => {
      const request = httpRequest(url, { method: 'POST', headers: HEADERS }, resolve);
      request.on('error', reject);
      // Not ended: the answer comes before the end of the request.
      for (let part = 0; part < 20; part += 1) request.write('x'.repeat(65_536));
      closers.push(() => Promise.resolve(request.destroy()));
    });
    expect((await answer).statusCode).toBe(413);
  });

  it('refuses another type, another method and another way to say who asks', async () => {
    const fakes = new Fakes();
    const { url } = await serve(fakes.options);
    expect((await post(url, LIST, { 'content-type': 'text/plain' })).status).toBe(415);
    for (const init of [{ headers: { accept: 'text/event-stream' } }, { method: 'DELETE' }]) {
      const { status, headers } = await fetch(url, init);
      expect({ status, allow: headers.get('allow') }).toEqual({ status: 405, allow: 'POST' });
    }
    const call = JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'tools/call', params: { name: 'list_resources' } });
    for (const authorization of ['Basic eDp5', 'Bearer', 'Bearer a b', '']) await (await post(url, call, { authorization })).text();
    expect(fakes.jwts).toEqual([undefined, undefined, undefined, undefined]);
  });

  it('survives a client that goes away in the middle of its message', async () => {
    const { url } = await serve(new Fakes().options);
    await new Promise((resolve) => {
      const request = httpRequest(url, { method: 'POST', headers: { ...HEADERS, 'content-length': '1000' } });
      request.on('error', resolve);
      request.write('{', () => {
        request.destroy(new Error('gone'));
      });
    });
    expect((await post(url, LIST)).status).toBe(200);
  });
});

it('ends streams of events when it is to drain, and goes on with calls', async () => {
  const fakes = new Fakes();
  let answer: () => void = () => undefined;
  const asked = new Promise<void>((resolve) => {
    fakes.onFetch = () =>
      new Promise((give) => {
        answer = () => {
          give(fetched('{"a":1}'));
        };
        resolve();
      });
  });
  const { url, mcp } = await serve(fakes.options);
  const client = new Client({ name: 'test', version: '1' }, { versionNegotiation: { mode: 'auto' } });
  await client.connect(new StreamableHTTPClientTransport(url, requestOf('bearer')));
  closers.push(() => client.close());
  const stream = await client.listen({ toolsListChanged: true });
  const call = client.callTool({ name: 'fetch', arguments: FETCH });
  await asked;
  await mcp.drain();
  expect(await stream.closed).toBe('graceful');
  answer();
  expect(await call).toMatchObject({ structuredContent: { status: 200 } });
});

it.each(Object.entries(CLIENTS))(
  'aborts the calls of a %s client that run when it is closed, and waits for their end',
  async (_, connect) => {
    const fakes = new Fakes();
    const { url, mcp } = await serve(fakes.options);
    const { call } = await connect(url, 'x');
    const steps: string[] = [];
    const started = new Promise<void>((resolve) => {
      fakes.onFetch = async (_input, _progress, signal) => {
        await new Promise((aborted) => {
          signal.addEventListener('abort', aborted);
          resolve();
        });
        steps.push('aborted');
        // As a request does whose socket is destroyed.
        await new Promise((closed) => setImmediate(closed));
        steps.push('written down');
        throw new Error('gone');
      };
    });
    call('fetch', FETCH).catch(() => undefined);
    await started;
    await mcp.close();
    expect(steps).toEqual(['aborted', 'written down']);
  },
);

it('refuses a stream of events whose message comes after the others have ended', async () => {
  const wrong: unknown[] = [];
  const { url, mcp } = await serve({ ...new Fakes().options, onInternal: (error) => wrong.push(error) });
  const listen = JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'subscriptions/listen', params: { notifications: {} } });
  await mcp.drain();
  const answer = await fetch(url, { method: 'POST', headers: HEADERS, body: listen });
  expect(answer.status).toBe(503);
  await mcp.close();
  expect((await fetch(url, { method: 'POST', headers: HEADERS, body: LIST })).status).toBe(503);
  expect(wrong).toEqual([]);
});
