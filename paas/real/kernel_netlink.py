"""Links of the host: the node's bridge and one pair of links per container; the only netlink code.

One object belongs to one thread (its socket is used again and again).  The bridge is a router for
the containers, not a switch: each port is isolated, so every packet from one container to another
goes up to the host's packet filter and down again.

A request is one netlink message, written and answered at once (rtnetlink(7), linux/if_link.h):

    length, type, flags, sequence, 0 │ fixed part of the type │ attributes: length, type, value, pad

The kernel's answer is an acknowledgement with an errno, or links; a list of links ends with DONE
and is asked for again when the kernel says that it changed meanwhile.  The few messages needed here
are written by hand: a whole netlink library costs every start of the container controller a quarter
of a second, and it 11 MiB for as long as it lives.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
from collections.abc import Iterator

from paas.real.kernel_netns import INSIDE, configure_bridge

_NEW_LINK, _DEL_LINK, _GET_LINK, _SET_LINK, _NEW_ADDRESS = 16, 17, 18, 19, 20
_ERROR, _DONE = 2, 3
_REQUEST, _ACKNOWLEDGE, _EXCLUSIVE, _CREATE, _DUMP = 0x1, 0x4, 0x200, 0x400, 0x300
_DUMP_INTERRUPTED = 0x10

_IFLA_IFNAME, _IFLA_MASTER, _IFLA_PROTINFO, _IFLA_LINKINFO = 3, 10, 12, 18
_IFLA_NET_NS_FD = 28
_IFLA_INFO_KIND, _IFLA_INFO_DATA = 1, 2
_VETH_INFO_PEER = 1
_IFLA_BRPORT_ISOLATED = 33
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_NESTED = 0x8000
_AF_BRIDGE = 7
_IFF_UP = 1

_HEADER = struct.Struct("=IHHII")
_LINK = struct.Struct("=BxHiII")
"""struct ifinfomsg: family, type, index, flags, which flags to change."""

_ADDRESS = struct.Struct("=BBBBI")
"""struct ifaddrmsg: family, length of the prefix, flags, scope, index of the link."""

_ANSWER_BYTES_MAX = 1 << 16
_TRIES = 10


class Links:
    """The bridge `bridge` and the links whose names begin with `prefix`."""

    def __init__(self, bridge: str, prefix: str) -> None:
        self._socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE
        )
        self._socket.bind((0, 0))
        self._sequence = 0
        self._bridge = bridge
        self._prefix = prefix
        self._bridge_index = 0

    def close(self) -> None:
        self._socket.close()

    def open_bridge(self, address: str, prefix_length: int) -> None:
        """Make the bridge with its address if it is not there."""
        kind = _attribute(_IFLA_INFO_KIND, b"bridge")
        with _accepting(errno.EEXIST):
            self._change(
                _NEW_LINK,
                _link() + _name(self._bridge) + _attribute(_IFLA_LINKINFO | _NESTED, kind),
                _CREATE | _EXCLUSIVE,
            )
        self._bridge_index = index = socket.if_nametoindex(self._bridge)
        number = socket.inet_aton(address)
        with _accepting(errno.EEXIST):
            self._change(
                _NEW_ADDRESS,
                _ADDRESS.pack(socket.AF_INET, prefix_length, 0, 0, index)
                + _attribute(_IFA_LOCAL, number)
                + _attribute(_IFA_ADDRESS, number),
                _CREATE | _EXCLUSIVE,
            )
        configure_bridge(self._bridge)
        self._change(_NEW_LINK, _link(index=index, flags=_IFF_UP))

    def close_bridge(self) -> None:
        self._delete(self._bridge)

    def connect(self, name: str, namespace_fd: int) -> None:
        """A pair of links: `name` as an isolated port of the bridge, INSIDE in the namespace."""
        namespace = _attribute(_IFLA_NET_NS_FD, struct.pack("=i", namespace_fd))
        peer = _attribute(_VETH_INFO_PEER | _NESTED, _link() + _name(INSIDE) + namespace)
        kind = _attribute(_IFLA_INFO_KIND, b"veth") + _attribute(_IFLA_INFO_DATA | _NESTED, peer)
        self._change(
            _NEW_LINK,
            _link(flags=_IFF_UP)
            + _name(name)
            + _attribute(_IFLA_MASTER, struct.pack("=I", self._bridge_index))
            + _attribute(_IFLA_LINKINFO | _NESTED, kind),
            _CREATE | _EXCLUSIVE,
        )
        index = socket.if_nametoindex(name)
        isolated = _attribute(_IFLA_BRPORT_ISOLATED, b"\1")
        self._change(
            _SET_LINK,
            _link(family=_AF_BRIDGE, index=index) + _attribute(_IFLA_PROTINFO | _NESTED, isolated),
        )

    def disconnect(self, name: str) -> None:
        """Remove a pair; a pair that is gone is no error."""
        self._delete(name)

    def names(self) -> set[str]:
        """Links with our prefix."""
        for _ in range(_TRIES):
            found = self._list()
            if found is not None:
                return {name for name in found if name.startswith(self._prefix)}
        raise OSError(errno.EAGAIN, "the list of links does not come to rest")

    # -- messages --------------------------------------------------------------------------------

    def _delete(self, name: str) -> None:
        with _accepting(errno.ENODEV):
            self._change(_DEL_LINK, _link() + _name(name))

    def _change(self, kind: int, body: bytes, flags: int = 0) -> None:
        """A request that is acknowledged; raises OSError with what the kernel says."""
        self._send(kind, body, flags | _ACKNOWLEDGE)
        for answer, _, content in self._answers():
            if answer == _ERROR:
                (number,) = struct.unpack_from("=i", content)
                if number:
                    raise OSError(-number, os.strerror(-number))
                return

    def _list(self) -> list[str] | None:
        """The names of all links; None when the list changed while it was read."""
        self._send(_GET_LINK, _link(), _DUMP)
        names: list[str] = []
        whole = True
        for answer, flags, content in self._answers():
            whole &= not flags & _DUMP_INTERRUPTED
            if answer == _NEW_LINK:
                names += _names_in(content[_LINK.size :])
            elif answer == _ERROR:
                (number,) = struct.unpack_from("=i", content)
                raise OSError(-number, os.strerror(-number))
            elif answer == _DONE:
                break
        return names if whole else None

    def _send(self, kind: int, body: bytes, flags: int) -> None:
        self._sequence = self._sequence % 0xFFFF_FFFF + 1
        length = _HEADER.size + len(body)
        self._socket.send(_HEADER.pack(length, kind, flags | _REQUEST, self._sequence, 0) + body)

    def _answers(self) -> Iterator[tuple[int, int, bytes]]:
        """(type, flags, content) of what answers the last request; the caller knows the last."""
        while True:
            data, (sender, _) = self._socket.recvfrom(_ANSWER_BYTES_MAX)
            at = 0
            while sender == 0 and at + _HEADER.size <= len(data):
                length, kind, flags, sequence, _ = _HEADER.unpack_from(data, at)
                if sequence == self._sequence:
                    yield kind, flags, data[at + _HEADER.size : at + length]
                at += max(_aligned(length), _HEADER.size)


def _link(*, family: int = 0, index: int = 0, flags: int = 0) -> bytes:
    """The fixed part of a message about a link; `flags` are switched on."""
    return _LINK.pack(family, 0, index, flags, flags)


def _name(name: str) -> bytes:
    return _attribute(_IFLA_IFNAME, name.encode() + b"\0")


def _attribute(kind: int, value: bytes) -> bytes:
    length = 4 + len(value)
    return struct.pack("=HH", length, kind) + value + bytes(_aligned(length) - length)


def _names_in(attributes: bytes) -> Iterator[str]:
    at = 0
    while at + 4 <= len(attributes):
        length, kind = struct.unpack_from("=HH", attributes, at)
        if kind == _IFLA_IFNAME:
            yield attributes[at + 4 : at + length].rstrip(b"\0").decode()
        at += max(_aligned(length), 4)


def _aligned(length: int) -> int:
    return (length + 3) & ~3


@contextlib.contextmanager
def _accepting(number: int) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        if exc.errno != number:
            raise
