import { describe, expect, it } from 'vitest';
import { canonicalHost, isAddress, parseAuthority } from '../../src/core/host-name.ts';

const LABEL = 'a'.repeat(60);
const LONGEST = `${`${LABEL}.`.repeat(4)}${'b'.repeat(9)}`;

describe('spellings of one host', () => {
  it.each([
    ['api.x.com', 'api.x.com'],
    ['API.X.com', 'api.x.com'],
    ['LOCALHOST.', 'localhost'],
    ['localhost', 'localhost'],
    ['foo_bar.x.com', 'foo_bar.x.com'],
    ['_dmarc.x.com', '_dmarc.x.com'],
    ['r3---sn-abc.x.com', 'r3---sn-abc.x.com'],
    ['münchen.de', 'xn--mnchen-3ya.de'],
    ['XN--MNCHEN-3YA.de', 'xn--mnchen-3ya.de'],
    ['mu\u0308nchen.de', 'xn--mnchen-3ya.de'],
    ['faß.de', 'xn--fa-hia.de'],
    ['💩.la', 'xn--ls8h.la'],
    ['a。b．c｡d', 'a.b.c.d'],
    ['ａｐｉ．ｘ．ｃｏｍ', 'api.x.com'],
    ['a\u00adb.com', 'ab.com'],
    ['\uFEFFa.com', 'a.com'],
    ['\u212A.com', 'k.com'],
    ['x.com。', 'x.com'],
    [LONGEST, LONGEST],
    [`${LONGEST}.`, LONGEST],
  ])('%j is %s', (text, host) => {
    expect(canonicalHost(text)).toBe(host);
  });

  it.each([
    ['127.0.0.1'],
    ['127.0.0.1.'],
    ['127.1'],
    ['0177.1'],
    ['0x7f.1'],
    ['0X7F.0.0.0x1'],
    ['2130706433'],
    ['017700000001'],
    ['0x7f000001'],
    ['127.0.0.0x1.'],
    ['１２７．０．０．１'],
    ['①②⑦.0.0.1'],
    ['127。0。0。1'],
    ['[::ffff:127.0.0.1]'],
    ['[::FFFF:7f00:1]'],
    ['[0:0:0:0:0:ffff:7f00:0001]'],
  ])('%s is 127.0.0.1', (text) => {
    expect(canonicalHost(text)).toBe('127.0.0.1');
  });

  it.each([
    ['[::1]', '[::1]'],
    ['[0:0:0:0:0:0:0:1]', '[::1]'],
    ['[0000::0001]', '[::1]'],
    ['[::0.0.0.1]', '[::1]'],
    ['[FE80::A]', '[fe80::a]'],
    ['[2001:DB8:0:0:1:0:0:1]', '[2001:db8::1:0:0:1]'],
    ['[::1.2.3.4]', '[::102:304]'],
    ['[64:ff9b::1.2.3.4]', '[64:ff9b::102:304]'],
  ])('%s is %s', (text, host) => {
    expect(canonicalHost(text)).toBe(host);
  });
});

const NO_HOSTS = [
  ...['', '.', '..', '.a', 'a..b', 'a..', 'a.b..', '127.0.0.1..', '。'],
  ...['a\0b', 'a.com\0.evil.com', 'a\r\nb', 'a\tb', 'a\nb', 'a b', ' a', 'a ', 'a\u00a0b', 'a\x7fb'],
  ...['a%2eb', 'a%41', '%61', '127.0.0.1%00', 'a％2eb', '100%'],
  ...['u@a', 'u:p@a', 'a＠b', 'a\\b', 'a＼b', 'a/b', 'a／b', 'a℀b', 'a?b', 'a#b', 'a:80', 'a:', 'http://a'],
  ...['::1', '[::1', '::1]', '[::1]x', 'x[::1]', '[[::1]]', '[]', '[::1].', '[::1%25lo]', '[::1%lo]', '[fe80::1%eth0]', '[fe80::1%25eth0]'],
  ...['[1::2::3]', '[::１]', '[127.0.0.1]', '[::127.1]', '[::01.2.3.4]', '[v1.x]', '[::1:80', '[::ffff:256.0.0.1]', '[::1\n]', '[ ::1]'],
  ...['256.1.1.1', '1.2.3.4.5', '4294967296', '09.1', '0xg.1', 'a.1', 'x.com.0x4', '1.2.3.999'],
  ...[
    '-a.com',
    'a-.com',
    'a.-',
    '-',
    'a*b',
    '*.x.com',
    '*',
    'a|b',
    'a^b',
    'a<b>',
    'a,b',
    'a;b',
    'a!b',
    "a'b",
    'a"b',
    'a=b',
    'a&b',
    '{a}',
    '~a',
    '$a',
  ],
  ...['xn--', 'xn--a', 'xn--abc', 'xn--1.1', '\u200da.com', 'a\ud800', 'a\uFFFD'],
  ...[`${'a'.repeat(64)}.com`, `${LONGEST}c`, `c${LONGEST}.`, `${'ü'.repeat(60)}.de`, 'a'.repeat(100_000), '1'.repeat(100_000)],
];

describe('what is no host', () => {
  it.each(NO_HOSTS.map((text) => [text]))('%j', (text) => {
    expect(canonicalHost(text)).toBeUndefined();
  });
});

it('is idempotent, and gives nothing but names and addresses', () => {
  const pieces = [
    ...Array.from('abxn01279-_.:[]%@/\\'),
    '。',
    '．',
    'ü',
    'ß',
    '\u00ad',
    '\u200d',
    '١',
    '۱',
    'K',
    'ﬀ',
    '①',
    '0x',
    'xn--',
    '::',
    'ffff',
    '\0',
  ];
  let seed = 7;
  const next = (below: number) => (seed = (seed * 48_271) % 2_147_483_647) % below;
  let hosts = 0;
  for (let round = 0; round < 20_000; round++) {
    const text = Array.from({ length: 1 + next(8) }, () => pieces[next(pieces.length)]).join('');
    const host = canonicalHost(next(4) === 0 ? `[${text}]` : text);
    if (host === undefined) continue;
    hosts++;
    expect(canonicalHost(host), JSON.stringify(text)).toBe(host);
    expect(canonicalHost(host.toUpperCase()), JSON.stringify(text)).toBe(host);
    expect(host).toMatch(/^(?:[a-z0-9_.-]+|\[[0-9a-f:]+\])$/);
    expect(new URL(`https://${host}/`).hostname).toBe(host);
  }
  expect(hosts).toBeGreaterThan(1000);
});

describe('an authority', () => {
  it.each([
    ['a.com:443', undefined, 'a.com', 443],
    ['A.com.:443', undefined, 'a.com', 443],
    ['a.com', 80, 'a.com', 80],
    ['a.com:8080', 80, 'a.com', 8080],
    ['[::1]:80', undefined, '[::1]', 80],
    ['[::FFFF:127.0.0.1]:65535', undefined, '127.0.0.1', 65_535],
    ['[::1]', 443, '[::1]', 443],
    ['0x7f.1:1', undefined, '127.0.0.1', 1],
  ])('%s with default %s', (text, port, host, expected) => {
    expect(parseAuthority(text, port)).toEqual({ host, port: expected });
  });

  it.each([
    ...[
      'a.com',
      '',
      ':443',
      'a.com:',
      'a.com:0',
      'a.com:65536',
      'a.com:00443',
      'a.com:+1',
      'a.com:1e3',
      'a.com:http',
      'a.com:４４３',
      'a.com: 1',
    ],
    ...[
      'a.com:443:443',
      'a:b:443',
      'u@a.com:443',
      'u:p@a.com:443',
      'http://a.com:443',
      'a.com:443/',
      'a.com:443\0',
      'a.com:443\n',
      '\na.com:443',
    ],
    ...['::1:443', '[::1]443', '[::1]:', '[::1]:0', '[::1%25lo]:443', '[a.com]:443', '[::1:443', '::1]:443', '[::1]]:443', '[a]b:1'],
  ])('%j is none', (text) => {
    expect(parseAuthority(text)).toBeUndefined();
  });

  it.each(['', ':', 'a.com:', 'a b', '::1', '[::1', 'a.com:x'])('%j is none with a default port either', (text) => {
    expect(parseAuthority(text, 443)).toBeUndefined();
  });
});

it('tells addresses from names', () => {
  expect(['127.0.0.1', '[::1]'].map(isAddress)).toEqual([true, true]);
  expect(['localhost', 'a.com', '1.2.3.4.x.com'].map(isAddress)).toEqual([false, false, false]);
});
