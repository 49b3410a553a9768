// The system calls that a confined program does not get, as the classic BPF program that `bwrap --seccomp` loads.
// Namespaces, mounts and the network are bubblewrap's. This closes what they leave open (terminal input, AF_VSOCK, kernel keys), and keeps the
// program from making namespaces of its own and from kernel code that only administrators need. Refuses with an errno, never kills.

/** For Node's `process.arch`: an array of `struct sock_filter`, little endian. `undefined` for a machine whose call numbers are not known here. */
export function seccompFilter(arch: string): Buffer | undefined {
  const machine = MACHINES.get(arch);
  return machine && assemble(filterFor(machine));
}

interface Machine {
  /** AUDIT_ARCH_… of linux/audit.h. */
  readonly audit: number;
  /** Which of the `Numbers` are its own. */
  readonly column: 0 | 1;
}

const MACHINES: ReadonlyMap<string, Machine> = new Map([
  ['x64', { audit: 0xc000003e, column: 0 }],
  ['arm64', { audit: 0xc00000b7, column: 1 }],
]);

// Linux' own numbers: those of the machine that builds the filter may be others.
const EPERM = 1;
const ENOSYS = 38;
const EPROTONOSUPPORT = 93;
const EAFNOSUPPORT = 97;

/**
 * The newest call that was looked at (rseq_slice_yield). Above it the answer is that of an older kernel, which every program can
 * take: otherwise each new way to mount would be open until it is listed here. x32's calls are above it too, with its bit (0x40000000) and
 * without (512 to 547, which kernels before 5.4 ran).
 */
const NEWEST = 471;

/** What a tracer writes over a call that shall not happen: no call at all, and the tracer's result must stay. */
const SKIPPED = 0xffffffff;

/** Of one call: x64, arm64. From 424 on they are the same. */
type Numbers = readonly [x64: number, arm64?: number];

interface Refusal {
  readonly errno: number;
  readonly calls: Readonly<Record<string, Numbers>>;
}

/**
 * Refused whatever the arguments. Allowed although Docker's default refuses them: ptrace, process_vm_*, pidfd_getfd and kcmp (debuggers; they
 * reach no further than the pid namespace, where everything has this filter), personality (gdb; changes nobody but the caller), and the NUMA
 * calls (databases, the JVM).
 */
const REFUSED: readonly Refusal[] = [
  {
    // Namespaces. In a user namespace of its own the program would have every capability, and could take the masks off.
    errno: EPERM,
    calls: { unshare: [272, 97], setns: [308, 268] },
  },
  {
    // The same, with flags in memory where no filter can read them. glibc and musl go back to clone().
    errno: ENOSYS,
    calls: { clone3: [435, 435] },
  },
  {
    // Mounts: what is hidden is hidden by a mount. And the call that opens a file by number, past every mount.
    errno: EPERM,
    calls: { mount: [165, 40], umount2: [166, 39], pivot_root: [155, 41], chroot: [161, 51], open_by_handle_at: [304, 265] },
  },
  {
    // The newer way to mount. Programs go back to the older one, and read EPERM there.
    errno: ENOSYS,
    calls: {
      open_tree: [428, 428],
      move_mount: [429, 429],
      fsopen: [430, 430],
      fsconfig: [431, 431],
      fsmount: [432, 432],
      fspick: [433, 433],
      mount_setattr: [442, 442],
      open_tree_attr: [467, 467],
    },
  },
  {
    // io_uring makes sockets and opens files without a call that a filter sees. libuv and others go back to epoll and threads.
    errno: ENOSYS,
    calls: { io_uring_setup: [425, 425], io_uring_enter: [426, 426], io_uring_register: [427, 427] },
  },
  {
    // The session's keyring comes along from whoever started kz, through every namespace: Kerberos tickets and disk keys are in there.
    errno: EPERM,
    calls: { add_key: [248, 217], request_key: [249, 218], keyctl: [250, 219] },
  },
  {
    // Windows into the kernel, often with holes: programs in it, counters and traces, held-up page faults, events of files by handle, its log.
    errno: EPERM,
    calls: {
      bpf: [321, 280],
      perf_event_open: [298, 241],
      userfaultfd: [323, 282],
      fanotify_init: [300, 262],
      syslog: [103, 116],
      lookup_dcookie: [212, 18],
    },
  },
  {
    // For the administrator of the machine. They need capabilities that the program does not have: one mistake of the kernel about those shall
    // not suffice. And uselib, left from before ELF.
    errno: EPERM,
    calls: {
      init_module: [175, 105],
      finit_module: [313, 273],
      delete_module: [176, 106],
      kexec_load: [246, 104],
      kexec_file_load: [320, 294],
      reboot: [169, 142],
      swapon: [167, 224],
      swapoff: [168, 225],
      acct: [163, 89],
      quotactl: [179, 60],
      quotactl_fd: [443, 443],
      settimeofday: [164, 170],
      clock_settime: [227, 112],
      sethostname: [170, 161],
      setdomainname: [171, 162],
      vhangup: [153, 58],
      iopl: [172],
      ioperm: [173],
      uselib: [134],
    },
  },
];

// The calls that depend on an argument. Every argument looked at here is 32 bits wide to the kernel, which drops the upper half. So does the
// filter: otherwise TIOCSTI with a bit set up there would not be TIOCSTI to it (CVE-2019-10063), and C libraries sign-extend flags into it.
const SOCKET: Numbers = [41, 198];
const SOCKETPAIR: Numbers = [53, 199];
const IOCTL: Numbers = [16, 29];
const CLONE: Numbers = [56, 220];

interface Sockets {
  readonly family: number;
  readonly types: readonly number[];
  readonly protocols: readonly number[];
}

const STREAM = 1;
const DGRAM = 2;
const RAW = 3;
const SEQPACKET = 5;
/** The rest of the type argument is SOCK_NONBLOCK and SOCK_CLOEXEC. */
const TYPE_BITS = 0xf;

const TCP = 6;
const UDP = 17;
const NETLINK_ROUTE = 0;
const NETLINK_KOBJECT_UEVENT = 15;

/**
 * All the sockets there are. Other families: EAFNOSUPPORT. AF_VSOCK for one is bound to no network namespace, and leads from a virtual machine
 * to its host. Other types: EPERM, as without CAP_NET_RAW. Other protocols (MPTCP, SCTP, netfilter, audit): EPROTONOSUPPORT, as of a kernel
 * that was built without.
 */
const SOCKETS: readonly Sockets[] = [
  { family: 1, types: [STREAM, DGRAM, SEQPACKET], protocols: [0, 1] }, // AF_UNIX
  { family: 2, types: [STREAM, DGRAM], protocols: [0, TCP, UDP] }, // AF_INET
  { family: 10, types: [STREAM, DGRAM], protocols: [0, TCP, UDP] }, // AF_INET6
  { family: 16, types: [RAW, DGRAM], protocols: [NETLINK_ROUTE, NETLINK_KOBJECT_UEVENT] }, // AF_NETLINK: getifaddrs; libusb and browsers
];

/** Commands on a terminal. */
const IOCTLS: readonly number[] = [
  0x5412, // TIOCSTI types into the terminal: the user's shell would run it
  0x541c, // TIOCLINUX does the same on a console, by selecting and pasting
  0x5423, // TIOCSETD loads kernel modules for modems and serial buses
];

/** CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET. CLONE_NEWTIME is for unshare and clone3 only. */
const NAMESPACE_FLAGS = 0x7e020000;

function filterFor({ audit, column }: Machine): Program {
  const numbers = (calls: readonly Numbers[]): number[] => calls.map((call) => call[column]).filter((number) => number !== undefined);
  return [
    // First: elsewhere the same numbers are other calls (int 0x80 runs i386's in an x64 program).
    load(ARCHITECTURE),
    ...ifNoneOf([audit], [refuse(ENOSYS)]),
    load(NUMBER),
    ...ifAbove(NEWEST, [...ifOneOf([SKIPPED], [ALLOW]), refuse(ENOSYS)]),
    ...REFUSED.flatMap(({ calls, errno }) => ifOneOf(numbers(Object.values(calls)), [refuse(errno)])),
    ...ifOneOf(numbers([SOCKET, SOCKETPAIR]), onSocket()),
    ...ifOneOf(numbers([IOCTL]), [load(argument(1)), ...ifOneOf(IOCTLS, [refuse(EPERM)]), ALLOW]),
    ...ifOneOf(numbers([CLONE]), [load(argument(0)), ...ifAnyBit(NAMESPACE_FLAGS, [refuse(EPERM)]), ALLOW]),
    ALLOW,
  ];
}

function onSocket(): Program {
  const known = SOCKETS.flatMap(({ family, types, protocols }) =>
    ifOneOf(
      [family],
      [
        load(argument(1)),
        and(TYPE_BITS),
        ...ifNoneOf(types, [refuse(EPERM)]),
        load(argument(2)),
        ...ifNoneOf(protocols, [refuse(EPROTONOSUPPORT)]),
        ALLOW,
      ],
    ),
  );
  return [load(argument(0)), ...known, refuse(EAFNOSUPPORT)];
}

/** One `struct sock_filter` of linux/filter.h. Jumps count from the next instruction, and go forward only. */
interface Instruction {
  readonly code: number;
  readonly k: number;
  readonly ifTrue?: number;
  readonly ifFalse?: number;
}

type Program = readonly Instruction[];

// Offsets in `struct seccomp_data`. Of an argument: its lower half.
const NUMBER = 0;
const ARCHITECTURE = 4;
const argument = (index: number): number => 16 + 8 * index;

const ALLOW: Instruction = { code: 0x06, k: 0x7fff0000 };
const refuse = (errno: number): Instruction => ({ code: 0x06, k: 0x00050000 | errno });
const load = (offset: number): Instruction => ({ code: 0x20, k: offset });
const and = (mask: number): Instruction => ({ code: 0x54, k: mask });

const EQUAL = 0x15;
const ABOVE = 0x25;
const ANY_BIT = 0x45;

// A condition runs what follows it, or jumps over it. What follows ends in `ALLOW` or `refuse` and may load something else.

function ifAbove(k: number, then: Program): Program {
  return [{ code: ABOVE, k, ifFalse: then.length }, ...then];
}

function ifAnyBit(k: number, then: Program): Program {
  return [{ code: ANY_BIT, k, ifFalse: then.length }, ...then];
}

function ifOneOf(values: readonly number[], then: Program): Program {
  const last = values.length - 1;
  return [...values.map((k, at) => ({ code: EQUAL, k, ifTrue: last - at, ifFalse: at === last ? then.length : 0 })), ...then];
}

function ifNoneOf(values: readonly number[], then: Program): Program {
  const last = values.length - 1;
  return [...values.map((k, at) => ({ code: EQUAL, k, ifTrue: last - at + then.length })), ...then];
}

function assemble(program: Program): Buffer {
  const bytes = Buffer.alloc(program.length * 8);
  program.forEach(({ code, k, ifTrue = 0, ifFalse = 0 }, index) => {
    bytes.writeUInt16LE(code, index * 8);
    // Throws for a jump that does not fit into its byte.
    bytes.writeUInt8(ifTrue, index * 8 + 2);
    bytes.writeUInt8(ifFalse, index * 8 + 3);
    bytes.writeUInt32LE(k, index * 8 + 4);
  });
  return bytes;
}
