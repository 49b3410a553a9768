import { describe, expect, it } from 'vitest';
import { requestBody, responseBody, type BodyFacts, type ResponseFacts } from '../../src/proxy/body-length.ts';

const KB = 1024;

describe('a response', () => {
  const answer = (facts: Partial<ResponseFacts>) => responseBody({ method: 'GET', status: 200, httpVersion: '1.1', ...facts });

  it.each<[string, Partial<ResponseFacts>]>([
    ['to HEAD', { method: 'HEAD', contentLength: '5', contentType: 'text/plain' }],
    ['to HEAD, compressed', { method: 'HEAD', contentEncoding: 'gzip', transferEncoding: 'chunked' }],
    ['to CONNECT', { method: 'CONNECT', status: 200 }],
    ['100', { status: 100 }],
    ['103', { status: 103 }],
    ['204', { status: 204 }],
    ['304 with the length of what it does not send', { status: 304, contentLength: '5000', contentEncoding: 'br' }],
    ['of no bytes', { contentLength: '0' }],
    ['of no bytes, said to be compressed', { contentLength: '0', contentEncoding: 'gzip' }],
    ['whose headers ended the stream', { httpVersion: '2.0', ended: true }],
  ])('%s has no body', (_name, facts) => {
    expect(answer(facts)).toEqual({ mode: 'none', decode: false });
  });

  it.each<[string, Partial<ResponseFacts>]>([
    ['1 byte', { contentLength: '1' }],
    ['64 KiB of text', { contentLength: String(64 * KB), contentType: 'text/html' }],
    ['a small picture', { contentLength: '900', contentType: 'image/png' }],
    ['identity', { contentLength: '10', contentEncoding: 'identity' }],
    ['an error', { status: 500, contentLength: '10', contentType: 'application/json' }],
    ['a refused CONNECT', { method: 'CONNECT', status: 407, contentLength: '10' }],
    ['a range that cannot be had', { status: 416, contentLength: '10' }],
  ])('%s is collected', (_name, facts) => {
    expect(answer(facts)).toEqual({ mode: 'whole', decode: false });
  });

  it.each([
    'text/plain',
    'text/html; charset=utf-8',
    'Text/CSS',
    'text/event-stream',
    'application/json',
    'application/vnd.api+json; v=1',
    'application/x-ndjson',
    'application/json-seq',
    'application/xml',
    'image/svg+xml',
    'application/javascript',
    'application/x-www-form-urlencoded',
    'application/yaml',
  ])('large %s is streamed without a length', (contentType) => {
    expect(answer({ contentLength: String(64 * KB + 1), contentType })).toEqual({ mode: 'stream-chunked', decode: false });
  });

  it.each([undefined, '', 'application/octet-stream', 'image/png', 'video/mp4', 'application/zip', 'multipart/mixed', 'xtext/plain'])(
    'large %s keeps its length',
    (contentType) => {
      expect(answer({ contentLength: String(64 * KB + 1), contentType })).toEqual({ mode: 'stream-same-length', decode: false });
    },
  );

  it.each<[string, Partial<ResponseFacts>]>([
    ['206', { status: 206, contentLength: '10', contentType: 'text/plain' }],
    ['206 of what is compressed', { status: 206, contentLength: '10', contentEncoding: 'gzip' }],
    ['206 of no announced length', { status: 206, transferEncoding: 'chunked' }],
    ['several ranges', { contentLength: '10', contentType: 'multipart/byteranges; boundary=x' }],
    ['an unknown coding', { contentLength: '10', contentEncoding: 'compress' }],
    ['too many codings', { contentLength: '10', contentEncoding: 'gzip, gzip, gzip, gzip' }],
  ])('%s keeps its bytes in place', (_name, facts) => {
    expect(answer(facts)).toEqual({ mode: 'stream-same-length', decode: false });
  });

  it.each(['gzip', 'x-gzip', 'deflate', 'br', 'zstd', 'GZIP', 'gzip, br', 'identity, gzip'])(
    '%s is decoded and streamed',
    (contentEncoding) => {
      for (const contentLength of [undefined, '10', '10000000']) {
        expect(answer({ contentLength, contentEncoding })).toEqual({ mode: 'stream-chunked', decode: true });
      }
    },
  );

  it.each<[string, Partial<ResponseFacts>]>([
    ['chunked', { transferEncoding: 'chunked' }],
    ['until the connection closes', { httpVersion: '1.0' }],
    ['HTTP/2 without a length', { httpVersion: '2.0', contentType: 'application/grpc' }],
    ['chunked with a Content-Length, which does not count', { transferEncoding: 'chunked', contentLength: '10' }],
    ['a length that is none', { contentLength: '1e3' }],
    ['an unknown coding of unknown length', { contentEncoding: 'compress' }],
  ])('%s is streamed without a length', (_name, facts) => {
    expect(answer(facts)).toEqual({ mode: 'stream-chunked', decode: false });
  });
});

describe('a request', () => {
  const request = (facts: Partial<BodyFacts>) => requestBody({ method: 'POST', httpVersion: '1.1', ...facts });

  it.each<[string, Partial<BodyFacts>, ReturnType<typeof request>]>([
    ['GET', { method: 'GET' }, { mode: 'none', decode: false }],
    ['POST without a body', {}, { mode: 'none', decode: false }],
    ['POST of no bytes', { contentLength: '0', contentEncoding: 'gzip' }, { mode: 'none', decode: false }],
    ['HTTP/2 that ended with its headers', { httpVersion: '2.0', ended: true }, { mode: 'none', decode: false }],
    ['1 byte', { contentLength: '1' }, { mode: 'whole', decode: false }],
    ['GET with a body', { method: 'GET', contentLength: '5' }, { mode: 'whole', decode: false }],
    ['1 MiB', { contentLength: String(KB * KB) }, { mode: 'whole', decode: false }],
    ['1 MiB in HTTP/2', { httpVersion: '2.0', contentLength: String(KB * KB) }, { mode: 'whole', decode: false }],
    ['more than 1 MiB', { contentLength: String(KB * KB + 1) }, { mode: 'spool', decode: false }],
    [
      'a length of an unknown coding',
      { contentLength: String(KB * KB + 1), contentEncoding: 'aws-chunked' },
      { mode: 'spool', decode: false },
    ],
    ['chunked', { transferEncoding: 'chunked' }, { mode: 'stream', decode: false }],
    ['HTTP/2 without a length', { httpVersion: '2.0' }, { mode: 'stream', decode: false }],
    ['a little gzip', { contentLength: '500', contentEncoding: 'gzip' }, { mode: 'whole', decode: true }],
    ['much gzip', { contentLength: String(2 * KB * KB), contentEncoding: 'gzip' }, { mode: 'stream', decode: true }],
    ['chunked gzip', { transferEncoding: 'chunked', contentEncoding: 'gzip' }, { mode: 'stream', decode: true }],
  ])('%s', (_name, facts, plan) => {
    expect(request(facts)).toEqual(plan);
  });
});
