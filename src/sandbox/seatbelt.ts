// macOS: a confinement as a profile for sandbox-exec. Text only: it looks at nothing and starts nothing.
// Untested on a device: written from what comparable projects measured there.
//
// Of several rules that match, the last one counts. But a rule for a single operation (file-read-data) beats every rule for its family
// (file-read*), wherever it stands: so what has to be overridden names families, and what has to hold names the operation and stands last.
import { dirname } from 'node:path';
import type { Confinement } from './confinement.ts';

export interface SeatbeltOptions {
  /** Where kz's proxy listens on loopback. */
  readonly proxyPort: number;
  /** Further ports of loopback that the program may connect to. */
  readonly loopbackPorts: readonly number[];
  /** The program's own folder for temporary files, among those it may write to. Only there may it make and use UNIX sockets. */
  readonly temporary?: string;
}

/**
 * Without mounts, what should be empty (`temporary`, `emptied`, folders of `hidden`) cannot be opened instead, and what should say
 * something else (`replaced`) cannot be read. Paths must be in the spelling of the disk (`realpath.native`).
 */
export function seatbeltProfile(confinement: Confinement, options: SeatbeltOptions): string {
  const rules = [PROCESS, SERVICES, SYSTEM, ...network(options), ...files(confinement), DEVICES, ...kept(confinement), TERMINAL];
  return `${rules.join('\n')}\n`;
}

/** The profile goes into the argument list, where sandbox-exec replaces it by the command's: it holds paths and no secret. */
export function seatbeltCommand(profile: string, command: readonly string[]): string[] {
  return ['/usr/bin/sandbox-exec', '-p', profile, '--', ...command];
}

// process-info and nvram are not part of `default`. Set-user-id programs (ps) do not start at all in a sandbox.
const PROCESS = `(version 1)
(deny default)
(deny process-info*)
(deny nvram*)
(allow process-exec process-fork)
(allow process-info* (target same-sandbox))
(allow signal (target same-sandbox))`;

// Missing on purpose: SecurityServer, securityd, trustd and the keychain's agents (secrets; trustd also fetches addresses), mDNSResponder
// and dnssd (names carry data out), nsurlsessiond (downloads for others), launchservicesd, Apple events and the pasteboard (programs outside
// act), cfprefsd (reads files for others).
const SERVICES = `(allow mach-lookup
  (global-name "com.apple.FSEvents")
  (global-name "com.apple.SystemConfiguration.configd")
  (global-name "com.apple.bsd.dirhelper")
  (global-name "com.apple.logd")
  (global-name "com.apple.system.logger")
  (global-name "com.apple.system.notification_center")
  (global-name "com.apple.system.opendirectoryd.libinfo")
  (global-name "com.apple.system.opendirectoryd.membership"))`;

// kern.procargs2, which tells the environment of the user's other processes, is only out of reach while this is a list of names.
const SYSTEM = `(allow sysctl-read
  (sysctl-name-prefix "hw.")
  (sysctl-name-prefix "machdep.cpu.")
  (sysctl-name-prefix "net.routetable.")
  (sysctl-name-prefix "kern.proc.pid.")
  (sysctl-name "kern.argmax") (sysctl-name "kern.boottime") (sysctl-name "kern.hostname") (sysctl-name "kern.ipc.somaxconn")
  (sysctl-name "kern.maxfiles") (sysctl-name "kern.maxfilesperproc") (sysctl-name "kern.maxproc") (sysctl-name "kern.ngroups")
  (sysctl-name "kern.osproductversion") (sysctl-name "kern.osrelease") (sysctl-name "kern.ostype") (sysctl-name "kern.osvariant_status")
  (sysctl-name "kern.osversion") (sysctl-name "kern.secure_kernel") (sysctl-name "kern.tcsm_available") (sysctl-name "kern.tcsm_enable")
  (sysctl-name "kern.usrstack64") (sysctl-name "kern.version") (sysctl-name "machdep.ptrauth_enabled")
  (sysctl-name "security.mac.lockdown_mode_state") (sysctl-name "sysctl.proc_cputype") (sysctl-name "sysctl.proc_translated")
  (sysctl-name "vm.loadavg"))
(allow sysctl-write (sysctl-name "kern.tcsm_enable") (sysctl-name "kern.grade_cputype"))
(allow system-socket (socket-domain AF_UNIX))
(allow ipc-posix-sem)
(allow ipc-posix-shm-read* (ipc-posix-name "apple.shm.notification_center"))
(allow ipc-posix-shm* (ipc-posix-name-regex #"^/(psm|torch)_") (ipc-posix-name-regex #"^/__KMP_REGISTERED_LIB_[0-9]+$"))`;

/** `localhost` and `*` are the only hosts that the language knows. A rule about (local ip …) must never be one for network-outbound. */
function network({ proxyPort, loopbackPorts, temporary }: SeatbeltOptions): string[] {
  const ports = [...new Set([proxyPort, ...loopbackPorts])];
  return [
    `(allow network-outbound ${ports.map((port) => `(remote tcp "localhost:${String(port)}")`).join(' ')})`,
    '(allow network-bind network-inbound (local ip "localhost:*"))',
    ...(temporary === undefined ? [] : [`(allow network-bind network-inbound network-outbound (subpath ${quoted(temporary)}))`]),
  ];
}

interface Area {
  readonly path: string;
  readonly access: 'write' | 'read' | 'none';
}

/** Of paths of one length, the order of the lists stays. */
function areas(confinement: Confinement): Area[] {
  const { temporary, emptied, writable, guarded, hidden, readable, replaced } = confinement;
  const as = (access: Area['access'], paths: readonly string[]): Area[] => paths.map((path) => ({ path, access }));
  return [
    ...as('none', [...temporary, ...emptied]),
    ...as('write', writable),
    ...as('read', guarded),
    ...as('none', pathsOf(hidden)),
    ...as('read', readable),
    ...as('none', pathsOf(replaced)),
  ].sort((one, other) => one.path.length - other.path.length);
}

function pathsOf(entries: readonly { readonly path: string }[]): string[] {
  return entries.map(({ path }) => path);
}

function files(confinement: Confinement): string[] {
  const all = areas(confinement);
  const seen = all.filter(({ access }) => access !== 'none');
  // Whoever resolves the path of something visible (Node does) asks for every folder above it, also for a hidden one.
  const above = seen.flatMap(({ path }) => ancestors(path));
  return [
    '(allow file-read*)',
    ...all.map(areaRules),
    ...rule('allow file-read-metadata', [...above, ...confinement.emptied, ...confinement.temporary]),
  ];
}

/** A hard link makes a second name for a file, for which its own rules do not hold: only what may be written to may get one. */
function areaRules({ path, access }: Area): string {
  const area = `(literal ${quoted(path)}) (subpath ${quoted(path)})`;
  if (access === 'write') return `(allow file-read* file-write* file-link ${area})`;
  if (access === 'none') return `(deny file-read* file-write* file-link ${area})`;
  return `(allow file-read* ${area})\n(deny file-write* file-link ${area})`;
}

// Only the usual nodes, as in a /dev of one's own. The other terminals of the user can be asked for their state, but not read from.
const DEVICES = `(deny file-read-data (regex #"^/dev/"))
(allow file-read-data
  (subpath "/dev/fd")
  (literal "/dev/autofs_nowait") (literal "/dev/dtracehelper") (literal "/dev/null") (literal "/dev/ptmx") (literal "/dev/random")
  (literal "/dev/tty") (literal "/dev/urandom") (literal "/dev/zero")
  (require-all (regex #"^/dev/ttys[0-9]+$") (extension "com.apple.sandbox.pty")))
(allow file-write-data
  (subpath "/dev/fd")
  (literal "/dev/dtracehelper") (literal "/dev/null") (literal "/dev/ptmx") (literal "/dev/tty") (literal "/dev/zero")
  (require-all (regex #"^/dev/ttys[0-9]+$") (extension "com.apple.sandbox.pty")))
(allow pseudo-tty)
(allow file-ioctl
  (literal "/dev/dtracehelper") (literal "/dev/null") (literal "/dev/ptmx") (literal "/dev/tty")
  (regex #"^/dev/ttys[0-9]+$"))`;

/** Rules are about paths: whoever could move a hidden or guarded path, or a folder above it, would have it under a name that has none. */
function kept(confinement: Confinement): string[] {
  const fixed = areas(confinement).filter(({ access }) => access !== 'write');
  return rule(
    'deny file-write-unlink',
    fixed.flatMap(({ path }) => [path, ...ancestors(path)]),
  );
}

// Would type into the user's shell. Known from macOS 13 on: before, sandbox-exec refuses the profile.
const TERMINAL = '(deny file-ioctl (ioctl-command TIOCSTI))';

/** None when there are no paths: a rule without a filter would be about everything. */
function rule(decision: string, paths: readonly string[]): string[] {
  if (paths.length === 0) return [];
  return [`(${decision}\n  ${[...new Set(paths)].map((path) => `(literal ${quoted(path)})`).join('\n  ')})`];
}

function ancestors(path: string): string[] {
  const parent = dirname(path);
  return parent === path || parent === '/' ? [] : [parent, ...ancestors(parent)];
}

const ESCAPES: Record<string, string> = { '\\': '\\\\', '"': '\\"', '\n': '\\n', '\r': '\\r', '\t': '\\t' };

/** A string as Scheme reads it. Not JSON's: its `\u0001` would be the letters u0001, and the rule about another path. */
function quoted(text: string): string {
  return `"${text.replace(/[\\"\n\r\t]/g, (character) => ESCAPES[character] ?? character)}"`;
}
