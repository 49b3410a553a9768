import { describe, expect, it } from 'vitest';
import { hideInJson, JsonLine, jsonStart, type Hiding } from '../../src/mask/json-line.ts';

const VALUE = 'CANARY"\\\n/é😀';

/** Hides VALUE, and one document. */
const DOCUMENT = '{"type":"service_account","n":1}';
const HIDING: Hiding = {
  hide: (text) => (text.includes(VALUE) ? Buffer.from(text.toString().replaceAll(VALUE, '[V]')) : text),
  documentAt: (bytes, at) =>
    bytes.toString('utf8', at, at + DOCUMENT.length) === DOCUMENT ? { length: DOCUMENT.length, put: Buffer.from('"[D]"') } : undefined,
};

function hidden(line: string): string | undefined {
  return hideInJson(Buffer.from(line), HIDING)?.toString();
}

describe('where a line of JSON starts', () => {
  it.each([
    ['{"a":1}', 0],
    ['{}', 0],
    ['[{"a":1}]', 0],
    [' \t{ "a":1}', 2],
    [' [ \t{', 1],
    ['text {"\n{"a":1}', 8],
    ['text\r\n{ \t}', 6],
    ['[INFO] {"\n{x\n[1,{}]\n[[{\n{"', 24],
    [`{${' '.repeat(1024)}"`, 0],
    [`[${' '.repeat(1024)}{`, 0],
  ])('%j', (text, at) => {
    expect(jsonStart(Buffer.from(text), 0, true)).toEqual({ at, isCertain: true });
  });

  it.each([
    ['{', 0],
    ['[', 0],
    ['a\n { ', 3],
    ['a\n [\t', 3],
    [`{${' '.repeat(1024)}`, 0],
  ])('%j may be one', (text, at) => {
    expect(jsonStart(Buffer.from(text), 0, true)).toEqual({ at, isCertain: false });
  });

  it.each([
    '',
    'text',
    '[INFO] text',
    '{a',
    'x {"a":1}',
    '["a",{"b":1}]',
    '"{}"',
    '{\n"a":1\n}',
    'x [',
    `{${' '.repeat(1025)}`,
    `{${' '.repeat(1025)}"`,
    `[${' '.repeat(1025)}{`,
    `[${' '.repeat(1025)}`,
  ])('%j is none', (text) => {
    expect(jsonStart(Buffer.from(text), 0, true)).toBeUndefined();
  });

  it('asks whether the line starts where the bytes do', () => {
    expect(jsonStart(Buffer.from('  {"a":1}'), 0, false)).toBeUndefined();
    expect(jsonStart(Buffer.from('x  {"a":1}'), 1, true)).toEqual({ at: 3, isCertain: true });
    expect(jsonStart(Buffer.from('x\n{"a":1}'), 0, false)).toEqual({ at: 2, isCertain: true });
  });
});

describe('where a line of JSON ends', () => {
  it.each([
    ['{"a":"}\\"]\\\\"}\n', 14, true],
    ['{"a":[{}]}Content-Length: 5', 10, true],
    ['{"a":[\n', 6, false],
    ['{"a":"\n"}', 6, false],
  ])('%j', (text, end, isComplete) => {
    const bytes = Buffer.from(text);
    for (let cut = 0; cut < end; cut += 1) {
      const line = new JsonLine();
      expect(line.endIn(bytes.subarray(0, cut), 0)).toBeUndefined();
      line.keep(bytes.subarray(0, cut));
      expect(line.endIn(bytes, cut)).toBe(end);
      expect(line.isComplete).toBe(isComplete);
      expect(line.whole(bytes.subarray(cut, end)).toString()).toBe(text.slice(0, end));
    }
  });
});

describe('hideInJson', () => {
  const spelled = JSON.stringify(VALUE).slice(1, -1);
  const escaped = Array.from({ length: VALUE.length }, (_, at) => `\\u${VALUE.charCodeAt(at).toString(16).padStart(4, '0')}`).join('');

  it.each([spelled, escaped, escaped.toUpperCase().replaceAll('\\U', '\\u'), spelled.replace('/', '\\/'), spelled.replace('é', '\\u00e9')])(
    'finds the value spelled %s',
    (spelling) => {
      expect(hidden(`{"a":"${spelling}"}`)).toBe('{"a":"[V]"}');
      expect(hidden(`[{"${spelling}":["x${spelling}y","${spelling}"]}]`)).toBe('[{"[V]":["x[V]y","[V]"]}]');
    },
  );

  it('leaves every byte of what it does not change', () => {
    const rest = '"\\u0041\\/é":1.0e+5 ,\t"id" : 12345678901234567890 , "dup":-0,"dup":null, "s":"\\ud83d\\ude00\\ud800", "t":true \r';
    expect(hidden(`{ ${rest},"v":"${spelled}", ${rest}}`)).toBe(`{ ${rest},"v":"[V]", ${rest}}`);
  });

  it('keeps lone surrogates in strings that it changes', () => {
    const out = hidden(`{"a":"\\ud800${spelled}\\udc00😀\\ud83d"}`) ?? '';
    expect(JSON.parse(out)).toEqual({ a: '\ud800[V]\udc00😀\ud83d' });
  });

  it('puts a string in the place of a document', () => {
    expect(hidden(DOCUMENT)).toBe('"[D]"');
    expect(hidden(`{"a": [${DOCUMENT},${DOCUMENT} ] }`)).toBe('{"a": ["[D]","[D]" ] }');
    expect(hidden(JSON.stringify({ a: DOCUMENT }))).toBe(JSON.stringify({ a: DOCUMENT }));
  });

  it('gives the same object when there is nothing to hide', () => {
    const line = Buffer.from('{"a":"\\n"}');
    expect(hideInJson(line, HIDING)).toBe(line);
  });

  it.each(['{"a":NaN}', '{"a":"\\x"}', '{"a":1]', '[{"a":1}}', '{"a":"\t"}', '{}{}', ''])('says that %s is no JSON', (line) => {
    expect(hidden(line)).toBeUndefined();
  });

  it('reads what is deeply nested', () => {
    const deep = '['.repeat(100_000) + ']'.repeat(100_000);
    expect(hidden(`{"a":${deep},"v":"${spelled}"}`)).toBe(`{"a":${deep},"v":"[V]"}`);
  });
});
