"""Asking other servers over real sockets: liars, guessers, servers that are slow or old."""

from __future__ import annotations

import itertools
import os
import socket
from collections.abc import Callable
from pathlib import Path

import dnslib
import pytest
import trio

from paas.dns import limits, names, records, wire
from paas.dns.client import Forwarder, ZoneLink, read_question
from paas.dns.responder import Face, Responder
from paas.dns.server import Server, bind_both
from tests.unit.dns.world import WALL_S, zone

WWW = names.parse("www.example.com")
Reply = Callable[[dnslib.DNSRecord], list[bytes]]


def reply_of(
    asked: dnslib.DNSRecord, address: str = "192.0.2.1", ttl: int = 60
) -> dnslib.DNSRecord:
    reply = asked.reply()
    reply.ar = []
    reply.add_answer(dnslib.RR(asked.q.qname, 1, ttl=ttl, rdata=dnslib.A(address)))
    return reply


class Upstream:
    """A name server on this machine that says what a test wants, by UDP and TCP."""

    def __init__(self) -> None:
        self.udp: Reply = lambda asked: [reply_of(asked).pack()]
        self.tcp: Reply = lambda asked: [reply_of(asked, "192.0.2.2").pack()]
        self.asked: list[str] = []
        self.senders: list[tuple[str, int]] = []
        self.numbers: list[int] = []
        self.by_tcp = 0
        self.delay_s = 0.0
        self.address = ("127.0.0.1", 0)

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        listener = (await trio.open_tcp_listeners(0, host="127.0.0.1"))[0]
        self.address = listener.socket.getsockname()
        with trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            await sock.bind(self.address)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.serve_listeners, self._stream, [listener])
                task_status.started()
                while True:
                    data, sender = await sock.recvfrom(4096)
                    asked = dnslib.DNSRecord.parse(data)
                    self.asked.append(str(asked.q.qname))
                    self.numbers.append(asked.header.id)
                    self.senders.append(sender)
                    nursery.start_soon(self._send, sock, self.udp(asked), sender)

    async def _send(
        self, sock: trio.socket.SocketType, replies: list[bytes], sender: tuple[str, int]
    ) -> None:
        await trio.sleep(self.delay_s)
        for one in replies:
            await sock.sendto(one, sender)

    async def _stream(self, stream: trio.SocketStream) -> None:
        async with stream:
            data = await stream.receive_some(4096)
            self.by_tcp += 1
            for one in self.tcp(dnslib.DNSRecord.parse(bytes(data[2:]))):
                whole = len(one).to_bytes(2, "big") + one
                for byte in whole:
                    await stream.send_all(bytes((byte,)))


@pytest.fixture
async def upstream(nursery: trio.Nursery) -> Upstream:
    server = Upstream()
    await nursery.start(server.run)
    return server


def forwarder(*servers: Upstream) -> Forwarder:
    return Forwarder(lambda: [server.address for server in servers], random=os.urandom)


async def addresses(ours: Forwarder, name: str = "www.example.com") -> list[str]:
    told = await ours.look_up(names.parse(name), records.A)
    assert told is not None
    return [".".join(map(str, one.data)) for one in told.records]


async def test_what_was_asked_is_remembered(upstream: Upstream) -> None:
    ours = forwarder(upstream)
    assert await addresses(ours) == await addresses(ours) == ["192.0.2.1"]
    assert len(upstream.asked) == 1
    assert ours.cache.hits == 1


async def test_numbers_ports_and_case_differ_each_time(upstream: Upstream) -> None:
    ours = forwarder(upstream)
    for number in range(40):
        await ours.look_up(names.parse(f"a-long-name-{number}.example.com"), records.A)
    assert len({port for _, port in upstream.senders}) > 30
    assert len(set(upstream.numbers)) > 30
    assert len({name[:11].swapcase() for name in upstream.asked}) > 10


async def test_lies_before_the_answer_are_not_believed(upstream: Upstream) -> None:
    def lies(asked: dnslib.DNSRecord) -> list[bytes]:
        good, other = reply_of(asked), reply_of(asked, "192.0.2.66")
        other.header.id ^= 1
        about = dnslib.DNSRecord.question("evil.example.com")
        about.header.id = asked.header.id
        name = reply_of(about, "192.0.2.66")
        return [b"", b"\xff" * 40, other.pack(), name.pack(), asked.pack(), good.pack()]

    upstream.udp = lies
    ours = forwarder(upstream)
    assert await addresses(ours) == ["192.0.2.1"]
    assert ours.wrong == 5


async def test_who_guesses_much_makes_us_ask_by_tcp(upstream: Upstream) -> None:
    """Kaminsky's attack: thousands of guesses for one question.  None can fit by UDP then."""

    def guesses(asked: dnslib.DNSRecord) -> list[bytes]:
        found = []
        for step in range(1, 200):
            guess = reply_of(asked, "192.0.2.66")
            guess.header.id = (asked.header.id + step) & 0xFFFF
            found.append(guess.pack())
        return [*found, reply_of(asked, "192.0.2.66").pack()]

    upstream.udp = guesses
    ours = forwarder(upstream)
    assert await addresses(ours) == ["192.0.2.2"]
    assert upstream.by_tcp == 1
    assert ours.wrong == limits.FORWARD_WRONG_MAX


async def test_answers_from_elsewhere_are_not_heard(
    upstream: Upstream, nursery: trio.Nursery
) -> None:
    """Right in everything but the address that they come from."""
    stranger = trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    await stranger.bind(("127.0.0.1", 0))

    def both(asked: dnslib.DNSRecord) -> list[bytes]:
        nursery.start_soon(
            stranger.sendto, reply_of(asked, "192.0.2.66").pack(), upstream.senders[-1]
        )
        return [reply_of(asked).pack()]

    upstream.delay_s = 0.05
    upstream.udp = both
    assert await addresses(forwarder(upstream)) == ["192.0.2.1"]
    stranger.close()


async def test_poison_beside_the_answer_is_not_kept(upstream: Upstream) -> None:
    def poisoned(asked: dnslib.DNSRecord) -> list[bytes]:
        reply = reply_of(asked)
        bank = dnslib.DNSLabel("bank.example")
        reply.add_answer(dnslib.RR(bank, 1, ttl=3600, rdata=dnslib.A("192.0.2.66")))
        reply.add_ar(dnslib.RR(bank, 1, ttl=3600, rdata=dnslib.A("192.0.2.66")))
        reply.add_auth(dnslib.RR("example", 2, ttl=3600, rdata=dnslib.NS("bank.example")))
        return [reply.pack()]

    upstream.udp = poisoned
    ours = forwarder(upstream)
    assert await addresses(ours) == ["192.0.2.1"]
    upstream.udp = lambda asked: [reply_of(asked, "192.0.2.5").pack()]
    assert await addresses(ours, "bank.example") == ["192.0.2.5"]


async def test_the_same_question_is_on_its_way_once(upstream: Upstream) -> None:
    upstream.delay_s = 0.05
    ours = forwarder(upstream)
    found: list[list[str]] = []

    async def ask() -> None:
        found.append(await addresses(ours))

    async with trio.open_nursery() as nursery:
        for _ in range(50):
            nursery.start_soon(ask)
    assert found == [["192.0.2.1"]] * 50
    assert len(upstream.asked) == 1


async def test_a_truncated_answer_is_asked_for_by_tcp(upstream: Upstream) -> None:
    def cut(asked: dnslib.DNSRecord) -> list[bytes]:
        reply = asked.reply()
        reply.header.tc = 1
        return [reply.pack()]

    upstream.udp = cut
    assert await addresses(forwarder(upstream)) == ["192.0.2.2"]


async def test_a_server_that_changes_case_is_asked_by_tcp(upstream: Upstream) -> None:
    def small(asked: dnslib.DNSRecord) -> list[bytes]:
        reply = reply_of(asked)
        reply.q.qname = dnslib.DNSLabel(str(asked.q.qname).lower())
        return [reply.pack()]

    upstream.udp = small
    assert await addresses(forwarder(upstream)) == ["192.0.2.2"]


async def test_a_server_that_hangs_up_by_tcp_is_one_that_fails(upstream: Upstream) -> None:
    upstream.udp = lambda asked: [fail(asked)[:2] + b"\x83" + fail(asked)[3:]]
    upstream.tcp = lambda asked: []
    assert await forwarder(upstream).look_up(WWW, records.A) is None


async def test_another_server_is_asked_when_one_fails(
    upstream: Upstream, nursery: trio.Nursery
) -> None:
    broken = Upstream()
    broken.udp = lambda asked: [fail(asked)]
    await nursery.start(broken.run)
    assert await addresses(forwarder(broken, upstream)) == ["192.0.2.1"]
    assert (len(broken.asked), len(upstream.asked)) == (1, 1)


def fail(asked: dnslib.DNSRecord) -> bytes:
    reply = asked.reply()
    reply.header.rcode = dnslib.RCODE.SERVFAIL
    return bytes(reply.pack())


async def test_what_nobody_answers_is_not_asked_again_at_once(upstream: Upstream) -> None:
    upstream.udp = lambda asked: [fail(asked)]
    upstream.tcp = lambda asked: [fail(asked)]
    ours = forwarder(upstream)
    assert await ours.look_up(WWW, records.A) is None
    asked = len(upstream.asked)
    assert await ours.look_up(WWW, records.A) is None
    assert len(upstream.asked) == asked


async def test_a_reply_to_somebody_has_their_number_case_and_chain(upstream: Upstream) -> None:
    def chain(asked: dnslib.DNSRecord) -> list[bytes]:
        reply = asked.reply()
        reply.ar = []
        edge = dnslib.DNSLabel("edge.example.net")
        reply.add_answer(dnslib.RR(asked.q.qname, 5, ttl=60, rdata=dnslib.CNAME(edge)))
        reply.add_answer(dnslib.RR(edge, 1, ttl=30, rdata=dnslib.A("192.0.2.7")))
        return [reply.pack()]

    upstream.udp = chain
    question = read_question(bytes(dnslib.DNSRecord.question("WwW.example.COM").pack()))
    assert question is not None
    heard = dnslib.DNSRecord.parse(await forwarder(upstream).reply(question.message, False))
    assert str(heard.q.qname) == "WwW.example.COM."
    assert [(str(rr.rname), rr.rtype) for rr in heard.rr] == [
        ("WwW.example.COM.", 5),
        ("edge.example.net.", 1),
    ]
    assert (heard.header.ra, heard.header.aa) == (1, 0)


async def test_programs_of_this_machine_are_answered_about_names_elsewhere_by_both_ways(
    upstream: Upstream, nursery: trio.Nursery
) -> None:
    face = Face(zone(), recursion=True)
    server = Server(
        responder=Responder(now_s=lambda: WALL_S),
        face_of=lambda _: face,
        now_s=trio.current_time,
        wall_s=lambda: WALL_S,
        ask=forwarder(upstream).reply,
    )
    udp, tcp = await bind_both("127.0.0.1", 0)
    nursery.start_soon(server.serve_udp, udp)
    nursery.start_soon(server.serve_tcp, tcp)
    for more in ([], ["+tcp"]):
        words = ["dig", "@127.0.0.1", "-p", str(udp.getsockname()[1]), "+short", "www.example.com"]
        done = await trio.run_process([*words, *more], capture_stdout=True)
        assert done.stdout == b"192.0.2.1\n"
    assert len(upstream.asked) == 1


# -- the way to the hub ----------------------------------------------------------------------------


async def hub(path: Path, *, task_status: trio.TaskStatus[None]) -> None:
    """Answers each question with what it was told; silence for `?`, and the end for `bye`."""
    listener = trio.socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with listener:
        await listener.bind(str(path))
        listener.listen(1)
        task_status.started()
        sock, _ = await listener.accept()
        with sock:
            while data := await sock.recv(4096):
                if data[24:] == b"bye":
                    return
                if data[24:] != b"?":
                    await sock.send(b"\0\0\0\0stray")
                    await sock.send(data[:4] + data[4:24].hex().encode() + data[24:])


async def test_questions_reach_the_hub_with_who_asks(nursery: trio.Nursery, tmp_path: Path) -> None:
    link = ZoneLink(str(tmp_path / "names.sock"))
    nursery.start_soon(link.run)
    assert await link.ask(b"question", "ab" * 20) is None  # there is no hub
    await nursery.start(hub, tmp_path / "names.sock")
    answer = None
    with trio.move_on_after(5):
        for pause_s in itertools.repeat(0.02):
            if (answer := await link.ask(b"question", "ab" * 20)) is not None:
                break
            await trio.sleep(pause_s)
    assert answer == b"ab" * 20 + b"question"
    with trio.fail_after(1):  # the hub goes away: nobody waits for its answer
        assert await link.ask(b"bye", "ab" * 20) is None


def test_only_questions_are_read() -> None:
    whole = bytes(dnslib.DNSRecord.question("A.Example").pack())
    found = read_question(whole)
    assert found is not None
    assert (found.name, found.kind) == ("a.example", records.A)
    assert found.within("example")
    assert not found.within("xample")
    for other in (
        b"",
        whole[:-1],
        whole[:2] + b"\x80" + whole[3:],
        whole[:2] + b"\x28" + whole[3:],
    ):
        assert read_question(other) is None
    assert wire.CODES[found.reply(5)[3] & 15] == "REFUSED"
