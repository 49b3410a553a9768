// How the use cases look from outside: the words of HTTP's JSON and of MCP's tools for the same answers.
import type { ResolveResult } from './http/http-ask.ts';
import type { HttpOptions } from './http/http.ts';
import type { HealthCheck } from './mcp/mcp-health.ts';
import type { McpUseCases } from './mcp/mcp.ts';
import type { Mode } from '../config/bundle.ts';
import type { Service } from './service.ts';
import type { Resolved, UseCases } from './use-cases.ts';

export interface FaceParts {
  readonly service: Service;
  readonly useCases: UseCases;
  /** Where the proxy listens, if there is one. */
  readonly proxyUrl: () => string | undefined;
  /** Other servers may have a proxy that takes the tokens of this one. */
  readonly isSealShared: boolean;
}

/** For whoever asked for a token: it would be refused everywhere. */
const NO_PROXY = 'no proxy takes this token, because this server has none: use fetch, or have the operator start it with --proxy';

export function httpUseCases(parts: FaceParts): Pick<HttpOptions, 'resolve' | 'fetch'> {
  const { useCases } = parts;
  return {
    resolve: async (caller, ask, signal) => written(await useCases.resolve(caller, ask, { face: 'http', signal }), parts),
    fetch: (caller, ask, signal) => useCases.fetch(caller, ask, { face: 'http', signal }),
  };
}

function written({ policy, mode, text, expiresAt }: Resolved, parts: FaceParts): ResolveResult {
  if (mode === 'direct') return { allowed: true, policy, mode, value: text };
  const ends = expiresAt === undefined ? {} : { ttl: secondsUntil(expiresAt), expires_at: new Date(expiresAt).toISOString() };
  return { allowed: true, policy, mode, token: text, ...ends, ...whereItIsTaken(mode, parts) };
}

function whereItIsTaken(mode: Mode, { proxyUrl, isSealShared }: FaceParts): { readonly proxy?: string; readonly hint?: string } {
  const proxy = proxyUrl();
  if (proxy !== undefined) return { proxy };
  return mode === 'masked' && !isSealShared ? { hint: NO_PROXY } : {};
}

export function mcpUseCases(parts: FaceParts, health: HealthCheck | undefined): McpUseCases {
  const { service, useCases } = parts;
  return {
    verify: (jwt, signal) => service.verify(jwt, 'mcp', signal),
    resolve: async (caller, input, signal) => {
      const { text, mode, expiresAt = 0, policy, hosts, methods } = await useCases.resolve(caller, input, { face: 'mcp', signal });
      const ends = { ttlMs: expiresAt - Date.now(), expiresAt };
      return { ref: input.ref, mode, token: text, ...ends, policy, hosts, methods, ...whereItIsTaken(mode, parts) };
    },
    fetch: (caller, call, progress, signal) => useCases.fetch(caller, call, { face: 'mcp', signal, progress }),
    list: (caller) => service.list(caller, 'mcp'),
    ...(health === undefined ? {} : { health }),
  };
}

function secondsUntil(time: number): number {
  return Math.max(0, Math.floor((time - Date.now()) / 1000));
}
