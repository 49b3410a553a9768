// What happens to a program of a direct run when a secret changes, and whether anything of that needs to be watched at all.
import { declarationFor, type Config } from '../config/load.ts';
import type { Resolved } from '../providers/secrets.ts';

export type RotateAction = 'restart' | 'none' | NodeJS.Signals;

export class Rotating {
  readonly #actions: ReadonlyMap<string, RotateAction>;

  /** `standard` is `--on-rotate`, for secrets and documents that say nothing themselves. */
  constructor(config: Config, secrets: readonly Resolved[], standard = 'none') {
    const actions = secrets.map(({ name, source }) => {
      return [name, actionOf(declarationFor(config, name, source.origin)?.on_rotate ?? standard)] as const;
    });
    this.#actions = new Map(actions);
  }

  actionOf(name: string): RotateAction {
    return this.#actions.get(name) ?? 'none';
  }

  /** For several that change at once: a restart is enough for all, and of signals the first. */
  strongest(names: readonly string[]): RotateAction {
    const actions = names.map((name) => this.actionOf(name));
    return actions.find((action) => action === 'restart') ?? actions.find((action) => action !== 'none') ?? 'none';
  }

  /** Without reading or loading anything: most runs have nothing that changes. */
  isNeeded(secrets: readonly Resolved[]): boolean {
    return secrets.some((each) => each.state === 'set' && (each.lease !== undefined || this.actionOf(each.name) !== 'none'));
  }
}

/** The schema and the flag take nothing else. */
function actionOf(text: string): RotateAction {
  if (text === 'restart') return 'restart';
  const signal = SIGNALS.find((each) => text === `signal:${each.slice(3)}`);
  return signal ?? 'none';
}

const SIGNALS = ['SIGHUP', 'SIGINT', 'SIGTERM', 'SIGQUIT', 'SIGUSR1', 'SIGUSR2'] as const;
