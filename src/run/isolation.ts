// What keeps a blind program from everything but the proxy, on this machine: begun while the secrets are fetched, finished when the rest of the
// run is known. Where nothing can, that is said, or it is an error: never less than was asked for without a word.
import { fstatSync } from 'node:fs';
import type { Config } from '../config/load.ts';
import type { SandboxSettings } from '../config/sandbox-settings.ts';
import { KzError } from '../core/errors.ts';
import { probeSandbox, sandboxTools, type SandboxAvailability, type SandboxTools } from '../sandbox/availability.ts';
import { seccompFilter } from '../sandbox/seccomp.ts';
import type { BlindRun, Enclosed } from './blind.ts';
import type { Notice } from './blind-secrets.ts';
import type { ChildEnd } from './child-tree.ts';
import type { Command, Launch } from './child.ts';
import { BubblewrapIsolation, type LinuxTools } from './isolation-bubblewrap.ts';
import { SeatbeltIsolation } from './isolation-seatbelt.ts';
import type { EnclosureOptions } from './enclosure.ts';
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
  /** `single` once it is known that `nested` cannot be. See `EnclosureOptions`. */
  readonly shape: EnclosureOptions['shape'];
  readonly tell: (notice: Notice) => void;
}

export interface Isolation {
  /**
   * Waits until everything but the program is there, and says how it reaches the proxy; undefined where that is over the machine's own loopback.
   * Throws `sandbox-failed` when this machine cannot do it.
   */
  settled(): Promise<Enclosed | undefined>;
  /** Throws `sandbox-failed` when the program was not started. */
  run(run: BlindRun, launch: Launch, signals: Signals): Promise<ChildEnd>;
  /** Ends what was begun and not run. */
  close(): void;
}

/** Undefined: the run goes on without, as it was asked for or as the user has been told. Throws `sandbox-unavailable` when it must not. */
export async function beginIsolation(request: IsolationRequest, signal: AbortSignal): Promise<Isolation | undefined> {
  if (request.settings.mode === 'off') return undefined;
  refuseFolders();
  const tools = sandboxTools();
  if (tools.sandboxExec !== undefined) return new SeatbeltIsolation(request);
  const parts = partsOf(tools);
  if (parts === undefined) return without(request, await probeSandbox(tools, {}, signal));
  return BubblewrapIsolation.begin(request, parts);
}

/** An open folder is a way to everything below it and above it, whatever is mounted over its name. */
function refuseFolders(): void {
  const names = ['input', 'output', 'error'];
  const open = names.findIndex((_, descriptor) => isFolder(descriptor));
  if (open < 0) return;
  throw new KzError('usage', `standard ${names[open] ?? ''} is a folder`, { hint: 'redirect it to a file, or leave it as it is' });
}

function isFolder(descriptor: number): boolean {
  try {
    return fstatSync(descriptor).isDirectory();
  } catch {
    return false;
  }
}

/** Undefined where one is missing. */
function partsOf({ sh, bwrap, perl, ip }: SandboxTools): LinuxTools | undefined {
  const seccomp = seccompFilter(process.arch);
  return sh === undefined || bwrap === undefined || seccomp === undefined ? undefined : { sh, bwrap, perl, ip, seccomp };
}

/** What this machine can do instead of an isolation that could not be built; `failure` says why. As `beginIsolation`, and throws `failure`. */
export async function insteadOf(failure: unknown, request: IsolationRequest, signal: AbortSignal): Promise<Isolation | undefined> {
  if (!(failure instanceof KzError) || failure.code !== 'sandbox-failed') throw failure;
  const tools = sandboxTools();
  const found = await probeSandbox(tools, {}, signal);
  const parts = partsOf(tools);
  // It works after all, or it was slow, or nobody knows: then it is not the machine, and the next start may well be isolated.
  if (found.level === 'full' || !found.isCertain || request.shape === 'single') throw failure;
  if (found.level === 'none' || parts === undefined) return without(request, found);
  request.tell({ level: 'notice', text: `sandbox: only programs that honour proxy variables reach the network (${found.why ?? 'basic'})` });
  return BubblewrapIsolation.begin({ ...request, shape: 'single' }, parts);
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
