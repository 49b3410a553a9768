// Isolation on Linux: an enclosure, and what is known only when the secrets are there.
import { realpathSync, rmSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { Server } from 'node:net';
import { join } from 'node:path';
import { shortPath } from '../core/home-path.ts';
import { writeError } from '../core/private-file.ts';
import type { Received } from '../proxy/doors.ts';
import { quickFeatures } from '../sandbox/availability.ts';
import { innerArguments, mountedPaths, type InnerOptions } from '../sandbox/bubblewrap.ts';
import { expectedMounts, type ExpectedMount } from '../sandbox/mount-roots.ts';
import { confinementFor, type Surveyed } from '../sandbox/surroundings.ts';
import { projectFolders } from '../sandbox/project.ts';
import { reachable } from '../sandbox/reachable.ts';
import type { Confinement, Replaced } from '../sandbox/confinement.ts';
import type { BlindRun, Enclosed } from './blind.ts';
import { enterProjects, othersProjects, privateFolder } from './blind-folder.ts';
import type { ChildEnd } from './child-tree.ts';
import type { Launch } from './child.ts';
import { Enclosure, reachOf, type Door, type EnclosureTools, type OpenDoors } from './enclosure.ts';
import { withoutAgents } from './isolation-agents.ts';
import type { Isolation, IsolationRequest } from './isolation.ts';
import { namedPorts, namesLoopback } from './isolation-ports.ts';
import type { Signals } from './signals.ts';
import { Tripwire } from './tripwire.ts';

/** There is nothing else in that network, so it is free unless the config names it. */
const PROXY_PORT = 3128;
const NAMES: Door = 'udp:127.0.0.1:53';

export type LinuxTools = EnclosureTools & { readonly seccomp: Buffer };

export class BubblewrapIsolation implements Isolation {
  readonly #enclosed: Omit<Enclosed, 'folder'>;
  readonly #request: IsolationRequest;
  readonly #tools: LinuxTools;
  readonly #enclosure: Enclosure;
  readonly #surveyed: Surveyed;
  readonly #built: Promise<Built>;
  #tripwire: Tripwire | undefined;
  #isClosed = false;
  readonly #folder: string = privateFolder();

  static begin(request: IsolationRequest, tools: LinuxTools): BubblewrapIsolation {
    return new BubblewrapIsolation(request, tools);
  }

  private constructor(request: IsolationRequest, tools: LinuxTools) {
    const { command, programs: stage, config, settings, env, shape } = request;
    this.#request = request;
    this.#tools = tools;
    const doors = doorsOf(request);
    try {
      this.#enclosure = Enclosure.open({
        tools,
        stage,
        command,
        shape,
        doors: doors.all,
        seccomp: tools.seccomp,
        output: request.connect(),
      });
    } catch (error) {
      rmSync(this.#folder, { recursive: true, force: true });
      throw error;
    }
    this.#enclosed = {
      proxyPort: doors.proxyPort,
      reach: reachOf(shape, tools),
      ownLoopback: !namesLoopback(config),
      doors: this.#enclosure.doors.then((open) => received(open, doors.proxy)),
    };
    this.#enclosed.doors.catch(() => undefined);
    try {
      // Before the look: from now on other runs leave what this one finds.
      enterProjects(this.#folder, projectFolders(config, process.cwd()));
      // Takes as long as what it runs beside.
      this.#surveyed = confinementFor({
        env,
        config,
        settings,
        command,
        own: [stage],
        directory: process.cwd(),
        names: shape === 'nested',
      });
    } catch (error) {
      this.close();
      throw error;
    }
    this.#built = this.#build();
    // Whoever awaits it hears of it.
    this.#built.catch(() => undefined);
  }

  async settled(): Promise<Enclosed> {
    const { folder } = await this.#built;
    // A single one that does not wait opens its doors when the program starts.
    if (this.#request.shape === 'nested' || this.#enclosure.waits) await this.#enclosure.doors;
    return { ...this.#enclosed, folder };
  }

  async run(run: BlindRun, { graceMs }: Launch, signals: Signals): Promise<ChildEnd> {
    const { env, tell } = this.#request;
    for (const text of this.#surveyed.notes) tell({ level: 'notice', text: `sandbox: ${text}` });
    const { confinement, options, mounts } = await this.#built;
    const { variables } = run.environment;
    const environment = { ...withoutAgents(variables), ...temporaryFolder(variables, confinement) };
    if (!this.#enclosure.waits) this.#enclosure.build(innerArguments(confinement, { ...options, environment }));
    try {
      return await this.#enclosure.run({ mounts, environment }, { graceMs, signals });
    } finally {
      for (const path of this.#tripwire?.close(othersProjects(this.#folder)) ?? []) {
        const text = `${shortPath(path, env)} was not there before this run: look at it before a program outside obeys it`;
        tell({ level: 'warning', text });
      }
      this.#tripwire = undefined;
    }
  }

  close(): void {
    this.#isClosed = true;
    this.#enclosure.close();
    this.#tripwire?.close(othersProjects(this.#folder));
    this.#tripwire = undefined;
    rmSync(this.#folder, { recursive: true, force: true });
  }

  /** Everything but the program, while the secrets are fetched. */
  async #build(): Promise<Built> {
    const { missing, absent, ...surveyed } = this.#surveyed;
    const folder = this.#folder;
    const failed = await makeFolders(missing);
    // Nobody would take the stand-ins away.
    if (this.#isClosed) throw new Error('the sandbox was given up');
    const tripwire = new Tripwire(absent, surveyed.confinement.guarded);
    this.#tripwire = tripwire;
    const confinement = reachable({
      ...surveyed.confinement,
      writable: surveyed.confinement.writable.filter((path) => !failed.includes(path)),
      guarded: [...surveyed.confinement.guarded.filter((path) => !failed.includes(path)), ...tripwire.standIns],
      readable: [...surveyed.confinement.readable, realpathSync(folder)],
    });
    const emptyFile = join(folder, 'empty');
    await writeReadable(emptyFile, '');
    const options: InnerOptions = {
      emptyFile,
      replacements: await writeAll(folder, confinement.replaced),
      features: quickFeatures(this.#tools.bwrap),
      uid: process.getuid?.() ?? 0,
      gid: process.getgid?.() ?? 0,
      environment: {},
      alone: this.#request.shape === 'single',
    };
    const mounts = expectedMounts(mountedPaths(confinement, options));
    if (this.#enclosure.waits) this.#enclosure.build(innerArguments(confinement, options));
    return { folder, confinement, options, mounts };
  }
}

interface Built {
  /** The run's, with what takes the place of files. */
  readonly folder: string;
  readonly confinement: Confinement;
  readonly options: InnerOptions;
  readonly mounts: readonly ExpectedMount[];
}

function doorsOf({ config, settings, shape }: IsolationRequest): { proxyPort: number; proxy: Door; all: readonly Door[] } {
  // Nobody has the right to open others in a single one.
  const loopback = settings.allowLoopback.filter((port) => shape === 'nested' || port >= 1024);
  const direct = shape === 'nested' ? [80, 443, ...namedPorts(config)].filter((port) => !loopback.includes(port)) : [];
  const proxyPort = freePort([...loopback, ...direct]);
  const proxy = tcp('127.0.0.1', proxyPort);
  const others = [...direct.map((port) => tcp('0.0.0.0', port)), ...loopback.map((port) => tcp('127.0.0.1', port))];
  return { proxyPort, proxy, all: [proxy, ...others, ...(shape === 'nested' ? [NAMES] : [])] };
}

function freePort(taken: readonly number[]): number {
  let port = PROXY_PORT;
  while (taken.includes(port)) port += 1;
  return port;
}

function tcp(address: string, port: number): Door {
  return `tcp:${address}:${String(port)}`;
}

function received(open: OpenDoors, proxyDoor: Door): Received {
  const servers = [...open].flatMap(([door, socket]) => (socket instanceof Server ? [{ door, socket }] : []));
  const of = (isIt: (door: Door) => boolean): Server[] => servers.filter(({ door }) => isIt(door)).map(({ socket }) => socket);
  const [proxy] = of((door) => door === proxyDoor);
  if (proxy === undefined) throw new Error('a sandbox without a proxy');
  const dns = open.get(NAMES);
  return {
    proxy,
    direct: of((door) => door.startsWith('tcp:0.0.0.0:')),
    loopback: of((door) => door !== proxyDoor && door.startsWith('tcp:127.0.0.1:')),
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
