// The contract of a provider: a place where secrets live. A new provider is one file that exports `open`, one line in table.ts,
// one page in docs/providers/.
import type { KzError } from '../core/errors.ts';
import type { Secret } from '../core/secret.ts';

/** What the config calls a secret, and the folder of the file that says so (relative paths start there). */
export interface Ref {
  readonly text: string;
  readonly directory: string;
}

/** How long a value lives, unless it is renewed. What is logged in with has one too. */
export interface Lease {
  /** What the provider calls it; every value that one lease covers has the same. */
  readonly id: string;
  /** Milliseconds since the epoch. */
  readonly expiresAt: number;
  /** Milliseconds from its last renewal to `expiresAt`. */
  readonly durationMs: number;
  readonly renewable: boolean;
}

/** `version` is the provider's word for this state of the value: the same version is the same value. */
export type Outcome =
  | {
      readonly ok: true;
      readonly secret: Secret;
      readonly lease?: Lease | undefined;
      readonly version?: string | undefined;
      /** The text is the JSON of a folder's files: no value by itself, and JSON whatever the folder's name looks like. */
      readonly isFolder?: true;
    }
  | { readonly ok: false; readonly error: KzError };

/** What `kz doctor` says about a provider that answered: `token of approle ci, 59 minutes left`. */
export interface Health {
  readonly detail: string;
}

/**
 * A capability is a method that exists. Opening a provider does no I/O and cannot fail; the first `get` finds out.
 * Errors that concern one ref are outcomes; a method that throws speaks for all the refs it was given.
 */
export interface Provider {
  /** One outcome per ref, in the same order: one bad ref never hides nine good ones. */
  get(refs: readonly Ref[], signal: AbortSignal): Promise<readonly Outcome[]>;

  /** Create or replace a value. */
  put?(ref: Ref, secret: Secret, signal: AbortSignal): Promise<void>;

  /** Returns false when there was nothing to remove. */
  remove?(ref: Ref, signal: AbortSignal): Promise<boolean>;

  /** Where `put` would write, in words for a person: shown before kz asks for the value. */
  destination?(ref: Ref): string;

  /** Is it there, and would it let us in? Reads no secret. Throws the KzError that `get` would give. */
  check?(signal: AbortSignal): Promise<Health>;

  /** What this provider is logged in with, once `get` has logged in, when that ends by itself. */
  login?(): Lease | undefined;

  /** The same lease with a new end, for a lease of a value or of the login. Throws `lease-ended` when nothing can make it live on. */
  renew?(lease: Lease, signal: AbortSignal): Promise<Lease>;

  /** Calls `changed` whenever the value behind a ref may be another one, until the signal aborts. Never throws, never keeps kz alive. */
  watch?(refs: readonly Ref[], changed: (ref: Ref) => void, signal: AbortSignal): void;

  /** Gives back what would outlive this process: leases, and the login if it was ours. Nothing can be asked afterwards. */
  close?(signal: AbortSignal): Promise<void>;
}

/** What every provider may use of the outside world. */
export interface ProviderContext {
  /** kz's own environment. */
  readonly env: Readonly<Record<string, string | undefined>>;
  /** `~/.config/keyzero`, where kz keeps its own files. */
  readonly userDirectory: string;
}
