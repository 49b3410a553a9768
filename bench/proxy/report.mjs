// The tables, as docs/performance.md has them.
import { cpus, loadavg, release, type } from 'node:os';
import { BODIES, median } from './measure.mjs';

/** @typedef {import('./results.mjs').Results} Results */
/** @typedef {{ name: string, kind: string, secrets: number, label: string, bodiesOnly: boolean }} Row */

export const KZ = 'kz, 10 secrets';
export const UNMASKED = 'kz, masking off';
export const MANY = 'kz, 100 secrets';

/**
 * @param {Results} results
 * @param {Row[]} rows
 * @param {{ rounds: number, note: string }} run
 */
export function report(results, rows, run) {
  const all = rows.filter(({ bodiesOnly }) => !bodiesOnly);
  const proxies = all.filter(({ kind }) => kind !== 'direct');
  return [
    header(run),
    '### Small requests',
    smallTable(results, all),
    '### Bodies, MB/s (CPU s/GB)',
    bodyTable(results, rows),
    '### New hosts and events, ms',
    latencyTable(results, all),
    '### Start and memory',
    memoryTable(results, proxies),
    startTable(results),
    '### Aims',
    aims(results, rows),
  ].join('\n\n');
}

/** @param {{ rounds: number, note: string }} run */
function header({ rounds, note }) {
  const [cpu] = cpus();
  const load = loadavg().map((value) => value.toFixed(2));
  const facts = [
    new Date().toISOString().slice(0, 10),
    `Node ${process.versions.node}`,
    `${cpu?.model.trim() ?? 'unknown CPU'} × ${String(cpus().length)}`,
    `${type()} ${release()}`,
    `${String(rounds)} interleaved rounds`,
    `load ${load.join(' ')}`,
  ];
  if (note !== '') facts.push(note);
  return `${facts.join(' · ')}\n\nMedians of the rounds; in brackets, where it says so, the least and the most.`;
}

/**
 * @param {Results} results
 * @param {Row[]} rows
 */
function smallTable(results, rows) {
  const value = (/** @type {string} */ name, /** @type {string} */ metric, digits = 2) => number(results.median(name, metric), digits);
  const body = rows.map(({ name, label, kind }) => [
    label,
    value(name, 'c1.rate', 0),
    `${value(name, 'c1.p50', 3)} / ${value(name, 'c1.p99')}`,
    number(added(results, name), 3),
    value(name, 'c1.cpu', 0),
    `${value(name, 'c64.rate', 0)} (${range(results.of(name, 'c64.rate'), 0)})`,
    `${value(name, 'c64.p50', 1)} / ${value(name, 'c64.p99', 1)}`,
    value(name, 'c64.cpu', 0),
    kind === 'kz' || kind === 'direct' ? '' : ratioText(results.ratios(KZ, name, 'c64.rate')),
  ]);
  const head = [
    'engine',
    'c=1 req/s',
    'p50 / p99 ms',
    'added p50',
    'CPU µs/req',
    'c=64 req/s',
    'p50 / p99 ms',
    'CPU µs/req',
    'kz is × as fast',
  ];
  return table(head, body);
}

/**
 * Over a connection without a proxy, in the same round.
 * @param {Results} results
 * @param {string} name
 */
function added(results, name) {
  const over = differences(results.of(name, 'c1.p50'), results.of('direct', 'c1.p50'));
  return name === 'direct' || over.length === 0 ? undefined : median(over);
}

/**
 * @param {Results} results
 * @param {Row[]} rows
 */
function bodyTable(results, rows) {
  const cell = (/** @type {string} */ name, /** @type {string} */ key) => {
    const rate = results.median(name, `${key}.rate`);
    const cpu = results.median(name, `${key}.cpu`);
    return rate === undefined ? '' : number(rate, 0) + (cpu === undefined ? '' : ` (${number(cpu, 1)})`);
  };
  return table(
    ['engine', ...BODIES.map(({ key }) => key)],
    rows.map(({ name, label }) => [label, ...BODIES.map(({ key }) => cell(name, key))]),
  );
}

/**
 * @param {Results} results
 * @param {Row[]} rows
 */
function latencyTable(results, rows) {
  const metrics = [
    'host.first',
    'host.worst',
    'host.later',
    'stalled.turn',
    'hosts.turn',
    'stalled.once',
    'hosts.once',
    'sse.first',
    'sse.median',
  ];
  const head = [
    'engine',
    'new host, first request',
    'worst of 10',
    'second connection',
    'bystander, 10 hosts in turn',
    'the 10 take',
    'bystander, 10 at once',
    'the 10 take',
    'SSE first',
    'SSE median',
  ];
  return table(
    head,
    rows.map(({ name, label }) => [label, ...metrics.map((metric) => spread(results.of(name, metric), 1))]),
  );
}

/**
 * @param {Results} results
 * @param {Row[]} rows
 */
function memoryTable(results, rows) {
  const metrics = ['rss.idle', 'rss.load', 'rss.peak', 'rss.stalled'];
  const head = ['engine', 'to listening, ms', 'RSS idle MB', 'after small requests', 'peak, with the bodies', 'peak, stalled reader'];
  const start = (/** @type {Row} */ { name, kind }) => (kind === 'kz' ? '' : spread(results.of(name, 'start'), 0));
  return table(
    head,
    rows.map((row) => [row.label, start(row), ...metrics.map((metric) => spread(results.of(row.name, metric), 0))]),
  );
}

/** @param {Results} results */
function startTable(results) {
  const cells = (/** @type {string} */ metric, /** @type {string} */ name) => {
    const plain = results.of(KZ, `${metric}.plain`);
    const times = results.of(KZ, `${metric}.${name}`);
    return [spread(times, 1), name === 'plain' ? '' : spread(differences(times, plain), 1)];
  };
  if (results.of(KZ, 'start.plain').length === 0) return '';
  const rows = [
    ['`kz run -- date`', 'plain'],
    ['`kz run --blind -- date`, 10 secrets with `hosts`', 'blind'],
    ['`kz run --blind -- date`, 10 secrets and 2 rules', 'rules'],
  ].map(([label = '', name = '']) => [label, ...cells('child', name), ...cells('start', name)]);
  return table(['start', 'until the program runs, ms', 'over `kz run`', 'until kz has ended, ms', 'over `kz run`'], rows);
}

/**
 * @param {number[]} values
 * @param {number[]} others of the same rounds
 */
function differences(values, others) {
  return values.map((value, round) => value - (others[round] ?? NaN));
}

/** @typedef {{ what: string, values: (number | undefined)[], digits?: number, least?: number, most?: number, below?: number }} Aim */

/**
 * What kz aims at, and whether this run met it.
 * @param {Results} results
 * @param {Row[]} rows
 */
function aims(results, rows) {
  const has = (/** @type {string} */ wanted) => rows.some(({ name }) => name === wanted);
  const of = (/** @type {string} */ metric) => results.median(KZ, metric);
  const faster = (/** @type {string} */ peer, /** @type {number} */ least) => {
    const ratios = has(peer) ? results.ratios(KZ, peer, 'c64.rate') : [];
    return {
      what: `times the requests/s of ${peer}, c=64 (${range(ratios, 2)})`,
      values: ratios.length === 0 ? [] : [median(ratios)],
      digits: 2,
      least,
    };
  };
  const bodies = BODIES.map(({ key }) => {
    const parts = has(MANY) && has(UNMASKED) ? results.ratios(MANY, UNMASKED, `${key}.rate`).map((ratio) => ratio * 100) : [];
    const values = parts.length === 0 ? [] : [median(parts)];
    return { what: `${key}, 100 secrets, % of masking off (${range(parts, 0)})`, values, digits: 0, least: 90 };
  });
  /** @type {Aim[]} */
  const all = [
    { what: 'added to a small request, c=1, ms', values: [added(results, KZ)], digits: 3, most: 0.2 },
    faster('http-mitm-proxy', 2.5),
    faster('mockttp', 5),
    faster('mitmdump', 12),
    ...bodies,
    { what: 'peak memory, MB', values: [of('rss.peak')], digits: 0, below: 130 },
    { what: 'peak memory with a stalled reader, MB', values: [of('rss.stalled')], digits: 0, below: 70 },
    { what: 'first request to a new host, ms', values: [of('host.first')], below: 10 },
    { what: 'bystander while 10 hosts are opened in turn, ms', values: [of('stalled.turn')], most: 15 },
    { what: 'bystander while 10 hosts are opened at once, ms', values: [of('stalled.once')], most: 15 },
    { what: 'first server-sent event, ms', values: [of('sse.first')], digits: 2, most: 2 },
  ];
  return all.flatMap(verdict).join('\n');
}

/** @param {Aim} aim */
function verdict({ what, values, digits = 1, least = -Infinity, most = Infinity, below = Infinity }) {
  const known = values.filter((value) => value !== undefined);
  if (known.length === 0) return [];
  const met = known.every((value) => value >= least && value <= most && value < below);
  const limits = [
    least > -Infinity ? `≥ ${String(least)}` : '',
    most < Infinity ? `≤ ${String(most)}` : '',
    below < Infinity ? `< ${String(below)}` : '',
  ];
  return [`- ${met ? 'met' : '**missed**'}: ${what}: ${known.map((value) => number(value, digits)).join(', ')} (${limits.join('')})`];
}

/** @param {number[]} ratios */
function ratioText(ratios) {
  return ratios.length === 0 ? '' : `${number(median(ratios), 2)} (${range(ratios, 2)})`;
}

/**
 * @param {number[]} samples
 * @param {number} digits
 */
function spread(samples, digits) {
  return samples.length === 0 ? '' : `${number(median(samples), digits)} (${range(samples, digits)})`;
}

/**
 * @param {number[]} samples
 * @param {number} digits
 */
function range(samples, digits) {
  return samples.length === 0 ? '' : `${number(Math.min(...samples), digits)}..${number(Math.max(...samples), digits)}`;
}

/** @param {number | undefined} value */
function number(value, digits = 1) {
  return value === undefined || Number.isNaN(value) ? '' : value.toFixed(digits);
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
