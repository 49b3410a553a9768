// What an upstream that works with the caller, or one that only knows other spellings, answers so that the value is not found.
import type { IncomingMessage } from 'node:http';
import { Readable } from 'node:stream';
import zlib from 'node:zlib';
import { expect, it } from 'vitest';
import type { CredentialLocation } from '../../../src/config/bundle.ts';
import { Secret } from '../../../src/core/secret.ts';
import type { FetchInput, FetchResult } from '../../../src/server/fetch/fetch.ts';
import { readAnswer } from '../../../src/server/fetch/fetch-response.ts';
import { withSearch } from '../../../src/server/fetch/inject.ts';
import { BEARER, canary, failureOf, fetchFrom, REF, type FetchSetting } from '../../server/fetch/fetching.ts';
import { startUpstreams, type Upstreams } from '../../server/fetch/upstream.ts';

const URL_ = 'https://api.test/';
const MARK = `[redacted:${REF}]`;

function ask(upstreams: Upstreams, input: FetchInput | string = URL_, setting: FetchSetting = {}): Promise<FetchResult> {
  return fetchFrom(upstreams, input, setting);
}

/** An answer with this body, whose type and coding its server chooses. */
function body(bytes: string | Buffer, fields = ''): Promise<Upstreams> {
  const all = Buffer.from(bytes);
  return startUpstreams({
    raw: (socket) => {
      socket.once('data', () => {
        socket.write(`HTTP/1.1 200 OK\r\nContent-Length: ${String(all.length)}\r\n${fields}\r\n`);
        socket.write(all);
      });
    },
  });
}

/** Where the caller may look for it. */
function bytesOf(result: FetchResult): Buffer {
  return Buffer.from(result.body, result.bodyEncoding);
}

const BASIC: CredentialLocation = { kind: 'basic', user: 'me' };

it.each([
  ['as it is', BEARER, (value: string) => value],
  ['in upper case', BEARER, (value: string) => value.toUpperCase()],
  ['in lower case', BEARER, (value: string) => value.toLowerCase()],
  ['in base64', BEARER, (value: string) => Buffer.from(value).toString('base64')],
  ['in the login that was sent', BASIC, (value: string) => Buffer.from(`me:${value}`).toString('base64')],
  ['in JSON', BEARER, (value: string) => JSON.stringify(value)],
  ['in a URL', BEARER, (value: string) => encodeURIComponent(value)],
  ['in HTML', BEARER, (value: string) => value.replaceAll('&', '&amp;').replaceAll('"', '&quot;')],
])('a value %s is found in UTF-8 and in UTF-16', async (_how, location, spell) => {
  const value = `${canary()}Ab&"/+=`;
  const text = `<${spell(value)}>`;
  for (const bytes of [Buffer.from(text), Buffer.from(text, 'utf16le'), Buffer.from(text, 'utf16le').swap16()]) {
    const result = await ask(await body(bytes), URL_, { value, location });
    expect(result.remasked).toBe(true);
    const seen = bytesOf(result);
    // Between the brackets and quotes no eight characters in a row.
    for (let at = 6; at + 16 <= bytes.length - 6; at += 1) expect(seen.includes(bytes.subarray(at, at + 16)), String(at)).toBe(false);
  }
});

it('an answer in a charset in which no value would be found is not given', async () => {
  const value = canary();
  // UTF-32: three zeros and a letter.
  const bytes = Buffer.concat(Array.from(value, (letter) => Buffer.from([0, 0, 0, letter.charCodeAt(0)])));
  for (const charset of ['utf-32', 'UTF-7', '"ibm037"', 'IBM500', 'scsu', 'x; charset=utf-32']) {
    const failure = await failureOf(async () =>
      ask(await body(bytes, `Content-Type: text/plain; charset=${charset}\r\n`), URL_, { value }),
    );
    expect(failure.code, charset).toBe('upstream-failed');
  }
  for (const charset of ['utf-8', 'UTF8', '"utf-8"', "'utf-8'", 'ISO-8859-1', 'windows-1252', 'utf-16le', 'us-ascii', 'binary', '']) {
    const upstreams = await body(`<${value}>`, `Content-Type: text/plain; charset=${charset}\r\n`);
    expect((await ask(upstreams, URL_, { value })).body, charset).toBe(`<${MARK}>`);
  }
});

it('the value is found wherever the answer is cut, in stacked codings and in several members', async () => {
  const value = canary();
  const text = `{"authorization":"Bearer ${value}"}`;
  const members = [text.slice(0, 30), text.slice(30)].map((part) => zlib.gzipSync(part));
  const stacked = zlib.brotliCompressSync(zlib.gzipSync(zlib.deflateSync(text)));
  const answers: [Buffer, string][] = [
    [Buffer.concat(members), 'Content-Encoding: gzip\r\n'],
    [stacked, 'Content-Encoding: deflate, gzip\r\nContent-Encoding: br\r\n'],
    [stacked, 'Content-Encoding: identity, DEFLATE\r\nContent-Encoding: X-GZIP,,br\r\n'],
  ];
  for (const [bytes, fields] of answers)
    expect((await ask(await body(bytes, fields), URL_, { value })).body).toBe(`{"authorization":"Bearer ${MARK}"}`);
});

it('of an answer in a coding that cannot be taken off nothing is given', async () => {
  const value = canary();
  for (const coding of ['gzip, gzip, gzip, gzip', 'compress', 'gzip;q=1', 'br', 'aws-chunked', 'deflate, zstd']) {
    const upstreams = await body(zlib.deflateSync(value), `Content-Encoding: ${coding}\r\n`);
    const failure = await failureOf(() => ask(upstreams, URL_, { value }));
    expect(failure.code, coding).toBe('upstream-failed');
    expect(failure.text).not.toContain(value);
  }
});

it('no cut at the limit ends inside a value, in any spelling', async () => {
  const value = canary();
  const spellings = [value, Buffer.from(`xy${value}`).toString('base64'), Buffer.from(value).toString('hex')];
  for (const spelling of spellings) {
    const upstreams = await startUpstreams({
      serve: (_request, response) => response.end(`${'.'.repeat(40)}${spelling}${'.'.repeat(200)}`),
    });
    for (let limit = 36; limit < 40 + spelling.length; limit += 3) {
      const result = await ask(upstreams, URL_, { value, limit });
      expect(result.truncated).toBe(true);
      for (let at = 4; at + 8 <= spelling.length; at += 1) expect(result.body).not.toContain(spelling.slice(at, at + 8));
    }
  }
});

it('says that a value with space around it is too short to be searched for', async () => {
  const upstreams = await startUpstreams({ serve: (request, response) => response.end(request.headers.authorization) });
  expect(await ask(upstreams, URL_, { value: 'k3y       ' })).toMatchObject({ searchable: false });
});

it('what asks for a part of an answer, or for another host, is not the caller’s to send', async () => {
  const upstreams = await startUpstreams({});
  for (const name of [
    'X-Ms-Range',
    'Request-Range',
    'X_MS_RANGE',
    'Range',
    'If-Range',
    'X-Forwarded',
    'Content_Length',
    'Transfer.Encoding',
  ]) {
    expect((await failureOf(() => ask(upstreams, { url: URL_, headers: { [name]: 'bytes=8-' } }))).code, name).toBe('header-forbidden');
  }
  expect(upstreams.dialled).toEqual([]);
});

it('an answer that comes byte by byte, each the next one of a long value, is searched as fast as another', async () => {
  const secret = new Secret(`${'ab'.repeat(3000)}${canary()}`);
  const chunks = Array.from({ length: 20_000 }, (_none, index) => Buffer.from(index % 2 === 0 ? 'a' : 'b'));
  const incoming = Object.assign(Readable.from(chunks), { rawHeaders: [], headers: {}, statusCode: 200 }) as unknown as IncomingMessage;
  const started = performance.now();
  const result = await withSearch({ ref: REF, location: { kind: 'query', name: 'key' }, secret }, (search) =>
    readAnswer(incoming, { host: 'api.test', method: 'GET', search }),
  );
  expect(result).toMatchObject({ body: 'ab'.repeat(10_000), remasked: false });
  // Byte by byte it takes 6 seconds.
  expect(performance.now() - started).toBeLessThan(2000);
});
