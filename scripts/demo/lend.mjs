// The last step but one of the demo: no server in between that would have to be trusted with a token. An agent asks kz to send a request.
// What is claimed of the API is looked up at the API, by the request of this step and no earlier one.
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** @typedef {import('@modelcontextprotocol/sdk/client/index.js').Client} Client */
/** @typedef {{ authorization: string, echo: string, encrypted: boolean }} Received */

/**
 * @typedef {object} Stage
 * @property {(args: string[]) => Promise<{ code: number | null, stdout: string }>} kz
 * @property {string} project
 * @property {Record<string, string>} env
 * @property {Received[]} received
 * @property {{ api: string, collector: string }} urls
 * @property {(title: string) => void} step
 * @property {(text: string) => void} show
 * @property {(claim: string, holds: boolean, evidence?: string) => void} check
 * @property {(text: string) => boolean} holds
 * @property {(args: string[], use: (client: Client) => Promise<void>) => Promise<void>} withServer
 * @property {(client: Client, name: string, args: Record<string, unknown>) => Promise<string>} call
 */

const RESOURCE = 'api/token';
const NOTHING = { authorization: 'nothing', echo: '', encrypted: false };

/** @param {Stage} stage */
export async function lend(stage) {
  const { kz, project, env, step, show, check, withServer } = stage;
  step('kz server: an agent uses the credential, and is never given it');
  const made = await kz(['server', 'init']);
  const bundle = join(project, 'bundle.yaml');
  const edited = forTheApi(readFileSync(bundle, 'utf8'));
  writeFileSync(bundle, edited);
  show(excerpt(edited));
  const sound = await kz(['server', 'check', '--bundle', 'bundle.yaml']);
  const signed = await kz(['server', 'token', '--out', 'agent.jwt']);
  check(
    'the bundle has no mistake',
    [made, sound, signed].every(({ code }) => code === 0),
    'agent.jwt says who the agent is',
  );
  const args = ['server', 'start', '--bundle', 'bundle.yaml', '--mcp', '--jwt-file', 'agent.jwt'];
  show(`SSL_CERT_FILE=company-ca.pem kz ${args.join(' ')}`);
  env.SSL_CERT_FILE = join(project, 'company-ca.pem');
  await withServer(args, (client) => ask(client, stage));
  delete env.SSL_CERT_FILE;
  const log = logOf(env.HOME ?? '');
  const expected = 'fetch allowed, fetch url-forbidden, fetch denied, resolve allowed';
  check('its log has each decision', decisionsIn(log) === expected && !stage.holds(log), expected);
}

/**
 * @param {Client} client
 * @param {Stage} stage
 */
async function ask(client, { received, urls, check, holds, call }) {
  const before = received.length;
  const answer = await call(client, 'fetch', { resource: RESOURCE, url: urls.api });
  const { authorization, echo, encrypted } = received[before] ?? NOTHING;
  const isSent = authorization.startsWith('Bearer ') && holds(authorization) && encrypted;
  check('the API got the value', isSent && received.length === before + 1, `${authorization.slice(0, 24)}…, over TLS`);
  const isClean = answer.includes('"status":200') && answer.includes(`Bearer [redacted:${RESOURCE}]`) && !holds(answer);
  check('its echo came back without', isClean && holds(echo), `Bearer [redacted:${RESOURCE}]; the API did send the value`);
  const elsewhere = await call(client, 'fetch', { resource: RESOURCE, url: urls.collector });
  check('elsewhere is refused', elsewhere.startsWith('url-forbidden:'), elsewhere.split('\n')[0]);
  const deleted = await call(client, 'fetch', { resource: RESOURCE, url: urls.api, method: 'DELETE' });
  check('DELETE is denied', deleted.startsWith('denied:') && received.length === before + 1, deleted.split('\n')[0]);
  const masked = await call(client, 'resolve', { resource: RESOURCE });
  const token = /"token":"(KZ_TOK_[^"]+)"/.exec(masked)?.[1] ?? 'none';
  check('resolve: a masked token', token !== 'none' && !holds(masked), `${token.slice(0, 20)}…: the value is not in it`);
}

/**
 * The starter bundle is about GitHub.
 * @param {string} starter
 */
function forTheApi(starter) {
  const changes = { 'github/pat': RESOURCE, 'github-pat': 'api', 'api.github.com': 'api.example.com', 'reads-github': 'reads-the-api' };
  return Object.entries(changes)
    .reduce((text, [from, to]) => text.replaceAll(from, to), starter)
    .replace(/^ +(?:check|description): .*\n/gm, '');
}

/**
 * Policies and resources, without comments.
 * @param {string} bundle
 */
function excerpt(bundle) {
  const lines = bundle.split('\n').filter((line) => line !== '' && !line.startsWith('#'));
  return lines.slice(lines.indexOf('policies:'), lines.indexOf('backends:')).join('\n');
}

/** @param {string} home */
function logOf(home) {
  const folder = join(home, '.local/state/keyzero/server');
  return readdirSync(folder)
    .map((name) => readFileSync(join(folder, name), 'utf8'))
    .join('');
}

/** @param {string} log */
function decisionsIn(log) {
  /** @type {{ type: string, tool: string, code: string | null }[]} */
  const events = JSON.parse(`[${log.trim().replaceAll('\n', ',')}]`);
  const decisions = events.filter(({ type }) => type === 'decision');
  return decisions.map(({ tool, code }) => `${tool} ${code ?? 'allowed'}`).join(', ');
}
