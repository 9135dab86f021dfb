"""Network namespaces held by a descriptor, and their inside configured without entering for long.

`make` runs in a thread of its own: namespaces belong to threads, and a thread that has been in
another namespace comes back before it returns.  What it configures is the whole inside of a
container's network: loopback, one address, routes to the other containers, of this node and of
others, by way of the node's bridge, no redirects; the same for IPv6 (kernel_netns6.py), or none.
There is no default route unless the manifest speaks of the world: what was not granted does not
even have a path.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import socket
import struct
from collections.abc import Callable, Iterable
from pathlib import Path

from paas.real import kernel_netns6
from paas.real.kernel_namespaces import NEW_NETWORK, enter, unshare
from paas.real.kernel_netns6 import Inside6
from paas.real.kernel_rtnetlink import lengthen_packets

INSIDE = "eth0"
_ONE_HOST = "255.255.255.255"

_SIOCADDRT = 0x890B
_SIOCGIFFLAGS = 0x8913
_SIOCSIFFLAGS = 0x8914
_SIOCSIFADDR = 0x8916
_SIOCSIFNETMASK = 0x891C
_IFF_UP = 1
_RTF_UP, _RTF_GATEWAY, _RTF_HOST = 1, 2, 4
_SYSTEM = Path("/proc/sys/net")
_NO_IPV6 = (
    ("ipv6/conf/all/disable_ipv6", "1"),
    ("ipv6/conf/default/disable_ipv6", "1"),
)
_INSIDE_SETTINGS = (
    ("ipv4/conf/all/accept_redirects", "0"),
    ("ipv4/conf/default/accept_redirects", "0"),
)


def make(
    plug: Callable[[int], None],
    address: str,
    gateway: str,
    networks: Iterable[str],
    inside6: Inside6 | None = None,
) -> int:
    """A new namespace as a descriptor.

    `plug` is called with the descriptor, outside, and puts the link named INSIDE into it; then the
    inside is configured.
    """
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    fd = -1
    try:
        unshare(NEW_NETWORK)
        try:
            fd = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            _write_settings(_INSIDE_SETTINGS)
            if inside6 is None:
                _write_settings(_NO_IPV6)
            else:
                kernel_netns6.prepare_inside()
        finally:
            enter(home, NEW_NETWORK)
        plug(fd)
        enter(fd, NEW_NETWORK)
        try:
            _configure(address, gateway, networks)
            lengthen_packets(INSIDE)
            if inside6 is not None:
                kernel_netns6.configure(inside6)
        finally:
            enter(home, NEW_NETWORK)
    except BaseException:
        if fd >= 0:
            os.close(fd)
        raise
    finally:
        os.close(home)
    return fd


def add_default_route(namespace_fd: int, gateway: str) -> None:
    """The world begins behind the gateway; what of it can be reached, the packet filter says."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        enter(namespace_fd, NEW_NETWORK)
        try:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
                _add_route(control, "0.0.0.0", "0.0.0.0", gateway)
        finally:
            enter(home, NEW_NETWORK)
    finally:
        os.close(home)


def _write_settings(settings: tuple[tuple[str, str], ...]) -> None:
    for name, value in settings:
        with contextlib.suppress(FileNotFoundError):  # a kernel without IPv6
            (_SYSTEM / name).write_text(value)


def configure_bridge(bridge: str, *, ipv6: bool) -> None:
    """Packets between containers pass the node's packet filter: forward on this link only."""
    for name, value in (("forwarding", "1"), ("send_redirects", "0"), ("proxy_arp", "0")):
        (_SYSTEM / "ipv4/conf" / bridge / name).write_text(value)
    if ipv6:
        kernel_netns6.quieten(bridge)
        kernel_netns6.set_forwarding(bridge, on=True)
    else:
        without_ipv6(bridge)


def without_ipv6(link: str) -> None:
    with contextlib.suppress(FileNotFoundError):  # a kernel without IPv6
        (_SYSTEM / "ipv6/conf" / link / "disable_ipv6").write_text("1")


def configure_machine(address: str, prefix_length: int) -> None:
    """The inside of a machine of a development cluster: loopback and one address on its link.

    Called in the machine's namespace.  There is no default route: it reaches the other machines.
    """
    _write_settings(_NO_IPV6)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        _set_up(control, "lo")
        fcntl.ioctl(control, _SIOCSIFADDR, _interface_request(INSIDE, _address(address)))
        mask = _interface_request(INSIDE, _address(_mask(prefix_length)))
        fcntl.ioctl(control, _SIOCSIFNETMASK, mask)
        _set_up(control, INSIDE)


def _configure(address: str, gateway: str, networks: Iterable[str]) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        _set_up(control, "lo")
        fcntl.ioctl(control, _SIOCSIFADDR, _interface_request(INSIDE, _address(address)))
        _set_up(control, INSIDE)
        mask = _interface_request(INSIDE, _address(_ONE_HOST))
        fcntl.ioctl(control, _SIOCSIFNETMASK, mask)
        _add_route(control, gateway, _ONE_HOST, None)
        for network in networks:
            base, _, bits = network.partition("/")
            _add_route(control, base, _mask(int(bits)), gateway)


def _mask(prefix_length: int) -> str:
    number = (0xFFFFFFFF << (32 - prefix_length)) & 0xFFFFFFFF
    return socket.inet_ntoa(struct.pack("!I", number))


def _address(text: str) -> bytes:
    """A struct sockaddr_in without a port."""
    return struct.pack("=HH4s8x", socket.AF_INET, 0, socket.inet_aton(text))


def _interface_request(name: str, payload: bytes) -> bytes:
    return struct.pack("=16s24s", name.encode(), payload)


def _set_up(control: socket.socket, name: str) -> None:
    answer = fcntl.ioctl(control, _SIOCGIFFLAGS, _interface_request(name, b""))
    flags = struct.unpack_from("=H", answer, 16)[0] | _IFF_UP
    fcntl.ioctl(control, _SIOCSIFFLAGS, _interface_request(name, struct.pack("=H", flags)))


class _RouteEntry(ctypes.Structure):
    """struct rtentry of the C library."""

    _fields_ = (
        ("pad1", ctypes.c_ulong),
        ("target", ctypes.c_char * 16),
        ("gateway", ctypes.c_char * 16),
        ("mask", ctypes.c_char * 16),
        ("flags", ctypes.c_ushort),
        ("pad2", ctypes.c_short),
        ("pad3", ctypes.c_ulong),
        ("pad4", ctypes.c_void_p),
        ("metric", ctypes.c_short),
        ("device", ctypes.c_char_p),
        ("mtu", ctypes.c_ulong),
        ("window", ctypes.c_ulong),
        ("irtt", ctypes.c_ushort),
    )


def _add_route(control: socket.socket, target: str, mask: str, gateway: str | None) -> None:
    """One route; a gateway of our own network is reached through INSIDE."""
    flags = _RTF_UP | (_RTF_GATEWAY if gateway else 0)
    flags |= _RTF_HOST if mask == _ONE_HOST else 0
    entry = _RouteEntry(flags=flags, device=INSIDE.encode())
    for field, text in (("target", target), ("gateway", gateway or "0.0.0.0"), ("mask", mask)):
        offset = getattr(_RouteEntry, field).offset
        ctypes.memmove(ctypes.addressof(entry) + offset, _address(text), 16)
    fcntl.ioctl(control, _SIOCADDRT, entry)
