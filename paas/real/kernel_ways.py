"""Ways to the containers of other nodes: plain routes where the other node is on the same link,
tunnels (VXLAN, RFC 7348) where routers are between.

    same link   NETWORK via ADDRESS dev eth0
    tunnel      NETWORK via GATEWAY dev xNAME onlink     GATEWAY is at a hardware address that is
                that hardware address is behind ADDRESS  worked out from its network: nothing is
                                                         learnt, nothing asked for by broadcast

Version 6 goes by the tunnel whatever the link is, since nodes know each other's addresses of
version 4, and a route of version 6 has a gateway of version 6; with `routes`, or where the kernel
has no tunnels, it goes to no other node.

Ours are the routes with our protocol number (rtnetlink(7)) and the bridge's address as their
preferred source, and the tunnel's device; others are never touched.  They stay when the controller
is started anew.  Not encrypted: who is on the nodes' network can read and make such packets, as he
can those of the nodes themselves; the packet filter takes tunnelled ones from neighbours only.

One object belongs to one thread, as the links do.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from paas.real import kernel_netns6
from paas.real.kernel_netlink import asking, hardware_address
from paas.real.kernel_tables import TUNNEL_PORT

PROTOCOL = 83
"""Of our routes; numbers from 4 up are programs' own (rtnetlink(7), /etc/iproute2/rt_protos)."""

_UNICAST, _LOCAL = 1, 2  # RTN_UNICAST, RTN_LOCAL
_SOMEWHERE6 = "2000::1"
"""In the part that is given out for the Internet (RFC 4291)."""
_ON_LINK = 4  # RTNH_F_ONLINK
_PERMANENT = 0x80  # NUD_PERMANENT
_SETTINGS = Path("/proc/sys/net/ipv4/conf")


@dataclass(frozen=True, slots=True)
class Way:
    """To the containers in `network`, by the node at `address`."""

    network: str
    address: str
    network6: str = ""
    """The containers' other addresses; empty: there is no way to them."""

    @property
    def gateway6(self) -> str:
        return str(ipaddress.IPv6Network(self.network6)[1])

    @property
    def gateway(self) -> str:
        """The bridge's address on the other node."""
        return str(ipaddress.IPv4Network(self.network)[1])

    @property
    def hardware(self) -> str:
        """Of the other node's tunnel."""
        return hardware_address(f"tunnel {self.network}")


class Ways:
    """The ways of one node, whose own network is `network`."""

    def __init__(
        self, tunnel: str, tunnel_id: int, network: str, *, mode: str = "auto", network6: str = ""
    ) -> None:
        """`mode`: `routes`, `tunnels`, or `auto` for routes on the same link only."""
        self._route = IPRoute()
        self._tunnel = tunnel
        self._tunnel_id = tunnel_id
        self._own = Way(network, "", network6)
        self._mode = mode

    def close(self) -> None:
        self._route.close()

    def have(self, own_address: str, ways: Iterable[Way]) -> list[str]:
        """Have these ways and no others.

        Returns the links that other nodes come in by, and that did not forward before.
        """
        routed: list[tuple[Way, int]] = []
        tunnelled: list[Way] = []
        beside: list[Way] = []
        for way in sorted(set(ways), key=lambda w: w.network):
            link = self._link_to(way.address)
            if link is None:
                continue  # it is ourselves, or nowhere
            on_link, index = link
            if self._mode == "routes" or (self._mode == "auto" and on_link):
                routed.append((way, index))
                beside.append(way)
            else:
                tunnelled.append(way)
        wanted = {way.network: self._by_link(way, index) for way, index in routed}
        links = {index for _, index in routed}
        may = self._own.network6 and self._mode != "routes"
        beside = [way for way in beside if way.network6 and may]
        index = self._tunnel_to(own_address, tunnelled, beside)
        wanted |= {way.network: self._by_tunnel(way, index) for way in tunnelled}
        self._replace_routes(wanted)
        self._replace_routes6(index, [way for way in (*tunnelled, *beside) if way.network6])
        names = [socket.if_indextoname(index) for index in sorted(links)]
        return [name for name in names if not _forwards(name)]

    def idle_links(self) -> list[str]:
        """The links of this machine, by which the world comes in, that do not forward."""
        links = set()
        for address in self._route.get_addr(family=socket.AF_INET, scope=0):
            with contextlib.suppress(OSError):  # it went meanwhile
                links.add(socket.if_indextoname(address["index"]))
        return sorted(link for link in links - {"lo", self._tunnel} if not _forwards(link))

    def idle_links6(self) -> list[str]:
        """The same for version 6."""
        links = set()
        for address in self._route.get_addr(family=socket.AF_INET6, scope=0):
            with contextlib.suppress(OSError):  # it went meanwhile
                links.add(socket.if_indextoname(address["index"]))
        return sorted(
            link for link in links - {"lo", self._tunnel} if not kernel_netns6.forwards(link)
        )

    def has_world6(self) -> bool:
        """Has this machine a way to the Internet by version 6?"""
        try:
            (route,) = self._route.route("get", dst=_SOMEWHERE6, family=socket.AF_INET6)
        except (NetlinkError, ValueError):
            return False
        return bool(route["type"] == _UNICAST)

    def renumber(self, network: str, network6: str = "") -> None:
        """The own networks are others from now on."""
        self.clear()
        self._own = Way(network, "", network6)

    def clear(self) -> None:
        """No way is left."""
        self._replace_routes({})
        self._replace_routes6(0, [])
        self._close_tunnel()

    # -- routes ----------------------------------------------------------------------------------

    def _link_to(self, address: str) -> tuple[bool, int] | None:
        """(is it on the link itself, the link's number); None: it is not elsewhere."""
        try:
            (route,) = self._route.route("get", dst=address)
        except (NetlinkError, ValueError):
            return None
        if route["type"] == _LOCAL:
            return None
        return route.get_attr("RTA_GATEWAY") is None, route.get_attr("RTA_OIF")

    def _by_link(self, way: Way, index: int) -> dict[str, Any]:
        return {"gateway": way.address, "oif": index}

    def _by_tunnel(self, way: Way, index: int) -> dict[str, Any]:
        return {"gateway": way.gateway, "oif": index, "flags": _ON_LINK}

    def _replace_routes(self, wanted: dict[str, dict[str, Any]]) -> None:
        for network in self._routes() - set(wanted):
            with asking(errno.ESRCH):
                self._route.route("del", dst=network, proto=PROTOCOL, prefsrc=self._own.gateway)
        for network, how in wanted.items():
            with asking():
                self._route.route(
                    "replace", dst=network, proto=PROTOCOL, prefsrc=self._own.gateway, **how
                )

    def _routes(self) -> set[str]:
        """The destinations of ours that there are."""
        found = set()
        for route in self._route.get_routes(family=socket.AF_INET):
            ours = route["proto"] == PROTOCOL
            if ours and route.get_attr("RTA_PREFSRC") == self._own.gateway:
                found.add(f"{route.get_attr('RTA_DST')}/{route['dst_len']}")
        return found

    def _replace_routes6(self, index: int, ways: list[Way]) -> None:
        """Version 6 goes by tunnels: other nodes are known by addresses of version 4 only."""
        if not self._own.network6:
            return
        for network in self._routes6() - {way.network6 for way in ways}:
            with asking(errno.ESRCH):
                self._route.route(
                    "del",
                    family=socket.AF_INET6,
                    dst=network,
                    proto=PROTOCOL,
                    prefsrc=self._own.gateway6,
                )
        for way in ways:
            with asking():
                self._route.route(
                    "replace",
                    family=socket.AF_INET6,
                    dst=way.network6,
                    proto=PROTOCOL,
                    prefsrc=self._own.gateway6,
                    gateway=way.gateway6,
                    oif=index,
                    flags=_ON_LINK,
                )

    def _routes6(self) -> set[str]:
        found = set()
        for route in self._route.get_routes(family=socket.AF_INET6):
            ours = route["proto"] == PROTOCOL
            if ours and route.get_attr("RTA_PREFSRC") == self._own.gateway6:
                found.add(f"{route.get_attr('RTA_DST')}/{route['dst_len']}")
        return found

    # -- tunnels ---------------------------------------------------------------------------------

    def _tunnel_to(self, own_address: str, needed: list[Way], beside: list[Way]) -> int:
        """The tunnels' device, aimed at these; 0 when there is none.

        `beside`: ways of version 6 only, without which containers do where there are no tunnels.
        """
        index = 0
        try:
            if needed or beside:
                index = self._open_tunnel(own_address)
                self._aim(index, [*needed, *beside])
        except OSError:
            if needed:
                raise
            beside.clear()
        if not index:
            self._close_tunnel()
        return index

    def _open_tunnel(self, own_address: str) -> int:
        """The device; one that was made for another address of this node is made anew."""
        found = self._route.link_lookup(ifname=self._tunnel)
        if found and self._local_end(found[0]) != own_address:
            self._close_tunnel()
            found = []
        if not found:
            with asking():
                self._route.link(
                    "add",
                    ifname=self._tunnel,
                    kind="vxlan",
                    address=self._own.hardware,
                    vxlan_id=self._tunnel_id,
                    vxlan_local=own_address,
                    vxlan_port=TUNNEL_PORT,
                    vxlan_learning=0,
                )
            found = self._route.link_lookup(ifname=self._tunnel)
        _write(self._tunnel, "forwarding", "1")
        _write(self._tunnel, "send_redirects", "0")
        if self._own.network6:
            kernel_netns6.quieten(self._tunnel)
            kernel_netns6.set_forwarding(self._tunnel, on=True)
        else:
            _without_ipv6(self._tunnel)
        self._route.link("set", index=found[0], state="up")
        return int(found[0])

    def _local_end(self, index: int) -> str | None:
        (link,) = self._route.get_links(index)
        data = link.get_nested("IFLA_LINKINFO", "IFLA_INFO_DATA")
        return None if data is None else data.get_attr("IFLA_VXLAN_LOCAL")

    def _close_tunnel(self) -> None:
        for index in self._route.link_lookup(ifname=self._tunnel):
            with asking(errno.ENODEV):
                self._route.link("del", index=index)

    def _aim(self, index: int, ways: list[Way]) -> None:
        """Who is behind the tunnel, and nobody else."""
        behind = {way.hardware: way.address for way in ways}
        for entry in self._route.fdb("dump", ifindex=index):
            hardware = entry.get_attr("NDA_LLADDR")
            if entry["ifindex"] == index and behind.get(hardware) != entry.get_attr("NDA_DST"):
                with contextlib.suppress(NetlinkError):
                    self._route.fdb("del", ifindex=index, lladdr=hardware)
        nearby = {way.gateway for way in ways}
        for entry in self._route.get_neighbours(family=socket.AF_INET, ifindex=index):
            if (address := entry.get_attr("NDA_DST")) not in nearby:
                with asking(errno.ENOENT):
                    self._route.neigh("del", ifindex=index, dst=address)
        for way in ways:
            with asking(errno.EEXIST):
                self._route.fdb("add", ifindex=index, lladdr=way.hardware, dst=way.address)
            with asking():
                self._route.neigh(
                    "replace",
                    ifindex=index,
                    dst=way.gateway,
                    lladdr=way.hardware,
                    state=_PERMANENT,
                )
        self._aim6(index, [way for way in ways if way.network6 and self._own.network6])

    def _aim6(self, index: int, ways: list[Way]) -> None:
        nearby = {way.gateway6: way.hardware for way in ways}
        for entry in self._route.get_neighbours(family=socket.AF_INET6, ifindex=index):
            address = entry.get_attr("NDA_DST")
            if entry["state"] & _PERMANENT and address not in nearby:
                with asking(errno.ENOENT):
                    self._route.neigh("del", family=socket.AF_INET6, ifindex=index, dst=address)
        for address, hardware in nearby.items():
            with asking():
                self._route.neigh(
                    "replace",
                    family=socket.AF_INET6,
                    ifindex=index,
                    dst=address,
                    lladdr=hardware,
                    state=_PERMANENT,
                )


def _forwards(link: str) -> bool:
    return (_SETTINGS / link / "forwarding").read_text().strip() == "1"


def is_bridge(link: str) -> bool:
    """Is this link of the machine a bridge (of Linux)?"""
    return Path(f"/sys/class/net/{link}/bridge").is_dir()


def set_forwarding(link: str, *, on: bool) -> None:
    """Are packets that come in by this link forwarded?  One that is gone is no error."""
    with contextlib.suppress(FileNotFoundError):
        _write(link, "forwarding", str(int(on)))


def _write(link: str, name: str, value: str) -> None:
    (_SETTINGS / link / name).write_text(value)


def _without_ipv6(link: str) -> None:
    with contextlib.suppress(FileNotFoundError):  # a kernel without IPv6
        Path(f"/proc/sys/net/ipv6/conf/{link}/disable_ipv6").write_text("1")
