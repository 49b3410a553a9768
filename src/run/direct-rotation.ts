// Direct mode while the program runs: leases are kept alive, and a value that changed does to the program what `on_rotate` says. The environment
// of a running program cannot be changed, so without `on_rotate` it keeps what it has.
import type { Config } from '../config/load.ts';
import { KzError } from '../core/errors.ts';
import type { Redacted } from '../mask/redact.ts';
import type { Consumer, NotAdopted } from '../providers/renew-event.ts';
import { Keeper } from '../providers/renew.ts';
import type { Access } from '../providers/resolve.ts';
import type { Resolved, SetSecret } from '../providers/secrets.ts';
import type { Notice } from './blind-secrets.ts';
import type { RotateAction, Rotating } from './on-rotate.ts';
import { rotationNotice } from './rotation-words.ts';

/** The part of a supervised child that rotation needs. */
export interface Rotatable {
  /** Nobody is restarted or told any more. */
  readonly isOver: boolean;
  replace(env: Readonly<Record<string, string>>): void;
  signal(signal: NodeJS.Signals): void;
}

export interface RotationOptions {
  readonly config: Config;
  readonly access: Access;
  readonly secrets: readonly Resolved[];
  readonly rotating: Rotating;
  /** The child's environment with these secrets. Throws `secret-invalid` for a value that no environment can hold. */
  readonly environment: (secrets: readonly Resolved[]) => Readonly<Record<string, string>>;
  /** Learns every value before the program gets it. */
  readonly redact: (hidden: readonly Redacted[]) => void;
  readonly tell: (notice: Notice) => void;
  readonly delayMs?: (() => number) | undefined;
}

/** Many of a kind whose secret is rotated should not all restart at the same moment. */
const LONGEST_DELAY_MS = 2000;

/** Undefined when nothing of it can change or end. The keeper is the caller's to close. */
export function keepRotating(child: Rotatable, options: RotationOptions): Keeper | undefined {
  const { config, access, tell } = options;
  return Keeper.start(options.secrets, {
    config,
    access,
    consumer: new DirectConsumer(child, options),
    tell: (event) => {
      tell(
        rotationNotice(event, {
          adopted: (names) => (child.isOver ? TOO_LATE : inWords(options.rotating.strongest(names))),
          ending: ENDING,
        }),
      );
    },
  });
}

const ENDING = 'the program keeps the old one; on_rotate = "restart" would give it a new one';

const TOO_LATE = 'the program has ended or is ending, and does not get it';

function inWords(action: RotateAction): string {
  switch (action) {
    case 'restart':
      return 'the program is restarted';
    case 'none':
      return 'the program keeps the old value';
    default:
      return `the program gets ${action}`;
  }
}

class DirectConsumer implements Consumer {
  readonly #child: Rotatable;
  readonly #options: RotationOptions;
  #secrets: ReadonlyMap<string, Resolved>;
  #restart: NodeJS.Timeout | undefined;

  constructor(child: Rotatable, options: RotationOptions) {
    this.#child = child;
    this.#options = options;
    this.#secrets = new Map(options.secrets.map((each) => [each.name, each]));
  }

  uses(name: string): boolean {
    return this.#options.rotating.actionOf(name) !== 'none';
  }

  adopt(changes: readonly SetSecret[]): readonly NotAdopted[] {
    const { redact, rotating } = this.#options;
    const refused = changes.flatMap((each) => this.#refusalOf(each));
    const taken = changes.filter(({ name }) => !refused.some((each) => each.name === name));
    if (taken.length === 0) return refused;
    redact(taken);
    this.#secrets = new Map([...this.#secrets, ...taken.map((each) => [each.name, each] as const)]);
    if (this.#child.isOver) return refused;
    const action = rotating.strongest(taken.map(({ name }) => name));
    if (action === 'restart') this.#restartSoon();
    else if (action !== 'none') this.#child.signal(action);
    return refused;
  }

  #refusalOf(change: SetSecret): readonly NotAdopted[] {
    try {
      this.#options.environment([change]);
      return [];
    } catch (error) {
      if (error instanceof KzError) return [{ name: change.name, why: `has a new value that cannot be given: ${error.message}` }];
      throw error;
    }
  }

  /** The program has the value, and may go on with what it opened with it. */
  expire(): void {
    return undefined;
  }

  #restartSoon(): void {
    if (this.#restart !== undefined) return;
    const delay = this.#options.delayMs?.() ?? Math.random() * LONGEST_DELAY_MS;
    this.#restart = setTimeout(() => {
      this.#restart = undefined;
      this.#child.replace(this.#options.environment([...this.#secrets.values()]));
    }, delay).unref();
  }
}
