import { describe, expect, it } from 'vitest';
import { Secret } from '../../src/core/secret.ts';
import { scopeOf, type Scope } from '../../src/mask/scope.ts';

function inferred(value: string, ruleHosts: readonly string[] = []): Scope {
  return scopeOf({ value: new Secret(value), ruleHosts });
}

it('takes the hosts of the user before anything else', () => {
  const scope = scopeOf({ hosts: ['a.com'], value: new Secret('https://ghp_CANARY@b.com'), ruleHosts: ['c.com'] });
  expect(scope).toMatchObject({ from: 'hosts', patterns: ['a.com'] });
  expect(['a.com', 'b.com', 'c.com', 'x.a.com'].map((host) => scope.covers(host, 443))).toEqual([true, false, false, false]);
});

it('takes an empty list, and patterns that are none, for no host', () => {
  for (const hosts of [[], ['a b'], ['*.com'], ['https://a.com']]) {
    const scope = scopeOf({ hosts, value: new Secret('ghp_CANARY'), ruleHosts: ['a.com'] });
    expect(['a.com', 'api.github.com', 'x.com'].some((host) => scope.covers(host, 443))).toBe(false);
  }
});

describe('the host of the value', () => {
  it.each<[string, string[]]>([
    ['postgres://u:CANARY@Prod-DB:5432/app', ['prod-db:5432']],
    ['mongodb://u:CANARY@h1:27017,h2:27018/db', ['h1:27017', 'h2:27018']],
    ['https://hooks.slack.com/services/T/B/CANARY', ['hooks.slack.com']],
    ['https://u:ghp_CANARY@example.com./x', ['example.com']],
    ['redis://:CANARY@[0:0::1]:6379', ['[::1]:6379']],
    ['https://u:CANARY@bücher.example', ['xn--bcher-kva.example']],
    ['https://ghp_CANARY@git.acme.com/x', ['git.acme.com']],
  ])('%s', (value, patterns) => {
    expect(inferred(value, ['c.com'])).toMatchObject({ from: 'url', patterns });
  });

  it.each([
    'postgres://u:CANARY@%2Fvar%2Frun/db',
    'postgres:///db?password=CANARY',
    'a://u:p@*',
    'a://u:p@*.example.com',
    'a://u:p@h:99999',
    'a://u:p@h:x',
  ])('%s has none', (value) => {
    expect(inferred(value, ['c.com']).from).toBe('rules');
  });

  it('is exact', () => {
    const scope = inferred('https://u:CANARY@api.x.com:8443/');
    const hosts: [string, number][] = [
      ['api.x.com', 8443],
      ['api.x.com', 443],
      ['x.com', 8443],
      ['api.x.com.evil.com', 8443],
    ];
    expect(hosts.map(([host, port]) => scope.covers(host, port))).toEqual([true, false, false, false]);
  });
});

it('takes the hosts of the vendor before those of rules', () => {
  const scope = inferred('ghp_CANARY', ['c.com']);
  expect(scope.from).toBe('vendor');
  expect(scope.covers('api.github.com', 443)).toBe(true);
  expect(scope.covers('c.com', 443)).toBe(false);
});

it('takes the hosts of rules, but never all hosts', () => {
  const scope = inferred('sk-CANARY', ['c.com', '*.d.com', 're:e[0-9]+\\.com', '*', 'f.com:81']);
  expect(scope).toMatchObject({ from: 'rules', patterns: ['c.com', '*.d.com', 're:e[0-9]+\\.com', 'f.com:81'] });
  const hosts = ['c.com', 'x.d.com', 'e12.com', 'f.com', 'd.com', 'e12.com.evil.com', 'xe12.com', 'g.com'];
  expect(hosts.filter((host) => scope.covers(host, 443))).toEqual(['c.com', 'x.d.com', 'e12.com']);
  expect(scope.covers('f.com', 81)).toBe(true);
});

it.each([
  ['CANARY', []],
  ['CANARY', ['*', '*:443']],
  ['sk-CANARY', ['*']],
])('anywhere, when nothing says where: %s', (value, ruleHosts) => {
  const scope = inferred(value, ruleHosts);
  expect(scope.from).toBe('any');
  expect(scope.covers('anything.example', 1)).toBe(true);
});

it('covers nothing with an expression that does not compile', () => {
  const scope = inferred('CANARY', ['re:(']);
  expect(scope.from).toBe('rules');
  expect(scope.covers('(', 443)).toBe(false);
});

it('shows nothing of the value', () => {
  for (const value of ['https://u:CANARY@h/', 'ghp_CANARY', 'CANARY', 'https://CANARY0123456789abcdef@h?token=CANARY']) {
    expect(JSON.stringify(inferred(value))).not.toContain('CANARY');
  }
});

describe('without TLS', () => {
  const clear = (input: Partial<Parameters<typeof scopeOf>[0]>, host: string, port: number): boolean =>
    scopeOf({ ruleHosts: [], ...input }).coversClear(host, port);

  it('goes only where the port is named', () => {
    expect(clear({ hosts: ['api.x.com'] }, 'api.x.com', 80)).toBe(false);
    expect(clear({ hosts: ['api.x.com:80'] }, 'api.x.com', 80)).toBe(true);
    expect(clear({ hosts: ['api.x.com:80'] }, 'api.x.com', 8080)).toBe(false);
    expect(clear({ hosts: ['[2001:db8::1]'] }, '[2001:db8::1]', 80)).toBe(false);
    expect(clear({ hosts: ['[2001:db8::1]:80'] }, '[2001:db8::1]', 80)).toBe(true);
    expect(clear({ value: new Secret('ghp_CANARYCANARYCANARY12') }, 'api.github.com', 80)).toBe(false);
    expect(clear({ ruleHosts: ['re:api.*:80'] }, 'api.x.com', 80)).toBe(false);
  });

  it('goes to this machine and to private addresses, as far as its hosts allow', () => {
    for (const host of ['localhost', 'api.localhost', '127.0.0.1', '[::1]', '192.168.1.2', '10.0.0.1', '[fe80::1]']) {
      expect(clear({}, host, 8080)).toBe(true);
      expect(clear({ hosts: [host] }, host, 8080)).toBe(true);
      expect(clear({ hosts: ['api.x.com'] }, host, 8080)).toBe(false);
    }
    for (const host of ['api.x.com', '8.8.8.8', '169.254.169.254', 'localhost.x.com', '[2001:4860::1]'])
      expect(clear({}, host, 80)).toBe(false);
  });

  it('goes to the host of a URL that is asked for without TLS', () => {
    const value = new Secret('http://u:CANARY-pass-word@internal.x.com/feed');
    expect(clear({ value }, 'internal.x.com', 80)).toBe(true);
    expect(scopeOf({ value, ruleHosts: [] }).covers('internal.x.com', 443)).toBe(true);
    expect(clear({ value: new Secret('https://u:CANARY-pass-word@internal.x.com/feed') }, 'internal.x.com', 80)).toBe(false);
  });
});
