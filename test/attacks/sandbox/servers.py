# The world's servers, and its record of what arrived. Each program here runs until it is killed with its namespace.
import os
import re
import selectors
import socket
import struct

ANSWER = b"WORLD-REACHED "
PORTS = (80, 443, 8080)
MARK = re.compile(rb"(m[0-9a-f]{12})\|([^|]{1,90})\|")
NAME = re.compile(rb"(m[0-9a-f]{12})")


class Record:
    """What arrived, one line each, in a file that every server appends to."""

    def __init__(self, path):
        self.file = os.open(path, os.O_WRONLY | os.O_APPEND)

    def packet(self, data):
        for mark, name in set(MARK.findall(data)):
            self.line(mark, name.replace(b"_", b" "))

    def line(self, mark, what):
        os.write(self.file, mark + b"|" + what + b"\n")


class Loop:
    def __init__(self, record):
        self.selector = selectors.DefaultSelector()
        self.record = record

    def on(self, sock, function):
        self.selector.register(sock, selectors.EVENT_READ, function)

    def run(self):
        while True:
            for key, _ in self.selector.select():
                try:
                    key.data(key.fileobj)
                except OSError:
                    # A peer that left ends its connection; a server goes on.
                    if key.fileobj.type == socket.SOCK_STREAM and key.data in (self.echo_stream, self.dns_stream):
                        self.leave(key.fileobj)

    def leave(self, sock):
        try:
            self.selector.unregister(sock)
        except (KeyError, ValueError):
            pass
        sock.close()

    def echo_stream(self, sock):
        data = sock.recv(65536)
        if not data:
            return self.leave(sock)
        self.record.packet(data)
        body = ANSWER + data
        return sock.sendall(body if not data.startswith(b"GET ") else b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)

    def echo_datagram(self, sock):
        data, sender = sock.recvfrom(65536)
        self.record.packet(data)
        if sender:
            sock.sendto(ANSWER + data, sender)

    def listen(self, sock, function=None):
        sock.listen(64)
        self.on(sock, lambda server: self.on(server.accept()[0], function or self.echo_stream))

    def dns_datagram(self, sock):
        data, sender = sock.recvfrom(4096)
        sock.sendto(self.answer(data), sender)

    def dns_stream(self, sock):
        data = sock.recv(4096)
        if not data:
            return self.leave(sock)
        answer = self.answer(data[2:])
        return sock.sendall(struct.pack("!H", len(answer)) + answer)

    def answer(self, query):
        """Records every name that it is asked for, and has the same address for all of them."""
        labels, at = [], 12
        while query[at]:
            labels.append(query[at + 1:at + 1 + query[at]])
            at += 1 + query[at]
        found = NAME.search(b".".join(labels).lower())
        if found:
            self.record.line(found.group(1), b"dns " + re.split(rb"[.-]m[0-9a-f]{12}", b".".join(labels).lower())[0])
        question = query[12:at + 5]
        kind = struct.unpack("!H", query[at + 1:at + 3])[0]
        data = {1: b"\xc6\x33\x64\x63", 16: b"\x04\xc6\x33\x64\x63"}.get(kind)
        record = b"" if data is None else b"\xc0\x0c" + struct.pack("!HHIH", kind, 1, 1, len(data)) + data
        return query[:2] + struct.pack("!HHHHH", 0x8180, 1, int(data is not None), 0, 0) + question + record


def bound(family, kind, address, protocol=0):
    sock = socket.socket(family, kind, protocol)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    sock.bind(address)
    return sock


def internet(loop, family, host):
    """Echo over TCP and UDP at every address of this namespace."""
    for port in PORTS:
        server = bound(family, socket.SOCK_STREAM, (host, port))
        server.setsockopt(socket.IPPROTO_TCP, socket.TCP_FASTOPEN, 16)
        loop.listen(server)
    loop.on(bound(family, socket.SOCK_DGRAM, (host, 8080)), loop.echo_datagram)


def optional(loop):
    """What not every kernel has."""
    try:
        loop.listen(bound(socket.AF_INET, socket.SOCK_STREAM, ("0.0.0.0", 8080), 132))
    except OSError:
        pass
    try:
        loop.on(bound(socket.AF_INET, socket.SOCK_DGRAM, ("0.0.0.0", 8081), 136), loop.echo_datagram)
    except OSError:
        pass


def names(loop, host):
    loop.on(bound(socket.AF_INET, socket.SOCK_DGRAM, (host, 53)), loop.dns_datagram)
    loop.listen(bound(socket.AF_INET, socket.SOCK_STREAM, (host, 53)), loop.dns_stream)


def watch(loop):
    """Every packet of this namespace that carries a mark is on record, whether somebody answers it or not."""
    sniffer = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    loop.on(sniffer, lambda sock: loop.record.packet(sock.recv(65536)))


def unix(loop, paths):
    for path in paths:
        if os.path.exists(path):
            os.unlink(path)
        server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        server.bind(path)
        os.chmod(path, 0o777)
        loop.listen(server)


def abstract(loop, name):
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    server.bind("\0" + name)
    loop.listen(server)
    datagrams = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    datagrams.bind("\0" + name + "-datagram")
    loop.on(datagrams, loop.echo_datagram)
