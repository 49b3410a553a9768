import { describe, expect, it } from 'vitest';
import { matchesPath, parsePathPattern, readings } from '../../src/policy/request-path.ts';

function compiled(pattern: string): string {
  const parsed = parsePathPattern(pattern);
  if ('problem' in parsed) throw new Error(`${pattern} ${parsed.problem}`);
  return parsed.compiled;
}

describe('what a pattern matches', () => {
  it.each([
    ['/', '/'],
    ['/v1', '/v1'],
    ['/v1/', '/v1/'],
    ['/repos/*', '/repos/a'],
    ['/repos/*', '/repos/'],
    ['/repos/*/issues', '/repos/a/issues'],
    ['/repos/*/*/issues', '/repos/a/b/issues'],
    ['/a*b', '/ab'],
    ['/a*b', '/aXbXb'],
    ['/*.json', '/a.b.json'],
    ['/**', '/'],
    ['/**', '/a/b/c'],
    ['/a/**', '/a/'],
    ['/a/**/z', '/a/b/c/z'],
    ['/a/**/z', '/a/z/z'],
    ['/**/b/*/d', '/b/c/b/c/d'],
    ['/a***', '/a/b'],
    ['/.well-known/*', '/.well-known/x'],
    ['/user/@me', '/user/@me'],
    ['/a.b', '/a.b'],
    ['/münchen', '/m%C3%BCnchen'],
    ['/m%c3%bcnchen', '/m%C3%BCnchen'],
    ['/a%7Eb', '/a~b'],
    ['/a%2Ab', '/a%2Ab'],
    ['/a*b', '/a%2Ab'],
    ['/a b', '/a%20b'],
  ])('%s matches %s', (pattern, path) => {
    expect(matchesPath(compiled(pattern), path)).toBe(true);
  });

  it.each([
    ['/v1', '/v1/'],
    ['/v1', '/v10'],
    ['/v1', '/xv1'],
    ['/v1', '/V1'],
    ['/v1', '/v1/x'],
    ['/repos/*', '/repos/a/b'],
    ['/repos/*', '/repos'],
    ['/repos/*/issues', '/repos/a/b/issues'],
    ['/a*b', '/a/b'],
    ['/a/**/z', '/a/z'],
    ['/a/**', '/a'],
    ['/a.b', '/aXb'],
    ['/a%2Ab', '/aXb'],
    ['/(a|b)', '/a'],
    ['/**/b', '/b/'],
  ])('%s does not match %s', (pattern, path) => {
    expect(matchesPath(compiled(pattern), path)).toBe(false);
  });

  it('agrees with a regular expression, whatever the order of stars', () => {
    const pieces = ['a', 'b', '/', '*', '**'];
    let seed = 11;
    const next = (below: number) => (seed = (seed * 48_271) % 2_147_483_647) % below;
    let matched = 0;
    for (let round = 0; round < 50_000; round++) {
      const pattern = `/${Array.from({ length: next(7) }, () => pieces[next(5)]).join('')}`;
      const path = `/${Array.from({ length: next(9) }, () => pieces[next(3)]).join('')}`;
      if (pattern.includes('//')) continue;
      const source = pattern.replace(/\*\*+|\*/g, (stars) => (stars === '*' ? '[^/]*' : '.*'));
      const expected = new RegExp(`^${source}$`).test(path);
      if (expected) matched++;
      expect(matchesPath(compiled(pattern), path), `${pattern} ${path}`).toBe(expected);
    }
    expect(matched).toBeGreaterThan(1000);
  });

  it('stays quick on a path that is made to be slow', () => {
    const start = performance.now();
    expect(matchesPath(compiled('/**a*a*a**a*a**/**a*b'), `/${'a'.repeat(8000)}`)).toBe(false);
    expect(matchesPath(compiled('/**/*a*/**/b'), `/${'a/'.repeat(4000)}`)).toBe(false);
    expect(performance.now() - start).toBeLessThan(2000);
  });
});

it.each([
  ['v1', 'slash'],
  ['', 'slash'],
  ['*', 'slash'],
  ['/a//b', 'empty segment'],
  ['/a;b', 'parameter'],
  ['/a?b', 'plain path'],
  ['/a#b', 'plain path'],
  ['/a\\b', 'plain path'],
  ['/a%2fb', 'plain path'],
  ['/a%5Cb', 'plain path'],
  ['/a%252fb', 'plain path'],
  ['/a%', 'plain path'],
  ['/a%zz', 'plain path'],
  ['/a\0', 'plain path'],
  ['/%2e%2e/a', 'plain path'],
  ['/a/../b', '`..`'],
  ['/a/.', '`..`'],
])('the pattern %j is refused: %s', (pattern, reason) => {
  const parsed = parsePathPattern(pattern);
  expect('problem' in parsed ? parsed.problem : '').toContain(reason);
});

describe('how servers may read a path', () => {
  it.each([
    ['/', ['/']],
    ['/a/b', ['/a/b']],
    ['/a/', ['/a/']],
    ['/%7Euser', ['/~user']],
    ['/%61%2D%5f', ['/a-_']],
    ['/users/%40me:x', ['/users/@me:x']],
    ['/a%3fb%23', ['/a%3Fb%23']],
    ['/100%25', ['/100%25']],
    ['/a b|c', ['/a%20b%7Cc']],
    ['/a*b', ['/a%2Ab']],
    ['/m\xc3\xbcnchen', ['/m%C3%BCnchen']],
    ['/a/./b', ['/a/b']],
    ['/a/../b', ['/b']],
    ['/a/b/..', ['/a/']],
    ['/a/b/.', ['/a/b/']],
    ['/../../a', ['/a']],
    ['/..', ['/']],
    ['/...', ['/...']],
    ['/a/.b/..c', ['/a/.b/..c']],
    ['//admin', ['//admin', '//admin', '/admin', '/admin']],
    ['/a//../b', ['/a/b', '/a/b', '/b', '/b']],
    ['/admin;x=1', ['/admin;x=1', '/admin', '/admin;x=1', '/admin']],
    ['/a/..;/b', ['/a/..;/b', '/b', '/a/..;/b', '/b']],
    ['/a/..%3B/b', ['/a/..;/b', '/b', '/a/..;/b', '/b']],
  ])('%j', (path, expected) => {
    expect(readings(path)).toEqual(expected);
  });

  it.each([
    ...[
      '',
      '*',
      'a',
      'http://x/a',
      ' /a',
      '/a?b',
      '/a#b',
      '/a\\b',
      '\\a',
      '/a\0b',
      '/a\rb',
      '/a\nb',
      '/a\tb',
      '/a\x7f',
      '/\u0100',
      '/a／b',
    ],
    ...['/a%2fb', '/a%2Fb', '/a%5cb', '/a%5C..%5cb', '/a%00', '/a%0d%0ab', '/a%7f', '/%', '/%2', '/%zz', '/a%u002f', '/%2%66'],
    ...['/%2e', '/%2E%2e/a', '/a/%2e%2e', '/a/.%2e/b', '/a/%2e./b', '/a/%2e;x/b', '/a/%2e%2e%3b/b'],
    ...['/%252e%252e/a', '/a%252fb', '/%25252e', '/%25%32%65', '/%25%32e', '/%%32%65', '/a%25ff'],
    ...['/%c0%af', '/%C0%AE%C0%AE/a', '/%e0%80%af', '/\xc0\xaf', '/%ff', '/%c3', '/%ed%a0%80', `/${'a'.repeat(9000)}`],
  ])('%j is ambiguous', (path) => {
    expect(readings(path)).toEqual([]);
  });

  it('reads what it has read the same way again', () => {
    for (const path of ['/a/./b', '/%7Eu', '/a b|c', '/m\xc3\xbc', '/a*b', '/a%3fb', '/x/../y/']) {
      const [once = ''] = readings(path);
      expect(readings(once)).toEqual([once]);
    }
  });
});
