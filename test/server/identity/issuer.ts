// Issuers of JWTs with real keys, and the server that hands out those keys: http or https on loopback, with OIDC discovery, which can be down,
// slow, huge, rotate, redirect or talk nonsense. Signs by hand, so that it can sign what no library would.
import {
  createHash,
  createHmac,
  constants,
  createPublicKey,
  generateKeyPairSync,
  randomBytes,
  randomUUID,
  sign as signBytes,
  type JsonWebKey,
  type KeyObject,
} from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import http from 'node:http';
import https from 'node:https';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { IssuerEntry, IssuerType, StaticKey } from '../../../src/config/bundle.ts';
import { Authority } from '../../../src/proxy/authority.ts';

export type SigningAlg = `${'RS' | 'PS' | 'HS'}${'256' | '384' | '512'}` | 'ES256' | 'ES384' | 'ES512' | 'EdDSA';
export type Claims = Readonly<Record<string, unknown>>;

export interface KeyOptions {
  readonly kid?: string;
  /** Of RSA, in bits (default 2048), or of an HS key, in bytes (default that of the hash). */
  readonly size?: number;
}

/** A key that signs. Made in milliseconds, except RSA (about 100). */
export class SigningKey {
  readonly alg: SigningAlg;
  readonly kid: string;
  readonly #private: KeyObject | undefined;
  readonly #secret: string | undefined;

  constructor(alg: SigningAlg, { kid = `kid-${randomBytes(6).toString('hex')}`, size }: KeyOptions = {}) {
    this.alg = alg;
    this.kid = kid;
    if (alg.startsWith('HS')) this.#secret = canary(size ?? Number(alg.slice(2)) / 8);
    else this.#private = privateKey(alg, size);
  }

  /** Of HS*: the key material, for `secretEnv` or `pem`. */
  get secret(): string {
    if (this.#secret === undefined) throw new Error(`${this.alg} has no secret`);
    return this.#secret;
  }

  /** Public key, SPKI. */
  get pem(): string {
    return createPublicKey(this.#key()).export({ type: 'spki', format: 'pem' }).toString();
  }

  /** As a JWKS has it. */
  get jwk(): JsonWebKey & { kid: string; alg: string; use: string } {
    const { alg, kid } = this;
    return { ...createPublicKey(this.#key()).export({ format: 'jwk' }), kid, alg, use: 'sig' };
  }

  /** As a bundle has it. */
  static(overrides: Partial<StaticKey> = {}): StaticKey {
    const pem = this.#secret ?? this.pem;
    return { kid: this.kid, alg: this.alg, pem, at: { file: '/bundle.yaml', line: 9, column: 7 }, ...overrides };
  }

  /** A JWT. `header` is laid over `{alg, kid, typ}`; a member that is undefined is left out. */
  sign(claims: Claims, header: Claims = {}): string {
    return this.signParts(JSON.stringify({ alg: this.alg, kid: this.kid, typ: 'JWT', ...header }), JSON.stringify(claims));
  }

  /** Of texts as they are: duplicate keys, garbage. */
  signParts(header: string, payload: string): string {
    const input = `${base64url(header)}.${base64url(payload)}`;
    return `${input}.${this.signature(input)}`;
  }

  signature(input: string): string {
    return this.#sign(Buffer.from(input)).toString('base64url');
  }

  #sign(input: Buffer): Buffer {
    const hash = `sha${this.alg.slice(2)}`;
    if (this.#secret !== undefined) return createHmac(hash, this.#secret).update(input).digest();
    const key = this.#key();
    if (this.alg === 'EdDSA') return signBytes(null, input, key);
    if (this.alg.startsWith('ES')) return signBytes(hash, input, { key, dsaEncoding: 'ieee-p1363' });
    if (this.alg.startsWith('RS')) return signBytes(hash, input, key);
    return signBytes(hash, input, { key, padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: constants.RSA_PSS_SALTLEN_DIGEST });
  }

  #key(): KeyObject {
    if (this.#private === undefined) throw new Error(`${this.alg} has no public key`);
    return this.#private;
  }
}

/** A JWT signed with any secret, whatever it is: the public key of an RSA issuer, for example. */
export function signWithSecret(secret: string | Buffer, header: Claims, claims: Claims): string {
  const input = `${base64url(JSON.stringify(header))}.${base64url(JSON.stringify(claims))}`;
  return `${input}.${createHmac(`sha${String(header.alg).slice(2)}`, secret)
    .update(input)
    .digest('base64url')}`;
}

export function base64url(text: string | Buffer): string {
  return Buffer.from(text).toString('base64url');
}

/**
 * What the server does instead of answering well: `down` breaks the connection, `slow` never answers, `drip` begins to and never ends, `huge` answers
 * 2 MiB, `endless` never ends, `many` has 101 keys, `garbage` is no JSON, `redirect` leads to a good answer, a number is a status.
 */
export type Trouble = 'down' | 'slow' | 'drip' | 'huge' | 'endless' | 'many' | 'garbage' | 'redirect' | number;

export interface IssuerOptions {
  /** Default: one RS256 key. */
  readonly keys?: readonly SigningKey[];
  /** Default http. With https the host is `localhost`, and `caFile` holds the authority. */
  readonly tls?: boolean;
  /** Milliseconds since the epoch: what claims are made of. */
  readonly now?: () => number;
  /** What `iss` says, and `entry()`. Default: the server's own address, which OIDC discovery needs. */
  readonly issuerUrl?: string;
  /** The server wants `Authorization: Bearer <this>`. */
  readonly bearer?: string;
}

export interface EntryOptions extends Partial<IssuerEntry> {
  /** Where the verifier gets the keys. Default `url`. */
  readonly keysFrom?: 'url' | 'file' | 'discovery' | 'static';
}

export class TestIssuer {
  /** Those that the server and the file hand out; the last one signs. */
  keys: SigningKey[];
  /** Undefined: all is well. */
  trouble: Trouble | undefined;
  /** Of discovery alone. */
  discoveryTrouble: Trouble | undefined;
  /** Laid over the discovery document. */
  discovery: Claims = {};
  /** Handed out instead of `{keys}`. */
  jwks: unknown;
  /** Paths that were asked for. */
  readonly requests: string[] = [];
  readonly folder = mkdtempSync(join(tmpdir(), 'kz-issuer-'));
  readonly #options: IssuerOptions;
  readonly #authority = Authority.create();
  readonly #server: http.Server;
  #address = '';

  private constructor(options: IssuerOptions) {
    this.#options = options;
    this.keys = [...(options.keys ?? [new SigningKey('RS256')])];
    const answer: http.RequestListener = (request, response) => {
      this.requests.push(request.url ?? '');
      this.#answer(request, response);
    };
    const SNICallback: https.ServerOptions['SNICallback'] = (name, done) => {
      done(null, this.#authority.contextFor(name));
    };
    this.#server = options.tls === true ? https.createServer({ SNICallback }, answer) : http.createServer(answer);
    writeFileSync(this.caFile, this.#authority.certificate);
    this.writeJwksFile();
  }

  static async start(options: IssuerOptions = {}): Promise<TestIssuer> {
    const issuer = new TestIssuer(options);
    await new Promise<void>((resolve) => issuer.#server.listen(0, '127.0.0.1', resolve));
    const { port } = issuer.#server.address() as AddressInfo;
    issuer.#address = options.tls === true ? `https://localhost:${String(port)}` : `http://127.0.0.1:${String(port)}`;
    return issuer;
  }

  /** `iss`. */
  get url(): string {
    return this.#options.issuerUrl ?? this.#address;
  }

  get jwksUrl(): string {
    return `${this.#address}/jwks`;
  }

  get jwksFile(): string {
    return join(this.folder, 'jwks.json');
  }

  get caFile(): string {
    return join(this.folder, 'ca.pem');
  }

  get key(): SigningKey {
    const key = this.keys.at(-1);
    if (key === undefined) throw new Error('the issuer has no key');
    return key;
  }

  /** Requests for keys, discovery left out. */
  get fetches(): number {
    return this.requests.filter((path) => path === '/jwks').length;
  }

  /** A new key takes the place of all others, at the server and in the file. */
  rotate(key: SigningKey = new SigningKey(this.key.alg)): SigningKey {
    this.keys = [key];
    this.writeJwksFile();
    return key;
  }

  writeJwksFile(text: string = JSON.stringify(this.#jwks())): void {
    writeFileSync(this.jwksFile, text);
  }

  /** As the bundle's loader would give it. */
  entry({ keysFrom = 'url', ...overrides }: EntryOptions = {}): IssuerEntry {
    return {
      name: 'lab',
      issuerUrl: this.url,
      type: 'custom',
      audience: ['kz'],
      ...(keysFrom === 'url' ? { jwksUrl: this.jwksUrl } : {}),
      ...(keysFrom === 'file' ? { jwksFile: this.jwksFile } : {}),
      ...(this.#options.tls === true ? { ca: this.caFile } : {}),
      staticKeys: keysFrom === 'static' ? this.keys.map((key) => key.static()) : [],
      map: new Map(),
      at: { file: '/bundle.yaml', line: 3, column: 5 },
      ...overrides,
    };
  }

  /** An item of `issuers:` in a bundle.yaml, in one line (JSON is YAML). `more` is laid over it. */
  yaml({ name = 'lab', type = 'custom', ...more }: { name?: string; type?: IssuerType } & Claims = {}): string {
    const keys = { jwks_url: this.jwksUrl, ...(this.#options.tls === true ? { ca: this.caFile } : {}) };
    return `  - ${JSON.stringify({ name, issuer_url: this.url, type, audience: 'kz', ...keys, ...more })}`;
  }

  /** The claims that every good token has; `claims` is laid over them, a member that is undefined is left out. Lives 5 minutes. */
  claims(claims: Claims = {}): Claims {
    const seconds = this.seconds();
    return { iss: this.url, sub: 'lab-subject', aud: 'kz', iat: seconds, nbf: seconds, exp: seconds + 300, jti: randomUUID(), ...claims };
  }

  seconds(): number {
    return Math.floor((this.#options.now ?? Date.now)() / 1000);
  }

  /** A good token, but for what `claims` and `header` change. */
  token(claims: Claims = {}, header: Claims = {}): string {
    return this.key.sign(this.claims(claims), header);
  }

  /** As GitHub's runners get it. */
  githubToken(claims: Claims = {}): string {
    return this.token({ ...GITHUB, ...claims }, { x5t: createHash('sha1').update(this.key.kid).digest('base64url') });
  }

  /** A projected service account token, as a pod finds it. */
  kubernetesToken(claims: Claims = {}): string {
    const seconds = this.seconds();
    return this.token({ ...KUBERNETES, aud: ['kz'], exp: seconds + 3607, ...claims }, { typ: undefined });
  }

  /** From now on nobody listens. */
  async close(): Promise<void> {
    await this.stop();
    rmSync(this.folder, { recursive: true, force: true });
  }

  /** Nobody listens any more; the files stay. */
  async stop(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise<void>((resolve) => {
      this.#server.close(() => {
        resolve();
      });
    });
  }

  #answer(request: http.IncomingMessage, response: http.ServerResponse): void {
    const { bearer } = this.#options;
    const isDiscovery = request.url === '/.well-known/openid-configuration';
    const trouble = isDiscovery ? (this.discoveryTrouble ?? this.trouble) : this.trouble;
    if (bearer !== undefined && request.headers.authorization !== `Bearer ${bearer}`) {
      response.writeHead(401).end('{"keys":[]}');
      return;
    }
    const isMoved = request.url === '/moved';
    if (trouble !== undefined && !isMoved) this.#misbehave(trouble, response);
    else response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(isDiscovery ? this.#document() : this.#jwks()));
  }

  #misbehave(trouble: Trouble, response: http.ServerResponse): void {
    if (trouble === 'down') response.destroy();
    else if (trouble === 'drip') drip(response);
    else if (trouble === 'huge') response.end(JSON.stringify({ ...this.#jwks(), more: 'x'.repeat(2_097_152) }));
    else if (trouble === 'endless') pour(response);
    else if (trouble === 'many') response.end(JSON.stringify({ keys: Array.from({ length: 101 }, () => this.key.jwk) }));
    else if (trouble === 'garbage') response.end('<html>CANARY-garbage</html>');
    else if (trouble === 'redirect') response.writeHead(302, { location: '/moved' }).end();
    else if (typeof trouble === 'number') response.writeHead(trouble).end('{"keys":[]}');
  }

  #document(): Claims {
    const algorithms = ['RS256'];
    return { issuer: this.url, jwks_uri: this.jwksUrl, id_token_signing_alg_values_supported: algorithms, ...this.discovery };
  }

  #jwks(): Claims {
    const given = this.jwks as Claims | undefined;
    return given ?? { keys: this.keys.filter(({ alg }) => !alg.startsWith('HS')).map(({ jwk }) => jwk) };
  }
}

const GITHUB: Claims = {
  sub: 'repo:acme/api:ref:refs/heads/main',
  ref: 'refs/heads/main',
  sha: '3c0f1d0b1f4b7f8a7c2b4f3c5a8e5b9f2d1c0a97',
  repository: 'acme/api',
  repository_owner: 'acme',
  repository_owner_id: '65',
  repository_visibility: 'private',
  repository_id: '74',
  actor: 'octocat',
  actor_id: '12',
  workflow: 'deploy',
  workflow_ref: 'acme/api/.github/workflows/deploy.yml@refs/heads/main',
  job_workflow_ref: 'acme/api/.github/workflows/deploy.yml@refs/heads/main',
  event_name: 'push',
  ref_type: 'branch',
  ref_protected: 'true',
  head_ref: '',
  base_ref: '',
  environment: 'production',
  run_id: '6543210987',
  run_number: '42',
  run_attempt: '1',
  runner_environment: 'github-hosted',
};

const KUBERNETES: Claims = {
  sub: 'system:serviceaccount:payments:api',
  'kubernetes.io': {
    namespace: 'payments',
    node: { name: 'node-1', uid: '646e7c5e-32d6-4d42-9dbd-e504e6cbe6b1' },
    pod: { name: 'api-7d4f8c9b6-x2x9z', uid: '5e0bd49b-f040-43b0-99b7-22765a53f7f3' },
    serviceaccount: { name: 'api', uid: '14ee3fa4-a7e2-420f-9f9a-dbc4507c3798' },
    warnafter: 1_798_765_432,
  },
};

/** A space now and then, so that the connection is never idle. */
function drip(response: http.ServerResponse): void {
  response.writeHead(200);
  const timer = setInterval(() => response.write(' '), 10);
  response.on('close', () => {
    clearInterval(timer);
  });
}

/** Until nobody reads any more. */
function pour(response: http.ServerResponse): void {
  response.write('{"keys":[');
  const more = (): void => {
    while (!response.destroyed && response.write(' '.repeat(65_536)));
  };
  response.on('drain', more);
  more();
}

function canary(bytes: number): string {
  return `CANARY-${randomBytes(bytes).toString('hex')}`.slice(0, bytes);
}

function privateKey(alg: SigningAlg, size = 2048): KeyObject {
  const curves: Partial<Record<SigningAlg, string>> = { ES256: 'P-256', ES384: 'P-384', ES512: 'P-521' };
  const namedCurve = curves[alg];
  if (alg === 'EdDSA') return generateKeyPairSync('ed25519').privateKey;
  if (namedCurve !== undefined) return generateKeyPairSync('ec', { namedCurve }).privateKey;
  return generateKeyPairSync('rsa', { modulusLength: size }).privateKey;
}
