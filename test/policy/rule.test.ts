import { describe, expect, it } from 'vitest';
import { KzError } from '../../src/core/errors.ts';
import { matchesHost, parseHostPattern } from '../../src/core/host-pattern.ts';
import { compileRules, type Rule, type RuleEntry } from '../../src/policy/rule.ts';

function compileOne(entry: Partial<RuleEntry>): Rule {
  const [rule] = compileRules([{ allow: true, host: '*', ...entry }]);
  if (rule === undefined) throw new Error('no rule');
  return rule;
}

describe('which hosts a rule covers', () => {
  it.each([
    ['api.x.com', 'api.x.com', 443],
    ['API.X.com', 'api.x.com', 443],
    ['api.x.com:8443', 'api.x.com', 8443],
    ['*.x.com', 'a.b.x.com', 443],
    ['*', 'anything', 1],
    ['*', '[::1]', 1],
    ['*:443', 'a.b', 443],
    ['[::1]', '[::1]', 80],
    ['[0:0:0:0:0:0:0:1]', '[::1]', 80],
    ['[2001:DB8::0:1]:80', '[2001:db8::1]', 80],
    ['[::ffff:7f00:1]', '127.0.0.1', 80],
    ['127.1', '127.0.0.1', 80],
    ['re:api-[0-9]+\\.x\\.com', 'api-17.x.com', 443],
    ['re:API\\.x\\.com', 'api.x.com', 443],
    ['re:a|b', 'b', 443],
    ['re:.*', '[::1]', 443],
    ['re:', '', 443],
  ])('%s covers %s', (host, asked, port) => {
    expect(compileOne({ host }).covers(asked, port)).toBe(true);
  });

  it.each([
    ['api.x.com', 'api.x.com.evil.com', 443],
    ['api.x.com', 'evil-api.x.com', 443],
    ['api.x.com:8443', 'api.x.com', 443],
    ['*.x.com', 'x.com', 443],
    ['*.x.com', 'evilx.com', 443],
    ['*.x.com', '[::1]', 443],
    ['*:443', 'a.b', 80],
    ['[::1]', '[::2]', 80],
    ['re:api-[0-9]+\\.x\\.com', 'api-17.x.com.evil.com', 443],
    ['re:api-[0-9]+\\.x\\.com', 'evil-api-1.x.com', 443],
    ['re:a|b', 'ab', 443],
    ['re:a|b', 'b.evil.com', 443],
    ['re:(?:a)', 'aa', 443],
  ])('%s does not cover %s', (host, asked, port) => {
    expect(compileOne({ host }).covers(asked, port)).toBe(false);
  });

  it('compares the port of the entry, which may repeat the one in the host', () => {
    expect(compileOne({ host: 're:a', port: 1 }).covers('a', 1)).toBe(true);
    expect(compileOne({ host: 're:a', port: 1 }).covers('a', 2)).toBe(false);
    expect(compileOne({ host: 'a:1', port: 1 }).covers('a', 1)).toBe(true);
    expect([compileOne({ host: 'a:1' }).port, compileOne({ port: 2 }).port, compileOne({}).port]).toEqual([1, 2, undefined]);
  });

  it('agrees with host patterns elsewhere', () => {
    const patterns = [
      'x.com',
      'api.x.com',
      '*.x.com',
      '*.api.x.com',
      '*',
      'x.com:80',
      '*:80',
      '127.0.0.1',
      '[::1]',
      '[::1]:80',
      'localhost',
    ];
    const hosts = [
      'x.com',
      'api.x.com',
      'a.b.api.x.com',
      'evilx.com',
      'x.com.evil',
      'com',
      'localhost',
      '127.0.0.1',
      '[::1]',
      'a.127.0.0.1',
    ];
    for (const text of patterns) {
      const pattern = parseHostPattern(text);
      if ('problem' in pattern) throw new Error(text);
      for (const host of hosts)
        for (const port of [80, 443])
          expect(compileOne({ host: text }).covers(host, port), `${text} ${host}`).toBe(matchesHost(pattern, host, port));
    }
  });
});

describe('whether a rule names its host', () => {
  it.each([
    'api.x.com',
    'localhost',
    '*.x.com',
    '10.0.0.1',
    '[::1]:80',
    're:api-[0-9]+\\.x\\.com',
    're:(.*\\.)?corp',
    're:169\\.254\\.169\\.254',
    're:([a-z0-9-]+\\.)*x\\.com',
    're:10\\.\\d+\\.\\d+\\.\\d+',
    're:[a-z]+\\.internal',
  ])('%s does', (host) => {
    expect(compileOne({ host }).namesHost).toBe(true);
  });

  it.each([
    ...[
      '*',
      '*:443',
      're:.*',
      're:.+',
      're:.*\\..*',
      're:[^x]+',
      're:[a-z.]+',
      're:(?!evil\\.com).*',
      're:.*\\.com',
      're:x\\.com|.*',
      're:[\\w.-]+',
    ],
    ...['re:\\d+\\.\\d+\\.\\d+\\.\\d+', 're:\\w+', 're:\\w+\\.\\w+\\.\\w+\\.\\w+', 're:\\[.*\\]', 're:1[0-9.]+', 're:.{9,}'],
  ])('%s does not', (host) => {
    expect(compileOne({ host }).namesHost).toBe(false);
  });
});

describe('a rule that cannot mean what it says', () => {
  const cases: [string, Partial<RuleEntry>, string][] = [
    ['a host with a scheme', { host: 'https://x.com' }, 'not a bare host'],
    ['an empty host', { host: '' }, 'is empty'],
    ['a wildcard for a top level', { host: '*.com' }, 'too wide'],
    ['a zone', { host: '[fe80::1%eth0]' }, 'neither a host name nor an address'],
    ['brackets around nothing', { host: '[]' }, 'neither'],
    ['an address out of range', { host: '256.1.1.1' }, 'neither'],
    ['a name that ends in a number', { host: 'a.1' }, 'neither'],
    ['bad punycode', { host: 'xn--a' }, 'neither'],
    ['a wildcard before an address', { host: '*.0.0.1' }, 'wildcard before an address'],
    ['an expression that is none', { host: 're:(' }, 'not a valid regular expression'],
    ['an expression that leaves its anchors', { host: 're:a)|(?:b' }, 'not a valid regular expression'],
    ['an expression that ends in a backslash', { host: 're:a\\' }, 'not a valid regular expression'],
    ['an expression that hangs', { host: 're:(a+)+b' }, 'takes too long'],
    ['another one', { host: 're:(?:[a-z0-9-]+\\.?)*\\.x\\.com' }, 'takes too long'],
    ['two ports', { host: 'a:1', port: 2 }, 'two ports: 2 and 1'],
    ['no methods', { methods: [] }, 'empty list of methods'],
    ['a path with a query', { path: '/a?b' }, 'plain path'],
    ['a path with dots', { path: '/a/../b' }, '`..` segment'],
  ];

  it.each(cases)('%s', (_, entry, message) => {
    expect(() => compileOne(entry)).toThrow(message);
    expect(() => compileOne(entry)).toThrow(KzError);
  });

  it('is told with its place, and with all others', () => {
    const at = { file: '.keyzero.toml', line: 7 };
    const compile = () =>
      compileRules(
        [
          { allow: true, host: '[]' },
          { allow: true, host: 'ok' },
          { allow: true, host: 'x', path: 'y' },
        ],
        (index) => (index === 2 ? at : undefined),
      );
    expect(compile).toThrow('2 problems');
    try {
      compile();
    } catch (error) {
      const problems = error instanceof KzError ? error.problems : [];
      expect(problems.map(({ code, message }) => `${code} ${message}`)).toEqual([
        'config-invalid blind.connections.0 has a host "[]" that is neither a host name nor an address',
        'config-invalid blind.connections.2 has a path "y" that does not start with a slash',
      ]);
      expect(problems[1]?.at).toEqual(at);
    }
  });
});

it('cannot tell, rather than hang, when an expression goes wrong only for hosts that nobody foresaw', () => {
  const rule = compileOne({ host: 're:(?:(?:foo)+\\.?)+bar' });
  const start = performance.now();
  expect(rule.covers('foo'.repeat(60), 443)).toBeUndefined();
  expect(performance.now() - start).toBeLessThan(2000);
  expect(rule.covers('foobar', 443)).toBe(true);
});

it('remembers a bounded number of hosts, and answers the same when it has forgotten', () => {
  const rule = compileOne({ host: 're:h\\d+[02468]' });
  for (let round = 0; round < 2; round++) for (let i = 10; i < 1500; i++) expect(rule.covers(`h${String(i)}`, 1)).toBe(i % 2 === 0);
});
