// The contract of a provider: a place where secrets live. A new provider is one file that exports `open`, one line in table.ts,
// one page in docs/providers/.
import type { KzError } from '../core/errors.ts';
import type { Secret } from '../core/secret.ts';

/** What the config calls a secret, and the folder of the file that says so (relative paths start there). */
export interface Ref {
  readonly text: string;
  readonly directory: string;
}

export type Outcome = { readonly ok: true; readonly secret: Secret } | { readonly ok: false; readonly error: KzError };

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
}

/** What every provider may use of the outside world. */
export interface ProviderContext {
  /** kz's own environment. */
  readonly env: Readonly<Record<string, string | undefined>>;
  /** `~/.config/keyzero`, where kz keeps its own files. */
  readonly userDirectory: string;
}
