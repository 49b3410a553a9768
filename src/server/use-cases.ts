// What a caller can do, the same through HTTP and MCP: get a token for a resource, or have a request sent with its value. The only place where
// a value itself is given away is mode `direct`, over HTTP, to a caller that the bundle trusts with it.
import type { Mode } from '../config/bundle.ts';
import type { Upstream } from '../proxy/upstream.ts';
import { ServerFailure } from './failure.ts';
import { checkFetch, readFetch, sendFetch, type FetchInput, type FetchRequest, type FetchResult } from './fetch/fetch.ts';
import type { Seal } from './tokens/seal.ts';
import type { Face, Grant, RefusedCall, Service } from './service.ts';
import type { ShortLived } from './tokens/short-lived.ts';
import type { Caller } from './identity/verify.ts';

export interface ResolveInput {
  readonly ref: string;
  readonly resolver?: string | undefined;
  readonly context?: Readonly<Record<string, unknown>> | undefined;
}

export interface Resolved {
  readonly policy: string;
  readonly mode: Mode;
  /** Mode `direct`: the value itself. Otherwise a token that is worth something to the proxy only. */
  readonly text: string;
  /** Of a token: milliseconds since the epoch. */
  readonly expiresAt?: number;
  readonly hosts: readonly string[];
  readonly methods: readonly string[];
}

export interface FetchCall extends FetchInput {
  readonly resource: string;
  readonly resolver?: string | undefined;
  readonly context?: Readonly<Record<string, unknown>> | undefined;
}

export interface CallOptions {
  readonly face: Face;
  readonly signal: AbortSignal;
  /** Bytes of the answer so far. */
  readonly progress?: ((bytes: number) => void) | undefined;
}

export interface UseCaseParts {
  readonly service: Service;
  readonly seal: Seal;
  /** Undefined: no signing key was given. */
  readonly shortLived: ShortLived | undefined;
  readonly upstream: Upstream;
  readonly fetchTimeoutMs: number;
}

export class UseCases {
  readonly #parts: UseCaseParts;

  constructor(parts: UseCaseParts) {
    this.#parts = parts;
  }

  resolve(caller: Caller, input: ResolveInput, { face, signal }: CallOptions): Promise<Resolved> {
    return this.#parts.service.with(caller, { tool: 'resolve', face, ...input }, async (grant) => {
      const { entry } = grant.resource;
      const common = { policy: grant.verdict.policy, mode: entry.mode, hosts: entry.hosts, methods: entry.methods };
      switch (entry.mode) {
        case 'direct':
          if (face !== 'http') throw neverOverMcp(grant.ref);
          return { ...common, text: (await grant.secret(signal)).reveal() };
        case 'masked':
          return { ...common, ...(await this.#sealed(grant, input.context)) };
        case 'short_lived':
          return { ...common, ...(await this.#signed(grant, input.context)) };
      }
    });
  }

  async fetch(caller: Caller, call: FetchCall, { face, signal, progress }: CallOptions): Promise<FetchResult> {
    const { resource: ref, resolver, context, ...input } = call;
    const { service, upstream, fetchTimeoutMs: timeoutMs } = this.#parts;
    const request = this.#read(input, { caller, tool: 'fetch', ref }, face);
    const { method, target, reading } = request;
    const facts = { method, host: target.host, path: reading, isAmbiguous: reading === '' };
    return service.with(caller, { tool: 'fetch', face, ref, resolver, context, request: facts }, async (grant) => {
      checkFetch(request, grant.resource, ref);
      const secret = await grant.secret(signal);
      const options = { upstream, signal, timeoutMs, progress, caller };
      const result = await sendFetch(request, { entry: grant.resource.entry, ref, secret }, options);
      grant.note({ status: result.status });
      return result;
    });
  }

  /** Before anything is decided there is one reading of the request, and the policies see that one. */
  #read(input: FetchInput, about: RefusedCall, face: Face): FetchRequest {
    try {
      return readFetch(input);
    } catch (error) {
      if (error instanceof ServerFailure) this.#parts.service.refused(face, error, about);
      throw error;
    }
  }

  /** The value itself is not asked for: nobody gets it here. */
  async #sealed({ ref, caller, verdict, resource: { entry } }: Grant, context: ResolveInput['context']): Promise<Issued> {
    const { issuer, sub } = caller;
    const expiresAt = Date.now() + entry.ttlMs;
    const text = await this.#parts.seal.seal({ ref, issuer, sub, hosts: entry.hosts, policy: verdict.policy, context, expiresAt });
    return { text, expiresAt };
  }

  async #signed({ ref, caller, resource: { entry } }: Grant, context: ResolveInput['context']): Promise<Issued> {
    const { shortLived, seal } = this.#parts;
    if (shortLived?.canSign !== true) {
      throw new ServerFailure('mode-forbidden', `resource ${ref} is short_lived, and this server has no key to sign with`, {
        hint: 'set KEYZERO_SIGNING_KEY_PATH where the server runs',
      });
    }
    const { issuer, sub } = caller;
    const expiresAt = Date.now() + entry.ttlMs;
    const facts = { ref, resolver: entry.resolver, issuer, sub, caller: await seal.sealCaller(caller), context, expiresAt };
    return { text: await shortLived.sign(facts), expiresAt };
  }
}

type Issued = Pick<Resolved, 'text' | 'expiresAt'>;

function neverOverMcp(ref: string): ServerFailure {
  return new ServerFailure('mode-forbidden', `resource ${ref} is served as its value, which is never given to an agent`, {
    hint: 'use the tool fetch',
  });
}
