// What the other files here ask about the machine: whose home is where, what a path really is, and which folders belong to the system.
// Looks, and changes nothing.
import { lstatSync, readdirSync, realpathSync, statSync, type Stats } from 'node:fs';
import { homedir, userInfo } from 'node:os';
import { basename, dirname, join } from 'node:path';

export type Env = Readonly<Record<string, string | undefined>>;

export interface Machine {
  readonly env: Env;
  /** `/`, or in tests the folder that stands for it: the system's own places are below it. */
  readonly root: string;
  readonly platform: NodeJS.Platform;
  readonly uid: number;
  /** HOME as it is written, for paths to begin with. */
  readonly home: string;
  /** Real: HOME's, and the account's own where HOME says something else (`sudo -E`, a client that sets it). */
  readonly homes: readonly string[];
}

export interface MachineOptions {
  readonly env: Env;
  readonly root?: string | undefined;
  readonly platform?: NodeJS.Platform | undefined;
  readonly uid?: number | undefined;
  readonly accountHome?: string | undefined;
}

export function machineOf({ env, root = '/', platform = process.platform, uid, accountHome }: MachineOptions): Machine {
  const home = env.HOME !== undefined && env.HOME !== '' ? env.HOME : homedir();
  const found = [home, accountHome ?? accountsHome()].map((path) => lookAt(path)).filter((each) => each?.kind === 'folder');
  const homes = [...new Set(found.flatMap((each) => (each === undefined ? [] : [each.path])))];
  return { env, root, platform, uid: uid ?? process.getuid?.() ?? 0, home, homes };
}

/** Containers run as users that no list knows. */
function accountsHome(): string {
  try {
    return userInfo().homedir;
  } catch {
    return homedir();
  }
}

export interface Found {
  /** Real. */
  readonly path: string;
  readonly kind: Kind;
}

/** `other` is what is made to be read by somebody: a FIFO, which password managers put in the place of a `.env`. */
export type Kind = 'folder' | 'file' | 'socket' | 'device' | 'other';

/** While one survey is made, the same question has the same answer: many are asked from several sides, and each takes the kernel a while. */
export function remembering<T>(survey: () => T): T {
  known = new Map();
  try {
    return survey();
  } finally {
    known = undefined;
  }
}

let known: Map<string, Found | undefined> | undefined;

/** Follows links. Undefined for what is not there, and for what kz may not look at: no more may the program. */
export function lookAt(path: string): Found | undefined {
  if (known?.has(path) === true) return known.get(path);
  const found = lookAnew(path);
  known?.set(path, found);
  return found;
}

function lookAnew(path: string): Found | undefined {
  try {
    const stats = statSync(path, { throwIfNoEntry: false });
    if (stats === undefined) return undefined;
    return { path: realpathSync.native(path), kind: kindOf(stats) };
  } catch {
    return undefined;
  }
}

/** Also one that leads nowhere. */
export function isLink(path: string): boolean {
  try {
    return lstatSync(path, { throwIfNoEntry: false })?.isSymbolicLink() === true;
  } catch {
    return false;
  }
}

/** Where it would really be. Undefined when something is there, if only a link to nowhere. */
export function placeOfMissing(path: string): string | undefined {
  const names: string[] = [];
  let folder = path;
  for (; lookAt(folder) === undefined; folder = dirname(folder)) {
    if (isLink(folder)) return undefined;
    names.unshift(basename(folder));
  }
  return names.length === 0 ? undefined : join(lookAt(folder)?.path ?? folder, ...names);
}

/** Of what a folder holds. Nothing for what is none, or may not be listed. */
export function namesIn(folder: string): readonly string[] {
  // An error takes longer than the question.
  if (lookAt(folder)?.kind !== 'folder') return [];
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}

function kindOf(stats: Stats): Kind {
  if (stats.isDirectory()) return 'folder';
  if (stats.isFile()) return 'file';
  if (stats.isSocket()) return 'socket';
  return stats.isFIFO() ? 'other' : 'device';
}

/** Also for the same path. */
export function isInside(path: string, folder: string): boolean {
  return path === folder || path.startsWith(folder === '/' ? '/' : `${folder}/`);
}

export function systemPath({ root }: Machine, path: string): string {
  return root === '/' ? path : root + path;
}

/** An absolute `XDG_…`, else what is usual. The specification: a relative one is to be ignored. */
export function xdgFolder({ env, home }: Machine, name: 'CONFIG' | 'DATA' | 'CACHE' | 'STATE'): string {
  const named = env[`XDG_${name}_HOME`];
  return named?.startsWith('/') === true ? named : join(home, USUAL[name]);
}

const USUAL = { CONFIG: '.config', DATA: '.local/share', CACHE: '.cache', STATE: '.local/state' } as const;

export function words(list: string): readonly string[] {
  return list.trim().split(/\s+/);
}

/** With everything in them. */
const SYSTEM_TREES = words(`
  /bin /boot /dev /etc /lib /lib32 /lib64 /libx32 /nix /proc /sbin /sys /System /Library /Applications
  /usr/bin /usr/games /usr/include /usr/lib /usr/lib32 /usr/lib64 /usr/libexec /usr/sbin /usr/share
  /usr/local/bin /usr/local/etc /usr/local/include /usr/local/lib /usr/local/lib64 /usr/local/libexec /usr/local/sbin /usr/local/share
  /private/etc
`);

/** Projects are inside of them (`/srv/app`, `/usr/src/app`). */
const SYSTEM_FOLDERS = words(`
  /usr /usr/local /usr/src /var /var/cache /var/lib /var/local /var/log /var/opt /var/spool /var/tmp /opt /srv /mnt /media /home
  /root /run /snap /tmp /Users /Volumes /private /private/tmp /private/var /private/var/tmp
`);

/**
 * Why a folder is more than a project, as the end of a sentence, or undefined: what is in it decides what the user, or the system, runs later.
 */
export function tooMuch(path: string, machine: Machine): string | undefined {
  const more = holdsEverything(path, machine);
  if (more !== undefined) return more;
  if (isWsl(machine) && WINDOWS_HOME.test(path.slice(systemPath(machine, '/').length - 1))) return 'is a home folder of Windows';
  return SYSTEM_TREES.some((tree) => isInside(path, systemPath(machine, tree))) ? 'belongs to the system' : undefined;
}

/** Programs of Windows, and the terminal, start WSL's in there. */
const WINDOWS_HOME = /^\/mnt\/[a-z](?:\/Users(?:\/[^/]+)?)?$/;

export function isWsl({ env }: Machine): boolean {
  return env.WSL_DISTRO_NAME !== undefined || env.WSL_INTEROP !== undefined;
}

/** Why nothing would work if the folder were empty. */
export function holdsEverything(path: string, machine: Machine): string | undefined {
  if (isInside(machine.root, path)) return 'is the whole file system';
  for (const home of machine.homes) {
    if (path === home) return 'is your home folder';
    if (isInside(home, path)) return 'holds your home folder';
  }
  const isSystem = [...SYSTEM_TREES, ...SYSTEM_FOLDERS].some((folder) => path === systemPath(machine, folder));
  return isSystem ? 'belongs to the system' : undefined;
}

/** What every sandbox has its own of. */
export function isPseudo(path: string, machine: Machine): boolean {
  return ['/proc', '/dev', '/sys'].some((folder) => isInside(path, systemPath(machine, folder)));
}
