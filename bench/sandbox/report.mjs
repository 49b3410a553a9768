// The tables and the verdicts, as docs/performance.md has them.
import { cpus, loadavg, release, type } from 'node:os';
import { median } from '../proxy/measure.mjs';
import { FETCH_MS, STARTS, WAYS } from './subjects.mjs';

/** @typedef {import('../proxy/results.mjs').Results} Results */

const ADDED_MS = { 'in sequence': 30, 'beside a fetch': 12 };
const LEAST_PART = 0.95;
const [PLAIN, ...ISOLATED] = WAYS.map(({ name }) => name);
const TRAFFIC = [
  { metric: 'rate', what: 'requests/s, 64 connections' },
  { metric: 'down.octet', what: 'MB/s down, binary' },
  { metric: 'up.octet', what: 'MB/s up, binary' },
  { metric: 'down.json', what: 'MB/s down, JSON' },
  { metric: 'up.json', what: 'MB/s up, JSON' },
];

/**
 * @param {Results} results
 * @param {{ starts: number, traffic: number, note: string }} run
 */
export function report(results, run) {
  const starts = run.starts === 0 ? [] : ['### Start', startTable(results)];
  const traffic = run.traffic === 0 ? [] : ['### Through the proxy', trafficTable(results)];
  const aims = [...(run.starts === 0 ? [] : startAims(results)), ...(run.traffic === 0 ? [] : trafficAims(results))];
  return [header(run), ...starts, ...traffic, '### Aims', aims.join('\n')].join('\n\n');
}

/** @param {{ starts: number, traffic: number, note: string }} run */
function header({ starts, traffic, note }) {
  const [cpu] = cpus();
  const facts = [
    new Date().toISOString().slice(0, 10),
    `Node ${process.versions.node}`,
    `${cpu?.model.trim() ?? 'unknown CPU'} × ${String(cpus().length)}`,
    `${type()} ${release()}`,
    `${String(starts)} interleaved rounds of starts, ${String(traffic)} of traffic`,
    `load ${loadavg()
      .map((value) => value.toFixed(2))
      .join(' ')}`,
  ];
  if (note !== '') facts.push(note);
  return `${facts.join(' · ')}\n\nMedians of the rounds; in brackets the least and the most.`;
}

/** @param {Results} results */
function startTable(results) {
  const rows = STARTS.map(({ name, mode }) => {
    const cells = ['child', 'total'].flatMap((metric) => [
      spread(results.of(name, metric), 1),
      mode === 'off' ? '' : spread(added(results, name, metric), 1),
    ]);
    return [name, ...cells];
  });
  return table(['start', 'until the program runs, ms', 'added', 'until kz has ended, ms', 'added'], rows);
}

/**
 * Over the same start without isolation, in the same round.
 * @param {Results} results
 * @param {string} name
 * @param {string} metric
 */
function added(results, name, metric) {
  const plain = results.of(name.replace(/strict$/, 'off'), metric);
  return results.of(name, metric).map((value, round) => value - (plain[round] ?? NaN));
}

/** @param {Results} results */
function trafficTable(results) {
  const rows = TRAFFIC.map(({ metric, what }) => [
    what,
    ...WAYS.flatMap(({ name }) => [
      spread(results.of(name, metric), 0),
      ...(name === PLAIN ? [] : [spread(results.ratios(name, PLAIN ?? '', metric), 2)]),
    ]),
  ]);
  return table(['traffic', PLAIN ?? '', ...ISOLATED.flatMap((name) => [name, '× of off'])], rows);
}

/** @param {Results} results */
function startAims(results) {
  return Object.entries(ADDED_MS).flatMap(([name, most]) =>
    [
      { metric: 'child', what: 'until the program runs' },
      { metric: 'total', what: 'until kz has ended' },
    ].map(({ metric, what }) => {
      const value = median(added(results, `${name}, strict`, metric));
      const beside = name === 'in sequence' ? name : `${name} of ${String(FETCH_MS)} ms`;
      return verdict(`added ${beside}, ${what}, ms`, value <= most, `${value.toFixed(1)} (≤ ${String(most)})`);
    }),
  );
}

/** @param {Results} results */
function trafficAims(results) {
  return ISOLATED.flatMap((name) =>
    TRAFFIC.map(({ metric, what }) => {
      const part = median(results.ratios(name, PLAIN ?? '', metric));
      return verdict(
        `${what}, ${name}, part of the run without isolation`,
        part >= LEAST_PART,
        `${part.toFixed(2)} (≥ ${String(LEAST_PART)})`,
      );
    }),
  );
}

/**
 * @param {string} what
 * @param {boolean} isMet
 * @param {string} figures
 */
function verdict(what, isMet, figures) {
  return `- ${isMet ? 'met' : '**missed**'}: ${what}: ${figures}`;
}

/**
 * @param {number[]} samples
 * @param {number} digits
 */
function spread(samples, digits) {
  if (samples.length === 0) return '';
  return `${median(samples).toFixed(digits)} (${Math.min(...samples).toFixed(digits)}..${Math.max(...samples).toFixed(digits)})`;
}

/**
 * @param {string[]} head
 * @param {string[][]} rows
 */
function table(head, rows) {
  const widths = head.map((cell, column) => Math.max(cell.length, ...rows.map((row) => row[column]?.length ?? 0)));
  const line = (/** @type {string[]} */ row) =>
    `| ${row.map((cell, column) => (column === 0 ? cell.padEnd(widths[0] ?? 0) : cell.padStart(widths[column] ?? 0))).join(' | ')} |`;
  const rule = widths.map((width, column) => (column === 0 ? '-'.repeat(width) : `${'-'.repeat(width - 1)}:`));
  return [line(head), `| ${rule.join(' | ')} |`, ...rows.map(line)].join('\n');
}
