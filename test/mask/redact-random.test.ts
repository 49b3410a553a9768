import { describe, expect, it } from 'vitest';
import { Secret } from '../../src/core/secret.ts';
import { Redactor, RedactionSet } from '../../src/mask/redact.ts';

function setOf(values: Readonly<Record<string, string>>): RedactionSet {
  return new RedactionSet(Object.entries(values).map(([name, value]) => ({ name, secret: new Secret(value) })));
}

function streamed(set: RedactionSet, chunks: readonly Buffer[]): Buffer {
  const redactor = new Redactor(set);
  return Buffer.concat([...chunks.map((chunk) => redactor.push(chunk)), redactor.end()]);
}

/** The oracle for messages: every string in them, keys too. */
function deepReplace(value: unknown, replace: (text: string) => string): unknown {
  if (typeof value === 'string') return replace(value);
  if (Array.isArray(value)) return value.map((each) => deepReplace(each, replace));
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, each]) => [replace(key), deepReplace(each, replace)]));
}

describe('random streams', () => {
  it('have the same outcome in one piece and in random pieces, and hold no value', () => {
    const random = seeded(20);
    const values = {
      A: 'CANARY-a/"\\é',
      B: 'ANARY-a/',
      URL: 'redis://:CANARYpw@h/0',
      LINES: 'CANARY\n{"a":1}\nCANARY',
      DOC: '{"CANARY":"b"}',
    };
    const set = setOf(values);
    const pieces = [
      ...Object.values(values),
      ...Object.values(values).map((value) => JSON.stringify({ v: value, n: 12345678 })),
      ...Object.values(values).map((value) => JSON.stringify({ [JSON.stringify(value)]: [Buffer.from(value).toString('base64')] })),
      ...[
        '\n',
        '\n',
        '\r\n',
        ' ',
        '{',
        '[',
        '{"',
        '"}',
        '}',
        '\\',
        '\\u0041',
        ':',
        'x',
        'https://u:',
        'p@',
        'CANARY',
        'CANARY\n',
        '[INFO] ',
        '{"a":1}',
        '\0',
        'é',
      ],
    ];
    for (let turn = 0; turn < 3000; turn += 1) {
      const bytes = Buffer.from(Array.from({ length: 1 + random(12) }, () => pieces[random(pieces.length)]).join(''));
      const chunks: Buffer[] = [];
      for (let at = 0; at < bytes.length;) chunks.push(bytes.subarray(at, (at += 1 + random(random(3) === 0 ? 40 : 4))));
      const whole = streamed(set, [bytes]).toString();
      expect(streamed(set, chunks).toString(), JSON.stringify(bytes.toString())).toBe(whole);
      for (const value of [...Object.values(values), 'CANARYpw']) expect(whole, JSON.stringify(bytes.toString())).not.toContain(value);
    }
  });

  it('of messages are streams of messages', () => {
    const random = seeded(7);
    const value = 'CANARY-"\\\n€😀';
    const set = setOf({ V: value });
    const words = [value, 'x', '\\', '"', '\n', '€', '😀', '\ud83d', JSON.stringify(value).slice(1, -1)];
    const text = () => Array.from({ length: random(6) }, () => words[random(words.length)]).join('');
    for (let turn = 0; turn < 500; turn += 1) {
      const messages = Array.from({ length: 1 + random(4) }, () => ({
        id: random(1e9),
        [`k${text()}`]: [text(), { n: random(1e9) / 7, s: text() }],
      }));
      const bytes = Buffer.from(messages.map((message) => `${JSON.stringify(message)}\n`).join(''));
      const chunks: Buffer[] = [];
      for (let at = 0; at < bytes.length;) chunks.push(bytes.subarray(at, (at += 1 + random(30))));
      const lines = streamed(set, chunks).toString().trimEnd().split('\n');
      const twice = JSON.stringify(value).slice(1, -1);
      const hide = (each: string) => each.replaceAll(value, '[redacted:V]').replaceAll(twice, '[redacted:V]');
      expect(lines.map((line) => JSON.parse(line) as unknown)).toEqual(messages.map((message) => deepReplace(message, hide)));
    }
  });
});

/** Park and Miller's generator: the same numbers in every run. */
function seeded(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (state * 48_271) % 2_147_483_647;
    return state % below;
  };
}
