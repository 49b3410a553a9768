// What the HTTP face answers at which path. Shapes are checked here; who asks, and whether they may, is for the service.
import type { IncomingMessage, ServerResponse } from 'node:http';
import { ServerFailure } from '../failure.ts';
import { failureAnswer, HttpRefusal, json, refusalAnswer, type Answer, type Exchange } from './http-answer.ts';
import { parseFetch, parseResolve, type FetchAsk, type FetchResult, type ResolveAsk, type ResolveResult } from './http-ask.ts';
import { checkJsonHead, readJson } from './http-body.ts';
import { bearerOf, guard, type GuardOptions } from './http-guard.ts';
import type { Limits } from '../limits.ts';
import { METRICS_TYPE, type Metrics } from '../metrics.ts';
import type { Service } from '../service.ts';
import type { Caller } from '../identity/verify.ts';

export interface Readiness {
  readonly ok: boolean;
  /** For whoever asks, without a token: no secrets. */
  readonly problems: readonly string[];
}

export interface RouteOptions {
  readonly guard: GuardOptions;
  readonly service: Pick<Service, 'bundleVersion' | 'verify'>;
  /** `service.verify` has counted the first question of a call. */
  readonly limits: Pick<Limits, 'enter' | 'take'>;
  /** Decisions, and tokens that it refused, the service counts itself. */
  readonly metrics: Pick<Metrics, 'request' | 'jwtFailure' | 'text'>;
  readonly resolve: (caller: Caller, ask: ResolveAsk, signal: AbortSignal) => Promise<ResolveResult>;
  readonly fetch: (caller: Caller, ask: FetchAsk, signal: AbortSignal) => Promise<FetchResult>;
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

  constructor(options: RouteOptions) {
    this.#options = options;
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

  #answerAt(path: Path, exchange: Exchange, signal: AbortSignal): Promise<Answer> | Answer | undefined {
    const { service, metrics } = this.#options;
    switch (path) {
      case '/healthz':
        return json(200, { status: 'ok', bundle_loaded: true, bundle_version: service.bundleVersion });
      case '/readyz':
        return this.#readiness();
      case '/metrics':
        return { status: 200, type: METRICS_TYPE, body: metrics.text() };
      case '/v1/resolve':
        return this.#asCaller({ exchange, most: LARGEST_RESOLVE, use: (caller, body) => this.#resolve(caller, body, signal) }, signal);
      case '/v1/fetch':
        return this.#asCaller({ exchange, most: LARGEST_FETCH, use: (caller, body) => this.#fetch(caller, body, signal) }, signal);
      case '/mcp':
        this.#handOver(exchange);
        return undefined;
    }
  }

  async #asCaller({ exchange, most, use }: AuthorizedCall, signal: AbortSignal): Promise<Answer> {
    const { service, limits } = this.#options;
    const { request } = exchange;
    // A token in an address would be in the logs of everything on the way (RFC 6750, section 5.3).
    if (request.url?.includes('?') === true) throw new HttpRefusal(400, 'request-invalid', 'this path takes no query');
    const jwt = this.#bearerOf(request);
    checkJsonHead(request, most);
    const leave = limits.enter();
    try {
      // Before the body: a stranger's is not read.
      const caller = await service.verify(jwt, 'http', signal);
      return await use(caller, await readJson(exchange, most));
    } finally {
      leave();
    }
  }

  #bearerOf(request: IncomingMessage): string {
    try {
      return bearerOf(request);
    } catch (error) {
      if (error instanceof ServerFailure) this.#options.metrics.jwtFailure(error.code);
      throw error;
    }
  }

  async #resolve(caller: Caller, body: unknown, signal: AbortSignal): Promise<Answer> {
    const { refs, ...how } = parseResolve(body);
    if (refs.length > 1) this.#options.limits.take(caller, refs.length - 1);
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

  async #fetch(caller: Caller, body: unknown, signal: AbortSignal): Promise<Answer> {
    const fetched = await this.#options.fetch(caller, parseFetch(body), signal);
    const { status, headers, body: text, bodyEncoding, truncated } = fetched;
    return json(200, { status, headers, body: text, body_encoding: bodyEncoding, truncated });
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
    return json(ok ? 200 : 503, { status: ok ? 'ok' : 'unready', problems });
  }

  #handOver({ request, response, awaitsContinue }: Exchange): void {
    const leave = this.#options.limits.enter();
    response.once('close', leave);
    if (awaitsContinue) response.writeContinue();
    this.#options.mcp?.(request, response);
  }

  #asFailure(error: unknown): ServerFailure {
    if (error instanceof ServerFailure) return error;
    this.#options.onInternal?.(error);
    // The message could quote anything.
    return new ServerFailure('internal', 'unexpected error', { cause: error });
  }
}

interface AuthorizedCall {
  readonly exchange: Exchange;
  /** Bytes of the body. */
  readonly most: number;
  readonly use: (caller: Caller, body: unknown) => Promise<Answer>;
}

function checkMethod({ method = '' }: IncomingMessage, allowed: readonly string[]): void {
  if (allowed.includes(method)) return;
  const allow = allowed.join(', ');
  throw new HttpRefusal(405, 'method-not-allowed', `this path takes ${allow}`, { allow });
}

function notAllowed(failure: ServerFailure): Readonly<Record<string, unknown>> {
  const { code, message: reason, hint } = failure;
  const policy = 'policy' in failure && typeof failure.policy === 'string' ? { policy: failure.policy } : {};
  return { allowed: false, ...policy, code, reason, ...(hint === undefined ? {} : { hint }) };
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
