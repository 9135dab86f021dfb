"""What a hostile server can do to the fetcher: each attempt ends with its reason, soon."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable
from dataclasses import replace
from itertools import count

import pytest
import trio

from paas.base.errors import PlatformError
from paas.fetcher import limits
from paas.fetcher.client import Fetcher, Request, Stream, _Reply, _Turn, reason
from paas.fetcher.decoding import Decoder
from paas.fetcher.redirects import Journey, Step
from paas.fetcher.request import Head
from paas.fetcher.settings import Settings
from paas.fetcher.transport import Wire
from paas.fetcher.urls import parse
from tests.unit.fetcher.conftest import Heard, Serving, always, said

CUT_OFF = gzip.compress(b"x" * 99, mtime=0)[:-9]
MANY_EMPTY = gzip.compress(b"", mtime=0) * 1000
CHUNKED = b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n"


async def failure(settings: Settings, request: Request, **options: object) -> PlatformError:
    async with Fetcher(settings, **options) as fetcher:  # type: ignore[arg-type]
        with pytest.raises(PlatformError) as caught:
            await fetcher.fetch(request)
        assert fetcher._all.borrowed_tokens == 0
    return caught.value


async def test_endless_redirects(serving: Serving, settings: Settings) -> None:
    numbers = count()

    async def script(heard: Heard, stream: trio.SocketStream) -> None:
        await stream.send_all(said(302, f"Location: /{next(numbers)}"))

    async with serving(script) as origin:
        error = await failure(settings, Request(url=origin.url(), redirects=7))
    assert reason(error) == "redirects"
    assert len(origin.heard) == 8
    assert len(error.data["hops"]) == 7


async def test_a_circle_of_redirects(serving: Serving, settings: Settings) -> None:
    async with serving(always(said(302, "Location: /b"), said(302, "Location: /"))) as origin:
        error = await failure(settings, Request(url=origin.url()))
    assert reason(error) == "redirect-loop"


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        ("ftp://127.0.0.1/", "url"),
        ("file:///etc/passwd", "url"),
        ("gopher://127.0.0.1:70/x", "url"),
        ("javascript:alert(1)", "url"),
        ("http://user:word@127.0.0.1/", "url"),
        ("http://127.1/", "url"),
        ("http://2130706433/", "url"),
        ("http://0x7f000001/", "url"),
        ("http://[::ffff:127.0.0.1]:25/", "port-refused"),
        ("http://127.0.0.1:22/", "port-refused"),
        ("http:///nowhere", "url"),
        ("http://a b/", "url"),
        ("http://x/" + "a" * 5000, "redirect-invalid"),
    ],
)
async def test_redirects_to_where_nobody_should_go(
    serving: Serving, settings: Settings, location: str, expected: str
) -> None:
    async with serving(always(said(302, f"Location: {location}"))) as origin:
        error = await failure(settings, Request(url=origin.url()))
    assert reason(error) == expected


async def test_a_redirect_cannot_lead_inside(serving: Serving, settings: Settings) -> None:
    """The server asked for may be inside, as the settings say; one that it names may not."""
    async with serving(always(said(200, body=b"metadata"))) as victim:
        to = said(301, f"Location: {victim.url('/latest/meta-data', 'localhost')}")
        async with serving(always(to)) as origin:
            error = await failure(settings, Request(url=origin.url()))
            assert reason(error) == "private-redirect"
            allowed = replace(settings, private_redirects=True)
            async with Fetcher(allowed) as fetcher:
                assert (await fetcher.fetch(Request(url=origin.url()))).body == b"metadata"
    assert len(victim.heard) == 1


async def test_a_remembered_redirect_is_judged_like_a_new_one(
    serving: Serving, settings: Settings
) -> None:
    """Where it led was of the Internet when it was remembered, and is inside by now."""

    async def resolver(host: str, port: int) -> list[str]:
        return ["127.0.0.1"]

    fetcher = Fetcher(settings, resolver=resolver)
    async with serving(always(said(200))) as victim, fetcher:
        first, place = victim.url("/", "origin.test"), victim.url("/", "moved.test")
        fetcher._moved.remember(parse(first), parse(place), trio.current_time())
        with pytest.raises(PlatformError) as caught:
            await fetcher.fetch(Request(url=first, retries=0))
        assert reason(caught.value) == "private-redirect"
        assert victim.connections == 0
        assert (await fetcher.fetch(Request(url=first))).status == 200


async def test_no_way_from_https_to_http(settings: Settings) -> None:

    journey = Journey(Step(parse("https://example.org/"), "GET"), 5)
    with pytest.raises(PlatformError) as caught:
        journey.follow(301, "http://example.org/")
    assert reason(caught.value) == "downgrade"
    assert str(journey.follow(301, "//example.org/x").url) == "https://example.org/x"


async def test_names_that_mean_addresses_inside(serving: Serving) -> None:
    """Nothing is connected to, whatever the name; also when only some of its addresses are bad."""
    async with serving(always(said(200))) as origin:
        for addresses in (["127.0.0.1"], ["::1"], ["::ffff:127.0.0.1"], ["169.254.169.254"]):

            async def resolver(host: str, port: int, found: list[str] = addresses) -> list[str]:
                return found

            error = await failure(
                Settings(), Request(url=origin.url("/", "evil.test")), resolver=resolver
            )
            assert reason(error) == "address-refused"
    assert origin.connections == 0


async def test_a_name_that_changes_its_meaning_gains_nothing(serving: Serving) -> None:
    """DNS rebinding: the address that was judged is the one that is connected to."""
    meanings = iter((["203.0.113.1"], ["127.0.0.1"], ["127.0.0.1"]))

    async def resolver(host: str, port: int) -> list[str]:
        return next(meanings)

    async with serving(always(said(200))) as origin:
        request = Request(url=origin.url("/", "rebind.test"))
        error = await failure(Settings(), request, resolver=resolver)
    assert reason(error) == "address-refused"
    assert origin.connections == 0


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (b"HTTP/1.1 200 X\r\n" + b"A: b\r\n" * 200 + b"\r\n", "head-too-long"),
        (b"HTTP/1.1 200 X\r\nA: " + b"b" * 70_000 + b"\r\n\r\n", "head-too-long"),
        (CHUNKED + b"5;" + b"x" * 70_000 + b"\r\nabcde\r\n0\r\n\r\n", "head-too-long"),
        (CHUNKED + b"1\r\na\r\n" * 50_000 + b"0\r\n\r\n", "chunks"),
        (CHUNKED + b"1;" + b"x" * 900 + b"\r\na\r\n" + b"1\r\na\r\n" * 50_000, "chunks"),
        (CHUNKED + b"fffffffffffffffffffffffff\r\n", "protocol"),
        (CHUNKED + b"-1\r\nabc\r\n", "protocol"),
        (CHUNKED + b"5\r\nabcdefgh\r\n", "protocol"),
        (CHUNKED + b"0\r\n" + b"A: b\r\n" * 10_000, "head-too-long"),
        (b"HTTP/1.1 100 X\r\n\r\n" * 100, "protocol"),
        (b"HTTP/1.1 101 X\r\nUpgrade: x\r\n\r\n", "protocol"),
        (said(200, "Content-Length: 5", "Content-Length: 6", body=b"hello!"), "protocol"),
        (said(200, "Content-Length: -5"), "protocol"),
        (said(200, "Content-Length: 1e3"), "protocol"),
        (said(200, "Bad Name: x"), "protocol"),
        (b"SSH-2.0-OpenSSH\r\n", "closed"),
        (b"\0" * 100, "protocol"),
        (said(200, "Content-Encoding: br", body=b"x"), "coding"),
        (said(200, "Content-Encoding: gzip, gzip", body=b"x"), "coding"),
        (said(200, "Content-Encoding: gzip", body=b"no gzip at all"), "coding"),
        (said(200, "Content-Encoding: gzip", body=CUT_OFF), "coding"),
        (said(200, "Content-Encoding: gzip", body=MANY_EMPTY), "coding"),
        (said(200, body=b"x" * (limits.BODY_MAX + 1)), "body-too-long"),
    ],
)
async def test_answers_that_abuse_http(
    serving: Serving, settings: Settings, answer: bytes, expected: str
) -> None:
    async with serving(always(answer, end=True)) as origin:
        error = await failure(settings, Request(url=origin.url(), retries=0))
    assert reason(error) == expected, error


@pytest.mark.parametrize(
    "bomb",
    [
        lambda: said(200, "Content-Encoding: gzip", body=gzip.compress(b"\0" * (200 << 20), 1)),
        lambda: said(200, "Content-Encoding: deflate", body=zlib.compress(b"\0" * (200 << 20), 1)),
    ],
)
async def test_a_bomb_ends_at_the_bound(
    serving: Serving, settings: Settings, bomb: Callable[[], bytes]
) -> None:
    async with serving(always(bomb())) as origin:
        error = await failure(settings, Request(url=origin.url(), body_max=1 << 20))
    assert reason(error) == "body-too-long"


async def test_a_bomb_costs_no_more_memory_than_a_piece() -> None:

    decoder = Decoder("gzip", 1 << 20)
    bomb = gzip.compress(b"\0" * (64 << 20), 1)
    with pytest.raises(PlatformError):
        decoder.feed(bomb)
    assert decoder.size <= (1 << 20) + limits.PIECE_BYTES


async def test_headers_without_end(serving: Serving, settings: Settings) -> None:
    async def script(heard: Heard, stream: trio.SocketStream) -> None:
        await stream.send_all(b"HTTP/1.1 200 X\r\n")
        while True:
            await stream.send_all(b"X-Endless: " + b"a" * 1000 + b"\r\n")

    async with serving(script) as origin:
        error = await failure(settings, Request(url=origin.url()))
    assert reason(error) == "head-too-long"


@pytest.mark.parametrize(
    "start",
    [b"HTTP/1.1 200 X\r\n", b"HTTP/1.1 200 X\r\nContent-Length: 9999\r\n\r\n", CHUNKED],
)
async def test_a_byte_now_and_then_ends_at_the_deadline(
    serving: Serving, settings: Settings, start: bytes
) -> None:
    async def script(heard: Heard, stream: trio.SocketStream) -> None:
        await stream.send_all(start)
        for byte in b"X-A: b\r\n" * 1000 if b"\r\n\r\n" not in start else b"1\r\na\r\n" * 1000:
            await stream.send_all(bytes([byte]))
            await trio.sleep(0.02)

    async with serving(script) as origin:
        error = await failure(settings, Request(url=origin.url(), timeout_s=0.5))
    assert reason(error) == "deadline"


async def test_a_slow_body_is_given_up_before_a_distant_deadline(
    serving: Serving, settings: Settings, autojump_clock: trio.testing.MockClock
) -> None:
    """On virtual time: nine minutes of a byte a second would be kept otherwise."""
    stream = _Trickle(said(200, "Content-Length: 9999"))
    fetcher = Fetcher(settings)
    error = await _fetched_from(fetcher, stream, Request(url="http://127.0.0.1/", timeout_s=600))
    assert reason(error) == "slow"
    assert trio.current_time() < 60


async def test_silence_is_given_up(
    settings: Settings, autojump_clock: trio.testing.MockClock
) -> None:
    stream = _Trickle(said(200, "Content-Length: 9999"), silent=True)
    fetcher = Fetcher(settings)
    error = await _fetched_from(fetcher, stream, Request(url="http://127.0.0.1/", timeout_s=600))
    assert reason(error) == "idle"


class _Trickle(trio.abc.Stream):
    """A stream whose other end says a head at once and then a byte a second, or nothing."""

    def __init__(self, head: bytes, silent: bool = False) -> None:
        self._head = head
        self._silent = silent

    async def send_all(self, data: bytes) -> None:  # type: ignore[override]
        await trio.lowlevel.checkpoint()

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.checkpoint()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        head, self._head = self._head, b""
        await trio.sleep(0 if head else 1e6 if self._silent else 1)
        return head or b"x"

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


async def _fetched_from(fetcher: Fetcher, stream: _Trickle, request: Request) -> PlatformError:
    """A whole fetch whose connection is this stream."""

    left, _right = trio.socket.socketpair()
    wire = Wire(("http", "x", 1), "127.0.0.1", stream, trio.SocketStream(left))
    reply = _Reply(wire, _Turn(()))

    head = await reply.ask(Step(parse(request.url), "GET"), (("host", "x"),))
    answer = Head(status=head.status, headers=head.headers, final_url="")
    with pytest.raises(PlatformError) as caught:
        async for _ in Stream(answer, reply, request.body_max, hurried=True):
            pass
    reply.end(fetcher._transport)
    _right.close()
    return caught.value
