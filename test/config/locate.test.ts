import { parse } from 'smol-toml';
import { describe, expect, it } from 'vitest';
import { locator } from '../../src/config/locate.ts';

type Path = readonly (string | number)[];

const SAMPLE = `#:schema ./node_modules/keyzero/schema.json

[secrets]
GITHUB_TOKEN = { provider = "keychain", ref = "github-pat", hosts = ["api.github.com", "x"] }
  INDENTED = { provider = "env", ref = "A" }
"quoted key" = { 'provider' = "env", "ref" = "B" }
DOTTED.provider = "env"
DOTTED . ref = "C"
MANY = {
  provider = "file", # a comment, with { braces } and = signs
  ref = """
[not.a.table]
x = 1
""",
}

[production.secrets] # here
GITHUB_TOKEN = { provdier = "aws" }

[staging]
secrets.A = { provider = "env", ref = "A" }

[secrets.SUB]
provider = "env"

[[secrets_from]]
provider = "aws"
keys = { DATABASE_URL = "db.url" }

[[secrets_from]]
provider = "file"
keys = [
  "ONE",
  "TWO",
]

[providers.vault]
address = "https://vault.internal:8200"
[providers."1password"]
account = "x"

[blind]
upstream_ca = "ca.pem"
[[blind.connections]]
allow = true
host = "api.github.com"
[[blind.connections]]
allow = false
host = "*"
`;

/** The text that starts at the position, up to a space or a bracket. */
function wordAt(source: string, path: Path): string | undefined {
  const position = locator(source)(path);
  if (position === undefined) return undefined;
  const line = source.replace(/^\uFEFF/, '').split(/\r?\n/)[position.line - 1] ?? '';
  return `${String(position.line)}: ${/^("[^"]*"|'[^']*'|[^\s.\]=]+)/.exec(line.slice(position.column - 1))?.[0] ?? '?'}`;
}

const CASES: readonly (readonly [Path, string | undefined])[] = [
  [['secrets'], '3: secrets'],
  [['secrets', 'GITHUB_TOKEN'], '4: GITHUB_TOKEN'],
  [['secrets', 'GITHUB_TOKEN', 'ref'], '4: ref'],
  [['secrets', 'GITHUB_TOKEN', 'hosts', 1], '4: "x"'],
  [['secrets', 'GITHUB_TOKEN', 'missing'], '4: GITHUB_TOKEN'],
  [['secrets', 'INDENTED', 'provider'], '5: provider'],
  [['secrets', 'quoted key'], '6: "quoted key"'],
  [['secrets', 'quoted key', 'provider'], "6: 'provider'"],
  [['secrets', 'quoted key', 'ref'], '6: "ref"'],
  [['secrets', 'DOTTED'], '7: DOTTED'],
  [['secrets', 'DOTTED', 'provider'], '7: provider'],
  [['secrets', 'DOTTED', 'ref'], '8: ref'],
  [['secrets', 'MANY', 'provider'], '10: provider'],
  [['secrets', 'MANY', 'ref'], '11: ref'],
  [['not', 'a', 'table'], undefined],
  [['production'], '17: production'],
  [['production', 'secrets'], '17: secrets'],
  [['production', 'secrets', 'GITHUB_TOKEN', 'provdier'], '18: provdier'],
  [['production', 'secrets', 'GITHUB_TOKEN', 'provider'], '18: GITHUB_TOKEN'],
  [['production', 'secrets', 'OTHER', 'ref'], '17: secrets'],
  [['production', 'blind'], '17: production'],
  [['staging', 'secrets'], '21: secrets'],
  [['staging', 'secrets', 'A', 'ref'], '21: ref'],
  [['secrets', 'SUB'], '23: SUB'],
  [['secrets', 'SUB', 'provider'], '24: provider'],
  [['secrets_from'], '26: secrets_from'],
  [['secrets_from', 0], '26: secrets_from'],
  [['secrets_from', 0, 'keys', 'DATABASE_URL'], '28: DATABASE_URL'],
  [['secrets_from', 1], '30: secrets_from'],
  [['secrets_from', 1, 'ref'], '30: secrets_from'],
  [['secrets_from', 1, 'keys'], '32: keys'],
  [['secrets_from', 1, 'keys', 1], '34: "TWO"'],
  [['secrets_from', 2, 'ref'], '26: secrets_from'],
  [['providers'], '37: providers'],
  [['providers', 'vault', 'address'], '38: address'],
  [['providers', '1password'], '39: "1password"'],
  [['providers', '1password', 'account'], '40: account'],
  [['blind'], '42: blind'],
  [['blind', 'connections', 0, 'host'], '46: host'],
  [['blind', 'connections', 1], '47: connections'],
  [['blind', 'connections', 1, 'host'], '49: host'],
  [['blind', 'connections', 1, 'port'], '47: connections'],
  [['unknown', 'thing'], undefined],
  [[], undefined],
];

describe('locator', () => {
  it.each(CASES)('%j is at %s', (path, expected) => {
    expect(wordAt(SAMPLE, path)).toBe(expected);
  });

  it('says the same of a file with CRLF and a byte order mark', () => {
    const windows = `\uFEFF${SAMPLE.replaceAll('\n', '\r\n')}`;
    for (const [path] of CASES) expect(locator(windows)(path)).toEqual(locator(SAMPLE)(path));
  });

  it.each<[string, Path, { line: number; column: number }]>([
    ['a = 1', ['a'], { line: 1, column: 1 }],
    ['\uFEFFa = 1', ['a'], { line: 1, column: 1 }],
    // Columns are UTF-16 units: the emoji is two.
    ['x = { "😀é" = 1, b = 2 }', ['x', 'b'], { line: 1, column: 18 }],
    ['\tx.y.z = 1', ['x', 'y', 'z'], { line: 1, column: 6 }],
    ['[ a . "b.c" ]\nd = 1', ['a', 'b.c'], { line: 1, column: 7 }],
    ['[a.b]\nx = 1\n[a]\ny = 2', ['a'], { line: 3, column: 2 }],
    ['[[a]]\n[a.b]\nc = 1\n[[a]]\n[a.b]\nc = 2', ['a', 1, 'b', 'c'], { line: 6, column: 1 }],
    ['[[a]]\n[[a.b]]\n[[a.b]]\nc = 1', ['a', 0, 'b', 1, 'c'], { line: 4, column: 1 }],
    ['a = [{ b = 1 }, { b = 2 }]', ['a', 1, 'b'], { line: 1, column: 19 }],
    ['a = [[1, { b = 2 }]]', ['a', 0, 1, 'b'], { line: 1, column: 12 }],
    ['0 = 1', ['0'], { line: 1, column: 1 }],
    ['"" = { a = 1 }', ['', 'a'], { line: 1, column: 8 }],
    ['[__proto__]\nconstructor = 1', ['__proto__', 'constructor'], { line: 2, column: 1 }],
    ['"caf\\u00e9" = 1', ['café'], { line: 1, column: 1 }],
    ['a = "x\u2028y"\nb = 1', ['b'], { line: 2, column: 1 }],
    ['x = { # first\n  a = 1, # why\n\n  b = "\\x41\\e",\n}', ['x', 'b'], { line: 4, column: 3 }],
  ])('%j %j', (source, path, expected) => {
    expect(() => parse(source)).not.toThrow();
    expect(locator(source)(path)).toEqual(expected);
  });

  it.each(['[secrets', 'a = ', 'a = 1\na = 2', '\u0000'])('has no answer for %j, which is not TOML', (source) => {
    expect(locator(source)(['secrets'])).toBeUndefined();
    expect(locator(source)(['a'])).toBeUndefined();
  });

  it('has no answer in an empty file', () => {
    expect(locator('')(['a'])).toBeUndefined();
    expect(locator('\uFEFF')(['a'])).toBeUndefined();
    expect(locator('# only a comment')(['a'])).toBeUndefined();
  });
});
