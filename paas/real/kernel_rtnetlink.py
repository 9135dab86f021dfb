"""Messages of rtnetlink(7) made by hand, for a thread that is in another network namespace, and for
what pyroute2 has no name of: how long a packet may be on a link that has no wire.

A packet of TCP that never leaves the machine need not have the length that a wire allows.  With
180,000 bytes instead of 65,536 there are fewer of them, so what each costs on its way through
bridge, routes and packet filter weighs less (IPv4 "BIG TCP", Linux 6.3: netdev.bots.linux.dev and
docs.kernel.org, `gso_ipv4_max_size`).  Where a packet leaves by a link that takes less, the kernel
cuts it; older kernels leave it as it was.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator

LONGEST_PACKET_BYTES = 180_000

_SET_LINK = 19  # RTM_SETLINK
_LONGEST_SENT, _LONGEST_JOINED = 63, 64  # IFLA_GSO_IPV4_MAX_SIZE, IFLA_GRO_IPV4_MAX_SIZE
_FLAGS = 0x1 | 0x4 | 0x100 | 0x400  # NLM_F_REQUEST, _ACK, _REPLACE, _CREATE
_ERROR = 2  # NLMSG_ERROR
_ANSWER_S = 10.0  # the kernel has answered when `send` returns


def lengthen_packets(link: str) -> None:
    """Let packets of this link be as long as its far end, which is on this machine, takes them."""
    head = struct.pack("=BxHiII", socket.AF_UNSPEC, 0, socket.if_nametoindex(link), 0, 0)
    size = struct.pack("=I", LONGEST_PACKET_BYTES)
    send(
        [
            message(
                _SET_LINK, head + attribute(_LONGEST_SENT, size) + attribute(_LONGEST_JOINED, size)
            )
        ]
    )


def attribute(kind: int, value: bytes) -> bytes:
    """struct rtattr, and its value filled up to four bytes."""
    return struct.pack("=HH", 4 + len(value), kind) + value + b"\0" * (-len(value) % 4)


def message(kind: int, body: bytes) -> bytes:
    """struct nlmsghdr before it."""
    return struct.pack("=IHHII", 16 + len(body), kind, _FLAGS, 0, 0) + body


def send(messages: list[bytes]) -> None:
    """Carry these out, in order; raises OSError for the first that the kernel refuses."""
    kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC
    with socket.socket(socket.AF_NETLINK, kind, socket.NETLINK_ROUTE) as route:
        route.bind((0, 0))
        route.settimeout(_ANSWER_S)
        route.send(b"".join(messages))
        refused, missing = 0, len(messages)
        while missing > 0:
            for error in _answers(route.recv(1 << 16)):
                missing -= 1
                refused = refused or error
    if refused:
        raise OSError(refused, os.strerror(refused))


def _answers(data: bytes) -> Iterator[int]:
    """The error numbers of the acknowledgements in here; 0: done."""
    at = 0
    while at + 16 <= len(data):
        length, kind = struct.unpack_from("=IH", data, at)
        if kind == _ERROR:
            yield -struct.unpack_from("=i", data, at + 16)[0]
        at += max(16, (length + 3) & ~3)
