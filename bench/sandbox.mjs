// `npm run bench:sandbox [-- --rounds 30] [--quick] [--only start,traffic]`: what the isolation of a blind run costs over the same run without
// it, in one interleaved run: at the start, in sequence and beside the fetch of a secret, and through the proxy. The load generator is the
// blind child itself. Linux only. Nothing leaves the machine. docs/performance.md says what is measured.
import { existsSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { upstreamCertificate } from './proxy/certificates.mjs';
import { secretsFor } from './proxy/engines.mjs';
import { Program, timesOf } from './proxy/processes.mjs';
import { Results } from './proxy/results.mjs';
import { report } from './sandbox/report.mjs';
import { sessionOf, STARTS, startOf, WAYS } from './sandbox/subjects.mjs';

/** @typedef {import('./sandbox/subjects.mjs').Lab} Lab */
/** @typedef {import('./sandbox/subjects.mjs').Way} Way */

const WARM_UP_ROUNDS = 1;
/** Each way is the first in as many of them. */
const TRAFFIC_ROUNDS = 6;
const FULL = { seconds: 3, bodyBytes: 256 << 20 };
const QUICK = { seconds: 0.5, bodyBytes: 16 << 20 };

const { values: flags } = parseArgs({
  options: { rounds: { type: 'string' }, quick: { type: 'boolean', default: false }, only: { type: 'string', default: 'start,traffic' } },
});
const size = flags.quick ? QUICK : FULL;
const rounds = Number(flags.rounds ?? (flags.quick ? 2 : 30));
if (!Number.isInteger(rounds) || rounds < 1) throw new Error('--rounds takes a whole number');
const only = flags.only.split(',');
const unknown = only.find((name) => name !== 'start' && name !== 'traffic');
if (unknown !== undefined) throw new Error(`--only does not know ${unknown}: it takes start,traffic`);
if (process.platform !== 'linux') throw new Error('the isolation that is measured is that of Linux');
const kz = fileURLToPath(new URL('../bin/kz.cjs', import.meta.url));
if (!existsSync(new URL('../dist/kz.cjs', import.meta.url))) throw new Error('build kz first: npm run build');

const folder = mkdtempSync(join(tmpdir(), 'kz-bench-'));
/** @type {Program | undefined} */
let upstream;
try {
  const lab = await prepare();
  const results = new Results();
  if (only.includes('start')) await measureStarts(lab, results);
  const trafficRounds = only.includes('traffic') ? Math.min(rounds, TRAFFIC_ROUNDS) : 0;
  if (trafficRounds > 0) await measureTraffic(lab, results, trafficRounds);
  const note = flags.quick ? 'quick: for trying it out' : '';
  console.log(report(results, { starts: only.includes('start') ? rounds : 0, traffic: trafficRounds, note }));
} finally {
  await upstream?.end();
  rmSync(folder, { recursive: true, force: true });
}

/** @returns {Promise<Lab>} */
async function prepare() {
  const files = upstreamCertificate(folder);
  const secrets = secretsFor(10);
  const script = fileURLToPath(new URL('proxy/upstream.mjs', import.meta.url));
  const settings = JSON.stringify({ key: files.key, cert: files.cert, expect: secrets[0]?.value });
  upstream = new Program({ command: [process.execPath, script, settings], env: { PATH: process.env.PATH ?? '' }, cwd: folder });
  const { port } = /** @type {{ port: number }} */ (JSON.parse(await upstream.line()));
  // The child's own folder: what else is in `folder` is none of its business.
  const project = join(folder, 'project');
  mkdirSync(project);
  // Nothing of this machine's environment: NODE_EXTRA_CA_CERTS alone costs 20 to 40 ms at every start of Node 20.
  const env = { PATH: `${dirname(process.execPath)}:/usr/bin:/bin`, HOME: folder };
  return { folder, project, kz, secrets, upstream: { ca: files.ca, port }, env };
}

/**
 * Every subject once a round; who begins is somebody else in each.
 * @param {Lab} lab
 * @param {Results} results
 */
async function measureStarts(lab, results) {
  const subjects = STARTS.map((start) => ({ ...start, ...startOf(lab, start) }));
  for (let round = -WARM_UP_ROUNDS; round < rounds; round++) {
    console.error(`starts, round ${String(round + 1)} of ${String(rounds)}`);
    for (const { name, command, env } of turned(subjects, round + WARM_UP_ROUNDS)) {
      const { child, total } = await timesOf({ command, env, cwd: lab.project });
      if (round < 0) continue;
      results.put(name, 'child', child);
      results.put(name, 'total', total);
    }
  }
}

/**
 * All ways are up at the same time and take each step in turn; the ones that wait use no CPU.
 * @param {Lab} lab
 * @param {Results} results
 * @param {number} count
 */
async function measureTraffic(lab, results, count) {
  for (const way of WAYS) await refuseUnlessAsNamed(lab, way);
  for (let round = 0; round < count; round++) {
    console.error(`traffic, round ${String(round + 1)} of ${String(count)}`);
    const ways = turned(WAYS, round);
    /** @type {{ name: string, session: Program }[]} */
    const up = [];
    for (const way of ways) up.push({ name: way.name, session: sessionOf(lab, way) });
    for (const { session } of up) await session.ask({ do: 'small', connections: 64, seconds: size.seconds / 2 });
    for (const { name, session } of up) {
      results.put(name, 'rate', (await session.ask({ do: 'small', connections: 64, seconds: size.seconds })).rate);
    }
    for (const kind of ['octet', 'json']) {
      for (const way of /** @type {const} */ (['down', 'up'])) {
        for (const { name, session } of up) {
          const { seconds } = await session.ask({ do: way, kind, bytes: size.bodyBytes });
          results.put(name, `${way}.${kind}`, size.bodyBytes / (1 << 20) / seconds);
        }
      }
    }
    for (const { session } of up) await session.end();
  }
}

/**
 * Throws unless the upstream got the value, the child has the token, and the child is isolated where the name says so.
 * @param {Lab} lab
 * @param {Way} way
 */
async function refuseUnlessAsNamed(lab, way) {
  const session = sessionOf(lab, way);
  const answer = /** @type {{ text: string, token: string, interfaces: string[] }} */ (
    /** @type {unknown} */ (await session.ask({ do: 'echo' }))
  );
  await session.end();
  const { text, token, interfaces } = answer;
  const value = lab.secrets[0]?.value ?? '';
  // The upstream answers only to the value, so that it came is known already.
  if (text.includes(value) || !text.includes(token)) throw new Error(`${way.name} shows its child the value`);
  const isAlone = interfaces.length === 1 && interfaces[0] === 'lo';
  if (way.mode === 'strict' && !isAlone) throw new Error(`the child of ${way.name} has more than a loopback`);
}

/**
 * @template T
 * @param {readonly T[]} list
 * @param {number} round
 */
function turned(list, round) {
  const at = round % list.length;
  return [...list.slice(at), ...list.slice(0, at)];
}
