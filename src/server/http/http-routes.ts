// What the HTTP face answers at which path. Shapes are checked here; who asks, and whether they may, is for the service.
import type { IncomingMessage, ServerResponse } from 'node:http';
import { ServerFailure } from '../failure.ts';
import { failureAnswer, HttpRefusal, json, refusalAnswer, type Answer, type Exchange } from './http-answer.ts';
import { parseFetch, parseResolve, type ResolveAsks, type ResolveResult } from './http-ask.ts';
import { checkJsonHead, readJson } from './http-body.ts';
import { bearerOf, guard, type GuardOptions } from './http-guard.ts';
import type { Limits } from '../limits.ts';
import { METRICS_TYPE, type Metrics } from '../metrics.ts';
import type { RefusedCall, Service } from '../service.ts';
import type { Caller } from '../identity/verify.ts';
import type { Fetched } from '../fetch/fetch-response.ts';
import type { FetchCall, ResolveInput } from '../use-cases.ts';

export interface Readiness {
  /** There are callers that it can verify. */
  readonly ok: boolean;
  /** For whoever asks, without a token: no secrets. */
  readonly problems: readonly string[];
}

export interface RouteOptions {
  readonly guard: GuardOptions;
  readonly service: Pick<Service, 'bundleVersion' | 'verify' | 'refused'>;
  /** Whose token this is; undefined: nobody's who is known. Counts and writes down nothing. */
  readonly whose: (jwt: string, signal: AbortSignal) => Promise<Caller | undefined>;
  /** `service.verify` has counted the first question of a call. */
  readonly limits: Pick<Limits, 'enter' | 'enterAs' | 'enterAsStranger' | 'take'>;
  readonly metrics: Pick<Metrics, 'request' | 'text'>;
  readonly resolve: (caller: Caller, ask: ResolveInput, signal: AbortSignal) => Promise<ResolveResult>;
  readonly fetch: (caller: Caller, ask: FetchCall, signal: AbortSignal) => Promise<Fetched>;
  readonly ready: () => Promise<Readiness>;
  /** Answers whatever comes to `/mcp`, and ends its own streams before the server is closed. */
  readonly mcp?: ((request: IncomingMessage, response: ServerResponse) => void) | undefined;
  /** Gets what a caller was told nothing of but `internal`. */
  readonly onInternal?: ((error: unknown) => void) | undefined;
}

/** Bytes. */
const LARGEST_RESOLVE = 65_536;
const LARGEST_FETCH = 1_048_576;

/** Refs of one call that backends are asked for at the same time. */
const MOST_AT_ONCE = 8;

/** Anybody may ask for readiness, and it may ask issuers for their keys. */
const READY_FOR_MS = 1000;

const READING = ['GET', 'HEAD'];

const METHODS = {
  '/healthz': READING,
  '/readyz': READING,
  '/metrics': READING,
  '/v1/resolve': ['POST'],
  '/v1/fetch': ['POST'],
  '/mcp': ['GET', 'POST', 'DELETE'],
} as const satisfies Record<string, readonly string[]>;

type Path = keyof typeof METHODS;

export class Routes {
  readonly #options: RouteOptions;
  #ready: { readonly answer: Promise<Answer>; readonly until: number } | undefined;
  #isClosing = false;

  constructor(options: RouteOptions) {
    this.#options = options;
  }

  /** From now on the server is alive, and not ready. */
  close(): void {
    this.#isClosing = true;
  }

  /** What metrics call the path: one of ours or `other`. */
  nameOf(request: IncomingMessage): string {
    return this.#pathOf(request) ?? 'other';
  }

  /** Every step that can refuse, in its order. Undefined: somebody else answers. Never rejects. */
  async answer(exchange: Exchange, signal: AbortSignal): Promise<Answer | undefined> {
    try {
      guard(exchange.request, this.#options.guard);
      const path = this.#pathOf(exchange.request);
      if (path === undefined) throw new HttpRefusal(404, 'not-found', 'there is nothing at this path');
      checkMethod(exchange.request, METHODS[path]);
      return await this.#answerAt(path, exchange, signal);
    } catch (error) {
      if (error instanceof HttpRefusal) return refusalAnswer(error);
      return failureAnswer(this.#asFailure(error));
    }
  }

  #pathOf({ url = '' }: IncomingMessage): Path | undefined {
    const [path = ''] = url.split('?', 1);
    if (path === '/mcp' && this.#options.mcp === undefined) return undefined;
    return Object.hasOwn(METHODS, path) ? (path as Path) : undefined;
  }

  #answerAt(path: Path, exchange: Exchange, signal: AbortSignal): Promise<Answer | undefined> | Answer | undefined {
    const { service, metrics } = this.#options;
    if (path !== '/healthz' && path !== '/metrics') this.#requireOpen();
    switch (path) {
      case '/healthz':
        return json(200, { status: 'ok', bundle_loaded: true, bundle_version: service.bundleVersion });
      case '/readyz':
        return this.#readiness();
      case '/metrics':
        return { status: 200, type: METRICS_TYPE, body: metrics.text() };
      case '/v1/resolve':
        return this.#resolve(exchange, signal);
      case '/v1/fetch':
        return this.#fetch(exchange, signal);
      case '/mcp':
        return this.#handOver(exchange, signal);
    }
  }

  #requireOpen(): void {
    if (this.#isClosing) throw new HttpRefusal(503, 'overloaded', 'this server is shutting down', { 'retry-after': '1' });
  }

  async #asCaller<Ask>(call: AuthorizedCall<Ask>, signal: AbortSignal): Promise<Answer> {
    const { service, limits } = this.#options;
    const { request } = call.exchange;
    // A token in an address would be in the logs of everything on the way (RFC 6750, section 5.3).
    if (request.url?.includes('?') === true) throw new HttpRefusal(400, 'request-invalid', 'this path takes no query');
    const jwt = this.#bearerOf(request);
    checkJsonHead(request, call.most);
    const leave = limits.enter();
    try {
      // Before the body: a stranger's is not read.
      return await this.#useAs(await service.verify(jwt, 'http', signal), call);
    } finally {
      leave();
    }
  }

  #bearerOf(request: IncomingMessage): string {
    try {
      return bearerOf(request);
    } catch (error) {
      if (error instanceof ServerFailure) this.#options.service.refused('http', error);
      throw error;
    }
  }

  async #useAs<Ask>(caller: Caller, { exchange, tool, most, read, use }: AuthorizedCall<Ask>): Promise<Answer> {
    let leave = (): void => undefined;
    try {
      const ask = await this.#audited({ caller, tool }, async () => {
        leave = this.#options.limits.enterAs(caller);
        return read(await readJson(exchange, most), caller);
      });
      return await use(caller, ask);
    } finally {
      leave();
    }
  }

  /** What is wrong before the service is asked has its line from here. */
  async #audited<T>(about: RefusedCall, work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      const failure = this.#asFailure(error);
      this.#options.service.refused('http', failure, about);
      throw failure;
    }
  }

  #resolve(exchange: Exchange, signal: AbortSignal): Promise<Answer> {
    const read = (body: unknown, caller: Caller): ResolveAsks => {
      const asks = parseResolve(body);
      if (asks.refs.length > 1) this.#options.limits.take(caller, asks.refs.length - 1);
      return asks;
    };
    const use = (caller: Caller, asks: ResolveAsks): Promise<Answer> => this.#resolveAll(caller, asks, signal);
    return this.#asCaller({ exchange, tool: 'resolve', most: LARGEST_RESOLVE, read, use }, signal);
  }

  async #resolveAll(caller: Caller, { refs, ...how }: ResolveAsks, signal: AbortSignal): Promise<Answer> {
    const found = await inParallel(refs, MOST_AT_ONCE, async (ref) => {
      try {
        return { ref, result: await this.#options.resolve(caller, { ref, ...how }, signal) };
      } catch (error) {
        const failure = this.#asFailure(error);
        return { ref, failure, result: notAllowed(failure) };
      }
    });
    // Own properties, also for a ref that is called `__proto__`.
    const results = Object.fromEntries(found.map(({ ref, result }) => [ref, result]));
    const only = found.length === 1 ? found[0]?.failure : undefined;
    return only === undefined ? json(200, { results }) : failureAnswer(only, { results });
  }

  #fetch(exchange: Exchange, signal: AbortSignal): Promise<Answer> {
    const use = async (caller: Caller, ask: FetchCall): Promise<Answer> => {
      const { status, headers, body, bodyEncoding, truncated } = await this.#options.fetch(caller, ask, signal);
      return json(200, { status, headers, body, body_encoding: bodyEncoding, truncated });
    };
    return this.#asCaller({ exchange, tool: 'fetch', most: LARGEST_FETCH, read: parseFetch, use }, signal);
  }

  #readiness(): Promise<Answer> {
    const known = this.#ready;
    if (known !== undefined && performance.now() < known.until) return known.answer;
    // Nobody asks again while it is being found out.
    const ready = { answer: this.#askReadiness(), until: Infinity };
    const settled = (): void => {
      ready.until = performance.now() + READY_FOR_MS;
    };
    ready.answer.then(settled, settled);
    this.#ready = ready;
    return ready.answer;
  }

  async #askReadiness(): Promise<Answer> {
    const { ok, problems } = await this.#options.ready();
    // It was found out meanwhile for a server that nobody should come to any more.
    this.#requireOpen();
    if (!ok) return json(503, { status: 'unready', problems });
    return json(200, { status: problems.length === 0 ? 'ok' : 'degraded', problems });
  }

  /** The tools ask who it is when they are called. Here it matters for the place alone, which is taken while the body still comes. */
  async #handOver({ request, response, awaitsContinue }: Exchange, signal: AbortSignal): Promise<undefined> {
    const caller = await this.#whoMaySend(request, signal);
    const leave = this.#placeFor(caller);
    if (response.destroyed) {
      leave();
      return;
    }
    response.once('close', leave);
    if (awaitsContinue) response.writeContinue();
    this.#options.mcp?.(request, response);
  }

  async #whoMaySend(request: IncomingMessage, signal: AbortSignal): Promise<Caller | undefined> {
    try {
      return await this.#options.whose(bearerOf(request), signal);
    } catch {
      return undefined;
    }
  }

  #placeFor(caller: Caller | undefined): () => void {
    const { limits } = this.#options;
    if (caller === undefined) return limits.enterAsStranger();
    const leaveOwn = limits.enterAs(caller);
    try {
      const leave = limits.enter();
      return () => {
        leave();
        leaveOwn();
      };
    } catch (error) {
      leaveOwn();
      throw error;
    }
  }

  #asFailure(error: unknown): ServerFailure {
    if (error instanceof ServerFailure) return error;
    this.#options.onInternal?.(error);
    // The message could quote anything.
    return new ServerFailure('internal', 'unexpected error', { cause: error });
  }
}

interface AuthorizedCall<Ask> {
  readonly exchange: Exchange;
  readonly tool: 'resolve' | 'fetch';
  /** Bytes of the body. */
  readonly most: number;
  /** Throws what is wrong with the body. */
  readonly read: (body: unknown, caller: Caller) => Ask;
  readonly use: (caller: Caller, ask: Ask) => Promise<Answer>;
}

function checkMethod({ method = '' }: IncomingMessage, allowed: readonly string[]): void {
  if (allowed.includes(method)) return;
  const allow = allowed.join(', ');
  throw new HttpRefusal(405, 'method-not-allowed', `this path takes ${allow}`, { allow });
}

function notAllowed(failure: ServerFailure): Readonly<Record<string, unknown>> {
  const { policy, code, message: reason, hint } = failure;
  return { allowed: false, ...(policy === undefined ? {} : { policy }), code, reason, ...(hint === undefined ? {} : { hint }) };
}

/** Results in the order of the items. */
async function inParallel<Item, Result>(items: readonly Item[], most: number, work: (item: Item) => Promise<Result>): Promise<Result[]> {
  const results: Result[] = [];
  const queue = items.entries();
  const workers = Array.from({ length: Math.min(most, items.length) }, async () => {
    for (const [index, item] of queue) results[index] = await work(item);
  });
  await Promise.all(workers);
  return results;
}
