// The arguments and results of the tools as they are on the wire, from and to what the use cases take and give.
import { ServerFailure } from '../failure.ts';
import type { HealthReport } from './mcp-health.ts';
import { cutBase64, cutText } from './mcp-result.ts';
import type { McpResolved } from './mcp.ts';
import type { BodyEncoding } from '../fetch/fetch-request.ts';
import type { Fetched } from '../fetch/fetch-response.ts';
import type { ListedResource } from '../service.ts';
import type { FetchCall } from '../use-cases.ts';

export interface WithJwt {
  readonly jwt?: string;
}

export interface ResolveArguments extends WithJwt {
  readonly resource: string;
  readonly resolver?: string;
  readonly context?: Readonly<Record<string, unknown>>;
}

export interface FetchArguments extends ResolveArguments {
  readonly url: string;
  readonly method?: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string;
  readonly body_encoding?: BodyEncoding;
}

export function readFetchCall(input: FetchArguments): FetchCall {
  const { resource, resolver, context, url, method = 'GET', headers = {}, body, body_encoding: bodyEncoding = 'utf8' } = input;
  return { resource, resolver, context, url, method, headers, body, bodyEncoding };
}

/** Throws for what must not get out, whoever let it come this far: of a resource of mode direct, this is the value. */
export function writeResolved({ mode, token, ttlMs, expiresAt, ref, proxy, hint, ...resolved }: McpResolved): object {
  if (mode !== 'masked' && mode !== 'short_lived') {
    throw new ServerFailure('mode-forbidden', 'the value of a resource is never given to an agent', { hint: 'use the tool fetch' });
  }
  const { policy, hosts, methods } = resolved;
  return {
    mode,
    token,
    ttl_s: Math.max(0, Math.floor(ttlMs / 1000)),
    expires_at: new Date(expiresAt).toISOString(),
    resource: ref,
    policy,
    hosts,
    methods,
    ...(proxy === undefined ? {} : { proxy }),
    ...(hint === undefined ? {} : { hint }),
  };
}

interface FetchedOnWire {
  readonly status: number;
  readonly headers: Fetched['headers'];
  readonly body: string;
  readonly body_encoding: BodyEncoding;
  readonly truncated: boolean;
}

export function writeFetched({ status, headers, body, bodyEncoding, truncated }: Fetched): FetchedOnWire {
  return { status, headers, body, body_encoding: bodyEncoding, truncated };
}

export function shortenBody(fetched: FetchedOnWire, part: number): FetchedOnWire {
  const { body, body_encoding: encoding } = fetched;
  const cut = encoding === 'base64' ? cutBase64 : cutText;
  return { ...fetched, body: cut(body, body.length * part), truncated: true };
}

interface ListOnWire {
  readonly resources: readonly object[];
  readonly truncated: boolean;
}

export function writeList(listed: readonly ListedResource[]): ListOnWire {
  const resources = listed.map(({ ref, isPattern, mode, hosts, methods, description }) => {
    return { ref, is_pattern: isPattern, mode, hosts, methods, ...(description === undefined ? {} : { description }) };
  });
  return { resources, truncated: false };
}

export function shortenList({ resources }: ListOnWire, part: number): ListOnWire {
  return { resources: resources.slice(0, Math.floor(resources.length * part)), truncated: true };
}

interface HealthOnWire {
  readonly status: 'ok' | 'degraded';
  readonly version: string;
  readonly bundle_version: string;
  readonly uptime_s: number;
  readonly backends: HealthReport['backends'];
  readonly resources: HealthReport['resources'];
}

export function writeHealth({ bundleVersion, uptimeMs, backends, resources }: HealthReport, version: string): HealthOnWire {
  return {
    status: [...backends, ...resources].every(({ ok }) => ok) ? 'ok' : 'degraded',
    version,
    bundle_version: bundleVersion,
    uptime_s: Math.floor(uptimeMs / 1000),
    backends,
    resources,
  };
}
