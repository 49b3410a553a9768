import { parse } from 'smol-toml';
import { describe, expect, it } from 'vitest';
import { KzError } from '../../src/core/errors.ts';
import { removeSecret, setSecret, type EntryFields } from '../../src/config/edit.ts';

const ENTRY = { provider: 'store', ref: 'new' };
const WRITTEN = '{ provider = "store", ref = "new" }';

function set(source: string, name = 'NEW', environment?: string, entry: EntryFields = ENTRY): string {
  return setSecret(source, { environment, name, entry });
}

function failure(action: () => unknown): KzError {
  try {
    action();
  } catch (error) {
    if (error instanceof KzError) return error;
    throw error;
  }
  throw new Error('did not throw');
}

describe('setSecret adds', () => {
  it.each<[what: string, before: string, after: string, environment?: string]>([
    ['to an empty file', '', `[secrets]\nNEW = ${WRITTEN}\n`],
    ['to a byte order mark alone', '\uFEFF', `\uFEFF[secrets]\nNEW = ${WRITTEN}\n`],
    ['to a file of comments', '# hi\n', `# hi\n\n[secrets]\nNEW = ${WRITTEN}\n`],
    ['to a file of comments without a final newline', '# hi', `# hi\n\n[secrets]\nNEW = ${WRITTEN}\n`],
    ['a table behind the others', '[blind]\nscope = "strict"\n', `[blind]\nscope = "strict"\n\n[secrets]\nNEW = ${WRITTEN}\n`],
    ['a table behind a blank line', '[blind]\r\n\r\n', `[blind]\r\n\r\n[secrets]\r\nNEW = ${WRITTEN}\r\n`],
    ['an environment', '[secrets]\nA = {}\n', `[secrets]\nA = {}\n\n[production.secrets]\nNEW = ${WRITTEN}\n`, 'production'],
    ['an environment with a quoted name', '', `["my env".secrets]\nNEW = ${WRITTEN}\n`, 'my env'],
    [
      'after the last key',
      '[secrets]\nA = {} # a\n# end\n\n# next\n[blind]\n',
      `[secrets]\nA = {} # a\nNEW = ${WRITTEN}\n# end\n\n# next\n[blind]\n`,
    ],
    ['without a final newline', '[secrets]\nA = {}', `[secrets]\nA = {}\nNEW = ${WRITTEN}`],
    ['under a bare header', '[secrets]', `[secrets]\nNEW = ${WRITTEN}`],
    ['under an empty table', '[secrets] # mine\n\n[blind]\n', `[secrets] # mine\nNEW = ${WRITTEN}\n\n[blind]\n`],
    ['indented like the key above', '  [secrets]\n\tA = {}\n', `  [secrets]\n\tA = {}\n\tNEW = ${WRITTEN}\n`],
    ['with CRLF', '[secrets]\r\nA = {}\r\n\r\n[blind]\r\n', `[secrets]\r\nA = {}\r\nNEW = ${WRITTEN}\r\n\r\n[blind]\r\n`],
    ['behind a byte order mark', '\uFEFF[secrets]\nA = {}\n', `\uFEFF[secrets]\nA = {}\nNEW = ${WRITTEN}\n`],
    [
      'below a value of many lines',
      '[secrets]\nA = { ref = """\n[x]\n""" }\n[blind]',
      `[secrets]\nA = { ref = """\n[x]\n""" }\nNEW = ${WRITTEN}\n[blind]`,
    ],
    [
      'to the right environment',
      '[secrets]\n[production.secrets]\nA = {}\n',
      `[secrets]\n[production.secrets]\nA = {}\nNEW = ${WRITTEN}\n`,
      'production',
    ],
    [
      'to a table before sub-tables',
      '[secrets]\nA = {}\n[secrets.B]\nref = "b"\n',
      `[secrets]\nA = {}\nNEW = ${WRITTEN}\n[secrets.B]\nref = "b"\n`,
    ],
    ['a table beside sub-tables', '[secrets.B]\nref = "b"\n', `[secrets.B]\nref = "b"\n\n[secrets]\nNEW = ${WRITTEN}\n`],
    ['beside dotted keys', 'secrets.A.ref = "a" # a\n[blind]\n', `secrets.A.ref = "a" # a\nsecrets.NEW = ${WRITTEN}\n[blind]\n`],
    [
      'beside dotted keys of an environment',
      '[production]\nsecrets.A = {}\n',
      `[production]\nsecrets.A = {}\nsecrets.NEW = ${WRITTEN}\n`,
      'production',
    ],
    ['to an inline table', 'secrets = { A = {} } # all\n', `secrets = { A = {}, NEW = ${WRITTEN} } # all\n`],
    ['to an empty inline table', 'secrets = {}\n', `secrets = { NEW = ${WRITTEN} }\n`],
    ['to a spaced inline table', 'secrets = {  }\n', `secrets = { NEW = ${WRITTEN} }\n`],
    ['to an inline table with a last comma', 'secrets = { A = {}, }\n', `secrets = { A = {}, NEW = ${WRITTEN}, }\n`],
    [
      'to an inline table of many lines',
      'secrets = {\n  A = {}, # a\n  B = {} # b, c\n  # end\n}\n',
      `secrets = {\n  A = {}, # a\n  B = {}, # b, c\n  NEW = ${WRITTEN}\n  # end\n}\n`,
    ],
    ['to one that ends its lines in commas', 'secrets = {\n  A = {}, # a\n}\n', `secrets = {\n  A = {}, # a\n  NEW = ${WRITTEN},\n}\n`],
    ['to one that is only a comment', 'secrets = { # none\n}\n', `secrets = { NEW = ${WRITTEN}  # none\n}\n`],
    ['to an inline environment', 'production = { secrets = {} }\n', `production = { secrets = { NEW = ${WRITTEN} } }\n`, 'production'],
    [
      'to an inline environment without secrets',
      'production = { x = 1 }\n',
      `production = { x = 1, secrets.NEW = ${WRITTEN} }\n`,
      'production',
    ],
  ])('%s', (_what, before, after, environment) => {
    expect(set(before, 'NEW', environment)).toBe(after);
    expect(set(after, 'NEW', environment)).toBe(after);
  });

  it('quotes a name that needs it', () => {
    expect(set('[secrets]\n', 'a.b "c"')).toBe(`[secrets]\n"a.b \\"c\\"" = ${WRITTEN}\n`);
    expect(set('[secrets]\n', '')).toBe(`[secrets]\n"" = ${WRITTEN}\n`);
    expect(set('[secrets]\n', '__proto__')).toBe(`[secrets]\n__proto__ = ${WRITTEN}\n`);
  });

  it('writes every kind of value', () => {
    const entry = {
      provider: 'file',
      ref: 'C:\\x "y"\t\r\n\u0000\u001b\u007f é😀\u2028#',
      required: false,
      min_length: 3,
      hosts: ['a', 'b"c'],
      one_of: [],
    };
    const text = set('', 'A', undefined, entry);
    expect(text).toContain(
      'ref = "C:\\\\x \\"y\\"\\t\\r\\n\\u0000\\u001b\\u007f é😀\u2028#", required = false, min_length = 3, hosts = ["a", "b\\"c"], one_of = []',
    );
    expect({ ...(parse(text).secrets as Record<string, object>).A }).toEqual(entry);
  });
});

describe('setSecret changes', () => {
  it.each<[what: string, before: string, after: string]>([
    [
      'a line, keeping its comment',
      '[secrets]\nNEW = { provider = "env", ref = "X" } # why\nB = {}\n',
      `[secrets]\nNEW = ${WRITTEN} # why\nB = {}\n`,
    ],
    [
      'a line, keeping its look',
      "[secrets]\n'NEW'   =   {provider='env',ref=  \"new\"}",
      '[secrets]\n\'NEW\'   =   {provider="store",ref=  "new"}',
    ],
    [
      'nothing that is right',
      "[secrets]\nNEW = {ref='new', provider = '''store''' }",
      "[secrets]\nNEW = {ref='new', provider = '''store''' }",
    ],
    ['by adding fields', '[secrets]\nNEW = { provider = "store" }\n', `[secrets]\nNEW = ${WRITTEN}\n`],
    ['by filling it', '[secrets]\nNEW = {} # x\n', `[secrets]\nNEW = ${WRITTEN} # x\n`],
    [
      'by dropping the last fields',
      '[secrets]\nNEW = { provider = "store", ref = "new", hosts = ["a", "b"], required = true }\n',
      `[secrets]\nNEW = ${WRITTEN}\n`,
    ],
    [
      'by dropping the first field',
      '[secrets]\nNEW = { hosts = ["a", "b"], provider = "store", ref = "new" }\n',
      `[secrets]\nNEW = ${WRITTEN}\n`,
    ],
    ['a value that is no table', '[secrets]\nNEW = "x" # y\n', `[secrets]\nNEW = ${WRITTEN} # y\n`],
    ['a list of tables', '[[secrets.NEW]]\nref = "x"\n[[secrets.NEW]]\n\n[secrets.B]\n', `[secrets.B]\n\n[secrets]\nNEW = ${WRITTEN}\n`],
    [
      'an inline table of many lines',
      '[secrets]\nNEW = {\n  # which\n  provider = "env", # p\n  ref = "X", # r\n  hosts = [\n    "a",\n  ], # h\n}\n',
      '[secrets]\nNEW = {\n  # which\n  provider = "store", # p\n  ref = "new", # r\n}\n',
    ],
    [
      'a sub-table',
      '[secrets.NEW] # n\n# which\nprovider = "env" # p\nhosts = ["a"] # h\n# end\n\n[blind]\n',
      '[secrets.NEW] # n\n# which\nprovider = "store" # p\nref = "new"\n# end\n\n[blind]\n',
    ],
    [
      'a sub-table of its own sub-tables',
      '[secrets.NEW.x]\ny = 1\n[blind]\n',
      '[blind]\n\n[secrets.NEW]\nprovider = "store"\nref = "new"\n',
    ],
    [
      'a table into a value',
      '[secrets.NEW]\nprovider = "store"\n[secrets.NEW.ref]\ny = 1\n',
      '[secrets.NEW]\nprovider = "store"\nref = "new"\n',
    ],
    [
      'dotted keys',
      '[secrets]\n  NEW.provider = "env" # p\n  NEW . hosts = ["a"]\nB = {}\n',
      '[secrets]\n  NEW.provider = "store" # p\n  NEW.ref = "new"\nB = {}\n',
    ],
    [
      'dotted keys at the top',
      'secrets.NEW.ref = "x"\r\nsecrets.B.ref = "b"\r\n',
      'secrets.NEW.ref = "new"\r\nsecrets.NEW.provider = "store"\r\nsecrets.B.ref = "b"\r\n',
    ],
    [
      'dotted keys in an inline table',
      'secrets = { NEW.ref = "x", B.ref = "b" }',
      'secrets = { NEW.ref = "new", B.ref = "b", NEW.provider = "store" }',
    ],
    ['dotted keys that go deeper', '[secrets]\nNEW.ref.a = 1\nNEW.ref.b = 2\n', '[secrets]\nNEW.provider = "store"\nNEW.ref = "new"\n'],
    [
      'a member of an inline table',
      'secrets = { NEW = { ref = "x" }, B = {} } # s',
      'secrets = { NEW = { ref = "new", provider = "store" }, B = {} } # s',
    ],
  ])('%s', (_what, before, after) => {
    expect(set(before)).toBe(after);
    expect(set(after)).toBe(after);
  });

  it('only the environment that was asked for', () => {
    const before = '[secrets]\nNEW = { ref = "a" }\n[production.secrets]\nNEW = { ref = "b" }\n[staging.secrets]\nNEW = { ref = "c" }\n';
    const after = set(before, 'NEW', 'production', { ref: 'changed' });
    expect(after).toBe(before.replace('"b"', '"changed"'));
  });
});

describe('removeSecret', () => {
  it.each<[what: string, before: string, after: string, environment?: string]>([
    ['a line', '[secrets]\n# about A\nA = {} # a\nB = {}\n', '[secrets]\n# about A\nB = {}\n'],
    ['the last line', '[secrets]\nB = {}\nA = {}', '[secrets]\nB = {}\n'],
    ['the only line', '[secrets]\r\nA = {}\r\n\r\n[blind]\r\n', '[secrets]\r\n\r\n[blind]\r\n'],
    ['a value of many lines', '[secrets]\nA = {\n  ref = "x", # }\n} # a\nB = {}\n', '[secrets]\nB = {}\n'],
    ['a quoted name', '[secrets]\n"A" = {}\n', '[secrets]\n'],
    ['dotted keys', '[secrets]\nA.ref = "a"\nB = {}\nA.provider = "env"\n', '[secrets]\nB = {}\n'],
    ['dotted keys at the top', 'secrets.A.ref = "a"\nsecrets.B.ref = "b"\n', 'secrets.B.ref = "b"\n'],
    ['the only dotted keys', 'secrets.A.ref = "a"\n\n[blind]\n', '\n[blind]\n\n[secrets]\n'],
    ['a sub-table', '[secrets]\n\n[secrets.A]\nref = "a" # a\n\n[secrets.A.x]\ny = 1\n\n[blind]\n', '[secrets]\n\n[blind]\n'],
    ['the last sub-table', '[secrets]\n\n[secrets.A]\nref = "a"\n', '[secrets]\n'],
    ['a sub-table without blank lines', '[secrets]\n[secrets.A]\nref = "a"\n[blind]\n', '[secrets]\n[blind]\n'],
    ['the only one of an environment, which stays', '[production.secrets.A]\nref = "a"\n', '[production.secrets]\n', 'production'],
    ['the only one of an inline environment', 'production = { secrets.A = {} }\n', 'production = { secrets = {} }\n', 'production'],
    ['the first member', 'secrets = { A = {}, B = {} }', 'secrets = { B = {} }'],
    ['the last member', 'secrets = { B = {}, A = {} }', 'secrets = { B = {} }'],
    ['the last member before a comma', 'secrets = { B = {}, A = {}, }', 'secrets = { B = {}, }'],
    ['a middle member', 'secrets = { B = {}, A = { ref = "a, b" }, C = {} }', 'secrets = { B = {}, C = {} }'],
    ['the only member', 'secrets = { A = {} } # s', 'secrets = {} # s'],
    ['the only member of many lines', 'secrets = {\n  A = {},\n}', 'secrets = {}'],
    ['a member on its line', 'secrets = {\n  A = {}, # a\n  # about B\n  B = {}, # b\n}', 'secrets = {\n  # about B\n  B = {}, # b\n}'],
    ['the last member on its line', 'secrets = {\n  B = {}, # b\n  A = {} # a\n}', 'secrets = {\n  B = {}, # b\n}'],
    ['a last member beside the brace', 'secrets = { B = {}, # b\n  A = {} }', 'secrets = { B = {}, # b\n   }'],
    ['a first member beside the brace', 'secrets = { A = {}, # a\n  B = {} }', 'secrets = { # a\n  B = {} }'],
    ['the only member beside a comment', 'secrets = { A = {} # a\n}', 'secrets = { # a\n}'],
    ['dotted members', 'secrets = { A.ref = "a", B = {}, A.provider = "env" }', 'secrets = { B = {} }'],
    ['a value that is no table', '[secrets]\nA = 1\nB = {}\n', '[secrets]\nB = {}\n'],
    ['behind a byte order mark', '\uFEFF[secrets]\nA = {}\n', '\uFEFF[secrets]\n'],
  ])('takes away %s', (_what, before, after, environment) => {
    expect(removeSecret(before, { environment, name: 'A' })).toBe(after);
    expect(removeSecret(after, { environment, name: 'A' })).toBeUndefined();
  });

  it.each(['', '[secrets]\n', 'secrets = 1\n', '[[secrets]]\n', '[production.secrets]\nA = {}\n', '[secrets.B.A]\n'])(
    'finds nothing in %j',
    (source) => {
      expect(removeSecret(source, { name: 'A' })).toBeUndefined();
      expect(removeSecret(source, { environment: 'staging', name: 'A' })).toBeUndefined();
    },
  );
});

describe('refusals', () => {
  it.each(['[secrets', 'a = 1\na = 2\n', 'a = \u0000'])('%j is not TOML', (source) => {
    expect(failure(() => set(source)).code).toBe('config-syntax');
    expect(failure(() => removeSecret(source, { name: 'A' })).code).toBe('config-syntax');
  });

  it('says so, with the cause, when only the editing parser refuses a text', () => {
    const source = '[secrets]\nA = { provider = "env", ref = 2026-02-30 }\n';
    for (const error of [failure(() => set(source)), failure(() => removeSecret(source, { name: 'A' }))]) {
      expect([error.code, error.message, error.hint]).toEqual([
        'config-syntax',
        'cannot edit a config that is not valid TOML',
        'run `kz validate`',
      ]);
      expect(error.cause).toBeInstanceOf(Error);
    }
  });

  it.each(['secrets = 1\n', '[[secrets]]\n', 'secrets = [{}]\n', 'secrets = 2026-01-01\n'])('%j leaves no place', (source) => {
    const error = failure(() => set(source));
    expect([error.code, error.message]).toEqual(['config-invalid', 'cannot add a secret: secrets is not a table']);
  });

  it('names the part of the environment that is no table', () => {
    expect(failure(() => set('production = 1\n', 'A', 'production')).message).toBe('cannot add a secret: production is not a table');
    expect(failure(() => set('["a b"]\nsecrets = 1\n', 'A', 'a b')).message).toBe('cannot add a secret: "a b".secrets is not a table');
  });

  it.each(['secrets', 'secrets_from', 'providers', 'blind'])('%s is no environment', (environment) => {
    expect(failure(() => set('', 'A', environment)).code).toBe('usage');
    expect(failure(() => removeSecret('', { environment, name: 'A' })).code).toBe('usage');
  });

  it('throws rather than write what does not read back', () => {
    const error = failure(() => set('[secrets]\n', 'A', undefined, { provider: 'store', ref: '\ud800' }));
    expect(error.code).toBe('write-failed');
    expect(error.hint).toBe('add to [secrets] by hand: A = { provider = "store", ref = "\\ud800" }');
    expect(failure(() => set('', 'A', undefined, { ref: 2 ** 60 })).code).toBe('write-failed');
    expect(failure(() => set('', 'A', undefined, { ref: Number.POSITIVE_INFINITY })).code).toBe('write-failed');
  });
});
