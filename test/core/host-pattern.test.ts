import { describe, expect, it } from 'vitest';
import { matchesHost, parseHostPattern, type HostPattern } from '../../src/core/host-pattern.ts';

function pattern(text: string): HostPattern {
  const parsed = parseHostPattern(text);
  if ('problem' in parsed) throw new Error(`${text} ${parsed.problem}`);
  return parsed;
}

describe('what a pattern covers', () => {
  it.each([
    ['api.x.com', 'api.x.com'],
    ['API.X.com', 'api.x.com'],
    ['*.x.com', 'api.x.com'],
    ['*.x.com', 'a.b.x.com'],
    ['*', 'anything.at.all'],
    ['*', '[::1]'],
    ['localhost', 'localhost'],
    ['127.0.0.1', '127.0.0.1'],
    ['[::1]', '[::1]'],
    ['xn--mnchen-3ya.de', 'xn--mnchen-3ya.de'],
  ])('%s covers %s', (text, host) => {
    expect(matchesHost(pattern(text), host, 443)).toBe(true);
  });

  it.each([
    ['api.x.com', 'api.x.com.evil.com'],
    ['api.x.com', 'evil-api.x.com'],
    ['api.x.com', 'x.com'],
    ['api.x.com', 'apiXx.com'],
    ['*.x.com', 'x.com'],
    ['*.x.com', 'evilx.com'],
    ['*.x.com', 'x.com.evil.com'],
    ['*.x.com', '[::1]'],
    ['127.0.0.1', '127.0.0.10'],
  ])('%s does not cover %s', (text, host) => {
    expect(matchesHost(pattern(text), host, 443)).toBe(false);
  });

  it('compares the port only when the pattern has one', () => {
    expect(matchesHost(pattern('a.b:8443'), 'a.b', 8443)).toBe(true);
    expect(matchesHost(pattern('a.b:8443'), 'a.b', 443)).toBe(false);
    expect(matchesHost(pattern('[::1]:80'), '[::1]', 80)).toBe(true);
    expect(matchesHost(pattern('*:80'), 'x.y', 80)).toBe(true);
  });
});

describe('what is no pattern', () => {
  it.each([
    '',
    'https://x.com',
    'x.com/path',
    'u@x.com',
    'a b',
    'a..b',
    '.x.com',
    'x.com.',
    '*.com',
    '*.',
    'a.*.com',
    '*x.com',
    'x.com:0',
    'x.com:65536',
    'x.com:http',
    'x.com:',
    '::1',
    '[::1',
    'münchen.de',
    '-a.com',
    'a\0b',
    'a\r\nb',
  ])('%j is refused', (text) => {
    expect(parseHostPattern(text)).toHaveProperty('problem');
  });
});

it('takes addresses in any spelling, and none with a wildcard', () => {
  expect(parseHostPattern('[::FFFF:127.0.0.1]:80')).toEqual({ labels: ['127', '0', '0', '1'], wildcard: false, port: 80 });
  expect(parseHostPattern('[2001:DB8:0::1]')).toEqual({ labels: ['[2001:db8::1]'], wildcard: false });
  expect(parseHostPattern('0x7f.1')).toEqual({ labels: ['127', '0', '0', '1'], wildcard: false });
  for (const text of ['[::1', '[]', '[::g]', '[fe80::1%25lo]', '1.2.3.4.5', '256.1.1.1', '*.0.0.1'])
    expect(parseHostPattern(text)).toHaveProperty('problem');
});
