// Starts the world of the attacks (world.py): namespaces of its own in which every attack is made twice, without isolation and with it. What a
// machine must have for that is looked at first; what is missing is said, and a world that breaks after that is an error.
import { spawn, spawnSync } from 'node:child_process';
import { accessSync, constants } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { collect, NODE } from '../../stories/kz.ts';

export const ROLES = ['ordinary user', 'root'] as const;
export type Role = (typeof ROLES)[number];
type Mode = 'off' | 'strict';

export interface Ending {
  /** impossible: this machine has not what the attack needs. broken: the attack itself is wrong. */
  readonly outcome: 'reached' | 'blocked' | 'impossible' | 'broken';
  readonly detail: string;
}

export interface Start {
  readonly mode: Mode;
  readonly code: number;
  /** How many attacks the program had made when it ended; null when it did not get there. */
  readonly done: number | null;
  readonly stderr: string;
}

export interface World {
  readonly starts: readonly Start[];
  readonly ends: Readonly<Record<Mode, ReadonlyMap<string, Ending>>>;
}

type Event = (Start & { run: string }) | ({ mode: Mode; attack: string } & Ending) | { end: true };

const REPOSITORY = fileURLToPath(new URL('../../../', import.meta.url));
const PATH = `${dirname(NODE)}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin`;
const IS_ROOT = process.getuid?.() === 0;
/** Whom root becomes, a number that no account has; and what an ordinary user is called in the world. */
const ORDINARY = 65532;

/** Why the attacks cannot be made here as this user; undefined when they can. */
export function missing(role: Role): string | undefined {
  if (process.platform !== 'linux') return 'no namespaces: not Linux';
  if (role === 'root' && !IS_ROOT) return 'the tests are not run by root';
  const program = ['python3', 'unshare', 'ip', 'bwrap'].find((name) => find(name) === undefined);
  if (program !== undefined) return `no ${program}`;
  if (!works(find('python3') ?? '', ['-I', '-c', 'import ctypes, fcntl, pty, socket; socket.send_fds'])) return 'python3 is too old';
  if (role === 'ordinary user' && IS_ROOT && !works(NODE, ['--version'], ORDINARY)) return 'node is where an ordinary user cannot run it';
  const trial = 'mount -t tmpfs tmpfs /mnt && ip link add kz0 type veth peer name kz1';
  if (!inNamespaces(['sh', '-c', trial])) return 'namespaces, or mounts and interfaces in them, are not allowed here';
  const isolated = ['bwrap', '--ro-bind', '/', '/', '--dev', '/dev', '--proc', '/proc', '--unshare-all', 'true'];
  return inNamespaces(isolated) ? undefined : 'bwrap does not work here';
}

/** Makes every attack in both modes. Takes a few seconds. */
export async function attackAs(role: Role): Promise<World> {
  const order = {
    repository: REPOSITORY,
    node: NODE,
    path: PATH,
    uid: role === 'root' ? null : ORDINARY,
    nested: !IS_ROOT,
    off: ['--sandbox', 'off'],
    strict: ['--sandbox', 'strict'],
  };
  const program = [find('python3') ?? '', '-I', '-B', fileURLToPath(new URL('world.py', import.meta.url)), JSON.stringify(order)];
  const { stdout, stderr, code } = await collect(spawn('unshare', [...NAMESPACES, ...program], { env: { PATH } }));
  const events = stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line === '' ? '{}' : line) as Event);
  if (!events.some((event) => 'end' in event))
    throw new Error(`the world ended early, with ${String(code)}: ${stderr}${stdout.slice(-500)}`);
  return { starts: events.filter((event) => 'run' in event), ends: { off: endings(events, 'off'), strict: endings(events, 'strict') } };
}

function endings(events: readonly Event[], mode: Mode): Map<string, Ending> {
  return new Map(events.flatMap((event) => ('attack' in event && event.mode === mode ? [[event.attack, event] as const] : [])));
}

/** With the death of unshare everything in them dies. */
const NAMESPACES = [...(IS_ROOT ? [] : ['-U', '-r']), '-n', '-m', '-p', '-i', '-u', '--fork', '--kill-child', '--mount-proc'];

function inNamespaces(command: readonly string[]): boolean {
  return works('unshare', [...NAMESPACES, ...command]);
}

function works(program: string, args: readonly string[], uid?: number): boolean {
  const as = uid === undefined ? {} : { uid, gid: uid };
  return spawnSync(program, args, { env: { PATH }, stdio: 'ignore', ...as }).status === 0;
}

function find(name: string): string | undefined {
  // Not a version manager's: its programs are in a home folder, which the ordinary user of root cannot enter.
  return ['/usr/local/bin', '/usr/bin', '/bin', '/usr/sbin', '/sbin'].map((folder) => join(folder, name)).find(isExecutable);
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
