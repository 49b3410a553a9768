// The last step but one of the demo: no server in between that would have to be trusted with a token. An agent asks kz to send a request.
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** @typedef {import('@modelcontextprotocol/sdk/client/index.js').Client} Client */

/**
 * @typedef {object} Stage
 * @property {(args: string[]) => Promise<{ code: number | null, stdout: string }>} kz
 * @property {string} project
 * @property {Record<string, string>} env
 * @property {{ authorization: string }[]} received
 * @property {{ api: string, collector: string }} urls
 * @property {(title: string) => void} step
 * @property {(text: string) => void} show
 * @property {(claim: string, holds: boolean, evidence?: string) => void} check
 * @property {(text: string) => boolean} holds
 * @property {(args: string[], use: (client: Client) => Promise<void>) => Promise<void>} withServer
 * @property {(client: Client, name: string, args: Record<string, unknown>) => Promise<string>} call
 */

/** @param {Stage} stage */
export async function lend({ kz, project, env, received, urls, step, show, check, holds, withServer, call }) {
  step('kz server: an agent uses the credential, and holds nothing at all');
  await kz(['server', 'init']);
  const bundle = join(project, 'bundle.yaml');
  const starter = readFileSync(bundle, 'utf8');
  const changes = { 'github/pat': 'api/token', 'github-pat': 'api', 'api.github.com': 'api.example.com' };
  const edited = Object.entries(changes)
    .reduce((text, [from, to]) => text.replaceAll(from, to), starter)
    .replace(/^ +check: .*\n/m, '');
  writeFileSync(bundle, edited);
  const { code } = await kz(['server', 'check', '--bundle', 'bundle.yaml']);
  const { stdout: token } = await kz(['server', 'token']);
  writeFileSync(join(project, 'agent.jwt'), token, { mode: 0o600 });
  check('a bundle says who may what', code === 0 && token.split('.').length === 3, /rule: (.*)/.exec(edited)?.[1]);
  const args = ['server', 'start', '--bundle', 'bundle.yaml', '--mcp', '--jwt-file', 'agent.jwt'];
  show(`kz ${args.join(' ')}`);
  env.SSL_CERT_FILE = join(project, 'company-ca.pem');
  await withServer(args, async (client) => {
    const answer = await call(client, 'fetch', { resource: 'api/token', url: urls.api });
    const sent = received.at(-1)?.authorization ?? '';
    check('its request had the value', answer.includes('200') && sent.length > 20, `the API got ${sent.slice(0, 16)}…`);
    check('the echo came back without', answer.includes('[redacted:api/token]') && !holds(answer), 'Bearer [redacted:api/token]');
    const refusal = await call(client, 'fetch', { resource: 'api/token', url: urls.collector });
    check('elsewhere is refused', refusal.startsWith('url-forbidden'), refusal.split('\n')[0]);
    const masked = await call(client, 'resolve', { resource: 'api/token' });
    check('resolve: a sealed token', masked.includes('KZ_TOK_') && !holds(masked), 'worth something to the proxy of kz only');
  });
  delete env.SSL_CERT_FILE;
}
