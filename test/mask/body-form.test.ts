import { describe, expect, it } from 'vitest';
import { percentDecode, percentEncode, IN_PATH } from '../../src/mask/body-form.ts';
import { Swap, SwapNotes, type Left } from '../../src/mask/swap.ts';
import { HOST, tableOf, throughEveryCut, TOKEN } from '../fixtures/masked-body.ts';

const VALUE = 'CANARY &=+%;é';
const ENCODED = 'CANARY%20%26%3D%2B%25%3B%C3%A9';
const FORM = 'application/x-www-form-urlencoded';

function swapped(text: string, swap?: readonly string[]): { out: string; notes: SwapNotes } {
  const table = tableOf({ value: VALUE, ...(swap && { swap }) });
  const notes = new SwapNotes();
  return { out: throughEveryCut(() => new Swap(table, HOST, 443).body(`${FORM}; charset=UTF-8`, notes), text), notes };
}

describe('fields that hold a credential', () => {
  it.each([
    ['alone', `token=${TOKEN}`],
    ['between others', `a=1&client_secret=${TOKEN}&b=2`],
    ['behind an empty field', `&&=&a&token=${TOKEN}`],
    ['twice', `token=${TOKEN}&token=x${TOKEN}${TOKEN}`],
    ['with an equals sign before', `token=a=${TOKEN}`],
    ['with an encoded name', `access%5Ftoke%6e=${TOKEN}`],
    ['with a name in brackets', `user[password]=${TOKEN}&user%5Bpassword%5D=${TOKEN}`],
    ['with escapes around', `a=%26&token=%C3%A9${TOKEN}%41&b=%zz%4`],
  ])('swaps %s', (_, text) => {
    const { out, notes } = swapped(text);
    expect(out).toBe(text.replaceAll(TOKEN, ENCODED));
    expect(notes.left).toEqual([]);
  });

  it.each([TOKEN.replaceAll('_', '%5F'), TOKEN.replaceAll('_', '%5f'), TOKEN.replace('k', '%6B'), TOKEN.replace(/f$/, '%66')])(
    'finds %s',
    (written) => {
      expect(swapped(`a=%41&token=${written}&b=%`).out).toBe(`a=%41&token=${ENCODED}&b=%`);
    },
  );

  it.each([
    ['body:client.assertion', `client.assertion=${TOKEN}`],
    ['body:x y', `x+y=${TOKEN}&x%20y=${TOKEN}`],
    ['body:ü', `%C3%BC=${TOKEN}`],
    ['body', TOKEN],
    ['body', `a;b=${TOKEN}`],
  ])('%s swaps %s', (slot, text) => {
    expect(swapped(text, [slot]).out).toBe(text.replaceAll(TOKEN, ENCODED));
  });
});

it.each<[string, string, Partial<Left>]>([
  ['free text', `body=${TOKEN}`, { where: 'body body', slot: 'body:body' }],
  ['a name', `${TOKEN}=x`, { where: 'body', slot: 'body' }],
  ['a name that says token', `token${TOKEN}=x`, { where: 'body' }],
  ['what an old server reads as another field', `token=x;body=${TOKEN}`, { where: 'body' }],
  ['what follows it', `token=x;body=a=${TOKEN}`, { where: 'body' }],
  ['a field behind an encoded ampersand', `body=a%26token=${TOKEN}`, { where: 'body body' }],
  ['a name too long to judge', `${'x'.repeat(1100)}_token=${TOKEN}`, { where: 'body' }],
  ['an uncommon name', `a%0Ab=${TOKEN}`, { where: 'body a?b', slot: 'body' }],
])('leaves %s', (_, text, left) => {
  const { out, notes } = swapped(text);
  expect(out).toBe(text);
  expect(notes.left).toMatchObject([{ reason: 'slot', ...left }]);
});

it('is in the right field again behind a field that is read in two ways', () => {
  expect(swapped(`token=x;y&token=${TOKEN}`).out).toBe(`token=x;y&token=${ENCODED}`);
});

it.each(['', '&', '=', '%', '%4', '%%%', 'a=%zz&b', 'a=+%2B+', '\0\xff', 'x='.repeat(100)])('passes %j', (text) => {
  expect(swapped(text).out).toBe(Buffer.from(text).toString('latin1'));
});

it('finds a token of shape exact encoded or not, but not across fields', () => {
  const table = tableOf({ token: 'Ab/cd+12&34=qq==', value: 'CANARY' });
  const open = () => new Swap(table, HOST, 443).body(FORM, new SwapNotes());
  expect(throughEveryCut(open, 'a=1&token=Ab%2Fcd%2B12%2634%3Dqq%3D%3D&b=2')).toBe('a=1&token=CANARY&b=2');
  expect(throughEveryCut(open, 'token=Ab/cd+12%2634=qq==')).toBe('token=CANARY');
  expect(throughEveryCut(open, 'token=Ab/cd+12&34=qq==')).toBe('token=Ab/cd+12&34=qq==');
});

it.each([
  ['of other alphabets', '%D0%BF%D1%80'],
  ['of punctuation', '%7B%22%3A%2C%20'],
  ['of letters', '%61%62'],
  ['that are none', '%%4%zz%G1'],
])('finds a token among many escapes %s', (_, escapes) => {
  const many = escapes.repeat(40);
  const text = `a=${many}&token=${many}${TOKEN}${many}&access%5Ftoken=${TOKEN.replace('k', '%6b')}&body=${many}`;
  const expected = text.replace(TOKEN, ENCODED).replace(TOKEN.replace('k', '%6b'), ENCODED);
  const table = tableOf({ value: VALUE });
  for (let size = 1; size < 700; size += 1 + (size >> 4)) {
    const body = new Swap(table, HOST, 443).body(FORM, new SwapNotes());
    const parts: (Buffer | undefined)[] = [];
    for (let at = 0; at < text.length; at += size) parts.push(body?.push(Buffer.from(text.slice(at, at + size))));
    expect([...parts, body?.end()].map((part) => part?.toString() ?? '').join('')).toBe(expected);
  }
});

it('holds back no escape that is whole', () => {
  const body = new Swap(tableOf({ value: VALUE }), HOST, 443).body(FORM, new SwapNotes());
  const push = (text: string) => body?.push(Buffer.from(text)).toString();
  expect([push('a=%41'), push('%4'), push('1%'), push('zz')]).toEqual(['a=%41', '', '%41', '%zz']);
});

it('decodes as clients do', () => {
  expect(percentDecode('p%40ss%2Fw%C3%BC')).toBe('p@ss/wü');
  expect(percentDecode('100%')).toBe('100%');
  expect(percentDecode('%zz%4')).toBe('%zz%4');
  expect(percentDecode('a+b&c')).toBe('a+b&c');
  expect(percentDecode('%ff')).toBe('%ff');
  expect(percentDecode('%EF%BB%BFx')).toBe('\ufeffx');
});

it('encodes so that everybody decodes the same', () => {
  const every = String.fromCharCode(...Array.from({ length: 128 }, (_, code) => code)) + 'é€🔑';
  expect(decodeURIComponent(percentEncode(every))).toBe(every);
  expect(new URLSearchParams(`k=${percentEncode(every)}`).get('k')).toBe(every);
  expect(decodeURIComponent(percentEncode(every, IN_PATH))).toBe(every);
  expect(percentEncode('12:a@b/c?d', IN_PATH)).toBe('12:a@b%2Fc%3Fd');
});
