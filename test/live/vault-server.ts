// A real Vault on a free port of this machine, from scripts/live/vault.mjs. It ends with this process.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import http, { createServer, type IncomingMessage, type Server } from 'node:http';
import https from 'node:https';
import type { AddressInfo } from 'node:net';
import { createInterface } from 'node:readline';
import { vaultProgram } from '../../scripts/live/vault.mjs';
import type { VaultTestAnswer, VaultTestServer } from '../providers/vault-contract.ts';
import type { Postgres } from './postgres.ts';

export interface LiveVault extends VaultTestServer {
  /** PEM; with `tls` only. */
  readonly certificate?: string | undefined;
  seal(): Promise<void>;
  unseal(): Promise<void>;
}

export interface LiveVaultOptions {
  /** What the `database` engine makes its users in. */
  readonly postgres?: Postgres | undefined;
  /** HTTPS, with a certificate that nobody else vouches for. */
  readonly tls?: boolean;
}

export async function startVault({ postgres, tls = false }: LiveVaultOptions = {}): Promise<LiveVault> {
  const server = spawn(vaultProgram(), tls ? ['-tls'] : [], { env: {}, stdio: ['pipe', 'pipe', 'inherit'] });
  const pods = await startPods();
  const { address, token, certificate, unseal_key: key } = await firstLine(server.stdout);
  const request = (method: string, path: string, body?: unknown) => ask(`${address}/v1/${path}`, { method, token, body, ca: certificate });
  return {
    address,
    token,
    certificate,
    request,
    kubernetes: {
      config: { kubernetes_host: addressOf(pods), disable_local_ca_jwt: true, kubernetes_ca_cert: 'not used for http' },
      jwt: POD_TOKEN,
      serviceAccount: 'app',
      namespace: 'default',
    },
    ...(postgres !== undefined && { database: databaseOf(postgres) }),
    async seal() {
      await request('PUT', 'sys/seal');
    },
    async unseal() {
      await request('PUT', 'sys/unseal', { key });
    },
    async close() {
      const ended = once(server, 'exit');
      server.stdin.end();
      if (server.exitCode === null) await ended;
      pods.close();
    },
  };
}

interface Ready {
  readonly address: string;
  readonly token: string;
  readonly unseal_key: string;
  readonly certificate?: string;
}

async function firstLine(output: NodeJS.ReadableStream): Promise<Ready> {
  for await (const line of createInterface({ input: output })) return JSON.parse(line) as Ready;
  throw new Error('the vault server did not start');
}

interface Question {
  readonly method: string;
  readonly token: string;
  readonly body: unknown;
  readonly ca: string | undefined;
}

/** Not with `fetch`, which knows no authorities but Node's. */
async function ask(url: string, { method, token, body, ca }: Question): Promise<VaultTestAnswer> {
  const options = { method, headers: { 'x-vault-token': token }, agent: false };
  const asked = ca === undefined ? http.request(url, options) : https.request(url, { ...options, ca });
  asked.end(body === undefined ? undefined : JSON.stringify(body));
  const [response] = (await once(asked, 'response')) as [IncomingMessage];
  return { status: response.statusCode ?? 0, body: await readJson(response) };
}

function databaseOf({ port, administrator }: Postgres): NonNullable<VaultTestServer['database']> {
  return {
    config: {
      plugin_name: 'postgresql-database-plugin',
      connection_url: `postgresql://{{username}}:{{password}}@127.0.0.1:${String(port)}/postgres?sslmode=disable`,
      ...administrator,
    },
    creationStatements: [`CREATE ROLE "{{name}}" WITH LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}'`],
  };
}

const APP = 'system:serviceaccount:default:app';
const APP_UID = '00000000-0000-0000-0000-000000000001';

const POD_CLAIMS = {
  sub: APP,
  nbf: 1_700_000_000,
  exp: 4_102_444_800,
  'kubernetes.io': { namespace: 'default', serviceaccount: { name: 'app', uid: APP_UID } },
};

/** Not signed by anybody: Vault asks the cluster whether it is good. */
const POD_TOKEN = [JSON.stringify({ alg: 'RS256', kid: 'test' }), JSON.stringify(POD_CLAIMS), 'signature']
  .map((part) => Buffer.from(part).toString('base64url'))
  .join('.');

/** As much of a Kubernetes cluster as Vault asks: whose token this is. */
async function startPods(): Promise<Server> {
  const server = createServer((request, response) => {
    void readJson(request).then((review) => {
      const token = (review as { spec?: { token?: string } }).spec?.token;
      const user = { username: APP, uid: APP_UID, groups: ['system:serviceaccounts'] };
      const status = token === POD_TOKEN ? { authenticated: true, user } : { authenticated: false };
      response.writeHead(201, { 'content-type': 'application/json' });
      response.end(JSON.stringify({ kind: 'TokenReview', apiVersion: 'authentication.k8s.io/v1', status }));
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return server;
}

async function readJson(request: IncomingMessage): Promise<unknown> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  const text = Buffer.concat(chunks).toString();
  return text === '' ? undefined : (JSON.parse(text) as unknown);
}

function addressOf(server: Server): string {
  return `http://127.0.0.1:${String((server.address() as AddressInfo).port)}`;
}
