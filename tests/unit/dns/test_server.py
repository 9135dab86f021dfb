"""The sockets: floods, slow and greedy peers, other programs' questions; and the node's agent."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import dnslib
import msgspec
import pytest
import trio

from paas.assembly.dns import listen_messages
from paas.base.errors import PlatformError
from paas.dns import limits, names, records, transfer, wire
from paas.dns.agent import DnsAgent
from paas.dns.client import ZoneLink
from paas.dns.names import Labels
from paas.dns.rates import Rates
from paas.dns.responder import Face, Responder
from paas.dns.server import Server, bind_both
from paas.dns.state import AnnounceAgents, DnsState
from paas.dns.transfer import Secondary
from tests.unit.dns.world import WALL_S, Cluster, member, question, static, zone

KEY = names.parse("k")


@asynccontextmanager
async def serving(
    face: Face, *, secondaries: tuple[Secondary, ...] = ()
) -> AsyncIterator[tuple[Server, tuple[str, int]]]:
    """A server on ports of the loopback."""
    server = Server(
        responder=Responder(now_s=lambda: WALL_S, secondaries=secondaries),
        face_of=lambda _: face,
        now_s=time.monotonic,
        wall_s=lambda: WALL_S,
    )
    udp, tcp = await bind_both("127.0.0.1", 0)
    async with trio.open_nursery() as nursery:
        await nursery.start(server.serve_udp, udp)
        await nursery.start(server.serve_tcp, tcp)
        with udp:
            yield server, udp.getsockname()
            nursery.cancel_scope.cancel()


async def exchange(address: tuple[str, int], *questions: bytes) -> list[bytes]:
    """Answers by UDP, in the order they come."""
    found = []
    with trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        await sock.connect(address)
        for one in questions:
            await sock.send(one)
        with trio.move_on_after(2):
            while len(found) < len(questions):
                found.append(await sock.recv(65_535))
    return found


async def by_stream(stream: trio.SocketStream) -> bytes:
    buffer = bytearray()
    while len(buffer) < 2 or len(buffer) < 2 + int.from_bytes(buffer[:2], "big"):
        chunk = await stream.receive_some(65_536)
        if not chunk:
            return b""
        buffer += chunk
    return bytes(buffer[2:])


async def dig(address: tuple[str, int], *words: str) -> str:
    done = await trio.run_process(
        ["dig", f"@{address[0]}", "-p", str(address[1]), "+tries=1", "+time=5", *words],
        capture_stdout=True,
        check=False,
    )
    return done.stdout.decode()


async def test_dig_is_answered_by_udp_and_tcp() -> None:
    async with serving(Face(zone())) as (_, address):
        ask = partial(dig, address)
        assert await ask("+short", "web.group.paas.internal") == "10.64.0.1\n10.64.0.2\n"
        assert await ask("+short", "+tcp", "web.component.paas.internal") == "10.64.0.1\n"
        said = await ask("_http._tcp.web.group.paas.internal", "SRV")
        assert "status: NOERROR" in said
        assert "ANSWER: 2, AUTHORITY: 0, ADDITIONAL: 3" in said
        said = await ask("nobody.paas.internal")
        assert "status: NXDOMAIN" in said
        assert "AUTHORITY: 1" in said
        assert "Got bad packet" not in said
        assert "transfer failed" in (await ask("paas.internal", "AXFR")).lower()


async def test_dig_comes_back_by_tcp_when_an_answer_is_cut() -> None:
    crowd = [member(n) for n in range(1, 200)]
    async with serving(Face(zone(Cluster(grouped={"web": crowd})))) as (_, address):
        said = await dig(address, "web.group.paas.internal")
        assert "Truncated, retrying in TCP mode" in said
        assert "ANSWER: 199" in said


async def test_a_burst_is_answered_whole_and_each_by_its_number() -> None:
    asked = question("web.component.paas.internal")
    burst = [number.to_bytes(2, "big") + asked[2:] for number in range(500)]
    async with serving(Face(zone())) as (server, address):
        found = []
        for at in range(0, 500, 50):
            found += await exchange(address, *burst[at : at + 50])
        assert {one[:2] for one in found} == {one[:2] for one in burst}
        assert server.statistics()["answers"] == 500


async def test_noise_does_not_end_the_server() -> None:
    async with serving(Face(zone())) as (_, address):
        with trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            for size in (0, 1, 11, 12, 13, 100, 4_096, 9_000):
                for filler in (b"\0", b"\xff", b"\xc0", b"\x3f"):
                    await sock.sendto(filler * size, address)
        (answer,) = await exchange(address, question("web.component.paas.internal"))
        assert dnslib.DNSRecord.parse(answer).rr


async def test_beyond_its_rate_a_network_gets_little_and_no_more_bytes_than_it_sends() -> None:
    """Amplification: thousands of questions "from" one victim, for the largest answer there is."""
    crowd = [member(n) for n in range(1, 60)]
    face = Face(zone(Cluster(grouped={"web": crowd})), rates=Rates(50))
    asked = question("web.group.paas.internal", size=4_096)
    async with serving(face) as (server, address):
        with trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            await sock.connect(address)
            for _ in range(2_000):
                await sock.send(asked)
                await trio.lowlevel.checkpoint()
            found: list[bytes] = []
            with trio.move_on_after(0.3):
                while len(found) < 2_000:
                    found += [await sock.recv(65_535)]
        large = [one for one in found if len(one) > len(asked)]
        slipped = [one for one in found if len(one) <= len(asked)]
        seconds = 3  # it may have taken so many; each has its own count
        assert len(large) <= 50 * seconds
        assert slipped
        assert all(dnslib.DNSRecord.parse(one).header.tc for one in slipped)
        assert face.rates is not None
        assert face.rates.dropped >= 500
        # Who is real goes on by TCP, which has no such limit: nobody can invent its address.
        stream = await trio.open_tcp_stream(*address)
        await stream.send_all(len(asked).to_bytes(2, "big") + asked)
        assert len(dnslib.DNSRecord.parse(await by_stream(stream)).rr) == 59
        await stream.aclose()
        assert server.statistics()["streams"] <= 1


async def test_many_questions_on_one_stream_even_in_pieces() -> None:
    asked = question("web.component.paas.internal")
    whole = len(asked).to_bytes(2, "big") + asked
    async with serving(Face(zone())) as (_, address):
        stream = await trio.open_tcp_stream(*address)
        for byte in whole:
            await stream.send_all(bytes((byte,)))
        assert await by_stream(stream)
        for _ in range(50):
            await stream.send_all(whole)
            assert await by_stream(stream)
        await stream.aclose()


@pytest.mark.parametrize(
    "data", [b"\0\0", b"\0\x05abcde", b"\xff\xff" + b"x" * 100, b"\0\x0c" + b"\xff" * 12]
)
async def test_what_is_no_question_ends_a_stream(data: bytes) -> None:
    async with serving(Face(zone())) as (_, address):
        stream = await trio.open_tcp_stream(*address)
        await stream.send_all(data)
        with trio.fail_after(5), contextlib.suppress(trio.BrokenResourceError):
            assert await stream.receive_some(100) == b""
        await stream.aclose()


async def test_one_source_has_so_many_streams_and_others_are_answered() -> None:
    async with serving(Face(zone())) as (server, address):
        greedy = [
            await trio.open_tcp_stream(*address)
            for _ in range(limits.TCP_CONNECTIONS_SOURCE_MAX + 20)
        ]
        with trio.fail_after(5):
            closed = greedy[-1]
            assert await closed.receive_some(1) == b""
        assert server.statistics()["streams"] <= limits.TCP_CONNECTIONS_SOURCE_MAX
        assert len(await exchange(address, question("web.component.paas.internal"))) == 1
        other = await trio.open_tcp_stream(*address, local_address="127.0.0.2")
        asked = question("web.component.paas.internal")
        await other.send_all(len(asked).to_bytes(2, "big") + asked)
        assert await by_stream(other)
        for stream in (*greedy, other):
            await stream.aclose()


async def test_who_drips_bytes_is_cut(autojump_clock: trio.testing.MockClock) -> None:
    """Time is virtual here, and so is the stream: a question that takes for ever."""
    from paas.dns.server import _read_message

    ours, theirs = trio.testing.memory_stream_pair()
    begin_s = trio.current_time()
    async with trio.open_nursery() as nursery:

        async def drip() -> None:
            for byte in b"\0\x40" + b"x" * 64:
                await theirs.send_all(bytes((byte,)))
                await trio.sleep(0.5)

        nursery.start_soon(drip)
        assert await _read_message(ours) is None  # type: ignore[arg-type]
        assert trio.current_time() - begin_s <= limits.TCP_MESSAGE_S + limits.TCP_IDLE_S
        nursery.cancel_scope.cancel()


async def test_a_transfer_of_a_large_zone_lets_others_be_answered() -> None:
    content = {f"h{n}": {records.A: [n.to_bytes(4, "big")]} for n in range(20_000)}
    mine = (Secondary("127.0.0.1", 53),)
    async with serving(Face(static(content)), secondaries=mine) as (server, address):
        stream = await trio.open_tcp_stream(*address)
        asked = question("paas.internal", "AXFR", size=0)
        await stream.send_all(len(asked).to_bytes(2, "big") + asked)
        assert len(await exchange(address, question("h7.paas.internal"))) == 1
        count, wanted, buffer = 0, 20_000 + 3, bytearray()  # and NS, and SOA at both ends
        while count < wanted:
            buffer += await stream.receive_some(65_536)
            while len(buffer) >= 2 and len(buffer) >= 2 + int.from_bytes(buffer[:2], "big"):
                size = 2 + int.from_bytes(buffer[:2], "big")
                count += int.from_bytes(buffer[8:10], "big")
                del buffer[:size]
        assert count == wanted
        await stream.aclose()
        assert server.statistics()["transfers"] == 1


# -- the agent of a node ---------------------------------------------------------------------------


class Log:
    """Applies announcements to the state, as the replicated log would."""

    def __init__(self, state: DnsState) -> None:
        self.state = state
        self.callbacks: list[Callable[[int, Sequence[Any]], None]] = []
        self.refusals = 1

    async def propose(self, command: msgspec.Struct, *, timeout_s: float = 10.0) -> Any:
        await trio.lowlevel.checkpoint()
        assert isinstance(command, AnnounceAgents)
        if self.refusals:
            self.refusals -= 1
            raise PlatformError("unavailable", "nobody leads")
        self.state.agents[command.node] = dict(command.agents)
        self.change()
        return {}

    def subscribe(self, callback: Callable[[int, Sequence[Any]], None]) -> Callable[[], None]:
        self.callbacks.append(callback)
        return lambda: self.callbacks.remove(callback)

    def change(self) -> None:
        self.state.serial += 1
        for callback in self.callbacks:
            callback(self.state.serial, ())


class Paths:
    def __init__(self) -> None:
        self.opened: list[tuple[str, str]] = []
        self.refuses = False

    def wanted(self, component: str, labels: Labels, /) -> str:
        return "store" if labels == (b"web", b"group") and component == "ab" * 20 else ""

    async def open(self, component: str, requirement: str, /) -> None:
        await trio.lowlevel.checkpoint()
        self.opened.append((component, requirement))
        if self.refuses:
            raise PlatformError("not-available", "no way")


@asynccontextmanager
async def agent(
    path: Path, *secondaries: Secondary, keys: dict[Labels, bytes] | None = None
) -> AsyncIterator[tuple[DnsAgent, Log, Paths]]:
    state, face = DnsState(), Face(zone())
    log, paths = Log(state), Paths()
    ours = DnsAgent(
        node="n1",
        log=log,
        state=state,
        zone=face.zone,
        server=Server(
            responder=Responder(now_s=lambda: WALL_S, secondaries=secondaries),
            face_of=lambda _: face,
            now_s=time.monotonic,
            wall_s=lambda: WALL_S,
        ),
        containers=face,
        agents=lambda: {"dns": ours.address or ("", 0)},
        keys=keys or {},
        paths=paths,
        random=lambda count: bytes(range(count)),
        on_trouble=lambda _where, _error: None,
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(ours.run, ("127.0.0.1", 0), listen_messages(str(path / "names.sock")))
        yield ours, log, paths
        nursery.cancel_scope.cancel()


async def until(condition: Callable[[], Any]) -> None:
    with trio.fail_after(10):
        while not condition():  # noqa: ASYNC110
            await trio.sleep(0.01)


async def test_a_node_announces_where_it_listens(tmp_path: Path) -> None:
    async with agent(tmp_path) as (ours, log, _):
        await until(lambda: log.state.agents.get("n1") == {"dns": ours.address})
        assert ours.address is not None
        assert len(await exchange(ours.address, question("web.group.paas.internal"))) == 1


async def test_a_place_that_is_taken_is_said(tmp_path: Path) -> None:
    async with agent(tmp_path) as (ours, _, _), agent(tmp_path) as (other, _, _):
        with pytest.raises(PlatformError, match="cannot be answered") as caught:
            await other.run(ours.address, None)
        assert caught.value.code == "conflict"


async def test_containers_are_answered_and_ways_opened_before(tmp_path: Path) -> None:
    async with agent(tmp_path) as (_, _, paths), trio.open_nursery() as nursery:
        link = ZoneLink(str(tmp_path / "names.sock"))
        nursery.start_soon(link.run)
        await until(lambda: link._sock)
        for component, opened in (("cd" * 20, []), ("ab" * 20, [("ab" * 20, "store")])):
            answer = await link.ask(question("web.group.paas.internal"), component)
            assert answer is not None
            assert len(dnslib.DNSRecord.parse(answer).rr) == 2
            assert paths.opened == opened
        paths.refuses = True  # then the name is answered all the same
        assert await link.ask(question("web.group.paas.internal"), "ab" * 20)
        assert await link.ask(question("www.example.com"), "ab" * 20)
        for noise in (b"", b"\xff" * 30, b"\0" * 12):
            await link.ask(noise, "ab" * 20)
        assert await link.ask(question("web.group.paas.internal"), "cd" * 20, tcp=True)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("key", [(), KEY])
async def test_secondaries_are_told_until_they_hear(tmp_path: Path, key: Labels) -> None:
    with trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        await sock.bind(("127.0.0.1", 0))
        mine = Secondary("127.0.0.1", sock.getsockname()[1], key)
        async with agent(tmp_path, mine, keys={KEY: b"s" * 32}) as (ours, log, _):
            with trio.fail_after(10):
                await sock.recvfrom(4096)  # the first is not heard
                data, sender = await sock.recvfrom(4096)
                heard = dnslib.DNSRecord.parse(data)
                assert heard.header.opcode == 4
                assert any(rr.rtype == records.TSIG for rr in heard.ar) == bool(key)
                await sock.sendto(data[:2] + b"\xa0\x00" + data[4:12] + data[12:], sender)
                await until(lambda: ours.notices)
                assert "heard of" in next(iter(ours.notices.values()))
                log.change()
                data, _ = await sock.recvfrom(4096)
                assert transfer.is_heard(data[:2] + b"\xa0\x00" + data[4:], data[0] << 8 | data[1])


def test_a_server_alone_says_where_it_listens(tmp_path: Path) -> None:
    (tmp_path / "zone").write_text("a.group A 192.0.2.1\na.group A 192.0.2.2\nt TXT x y\n")
    words = [
        sys.executable,
        "-m",
        "paas.dns",
        "--zone",
        str(tmp_path / "zone"),
        "--origin",
        "lab.test",
    ]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = process.stdout.readline().split()
        host, _, port = said[1].rpartition(":")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(5)
            sock.sendto(question("a.group.lab.test"), (host, int(port)))
            heard = dnslib.DNSRecord.parse(sock.recv(4096))
        process.terminate()
    assert said[0] == "listening"
    assert wire.CODES[heard.header.rcode] == "NOERROR"
    assert len(heard.rr) == 2
