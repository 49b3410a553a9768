# One user's home and project, full of planted values, and the programs of the same user: what an attack looks for. Made anew for every mode.
import ctypes
import os
import secrets
import shutil
import socket
import subprocess
import sys

import servers
from files import KINDS
from attack import call, libc

HOME = {
    "AWS credentials": ".aws/credentials",
    "an SSH key": ".ssh/id_ed25519",
    "the Vault token": ".vault-token",
    "kz's own folder": ".config/keyzero/canary",
    "kz's store": ".local/share/keyzero/store.json",
    "Google's credentials": ".config/gcloud/application_default_credentials.json",
    "a GnuPG key": ".gnupg/private-keys-v1.d/key",
    "Docker's logins": ".docker/config.json",
    "the netrc file": ".netrc",
    "npm's token": ".npmrc",
    "git's logins": ".git-credentials",
    "PostgreSQL's passwords": ".pgpass",
    "MySQL's password": ".my.cnf",
    "the shell's history": ".bash_history",
    "Python's history": ".python_history",
    "Kubernetes' config": ".kube/config",
    "Azure's tokens": ".azure/msal_token_cache.json",
    "PyPI's token": ".pypirc",
    "the keyring": ".local/share/keyrings/login.keyring",
    "the password store": ".password-store/bank.gpg",
    "GitHub's login": ".config/gh/hosts.yml",
    "1Password's folder": ".config/op/config",
    "age keys of sops": ".config/sops/age/keys.txt",
    "a browser's logins": ".mozilla/firefox/canary.default/logins.json",
    "Terraform's token": ".terraform.d/credentials.tfrc.json",
    "Cargo's token": ".cargo/credentials.toml",
}
# A collection of dotfiles, and links to it where programs look.
LINKED = (
    ("a file that the home folder links to", "dotfiles/lesshst", ".mysql_history"),
    ("a folder that the home folder links to", "dotfiles/oci/key", ".oci"),
)
PROJECT = {
    "the dotenv file beside the config": ".env",
    "another dotenv file beside the config": ".env.production.local",
    "the file that a secret is read from": "secret.txt",
}
AROUND = {".npmrc": "fund=false\n//registry.example.com/:_authToken={}\n", ".pypirc": "[pypi]\npassword = {}\n"}
CONFIG = """[secrets]
TOKEN = { provider = "file", ref = "./secret.txt", hosts = ["api.example.com", "*.example.org"] }
OTHER = { provider = "env", ref = "REAL", hosts = ["api.example.com"] }

[[blind.connections]]
allow = true
host = "api.example.com"

[[blind.connections]]
allow = true
host = "*.example.org"
"""
AGAIN = """[blind.sandbox]
read = [".env.test"]

[secrets]
FOLDER = { provider = "file", ref = "./config/secret.txt", hosts = ["api.example.com"] }
CERTIFICATE = { provider = "file", ref = "./client.pem", expose = true }
SCRIPT = { provider = "exec", ref = "./scripts/token.sh", hosts = ["api.example.com"] }
"""
SIBLING = "import sys; print('ready', flush=True); held = open(sys.argv[1]); sys.stdin.read()"


class Site:
    def __init__(self, base, mode, order):
        self.mark = "m" + secrets.token_hex(6)
        self.order = order
        self.root = os.path.join(base, mode)
        self.home, self.project = os.path.join(self.root, "home"), os.path.join(self.root, "home", "project")
        self.hidden = {}
        self.late = []
        self.record = os.path.join(base, "record")
        self.fill_home()
        self.fill_project(os.path.join(base, "keyzero"))
        self.sockets = self.place_sockets()
        self.inherited = self.plant(os.path.join(self.home, ".inherited"), "inherited")
        self.held = self.plant(os.path.join(self.home, ".held", "secret"), "held")
        self.dev_shm = self.plant(f"/dev/shm/kz-attack-{self.mark}", "devshm")
        self.shm_key = self.shared_memory()

    def value(self, kind):
        return f"CANARY-{kind}-{secrets.token_hex(12)}"

    def plant(self, path, kind):
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        with open(path, "w") as file:
            # Settings that hold a login among others: the program may get them without.
            file.write(AROUND.get(os.path.basename(path), "{}").format(self.value(kind)))
        os.chmod(path, 0o600)
        return path

    def fill_home(self):
        os.makedirs(self.home, 0o700)
        for name, path in HOME.items():
            self.hidden[name] = self.plant(os.path.join(self.home, path), "file")
        self.hidden["credentials where a variable says they are"] = self.plant(os.path.join(self.root, "elsewhere", "aws"), "file")
        for name, real, link in LINKED:
            self.hidden[name] = self.plant(os.path.join(self.home, real), "file")
            source = real if link.count("/") == 0 and real.count("/") == 1 else os.path.dirname(real)
            os.symlink(os.path.join(self.home, source), os.path.join(self.home, link))
        for name in (".bashrc", ".profile", ".gitconfig"):
            open(os.path.join(self.home, name), "w").close()

    def fill_project(self, keyzero):
        for path in ("hooks", "objects", "refs/heads"):
            os.makedirs(os.path.join(self.project, ".git", path))
        for name, path in PROJECT.items():
            self.hidden[name] = self.plant(os.path.join(self.project, path), "secret" if path == "secret.txt" else "file")
        with open(os.path.join(self.project, ".keyzero.toml"), "w") as file:
            file.write(CONFIG)
        for path, text in ((".git/HEAD", "ref: refs/heads/main\n"), (".git/config", "[core]\n")):
            with open(os.path.join(self.project, path), "w") as file:
                file.write(text)
        # Where `npm install keyzero` puts it: within what the program may write.
        shutil.copytree(keyzero, os.path.join(self.project, "node_modules", "keyzero"))
        self.kz = os.path.join(self.project, "node_modules", "keyzero", "bin", "kz.cjs")

    def allow_everything(self):
        with open(os.path.join(self.project, ".keyzero.toml"), "w") as file:
            file.write(CONFIG.split("[[blind.connections]]")[0])

    def prepare_again(self):
        """For attacks that need two starts: what such a config and such a home have."""
        os.makedirs(os.path.join(self.home, ".yarn", "berry", "cache"))
        self.plant(os.path.join(self.project, "config", "secret.txt"), "again")
        harmless = ((".env.test", "HARMLESS=1\n", 0o600), ("client.pem", "no key at all\n", 0o600))
        for path, text, mode in (*harmless, ("scripts/token.sh", "#!/bin/sh\necho harmless for tests\n", 0o700)):
            full = os.path.join(self.project, path)
            os.makedirs(os.path.dirname(full), exist_ok=True)
            with open(full, "w") as file:
                file.write(text)
            os.chmod(full, mode)
        with open(os.path.join(self.project, ".keyzero.toml"), "w") as file:
            file.write(CONFIG.replace("[secrets]\n", AGAIN))

    def place_sockets(self):
        at = {
            "the home folder": os.path.join(self.home, ".agent.sock"),
            "a folder with a space in its name": os.path.join(self.home, "my agents", "dev agent.sock"),
            "the temp folder": f"/tmp/kz-{self.mark}/dev.sock",
            "the project folder": os.path.join(self.project, "dev.sock"),
            "the agents' folder of GnuPG": os.path.join(self.home, ".gnupg", "S.gpg-agent"),
            "the runtime folder": os.path.join(self.root, "run", "agent.sock"),
            "a folder of no known program": os.path.join(self.root, "daemon", "control.sock"),
            "the session bus": os.path.join(self.root, "run", "bus"),
            "an SSH agent": f"/tmp/ssh-{self.mark}/agent.1",
            "the Docker daemon": os.path.join(self.home, ".docker", "run", "docker.sock"),
        }
        for path in at.values():
            os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        return at

    def shared_memory(self):
        key = secrets.randbits(31)
        identifier = call("shmget", key, 4096, 0o1600)
        libc.shmat.restype = ctypes.c_void_p
        libc.shmat.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_int]
        value = self.value("shm").encode()
        ctypes.memmove(libc.shmat(identifier, None, 0), value, len(value))
        return key

    def environment(self):
        return {
            "PATH": self.order["path"],
            "HOME": self.home,
            "LANG": "C.UTF-8",
            "REAL": self.value("environment"),
            "XDG_RUNTIME_DIR": os.path.join(self.root, "run"),
            "AWS_SHARED_CREDENTIALS_FILE": self.hidden["credentials where a variable says they are"],
            "SSH_AUTH_SOCK": self.sockets["an SSH agent"],
            "DBUS_SESSION_BUS_ADDRESS": "unix:path=" + self.sockets["the session bus"],
            "DOCKER_HOST": "unix://" + self.sockets["the Docker daemon"],
        }

    def start_services(self):
        """The user's own servers: on loopback, on Unix sockets. And the sibling."""
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            loop = servers.Loop(servers.Record(self.record))
            servers.internet(loop, socket.AF_INET, "0.0.0.0")
            servers.internet(loop, socket.AF_INET6, "::")
            servers.names(loop, "127.0.0.53")
            servers.unix(loop, self.sockets.values())
            servers.abstract(loop, self.mark)
            os.write(writer, b"ready")
            loop.run()
        os.close(writer)
        if os.read(reader, 5) != b"ready":
            raise RuntimeError("the services did not start")
        os.close(reader)
        self.services = pid
        sibling = [sys.executable, "-I", "-B", "-c", SIBLING, self.held, "kz-attack-sibling"]
        environment = {"PATH": self.order["path"], "SIBLING": self.value("sibling")}
        self.sibling = subprocess.Popen(sibling, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.sibling.stdout.readline()

    def serve(self, path):
        """A program of the user that starts, or starts again, while kz runs."""
        reader, writer = os.pipe()
        self.late.append(os.fork())
        if self.late[-1] == 0:
            loop = servers.Loop(servers.Record(self.record))
            servers.unix(loop, [path])
            os.write(writer, b"1")
            loop.run()
        os.close(writer)
        os.read(reader, 1)
        os.close(reader)

    def stop_services(self):
        for pid in self.late:
            os.kill(pid, 9)
            os.waitpid(pid, 0)
        os.kill(self.services, 9)
        os.waitpid(self.services, 0)
        self.sibling.kill()
        self.sibling.wait()

    def handles(self):
        """The numbers that the disk knows the files by, as an attacker would guess them."""
        found = {}
        for path in (self.hidden[name] for name in KINDS.values()):
            handle, mount = ctypes.create_string_buffer(136), ctypes.c_int()
            ctypes.c_uint.from_buffer(handle).value = 128
            try:
                call("name_to_handle_at", -100, path.encode(), handle, ctypes.byref(mount), 0)
                found[path] = handle.raw[:8 + ctypes.c_uint.from_buffer(handle).value].hex()
            except OSError:
                continue
        return found

    def has_written(self, what, names):
        """Is the mark of this attack in a file of the host that has one of the names?"""
        wanted = f"{self.mark}|{what}\n".encode()
        for folder, _, files in os.walk(self.root):
            for name in files:
                path = os.path.join(folder, name)
                if name in names and os.path.isfile(path) and wanted in open(path, "rb").read():
                    return path
        return None
