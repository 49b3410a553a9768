// `--profile`: where the kz proxy spends its CPU, phase by phase, with names: kz is bundled again for it, without shrinking.
import { cpSync, mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { cpuOf } from './processes.mjs';

/** @typedef {import('./engines.mjs').Lab} Lab */
/** @typedef {import('./engines.mjs').Engine} Engine */
/** @typedef {import('./measure.mjs').Size} Size */
/** @typedef {{ functionName: string, url: string, lineNumber: number }} Frame */
/** @typedef {{ nodes: { id: number, callFrame: Frame }[], samples: number[], timeDeltas: number[], startTime: number }} Profile */

const FILES = 12;
const FUNCTIONS = 30;
const root = fileURLToPath(new URL('../..', import.meta.url));

/**
 * A kz like the built one, but readable.
 * @param {string} folder
 */
export async function readableKz(folder) {
  const copy = join(folder, 'readable');
  mkdirSync(copy);
  cpSync(join(root, 'bin'), join(copy, 'bin'), { recursive: true });
  cpSync(join(root, 'dist'), join(copy, 'dist'), { recursive: true, filter: (path) => !path.endsWith('.cache') });
  const libraries = readdirSync(join(copy, 'dist')).flatMap((file) =>
    /^(?:kz|run)\.cjs$|\.txt$/.test(file) ? [] : [file.replace(/\.cjs$/, '')],
  );
  await build({
    entryPoints: [join(root, 'src/cli/main.ts')],
    outfile: join(copy, 'dist/kz.cjs'),
    bundle: true,
    platform: 'node',
    target: 'node20',
    format: 'cjs',
    charset: 'ascii',
    supported: { 'dynamic-import': false },
    external: ['@napi-rs/keyring'],
    define: { KZ_VERSION: '"0.0.0-profile"' },
    banner: { js: '(function (exports, require, module, __filename, __dirname) {' },
    footer: { js: '})' },
    logLevel: 'warning',
    plugins: [
      {
        name: 'lazy-libraries',
        setup(setup) {
          setup.onResolve({ filter: new RegExp(`^(${libraries.join('|')})$`) }, ({ path }) => ({
            path: `../dist/${path}.cjs`,
            external: true,
          }));
        },
      },
    ],
  });
  return join(copy, 'bin/kz.cjs');
}

/**
 * @param {Lab} lab `node` and `kz` are replaced
 * @param {{ kz: (lab: Lab, secrets: number) => Engine, size: Size, phase: string }} how `phase`: the start of a phase's name, or nothing for all
 */
export async function profiles(lab, { kz, size, phase }) {
  const program = await readableKz(lab.folder);
  const body = { bytes: size.bodyBytes, chunked: false };
  /** @type {{ name: string, secrets: number, command: ({ do: 'small' | 'down' | 'up', bytes?: number } & Record<string, unknown>) | undefined }[]} */
  const phases = [
    { name: 'start, until the child answers', secrets: 10, command: undefined },
    { name: 'small requests, c=64', secrets: 10, command: { do: 'small', connections: 64, seconds: size.seconds } },
    { name: 'down, octet', secrets: 100, command: { do: 'down', kind: 'octet', ...body } },
    { name: 'down, json', secrets: 100, command: { do: 'down', kind: 'json', ...body } },
    { name: 'up, octet', secrets: 100, command: { do: 'up', kind: 'octet', ...body } },
    { name: 'up, json', secrets: 100, command: { do: 'up', kind: 'json', ...body } },
  ];
  const texts = /** @type {string[]} */ ([]);
  for (const [index, { name, secrets, command }] of phases.entries()) {
    if (!name.startsWith(phase)) continue;
    const folder = join(lab.folder, `profile-${String(index)}`);
    const session = await kz({ ...lab, kz: program, node: ['--cpu-prof', `--cpu-prof-dir=${folder}`] }, secrets).start();
    const started = microseconds();
    const window =
      command === undefined ? { begin: 0, end: started, cpu: cpuOf(session.pid ?? 0) } : await underLoad(session, command, size);
    await session.end();
    const [file = ''] = readdirSync(folder);
    const profile = /** @type {Profile} */ (JSON.parse(readFileSync(join(folder, file), 'utf8')));
    texts.push(`### ${name}, ${String(secrets)} secrets: ${window.cpu.toFixed(2)} s of CPU`, summary(profile, window));
  }
  return texts.join('\n\n');
}

/**
 * When it was measured, and the CPU seconds in it.
 * @param {import('./engines.mjs').Session} session
 * @param {{ do: 'small' | 'down' | 'up', bytes?: number } & Record<string, unknown>} command
 * @param {Size} size
 */
async function underLoad(session, command, size) {
  await session.load.ask({ do: 'small', connections: 64, seconds: size.warmUp });
  if (command.bytes !== undefined) await session.load.ask({ ...command, bytes: command.bytes / 8 });
  const before = cpuOf(session.pid ?? 0);
  const begin = microseconds();
  await session.load.ask(command);
  return { begin, end: microseconds(), cpu: cpuOf(session.pid ?? 0) - before };
}

/** V8 dates its samples by the same clock. */
function microseconds() {
  return Number(process.hrtime.bigint() / 1000n);
}

/**
 * Self time by file and by function between two times, idle time left out.
 * @param {Profile} profile
 * @param {{ begin: number, end: number }} window
 */
function summary({ nodes, samples, timeDeltas, startTime }, { begin, end }) {
  const frames = new Map(nodes.map(({ id, callFrame }) => [id, callFrame]));
  /** @type {Map<string, number>} */
  const byFile = new Map();
  /** @type {Map<string, number>} */
  const byFunction = new Map();
  let total = 0;
  let now = startTime;
  for (const [index, id] of samples.entries()) {
    const frame = frames.get(id);
    const time = timeDeltas[index] ?? 0;
    now += time;
    if (now < begin || now > end || frame === undefined || ['(idle)', '(root)'].includes(frame.functionName)) continue;
    const place = placeOf(frame);
    add(byFile, place === '' ? 'native code and V8' : place.replace(/:\d+$/, ''), time);
    add(byFunction, `${frame.functionName || '(anonymous)'} ${place}`, time);
    total += time;
  }
  return `${top(byFile, total, FILES)}\n\n${top(byFunction, total, FUNCTIONS)}`;
}

/**
 * @param {Map<string, number>} times
 * @param {string} key
 * @param {number} time
 */
function add(times, key, time) {
  times.set(key, (times.get(key) ?? 0) + time);
}

/**
 * @param {Map<string, number>} times
 * @param {number} total
 * @param {number} lines
 */
function top(times, total, lines) {
  const rows = [...times].sort(([, a], [, b]) => b - a).slice(0, lines);
  return rows.map(([key, time]) => `${((time / total) * 100).toFixed(1).padStart(5)} %  ${key}`).join('\n');
}

/** @type {Map<string, string[]>} */
const sources = new Map();

/**
 * esbuild writes a comment with its file before each module.
 * @param {Frame} frame
 */
function placeOf({ url, lineNumber }) {
  if (!url.endsWith('kz.cjs')) return url === '' ? '' : `${url}:${String(lineNumber + 1)}`;
  const lines = sources.get(url) ?? readFileSync(url.replace('file://', ''), 'utf8').split('\n');
  sources.set(url, lines);
  for (let line = lineNumber; line >= 0; line--) {
    const file = /^\s*\/\/ ((?:\S*\/)?(?:src|node_modules)\/\S+)$/.exec(lines[line] ?? '')?.[1];
    if (file !== undefined) return file;
  }
  return url;
}
