// `npm run bench:start [-- --rounds 31]`: what a wrapper adds to the start of a program, for kz and two peers, each with five secrets. One
// interleaved run, so that whatever else the machine does falls on all of them alike. kz takes part twice: as the build left it here, with
// its compiled form, and as npm installs it, without. Offline: no peer may phone home.
import { spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { cpus, loadavg, release, tmpdir, type } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

/** @typedef {{ name: string, argv: string[], folder: string, injects: boolean }} Subject */

const root = fileURLToPath(new URL('..', import.meta.url));
const kz = join(root, 'bin', 'kz.cjs');
const names = [1, 2, 3, 4, 5].map((number) => `SECRET_${String(number)}`);
const WARM_UP_ROUNDS = 3;

/** Milliseconds over `node -e 0`, and the part of each peer's overhead that kz may have. docs/performance.md says why. */
const AIMS = { env: 14, store: 25, peers: 1 / 4 };

const { values: flags } = parseArgs({ options: { rounds: { type: 'string', default: '31' } } });
const rounds = Number(flags.rounds);
if (!Number.isInteger(rounds) || rounds < 1) throw new Error('--rounds takes a whole number');

const folder = mkdtempSync(join(tmpdir(), 'kz-bench-'));
const secrets = new Map(names.map((name) => [name, randomBytes(24).toString('base64url')]));
// Nothing else of this machine's environment: NODE_EXTRA_CA_CERTS alone costs 20 to 40 ms at every start of Node 20.
const env = {
  PATH: `${dirname(process.execPath)}:/usr/bin:/bin`,
  HOME: folder,
  OUT: join(folder, 'seen'),
  VARLOCK_TELEMETRY_DISABLED: '1',
  DO_NOT_TRACK: '1',
  ...Object.fromEntries([...secrets].map(([name, value]) => [`SOURCE_${name}`, value])),
};
try {
  const subjects = prepare();
  for (const subject of subjects) if (subject.injects) refuseUnlessInjected(subject);
  console.log(report(subjects, measure(subjects)));
} finally {
  rmSync(folder, { recursive: true, force: true });
}

/** Five secrets for each, in the form that it takes them. */
function prepare() {
  const declare = (/** @type {string} */ provider, /** @type {string} */ prefix) =>
    ['[secrets]', ...names.map((name) => `${name} = { provider = "${provider}", ref = "${prefix}${name}" }`), ''].join('\n');
  const dotenv = [...secrets].map(([name, value]) => `${name}=${value}\n`).join('');
  const fromEnv = place('env', { '.keyzero.toml': declare('env', 'SOURCE_') });
  const fromStore = place('store', { '.keyzero.toml': declare('store', '') });
  for (const [name, input] of secrets) start([kz, 'put', '-q', name], fromStore, input);
  const dotenvx = place('dotenvx', { '.env': dotenv });
  const schema = ['# @defaultSensitive=true @defaultRequired=true', '# ---', '', ...names.map((name) => `${name}=`), ''].join('\n');
  const varlock = place('varlock', { '.env': dotenv, '.env.schema': schema });
  const peer = (/** @type {string} */ name, /** @type {string} */ bin) => [process.execPath, join(home(name), bin), 'run', '--', 'true'];
  const wrapped = (/** @type {string} */ path) => [path, 'run', '--', 'true'];
  const fromNpm = published();
  return [
    subject('true', ['true'], folder, false),
    subject('node -e 0', [process.execPath, '-e', '0'], folder, false),
    subject(`dotenvx ${version('@dotenvx/dotenvx')} run -- true`, peer('@dotenvx/dotenvx', 'src/cli/dotenvx.js'), dotenvx),
    subject(`varlock ${version('varlock')} run -- true`, peer('varlock', 'bin/cli.js'), varlock),
    subject('kz run -- true (env)', wrapped(kz), fromEnv),
    subject('kz run -- true (store)', wrapped(kz), fromStore),
    subject('kz run -- true (env), as from npm', wrapped(fromNpm), fromEnv),
    subject('kz run -- true (store), as from npm', wrapped(fromNpm), fromStore),
  ];
}

/** A copy of what package.json ships, which is the bundle without its compiled form. */
function published() {
  const copy = join(folder, 'package');
  cpSync(join(root, 'bin'), join(copy, 'bin'), { recursive: true });
  cpSync(join(root, 'dist'), join(copy, 'dist'), { recursive: true, filter: (path) => !path.endsWith('.cache') });
  return join(copy, 'bin', 'kz.cjs');
}

/** @returns {Subject} */
function subject(/** @type {string} */ name, /** @type {string[]} */ argv, /** @type {string} */ where, injects = true) {
  return { name, argv, folder: where, injects };
}

/**
 * @param {string} name
 * @param {Record<string, string>} files
 */
function place(name, files) {
  const path = join(folder, name);
  mkdirSync(path);
  for (const [file, text] of Object.entries(files)) writeFileSync(join(path, file), text, { mode: 0o600 });
  return path;
}

/** The child writes its environment to a file, because a wrapper may redact what it prints. */
function refuseUnlessInjected(/** @type {Subject} */ { name, argv, folder: where }) {
  start([...argv.slice(0, -1), 'sh', '-c', 'printenv > "$OUT"'], where);
  const seen = readFileSync(env.OUT, 'utf8').split('\n');
  for (const [variable, value] of secrets) {
    if (!seen.includes(`${variable}=${value}`)) throw new Error(`${name} did not give its child ${variable}`);
  }
  rmSync(env.OUT);
}

/** @param {Subject[]} subjects */
function measure(subjects) {
  const times = subjects.map(() => /** @type {number[]} */ ([]));
  for (let round = -WARM_UP_ROUNDS; round < rounds; round++) {
    for (const [index, { argv, folder: where }] of subjects.entries()) {
      const begin = performance.now();
      start(argv, where);
      if (round >= 0) times[index]?.push(performance.now() - begin);
    }
  }
  return times;
}

/**
 * Throws unless it ends with 0.
 * @param {string[]} argv
 * @param {string} cwd
 * @param {string} [input] with it, the program may say on standard error what it does
 */
function start([program = '', ...args], cwd, input) {
  const said = input === undefined ? 'ignore' : 'inherit';
  const { status, error } = spawnSync(program, args, { cwd, env, input, stdio: [input === undefined ? 'ignore' : 'pipe', 'ignore', said] });
  if (error !== undefined || status !== 0) throw new Error(`${program} ${args.join(' ')} ended with ${String(status)}`, { cause: error });
}

/**
 * @param {Subject[]} subjects
 * @param {number[][]} times
 */
function report(subjects, times) {
  const medians = times.map(median);
  const [, base = 0] = medians;
  const over = medians.map((value) => value - base);
  const [, , dotenvx = 0, varlock = 0, ...ours] = over;
  const starts = subjects.map(({ name }, index) => {
    const extra = index < 2 ? '' : `+${ms(over[index] ?? 0)}`;
    return [`\`${name}\``, ms(medians[index] ?? 0), ms(Math.min(...(times[index] ?? []))), extra];
  });
  const aims = ours.map((overhead, index) => {
    const most = subjects[index + 4]?.folder.endsWith('store') === true ? AIMS.store : AIMS.env;
    const parts = [overhead / dotenvx, overhead / varlock];
    return [
      `\`${subjects[index + 4]?.name ?? ''}\``,
      `${ms(overhead)} ms, ${reached(overhead <= most)} (${String(most)})`,
      ...parts.map((part) => `${part.toFixed(2)}, ${reached(part <= AIMS.peers)} (${String(AIMS.peers)})`),
    ];
  });
  return [
    header(),
    table(['start', 'median ms', 'min ms', 'over `node -e 0`'], starts),
    table(["overhead, and kz's aim", 'over `node -e 0`', "part of dotenvx's", "part of varlock's"], aims),
  ].join('\n\n');
}

/** @param {boolean} aim */
function reached(aim) {
  return aim ? 'reached' : 'missed';
}

function header() {
  const [cpu] = cpus();
  const load = loadavg().map((value) => value.toFixed(2));
  return [
    new Date().toISOString().slice(0, 10),
    `Node ${process.versions.node}`,
    `${cpu?.model.trim() ?? 'unknown CPU'} × ${String(cpus().length)}`,
    `${type()} ${release()}`,
    `${String(rounds)} interleaved rounds after ${String(WARM_UP_ROUNDS)}`,
    `load ${load.join(' ')}`,
  ].join(' · ');
}

/**
 * @param {string[]} head
 * @param {string[][]} rows
 */
function table(head, rows) {
  const widths = head.map((cell, column) => Math.max(cell.length, ...rows.map((row) => row[column]?.length ?? 0)));
  const numeric = head.map((_, column) => rows.every((row) => /^\+?[\d.]*( ms)?$/.test(row[column] ?? '')));
  const line = (/** @type {string[]} */ row) =>
    `| ${row.map((cell, column) => (numeric[column] === true ? cell.padStart(widths[column] ?? 0) : cell.padEnd(widths[column] ?? 0))).join(' | ')} |`;
  const rule = widths.map((width, column) => (numeric[column] === true ? `${'-'.repeat(width - 1)}:` : '-'.repeat(width)));
  return [line(head), `| ${rule.join(' | ')} |`, ...rows.map(line)].join('\n');
}

/** @param {readonly number[]} samples */
function median(samples) {
  const sorted = [...samples].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  const upper = sorted[middle] ?? 0;
  return sorted.length % 2 === 1 ? upper : (upper + (sorted[middle - 1] ?? 0)) / 2;
}

/** @param {number} value */
function ms(value) {
  return value.toFixed(1);
}

/** @param {string} name */
function version(name) {
  const about = /** @type {{ version: string }} */ (JSON.parse(readFileSync(join(home(name), 'package.json'), 'utf8')));
  return about.version;
}

/**
 * Where a peer is installed. Those that cannot be dev dependencies have a folder of their own, filled when it is first needed.
 * @param {string} name
 */
function home(name) {
  const dev = join(root, 'node_modules', name);
  if (existsSync(dev)) return dev;
  const own = join(root, 'bench/peers/node_modules', name);
  if (!existsSync(own)) {
    const install = spawnSync('npm', ['install', '--no-package-lock', '--no-audit', '--no-fund'], {
      cwd: join(root, 'bench/peers'),
      stdio: 'ignore',
    });
    if (install.status !== 0) throw new Error(`cannot install ${name}: run \`npm install --prefix bench/peers\` to see why`);
  }
  return own;
}
