import { randomBytes } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { Secret } from '../../src/core/secret.ts';
import { Redactor, RedactionSet } from '../../src/mask/redact.ts';

function canary(): string {
  return `CANARY-${randomBytes(9).toString('base64url')}`;
}

function setOf(values: Readonly<Record<string, string>>): RedactionSet {
  return new RedactionSet(Object.entries(values).map(([name, value]) => ({ name, secret: new Secret(value) })));
}

function streamed(set: RedactionSet, chunks: readonly Buffer[]): Buffer {
  const redactor = new Redactor(set);
  return Buffer.concat([...chunks.map((chunk) => redactor.push(chunk)), redactor.end()]);
}

/** Whole, cut in two at every byte, byte by byte. */
function expectAlways(set: RedactionSet, text: string | Buffer, expected: string | Buffer): void {
  const bytes = Buffer.from(text);
  const chunkings = [
    [bytes],
    Array.from(bytes, (byte) => Buffer.of(byte)),
    ...Array.from(bytes, (_, at) => [bytes.subarray(0, at), bytes.subarray(at)]),
  ];
  const outcomes = new Set(chunkings.map((chunks) => streamed(set, chunks).toString('latin1')));
  expect(Array.from(outcomes, (each) => Buffer.from(each, 'latin1').toString())).toEqual([Buffer.from(expected).toString()]);
}

/** The oracle for messages: every string in them, keys too. */
function deepReplace(value: unknown, replace: (text: string) => string): unknown {
  if (typeof value === 'string') return replace(value);
  if (Array.isArray(value)) return value.map((each) => deepReplace(each, replace));
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, each]) => [replace(key), deepReplace(each, replace)]));
}

describe('text', () => {
  const value = canary();
  const set = setOf({ API_KEY: value });

  it.each([
    [value, '[redacted:API_KEY]'],
    [`a ${value} b\r\n${value}`, 'a [redacted:API_KEY] b\r\n[redacted:API_KEY]'],
    [`${value}${value}\n\n`, '[redacted:API_KEY][redacted:API_KEY]\n\n'],
    [`[INFO] key=${value}\n[WARN] {"k":"${value}"}\n`, '[INFO] key=[redacted:API_KEY]\n[WARN] {"k":"[redacted:API_KEY]"}\n'],
    [`C:\\n${value}\\`, 'C:\\n[redacted:API_KEY]\\'],
    [`${value.slice(0, -1)} ${value.slice(1)}`, `${value.slice(0, -1)} ${value.slice(1)}`],
    [Buffer.from(value).toString('hex'), Buffer.from('[redacted:API_KEY]').toString('hex')],
    [`{\n  "key": "${value}",\n  "n": 1\n}\n`, '{\n  "key": "[redacted:API_KEY]",\n  "n": 1\n}\n'],
    [`{ "key": "${value}",\n  "n": 1 }\n`, '{ "key": "[redacted:API_KEY]",\n  "n": 1 }\n'],
    [`{"key": NaN, "v":"${value}"} ${value}\n`, '{"key": NaN, "v":"[redacted:API_KEY]"} [redacted:API_KEY]\n'],
    [`["${value}",1]\n[`, '["[redacted:API_KEY]",1]\n['],
  ])('hides the value in %j', (text, expected) => {
    expectAlways(set, text, expected);
  });

  it.each([0, 1, 2])('hides it in base64, %i bytes behind its start', (before) => {
    const text = `${'x'.repeat(before)}${value}${'y'.repeat(3)}`;
    const bytes = Buffer.from(`Basic ${Buffer.from(text).toString('base64')}\n`);
    const out = streamed(
      set,
      Array.from(bytes, (byte) => Buffer.of(byte)),
    ).toString();
    expect(out).toBe(streamed(set, [bytes]).toString());
    expect(Buffer.from(out.slice(6), 'base64').toString('latin1')).toContain('[redacted:API_KEY]');
    expect(Buffer.from(out.slice(6), 'base64').toString('latin1')).not.toContain('CANARY');
  });

  it('keeps what is no text', () => {
    const noise = Buffer.from('\xff\xfe\0\x80\r\r\n\xe2\x82', 'latin1');
    expectAlways(set, Buffer.concat([noise, Buffer.from(value), noise]), Buffer.concat([noise, Buffer.from('[redacted:API_KEY]'), noise]));
    const all = Buffer.from(Array.from({ length: 4096 }, (_, at) => (at * 7) % 256));
    expect(streamed(set, [all])).toEqual(all);
  });

  it('takes the longest of values that start together and the first of those that overlap', () => {
    const both = setOf({ SHORT: 'CANARY-abcd', LONG: 'CANARY-abcd-efgh', OVER: 'efgh-ijkl', TWIN: 'CANARY-abcd' });
    expectAlways(
      both,
      'CANARY-abcd CANARY-abcd-efgh-ijkl efgh-ijkl CANARY-abcd-ef',
      '[redacted:SHORT] [redacted:LONG]-ijkl [redacted:OVER] [redacted:SHORT]-ef',
    );
  });

  it('does not search for values under 8 bytes', () => {
    expectAlways(setOf({ PIN: '1234567' }), '1234567 {"a":"1234567"}\n{"a":"1234567"}', '1234567 {"a":"1234567"}\n{"a":"1234567"}');
  });

  it('hides a value of several lines, also where one of them looks like JSON', () => {
    const lines = 'CANARY-1\n{"a":"b"}\n [{"c":1}]\nCANARY-2';
    const several = setOf({ LINES: lines, NEWLINE_FIRST: '-\nCANARY-3' });
    expectAlways(several, `x${lines}\n{"v":"CANARY-1"}\n`, 'x[redacted:LINES]\n{"v":"CANARY-1"}\n');
    expectAlways(several, `CANARY-1\n${JSON.stringify({ v: lines })}\n`, 'CANARY-1\n{"v":"[redacted:LINES]"}\n');
    expectAlways(several, lines.slice(0, -1), lines.slice(0, -1));
  });

  it('leaves the line its newline when the value ends in one', () => {
    expectAlways(
      setOf({ FILE: 'CANARY-file\n' }),
      'CANARY-file\n{"a":"CANARY-file\\n"}\n',
      '[redacted:FILE]\n{"a":"[redacted:FILE]\\n"}\n',
    );
  });
});

describe('JSON lines', () => {
  const tricky = 'nCANARY"\\\n\t/é😀<&>';
  const set = setOf({ TRICKY: tricky, NUMBER: '12345678' });
  const hide = (text: string) => text.replaceAll(tricky, '[redacted:TRICKY]').replaceAll('12345678', '[redacted:NUMBER]');

  const MESSAGES: readonly unknown[] = [
    { jsonrpc: '2.0', id: 12345678, method: 'ping' },
    { jsonrpc: '2.0', id: '12345678', result: { n: [12345678, 1.5, -7], s: 'x12345678y', t: true, z: null } },
    { jsonrpc: '2.0', id: 1, error: { code: -32000, message: `cannot use ${tricky}`, data: { [tricky]: tricky, e: {} } } },
    [{ jsonrpc: '2.0', id: 1 }, { result: [tricky, [tricky]] }],
    { text: 'Zürich 東京 😀 \u2028', n: 1 },
  ];

  it.each(MESSAGES)('are as if the strings in them had been replaced: message %#', (message) => {
    const line = JSON.stringify(message);
    const expected = JSON.stringify(deepReplace(message, hide));
    expectAlways(set, `${line}\n`, `${expected}\n`);
    expectAlways(set, `starting\r\n  ${line}\r\n${line}\n`, `starting\r\n  ${expected}\r\n${expected}\n`);
    expectAlways(set, line, expected);
  });

  it.each(MESSAGES)('are the same structure however they are escaped: message %#', (message) => {
    const ascii = JSON.stringify(message).replace(/[/\u007f-\uffff]/g, (unit) =>
      unit === '/' ? '\\/' : `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`,
    );
    const out = streamed(set, [Buffer.from(`${ascii}\n`)]).toString();
    expectAlways(set, ascii, out.slice(0, -1));
    expect(JSON.parse(out)).toEqual(deepReplace(message, hide));
  });

  it('hold JSON that holds JSON', () => {
    const inner = JSON.stringify({ v: tricky, deeper: JSON.stringify({ v: tricky }) });
    const out = streamed(set, [Buffer.from(`${JSON.stringify({ content: [{ type: 'text', text: inner }] })}\n`)]).toString();
    const text = (JSON.parse(out) as { content: [{ text: string }] }).content[0].text;
    const parsed = JSON.parse(text) as { v: string; deeper: string };
    expect([parsed.v, JSON.parse(parsed.deeper)]).toEqual(['[redacted:TRICKY]', { v: '[redacted:TRICKY]' }]);
  });

  it('keep everything around a string that changed', () => {
    const around = '"id" : 12345678 , "f":1.50E+3,"dup":1,"dup":2,"u":"\\u00e9\\/\\ud83d\\ude00" ';
    expectAlways(set, `{ ${around}, "v":"\\u0031\\u0032345678", ${around}}\r\n`, `{ ${around}, "v":"[redacted:NUMBER]", ${around}}\r\n`);
  });

  it('are not changed where a value starts inside an escape', () => {
    const plain = setOf({ A: 'nabcdefgh', B: 'u0041abcd' });
    expectAlways(
      plain,
      '{"a":"\\nabcdefgh","b":"\\u0041abcd","c":"\\\\nabcdefgh"}\n',
      '{"a":"\\nabcdefgh","b":"\\u0041abcd","c":"\\\\[redacted:A]"}\n',
    );
  });

  it('need no newline behind them, and may stand one behind the other', () => {
    const message = '{"v":"x12345678"}';
    const redactor = new Redactor(set);
    expect(redactor.push(Buffer.from(`Content-Length: 17\r\n\r\n${message}`)).toString()).toBe(
      'Content-Length: 17\r\n\r\n{"v":"x[redacted:NUMBER]"}',
    );
    expectAlways(
      set,
      `${message}${message} {"id":12345678}\n{"id":12345678} 12345678 {"id":1}`,
      '{"v":"x[redacted:NUMBER]"}{"v":"x[redacted:NUMBER]"} {"id":12345678}\n{"id":12345678} [redacted:NUMBER] {"id":1}',
    );
  });

  it('have a string where a document stood', () => {
    const document = { type: 'service_account', private_key: '-----BEGIN PRIVATE KEY-----\nCANARY\n-----END PRIVATE KEY-----\n', n: 1 };
    const compact = JSON.stringify(document);
    const pretty = `${JSON.stringify(document, null, 2)}\n`;
    for (const value of [compact, pretty]) {
      const key = setOf({ SA: value });
      expectAlways(key, `${compact}\n`, '"[redacted:SA]"\n');
      expectAlways(key, `{"id":1,"a":[${compact}, 2]}\n`, '{"id":1,"a":["[redacted:SA]", 2]}\n');
      expectAlways(key, `${JSON.stringify({ a: compact })}\n`, '{"a":"[redacted:SA]"}\n');
      expectAlways(key, `x ${JSON.stringify(document.private_key)}\n`, 'x "[redacted:SA]"\n');
      expectAlways(
        key,
        `${JSON.stringify({ n: 1, type: 'service_account', private_key: document.private_key })}\n`,
        '{"n":1,"type":"service_account","private_key":"[redacted:SA]"}\n',
      );
    }
    expectAlways(setOf({ SA: pretty }), `was:\n${pretty}`, 'was:\n[redacted:SA]\n');
  });

  it('may be a mebibyte long', () => {
    const message = { filler: Array.from({ length: 20_000 }, (_, at) => `${String(at)} ${'x'.repeat(40)}`), v: tricky };
    const bytes = Buffer.from(`${JSON.stringify(message)}\n`);
    const chunks = Array.from({ length: Math.ceil(bytes.length / 65_536) }, (_, at) => bytes.subarray(at * 65_536, (at + 1) * 65_536));
    expect(JSON.parse(streamed(set, chunks).toString())).toEqual(deepReplace(message, hide));
  });

  it('are text when they are longer than 16 MiB', () => {
    const filler = 'x'.repeat(16 * 1024 * 1024);
    const line = (length: number) => `{"id":12345678,"v":"12345678","f":"${filler.slice(0, length)}"}`;
    const fits = line(16 * 1024 * 1024 - line(0).length);
    expect(fits).toHaveLength(16 * 1024 * 1024);
    const tooLong = fits.replace('"f":"', '"f":"x');
    for (const size of [1 << 16, 1 << 30]) {
      const parts = [`${fits}\n${tooLong}{"id":12345678}\n`, '{"id":12345678}\n'].join('');
      const bytes = Buffer.from(parts);
      const chunks = Array.from({ length: Math.ceil(bytes.length / size) }, (_, at) => bytes.subarray(at * size, (at + 1) * size));
      const out = streamed(set, chunks).toString().replaceAll(filler.slice(0, 4096), '').replace(/x+/g, 'x');
      expect(out).toBe(
        [
          '{"id":12345678,"v":"[redacted:NUMBER]","f":"x"}\n',
          '{"id":[redacted:NUMBER],"v":"[redacted:NUMBER]","f":"x"}{"id":[redacted:NUMBER]}\n{"id":12345678}\n',
        ].join(''),
      );
    }
  });
});

describe('connection strings', () => {
  const set = setOf({ DATABASE_URL: 'postgres://app:CANARY-p%40ss@db.example.net:5432/app' });

  it('are hidden whole, and the password by itself', () => {
    expectAlways(
      set,
      'postgres://app:CANARY-p%40ss@db.example.net:5432/app\nCANARY-p@ss postgres://app:CANARY-p@ss@db\n',
      '[redacted:DATABASE_URL]\n[redacted:DATABASE_URL] postgres://app:[redacted:DATABASE_URL]@db\n',
    );
  });

  it('are hidden whole only, when the password is a word that stands elsewhere in them', () => {
    const url = 'postgres://postgres:postgres@localhost/postgres';
    expectAlways(setOf({ URL: url }), `${url} postgres is up: ${url}2\n`, '[redacted:URL] postgres is up: [redacted:URL]2\n');
  });

  it('have no password when kz did not resolve them either', () => {
    const message = (password: string) =>
      JSON.stringify({ jsonrpc: '2.0', id: 7, error: { message: `auth failed for "mysql://root:${password}@h/db"` } });
    expectAlways(set, `${message('CANARY-x')}\n`, `${message('[redacted]')}\n`);
    expectAlways(new RedactionSet([]), `${message('CANARY-x')}\nredis://:CANARY@h`, `${message('[redacted]')}\nredis://:[redacted]@h`);
    expectAlways(
      set,
      '{"a":"redis:\\/\\/:CANARY@h","b":"\\u0072edis://:CANARY\\u0040h"}\n',
      '{"a":"redis://:[redacted]@h","b":"redis://:[redacted]@h"}\n',
    );
  });

  it('have no password when their slashes are escaped', () => {
    expectAlways(set, '{"a":"redis:\\/\\/:CANARY@h"}\n', '{"a":"redis://:[redacted]@h"}\n');
  });

  it('do not reach from text into a line of JSON', () => {
    expectAlways(set, 'http://host:80\n{"a":"b@c","d":"http://h:80/@x"}\n', 'http://host:80\n{"a":"b@c","d":"http://h:80/@x"}\n');
  });
});

describe('a rotation', () => {
  it('hides the old value and the new one, also in what is held back', () => {
    const [before, after] = [canary(), canary()];
    const first = setOf({ KEY: before });
    const second = first.with([{ name: 'KEY', secret: new Secret(after) }]);
    const redactor = new Redactor(first);
    const out = [redactor.push(Buffer.from(`${before} {"a":1}\n{"v":"${after}`)), redactor.push(Buffer.from(` ${before.slice(0, 5)}`))];
    redactor.use(second);
    out.push(redactor.push(Buffer.from(`${before.slice(5)}"}\n${before} ${after} ${after.slice(0, 9)}`)));
    redactor.use(second);
    out.push(redactor.push(Buffer.from(after.slice(9))), redactor.end());
    expect(Buffer.concat(out).toString()).toBe(
      '[redacted:KEY] {"a":1}\n{"v":"[redacted:KEY] [redacted:KEY]"}\n[redacted:KEY] [redacted:KEY] [redacted:KEY]',
    );
    expect(streamed(first, [Buffer.from(after)]).toString()).toBe(after);
    expect(second.with([{ name: 'KEY', secret: new Secret(before) }])).toBe(second);
  });

  it('may come before there was anything to hide', () => {
    const value = canary();
    const redactor = new Redactor(new RedactionSet([]));
    redactor.push(Buffer.from('text '));
    redactor.use(setOf({ KEY: value }));
    expect(redactor.push(Buffer.from(`${value}\n`)).toString()).toBe('[redacted:KEY]\n');
  });
});

describe('what is held back', () => {
  const set = setOf({ KEY: 'CANARY-held-back' });

  it('is what may still become a match', () => {
    const redactor = new Redactor(set);
    expect(redactor.push(Buffer.from('Password: ')).toString()).toBe('Password: ');
    expect(redactor.push(Buffer.from('a CANARY-he')).toString()).toBe('a ');
    expect(redactor.push(Buffer.from('ll\n[')).toString()).toBe('CANARY-hell\n');
    expect(redactor.push(Buffer.from('1] > ')).toString()).toBe('[1] > ');
    expect(redactor.push(Buffer.from('\n{"a"')).toString()).toBe('\n');
    expect(redactor.end().toString()).toBe('{"a"');
  });

  it('is nothing when there is nothing: the chunk itself comes back', () => {
    const redactor = new Redactor(set);
    for (const text of ['text\n', '[INFO] text\n{"id":1}\n{"id":2,"s":"x"}\nmore', ' of it\n', '{"a":"\\u0041"}\n', '']) {
      const chunk = Buffer.from(text);
      expect(redactor.push(chunk)).toBe(chunk);
    }
    expect(redactor.end()).toHaveLength(0);
  });
});
