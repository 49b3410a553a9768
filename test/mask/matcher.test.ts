import { describe, expect, it } from 'vitest';
import { Matcher } from '../../src/mask/matcher.ts';

function matcherOf(patterns: readonly string[]): Matcher {
  return new Matcher(patterns.map((pattern) => Buffer.from(pattern, 'latin1')));
}

/** The oracle: every position, every pattern. */
function naiveFind(patterns: readonly string[], text: string, from = 0): { start: number; end: number; pattern: number } | undefined {
  for (let start = from; start < text.length; start += 1) {
    let best: number | undefined;
    patterns.forEach((pattern, index) => {
      if (text.startsWith(pattern, start) && pattern.length > (patterns[best ?? -1]?.length ?? 0)) best = index;
    });
    if (best !== undefined) return { start, end: start + (patterns[best]?.length ?? 0), pattern: best };
  }
  return undefined;
}

function naivePending(patterns: readonly string[], text: string, from = 0): number {
  for (let start = from; start < text.length; start += 1) {
    const suffix = text.slice(start);
    if (patterns.some((pattern) => pattern.length > suffix.length && pattern.startsWith(suffix))) return start;
  }
  return text.length;
}

function word(letters: string, least: number, most: number): string {
  const length = least + Math.floor(Math.random() * (most - least + 1));
  return Array.from({ length }, () => letters[Math.floor(Math.random() * letters.length)]).join('');
}

describe('find', () => {
  it('finds nothing without patterns, in no bytes, and in bytes shorter than every pattern', () => {
    expect(matcherOf([]).find(Buffer.from('anything'))).toBeUndefined();
    expect(matcherOf([]).pendingFrom(Buffer.from('anything'))).toBe(8);
    expect(matcherOf(['abcd']).find(Buffer.alloc(0))).toBeUndefined();
    expect(matcherOf(['abcd']).find(Buffer.from('abc'))).toBeUndefined();
  });

  it('prefers the earlier match, then the longer one', () => {
    const matcher = matcherOf(['bcde', 'abcd', 'abcdef']);
    expect(matcher.find(Buffer.from('xabcdefg'))).toEqual({ start: 1, end: 7, pattern: 2 });
    expect(matcher.find(Buffer.from('xabcdeg'))).toEqual({ start: 1, end: 5, pattern: 1 });
  });

  it('starts where it is told', () => {
    const matcher = matcherOf(['abcd']);
    const bytes = Buffer.from('abcdabcd');
    expect(matcher.find(bytes, 1)).toEqual({ start: 4, end: 8, pattern: 0 });
    expect(matcher.find(bytes, 5)).toBeUndefined();
  });

  it('names the first of two equal patterns', () => {
    expect(matcherOf(['wxyz', 'abcd', 'abcd']).find(Buffer.from('abcd'))?.pattern).toBe(1);
  });

  it('finds patterns longer than any table entry can say', () => {
    const long = word('abc', 5000, 5000);
    const matcher = matcherOf([long, `${long}${long}`]);
    expect(matcher.find(Buffer.from(`${'z'.repeat(700)}${long}`))).toEqual({ start: 700, end: 5700, pattern: 0 });
    expect(matcher.pendingFrom(Buffer.from(`zz${long}`))).toBe(2);
  });

  it('refuses patterns it would be slow with', () => {
    expect(() => matcherOf(['abcd', 'abc'])).toThrow('cannot search for a pattern shorter than 4 bytes');
  });
});

// Up to 20 patterns use blocks of two bytes, 400 and more those of three.
describe.each([
  { name: 'few patterns', count: [1, 20], cases: 3000 },
  { name: 'many patterns', count: [400, 500], cases: 150 },
] as const)('against the oracle, $name', ({ count: [least, most], cases }) => {
  it.each(['ab', 'abc', 'abcdefghijklmnop', '\0\x01\x7f\x80\xfe\xff'])('letters %j', (letters) => {
    for (let turn = 0; turn < cases / 4; turn += 1) {
      const count = least + Math.floor(Math.random() * (most - least + 1));
      const patterns = Array.from({ length: count }, () => word(letters, least > 1 && letters.length < 4 ? 8 : 4, 12));
      const matcher = matcherOf(patterns);
      for (let repeat = 0; repeat < 5; repeat += 1) {
        const planted = patterns[Math.floor(Math.random() * count)] ?? '';
        const text = word(letters, 0, 30) + planted.slice(Math.floor(Math.random() * 3)) + word(letters, 0, 6);
        const from = Math.floor(Math.random() * 4);
        const bytes = Buffer.from(text, 'latin1');
        const context = JSON.stringify({ patterns: count > 20 ? count : patterns, text, from });
        expect(matcher.find(bytes, from), context).toEqual(naiveFind(patterns, text, from));
        expect(matcher.pendingFrom(bytes, from), context).toBe(naivePending(patterns, text, Math.min(from, text.length)));
      }
    }
  });
});

describe('pendingFrom', () => {
  it.each([
    ['xyz', 3],
    ['xyza', 3],
    ['xyabc', 2],
    ['abcd', 4], // a whole pattern is no true prefix, unless a longer one starts with it
    ['wxyz', 0],
    ['wxyz!', 5],
    ['ababc', 2],
  ])('of %j is %i', (text, expected) => {
    expect(matcherOf(['abcd', 'wxyz', 'wxyz12']).pendingFrom(Buffer.from(text))).toBe(expected);
  });

  it('never looks before `from`', () => {
    expect(matcherOf(['abababab']).pendingFrom(Buffer.from('abab'), 1)).toBe(2);
    expect(matcherOf(['abababab']).pendingFrom(Buffer.from('abab'), 4)).toBe(4);
  });
});
