import { randomBytes } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { formsOf } from '../../src/mask/form.ts';
import { Replacer, ReplacementSet } from '../../src/mask/replace.ts';

const TOKEN = 'kz_masked_0123456789abcdef0123456789abcdef';

function setOf(value: string, token = TOKEN): ReplacementSet {
  return new ReplacementSet(formsOf(value, token).map((form) => ({ name: 'S', ...form })));
}

function replaced(set: ReplacementSet, chunks: readonly Buffer[]): string {
  const replacer = new Replacer(set);
  return Buffer.concat([...chunks.map((chunk) => replacer.push(chunk)), replacer.end()]).toString();
}

/** The result, after checking that every way to cut the text in two, and byte by byte, gives the same. */
function replacedAnyhow(set: ReplacementSet, text: string): string {
  const bytes = Buffer.from(text);
  const whole = replaced(set, [bytes]);
  for (let at = 0; at <= bytes.length; at += 1) expect(replaced(set, [bytes.subarray(0, at), bytes.subarray(at)])).toBe(whole);
  expect(
    replaced(
      set,
      Array.from(bytes, (byte) => Buffer.of(byte)),
    ),
  ).toBe(whole);
  return whole;
}

const AWKWARD = `CANARY é/ü+"q"='a'&<b> c\\d\n\u001b~!*()😀\u2028`;

// What each writer makes of AWKWARD, written out by hand or by the runtime's own encoder.
const SPELT: readonly (readonly [writer: string, text: string])[] = [
  ['itself', AWKWARD],
  ['JSON.stringify', JSON.stringify(AWKWARD).slice(1, -1)],
  ['JSON in JSON', JSON.stringify(JSON.stringify(AWKWARD).slice(1, -1)).slice(1, -1)],
  ['JSON with escaped slashes', String.raw`CANARY é\/ü+\"q\"='a'&<b> c\\d\n\u001b~!*()😀` + '\u2028'],
  ['Go', String.raw`CANARY é/ü+\"q\"='a'\u0026\u003cb\u003e c\\d\n\u001b~!*()😀\u2028`],
  ['Gson', String.raw`CANARY é/ü+\"q\"\u003d\u0027a\u0027\u0026\u003cb\u003e c\\d\n\u001b~!*()😀\u2028`],
  ['Python', String.raw`CANARY \u00e9/\u00fc+\"q\"='a'&<b> c\\d\n\u001b~!*()\ud83d\ude00\u2028`],
  ['PHP', String.raw`CANARY \u00e9\/\u00fc+\"q\"='a'&<b> c\\d\n\u001b~!*()\ud83d\ude00\u2028`],
  ['upper-case ASCII JSON', String.raw`CANARY \u00E9/\u00FC+\"q\"='a'&<b> c\\d\n\u001B~!*()\uD83D\uDE00\u2028`],
  ['.NET', String.raw`CANARY \u00E9/\u00FC\u002B\u0022q\u0022=\u0027a\u0027\u0026\u003Cb\u003E c\\d\n\u001B~!*()\uD83D\uDE00\u2028`],
  ['encodeURIComponent', encodeURIComponent(AWKWARD)],
  ['encodeURIComponent, lower', lower(encodeURIComponent(AWKWARD))],
  ['RFC 3986', strict(AWKWARD)],
  ['RFC 3986, lower', lower(strict(AWKWARD))],
  ['encodeURI', encodeURI(AWKWARD)],
  ['URLSearchParams', new URLSearchParams({ v: AWKWARD }).toString().slice(2)],
  ['URLSearchParams, lower', lower(new URLSearchParams({ v: AWKWARD }).toString().slice(2))],
  ['Go QueryEscape', strict(AWKWARD).replaceAll('%20', '+')],
  ['Python quote', strict(AWKWARD).replaceAll('%2F', '/')],
  ['HTML, least', `CANARY é/ü+"q"='a'&amp;&lt;b&gt; c\\d\n\u001b~!*()😀\u2028`],
  ['HTML, PHP', `CANARY é/ü+&quot;q&quot;=&#039;a&#039;&amp;&lt;b&gt; c\\d\n\u001b~!*()😀\u2028`],
  ['HTML, Python', `CANARY é/ü+&quot;q&quot;=&#x27;a&#x27;&amp;&lt;b&gt; c\\d\n\u001b~!*()😀\u2028`],
  ['HTML, Go', `CANARY é/ü&#43;&#34;q&#34;=&#39;a&#39;&amp;&lt;b&gt; c\\d\n\u001b~!*()😀\u2028`],
  ['HTML, Mustache', `CANARY é&#x2F;ü+&quot;q&quot;&#x3D;&#39;a&#39;&amp;&lt;b&gt; c\\d\n\u001b~!*()😀\u2028`],
];

function lower(text: string): string {
  return text.replace(/%[0-9A-F]{2}/g, (code) => code.toLowerCase());
}

function strict(text: string): string {
  return encodeURIComponent(text).replace(/[!'()*]/g, (character) => `%${character.charCodeAt(0).toString(16).toUpperCase()}`);
}

describe('spellings', () => {
  const set = setOf(AWKWARD);
  it.each(SPELT)('%s', (_, text) => {
    expect(replacedAnyhow(set, `{"a":"${text}"}`)).toBe(`{"a":"${TOKEN}"}`);
  });

  it('hex, lower and upper', () => {
    const hex = Buffer.from(AWKWARD).toString('hex');
    const token = Buffer.from(TOKEN).toString('hex');
    expect(replacedAnyhow(set, `0x${hex}.`)).toBe(`0x${token}.`);
    expect(replacedAnyhow(set, `0x${hex.toUpperCase()}.`)).toBe(`0x${token.toUpperCase()}.`);
  });

  it('spells the token as it spells the value', () => {
    const odd = setOf('CANARY "1/2"', '<a "b/c">');
    expect(replaced(odd, [Buffer.from(String.raw`{"a":"CANARY \"1\/2\""}`)])).toBe(String.raw`{"a":"<a \"b\/c\">"}`);
    expect(replaced(odd, [Buffer.from('a=CANARY+%221%2F2%22')])).toBe('a=%3Ca+%22b%2Fc%22%3E');
    expect(replaced(odd, [Buffer.from('CANARY &quot;1/2&quot;')])).toBe('&lt;a &quot;b/c&quot;&gt;');
  });

  it('survives a value that is no Unicode text', () => {
    expect(replaced(setOf('CANARY-\ud800-é'), [Buffer.from(encodeURIComponent('CANARY-\ufffd-é'))])).toBe(TOKEN);
  });
});

describe('the list of forms', () => {
  it.each([
    ['CANARYabcdef', 6],
    ['CANARYabcdef1', 7], // and the padded base64
    ['ghp_CANARY0123456789', 7],
  ])('is small for %s', (value, count) => {
    expect(formsOf(value, TOKEN)).toHaveLength(count);
  });

  it('starts with the value itself, holds no form twice and none under 8 bytes', () => {
    for (const value of ['CANARY-1', 'CANARYabcdef', AWKWARD, 'ÿÿ>>??~~', 'a']) {
      const finds = formsOf(value, TOKEN).map(({ find }) => find.toString('latin1'));
      expect(new Set(finds).size).toBe(finds.length);
      expect(finds.every((find) => find.length >= 8)).toBe(true);
      if (value.length >= 8) expect(finds[0]).toBe(Buffer.from(value).toString('latin1'));
    }
  });
});

describe('base64', () => {
  const kinds: readonly (readonly [name: string, value: () => string])[] = [
    ['letters and digits', () => randomBytes(4 + small()).toString('hex')],
    ['punctuation that gives + and /', () => `${'>?~'.repeat(2 + small())}${'?'.repeat(3 + small())}`],
    ['UTF-8', () => `é${'ßüñ漢😀'.repeat(1 + small())}${'x'.repeat(small())}`],
  ];
  const tokens = [TOKEN, `ghp_${TOKEN}`, `s${TOKEN}`, 'kz'];

  it.each(kinds)('decodes, between any neighbours, to text with the token and without the value: %s', (_, make) => {
    for (let turn = 0; turn < 200; turn += 1) {
      const value = make();
      const token = tokens[turn % tokens.length] ?? TOKEN;
      const set = setOf(value, token);
      const front = randomBytes(turn % 7);
      const back = randomBytes(Math.floor(turn / 7) % 7);
      const plain = Buffer.concat([front, Buffer.from(value), back]);
      for (const encoding of ['base64', 'base64url'] as const) {
        const text = plain.toString(encoding);
        const chunks = Array.from(Buffer.from(text), (byte) => Buffer.of(byte));
        const out = replaced(set, turn % 2 === 0 ? chunks : [Buffer.from(text)]);
        const decoded = Buffer.from(out, encoding);
        const context = JSON.stringify({ value, token, front: front.toString('hex'), back: back.toString('hex'), out });
        expect(out.replaceAll('=', '').length % 4, context).not.toBe(1);
        if (encoding === 'base64') expect(out.length % 4, context).toBe(0);
        expect(decoded.toString(encoding), context).toBe(out);
        expect(decoded.includes(token), context).toBe(true);
        expect(decoded.includes(value), context).toBe(false);
        expect(decoded.subarray(0, front.length).equals(front), context).toBe(true);
        expect(decoded.subarray(decoded.length - back.length).equals(back), context).toBe(true);
      }
    }
  });

  it('stands between text neighbours with at most a few harmless characters', () => {
    for (const value of ['CANARY-1', 'CANARY-12', 'CANARY-123', 'zzzzzzzz', '00000000', '~~~~~~~~~']) {
      for (const user of ['', 'u', 'us', 'use']) {
        for (const tail of ['', '\n', ' !', ' end']) {
          const out = replaced(setOf(value), [Buffer.from(Buffer.from(user + value + tail).toString('base64'))]);
          const decoded = Buffer.from(out, 'base64').toString();
          expect(decoded).toMatch(new RegExp(`^${user}[\\w!]?${TOKEN}[.]{0,2}[\\w@.]?${tail}$`));
        }
      }
    }
  });

  it('of exactly the value becomes that of exactly the token, where the end can be seen or the lengths agree', () => {
    for (const value of ['CANARY-1', 'CANARY-12', 'CANARY-123']) {
      for (const before of ['', 'abc', 'abcdef']) {
        const text = Buffer.from(before + value).toString('base64');
        expect(replacedAnyhow(setOf(value), `Basic ${text}`)).toBe(`Basic ${Buffer.from(before + TOKEN).toString('base64')}`);
      }
    }
  });

  it.each([
    ['percent-encoded', (text: string) => encodeURIComponent(text)],
    ['percent-encoded, lower', (text: string) => lower(encodeURIComponent(text))],
    ['with escaped slashes', (text: string) => text.replaceAll('/', '\\/')],
    ['.NET', (text: string) => text.replaceAll('+', '\\u002B')],
  ])('%s', (_, spell) => {
    const value = '>>>CANARY???~~~>>';
    const text = Buffer.from(`x${value}yz`).toString('base64');
    expect(text).toMatch(/[+/]/);
    const out = replacedAnyhow(setOf(value), `a=${spell(text)}`);
    expect(Buffer.from(decodeURIComponent(out.slice(2)), 'base64').toString()).toContain(TOKEN);
  });

  function small(): number {
    return Math.floor(Math.random() * 5);
  }
});
