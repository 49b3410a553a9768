// Where the secrets of the benchmark are: the same 200 in every provider, and how a config asks for them.
import { appendFileSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { vaultProblem } from '../../scripts/live/vault.mjs';
import { Counter } from './counter.mjs';

/** @typedef {import('./counter.mjs').Counts} Counts */
/** @typedef {import('./lab.mjs').Lab} Lab */
/** @typedef {import('./lab.mjs').Place} Place */
/** @typedef {import('./test-servers.mjs').TestServers} TestServers */

/**
 * What a config needs beside its secrets, for a server at an address.
 * @typedef {{ toml?: string, env?: Record<string, string> }} Settings
 */

/**
 * @typedef {object} Source
 * @property {string} provider
 * @property {string} label
 * @property {string} server who answers, in words for the table
 * @property {(name: string) => string} ref
 * @property {Settings} settings
 * @property {string} [address] of the server
 * @property {{ address: string, settings: Settings, counter: Counter }} [delayed] the same with a counter in front of the server
 * @property {() => number} [programs] how many programs were started since the last time
 */

export const PROVIDERS = ['env', 'file', 'store', 'exec', '1password', 'vault', 'aws', 'gcp'];

/** @type {Record<string, (lab: Lab, servers: TestServers) => Promise<Source[]>>} */
const SOURCES = { env: fromEnv, file: fromFile, store: fromStore, exec: fromExec, '1password': fromOp, vault: fromVault, aws, gcp };

/**
 * The servers are up and filled.
 * @param {Lab} lab
 * @param {TestServers} servers
 * @param {readonly string[]} providers
 */
export async function openSources(lab, servers, providers) {
  const sources = [];
  for (const provider of providers) sources.push(...((await SOURCES[provider]?.(lab, servers)) ?? []));
  return sources;
}

/**
 * A folder with a config that names the first secrets.
 * @param {Lab} lab
 * @param {Source} source
 * @param {{ count: number, settings: Settings, way: string }} how
 * @returns {Place}
 */
export function place(lab, { provider, label, ref }, { count, settings, way }) {
  const secrets = [...lab.secrets.keys()].slice(0, count);
  const lines = secrets.map((name) => `${name} = { provider = ${JSON.stringify(provider)}, ref = ${JSON.stringify(ref(name))} }`);
  const folder = join('places', label.replaceAll(/\W+/g, '-'), `${String(count)}-${way}`);
  lab.write(join(folder, '.keyzero.toml'), ['[secrets]', ...lines, settings.toml ?? '', ''].join('\n'));
  return { folder: join(lab.folder, folder), env: settings.env ?? {} };
}

/** @param {Lab} lab */
function fromEnv(lab) {
  const env = Object.fromEntries([...lab.secrets].map(([name, value]) => [`SOURCE_${name}`, value]));
  const ref = (/** @type {string} */ name) => `SOURCE_${name}`;
  return Promise.resolve([{ provider: 'env', label: 'env', server: '', ref, settings: { env } }]);
}

/** @param {Lab} lab */
function fromFile(lab) {
  const files = inFiles(lab, 'files');
  const ref = (/** @type {string} */ name) => files.get(name) ?? '';
  return Promise.resolve([{ provider: 'file', label: 'file, one each', server: '', ref, settings: {} }]);
}

/** @param {Lab} lab */
async function fromStore(lab) {
  const source = { provider: 'store', label: 'store', server: '', ref: (/** @type {string} */ name) => name, settings: {} };
  const filling = place(lab, source, { count: lab.secrets.size, settings: {}, way: 'filling' });
  for (const [name, value] of lab.secrets) await lab.kz(['put', '-q', name], filling, value);
  return [source];
}

/** @param {Lab} lab */
function fromExec(lab) {
  const files = inFiles(lab, 'printed');
  const program = lab.write('print', '#!/bin/sh\necho . >>"$0.log"\nexec cat "$1"\n', 0o700);
  const ref = (/** @type {string} */ name) => `${program} ${files.get(name) ?? ''}`;
  const programs = () => takeLines(`${program}.log`);
  return Promise.resolve([{ provider: 'exec', label: 'exec', server: 'a shell script', ref, settings: {}, programs }]);
}

/** @param {Lab} lab */
function fromOp(lab) {
  const fake = fileURLToPath(new URL('../../test/fixtures/op-fake.mjs', import.meta.url));
  const items = [...lab.secrets].map(([title, value]) => ({
    ...{ id: `id-of-${title.toLowerCase()}`, title },
    fields: [{ id: 'password', label: 'password', value }],
  }));
  const state = lab.write('op/state.json', JSON.stringify({ account: 'bench', vaults: [{ id: 'id-of-vault', name: 'bench', items }] }));
  lab.write('op/op', `#!/bin/sh\nexec node ${fake} "$@"\n`, 0o700);
  const env = { PATH: `${join(lab.folder, 'op')}:${lab.env.PATH ?? ''}`, OP_FAKE_STATE: state };
  const ref = (/** @type {string} */ name) => `op://bench/${name}/password`;
  const programs = () => takeLines(`${state}.log`);
  const server = 'a stand-in for `op`, which answers at once';
  return Promise.resolve([{ provider: '1password', label: '1password', server, ref, settings: { env }, programs }]);
}

/**
 * @param {Lab} lab
 * @param {TestServers} servers
 */
async function fromVault(lab, servers) {
  const isReal = vaultProblem() === undefined;
  const starting = isReal ? servers.startVault() : servers.FakeVault.start();
  lab.atEnd(async () => (await starting).close());
  const vault = await starting;
  const put = async (/** @type {string} */ path, /** @type {unknown} */ body) => {
    const { status } = await vault.request('POST', path, body);
    if (status >= 300) throw new Error(`vault answered ${String(status)} for ${path}`);
  };
  await put('sys/mounts/bench', { type: 'kv', options: { version: '2' } });
  await put('bench/data/all', { data: Object.fromEntries(lab.secrets) });
  for (const [name, value] of lab.secrets) await put(`bench/data/${name}`, { data: { value } });
  const health = /** @type {{ body: { version: string } }} */ (await vault.request('GET', 'sys/health'));
  const settings = (/** @type {string} */ address) => ({ env: { VAULT_ADDR: address, VAULT_TOKEN: vault.token } });
  const common = {
    ...{
      provider: 'vault',
      server: isReal ? `Vault ${health.body.version}` : 'the stand-in of the tests',
      settings: settings(vault.address),
    },
    delayed: await delayed(lab, vault.address, { settings, isLogin: ({ url }) => /^\/v1\/(?:sys|auth)\//.test(url ?? '') }),
  };
  return [
    { ...common, label: 'vault, a path each', ref: (/** @type {string} */ name) => `bench/${name}#value` },
    { ...common, label: 'vault, fields of one path', ref: (/** @type {string} */ name) => `bench/all#${name}` },
  ];
}

/**
 * @param {Lab} lab
 * @param {TestServers} servers
 */
async function aws(lab, servers) {
  const isReal = servers.motoProblem() === undefined;
  const starting = isReal ? servers.startMoto() : servers.AwsFake.start();
  lab.atEnd(async () => (await starting).stop());
  const { endpoint } = await starting;
  const ask = (/** @type {string} */ operation, /** @type {object} */ body) => askAws(endpoint, operation, body);
  for (const [name, value] of lab.secrets) {
    await ask('secretsmanager.CreateSecret', { Name: `bench/${name}`, SecretString: value });
    await ask('AmazonSSM.PutParameter', { Name: `/bench/${name}`, Value: value, Type: 'SecureString' });
  }
  const settings = (/** @type {string} */ address) => ({
    toml: `[providers.aws]\nregion = "${REGION}"\nendpoint = "${address}"`,
    env: { AWS_ACCESS_KEY_ID: 'AKIDEXAMPLE', AWS_SECRET_ACCESS_KEY: 'not-checked' },
  });
  const common = {
    ...{
      provider: 'aws',
      server: isReal ? 'the server of moto' : 'the stand-in of the tests',
      settings: settings(endpoint),
      address: endpoint,
    },
    delayed: await delayed(lab, endpoint, { settings, isLogin: () => false }),
  };
  return [
    { ...common, label: 'aws, Secrets Manager', ref: (/** @type {string} */ name) => `sm://bench/${name}` },
    { ...common, label: 'aws, Parameter Store', ref: (/** @type {string} */ name) => `ssm:///bench/${name}` },
  ];
}

const REGION = 'eu-west-1';

/**
 * Neither of the servers looks at more of a signature than its region and its service.
 * @param {string} endpoint
 * @param {string} operation
 * @param {object} body
 */
async function askAws(endpoint, operation, body) {
  const service = operation.startsWith('AmazonSSM') ? 'ssm' : 'secretsmanager';
  const credential = `AKIDEXAMPLE/20260101/${REGION}/${service}/aws4_request`;
  const headers = {
    'content-type': 'application/x-amz-json-1.1',
    'x-amz-target': operation,
    authorization: `AWS4-HMAC-SHA256 Credential=${credential}, SignedHeaders=host, Signature=0`,
  };
  const token = service === 'ssm' ? {} : { ClientRequestToken: crypto.randomUUID() };
  const response = await fetch(endpoint, { method: 'POST', headers, body: JSON.stringify({ ...body, ...token }) });
  await response.arrayBuffer();
  if (!response.ok) throw new Error(`aws answered ${String(response.status)} for ${operation}`);
}

/**
 * Logged in as a workload outside Google is: a token of its own is exchanged for one of Google's.
 * @param {Lab} lab
 * @param {TestServers} servers
 */
async function gcp(lab, servers) {
  const google = new servers.FakeGoogle();
  await google.start();
  lab.atEnd(() => {
    google.stop();
  });
  for (const [name, value] of lab.secrets) google.put(`projects/bench/secrets/${name}/versions/latest`, value);
  let files = 0;
  const settings = (/** @type {string} */ address) => {
    const credentials = { ...google.federated, token_url: `${address}/sts`, credential_source: { url: `${address}/subject` } };
    const file = lab.write(`gcp/${String(++files)}.json`, JSON.stringify(credentials));
    return { toml: `[providers.gcp]\nendpoint = "${address}"`, env: { GOOGLE_APPLICATION_CREDENTIALS: file } };
  };
  return [
    {
      ...{ provider: 'gcp', label: 'gcp', server: 'the stand-in of the tests', settings: settings(google.url) },
      ref: (/** @type {string} */ name) => `projects/bench/secrets/${name}`,
      delayed: await delayed(lab, google.url, { settings, isLogin: ({ url }) => url === '/sts' || url === '/subject' }),
    },
  ];
}

/** How long the way to the server and back takes in the delayed runs. */
export const DELAY_MS = 20;

/**
 * @param {Lab} lab
 * @param {string} upstream
 * @param {{ settings: (address: string) => Settings, isLogin: ConstructorParameters<typeof Counter>[0]['isLogin'] }} options
 */
async function delayed(lab, upstream, { settings, isLogin }) {
  const counter = new Counter({ upstream, delayMs: DELAY_MS, isLogin });
  lab.atEnd(() => {
    counter.stop();
  });
  const address = await counter.start();
  return { address, settings: settings(address), counter };
}

/**
 * @param {Lab} lab
 * @param {string} folder
 */
function inFiles(lab, folder) {
  return new Map([...lab.secrets].map(([name, value]) => [name, lab.write(join(folder, name), `${value}\n`)]));
}

/** @param {string} file */
function takeLines(file) {
  appendFileSync(file, '');
  const lines = readFileSync(file, 'utf8').split('\n').length - 1;
  rmSync(file);
  return lines;
}
