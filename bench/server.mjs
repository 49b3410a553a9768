// `npm run bench:server [-- --rounds 5] [--quick] [--only decisions,mcp,memory]`: how many questions `kz server`
// answers over HTTP and how quickly, next to OPA with the same rules and to an HTTP server that decides nothing, how soon it speaks MCP, and
// what it holds on to. Linux only: it reads /proc. Nothing leaves the machine, except for the building of OPA. docs/performance.md says what is measured.
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { Program } from './proxy/processes.mjs';
import { Results } from './proxy/results.mjs';
import { makeLab, RULES } from './server/lab.mjs';
import { firstList, mcpSubjects } from './server/mcp.mjs';
import { memoryAfter } from './server/memory.mjs';
import { OPA_VERSION, opaProgram } from './server/opa.mjs';
import { keyOf, report } from './server/report.mjs';
import { subjectsOf } from './server/subjects.mjs';

/** @typedef {import('./server/lab.mjs').Lab} Lab */
/** @typedef {import('./server/subjects.mjs').Subject} Subject */

const PARTS = ['decisions', 'mcp', 'memory'];
const FULL = { seconds: 2, warmUp: 3, paced: 5, starts: 20, marks: [10_000, 100_000, 200_000] };
const QUICK = { seconds: 0.5, warmUp: 0.7, paced: 1, starts: 5, marks: [2000, 20_000, 40_000] };
/** Requests a second, of all connections together. */
const PACE = 1000;
const CONNECTIONS = [1, 64];

const { values: flags } = parseArgs({
  options: {
    rounds: { type: 'string' },
    quick: { type: 'boolean', default: false },
    only: { type: 'string', default: PARTS.join(',') },
  },
});
const size = flags.quick ? QUICK : FULL;
const rounds = Number(flags.rounds ?? (flags.quick ? 1 : 5));
if (!Number.isInteger(rounds) || rounds < 1) throw new Error('--rounds takes a whole number');
const only = flags.only.split(',');
const unknown = only.find((name) => !PARTS.includes(name));
if (unknown !== undefined) throw new Error(`--only does not know ${unknown}: it takes ${PARTS.join(',')}`);
if (process.platform !== 'linux') throw new Error('the benchmark reads /proc, which only Linux has');
const kz = fileURLToPath(new URL('../bin/kz.cjs', import.meta.url));
if (!existsSync(new URL('../dist/kz.cjs', import.meta.url))) throw new Error('build kz first: npm run build');

const folder = mkdtempSync(join(tmpdir(), 'kz-bench-'));
/** @type {Program | undefined} */
let generator;
try {
  const lab = makeLab(folder, kz);
  generator = new Program({
    command: [process.execPath, fileURLToPath(new URL('server/load.mjs', import.meta.url))],
    env: lab.env,
    cwd: folder,
  });
  const program = generator;
  /** The generator knows one command. */
  const load = (/** @type {object} */ command) => program.ask({ do: 'small', ...command });
  console.log(await all(lab, load));
} finally {
  await generator?.end();
  rmSync(folder, { recursive: true, force: true });
}

/** @typedef {(command: object) => Promise<{ rate: number, p50: number, p99: number }>} Ask */

/**
 * @param {Lab} lab
 * @param {Ask} load
 */
async function all(lab, load) {
  const results = new Results();
  const notes = flags.quick ? ['quick: short, for trying it out'] : [];
  const isWanted = (/** @type {string} */ part) => only.includes(part);
  /** @type {Subject[]} */
  let subjects = [];
  if (isWanted('decisions')) {
    const opa = opaProgram();
    notes.push('program' in opa ? `OPA ${OPA_VERSION}` : `OPA is left out: ${opa.problem}`);
    subjects = subjectsOf(lab, { rules: RULES, opa: 'program' in opa ? opa.program : undefined });
    await measureDecisions(subjects, load, results);
  }
  const mcp = mcpSubjects(lab, [10, 1000]);
  if (isWanted('mcp')) await measureStarts(lab, mcp, results);
  const memory = isWanted('memory') ? await memoryAfter(lab, { marks: size.marks, load }) : [];
  const counts = { rounds: isWanted('decisions') ? rounds : 0, starts: isWanted('mcp') ? size.starts : 0 };
  return report(results, { ...counts, pace: PACE, notes, subjects, mcp: mcp.map(({ name }) => name), memory });
}

/**
 * All servers are up at the same time and take each step in turn; the ones that wait use no CPU. Who begins is somebody else in each round.
 * @param {Subject[]} subjects
 * @param {Ask} load
 * @param {Results} results
 */
async function measureDecisions(subjects, load, results) {
  /** @type {Map<string, import('./server/subjects.mjs').Server>} */
  const servers = new Map();
  try {
    /** @type {{ subject: Subject, ask: (how: object) => ReturnType<Ask> }[]} */
    const up = [];
    for (const subject of subjects) {
      const server = servers.get(subject.server) ?? (await subject.start());
      servers.set(subject.server, server);
      const requests = await subject.requests();
      const ask = (/** @type {object} */ how) => load({ port: server.port, requests, expect: subject.expect, ...how });
      for (const connections of CONNECTIONS) await ask({ connections, seconds: size.warmUp / 2 });
      up.push({ subject, ask });
    }
    for (let round = 0; round < rounds; round++) {
      console.error(`round ${String(round + 1)} of ${String(rounds)}`);
      for (const { subject, ask } of turned(up, round)) await measure(subject, ask, results);
    }
  } finally {
    for (const server of servers.values()) await server.end();
  }
}

/**
 * @param {Subject} subject
 * @param {(how: object) => ReturnType<Ask>} ask
 * @param {Results} results
 */
async function measure(subject, ask, results) {
  const put = (/** @type {object} */ answer, /** @type {string} */ of) => {
    for (const [metric, value] of Object.entries(/** @type {Record<string, number>} */ (answer)))
      results.put(keyOf(subject), `${metric}.${of}`, value);
  };
  for (const connections of CONNECTIONS) put(await ask({ connections, seconds: size.seconds }), String(connections));
  if (subject.paced === true) put(await ask({ connections: 64, seconds: size.paced, rate: PACE }), 'paced');
}

/**
 * @param {Lab} lab
 * @param {ReturnType<typeof mcpSubjects>} subjects
 * @param {Results} results
 */
async function measureStarts(lab, subjects, results) {
  for (let round = -1; round < size.starts; round++) {
    for (const { name, command } of turned(subjects, round + 1)) {
      const times = await firstList(command, lab);
      // The first one of each reads its files from the disk.
      if (round < 0) continue;
      results.put(name, 'hello', times.hello);
      results.put(name, 'list', times.list);
    }
  }
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
