// `npm run bench:proxy [-- --rounds 5] [--quick] [--only kz,http-mitm-proxy] [--profile [--phase small]]`: what the proxy of a blind run costs, next to no proxy
// and to three others, in one interleaved run. `direct` always takes part. Linux only: it reads /proc. Nothing leaves the machine. docs/performance.md says what is measured.
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { mockttpAuthority, upstreamCertificate } from './proxy/certificates.mjs';
import { bundleMask, enginesOf, kzConfig, mitmdump, plainEnv, secretsFor, versionOf } from './proxy/engines.mjs';
import { FULL, QUICK, refuseUnlessMasked, stalledReader, STEPS } from './proxy/measure.mjs';
import { Program, timesOf } from './proxy/processes.mjs';
import { profiles } from './proxy/profile.mjs';
import { KZ, report } from './proxy/report.mjs';
import { Results } from './proxy/results.mjs';

/** @typedef {import('./proxy/engines.mjs').Engine} Engine */
/** @typedef {import('./proxy/engines.mjs').Lab} Lab */
/** @typedef {import('./proxy/engines.mjs').Session} Session */
/** @typedef {Engine & { label: string, bodiesOnly: boolean }} Subject */

const PEERS = ['http-mitm-proxy', 'mockttp', 'mitmdump'];
const STARTS_A_ROUND = 5;

const { values: flags } = parseArgs({
  options: {
    rounds: { type: 'string' },
    quick: { type: 'boolean', default: false },
    only: { type: 'string' },
    profile: { type: 'boolean', default: false },
    phase: { type: 'string', default: '' },
  },
});
const size = flags.quick ? QUICK : FULL;
const rounds = Number(flags.rounds ?? (flags.quick ? 1 : 5));
if (!Number.isInteger(rounds) || rounds < 1) throw new Error('--rounds takes a whole number');
const only = flags.only?.split(',');
const unknown = only?.find((name) => ![...PEERS, 'kz', 'direct'].includes(name));
if (unknown !== undefined) throw new Error(`--only does not know ${unknown}`);
if (process.platform !== 'linux') throw new Error('the benchmark reads /proc, which only Linux has');
const kz = fileURLToPath(new URL('../bin/kz.cjs', import.meta.url));
if (!existsSync(new URL('../dist/kz.cjs', import.meta.url))) throw new Error('build kz first: npm run build');

const folder = mkdtempSync(join(tmpdir(), 'kz-bench-'));
/** @type {Program[]} */
const upstreams = [];
try {
  const lab = await prepare();
  if (flags.profile) {
    console.log(await profiles(lab, { size, phase: flags.phase, kz: (other, count) => engine(other, 'kz', count) }));
  } else {
    const subjects = subjectsOf(lab);
    for (const subject of subjects) await refuseUnlessMasked(lab, subject);
    const results = new Results();
    for (let round = 0; round < rounds; round++) {
      console.error(`round ${String(round + 1)} of ${String(rounds)}`);
      await measure(lab, turned(subjects, round), results);
    }
    console.log(report(results, subjects, { rounds, note: flags.quick ? 'quick: short and with small bodies, for trying it out' : '' }));
  }
} finally {
  for (const upstream of upstreams) await upstream.end();
  rmSync(folder, { recursive: true, force: true });
}

/**
 * Two upstreams: handshakes of new hosts must not stall the one that everybody else talks to.
 * @returns {Promise<Lab>}
 */
async function prepare() {
  const files = upstreamCertificate(folder);
  mockttpAuthority(folder);
  await bundleMask(folder);
  const secrets = secretsFor(100);
  const lab = { folder, kz, node: [], secrets, upstream: { ca: files.ca, port: 0, portOfOthers: 0 } };
  const script = fileURLToPath(new URL('proxy/upstream.mjs', import.meta.url));
  const settings = JSON.stringify({ key: files.key, cert: files.cert, expect: secrets[0]?.value });
  const serve = async () => {
    const upstream = new Program({ command: [process.execPath, script, settings], env: plainEnv(lab), cwd: folder });
    upstreams.push(upstream);
    const { port } = /** @type {{ port: number }} */ (JSON.parse(await upstream.line()));
    return port;
  };
  lab.upstream.port = await serve();
  lab.upstream.portOfOthers = await serve();
  return lab;
}

/**
 * @param {Lab} lab
 * @param {string} kind
 * @param {number} count
 */
function engine(lab, kind, count) {
  const make = enginesOf(lab)[kind];
  if (make === undefined) throw new Error(`no engine ${kind}`);
  return make(count);
}

/**
 * @param {Lab} lab
 * @returns {Subject[]}
 */
function subjectsOf(lab) {
  const wanted = (/** @type {string} */ kind) => only === undefined || only.includes(kind);
  const ours = wanted('kz') ? [10, 0, 100, 1].map((count) => engine(lab, 'kz', count)) : [];
  const peers = PEERS.filter(wanted).filter((kind) => kind !== 'mitmdump' || mitmdump() !== undefined);
  return [
    { ...engine(lab, 'direct', 0), label: 'direct', bodiesOnly: false },
    ...ours.map((subject) => ({ ...subject, label: subject.name, bodiesOnly: ![0, 10].includes(subject.secrets) })),
    ...peers.map((kind) => ({ ...engine(lab, kind, 10), label: `${kind} ${versionOf(kind)}`, bodiesOnly: false })),
  ];
}

/**
 * Who begins is somebody else in each round.
 * @param {Subject[]} subjects
 * @param {number} round
 */
function turned(subjects, round) {
  const at = round % subjects.length;
  return [...subjects.slice(at), ...subjects.slice(0, at)];
}

/**
 * @param {Lab} lab
 * @param {Subject[]} subjects
 * @param {Results} results
 */
async function measure(lab, subjects, results) {
  const putOf =
    (/** @type {Subject} */ { name }) =>
    (/** @type {string} */ metric, /** @type {number} */ value) => {
      results.put(name, metric, value);
    };
  if (subjects.some(({ name }) => name === KZ)) await measureStarts(lab, results);
  /** @type {{ subject: Subject, session: Session }[]} */
  const up = [];
  for (const subject of subjects) {
    const session = await subject.start();
    results.put(subject.name, 'start', session.startMs);
    up.push({ subject, session });
  }
  for (const step of STEPS) {
    for (const { subject, session } of up) {
      if (step.bodiesOnly || !subject.bodiesOnly) await step.run({ lab, size, session, put: putOf(subject) });
    }
  }
  for (const { session } of up) await session.end();
  for (const subject of subjects) {
    if (subject.bodiesOnly || subject.kind === 'direct') continue;
    const session = await subject.start();
    await stalledReader({ lab, size, session, put: putOf(subject) });
    await session.end();
  }
}

/**
 * @param {Lab} lab
 * @param {Results} results
 */
async function measureStarts(lab, results) {
  const plain = kzConfig(lab, 10, false);
  const rules = kzConfig(lab, 10);
  const start = (/** @type {typeof plain} */ { path, env }, /** @type {string[]} */ words) =>
    timesOf({
      command: [process.execPath, kz, 'run', ...words, '-q', '-c', path, '--', 'date', '+%s%N'],
      env: { ...plainEnv(lab), ...env },
      cwd: folder,
    });
  for (let count = 0; count < STARTS_A_ROUND; count++) {
    const [none, blind, ruled] = [await start(plain, []), await start(plain, ['--blind']), await start(rules, ['--blind'])];
    for (const [name, times] of Object.entries({ plain: none, blind, rules: ruled })) {
      results.put(KZ, `start.${name}`, times.total);
      results.put(KZ, `child.${name}`, times.child);
    }
  }
}
