// The fetch use case as its faces call it, with one resource and one value.
import { randomBytes } from 'node:crypto';
import type { CredentialLocation, ResourceEntry } from '../../../src/config/bundle.ts';
import { Secret } from '../../../src/core/secret.ts';
import { compileRules } from '../../../src/policy/rule.ts';
import { ServerFailure, type FailureCode } from '../../../src/server/failure.ts';
import { checkFetch, readFetch, sendFetch, type FetchInput, type FetchOptions, type FetchResult } from '../../../src/server/fetch/fetch.ts';
import type { Upstreams } from './upstream.ts';

export const REF = 'github/pat';
export const BEARER: CredentialLocation = { kind: 'header', name: 'Authorization', prefix: 'Bearer' };

export interface ResourceOptions {
  readonly hosts?: readonly string[];
  readonly methods?: readonly string[];
  readonly paths?: readonly string[];
  readonly location?: CredentialLocation;
}

export function resource({ hosts = ['api.test'], methods = ['GET', 'POST', 'HEAD'], paths, location = BEARER }: ResourceOptions = {}) {
  const entry: ResourceEntry = {
    ref: REF,
    resolver: 'gh',
    mode: 'masked',
    ttlMs: 60_000,
    location,
    hosts,
    methods,
    ...(paths === undefined ? {} : { paths }),
    at: { file: 'bundle.yaml', line: 1, column: 1 },
  };
  const rules = compileRules(hosts.flatMap((host) => (paths ?? [undefined]).map((path) => ({ allow: true, host, path, methods }))));
  return { entry, rules };
}

export function canary(): string {
  return `CANARY-${randomBytes(12).toString('hex')}`;
}

export interface FetchSetting extends ResourceOptions, Partial<Omit<FetchOptions, 'upstream'>> {
  readonly value?: string;
}

/** All steps but the policy. */
export async function fetchFrom({ upstream }: Upstreams, input: FetchInput | string, setting: FetchSetting = {}): Promise<FetchResult> {
  const { value = canary(), signal = new AbortController().signal, hosts, methods, paths, location, ...options } = setting;
  const request = readFetch(typeof input === 'string' ? { url: input } : input);
  const { entry, rules } = resource({
    ...(hosts === undefined ? {} : { hosts }),
    ...(methods === undefined ? {} : { methods }),
    ...(paths === undefined ? {} : { paths }),
    ...(location === undefined ? {} : { location }),
  });
  checkFetch(request, { entry, rules });
  return sendFetch(request, { entry, ref: REF, secret: new Secret(value) }, { upstream, signal, ...options });
}

/** The failure's code and words; fails itself when there is none. */
export async function failureOf(
  work: () => unknown,
): Promise<{ readonly code: FailureCode; readonly message: string; readonly text: string }> {
  try {
    await work();
  } catch (error) {
    if (!(error instanceof ServerFailure)) throw error;
    return { code: error.code, message: error.message, text: `${error.message} ${error.hint ?? ''} ${String(error.stack)}` };
  }
  throw new Error('nothing failed');
}
