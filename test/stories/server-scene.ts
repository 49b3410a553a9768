// The stage of the stories of `kz server`: an issuer with a JWKS server, an upstream under every name, a bundle, and the built kz that serves it.
// What it answers and writes is searched for values and tokens, unless a story says that an answer reveals.
import { generateKeyPairSync } from 'node:crypto';
import http from 'node:http';
import https from 'node:https';
import { createConnection } from 'node:net';
import type { Decision } from '../../src/audit/decision.ts';
import { SigningKey, TestIssuer, type Claims } from '../server/identity/issuer.ts';
import { Story, type Ended, type StartOptions } from './kz.ts';
import { Running, waitFor } from './processes.ts';
import { BACKENDS, everyKind, POLICIES, RESOURCES, serveApi, type Json } from './server-parts.ts';
import { bodyOf, Upstream } from './upstream.ts';

/** Top-level keys of a bundle; what is left out is the stage's own. */
export interface BundleParts {
  /** Lines of YAML, as `TestIssuer.yaml()` gives them. */
  readonly issuers?: readonly string[];
  readonly policies?: readonly Json[];
  readonly resources?: readonly Json[];
  readonly backends?: Json;
}

export class Scene {
  readonly story = new Story();
  readonly issuer: TestIssuer;
  readonly upstream: Upstream;
  /** What `github/pat` and its like stand for. */
  readonly value: string;
  readonly #servers: Served[] = [];
  readonly #files: string[] = [];

  /** With the stage's own bundle. */
  static async start(serve: http.RequestListener = serveApi): Promise<Scene> {
    const issuer = await TestIssuer.start({ keys: [new SigningKey('ES256')] });
    return new Scene(issuer, await Upstream.start(serve));
  }

  private constructor(issuer: TestIssuer, upstream: Upstream) {
    this.issuer = issuer;
    this.upstream = upstream;
    this.value = this.story.canary('ghp_');
    this.keep('secrets.env', `GITHUB_PAT=${this.value}\n`);
    this.story.write('upstream-ca.pem', upstream.certificate);
    this.bundle();
  }

  /** A file that may hold a value or a token. */
  keep(path: string, content: string): string {
    this.#files.push(path);
    return this.story.write(path, content, 0o600);
  }

  /** For mode `short_lived`: `signing.pem`, and what a server needs to sign with it. */
  keepSigningKey(): { readonly KEYZERO_SIGNING_KEY_PATH: string } {
    const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    this.keep('signing.pem', privateKey.export({ type: 'pkcs8', format: 'pem' }).toString());
    return { KEYZERO_SIGNING_KEY_PATH: 'signing.pem' };
  }

  /** With resources of every kind and mode, asked as often as one likes. */
  async serveEveryKind(): Promise<Served> {
    const env = this.keepSigningKey();
    this.keep('secrets.env', `GITHUB_PAT=${this.value}\nMULTI="a\\nb${this.value}"\n`);
    this.bundle(everyKind(this.upstream.port));
    return this.serve(['--rate', 'off'], { env });
  }

  /** A file that somebody else writes, which may hold a value. */
  keepOut(path: string): void {
    this.#files.push(path);
  }

  bundle(parts: BundleParts = {}, path = 'bundle.yaml'): string {
    return this.story.write(path, this.text(parts));
  }

  /** JSON is YAML. */
  text({ issuers = [this.lab], policies = POLICIES, resources = RESOURCES, backends = BACKENDS }: BundleParts = {}): string {
    const rest = Object.entries({ policies, resources, backends }).map(([key, part]) => `${key}: ${JSON.stringify(part)}`);
    return ['version: "1"', 'issuers:', ...issuers, ...rest, ''].join('\n');
  }

  /** The issuer, as the bundle has it. */
  get lab(): string {
    return this.issuer.yaml({ map: { org: 'claims.org', groups: 'claims.groups' } });
  }

  /** What kz's own environment has to say, so that it finds the upstream under every name and trusts it. */
  get environment(): Record<string, string> {
    return { ...this.upstream.environment, SSL_CERT_FILE: `${this.story.project}/upstream-ca.pem` };
  }

  /** A good token of acme's, but for what `claims` and `header` change. */
  token(claims: Claims = {}, header: Claims = {}): string {
    return this.guardToken(this.issuer.token({ org: 'acme', ...claims }, header));
  }

  /** Its signature is in no output. */
  guardToken(jwt: string): string {
    const signature = jwt.split('.').at(-1) ?? '';
    if (signature !== '') this.story.guard(signature);
    return jwt;
  }

  /** `kz server check` and what else ends by itself. */
  kz(args: readonly string[], options: StartOptions = {}): Promise<Ended> {
    return this.story.kz(args, { ...options, env: { ...this.environment, ...options.env } });
  }

  /** `kz server start`, once it says where it listens. */
  async serve(args: readonly string[] = [], options: StartOptions = {}): Promise<Served> {
    const served = this.spawn(['--listen', '127.0.0.1:0', ...args], options);
    await served.said('listening on ');
    return served;
  }

  /** `kz server start` with nothing but these flags and the bundle. */
  spawn(args: readonly string[], options: StartOptions = {}): Served {
    const named = args.includes('--bundle') ? args : ['--bundle', 'bundle.yaml', ...args];
    const child = this.story.start(['server', 'start', ...named], { ...options, env: { ...this.environment, ...options.env } });
    const served = new Served(new Running(child), this);
    this.#servers.push(served);
    return served;
  }

  async end(): Promise<void> {
    try {
      for (const { running } of this.#servers) {
        if (running.child.exitCode === null && running.child.signalCode === null) running.send('SIGTERM');
        const { stdout, stderr } = await running.ended;
        this.story.examine(stdout, 'the standard output of kz server');
        this.story.examine(stderr, 'the standard error of kz server');
      }
    } finally {
      await Promise.all([this.issuer.close(), this.upstream.stop()]);
      this.story.end(this.#files);
    }
  }
}

export interface Question {
  readonly method?: string;
  readonly jwt?: string | undefined;
  readonly headers?: http.OutgoingHttpHeaders;
  /** An object is sent as JSON. */
  readonly body?: Json | string | Buffer | undefined;
  /** The answer holds a value, and that is what the story is about. */
  readonly reveals?: boolean;
  /** Of a server with TLS. */
  readonly ca?: string;
}

export interface ResolveQuestion extends Omit<Question, 'body'> {
  readonly context?: Json;
}

export interface Answer {
  readonly status: number;
  readonly headers: http.IncomingHttpHeaders;
  readonly text: string;
  readonly json: Json;
}

/** One `kz server start`. */
export class Served {
  readonly running: Running;
  readonly #scene: Scene;

  constructor(running: Running, scene: Scene) {
    this.running = running;
    this.#scene = scene;
  }

  get url(): string {
    return this.#find(/listening on (\S+) /);
  }

  /** Of its token proxy: host and port. */
  get proxy(): string {
    return this.#find(/proxy: http:\/\/(\S+)/);
  }

  /** The audit lines of decisions on standard output so far. */
  get decisions(): Decision[] {
    return this.events.filter(({ type }) => type === 'decision') as unknown as Decision[];
  }

  get events(): Json[] {
    const lines = this.running.stdout.split('\n').slice(0, -1);
    return lines.map((line) => JSON.parse(line) as Json);
  }

  /** Waits until its standard error holds `text`, so many times. Throws when it ends before. */
  async said(text: string, times = 1): Promise<void> {
    const { running } = this;
    const isOver = (): boolean => running.child.exitCode !== null || running.child.signalCode !== null;
    const has = (): boolean => running.stderr.split(text).length > times;
    await waitFor(`${text} in ${JSON.stringify(running.stderr)}`, () => has() || isOver());
    if (!has()) throw new Error(`kz server ended before it said ${JSON.stringify(text)}: ${(await running.ended).stderr}`);
  }

  /** Waits until it has written so many decisions. */
  async decided(count: number): Promise<readonly Decision[]> {
    await waitFor(`${String(count)} decisions in ${this.running.stdout}`, () => this.decisions.length >= count);
    return this.decisions;
  }

  /** The line of the newest decision about `ref`, once there is one. */
  async decision(ref: string, tool?: Decision['tool']): Promise<Decision> {
    const isIt = (each: Decision): boolean => each.ref === ref && (tool === undefined || each.tool === tool);
    let found: Decision | undefined;
    await waitFor(`a decision about ${ref}`, () => (found = this.decisions.findLast(isIt)) !== undefined);
    if (found === undefined) throw new Error('unreachable');
    return found;
  }

  resolve(ref: string, { jwt = this.#scene.token(), context, ...more }: ResolveQuestion = {}): Promise<Answer> {
    return this.ask('/v1/resolve', { ...more, jwt, body: { resource: ref, ...(context === undefined ? {} : { context }) } });
  }

  /** Of a single ref: what `results` says. */
  async resolved(ref: string, question: ResolveQuestion = {}): Promise<Json> {
    const { json, status, text } = await this.resolve(ref, question);
    const found = (json.results as Record<string, Json> | undefined)?.[ref];
    if (found === undefined) throw new Error(`resolve of ${ref} answered ${String(status)} ${text}`);
    return found;
  }

  fetch(body: Json, { jwt = this.#scene.token(), ...more }: Question = {}): Promise<Answer> {
    return this.ask('/v1/fetch', { ...more, jwt, body: { resource: 'github/pat', ...body } });
  }

  async ask(path: string, question: Question = {}): Promise<Answer> {
    const answer = await send(`${this.url}${path}`, question);
    const head = JSON.stringify(answer.headers);
    if (question.reveals !== true) this.#scene.story.examine(`${head}\n${answer.text}`, `the answer of ${path}`);
    return answer;
  }

  /** Bytes, as they are; everything that comes back until the connection is closed. */
  raw(bytes: string | Buffer): Promise<string> {
    const { hostname, port } = new URL(this.url);
    return new Promise((resolve, reject) => {
      const chunks: Buffer[] = [];
      const socket = createConnection(Number(port), hostname, () => socket.write(bytes));
      socket.on('data', (chunk: Buffer) => chunks.push(chunk)).once('error', reject);
      socket.once('close', () => {
        resolve(Buffer.concat(chunks).toString('latin1'));
      });
    });
  }

  stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<Ended> {
    this.running.send(signal);
    return this.running.ended;
  }

  #find(pattern: RegExp): string {
    const [, found] = pattern.exec(this.running.stderr) ?? [];
    if (found === undefined) throw new Error(`nothing like ${String(pattern)} in ${this.running.stderr}`);
    return found;
  }
}

function send(url: string, { jwt, headers = {}, body, ca, ...question }: Question): Promise<Answer> {
  const content = typeof body === 'string' || Buffer.isBuffer(body) || body === undefined ? body : JSON.stringify(body);
  const { method = content === undefined ? 'GET' : 'POST' } = question;
  const all = {
    ...(jwt === undefined ? {} : { authorization: `Bearer ${jwt}` }),
    ...(content === undefined ? {} : { 'content-type': 'application/json', 'content-length': Buffer.byteLength(content) }),
    ...headers,
  };
  return new Promise((resolve, reject) => {
    const options = { method, headers: all, agent: false, ...(ca === undefined ? {} : { ca }) };
    const request = url.startsWith('https:') ? https.request(url, options) : http.request(url, options);
    request.once('error', reject).once('response', (response) => {
      bodyOf(response).then((latin1) => {
        const text = Buffer.from(latin1, 'latin1').toString('utf8');
        resolve({ status: response.statusCode ?? 0, headers: response.headers, text, json: jsonOf(text) });
      }, reject);
    });
    request.end(content);
  });
}

/** Of an answer that is no JSON there is nothing to look at. */
function jsonOf(text: string): Json {
  try {
    return JSON.parse(text) as Json;
  } catch {
    return {};
  }
}
