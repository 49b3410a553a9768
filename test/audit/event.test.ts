import { describe, expect, it } from 'vitest';
import { eventLine, type AuditEvent } from '../../src/audit/event.ts';
import type { Secret } from '../../src/core/secret.ts';
import { exchange } from './samples.ts';

/** True when a Secret may stand anywhere in T; checked by tsc. */
type MayHold<T> = Secret extends T
  ? true
  : T extends string | number | boolean | null
    ? false
    : true extends { [K in keyof T]: MayHold<T[K]> }[keyof T]
      ? true
      : false;
type ArraysOf<T> = T extends readonly (infer Item)[] ? ArraysOf<Item> : T extends object ? { [K in keyof T]: ArraysOf<T[K]> } : T;

const same = (text: string): string => text;

it('has no field for a Secret', () => {
  const mayHold: MayHold<ArraysOf<AuditEvent>> = false;
  const control: MayHold<ArraysOf<{ readonly list: readonly { readonly value: Secret }[] }>> = true;
  expect([mayHold, control]).toEqual([false, true]);
});

describe('the line of an event', () => {
  it('is what went in, as one line of JSON', () => {
    const event = exchange();
    const line = eventLine(event, same);
    expect(line.endsWith('\n')).toBe(true);
    expect(line.indexOf('\n')).toBe(line.length - 1);
    expect(JSON.parse(line)).toEqual(event);
  });

  it('is ASCII, whatever the text is', () => {
    const event = exchange({ path: '/\u009b2J\u202e\u007f\u001b[31m\n\u00e9\u{1f511}' });
    const line = eventLine(event, same);
    expect(/^[\x20-\x7e]+\n$/.test(line)).toBe(true);
    expect(JSON.parse(line)).toEqual(event);
  });

  it('has no more than 2048 characters of the path', () => {
    const line = eventLine(exchange({ path: `/${'x'.repeat(5000)}` }), same);
    expect(JSON.parse(line)).toMatchObject({ path: `/${'x'.repeat(2047)}` });
  });

  it('holds no value, wherever the traffic put it, and no part of one at the cut', () => {
    const canary = 'CANARY-5f1c9a3e77d2';
    const remask = (text: string): string => text.replaceAll(canary, 'kz_masked_1');
    const events: AuditEvent[] = [
      exchange({ path: `/${'x'.repeat(2040)}${canary}` }),
      exchange({
        method: canary,
        host: `${canary}.example`,
        swapped: [{ name: 'A', where: `query ${canary}` }],
        left: [{ name: 'A', where: `header ${canary}`, reason: 'slot', allow: `swap = ["header:${canary}"]` }],
      }),
      { type: 'refused', time: '2026-11-21T07:55:54.201Z', why: 'malformed', host: canary, port: 443 },
    ];
    for (const event of events) expect(eventLine(event, remask)).not.toContain('CANARY');
  });
});

it('remasks the scope of a secret whose value is the host of a URL', () => {
  const canary = 'canary-0123456789ab';
  const started: AuditEvent = {
    type: 'run-started',
    schema_version: 1,
    time: '2026-11-21T00:00:00.000Z',
    run: 'a',
    pid: 1,
    version: '0.1.0',
    command: 'sh',
    config: [],
    secrets: [{ name: 'A', scope: [canary], scope_from: 'url', exposed: false }],
    rules: 0,
  };
  const line = eventLine(started, (text) => text.replaceAll(canary, '[A]'));
  expect(JSON.parse(line)).toMatchObject({ secrets: [{ name: 'A', scope: ['[A]'] }] });
});
