// Programs that use Node's own clients, run with the preload as it ships against a small proxy.
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { openWorkbench, type Workbench } from '../fixtures/preload-run.ts';

let bench: Workbench;

beforeAll(async () => {
  bench = await openWorkbench();
});
afterAll(() => bench.close());
beforeEach(() => {
  bench.proxy.seen.length = 0;
});

async function answerOf(name: string): Promise<unknown> {
  const { answer, stderr, code } = await bench.client(name);
  expect({ stderr, code }).toEqual({ stderr: '', code: 0 });
  return answer;
}

const through = (authority: string) => ({ authority, authorized: true });

describe('a client of Node', () => {
  it.each(['fetch', 'https', 'https own agent', 'https without agent', 'http2'])(
    '%s goes through the proxy and trusts it',
    async (name) => {
      expect(await answerOf(name)).toMatchObject({ host: expect.stringMatching(/^api\.test(:443)?$/) as string });
      expect(bench.proxy.seen).toEqual([through('api.test:443')]);
    },
  );

  it.each(['fetch of http', 'http'])('%s goes through the proxy', async (name) => {
    expect(await answerOf(name)).toEqual({ host: 'api.test', version: '1.1' });
    expect(bench.proxy.seen).toEqual([through('api.test:80')]);
  });

  it('http2 without TLS goes through the proxy, and fails where nobody speaks it', async () => {
    expect(await answerOf('http2 without TLS')).toMatch(/^ERR_HTTP2/);
    expect(bench.proxy.seen).toEqual([through('echo.test:7')]);
  });

  it.skipIf(!('WebSocket' in globalThis))('WebSocket goes through the proxy', async () => {
    expect(await answerOf('websocket')).toBe('hello');
    // Node 26 makes a second connection, after it tried HTTP/2.
    expect(bench.proxy.seen[0]).toEqual(through('api.test:443'));
  });

  it.each(['worker', 'child process', 'commonjs'])('is routed in a %s, too', async (name) => {
    expect(await answerOf(name)).toMatchObject({ host: 'api.test' });
    expect(bench.proxy.seen).toEqual([through('api.test:443')]);
  });

  it('is routed by a function that was imported by name', async () => {
    expect(await answerOf('imported connect')).toBe('220 hello\r\n');
    expect(bench.proxy.seen).toEqual([through('greeting.test:21')]);
  });
});

describe('a socket', () => {
  it('has the events of any socket, in their order', async () => {
    expect(await answerOf('events of a socket')).toEqual(['connect', 'ready', 'data', 'end', 'close']);
    expect(await answerOf('events of TLS')).toEqual(['connect', 'ready', 'secureConnect', 'end', 'close']);
  });

  it('is connecting until the proxy has answered, and then has the address of its target', async () => {
    expect(await answerOf('states of a socket')).toEqual({
      before: [true, true, 'opening'],
      after: [false, false, 'open'],
      remoteAddress: '203.0.113.9',
      remoteFamily: 'IPv4',
      remotePort: 7,
    });
  });

  it('can be written to and ended before it is connected', async () => {
    expect(await answerOf('half close')).toBe('all at once');
    expect(await answerOf('early TLS write')).toBe('HTTP/1.1 200 OK');
  });

  it('carries much', async () => {
    expect(await answerOf('large echo')).toBe(5_000_000);
  });

  it.each(['TLS on a socket that connects', 'TLS on a socket that connects since a while', 'TLS on a connected socket'])(
    'takes %s',
    async (name) => {
      expect(await answerOf(name)).toEqual({ authorized: true, first: 'HTTP/1.1 200 OK' });
    },
  );

  it('resumes TLS sessions', async () => {
    expect(await answerOf('session resumption')).toEqual([false, true]);
  });

  it('reads into the buffer its program gave, from the first byte on', async () => {
    expect(await answerOf('onread')).toEqual(['220 hello\r\n', '0123456789']);
  });

  it('leaves the name to the proxy', async () => {
    expect(await answerOf('a lookup of its own')).toEqual({ asked: false, text: '220 hello\r\n' });
  });

  it('can be connected again', async () => {
    expect(await answerOf('connected again')).toEqual(['again', 'again']);
    expect(await answerOf('connected again at once')).toEqual({ text: '220 hello\r\n', connected: 1 });
  });
});

describe('while the proxy does not answer', () => {
  it('a socket can be aborted, destroyed, and time out', async () => {
    expect(await answerOf('aborted connect')).toEqual(['error', 'close']);
    expect(await answerOf('destroyed TLS')).toEqual(['close']);
    expect(await answerOf('timed out connect')).toEqual(['timeout', 'close']);
  });

  it('a socket that is unref’d lets the program end', async () => {
    expect(await answerOf('unref while connecting')).toBe('ready');
  });
});

it('lets a server that keeps connections alive end with its standard input', async () => {
  const child = bench.start('kept alive');
  const ended = new Promise((resolve) =>
    child.on('exit', (code, signal) => {
      resolve({ code, signal, ms: Date.now() - from });
    }),
  );
  let from = 0;
  child.stdout?.once('data', () => {
    from = Date.now();
    child.stdin?.end();
  });
  const { ms, ...status } = (await ended) as { ms: number };
  expect(status).toEqual({ code: 0, signal: null });
  expect(ms).toBeLessThan(1500);
});

it('leaves loopback and pipes alone', async () => {
  const answer = await answerOf('loopback');
  expect(new Set(Object.values(answer as object))).toEqual(new Set(['direct']));
  expect(bench.proxy.seen).toEqual([]);
});

it('leaves impossible targets to Node', async () => {
  expect(await answerOf('impossible port')).toBe('ERR_SOCKET_BAD_PORT');
  expect(await answerOf('forbidden name')).toMatch(/^E(NOTFOUND|AI_AGAIN)$/);
  expect(bench.proxy.seen).toEqual([]);
});

describe('a refusal', () => {
  it('looks like a refused connection and says why', async () => {
    const code = 'ECONNREFUSED';
    expect(await answerOf('refusals')).toEqual({
      forbidden: { code, status: 403, message: "connect forbidden.test:443: kz's proxy answered 403: no rule allows forbidden.test" },
      broken: { code, status: 502, message: "connect broken.test:443: kz's proxy answered 502: name not found [31m" },
      empty: { code, status: 504, message: "connect empty.test:443: kz's proxy answered 504" },
      babble: { code: 'ECONNRESET', message: "connect babble.test:443: kz's proxy gave no answer" },
      close: { code: 'ECONNRESET', message: "connect close.test:443: kz's proxy gave no answer" },
    });
  });

  it('is the cause of a failed fetch', async () => {
    expect(await answerOf('refused fetch')).toMatchObject({
      code: 'ECONNREFUSED',
      message: expect.stringContaining('no rule allows') as string,
    });
  });

  it('meets a program with the wrong credential', async () => {
    const url = `http://kz:CANARY-wrong@127.0.0.1:${String(bench.proxy.port)}`;
    const { stderr } = await bench.client('https', { KEYZERO_PROXY: url });
    expect(stderr).toContain("kz's proxy answered 407: unknown run");
    expect(stderr).not.toContain('CANARY');
  });

  it('is what is left when kz has ended', async () => {
    const { stderr } = await bench.client('https', { KEYZERO_PROXY: 'http://kz:CANARY-gone@127.0.0.1:1' });
    expect(stderr).toContain("connect api.test:443: no connection to kz's proxy on 127.0.0.1:1 (ECONNREFUSED)");
    expect(stderr).not.toContain('CANARY');
  });
});
