// A blind run from the secrets to the end of the program, in a sandbox where there is one.
import { basename } from 'node:path';
import { sandboxSettings, type SandboxMode } from '../config/sandbox-settings.ts';
import type { Config } from '../config/load.ts';
import type { Resolution, Resolved } from '../providers/secrets.ts';
import { openBlindRun, type BlindOptions, type BlindRun, type Enclosed } from './blind.ts';
import type { ChildEnd } from './child-tree.ts';
import { prepareLaunch, refuseMissing, runLaunch, type ChildOptions, type Command, type Launch } from './child.ts';
import { openRedaction } from './direct.ts';
import { closeInherited } from './inherited-descriptors.ts';
import { beginIsolation, insteadOf, type Isolation, type IsolationRequest } from './isolation.ts';
import { hideOwnEnvironment } from './own-environment.ts';
import type { Redaction } from './redaction.ts';

export interface BlindChildOptions
  extends Omit<BlindOptions, 'command' | 'enclosed'>, Omit<ChildOptions, 'env' | 'output' | 'descriptors'> {
  /** `--sandbox`; left out: what the config says. */
  readonly sandbox: SandboxMode | undefined;
  /** The folder with kz's own programs that run in a sandbox. */
  readonly programs: string;
  /** `--redact` and `--no-redact`. */
  readonly redact: boolean | undefined;
  /** Fetches the secrets. Rejects with everything that is missing. */
  readonly resolve: () => Promise<Resolution>;
  /** Something that takes a moment, under the command's deadline and signals. */
  readonly within: <T>(action: (signal: AbortSignal) => Promise<T>) => Promise<T>;
  /** Told when everything is known and nothing is started. */
  readonly onPrepared: (secrets: readonly Resolved[], run: BlindRun) => void;
}

/** Throws what `openBlindRun`, `runChild` and `beginIsolation` throw. */
export async function runBlindChild(command: Command, config: Config, options: BlindChildOptions): Promise<ChildEnd> {
  // What kz was started with holds values, and any process of the user can read it where it is.
  hideOwnEnvironment();
  closeInherited();
  const { within, resolve, redact } = options;
  const request = requestFor(command, config, options);
  // Where the output goes has to be known when the sandbox is begun; mostly it is the one thing that does not depend on a value.
  const isEarly = !mayRedact(config, redact);
  let isolation: Isolation | undefined;
  // Known here as soon as it has begun: what a signal met while it was made, `within` does not give back.
  const begin = (action: (signal: AbortSignal) => Promise<Isolation | undefined>): Promise<Isolation | undefined> =>
    within(async (signal) => (isolation = await action(signal)));
  try {
    if (isEarly) isolation = await begin((signal) => beginIsolation(request, signal));
    const resolution = await resolve();
    const redaction = await blindRedaction(config, resolution.secrets, options);
    const launch = await prepareLaunch(command, { ...options, descriptors: [], output: redaction?.output });
    const complete = { ...request, connect: () => launch.output?.connect() };
    if (!isEarly) isolation = await begin((signal) => beginIsolation(complete, signal));
    const facts: Facts = { config, resolution, launch, options };
    while (isolation !== undefined) {
      try {
        return await runOnce(facts, isolation, await isolation.settled());
      } catch (error) {
        isolation.close();
        isolation = await begin((signal) => insteadOf(error, complete, signal));
      }
    }
    return await runOnce(facts);
  } finally {
    isolation?.close();
  }
}

interface Facts {
  readonly config: Config;
  readonly resolution: Resolution;
  readonly launch: Launch;
  readonly options: BlindChildOptions;
}

async function runOnce({ config, resolution, launch, options }: Facts, isolation?: Isolation, enclosed?: Enclosed): Promise<ChildEnd> {
  const { command } = launch;
  const run = await openBlindRun(config, resolution, { ...options, command: basename(command[0]), enclosed });
  let status = 'not started';
  try {
    options.onPrepared(resolution.secrets, run);
    const env = run.environment.variables;
    refuseMissing(command[0], env.PATH);
    const end = isolation === undefined ? await runLaunch(launch, { ...options, env }) : await isolation.run(run, launch, options.signals);
    status = 'code' in end ? `exit ${String(end.code)}` : `signal ${end.signal}`;
    return end;
  } finally {
    await run.close(status);
  }
}

function requestFor(command: Command, config: Config, { sandbox, programs, env, tell }: BlindChildOptions): IsolationRequest {
  const settings = sandboxSettings(config.blind);
  const chosen = { ...settings, mode: sandbox ?? settings.mode };
  return { settings: chosen, config, command, env, programs, tell, shape: 'nested', connect: () => undefined };
}

function mayRedact({ secrets }: Config, wanted: boolean | undefined): boolean {
  return wanted === true || [...secrets.values()].some(({ expose }) => expose === true);
}

/** A blind child has only what is exposed; the rest it cannot print. */
async function blindRedaction(
  config: Config,
  secrets: readonly Resolved[],
  { redact, tell }: Pick<BlindChildOptions, 'redact' | 'tell'>,
): Promise<Redaction | undefined> {
  const hidden = secrets
    .filter((each) => each.state === 'set')
    .filter(({ name }) => redact === true || config.secrets.get(name)?.expose === true);
  return hidden.length === 0 ? undefined : openRedaction(hidden, redact, tell);
}
