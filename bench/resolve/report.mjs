// The table and the aims, as docs/performance.md has them.
import { cpus, loadavg, release, type } from 'node:os';
import { DELAY_MS } from './sources.mjs';

/** @typedef {import('../proxy/results.mjs').Results} Results */
/** @typedef {import('./sources.mjs').Source} Source */
/** @typedef {{ rounds: number, counts: number[], peer: string | undefined, note: string }} Run */

export const SECRETS_MANAGER = 'aws, Secrets Manager';

/** What no list of an API may be longer than. */
const BATCHES = { [SECRETS_MANAGER]: 20, 'aws, Parameter Store': 10 };

/** Asked for in one go, however many there are. */
const AT_ONCE = ['vault, fields of one path', '1password'];

/** The API knows no lists. */
const ONE_BY_ONE = ['vault, a path each', 'gcp'];

const LEAST_WIDTH = 8;

/** From so many secrets on. */
const MANY = 100;

/**
 * @param {{ label: string }} source
 * @param {number} count
 */
export function keyOf({ label }, count) {
  return `${label}, ${String(count)}`;
}

/**
 * @param {Results} results
 * @param {Source[]} sources
 * @param {Run} run
 */
export function report(results, sources, run) {
  const next = run.peer === undefined ? [] : [comparison(results, run.peer, run)];
  return [header(sources, run), times(results, sources, run), ...next, '#### Aims', aims(results, sources, run)].join('\n\n');
}

/**
 * @param {Source[]} sources
 * @param {Run} run
 */
function header(sources, { rounds, note }) {
  const [cpu] = cpus();
  const facts = [
    new Date().toISOString().slice(0, 10),
    `Node ${process.versions.node}`,
    `${cpu?.model.trim() ?? 'unknown CPU'} × ${String(cpus().length)}`,
    `${type()} ${release()}`,
    `${String(rounds)} interleaved rounds`,
    `load ${loadavg()
      .map((value) => value.toFixed(2))
      .join(' ')}`,
  ];
  if (note !== '') facts.push(note);
  const servers = new Map(sources.filter(({ server }) => server !== '').map(({ provider, server }) => [provider, server]));
  const answered = [...servers].map(([provider, server]) => `${provider}: ${server}`).join(' · ');
  return [facts.join(' · '), ...(answered === '' ? [] : [`Who answered: ${answered}.`])].join('\n\n');
}

/**
 * @param {Results} results
 * @param {Source[]} sources
 * @param {Run} run
 */
function times(results, sources, { counts }) {
  const head = [
    'secrets from',
    'secrets',
    '`kz run` adds, ms',
    '`kz status` adds, ms',
    'provider, ms',
    'requests (to log in)',
    'at once',
    'in sequence',
    `provider, ms, ${String(DELAY_MS)} ms a request`,
  ];
  const rows = sources.flatMap((source) =>
    counts.map((count) => {
      const key = keyOf(source, count);
      const [logins = 0] = results.of(key, 'logins');
      return [
        source.label,
        String(count),
        spread(results, key, 'run'),
        number(results.median(key, 'status')),
        number(results.median(key, 'own')),
        `${range(results.of(key, 'requests'))}${logins > 0 ? ` (${String(logins)})` : ''}`,
        range(results.of(key, 'atOnce')),
        range(results.of(key, 'inSequence')),
        number(results.median(key, 'delayed')),
      ];
    }),
  );
  return table(head, rows);
}

/**
 * Whole runs, from their start to their end.
 * @param {Results} results
 * @param {string} peer
 * @param {Run} run
 */
function comparison(results, peer, { counts }) {
  const of = (/** @type {string} */ label) => counts.map((count) => keyOf({ label }, count));
  const rows = [SECRETS_MANAGER, peer].flatMap((label) =>
    of(label).map((key, index) => [
      label === peer ? `\`varlock run -- true\` (${peer.replace('varlock ', '')})` : '`kz run -- true`',
      String(counts[index]),
      spread(results, key, 'whole'),
      range(results.of(key, 'requests')),
      range(results.of(key, 'atOnce')),
      range(results.of(key, 'inSequence')),
    ]),
  );
  return table([`${SECRETS_MANAGER}, a whole run`, 'secrets', 'ms', 'requests', 'at once', 'in sequence'], rows);
}

/**
 * What kz aims at, and whether this run met it.
 * @param {Results} results
 * @param {Source[]} sources
 * @param {Run} run
 */
function aims(results, sources, { counts }) {
  const lines = sources.flatMap((source) => {
    const { label } = source;
    const requests = counts.map((count) => Math.max(...results.of(keyOf(source, count), 'requests')));
    const batch = Object.entries(BATCHES).find(([name]) => name === label)?.[1];
    if (batch !== undefined) {
      const least = counts.map((count) => Math.ceil(count / batch));
      const met = requests.every((each, index) => each <= (least[index] ?? 0));
      return [
        verdict(
          met,
          `${label}: requests for ${words(counts)} secrets: ${words(requests)} (${words(least)}: the API takes ${String(batch)} at once)`,
        ),
      ];
    }
    if (AT_ONCE.includes(label)) {
      const what = label === '1password' ? 'processes of `op`' : 'requests';
      const met = requests.every((each) => each === requests[0]);
      return [verdict(met, `${label}: ${what} for ${words(counts)} secrets: ${words(requests)} (the same for all)`)];
    }
    return ONE_BY_ONE.includes(label) ? widths(results, source, counts) : [];
  });
  return lines.join('\n');
}

/**
 * @param {Results} results
 * @param {Source} source
 * @param {number[]} counts
 */
function widths(results, source, counts) {
  return counts
    .filter((count) => count >= MANY)
    .flatMap((count) => {
      const key = keyOf(source, count);
      const width = Math.min(...results.of(key, 'atOnce'));
      const [own = 0, delayed = 0] = [results.median(key, 'own'), results.median(key, 'delayed')];
      const most = own + Math.ceil(count / LEAST_WIDTH) * DELAY_MS;
      const asked = `${keyOf(source, count)} secrets`;
      const limit = `≤ ${number(most)}: without the delay ${number(own)}, and ${String(DELAY_MS)} for each ${String(LEAST_WIDTH)}`;
      return [
        verdict(width >= LEAST_WIDTH, `${asked}: requests at once: ${String(width)} (≥ ${String(LEAST_WIDTH)})`),
        verdict(
          delayed <= most,
          `${asked}: ms with ${String(DELAY_MS)} ms a request: ${number(delayed)} (${limit}; one by one ${number(own + count * DELAY_MS)})`,
        ),
      ];
    });
}

/**
 * @param {boolean} met
 * @param {string} what
 */
function verdict(met, what) {
  return `- ${met ? 'met' : '**missed**'}: ${what}`;
}

/** @param {number[]} values */
function words(values) {
  return values.map(String).join(', ');
}

/**
 * The median, the least and the most.
 * @param {Results} results
 * @param {string} key
 * @param {string} metric
 */
function spread(results, key, metric) {
  const samples = results.of(key, metric);
  return `${number(results.median(key, metric))} (${number(Math.min(...samples))}..${number(Math.max(...samples))})`;
}

/** @param {number[]} samples */
function range(samples) {
  if (samples.length === 0) return '';
  const [least, most] = [Math.min(...samples), Math.max(...samples)];
  return least === most ? String(least) : `${String(least)}..${String(most)}`;
}

/** @param {number | undefined} value */
function number(value) {
  return value === undefined ? '' : value.toFixed(0);
}

/**
 * @param {string[]} head
 * @param {string[][]} rows
 */
function table(head, rows) {
  const widest = head.map((cell, column) => Math.max(cell.length, ...rows.map((row) => row[column]?.length ?? 0)));
  const line = (/** @type {string[]} */ row) =>
    `| ${row.map((cell, column) => (column === 0 ? cell.padEnd(widest[0] ?? 0) : cell.padStart(widest[column] ?? 0))).join(' | ')} |`;
  const rule = widest.map((width, column) => (column === 0 ? '-'.repeat(width) : `${'-'.repeat(width - 1)}:`));
  return [line(head), `| ${rule.join(' | ')} |`, ...rows.map(line)].join('\n');
}
