"""Links of the host: bridges, and pairs of links to containers and machines; the only netlink code.

One object belongs to one thread (its socket is used again and again).  The bridge is a router for
the containers, not a switch: each port is isolated, so every packet from one container to another
goes up to the host's packet filter and down again.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import socket
from collections.abc import Iterator

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from paas.real.kernel_netns import INSIDE, configure_bridge, without_ipv6
from paas.real.kernel_rtnetlink import lengthen_packets

_NO_DETECTION = 0x02  # IFA_F_NODAD: a bridge that nothing is plugged into yet can use its address
_PERMANENT = 0x80  # NUD_PERMANENT


class Links:
    """The bridge `bridge` and the links whose names begin with `prefix`."""

    def __init__(self, bridge: str, prefix: str) -> None:
        self._route = IPRoute()
        self._bridge = bridge
        self._prefix = prefix
        self._bridge_index = 0
        self._long_packets = False

    def close(self) -> None:
        self._route.close()

    def open_bridge(self, address: str, prefix_length: int, address6: str = "") -> None:
        """Make the bridge with its addresses if it is not there; `address6` as `ADDRESS/LENGTH`."""
        found = self._route.link_lookup(ifname=self._bridge)
        if not found:
            with asking():
                address_of_bridge = hardware_address(self._bridge)
                self._route.link(
                    "add", ifname=self._bridge, kind="bridge", address=address_of_bridge
                )
            found = self._route.link_lookup(ifname=self._bridge)
        self._bridge_index = found[0]
        with asking(errno.EEXIST):
            self._route.addr("add", index=found[0], address=address, prefixlen=prefix_length)
        configure_bridge(self._bridge, ipv6=bool(address6))
        self._route.link("set", index=found[0], state="up")
        if address6:
            host, _, length = address6.partition("/")
            with asking(errno.EEXIST):
                self._route.addr(
                    "add", index=found[0], address=host, prefixlen=int(length), flags=_NO_DETECTION
                )

    def move_bridge(self, address: str, prefix_length: int, address6: str = "") -> None:
        """Give the bridge these addresses instead of those that it has."""
        self._route.flush_addr(index=self._bridge_index)
        self.open_bridge(address, prefix_length, address6)

    def close_bridge(self) -> None:
        for index in self._route.link_lookup(ifname=self._bridge):
            with asking(errno.ENODEV):
                self._route.link("del", index=index)

    def connect(self, name: str, namespace_fd: int, address6: str = "") -> None:
        """A pair of links: `name` as an isolated port of the bridge, INSIDE in the namespace.

        Where it is of version 6 is not asked for: address, name and hardware address go together.
        """
        # A machine that is switched on again has the address it had: others remember it.
        own = hardware_address(name)
        peer = {"ifname": INSIDE, "net_ns_fd": namespace_fd, "address": own}
        with asking():
            self._route.link(
                "add", ifname=name, kind="veth", peer=peer, master=self._bridge_index, state="up"
            )
            self._route.brport("set", index=socket.if_nametoindex(name), isolated=1)
            lengthen_packets(name)
            if not self._long_packets:  # a bridge that never had a port takes none
                lengthen_packets(self._bridge)
                self._long_packets = True
            if address6:
                self._route.neigh(
                    "replace",
                    family=socket.AF_INET6,
                    ifindex=self._bridge_index,
                    dst=address6,
                    lladdr=own,
                    state=_PERMANENT,
                )

    def disconnect(self, name: str, address6: str = "") -> None:
        """Remove a pair; a pair that is gone is no error."""
        if address6 and self._bridge_index:
            with contextlib.suppress(NetlinkError):  # what is left says the truth, and is bounded
                self._route.neigh(
                    "del", family=socket.AF_INET6, ifindex=self._bridge_index, dst=address6
                )
        with asking(errno.ENODEV):
            for index in self._route.link_lookup(ifname=name):
                self._route.link("del", index=index)

    def names(self) -> set[str]:
        """Links with our prefix."""
        found = {link.get("ifname") or "" for link in self._route.get_links()}
        return {name for name in found if name.startswith(self._prefix)}


class Switch:
    """The bridge that the machines of one development cluster are plugged into.

    Unlike a node's bridge it only switches: its ports reach each other.  The host has an address
    on it, so that the host's routes show to others which network is in use.
    """

    def __init__(self, bridge: str) -> None:
        self._route = IPRoute()
        self._bridge = bridge

    def close(self) -> None:
        self._route.close()

    def open(self, address: str, prefix_length: int) -> None:
        """Make the bridge if it is not there."""
        with asking(errno.EEXIST):
            own = hardware_address(self._bridge)
            self._route.link("add", ifname=self._bridge, kind="bridge", address=own)
        index = socket.if_nametoindex(self._bridge)
        with asking(errno.EEXIST):
            self._route.addr("add", index=index, address=address, prefixlen=prefix_length)
        without_ipv6(self._bridge)
        self._route.link("set", index=index, state="up")

    def plug(self, name: str, namespace_fd: int) -> None:
        """A pair of links: `name` as a port, INSIDE in the machine's namespace."""
        self.unplug(name)  # the kernel removes a dead machine's link only after a while
        # A machine that is switched on again has the address it had: others remember it.
        own = hardware_address(name)
        peer = {"ifname": INSIDE, "net_ns_fd": namespace_fd, "address": own}
        with asking():
            self._route.link("add", ifname=name, kind="veth", peer=peer)
            index = socket.if_nametoindex(name)
            without_ipv6(name)
            master = socket.if_nametoindex(self._bridge)
            self._route.link("set", index=index, master=master, state="up")

    def unplug(self, name: str) -> None:
        """Remove a pair; a pair that is gone is no error."""
        with asking(errno.ENODEV):
            for index in self._route.link_lookup(ifname=name):
                self._route.link("del", index=index)

    def remove(self) -> None:
        """The bridge goes; what is plugged in should have gone before."""
        self.unplug(self._bridge)


def hardware_address(link: str) -> str:
    """A locally administered address of its own (IEEE 802, U/L bit), the same at each start.

    Without one a bridge takes the lowest of its ports', which changes as containers come and go:
    then every container's neighbour entry of its gateway is wrong until it times out.
    """
    digest = hashlib.sha256(link.encode()).digest()
    return ":".join(f"{byte:02x}" for byte in (0x02, *digest[:5]))


@contextlib.contextmanager
def asking(accepted: int = 0) -> Iterator[None]:
    """What the kernel refuses is an OSError with its number; `accepted` is no error."""
    try:
        yield
    except NetlinkError as exc:
        if exc.code != accepted:
            raise OSError(exc.code, os.strerror(exc.code)) from exc
