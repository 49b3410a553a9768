import { METHODS } from 'node:http';
import { expect, it } from 'vitest';
import { peek, type FirstBytes } from '../../src/wire/peek.ts';

it.each<[string, FirstBytes]>([
  ['\x16\x03\x01\x02\x00', 'tls'],
  ['\x16', 'tls'],
  ['PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', 'http2'],
  ['PRI * HTTP/2.0', 'http2'],
  ['PRI * HTTP/1.1\r\n', 'http'],
  ['PRI /x', 'http'],
  ['GET / HTTP/1.1\r\n', 'http'],
  ['get /', 'http'],
  ["x!#$%&'*+-.^_`|~0 /", 'http'],
  ['S /', 'http'],
  ['SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n', 'other'],
  ['SSH-1.99-x y', 'http'],
  ['\r\nGET / HTTP/1.1', 'other'],
  [' GET /', 'other'],
  ['*1\r\n$4\r\nPING\r\n', 'other'],
  ['PING\r\n', 'other'],
  ['\0\0\0\x08\x04\xd2\x16/', 'other'],
  ['\x80\x2e\x01\x03\x01', 'other'],
  ['GET:', 'other'],
  ['GÉT /', 'other'],
  ['A'.repeat(23) + ' ', 'http'],
  ['A'.repeat(24), 'other'],
  ['A'.repeat(40) + ' /', 'other'],
  ['', 'incomplete'],
  ['A'.repeat(23), 'incomplete'],
  ['PRI', 'incomplete'],
  ['PRI * HTTP/2.', 'incomplete'],
])('%j is %s', (text, expected) => {
  expect(peek(Buffer.from(text, 'latin1'))).toBe(expected);
});

it.each(METHODS)('waits for the space after %s', (method) => {
  const line = `${method} /path HTTP/1.1\r\n`;
  const states = Array.from({ length: line.length }, (_, end) => peek(Buffer.from(line.slice(0, end + 1))));
  expect(states.indexOf('http')).toBe(method.length);
  expect(new Set(states.slice(0, method.length))).toEqual(new Set(['incomplete']));
});

it('never changes its mind, and has one after 24 bytes', () => {
  for (const text of [
    'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n',
    'PRI * HTTP/3.0\r\n\r\nSM',
    'SSH-2.0-x y zzzzzzzzzzzzzzz',
    'A'.repeat(30),
    '\x16\x03'.repeat(20),
  ]) {
    const states = Array.from({ length: text.length + 1 }, (_, end) => peek(Buffer.from(text.slice(0, end), 'latin1')));
    const decided = states.findIndex((state) => state !== 'incomplete');
    expect(decided).toBeGreaterThan(0);
    expect(decided).toBeLessThanOrEqual(24);
    expect(new Set(states.slice(decided)).size).toBe(1);
  }
});
