import { execFileSync } from 'node:child_process';
import { describe, expect, it } from 'vitest';
import { joinWords, splitWords } from '../../src/providers/words.ts';

const CASES: readonly [text: string, words: readonly string[]][] = [
  ['', []],
  [' \t\n ', []],
  ['show github-pat', ['show', 'github-pat']],
  ['  a   b\tc\nd  ', ['a', 'b', 'c', 'd']],
  [`'a b' "c d"`, ['a b', 'c d']],
  [`a'b'"c"d`, ['abcd']],
  [`'' ""`, ['', '']],
  [`a '' b`, ['a', '', 'b']],
  [`'a\\b' "a\\b"`, ['a\\b', 'a\\b']],
  [`"\\"\\\\\\$\\\`"`, ['"\\$`']],
  [`"a\\\nb"`, ['ab']],
  ['a\\\nb \\\n c', ['ab', 'c']],
  [`a\\ b \\'c\\'`, ['a b', "'c'"]],
  [`'it'\\''s'`, ["it's"]],
  [`"it's" '"'`, ["it's", '"']],
  ['é\u00a0ü 日本', ['é\u00a0ü', '日本']],
  ['a#b', ['a#b']],
];

describe('splitWords', () => {
  it.each(CASES)('%j', (text, words) => {
    expect(splitWords(text)).toEqual({ words });
  });

  // Not those with a bare newline, which ends a command.
  it.each(CASES.filter(([text]) => !/(^|[^\\])\n/.test(text)))('%j is split as sh splits it', (text, words) => {
    const script = `for word in ${text}; do printf '%s\\0' "$word"; done`;
    const printed = execFileSync('/bin/sh', ['-c', script], { encoding: 'utf8' });
    expect(printed.split('\0').slice(0, -1)).toEqual(words);
  });

  it('expands nothing and knows no operators', () => {
    const text = '$HOME ${HOME} "$HOME" $(id) `id` * ~ a|b >c & ; #d \r';
    expect(splitWords(text)).toEqual({
      words: ['$HOME', '${HOME}', '$HOME', '$(id)', '`id`', '*', '~', 'a|b', '>c', '&', ';', '#d', '\r'],
    });
  });

  it.each([
    [`a 'b`, 'has a quote that is not closed'],
    [`a "b\\"`, 'has a quote that is not closed'],
    ['a b\\', 'ends with a backslash'],
  ])('%j %s', (text, problem) => {
    expect(splitWords(text)).toEqual({ problem });
  });

  it('takes long texts', () => {
    const word = 'x'.repeat(500_000);
    expect(splitWords(`'${word}' "${word}" ${word}`)).toEqual({ words: [word, word, word] });
  });
});

describe('joinWords', () => {
  it.each(CASES)('brings back %j', (_text, words) => {
    expect(splitWords(joinWords(words))).toEqual({ words });
  });

  it('leaves plain words alone', () => {
    expect(joinWords(['pass', 'show', 'a/b.c', 'a b', "it's", ''])).toBe(`pass show a/b.c 'a b' 'it'\\''s' ''`);
  });
});
