// `npm run demo`: a secret goes into kz's own store, an MCP server gets it at start, and every claim on the screen is checked on the way.
// Offline, in a temporary folder with a home of its own; exits with 1 when anything is not as it says.
import { execFileSync, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StdioClientTransport } from '@modelcontextprotocol/sdk/client/stdio.js';

const root = fileURLToPath(new URL('..', import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'kz-demo-'));
const home = join(folder, 'home');
const project = join(folder, 'project');
const env = { HOME: home, PATH: [join(folder, 'bin'), dirname(process.execPath), '/usr/bin', '/bin'].join(':') };
const value = `demo_${randomBytes(24).toString('base64url')}`;
const startedAt = performance.now();
let failures = 0;
let steps = 0;

for (const signal of /** @type {const} */ (['SIGINT', 'SIGTERM'])) {
  process.once(signal, () => {
    rmSync(folder, { recursive: true, force: true });
    process.exit(130);
  });
}
try {
  await demo();
} catch (error) {
  check('the demo ran to its end', false, error instanceof Error ? error.message.split('\n')[0] : 'it did not');
} finally {
  rmSync(folder, { recursive: true, force: true });
}
const seconds = ((performance.now() - startedAt) / 1000).toFixed(1);
print('');
print(failures === 0 ? `All as claimed, in ${seconds} s.` : `${String(failures)} claims did not hold.`);
process.exitCode = failures === 0 ? 0 : 1;

async function demo() {
  for (const path of [home, project, join(folder, 'bin')]) mkdirSync(path);
  symlinkSync(join(root, 'bin', 'kz.cjs'), join(folder, 'bin', 'kz'));
  // What `npm install` leaves in a project, so that npx finds the server without a registry.
  symlinkSync(join(root, 'node_modules'), join(project, 'node_modules'));

  step('.keyzero.toml says where the secret lives; it can be committed');
  const config = '[secrets]\nAPI_TOKEN = { provider = "store", ref = "demo-token", min_length = 20 }\n';
  writeFileSync(join(project, '.keyzero.toml'), config);
  show(config);

  step('kz put API_TOKEN: the value is piped in, never an argument');
  const put = await kz(['put', 'API_TOKEN'], value);
  show(put.stderr);
  check('stored', put.code === 0);
  const stored = files(home);
  const open = stored.filter((path) => (statSync(path).mode & 0o077) !== 0);
  check('the files are yours alone', stored.length > 0 && open.length === 0, `mode 0600: ${names(stored)}`);
  check('on disk it is ciphertext', stored.length > 0 && holding(stored).length === 0, 'the value is in none of them');

  step('kz status: presence, never the value');
  const status = await kz(['status']);
  show(status.stdout);
  check('present and not shown', status.code === 0 && !holds(Buffer.from(status.stdout + status.stderr)));

  step('.mcp.json starts the server through kz');
  const server = { command: 'kz', args: ['run', '--', 'npx', '-y', '@modelcontextprotocol/server-everything'] };
  writeFileSync(join(project, '.mcp.json'), JSON.stringify({ mcpServers: { everything: server } }));
  show(`"everything": { "command": "kz", "args": ${JSON.stringify(server.args)} }`);
  check('it holds no secret', !holds(readFileSync(join(project, '.mcp.json'))));

  step('an MCP client starts it, lists its tools and calls get-env');
  await useServer(server);

  step('afterwards');
  const traces = holding(files(folder));
  check('the value is in no file', traces.length === 0, traces.length === 0 ? 'of the project and the home folder' : names(traces));
}

/** @param {{ command: string, args: string[] }} server */
async function useServer(server) {
  const offline = { npm_config_offline: 'true', npm_config_update_notifier: 'false' };
  const transport = new StdioClientTransport({ ...server, cwd: project, env: { ...env, ...offline }, stderr: 'pipe' });
  const client = new Client({ name: 'demo', version: '1.0.0' });
  let noise = 0;
  client.onerror = () => {
    noise += 1;
  };
  let stderr = '';
  transport.stderr?.on('data', (/** @type {Buffer} */ chunk) => {
    stderr += chunk.toString('utf8');
  });
  try {
    await client.connect(transport);
  } catch (error) {
    show(stderr);
    throw error;
  }
  const { tools } = await client.listTools();
  const { content } = /** @type {{ content: { text: string }[] }} */ (await client.callTool({ name: 'get-env' }));
  const environment = /** @type {Record<string, string>} */ (JSON.parse(content[0]?.text ?? '{}'));
  const seen = environment.API_TOKEN ?? '';
  check(
    'it answers',
    tools.length > 0,
    `${String(tools.length)} tools (${tools
      .slice(0, 3)
      .map(({ name }) => name)
      .join(', ')}, …)`,
  );
  check('it has the secret', seen === value, `API_TOKEN=${seen.slice(0, 8)}… (${String(seen.length)} characters): what was stored`);
  check('every line was JSON-RPC', noise === 0, 'kz wrote nothing of its own to standard output');
  const tree = transport.pid === null ? [] : [transport.pid, ...descendants(transport.pid)];
  const closing = performance.now();
  await client.close();
  const took = performance.now() - closing;
  const left = await survivors(tree);
  check('it ends with the client', took < 2000, `${took.toFixed(0)} ms after the client closed its input, without a signal`);
  check('no process is left', tree.length > 2 && left.length === 0, `of ${String(tree.length)} (kz, npx, the server, …)`);
}

/**
 * @param {string[]} args
 * @param {string} [input]
 * @returns {Promise<{ code: number | null, stdout: string, stderr: string }>}
 */
async function kz(args, input = '') {
  const child = spawn('kz', args, { cwd: project, env });
  let stdout = '';
  let stderr = '';
  child.stdout.on('data', (/** @type {Buffer} */ chunk) => (stdout += chunk.toString('utf8')));
  child.stderr.on('data', (/** @type {Buffer} */ chunk) => (stderr += chunk.toString('utf8')));
  child.stdin.on('error', () => undefined).end(input);
  const code = await new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', resolve);
  });
  return { code, stdout, stderr };
}

/**
 * Every living process below one of ours.
 * @param {number} top
 */
function descendants(top) {
  const rows = processes();
  const found = [top];
  for (const above of found) found.push(...rows.flatMap(({ pid, parent }) => (parent === above ? [pid] : [])));
  return found.slice(1);
}

/** From /proc where there is one: small images have no ps(1). */
function processes() {
  const lines =
    process.platform === 'linux'
      ? readdirSync('/proc').flatMap((entry) => (/^\d+$/.test(entry) ? statLine(entry) : []))
      : execFileSync('ps', ['-A', '-o', 'pid=,stat=,ppid='], { encoding: 'utf8' }).trim().split('\n');
  return lines.flatMap((line) => {
    const [pid, state, parent] = line.trim().split(/\s+/);
    return state?.startsWith('Z') === true ? [] : [{ pid: Number(pid), parent: Number(parent) }];
  });
}

/** @param {string} pid */
function statLine(pid) {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, 'latin1');
    return [`${pid} ${text.slice(text.lastIndexOf(')') + 2)}`];
  } catch {
    return [];
  }
}

/**
 * Those still there after a second.
 * @param {number[]} pids
 */
async function survivors(pids) {
  const deadline = Date.now() + 1000;
  for (;;) {
    const alive = new Set(processes().map(({ pid }) => pid));
    const left = pids.filter((pid) => alive.has(pid));
    if (left.length === 0 || Date.now() > deadline) return left;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/**
 * Every regular file below; links are not followed.
 * @param {string} path
 * @returns {string[]}
 */
function files(path) {
  return readdirSync(path, { withFileTypes: true }).flatMap((entry) => {
    const inside = join(path, entry.name);
    if (entry.isDirectory()) return files(inside);
    return entry.isFile() ? [inside] : [];
  });
}

/** @param {string[]} paths */
function holding(paths) {
  return paths.filter((path) => holds(readFileSync(path)));
}

/** @param {Buffer} bytes */
function holds(bytes) {
  const plain = Buffer.from(value, 'utf8');
  return [value, plain.toString('hex'), plain.toString('base64')].some((form) => bytes.includes(form));
}

/** @param {string[]} paths */
function names(paths) {
  return paths.map((path) => `~/${relative(home, path)}`).join(', ');
}

/** @param {string} title */
function step(title) {
  steps += 1;
  print('');
  print(bold(`${String(steps)}. ${title}`));
}

/** @param {string} text */
function show(text) {
  for (const line of text.trimEnd().split('\n')) print(`    ${line.replaceAll(folder, '')}`);
}

/**
 * @param {string} claim
 * @param {boolean} isTrue
 * @param {string} [detail]
 */
function check(claim, isTrue, detail = '') {
  if (!isTrue) failures += 1;
  print(`  ${isTrue ? 'ok    ' : 'FAILED'}  ${claim.padEnd(26)} ${detail}`.trimEnd());
}

/** @param {string} text */
function bold(text) {
  const plain = !process.stdout.isTTY || (process.env.NO_COLOR ?? '') !== '' || process.env.TERM === 'dumb';
  return plain ? text : `\u001B[1m${text}\u001B[22m`;
}

/** @param {string} line */
function print(line) {
  process.stdout.write(`${line}\n`);
}
