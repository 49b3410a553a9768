// Who gets what a keeper reads, and what it tells: a closed union, without a field that could hold a value.
import { KzError } from '../core/errors.ts';
import type { SetSecret } from './secrets.ts';

export interface NotAdopted {
  readonly name: string;
  /** The end of a sentence that starts with the name: `would go to other hosts`. */
  readonly why: string;
}

/** Who uses the values: the proxy of a blind run, or the child of a direct one. */
export interface Consumer {
  /** Would a new value of this secret reach anybody? */
  uses(name: string): boolean;
  /** Takes new values, all of one read at once. Those that it cannot take it names. */
  adopt(changes: readonly SetSecret[]): Promise<readonly NotAdopted[]> | readonly NotAdopted[];
  /** The lease is over and nothing took its place. A later `adopt` makes the secret good again. */
  expire(names: readonly string[]): void;
}

export type KeeperEvent =
  | { readonly type: 'adopted'; readonly names: readonly string[] }
  /** There is a new value, and the old one stays: it fails its checks, or the consumer cannot take it. */
  | ({ readonly type: 'kept' } & NotAdopted)
  /** Told once until it works again. `until` is the end of the lease, in milliseconds since the epoch. */
  | { readonly type: 'failing'; readonly names: readonly string[]; readonly error: KzError; readonly until?: number | undefined }
  | { readonly type: 'working'; readonly names: readonly string[] }
  /** The lease cannot live on, and nobody could take what comes after it. */
  | { readonly type: 'ending'; readonly names: readonly string[]; readonly at: number }
  | { readonly type: 'expired'; readonly names: readonly string[] };

/** Something that does not work is told once, and once more when it does again. */
export class Trouble {
  readonly #names: readonly string[];
  readonly #tell: (event: KeeperEvent) => void;
  count = 0;

  constructor(names: readonly string[], tell: (event: KeeperEvent) => void) {
    this.#names = names;
    this.#tell = tell;
  }

  goesOn(error: KzError, until?: number): void {
    this.count += 1;
    // What is wrong with a value was told with its name.
    if (this.count === 1 && !isAboutValue(error)) this.#tell({ type: 'failing', names: this.#names, error, until });
  }

  isOver(): void {
    if (this.count > 0) this.#tell({ type: 'working', names: this.#names });
    this.count = 0;
  }
}

export function isAboutValue({ code }: KzError): boolean {
  return code.startsWith('secret-');
}

/** The provider has made something new, which lives as long as what it was to replace: not to be asked for every minute. */
export function isMadeInVain(error: KzError): boolean {
  return isAboutValue(error) && error.code !== 'secret-missing';
}

/** Of a new value whose refusal was told with its name. */
export function refusal({ name, why }: NotAdopted): KzError {
  return new KzError('secret-invalid', `${name} ${why}`);
}

export function asKzError(error: unknown): KzError {
  return error instanceof KzError ? error : new KzError('provider-failed', 'reading again failed', { cause: error });
}

/** A message that begins with the name, as the end of a sentence that does. */
export function withoutName(message: string, name: string): string {
  return message.startsWith(name) ? message.slice(name.length).replace(/^:? /, '') : message;
}
