import { describe, expect, it } from 'vitest';
import { decisionLine, type Decision } from '../../src/audit/decision.ts';
import { decision } from './decision-samples.ts';

function stored(more: Partial<Decision>): unknown {
  const line = decisionLine(decision(more));
  expect(line.endsWith('\n')).toBe(true);
  expect(line.slice(0, -1)).toMatch(/^[\x20-\x7e]+$/);
  return JSON.parse(line);
}

describe('the line of a decision', () => {
  it('is the event as JSON', () => {
    expect(stored({})).toEqual(decision());
    expect(stored({ tool: null, ref: null, path: null, status: null })).toEqual(
      decision({ tool: null, ref: null, path: null, status: null }),
    );
  });

  it('begins with what a person looks for first, however it was put together', () => {
    const { type, time, id, ...rest } = decision();
    const keys = Object.keys(JSON.parse(decisionLine({ ...rest, id, time, type })) as object);
    expect(keys.slice(0, 7)).toEqual(['type', 'time', 'id', 'face', 'tool', 'outcome', 'code']);
    expect(keys).toHaveLength(Object.keys(decision()).length);
  });

  it('is one line of ASCII, whatever a caller is called', () => {
    const sub = 'a\nb\r\u001b[2Jc\u007f\u009b\u2028é\u{1f600}\ud800"\\';
    expect(stored({ sub })).toEqual(decision({ sub }));
  });

  it('cuts what comes from outside', () => {
    const long = 'x'.repeat(5000);
    const fields = ['iss', 'sub', 'jti', 'resolver', 'host', 'method', 'path', 'policy'] as const;
    const event = stored({ ...Object.fromEntries(fields.map((field) => [field, long])), ref: long });
    for (const field of fields) expect(event).toHaveProperty(field, 'x'.repeat(256));
    expect(event).toHaveProperty('ref', 'x'.repeat(512));
  });

  it('never holds a query or a fragment', () => {
    expect(stored({ path: '/a/b?token=CANARY-q#x' })).toHaveProperty('path', '/a/b');
    expect(stored({ path: '/a\n?token=\nCANARY-q' })).toHaveProperty('path', '/a\n');
    expect(stored({ path: '/a#CANARY' })).toHaveProperty('path', '/a');
  });

  it('of the other events is whole', () => {
    const bundle = `/srv/${'x'.repeat(400)}/bundle.yaml`;
    const event = {
      type: 'server-started',
      schema_version: 1,
      time: '2026-11-21T07:55:54.123Z',
      server: '0a1b2c3d',
      pid: 1,
      version: '1.2.3',
      bundle,
      bundle_version: '1',
      bundle_sha256: 'ab',
    } as const;
    expect(JSON.parse(decisionLine(event))).toEqual(event);
  });
});
