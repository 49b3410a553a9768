# The world around an attack: a mount, pid, ipc, uts and network namespace of its own (unshare made them), with another network namespace that
# stands for the internet. Nothing here has a way out of the machine. Starts every attack without isolation and with it, and says how each
# ended, one JSON value a line. This program is the first process: when it ends, everything ends.
#
# unshare ... python3 world.py ORDER, a JSON object:
#   repository, node, path   where kz is, what runs it, and PATH
#   uid                      whom to become: a number, or null to stay root
#   nested                   root of a user namespace only: become `uid` in another one
#   off, strict              the arguments of kz for each mode
import json
import os
import shutil
import signal
import socket
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import network  # noqa: E402
import servers  # noqa: E402
import user  # noqa: E402
from attack import NEWNET, NEWUSER, call  # noqa: E402

PEER_ADDRESSES = ("203.0.113.10", "198.51.100.7", "198.51.100.53", "169.254.169.254", "10.1.2.3")
BASES = ("/srv", "/mnt", "/media", "/opt")


def ip(*words):
    subprocess.run(["ip", *words], check=True, env={"PATH": order["path"]})


def set_kernel(path, *values):
    for value in values:
        try:
            with open(f"/proc/sys/{path}", "w") as file:
                file.write(value)
            return
        except OSError:
            continue


def mount(source, target, kind, flags=0, options=""):
    call("mount", source.encode(), target.encode(), kind.encode(), flags, options.encode())


def furnish():
    """Folders that only this world sees: where the user lives, and fresh places for temporary files."""
    needed = [os.path.realpath(path) + "/" for path in (order["repository"], order["node"], sys.executable)]
    base = next(path for path in BASES if os.path.isdir(path) and not any(one.startswith(path + "/") for one in needed))
    mount("tmpfs", base, "tmpfs", 0, "mode=755")
    copy_kz(os.path.join(base, "keyzero"))
    shutil.copytree(os.path.dirname(os.path.abspath(__file__)), os.path.join(base, "attacks"), ignore=shutil.ignore_patterns("__pycache__"))
    with open(os.path.join(base, "resolv.conf"), "w") as file:
        file.write("nameserver 198.51.100.53\noptions timeout:1 attempts:1\n")
    os.chmod(os.path.join(base, "resolv.conf"), 0o644)
    if os.path.exists("/etc/resolv.conf"):
        mount(os.path.join(base, "resolv.conf"), os.path.realpath("/etc/resolv.conf"), "", 4096)
    open(os.path.join(base, "record"), "w").close()
    os.chmod(os.path.join(base, "record"), 0o666)
    build_programs(base)
    if order["nested"]:
        adopt_tools()
    for path in ("/tmp", "/dev/shm"):
        mount("tmpfs", path, "tmpfs", 0, "mode=1777,size=64m")
    return base


def adopt_tools():
    """In a user namespace root's programs seem to be nobody's, and kz starts no such: here the user has some of its own."""
    mount("tmpfs", "/usr/local/sbin", "tmpfs", 0, "mode=755")
    for name in ("bwrap", "perl", "sh"):
        if found := shutil.which(name, path=order["path"]):
            shutil.copy(found, os.path.join("/usr/local/sbin", name))


def copy_kz(target):
    for part in ("dist", "bin", "package.json", "node_modules/@napi-rs"):
        source, copy = os.path.join(order["repository"], part), os.path.join(target, part)
        if os.path.isdir(source):
            shutil.copytree(source, copy)
        elif os.path.exists(source):
            os.makedirs(os.path.dirname(copy), exist_ok=True)
            shutil.copy2(source, copy)


def build_programs(base):
    """A static binary, and where root can make them: a setuid program, and one with capabilities."""
    compiler = shutil.which("cc", path=order["path"])
    static = os.path.join(base, "static")
    source = os.path.join(base, "attacks", "static.c")
    if compiler and subprocess.run([compiler, "-static", "-o", static, source], capture_output=True).returncode == 0:
        programs["static"] = static
    if order["nested"]:
        return
    for name in ("setuid", "capable"):
        programs[name] = os.path.join(base, name)
        shutil.copy(os.path.realpath(sys.executable), programs[name])
        os.chmod(programs[name], 0o755)
    os.chown(programs["setuid"], 65531 if order["uid"] is None else 0, -1)
    os.chmod(programs["setuid"], 0o4755)
    # struct vfs_cap_data, revision 2, effective: CAP_SYS_PTRACE.
    os.setxattr(programs["capable"], "security.capability", bytes.fromhex("0100000200000800000000000000000000000000"))


def start_peer(base):
    """Another network namespace: what stands for the internet, the metadata service and a private network."""
    ready, go = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        call("unshare", NEWNET)
        os.write(ready[1], b"1")
        os.read(go[0], 1)
        ip("link", "set", "lo", "up")
        ip("addr", "add", "10.9.9.2/24", "dev", "kz1")
        ip("-6", "addr", "add", "2001:db8::10/64", "dev", "kz1", "nodad")
        ip("link", "set", "kz1", "up")
        for address in PEER_ADDRESSES:
            ip("addr", "add", address + "/32", "dev", "lo")
        set_kernel("net/ipv4/tcp_fastopen", "3")
        loop = servers.Loop(servers.Record(os.path.join(base, "record")))
        servers.watch(loop)
        servers.internet(loop, socket.AF_INET, "0.0.0.0")
        servers.internet(loop, socket.AF_INET6, "::")
        servers.optional(loop)
        servers.names(loop, "198.51.100.53")
        servers.unix(loop, [os.path.join(base, "peer.sock")])
        os.write(ready[1], b"2")
        loop.run()
    os.read(ready[0], 1)
    ip("link", "set", "lo", "up")
    ip("link", "add", "kz0", "type", "veth", "peer", "name", "kz1")
    ip("link", "set", "kz1", "netns", str(pid))
    ip("addr", "add", "10.9.9.1/24", "dev", "kz0")
    ip("-6", "addr", "add", "2001:db8::1/64", "dev", "kz0", "nodad")
    for address in network.OWN_PUBLIC:
        ip("addr", "add", address, "dev", "kz0", *(["nodad"] if ":" in address else []))
    ip("link", "set", "kz0", "up")
    ip("addr", "add", "192.0.2.5/32", "dev", "lo")
    os.write(go[1], b"1")
    os.read(ready[0], 1)
    ip("route", "add", "default", "via", "10.9.9.2")
    ip("-6", "route", "add", "default", "via", "2001:db8::10")


def start_watcher(base):
    reader, writer = os.pipe()
    if os.fork() == 0:
        loop = servers.Loop(servers.Record(os.path.join(base, "record")))
        servers.watch(loop)
        os.write(writer, b"1")
        loop.run()
    os.read(reader, 1)


def become_user():
    uid = order["uid"]
    if uid is None:
        return
    if not order["nested"]:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
        return
    call("unshare", NEWUSER)
    for path, text in (("setgroups", "deny"), ("uid_map", f"{uid} 0 1"), ("gid_map", f"{uid} 0 1")):
        try:
            with open(f"/proc/self/{path}", "w") as file:
                file.write(text)
        except OSError:
            if path != "setgroups":
                raise


def main():
    base = furnish()
    set_kernel("net/ipv4/ip_unprivileged_port_start", "0")
    set_kernel("net/ipv4/ping_group_range", "0 2147483647", "0 0")
    start_peer(base)
    start_watcher(base)
    places = [os.path.join(base, mode) for mode in user.SITES]
    for place in places:
        os.mkdir(place)
        if not order["nested"] and order["uid"] is not None:
            os.chown(place, order["uid"], order["uid"])
    pid = os.fork()
    if pid == 0:
        become_user()
        user.main(base, order, programs)
        os._exit(0)
    while True:
        ended, status = os.wait()
        if ended == pid:
            sys.exit(os.waitstatus_to_exitcode(status))


order, programs = json.loads(sys.argv[1]), {}
signal.signal(signal.SIGPIPE, signal.SIG_DFL)
main()
