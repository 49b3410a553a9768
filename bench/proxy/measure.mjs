// What is measured of one engine, step by step. All engines of a round are up at the same time and take each step in turn, so that whatever
// else the machine does falls on all of them alike; the ones that wait use no CPU.
import { NEW_HOSTS, anotherLoad } from './engines.mjs';
import { cpuOf, memoryOf, pause } from './processes.mjs';

/** @typedef {import('./engines.mjs').Engine} Engine */
/** @typedef {import('./engines.mjs').Lab} Lab */
/** @typedef {import('./engines.mjs').Session} Session */
/** @typedef {{ seconds: number, warmUp: number, bodyBytes: number, streams: number }} Size */
/** @typedef {{ lab: Lab, size: Size, session: Session, put: (metric: string, value: number) => void }} Step */

export const BODIES = /** @type {const} */ (['down', 'up']).flatMap((way) =>
  ['octet', 'json'].flatMap((kind) => ['length', 'chunked'].map((framing) => ({ way, kind, framing, key: `${way} ${kind} ${framing}` }))),
);

/** @type {Size} */
export const FULL = { seconds: 3, warmUp: 2, bodyBytes: 256 << 20, streams: 3 };
/** @type {Size} */
export const QUICK = { seconds: 0.5, warmUp: 0.3, bodyBytes: 16 << 20, streams: 1 };

const SETTLE_MS = 300;

/**
 * The steps, in their order. `bodiesOnly`: for an engine that takes part for one comparison.
 * @type {{ bodiesOnly: boolean, run: (step: Step) => Promise<void> }[]}
 */
export const STEPS = [
  { bodiesOnly: false, run: idle },
  { bodiesOnly: true, run: warmUp },
  { bodiesOnly: false, run: (step) => small(step, 1) },
  { bodiesOnly: false, run: (step) => small(step, 64) },
  { bodiesOnly: false, run: afterLoad },
  { bodiesOnly: false, run: events },
  { bodiesOnly: false, run: newHosts },
  { bodiesOnly: false, run: (step) => bystander(step, { key: 'turn', hosts: NEW_HOSTS.slice(10, 20), atOnce: false }) },
  { bodiesOnly: false, run: (step) => bystander(step, { key: 'once', hosts: NEW_HOSTS.slice(20, 30), atOnce: true }) },
  { bodiesOnly: true, run: warmUpBodies },
  ...BODIES.map((body) => ({ bodiesOnly: true, run: (/** @type {Step} */ step) => transfer(step, body) })),
  { bodiesOnly: false, run: peak },
];

/** @param {Step} step */
async function idle({ session, put }) {
  await pause(SETTLE_MS);
  if (session.pid !== undefined) put('rss.idle', memoryOf(session.pid).now);
}

/** @param {Step} step */
async function warmUp({ session, size }) {
  await session.load.ask({ do: 'small', connections: 64, seconds: size.warmUp });
  await session.load.ask({ do: 'small', connections: 1, seconds: size.warmUp / 4 });
}

/** @param {Step} step */
async function warmUpBodies({ session, size }) {
  const body = { kind: 'json', bytes: size.bodyBytes / 16, chunked: false };
  await session.load.ask({ do: 'down', ...body });
  await session.load.ask({ do: 'up', ...body });
}

/**
 * CPU seconds of the proxy meanwhile; 0 without one.
 * @template T
 * @param {Session} session
 * @param {() => Promise<T>} run
 */
async function withCpu({ pid }, run) {
  const before = pid === undefined ? 0 : cpuOf(pid);
  const result = await run();
  return { result, cpu: pid === undefined ? 0 : cpuOf(pid) - before };
}

/**
 * @param {Step} step
 * @param {number} connections
 */
async function small({ session, size, put }, connections) {
  const { result, cpu } = await withCpu(session, () => session.load.ask({ do: 'small', connections, seconds: size.seconds }));
  const key = `c${String(connections)}`;
  put(`${key}.rate`, result.rate);
  put(`${key}.p50`, result.p50);
  put(`${key}.p99`, result.p99);
  if (session.pid !== undefined) put(`${key}.cpu`, (cpu / result.requests) * 1e6);
}

/** @param {Step} step */
async function afterLoad({ session, put }) {
  await pause(SETTLE_MS);
  if (session.pid !== undefined) put('rss.load', memoryOf(session.pid).now);
}

/** @param {Step} step */
async function events({ session, size, put }) {
  for (let stream = 0; stream < size.streams; stream++) {
    const { delays } = await session.load.ask({ do: 'events' });
    if (delays.length !== 10) throw new Error(`${String(delays.length)} events came instead of 10`);
    put('sse.first', delays[0] ?? 0);
    put('sse.median', median(delays));
  }
}

/** @param {Step} step */
async function newHosts({ session, put }) {
  const { first, later } = await session.load.ask({ do: 'hosts', hosts: NEW_HOSTS.slice(0, 10), atOnce: false });
  put('host.first', median(first));
  put('host.worst', Math.max(...first));
  put('host.later', median(later));
}

/**
 * How long somebody else has to wait while new hosts are opened. A process of its own: in this one the handshakes themselves would stall it.
 * @param {Step} step
 * @param {{ key: string, hosts: string[], atOnce: boolean }} how
 */
async function bystander({ lab, session, put }, { key, hosts, atOnce }) {
  const other = await anotherLoad(lab, session);
  await other.ask({ do: 'watch' });
  await pause(SETTLE_MS);
  const { total } = await session.load.ask({ do: 'hosts', hosts, atOnce });
  const { worst } = await other.ask({ do: 'watched' });
  await other.end();
  put(`stalled.${key}`, worst);
  put(`hosts.${key}`, total);
}

/**
 * @param {Step} step
 * @param {typeof BODIES[number]} body
 */
async function transfer({ session, size, put }, { way, kind, framing, key }) {
  const command = { do: way, kind, bytes: size.bodyBytes, chunked: framing === 'chunked' };
  const { result, cpu } = await withCpu(session, () => session.load.ask(command));
  const megabytes = size.bodyBytes / (1 << 20);
  put(`${key}.rate`, megabytes / result.seconds);
  if (session.pid !== undefined) put(`${key}.cpu`, (cpu / megabytes) * 1024);
}

/** @param {Step} step */
function peak({ session, put }) {
  if (session.pid !== undefined) put('rss.peak', memoryOf(session.pid).peak);
  return Promise.resolve();
}

const STALL_POLL_MS = 250;
const STALL_POLLS = 60;

/**
 * A reader that stops reading: what the proxy has at most by the time it has come to rest. In a session of its own.
 * @param {Step} step
 */
export async function stalledReader({ session, size, put }) {
  const { pid } = session;
  if (pid === undefined) return;
  await session.load.ask({ do: 'stall', kind: 'json', bytes: size.bodyBytes, chunked: false });
  let before = cpuOf(pid);
  for (let poll = 0; poll < STALL_POLLS; poll++) {
    await pause(STALL_POLL_MS);
    const now = cpuOf(pid);
    if (poll > 2 && now - before < 0.02) break;
    before = now;
  }
  put('rss.stalled', memoryOf(pid).peak);
}

/**
 * Throws unless the server got the value and the client gets the token back.
 * @param {Lab} lab
 * @param {Engine} engine
 */
export async function refuseUnlessMasked(lab, { name, secrets, start }) {
  const session = await start();
  const { text, token } = await session.load.ask({ do: 'echo' });
  await session.end();
  const value = lab.secrets[0]?.value ?? '';
  // The upstream answers only to the value, so that it came is known already.
  const good = secrets === 0 ? text.includes(value) : !text.includes(value) && text.includes(token);
  if (!good) throw new Error(`${name} does not do what it is measured for: ${text.replaceAll(value, 'VALUE')}`);
}

/** @param {readonly number[]} samples */
export function median(samples) {
  const sorted = [...samples].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  const upper = sorted[middle] ?? NaN;
  return sorted.length % 2 === 1 ? upper : (upper + (sorted[middle - 1] ?? NaN)) / 2;
}
