"""Every row of the smuggling battery: how it is answered, and what a member sees of it."""

from __future__ import annotations

import importlib.util
import ssl
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import h2.config
import h2.connection
import h2.events
import h11
import hpack
import pytest
import trio

from paas.gateway.messages import Route
from paas.testing.edge_world import TestMember, World, gateway, make_certificate

_spec = importlib.util.spec_from_file_location("smuggling", Path(__file__).parent / "smuggling.py")
assert _spec is not None
assert _spec.loader is not None
battery: Any = importlib.util.module_from_spec(_spec)
sys.modules["smuggling"] = battery
_spec.loader.exec_module(battery)

SITE = Route(name="site", group="web", host="x", body_max=1 << 20)


@pytest.fixture
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    member = TestMember(name="m")
    async with gateway(members=[member], routes=[SITE], limits={"refused_linger_s": 0.2}) as made:
        yield made


def test_there_are_enough_rows_and_no_name_twice() -> None:
    names = [row.name for row in battery.ROWS]
    assert len(names) == len(set(names)) >= 60
    assert len(battery.H2_ROWS) >= 30


async def statuses_of(world: World, sent: str) -> list[int]:
    """Of all answers on one connection, until the gateway closes it or everything is answered."""
    browser = await world.connect()
    await browser.send(sent)
    await browser.stream.send_eof()  # type: ignore[attr-defined]
    raw = await browser.everything()
    await browser.close()
    found = []
    while raw:
        connection = h11.Connection(h11.CLIENT)
        connection.send(h11.Request(method="GET", target="/", headers=[("host", "x")]))
        connection.send(h11.EndOfMessage())
        connection.receive_data(raw)
        response = connection.next_event()
        assert isinstance(response, h11.Response)
        while not isinstance(connection.next_event(), h11.EndOfMessage):
            pass
        found.append(response.status_code)
        raw = connection.trailing_data[0]
    return found


@pytest.mark.parametrize("row", battery.ROWS, ids=lambda row: row.name)
async def test_a_row_has_one_reading(world: World, row: Any) -> None:
    assert tuple(await statuses_of(world, row.sent)) == row.statuses
    member = world.members[0]
    assert [str(seen) for seen in member.seen] == list(row.seen)
    # A body that turned out to be malformed was cut off, and the member could see that.
    assert {fault for fault in member.faults if "incomplete chunked read" not in fault} == set()
    for seen in member.seen:
        assert seen.header("te") is None
        assert seen.header("x-forwarded-host") == "x"
    # Nothing is left on a connection to the member that would answer the next browser.
    answer = await world.get("/after")
    assert (answer.status, answer.body) == (200, b"m GET /after")


# -- HTTP/2 ----------------------------------------------------------------------------------------


async def ask_h2(port: int, fields: list[tuple[str, str]], body: str) -> int:
    """The status of one request by a sender that checks nothing; 0 when there is none."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    stream = trio.SSLStream(
        await trio.open_tcp_stream("127.0.0.1", port), context, https_compatible=True
    )
    config = h2.config.H2Configuration(
        validate_outbound_headers=False, normalize_outbound_headers=False
    )
    connection = h2.connection.H2Connection(config)
    connection.initiate_connection()
    # The library looks at what fields mean even when it is told not to, so they go by themselves.
    block = connection.encoder.encode(fields)
    frames = connection.data_to_send() + _frame(1, 4 | (0 if body else 1), block)
    if body:
        frames += _frame(0, 1, body.encode("latin-1"))
    try:
        await stream.send_all(frames)
        with trio.fail_after(5):
            return await _status(stream)
    except (trio.BrokenResourceError, OSError):
        return 0
    finally:
        await trio.aclose_forcefully(stream)


def _frame(kind: int, flags: int, payload: bytes, stream: int = 1) -> bytes:
    return (
        len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload
    )


async def _status(stream: trio.SSLStream[trio.SocketStream]) -> int:
    decoder, raw = hpack.Decoder(), b""
    while True:
        while len(raw) >= 9:
            length, kind = int.from_bytes(raw[:3], "big"), raw[3]
            if len(raw) < 9 + length:
                break
            payload, raw = raw[9 : 9 + length], raw[9 + length :]
            if kind == 1:
                return int(dict(decoder.decode(payload, raw=True))[b":status"])
            if kind in (3, 7):
                return 0
        data = await stream.receive_some(65_536)
        if not data:
            return 0
        raw += data


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("certificates")
    make_certificate(path, "x", "x.example")
    return path


@pytest.mark.parametrize("row", battery.H2_ROWS, ids=lambda row: row.name)
async def test_a_row_of_http_2_has_one_reading(folder: Path, row: Any) -> None:
    member = TestMember(name="m")
    async with gateway(
        members=[member], routes=[SITE], tls=["127.0.0.1:0"], certificates=str(folder)
    ) as world:
        status = await ask_h2(world.edge.addresses[1][1], row.fields, row.body)
        assert status in row.statuses
        assert [str(seen) for seen in member.seen] == list(row.seen)
        assert member.faults == []
        if row.name == "cookies are one":
            assert member.seen[0].header("cookie") == "a=1; b=2"
        answer = await world.get("/after")
        assert (answer.status, answer.body) == (200, b"m GET /after")
