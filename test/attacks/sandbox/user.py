# The user's side of the world: runs the attacks in each mode, and decides from outside what only the outside can tell.
import fcntl
import json
import os
import pty
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.parse

import files
import kernel  # noqa: F401
import network  # noqa: F401
import processes  # noqa: F401
import sockets  # noqa: F401
from attack import ATTACKS, MEANWHILE, UNRULED
from place import Site

MODES = ("off", "strict")
SITES = [mode + part for mode in MODES for part in ("", "-meanwhile", "-unruled", "-again")]
ON_TERMINAL = ("typing into the terminal (TIOCSTI)", "typing into the console (TIOCLINUX)")
# What kz never hands on, whatever the mode: without kz it must succeed.
WITHOUT_KZ = ("the socket that SSH_AUTH_SOCK names", "the socket that DBUS_SESSION_BUS_ADDRESS names", "the socket that DOCKER_HOST names",
              "a descriptor that kz inherited")
DNS = {
    "dns-udp": "DNS: a query straight to a server, UDP",
    "dns-tcp": "DNS: a query straight to a server, TCP",
    "dns-loopback": "DNS: a query to the host's loopback resolver",
    "tunnel": "DNS tunnel: a value in a name that no rule allows",
    "below": "DNS tunnel: a value in front of an allowed name",
    "domain": "DNS tunnel: a value in a name of an allowed domain",
    "txt": "DNS tunnel: a value in the type TXT",
}
PROXY = "the proxy's credential, used from outside of the sandbox"
LISTENER = "a listener of kz that others can reach"
DAEMONS = {"the normal end": None, "TERM": signal.SIGTERM, "KILL": signal.SIGKILL}
DEADLINE_S = 60


class Run:
    """The attacks of one mode."""

    def __init__(self, base, mode, order, programs):
        self.base, self.mode, self.order, self.programs = base, mode, order, programs
        self.site = Site(base, mode, order)
        self.terminal = os.openpty()
        self.results = {}

    def kz(self, program):
        return [self.order["node"], self.site.kz, "run", "--blind", *self.order[self.mode], "--", *program]

    def probe(self):
        return [sys.executable, "-I", "-B", os.path.join(self.base, "attacks", "probe.py")]

    def note(self, attack, outcome, detail):
        self.results[attack] = (outcome, detail)

    def all(self):
        self.site.start_services()
        everything = [name for name in ATTACKS if name not in ON_TERMINAL]
        if self.mode == "off":
            self.batch(self.probe(), WITHOUT_KZ)
            everything = [name for name in everything if name not in WITHOUT_KZ]
        # The batch is the last: without isolation it leaves nothing of kz or its config intact.
        self.on_terminal()
        for end, number in DAEMONS.items():
            self.outlive(end, number)
        elsewhere = (MEANWHILE, UNRULED)
        self.batch(self.kz(self.probe()), [name for name in everything if ATTACKS[name][1] not in elsewhere])
        self.judge()
        self.site.stop_services()
        for when in elsewhere:
            self.site = Site(self.base, f"{self.mode}-{when}", self.order)
            if when == UNRULED:
                self.site.allow_everything()
            self.site.start_services()
            self.batch(self.kz(self.probe()), [name for name in everything if ATTACKS[name][1] == when])
            self.judge()
            self.site.stop_services()
        self.again()
        for attack, (outcome, detail) in self.results.items():
            say({"mode": self.mode, "attack": attack, "outcome": outcome, "detail": detail})

    def facts(self, pid, names):
        site = self.site
        return {
            "only": list(names), "mark": site.mark, "home": site.home, "project": site.project, "hidden": site.hidden,
            "sockets": {**site.sockets, "another network namespace": os.path.join(self.base, "peer.sock")}, "abstract": site.mark,
            "pids": {"kz": pid, "the sibling": site.sibling.pid}, "pidNamespace": os.readlink("/proc/self/ns/pid"),
            "cmdline": {"kz": site.kz, "the sibling": "kz-attack-sibling"}, "held": site.held, "devShm": site.dev_shm,
            "shmKey": site.shm_key, "filled": f"/tmp/kz-filled-{site.mark}", "terminal": os.ttyname(self.terminal[1]),
            "handle": site.handles(), "python": sys.executable, "path": self.order["path"], **self.programs,
        }

    def batch(self, command, names):
        """One start of kz, many attacks. A descriptor with a planted value is open when it starts."""
        inherited = os.open(self.site.inherited, os.O_RDONLY)
        descriptor = fcntl.fcntl(inherited, fcntl.F_DUPFD, 9)
        errors = open(os.path.join(self.site.root, "errors"), "w+")
        child = subprocess.Popen(command, cwd=self.site.project, env=self.site.environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                 stderr=errors, pass_fds=(descriptor,), start_new_session=True)
        os.close(descriptor)
        os.close(inherited)
        try:
            child.stdin.write(json.dumps(self.facts(child.pid, names)).encode() + b"\n")
            child.stdin.flush()
        except BrokenPipeError:
            pass
        done = self.follow(child)
        errors.seek(0)
        say({"mode": self.mode, "run": "kz" if "--blind" in command else "plain", "code": child.wait(), "done": done, "stderr": errors.read()[-2000:]})

    def follow(self, child):
        done = None
        for line in child.stdout:
            event = json.loads(line)
            if "please" in event:
                self.obey(event["please"])
                child.stdin.write(b"done\n")
                child.stdin.flush()
                continue
            if "done" in event:
                done = event["done"]
                continue
            self.note(event["attack"], event["outcome"], event["detail"])
            if event["attack"] == PROXY:
                self.use_proxy(event["detail"])
                self.look_for_listeners(child.pid)
        return done

    def obey(self, what):
        """What the user does while the program runs: saves a file as editors and logins do, a new one that takes the old one's name."""
        verb, path = what.rsplit(" ", 1)
        if verb == "write anew":
            self.site.plant(path + ".new", "file")
            os.rename(path + ".new", path)
        elif verb == "save":
            shutil.copy(path, path + ".new")
            os.rename(path + ".new", path)
        elif verb == "serve":
            self.site.serve(path)
        elif verb == "git status":
            done = subprocess.run(["git", "-C", path, "status"], env={"PATH": self.order["path"], "HOME": self.site.home}, capture_output=True, text=True)
            say({"git": done.returncode, "stderr": done.stderr[-300:]})

    def use_proxy(self, detail):
        """From the host, while kz runs, with the credential that the program was given."""
        url = urllib.parse.urlsplit(detail.split()[1]) if detail.startswith("PROXY http") else None
        if url is None or url.port is None:
            return self.note(PROXY, "broken", f"no proxy: {detail[:60]}")
        credential = urllib.parse.unquote(f"{url.username}:{url.password}")
        import base64

        login = base64.b64encode(credential.encode()).decode()
        try:
            with socket.create_connection((url.hostname, url.port), 2) as client:
                client.settimeout(2)
                client.sendall(f"CONNECT api.example.com:443 HTTP/1.1\r\nHost: api.example.com:443\r\nProxy-Authorization: Basic {login}\r\n\r\n".encode())
                return self.note(PROXY, "reached", client.recv(100).decode("latin1").split("\r\n")[0])
        except OSError as error:
            return self.note(PROXY, "blocked", str(error))

    def look_for_listeners(self, pid):
        mine = {os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd") if os.path.lexists(f"/proc/{pid}/fd/{fd}")}
        found = []
        for kind in ("tcp", "tcp6"):
            for words in (line.split() for line in open(f"/proc/{pid}/net/{kind}").readlines()[1:]):
                if words[3] == "0A" and f"socket:[{words[9]}]" in mine:
                    found.append(f"{kind} {words[1]}")
        for words in (line.split() for line in open(f"/proc/{pid}/net/unix").readlines()[1:]):
            if int(words[3], 16) & 0x10000 and f"socket:[{words[6]}]" in mine:
                found.append(f"unix {words[7:]}")
        self.note(LISTENER, "reached" if found else "blocked", ", ".join(found) or "none")

    def judge(self):
        """What the world saw counts, whatever the attack said of itself."""
        for what in self.arrived():
            name = DNS.get(what[4:]) if what.startswith("dns ") else what
            if name in self.results:
                self.note(name, "reached", f"the world saw it; {self.results[name][1]}")
        places = {**files.WRITTEN, **files.WRITTEN_IN_PROJECT, "git's folder, replaced by another": "post-checkout",
                  "kz's config, replaced by a renamed file": ".keyzero.toml", "kz's config, by renaming the project's folder": ".keyzero.toml",
                  "kz's config, after the user has saved it": ".keyzero.toml", "the config of git, after the user's git has changed it": "config"}
        for what, path in places.items():
            found = self.site.has_written(what, (os.path.basename(path),))
            if found:
                self.note(f"written: {what}", "reached", found)
        ran = os.path.join(self.site.home, "ran-by-git")
        for line in open(ran).read().splitlines() if os.path.exists(ran) else []:
            self.note(f"run by the user's git: {line.split('|', 1)[1]}", "reached", "git ran it")
        for name, path in (("the host's temp folder, filled", f"/tmp/kz-filled-{self.site.mark}"),
                           ("the host's shared memory, filled", f"/dev/shm/kz-filled-{self.site.mark}")):
            detail = self.results.get(name, ("", ""))[1]
            if os.path.exists(path) or "NO LIMIT" in detail:
                self.note(name, "reached", f"the host has the file; {detail}" if os.path.exists(path) else detail)
        ready, _, _ = select.select([self.terminal[0]], [], [], 0)
        if ready and self.site.mark.encode() in os.read(self.terminal[0], 4096):
            self.note("another terminal of the user", "reached", "the terminal shows it")

    def arrived(self):
        """The record, once everything that was sent before is in it: a packet to each watcher marks the end."""
        path = os.path.join(self.base, "record")
        for host in ("127.0.0.1", "10.9.9.2"):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
                client.settimeout(5)
                client.sendto(f"{self.site.mark}|end of {host}|".encode(), (host, 8080))
                client.recv(4096)
        deadline = time.monotonic() + 5
        while True:
            text = open(path, "rb").read().decode("latin1")
            # The server and each watcher that the packet passed note it.
            if text.count(f"{self.site.mark}|end of 127.0.0.1\n") >= 2 and text.count(f"{self.site.mark}|end of 10.9.9.2\n") >= 3:
                break
            if time.monotonic() > deadline:
                raise RuntimeError("the record has no end: " + text[-300:])
            time.sleep(0.01)
        return {line.split("|", 1)[1] for line in text.splitlines() if line.startswith(self.site.mark)}

    def on_terminal(self):
        """The program on a real terminal that it controls."""
        pid, master = pty.fork()
        if pid == 0:
            os.chdir(self.site.project)
            command = self.kz(self.probe())
            os.execve(command[0], command, {**self.site.environment(), "TERM": "xterm"})
        os.write(master, json.dumps({"only": list(ON_TERMINAL)}).encode() + b"\n")
        text, deadline = b"", time.monotonic() + DEADLINE_S
        while b'"done"' not in text and time.monotonic() < deadline:
            try:
                text += os.read(master, 65536)
            except OSError:
                break
        os.close(master)
        os.waitpid(pid, 0)
        for line in re.findall(rb'\{"attack".*?\}', text):
            event = json.loads(line)
            self.note(event["attack"], event["outcome"], event["detail"])
        for name in ON_TERMINAL:
            if name not in self.results:
                self.note(name, "broken", text.decode("latin1")[-300:])

    def again(self):
        """Two starts of kz, one after the other. Whether the second one gave more away is seen by what it printed, and outside."""
        self.site = site = Site(self.base, f"{self.mode}-again", self.order)
        site.prepare_again()
        said = {}
        for part in ("plant", "reap"):
            program = [sys.executable, "-I", "-B", os.path.join(self.base, "attacks", "again.py"), part, site.home, site.project, site.mark]
            done = subprocess.run(self.kz(program), cwd=site.project, env=site.environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True)
            # kz may well refuse to start again.
            if part == "plant" or self.mode == "off":
                say({"mode": self.mode, "run": f"kz, {part}", "code": done.returncode, "done": 0, "stderr": done.stderr[-2000:]})
            said = {name: text[::-1] for name, _, text in (line.partition(": ") for line in done.stdout.splitlines())}
        for attack, found in {
            "the next start: a readable path that became a link to a hidden one": "CANARY-" in said.get("link", ""),
            "the next start: the file of an exposed secret that became a link to a hidden one": "CANARY-" in said.get("exposed", ""),
            "the next start: a hidden file whose folder was renamed": "CANARY-" in said.get("moved", ""),
            "the next start: a package cache that became a link to another folder": os.path.exists(os.path.join(site.home, "dotfiles", "written")),
            "the next start: a changed program that a provider runs": os.path.exists(os.path.join(site.home, "ran-by-kz")),
        }.items():
            self.note(attack, "reached" if found else "blocked", json.dumps(said))

    def outlive(self, end, number):
        """A double fork, and then kz's end. Whoever is there who was not there before has outlived it."""
        before = set(living())
        program = [sys.executable, "-I", "-B", os.path.join(self.base, "attacks", "daemon.py"), "normal" if number is None else "stay"]
        command = program if self.mode == "off" else self.kz(program)
        child = subprocess.Popen(command, cwd=self.site.project, env=self.site.environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                 stderr=subprocess.PIPE, start_new_session=True)
        line = child.stdout.readline()
        if number is not None:
            child.send_signal(number)
        name = f"a double fork that outlives kz: {end}"
        if line != b"ready\n":
            child.kill()
            return self.note(name, "broken", f"{line!r} {child.stderr.read()[-300:]!r}")
        child.wait()
        deadline = time.monotonic() + (0 if self.mode == "off" else 5)
        while (left := [pid for pid in living() if pid not in before]) and time.monotonic() < deadline:
            time.sleep(0.01)
        self.note(name, "reached" if left else "blocked", "; ".join(called(pid) for pid in left) or "nobody is left")
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        return None


def living():
    """Every process but zombies: the world is its own pid namespace."""
    for name in os.listdir("/proc"):
        try:
            if name.isdigit() and open(f"/proc/{name}/stat").read().rsplit(")", 1)[1].split()[0] not in "ZX":
                yield int(name)
        except OSError:
            continue


def called(pid):
    try:
        return open(f"/proc/{pid}/cmdline").read().replace("\0", " ")[:100]
    except OSError:
        return str(pid)


def say(event):
    os.write(1, (json.dumps(event) + "\n").encode())


def main(base, order, programs):
    for mode in order.get("modes", MODES):
        Run(base, mode, order, programs).all()
    say({"end": True})
