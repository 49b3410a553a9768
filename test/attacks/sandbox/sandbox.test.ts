// A hostile program, by every way that leads out of it: made in a world of namespaces (world.py) that the suite makes itself, as an ordinary
// user and as root, without isolation first, where it must succeed, and then in the sandbox, where it must not. The attacks are in the Python
// files beside this one, under the same names. No packet leaves the machine.
import { beforeAll, describe, expect, it } from 'vitest';
import { attackAs, missing, ROLES, type World } from './world.ts';

const ADDRESSES = [
  "the host's loopback",
  'an address of the machine',
  "another network namespace's host",
  'an address of the internet',
  'a second address of the internet',
  'the metadata address',
  'a private network',
  "the host's IPv6 loopback",
  'an IPv6 address of the internet',
];
const MAPPED = 'an IPv4 address as IPv6';

const NETWORK = [
  ...[...ADDRESSES, MAPPED].flatMap((to) => [80, 443, 8080].map((port) => `TCP to ${to}, port ${String(port)}`)),
  ...[...ADDRESSES, MAPPED].map((to) => `UDP to ${to}`),
  ...ADDRESSES.map((to) => `ping of ${to}`),
  'ping by a raw socket',
  'an IP packet written by hand, by a raw socket',
  'a packet socket',
  'TCP with data in its first packet (Fast Open)',
  'Multipath TCP',
  'SCTP',
  'UDP-Lite',
  'a socket to the hypervisor (AF_VSOCK)',
  'a socket to the hypervisor (32-bit call)',
  "a socket of the kernel's cryptography (AF_ALG)",
  'TCP without one variable set',
  'TCP from a static binary',
  'an address of its own on the network',
  'DNS: a query straight to a server, UDP',
  'DNS: a query straight to a server, TCP',
  "DNS: a query to the host's loopback resolver",
  'DNS tunnel: a value in a name that no rule allows',
  'DNS tunnel: a value in front of an allowed name',
  'DNS tunnel: a value in a name of an allowed domain',
  'DNS tunnel: a value in the type TXT',
  "the proxy's credential, used from outside of the sandbox",
  'a listener of kz that others can reach',
  ...['IPv4', 'IPv6'].flatMap((family) =>
    [80, 443, 8080].map((port) => `TCP to a public address of the machine, ${family}, port ${String(port)}`),
  ),
];

const SOCKETS = [
  'an abstract Unix socket of the host',
  'an abstract Unix socket of the host, for datagrams',
  'a Unix socket of the host in the home folder',
  'a Unix socket of the host in a folder with a space in its name',
  'a Unix socket of the host in the temp folder',
  'a Unix socket of the host in the project folder',
  "a Unix socket of the host in the agents' folder of GnuPG",
  'a Unix socket of the host in the runtime folder',
  'a Unix socket of the host in a folder of no known program',
  'a Unix socket of the host: the session bus',
  'a Unix socket of the host: an SSH agent',
  'a Unix socket of the host: the Docker daemon',
  'a Unix socket of the host through a symbolic link',
  'a Unix socket of the host through a hard link',
  'a Unix socket of the host through /proc/self/root',
  'the socket that SSH_AUTH_SOCK names',
  'the socket that DBUS_SESSION_BUS_ADDRESS names',
  'the socket that DOCKER_HOST names',
  'a descriptor passed out by a Unix socket',
];

const PROCESSES = [
  ...['kz', 'the sibling'].flatMap((who) => [
    `arguments of ${who}, by its number`,
    `memory of ${who}, by its number`,
    `memory of ${who}, by process_vm_readv`,
    `map of the memory of ${who}`,
    `open files of ${who}`,
    `the root folder of ${who}`,
    `the working folder of ${who}`,
    `the namespaces of ${who}`,
    `joining the network namespace of ${who}`,
    `ptrace of ${who}`,
    `a signal to ${who}`,
    `a pidfd of ${who}`,
    `a descriptor taken from ${who}`,
  ]),
  'environment of the sibling, by its number',
  'every environment in /proc',
  'every environment of a thread in /proc',
  'every list of arguments in /proc',
  "every process's memory in /proc",
  "every process's open files in /proc",
  "every process's root folder in /proc",
  'shared memory of System V',
  'shared memory of the host, in /dev/shm',
  'the name of the machine',
  'new privileges: a setuid program',
  'new privileges: a program with capabilities in its file',
  'capabilities, or a way to gain some',
  'a descriptor that kz inherited',
  'a double fork that outlives kz: the normal end',
  'a double fork that outlives kz: TERM',
  'a double fork that outlives kz: KILL',
  'typing into the terminal (TIOCSTI)',
  'typing into the console (TIOCLINUX)',
  'another terminal of the user',
];

const HIDDEN = [
  ...['AWS credentials', 'an SSH key', 'the Vault token', "kz's own folder", "kz's store", "Google's credentials", 'a GnuPG key'],
  ...["Docker's logins", 'the netrc file', "npm's token", "git's logins", "PostgreSQL's passwords", "MySQL's password"],
  ...["the shell's history", "Python's history", "Kubernetes' config", "Azure's tokens", "PyPI's token", 'the keyring'],
  ...['the password store', "GitHub's login", "1Password's folder", 'age keys of sops', "a browser's logins", "Terraform's token"],
  ...["Cargo's token", 'the dotenv file beside the config', 'another dotenv file beside the config'],
  ...['the file that a secret is read from', 'credentials where a variable says they are'],
  ...['a file that the home folder links to', 'a folder that the home folder links to'],
].map((what) => `hidden: ${what}, by name`);

const TRICKS = [
  'through /proc/self/root',
  'through /proc/1/root',
  'through the root folder of the parent',
  'through the working folder of itself',
  'through a symbolic link',
  'through a symbolic link to a folder above',
  'through a hard link',
  'through a descriptor of a folder above',
  'through a bind mount of its own',
  'through a bind mount without what is mounted below',
  'after unmounting what covers it',
  'through a copy of the mount (open_tree)',
  'through another root (chroot)',
  'through its number on the disk (open_by_handle_at)',
  'after swapping it for another (RENAME_EXCHANGE)',
  'after renaming it or its folder',
  'after renaming the home folder',
].flatMap((how) => ['a file', 'a file in a folder', 'a file in the project'].map((what) => `hidden: ${what}, ${how}`));

const WRITTEN = [
  "written: the shell's start file",
  "written: the login shell's start file",
  'written: a program that starts with the desktop',
  'written: a service of the user',
  "written: a program in the home folder's path",
  'written: the keys that may log in',
  "written: git's own config",
  "written: npm's own config",
  "written: kz's config for every project",
  'written: a new file in the home folder',
  "written: kz's config",
  'written: a config of kz that was not there',
  "written: kz's config, replaced by a renamed file",
  "written: kz's config, by renaming the project's folder",
  'written: a hook of git',
  'written: the config of git',
  "written: git's folder, replaced by another",
  'written: kz itself, where it is installed in the project',
  "written: kz's first file, where it is installed in the project",
  "written: the kernel's settings (/proc/sys)",
  'written: the program for core dumps (core_pattern)',
  "written: the kernel's helper for modules",
  "written: the system's magic key (/proc/sysrq-trigger)",
  'written: devices and drivers (/sys)',
  "written: the system's own programs",
  "written: the system's accounts",
  'written: a folder of the system',
  "run by the user's git: settings of another folder (commondir)",
  "the host's temp folder, filled",
  "the host's shared memory, filled",
];

const KERNEL = [
  'a user namespace of its own (unshare)',
  'a user namespace of its own (clone)',
  'a user namespace of its own (clone3)',
  'a user namespace of its own (32-bit call)',
  'a user namespace of its own (x32 call)',
  'a network namespace of its own',
  'a mount namespace of its own',
  'every namespace at once, as a container would',
  'a file system of its own (fsopen)',
  'a mount without a namespace of its own',
  'a device made by hand (mknod)',
  "the machine's disk",
  "the kernel's memory (/proc/kcore)",
  'io_uring',
  "the kernel's key rings (add_key)",
  "the kernel's key rings (keyctl)",
  'bpf: a map',
  'performance counters of the kernel',
];

const NEXT_START = [
  'the next start: a readable path that became a link to a hidden one',
  'the next start: the file of an exposed secret that became a link to a hidden one',
  'the next start: a hidden file whose folder was renamed',
  'the next start: a package cache that became a link to another folder',
  'the next start: a changed program that a provider runs',
];

const GROUPS = {
  network: NETWORK,
  sockets: SOCKETS,
  processes: PROCESSES,
  'hidden files': [
    ...HIDDEN,
    ...TRICKS,
    'hidden: a file in a folder, written anew by the user meanwhile',
    'hidden: a file that was not there when kz started',
  ],
  'written files': WRITTEN,
  'the next start': NEXT_START,
  kernel: KERNEL,
};

/**
 * Masks are mounts on what was there: what takes its place while the program runs is bare (docs/limitations.md). Made all the same: the day on
 * which one of them fails, it moves up.
 */
const LIMITS = [
  'hidden: a file, written anew by the user meanwhile',
  'hidden: a file in the project, written anew by the user meanwhile',
  "written: kz's config, after the user has saved it",
  "written: the config of git, after the user's git has changed it",
  "run by the user's git: settings of a repository in the project",
  'a Unix socket of the host that its program has made anew meanwhile',
  'a Unix socket of the host that was not there when kz started',
  'a Unix socket of the host that a process of another network namespace has open',
];
const ALL = [...Object.values(GROUPS).flat(), ...LIMITS];

/** An ordinary user cannot make these anyway. In the sandbox they must fail all the same. */
const OF_ROOT = new Set([
  'ping by a raw socket',
  'an IP packet written by hand, by a raw socket',
  'a packet socket',
  'an address of its own on the network',
  'joining the network namespace of kz',
  'joining the network namespace of the sibling',
  'the name of the machine',
  "written: the kernel's settings (/proc/sys)",
  'written: the program for core dumps (core_pattern)',
  "written: the kernel's helper for modules",
  "written: the system's magic key (/proc/sysrq-trigger)",
  'written: devices and drivers (/sys)',
  "written: the system's own programs",
  "written: the system's accounts",
  'written: a folder of the system',
  'a mount without a namespace of its own',
  'a device made by hand (mknod)',
  "the machine's disk",
  "the kernel's memory (/proc/kcore)",
  ...TRICKS.filter((title) => title.includes('/proc/1/root') || title.includes('open_by_handle_at')),
]);

/** What kernels and their settings forbid, each with the setting. Where it fails without isolation, it proves nothing in the sandbox. */
const OF_SOME_MACHINES = new Map([
  ['typing into the terminal (TIOCSTI)', 'dev.tty.legacy_tiocsti is 0'],
  ['typing into the console (TIOCLINUX)', 'a console is none of the suite’s'],
  ['bpf: a map', 'kernel.unprivileged_bpf_disabled is not 0'],
  ['performance counters of the kernel', 'kernel.perf_event_paranoid is high'],
  ['io_uring', 'kernel.io_uring_disabled is not 0'],
  ...['ptrace of', 'memory of', 'a descriptor taken from'].flatMap((what) =>
    ALL.filter((title) => title.startsWith(what)).map((title) => [title, 'kernel.yama.ptrace_scope is not 0'] as const),
  ),
  ["every process's memory in /proc", 'kernel.yama.ptrace_scope is not 0'],
  ...ADDRESSES.map((to) => [`ping of ${to}`, 'net.ipv4.ping_group_range is empty'] as const),
]);

describe.each(ROLES)('the sandbox, attacked by: %s', (role) => {
  const lacking = missing(role);
  let world: World;

  beforeAll(async () => {
    if (lacking === undefined) world = await attackAs(role);
  }, 120_000);

  it.skipIf(lacking !== undefined)(`every attack was made twice, and its program came to its end${because(lacking)}`, () => {
    for (const mode of ['off', 'strict'] as const) expect([...world.ends[mode].keys()].sort()).toEqual(ALL.toSorted());
    for (const { mode, code, done, stderr } of world.starts) {
      expect({ mode, code, hasEnded: done !== null }, stderr).toEqual({ mode, code: 0, hasEnded: true });
    }
  });

  describe.skipIf(lacking !== undefined).each(Object.entries(GROUPS))(`%s${because(lacking)}`, (_, titles) => {
    it.for(titles)('%s', (title, { skip }) => {
      const { outcome, detail } = world.ends.strict.get(title) ?? NOT_MADE;
      expect(outcome, detail).toMatch(/^(?:blocked|impossible)$/);
      const before = world.ends.off.get(title) ?? NOT_MADE;
      const excuse = excuseFor(title, role);
      skip(before.outcome === 'impossible', `not on this machine: ${before.detail}`);
      skip(before.outcome === 'blocked' && excuse !== undefined, `fails without isolation too: ${excuse ?? ''}: ${before.detail}`);
      expect(before.outcome, `without isolation: ${before.detail}`).toBe('reached');
    });
  });

  describe.skipIf(lacking !== undefined)(`limits, which are none of a sandbox that holds${because(lacking)}`, () => {
    it.for(LIMITS)('%s', (title) => {
      expect(world.ends.strict.get(title)).toMatchObject({ outcome: 'reached' });
    });
  });
});

const NOT_MADE = { outcome: 'broken', detail: 'the attack was not made' } as const;

function excuseFor(title: string, role: string): string | undefined {
  if (role !== 'root' && OF_ROOT.has(title)) return 'only root could';
  return OF_SOME_MACHINES.get(title);
}

function because(lacking: string | undefined): string {
  return lacking === undefined ? '' : ` (left out: ${lacking})`;
}
