import { describe, expect, it } from 'vitest';
import { Swap, SwapNotes } from '../../src/mask/swap.ts';
import { HOST, tableOf, throughEveryCut, TOKEN } from '../fixtures/masked-body.ts';

const VALUE = 'CANARY "&\r\né';
const RAW = Buffer.from(VALUE).toString('latin1');
const TYPE = 'multipart/form-data; boundary=B-7';

function swapped(text: string, swap?: readonly string[], type = TYPE): { out: string; notes: SwapNotes } {
  const table = tableOf({ value: VALUE, ...(swap && { swap }) });
  const notes = new SwapNotes();
  return { out: throughEveryCut(() => new Swap(table, HOST, 443).body(type, notes), text), notes };
}

function part(disposition: string, body: string, ...more: readonly string[]): string {
  return ['--B-7', `Content-Disposition: ${disposition}`, ...more, '', body, ''].join('\r\n');
}

const END = '--B-7--\r\n';
const NAMED = 'form-data; name="token"';

describe('parts that hold a credential', () => {
  it.each([
    ['the only one', part(NAMED, TOKEN) + END],
    ['between others', part('form-data; name="a"', 'x') + part(NAMED, `x${TOKEN}y${TOKEN}`) + part('form-data; name="b"', '') + END],
    ['behind an empty one', part('form-data; name="a"', '') + part(NAMED, TOKEN) + END],
    ['behind a preamble', `preamble\r\n\r\n${part(NAMED, TOKEN)}${END}`],
    ['with nothing behind', part(NAMED, TOKEN)],
    ['with text that is almost a delimiter', part(NAMED, `\r\n--B-\r\n--B\n-\r\r\n-${TOKEN}\r\n--B-`) + END],
    ['with other headers', part(NAMED, TOKEN, 'Content-Type: text/plain; charset=utf-8', 'X: y') + END],
    ['with a name that is no quoted string', part('form-data; name=token', TOKEN) + END],
    ['with spaces behind the delimiter', part(NAMED, TOKEN).replace('--B-7', '--B-7 \t') + END],
    ['with uncommon case', part('Form-Data; NAME="token"', TOKEN).replace('Content-Disposition', 'CONTENT-disposition') + END],
    ['with an escaped quote in the name', part('form-data; name="a%22_\\"token"', TOKEN) + END],
  ])('swaps %s', (_, text) => {
    const { out, notes } = swapped(text);
    expect(out).toBe(text.replaceAll(TOKEN, RAW));
    expect(notes.left).toEqual([]);
  });

  it.each([
    'multipart/form-data; boundary="B-7"',
    'Multipart/Form-Data; charset=utf-8; BOUNDARY=B-7',
    'multipart/form-data;boundary=B-7;x=y',
  ])('in %s', (type) => {
    const text = part(NAMED, TOKEN) + END;
    expect(swapped(text, undefined, type).out).toBe(text.replace(TOKEN, RAW));
  });

  it('reads a boundary of any bytes', () => {
    const text = (part(NAMED, TOKEN) + END).replaceAll('B-7', "--'()+_,-./:=? x");
    expect(swapped(text, undefined, `multipart/form-data; boundary="--'()+_,-./:=? x"`).out).toBe(text.replace(TOKEN, RAW));
  });
});

describe('what stays', () => {
  it.each([
    ['free text', part('form-data; name="note"', TOKEN) + END, 'body:note'],
    ['a file', part(`${NAMED}; filename="x.txt"`, TOKEN) + END, 'body:token'],
    ['a file with an encoded name', part(`${NAMED}; filename*=UTF-8''x`, TOKEN) + END, 'body:token'],
    ['a part that says twice what it is called', part(`${NAMED}; name="note"`, TOKEN) + END, 'body'],
    ['a part with two names', part(NAMED, TOKEN, 'Content-Disposition: form-data; name="note"') + END, 'body'],
    ['a name in two spellings', part(`${NAMED}; name*=UTF-8''note`, TOKEN) + END, 'body'],
    ['a folded line', part('form-data;\r\n name="token"', TOKEN) + END, 'body'],
    ['a name cut by a line feed', part('form-data; name="token"\n; x=y', TOKEN) + END, 'body'],
    ['another disposition', part('attachment; name="token"', TOKEN) + END, 'body'],
    ['form-data with something behind', part('form-data; name="token" x', TOKEN) + END, 'body'],
    ['no disposition', `--B-7\r\nX: y\r\n\r\n${TOKEN}\r\n${END}`, 'body'],
    ['no head', `--B-7\r\n\r\n${TOKEN}\r\n${END}`, 'body'],
    ['a head', `--B-7\r\nX-Token: ${TOKEN}\r\n\r\nx\r\n${END}`, 'body'],
    ['a preamble', `token=${TOKEN}\r\n${END}`, 'body'],
    ['an epilogue', `${part(NAMED, 'x')}${END}${part(NAMED, TOKEN)}`, 'body'],
    ['a delimiter that is only the start of one', part('form-data; name="a"', 'x') + part(NAMED, TOKEN).replace('--B-7', '--B-77'), 'body'],
    ['a delimiter that ends a line but starts none', part('form-data; name="a"', `x${part(NAMED, TOKEN)}`) + END, 'body:a'],
    ['behind a head with a delimiter right behind it', part(NAMED, '').replace(/\r\n$/, '') + part(NAMED, TOKEN), 'body'],
    ['behind a bare line feed and a delimiter at the start', `\n${part(NAMED, TOKEN)}`, 'body'],
    ['behind two line feeds and a delimiter', part('form-data; name="a"', `\r\n\n${part(NAMED, TOKEN)}`), 'body'],
    ['behind a bare line feed and a delimiter', part(NAMED, `x\n${part('form-data; name="note"', TOKEN)}`) + END, 'body'],
  ])('%s', (_, text, slot) => {
    const { out, notes } = swapped(text);
    expect(out).toBe(text);
    expect(notes.swapped).toEqual([]);
    expect(notes.left).toMatchObject([{ slot, reason: 'slot' }]);
  });

  it.each(['', '\r\n', '--B-7', '--B-7--', '--B-7\r\n', '\r\n--B-7\r\n\r\n\r\n--B-7', '\n\n\r\r\n', '\0'.repeat(100)])('%j', (text) => {
    expect(swapped(text).out).toBe(text);
  });

  it('everything, when the content type has no boundary, or two', () => {
    const text = part(NAMED, TOKEN) + END;
    for (const type of ['multipart/form-data', 'multipart/form-data; boundary=', `${TYPE}; boundary=B-7`]) {
      expect(swapped(text, undefined, type).out).toBe(text);
    }
  });

  it('everything behind a head without an end', () => {
    const notes = new SwapNotes();
    const body = new Swap(tableOf({ value: VALUE }), HOST, 443).body(TYPE, notes);
    const text = `--B-7\r\n${'X: y\r\n'.repeat(4000)}Content-Disposition: ${NAMED}\r\n\r\n${TOKEN}`;
    expect(body?.push(Buffer.from(text)).toString()).toBe(text);
    expect(notes.left).toHaveLength(1);
  });

  it('a field whose length was announced, unless the value is as long', () => {
    const text = part(NAMED, TOKEN, `Content-Length: ${String(TOKEN.length)}`) + END;
    expect(swapped(text).notes.left).toMatchObject([{ where: 'body token', reason: 'encoding' }]);
    const value = 'CANARY'.padEnd(TOKEN.length, '-');
    const body = () => new Swap(tableOf({ value }), HOST, 443).body(TYPE, new SwapNotes());
    expect(throughEveryCut(body, text)).toBe(text.replace(TOKEN, value));
  });
});

describe('a secret with a list of its own', () => {
  it.each([
    ['body:a.b', part('form-data; name="a.b"', TOKEN)],
    ['body:upload', part('form-data; name="upload"; filename="x"', TOKEN)],
    ['body', part('form-data; name="upload"; filename="x"', TOKEN)],
    ['body', `preamble ${TOKEN}\r\n`],
  ])('%s swaps %j', (slot, text) => {
    expect(swapped(text, [slot]).out).toBe(text.replace(TOKEN, RAW));
  });

  it('writes nothing into the head of a part', () => {
    const text = part(`form-data; name="${TOKEN}"`, 'x');
    expect(swapped(text, ['body'])).toMatchObject({ out: text, notes: { left: [{ reason: 'encoding' }] } });
  });
});

it('passes binary files at once', () => {
  const file = Buffer.alloc(1 << 20, Buffer.from([0, 13, 10, 45, 45, 66, 255]));
  const body = new Swap(tableOf({ value: VALUE }), HOST, 443).body(TYPE, new SwapNotes());
  body?.push(Buffer.from(part('form-data; name="f"; filename="f"', '').slice(0, -2)));
  expect(body?.push(file)).toBe(file);
  expect(body?.push(Buffer.from(`\r\n${part(NAMED, TOKEN)}`)).toString('latin1')).toContain(RAW);
});
