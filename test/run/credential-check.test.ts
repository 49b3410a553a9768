import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import http from 'node:http';
import https from 'node:https';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { inspect } from 'node:util';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Secret } from '../../src/core/secret.ts';
import { Authority } from '../../src/proxy/authority.ts';
import { Dialer, type DialOptions } from '../../src/proxy/dial.ts';
import { checkCredential, checkText, credentialDialer, type CheckedSecret } from '../../src/run/credential-check.ts';

const authority = Authority.create();
const opened: (() => void)[] = [];
let value = '';

interface Received {
  readonly method: string;
  readonly url: string;
  readonly headers: http.IncomingHttpHeaders;
}

let received: Received[] = [];

beforeEach(() => {
  value = `CANARY-${randomBytes(12).toString('hex')}`;
  received = [];
});

afterEach(() => {
  for (const close of opened.splice(0)) close();
});

async function listening(server: net.Server): Promise<number> {
  opened.push(() => server.close());
  server.on('connection', (socket: net.Socket) => {
    opened.push(() => socket.destroy());
    socket.on('error', () => undefined);
  });
  await once(server.listen(0, '127.0.0.1'), 'listening');
  const address = server.address();
  return typeof address === 'object' && address !== null ? address.port : 0;
}

/** Answers under every name; every host and port of the check leads there. */
async function upstream(answer: http.RequestListener | number, tls = true): Promise<Dialer> {
  const listener: http.RequestListener = (request, response) => {
    received.push({ method: request.method ?? '', url: request.url ?? '', headers: request.headers });
    if (typeof answer === 'number') response.writeHead(answer, { location: 'https://elsewhere.test/' }).end('{"error":"no"}');
    else answer(request, response);
  };
  const context = (name: string, done: (error: null, context: ReturnType<Authority['contextFor']>) => void): void => {
    done(null, authority.contextFor(name));
  };
  return dialerTo(await listening(tls ? https.createServer({ SNICallback: context }, listener) : http.createServer(listener)));
}

function dialerTo(port: number, options: Partial<DialOptions> = {}): Dialer {
  return new Dialer({
    ca: [authority.certificate],
    lookup: () => Promise.resolve(['127.0.0.1']),
    open: () => net.connect(port, '127.0.0.1'),
    ...options,
  });
}

async function check(
  dialer: Pick<Dialer, 'connect'>,
  declaration: Partial<CheckedSecret> = {},
  options: { text?: string; timeoutMs?: number } = {},
) {
  const { text = value, timeoutMs } = options;
  const declared = { name: 'API_TOKEN', check: 'GET https://api.test/user', hosts: undefined, swap: undefined, ...declaration };
  const health = await checkCredential(declared, new Secret(text), { dialer, timeoutMs }, new AbortController().signal);
  expect(JSON.stringify(health)).not.toContain(text.slice(-12));
  expect(inspect(health, { depth: 1 })).not.toContain(text.slice(-12));
  return health;
}

describe('what an answer says', () => {
  it.each([200, 204, 302, 399])('%i: it works', async (status) => {
    expect(await check(await upstream(status))).toMatchObject({ state: 'accepted', status });
    expect(received).toHaveLength(1);
  });

  it.each([401, 403])('%i: it was refused', async (status) => {
    expect(await check(await upstream(status))).toMatchObject({
      state: 'refused',
      status,
      error: {
        code: 'secret-invalid',
        message: `API_TOKEN: the credential was refused (GET https://api.test/user answered ${String(status)})`,
        hint: 'renew it at api.test, then store the new value',
      },
    });
  });

  it.each([404, 429, 500, 503])('%i: nobody knows', async (status) => {
    expect(await check(await upstream(status))).toMatchObject({ state: 'unknown', status, error: { code: 'provider-failed' } });
  });

  it('is known before a body that never ends', async () => {
    const endless: http.RequestListener = (_request, response) => {
      const more = (): void => {
        if (!response.destroyed) response.write('x'.repeat(65_536), () => setImmediate(more));
      };
      response.writeHead(200);
      more();
    };
    expect(await check(await upstream(endless))).toMatchObject({ state: 'accepted' });
  });

  it('is the last one, after those that only inform', async () => {
    const informed: http.RequestListener = (_request, response) => {
      response.writeContinue();
      response.writeEarlyHints({ link: '</x>; rel=preload' });
      response.writeHead(401).end();
    };
    expect(await check(await upstream(informed))).toMatchObject({ state: 'refused' });
  });
});

describe('where the value is put', () => {
  const sent = async (swap: string[] | undefined, text = value): Promise<Received> => {
    expect(await check(await upstream(200), { swap, check: 'GET https://api.test/user?a=b' }, { text })).toMatchObject({
      state: 'accepted',
    });
    return received[0] ?? { method: '', url: '', headers: {} };
  };

  it('is Authorization: Bearer, when nothing else is named', async () => {
    expect(await sent(undefined)).toMatchObject({ url: '/user?a=b', headers: { authorization: `Bearer ${value}`, host: 'api.test' } });
    expect((await sent(['path', 'default'])).headers.authorization).toBe(`Bearer ${value}`);
  });

  it('is the first header that `swap` names, as it is', async () => {
    const { headers, url } = await sent(['default', 'header:X-Api-Key', 'query:key']);
    expect([headers['x-api-key'], headers.authorization, url]).toEqual([value, undefined, '/user?a=b']);
  });

  it('is the first parameter that `swap` names, encoded', async () => {
    const text = `${value}&=?/ü`;
    const { headers, url } = await sent(['query:key', 'header:X-Api-Key'], text);
    expect(new URL(url, 'https://api.test').searchParams.get('key')).toBe(text);
    expect([headers['x-api-key'], headers.authorization]).toEqual([undefined, undefined]);
  });

  it('has a scheme in Authorization, its own or Bearer', async () => {
    expect((await sent(['header:Authorization'])).headers.authorization).toBe(`Bearer ${value}`);
    received = [];
    expect((await sent(['header:Authorization'], `Basic ${value}`)).headers.authorization).toBe(`Basic ${value}`);
  });

  it('is Bearer also for what looks like a user and a password', async () => {
    expect((await sent(undefined, `user:${value}`)).headers.authorization).toBe(`Bearer user:${value}`);
  });

  it('sends characters beyond ASCII as UTF-8', async () => {
    const { headers } = await sent(undefined, `${value}é`);
    expect(Buffer.from(headers.authorization ?? '', 'latin1').toString()).toBe(`Bearer ${value}é`);
  });

  it.each(['HEAD', 'POST'])('sends %s without a body', async (method) => {
    expect(await check(await upstream(200), { check: `${method} https://api.test/x` })).toMatchObject({ state: 'accepted' });
    expect(received[0]).toMatchObject({ method, headers: method === 'POST' ? { 'content-length': '0' } : {} });
  });
});

describe('what is not sent', () => {
  const refused = async (declaration: Partial<CheckedSecret>, text?: string): Promise<string> => {
    const dialer = { connect: () => Promise.reject(new Error('it dialled')) };
    const health = await check(dialer, declaration, text === undefined ? {} : { text });
    if (health.state !== 'not-sent') throw new Error(`it is ${health.state}`);
    return `${health.error.code}: ${health.error.message}`;
  };

  it('a secret to a host that its hosts do not cover', async () => {
    const out = 'config-invalid: API_TOKEN: its `check` asks api.test, where the secret may not go (its `hosts` do not cover it)';
    expect(await refused({ hosts: ['other.test'] })).toBe(out);
    expect(await refused({ hosts: ['*.api.test'] })).toBe(out);
    expect(await refused({ hosts: ['api.test:8443'] })).toBe(out);
    for (const hosts of [['api.test'], ['*.test.', '*'], ['api.test:443']]) {
      expect(await check(await upstream(200), { hosts })).toMatchObject({ state: 'accepted' });
    }
  });

  it('a vendor’s credential to somebody else', async () => {
    const text = `ghp_${randomBytes(18).toString('hex')}`;
    expect(await refused({}, text)).toMatch(/may not go \(its prefix is that of another vendor\)$/);
    const check_ = { check: 'GET https://api.github.com/user' };
    expect(await check(await upstream(200), check_, { text })).toMatchObject({ state: 'accepted' });
    expect(await check(await upstream(200), { hosts: ['api.test'] }, { text })).toMatchObject({ state: 'accepted' });
  });

  it('anything over http:// to another machine', async () => {
    expect(await refused({ check: 'GET http://api.test/user' })).toMatch(/over http:\/\/, where anybody on the way can read the value$/);
    expect(await refused({ check: 'GET http://api.test/user', hosts: ['api.test'] })).toMatch(/over http:/);
    expect(await refused({ check: 'GET http://8.8.8.8/' })).toMatch(/over http:/);
    expect(await refused({ check: 'GET http://169.254.169.254/' })).toMatch(/over http:/);
    for (const host of ['127.0.0.1', 'localhost', '[::1]', '10.1.2.3', '192.168.0.1']) {
      expect(await check(await upstream(200, false), { check: `GET http://${host}:8080/x` })).toMatchObject({ state: 'accepted' });
    }
    // As in blind mode: who names the port means it.
    const named = { check: 'GET http://api.test/user', hosts: ['api.test:80'] };
    expect(await check(await upstream(200, false), named)).toMatchObject({ state: 'accepted' });
  });

  it.each([
    ['a line end', '\r\nX-Evil: 1'],
    ['a NUL', '\0'],
    ['an escape', '\u001b[2J'],
  ])('a value with %s, in a header', async (_what, tail) => {
    expect(await refused({}, `${value}${tail}`)).toBe(
      'secret-invalid: API_TOKEN holds a line end or another control character, which no header can',
    );
  });

  it('what a program uses and never sends', async () => {
    const pem = `-----BEGIN PRIVATE KEY-----\n${randomBytes(30).toString('base64')}\n-----END PRIVATE KEY-----`;
    expect(await refused({}, pem)).toBe('secret-invalid: API_TOKEN is a private key, which is used and never sent');
  });

  it('a value whose places a check cannot use', async () => {
    for (const swap of [['path'], ['body:token'], ['body', 'path']])
      expect(await refused({ swap })).toMatch(/names no header and no parameter/);
    expect(await refused({ swap: ['header:Host'] })).toMatch(/^config-invalid: API_TOKEN: `header:Host` is a header that is never swapped/);
  });

  it('a request to what is no address', async () => {
    expect(await refused({ check: 'GET https://user:word@api.test/' })).toMatch(/holds a user or a password$/);
    expect(await refused({ check: 'GET https://' })).toMatch(/is not a URL$/);
    expect(await refused({ check: 'GET https://a%20b/' })).toMatch(/is not a URL$|names no host$/);
  });
});

describe('no answer', () => {
  const unknown = async (dialer: Pick<Dialer, 'connect'>, timeoutMs?: number): Promise<string> => {
    const health = await check(dialer, {}, timeoutMs === undefined ? {} : { timeoutMs });
    if (health.state !== 'unknown') throw new Error(`it is ${health.state}`);
    expect(health.error.code).toBe('provider-unavailable');
    return health.error.message.replace('API_TOKEN: cannot say whether it works ', '');
  };

  it('for want of trust', async () => {
    const port = await listening(
      https.createServer({
        SNICallback: (name, done) => {
          done(null, Authority.create().contextFor(name));
        },
      }),
    );
    const health = await check(dialerTo(port));
    expect(health).toMatchObject({ state: 'unknown', error: { hint: 'name its authority: `upstream_ca` in [blind]' } });
  });

  it('for want of an address', async () => {
    const lookup = () => Promise.reject(Object.assign(new Error('x'), { code: 'ENOTFOUND' }));
    expect(await unknown(dialerTo(1, { lookup }))).toBe('(no address for api.test (ENOTFOUND))');
  });

  it('in time', async () => {
    const silent = await upstream(() => undefined);
    expect(await unknown(silent, 200)).toBe('(no answer in 0.2 s)');
    expect(await unknown({ connect: (_target, signal) => rejectedBy(signal) }, 20)).toBe('(no answer in 0.02 s)');
  });

  it('but an end of the connection', async () => {
    const dialer = await upstream((request) => request.socket.destroy());
    expect(await unknown(dialer)).toBe('(GET https://api.test/user failed: ECONNRESET)');
  });

  it('that is HTTP, even when what comes holds the value', async () => {
    const port = await listening(
      net.createServer((socket) => {
        socket.on('data', (chunk) => socket.end(`HTP/9 ${chunk.toString()}`));
      }),
    );
    const health = await check(dialerTo(port), { check: 'GET http://localhost:1/x' });
    expect(health).toMatchObject({ state: 'unknown', error: { message: expect.stringMatching(/failed: HPE_\w+\)$/) as string } });
  });

  it('that anybody waits for any more', async () => {
    const over = new AbortController();
    const dialer = await upstream(() => {
      over.abort();
    });
    const declared = { name: 'A', check: 'GET https://api.test/user', hosts: undefined, swap: undefined };
    expect(await checkCredential(declared, new Secret(value), { dialer }, over.signal)).toMatchObject({
      state: 'unknown',
      error: { code: 'provider-timeout', hint: 'allow more with --timeout 60s' },
    });
    expect(await checkCredential(declared, new Secret(value), { dialer }, AbortSignal.abort())).toMatchObject({ state: 'unknown' });
  });
});

function rejectedBy(signal: AbortSignal | undefined): Promise<never> {
  return new Promise((_resolve, reject) => {
    signal?.addEventListener('abort', () => {
      reject(signal.reason instanceof Error ? signal.reason : new Error('aborted'));
    });
  });
}

describe('the dialler', () => {
  let folder = '';
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'kz-check-'));
    opened.push(() => {
      rmSync(folder, { recursive: true });
    });
  });

  it('trusts what `upstream_ca` names', async () => {
    const ca = join(folder, 'ca.pem');
    writeFileSync(ca, authority.certificate);
    const port = await listening(
      https.createServer(
        {
          SNICallback: (name, done) => {
            done(null, authority.contextFor(name));
          },
        },
        (_request, response) => response.end(),
      ),
    );
    const declaration = { check: `GET https://localhost:${String(port)}/` };
    expect(await check(await credentialDialer({ upstream_ca: ca }, {}), declaration)).toMatchObject({ state: 'accepted' });
    expect(await check(await credentialDialer(undefined, { NODE_EXTRA_CA_CERTS: ca }), declaration)).toMatchObject({ state: 'accepted' });
    expect(await check(await credentialDialer(undefined, {}), declaration)).toMatchObject({ state: 'unknown' });
  });

  it('does not go on without an authority that was asked for', async () => {
    await expect(credentialDialer({ upstream_ca: join(folder, 'nowhere.pem') }, {})).rejects.toMatchObject({ code: 'config-invalid' });
  });
});

it('shows a request without its query', () => {
  expect(checkText('GET https://api.test/user?key=x')).toBe('GET https://api.test/user');
  expect(checkText('GET https://u:p@api.test')).toBe('GET https://api.test/');
  expect(checkText('GET nonsense')).toBe('GET');
});
