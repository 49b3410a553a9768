import { describe, expect, it } from 'vitest';
import { Swap, SwapNotes, type Left } from '../../src/mask/swap.ts';
import { HOST, OTHER, tableOf, throughEveryCut, TOKEN } from '../fixtures/masked-body.ts';

// A quote, a backslash, a line end and a character outside ASCII: what JSON must escape, and what it may not.
const VALUE = 'CANARY-"q\\n\n-é';
const ESCAPED = Buffer.from(JSON.stringify(VALUE).slice(1, -1)).toString('latin1');
const latin1 = (text: string) => Buffer.from(text).toString('latin1');

function swapped(text: string, swap?: readonly string[], type = 'application/json'): { out: string; notes: SwapNotes } {
  const table = tableOf({ value: VALUE, ...(swap && { swap }) });
  const notes = new SwapNotes();
  return { out: throughEveryCut(() => new Swap(table, HOST, 443).body(type, notes), text), notes };
}

describe('fields that hold a credential', () => {
  it.each([
    ['at the root', `{"access_token":"${TOKEN}"}`],
    ['at depth', `{"a":{"b":[{"c":[[{"access_token":"${TOKEN}"}]]}]}}`],
    ['in an array', `{"tokens":[1,"x","${TOKEN}"]}`],
    ['behind other text', `{"api_key":"Bearer ${TOKEN} and more"}`],
    ['twice under one name', `{"token":"${TOKEN}","token":"${TOKEN}"}`],
    ['twice in one string', `{"token":"${TOKEN}${TOKEN}"}`],
    ['with spaces wherever they may be', ` {\n\t"token" \r\n:  "${TOKEN}" } `],
    ['with an escape in the name', `{"acc\\u0065ss_tok\\u0065n":"${TOKEN}"}`],
    ['with an escaped quote in a name before', `{"a\\"b":1,"token":"${TOKEN}"}`],
    ['with escapes in the string before', `{"x":"\\\\","token":"\\\\\\"${TOKEN}\\\\"}`],
    ['after every kind of value', `{"a":null,"b":true,"c":-1.5e+3,"d":[],"e":{},"f":"","token":"${TOKEN}"}`],
    ['with a name outside ASCII before', `{"ключ":"é","token":"${TOKEN}"}`],
    ['with characters outside ASCII around', `{"token":"é${TOKEN}é"}`],
    ['in the second of several documents', `{"a":1}\n{"token":"${TOKEN}"}`],
    ['in documents with nothing between', `{"token":"${TOKEN}"}{"token":"${TOKEN}"}[]"x"`],
    ['behind a record separator', `\x1e{"token":"${TOKEN}"}\n`],
    ['behind a byte order mark', `\ufeff{"token":"${TOKEN}"}`],
    ['an unfinished document', `{"token":"${TOKEN}`],
    ['in JSON-RPC', `{"jsonrpc":"2.0","method":"x","params":{"arguments":{"apiKey":"${TOKEN}"}}}`],
  ])('swaps %s', (_, text) => {
    const { out, notes } = swapped(text);
    expect(out).toBe(latin1(text).replaceAll(TOKEN, ESCAPED));
    expect(notes.left).toEqual([]);
    expect(notes.swapped.length).toBeGreaterThan(0);
  });

  it.each([
    'application/json',
    'Application/JSON; charset=utf-8',
    'text/json',
    'application/vnd.api+json',
    'application/x-ndjson',
    'application/ndjson',
    'application/jsonl',
    'application/json-seq',
    'application/x-amz-json-1.1',
  ])('in %s', (type) => {
    expect(swapped(`{"token":"${TOKEN}"}`, undefined, type).out).toBe(`{"token":"${ESCAPED}"}`);
  });

  it('swaps below ten thousand arrays and objects', () => {
    const open = '[{"a":'.repeat(5000);
    const close = '}]'.repeat(5000);
    const table = tableOf({ value: VALUE });
    const notes = new SwapNotes();
    const body = new Swap(table, HOST, 443).body('application/json', notes);
    const text = `${open}{"token":"${TOKEN}"}${close}`;
    expect(body?.push(Buffer.from(text)).toString('latin1')).toBe(text.replace(TOKEN, ESCAPED));
    expect(notes.swapped[0]?.where.length).toBeLessThan(200);
    expect(notes.swapped[0]?.slot).toBe('body');
  });

  it('takes time that grows with the body only, however deep its tokens are', () => {
    const body = new Swap(tableOf({ value: VALUE }), HOST, 443).body('application/json', new SwapNotes());
    const started = performance.now();
    body?.push(Buffer.from('{"a":'.repeat(16_000) + `[${`"${TOKEN}",`.repeat(5000)}`));
    expect(performance.now() - started).toBeLessThan(5000);
  });

  it('stops looking below what any server reads', () => {
    const body = new Swap(tableOf({ value: VALUE }), HOST, 443).body('application/json', new SwapNotes());
    const text = `${'['.repeat(100_000)}{"token":"${TOKEN}"}`;
    expect(body?.push(Buffer.from(text)).toString()).toBe(text);
  });
});

describe('everything else stays as it is', () => {
  it.each<[string, string, Partial<Left>]>([
    [
      'a gist',
      `{"files":{"token.txt":{"content":"${TOKEN}"}}}`,
      { where: 'body files.token.txt.content', slot: 'body:files.token.txt.content' },
    ],
    ['free text', `{"body":"my token: ${TOKEN}"}`, { where: 'body body' }],
    ['JSON in a string', `{"body":"{\\"token\\":\\"${TOKEN}\\"}"}`, { where: 'body body' }],
    ['an object below a credential', `{"token":{"note":"${TOKEN}"}}`, { where: 'body token.note' }],
    ['what follows an object below', `{"x":{"token":"a"},"y":"${TOKEN}"}`, { where: 'body y' }],
    ['a name', `{"${TOKEN}":"x"}`, { where: 'body', slot: 'body' }],
    ['a name that says token', `{"token":{"${TOKEN}":"x"}}`, { where: 'body' }],
    ['a string of its own', `"${TOKEN}"`, { where: 'body' }],
    ['no string', `{"token":${TOKEN}}`, { where: 'body' }],
    ['behind a comment', `{/*"*/"token":"${TOKEN}"}`, { where: 'body' }],
    ['in single quotes', `{'token':'${TOKEN}'}`, { where: 'body' }],
    ['behind a name without quotes', `{"token":"a",content:"${TOKEN}"}`, { where: 'body' }],
    ['behind a wrong escape', `{"token":"\\x${TOKEN}"}`, { where: 'body' }],
    ['behind a wrong \\u', `{"token":"\\u00g0${TOKEN}"}`, { where: 'body' }],
    ['behind a line end in a string', `{"a":"\n","token":"${TOKEN}"}`, { where: 'body' }],
    ['behind a missing comma', `{"a":1 "token":"${TOKEN}"}`, { where: 'body' }],
    ['behind a wrong bracket', `{"a":[1},"token":"${TOKEN}"}`, { where: 'body' }],
    ['behind a \\u that is too short', `{"a":"\\u004","token":"${TOKEN}"}`, { where: 'body' }],
    ['behind a comma too many in an object', `{"a":{"b":1,},"token":"${TOKEN}"}`, { where: 'body' }],
    ['behind a comma too many', `{"a":[1,],"token":"${TOKEN}"}`, { where: 'body' }],
    ['a form that says it is JSON', `token=${TOKEN}`, { where: 'body' }],
    ['a name too long to judge', `{"${'x'.repeat(2000)}_token":"${TOKEN}"}`, { slot: 'body' }],
  ])('%s', (_, text, left) => {
    const { out, notes } = swapped(text);
    expect(out).toBe(text);
    expect(notes.swapped).toEqual([]);
    expect(notes.left).toMatchObject([{ name: 'A', reason: 'slot', ...left }]);
  });

  it('does not see half an escape as the start of a vendor prefix', () => {
    const table = tableOf({ token: 'ntn_kz_masked_0123456789abcdef0123456789abcdef', value: 'CANARY', swap: ['body'] });
    const text = `{"token":"\\ntn_kz_masked_0123456789abcdef0123456789abcdef"}`;
    expect(throughEveryCut(() => new Swap(table, HOST, 443).body('application/json', new SwapNotes()), text)).toBe(text);
  });

  it.each([
    '',
    ' ',
    '{',
    '}',
    ']',
    '"',
    '\\',
    '{"',
    '{"a',
    '{"a\\',
    '{"a\\u00',
    '[1,2',
    'nul',
    '\0',
    '\ufeff',
    '{"a":"\\ud800"}',
    '{"\\ud800":1}',
  ])('passes %j', (text) => {
    expect(swapped(text).out).toBe(latin1(text));
  });
});

describe('a secret with a list of its own', () => {
  it.each([
    ['body:client.assertion', `{"client":{"assertion":"${TOKEN}"}}`],
    ['body:client.assertion', `[{"client":[{"assertion":["${TOKEN}"]}]}]`],
    ['body:a.b', `{"a.b":"${TOKEN}"}`],
    ['body', `{"x":"${TOKEN}"}`],
    ['body', `{"${TOKEN}":1}`],
    ['body', `"${TOKEN}"`],
    ['body', `no JSON: ${TOKEN}`],
  ])('%s swaps %s', (slot, text) => {
    expect(swapped(text, [slot]).out).toBe(text.replace(TOKEN, ESCAPED));
  });

  it.each([
    ['body:client.assertion', `{"assertion":"${TOKEN}"}`],
    ['body:client.assertion', `{"x":{"client":{"assertion":"${TOKEN}"}}}`],
    ['body:client.assertion', `{"token":"${TOKEN}"}`],
    ['body:token', `{"Token":"${TOKEN}"}`],
  ])('%s leaves %s', (slot, text) => {
    expect(swapped(text, [slot]).out).toBe(text);
  });

  it('writes nothing outside of a string', () => {
    const { out, notes } = swapped(`[${TOKEN}]`, ['body']);
    expect(out).toBe(`[${TOKEN}]`);
    expect(notes.left).toMatchObject([{ where: 'body', reason: 'encoding' }]);
  });
});

it('finds a token of shape exact however JSON writers escape it', () => {
  const token = 'Ab/cd+12"34\\56=qq';
  const table = tableOf({ token, value: 'CANARY' });
  const open = () => new Swap(table, HOST, 443).body('application/json', new SwapNotes());
  const plain = JSON.stringify(token);
  for (const written of [
    plain,
    plain.replace('/', '\\/'),
    plain.replace('+', '\\u002B').replace('=', '\\u003d'),
    plain.replace('\\"', '\\u0022'),
  ]) {
    expect(throughEveryCut(open, `{"x":"\\n","token":${written}}`)).toBe('{"x":"\\n","token":"CANARY"}');
  }
  const across = `{"token":"Ab/cd+12"34\\56=qq"}`;
  expect(throughEveryCut(open, across)).toBe(across);
});

it('does not read the letter of an escape as the start of a token', () => {
  const table = tableOf({ token: 'n/1234567890123456', value: 'CANARY' });
  const open = () => new Swap(table, HOST, 443).body('application/json', new SwapNotes());
  const text = '{"token":"\\n/1234567890123456"}';
  expect(throughEveryCut(open, text)).toBe(text);
  expect(throughEveryCut(open, text.replace('\\', '\\t'))).toBe('{"token":"\\tCANARY"}');
});

it('finds no token across the end of a string', () => {
  const table = tableOf({ token: 'abcdefgh"12345678', value: 'CANARY', swap: ['body'] });
  const open = () => new Swap(table, HOST, 443).body('application/json', new SwapNotes());
  const text = `["abcdefgh"12345678"]`;
  expect(throughEveryCut(open, text)).toBe(text);
  expect(throughEveryCut(open, '["abcdefgh\\"12345678"]')).toBe('["CANARY"]');
});

it('tells apart tokens that start alike', () => {
  const table = tableOf(
    { value: 'CANARY-1' },
    { name: 'B', token: OTHER, value: 'CANARY-2' },
    { name: 'C', token: TOKEN.replace('f', 'e'), value: 'CANARY-3' },
  );
  const text = `{"token":"${TOKEN.slice(0, -1)}${TOKEN} ${OTHER} ghp_${TOKEN} ${TOKEN.replace('f', 'e')}"}`;
  const out = throughEveryCut(() => new Swap(table, HOST, 443).body('application/json', new SwapNotes()), text);
  expect(out).toBe(`{"token":"${TOKEN.slice(0, -1)}CANARY-1 CANARY-2 ghp_CANARY-1 CANARY-3"}`);
});

it('returns the chunk itself when there is nothing to do, and holds back no more than the start of a token', () => {
  const body = new Swap(tableOf({ value: 'CANARY' }), HOST, 443).body('application/json', new SwapNotes());
  const chunk = Buffer.from('{"token":"abc');
  expect(body?.push(chunk)).toBe(chunk);
  expect(body?.push(Buffer.from('xyz kz_mask')).toString()).toBe('xyz ');
  expect(body?.push(Buffer.from('!')).toString()).toBe('kz_mask!');
  expect(body?.push(Buffer.from('"}'))).toHaveLength(2);
  expect(body?.end()).toHaveLength(0);
});

it('knows the names of chunks that are gone', () => {
  const table = tableOf({ value: 'CANARY', swap: ['body:first.outer.inner.last'] });
  const text = `{"first":[{"outer":{"x":1,"in\\u006eer":[{"a":{}},{"last":"${TOKEN}"}]}}],"last":"${TOKEN}"}`;
  for (let size = 1; size < text.length; size++) {
    const body = new Swap(table, HOST, 443).body('application/json', new SwapNotes());
    let out = '';
    for (let at = 0; at < text.length; at += size) {
      const chunk = Buffer.from(text.slice(at, at + size));
      out += body?.push(chunk).toString() ?? '';
      chunk.fill('"');
    }
    expect(out + (body?.end().toString() ?? '')).toBe(text.replace(TOKEN, 'CANARY'));
  }
});

describe('a byte that ends a run of others', () => {
  const runs = Array.from({ length: 10 }, (_, length) => 'aé'.repeat(5).slice(0, length));

  it.each([
    ['a quote', '",', true],
    ['a quote behind one', '\\"",', true],
    ['a backslash', '\\\\",', true],
    ['an escape', '\\u0022",', true],
    ['a space and what is above', ' !#[]~\x7f",', true],
    ['NUL', '\0",', false],
    ['the last control character', '\x1f",', false],
    ['a wrong escape', '\\ ",', false],
  ])('%s', (_, end, isJson) => {
    for (const run of runs) {
      const text = `{"x":"${run}${end}"token":"${TOKEN}"}`;
      expect(swapped(text).out).toBe(isJson ? latin1(text).replace(TOKEN, ESCAPED) : latin1(text));
    }
  });
});

it('agrees with JSON.parse about which strings are credentials', () => {
  let seed = 1;
  const random = (below: number) => (seed = (seed * 48_271) % 0x7fff_ffff) % below;
  const names = ['token', 'note', 'password', 'a"b', 'é', 'api_key', 'x\\'];
  const make = (depth: number): unknown => {
    const kind = random(depth > 4 ? 3 : 6);
    if (kind < 2) return ['', 'x"\\\n', 'ünï'][random(3)] ?? '';
    if (kind === 2) return [1.5e9, true, null, TOKEN][random(4)];
    if (kind === 3) return Array.from({ length: random(4) }, () => make(depth + 1));
    return Object.fromEntries(Array.from({ length: random(4) }, () => [names[random(names.length)] ?? '', make(depth + 1)]));
  };
  const oracle = (value: unknown, name: string): unknown => {
    if (value === TOKEN) return ['token', 'password', 'api_key'].includes(name) ? VALUE : value;
    if (Array.isArray(value)) return value.map((item) => oracle(item, name));
    if (typeof value !== 'object' || value === null) return value;
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, oracle(item, key)]));
  };
  const table = tableOf({ value: VALUE });
  for (let round = 0; round < 300; round++) {
    const document = make(0);
    const text = JSON.stringify(document, null, random(2));
    const body = new Swap(table, HOST, 443).body('application/json', new SwapNotes());
    if (body === undefined) throw new Error('no body');
    const cut = random(text.length + 1);
    const bytes = Buffer.from(text);
    const out = Buffer.concat([body.push(bytes.subarray(0, cut)), body.push(bytes.subarray(cut)), body.end()]).toString();
    expect(JSON.parse(out)).toEqual(oracle(document, ''));
    if (!text.includes(TOKEN)) expect(out).toBe(text);
  }
});
