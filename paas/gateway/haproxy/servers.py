"""Which servers HAProxy should have, and the orders that make what it has like that.

    members ── wanted ──> {(backend, server): Server}
    `show servers state` ── found ──> the same              changes(wanted, found) ──> orders

The orders are made from what is there, not from what was ordered before: after a lost answer, a new
worker or a kill the next comparison mends everything.  A member that leaves is put into
maintenance: it gets nothing new, also from who has its cookie, and what it was sent goes on.  One
that is gone is cut off and deleted; HAProxy deletes a server only when its last connection is over,
so that order is given again until it succeeds.

Source: HAProxy management guide §9.3 ("add server", "del server", "set server").
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from paas.base.errors import LocalError
from paas.gateway.haproxy import limits
from paas.gateway.haproxy.names import backend_name, server_id, server_of
from paas.gateway.messages import Route, RouteMember

Key = tuple[str, str]
"""Names of backend and server."""

_MAINTENANCE = 0x01 | 0x04 | 0x20
"""Forced, inherited, for want of an address (management guide §9.3, "show servers state")."""

POOL = "pool-purge-delay 1s"
"""Idle connections go soon: until then a server that is gone cannot be deleted."""

CHECK = (
    f"check inter {limits.CHECK_S}s fall {limits.CHECKS_FAIL} rise 1 "
    f"observe layer4 error-limit {limits.ERRORS_MAX} on-error mark-down"
)


@dataclass(frozen=True, slots=True)
class Server:
    """One server of one backend."""

    address: str
    port: int
    weight: int
    serving: bool
    number: int = 0
    """Its id; not compared: it cannot be changed."""

    @property
    def place(self) -> str:
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"{host}:{self.port}"


def wanted(routes: Iterable[Route], members: Iterable[RouteMember]) -> dict[Key, Server]:
    """The servers of these routes of kind `endpoint`; members without an address have none."""
    backends = {route.name: backend_name(route) for route in routes if route.kind == "endpoint"}
    by_backend: dict[str, list[RouteMember]] = {}
    for member in members:
        backend = backends.get(member.route)
        if backend is not None and member.port and member.host and member.state != "gone":
            by_backend.setdefault(backend, []).append(member)
    found: dict[Key, Server] = {}
    for backend, some in by_backend.items():
        most = max(member.weight for member in some)
        taken: set[int] = set()
        for member in sorted(some, key=server_of):
            name = server_of(member)
            found[backend, name] = Server(
                _address(member.host),
                _port(member.port),
                _scaled(member.weight, most),
                member.state == "serving",
                server_id(name, taken),
            )
    return found


def _address(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise LocalError("a member's host is no address") from None


def _port(port: int) -> int:
    if not 0 < port < 65_536:
        raise LocalError("a member's port is none")
    return port


def _scaled(weight: int, most: int) -> int:
    """HAProxy's weights end at 256; who has any weight keeps some."""
    if most <= limits.WEIGHT_MAX:
        return max(weight, 0)
    return max(1, weight * limits.WEIGHT_MAX // most) if weight > 0 else 0


def changes(
    wanted: Mapping[Key, Server],
    found: Mapping[Key, Server],
    *,
    checks: bool,
    cookies: Collection[str] = (),
) -> list[str]:
    """The orders, those that take away first.  `cookies`: backends that lead by a cookie."""
    taking: list[str] = []
    giving: list[str] = []
    for key, has in found.items():
        name = "/".join(key)
        wants = wanted.get(key)
        if wants is None:
            if has.serving:
                taking.append(f"set server {name} state maint")
            # Refused until all that it began is over.  To cut that off would be to answer nobody:
            # HAProxy repeats or says 502 when it finds the connection dead (`srvtcpka`).
            taking.append(f"del server {name}")
            continue
        if has.serving and not wants.serving:
            taking.append(f"set server {name} state maint")
        if (has.address, has.port) != (wants.address, wants.port):
            giving.append(f"set server {name} addr {wants.address} port {wants.port}")
        if has.weight != wants.weight:
            giving.append(f"set server {name} weight {wants.weight}")
        if wants.serving and not has.serving:
            giving.append(f"set server {name} state ready")
    for key, wants in wanted.items():
        if key in found or not wants.serving:
            continue  # one that leaves and is not there was never sent anything by this worker
        name = "/".join(key)
        options = f"{POOL} {CHECK}" if checks else POOL
        giving.append(
            f"add server {name} {wants.place} id {wants.number} weight {wants.weight} {options}"
        )
        giving += [f"enable health {name}"] if checks else []
        giving.append(f"enable server {name}")
    # HAProxy 2.6 makes no cookie for an added server; this makes them for all of the backend.
    new = {backend for backend, name in wanted if (backend, name) not in found}
    giving += [f"enable dynamic-cookie backend {backend}" for backend in sorted(new & {*cookies})]
    return taking + giving


def gone_orders(wanted: Mapping[Key, Server], keys: Iterable[Key]) -> list[str]:
    """For a worker that only ends what it began: it sends nothing new to these."""
    return [
        f"set server {'/'.join(key)} state maint"
        for key in keys
        if (wants := wanted.get(key)) is None or not wants.serving
    ]


def found(answer: str) -> dict[Key, Server]:
    """Read `show servers state`, of version 1.  Raises LocalError when it is another one."""
    lines = answer.strip().splitlines()
    if len(lines) < 2 or lines[0].strip() != "1" or not lines[1].startswith("# be_id be_name"):
        raise LocalError("haproxy tells its servers in an unknown form")
    at = {name: position for position, name in enumerate(lines[1][2:].split())}
    servers: dict[Key, Server] = {}
    for line in lines[2:]:
        row = line.split()
        if len(row) < len(at) or not row[at["be_name"]].startswith("r."):
            continue
        admin = int(row[at["srv_admin_state"]])
        servers[row[at["be_name"]], row[at["srv_name"]]] = Server(
            row[at["srv_addr"]],
            int(row[at["srv_port"]]),
            int(row[at["srv_uweight"]]),
            not admin & _MAINTENANCE,
            int(row[at["srv_id"]]),
        )
    return servers
