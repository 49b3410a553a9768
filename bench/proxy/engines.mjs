// The engines: how each is started, and how a load generator gets its way through it. Each in a process of its own, with the same secrets.
import { spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { freePort, Program } from './processes.mjs';

/**
 * @typedef {object} Lab what all engines share
 * @property {string} folder
 * @property {string} kz the program
 * @property {string[]} node flags of the Node that runs kz
 * @property {{ ca: string, port: number, portOfOthers: number }} upstream
 * @property {{ name: string, token: string, value: string }[]} secrets
 */
/**
 * @typedef {object} Session
 * @property {Program} load
 * @property {number | undefined} pid of the proxy
 * @property {number} startMs until it listens
 * @property {() => Promise<void>} end
 */
/** @typedef {{ name: string, kind: string, secrets: number, start: () => Promise<Session> }} Engine */

const here = fileURLToPath(new URL('.', import.meta.url));
const peers = fileURLToPath(new URL('../peers/', import.meta.url));
const resolve = join(here, 'resolve.cjs');
export const NEW_HOSTS = Array.from({ length: 30 }, (_, index) => `host-${String(index + 1)}.bench.test`);

/** Nothing of this machine's environment: NODE_EXTRA_CA_CERTS alone costs 20 to 40 ms at every start of Node 20. */
export function plainEnv(/** @type {Lab} */ { folder }) {
  return { PATH: `${process.execPath.replace(/\/[^/]*$/, '')}:/usr/bin:/bin`, HOME: folder };
}

/** @param {number} count */
export function secretsFor(count) {
  return Array.from({ length: count }, (_, index) => ({
    name: `SECRET_${String(index + 1)}`,
    token: `kz_masked_${randomBytes(16).toString('hex')}`,
    // 16 to 60 characters.
    value: randomBytes(12 + ((index * 7) % 34)).toString('base64url'),
  }));
}

/**
 * @param {Lab} lab
 * @returns {Record<string, (count: number) => Engine>}
 */
export function enginesOf(lab) {
  return {
    direct: () => ({ name: 'direct', kind: 'direct', secrets: 0, start: () => startDirect(lab) }),
    kz: (count) => ({
      name: count === 0 ? 'kz, masking off' : `kz, ${String(count)} secrets`,
      kind: 'kz',
      secrets: count,
      start: () => startKz(lab, count),
    }),
    'http-mitm-proxy': (count) => nodePeer(lab, 'http-mitm-proxy', count, {}),
    mockttp: (count) => nodePeer(lab, 'mockttp', count, { NODE_EXTRA_CA_CERTS: lab.upstream.ca }),
    mitmdump: (count) => ({ name: 'mitmdump', kind: 'mitmdump', secrets: count, start: () => startMitmdump(lab, count) }),
  };
}

/** @param {Lab} lab */
function loadCommand({ upstream }) {
  return [process.execPath, join(here, 'load.mjs'), String(upstream.port), String(upstream.portOfOthers)];
}

/**
 * A further load generator that goes the same way.
 * @param {Lab} lab
 * @param {Session} session
 */
export async function anotherLoad(lab, session) {
  const { env } = await session.load.ask({ do: 'environment' });
  return new Program({ command: loadCommand(lab), env: { ...plainEnv(lab), ...env }, cwd: lab.folder });
}

/**
 * @param {Lab} lab
 * @returns {Promise<Session>}
 */
async function startDirect(lab) {
  const env = { ...plainEnv(lab), SSL_CERT_FILE: lab.upstream.ca, SECRET_1: lab.secrets[0]?.value ?? '' };
  const load = new Program({ command: loadCommand(lab), env, cwd: lab.folder });
  await load.ask({ do: 'environment' });
  return { load, pid: undefined, startMs: 0, end: () => load.end() };
}

/**
 * A config for kz, and the variables that its secrets come from.
 * @param {Lab} lab
 * @param {number} count
 */
export function kzConfig(lab, count, rules = true) {
  const path = join(lab.folder, `kz-${String(count)}-${rules ? 'rules' : 'plain'}.toml`);
  const used = lab.secrets.slice(0, count);
  const hosts = rules ? '' : ', hosts = ["localhost"]';
  const allow = (/** @type {string} */ host) => ['', '[[blind.connections]]', 'allow = true', `host = '${host}'`];
  const lines = [
    '[secrets]',
    ...used.map(({ name }) => `${name} = { provider = "env", ref = "SOURCE_${name}"${hosts} }`),
    ...(rules ? ['', '[blind]', `upstream_ca = "${lab.upstream.ca}"`, ...allow('localhost'), ...allow('*.bench.test')] : []),
  ];
  writeFileSync(path, `${lines.join('\n')}\n`, { mode: 0o600 });
  return { path, env: Object.fromEntries(used.map(({ name, value }) => [`SOURCE_${name}`, value])) };
}

/**
 * A blind run, whose child is the load generator.
 * @param {Lab} lab
 * @param {number} count
 * @returns {Promise<Session>}
 */
async function startKz(lab, count) {
  const config = kzConfig(lab, count);
  // What the child's Node would load costs the load generator, not kz. With masking off the child has the value itself.
  const child = ['/usr/bin/env', '-u', 'NODE_OPTIONS', '-u', 'NODE_EXTRA_CA_CERTS'];
  if (count === 0) child.push(`SECRET_1=${lab.secrets[0]?.value ?? ''}`);
  const command = [
    process.execPath,
    '--require',
    resolve,
    ...lab.node,
    lab.kz,
    'run',
    '--blind',
    '-q',
    '-c',
    config.path,
    '--',
    ...child,
    ...loadCommand(lab),
  ];
  const begin = performance.now();
  const load = new Program({ command, env: { ...plainEnv(lab), ...config.env }, cwd: lab.folder });
  const { parent } = await load.ask({ do: 'environment' });
  const startMs = performance.now() - begin;
  if (parent !== load.pid) throw new Error('the load generator is not the child of kz itself');
  return { load, pid: load.pid, startMs, end: () => load.end() };
}

/**
 * @param {Lab} lab
 * @param {string} name
 * @param {{ command: string[], env: Record<string, string>, ca: string, count: number, port: number }} peer
 * @returns {Promise<Session>}
 */
async function startPeer(lab, name, { command, env, ca, count, port }) {
  const begin = performance.now();
  const proxy = new Program({ command, env: { ...plainEnv(lab), ...env }, cwd: lab.folder });
  if ((await proxy.line()) !== 'listening') throw new Error(`${name} says something else than that it listens`);
  const startMs = performance.now() - begin;
  const [first] = lab.secrets;
  const ours = {
    HTTPS_PROXY: `http://127.0.0.1:${String(port)}`,
    SSL_CERT_FILE: ca,
    SECRET_1: (count === 0 ? first?.value : first?.token) ?? '',
  };
  const load = new Program({ command: loadCommand(lab), env: { ...plainEnv(lab), ...ours }, cwd: lab.folder });
  await load.ask({ do: 'environment' });
  const end = async () => {
    await load.end();
    await proxy.end();
  };
  return { load, pid: proxy.pid, startMs, end };
}

/**
 * @param {Lab} lab
 * @param {string} name
 * @param {number} count
 */
async function settingsFor(lab, name, count) {
  const folder = join(lab.folder, name);
  mkdirSync(folder, { recursive: true });
  const port = await freePort();
  const settings = {
    port,
    folder,
    upstreamCa: readFileSync(lab.upstream.ca, 'utf8'),
    require: join(peers, 'package.json'),
    mask: join(lab.folder, 'mask.cjs'),
    secrets: lab.secrets.slice(0, count),
  };
  const path = join(folder, 'settings.json');
  writeFileSync(path, JSON.stringify(settings), { mode: 0o600 });
  return { path, folder, port };
}

/**
 * @param {Lab} lab
 * @param {string} name
 * @param {number} count
 * @param {Record<string, string>} env
 * @returns {Engine}
 */
function nodePeer(lab, name, count, env) {
  const start = async () => {
    const { path, folder, port } = await settingsFor(lab, name, count);
    const ca = name === 'mockttp' ? join(folder, 'ca.pem') : join(folder, 'certs/ca.pem');
    return startPeer(lab, name, {
      command: [process.execPath, '--require', resolve, join(here, `${name}.mjs`), path],
      env,
      ca,
      count,
      port,
    });
  };
  return { name, kind: name, secrets: count, start };
}

/**
 * @param {Lab} lab
 * @param {number} count
 */
async function startMitmdump(lab, count) {
  const { path, folder, port } = await settingsFor(lab, 'mitmdump', count);
  const set = (/** @type {string} */ option) => ['--set', option];
  const command = [mitmdump() ?? '', '-q', '--listen-host', '127.0.0.1', '-p', String(port), '-s', join(here, 'mitmdump.py')];
  command.push(...set(`confdir=${folder}`), ...set(`ssl_verify_upstream_trusted_ca=${lab.upstream.ca}`));
  return startPeer(lab, 'mitmdump', {
    command,
    env: { BENCH_SETTINGS: path, PYTHONDONTWRITEBYTECODE: '1' },
    ca: join(folder, 'mitmproxy-ca-cert.pem'),
    count,
    port,
  });
}

/** Where it is, if it is: MITMDUMP, or the path. */
export function mitmdump() {
  const { MITMDUMP } = process.env;
  if (MITMDUMP !== undefined) return MITMDUMP;
  const found = spawnSync('sh', ['-c', 'command -v mitmdump'], { encoding: 'utf8' });
  return found.status === 0 ? found.stdout.trim() : undefined;
}

/** @param {string} name */
export function versionOf(name) {
  if (name === 'mitmdump') {
    const said = spawnSync(mitmdump() ?? '', ['--version'], { encoding: 'utf8' });
    return /^Mitmproxy: (\S+)/.exec(said.stdout)?.[1] ?? '?';
  }
  const home = join(peers, 'node_modules', name);
  if (!existsSync(home)) {
    const install = spawnSync('npm', ['install', '--no-package-lock', '--no-audit', '--no-fund'], { cwd: peers, stdio: 'ignore' });
    if (install.status !== 0) throw new Error(`cannot install ${name}: run \`npm install --prefix bench/peers\` to see why`);
  }
  const about = /** @type {{ version: string }} */ (JSON.parse(readFileSync(join(home, 'package.json'), 'utf8')));
  return about.version;
}

/** kz's masking for the two Node peers, as one file. */
export async function bundleMask(/** @type {string} */ folder) {
  const root = fileURLToPath(new URL('../..', import.meta.url));
  const contents = "export { Remasker } from './src/mask/remask.ts'; export { Secret } from './src/core/secret.ts';";
  const common = /** @type {const} */ ({ bundle: true, platform: 'node', format: 'cjs', target: 'node20', logLevel: 'warning' });
  await build({ ...common, stdin: { contents, resolveDir: root, loader: 'ts' }, outfile: join(folder, 'mask.cjs') });
}
