// Refs and the globs that rules and resources are written with.
import { describe, expect, it } from 'vitest';
import { compileRefGlob, literalPrefix, refProblem, type RefGlob } from '../../src/policy/ref.ts';

describe('refProblem', () => {
  it.each(['github/pat', 'a', 'db/prod#password', 'a/b@1.2:3+4=5,6~7-8_9', 'op#Section/field.name', 'a/.hidden', 'a/..b', 'x'.repeat(512)])(
    'takes %j',
    (ref) => {
      expect(refProblem(ref)).toBeUndefined();
    },
  );

  it.each([
    ['', 'is empty'],
    ['/a', 'empty segment'],
    ['a/', 'empty segment'],
    ['a//b', 'empty segment'],
    ['#a', 'empty segment'],
    ['a/#b', 'empty segment'],
    ['..', '`.` or `..` segment'],
    ['a/../b', '`.` or `..` segment'],
    ['a/./b', '`.` or `..` segment'],
    ['a/..#b', '`.` or `..` segment'],
    ['a/%2e%2e/b', 'a character that no ref can have: "%"'],
    ['a\\b', 'a character that no ref can have'],
    ['a\u0000b', 'a character that no ref can have: "\\u0000"'],
    ['a\n', 'a character that no ref can have'],
    ['a b', 'a character that no ref can have'],
    ['ä', 'a character that no ref can have'],
    ['a/*', 'a character that no ref can have'],
    ['a?b', 'a character that no ref can have'],
    ['a#', 'no field'],
    ['a#b#c', 'more than one'],
    ['x'.repeat(513), 'longer than 512'],
  ])('refuses %j: %s', (ref, why) => {
    expect(refProblem(ref)).toContain(why);
  });
});

describe('compileRefGlob', () => {
  it.each([
    ['a/b', 'a/b', []],
    ['a/*', 'a/b', ['b']],
    ['a/*/c', 'a/b/c', ['b']],
    ['*/*', 'a/b', ['a', 'b']],
    ['*', 'a', ['a']],
    ['a*c/*', 'abbc/d', ['bb', 'd']],
    ['**', 'a/b/c#d', ['a/b/c#d']],
    ['a/**', 'a/b/c', ['b/c']],
    ['a/**/c', 'a/c', ['']],
    ['a/**/c', 'a/b/b/c', ['b/b']],
    ['**/c', 'c', ['']],
    ['**/c', 'a/b/c', ['a/b']],
    ['**/**/c', 'a/b/c', ['', 'a/b']],
    ['a**c', 'a/b/c', ['/b/']],
    ['a/*-*', 'a/x-y-z', ['x', 'y-z']],
    ['*/b/**/d/*', 'a/b/c/d/b/d/e', ['a', 'c/d/b', 'e']],
    ['db/*', 'db/prod#a/b', ['prod#a/b']],
    ['db/*#*', 'db/prod#a/b', ['prod', 'a/b']],
    ['db/prod#*', 'db/prod#x', ['x']],
  ])('%s matches %s', (glob, ref, captures) => {
    expect(compiled(glob).match(ref)).toEqual(captures);
  });

  it.each([
    ['a/b', 'a/B'],
    ['a/b', 'a/b#c'],
    ['a/*', 'a/b/c'],
    ['a/*', 'a'],
    ['a/*', 'A/b'],
    ['a/**', 'a'],
    ['a/**', 'ab/c'],
    ['**/c', 'a/bc'],
    ['a/**/c', 'a/bc'],
    ['a/**/c', 'abc/c'],
    ['a/**/c', 'a/b#x/c'],
    ['*', 'a/b'],
    ['a*a', 'a'],
  ])('%s does not match %s', (glob, ref) => {
    expect(compiled(glob).match(ref)).toBeUndefined();
  });

  it.each([
    ['', 'is empty'],
    ['a/***', 'more than two stars'],
    ['a/[bc]', 'a character that no ref can have: "["'],
    ['a/{b,c}', 'a character that no ref can have'],
    ['a/?', 'a character that no ref can have'],
    ['/a/*', 'empty segment'],
    ['a/**/', 'empty segment'],
    ['a/../*', 'segment'],
  ])('refuses %j: %s', (glob, why) => {
    expect(compileRefGlob(glob)).toEqual({ problem: expect.stringContaining(why) as string });
  });

  it('agrees with a matcher that tries everything', () => {
    let seed = 1;
    const pick = (parts: readonly string[], most: number): string => {
      const next = (n: number): number => (seed = (seed * 48_271) % 2_147_483_647) % n;
      return Array.from({ length: next(most) + 1 }, () => parts[next(parts.length)] ?? '').join('');
    };
    for (let i = 0; i < 40_000; i++) {
      const glob = pick(['a', 'b', '/', '/', '*', '**', '**/', '#', 'a', '*'], 7);
      const ref = pick(['a', 'b', '/', '/', '#', 'a'], 9);
      const made = compileRefGlob(glob);
      if ('problem' in made || refProblem(ref) !== undefined) continue;
      const captures = made.match(ref);
      expect([glob, ref, captures !== undefined]).toEqual([glob, ref, matchesSlowly(glob, ref)]);
      if (captures !== undefined) expect(captures).toHaveLength(made.stars);
    }
  });

  it('knows which globs are exact, and how many stars there are', () => {
    expect(compiled('a/b').isExact).toBe(true);
    expect(compiled('a/*/**').isExact).toBe(false);
    expect(compiled('a/*/**').stars).toBe(2);
  });

  it.each([
    ['*a'.repeat(200), 'a'.repeat(512)],
    [`${'**/'.repeat(150)}x`, 'a/'.repeat(255)],
    [`${'*/**/'.repeat(80)}x`, `${'a/'.repeat(255)}y`],
    [`${'**a'.repeat(150)}x`, 'a'.repeat(512)],
    [`*#*/${'**/'.repeat(150)}x`, `a#${'a/'.repeat(250)}`],
  ])('cannot be made to backtrack: %s', (glob, ref) => {
    const made = compiled(glob);
    const started = performance.now();
    expect(made.match(`${ref}z`)).toBeUndefined();
    expect(performance.now() - started).toBeLessThan(1000);
  });
});

it('tells the literal prefix', () => {
  expect(literalPrefix('a/b')).toBe('a/b');
  expect(literalPrefix('a/b*')).toBe('a/b');
  expect(literalPrefix('**')).toBe('');
});

function matchesSlowly(glob: string, ref: string): boolean {
  const pathEnd = (ref.includes('#') ? ref.indexOf('#') : ref.length) + 1;
  return rest(0, 0);

  function rest(i: number, j: number): boolean {
    if (i === glob.length) return j === ref.length;
    const isStart = i === 0 || glob[i - 1] === '/';
    if (isStart && glob.startsWith('**/', i))
      return ends(j, pathEnd).some((end) => (end === j || ref[end - 1] === '/') && rest(i + 3, end));
    if (glob.startsWith('**', i)) return ends(j, ref.length + 1).some((end) => rest(i + 2, end));
    if (glob[i] === '*')
      return ends(j, ref.length + 1).some((end) => !ref.slice(j, Math.min(end, pathEnd)).includes('/') && rest(i + 1, end));
    return glob[i] === ref[j] && rest(i + 1, j + 1);
  }

  function ends(from: number, to: number): readonly number[] {
    return Array.from({ length: Math.max(1, to - from) }, (_, index) => from + index);
  }
}

function compiled(glob: string): RefGlob {
  const made = compileRefGlob(glob);
  if ('problem' in made) throw new Error(made.problem);
  return made;
}
