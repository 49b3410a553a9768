// A whole server in this process: a bundle with an issuer of its own, one secret in a file, and every face on loopback.
import { randomBytes } from 'node:crypto';
import { mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { startServer, type RunningServer, type ServerOptions } from '../../src/server/serve.ts';
import { SigningKey, type Claims } from './identity/issuer.ts';

export const ISSUER = 'https://issuer.test';

export interface Told {
  readonly level: 'notice' | 'warning';
  readonly text: string;
}

export interface Line extends Record<string, unknown> {
  readonly type: string;
}

export class ServeLab {
  readonly folder = mkdtempSync(join(tmpdir(), 'kz-serve-'));
  readonly value = `CANARY-${randomBytes(12).toString('hex')}`;
  readonly key = new SigningKey('ES256');
  readonly told: Told[] = [];
  readonly #servers: RunningServer[] = [];

  constructor() {
    writeFileSync(this.path('secrets.env'), `ONE=${this.value}\n`, { mode: 0o600 });
    this.writeBundle();
  }

  path(name: string): string {
    return join(this.folder, name);
  }

  get bundle(): string {
    return this.path('bundle.yaml');
  }

  /** Of what it says, `changes` are made. */
  bundleText(...changes: readonly (readonly [string, string])[]): string {
    const text = `version: "1"
issuers:
  - name: lab
    issuer_url: ${ISSUER}
    type: custom
    audience: kz
    map: { org: claims.org }
    static_keys: [{ kid: ${this.key.kid}, alg: ES256, pem: ${JSON.stringify(this.key.pem)} }]
policies:
  - { name: reads, rule: "org == 'acme' && ref.matches('a/**')", effect: allow }
resources:
  - { ref: a/masked, resolver: file, from: ONE, hosts: [api.example.com], methods: [GET] }
  - { ref: a/value, resolver: file, from: ONE, mode: direct }
backends:
  file: { type: env_file, path: ./secrets.env }
`;
    return changes.reduce((before, [from, to]) => before.replace(from, to), text);
  }

  writeBundle(...changes: readonly (readonly [string, string])[]): void {
    this.writeText(this.bundleText(...changes));
  }

  /** As an editor does that is careful. */
  writeText(text: string): void {
    writeFileSync(`${this.bundle}.new`, text);
    renameSync(`${this.bundle}.new`, this.bundle);
  }

  jwt(claims: Claims = {}): string {
    const now = Math.floor(Date.now() / 1000);
    return this.key.sign({ iss: ISSUER, sub: 'me', aud: 'kz', iat: now, exp: now + 600, jti: 'one', org: 'acme', ...claims });
  }

  options(more: Partial<ServerOptions> = {}): ServerOptions {
    const env = { PATH: process.env.PATH, HOME: this.folder, XDG_STATE_HOME: this.path('state') };
    return {
      context: { env, userDirectory: this.path('config') },
      ...{ version: '1.2.3', bundle: this.bundle, listen: '127.0.0.1:0', mcp: undefined, proxy: undefined, proxyCaFile: undefined },
      ...{ tls: undefined, allowPlaintext: false, allowedHosts: [], allowedOrigins: [], tokenKeyFile: undefined, healthCheck: false },
      jwt: { file: undefined, audience: undefined },
      audit: this.path('audit.jsonl'),
      callsPerSecond: 0,
      fetchTimeoutMs: 5000,
      tell: (level, text) => this.told.push({ level, text }),
      ...more,
    };
  }

  async start(more: Partial<ServerOptions> = {}): Promise<RunningServer> {
    const server = await startServer(this.options(more));
    this.#servers.push(server);
    return server;
  }

  /** Of the audit log. */
  get lines(): readonly Line[] {
    const text = readFileSync(this.path('audit.jsonl'), 'utf8');
    return text.split('\n').flatMap((line) => (line === '' ? [] : [JSON.parse(line) as Line]));
  }

  get decisions(): readonly Line[] {
    return this.lines.filter(({ type }) => type === 'decision');
  }

  texts(): string {
    return this.told.map(({ level, text }) => `${level}: ${text}`).join('\n');
  }

  async end(): Promise<void> {
    for (const server of this.#servers.splice(0)) {
      server.stop();
      await server.ended;
    }
    rmSync(this.folder, { recursive: true, force: true });
  }
}

export function urlOf({ announcements }: RunningServer, what = 'listening on '): string {
  return (
    announcements
      .find((line) => line.startsWith(what))
      ?.slice(what.length)
      .split(' ')[0] ?? ''
  );
}

export interface Reply {
  readonly status: number;
  readonly json: unknown;
}

/** `POST /v1/…` */
export async function post(server: RunningServer, path: string, body: unknown, jwt: string): Promise<Reply> {
  const headers = { authorization: `Bearer ${jwt}`, 'content-type': 'application/json' };
  const response = await fetch(`${urlOf(server)}${path}`, { method: 'POST', headers, body: JSON.stringify(body) });
  return { status: response.status, json: await response.json() };
}

/** An MCP client's ends of the pipes. */
export class McpPipes {
  readonly stdin = new PassThrough();
  readonly stdout = new PassThrough();
  readonly #answers = new Map<number, (answer: McpAnswer) => void>();
  #rest = '';
  #next = 1;

  constructor() {
    this.stdout.setEncoding('utf8').on('data', (text: string) => {
      const lines = `${this.#rest}${text}`.split('\n');
      this.#rest = lines.pop() ?? '';
      for (const line of lines) this.#take(JSON.parse(line) as McpAnswer);
    });
  }

  async call(name: string, input: object = {}): Promise<McpAnswer> {
    if (this.#next === 1) {
      const clientInfo = { name: 'test', version: '1' };
      await this.#ask('initialize', { protocolVersion: '2025-06-18', capabilities: {}, clientInfo });
      this.#send({ method: 'notifications/initialized' });
    }
    return this.#ask('tools/call', { name, arguments: input });
  }

  #ask(method: string, params: object): Promise<McpAnswer> {
    const id = this.#next++;
    return new Promise((resolve) => {
      this.#answers.set(id, resolve);
      this.#send({ id, method, params });
    });
  }

  #send(message: object): void {
    this.stdin.write(`${JSON.stringify({ jsonrpc: '2.0', ...message })}\n`);
  }

  #take(answer: McpAnswer): void {
    this.#answers.get(answer.id)?.(answer);
  }
}

export interface McpAnswer {
  readonly id: number;
  readonly result?: {
    readonly isError?: boolean;
    readonly content?: readonly { readonly text: string }[];
    readonly structuredContent?: Readonly<Record<string, unknown>>;
  };
}
