// What all faces of the server share: verify → decide → resolve, in that order, and one audit line for each decision. A stage that fails denies;
// no backend is asked before a policy has allowed the ref. What callers are told is a `ServerFailure`; what only the operator should read goes
// through `tell`.
import type { Decision } from '../audit/decision.ts';
import { KzError } from '../core/errors.ts';
import type { Secret } from '../core/secret.ts';
import { permit, TOOLS, type CompiledPolicy, type PolicyInput, type PolicyRequest, type Tool, type Verdict } from '../policy/permit.ts';
import { refProblem } from '../policy/ref.ts';
import { wordsOf, type Backends } from './backends.ts';
import { DecidingTime } from './policies/deciding-time.ts';
import { Line, whoIs, type Facts } from './decision-line.ts';
import { ServerFailure } from './failure.ts';
import type { Limits } from './limits.ts';
import type { FoundResource, Resource, ResourceTable } from './resources.ts';
import type { Caller, Verifier } from './identity/verify.ts';

export type Face = Decision['face'];

/** One question of a caller whose token was verified. */
export interface Ask {
  readonly tool: Tool;
  readonly face: Face;
  readonly ref: string;
  /** If given, it must be the resource's. */
  readonly resolver?: string | undefined;
  readonly context?: Readonly<Record<string, unknown>> | undefined;
  /** What the value is to be used for, as far as it is known before anything is sent. */
  readonly request?: Omit<PolicyRequest, 'tool'> | undefined;
}

/** What was allowed. */
export interface Grant {
  readonly caller: Caller;
  readonly verdict: Verdict;
  readonly ref: string;
  readonly resource: Resource;
  /** Asks the backend. Throws `secret-unavailable`, `secret-timeout` or `cancelled`. */
  secret(signal: AbortSignal): Promise<Secret>;
  /** For the audit line: what the upstream answered. */
  note(facts: { readonly status: number }): void;
}

/** What faces may call. */
export interface Service {
  /** Of the bundle that is served now. */
  readonly bundleVersion: string;
  readonly resources: readonly Resource[];
  /** Throws `ServerFailure`, after writing an audit line. */
  verify(jwt: string | undefined, face: Face, signal: AbortSignal): Promise<Caller>;
  /** Decides, looks the resource up, calls `use`; one audit line whatever happens. Throws `ServerFailure` only. */
  with<T>(caller: Caller, ask: Ask, use: (grant: Grant) => Promise<T>): Promise<T>;
  /** The audit line of a call that ended before there was something to decide: without a token, or because of what it was sent with. */
  refused(face: Face, failure: ServerFailure, about?: RefusedCall): void;
  /** The resources that this caller may use for something. */
  list(caller: Caller, face: Face): readonly ListedResource[];
}

export interface RefusedCall extends Pick<Ask, 'tool'> {
  readonly caller: Caller;
  readonly ref?: string | undefined;
}

export interface ListedResource {
  readonly ref: string;
  /** A glob: what it stands for is not known. */
  readonly isPattern: boolean;
  readonly mode: string;
  readonly hosts: readonly string[];
  readonly methods: readonly string[];
  readonly description?: string;
}

/** One bundle, compiled. Who got hold of it goes on with it when another one takes its place. */
export interface Served {
  readonly version: string;
  readonly verifier: Verifier;
  readonly policies: readonly CompiledPolicy[];
  readonly resources: ResourceTable;
  readonly backends: Backends;
}

export interface ServiceOptions {
  readonly audit: (event: Decision) => void;
  /** Something that the operator should know, for standard error. */
  readonly tell: (text: string) => void;
  readonly limits: Pick<Limits, 'take'>;
}

/** In characters of JSON: what a caller may say about itself. */
const LARGEST_CONTEXT = 16_384;
/** Of arrays and objects within each other. */
const DEEPEST_CONTEXT = 32;

export class LiveService implements Service {
  readonly #options: ServiceOptions;
  readonly #time = new DecidingTime();
  /** Why there were no keys. */
  readonly #told = new WeakSet<object>();
  #served: Served;

  constructor(served: Served, options: ServiceOptions) {
    this.#served = served;
    this.#options = options;
  }

  get bundleVersion(): string {
    return this.#served.version;
  }

  get resources(): readonly Resource[] {
    return this.#served.resources.all;
  }

  get served(): Served {
    return this.#served;
  }

  /** Calls that have begun go on with the old one. */
  replace(served: Served): void {
    this.#served = served;
  }

  async verify(jwt: string | undefined, face: Face, signal: AbortSignal): Promise<Caller> {
    const startedAt = performance.now();
    let caller: Caller | undefined;
    try {
      caller = await this.#served.verifier.verify(jwt, signal);
      this.#options.limits.take(caller);
      return caller;
    } catch (error) {
      const failure = this.#withoutAddresses(this.#asFailure(error, signal));
      const line = new Line({ face, ...(caller === undefined ? {} : whoIs(caller)) }, startedAt);
      line.fail(failure);
      this.#options.audit(line.facts);
      throw failure;
    }
  }

  async with<T>(caller: Caller, ask: Ask, use: (grant: Grant) => Promise<T>): Promise<T> {
    const served = this.#served;
    const line = new Line({ ...whoIs(caller), ...whatIsAsked(ask) });
    try {
      // 0. A connection through the proxy was verified once, and carries as many requests as it likes.
      if (ask.face === 'proxy') this.#options.limits.take(caller);
      // 1. Decide: whether the ref leads anywhere is for those who may ask for it.
      requireIssuer(caller, served);
      const verdict = this.#time.of(caller, () => decideRef(caller, ask, served));
      line.set({ policy: verdict.policy, why: verdict.why });
      if (!verdict.allow) throw denied(verdict, ask);
      // 2. Look up.
      const found = lookUp(ask, served);
      const { entry } = found.resource;
      line.set({ resolver: entry.resolver, mode: entry.mode });
      // 3. Use: the value is fetched when it is asked for.
      const grant = this.#grant({ caller, verdict, ref: ask.ref, resource: found.resource }, { found, served, line });
      const result = await use(grant);
      line.end('allowed');
      return result;
    } catch (error) {
      const failure = this.#asFailure(error);
      line.fail(failure);
      throw failure;
    } finally {
      this.#options.audit(line.facts);
    }
  }

  refused(face: Face, failure: ServerFailure, about?: RefusedCall): void {
    const known = about === undefined ? {} : { ...whoIs(about.caller), tool: about.tool, ref: about.ref ?? null };
    const line = new Line({ face, ...known });
    line.fail(failure);
    this.#options.audit(line.facts);
  }

  list(caller: Caller, face: Face): readonly ListedResource[] {
    const served = this.#served;
    const line = new Line({ ...whoIs(caller), face, tool: 'list' });
    try {
      requireIssuer(caller, served);
      const listed = served.resources.all.filter((resource) => this.#time.of(caller, () => mayUse(caller, resource, served))).map(asListed);
      line.end('allowed');
      return listed;
    } catch (error) {
      const failure = this.#asFailure(error);
      line.fail(failure);
      throw failure;
    } finally {
      this.#options.audit(line.facts);
    }
  }

  #grant(facts: Omit<Grant, 'secret' | 'note'>, { found, served, line }: Granting): Grant {
    return {
      ...facts,
      secret: async (signal) => {
        try {
          return await served.backends.get(found, facts.ref, signal);
        } catch (error) {
          if (signal.aborted) throw this.#asFailure(error, signal);
          throw this.#unavailable(facts, error);
        }
      },
      note: ({ status }) => {
        line.set({ status });
      },
    };
  }

  /** Nobody has proven anything yet: where keys come from, and what answers there, is for the operator, who is told once for each attempt. */
  #withoutAddresses(failure: ServerFailure): ServerFailure {
    const { code, message, hint, retryAfterMs, cause } = failure;
    if (code !== 'keys-unavailable') return failure;
    const isTold = typeof cause === 'object' && cause !== null && this.#told.has(cause);
    if (!isTold) this.#options.tell(hint === undefined ? message : `${message} (${hint})`);
    if (typeof cause === 'object' && cause !== null) this.#told.add(cause);
    return new ServerFailure(code, 'the keys of the token’s issuer cannot be had', { retryAfterMs, cause: failure });
  }

  /** A provider's words may name accounts, addresses and paths: the operator reads them, the caller learns that it did not work. */
  #unavailable({ ref, resource }: Pick<Grant, 'ref' | 'resource'>, error: unknown): ServerFailure {
    const { resolver } = resource.entry;
    const known = error instanceof KzError ? error : undefined;
    this.#options.tell(
      `backend ${resolver} gave no value for ${ref}: ${known === undefined ? 'an unexpected error' : wordsOf(known, resolver)}`,
    );
    const code = known?.code === 'provider-timeout' ? 'secret-timeout' : 'secret-unavailable';
    return new ServerFailure(code, `backend ${resolver} gave no value for ${ref} (${known?.code ?? 'internal'})`, { cause: error });
  }

  /** Everything else is a mistake of ours, whose message could quote anything: only its place is told. */
  #asFailure(error: unknown, signal?: AbortSignal): ServerFailure {
    if (error instanceof ServerFailure) return error;
    if (signal?.aborted === true) return new ServerFailure('cancelled', 'the call was cancelled', { cause: error });
    const stack = error instanceof Error ? (error.stack ?? '') : '';
    const frame = stack.split('\n').find((each) => each.trimStart().startsWith('at '));
    this.#options.tell(`unexpected ${error instanceof Error ? error.constructor.name : typeof error} ${frame?.trim() ?? ''}`.trim());
    return new ServerFailure('internal', 'unexpected error', { cause: error });
  }
}

interface Granting {
  readonly found: FoundResource;
  readonly served: Served;
  readonly line: Line;
}

function whatIsAsked({ face, tool, ref, request }: Ask): Partial<Facts> & Pick<Facts, 'face'> {
  return { face, tool, ref, ...(request === undefined ? {} : { host: request.host, method: request.method, path: request.path }) };
}

/** A bundle that was loaded since then may have another issuer under that name, or none. */
function requireIssuer(caller: Caller, { verifier }: Served): void {
  if (!verifier.has(caller)) throw new ServerFailure('issuer-unknown', 'the issuer of this caller is not in the bundle any more');
}

function decideRef(caller: Caller, ask: Ask, { policies }: Served): Verdict {
  const problem = refProblem(ask.ref);
  if (problem !== undefined) throw new ServerFailure('ref-invalid', `the resource name ${problem}`);
  // First: a text is made of it, and policies walk through it, one call within the other.
  if (isDeeper(ask.context, DEEPEST_CONTEXT)) {
    throw new ServerFailure('request-invalid', `the context is nested more than ${String(DEEPEST_CONTEXT)} deep`);
  }
  if (ask.context !== undefined && JSON.stringify(ask.context).length > LARGEST_CONTEXT) {
    throw new ServerFailure('request-invalid', `the context is larger than ${String(LARGEST_CONTEXT)} characters`);
  }
  return permit(inputOf(caller, ask), policies);
}

function isDeeper(value: unknown, depth: number): boolean {
  if (typeof value !== 'object' || value === null) return false;
  return depth === 0 || Object.values(value).some((each) => isDeeper(each, depth - 1));
}

const NO_REQUEST = { method: '', host: '', path: '' };

function inputOf({ issuer, identity, claims }: Caller, { tool, ref, context = {}, request = NO_REQUEST }: Omit<Ask, 'face'>): PolicyInput {
  return { issuer, identity, claims, ref, context, request: { tool, ...request } };
}

function denied({ policy, why }: Verdict, { ref, tool }: Ask): ServerFailure {
  const reason = why === 'no-match' ? 'no policy allows it' : `policy ${JSON.stringify(policy)} denies it`;
  return new ServerFailure('denied', `${tool} of ${ref} is denied: ${reason}`, {
    hint: 'only the operator of this server can change its policies; do not try other names',
    policy,
  });
}

function lookUp({ ref, resolver, face }: Ask, { resources }: Served): FoundResource {
  const found = resources.find(ref);
  if (found === undefined) {
    const hint =
      face === 'mcp' ? 'list_resources shows what there is' : 'the operator of this server can add it to `resources` of its bundle';
    throw new ServerFailure('ref-unknown', `no resource is called ${ref}`, { hint });
  }
  const { entry } = found.resource;
  if (resolver !== undefined && resolver !== '' && resolver !== entry.resolver) {
    throw new ServerFailure('resolver-mismatch', `resource ${ref} is not resolved by ${JSON.stringify(resolver.slice(0, 60))}`, {
      hint: 'leave `resolver` out',
    });
  }
  return found;
}

/** Policies may look at the tool and the request, so the likeliest ones are tried. */
function mayUse(caller: Caller, { entry }: Resource, { policies }: Served): boolean {
  const host = entry.hosts.find((each) => !each.includes('*')) ?? '';
  const request = { method: entry.methods[0] ?? '', host, path: '/' };
  return TOOLS.some((tool) => {
    const ask = { tool, ref: entry.ref, ...(tool === 'fetch' || tool === 'proxy' ? { request } : {}) };
    return permit(inputOf(caller, ask), policies).allow;
  });
}

function asListed({ entry }: Resource): ListedResource {
  const { ref, mode, hosts, methods, description } = entry;
  return { ref, isPattern: ref.includes('*'), mode, hosts, methods, ...(description === undefined ? {} : { description }) };
}
