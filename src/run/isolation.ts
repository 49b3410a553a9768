// What keeps a blind program from everything but the proxy, on this machine: begun while the secrets are fetched, finished when the rest of the
// run is known. Where nothing can, that is said, or it is an error: never less than was asked for without a word.
import type { Config } from '../config/load.ts';
import type { SandboxSettings } from '../config/sandbox-settings.ts';
import { KzError } from '../core/errors.ts';
import { probeSandbox, sandboxTools, type SandboxAvailability } from '../sandbox/availability.ts';
import { seccompFilter } from '../sandbox/seccomp.ts';
import type { BlindRun, Enclosed } from './blind.ts';
import type { Notice } from './blind-secrets.ts';
import type { ChildEnd } from './child-tree.ts';
import type { Command, Launch } from './child.ts';
import { BubblewrapIsolation } from './isolation-bubblewrap.ts';
import { SeatbeltIsolation } from './isolation-seatbelt.ts';
import type { Connection } from './filtered-output.ts';
import type { Variables } from './environment.ts';
import type { Signals } from './signals.ts';

export interface IsolationRequest {
  readonly settings: SandboxSettings;
  readonly config: Config;
  readonly command: Command;
  readonly env: Variables;
  /** The folder of kz's own programs that run in there: src/stage/, and the preload. */
  readonly programs: string;
  /** Pipes for what of the program's output is filtered. */
  readonly connect: () => Connection | undefined;
  readonly tell: (notice: Notice) => void;
}

export interface Isolation {
  /** How the program reaches the proxy, where that is not over the machine's own loopback. */
  readonly enclosed: Enclosed | undefined;
  /** Does this machine really do it? Known before the program starts. Throws `start-failed` otherwise. */
  settled(): Promise<void>;
  run(run: BlindRun, launch: Launch, signals: Signals): Promise<ChildEnd>;
  /** Ends what was begun and not run. */
  close(): void;
}

/** Undefined: the run goes on without, as it was asked for or as the user has been told. Throws `sandbox-unavailable` when it must not. */
export async function beginIsolation(request: IsolationRequest, signal: AbortSignal): Promise<Isolation | undefined> {
  if (request.settings.mode === 'off') return undefined;
  const tools = sandboxTools();
  if (tools.sandboxExec !== undefined) return new SeatbeltIsolation(request);
  const { sh, bwrap } = tools;
  const seccomp = seccompFilter(process.arch);
  if (sh === undefined || bwrap === undefined || seccomp === undefined) return without(request, await probeSandbox(tools, {}, signal));
  return BubblewrapIsolation.begin(request, { ...tools, sh, bwrap, seccomp }, 'nested');
}

/** The isolation itself, or what this machine can do instead. As `beginIsolation`. */
export async function settleIsolation(begun: Isolation, request: IsolationRequest, signal: AbortSignal): Promise<Isolation | undefined> {
  try {
    await begun.settled();
    return begun;
  } catch (error) {
    begun.close();
    const tools = sandboxTools();
    const found = await probeSandbox(tools, {}, signal);
    // It works after all, so what went wrong is not the machine.
    if (found.level === 'full') throw error;
    const { sh, bwrap } = tools;
    const seccomp = seccompFilter(process.arch);
    if (found.level === 'none' || sh === undefined || bwrap === undefined || seccomp === undefined) return without(request, found);
    request.tell({
      level: 'notice',
      text: `sandbox: only programs that honour proxy variables reach the network (${found.why ?? 'basic'})`,
    });
    return BubblewrapIsolation.begin(request, { ...tools, sh, bwrap, seccomp }, 'single');
  }
}

/** Undefined, once that may be. */
function without({ settings, tell }: IsolationRequest, { why = 'unknown reason', fix }: SandboxAvailability): Isolation | undefined {
  if (settings.mode === 'strict') {
    throw new KzError('sandbox-unavailable', `there is no sandbox on this machine: ${why}`, {
      hint: fix ?? 'kz run --blind --sandbox off runs the program without one',
    });
  }
  const advice = fix === undefined ? '' : `; to get it: ${fix}`;
  tell({
    level: 'warning',
    text: `no sandbox (${why}): the program can read your files and go around the proxy${advice}; --sandbox off accepts that`,
  });
  return undefined;
}
