"""IPv6 of containers: their addresses, the inside of a namespace, and whether this machine can.

    container 10.64.8.5    fdxx:xxxx:xxxx::10.64.8.5      fdxx:xxxx:xxxx::/64 is the cluster's own
    node 10.64.8.0/21      fdxx:xxxx:xxxx::10.64.8.0/117  prefix (RFC 4193)

An address of version 6 is worked out from that of version 4 (`twin`), so who has the one has the
other: nothing more is chosen, claimed or remembered, and one path means both.

Nobody asks who has an address (RFC 4861): both ends of a container's link have permanent entries
for each other, whose hardware addresses are worked out from names.  So the bridge need not let any
neighbour or router message pass, and lets none pass.  Containers have no link-local address.

The inside is configured by rtnetlink(7) messages in one write, in the thread that is in the
namespace: the ioctls that do it for version 4 know no neighbours of version 6.

A machine forwards version 6 either by link (`force_forwarding`, Linux 6.17) or as a whole
(`all/forwarding`).  The latter makes a router of it, which no longer listens to routers
(`accept_ra`): that is its owner's to decide, so without the former it must be on already.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from dataclasses import dataclass
from pathlib import Path

from paas.real.kernel_namespaces import NEW_NETWORK, enter
from paas.real.kernel_rtnetlink import attribute, message, send

SETTINGS = Path("/proc/sys/net/ipv6/conf")
_INSIDE = "eth0"

_NEW_ADDRESS, _NEW_ROUTE, _NEW_NEIGHBOUR = 20, 24, 28  # RTM_NEW…
_ADDRESS_FLAGS = 0x02 | 0x200  # IFA_F_NODAD, _NOPREFIXROUTE
_PERMANENT = 0x80  # NUD_PERMANENT
_MAIN_TABLE, _STATIC, _UNICAST = 254, 4, 1

_QUIET = (
    ("addr_gen_mode", "1"),  # no link-local address
    ("accept_ra", "0"),
    ("autoconf", "0"),
    ("router_solicitations", "0"),
    ("accept_redirects", "0"),
)


@dataclass(frozen=True, slots=True)
class Inside6:
    """What the inside of one container's network is to be."""

    address: str
    gateway: str
    hardware: str
    """Of the gateway."""
    networks: tuple[str, ...]
    """Where its ways lead to."""


def lacking(settings: Path = SETTINGS) -> str:
    """Why containers cannot have IPv6 on this machine; empty: they can."""
    if not settings.is_dir():
        return "the kernel has no IPv6"
    if _read(settings / "all/disable_ipv6") == "1":
        return "IPv6 is switched off on this machine (net.ipv6.conf.all.disable_ipv6)"
    if not _by_link(settings) and _read(settings / "all/forwarding") != "1":
        return "this machine does not forward IPv6 (net.ipv6.conf.all.forwarding)"
    return ""


def forwards(link: str) -> bool:
    """Are packets forwarded that come in by this link?"""
    everywhere = _read(SETTINGS / "all/forwarding") == "1"
    return everywhere or _read(SETTINGS / link / "force_forwarding") == "1"


def set_forwarding(link: str, *, on: bool) -> None:
    """Where the kernel decides by link; elsewhere the machine forwards already, or nothing does."""
    if _by_link(SETTINGS):
        with contextlib.suppress(FileNotFoundError):  # the link went
            (SETTINGS / link / "force_forwarding").write_text(str(int(on)))


def quieten(link: str) -> None:
    """A link of ours (or `default`) that has the addresses it is given, and hears no router."""
    for name, value in (*_QUIET, ("disable_ipv6", "0")):
        with contextlib.suppress(FileNotFoundError):
            (SETTINGS / link / name).write_text(value)


def prepare_inside() -> None:
    """In a new namespace, before it has a link."""
    (SETTINGS / "all/accept_redirects").write_text("0")
    quieten("default")
    (SETTINGS / "all/disable_ipv6").write_text("0")


def configure(inside: Inside6) -> None:
    """In the namespace: its address, its neighbour and the ways through it."""
    index = socket.if_nametoindex(_INSIDE)
    gateway = _packed(inside.gateway)
    messages = [
        _address(index, inside.address),
        _neighbour(index, gateway, bytes.fromhex(inside.hardware.replace(":", ""))),
        _route(index, gateway, 128, None),
    ]
    for network in inside.networks:
        base, _, length = network.partition("/")
        messages.append(_route(index, _packed(base), int(length), gateway))
    send(messages)


def add_default_route(namespace_fd: int, gateway: str) -> None:
    """The world begins behind the gateway; what of it can be reached, the packet filter says."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        enter(namespace_fd, NEW_NETWORK)
        try:
            send([_route(socket.if_nametoindex(_INSIDE), b"", 0, _packed(gateway))])
        finally:
            enter(home, NEW_NETWORK)
    finally:
        os.close(home)


def _by_link(settings: Path) -> bool:
    return (settings / "all/force_forwarding").exists()


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


# -- messages ----------------------------------------------------------------------------------


def _packed(address: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6, address)


def _address(index: int, address: str) -> bytes:
    """struct ifaddrmsg; IFA_LOCAL, IFA_ADDRESS, IFA_FLAGS."""
    head = struct.pack("=BBBBI", socket.AF_INET6, 128, 0, 0, index)
    own = _packed(address)
    flags = struct.pack("=I", _ADDRESS_FLAGS)
    return message(_NEW_ADDRESS, head + attribute(2, own) + attribute(1, own) + attribute(8, flags))


def _neighbour(index: int, address: bytes, hardware: bytes) -> bytes:
    """struct ndmsg; NDA_DST, NDA_LLADDR."""
    head = struct.pack("=BBHiHBB", socket.AF_INET6, 0, 0, index, _PERMANENT, 0, 0)
    return message(_NEW_NEIGHBOUR, head + attribute(1, address) + attribute(2, hardware))


def _route(index: int, target: bytes, length: int, gateway: bytes | None) -> bytes:
    """struct rtmsg; RTA_DST, RTA_GATEWAY, RTA_OIF."""
    family = socket.AF_INET6
    head = struct.pack("=8BI", family, length, 0, 0, _MAIN_TABLE, _STATIC, 0, _UNICAST, 0)
    body = head + (attribute(1, target) if length else b"")
    body += attribute(5, gateway) if gateway else b""
    return message(_NEW_ROUTE, body + attribute(4, struct.pack("=i", index)))
