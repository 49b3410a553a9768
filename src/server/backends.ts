// Where the values of a bundle live: each backend is a provider of `.keyzero.toml` with options of its own. Asks for what was allowed and for
// nothing else, one question for all who want the same value at the same time, and keeps no value beyond that, except what was lent.
import type { BackendEntry, Bundle, ResourceEntry } from '../config/bundle.ts';
import type { Config, Declaration } from '../config/load.ts';
import { KzError } from '../core/errors.ts';
import type { Secret } from '../core/secret.ts';
import { Access } from '../providers/resolve.ts';
import type { Lease, ProviderContext } from '../providers/provider.ts';
import { resolveSecrets } from '../providers/secrets.ts';
import type { FoundResource } from './resources.ts';

/** The longest wait for a provider, in milliseconds. */
const TIMEOUT_MS = 20_000;
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
      asking = this.#ask(backend, entry, { ref, text }).finally(() => this.#asking.delete(key));
      this.#asking.set(key, asking);
    }
    // Who gives up does not take the answer away from the others.
    const { secret, lease } = await orAborted(asking, signal);
    if (lease !== undefined) this.#lent.set(key, { secret, lease, until: lease.expiresAt - lease.durationMs * (1 - USABLE) });
    return secret;
  }

  /** Asks every backend whether it is there and would let kz in. Reads no value. */
  async check(signal: AbortSignal): Promise<readonly BackendHealth[]> {
    return Promise.all(
      [...this.#bundle.backends.values()].map(async ({ name, provider }) => {
        try {
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

  async #ask({ name, provider }: BackendEntry, entry: ResourceEntry, { ref, text }: Asked): Promise<Value> {
    const signal = AbortSignal.any([this.#closing.signal, AbortSignal.timeout(TIMEOUT_MS)]);
    const declaration: Declaration = {
      name: ref,
      provider,
      ref: text,
      origin: { file: { path: this.#bundle.file, layer: 'project', how: '--bundle', walkedTo: false, text: '' }, path: [] },
      ...(entry.field === undefined ? {} : { json_key: entry.field }),
    };
    const { secrets } = await resolveSecrets(onlyWith(declaration), {}, this.#accessOf(name), signal);
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
export function providerRef(backend: BackendEntry, { from }: ResourceEntry, written: WrittenRef): string {
  const { ref, captures } = written;
  if (from !== undefined && captures.length > 0 && ref.includes('#')) {
    throw new KzError('ref-invalid', `ref ${JSON.stringify(ref)} names a field, which its resource does already`);
  }
  // Words of a program's command line: one of a caller's must not become an option.
  if (backend.provider === 'exec' && /(?:^|\s)-/.test(from === undefined ? ref : captures.join(' '))) {
    throw new KzError('ref-invalid', `ref ${JSON.stringify(ref)} would be an option of the program`);
  }
  const inner = from === undefined ? ref : filled(from, written);
  if (backend.provider === 'file') return fileRef(backend, from, inner);
  return withScheme(inner, SCHEMES.get(backend.type));
}

function fileRef({ type, path = '' }: BackendEntry, from: string | undefined, inner: string): string {
  if (type === 'env_file') return `${path}#${inner}`;
  // Of a caller it is a name like any other, and not somebody's home.
  return inner.startsWith('~') && from?.startsWith('~') !== true ? `./${inner}` : inner;
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

async function orAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise<T>((resolve, reject) => {
    const onAbort = (): void => {
      reject(signal.reason instanceof Error ? signal.reason : new Error('aborted'));
    };
    signal.addEventListener('abort', onAbort, { once: true });
    work.then(resolve, reject).finally(() => {
      signal.removeEventListener('abort', onAbort);
    });
  });
}
