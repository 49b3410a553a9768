import { describe, expect, it } from 'vitest';
import { Metrics } from '../../src/server/metrics.ts';

function metrics() {
  return new Metrics({ version: '1.2.3', inFlight: () => 3, auditLost: () => 7 });
}

const VALUE = /^[a-z_]+(\{([a-z]+="([^"\\\n]|\\[\\"n])*"(,[a-z]+="([^"\\\n]|\\[\\"n])*")*)\})? (-?\d+(\.\d+)?(e[+-]?\d+)?)$/;

/** Name → type, after the grammar of the text format has been checked. */
function parse(text: string): Map<string, string> {
  expect(text.endsWith('\n')).toBe(true);
  const families = new Map<string, string>();
  let current = '';
  for (const line of text.slice(0, -1).split('\n')) {
    const help = /^# HELP ([a-z_]+) \S.*$/.exec(line);
    const type = /^# TYPE ([a-z_]+) (counter|gauge|histogram)$/.exec(line);
    if (help?.[1] !== undefined) {
      expect(families.has(help[1])).toBe(false);
      current = help[1];
    } else if (type?.[2] !== undefined) {
      expect(type[1]).toBe(current);
      families.set(current, type[2]);
    } else {
      expect(line).toMatch(VALUE);
      expect(line.startsWith(current)).toBe(true);
    }
  }
  return families;
}

describe('metrics', () => {
  it('are text that a scraper can parse, from the first moment', () => {
    const families = parse(metrics().text());
    expect(Object.fromEntries(families)).toMatchObject({
      kz_build_info: 'gauge',
      kz_decisions_total: 'counter',
      kz_jwt_failures_total: 'counter',
      kz_bundle_reloads_total: 'counter',
      kz_bundle_loaded_timestamp_seconds: 'gauge',
      kz_in_flight: 'gauge',
      kz_audit_lost_total: 'counter',
      kz_request_duration_seconds: 'histogram',
      process_cpu_seconds_total: 'counter',
      process_resident_memory_bytes: 'gauge',
      process_start_time_seconds: 'gauge',
    });
  });

  it('begin at nothing where alerts look for an increase', () => {
    const lines = metrics().text().split('\n');
    const codes = ['jwt-missing', 'jwt-invalid', 'jwt-expired', 'issuer-unknown', 'keys-unavailable'];
    expect(lines).toEqual(
      expect.arrayContaining([
        ...codes.map((code) => `kz_jwt_failures_total{code="${code}"} 0`),
        ...['failed', 'ok'].map((result) => `kz_bundle_reloads_total{result="${result}"} 0`),
      ]),
    );
  });

  it('count', () => {
    const all = metrics();
    all.decision({ face: 'http', tool: 'resolve', outcome: 'allowed', policy: 'ci' });
    all.decision({ face: 'http', tool: 'resolve', outcome: 'allowed', policy: 'ci' });
    all.decision({ face: 'mcp', tool: 'fetch', outcome: 'failed' });
    all.jwtFailure('jwt-expired');
    all.bundleReload('failed');
    all.bundleLoaded(new Date(1_700_000_000_500));
    const lines = all.text().split('\n');
    expect(lines).toEqual(
      expect.arrayContaining([
        'kz_build_info{version="1.2.3"} 1',
        'kz_decisions_total{face="http",tool="resolve",outcome="allowed",policy="ci"} 2',
        'kz_decisions_total{face="mcp",tool="fetch",outcome="failed",policy=""} 1',
        'kz_jwt_failures_total{code="jwt-expired"} 1',
        'kz_bundle_reloads_total{result="failed"} 1',
        'kz_bundle_loaded_timestamp_seconds 1700000000.5',
        'kz_in_flight 3',
        'kz_audit_lost_total 7',
      ]),
    );
  });

  it('have durations in cumulative buckets', () => {
    const all = metrics();
    for (const seconds of [0.001, 0.0011, 0.3, 99]) all.request('/v1/resolve', 200, seconds);
    all.request('other', 404, 0.01);
    const text = all.text();
    parse(text);
    const labels = 'route="/v1/resolve",status="200"';
    const of = (le: string) => new RegExp(`_bucket\\{${labels},le="${le}"\\} (\\d+)`).exec(text)?.[1];
    expect(['0.001', '0.0025', '0.25', '0.5', '10', '\\+Inf'].map(of)).toEqual(['1', '2', '2', '3', '3', '4']);
    expect(text).toContain(`kz_request_duration_seconds_count{${labels}} 4\n`);
    expect(text).toContain(`kz_request_duration_seconds_sum{${labels}} 99.3021\n`);
    expect(text).toContain('kz_request_duration_seconds_count{route="other",status="404"} 1\n');
  });

  it('escape what a name may hold', () => {
    const all = metrics();
    all.decision({ face: 'http', tool: 'resolve', outcome: 'allowed', policy: 'a"b\\c\nd' });
    expect(all.text()).toContain('policy="a\\"b\\\\c\\nd"} 1\n');
    parse(all.text());
  });

  it('do not grow without end', () => {
    const all = metrics();
    for (let index = 0; index < 5000; index++)
      all.decision({ face: 'http', tool: 'resolve', outcome: 'denied', policy: `p${String(index)}` });
    const lines = all
      .text()
      .split('\n')
      .filter((line) => line.startsWith('kz_decisions_total'));
    expect(lines).toHaveLength(1001);
    expect(lines).toContain('kz_decisions_total{face="http",tool="resolve",outcome="denied",policy="other"} 4000');
  });
});
