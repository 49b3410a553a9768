// A kz server for each test of a file, which answers as the reference says unless it is told what to answer, and short words for asking it.
import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type IncomingMessage, type RequestListener, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { inspect } from 'node:util';
import { afterEach, beforeEach, expect } from 'vitest';
import type { KzError } from '../../src/core/errors.ts';
import { openKeyzero } from '../../src/providers/keyzero.ts';
import type { KeyzeroOptions } from '../../src/providers/keyzero-server.ts';
import type { Outcome, Provider } from '../../src/providers/provider.ts';
import { NEVER } from './vault-bench.ts';

export const CANARY = `CANARY-${randomBytes(8).toString('hex')}`;

export interface Asked {
  readonly path: string;
  readonly authorization: string | undefined;
  readonly refs: readonly string[];
}

export interface Answer {
  readonly status?: number;
  readonly headers?: Record<string, string>;
  /** Text is sent as it is. */
  readonly body?: unknown;
}

export function jwt(claims: object): string {
  return [{ alg: 'RS256' }, claims, CANARY].map((part) => Buffer.from(JSON.stringify(part)).toString('base64url')).join('.');
}

export function inSeconds(count: number): number {
  return Math.floor(Date.now() / 1000) + count;
}

export const JWT = jwt({ iss: 'https://ci.example', exp: inSeconds(600) });

export class KeyzeroLab {
  folder = '';
  url = '';
  asked: Asked[] = [];
  values = new Map<string, unknown>();
  /** Instead of the values. */
  answer: ((asked: Asked) => Answer) | undefined;
  readonly #cleanUp: (() => void)[] = [];

  /** To be called where a test file begins. */
  static forThisFile(): KeyzeroLab {
    const lab = new KeyzeroLab();
    beforeEach(() => lab.#start());
    afterEach(() => {
      for (const each of lab.#cleanUp.splice(0)) each();
      rmSync(lab.folder, { recursive: true });
    });
    return lab;
  }

  readonly serve: RequestListener = (request, response) => void this.#respond(request, response);

  readonly listen = async (server: ReturnType<typeof createServer>, origin = 'http://127.0.0.1'): Promise<string> => {
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    this.#cleanUp.push(() => {
      server.close();
      server.closeAllConnections();
    });
    return `${origin}:${String((server.address() as AddressInfo).port)}`;
  };

  readonly open = (options: KeyzeroOptions = {}, env: Record<string, string> = { KEYZERO_JWT: JWT }): Provider => {
    const provider = openKeyzero({ url: this.url, ...options }, { env, userDirectory: this.folder });
    this.#cleanUp.push(() => void provider.close?.(NEVER));
    return provider;
  };

  readonly get = (provider: Provider, refs: readonly string[], signal = NEVER): Promise<readonly Outcome[]> =>
    provider.get(
      refs.map((text) => ({ text, directory: this.folder })),
      signal,
    );

  /** The error that a ref gets, alone, or all refs. Never with what must stay secret. */
  readonly failureOf = async (provider: Provider, ref = 'a/b', signal = NEVER): Promise<KzError> => {
    const error = await this.get(provider, [ref], signal).then(
      ([outcome]) => errorOf(outcome),
      (thrown: unknown) => thrown as KzError,
    );
    expect(inspect(error)).not.toContain(CANARY);
    expect(inspect(error)).not.toContain(JWT);
    return error;
  };

  /** Object.fromEntries makes `__proto__` a key like any other. */
  readonly result = (ref: string): [string, unknown] => {
    if (!this.values.has(ref)) return [ref, { allowed: false, policy: 'default-deny', code: 'denied' }];
    return [ref, { allowed: true, policy: 'p', mode: 'direct', value: this.values.get(ref) }];
  };

  async #start(): Promise<void> {
    this.folder = mkdtempSync(join(tmpdir(), 'kz-keyzero-'));
    this.asked = [];
    this.values = new Map();
    this.answer = undefined;
    this.url = await this.listen(createServer(this.serve));
  }

  async #respond(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const chunks: Buffer[] = [];
    for await (const chunk of request as AsyncIterable<Buffer>) chunks.push(chunk);
    const text = Buffer.concat(chunks).toString();
    const refs = text === '' ? [] : (JSON.parse(text) as { resources: string[] }).resources;
    const about = { path: `${request.method ?? ''} ${request.url ?? ''}`, authorization: request.headers.authorization, refs };
    this.asked.push(about);
    const given = this.answer?.(about) ?? { body: { results: Object.fromEntries(refs.map(this.result)) } };
    const { status = 200, headers = {}, body = '' } = given;
    response.writeHead(status, { 'content-type': 'application/json', ...headers });
    response.end(typeof body === 'string' ? body : JSON.stringify(body));
  }
}

export function show(outcomes: readonly Outcome[]): string[] {
  return outcomes.map((outcome) => (outcome.ok ? outcome.secret.reveal() : outcome.error.code));
}

export function errorOf(outcome: Outcome | undefined): KzError {
  if (outcome === undefined || outcome.ok) throw new Error('it did not fail');
  return outcome.error;
}
