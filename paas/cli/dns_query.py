"""Asking a name server, without an event loop: for `paas dns query`, and to find a cluster by its
name (`paas cluster join NAME`) (io).

One question by UDP from a port by chance, by number and by question judged; by TCP when the answer
did not fit.  RFC 1035, RFC 6891; services by SRV (RFC 2782).
"""

from __future__ import annotations

import contextlib
import ipaddress
import secrets
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dnslib

from paas.base.errors import PlatformError, invalid

ATTEMPTS = 3
ANSWER_S = 2.0
UDP_BYTES = 1232
DNS_PORT = 53
CONNECT_S = 2.0
FIND_S = 3.0
"""A cluster that has just begun has not told yet where it takes nodes in."""
FIND_PAUSE_S = 0.2
JOIN_SERVICE = "_join._tcp.agent"
RESOLVERS = Path("/etc/resolv.conf")


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server said: a code's name, and the records that answer."""

    code: str
    records: list[dict[str, Any]]
    additional: list[dict[str, Any]]


def server_of(text: str) -> tuple[str, int]:
    """From HOST, HOST:PORT, [HOST]:PORT; raises `invalid`."""
    host, colon, port = text.rpartition(":")
    if not colon or (":" in host and not host.startswith("[")):
        host, port = text, str(DNS_PORT)
    host = host.removeprefix("[").removesuffix("]")
    try:
        ipaddress.ip_address(host)
        if not 0 < int(port) < 1 << 16:
            raise ValueError(port)
    except ValueError:
        raise invalid("server", "an address, or ADDRESS:PORT") from None
    return host, int(port)


def ask(server: tuple[str, int], name: str, kind: str, *, tcp: bool = False) -> Answer:
    """Raises `invalid` for an unknown kind or name, `unavailable` without an answer."""
    try:
        asked = dnslib.DNSRecord.question(name, kind)
        asked.add_ar(dnslib.EDNS0(udp_len=UDP_BYTES))
        asked.header.id = secrets.randbelow(1 << 16)
        question = bytes(asked.pack())
    except (dnslib.DNSError, dnslib.BimapError, ValueError):
        raise invalid("kind", "a name and a kind such as A, AAAA, SRV, TXT") from None
    heard = None
    with contextlib.suppress(OSError):
        heard = None if tcp else _by_udp(server, asked, question)
        if heard is None or heard.header.tc:
            heard = _by_tcp(server, asked, question)
    if heard is None:
        raise PlatformError(
            "unavailable",
            f"no name server answers at {server[0]}:{server[1]}",
            hint="look where one listens: paas dns status",
        )
    code = str(dnslib.RCODE.get(heard.header.rcode))
    return Answer(code, _plain(heard.rr), _plain(heard.ar))


def _plain(listed: list[dnslib.RR]) -> list[dict[str, Any]]:
    return [
        {
            "name": str(rr.rname),
            "ttl": rr.ttl,
            "kind": str(dnslib.QTYPE.get(rr.rtype)),
            "data": str(rr.rdata),
        }
        for rr in listed
        if rr.rtype != dnslib.QTYPE.OPT
    ]


def _family(server: tuple[str, int]) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in server[0] else socket.AF_INET


def _by_udp(
    server: tuple[str, int], asked: dnslib.DNSRecord, question: bytes
) -> dnslib.DNSRecord | None:
    with socket.socket(_family(server), socket.SOCK_DGRAM) as udp:
        udp.connect(server)
        for _ in range(ATTEMPTS):
            udp.send(question)
            end_s = time.monotonic() + ANSWER_S
            while (left_s := end_s - time.monotonic()) > 0:
                udp.settimeout(left_s)
                try:
                    heard = _parsed(udp.recv(65_535), asked)
                except TimeoutError:
                    break
                if heard is not None:
                    return heard
    return None


def _by_tcp(
    server: tuple[str, int], asked: dnslib.DNSRecord, question: bytes
) -> dnslib.DNSRecord | None:
    with socket.create_connection(server, ANSWER_S) as sock:
        sock.sendall(len(question).to_bytes(2, "big") + question)
        with sock.makefile("rb") as stream:
            size = int.from_bytes(stream.read(2), "big")
            return _parsed(stream.read(size), asked)


def _parsed(data: bytes, asked: dnslib.DNSRecord) -> dnslib.DNSRecord | None:
    """None for what is no answer to this question."""
    try:
        heard = dnslib.DNSRecord.parse(data)
    except (dnslib.DNSError, ValueError, IndexError):
        return None
    fits = heard.header.qr and heard.header.id == asked.header.id and len(heard.questions) == 1
    return heard if fits and heard.q == asked.q else None


# -- finding a cluster -----------------------------------------------------------------------------


def is_name(text: str) -> bool:
    """Is this a name, and no address with or without a port?"""
    if ":" in text:
        return False
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return True
    return False


def find_joining(zone: str, server: str) -> str:
    """ADDRESS:PORT where a node of the cluster with this zone takes others in.

    By the service that its nodes announce, in the order of its priorities; the first that lets
    itself be connected to.  `server`: who is asked; empty: whom this machine asks.
    """
    asked = [server_of(server)] if server else _resolvers()
    name = f"{JOIN_SERVICE}.{zone.rstrip('.')}."
    end_s = time.monotonic() + FIND_S
    while asked:
        for one in asked:
            with contextlib.suppress(PlatformError):
                if found := _first(_targets(one, ask(one, name, "SRV"))):
                    return found
        if time.monotonic() > end_s:
            break
        time.sleep(FIND_PAUSE_S)
    raise PlatformError(
        "unavailable",
        f"no node of a cluster was found by the name {zone}",
        hint="ask a name server of the cluster: --dns ADDRESS:PORT (paas dns status says which)",
        service=name,
    )


def _first(targets: list[tuple[str, int]]) -> str:
    """The first that lets itself be connected to; empty: none does."""
    for host, port in targets:
        with contextlib.suppress(OSError):
            socket.create_connection((host, port), CONNECT_S).close()
            return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return ""


def _targets(server: tuple[str, int], answer: Answer) -> list[tuple[str, int]]:
    """Addresses and ports of a service, the preferred first."""
    found = []
    for record in answer.records:
        words = record["data"].split()
        if record["kind"] == "SRV" and len(words) == 4:
            found.append((int(words[0]), -int(words[1]), words[3], int(words[2])))
    listed: list[tuple[str, int]] = []
    for _, _, target, port in sorted(found):
        hosts = [r["data"] for r in answer.additional if r["name"] == target]
        if not hosts:
            hosts = [r["data"] for r in ask(server, target, "A").records if r["kind"] == "A"]
        listed += [(host, port) for host in hosts]
    return listed


def _resolvers() -> list[tuple[str, int]]:
    """Whom this machine asks (resolv.conf(5))."""
    try:
        words = [line.split() for line in RESOLVERS.read_text().splitlines()]
    except OSError:
        return []
    return [(w[1], DNS_PORT) for w in words if len(w) > 1 and w[0] == "nameserver"][:3]
