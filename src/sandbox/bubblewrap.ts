// A confinement as arguments of bubblewrap (bwrap(1)), twice: the outer one owns a network with nothing in it, the inner one is the program's.
// Pure. docs/decisions/0025-two-bubblewraps.md says why it takes two.
import type { BubblewrapFeatures } from './availability.ts';
import type { Confinement, Hidden } from './confinement.ts';

/**
 * Root of a user namespace with a network namespace, so that the doors can be opened: low ports, and one route. CAP_SYS_ADMIN is for keeping
 * what is mounted outside from appearing inside. The root is the system's own,
 * and /proc stays as it is: a bwrap that is run by the real root covers parts of a new one, and the inner bwrap could not mount its own then.
 * CAP_SETFCAP: without it Linux 5.12 and later let nobody map uid 0 in the inner one.
 */
export const OUTER_ARGUMENTS: readonly string[] = [
  ...['--bind', '/', '/', '--dev-bind', '/dev', '/dev'],
  ...['--unshare-user', '--uid', '0', '--gid', '0', '--unshare-net'],
  ...['CAP_NET_ADMIN', 'CAP_NET_BIND_SERVICE', 'CAP_SYS_ADMIN', 'CAP_SETFCAP'].flatMap((name) => ['--cap-add', name]),
  '--die-with-parent',
];

export interface InnerOptions {
  /** The program's, as they are outside. */
  readonly uid: number;
  readonly gid: number;
  /** Only what nobody can give the program later. */
  readonly environment: Readonly<Record<string, string>>;
  /** An empty file that nobody can write to, in place of a hidden one. */
  readonly emptyFile: string;
  /** For `replaced`: path → the file that takes its place. */
  readonly replacements: ReadonlyMap<string, string>;
  readonly features: Pick<BubblewrapFeatures, 'disableUserns' | 'size'>;
  /** There is no outer one: a network of its own is made here too. */
  readonly alone: boolean;
}

/**
 * The program's own: its user without capabilities, new pid, ipc and host name namespaces, a read-only system with everything of
 * `confinement` on top. They hold the environment, so give them by `--args` and not as words that every process can read.
 */
export function innerArguments(confinement: Confinement, options: InnerOptions): string[] {
  const { uid, gid, features, environment } = options;
  return [
    ...['--ro-bind', '/', '/', '--dev', '/dev', ...sized(confinement, options), '--tmpfs', '/dev/shm', '--remount-ro', '/dev'],
    ...['--proc', '/proc'],
    ...KERNEL_SETTINGS.flatMap((path) => ['--ro-bind-try', path, path]),
    ...mountWords(mounts(confinement, options)),
    ...['--unshare-user', '--uid', String(uid), '--gid', String(gid), ...(features.disableUserns ? ['--disable-userns'] : [])],
    ...['--unshare-pid', '--unshare-ipc', '--unshare-uts', ...(options.alone ? ['--unshare-net'] : [])],
    // Started by root, bwrap would hand over all of them.
    ...['--cap-drop', 'ALL'],
    '--die-with-parent',
    ...['--chdir', confinement.directory],
    ...Object.entries(environment).flatMap(([name, value]) => ['--setenv', name, value]),
  ];
}

/**
 * The kernel lets the user root write there without any capability, and does not ask in which user namespace: a new core_pattern is a program
 * that runs outside.
 */
const KERNEL_SETTINGS = ['sys', 'sysrq-trigger', 'irq', 'bus', 'fs', 'acpi', 'scsi', 'mtrr', 'driver'].map((name) => `/proc/${name}`);

/** What is mounted where, for who looks whether it is. */
export interface Mounted {
  readonly path: string;
  /** Undefined: an empty file system of its own. */
  readonly source: string | undefined;
}

/** The mounts of `innerArguments` that depend on the confinement, but `readable`: links may be among those, and no program could exchange them. */
export function mountedPaths(confinement: Confinement, options: InnerOptions): readonly Mounted[] {
  return mounts(confinement, options).filter(({ path }) => !confinement.readable.includes(path));
}

interface Mount extends Mounted {
  readonly words: readonly string[];
  /** A file system of its own, which becomes read-only when everything below it is in its place. */
  readonly isSealed?: boolean;
}

function mounts(confinement: Confinement, options: InnerOptions): readonly Mount[] {
  const { temporary, emptied, writable, guarded, hidden, readable, replaced } = confinement;
  const all: Mount[] = [
    ...temporary.map((path) => ({ path, source: undefined, words: [...sized(confinement, options), '--tmpfs', path] })),
    ...emptied.map((path) => ({ path, source: undefined, words: ['--tmpfs', path], isSealed: true })),
    ...writable.map((path) => bound('--bind', path)),
    ...[...guarded, ...[...hidden, ...replaced].map(({ path }) => path)].flatMap((path) => held(path, confinement)),
    ...guarded.map((path) => bound('--ro-bind', path)),
    ...hidden.map((each) => masked(each, options.emptyFile)),
    ...readable.map((path) => bound('--ro-bind', path)),
    ...replaced.map(({ path }) => bound('--ro-bind', path, options.replacements.get(path) ?? options.emptyFile)),
  ];
  // What is above comes first, or it would cover what is below; of the same path the last counts. Sorting keeps the order otherwise.
  return [...new Map(all.map((mount) => [mount.path, mount])).values()].sort((a, b) => depth(a.path) - depth(b.path));
}

function mountWords(all: readonly Mount[]): string[] {
  const sealed = all.filter(({ isSealed }) => isSealed).reverse();
  return [...all.flatMap(({ words }) => words), ...sealed.flatMap(({ path }) => ['--remount-ro', path])];
}

function sized({ temporaryBytes }: Confinement, { features }: InnerOptions): readonly string[] {
  return features.size ? ['--size', String(temporaryBytes)] : [];
}

function bound(option: '--bind' | '--ro-bind', path: string, source = path): Mount {
  return { path, source, words: [option, source, path] };
}

function masked({ path, kind }: Hidden, emptyFile: string): Mount {
  return kind === 'folder' ? { path, source: undefined, words: ['--tmpfs', path], isSealed: true } : bound('--ro-bind', path, emptyFile);
}

/**
 * The folders between a guarded or hidden path and the writable one that it is in: what is mounted cannot be renamed, what is only above it could,
 * and then the next start would look for it at its old place.
 */
function held(path: string, confinement: Confinement): Mount[] {
  const { temporary, emptied, writable, guarded, hidden, readable } = confinement;
  const closed = [...guarded, ...hidden.map((each) => each.path), ...readable];
  const [nearest = '/'] = [...temporary, ...emptied, ...writable, ...closed]
    .filter((each) => isBelow(path, each))
    .sort((a, b) => b.length - a.length);
  // Within what cannot be written to nothing can be renamed, and what is mounted here could be.
  if (!writable.includes(nearest) || closed.includes(nearest)) return [];
  const names = path.slice(nearest.length).split('/').filter(Boolean).slice(0, -1);
  return names.map((_, index) => {
    const folder = [nearest === '/' ? '' : nearest, ...names.slice(0, index + 1)].join('/');
    return bound('--bind', folder);
  });
}

function isBelow(path: string, folder: string): boolean {
  return path.startsWith(folder === '/' ? '/' : `${folder}/`);
}

function depth(path: string): number {
  return path.split('/').filter(Boolean).length;
}
