// Edits over thousands of generated documents, judged by the parsers and by what happened to the text, not by how edit.ts works.
import { isDeepStrictEqual } from 'node:util';
import { parse } from 'smol-toml';
import { parseTOML } from 'toml-eslint-parser';
import { describe, expect, it } from 'vitest';
import { removeSecret, setSecret, type EntryFields } from '../../src/config/edit.ts';

/** A small generator of the same numbers on every run. */
function random(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

const NAMES = ['A', 'B', 'C', '"D.d"', "'E e'"] as const;
const VALUES = ['"x"', "'y, # }'", '["a", "b"]', '[\n  "a", # one\n]', '"""\n[secrets]\nA = 1\n"""', '3', 'true', '{ a = 1 }'] as const;
const KEYS = ['provider', 'ref', '"hosts"', 'required'] as const;
const COMMENTS = ['', '', ' # note', ' # { x = 1, }', ' # "'] as const;

/** A document with secrets in every form; not always valid. */
function makeDocument(next: (below: number) => number): string {
  const pick = <T>(list: readonly T[]): T => list[next(list.length)] as T;
  const fields = (count: number) => KEYS.slice(0, count).map((key) => `${key} = ${pick(VALUES)}`);
  const inline = (): string => {
    const members = fields(next(5));
    if (members.length === 0) return '{}';
    if (next(3) > 0) return `{ ${members.join(', ')}${next(4) === 0 ? ',' : ''} }`;
    const last = members.pop() ?? '';
    return `{\n${members.map((member) => `  ${member},${pick(COMMENTS)}\n`).join('')}  ${last}${pick(['', ','])}${pick(COMMENTS)}\n}`;
  };
  const pairs = (prefix: string) =>
    NAMES.filter(() => next(2) === 0).flatMap((name) =>
      next(3) === 0 ? fields(1 + next(3)).map((field) => `${prefix}${name}.${field}`) : [`${prefix}${name} = ${inline()}`],
    );
  const table = (path: string): string[] => {
    const holder = path.split('.').slice(0, -1).join('.');
    switch (next(holder === '' ? 4 : 6)) {
      case 5:
        return [`[${holder}]`, ...pairs('secrets.')];
      case 4:
        return [`${holder} = { ${pairs('secrets.').join(', ')} }`];
      case 0:
        return NAMES.filter(() => next(2) === 0).flatMap((name) => [`[${path}.${name}]`, ...fields(next(4))]);
      case 1:
        return [`${path} = { ${pairs('').join(', ')} }`];
      case 2:
        return pairs(`${path}.`);
      default:
        return [`[${path}]`, ...pairs('')];
    }
  };
  const blocks = [
    table('secrets'),
    table('production.secrets'),
    ['[[secrets_from]]', 'ref = "A"'],
    ['[blind]', 'scope = "strict"'],
    table('"my env".secrets'),
  ];
  const chosen = blocks.filter(() => next(4) > 0);
  if (next(2) === 0) chosen.reverse();
  const lines = chosen.flatMap((block) => [
    ...block.map((line) => pick(['', '  ']) + line + pick(COMMENTS)),
    ...pick([[], [''], ['', '# next'], ['# end']]),
  ]);
  const text = pick(['', '\uFEFF', '']) + lines.join('\n') + pick(['\n', '']);
  return next(3) === 0 ? text.replaceAll('\n', '\r\n') : text;
}

function isValid(source: string): boolean {
  try {
    parse(source);
    return true;
  } catch {
    return false;
  }
}

function commentsOf(source: string): string[] {
  return parseTOML(source.replace(/^\uFEFF/, ''), { tomlVersion: '1.1' }).comments.map((comment) => comment.value);
}

/** Can `short` be made from `long` by leaving characters out? */
function isWithin(short: string, long: string): boolean {
  let index = 0;
  for (const character of long) if (short.startsWith(character, index)) index += character.length;
  return index >= short.length;
}

/** Everything the document says except one secret; a table that is only a place for secrets says nothing. */
function rest(source: string, environment: string | undefined, name: string): unknown {
  const document = JSON.parse(JSON.stringify(parse(source))) as Record<string, Record<string, Record<string, unknown>> | undefined>;
  const holder = (environment === undefined ? document : document[environment]) as
    Record<string, Record<string, unknown> | undefined> | undefined;
  if (holder === undefined) return document;
  Reflect.deleteProperty(holder.secrets ?? {}, name);
  if (Object.keys(holder.secrets ?? {}).length === 0) Reflect.deleteProperty(holder, 'secrets');
  if (environment !== undefined && Object.keys(holder).length === 0) Reflect.deleteProperty(document, environment);
  return document;
}

function secretIn(source: string, environment: string | undefined, name: string): unknown {
  const document = JSON.parse(JSON.stringify(parse(source))) as Record<string, Record<string, unknown> | undefined>;
  const holder = environment === undefined ? document : document[environment];
  return (holder?.secrets as Record<string, unknown> | undefined)?.[name];
}

const ENTRIES: readonly EntryFields[] = [
  { provider: 'store', ref: 'new' },
  { ref: 'a#b"c\\', provider: 'vault', hosts: ['x', 'y'], required: false },
  { provider: 'env', ref: 'é\n', min_length: 8, expose: true },
];

describe('over many documents', () => {
  const next = random(20_260_101);
  const documents = Array.from({ length: 4000 }, () => makeDocument(next)).filter(isValid);

  it('has enough of them to mean something', () => {
    expect(documents.length).toBeGreaterThan(1000);
    expect(new Set(documents).size).toBeGreaterThan(900);
  });

  it('setSecret changes one entry, keeps the comments, and is done at once', () => {
    for (const before of documents) {
      const environment = [undefined, 'production', 'my env'][next(3)];
      const name = ['A', 'B', 'D.d', 'E e', 'NEW', 'a"b'][next(6)] ?? '';
      const entry = ENTRIES[next(ENTRIES.length)] ?? {};
      const existing = secretIn(before, environment, name);
      const after = setSecret(before, { environment, name, entry });
      const told = JSON.stringify({ before, after, environment, name });
      expect(secretIn(after, environment, name), told).toEqual(entry);
      expect(isDeepStrictEqual(rest(after, environment, name), rest(before, environment, name)), told).toBe(true);
      expect(setSecret(after, { environment, name, entry }), told).toBe(after);
      if (existing === undefined) {
        expect(isWithin(before, after), told).toBe(true);
        expect(commentsOf(after), told).toEqual(commentsOf(before));
      }
      if (before.includes('\r\n')) expect(/[^\r]\n/.test(after), told).toBe(false);
      expect(after.startsWith('\uFEFF'), told).toBe(before.startsWith('\uFEFF'));
    }
  });

  it('removeSecret takes out one entry and adds nothing but an empty table', () => {
    let removed = 0;
    for (const before of documents) {
      const environment = [undefined, 'production', 'my env'][next(3)];
      const name = ['A', 'B', 'C', 'D.d', 'E e'][next(5)] ?? '';
      const after = removeSecret(before, { environment, name });
      const told = JSON.stringify({ before, after, environment, name });
      expect(after === undefined, told).toBe(secretIn(before, environment, name) === undefined);
      if (after === undefined) continue;
      removed++;
      expect(secretIn(after, environment, name), told).toBeUndefined();
      expect(isDeepStrictEqual(rest(after, environment, name), rest(before, environment, name)), told).toBe(true);
      const emptied = environment === undefined ? 'secrets' : environment === 'my env' ? '"my env".secrets' : `${environment}.secrets`;
      const cut = after.replace(new RegExp(`(?:\\r?\\n)*\\[${emptied}\\]\\r?\\n$`), '').replace('{ secrets = {} }', '{}');
      expect(isWithin(after, before) || isWithin(cut, before), told).toBe(true);
    }
    expect(removed).toBeGreaterThan(300);
  });

  it('adding and removing again leaves the text as it was, but for the table', () => {
    for (const before of documents.slice(0, 400)) {
      const after = removeSecret(setSecret(before, { name: 'NEW', entry: { ref: 'x' } }), { name: 'NEW' }) ?? '';
      expect(isWithin(before.replace(/ |\s+$/g, ''), after), JSON.stringify({ before, after })).toBe(true);
      expect(commentsOf(after)).toEqual(commentsOf(before));
    }
  });
});
