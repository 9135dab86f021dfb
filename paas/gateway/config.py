"""What the gateway is told at its start, and the file that a gateway by itself reads.

    [gateway]
    listen = ["127.0.0.1:8080"]

    [[route]]
    name = "site"
    group = "web"

    [[member]]
    group = "web"
    host = "127.0.0.1"
    port = 9000

Everything wrong is refused with the name of its field.
"""

from __future__ import annotations

import ipaddress
import tomllib
from dataclasses import fields
from typing import Any

import msgspec

from paas.base.errors import PlatformError, invalid
from paas.gateway.access_log import Mode
from paas.gateway.http.limits import EdgeLimits
from paas.gateway.messages import Route


class MemberRow(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One member of a file: where it listens, and its share."""

    group: str
    host: str
    port: int
    name: str = ""
    weight: int = 100


class EdgeConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the data path is told.  Addresses are `host:port`; port 0 is any free one."""

    listen: list[str] = []
    """Plain HTTP."""

    tls: list[str] = []
    """HTTPS, with HTTP/2 for who wants it."""

    certificates: str = ""
    """Folder of `NAME.pem` (chain and key, or beside it `NAME.key`); read again when it changes."""

    static: str = ""
    """Folder that holds the folders of static routes."""

    trusted_proxies: list[str] = []
    """Networks of proxies before this one, whose X-Forwarded-For is believed."""

    access_log: Mode = "all"
    http2: bool = True
    limits: dict[str, float] = {}
    """Fields of EdgeLimits that are not the default."""

    def edge_limits(self) -> EdgeLimits:
        """Raises `invalid`."""
        whole = {field.name for field in fields(EdgeLimits) if field.type == "int"}
        kinds = {field.name for field in fields(EdgeLimits)}
        for name, value in self.limits.items():
            if name not in kinds:
                raise invalid(f"limits.{name}", f"one of {', '.join(sorted(kinds))}")
            if value < 0:
                raise invalid(f"limits.{name}", "not negative")
        given = {n: int(v) if n in whole else v for n, v in self.limits.items()}
        return EdgeLimits(**given)  # type: ignore[arg-type]

    def proxies(self) -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
        """Raises `invalid`."""
        try:
            return [ipaddress.ip_network(text, strict=False) for text in self.trusted_proxies]
        except ValueError as exc:
            raise invalid("trusted_proxies", f"networks such as 10.0.0.0/8: {exc}") from None


class EdgeFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole file."""

    gateway: EdgeConfig
    route: list[Route] = []
    member: list[MemberRow] = []


def read_file(text: str, source: str) -> EdgeFile:
    """The file's text.  Raises `invalid` with the field."""
    try:
        plain: dict[str, Any] = tomllib.loads(text)
        return msgspec.convert(plain, EdgeFile)
    except tomllib.TOMLDecodeError as exc:
        raise PlatformError("invalid", f"{source}: {exc}", field="file") from None
    except msgspec.ValidationError as exc:
        raise PlatformError("invalid", f"{source}: {exc}", field="file") from None


def host_and_port(text: str, field: str) -> tuple[str, int]:
    """`host:port`, `[v6]:port` or `:port`.  Raises `invalid`."""
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65_535:
        raise invalid(field, f"host:port, not {text!r}")
    return host.removeprefix("[").removesuffix("]"), int(port)
