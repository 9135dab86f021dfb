"""What an operator chooses about names: the object `dns` of node.json.  Pure.

    {"zone": "paas.internal", "listen": "host:port" | "off" | "", "secondaries": ["192.0.2.7/key"],
     "forwarders": ["192.0.2.53"], "sign": false, "rate": 1000}

The zone must be the same on all nodes.  Secrets are not here: keys of secondaries are in `dns.keys`
in the hub's directory, lines of NAME BASE64.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from paas.base.errors import PlatformError
from paas.dns import limits, names
from paas.dns.names import Labels
from paas.dns.transfer import Secondary, parse_secondary

KEYS_FILE = "dns.keys"
PORT_STEP = 2
"""The name service of a node with a network listens at the hub's port and so much."""

_FIELDS = ("zone", "listen", "secondaries", "forwarders", "sign", "rate")


@dataclass(frozen=True, slots=True)
class DnsSettings:
    """See the module's text."""

    zone: str = limits.ZONE_DEFAULT
    """What the cluster's zone is called."""
    listen: str = ""
    """Where this node answers for names: host:port, `off`, or empty: at the address of its hub."""
    secondaries: tuple[Secondary, ...] = ()
    """Who is told of changes by this node and may have the zone; HOST[:PORT][/KEY] each."""
    forwarders: tuple[tuple[str, int], ...] = ()
    """Who is asked for names outside of the zone; none: whom the machine asks."""
    sign: bool = False
    """Does this node sign what it answers (DNSSEC)?"""
    rate: int = limits.RATE_PER_S
    """Answers by UDP to one network each second; 0: any number."""

    @property
    def origin(self) -> Labels:
        return names.parse(self.zone, "zone")


def read(plain: Mapping[str, Any]) -> DnsSettings:
    """Raises ValueError naming the field that is wrong."""
    unknown = sorted(set(plain) - set(_FIELDS))
    if unknown:
        raise ValueError(f"dns.{unknown[0]}: expected one of {', '.join(_FIELDS)}")
    defaults = DnsSettings()
    found = DnsSettings(
        zone=str(plain.get("zone", defaults.zone)).lower().rstrip("."),
        listen=_listen(plain.get("listen", "")),
        secondaries=_secondaries(plain.get("secondaries", [])),
        forwarders=_forwarders(plain.get("forwarders", [])),
        sign=_flag(plain.get("sign", False)),
        rate=_rate(plain.get("rate", defaults.rate)),
    )
    try:
        names.parse(found.zone, "dns.zone")
    except PlatformError as exc:
        raise ValueError(str(exc)) from None
    return found


def address_of(settings: DnsSettings, hub: str) -> tuple[str, int] | None:
    """Where to listen, port 0 for any; None: nowhere.

    `hub`: host:port of the node's hub, or empty for a node without a network, which answers on the
    loopback.  There, where nodes may be neighbours, no port is taken for granted.
    """
    if settings.listen == "off":
        return None
    if settings.listen:
        host, _, port = settings.listen.rpartition(":")
        return host.removeprefix("[").removesuffix("]"), int(port)
    if not hub:
        return "127.0.0.1", 0
    host, _, port = hub.rpartition(":")
    host, number = host.removeprefix("[").removesuffix("]"), int(port) + PORT_STEP
    return host, 0 if _is_loopback(host) or number >= 1 << 16 else number


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _listen(value: object) -> str:
    if value in ("", "off"):
        return str(value)
    host, colon, port = value.rpartition(":") if isinstance(value, str) else ("", "", "")
    try:
        ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
    except ValueError:
        colon = ""
    if not (colon and port.isdigit() and int(port) < 1 << 16):
        raise ValueError(f"dns.listen: expected host:port or off, not {value!r}")
    return f"{host}:{port}"


def _secondaries(value: object) -> tuple[Secondary, ...]:
    expected = "dns.secondaries: expected a list of HOST[:PORT][/KEY]"
    if not isinstance(value, list) or len(value) > limits.SECONDARIES_MAX:
        raise ValueError(f"{expected}, at most {limits.SECONDARIES_MAX} of them")
    try:
        return tuple(parse_secondary(str(one)) for one in value)
    except ValueError:
        raise ValueError(expected) from None


def _forwarders(value: object) -> tuple[tuple[str, int], ...]:
    expected = "dns.forwarders: expected a list of addresses, HOST or HOST:PORT"
    if not isinstance(value, list) or len(value) > limits.SECONDARIES_MAX:
        raise ValueError(expected)
    try:
        found = [parse_secondary(str(one)) for one in value]
    except ValueError:
        raise ValueError(expected) from None
    return tuple((one.host, one.port) for one in found)


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"dns.sign: expected true or false, not {value!r}")
    return value


def _rate(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 1_000_000:
        raise ValueError(f"dns.rate: expected a number from 0 to 1,000,000, not {value!r}")
    return value
