// The tables and the verdicts, as docs/performance.md has them.
import { cpus, loadavg, release, type } from 'node:os';
import { median } from '../proxy/measure.mjs';
import { BARE_MCP } from './mcp.mjs';
import { BARE, MASKED, OPA } from './subjects.mjs';

/** @typedef {import('../proxy/results.mjs').Results} Results */
/** @typedef {import('./subjects.mjs').Subject} Subject */
/**
 * @typedef {object} Run
 * @property {number} rounds
 * @property {number} starts
 * @property {number} pace
 * @property {string[]} notes
 * @property {Subject[]} subjects
 * @property {string[]} mcp
 * @property {import('./memory.mjs').Reading[]} memory
 */

const MOST_P99_MS = 5;
/** What V8's readings scatter by, spread over the requests. */
const MOST_GROWTH_BYTES = 8;

/** @param {{ name: string, rules: number | undefined }} subject */
export function keyOf({ name, rules }) {
  return rules === undefined ? name : `${name}, ${String(rules)} rules`;
}

/**
 * @param {Results} results
 * @param {Run} run
 */
export function report(results, run) {
  const parts = [header(run)];
  if (run.rounds > 0) {
    parts.push('#### Decisions', decisions(results, run));
    parts.push(`#### ${String(run.pace)} requests/s over 64 connections`, pacedTable(results, run));
  }
  if (run.starts > 0) parts.push('#### MCP: from the start to the first list of tools', starts(results, run));
  if (run.memory.length > 0) parts.push('#### Memory', memoryTable(run));
  return [...parts, '#### Aims', aims(results, run).join('\n')].join('\n\n');
}

/** @param {Run} run */
function header({ rounds, starts: count, notes }) {
  const [cpu] = cpus();
  const facts = [
    new Date().toISOString().slice(0, 10),
    `Node ${process.versions.node}`,
    `${cpu?.model.trim() ?? 'unknown CPU'} × ${String(cpus().length)}`,
    `${type()} ${release()}`,
    `${String(rounds)} interleaved rounds, ${String(count)} of starts`,
    `load ${loadavg()
      .map((value) => value.toFixed(2))
      .join(' ')}`,
  ];
  return [facts.join(' · '), ...notes, 'Medians of the rounds; in brackets the least and the most.'].join('\n\n');
}

/**
 * @param {Results} results
 * @param {Run} run
 */
function decisions(results, { subjects }) {
  const rows = subjects.map((subject) => {
    const key = keyOf(subject);
    const peer = keyOf({ name: OPA, rules: subject.rules });
    return [
      subject.name,
      subject.rules === undefined ? '' : String(subject.rules),
      ...[1, 64].flatMap((connections) =>
        ['rate', 'p50', 'p99'].map((metric) => spread(results.of(key, `${metric}.${String(connections)}`), metric === 'rate' ? 0 : 2)),
      ),
      key === BARE ? '' : spread(results.ratios(key, BARE, 'rate.64'), 2),
      key === peer || subject.name === BARE ? '' : spread(results.ratios(key, peer, 'rate.64'), 2),
    ];
  });
  const head = ['who', 'rules', ...[1, 64].flatMap((count) => [`decisions/s, ${String(count)} conn.`, 'p50, ms', 'p99, ms'])];
  return table([...head, `× of ${BARE}`, '× of OPA'], rows);
}

/**
 * @param {Results} results
 * @param {Run} run
 */
function pacedTable(results, { subjects }) {
  const rows = subjects
    .filter(({ paced = false }) => paced)
    .map((subject) => [
      subject.name,
      subject.rules === undefined ? '' : String(subject.rules),
      ...['p50', 'p99', 'worst', 'missed'].map((metric) =>
        spread(results.of(keyOf(subject), `${metric}.paced`), metric === 'missed' ? 0 : 2),
      ),
    ]);
  return table(['who', 'rules', 'p50, ms', 'p99, ms', 'slowest, ms', 'had to wait for a connection'], rows);
}

/**
 * @param {Results} results
 * @param {Run} run
 */
function starts(results, { mcp }) {
  const rows = mcp.map((name) => [
    name,
    spread(results.of(name, 'hello'), 1),
    spread(results.of(name, 'list'), 1),
    name === BARE_MCP ? '' : spread(results.ratios(name, BARE_MCP, 'list'), 2),
  ]);
  return table(['server', 'answer to `initialize`, ms', 'answer to `tools/list`, ms', '× of node -e'], rows);
}

/** @param {Run} run */
function memoryTable({ memory }) {
  const rows = memory.map((reading, index) => {
    const { rss, heap } = growth(memory[index - 1], reading);
    return [
      String(reading.after),
      ...[megabytes(reading.rss), Number.isNaN(rss) ? '' : rss.toFixed(1)],
      ...[megabytes(reading.heap), Number.isNaN(heap) ? '' : heap.toFixed(1)],
    ];
  });
  return table(['after requests', 'RSS, MB', 'growth, bytes a request', 'heap in use, MB', 'growth, bytes a request'], rows);
}

/**
 * Bytes a request.
 * @param {import('./memory.mjs').Reading | undefined} from
 * @param {import('./memory.mjs').Reading | undefined} to
 */
function growth(from, to) {
  if (from === undefined || to === undefined) return { rss: NaN, heap: NaN };
  const requests = to.after - from.after;
  return { rss: (to.rss - from.rss) / requests, heap: (to.heap - from.heap) / requests };
}

/**
 * @param {Results} results
 * @param {Run} run
 */
function aims(results, { rounds, memory, pace }) {
  const lines = [];
  const key = keyOf({ name: MASKED, rules: 100 });
  const limit = `(≤ ${String(MOST_P99_MS)})`;
  if (rounds > 0) {
    for (const [metric, what] of [
      ['p99.paced', `at ${String(pace)} requests/s`],
      ['p99.64', 'with every connection asking without a pause'],
    ]) {
      const p99 = results.median(key, metric ?? '') ?? NaN;
      lines.push(verdict(`p99 at 64 connections, 100 rules, ${what ?? ''}, ms`, p99 <= MOST_P99_MS, `${p99.toFixed(2)} ${limit}`));
    }
  }
  for (const [index, reading] of memory.entries()) {
    const before = memory[index - 1];
    if (before === undefined) continue;
    const { heap } = growth(before, reading);
    const what = `growth of the heap from ${String(before.after)} to ${String(reading.after)} requests, bytes a request`;
    lines.push(verdict(what, heap <= MOST_GROWTH_BYTES, `${heap.toFixed(1)} (≤ ${String(MOST_GROWTH_BYTES)})`));
  }
  return lines;
}

/**
 * @param {string} what
 * @param {boolean} isMet
 * @param {string} figures
 */
function verdict(what, isMet, figures) {
  return `- ${isMet ? 'met' : '**missed**'}: ${what}: ${figures}`;
}

/** @param {number} bytes */
function megabytes(bytes) {
  return (bytes / 2 ** 20).toFixed(1);
}

/**
 * @param {number[]} samples
 * @param {number} digits
 */
function spread(samples, digits) {
  if (samples.length === 0) return '';
  const middle = median(samples).toFixed(digits);
  if (samples.length === 1) return middle;
  return `${middle} (${Math.min(...samples).toFixed(digits)}..${Math.max(...samples).toFixed(digits)})`;
}

/**
 * @param {string[]} head
 * @param {string[][]} rows
 */
function table(head, rows) {
  // A column in which there is nothing, such as that of a peer which takes no part, is left out.
  const kept = head.map((_, column) => rows.some((row) => row[column] !== ''));
  const of = (/** @type {string[]} */ row) => row.filter((_, column) => kept[column]);
  const [names, cells] = [of(head), rows.map(of)];
  const widths = names.map((cell, column) => Math.max(cell.length, ...cells.map((row) => row[column]?.length ?? 0)));
  const line = (/** @type {string[]} */ row) =>
    `| ${row.map((cell, column) => (column === 0 ? cell.padEnd(widths[0] ?? 0) : cell.padStart(widths[column] ?? 0))).join(' | ')} |`;
  const rule = widths.map((width, column) => (column === 0 ? '-'.repeat(width) : `${'-'.repeat(width - 1)}:`));
  return [line(names), `| ${rule.join(' | ')} |`, ...cells.map(line)].join('\n');
}
