"""The resolver of containers: which questions it answers, and what passes the filter then."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable
from typing import Any

import dnslib
import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from paas.bundle.egress import Destination, parse_all
from paas.container import limits
from paas.container.names import Names, host_servers

COMPONENT = "10.64.0.2"
SIX = ("2001:db8::6", "fd00:2::1")


class Filter:
    def __init__(self) -> None:
        self.passed: list[tuple[str, str, str, int]] = []
        self.timeouts: list[int] = []
        self.count = 0

    async def resolve(self, paths: Iterable[tuple[str, str, str, int]], timeout_s: int) -> None:
        await trio.lowlevel.checkpoint()
        self.passed += paths
        self.timeouts.append(timeout_s)

    def resolved(self, source: str) -> int:
        return self.count


class Server:
    """A name server on this machine, that lies before it tells the truth."""

    def __init__(self, records: dict[str, list[Any]], ttl: int = 60) -> None:
        self.records, self.ttl = records, ttl
        self.asked: list[str] = []
        self.socket = trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.lies: list[bytes] = []

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        await self.socket.bind(("127.0.0.1", 0))
        task_status.started()
        while True:
            data, sender = await self.socket.recvfrom(4096)
            asked = dnslib.DNSRecord.parse(data)
            name = str(asked.q.qname).rstrip(".").lower()  # it is asked in mixed case
            self.asked.append(name)
            other = asked.reply()
            other.header.id ^= 1
            other.add_answer(dnslib.RR(asked.q.qname, rdata=dnslib.A("192.0.2.66")))
            for lie in (b"", b"\xff" * 40, data, other.pack(), *self.lies):
                await self.socket.sendto(lie, sender)
            reply = asked.reply()
            for record in self.records.get(name, []):
                kind = getattr(dnslib.QTYPE, type(record).__name__)
                reply.add_answer(dnslib.RR(asked.q.qname, kind, ttl=self.ttl, rdata=record))
            await self.socket.sendto(reply.pack(), sender)


class World:
    def __init__(self, server: Server) -> None:
        self.filter, self.server = Filter(), server
        self.allow = {COMPONENT: ["api.example.com:443", "*.example.org:80", "192.0.2.0/24:1"]}
        self.names = Names(
            self._allowed,
            lambda address: address in ipaddress.IPv4Network("10.0.0.0/8"),
            self.filter,
            servers=lambda: [server.socket.getsockname()],
        )

    def _allowed(self, source: str) -> list[Destination] | None:
        return parse_all(self.allow[source]) if source in self.allow else None

    async def ask(self, name: str, kind: str = "A", source: str = COMPONENT) -> dnslib.DNSRecord:
        answer = await self.names.answer(dnslib.DNSRecord.question(name, kind).pack(), source)
        assert answer is not None
        return dnslib.DNSRecord.parse(answer)


@pytest.fixture
async def world(nursery: trio.Nursery) -> World:
    server = Server(
        {
            "api.example.com": [dnslib.CNAME("edge.example.net"), dnslib.A("192.0.2.1")],
            "a.example.org": [dnslib.A("192.0.2.2"), dnslib.A("10.1.1.1")],
            "in.example.org": [dnslib.A("10.1.1.1")],
            "six.example.org": [dnslib.A("192.0.2.6"), *map(dnslib.AAAA, SIX)],
        }
    )
    await nursery.start(server.run)
    return World(server)


async def test_addresses_of_version_6_are_for_who_reaches_the_world_by_it(world: World) -> None:
    other = "fd00:1::2"

    async def twin(source: str) -> str:
        await trio.lowlevel.checkpoint()
        return other if source == COMPONENT else ""

    def forbidden(address: Any) -> bool:
        return address in ipaddress.IPv6Network("fd00::/8")

    servers = [world.server.socket.getsockname()]
    names = Names(world._allowed, forbidden, world.filter, servers=lambda: servers, other=twin)
    question = dnslib.DNSRecord.question("six.example.org", "AAAA").pack()
    heard = dnslib.DNSRecord.parse(await names.answer(question, COMPONENT))
    assert [(rr.rtype, str(rr.rdata)) for rr in heard.rr] == [(dnslib.QTYPE.AAAA, SIX[0])]
    assert world.filter.passed == [(other, SIX[0], "tcp", 80)]
    (refused,) = [await names.answer(question, "10.64.0.9")]
    assert dnslib.DNSRecord.parse(refused).header.rcode == dnslib.RCODE.REFUSED


async def test_an_allowed_name_is_answered_and_passes_before_it_is(world: World) -> None:
    answer = await world.ask("API.example.com.")
    assert [str(rr.rdata) for rr in answer.rr] == ["192.0.2.1"]
    assert world.filter.passed == [(COMPONENT, "192.0.2.1", "tcp", 443)]
    assert world.filter.timeouts == [60 + limits.ANSWER_GRACE_S]


async def test_other_names_are_refused_and_nobody_is_asked(world: World) -> None:
    for name in ("example.com", "example.org", "api.example.com.evil.net", "192.0.2.1"):
        assert (await world.ask(name)).header.rcode == dnslib.RCODE.REFUSED
    assert (await world.ask("api.example.com", source="10.64.0.9")).header.rcode == (
        dnslib.RCODE.REFUSED
    )
    assert world.server.asked == []
    assert world.filter.passed == []


async def test_forbidden_addresses_are_left_out(world: World) -> None:
    answer = await world.ask("a.example.org")
    assert [str(rr.rdata) for rr in answer.rr] == ["192.0.2.2"]
    answer = await world.ask("in.example.org")
    assert (answer.header.rcode, answer.rr) == (dnslib.RCODE.NOERROR, [])
    assert world.filter.passed == [(COMPONENT, "192.0.2.2", "tcp", 80)]


@pytest.mark.parametrize("kind", ["AAAA", "TXT", "MX", "ANY"])
async def test_other_questions_about_an_allowed_name_have_no_answer(
    world: World, kind: str
) -> None:
    answer = await world.ask("api.example.com", kind)
    assert (answer.header.rcode, answer.rr) == (dnslib.RCODE.NOERROR, [])
    assert world.server.asked == []


async def test_what_is_no_question_is_not_answered(world: World) -> None:
    reply = dnslib.DNSRecord.question("api.example.com").reply().pack()
    for noise in (b"", b"\0" * 12, b"\xff" * 100, reply):
        assert await world.names.answer(noise, COMPONENT) is None


async def test_a_component_that_resolves_without_end_is_refused(world: World) -> None:
    world.filter.count = limits.RESOLVED_MAX + 1
    assert (await world.ask("api.example.com")).header.rcode == dnslib.RCODE.REFUSED
    assert world.filter.passed == []


async def test_when_no_server_answers_that_is_said(world: World) -> None:
    names = Names(world._allowed, lambda _: False, world.filter, servers=list)
    data = dnslib.DNSRecord.question("api.example.com").pack()
    answer = dnslib.DNSRecord.parse(await names.answer(data, COMPONENT))
    assert answer.header.rcode == dnslib.RCODE.SERVFAIL


class Hub:
    """Implements `paas.container.names.Cluster` and `Zone`."""

    zone = "paas.internal"

    def __init__(self) -> None:
        self.names = self
        self.asked: list[tuple[str, bool]] = []
        self.away = False

    def component(self, source: str, /) -> str:
        return "ab" * 20 if source == COMPONENT else ""

    async def ask(self, question: bytes, component: str, *, tcp: bool = False) -> bytes | None:
        await trio.lowlevel.checkpoint()
        self.asked.append((component, tcp))
        asked = dnslib.DNSRecord.parse(question)
        reply = asked.reply()
        reply.add_answer(dnslib.RR(asked.q.qname, 1, ttl=5, rdata=dnslib.A("10.64.0.9")))
        return None if self.away else bytes(reply.pack())


async def test_names_of_the_cluster_are_answered_by_the_hub_for_containers_only(
    world: World,
) -> None:
    hub = Hub()
    world.names = Names(world._allowed, lambda _: True, world.filter, servers=list, cluster=hub)
    answer = await world.ask("web.group.PAAS.internal")
    assert [str(rr.rdata) for rr in answer.rr] == ["10.64.0.9"]
    assert hub.asked == [("ab" * 20, False)]
    assert world.filter.passed == []  # a name is no way
    for name in ("web.group.paas.internal.example.com", "xpaas.internal", "internal"):
        assert (await world.ask(name)).header.rcode == dnslib.RCODE.REFUSED
    other = await world.ask("web.group.paas.internal", source="10.64.0.77")
    assert other.header.rcode == dnslib.RCODE.REFUSED
    hub.away = True
    answer = await world.ask("web.group.paas.internal")
    assert answer.header.rcode == dnslib.RCODE.SERVFAIL


async def test_a_container_that_asks_without_end_takes_no_place_from_others(
    mock_clock: trio.testing.MockClock,
) -> None:
    names = Names(lambda _: [], lambda _: True, Filter(), servers=list)
    taken = [names._begin(COMPONENT) for _ in range(5_000)]
    assert taken.count(True) == limits.QUESTIONS_SOURCE_MAX
    assert names._begin("10.64.0.3")
    for _ in range(limits.QUESTIONS_SOURCE_MAX):
        names._end(COMPONENT)
    assert not names._begin(COMPONENT)  # it has had its rate of this second
    assert names._begin("10.64.0.3")


def test_the_hosts_servers_are_those_of_its_file(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "resolv.conf"
    monkeypatch.setattr("paas.container.names.HOST_RESOLVERS", path)
    assert host_servers() == []
    path.write_text("search x\nnameserver 192.0.2.53\nnameserver\n# nameserver 1.2.3.4\n")
    assert host_servers() == [("192.0.2.53", 53)]


@settings(max_examples=150, deadline=None)
@given(noise=st.binary(max_size=300), cut=st.integers(0, 60))
def test_no_bytes_from_a_container_are_a_bug(noise: bytes, cut: int) -> None:
    """Hostile questions: noise, and a question of which a part is replaced by noise."""
    whole = dnslib.DNSRecord.question("api.example.com").pack()

    async def ask() -> None:
        names = Names(lambda _: parse_all(["a.b:1"]), lambda _: False, Filter(), servers=list)
        for question in (noise, whole[:cut] + noise, noise + whole):
            answer = await names.answer(question, COMPONENT)
            assert answer is None or len(answer) < 4_096

    trio.run(ask)
