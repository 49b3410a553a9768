// A direct run: the child has the values. Its output passes through redaction where it is piped, and it is restarted or told when a value
// changes. What a run has no use for is not loaded.
import type { Config } from '../config/load.ts';
import type { Redacted } from '../mask/redact.ts';
import type { Access } from '../providers/resolve.ts';
import type { Resolved } from '../providers/secrets.ts';
import type { Notice } from './blind-secrets.ts';
import type { ChildEnd } from './child-tree.ts';
import { runChild, type ChildOptions, type Command } from './child.ts';
import { loginsToHide } from './logins.ts';
import { Rotating } from './on-rotate.ts';
import { needsFilter } from './output-kind.ts';
import type { Prepared } from './prepare.ts';
import type { Redaction, Stream } from './redaction.ts';

export interface DirectOptions extends Omit<ChildOptions, 'env' | 'output'> {
  readonly config: Config;
  readonly access: Access;
  readonly prepared: Prepared;
  /** `--redact` and `--no-redact`; left out: what is piped. */
  readonly redact?: boolean | undefined;
  /** `--on-rotate`. */
  readonly onRotate?: string | undefined;
  readonly tell: (notice: Notice) => void;
}

/** Resolves when the last child has ended. Throws what `runChild` throws. */
export async function runDirect(command: Command, options: DirectOptions): Promise<ChildEnd> {
  const { config, access, prepared, tell, descriptors, graceMs, signals } = options;
  const redaction = await openRedaction(
    [...hiddenOf(prepared.secrets), ...loginsToHide(config, prepared.environment.variables)],
    options.redact,
    tell,
  );
  const child: ChildOptions = { env: prepared.environment.variables, output: redaction?.output, descriptors, graceMs, signals };
  const rotating = new Rotating(config, prepared.secrets, options.onRotate);
  if (!rotating.isNeeded(prepared.secrets)) return runChild(command, child);
  const [{ SupervisedChild }, { keepRotating }] = await Promise.all([import('./supervised-child.ts'), import('./direct-rotation.ts')]);
  const supervised = await SupervisedChild.start(command, child);
  const keeper = keepRotating(supervised, {
    config,
    access,
    secrets: prepared.secrets,
    rotating,
    environment: (secrets) => prepared.withSecrets(secrets).variables,
    redact: (hidden) => redaction?.add(hidden),
    tell,
  });
  try {
    return await supervised.ended();
  } finally {
    await keeper?.close();
  }
}

/** Undefined when no stream is redacted. */
export async function openRedaction(
  hidden: readonly Redacted[],
  wanted: boolean | undefined,
  tell: (notice: Notice) => void,
): Promise<Redaction | undefined> {
  const streams = ([1, 2] as const).filter((stream: Stream) => wanted ?? needsFilter(stream));
  if (streams.length === 0) return undefined;
  const { Redaction } = await import('./redaction.ts');
  return new Redaction(hidden, streams, tell);
}

function hiddenOf(secrets: readonly Resolved[]): readonly Redacted[] {
  return secrets.filter((each) => each.state === 'set');
}
