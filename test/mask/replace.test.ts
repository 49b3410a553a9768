import { describe, expect, it } from 'vitest';
import { Replacer, ReplacementSet, type Replacement } from '../../src/mask/replace.ts';

type Pair = readonly [find: string, put: string];

function listOf(pairs: readonly Pair[]): readonly Replacement[] {
  return pairs.map(([find, put], index) => ({
    name: `S${String(index)}`,
    find: Buffer.from(find, 'latin1'),
    put: Buffer.from(put, 'latin1'),
  }));
}

function setOf(pairs: readonly Pair[]): ReplacementSet {
  return new ReplacementSet(listOf(pairs));
}

/** The oracle: leftmost, then longest, on the whole text. */
function naive(pairs: readonly Pair[], text: string): { out: string; names: string[] } {
  let out = '';
  const names = new Set<string>();
  for (let at = 0; at < text.length;) {
    const here = pairs.map(([find], index) => ({ find, index })).filter(({ find }) => text.startsWith(find, at));
    const best = here.reduce<(typeof here)[number] | undefined>(
      (a, b) => (a === undefined || b.find.length > a.find.length ? b : a),
      undefined,
    );
    out += best === undefined ? (text[at] ?? '') : (pairs[best.index]?.[1] ?? '');
    if (best !== undefined) names.add(`S${String(best.index)}`);
    at += best?.find.length ?? 1;
  }
  return { out, names: [...names] };
}

function feed(set: ReplacementSet, chunks: readonly string[], options?: { sameLength?: boolean }): { out: string; names: string[] } {
  const replacer = new Replacer(set, options);
  const parts = chunks.flatMap((text) => {
    const chunk = Buffer.from(text, 'latin1');
    return random(2) === 0 ? [replacer.push(chunk)] : replacer.pieces(chunk);
  });
  const out = Buffer.concat([...parts, replacer.end()]).toString('latin1');
  return { out, names: [...replacer.found] };
}

function word(letters: string, least: number, most: number): string {
  return Array.from({ length: least + random(most - least + 1) }, () => letters[random(letters.length)]).join('');
}

function random(below: number): number {
  return Math.floor(Math.random() * below);
}

function cut(text: string): string[] {
  const chunks: string[] = [];
  for (let at = 0; at < text.length;) {
    const length = random(6) === 0 ? random(20) : random(4);
    chunks.push(text.slice(at, at + length));
    at += length;
  }
  return chunks;
}

describe('any chunking gives what the whole gives', () => {
  it.each(['ab', 'abc', 'abcdefgh', '\x00\x7f\x80\xff'])('4 x 1500 random cases, letters %j', (letters) => {
    for (let turn = 0; turn < 1500; turn += 1) {
      const finds = Array.from({ length: 1 + random(6) }, () => word(letters, 4, 9));
      // Patterns inside, at the front of and overlapping other patterns.
      const [first = ''] = finds;
      finds.push(first + word(letters, 1, 6), word(letters, 1, 3) + first, first.slice(2) + word(letters, 3, 5));
      const pairs = finds.map((find, index): Pair => [find, `<${String(index)}>`.repeat(random(3))]);
      const text = Array.from({ length: 4 }, () => word(letters, 0, 12) + (finds[random(finds.length)] ?? '').slice(0, 4 + random(6))).join(
        '',
      );
      const set = setOf(pairs);
      const expected = naive(pairs, text);
      for (const chunks of [[text], Array.from(text), cut(text), cut(text)]) {
        expect(feed(set, chunks), JSON.stringify({ pairs, chunks })).toEqual(expected);
      }
    }
  });

  it('many patterns', () => {
    for (let turn = 0; turn < 40; turn += 1) {
      const pairs = Array.from({ length: 350 }, (_, index): Pair => [word('abcd', 6, 12), `<${String(index)}>`]);
      const set = setOf(pairs);
      const text = word('abcd', 200, 400);
      const expected = naive(pairs, text);
      for (const chunks of [[text], Array.from(text), cut(text)]) expect(feed(set, chunks)).toEqual(expected);
    }
  });
});

describe('what waits', () => {
  it('keeps a shorter match back while a longer one at the same place may still come', () => {
    const set = setOf([
      ['abcd', '1'],
      ['abcdefgh', '2'],
    ]);
    const replacer = new Replacer(set);
    expect(replacer.push(Buffer.from('x abcd')).toString()).toBe('x ');
    expect(replacer.push(Buffer.from('efg')).toString()).toBe('');
    expect(replacer.push(Buffer.from('!')).toString()).toBe('1efg!');
    expect(replacer.push(Buffer.from('abcdefgh')).toString()).toBe('2');
    expect(replacer.push(Buffer.from('abcdef')).toString()).toBe('');
    expect(replacer.end().toString()).toBe('1ef');
  });

  it('keeps a shorter match back inside a longer one that is pending', () => {
    const pairs: Pair[] = [
      ['secret', '1'],
      ['my-secret-key', '2'],
    ];
    expect(feed(setOf(pairs), ['a my-secret', '-key b']).out).toBe('a 2 b');
    expect(feed(setOf(pairs), ['a my-secret', '-kez b']).out).toBe('a my-1-kez b');
    expect(feed(setOf(pairs), ['a my-secret']).out).toBe('a my-1');
  });

  it('holds nothing but a true prefix, and never as much as the longest pattern', () => {
    const replacer = new Replacer(setOf([['abcdefgh', '!']]));
    expect(replacer.push(Buffer.from('event: 1\n\n')).toString()).toBe('event: 1\n\n');
    expect(replacer.push(Buffer.from('abcabcd')).toString()).toBe('abc');
    expect(replacer.push(Buffer.from('x')).toString()).toBe('abcdx');
    expect(replacer.end()).toHaveLength(0);
  });

  it('keeps no reference to the chunk: the caller may use its memory again', () => {
    const replacer = new Replacer(setOf([['abcdefgh', '!']]));
    const chunk = Buffer.from('...abcd');
    expect(replacer.push(chunk).toString()).toBe('...');
    chunk.fill('z');
    expect(replacer.push(Buffer.from('efgh')).toString()).toBe('!');
  });

  it('is as new after the end', () => {
    const replacer = new Replacer(setOf([['abcdefgh', '!']]));
    replacer.push(Buffer.from('abcd'));
    expect(replacer.end().toString()).toBe('abcd');
    expect(replacer.push(Buffer.from('efgh')).toString()).toBe('efgh');
    expect(replacer.end()).toHaveLength(0);
  });
});

describe('the fast path', () => {
  it('returns the same object when nothing is found or held', () => {
    const replacer = new Replacer(setOf([['abcdefgh', '!']]));
    for (const text of ['nothing here', '']) {
      const chunk = Buffer.from(text);
      expect(replacer.push(chunk)).toBe(chunk);
    }
    const chunk = Buffer.from('abcdefgh');
    expect(new Replacer(setOf([])).push(chunk)).toBe(chunk);
    expect(setOf([]).isEmpty).toBe(true);
    expect(setOf([['abcd', '']]).isEmpty).toBe(false);
  });

  it('does not copy what stands before a held tail', () => {
    const chunk = Buffer.from('nothing abc');
    const out = new Replacer(setOf([['abcdefgh', '!']])).push(chunk);
    expect(out.toString()).toBe('nothing ');
    expect(out.buffer).toBe(chunk.buffer);
  });
});

it('puts the same length on demand: cut, or padded with stars', () => {
  const set = setOf([
    ['abcdefgh', 'kz_masked_1'],
    ['0123456789', 'kz'],
  ]);
  expect(feed(set, ['<abcd', 'efgh> <0123456789>'], { sameLength: true }).out).toBe('<kz_maske> <kz********>');
  expect(feed(set, ['<abcdefgh> <0123456789>']).out).toBe('<kz_masked_1> <kz>');
});

it('lets the first of two equal patterns count', () => {
  const set = setOf([
    ['abcdefgh', '1'],
    ['abcdefgh', '2'],
  ]);
  expect(feed(set, ['abcdefgh'])).toEqual({ out: '1', names: ['S0'] });
});
