// Where the values of a bundle live: each backend is a provider of `.keyzero.toml` with options of its own. Asks for what was allowed and for
// nothing else, one question for all who want the same value at the same time, and keeps no value beyond that, except what was lent.
import { constants } from 'node:fs';
import { access } from 'node:fs/promises';
import type { BackendEntry, Bundle, ResourceEntry } from '../config/bundle.ts';
import type { Config, Declaration } from '../config/load.ts';
import { orAborted, withDeadline } from '../core/abort.ts';
import { KzError, systemCode } from '../core/errors.ts';
import { LOGINS } from '../core/secret-zero.ts';
import type { Secret } from '../core/secret.ts';
import { Access } from '../providers/resolve.ts';
import type { Lease, ProviderContext } from '../providers/provider.ts';
import { resolveSecrets } from '../providers/secrets.ts';
import type { FoundResource } from './resources.ts';

/** The longest wait for a provider, in milliseconds. */
export const LONGEST_ANSWER_MS = 20_000;
/** Of what was lent, this part of its life is used: whoever gets the value must have some of it left. */
const USABLE = 2 / 3;

export interface BackendHealth {
  readonly name: string;
  /** What is wrong; undefined: nothing that could be found out without reading a value. */
  readonly error: KzError | undefined;
}

interface Value {
  readonly secret: Secret;
  readonly lease: Lease | undefined;
}

interface Lent extends Value {
  readonly until: number;
}

export class Backends {
  readonly #bundle: Pick<Bundle, 'file' | 'backends'>;
  readonly #access: ReadonlyMap<string, Access>;
  readonly #asking = new Map<string, Promise<Value>>();
  readonly #lent = new Map<string, Lent>();
  readonly #closing = new AbortController();

  /** Opens nothing yet. */
  constructor(bundle: Pick<Bundle, 'file' | 'backends'>, context: ProviderContext) {
    this.#bundle = bundle;
    this.#access = new Map([...bundle.backends.values()].map(({ name, options }) => [name, new Access(options, context)]));
  }

  /** Throws the provider's `KzError`, whose message is for the operator and not for the caller. */
  async get({ resource, captures }: FoundResource, ref: string, signal: AbortSignal): Promise<Secret> {
    signal.throwIfAborted();
    const { entry } = resource;
    const backend = this.#bundle.backends.get(entry.resolver);
    if (backend === undefined)
      throw new KzError('config-invalid', `no backend is called ${JSON.stringify(entry.resolver)}`, { at: entry.at });
    const text = providerRef(backend, entry, { ref, captures });
    const key = [backend.name, text, entry.field ?? ''].join('\0');
    const lent = this.#lent.get(key);
    if (lent !== undefined && lent.until > Date.now()) return lent.secret;
    let asking = this.#asking.get(key);
    if (asking === undefined) {
      asking = this.#ask(backend, entry, { ref, text })
        .then((value) => this.#keep(key, value))
        .finally(() => this.#asking.delete(key));
      this.#asking.set(key, asking);
    }
    // Who gives up does not take the answer away from the others.
    return (await orAborted(asking, signal)).secret;
  }

  /** Asks every backend whether it is there and would let kz in. Reads no value. */
  async check(signal: AbortSignal): Promise<readonly BackendHealth[]> {
    return Promise.all(
      [...this.#bundle.backends.values()].map(async ({ name, provider, path }) => {
        try {
          if (path !== undefined) await requireReadable(path);
          const opened = await this.#accessOf(name).open(provider);
          await opened.check?.(signal);
          return { name, error: undefined };
        } catch (error) {
          return { name, error: error instanceof KzError ? error : new KzError('provider-failed', `${provider} failed`, { cause: error }) };
        }
      }),
    );
  }

  /** Gives back logins and leases. Nothing can be asked afterwards. */
  async close(signal: AbortSignal): Promise<void> {
    this.#closing.abort();
    this.#lent.clear();
    await Promise.all([...this.#access.values()].map((access) => access.close(signal)));
  }

  /** What was lent, also for those who come after everybody has gone who waited for it: each of them would borrow another one. */
  #keep(key: string, { secret, lease }: Value): Value {
    if (lease !== undefined) this.#lent.set(key, { secret, lease, until: lease.expiresAt - lease.durationMs * (1 - USABLE) });
    return { secret, lease };
  }

  async #ask({ name, provider }: BackendEntry, entry: ResourceEntry, { ref, text }: Asked): Promise<Value> {
    const config = onlyWith(declarationIn(this.#bundle, { name: ref, provider, text, field: entry.field }));
    const { secrets } = await withDeadline(LONGEST_ANSWER_MS, this.#closing.signal, (signal) =>
      resolveSecrets(config, {}, this.#accessOf(name), signal),
    );
    const [found] = secrets;
    if (found?.state === 'set') return { secret: found.secret, lease: found.lease };
    throw found?.state === 'failed' ? found.error : new KzError('secret-missing', `${ref} is missing`);
  }

  #accessOf(name: string): Access {
    const access = this.#access.get(name);
    if (access === undefined) throw new KzError('config-invalid', `no backend is called ${JSON.stringify(name)}`);
    return access;
  }
}

/** For the operator: hints of providers name their table of `.keyzero.toml`, and here it is the backend that has those options. */
export function inBundle(hint: string | undefined, backend: string): string | undefined {
  return hint?.replaceAll(/\[providers\.[\w-]+\]/g, () => `backend ${JSON.stringify(backend)}`);
}

/** What went wrong with a backend, for the operator's eyes: it may name accounts, addresses and paths. */
export function wordsOf({ message, hint: given }: KzError, backend: string): string {
  const hint = inBundle(given, backend);
  return hint === undefined ? message : `${message} (${hint})`;
}

/** A value of a bundle, as the providers know those of `.keyzero.toml`. Relative refs start at the bundle's folder. */
export function declarationIn({ file }: Pick<Bundle, 'file'>, { name, provider, text, field }: Declared): Declaration {
  const origin = { file: { path: file, layer: 'project', how: '--bundle', walkedTo: false, text: '' }, path: [] } as const;
  return { name, provider, ref: text, origin, ...(field === undefined ? {} : { json_key: field }) };
}

interface Declared {
  /** For messages. */
  readonly name: string;
  readonly provider: BackendEntry['provider'];
  /** As the provider takes it. */
  readonly text: string;
  readonly field: string | undefined;
}

/** Throws `provider-unavailable`. */
async function requireReadable(path: string): Promise<void> {
  try {
    await access(path, constants.R_OK);
  } catch (error) {
    throw new KzError('provider-unavailable', `cannot read ${path} (${systemCode(error) ?? 'unknown error'})`, { cause: error });
  }
}

interface Asked {
  /** As the caller wrote it. */
  readonly ref: string;
  /** As the provider takes it. */
  readonly text: string;
}

function onlyWith(declaration: Declaration): Config {
  return {
    files: [declaration.origin.file],
    searched: [],
    environment: undefined,
    environments: [],
    secrets: new Map([[declaration.name, declaration]]),
    documents: [],
    providers: {},
    blind: undefined,
    blindOrigin: undefined,
    sandboxLayers: [],
  };
}

/** What the backend calls it. Throws `ref-invalid` for a ref that would mean more there than its resource says. */
export function providerRef(backend: BackendEntry, entry: Pick<ResourceEntry, 'ref' | 'from'>, written: WrittenRef): string {
  const { from } = entry;
  const { ref, captures } = written;
  const inner = from === undefined ? ref : filled(from, written);
  const problem =
    captures.length === 0 ? undefined : (problemOf(backend, from, { ...written, inner }) ?? aliasProblem(backend, entry, inner));
  if (problem !== undefined) throw new KzError('ref-invalid', `ref ${JSON.stringify(ref)} ${problem}`);
  if (backend.provider === 'file') return fileRef(backend, from, inner);
  return withScheme(inner, SCHEMES.get(backend.type));
}

function problemOf(
  { provider }: BackendEntry,
  from: string | undefined,
  { ref, captures, inner }: WrittenRef & { readonly inner: string },
): string | undefined {
  if (from !== undefined && ref.includes('#')) return 'names a field, which its resource does already';
  // `app../x` is a ref like any other, and what a star takes of it is not.
  if (captures.some((text) => /(?:^|\/)\.{1,2}(?:\/|$)/.test(text))) return 'would lead out of what its resource names';
  if (provider === 'env' && LOGINS.includes(inner)) return 'is what kz itself logs in with';
  if (provider !== 'exec') return undefined;
  // Words of a program's command line: one of a caller's must not become an option, and none is left out.
  if (/(?:^|\s)-/.test(from === undefined ? ref : captures.join(' '))) return 'would be an option of the program';
  return captures.includes('') ? 'leaves out a word of the program' : undefined;
}

/** In these providers other words for the same secret, or for an older state of it: who asked so would get past the rule that names it. */
const ALIASES: Partial<Record<BackendEntry['provider'], RegExp>> = {
  // A version, or an ARN.
  aws: /:|@(?:aws(?:current|pending|previous)|[\da-f]{8}(?:-[\da-f]{4}){3}-[\da-f]{12})(?=#|$)/gi,
  gcp: /\/versions\//g,
  // Of kv version 2, whose paths may be written without.
  vault: /^[^/]+\/data\//g,
};

/** What the bundle itself writes is meant. */
function aliasProblem({ provider }: BackendEntry, { ref, from }: Pick<ResourceEntry, 'ref' | 'from'>, inner: string): string | undefined {
  const alias = ALIASES[provider];
  if (alias === undefined) return undefined;
  const plain = ref.replace(/\*+/g, 'x');
  const meant = from === undefined ? plain : filled(from, { ref: plain, captures: Array.from({ length: 9 }, () => 'x') });
  return count(inner, alias) > count(meant, alias) ? 'would be another name of a secret, or a version of it' : undefined;
}

function count(text: string, words: RegExp): number {
  return text.match(words)?.length ?? 0;
}

function fileRef({ type, path = '' }: BackendEntry, from: string | undefined, inner: string): string {
  if (type === 'env_file') return `${path}#${inner}`;
  // Of a caller it is a name like any other, and not somebody's home or the root.
  return /^[~/]/.test(inner) && from?.[0] !== inner[0] ? `./${inner}` : inner;
}

function withScheme(ref: string, scheme = ''): string {
  return ref.includes('://') || ref.startsWith('arn:') ? ref : scheme + ref;
}

/** KeyZero's names take refs without one. */
const SCHEMES = new Map([
  ['aws_secrets_manager', 'sm://'],
  ['onepassword_cli', 'op://'],
]);

function filled(from: string, { ref, captures }: WrittenRef): string {
  return from.replace(/\{(ref|\d)\}/g, (_, name: string) => (name === 'ref' ? ref : (captures[Number(name) - 1] ?? '')));
}

interface WrittenRef {
  readonly ref: string;
  readonly captures: readonly string[];
}
