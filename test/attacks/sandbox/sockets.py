# Attacks on the host's Unix sockets: agents, daemons, buses. Their paths are known to whoever attacks; variables only help.
import os
import socket

from attack import MEANWHILE, Blocked, attack, please

ANSWER = b"WORLD-REACHED"


def talk(address, kind=socket.SOCK_STREAM):
    with socket.socket(socket.AF_UNIX, kind) as client:
        client.settimeout(1)
        client.connect(address)
        client.sendall(b"hello")
        answer = client.recv(100)
        if ANSWER not in answer:
            raise Blocked(f"another answer: {answer!r}")
        return answer.decode()


@attack("an abstract Unix socket of the host")
def abstract(facts):
    return talk("\0" + facts["abstract"])


@attack("an abstract Unix socket of the host, for datagrams")
def abstract_datagram(facts):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as client:
        client.settimeout(1)
        client.bind("")
        client.sendto(b"hello", "\0" + facts["abstract"] + "-datagram")
        answer = client.recv(100)
        if ANSWER not in answer:
            raise Blocked(f"another answer: {answer!r}")
        return answer.decode()


for place in (
    "the home folder",
    "a folder with a space in its name",
    "the temp folder",
    "the project folder",
    "the agents' folder of GnuPG",
    "the runtime folder",
    "a folder of no known program",
):
    attack(f"a Unix socket of the host in {place}")(lambda facts, p=place: talk(facts["sockets"][p]))


for place in ("the session bus", "an SSH agent", "the Docker daemon"):
    attack(f"a Unix socket of the host: {place}")(lambda facts, p=place: talk(facts["sockets"][p]))


@attack("a Unix socket of the host through a symbolic link")
def linked(facts):
    link = os.path.join(facts["project"], "link.sock")
    os.symlink(facts["sockets"]["the home folder"], link)
    return talk(link)


@attack("a Unix socket of the host through a hard link")
def hard_linked(facts):
    link = os.path.join(facts["project"], "hard.sock")
    os.link(facts["sockets"]["the project folder"], link)
    return talk(link)


@attack("a Unix socket of the host through /proc/self/root")
def through_root(facts):
    return talk("/proc/self/root" + facts["sockets"]["the home folder"])


@attack("a Unix socket of the host that a process of another network namespace has open")
def other_namespace(facts):
    return talk(facts["sockets"]["another network namespace"])


@attack("a Unix socket of the host that its program has made anew meanwhile", MEANWHILE)
def made_anew(facts):
    please("serve " + facts["sockets"]["the home folder"])
    return talk(facts["sockets"]["the home folder"])


@attack("a Unix socket of the host that was not there when kz started", MEANWHILE)
def late_socket(facts):
    path = os.path.join(os.path.dirname(facts["sockets"]["the home folder"]), ".late.sock")
    please("serve " + path)
    return talk(path)


for variable in ("SSH_AUTH_SOCK", "DBUS_SESSION_BUS_ADDRESS", "DOCKER_HOST"):

    def by_variable(facts, name=variable):
        value = os.environ.get(name)
        if value is None:
            raise Blocked(f"{name} is not set")
        return talk(value.replace("unix:path=", "").replace("unix://", ""))

    attack(f"the socket that {variable} names")(by_variable)
