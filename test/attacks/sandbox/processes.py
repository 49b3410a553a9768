# Attacks on the processes of the same user: kz, and a sibling that has a value in its environment and its memory.
import ctypes
import os
import re
import signal
import subprocess
import time

from attack import NUMBERS, Blocked, Impossible, attack, call, canary, libc, read

PTRACE_ATTACH, PTRACE_DETACH, PTRACE_SEIZE = 16, 17, 0x4206


class Vector(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]


def regions(pid):
    """The writable memory of a process."""
    with open(f"/proc/{pid}/maps") as maps:
        for line in maps:
            bounds, mode = line.split()[:2]
            if mode.startswith("rw"):
                start, end = (int(bound, 16) for bound in bounds.split("-"))
                yield start, end


def search(pid, value):
    with open(f"/proc/{pid}/mem", "rb", 0) as memory:
        for start, end in regions(pid):
            for at in range(start, end, 1 << 24):
                try:
                    memory.seek(at)
                    found = re.search(value, memory.read(min(1 << 24, end - at)))
                except OSError:
                    continue
                if found:
                    return f"memory of {pid}: {found.group().decode()}"
    raise Blocked(f"no value in the memory of {pid}")


def take(pid):
    """Reads another process's memory by process_vm_readv(2)."""
    start, _ = next(regions(pid))
    buffer = ctypes.create_string_buffer(64)
    mine, its = Vector(ctypes.cast(buffer, ctypes.c_void_p), 64), Vector(start, 64)
    got = call("process_vm_readv", pid, ctypes.byref(mine), 1, ctypes.byref(its), 1, 0)
    return f"{got} bytes of {pid}"


def must_be(facts, who, pid):
    """A number alone says nothing: inside, another process may have it."""
    mine = os.readlink("/proc/self/ns/pid")
    if facts["pidNamespace"] != mine:
        raise Blocked(f"{who}, {pid}, is not in this pid namespace")
    return pid


def seize(pid):
    libc.ptrace.restype = ctypes.c_long
    call("ptrace", PTRACE_SEIZE, pid, 0, 0)
    return f"attached to {pid}"


def links(folder):
    """Where the open files lead. A running program closes some while they are read; that none can be read says no."""
    found, refusal = [], None
    for fd in os.listdir(folder):
        try:
            found.append(os.readlink(f"{folder}/{fd}"))
        except OSError as error:
            refusal = error
    if not found and refusal is not None:
        raise refusal
    return found


# What a parent may do to its own child, so that the sandbox is what says no.
for who in ("kz", "the sibling"):
    value = b"CANARY-" + (b"secret" if who == "kz" else b"sibling") + b"-[0-9a-f]{24}"

    @attack(f"arguments of {who}, by its number")
    def arguments(facts, who=who):
        text = read(f"/proc/{facts['pids'][who]}/cmdline")
        if facts["cmdline"][who].encode() not in text:
            raise Blocked(f"another program's: {text[:60]!r}")
        return text[:60].decode("latin1")

    @attack(f"memory of {who}, by its number")
    def memory(facts, who=who, value=value):
        return search(facts["pids"][who], value)

    @attack(f"memory of {who}, by process_vm_readv")
    def vm(facts, who=who):
        return take(must_be(facts, who, facts["pids"][who]))

    @attack(f"map of the memory of {who}")
    def maps(facts, who=who):
        pid = must_be(facts, who, facts["pids"][who])
        return f"{len(read(f'/proc/{pid}/maps'))} bytes"

    @attack(f"open files of {who}")
    def opened(facts, who=who):
        pid = must_be(facts, who, facts["pids"][who])
        return ", ".join(links(f"/proc/{pid}/fd"))[:100]

    @attack(f"the root folder of {who}")
    def root(facts, who=who):
        return canary(read(f"/proc/{facts['pids'][who]}/root{facts['hidden']['AWS credentials']}"), who)

    @attack(f"the working folder of {who}")
    def cwd(facts, who=who):
        pid = must_be(facts, who, facts["pids"][who])
        return ", ".join(os.listdir(f"/proc/{pid}/cwd"))[:100]

    @attack(f"the namespaces of {who}")
    def namespaces(facts, who=who):
        pid = must_be(facts, who, facts["pids"][who])
        return f"opened, {os.open(f'/proc/{pid}/ns/net', os.O_RDONLY)}"

    @attack(f"joining the network namespace of {who}")
    def join(facts, who=who):
        pid = must_be(facts, who, facts["pids"][who])
        call("setns", os.open(f"/proc/{pid}/ns/net", os.O_RDONLY), 0)
        return "joined"

    @attack(f"ptrace of {who}")
    def trace(facts, who=who):
        return seize(must_be(facts, who, facts["pids"][who]))

    @attack(f"a signal to {who}")
    def kill(facts, who=who):
        os.kill(must_be(facts, who, facts["pids"][who]), 0)
        return "may be killed"

    @attack(f"a pidfd of {who}")
    def pidfd(facts, who=who):
        return f"opened, {call('pidfd_open', must_be(facts, who, facts['pids'][who]), 0)}"

    @attack(f"a descriptor taken from {who}")
    def getfd(facts, who=who):
        handle = call("pidfd_open", must_be(facts, who, facts["pids"][who]), 0)
        return f"taken, {call('pidfd_getfd', handle, 0, 0)}"


@attack("environment of the sibling, by its number")
def sibling_environment(facts):
    return canary(read(f"/proc/{facts['pids']['the sibling']}/environ"), "the sibling's environment")


def everyone():
    return [int(name) for name in os.listdir("/proc") if name.isdigit() and int(name) != os.getpid()]


def look(paths):
    """The first planted value in any of the files. What runs here has none: its own come by standard input."""
    for path in paths:
        try:
            return canary(read(path), path)
        except (OSError, Blocked):
            continue
    raise Blocked(f"nothing in {len(paths)} files")


@attack("every environment in /proc")
def scan_environments(facts):
    return look([f"/proc/{pid}/environ" for pid in everyone()])


@attack("every environment of a thread in /proc")
def scan_threads(facts):
    return look([f"/proc/{pid}/task/{task}/environ" for pid in everyone() for task in threads(pid)])


def threads(pid):
    try:
        return os.listdir(f"/proc/{pid}/task")
    except OSError:
        return []


@attack("every list of arguments in /proc")
def scan_arguments(facts):
    for pid in everyone():
        try:
            if facts["cmdline"]["kz"].encode() in read(f"/proc/{pid}/cmdline"):
                return f"kz is {pid}"
        except OSError:
            continue
    raise Blocked("kz is nobody here")


@attack("every process's memory in /proc")
def scan_memory(facts):
    for pid in everyone():
        try:
            return search(pid, b"CANARY-" + b"sibling" + b"-[0-9a-f]{24}")
        except (OSError, Blocked, StopIteration, ValueError, OverflowError):
            continue
    raise Blocked("no value in anybody's memory")


@attack("every process's open files in /proc")
def scan_open_files(facts):
    for pid in everyone():
        for fd in descriptors(pid):
            try:
                if os.readlink(f"/proc/{pid}/fd/{fd}") == facts["held"]:
                    return canary(read(f"/proc/{pid}/fd/{fd}"), f"descriptor {fd} of {pid}")
            except OSError:
                continue
    raise Blocked("nobody has it open")


def descriptors(pid):
    try:
        return os.listdir(f"/proc/{pid}/fd")
    except OSError:
        return []


@attack("every process's root folder in /proc")
def scan_roots(facts):
    return look([f"/proc/{pid}/root{facts['hidden']['AWS credentials']}" for pid in everyone()])


@attack("shared memory of System V")
def shared_memory(facts):
    identifier = call("shmget", facts["shmKey"], 4096, 0o600)
    libc.shmat.restype = ctypes.c_void_p
    libc.shmat.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_int]
    return canary(ctypes.string_at(libc.shmat(identifier, None, 0o10000), 100), "shared memory")


@attack("shared memory of the host, in /dev/shm")
def dev_shm(facts):
    return canary(read(facts["devShm"]), facts["devShm"])


@attack("the name of the machine")
def hostname(facts):
    if libc.sethostname(b"kz-attack", 9) != 0:
        raise Blocked(os.strerror(ctypes.get_errno()))
    return "changed"


@attack("new privileges: a setuid program")
def setuid(facts):
    if not facts.get("setuid"):
        raise Impossible("only root can make one of another user")
    done = subprocess.run([facts["setuid"], "-c", "import os; print(os.getuid() == os.geteuid())"], capture_output=True, text=True)
    if "False" not in done.stdout:
        raise Blocked(f"it runs as whoever started it: {done.stdout.strip()} {done.stderr.strip()}")
    return "it runs as its owner"


@attack("new privileges: a program with capabilities in its file")
def file_capabilities(facts):
    if not facts.get("capable"):
        raise Impossible("only root can make one")
    done = subprocess.run([facts["capable"], "-c", "print([l for l in open('/proc/self/status') if l.startswith('CapEff')][0])"], capture_output=True, text=True)
    if int(done.stdout.split()[1] if done.stdout.split()[1:] else "0", 16) & (1 << 19) == 0:
        raise Blocked(f"it has none: {done.stdout.strip()} {done.stderr.strip()}")
    return "it has them"
