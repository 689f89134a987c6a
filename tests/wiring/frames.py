"""Frames made by hand: sent from one guest, looked for at another."""

from __future__ import annotations

import ctypes
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests.wiring.conftest import Guest
from tools.companions.network.wiring.namespaces import Namespace

FORGED, LAST = b"polycell-forged", b"polycell-last"
_ALL, _NET = 3, 0x40000000


def packets(namespace: Namespace) -> socket.socket:
    """A socket for whole frames on a guest's link."""
    sock = within(namespace, lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ALL)))
    sock.bind(("eth0", _ALL))
    sock.settimeout(20)
    return sock


def within(namespace: Namespace, make: Callable[[], socket.socket]) -> socket.socket:
    """A socket that is made in the namespace, and stays in it."""
    made: list[socket.socket] = []

    def inside() -> None:
        with namespace.opened() as fd:
            assert ctypes.CDLL(None).setns(fd, _NET) == 0
        made.append(make())

    visitor = threading.Thread(target=inside)
    visitor.start()
    visitor.join()
    return made[0]


@dataclass
class Line:
    """A TCP connection from one guest to another."""

    caller: socket.socket
    served: socket.socket

    def carries(self, seconds: float = 20) -> bool:
        """Whether what the caller sends now arrives."""
        self.caller.send(b".")
        self.served.settimeout(seconds)
        try:
            return bool(self.served.recv(65535))
        except TimeoutError:
            return False


@contextmanager
def connected(caller: Guest, served: Guest, number: int) -> Iterator[Line]:
    """A connection to that port."""
    with within(served.own_namespace.namespace, socket.socket) as door:
        door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        door.bind((served.address, number))
        door.listen()
        door.settimeout(20)
        with within(caller.own_namespace.namespace, socket.socket) as mouth:
            mouth.settimeout(20)
            mouth.connect((served.address, number))
            with door.accept()[0] as ear:
                yield Line(mouth, ear)


def arrives(frame: bytes, sender: Guest, receiver: Guest) -> bool:
    """Whether the frame gets there; a blameless one sent after it always does."""
    last = arp(sender, sender.address, said=LAST)
    with packets(receiver.own_namespace.namespace) as ear, packets(sender.own_namespace.namespace) as mouth:
        mouth.send(frame)
        mouth.send(last)
        seen = False
        while LAST not in (heard := ear.recv(65535)):
            seen |= FORGED in heard
        return seen


def first_byte_of_service(sender: Guest, receiver: Guest) -> int:
    """The field of the first packet that the receiver gets of the sender's pings."""
    with packets(receiver.own_namespace.namespace) as ear:
        sender.run("busybox", "ping", "-c", "1", "-W", "1", receiver.address, check=False)
        while True:
            heard = ear.recv(65535)
            if heard[6:12] == _mac(sender.port["mac_address"]) and heard[12:14] == b"\x08\x00":
                return heard[15]


def _mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def _framed(guest: Guest, kind: int, content: bytes, mac: str | None = None) -> bytes:
    return b"\xff" * 6 + _mac(mac or guest.port["mac_address"]) + struct.pack("!H", kind) + content


def arp(
    guest: Guest, address: str, *, mac: str | None = None, claimed: str | None = None, said: bytes = FORGED
) -> bytes:
    """Says that the address is at `claimed`, sent from `mac`; both the guest's own, unless given."""
    own = _mac(claimed or guest.port["mac_address"])
    head = struct.pack("!HHBBH", 1, 0x800, 6, 4, 2)
    body = head + own + socket.inet_aton(address) + b"\xff" * 6 + socket.inet_aton(address)
    return _framed(guest, 0x806, body + said, mac)


def udp(guest: Guest, source: str, *, sport: int, dport: int) -> bytes:
    """To everybody."""
    content = struct.pack("!HHHH", sport, dport, 8 + len(FORGED), 0) + FORGED
    addresses = socket.inet_aton(source) + b"\xff" * 4
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(content), 0, 0, 64, 17, 0) + addresses
    total = sum(struct.unpack("!10H", head))
    total = (total & 0xFFFF) + (total >> 16)
    head = head[:10] + struct.pack("!H", 0xFFFF - ((total & 0xFFFF) + (total >> 16))) + head[12:]
    return _framed(guest, 0x800, head + content)


def tagged(guest: Guest) -> bytes:
    """In a VLAN of the guest's choosing."""
    plain = arp(guest, guest.address)
    return plain[:12] + struct.pack("!HH", 0x8100, 5) + plain[12:]


def router_advertisement(guest: Guest) -> bytes:
    source = bytes.fromhex("fe80000000000000") + eui(guest)
    body = struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, 1800, 0, 0) + FORGED
    target = bytes.fromhex("ff020000000000000000000000000001")
    return _framed(guest, 0x86DD, struct.pack("!IHBB", 6 << 28, len(body), 58, 255) + source + target + body)


def eui(guest: Guest) -> bytes:
    mac = _mac(guest.port["mac_address"])
    return bytes([mac[0] ^ 2]) + mac[1:3] + b"\xff\xfe" + mac[3:]
