// `npm run bench:resolve [-- --rounds 9] [--quick] [--only aws,vault]`: what kz takes to get 1, 10, 100 and 200 secrets out of each provider, and
// how often it asks for them. Against real servers where scripts/live has made them, otherwise against the stand-ins of the tests. Nothing
// leaves the machine, and no value is printed. docs/performance.md says what is measured.
import { existsSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { Results } from './proxy/results.mjs';
import { KZ, Lab } from './resolve/lab.mjs';
import { keyOf, report, SECRETS_MANAGER } from './resolve/report.mjs';
import { openSources, place, PROVIDERS } from './resolve/sources.mjs';
import { loadTestServers } from './resolve/test-servers.mjs';
import { placeOfVarlock, varlock } from './resolve/varlock.mjs';

/** @typedef {import('./resolve/lab.mjs').Place} Place */
/** @typedef {import('./resolve/sources.mjs').Source} Source */
/** @typedef {{ source: Source, count: number, direct: Place, delayed: Place | undefined }} Case */

const RUN = ['run', '-q', '--'];
const STATUS = ['status', '--json'];

const { values: flags } = parseArgs({
  options: { rounds: { type: 'string' }, quick: { type: 'boolean', default: false }, only: { type: 'string' } },
});
const rounds = Number(flags.rounds ?? (flags.quick ? 1 : 9));
if (!Number.isInteger(rounds) || rounds < 1) throw new Error('--rounds takes a whole number');
const only = flags.only?.split(',') ?? PROVIDERS;
const unknown = only.find((name) => !PROVIDERS.includes(name));
if (unknown !== undefined) throw new Error(`--only does not know ${unknown}: it takes ${PROVIDERS.join(', ')}`);
if (!existsSync(new URL('../dist/kz.cjs', import.meta.url))) throw new Error('build kz first: npm run build');
const counts = flags.quick ? [1, 100] : [1, 10, 100, 200];

const lab = new Lab(Math.max(...counts));
for (const end of ['SIGINT', 'SIGTERM', 'SIGHUP', 'uncaughtException']) {
  process.once(end, (/** @type {unknown} */ reason) => {
    if (reason instanceof Error) console.error(reason);
    void lab.end().finally(() => process.exit(1));
  });
}
try {
  console.error('filling the servers');
  const sources = await openSources(lab, await loadTestServers(lab.folder), only);
  const one = place(lab, baseline(), { count: 1, settings: {}, way: 'direct' });
  const groups = sources.map((source) => counts.map((count) => prepare(source, count)));
  for (const { direct, delayed, count } of groups.flat()) {
    await lab.refuseUnlessInjected([KZ, ...RUN], direct, count);
    if (delayed !== undefined) await lab.refuseUnlessInjected([KZ, ...RUN], delayed, count);
  }
  const peers = await preparePeers(sources);
  const results = new Results();
  for (let round = 0; round < rounds; round++) {
    console.error(`round ${String(round + 1)} of ${String(rounds)}`);
    for (const group of turned(groups, round)) await measure(group, one, results);
    for (const peer of peers) await measurePeer(peer, results);
  }
  const run = { rounds, counts, peer: peers[0]?.label, note: flags.quick ? 'quick: for trying it out' : '' };
  console.log(report(results, sources, run));
} finally {
  await lab.end();
}

/** What everything is compared with: the same kz with one secret, and nobody to ask for it. */
function baseline() {
  const [[name = '', value = ''] = []] = lab.secrets;
  lab.env[`BASELINE_${name}`] = value;
  return { provider: 'env', label: 'baseline', server: '', ref: (/** @type {string} */ each) => `BASELINE_${each}`, settings: {} };
}

/**
 * @param {Source} source
 * @param {number} count
 * @returns {Case}
 */
function prepare(source, count) {
  const at = (/** @type {string} */ way, /** @type {import('./resolve/sources.mjs').Settings} */ settings) =>
    place(lab, source, { count, settings, way });
  const delayed = source.delayed === undefined ? undefined : at('delayed', source.delayed.settings);
  return { source, count, direct: at('direct', source.settings), delayed };
}

/** @typedef {{ label: string, command: string[], count: number, direct: Place, delayed: Place, counter: import('./resolve/counter.mjs').Counter }} Peer */

/**
 * Each must first show that its child gets the secrets.
 * @param {Source[]} sources
 */
async function preparePeers(sources) {
  const source = sources.find(({ label }) => label === SECRETS_MANAGER);
  const found = varlock();
  if (source?.address === undefined || source.delayed === undefined || found === undefined) return [];
  const { address, delayed } = source;
  /** @type {Peer[]} */
  const peers = [];
  for (const count of counts) {
    const at = (/** @type {string} */ way, /** @type {string} */ endpoint) => placeOfVarlock(lab, { count, endpoint, way });
    const peer = { ...found, count, direct: at('direct', address), delayed: at('delayed', delayed.address), counter: delayed.counter };
    await lab.refuseUnlessInjected(peer.command, peer.direct, count);
    peers.push(peer);
  }
  return peers;
}

/**
 * @param {Peer} peer
 * @param {Results} results
 */
async function measurePeer({ label, command, count, direct, delayed, counter }, results) {
  const key = keyOf({ label }, count);
  results.put(key, 'whole', (await lab.run([...command, 'true'], direct)).ms);
  counter.take();
  await lab.run([...command, 'true'], delayed);
  for (const [metric, value] of Object.entries(counter.take())) results.put(key, metric, value);
}

/**
 * The sources take turns in being the first.
 * @param {Case[][]} groups
 * @param {number} round
 */
function turned(groups, round) {
  const at = round % groups.length;
  return [...groups.slice(at), ...groups.slice(0, at)];
}

/**
 * @param {Case[]} group
 * @param {Place} one
 * @param {Results} results
 */
async function measure(group, one, results) {
  // Beside each source anew: what the machine does to one, it does to the other.
  const [run, status] = [await lab.kz([...RUN, 'true'], one), await lab.kz(STATUS, one)];
  for (const { source, count, direct, delayed } of group) {
    const put = (/** @type {string} */ metric, /** @type {number} */ value) => {
      results.put(keyOf(source, count), metric, value);
    };
    const { ms } = await lab.kz([...RUN, 'true'], direct);
    put('whole', ms);
    put('run', ms - run.ms);
    source.programs?.();
    const seen = await lab.kz(STATUS, direct);
    put('status', seen.ms - status.ms);
    put('own', ownMs(seen.output, source));
    if (source.programs !== undefined) put('requests', source.programs());
    if (source.delayed === undefined || delayed === undefined) continue;
    source.delayed.counter.take();
    put('delayed', ownMs((await lab.kz(STATUS, delayed)).output, source));
    for (const [metric, value] of Object.entries(source.delayed.counter.take())) put(metric, value);
  }
}

/**
 * What kz says that the provider took.
 * @param {string} output
 * @param {Source} source
 */
function ownMs(output, { provider }) {
  const { secrets } = /** @type {{ secrets: { provider: string, took_ms: number }[] }} */ (JSON.parse(output));
  return Math.max(...secrets.filter((secret) => secret.provider === provider).map(({ took_ms: ms }) => ms));
}
