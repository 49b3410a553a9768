# Attacks on the kernel's wide surface: namespaces of its own, by every call that makes one, and calls that a filter must know.
import ctypes
import fcntl
import os
import struct
import termios

from attack import MACHINE, NEWNET, NEWNS, NEWUSER, NUMBERS, Blocked, Impossible, attack, call, canary, int80, own_user_namespace, raw


def in_namespace(flags):
    call("unshare", flags)
    return "made"


@attack("a user namespace of its own (unshare)")
def user_namespace(facts):
    return in_namespace(NEWUSER)


@attack("a network namespace of its own")
def network_namespace(facts):
    own_user_namespace()
    return in_namespace(NEWNET)


@attack("a mount namespace of its own")
def mount_namespace(facts):
    own_user_namespace()
    return in_namespace(NEWNS)


@attack("a user namespace of its own (clone)")
def by_clone(facts):
    return child(lambda: call("clone", NEWUSER | 17, 0, 0, 0, 0))


@attack("a user namespace of its own (clone3)")
def by_clone3(facts):
    arguments = ctypes.create_string_buffer(struct.pack("=11Q", NEWUSER, 0, 0, 0, 17, 0, 0, 0, 0, 0, 0), 88)
    return child(lambda: call("clone3", arguments, 88))


def child(make):
    pid = make()
    if pid == 0:
        os._exit(7)
    _, status = os.waitpid(pid, 0)
    return f"made, {os.WEXITSTATUS(status)}"


@attack("a user namespace of its own (32-bit call)")
def by_int80(facts):
    int80(310, NEWUSER)
    return "made"


@attack("a user namespace of its own (x32 call)")
def by_x32(facts):
    if MACHINE != "x86_64":
        raise Impossible("no x32 on " + MACHINE)
    try:
        raw(0x40000000 | NUMBERS["unshare"], NEWUSER)
    except OSError as error:
        if error.errno == 38:
            raise Impossible("the kernel has no x32") from error
        raise
    return "made"


@attack("a socket to the hypervisor (32-bit call)")
def vsock_by_int80(facts):
    return f"opened, {int80(359, 40, 1, 0)}"


@attack("every namespace at once, as a container would")
def everything(facts):
    own_user_namespace(NEWNS | NEWNET | 0x20000000 | 0x08000000 | 0x04000000)
    return "made"


@attack("a file system of its own (fsopen)")
def fsopen(facts):
    own_user_namespace(NEWNS)
    return f"opened, {call('fsopen', b'tmpfs', 0)}"


@attack("a mount without a namespace of its own")
def plain_mount(facts):
    target = os.path.join(facts["project"], f"mount-{os.getpid()}")
    os.mkdir(target)
    call("mount", b"none", target.encode(), b"tmpfs", 0, None)
    return "mounted"


@attack("the kernel's memory (/proc/kcore)")
def kcore(facts):
    if not os.path.exists("/proc/kcore") and facts["pidNamespace"] == os.readlink("/proc/self/ns/pid"):
        raise Impossible("this machine has none")
    os.close(os.open("/proc/kcore", os.O_RDONLY))
    return "can be read"


@attack("io_uring")
def io_uring(facts):
    try:
        return f"opened, {call('io_uring_setup', 4, ctypes.create_string_buffer(120))}"
    except OSError as error:
        return absent(error)


@attack("the kernel's key rings (add_key)")
def add_key(facts):
    try:
        return f"added, {call('add_key', b'user', b'kz-attack', b'value', 5, -3)}"
    except OSError as error:
        return absent(error)


@attack("the kernel's key rings (keyctl)")
def keyctl(facts):
    try:
        return f"key ring {call('keyctl', 0, -3, 1)}"
    except OSError as error:
        return absent(error)


@attack("bpf: a map")
def bpf(facts):
    attributes = ctypes.create_string_buffer(struct.pack("=IIIII", 2, 4, 4, 1, 0), 128)
    return f"opened, {call('bpf', 0, attributes, 128)}"


@attack("performance counters of the kernel")
def perf(facts):
    attributes = ctypes.create_string_buffer(struct.pack("=IIQQQQQ", 1, 112, 0, 0, 0, 0, 0x61), 112)
    try:
        return f"opened, {call('perf_event_open', attributes, 0, -1, -1, 0)}"
    except OSError as error:
        return absent(error)


def absent(error):
    if error.errno == 38:
        raise Impossible(f"not in this kernel, or not allowed on this machine: {error}") from error
    raise error


@attack("capabilities, or a way to gain some")
def nothing_left(facts):
    """What a program in the sandbox still has: no capability may be among it."""
    status = dict(line.split(":", 1) for line in open("/proc/self/status") if ":" in line)
    held = {name: int(status[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")}
    if status["NoNewPrivs"].strip() == "1" and not any(held.values()):
        raise Blocked("no capability, and none to gain")
    return f"{held}, new privileges {'cannot' if status['NoNewPrivs'].strip() == '1' else 'can'} be gained"


@attack("typing into the terminal (TIOCSTI)")
def typing(facts):
    for letter in b"x":
        fcntl.ioctl(0, termios.TIOCSTI, bytes([letter]))
    return "typed"


@attack("typing into the console (TIOCLINUX)")
def pasting(facts):
    fcntl.ioctl(0, 0x541C, b"\x03")
    return "pasted"


@attack("a descriptor that kz inherited")
def inherited(facts):
    for descriptor in range(3, 256):
        try:
            return canary(os.pread(descriptor, 200, 0), f"descriptor {descriptor}")
        except (OSError, Blocked):
            continue
    raise Blocked("none has a value")
