// Isolation on Linux: an enclosure, and what is known only when the secrets are there.
import { realpathSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { Server } from 'node:net';
import { join } from 'node:path';
import { shortPath } from '../core/home-path.ts';
import { writeError } from '../core/private-file.ts';
import type { Received } from '../proxy/doors.ts';
import { quickFeatures } from '../sandbox/availability.ts';
import { innerArguments } from '../sandbox/bubblewrap.ts';
import { confinementFor, type Surveyed } from '../sandbox/surroundings.ts';
import type { Confinement, Replaced } from '../sandbox/confinement.ts';
import type { BlindRun, Enclosed } from './blind.ts';
import type { ChildEnd } from './child-tree.ts';
import type { Launch } from './child.ts';
import { Enclosure, reachOf, type Door, type EnclosureOptions, type EnclosureTools, type OpenDoors } from './enclosure.ts';
import { withoutAgents } from './isolation-agents.ts';
import type { Isolation, IsolationRequest } from './isolation.ts';
import { namedPorts, namesLoopback } from './isolation-ports.ts';
import type { Signals } from './signals.ts';
import { Tripwire } from './tripwire.ts';

/** There is nothing else in that network, so it is free. */
const PROXY_PORT = 3128;
const PROXY = tcp('127.0.0.1', PROXY_PORT);
const NAMES: Door = 'udp:127.0.0.1:53';

export type LinuxTools = EnclosureTools & { readonly seccomp: Buffer };

export class BubblewrapIsolation implements Isolation {
  readonly enclosed: Enclosed;
  readonly #request: IsolationRequest;
  readonly #enclosure: Enclosure;
  readonly #shape: EnclosureOptions['shape'];
  readonly #surveyed: Surveyed;
  readonly #features: ReturnType<typeof quickFeatures>;

  static begin(request: IsolationRequest, tools: LinuxTools, shape: EnclosureOptions['shape']): BubblewrapIsolation {
    return new BubblewrapIsolation(request, tools, shape);
  }

  private constructor(request: IsolationRequest, { seccomp, ...tools }: LinuxTools, shape: EnclosureOptions['shape']) {
    const { command, programs: stage, config, settings, env } = request;
    const loopback = settings.allowLoopback;
    const direct = shape === 'nested' ? [80, 443, ...namedPorts(config)].filter((port) => !loopback.includes(port)) : [];
    this.#request = request;
    this.#shape = shape;
    this.#features = quickFeatures(tools.bwrap);
    this.#enclosure = Enclosure.open({
      ...{ tools, stage, command, seccomp, shape },
      output: request.connect(),
      doors: [
        PROXY,
        ...direct.map((port) => tcp('0.0.0.0', port)),
        ...loopback.map((port) => tcp('127.0.0.1', port)),
        ...(shape === 'nested' ? [NAMES] : []),
      ],
    });
    this.enclosed = {
      proxyPort: PROXY_PORT,
      reach: reachOf(shape, tools),
      ownLoopback: !namesLoopback(config),
      doors: this.#enclosure.doors.then((open) => received(open)),
    };
    this.enclosed.doors.catch(() => undefined);
    try {
      // Takes as long as what it runs beside.
      this.#surveyed = confinementFor({ env, config, settings, own: [stage], directory: process.cwd(), names: shape === 'nested' });
    } catch (error) {
      this.#enclosure.close();
      throw error;
    }
  }

  async settled(): Promise<void> {
    // A single one opens its doors when it knows everything else.
    if (this.#shape === 'nested') await this.#enclosure.doors;
  }

  async run(run: BlindRun, { graceMs }: Launch, signals: Signals): Promise<ChildEnd> {
    const { env, tell } = this.#request;
    const { confinement, missing, notes, absent } = this.#surveyed;
    for (const text of notes) tell({ level: 'notice', text: `sandbox: ${text}` });
    const failed = await makeFolders(missing);
    const tripwire = new Tripwire(absent, confinement.guarded);
    try {
      const whole: Confinement = {
        ...confinement,
        writable: confinement.writable.filter((path) => !failed.includes(path)),
        guarded: [...confinement.guarded.filter((path) => !failed.includes(path)), ...tripwire.standIns],
        readable: [...confinement.readable, realpathSync(run.folder)],
      };
      return await this.#enclosure.run(await this.#arguments(whole, run), { graceMs, signals });
    } finally {
      const { appeared, removed } = tripwire.close();
      const about = (path: string, text: string): void => {
        tell({ level: 'warning', text: `${shortPath(path, env)} was not there before this run: ${text}` });
      };
      for (const path of appeared) about(path, 'look at it before a program outside obeys it');
      for (const path of removed) about(path, 'git would have obeyed it, so it was removed');
    }
  }

  async #arguments(confinement: Confinement, { folder, environment: { variables } }: BlindRun): Promise<string[]> {
    const emptyFile = join(folder, 'empty');
    await writeReadable(emptyFile, '');
    return innerArguments(confinement, {
      emptyFile,
      replacements: await writeAll(folder, confinement.replaced),
      features: this.#features,
      uid: process.getuid?.() ?? 0,
      gid: process.getgid?.() ?? 0,
      environment: { ...withoutAgents(variables), ...temporaryFolder(variables, confinement) },
      alone: this.#shape === 'single',
    });
  }

  close(): void {
    this.#enclosure.close();
  }
}

function tcp(address: string, port: number): Door {
  return `tcp:${address}:${String(port)}`;
}

function received(open: OpenDoors): Received {
  const servers = [...open].flatMap(([door, socket]) => (socket instanceof Server ? [{ door, socket }] : []));
  const of = (isIt: (door: Door) => boolean): Server[] => servers.filter(({ door }) => isIt(door)).map(({ socket }) => socket);
  const [proxy] = of((door) => door === PROXY);
  if (proxy === undefined) throw new Error('a sandbox without a proxy');
  const dns = open.get(NAMES);
  return {
    proxy,
    direct: of((door) => door.startsWith('tcp:0.0.0.0:')),
    loopback: of((door) => door !== PROXY && door.startsWith('tcp:127.0.0.1:')),
    dns: dns instanceof Server ? undefined : dns,
  };
}

/** What names a folder for temporary files names one that can be written to. */
function temporaryFolder(variables: Readonly<Record<string, string>>, { temporary, writable }: Confinement): Record<string, string> {
  const usable = [...temporary, ...writable];
  const isUsable = (path: string): boolean => usable.some((folder) => path === folder || path.startsWith(`${folder}/`));
  const names = ['TMPDIR', 'TMP', 'TEMP'].filter((name) => variables[name] !== undefined && !isUsable(variables[name]));
  return Object.fromEntries(names.map((name) => [name, '/tmp']));
}

/** Those that could not be made. */
async function makeFolders(paths: readonly string[]): Promise<readonly string[]> {
  const made = paths.map((path) =>
    mkdir(path, { recursive: true, mode: 0o700 }).then(
      () => [],
      () => [path],
    ),
  );
  return (await Promise.all(made)).flat();
}

async function writeAll(folder: string, replaced: readonly Replaced[]): Promise<Map<string, string>> {
  const written = replaced.map(async ({ path, contents }, index): Promise<[string, string]> => {
    const file = join(folder, `replaced-${String(index)}`);
    await writeReadable(file, contents);
    return [path, file];
  });
  return new Map(await Promise.all(written));
}

async function writeReadable(path: string, contents: string): Promise<void> {
  try {
    await writeFile(path, contents, { mode: 0o600, flag: 'wx' });
  } catch (error) {
    throw writeError(path, error);
  }
}
