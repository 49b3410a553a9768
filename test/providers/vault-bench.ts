// What the tests of the vault provider share: a server, and short words for asking it and for setting it up.
import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { inspect } from 'node:util';
import { expect } from 'vitest';
import type { ProviderOptions } from '../../src/config/schema.ts';
import { KzError, type ErrorCode } from '../../src/core/errors.ts';
import type { Lease, Outcome, Provider, Ref } from '../../src/providers/provider.ts';
import { openVault } from '../../src/providers/vault.ts';

export interface VaultTestServer {
  /** `http://127.0.0.1:8200`; unsealed, and empty but for what its start makes. */
  readonly address: string;
  /** The root token. */
  readonly token: string;
  /** With the root token, below `/v1/`: `request('POST', 'sys/mounts/kv', {…})`. Any status is an answer; the body is parsed JSON. */
  request(method: string, path: string, body?: unknown): Promise<VaultTestAnswer>;
  /** What `database/config/…` and `database/roles/…` take, for a server that can make users. */
  readonly database?: { readonly config: Readonly<Record<string, unknown>>; readonly creationStatements: readonly string[] };
  /** What `auth/kubernetes/config` takes, and a service account whose token that accepts. */
  readonly kubernetes?: {
    readonly config: Readonly<Record<string, unknown>>;
    readonly jwt: string;
    readonly serviceAccount: string;
    readonly namespace: string;
  };
  close(): Promise<void>;
}

export interface VaultTestAnswer {
  readonly status: number;
  readonly body: unknown;
}

export type VaultOptions = NonNullable<ProviderOptions['vault']>;

export const NEVER = new AbortController().signal;

/** One server, and the providers that were opened on it. Its functions can be taken apart. */
export class VaultBench {
  readonly #opened: Provider[] = [];
  readonly #open: () => Promise<VaultTestServer>;
  #server: VaultTestServer | undefined;
  #folder: string | undefined;

  constructor(open: () => Promise<VaultTestServer>) {
    this.#open = open;
  }

  get server(): VaultTestServer {
    if (this.#server === undefined) throw new Error('the server is not started');
    return this.#server;
  }

  /** Where the providers are at home. */
  get folder(): string {
    this.#folder ??= mkdtempSync(join(tmpdir(), 'kz-vault-'));
    return this.#folder;
  }

  async start(): Promise<void> {
    this.#server = await this.#open();
  }

  async closeProviders(): Promise<void> {
    for (const provider of this.#opened.splice(0)) await provider.close?.(NEVER);
  }

  async close(): Promise<void> {
    await this.#server?.close();
    if (this.#folder !== undefined) rmSync(this.#folder, { recursive: true });
  }

  /** Throws for what the server refuses. */
  readonly setUp = async (method: string, path: string, body?: unknown): Promise<unknown> => {
    const answer = await this.server.request(method, path, body);
    if (answer.status >= 300) throw new Error(`${method} ${path}: ${String(answer.status)} ${JSON.stringify(answer.body)}`);
    return answer.body;
  };

  readonly provider = (
    options: VaultOptions = {},
    env: Readonly<Record<string, string>> = { VAULT_TOKEN: this.server.token },
  ): Provider => {
    const context = { env: { HOME: this.folder, ...env }, userDirectory: join(this.folder, 'keyzero') };
    const vault = openVault({ address: this.server.address, ...options }, context);
    this.#opened.push(vault);
    return vault;
  };

  readonly ref = (text: string): Ref => ({ text, directory: this.folder });

  readonly get = (vault: Provider, ...refs: string[]): Promise<readonly Outcome[]> => vault.get(refs.map(this.ref), NEVER);

  readonly one = async (vault: Provider, ref: string): Promise<Outcome> => {
    const [outcome] = await this.get(vault, ref);
    if (outcome === undefined) throw new Error('no outcome');
    return outcome;
  };

  readonly value = async (vault: Provider, ref: string): Promise<string> => revealed(await this.one(vault, ref));

  readonly write2 = async (path: string, data: Readonly<Record<string, unknown>>): Promise<void> => {
    // A new version 2 mount answers 400 until it is ready.
    for (let attempt = 0; ; attempt++) {
      const { status, body } = await this.server.request('POST', `kz2/data/${path}`, { data });
      if (status < 300) return;
      if (attempt === 100) throw new Error(`cannot write: ${String(status)} ${JSON.stringify(body)}`);
    }
  };

  readonly write1 = async (path: string, data: Readonly<Record<string, unknown>>): Promise<void> => {
    await this.setUp('POST', `team/kz1/${path}`, data);
  };

  /** A token as `vault token create` gives it. */
  readonly userToken = async (body: Readonly<Record<string, unknown>>): Promise<string> =>
    text(await this.setUp('POST', 'auth/token/create', body), 'auth', 'client_token');

  readonly approleEnv = async (role = 'ci'): Promise<Record<string, string>> => {
    const roleId = text(await this.setUp('GET', `auth/approle/role/${role}/role-id`), 'data', 'role_id');
    const secretId = text(await this.setUp('POST', `auth/approle/role/${role}/secret-id`, {}), 'data', 'secret_id');
    return { VAULT_ROLE_ID: roleId, VAULT_SECRET_ID: secretId };
  };

  /** The accessors of all tokens there are. */
  readonly accessors = async (): Promise<string[]> =>
    at(await this.setUp('GET', 'auth/token/accessors?list=true'), 'data', 'keys') as string[];
}

export function canary(): string {
  return `CANARY-${randomBytes(8).toString('hex')}`;
}

export function revealed(outcome: Outcome): string {
  if (!outcome.ok) throw outcome.error;
  return outcome.secret.reveal();
}

/** Also that nothing of a value got into the error. */
export function expectError(outcome: Outcome | undefined, code: ErrorCode, message = /./, hint?: RegExp): void {
  if (outcome?.ok !== false) throw new Error('expected an error');
  expect(outcome.error.message).toMatch(message);
  expect(outcome.error.code).toBe(code);
  if (hint !== undefined) expect(outcome.error.hint).toMatch(hint);
  expect(inspect(outcome.error, { depth: 10 })).not.toContain('CANARY');
}

export async function rejection(promise: Promise<unknown> | undefined): Promise<KzError> {
  const error = await Promise.resolve(promise).then(
    () => undefined,
    (reason: unknown) => reason,
  );
  if (!(error instanceof KzError)) throw new Error('expected a KzError', { cause: error });
  return error;
}

export function login(vault: Provider): Lease {
  const lease = vault.login?.();
  if (lease === undefined) throw new Error('no login with an end');
  return lease;
}

export async function renew(vault: Provider, lease: Lease): Promise<Lease> {
  if (vault.renew === undefined) throw new Error('cannot renew');
  return vault.renew(lease, NEVER);
}

export function at(body: unknown, ...path: readonly string[]): unknown {
  return path.reduce(
    (value: unknown, key) => (typeof value === 'object' && value !== null ? (value as Record<string, unknown>)[key] : undefined),
    body,
  );
}

export function text(body: unknown, ...path: readonly string[]): string {
  const value = at(body, ...path);
  if (typeof value !== 'string') throw new Error(`no text at ${path.join('.')}`);
  return value;
}
