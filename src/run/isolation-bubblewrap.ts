// Isolation on Linux: an enclosure, and what is known only when the secrets are there.
import { realpathSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { Server } from 'node:net';
import { join } from 'node:path';
import { shortPath } from '../core/home-path.ts';
import { writeError } from '../core/private-file.ts';
import type { Received } from '../proxy/doors.ts';
import { quickFeatures } from '../sandbox/availability.ts';
import { innerArguments, mountedPaths, type InnerOptions } from '../sandbox/bubblewrap.ts';
import { expectedMounts } from '../sandbox/mount-roots.ts';
import { confinementFor, type Surveyed } from '../sandbox/surroundings.ts';
import type { Confinement, Replaced } from '../sandbox/confinement.ts';
import type { BlindRun, Enclosed } from './blind.ts';
import type { ChildEnd } from './child-tree.ts';
import type { Launch } from './child.ts';
import { Enclosure, reachOf, type Beginning, type Door, type EnclosureTools, type OpenDoors } from './enclosure.ts';
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
  readonly enclosed: Enclosed;
  readonly #request: IsolationRequest;
  readonly #enclosure: Enclosure;
  readonly #surveyed: Surveyed;
  readonly #features: ReturnType<typeof quickFeatures>;
  /** With the program itself; without perl it is among the arguments of bubblewrap. */
  readonly #givesEnvironment: boolean;

  static begin(request: IsolationRequest, tools: LinuxTools): BubblewrapIsolation {
    return new BubblewrapIsolation(request, tools);
  }

  private constructor(request: IsolationRequest, { seccomp, ...tools }: LinuxTools) {
    const { command, programs: stage, config, settings, env, shape } = request;
    // Nobody has the right to open others in a single one.
    const loopback = settings.allowLoopback.filter((port) => shape === 'nested' || port >= 1024);
    const direct = shape === 'nested' ? [80, 443, ...namedPorts(config)].filter((port) => !loopback.includes(port)) : [];
    const proxyPort = freePort([...loopback, ...direct]);
    const proxy = tcp('127.0.0.1', proxyPort);
    this.#request = request;
    this.#features = quickFeatures(tools.bwrap);
    this.#givesEnvironment = tools.perl !== undefined;
    this.#enclosure = Enclosure.open({
      ...{ tools, stage, command, seccomp, shape },
      output: request.connect(),
      doors: [
        proxy,
        ...direct.map((port) => tcp('0.0.0.0', port)),
        ...loopback.map((port) => tcp('127.0.0.1', port)),
        ...(shape === 'nested' ? [NAMES] : []),
      ],
    });
    this.enclosed = {
      proxyPort,
      reach: reachOf(shape, tools),
      ownLoopback: !namesLoopback(config),
      doors: this.#enclosure.doors.then((open) => received(open, proxy)),
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
    if (this.#request.shape === 'nested') await this.#enclosure.doors;
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
      return await this.#enclosure.run(await this.#beginning(whole, run), { graceMs, signals });
    } finally {
      for (const path of tripwire.close()) {
        const text = `${shortPath(path, env)} was not there before this run: look at it before a program outside obeys it`;
        tell({ level: 'warning', text });
      }
    }
  }

  async #beginning(confinement: Confinement, { folder, environment: { variables } }: BlindRun): Promise<Beginning> {
    const emptyFile = join(folder, 'empty');
    await writeReadable(emptyFile, '');
    const environment = { ...withoutAgents(variables), ...temporaryFolder(variables, confinement) };
    const options: InnerOptions = {
      emptyFile,
      replacements: await writeAll(folder, confinement.replaced),
      features: this.#features,
      uid: process.getuid?.() ?? 0,
      gid: process.getgid?.() ?? 0,
      environment: this.#givesEnvironment ? {} : environment,
      alone: this.#request.shape === 'single',
    };
    return { words: innerArguments(confinement, options), mounts: expectedMounts(mountedPaths(confinement, options)), environment };
  }

  close(): void {
    this.#enclosure.close();
  }
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
