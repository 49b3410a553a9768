// What `kz audit` advises below an exchange.
import { describe, expect, it } from 'vitest';
import type { Exchange, Refused } from '../../src/audit/event.ts';
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

describe('a refused connection of the sandbox', () => {
  const lines = (facts: Pick<Refused, 'why' | 'host' | 'port'>): string[] =>
    new AuditView({ targetWidth: 0, onlyBlocked: false })
      .lines({ type: 'refused', time: 'now', ...facts })
      .map((line) => line.trim().replace(/^-\s+refused\s+-\s+/, ''));

  it('for its name comes with the rule that would allow it', () => {
    expect(lines({ why: 'denied-name', host: 'evil.example', port: null })).toEqual([
      'evil.example  no rule allows this host: its name does not exist for the program',
      'to allow it, add above what denies it:',
      ...RULE,
    ]);
    expect(lines({ why: 'denied-name', host: null, port: null })).toEqual(['-  further names that no rule allows']);
  });

  it('for its port of this machine comes with the line that would allow it', () => {
    expect(lines({ why: 'closed-loopback', host: '127.0.0.1', port: 5432 })).toEqual([
      '127.0.0.1:5432  a port of this machine that allow_loopback does not list',
      'to allow it: [blind.sandbox] allow_loopback = [5432]',
    ]);
  });

  it('may be the first of those that are not listed', () => {
    for (const why of ['closed-loopback', 'unknown-address'] as const) {
      expect(lines({ why, host: null, port: null })).toEqual(['-  further connections that the sandbox does not let out']);
    }
  });

  it('for an address of no name has nothing to advise', () => {
    expect(lines({ why: 'unknown-address', host: '198.18.9.9', port: 443 })).toEqual([
      '198.18.9.9:443  an address that stands for no name',
    ]);
  });
});
