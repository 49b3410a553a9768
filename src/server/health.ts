// Do the credentials still work? Asks every backend whether it lets kz in, and sends each resource's `check` with its value, as `fetch` would.
// Says so by name; what a server answered besides its status is nobody's business here.
import { endOfAll } from '../core/abort.ts';
import { KzError } from '../core/errors.ts';
import type { Upstream } from '../proxy/upstream.ts';
import type { Decision } from '../audit/decision.ts';
import { wordsOf } from './backends.ts';
import { Line } from './decision-line.ts';
import { ServerFailure } from './failure.ts';
import { GRACE_MS } from './grace.ts';
import { checkFetch, readFetch, sendFetch } from './fetch/fetch.ts';
import type { HealthReport } from './mcp/mcp-health.ts';
import type { Resource } from './resources.ts';
import type { Served } from './service.ts';

export interface HealthContext {
  readonly served: Served;
  readonly upstream: Upstream;
  /** `performance.now()` at the server's start. */
  readonly startedAt: number;
  /** Each check uses a value, and has a line. */
  readonly audit: (event: Decision) => void;
  /** What backends say is for the operator. */
  readonly tell: (text: string) => void;
}

const CHECK_TIMEOUT_MS = 10_000;

/** Those that run, whether anybody still waits for them or not. */
export class HealthChecks {
  readonly #running = new Map<AbortController, Promise<HealthReport>>();

  run(context: HealthContext, signal: AbortSignal): Promise<HealthReport> {
    const controller = new AbortController();
    const abort = (): void => {
      controller.abort(signal.reason);
    };
    signal.addEventListener('abort', abort, { once: true });
    const tell = (text: string): void => {
      // What the server's end breaks off is not broken.
      if (this.#running.has(controller)) context.tell(text);
    };
    const check = checkHealth({ ...context, tell }, controller.signal).finally(() => {
      signal.removeEventListener('abort', abort);
      this.#running.delete(controller);
    });
    this.#running.set(controller, check);
    return check;
  }

  /** Aborts them and lets them come to their end. To be called before the backends are closed: a check uses values, and has a line for each. */
  async close(): Promise<void> {
    const running = [...this.#running];
    this.#running.clear();
    for (const [controller] of running) controller.abort();
    await endOfAll(
      running.map(([, check]) => check),
      GRACE_MS,
    );
  }
}

async function checkHealth(context: HealthContext, signal: AbortSignal): Promise<HealthReport> {
  const { served, startedAt } = context;
  const [backends, resources] = await Promise.all([
    backendsOf(context, signal),
    Promise.all(
      served.resources.all.flatMap((resource) => {
        const { check } = resource.entry;
        return check === undefined ? [] : [checkResource({ resource, check }, context, signal)];
      }),
    ),
  ]);
  return { bundleVersion: served.version, uptimeMs: Math.round(performance.now() - startedAt), backends, resources };
}

async function backendsOf({ served, tell }: HealthContext, signal: AbortSignal): Promise<HealthReport['backends']> {
  const found = await served.backends.check(signal);
  return found.map(({ name, error }) => {
    if (error === undefined) return { name, ok: true };
    tell(`backend ${name}: ${wordsOf(error, name)}`);
    return { name, ok: false, detail: error.code };
  });
}

async function checkResource(
  { resource, check }: Check,
  { served, upstream, tell, audit }: HealthContext,
  signal: AbortSignal,
): Promise<Checked> {
  const { entry } = resource;
  const { ref, resolver, mode } = entry;
  const line = new Line({ face: 'mcp', tool: 'health_check', ref, resolver, mode });
  try {
    const request = readFetch(check);
    line.set({ host: request.target.host, method: request.method, path: request.path });
    checkFetch(request, resource);
    const secret = await served.backends.get({ resource, captures: [] }, ref, signal);
    const options = { upstream, signal, timeoutMs: CHECK_TIMEOUT_MS };
    const { status } = await sendFetch(request, { entry, ref, secret }, options);
    line.set({ status });
    line.end('allowed');
    return status < 400 ? { ref, ok: true } : { ref, ok: false, detail: `the check got status ${String(status)}` };
  } catch (error) {
    if (error instanceof KzError) tell(`resource ${ref}: ${wordsOf(error, resolver)}`);
    const code = codeOf(error, signal);
    line.end('failed', code);
    return { ref, ok: false, detail: code };
  } finally {
    audit(line.facts);
  }
}

function codeOf(error: unknown, { aborted }: AbortSignal): string {
  if (error instanceof KzError || error instanceof ServerFailure) return error.code;
  return aborted ? 'cancelled' : 'internal';
}

interface Check {
  readonly resource: Resource;
  readonly check: NonNullable<Resource['entry']['check']>;
}

type Checked = HealthReport['resources'][number];
