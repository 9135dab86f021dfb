"""A cluster state that is written down, and small helpers to ask about it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import dnslib

from paas.dns import names, records, wire
from paas.dns.cluster import ClusterZone, Endpoint, Machine, Member
from paas.dns.names import Labels
from paas.dns.responder import Face, Responder
from paas.dns.zone import Set, Sets, StaticZone

ORIGIN = names.parse("paas.internal")
WALL_S = 1_800_000_000.0


def member(number: int, name: str = "", node: str = "n1", **facts: object) -> Member:
    """Component `number` with an endpoint `http` at 10.64.0.<number>:8000."""
    host = f"10.64.0.{number}"
    endpoints = facts.get("endpoints", (Endpoint("http", "tcp", host, "", 8000),))
    available = bool(facts.get("available", True))
    assert isinstance(endpoints, tuple)
    return Member(f"{number:040x}", name, node, "web@1.0.0", available, endpoints)


@dataclass
class Cluster:
    """Implements `paas.dns.cluster.Cluster`."""

    node: str = "n1"
    serial: int = 7
    all: list[Member] = field(default_factory=list)
    grouped: dict[str, list[Member]] = field(default_factory=dict)
    applied: dict[str, list[Member]] = field(default_factory=dict)
    nodes: list[Machine] = field(default_factory=list)
    told: dict[Labels, Sets] = field(default_factory=dict)
    signers: tuple[bytes, ...] = ()

    def component(self, word: str, /) -> Member | None:
        return next((m for m in self.all if word and word in (m.id, m.name)), None)

    def members(self, group: str, /) -> list[Member] | None:
        return self.grouped.get(group)

    def application(self, name: str, /) -> list[Member] | None:
        return self.applied.get(name)

    def components(self) -> Iterable[Member]:
        return self.all

    def component_names(self) -> Iterable[str]:
        return [m.name for m in self.all]

    def groups(self) -> Iterable[str]:
        return self.grouped

    def applications(self) -> Iterable[str]:
        return self.applied

    def machines(self) -> list[Machine]:
        return self.nodes

    def published(self, labels: Labels, /) -> Sets | None:
        return self.told.get(labels)

    def published_names(self) -> Iterable[Labels]:
        return self.told

    def keys(self) -> tuple[bytes, ...]:
        return self.signers


def small_cluster() -> Cluster:
    """Three members of a group on two nodes, one of them not available."""
    near, far, ill = (
        member(1, "web", "n1"),
        member(2, "", "n2"),
        member(3, "", "n2", available=False),
    )
    agents = {"hub": ("192.0.2.1", 7420), "dns": ("192.0.2.1", 7422)}
    return Cluster(
        all=[near, far, ill],
        grouped={"web": [far, near, ill], "ill": [ill]},
        applied={"shop": [near, far]},
        nodes=[
            Machine("n1", True, "192.0.2.1", agents, "available"),
            Machine("n2", False, "192.0.2.2", {"hub": ("192.0.2.2", 7420)}, "offline"),
        ],
        told={(b"www", b"shop", b"app"): {records.A: Set(5, (b"\xc0\x00\x02\x09",))}},
    )


def zone(cluster: Cluster | None = None, *, local: bool = True) -> ClusterZone:
    return ClusterZone(ORIGIN, cluster or small_cluster(), local=local)


def static(content: Mapping[str, Mapping[int, Iterable[bytes]]], serial: int = 1) -> StaticZone:
    return StaticZone(
        ORIGIN,
        {
            names.parse(name) if name else (): {k: Set(5, tuple(d)) for k, d in sets.items()}
            for name, sets in content.items()
        },
        serial,
    )


def responder() -> Responder:
    return Responder(now_s=lambda: WALL_S)


def question(name: str, kind: str = "A", *, size: int = 1232, secure: bool = False) -> bytes:
    """A question as another library writes it; size 0: without EDNS."""
    record = dnslib.DNSRecord.question(name, kind)
    if size:
        flags = "do" if secure else ""
        record.add_ar(dnslib.EDNS0(udp_len=size, flags=flags))
    return bytes(record.pack())


def asked(face: Face, name: str, kind: str = "A", *, tcp: bool = False) -> dnslib.DNSRecord:
    """The answer as another library reads it."""
    reply = responder().respond(question(name, kind), "192.0.2.77", face, tcp=tcp)
    assert isinstance(reply, bytes)
    return dnslib.DNSRecord.parse(reply)


def data_of(answer: dnslib.DNSRecord) -> list[str]:
    return [str(rr.rdata) for rr in answer.rr]


def code_of(answer: dnslib.DNSRecord) -> str:
    return wire.CODES[answer.header.rcode]
