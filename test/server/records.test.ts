import { afterEach, beforeEach, expect, it } from 'vitest';
import type { Compiled } from '../../src/server/compile.ts';
import { Records } from '../../src/server/records.ts';
import { decision } from '../audit/decision-samples.ts';
import { exchange, REFUSED } from './exchange-samples.ts';
import { CALLER } from './http/http-lab.ts';
import { ServeLab } from './serve-lab.ts';

let lab: ServeLab;

beforeEach(() => {
  lab = new ServeLab();
});

afterEach(() => lab.end());

function open(more: Parameters<ServeLab['options']>[0] = {}): Records {
  return Records.open(lab.options(more), { bundle: { file: lab.bundle }, version: '1' } as Compiled, () => 3);
}

it('write a line and count for each decision', async () => {
  const records = open();
  records.decision(decision({ tool: null, policy: null, code: 'jwt-expired', outcome: 'denied' }));
  records.decision(decision());
  records.reloaded({ version: '1', sha256: 'ab' }, 2);
  records.reloaded({ version: '1', sha256: 'cd' }, 0);
  await records.close();
  expect(lab.lines.map(({ type }) => type)).toEqual([
    ...['server-started', 'decision', 'decision', 'bundle-reloaded', 'bundle-reloaded', 'server-ended'],
  ]);
  const text = records.metrics.text();
  expect(text).toContain('kz_decisions_total{face="http",tool="none",outcome="denied",policy=""} 1\n');
  expect(text).toContain('kz_decisions_total{face="http",tool="fetch",outcome="allowed",policy="ci-reads"} 1\n');
  expect(text).toContain('kz_jwt_failures_total{code="jwt-expired"} 1\n');
  expect(text).toMatch(/kz_bundle_reloads_total\{result="failed"\} 1\nkz_bundle_reloads_total\{result="ok"\} 1\n/);
  expect(text).toContain('\nkz_in_flight 3\n');
});

it('write no second line for what the policies were asked about', async () => {
  const records = open();
  const about = { caller: CALLER, refs: [], isBodyUnread: false };
  const blocked = exchange({ decision: 'blocked', why: 'other', status: 403 });
  for (const code of ['denied', 'ref-unknown', 'mode-forbidden', 'url-forbidden', 'secret-unavailable', 'cancelled', 'internal']) {
    records.exchange({ ...about, event: blocked, code });
  }
  records.exchange({ ...about, refs: ['a/one'], event: exchange() });
  for (const code of ['token-invalid', 'token-expired', 'jwt-expired', 'request-invalid', 'header-forbidden']) {
    records.exchange({ ...about, event: blocked, code });
  }
  records.exchange({ ...about, event: exchange() });
  records.exchange({ refs: [], isBodyUnread: false, event: REFUSED });
  await records.close();
  expect(lab.decisions.map(({ code }) => code)).toEqual([
    ...['token-invalid', 'token-expired', 'jwt-expired', 'request-invalid', 'header-forbidden', null, 'no-credential'],
  ]);
});

it('do not begin where nothing can be written', () => {
  expect(() => open({ audit: lab.path('none/audit.jsonl') })).toThrow('none/audit.jsonl');
});
