// What `kz audit` advises below an exchange.
import { describe, expect, it } from 'vitest';
import type { Exchange } from '../../src/audit/event.ts';
import { AuditView } from '../../src/cli/audit-view.ts';
import { BLOCKED, exchange, STARTED } from '../audit/samples.ts';

const RULE = ['[[blind.connections]]', 'allow = true', 'host = "evil.example"'];
const ALL = ['[[blind.connections]]', 'allow = true', 'host = "*"'];

/** The lines below the first, without their indentation. */
function advice(facts: Partial<Exchange>, rules = 1): string[] {
  const view = new AuditView({ targetWidth: 0, onlyBlocked: false });
  view.lines({ type: 'run-started', schema_version: 1, time: '2026-11-21T07:55:54.123Z', run: 'ab12cd34', pid: 1, ...STARTED, rules });
  return view
    .lines(exchange({ swapped: [], ...facts }))
    .slice(1)
    .map((line) => line.trim());
}

describe('a private address', () => {
  const forbidden: Partial<Exchange> = { ...BLOCKED, why: 'address-forbidden' };

  it('is allowed above the rule that names nobody', () => {
    expect(advice(forbidden)).toEqual(['to allow it, add above /home/me/app/.keyzero.toml:14:', ...RULE]);
  });

  it('is allowed by the first rule, with one for all else', () => {
    expect(advice({ ...forbidden, rule: null }, 0)).toEqual([
      'to allow it, add:',
      ...RULE,
      'and last, to go on allowing all else:',
      ...ALL,
    ]);
  });
});

it('a certificate that is not trusted comes with upstream_ca', () => {
  expect(advice({ status: 502, error: 'tls' })).toEqual([
    'if you know who signed its certificate, add theirs: [blind] upstream_ca = "their-ca.pem"',
  ]);
});

it('a token that is not swapped says whether plain http is the reason', () => {
  const left = [{ name: 'A', where: 'header authorization', reason: 'host', allow: 'hosts = ["a.example:80"]' }] as const;
  expect(advice({ left, tls: false, port: 80 })).toEqual([
    'A not swapped in header authorization: the host is outside its scope for plain http://; to allow it: hosts = ["a.example:80"]',
  ]);
  expect(advice({ left })[0]).toContain(': the host is outside its scope; ');
});
