// From what the bundle says to what can be served: rules compiled, keys read, backends opened on paper. Everything that is wrong with a bundle
// is found here or in `readBundleFile`, and comes back at once; no network is asked.
import { bundleFailure, readBundleFile, type Bundle } from '../config/bundle.ts';
import { KzError } from '../core/errors.ts';
import type { CompiledPolicy } from '../policy/permit.ts';
import type { ProviderContext } from '../providers/provider.ts';
import { PROVIDERS } from '../providers/table.ts';
import { Backends, providerRef } from './backends.ts';
import { compilePolicies } from './policies/compile-policies.ts';
import { ResourceTable } from './resources.ts';
import type { Served } from './service.ts';
import { Verifier } from './identity/verify.ts';

export interface Compiled extends Served {
  readonly bundle: Bundle;
}

export interface CompileOptions {
  readonly context: ProviderContext;
  /** What goes wrong later with the keys of issuers. */
  readonly tell?: ((level: 'warning', text: string) => void) | undefined;
}

/** Throws one error that holds every problem of the bundle, each with its place. */
export async function compileBundle(path: string, { context, tell }: CompileOptions): Promise<Compiled> {
  const { bundle, problems: known } = await readBundleFile(path);
  const problems = [...known];
  const resources = await collecting(problems, () => ResourceTable.compile(bundle));
  const policies = await collecting(problems, () => policiesOf(bundle));
  const verifier = await collecting(problems, () =>
    Verifier.open(bundle.issuers, { env: context.env, warn: (text) => tell?.('warning', text) }),
  );
  for (const entry of bundle.resources) await collecting(problems, () => checkRef(bundle, entry));
  if (resources === undefined || policies === undefined || verifier === undefined || problems.length > 0) throw bundleFailure(problems);
  return { bundle, version: bundle.version, resources, policies, verifier, backends: new Backends(bundle, context) };
}

async function policiesOf(bundle: Bundle): Promise<readonly CompiledPolicy[]> {
  const { policies, problems } = await compilePolicies(bundle);
  if (problems.length > 0) throw KzError.all(problems);
  return policies;
}

/** A fixed ref that its provider would never take. What a caller will ask for is known when it does. */
async function checkRef({ backends }: Bundle, entry: Bundle['resources'][number]): Promise<void> {
  const backend = backends.get(entry.resolver);
  if (backend === undefined || entry.ref.includes('*')) return;
  const text = providerRef(backend, entry, { ref: entry.ref, captures: [] });
  try {
    await PROVIDERS[backend.provider].checkRef?.(text);
  } catch (error) {
    if (!(error instanceof KzError)) throw error;
    const hint = error.hint ?? 'say what the backend calls it with `from`';
    throw new KzError(error.code, `resource ${JSON.stringify(entry.ref)}: ${error.message}`, { hint, at: entry.at, cause: error });
  }
}

async function collecting<T>(problems: KzError[], work: () => T | Promise<T>): Promise<T | undefined> {
  try {
    return await work();
  } catch (error) {
    if (!(error instanceof KzError)) throw error;
    problems.push(...(error.code === 'several' ? error.problems : [error]));
    return undefined;
  }
}
