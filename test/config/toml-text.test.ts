import { parse } from 'smol-toml';
import { describe, expect, it } from 'vitest';
import { KzError } from '../../src/core/errors.ts';
import { insertTomlTable, removeTomlValue, setTomlValue, tomlKey, tomlString } from '../../src/config/toml-text.ts';

describe('setTomlValue adds a top-level key', () => {
  it.each<[what: string, before: string, after: string]>([
    ['to an empty text', '', 'new = 1\n'],
    ['to blank lines', '\n\n', '\n\nnew = 1\n'],
    ['to a byte order mark alone', '\uFEFF', '\uFEFFnew = 1\n'],
    ['to comments', '# hi\n\n# there\n', '# hi\n\n# there\nnew = 1\n'],
    ['to a comment without a final newline', '# hi', '# hi\nnew = 1\n'],
    ['behind the last one', 'a = 1 # a\n\nb = 2 # b\n\n# end\n', 'a = 1 # a\n\nb = 2 # b\nnew = 1\n\n# end\n'],
    ['behind one without a final newline', 'a = 1', 'a = 1\nnew = 1\n'],
    ['behind one before a table', 'a = 1\n\n# t\n[t]\nb = 2', 'a = 1\nnew = 1\n\n# t\n[t]\nb = 2'],
    ['behind a value of many lines', 'a = """\n[t]\n""" # a\n[t]\n', 'a = """\n[t]\n""" # a\nnew = 1\n[t]\n'],
    ['behind an inline table', 'a = {\n  b = 1,\n}\n[t]\n', 'a = {\n  b = 1,\n}\nnew = 1\n[t]\n'],
    ['behind dotted keys', 'a.b = 1\n[t]\n', 'a.b = 1\nnew = 1\n[t]\n'],
    ['indented like the one above', '\ta = 1\n', '\ta = 1\n\tnew = 1\n'],
    ['with CRLF', 'a = 1\r\n[t]\r\n', 'a = 1\r\nnew = 1\r\n[t]\r\n'],
    ['behind a byte order mark', '\uFEFF[t]\n', '\uFEFFnew = 1\n[t]\n'],
    ['before the first table', '[t]\nb = 2\n[u]\n', 'new = 1\n[t]\nb = 2\n[u]\n'],
    ['before a list of tables', '[[t]]\nb = 2\n', 'new = 1\n[[t]]\nb = 2\n'],
    ['before an indented table', '\n  [t]\n', '\nnew = 1\n  [t]\n'],
    ['before the comment of a table', '# about t\n# more\n[t]\n', 'new = 1\n# about t\n# more\n[t]\n'],
    ['behind the comment of the file', '# file\n\n# t\n[t]\n', '# file\n\nnew = 1\n# t\n[t]\n'],
    ['behind the comment of the file with CRLF', '# file\r\n \t\r\n# t\r\n[t]\r\n', '# file\r\n \t\r\nnew = 1\r\n# t\r\n[t]\r\n'],
    ['behind characters of two units', 'a = "😀" # 🔑\n[t]\n', 'a = "😀" # 🔑\nnew = 1\n[t]\n'],
  ])('%s', (_what, before, after) => {
    expect(setTomlValue(before, ['new'], '1')).toBe(after);
    expect(setTomlValue(after, ['new'], '1')).toBe(after);
    expect(parse(after)).toEqual({ ...parse(before), new: 1 });
    expect(removeTomlValue(after, ['new'])).toBe(before + (before === '# hi' || before === 'a = 1' ? '\n' : ''));
  });

  it('that needs quotes', () => {
    expect(setTomlValue('', ['a.b "c"'], 'true')).toBe('"a.b \\"c\\"" = true\n');
    expect(setTomlValue('', [''], 'true')).toBe('"" = true\n');
    expect(setTomlValue('a.b = 1\n', ['a.b'], 'true')).toBe('a.b = 1\n"a.b" = true\n');
  });
});

describe('setTomlValue adds a key', () => {
  it.each<[what: string, before: string, path: string[], after: string]>([
    ['to its table', '[a]\nx = 1 # x\n\n[b]\n', ['a', 'new'], '[a]\nx = 1 # x\nnew = 1\n\n[b]\n'],
    ['to a table that is missing', 'x = 1\n', ['a', 'b', 'new'], 'x = 1\n\n[a.b]\nnew = 1\n'],
    ['to a table that only has sub-tables', '[a.b]\n', ['a', 'new'], '[a.b]\n\n[a]\nnew = 1\n'],
    ['to an inline table', 'a = { x = 1 } # a\n', ['a', 'new'], 'a = { x = 1, new = 1 } # a\n'],
    ['to an inline table in one', 'a = { b = {} }\n', ['a', 'b', 'c', 'new'], 'a = { b = { c.new = 1 } }\n'],
    ['beside dotted keys', 'a.x = 1 # x\na.y = 2\n[b]\n', ['a', 'new'], 'a.x = 1 # x\na.y = 2\na.new = 1\n[b]\n'],
  ])('%s', (_what, before, path, after) => {
    expect(setTomlValue(before, path, '1')).toBe(after);
    expect(setTomlValue(after, path, '1')).toBe(after);
  });
});

describe('setTomlValue changes', () => {
  it.each<[what: string, before: string, path: string[], after: string]>([
    ['a value and nothing around it', '  \'a\'  =  "x"  # y\n', ['a'], "  'a'  =  [1, 2]  # y\n"],
    ['a value of many lines', "a = '''\nb = 1\n''' # y\nb = 2", ['a'], 'a = [1, 2] # y\nb = 2'],
    ['the right one of equal names', 'a = 1\n[t]\na = 2\n[t.t]\na = 3\n', ['t', 'a'], 'a = 1\n[t]\na = [1, 2]\n[t.t]\na = 3\n'],
    ['a member of an inline table', 't = { u = { a = "}" }, b = 1 }', ['t', 'u', 'a'], 't = { u = { a = [1, 2] }, b = 1 }'],
    ['a dotted key', '[t]\n"u" . a = 1\n', ['t', 'u', 'a'], '[t]\n"u" . a = [1, 2]\n'],
    ['an inline table', 'a = { b = 1 } # a\n', ['a'], 'a = [1, 2] # a\n'],
    ['a table', 'x = 1\n\n[a]\nb = 1\n[a.c]\nd = 1\n', ['a'], 'x = 1\na = [1, 2]\n'],
    ['a list of tables', '[[a]]\nb = 1\n[[a]]\n[z]\n', ['a'], 'a = [1, 2]\n[z]\n'],
    ['dotted keys', 'a.b = 1\nx = 1\na.c = 2\n', ['a'], 'x = 1\na = [1, 2]\n'],
    ['behind a byte order mark', '\uFEFFa = 1\r\n', ['a'], '\uFEFFa = [1, 2]\r\n'],
  ])('%s', (_what, before, path, after) => {
    expect(setTomlValue(before, path, '[1, 2]')).toBe(after);
  });
});

describe('removeTomlValue', () => {
  it.each<[what: string, before: string, path: string[], after: string]>([
    ['a top-level key', '# a\na = 1 # y\nb = 2\n', ['a'], '# a\nb = 2\n'],
    ['the last line', 'b = 2\na = 1', ['a'], 'b = 2\n'],
    ['the only one of a table, which stays', '[t]\na = 1\n[u]\n', ['t', 'a'], '[t]\n[u]\n'],
    ['a value of many lines', 'a = [\n  1, # ]\n] # y\r\nb = 2\n', ['a'], 'b = 2\n'],
    ['a member of an inline table', 't = { a = 1, b = 2 } # y\n', ['t', 'a'], 't = { b = 2 } # y\n'],
    ['the only member', 't = { a = 1 } # y\n', ['t', 'a'], 't = {} # y\n'],
    ['a table and all below it', '[x]\n\n[t]\na = 1\n\n[t.u]\n\n[y]\n', ['t'], '[x]\n\n[y]\n'],
    ['a list of tables', '[[t]]\na = 1\n[[t]]\n[t.u]\n[y]\n', ['t'], '[y]\n'],
    ['behind a byte order mark', '\uFEFFa = 1\n', ['a'], '\uFEFF'],
  ])('takes away %s', (_what, before, path, after) => {
    expect(removeTomlValue(before, path)).toBe(after);
    expect(removeTomlValue(after, path)).toBe(after);
  });

  it('does not reach into lists', () => {
    const text = 'a = [{ b = 1 }]\n[[t]]\nb = 1\n';
    for (const path of ['a.0.b', 'a.b', 't.0.b', 't.b']) expect(removeTomlValue(text, path.split('.'))).toBe(text);
  });
});

describe('insertTomlTable', () => {
  it.each<[what: string, before: string, path: string[], after: string]>([
    ['to an empty text', '', ['a'], '[a]\n'],
    ['at the end', 'x = 1\n[b]', ['a', 'b c'], 'x = 1\n[b]\n\n[a."b c"]\n'],
    ['in an inline table', 'a = { x = 1 }\n', ['a', 'b', 'c'], 'a = { x = 1, b.c = {} }\n'],
    ['behind a byte order mark', '\uFEFF# x\r\n', ['a'], '\uFEFF# x\r\n\r\n[a]\r\n'],
  ])('%s', (_what, before, path, after) => {
    expect(insertTomlTable(before, path)).toBe(after);
  });
});

describe('literals', () => {
  const texts = ['', ' ', 'plain-Word_1', 'a.b', 'a"b\\c', "'", '#', 'é😀\u2028\uFEFF', '__proto__', 'true', '1'];
  const controls = Array.from({ length: 0xa1 }, (_, code) => String.fromCharCode(code));

  it.each([...texts, ...controls])('%j reads back as a value and as a key', (text) => {
    expect(parse(`a = ${tomlString(text)}`)).toEqual({ a: text });
    expect(Object.entries(parse(`${tomlKey([text, 'x'])} = 1`))).toEqual([[text, { x: 1 }]]);
  });

  it('leaves bare what may be', () => {
    expect(tomlKey(['a', 'B-2', '3_', '', 'é', 'a b'])).toBe('a.B-2.3_.""."é"."a b"');
  });
});

it.each(['a = ', '[a', 'a = 1\na = 2\n', 'a = 2026-02-30\n'])('leaves it to the caller what to say about %j', (text) => {
  for (const edit of [() => setTomlValue(text, ['b'], '1'), () => removeTomlValue(text, ['a']), () => insertTomlTable(text, ['b'])]) {
    expect(edit).toThrow();
    expect(edit).not.toThrow(KzError);
  }
});

it('changes one value in any document, and can take it back', () => {
  const blocks = [
    ['# file', ''],
    ['a = 1 # a', "'b' = { x = 1, y = { z = 2 } }"],
    ['c.x = """', '[t]', '""" # c', 'c.y.z = 1'],
    ['# about t', '[t]', 'x = [', '  1,', ']', 'y.z = 1'],
    ['[t.u]', '', '[u.t] # u'],
    ['[[list]]', 'x = 1', '', '[[list]]'],
  ];
  const paths = ['a', 'new', 'b.x', 'b.y.z', 'c.x', 't.x', 't.y.z', 't.u.x', 'u.t.new', 'n.x'].map((path) => path.split('.'));
  for (let chosen = 0; chosen < 2 ** blocks.length; chosen++) {
    const lines = blocks.filter((_, index) => (chosen & (1 << index)) !== 0).flat();
    for (const text of [lines.join('\n'), ['', ...lines, '', '# end', ''].join('\r\n')]) {
      for (const path of paths) {
        const set = setTomlValue(text, path, '"changed"');
        expect(parse(set), JSON.stringify({ text, set, path })).toEqual(withValue(parse(text), path, 'changed'));
        expect(set.match(/#.*/g)).toEqual(text.match(/#.*/g));
        expect(set.includes('\r\n') && /[^\r]\n/.test(set)).toBe(false);
        expect(withoutEmpty(parse(removeTomlValue(set, path)))).toEqual(withoutEmpty(withValue(parse(text), path, {})));
      }
    }
  }
});

function withValue(table: Record<string, unknown>, [key = '', ...rest]: readonly string[], value: unknown): Record<string, unknown> {
  const inner = table[key];
  return { ...table, [key]: rest.length === 0 ? value : withValue(isTable(inner) ? inner : {}, rest, value) };
}

/** A dotted key takes its tables along. */
function withoutEmpty(table: Record<string, unknown>): Record<string, unknown> {
  const entries = Object.entries(table).map(([key, value]) => [key, isTable(value) ? withoutEmpty(value) : value] as const);
  return Object.fromEntries(entries.filter(([, value]) => !isTable(value) || Object.keys(value).length > 0));
}

function isTable(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
