"""What the operator of a fetcher decides: its configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from paas.fetcher import limits
from paas.fetcher.addresses import Network, networks
from paas.fetcher.credentials import Credential, credential

PORTS = frozenset({80, 443})
_PORT_FREE = 1024


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All with defaults; times in seconds."""

    user_agent: str = "paas-fetcher/1"
    private: tuple[Network, ...] = ()
    """Networks beside the Internet that may be reached (`10.64.0.0/10`)."""
    private_redirects: bool = False
    """Redirects from another origin may lead into them too."""
    ports: frozenset[int] = frozenset()
    """Beside 80, 443 and those from 1024 on."""
    plain: bool = True
    """http:// may be used at all."""
    per_host: int = limits.CONCURRENT_PER_HOST
    interval_s: float = 0.0
    """Between the starts of two requests to one host."""
    concurrent: int = limits.CONCURRENT_MAX
    authorities: str = ""
    """A file (PEM) with certificate authorities that are believed beside the system's."""
    credentials: Mapping[str, Credential] = field(default_factory=dict)

    def port_allowed(self, port: int) -> bool:
        """The lower ports belong to other protocols, which an HTTP request may be an order in."""
        return port in PORTS or port >= _PORT_FREE or port in self.ports


def settings_of(plain: Mapping[str, Any]) -> Settings:
    """Read a configuration.  Raises ValueError, which names the field; unknown ones too."""
    given = dict(plain)
    if unknown := set(given) - {f.name for f in fields(Settings)}:
        raise ValueError(f"{sorted(unknown)[0]}: the fetcher has no such setting")
    for name, kind in (
        *(("user_agent", str), ("authorities", str), ("private_redirects", bool), ("plain", bool)),
        *(("private", list), ("ports", list), ("per_host", int), ("concurrent", int)),
        *(("interval_s", (int, float)), ("credentials", dict)),
    ):
        if name in given and (
            not isinstance(given[name], kind) or (isinstance(given[name], bool) != (kind is bool))
        ):
            raise ValueError(f"{name}: this is no {_called(kind)}")
    if "private" in given:
        try:
            given["private"] = networks(given["private"])
        except ValueError as exc:
            raise ValueError(f"private: {exc}") from None
    if "ports" in given:
        if not all(isinstance(port, int) and 0 < port < 65_536 for port in given["ports"]):
            raise ValueError("ports: expected numbers from 1 to 65535")
        given["ports"] = frozenset(given["ports"])
    for name, least, most in (
        ("per_host", 1, 1024),
        ("concurrent", 1, 4096),
        ("interval_s", 0, 3600),
    ):
        if not least <= given.get(name, least) <= most:
            raise ValueError(f"{name}: expected {least} to {most}")
    if not given.get("user_agent", "x").isprintable() or not given.get("user_agent", "x").isascii():
        raise ValueError("user_agent: expected plain text")
    rows = given.pop("credentials", {})
    if len(rows) > limits.CREDENTIALS_MAX:
        raise ValueError(f"credentials: at most {limits.CREDENTIALS_MAX}")
    return Settings(**given, credentials={n: credential(n, row) for n, row in rows.items()})


def _called(kind: Any) -> str:
    names = {str: "text", bool: "truth value", list: "list", dict: "table"}
    return names.get(kind, "number")
