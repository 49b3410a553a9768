import { describe, expect, it } from 'vitest';
import { KzError } from '../../../src/core/errors.ts';
import { formatListen, parseListen } from '../../../src/server/http/listen.ts';

describe('an address to listen on', () => {
  it.each([
    ['127.0.0.1:8080', '127.0.0.1', 8080, true],
    ['127.1.2.3:1', '127.1.2.3', 1, true],
    ['[::1]:0', '::1', 0, true],
    ['[0:0::1]:65535', '::1', 65_535, true],
    ['localhost:8080', '127.0.0.1', 8080, true],
    ['LOCALHOST:8080', '127.0.0.1', 8080, true],
    ['[::ffff:127.0.0.1]:80', '127.0.0.1', 80, true],
    [':8080', undefined, 8080, false],
    ['0.0.0.0:8080', '0.0.0.0', 8080, false],
    ['[::]:8080', '::', 8080, false],
    ['10.0.0.1:443', '10.0.0.1', 443, false],
    ['203.0.113.9:443', '203.0.113.9', 443, false],
  ])('%s', (text, host, port, isLoopback) => {
    expect(parseListen(text)).toEqual({ host, port, isLoopback });
  });

  it.each([
    '',
    '8080',
    '127.0.0.1',
    '127.0.0.1:',
    '127.0.0.1:x',
    '127.0.0.1:65536',
    '127.0.0.1:-1',
    '::1:8080',
    '[::1]',
    '[]:1',
    '[::1%lo]:1',
  ])('refuses %j', (text) => {
    expect(() => parseListen(text)).toThrow(expect.objectContaining({ code: 'usage' }) as KzError);
  });

  it('resolves no name', () => {
    for (const text of ['kz.example.com:80', 'localhost.example.com:80', 'user@127.0.0.1:80', '127.0.0.1/:80', 'a b:80']) {
      expect(() => parseListen(text)).toThrow(`cannot listen on ${JSON.stringify(text)}: it is not an IP address and a port`);
    }
  });

  it('is written as a URL has it', () => {
    expect([parseListen('[::1]:5'), parseListen('127.0.0.1:5'), parseListen(':5')].map(formatListen)).toEqual([
      '[::1]:5',
      '127.0.0.1:5',
      '0.0.0.0:5',
    ]);
  });
});
