"""What members are told of the browser: Forwarded and X-Forwarded-*, which nobody else may say.

What a stranger sends in these fields is dropped; what a trusted proxy before us sends is continued.
A member can so believe the last entries, and the browser's address is the first that no trusted
proxy added.

Source: RFC 7239 §4 to §7; X-Forwarded-For, -Host, -Proto as everybody uses them.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from paas.gateway.http.head import Headers

FIELDS = frozenset(
    {
        *("forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto"),
        *("x-forwarded-port", "x-forwarded-server", "x-real-ip"),
    }
)

Networks = Sequence[ipaddress.IPv4Network | ipaddress.IPv6Network]


def trusted(address: str, networks: Networks) -> bool:
    """Is it one of the proxies that are believed?"""
    if not networks:
        return False
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    return any(ip in network for network in networks)


def client_of(remote: str, headers: Headers, networks: Networks) -> str:
    """The browser's address: the last of the chain that is no trusted proxy."""
    if not trusted(remote, networks):
        return remote
    chain = ",".join(v for n, v in headers if n == "x-forwarded-for").split(",")
    client = remote
    for entry in reversed([e.strip() for e in chain]):
        try:
            client = str(ipaddress.ip_address(entry))
        except ValueError:
            return client
        if not trusted(client, networks):
            return client
    return client


def scheme_of(headers: Headers, own: str) -> str:
    """What the browser used, as a trusted proxy says; `own` when it says nothing of the kind."""
    said = [value.strip().lower() for name, value in headers if name == "x-forwarded-proto"]
    return said[-1] if said and said[-1] in ("http", "https") else own


def node(address: str) -> str:
    """An address as RFC 7239 §6 writes it."""
    return f'"[{address}]"' if ":" in address else address


def fields(remote: str, authority: str, scheme: str, kept: Headers) -> str:
    """The lines to send, each with its line end; `kept` is what a trusted proxy said."""
    before = {name: value for name, value in kept if name in FIELDS}
    chain = before.get("x-forwarded-for")
    entry = f'for={node(remote)};host="{authority}";proto={scheme}'
    if "forwarded" in before:
        entry = f"{before['forwarded']}, {entry}"
    return (
        f"x-forwarded-for: {f'{chain}, {remote}' if chain else remote}\r\n"
        f"x-forwarded-host: {before.get('x-forwarded-host', authority)}\r\n"
        f"x-forwarded-proto: {before.get('x-forwarded-proto', scheme)}\r\n"
        f"forwarded: {entry}\r\n"
    )
