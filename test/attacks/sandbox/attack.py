# What every attack of this folder is made of: a name, a function that returns what it got, and a way to the kernel that libc does not guard.
import ctypes
import errno
import json
import os
import platform
import struct

ATTACKS = {}
# LATE changes what others look at, and runs after them, alone. MEANWHILE needs the user to do something: in another site, alone. UNRULED is for
# a config that allows every host.
ANY_TIME, LATE, MEANWHILE, UNRULED = "any time", "late", "meanwhile", "unruled"
MACHINE = platform.machine()
libc = ctypes.CDLL(None, use_errno=True)

# Numbers that libc has no function for, or where its function would do something else.
NUMBERS = {
    "x86_64": {
        "ptrace": 101, "shmget": 29, "shmat": 30, "clone": 56, "pivot_root": 155, "chroot": 161, "mount": 165, "umount2": 166, "unshare": 272,
        "setns": 308, "process_vm_readv": 310, "process_vm_writev": 311, "name_to_handle_at": 303, "open_by_handle_at": 304, "add_key": 248,
        "keyctl": 250, "bpf": 321, "io_uring_setup": 425, "open_tree": 428, "fsopen": 430, "pidfd_open": 434, "clone3": 435,
        "pidfd_getfd": 438, "pidfd_send_signal": 424, "perf_event_open": 298, "kcmp": 312, "renameat2": 316,
    },
    "aarch64": {
        "ptrace": 117, "shmget": 194, "shmat": 196, "clone": 220, "pivot_root": 41, "chroot": 51, "mount": 40, "umount2": 39, "unshare": 97,
        "setns": 268, "process_vm_readv": 270, "process_vm_writev": 271, "name_to_handle_at": 264, "open_by_handle_at": 265, "add_key": 217,
        "keyctl": 219, "bpf": 280, "io_uring_setup": 425, "open_tree": 428, "fsopen": 430, "pidfd_open": 434, "clone3": 435,
        "pidfd_getfd": 438, "pidfd_send_signal": 424, "perf_event_open": 241, "kcmp": 272, "renameat2": 276,
    },
}.get(MACHINE, {})

NEWNS, NEWUSER, NEWNET, NEWPID = 0x00020000, 0x10000000, 0x40000000, 0x20000000


class Blocked(Exception):
    """The attack met something that holds."""


class Impossible(Exception):
    """This machine has not what the attack needs: it tells nothing."""


def attack(name, when=ANY_TIME):
    """Registers an attack: it returns what it got, or raises."""

    def register(function):
        ATTACKS[name] = (function, when)
        return function

    return register


def call(name, *args):
    """A system call by its name. Raises OSError."""
    if name not in NUMBERS:
        raise Impossible(f"the number of {name} on {MACHINE} is not known here")
    return raw(NUMBERS[name], *args)


def raw(number, *args):
    libc.syscall.restype = ctypes.c_long
    words = [ctypes.c_long(word) if isinstance(word, int) else word for word in args]
    result = libc.syscall(ctypes.c_long(number), *words)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, errno.errorcode.get(code, str(code)))
    return result


def canary(data, where):
    """What was read is only worth something when a planted value is in it."""
    text = data if isinstance(data, bytes) else data.encode()
    at = text.find(b"CANARY-")
    if at < 0:
        raise Blocked(f"no value in {where}, {len(text)} bytes")
    return f"{where}: {text[at:at + 40].decode('latin1')}"


def please(what):
    """Asks the world, who sees the host's own files, to do what the user would do while the program runs. Waits until it is done."""
    os.write(1, (json.dumps({"please": what}) + "\n").encode())
    os.read(0, 100)


def read(path, size=1 << 20):
    with open(path, "rb") as file:
        return file.read(size)


def own_user_namespace(extra=0):
    """Root of a user namespace of its own, as far as one can be had."""
    uid, gid = os.getuid(), os.getgid()
    call("unshare", NEWUSER | extra)
    for path, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
        with open(f"/proc/self/{path}", "w") as file:
            file.write(text)


def int80(number, first=0, second=0, third=0):
    """A 32-bit system call from a 64-bit program."""
    if MACHINE != "x86_64":
        raise Impossible("no 32-bit system calls on " + MACHINE)
    import mmap

    code = b"\x53\xb8" + struct.pack("<I", number) + b"\xbb" + struct.pack("<I", first) + b"\xb9" + struct.pack("<I", second)
    code += b"\xba" + struct.pack("<I", third) + b"\xcd\x80\x5b\xc3"
    page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    page.write(code)
    address = ctypes.addressof(ctypes.c_char.from_buffer(page))
    result = ctypes.CFUNCTYPE(ctypes.c_int)(address)()
    if result < 0:
        raise OSError(-result, errno.errorcode.get(-result, str(result)))
    return result
