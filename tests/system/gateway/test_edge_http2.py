"""HTTP/2 over TLS towards browsers, certificates by name, and what is done to exhaust either."""

from __future__ import annotations

import ssl
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import pytest
import trio

from paas.gateway.messages import Route
from paas.testing.edge_world import PATIENCE_S, TestMember, World, gateway, make_certificate, until

SITE = Route(name="site", group="web", timeout_s=1.0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("certificates")
    make_certificate(path, "a", "a.example", "*.a.example")
    make_certificate(path, "b", "b.example")
    return path


def context(folder: Path | None = None, *names: str, alpn: str = "h2") -> ssl.SSLContext:
    """Of a browser that believes these certificates, or all."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.set_alpn_protocols([alpn])
    if folder is None:
        made.check_hostname = False
        made.verify_mode = ssl.CERT_NONE
    for name in names:
        made.load_verify_locations(folder / f"{name}.pem")  # type: ignore[operator]
    return made


@asynccontextmanager
async def tls_gateway(folder: Path, **more: Any) -> AsyncIterator[World]:
    more = {"routes": [SITE], "members": [TestMember(name="m")], **more}
    async with gateway(tls=["127.0.0.1:0"], certificates=str(folder), **more) as world:
        yield world


async def dial(
    world: World, name: str = "a.example", with_: ssl.SSLContext | None = None
) -> trio.SSLStream[trio.SocketStream]:
    plain = await trio.open_tcp_stream("127.0.0.1", world.edge.addresses[1][1])
    stream = trio.SSLStream(plain, with_ or context(), server_hostname=name, https_compatible=True)
    with trio.fail_after(PATIENCE_S):
        await stream.do_handshake()
    return stream


class H2Browser:
    """A browser of HTTP/2."""

    def __init__(
        self, stream: trio.SSLStream[trio.SocketStream], *, acknowledges: bool = True
    ) -> None:
        self.stream = stream
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
        self.h2.initiate_connection()
        self.status: dict[int, int] = {}
        self.headers: dict[int, list[tuple[str, str]]] = {}
        self.body: dict[int, bytes] = defaultdict(bytes)
        self.ended: set[int] = set()
        self.reset: dict[int, int] = {}
        self.gone: h2.events.ConnectionTerminated | None = None
        self._acknowledges = acknowledges

    async def flush(self) -> None:
        await self.stream.send_all(self.h2.data_to_send())

    def begin(
        self,
        path: str = "/",
        *,
        method: str = "GET",
        ends: bool = True,
        more: dict[str, str] | None = None,
    ) -> int:
        number = self.h2.get_next_available_stream_id()
        fields = [(":method", method), (":scheme", "https"), (":authority", "a.example")]
        fields += [(":path", path), *(more or {}).items()]
        self.h2.send_headers(number, fields, end_stream=ends)
        return number

    async def ask(self, path: str = "/", **more: Any) -> int:
        number = self.begin(path, **more)
        await self.flush()
        return number

    async def read(self) -> bool:
        """Some events; False at the end."""
        with trio.fail_after(PATIENCE_S):
            try:
                data = await self.stream.receive_some(65_536)
            except trio.BrokenResourceError:
                return False
        if not data:
            return False
        for event in self.h2.receive_data(data):
            match event:
                case h2.events.ResponseReceived(stream_id=number, headers=headers):
                    said: list[Any] = list(headers or [])
                    self.status[number] = int(dict(said)[":status"])
                    self.headers[number] = said
                case h2.events.DataReceived(stream_id=number, data=piece):
                    self.body[number] += piece or b""
                    if self._acknowledges:
                        flow = event.flow_controlled_length or 0
                        self.h2.acknowledge_received_data(flow, number)
                case h2.events.StreamEnded(stream_id=number):
                    self.ended.add(number)
                case h2.events.StreamReset(stream_id=number, error_code=code):
                    self.reset[number] = int(code or 0)
                case h2.events.ConnectionTerminated():
                    self.gone = event
        try:
            await self.flush()
        except trio.BrokenResourceError:
            return False
        return True

    async def answer(self, number: int) -> tuple[int, bytes]:
        while number not in self.ended and number not in self.reset:
            if not await self.read():
                break
        return self.status.get(number, 0), self.body[number]


async def test_many_requests_side_by_side_on_one_connection(folder: Path) -> None:
    async with tls_gateway(folder) as world:
        browser = H2Browser(await dial(world))
        numbers = {await browser.ask(f"/{n}"): n for n in range(50)}
        for number, n in numbers.items():
            assert await browser.answer(number) == (200, f"m GET /{n}".encode())
        assert world.members[0].seen[0].header("x-forwarded-proto") == "https"
        assert world.members[0].seen[0].header("host") == "a.example"
        assert world.edge.statistics["connections"] == 1


async def test_bodies_in_both_directions_and_refusals(folder: Path) -> None:
    body = b"0123456789" * 100_000
    route = Route(name="site", group="web", body_max=1_000_000)
    async with tls_gateway(folder, members=[TestMember(answer=body)], routes=[route]) as world:
        browser = H2Browser(await dial(world))
        number = await browser.ask(method="POST", ends=False)

        async def upload(number: int, data: bytes) -> None:
            at = 0
            while at < len(data) and number not in browser.reset:
                room = browser.h2.local_flow_control_window(number)
                room = min(room, browser.h2.max_outbound_frame_size, len(data) - at)
                if room <= 0:
                    await browser.read()
                    continue
                browser.h2.send_data(number, data[at : at + room])
                at += room
                await browser.flush()
            browser.h2.end_stream(number)
            await browser.flush()

        await upload(number, body)
        assert await browser.answer(number) == (200, body)
        assert world.members[0].seen[0].body == body
        number = await browser.ask(method="POST", ends=False, more={"content-length": "1000001"})
        status, told = await browser.answer(number)
        assert status == 413
        assert b"1000000 bytes" in told
        assert (await browser.answer(await browser.ask("/after")))[0] == 200
        head = await browser.ask(method="HEAD")
        assert await browser.answer(head) == (200, b"")
        assert ("content-length", str(len(body))) in browser.headers[head]


async def test_a_browser_that_opens_no_window_slows_the_member_down(folder: Path) -> None:
    sent = 0

    async def talk(member: TestMember, stream: trio.SocketStream) -> None:
        nonlocal sent
        await stream.receive_some(65_536)
        await stream.send_all(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            await stream.send_all(b"x" * 65_536)
            sent += 65_536

    async with tls_gateway(folder, members=[TestMember(talk=talk)]) as world:
        browser = H2Browser(await dial(world), acknowledges=False)
        number = await browser.ask()
        while len(browser.body[number]) < 65_535:
            await browser.read()
        before = -1
        while sent != before:
            assert sent < 32 << 20
            before = sent
            await trio.sleep(0.3)


async def test_late_members_late_browsers_and_breaking_answers(folder: Path) -> None:
    async def talk(member: TestMember, stream: trio.SocketStream) -> None:
        request = await stream.receive_some(65_536)
        if b"/breaks" in request:
            await stream.send_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc")
        else:
            await trio.sleep_forever()

    route = Route(name="site", group="web", timeout_s=0.2)
    members = [TestMember(talk=talk)]
    limits = {"body_s": 0.3, "replay_bytes_max": 100_000}
    async with tls_gateway(folder, members=members, routes=[route], limits=limits) as world:
        browser = H2Browser(await dial(world))
        late = await browser.ask("/late")
        breaks = await browser.ask("/breaks")
        slow = await browser.ask("/slow", method="POST", ends=False, more={"content-length": "5"})
        assert (await browser.answer(late))[0] == 504
        assert await browser.answer(breaks) == (200, b"abc")
        assert breaks in browser.reset
        assert (await browser.answer(slow))[0] == 408


async def test_streams_that_are_abandoned_again_and_again_end_the_connection(folder: Path) -> None:
    async def talk(member: TestMember, stream: trio.SocketStream) -> None:
        await trio.sleep_forever()

    limits = {"resets_max": 50}
    async with tls_gateway(folder, members=[TestMember(talk=talk)], limits=limits) as world:
        browser = H2Browser(await dial(world))
        for _ in range(60):
            browser.h2.reset_stream(browser.begin())
        await browser.flush()
        while await browser.read():
            pass
        assert browser.gone is not None
        assert int(browser.gone.error_code or 0) == 0xB  # ENHANCE_YOUR_CALM
        await until(lambda: not world.backends.members(SITE)[0].in_flight)


@pytest.mark.parametrize("what", ["ping", "settings", "empty data", "priority"])
async def test_frames_that_carry_nothing_end_the_connection(folder: Path, what: str) -> None:
    async with tls_gateway(folder, limits={"controls_max": 100}) as world:
        browser = H2Browser(await dial(world))
        number = await browser.ask(method="POST", ends=False)
        for _ in range(300):
            if what == "ping":
                browser.h2.ping(b"12345678")
            elif what == "settings":
                browser.h2.update_settings({})
            elif what == "priority":
                browser.h2.prioritize(number, weight=5)
            else:
                browser.h2.send_data(number, b"")
        await browser.flush()
        while await browser.read():
            pass
        assert browser.gone is not None
        assert int(browser.gone.error_code or 0) == 0xB
        assert world.edge.statistics["connections"] == 1
        assert (await world.get()).status == 200


async def test_headers_without_end_and_bombs_of_headers_are_refused(folder: Path) -> None:
    async with tls_gateway(folder) as world:
        browser = H2Browser(await dial(world))
        number = await browser.ask(more={f"x{n}": "y" for n in range(200)})
        assert (await browser.answer(number))[0] == 431
        # One entry of the table, named ten thousand times: small here, large when unpacked.
        other = await dial(world)
        block = b"\x82\x87\x84\x40\x01a\x7f\x81\x1f" + b"b" * 4000
        block = (
            b"\x82\x87\x84\x41\x09a.example\x40\x01a\x7f\xa1\x1e" + b"b" * 4000 + b"\xbe" * 12_000
        )
        head = len(block).to_bytes(3, "big") + b"\x01\x05\x00\x00\x00\x01"
        settings = b"\0\0\0\x04\0\0\0\0\0"
        await other.send_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + settings + head + block)
        raw = b""
        with trio.fail_after(5):
            while b"\x07" not in raw[-40:] and (piece := await other.receive_some(65_536)):
                raw += piece
        # Continuations that never end.
        third = await dial(world)
        begin = b"\0\0\x01\x01\x00\0\0\0\x01\x82"
        more = b"\0\0\x01\x09\x00\0\0\0\x01\x84"
        try:
            await third.send_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + settings + begin)
            for _ in range(1000):
                await third.send_all(more)
            with trio.fail_after(5):
                while await third.receive_some(65_536):
                    pass
        except trio.BrokenResourceError:
            pass
        assert (await world.get()).status == 200


async def test_what_is_no_http_2_and_no_tls_ends_quickly(folder: Path) -> None:
    async with tls_gateway(folder, limits={"first_s": 2.0}) as world:
        stream = await dial(world)
        await stream.send_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        with trio.fail_after(3):
            while await stream.receive_some(1000):
                pass
        plain = await world.connect(1)
        await plain.send("GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        await plain.everything()
        silent = await world.connect(1)
        assert await silent.everything() == b""
        assert world.edge.statistics["late_handshake"] == 1


async def test_the_end_of_the_gateway_is_told(folder: Path) -> None:
    async with tls_gateway(folder) as world:
        browser = H2Browser(await dial(world))
        await browser.answer(await browser.ask())
        world.edge.finish()
        while await browser.read():
            pass
        assert browser.gone is not None
        assert int(browser.gone.error_code or 0) == 0
        await world.edge.wait_ended()


# -- TLS -------------------------------------------------------------------------------------------


async def test_a_certificate_is_chosen_by_name(folder: Path) -> None:
    async with tls_gateway(folder) as world:
        for file, name in (("a", "a.example"), ("a", "www.a.example"), ("b", "b.example")):
            with_ = context(folder, file)
            stream = await dial(world, name, with_)
            await trio.aclose_forcefully(stream)
        with pytest.raises(trio.BrokenResourceError):
            await dial(world, "c.example", context(folder, "a", "b"))


async def test_a_connection_for_one_host_is_not_used_for_another(folder: Path) -> None:
    async with tls_gateway(folder) as world:
        for named, status in (("a.example", 200), ("b.example", 421), ("unknown.example", 200)):
            browser = H2Browser(await dial(world, named))
            assert (await browser.answer(await browser.ask()))[0] == status


async def test_http_1_1_over_tls_for_who_wants_it(folder: Path) -> None:
    async with tls_gateway(folder, http2=False) as world:
        stream = await dial(world, with_=context(alpn="http/1.1"))
        await stream.send_all(b"GET / HTTP/1.1\r\nhost: A.example.\r\nconnection: close\r\n\r\n")
        raw = b""
        with trio.fail_after(5):
            while piece := await stream.receive_some(65_536):
                raw += piece
        assert raw.endswith(b"m GET /")


async def test_a_certificate_that_is_replaced_counts_at_once_and_a_broken_one_does_not(
    tmp_path: Path,
) -> None:
    make_certificate(tmp_path, "a", "a.example")
    async with tls_gateway(tmp_path) as world:
        old = await dial(world, with_=context(tmp_path, "a"))
        make_certificate(tmp_path, "a", "a.example")
        make_certificate(tmp_path, "c", "c.example")
        certificates = world.edge.certificates
        assert certificates is not None
        await until(lambda: certificates.loads == 2)
        await trio.aclose_forcefully(await dial(world, "c.example", context(tmp_path, "c")))
        await trio.aclose_forcefully(await dial(world, with_=context(tmp_path, "a")))
        good = (tmp_path / "c.pem").read_bytes()
        (tmp_path / "c.pem").write_bytes(b"-----BEGIN CERTIFICATE-----\nnonsense\n")
        await until(lambda: certificates.problems)
        assert list(certificates.problems) == ["c.pem"]
        (tmp_path / "good.crt").write_bytes(good)
        trusting = context()
        trusting.check_hostname = True
        trusting.verify_mode = ssl.CERT_REQUIRED
        trusting.load_verify_locations(tmp_path / "good.crt")
        await trio.aclose_forcefully(await dial(world, "c.example", trusting))
        (tmp_path / "c.pem").unlink()
        await until(lambda: not certificates.problems or certificates.loads >= 3)
        browser = H2Browser(old)
        assert (await browser.answer(await browser.ask()))[0] == 200


async def test_a_challenge_of_an_authority_is_answered(folder: Path) -> None:
    async with tls_gateway(folder) as world:
        world.edge.challenges["token"] = "token.thumbprint"
        answer = await world.get("/.well-known/acme-challenge/token", host="whatever.example")
        assert (answer.status, answer.body) == (200, b"token.thumbprint")
        answer = await world.get("/.well-known/acme-challenge/other")
        assert answer.body == b"m GET /.well-known/acme-challenge/other"
