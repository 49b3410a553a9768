import { expect, it } from 'vitest';
import { readProxy } from '../../src/preload/proxy-url.ts';

it('reads where the proxy is, and the credential', () => {
  const authorization = `Basic ${Buffer.from('kz:a:b/c').toString('base64')}`;
  expect(readProxy('http://kz:a%3Ab%2Fc@127.0.0.1:4711')).toEqual({ host: '127.0.0.1', port: 4711, authorization });
  expect(readProxy('http://kz:a%3Ab%2Fc@[::1]:4711/')).toEqual({ host: '::1', port: 4711, authorization });
});

it.each(['', '127.0.0.1:4711', 'http://127.0.0.1', 'https://kz:a@127.0.0.1:4711'])('%j is none', (text) => {
  expect(readProxy(text)).toBeUndefined();
});
