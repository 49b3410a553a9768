import { randomBytes, randomInt } from 'node:crypto';
import { inspect } from 'node:util';
import { describe, expect, it } from 'vitest';
import { KzError } from '../../src/core/errors.ts';
import { parseDocument, selectKey, type DocumentFormat } from '../../src/providers/document.ts';
import { removeKey, setKey } from '../../src/providers/edit-document.ts';

const CANARY = `CANARY-${randomBytes(8).toString('hex')}`;

function set(format: DocumentFormat, text: string, key: string, value: string): Promise<string> {
  return setKey({ text, format, what: 'file x' }, key, value);
}

function remove(format: DocumentFormat, text: string, key: string): Promise<string | undefined> {
  return removeKey({ text, format, what: 'file x' }, key);
}

async function failure(work: Promise<unknown>): Promise<KzError> {
  const error: unknown = await work.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  if (!(error instanceof KzError)) throw new Error(`no KzError but ${String(error)}`);
  expect(inspect(error, { depth: 9 })).not.toContain(CANARY);
  return error;
}

const VALUES = [
  'plain',
  '',
  ' ',
  ' padded ',
  'a=b',
  'with space',
  'hash # inside',
  '#start',
  "it's",
  'say "hi"',
  '`tick`',
  `it's "both"`,
  '$HOME ${HOME} $(id)',
  'back\\slash',
  'ends with \\',
  'literal \\n',
  'two\nlines',
  'crlf\r\nline',
  "two\nlines of 'quoted' text",
  '-----BEGIN KEY-----\nabc+/=\n-----END KEY-----\n',
  '{"json": "text"}',
  'tab\there',
  'ünï¢ödé 🔑',
  '\u2028',
  '\u007f\u0000\u001b',
];

describe('every value reads back as it was written', () => {
  it.each(VALUES.flatMap((value) => (['json', 'toml', 'dotenv'] as const).map((format) => [format, value] as const)))(
    '%s: %j',
    async (format, value) => {
      const start = { json: '{"A": "1", "B": "2"}', toml: 'A = "1"\nB = "2"\n', dotenv: 'A=1\nB=2\n' }[format];
      for (const key of ['A', 'B', 'C']) {
        const edited = await set(format, start, key, value);
        const document = await parseDocument(edited, format, 'file x');
        expect(['A', 'B', 'C'].map((name) => selectKey(document, name))).toEqual(
          ['A', 'B', 'C'].map((name) => (name === key ? value : { A: '1', B: '2' }[name])),
        );
      }
    },
  );
});

describe('dotenv', () => {
  const text = [
    '# first',
    'export A = old # why',
    '',
    "B='two",
    "lines' # after",
    'C: yaml-like',
    'A="old again"  # the one that counts',
    '# last',
  ].join('\n');

  it.each([
    ['A', 'new', text.replace('"old again"', 'new')],
    ['B', 'x y', text.replace("'two\nlines'", "'x y'")],
    ['C', 'x', text.replace('yaml-like', 'x')],
    ['D', 'x', `${text}\nD=x\n`],
  ])('changes only %s', async (key, value, expected) => {
    expect(await set('dotenv', text, key, value)).toBe(expected);
    expect(await set('dotenv', `${text}\n`.replaceAll('\n', '\r\n'), key, value)).toBe(
      (key === 'D' ? `${text}\n` : `${expected}\n`).replaceAll('\n', '\r\n') + (key === 'D' ? 'D=x\n' : ''),
    );
  });

  it('removes every line of the name', async () => {
    expect(await remove('dotenv', text, 'A')).toBe("# first\n\nB='two\nlines' # after\nC: yaml-like\n# last");
    expect(await remove('dotenv', text, 'B')).toBe(text.replace("B='two\nlines' # after\n", ''));
    expect(await remove('dotenv', text, 'Z')).toBeUndefined();
  });

  it('starts an empty file', async () => {
    expect(await set('dotenv', '', 'A', 'x')).toBe('A=x\n');
  });

  it('refuses a name that no dotenv file can have', async () => {
    for (const key of ['A B', 'A=B', 'A\nB', '#A', '"A"']) expect((await failure(set('dotenv', '', key, CANARY))).code).toBe('ref-invalid');
  });

  it('refuses a value that no quotes can hold', async () => {
    const error = await failure(set('dotenv', 'A=1\n', 'A', `'"\`\\n${CANARY}`));
    expect(error).toMatchObject({ code: 'provider-read-only', message: 'kz cannot write this value as "A" of file x' });
  });

  it('refuses a file that is not dotenv', async () => {
    expect((await failure(set('dotenv', `A=1\n${CANARY}\n`, 'A', 'x'))).message).toBe('file x is not valid dotenv (line 2)');
    expect((await failure(remove('dotenv', `A="${CANARY}`, 'A'))).message).toBe('file x is not valid dotenv (line 1)');
  });
});

describe('JSON', () => {
  const text = `{
    "id": 12345678901234567890,
    "db" : { "user": "u", "password":"old" , "ports": [1, {"a": "}"}] },
    "a.b": "dotted", "10": 1, "2": 1.50,
    "last": null
  }
`;

  it.each([
    ['db.password', text.replace('"old"', '"new"')],
    ['a.b', text.replace('"dotted"', '"new"')],
    ['10', text.replace('"10": 1', '"10": "new"')],
    ['last', text.replace('null', '"new"')],
    ['fresh', text.replace('null', 'null,\n    "fresh": "new"')],
    ['fresh.dotted', text.replace('null', 'null,\n    "fresh.dotted": "new"')],
    ['__proto__', text.replace('null', 'null,\n    "__proto__": "new"')],
  ])('changes only %s', async (key, expected) => {
    expect(await set('json', text, key, 'new')).toBe(expected);
  });

  it.each([
    ['id', text.replace('"id": 12345678901234567890,\n    ', '')],
    ['db.user', text.replace('"user": "u", ', '')],
    ['db.password', text.replace(', "password":"old" ', ' ').replace('"u" ,', '"u", ').replace('"u",  "ports"', '"u", "ports"')],
    ['2', text.replace('"2": 1.50,\n    ', '')],
    ['last', text.replace(',\n    "last": null', '')],
  ])('removes only %s', async (key, expected) => {
    expect(await remove('json', text, key)).toBe(expected);
  });

  it('fills and empties an object', async () => {
    expect(await set('json', '{}', 'A', 'x')).toBe('{\n  "A": "x"\n}');
    expect(await set('json', ' { } \n', 'A', 'x')).toBe(' {\n  "A": "x"\n} \n');
    expect(await remove('json', '{ "A": "x" }', 'A')).toBe('{}');
    expect(await set('json', '{"A":"x"}', 'B', 'y')).toBe('{"A":"x","B": "y"}');
    expect(await remove('json', '{}', 'A')).toBeUndefined();
  });

  it('takes the last of equal keys, and removes none of them by halves', async () => {
    expect(await set('json', '{"A":"1","A":"2"}', 'A', 'x')).toBe('{"A":"1","A":"x"}');
    expect((await failure(remove('json', '{"A":"1","A":"2"}', 'A'))).code).toBe('provider-read-only');
  });

  it.each([
    ['db', 'db in file x holds more than one value'],
    ['db.ports', 'db.ports in file x holds more than one value'],
    ['db.ports.0', 'kz cannot change an item of a list (db.ports.0 in file x)'],
  ])('refuses %s', async (key, message) => {
    expect(await failure(set('json', text, key, CANARY))).toMatchObject({ code: 'provider-read-only', message });
    expect(await failure(remove('json', text, key))).toMatchObject({ code: 'provider-read-only', message });
  });

  it('refuses what is not a JSON object', async () => {
    for (const broken of ['', `{"A": "${CANARY}`, `["${CANARY}"]`, `"${CANARY}"`, `{"A": ${CANARY}}`]) {
      expect((await failure(set('json', broken, 'A', 'x'))).code).toBe('secret-invalid');
    }
  });

  it('survives random edits of random documents', async () => {
    const keys = ['a', 'b', 'c d', 'é', '{', '"', '\\', ',', '__proto__', '1'];
    const pick = <T>(items: readonly T[]): T => items[randomInt(items.length)] as T;
    for (let round = 0; round < 150; round++) {
      const entries = keys.filter(() => randomInt(2) === 0).map((key) => [key, pick<unknown>([...VALUES, 1, null, true, -1.5e10])]);
      const before = JSON.stringify(Object.fromEntries([...entries, ['n', { x: ['y', {}] }]]), undefined, pick([0, 2, '\t']));
      const key = pick(keys);
      const value = pick(VALUES);
      const expected = JSON.parse(before) as object;
      Object.defineProperty(expected, key, { value, enumerable: true, configurable: true, writable: true });
      const edited = await set('json', before, key, value);
      expect(JSON.parse(edited)).toEqual(expected);
      Reflect.deleteProperty(expected, key);
      expect(JSON.parse((await remove('json', edited, key)) ?? '')).toEqual(expected);
    }
  });
});

describe('TOML', () => {
  const text = `# top
name = 'old' # why
"quoted key" = 1

[db] # the database
password = """
old""" # after
nested.deep = "old"
inline = { user = "u", password = "old" }

[[list]]
item = "x"
`;

  it.each([
    ['name', text.replace("'old'", '"new"')],
    ['quoted key', text.replace('= 1', '= "new"')],
    ['db.password', text.replace('"""\nold"""', '"new"')],
    ['db.nested.deep', text.replace('deep = "old"', 'deep = "new"')],
    ['db.inline.password', text.replace('password = "old" }', 'password = "new" }')],
    ['fresh', text.replace('= 1\n', '= 1\nfresh = "new"\n')],
    ['fresh.dotted', text.replace('= 1\n', '= 1\n"fresh.dotted" = "new"\n')],
  ])('changes only %s', async (key, expected) => {
    expect(await set('toml', text, key, 'new')).toBe(expected);
  });

  it('finds the place of a new key', async () => {
    expect(await set('toml', '', 'A', 'x')).toBe('A = "x"\n');
    expect(await set('toml', '# only a comment', 'A', 'x')).toBe('# only a comment\nA = "x"\n');
    expect(await set('toml', 'B = 1', 'A', 'x')).toBe('B = 1\nA = "x"\n');
    expect(await set('toml', '[t]\nB = 1\n', 'A', 'x')).toBe('A = "x"\n[t]\nB = 1\n');
  });

  it('removes only the line', async () => {
    expect(await remove('toml', text, 'name')).toBe(text.replace("name = 'old' # why\n", ''));
    expect(await remove('toml', text, 'db.password')).toBe(text.replace('password = """\nold""" # after\n', ''));
    expect(await remove('toml', text, 'none')).toBeUndefined();
  });

  it.each(['db', 'db.inline', 'list', 'list.0.item'])('refuses %s', async (key) => {
    expect((await failure(set('toml', text, key, CANARY))).code).toBe('provider-read-only');
  });

  it('removes from an inline table', async () => {
    expect(await remove('toml', text, 'db.inline.user')).toBe(text.replace('user = "u", ', ''));
    expect(await remove('toml', 'a = { b = "x" }\n', 'a.b')).toBe('a = {}\n');
  });

  it('removes the only dotted key of a table', async () => {
    expect(await remove('toml', text, 'db.nested.deep')).toBe(text.replace('nested.deep = "old"\n', ''));
  });

  it('keeps a byte order mark and the line endings', async () => {
    const marked = `\uFEFF${text.replaceAll('\n', '\r\n')}`;
    expect(await set('toml', marked, 'fresh', 'x')).toBe(marked.replace('= 1\r\n', '= 1\r\nfresh = "x"\r\n'));
    expect(await remove('toml', marked, 'name')).toBe(marked.replace("name = 'old' # why\r\n", ''));
  });

  it.each([
    ['tells nothing of the text when only its reader understands it', `A = "${CANARY}"\nB = 2026-02-30\n`],
    ['not even in the line that is at fault', `A = "x"\nB = 2026-02-30 # ${CANARY}\n`],
  ])('%s', async (_what, unusual) => {
    for (const work of [set('toml', unusual, 'A', 'x'), set('toml', unusual, 'C', 'x'), remove('toml', unusual, 'A')]) {
      const error = await failure(work);
      expect(error).toMatchObject({
        code: 'provider-read-only',
        message: 'kz cannot change file x: it uses a form of TOML that kz can only read',
      });
      expect(error.cause).toBeUndefined();
    }
  });

  it('refuses what is not TOML', async () => {
    const error = await failure(set('toml', `A = ${CANARY}`, 'A', 'x'));
    expect([error.code, error.cause]).toEqual(['secret-invalid', undefined]);
  });
});

it('does not write YAML', async () => {
  expect(await failure(set('yaml', `A: ${CANARY}\n`, 'A', 'x'))).toMatchObject({ code: 'provider-read-only' });
  expect(await failure(remove('yaml', `A: ${CANARY}\n`, 'A'))).toMatchObject({ code: 'provider-read-only' });
});
