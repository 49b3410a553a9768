import { describe, expect, it } from 'vitest';
import { xmlEscape } from '../../src/mask/body-text.ts';
import { Swap, SwapNotes } from '../../src/mask/swap.ts';
import { HOST, OTHER, tableOf, throughEveryCut, TOKEN } from '../fixtures/masked-body.ts';

const VALUE = 'CANARY<&>"\'é\n';
const RAW = Buffer.from(VALUE).toString('latin1');

function swapped(type: string | undefined, text: string, value = VALUE): { out: string; notes: SwapNotes } {
  const table = tableOf({ value, swap: ['body'] });
  const notes = new SwapNotes();
  return { out: throughEveryCut(() => new Swap(table, HOST, 443).body(type, notes), text), notes };
}

it.each([undefined, '', 'text/plain', 'application/javascript', 'application/graphql', 'image/png', 'multipart/mixed; boundary=x', ';;;'])(
  'puts the value as it is into %s',
  (type) => {
    expect(swapped(type, `a ${TOKEN}${TOKEN} b`).out).toBe(`a ${RAW}${RAW} b`);
  },
);

it.each(['application/xml', 'text/xml; charset=utf-8', 'application/soap+xml', 'text/html'])('escapes it in %s', (type) => {
  const { out } = swapped(type, `<a b="${TOKEN}">${TOKEN}</a>`);
  const escaped = Buffer.from(xmlEscape(VALUE)).toString('latin1');
  expect(out).toBe(`<a b="${escaped}">${escaped}</a>`);
  expect(escaped).not.toMatch(/[<>"']/);
});

describe('formats that hold lengths', () => {
  const types = [
    'application/grpc',
    'application/grpc+proto',
    'application/grpc-web+json',
    'application/connect+json',
    'application/proto',
  ].concat([
    'application/x-protobuf',
    'application/vnd.google.protobuf',
    'application/octet-stream',
    'application/cbor',
    'application/x-msgpack',
  ]);
  it.each(types)('%s takes only a value as long as its token', (type) => {
    const long = swapped(type, `\0\0\0\0${TOKEN}`);
    expect(long.out).toBe(`\0\0\0\0${TOKEN}`);
    expect(long.notes.left).toMatchObject([{ where: 'body', slot: 'body', reason: 'encoding' }]);
    const value = 'CANARY'.padEnd(TOKEN.length, '-');
    expect(swapped(type, `\0\0\0\0${TOKEN}`, value).out).toBe(`\0\0\0\0${value}`);
  });
});

describe('nothing is scanned where nothing may be swapped', () => {
  const types = [undefined, 'text/plain', 'text/xml', 'application/octet-stream', 'application/grpc', 'application/grpc+json', 'image/png'];
  it.each(types)('%s by default', (type) => {
    expect(new Swap(tableOf({ value: VALUE }), HOST, 443).body(type, new SwapNotes())).toBeUndefined();
  });

  it.each(['application/json', 'application/x-www-form-urlencoded', 'multipart/form-data; boundary=x'])('%s', (type) => {
    const open = (table: ReturnType<typeof tableOf>, host = HOST) => new Swap(table, host, 443).body(type, new SwapNotes());
    expect(open(tableOf())).toBeUndefined();
    expect(open(tableOf({ value: VALUE }), 'evil.com')).toBeUndefined();
    expect(open(tableOf({ value: VALUE, swap: ['header:x', 'query:y', 'path'] }))).toBeUndefined();
    expect(open(tableOf({ value: VALUE }))).toBeDefined();
    expect(open(tableOf({ value: VALUE, swap: ['body:x'] }))).toBeDefined();
  });
});

it('is byte-identical without a token, whatever the bytes and the chunks are', () => {
  let seed = 7;
  const random = (below: number) => (seed = (seed * 48_271) % 0x7fff_ffff) % below;
  const pieces = [
    'kz_',
    'kz_masked_',
    TOKEN.slice(0, 30),
    OTHER.slice(4, 20),
    'ghp_kz',
    '{"token":"',
    '"}',
    '\\',
    '\\u00',
    '%',
    '%5',
    '&',
    '=',
    '\r\n--x',
    '\n',
    '\0\xff',
  ];
  const table = tableOf(
    { value: VALUE, swap: ['body'] },
    { name: 'B', token: OTHER, value: VALUE },
    { name: 'C', token: 'Zz/9+"\\', value: VALUE },
  );
  for (const type of [
    'application/json',
    'application/x-www-form-urlencoded',
    'multipart/form-data; boundary=x',
    'text/plain',
    'text/xml',
  ]) {
    for (let round = 0; round < 200; round++) {
      const body = new Swap(table, HOST, 443).body(type, new SwapNotes());
      const chunks = Array.from({ length: random(8) }, () => Buffer.from(pieces.at(random(pieces.length)) ?? '', 'latin1'));
      const out: Buffer[] = chunks.map((chunk) => Buffer.from(body?.push(chunk) ?? chunk));
      if (body !== undefined) out.push(body.end());
      expect(Buffer.concat(out).equals(Buffer.concat(chunks))).toBe(true);
    }
  }
});

it('holds back only what may be the start of a token', () => {
  const body = new Swap(tableOf({ value: 'CANARY', swap: ['body'] }), HOST, 443).body('text/plain', new SwapNotes());
  const push = (text: string) => body?.push(Buffer.from(text)).toString();
  expect(push('abc')).toBe('abc');
  expect(push('abc k')).toBe('abc ');
  expect(push('z')).toBe('');
  expect(push(TOKEN.slice(2, 20))).toBe('');
  expect(push('!')).toBe(`${TOKEN.slice(0, 20)}!`);
  expect(push(`k${TOKEN}k`)).toBe('kCANARY');
  expect(push('')).toBe('');
  expect(body?.end().toString()).toBe('k');
  expect(body?.end().toString()).toBe('');
});

it('holds back nothing of a token that ends as it starts', () => {
  const table = tableOf({ token: 'ab1234567890ab', value: 'CANARY', swap: ['body'] });
  const body = new Swap(table, HOST, 443).body('text/plain', new SwapNotes());
  expect(body?.push(Buffer.from('x ab1234567890ab')).toString()).toBe('x CANARY');
  expect(body?.push(Buffer.from('1234567890ab')).toString()).toBe('1234567890');
  expect(body?.end().toString()).toBe('ab');
});

it('keeps nothing of a large chunk', () => {
  const body = new Swap(tableOf({ value: 'CANARY', swap: ['body'] }), HOST, 443).body('text/plain', new SwapNotes());
  const chunk = Buffer.alloc(1 << 16, 'x');
  chunk.write('kz_', chunk.length - 3);
  expect(body?.push(chunk)).toHaveLength(chunk.length - 3);
  chunk.fill('!');
  expect(body?.end().toString()).toBe('kz_');
});

describe('a search', () => {
  const finds = (type: string, chunks: readonly string[]): boolean => {
    const search = new Swap(tableOf({ value: VALUE }, { name: 'B', token: 'ab/cd"12345678901', value: 'x' }), HOST, 443).search(type);
    const answers = chunks.map((chunk) => search.push(Buffer.from(chunk)));
    expect(answers).toEqual(answers.toSorted((a, b) => Number(a) - Number(b)));
    return search.end();
  };
  const cuts = (text: string) => Array.from({ length: text.length }, (_, at) => [text.slice(0, at), text.slice(at)]);

  it.each([
    ['text/plain', `x ${TOKEN} x`],
    ['text/plain', TOKEN],
    ['application/json', `{"x":"${TOKEN}"}`],
    ['application/json', `no JSON ${TOKEN}`],
    ['application/json', '["ab\\/cd\\u0022123456789\\u0030\\u0031"]'],
    ['application/x-www-form-urlencoded', `a=%20&b=${TOKEN.replaceAll('_', '%5F')}`],
    ['application/x-www-form-urlencoded', 'ab%2Fcd%2212345678901'],
    ['multipart/form-data; boundary=x', `--x\r\n\r\n${TOKEN}`],
  ])('in %s finds what a swap finds: %s', (type, text) => {
    for (const chunks of [[text], Array.from(text), ...cuts(text)]) expect(finds(type, chunks)).toBe(true);
  });

  it.each([
    ['text/plain', ''],
    ['text/plain', TOKEN.slice(0, -1)],
    ['application/json', `{"x":"kz_masked_"}`],
    ['application/json', '"ab/cd"12345678901"'],
    ['application/x-www-form-urlencoded', `a=%6bz_masked_&b=%`],
  ])('in %s finds nothing else: %s', (type, text) => {
    for (const chunks of [[text], Array.from(text), ...cuts(text)]) expect(finds(type, chunks)).toBe(false);
  });
});
