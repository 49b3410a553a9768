// The server's bundle.yaml: who may ask (issuers), for what (resources), when (policies), and where it lives (backends). Invalid never falls
// back: every problem is collected and thrown at once. A rule is only text here.
import { createHash } from 'node:crypto';
import { constants } from 'node:fs';
import { open, type FileHandle } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { KzError, systemCode, type Place } from '../core/errors.ts';
import { absolutePath } from '../core/home-path.ts';
import type { ProviderName } from './provider-names.ts';
import type { ProviderOptions } from './schema.ts';
import type { ISSUER_TYPES } from './bundle-schema.ts';
import type { Position } from './bundle-yaml.ts';

export { bundleWarnings } from './bundle-warnings.ts';

export interface Bundle {
  /** Absolute. */
  readonly file: string;
  readonly version: string;
  /** Of its text, in hex: which bundle it is. */
  readonly sha256: string;
  readonly issuers: readonly IssuerEntry[];
  readonly policies: readonly PolicyEntry[];
  readonly resources: readonly ResourceEntry[];
  readonly backends: ReadonlyMap<string, BackendEntry>;
}

export type IssuerType = (typeof ISSUER_TYPES)[number];

export interface IssuerEntry {
  readonly name: string;
  /** Compared with `iss` exactly. */
  readonly issuerUrl: string;
  readonly type: IssuerType;
  /** Empty: any (the bundle says `audience: any`). */
  readonly audience: readonly string[];
  readonly jwksUrl?: string;
  /** Absolute, as every path here. */
  readonly jwksFile?: string;
  readonly jwksFileAt?: Place;
  readonly ca?: string;
  readonly tokenFile?: string;
  readonly staticKeys: readonly StaticKey[];
  /** Narrows what is taken. */
  readonly algorithms?: readonly string[];
  readonly maxAgeMs?: number;
  /** Identity field → path of keys in the claims, `claims.` left out. */
  readonly map: ReadonlyMap<string, readonly string[]>;
  readonly at: Place;
}

export interface StaticKey {
  readonly kid?: string;
  readonly alg: string;
  /** Public key, or for HS* the key material, in one of three places. */
  readonly pem?: string;
  readonly pemFile?: string;
  readonly secretEnv?: string;
  readonly at: Place;
}

export interface PolicyEntry {
  readonly name: string;
  /** CEL. */
  readonly rule: string;
  readonly effect: 'allow' | 'deny';
  /** Of the rule's first character, so that the engine's position can be added. */
  readonly at: Place;
}

export type Mode = 'masked' | 'direct' | 'short_lived';

export interface ResourceEntry {
  /** Exact, or a glob (see policy/ref.ts). */
  readonly ref: string;
  /** Of a backend. */
  readonly resolver: string;
  readonly from?: string;
  readonly field?: string;
  readonly mode: Mode;
  readonly ttlMs: number;
  readonly location: CredentialLocation;
  /** Empty: none was given, then `fetch` and the proxy refuse it (possible in mode direct only). */
  readonly hosts: readonly string[];
  readonly methods: readonly string[];
  readonly paths?: readonly string[];
  readonly check?: { readonly method: string; readonly url: string };
  readonly description?: string;
  readonly at: Place;
  /** Of its parts, as far as they are written. */
  readonly places?: ResourcePlaces;
}

export interface ResourcePlaces {
  readonly ref: Place;
  readonly hosts: readonly Place[];
  readonly paths: readonly Place[];
  readonly check: Place;
}

export type CredentialLocation =
  | { readonly kind: 'header'; readonly name: string; /** Empty: the bare value. */ readonly prefix: string }
  | { readonly kind: 'query'; readonly name: string }
  /** With a user the value is the password, without it is `user:password`. */
  | { readonly kind: 'basic'; readonly user?: string };

export interface BackendEntry {
  readonly name: string;
  /** As it is written: `env_file`, `hashicorp_vault`. */
  readonly type: string;
  readonly provider: ProviderName;
  /** Of that provider alone, as in `.keyzero.toml`. */
  readonly options: ProviderOptions;
  /** Of `env_file`, absolute. */
  readonly path?: string;
  readonly at: Place;
}

/** Throws one error that holds every problem, each with its place. Does not compile rules: src/server/compile.ts does. */
export async function loadBundle(path: string): Promise<Bundle> {
  const { bundle, problems } = await readBundleFile(path);
  if (problems.length > 0) throw bundleFailure(problems);
  return bundle;
}

/** With problems the bundle holds only what is right in it. Throws where there is nothing to read, or no YAML. */
export async function readBundleFile(path: string): Promise<{ readonly bundle: Bundle; readonly problems: readonly KzError[] }> {
  const file = resolve(path);
  const text = await readText(path);
  const sha256 = createHash('sha256').update(text).digest('hex');
  const { readYaml } = await import('./bundle-yaml.ts');
  const yaml = await readYaml(text);
  const place = (position: Position): Place => ({ file, ...position });
  if ('problems' in yaml) {
    throw bundleFailure(yaml.problems.map(({ message, hint, at }) => new KzError('config-syntax', message, { hint, at: place(at) })));
  }
  const { readBundle } = await import('./bundle-read.ts');
  const { bundle, problems } = readBundle(yaml.content, {
    file,
    place: (where) => place(yaml.place(where)),
    textPlace: (where) => place(yaml.textPlace(where)),
    absolute: (written) => absolutePath(written, dirname(file), {}),
  });
  const errors = problems.map(
    ({ path: where, message, hint }) => new KzError('config-invalid', message, { hint, at: place(yaml.place(where)) }),
  );
  return { bundle: { ...bundle, sha256 }, problems: errors };
}

/** More of them help nobody, and a file can hold any number. */
const MOST_PROBLEMS = 100;

/** One error that holds them in the order of the file. */
export function bundleFailure(errors: readonly KzError[]): KzError {
  const inOrder = errors.toSorted(({ at: a }, { at: b }) => (a?.line ?? 0) - (b?.line ?? 0) || (a?.column ?? 0) - (b?.column ?? 0));
  const shown = inOrder.slice(0, MOST_PROBLEMS);
  const more = inOrder.length - shown.length;
  return KzError.all(more === 0 ? shown : [...shown, new KzError('config-invalid', `and ${String(more)} more problems`)]);
}

const NO_BUNDLE = 'correct --bundle; `kz server init` writes one to start from';

/** In bytes. */
const LARGEST_FILE = 1_048_576;

async function readText(path: string): Promise<string> {
  try {
    const handle = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
    try {
      return new TextDecoder('utf-8', { fatal: true }).decode(await readBytes(path, handle));
    } finally {
      await handle.close();
    }
  } catch (error) {
    if (error instanceof KzError) throw error;
    if (systemCode(error) === 'ENOENT')
      throw new KzError('config-not-found', `there is no bundle ${path}`, { hint: NO_BUNDLE, cause: error });
    const reason = error instanceof TypeError ? 'it is not UTF-8 text' : (systemCode(error) ?? 'unknown error');
    throw new KzError('config-unreadable', `cannot read bundle ${path}: ${reason}`, { cause: error });
  }
}

async function readBytes(path: string, handle: FileHandle): Promise<Uint8Array> {
  const stats = await handle.stat();
  if (!stats.isFile()) throw new KzError('config-unreadable', `cannot read bundle ${path}: it is not a regular file`);
  // Read no further than that, also when the file grows meanwhile.
  const buffer = Buffer.allocUnsafe(LARGEST_FILE + 1);
  let length = 0;
  for (;;) {
    const { bytesRead } = await handle.read(buffer, length, buffer.length - length, null);
    length += bytesRead;
    if (length > LARGEST_FILE) throw new KzError('config-unreadable', `cannot read bundle ${path}: it is larger than 1 MiB`);
    if (bytesRead === 0) return buffer.subarray(0, length);
  }
}
