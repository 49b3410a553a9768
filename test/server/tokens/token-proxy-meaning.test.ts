// What servers would take for another request than the one that was decided about does not carry a value.
import type { ServerHttp2Stream } from 'node:http2';
import { gzipSync } from 'node:zlib';
import { afterEach, expect, it } from 'vitest';
import { TokenLab, type TokenAsk, type TokenLabOptions } from './token-lab.ts';

const HOST = 'https://api.github.com';
let lab: TokenLab;

afterEach(async () => {
  await lab.close();
});

async function start(options: TokenLabOptions = {}): Promise<{ authorization: string }> {
  lab = await TokenLab.start(options);
  return { authorization: `Bearer ${await lab.token()}` };
}

const FORM = { 'content-type': 'application/x-www-form-urlencoded' };

const REFUSED: readonly (readonly [what: string, code: string, asked: TokenAsk & { readonly path?: string }])[] = [
  ['a header', 'header-forbidden', { headers: { 'x-http-method-override': 'DELETE' } }],
  ['a header, as CGI reads it', 'header-forbidden', { headers: { X_HTTP_Method: 'DELETE' } }],
  ['another path', 'header-forbidden', { headers: { 'x-original-url': '/admin' } }],
  ['a query', 'url-forbidden', { path: '/a?_method=DELETE' }],
  ['a form', 'url-forbidden', { headers: FORM, body: 'a=b&_method=DELETE' }],
  ['a form of no type', 'url-forbidden', { body: '_method=DELETE' }],
  ['a form without a length', 'url-forbidden', { body: '_method=DELETE', chunked: true }],
  ['a compressed form', 'url-forbidden', { headers: { ...FORM, 'content-encoding': 'gzip' }, body: gzipSync('_method=DELETE') }],
  [
    'a part',
    'url-forbidden',
    {
      headers: { 'content-type': 'multipart/form-data; boundary=x' },
      body: '--x\r\nContent-Disposition: form-data; name="_method"\r\n\r\nDELETE\r\n--x--\r\n',
    },
  ],
  ['JSON', 'url-forbidden', { headers: { 'content-type': 'application/json' }, body: '{"_method":"DELETE"}' }],
];

it.each(REFUSED)('a method, or a path, that %s puts in place of the request’s', async (_what, code, { path = '/a', headers, ...asked }) => {
  const own = await start();
  const reply = await lab.ask(HOST + path, { method: 'POST', ...asked, headers: { ...own, ...headers } });
  expect([reply.status, reply.headers['x-kz-error'], lab.upstream.received, lab.fetched]).toEqual([403, code, [], 0]);
  expect(lab.decisions.map((each) => each.code)).toEqual([code]);
  expect(lab.events.at(-1)).toMatchObject({ code, event: { decision: 'blocked', swapped: [] } });
  // It is the credential's method that is guarded: without one the client may say what it likes.
  expect((await lab.ask(HOST + path, { method: 'POST', ...asked, headers: headers ?? {} })).status).toBe(200);
});

it('a path that a header names beside that of the request, where the resource has some', async () => {
  const paths = { resources: [{ ref: 'github/pat', paths: ['/public/**'] }] };
  const headers = { ...(await start(paths)), destination: `${HOST}/private/x` };
  const reply = await lab.ask(`${HOST}/public/x`, { headers });
  expect([reply.status, reply.headers['x-kz-error'], lab.upstream.received, lab.fetched]).toEqual([403, 'header-forbidden', [], 0]);
});

it.each(['TRACE', 'TRACK', 'track'])(
  'the method %s, to which servers answer with what they got, whatever a resource says',
  async (method) => {
    const upstream = {
      serveHttp2: (stream: ServerHttp2Stream): void => {
        stream.end('it came through');
      },
    };
    const headers = await start({ upstream, resources: [{ ref: 'github/pat', methods: ['GET', method] }] });
    const reply = await lab.ask2('api.github.com:443', { ':path': '/a', ':method': method, ...headers });
    expect([reply.status, reply.code, lab.fetched]).toEqual([403, 'url-forbidden', 0]);
  },
);

it('what honest clients send goes on as it came: an upload of no type too', async () => {
  const own = await start();
  const body = Buffer.alloc(3 * 1024 * 1024, 'some bytes ');
  const headers = { ...own, cookie: 'a=b', 'x-forwarded-for': '203.0.112.9', 'x-request-method': 'x' };
  for (const chunked of [false, true]) {
    expect((await lab.ask(`${HOST}/upload?method=put`, { method: 'POST', headers, body, chunked })).status).toBe(200);
    const received = lab.upstream.received.at(-1);
    expect([received?.body.equals(body), received?.headers.authorization]).toEqual([true, `Bearer ${lab.value()}`]);
    expect(received?.headers).toMatchObject({ cookie: 'a=b', 'x-forwarded-for': '203.0.112.9' });
  }
});
