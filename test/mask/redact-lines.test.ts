// Values of several lines, values that begin like a line of JSON, and many values one after the other.
import { inspect } from 'node:util';
import { describe, expect, it } from 'vitest';
import { Secret } from '../../src/core/secret.ts';
import { Redactor, RedactionSet } from '../../src/mask/redact.ts';

function setOf(values: Readonly<Record<string, string>>): RedactionSet {
  return new RedactionSet(Object.entries(values).map(([name, value]) => ({ name, secret: new Secret(value) })));
}

/** Whole, and byte by byte. */
function expectHidden(set: RedactionSet, text: string, expected: string): void {
  for (const chunks of [[Buffer.from(text)], Array.from(Buffer.from(text), (byte) => Buffer.of(byte))]) {
    const redactor = new Redactor(set);
    expect(Buffer.concat([...chunks.map((chunk) => redactor.push(chunk)), redactor.end()]).toString()).toBe(expected);
  }
}

const LINES = ['MIICANARY2gkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7', 'VJTUt9Us8cKjMzEfYyjiWA4R4/M2bS1GB4t7NXpCANARY98C3'];
const KEY = `-----BEGIN PRIVATE KEY-----\n${LINES.join('\n')}\nx==\n-----END PRIVATE KEY-----\n`;
const HIDDEN = KEY.replace(/^.{30,}$/gm, '[redacted:KEY]');

describe('the lines of a key', () => {
  const set = setOf({ KEY });

  it('are hidden together where they stand together', () => {
    expectHidden(set, `a ${KEY}b`, 'a [redacted:KEY]\nb');
  });

  it('are hidden as Node prints an object', () => {
    expectHidden(set, `${inspect({ KEY })}\n`, `${inspect({ KEY: HIDDEN })}\n`);
  });

  it('are hidden behind what a logger puts in front of each, and before other line ends', () => {
    expectHidden(set, KEY.replace(/^/gm, '| '), HIDDEN.replace(/^/gm, '| '));
    expectHidden(set, KEY.replaceAll('\n', '\r\n'), HIDDEN.replaceAll('\n', '\r\n'));
  });

  it('are hidden when the program made newlines of what stands for them', () => {
    const escaped = setOf({ KEY: KEY.trim().replaceAll('\n', String.raw`\n`) });
    expectHidden(escaped, KEY, HIDDEN);
    expectHidden(escaped, KEY.trim().replaceAll('\n', String.raw`\n`), '[redacted:KEY]');
  });

  it('are hidden when the key is in a document', () => {
    expectHidden(
      setOf({ KEY: JSON.stringify({ type: 'service_account', private_key: KEY }) }),
      KEY.replace(/^/gm, '  '),
      HIDDEN.replace(/^/gm, '  '),
    );
  });

  it('are not: words, short lines, and a value of one line', () => {
    const notes = 'first line of the notes\n====================================\nserver: db.internal.example.com\nCANARY-9f2c';
    expectHidden(
      setOf({ NOTES: notes, ONE: LINES.join('') }),
      `${notes.replaceAll('\n', '\n> ')}\n${LINES[0] ?? ''}\n`,
      `${notes.replaceAll('\n', '\n> ')}\n${LINES[0] ?? ''}\n`,
    );
  });
});

describe('a value that begins like a line of JSON', () => {
  it('is hidden when it has several such lines', () => {
    const value = '{"a":"CANARY-1"}\n{"b":"CANARY-2"}\n[{"c":3}]';
    expectHidden(setOf({ LINES: value }), `${value}\n{"a":"CANARY-1"}\n{"id":1}\n`, '[redacted:LINES]\n{"a":"CANARY-1"}\n{"id":1}\n');
  });

  it('is hidden when it goes on in the same line', () => {
    expectHidden(setOf({ TOKEN: '{"kid":1}.CANARY-rest' }), '{"kid":1}.CANARY-rest\n{"kid":1}\n', '[redacted:TOKEN]\n{"kid":1}\n');
  });
});

describe('after many rotations', () => {
  const value = (turn: number): string => `CANARY-${String(turn).padStart(4, '0')}`;

  it('the last values are hidden, and those of other secrets', () => {
    let set = setOf({ OTHER: 'CANARY-other', KEY: value(0) });
    for (let turn = 1; turn <= 100; turn += 1) set = set.with([{ name: 'KEY', secret: new Secret(value(turn)) }]);
    expectHidden(
      set,
      [value(100), value(84), value(83), 'CANARY-other'].join(' '),
      `[redacted:KEY] [redacted:KEY] ${value(83)} [redacted:OTHER]`,
    );
    expect(set.values.list.length).toBeLessThan(18 * 12);
  });
});
