import { randomBytes } from 'node:crypto';
import { inspect } from 'node:util';
import { describe, expect, it } from 'vitest';
import { KzError } from '../../src/core/errors.ts';
import { documentFormat, parseDocument, selectKey, type DocumentFormat } from '../../src/providers/document.ts';

const CANARY = `CANARY-${randomBytes(8).toString('hex')}`;

async function select(text: string, format: DocumentFormat, key: string): Promise<string | undefined> {
  return selectKey(await parseDocument(text, format, 'file x'), key);
}

async function failure(text: string, format: DocumentFormat): Promise<KzError> {
  const error: unknown = await parseDocument(text, format, 'file conf/x').then(
    () => undefined,
    (reason: unknown) => reason,
  );
  if (!(error instanceof KzError)) throw new Error(`${format} was accepted`);
  return error;
}

describe('selectKey', () => {
  const json = JSON.stringify({
    'db.password': 'exact',
    db: { password: 'nested', port: 5432, ratio: 0.5, on: true, off: false, none: null, empty: '' },
    hosts: ['a', { name: 'b' }],
    'deep.null': null,
    deep: { null: 'not me' },
    data: { 'tls.crt': 'pem' },
  });

  it.each([
    ['db.password', 'exact'],
    ['db.port', '5432'],
    ['db.ratio', '0.5'],
    ['db.on', 'true'],
    ['db.off', 'false'],
    ['db.empty', ''],
    ['db.none', undefined],
    ['deep.null', undefined],
    ['hosts', '["a",{"name":"b"}]'],
    ['hosts.0', 'a'],
    ['hosts.1.name', 'b'],
    ['hosts.2', undefined],
    ['hosts.length', undefined],
    ['hosts.01', undefined],
    ['hosts.0.0', undefined],
    ['data.tls.crt', 'pem'],
    ['db', '{"password":"nested","port":5432,"ratio":0.5,"on":true,"off":false,"none":null,"empty":""}'],
    ['db.', undefined],
    ['.db', undefined],
    ['', undefined],
    ['toString', undefined],
    ['__proto__', undefined],
    ['constructor.name', undefined],
    ['db.__proto__.toString', undefined],
  ])('%s → %s', async (key, expected) => {
    expect(await select(json, 'json', key)).toBe(expected);
  });

  it.each<[DocumentFormat, string]>([
    ['json', '{"__proto__": {"a": "b"}, "constructor": "c"}'],
    ['yaml', '__proto__: {a: b}\nconstructor: c'],
    ['toml', 'constructor = "c"\n[__proto__]\na = "b"'],
  ])('treats __proto__ as a key in %s', async (format, text) => {
    const document = await parseDocument(text, format, 'x');
    expect(selectKey(document, '__proto__.a')).toBe('b');
    expect(selectKey(document, '__proto__')).toBe('{"a":"b"}');
    expect(selectKey(document, 'constructor')).toBe('c');
    expect(Object.hasOwn(Object.prototype, 'a')).toBe(false);
  });

  it('treats __proto__ as a key in dotenv', async () => {
    expect(await select('__proto__=a\n', 'dotenv', '__proto__')).toBe('a');
  });
});

describe('JSON', () => {
  it('keeps every digit of an integer that a double cannot hold', async () => {
    const text = '{"id": 9007199254740993, "s": "9007199254740993", "list": [-12345678901234567890, 1], "e": 1e3, "f": 1.50}';
    const document = await parseDocument(text, 'json', 'x');
    expect(selectKey(document, 'id')).toBe('9007199254740993');
    expect(selectKey(document, 's')).toBe('9007199254740993');
    expect(selectKey(document, 'list')).toBe('[-12345678901234567890,1]');
    expect(selectKey(document, 'e')).toBe('1000');
    expect(selectKey(document, 'f')).toBe('1.5');
  });

  it('leaves digits inside strings alone, also behind escaped quotes', async () => {
    const value = `a\\" 9007199254740993 ${CANARY} \\\\`;
    const text = JSON.stringify({ [value]: value, n: 1 }).replace(/1}$/, '90071992547409931}');
    const document = await parseDocument(text, 'json', 'x');
    expect(document.get(value)).toBe(value);
    expect(selectKey(document, 'n')).toBe('90071992547409931');
  });

  it('accepts a byte order mark', async () => {
    expect(await select('\uFEFF{"a":"b"}', 'json', 'a')).toBe('b');
  });
});

describe('YAML', () => {
  it('reads values, aliases and block text', async () => {
    const text = `a: &x {p: ${CANARY}}\nb: *x\npem: |\n  one\n  two\nn: 5432\nyes: yes\ntrue_: true\nnil: ~\nnothing:\n`;
    const document = await parseDocument(text, 'yaml', 'x');
    expect(selectKey(document, 'b.p')).toBe(CANARY);
    expect(selectKey(document, 'pem')).toBe('one\ntwo\n');
    expect(selectKey(document, 'n')).toBe('5432');
    expect(selectKey(document, 'yes')).toBe('yes');
    expect(selectKey(document, 'true_')).toBe('true');
    expect(selectKey(document, 'nil')).toBeUndefined();
    expect(selectKey(document, 'nothing')).toBeUndefined();
  });

  it.each(['0123', '1e10', '0x1F', '0o17', '1.50', '+1', '-0', '.inf', '12345678901234567890'])('keeps %s as it is written', async (n) => {
    expect(await select(`a: ${n}\n`, 'yaml', 'a')).toBe(n);
  });

  it('refuses equal keys, several documents and alias bombs', async () => {
    const bomb = [
      'a: &a [x,x,x,x,x,x,x,x,x]',
      ...'bcdefghi'.split('').map((k, i) => `${k}: &${k} [${`*${'abcdefgh'.charAt(i)},`.repeat(9)}]`),
    ];
    for (const text of ['a: 1\na: 2\n', 'a: 1\n---\nb: 2\n', bomb.join('\n'), 'a: *nothing\n', 'a: [1\n']) {
      expect((await failure(text, 'yaml')).code).toBe('secret-invalid');
    }
  });

  it('survives an alias to itself', async () => {
    expect((await failure('a: &a [*a]\n', 'yaml')).code).toBe('secret-invalid');
    expect((await failure('a: &a {b: &b {c: *a}}\n', 'yaml')).code).toBe('secret-invalid');
  });

  it('prints no warning for a tag it does not know', async () => {
    const warnings: unknown[] = [];
    const listen = (warning: unknown): number => warnings.push(warning);
    process.on('warning', listen);
    expect(await select('a: !vault abc\n', 'yaml', 'a')).toBe('abc');
    await new Promise(setImmediate);
    process.off('warning', listen);
    expect(warnings).toEqual([]);
  });
});

describe('TOML', () => {
  it('reads tables, big integers and dates', async () => {
    const text = 'id = 9007199254740993\nday = 2026-01-02\nat = 2026-01-02T03:04:05Z\n[db]\npassword = "p"\nports = [1, 2]\n';
    const document = await parseDocument(text, 'toml', 'x');
    expect(selectKey(document, 'id')).toBe('9007199254740993');
    expect(selectKey(document, 'db.password')).toBe('p');
    expect(selectKey(document, 'db.ports')).toBe('[1,2]');
    expect(selectKey(document, 'day')).toBe('2026-01-02');
    expect(selectKey(document, 'at')).toBe('2026-01-02T03:04:05.000Z');
  });
});

describe('dotenv', () => {
  const PEM = '-----BEGIN PRIVATE KEY-----\nMIIEvQ==\nab+/cd=\n-----END PRIVATE KEY-----\n';
  const BCRYPT = '$2a$10$N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy';

  it.each([
    ['a plain value', 'A=b', 'b'],
    ['export', 'export A=b', 'b'],
    ['space around =', '  A = b  ', 'b'],
    ['a colon', 'A: b', 'b'],
    ['nothing', 'A=', ''],
    ['nothing, then another line', 'A=\nB=c', ''],
    ['= in the value', 'A=postgres://u:p@h/db?x=y&z==', 'postgres://u:p@h/db?x=y&z=='],
    ['bcrypt', `A=${BCRYPT}`, BCRYPT],
    ['bcrypt in double quotes', `A="${BCRYPT}"`, BCRYPT],
    ['bcrypt in single quotes', `A='${BCRYPT}'`, BCRYPT],
    ['no expansion', 'B=x\nA="${B} $B $(id) `id`"', '${B} $B $(id) `id`'],
    ['a comment', 'A=b # c', 'b'],
    ['a comment without a space', 'A=b#c', 'b'],
    ['# in quotes', 'A="b # c" # d', 'b # c'],
    ['\\n in double quotes', 'A="a\\nb\\r"', 'a\nb\r'],
    ['\\n in single quotes', "A='a\\nb'", 'a\\nb'],
    ['\\n in backquotes', 'A=`a\\nb`', 'a\\nb'],
    ['\\n without quotes', 'A=a\\nb', 'a\\nb'],
    ['other quotes inside', 'A=`"it\'s"`', '"it\'s"'],
    ['quotes in the middle', 'A=a"b"', 'a"b"'],
    ['an escaped quote, which keeps its backslash', 'A="a\\"b"', 'a\\"b'],
    ['a backslash at the end', 'A="C:\\dir\\"\nB="x"', 'C:\\dir\\'],
    ['spaces in quotes', 'A="  b  "', '  b  '],
    ['JSON', 'A={"a": "b"}', '{"a": "b"}'],
    ['PEM in quotes', `A="${PEM}"`, PEM],
    ['PEM with \\n', `A="${PEM.replaceAll('\n', '\\n')}"`, PEM],
    ['CRLF', 'B=x\r\nA=b\r\nC=y\r\n', 'b'],
    ['CRLF inside quotes', 'A="b\r\nc"\r\n', 'b\nc'],
    ['a byte order mark', '\uFEFFA=b', 'b'],
    ['comments and blank lines', '\n  # x=y\n\nA=b\n#', 'b'],
    ['the last of two', 'A=a\nA=b', 'b'],
    ['dots and dashes in names', 'A.b-c=x\nA=b', 'b'],
  ])('%s', async (_case, text, expected) => {
    expect(await select(text, 'dotenv', 'A')).toBe(expected);
  });

  it.each([
    ['A line that is no assignment', `B=1\n\n${CANARY}\n`, 3],
    ['A name alone', 'A', 1],
    ['A name with a space', `A B=${CANARY}`, 1],
    ['An open quote', `B=1\nA="${CANARY}\n\n`, 2],
    ['Text behind the quote', `A="b" ${CANARY}`, 1],
    ['Two quoted texts', `A="b","${CANARY}"`, 1],
  ])('%s is an error with its line', async (_case, text, line) => {
    const error = await failure(text, 'dotenv');
    expect(error.message).toBe(`file conf/x is not valid dotenv (line ${String(line)})`);
    expect(error.hint).toBeDefined();
  });
});

describe('a text that is not a document', () => {
  it.each<[DocumentFormat, string]>([
    ['json', `{"a": ${CANARY}}`],
    ['json', CANARY],
    ['json', `{"a": "${CANARY}", "a`],
    ['yaml', `a: [${CANARY}\n`],
    ['yaml', `a: ${CANARY}\n ${CANARY}: b\n`],
    ['yaml', `${CANARY}: 1\n${CANARY}: 2\n`],
    ['yaml', `a: *${CANARY}\n`],
    ['toml', `a = ${CANARY}`],
    ['toml', `[${CANARY}]\n[${CANARY}]`],
    ['dotenv', CANARY],
    ['dotenv', `A="${CANARY}`],
  ])('%s is refused without quoting it (%#)', async (format, text) => {
    const error = await failure(text, format);
    expect(error.code).toBe('secret-invalid');
    expect(error.message).toMatch(/^file conf\/x (is not valid|cannot be read as) /);
    expect(inspect(error, { depth: 9 })).not.toContain(CANARY);
  });

  it.each<[DocumentFormat, string, string]>([
    ['json', '["a"]', 'a list'],
    ['json', '"a"', 'a single value'],
    ['json', 'null', 'a single value'],
    ['json', '12345678901234567890', 'a single value'],
    ['yaml', '- a\n', 'a list'],
    ['yaml', CANARY, 'a single value'],
    ['yaml', '', 'a single value'],
  ])('%s has the wrong shape (%#)', async (format, text, shape) => {
    expect((await failure(text, format)).message).toBe(`file conf/x holds ${shape} instead of keys and values`);
  });

  it('says the line', async () => {
    expect((await failure('{\n  "a": 1,\n  b\n}', 'json')).message).toContain('(line 3)');
    expect((await failure('a: 1\nb: [\n', 'yaml')).message).toMatch(/\(line [23]\)/);
    expect((await failure('a = 1\nb = \n', 'toml')).message).toContain('(line 2)');
  });
});

describe('a document that is nested too deeply', () => {
  const n = 200_000;
  const lines = (line: string): string => Array.from({ length: 300 }, (_item, index) => `${' '.repeat(index)}${line}\n`).join('');

  it.each([
    ['json', 'lists', `{"a": ${'['.repeat(n)}${']'.repeat(n)}}`],
    ['json', 'objects', `${'{"a":'.repeat(n)}1${'}'.repeat(n)}`],
    ['json', 'a large number inside', `{"a": ${'['.repeat(n)}12345678901234567890${']'.repeat(n)}}`],
    ['json', 'one level more than kz reads', `{"a": ${'['.repeat(101)}${']'.repeat(101)}}`],
    ['yaml', 'lists', `a: ${'['.repeat(n)}${']'.repeat(n)}`],
    ['yaml', 'objects', `${'{a: '.repeat(n)}1${'}'.repeat(n)}`],
    ['yaml', 'closing brackets in quotes', '["]", '.repeat(n)],
    ['yaml', 'lists in one line', `a:\n  ${'- '.repeat(n)}x`],
    ['yaml', 'keys in one line', `${'? '.repeat(n)}x`],
    ['yaml', 'indented objects', lines('a:')],
    ['yaml', 'indented lists', lines('-')],
    ['yaml', 'indented keys', lines('?')],
    ['toml', 'a dotted key', `${'a.'.repeat(n)}b = 1`],
  ] as const)('%s: %s', async (format, _case, text) => {
    const error = await failure(text, format);
    expect([error.code, error.message, error.hint]).toEqual([
      'secret-invalid',
      'file conf/x is nested too deeply',
      'kz reads up to 100 levels',
    ]);
  });

  it('is refused by the parser for TOML', async () => {
    expect((await failure(`a = ${'['.repeat(n)}${']'.repeat(n)}`, 'toml')).code).toBe('secret-invalid');
  });

  it('is not one that is only long, wide, or full of brackets', async () => {
    const text = `{"x": "${'['.repeat(n)}", "a": ${'['.repeat(99)}"b"${']'.repeat(99)}}`;
    for (const format of ['json', 'yaml'] as const) {
      expect(await select(text, format, 'a.0')).toBe(`${'['.repeat(98)}"b"${']'.repeat(98)}`);
      expect(await select(text, format, 'x')).toHaveLength(n);
    }
    const wide = `{${Array.from({ length: 500 }, (_item, index) => `k${String(index)}: [a, {b: - }]`).join(', ')}}`;
    expect(await select(wide.replaceAll('- ', 'c'), 'yaml', 'k499.1.b')).toBe('c');
    const list = `a:\n${'  - x: [1]\n'.repeat(1000)}b: |\n${' '.repeat(400)}- - text\n`;
    expect(await select(list, 'yaml', 'b')).toBe('- - text\n');
    expect(await select(`a: b${' '.repeat(400)}# ? - :\n`, 'yaml', 'a')).toBe('b');
  });
});

describe('documentFormat', () => {
  it.each<[string, DocumentFormat]>([
    ['a/b.json', 'json'],
    ['A.JSON', 'json'],
    ['a.yaml', 'yaml'],
    ['a.yml', 'yaml'],
    ['a.toml', 'toml'],
    ['.env', 'dotenv'],
    ['.env.production', 'dotenv'],
    ['prod.env', 'dotenv'],
    ['secrets', 'dotenv'],
    ['json', 'dotenv'],
    ['.env.json', 'json'],
  ])('%s is %s', (file, format) => {
    expect(documentFormat(file)).toBe(format);
  });

  it('looks at the text only when the name says nothing', () => {
    expect(documentFormat('secrets', ' \n{"a":1}')).toBe('json');
    expect(documentFormat('secrets', '\uFEFF{}')).toBe('json');
    expect(documentFormat('secrets', 'A={')).toBe('dotenv');
    expect(documentFormat('.env', '{')).toBe('dotenv');
    expect(documentFormat('a.yaml', '{')).toBe('yaml');
  });
});
