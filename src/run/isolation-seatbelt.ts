// Isolation on macOS: sandbox-exec(1) with a profile that is made for the run. The proxy listens on the machine's loopback there.
import { realpathSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { seatbeltCommand, seatbeltProfile } from '../sandbox/seatbelt.ts';
import { confinementFor } from '../sandbox/surroundings.ts';
import type { BlindRun } from './blind.ts';
import type { ChildEnd } from './child-tree.ts';
import { runLaunch, type Launch } from './child.ts';
import { withoutAgents } from './isolation-agents.ts';
import type { Isolation, IsolationRequest } from './isolation.ts';
import type { Signals } from './signals.ts';

export class SeatbeltIsolation implements Isolation {
  readonly #request: IsolationRequest;

  constructor(request: IsolationRequest) {
    this.#request = request;
  }

  settled(): Promise<undefined> {
    return Promise.resolve(undefined);
  }

  async run({ folder, proxyPort, environment }: BlindRun, launch: Launch, signals: Signals): Promise<ChildEnd> {
    const { config, env, programs, settings, tell } = this.#request;
    // /var is a link there, and the profile knows real paths only.
    const own = realpathSync.native(folder);
    const temporary = join(own, 'tmp');
    await mkdir(temporary, { mode: 0o700 });
    const { confinement, notes } = confinementFor({
      ...{ env, config, settings, command: launch.command },
      own: [programs],
      directory: process.cwd(),
      names: false,
    });
    for (const text of notes) tell({ level: 'notice', text: `sandbox: ${text}` });
    const profile = seatbeltProfile(
      { ...confinement, readable: [...confinement.readable, own], writable: [...confinement.writable, temporary] },
      { proxyPort, loopbackPorts: settings.allowLoopback, temporary },
    );
    const [program, ...args] = seatbeltCommand(profile, launch.command);
    const variables = { ...withoutAgents(environment.variables), TMPDIR: temporary };
    return runLaunch({ ...launch, command: [program ?? '', ...args] }, { env: variables, signals });
  }

  close(): void {
    // Nothing runs before the program does.
  }
}
