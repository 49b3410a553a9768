// The providers that a config uses: does each answer, and is kz logged in? Those that can be asked without reading a secret are; of the
// others, what came of their secrets tells.
import type { Config } from '../config/load.ts';
import type { ProviderName } from '../config/provider-names.ts';
import { orAborted } from '../core/abort.ts';
import { KzError, type ErrorCode } from '../core/errors.ts';
import type { Lease } from '../providers/provider.ts';
import { LAST_WORDS_MS, type Access } from '../providers/resolve.ts';
import type { Resolved } from '../providers/secrets.ts';

/** What `check` said, before anything is known of the secrets. */
export type Asked =
  | { readonly state: 'ok'; readonly detail: string; readonly tookMs: number }
  | { readonly state: 'failed'; readonly error: KzError; readonly tookMs: number }
  | { readonly state: 'no-check' };

interface Common {
  readonly name: ProviderName;
  readonly tookMs: number | undefined;
  readonly login: Lease | undefined;
}

export type ProviderFinding =
  | (Common & { readonly state: 'ok'; readonly detail: string })
  /** Without an error of its own where its secrets failed for different reasons. */
  | (Common & { readonly state: 'failed'; readonly error: KzError | undefined })
  | (Common & { readonly state: 'not-asked' });

export function usedProviders(config: Config): readonly ProviderName[] {
  return [...new Set([...config.secrets.values(), ...config.documents].map(({ provider }) => provider))];
}

/** Never throws: a provider that does not listen to the signal counts as failed when it aborts. */
export async function askProvider(name: ProviderName, access: Access, signal: AbortSignal): Promise<Asked> {
  const start = performance.now();
  const tookMs = (): number => performance.now() - start;
  try {
    const provider = await access.open(name);
    if (provider.check === undefined) return { state: 'no-check' };
    const { detail } = await orAborted(provider.check(signal), signal, LAST_WORDS_MS);
    return { state: 'ok', detail, tookMs: tookMs() };
  } catch (error) {
    return { state: 'failed', error: failure(name, error, signal), tookMs: tookMs() };
  }
}

/** `secrets` are all that were resolved, of whatever provider. */
export async function providerFinding(
  name: ProviderName,
  asked: Asked,
  secrets: readonly Resolved[],
  access: Access,
): Promise<ProviderFinding> {
  const common = { name, login: asked.state === 'failed' ? undefined : await loginOf(name, access) };
  if (asked.state !== 'no-check') return { ...common, ...asked };
  const own = secrets.filter(({ source }) => source.provider === name);
  const tookMs = own.length === 0 ? undefined : Math.max(...own.map((secret) => secret.tookMs));
  if (own.some(isAnswer)) return { ...common, tookMs, state: 'ok', detail: 'it answers' };
  const errors = own.flatMap((secret) => (secret.state === 'failed' ? [unnamed(secret.name, secret.error)] : []));
  const [first] = errors;
  if (first === undefined || errors.every(({ code }) => code === 'ref-invalid'))
    return { ...common, tookMs: undefined, state: 'not-asked' };
  const isOne = errors.every(({ code, message }) => code === first.code && message === first.message);
  return { ...common, tookMs, state: 'failed', error: isOne ? first : undefined };
}

/** Does the provider's own error say all that there is to say about this secret? */
export function isExplained(error: KzError, provider: ProviderFinding | undefined): boolean {
  return provider?.state === 'failed' && provider.error?.code === error.code && error.code.startsWith('provider-');
}

/** It let kz in, even if what it has there is not good enough. */
const ANSWERS: readonly ErrorCode[] = ['secret-missing', 'secret-empty', 'secret-invalid'];

function isAnswer(secret: Resolved): boolean {
  if (secret.state === 'failed') return ANSWERS.includes(secret.error.code);
  return secret.state === 'absent' || secret.from === 'provider';
}

function unnamed(name: string, { code, message, hint, cause }: KzError): KzError {
  const start = `${name}: `;
  return new KzError(code, message.startsWith(start) ? message.slice(start.length) : message, { hint, cause });
}

async function loginOf(name: ProviderName, access: Access): Promise<Lease | undefined> {
  const provider = await access.open(name);
  return provider.login?.();
}

function failure(name: ProviderName, error: unknown, signal: AbortSignal): KzError {
  if (error instanceof KzError && (!signal.aborted || error.code === 'provider-timeout')) return error;
  if (!signal.aborted) return new KzError('provider-failed', `provider ${name} failed`, { cause: error });
  return new KzError('provider-timeout', `provider ${name} did not answer in time`, {
    hint: 'allow more with --timeout 60s',
    cause: error,
  });
}
