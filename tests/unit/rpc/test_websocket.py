"""WebSockets: the protocol's rules, every bound, and what hostile peers get."""

from __future__ import annotations

import struct
from typing import Any

import pytest
import trio
import trio.testing
from wsproto.events import BytesMessage, CloseConnection, Ping, Pong, TextMessage

from paas.rpc.http_limits import FRAGMENTS_MAX, SILENCE_S
from paas.rpc.websocket import as_line
from paas.testing.http_world import UPGRADE, Caller, Talker, ask, http_world

MASK = bytes(4)


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True, masked: bool = True) -> bytes:
    """One frame as a client would send it, or should not."""
    first = (0x80 if fin else 0) | opcode
    length = len(payload)
    if length < 126:
        head = bytes([first, (0x80 if masked else 0) | length])
    elif length < 1 << 16:
        head = bytes([first, (0x80 if masked else 0) | 126]) + struct.pack(">H", length)
    else:
        head = bytes([first, (0x80 if masked else 0) | 127]) + struct.pack(">Q", length)
    return head + (MASK if masked else b"") + payload


async def test_the_handshake_chooses_the_subprotocol_it_knows() -> None:
    async with http_world() as world:
        for offered, chosen in [
            ("jsonrpc", "jsonrpc"),
            ("chat, jsonrpc", "jsonrpc"),
            ("chat", None),
        ]:
            caller = world.connect()
            answer = await caller.ask(f"{UPGRADE}sec-websocket-protocol: {offered}\r\n\r\n")
            assert answer.status == 101
            assert answer.headers["sec-websocket-accept"] == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
            assert answer.headers.get("sec-websocket-protocol") == chosen


@pytest.mark.parametrize(
    ("text", "status"),
    [
        (UPGRADE.replace("version: 13", "version: 8"), 426),
        (UPGRADE.replace("dGhlIHNhbXBsZSBub25jZQ==", "c2hvcnQ="), 400),
        (UPGRADE.replace("dGhlIHNhbXBsZSBub25jZQ==", "!!"), 400),
        (UPGRADE.replace("Bearer right", "Bearer wrong"), 401),
        (UPGRADE + "origin: https://elsewhere\r\n", 403),
        (UPGRADE.replace("GET", "PUT"), 405),
        (UPGRADE.replace("connection: upgrade\r\n", ""), 405),
    ],
)
async def test_a_handshake_that_is_refused(text: str, status: int) -> None:
    async with http_world(linger_s=0.05) as world:
        assert (await world.connect().ask(f"{text}\r\n")).status == status


async def test_a_page_of_the_same_origin_may_connect() -> None:
    async with http_world() as world:
        answer = await world.connect().ask(f"{UPGRADE}origin: https://x\r\n\r\n")
        assert answer.status == 101


async def test_calls_and_what_is_told_without_being_asked() -> None:
    async with http_world() as world:
        talker = await world.talk()
        assert (await talker.ask(ask("echo", value="ü")))["result"] == "ü"
        told = await talker.ask(ask("tell"))
        assert (told["method"], told["params"]) == ("component.event", {"n": 1})
        assert (await talker.value())["result"] == {}


async def test_the_other_side_may_be_asked_too() -> None:
    async with http_world() as world:
        talker = await world.talk()
        answers: list[Any] = []
        (peer,) = world.peers
        peer.send_request("component.invoke", b"\x80", answers.append, timeout_s=9)
        asked = await talker.value()
        assert asked["method"] == "component.invoke"
        await talker.say(TextMessage(data=f'{{"jsonrpc":"2.0","id":{asked["id"]},"result":7}}'))
        await trio.testing.wait_all_tasks_blocked()
        assert answers == [b"\x07"]


async def test_frames_that_came_with_the_handshake_are_not_lost() -> None:
    async with http_world() as world:
        caller = world.connect()
        text = ask("echo", value=1).encode()
        await caller.send(f"{UPGRADE}\r\n".encode() + frame(1, text))
        assert (await caller.answer()).status == 101
        assert (await Talker(caller).value())["result"] == 1


async def test_a_message_in_many_frames_with_pings_between() -> None:
    async with http_world() as world:
        talker = await world.talk()
        text = ask("echo", value="grün").encode()
        pieces = [frame(0 if n else 1, text[n : n + 1], fin=False) for n in range(len(text))]
        for piece in pieces:
            await talker.caller.send(piece + frame(9, b"?"))
        await talker.caller.send(frame(0, b""))
        seen: list[Any] = []
        while not seen or not isinstance(seen[-1], TextMessage):
            seen.append(await talker.event())
        assert all(isinstance(event, Pong) for event in seen[:-1])
        assert "grün" in seen[-1].data


async def test_a_pretty_printed_message_is_one_message() -> None:
    async with http_world() as world:
        talker = await world.talk()
        text = '{\n "jsonrpc": "2.0",\r\n "id": 1,\n "method": "echo", "params": {"value": 3}\n}'
        assert (await talker.ask(text))["result"] == 3


@pytest.mark.parametrize("text", ["", " ", "\n", '{"a": "\n"}', "{"])
async def test_what_is_no_json_is_answered_so(text: str) -> None:
    async with http_world() as world:
        talker = await world.talk()
        assert (await talker.ask(text))["error"]["code"] == -32700
        assert (await talker.ask(ask("echo", value=1)))["result"] == 1


def test_a_line_feed_inside_a_string_stays_wrong() -> None:
    assert as_line(b'{"a":"\n"}') == b'{"a":"\r"}\n'


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (frame(1, b"{}", masked=False), 1002),
        (frame(3, b"x"), 1002),
        (frame(11), 1002),
        (frame(0, b"x"), 1002),
        (frame(9, b"x" * 200), 1002),
        (frame(9, b"x", fin=False), 1002),
        (frame(1, b"a", fin=False) + frame(1, b"b"), 1002),
        (bytes([0xC1, 0x80]) + MASK, 1002),
        (frame(8, b"\x01"), 1002),
        (frame(2, b"x"), 1003),
        (frame(1, b"\xff\xfe"), 1007),
        (frame(1, b"x" * ((4 << 20) + 1)), 1009),
        (frame(1, b"", fin=False) + frame(0, b"", fin=False) * (FRAGMENTS_MAX + 1), 1009),
    ],
)
async def test_what_breaks_the_protocol_ends_it_with_its_code(data: bytes, code: int) -> None:
    async with http_world(linger_s=0.05) as world:
        talker = await world.talk()
        with trio.move_on_after(20):
            async with trio.open_nursery() as nursery:

                async def send() -> None:
                    try:
                        await talker.caller.send(data)
                    except (trio.BrokenResourceError, trio.ClosedResourceError):
                        return

                nursery.start_soon(send)
                assert await talker.code() == code
                nursery.cancel_scope.cancel()
        await trio.testing.wait_all_tasks_blocked()
        assert world.closed == world.peers
        assert world.server.budget.held == 0


async def test_a_length_that_is_only_claimed_costs_nothing() -> None:
    async with http_world() as world:
        talker = await world.talk()
        await talker.caller.send(b"\x81\xff" + struct.pack(">Q", 1 << 62) + MASK + b"x")
        await trio.testing.wait_all_tasks_blocked()
        assert world.server.budget.held <= 1
        await talker.caller.stream.aclose()
        await trio.testing.wait_all_tasks_blocked()
        assert world.server.budget.held == 0


async def test_a_flood_of_pings_is_answered_with_few_pongs() -> None:
    async with http_world() as world:
        talker = await world.talk()
        for _ in range(20):
            await talker.caller.send(frame(9, b"x") * 1_000)
        assert (await talker.ask_after_pongs(ask("echo", value=1)))["result"] == 1
        assert talker.pongs <= 60


async def test_closing_is_answered_with_closing() -> None:
    async with http_world(linger_s=0.05) as world:
        talker = await world.talk()
        await talker.say(CloseConnection(code=1000))
        assert await talker.code() == 1000
        await trio.testing.wait_all_tasks_blocked()
        assert world.closed == world.peers


@pytest.mark.parametrize("cut", [1, 3, 6, 20])
async def test_a_connection_that_breaks_in_the_middle_of_a_frame(cut: int) -> None:
    async with http_world() as world:
        talker = await world.talk()
        await talker.caller.send(frame(1, ask("wait").encode())[:cut])
        await talker.caller.stream.aclose()
        await trio.testing.wait_all_tasks_blocked()
        assert world.closed == world.peers
        assert world.rpc.statistics["websockets"] == 0


async def test_a_message_that_never_ends_is_given_up(autojump_clock: Any) -> None:
    async with http_world() as world:
        talker = await world.talk()
        await talker.caller.send(frame(1, b"x", fin=False))

        async def trickle() -> None:
            while True:
                await trio.sleep(5)
                await talker.caller.send(frame(0, b"x", fin=False))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(trickle)
            assert await talker.code() == 1008
            nursery.cancel_scope.cancel()


async def test_the_silent_are_asked_and_then_given_up(autojump_clock: Any) -> None:
    async with http_world() as world:
        talker = await world.talk()
        began = trio.current_time()
        assert isinstance(await talker.event(), Ping)
        assert await talker.code() == 1001
        assert trio.current_time() - began == pytest.approx(SILENCE_S, abs=6)


async def test_who_answers_pings_may_stay(autojump_clock: Any) -> None:
    async with http_world() as world:
        talker = await world.talk()
        for _ in range(10):
            ping = await talker.event()
            assert isinstance(ping, Ping)
            await talker.say(ping.response())
        assert trio.current_time() > 150
        assert (await talker.ask(ask("echo", value=1)))["result"] == 1


async def test_who_does_not_read_is_cut_off(autojump_clock: Any) -> None:
    async with trio.open_nursery() as nursery:
        async with http_world() as world:
            ours, theirs = trio.testing.lockstep_stream_pair()
            nursery.start_soon(world.server.serve_stream, ours, {})
            caller = Caller(theirs)
            assert (await caller.ask(f"{UPGRADE}\r\n")).status == 101
            await trio.testing.wait_all_tasks_blocked()
            (peer,) = world.peers
            while not peer.closed:
                peer.notify_raw("component.event", b"\x81\xa1x\xda\xff\xff" + b"x" * 65_535)
            await trio.sleep(10)
            assert world.closed == [peer]
        nursery.cancel_scope.cancel()


async def test_the_end_of_what_somebody_was_let_in_with_ends_it(autojump_clock: Any) -> None:
    async with http_world(linger_s=0.05) as world:
        world.until_s = trio.current_time() + 5
        talker = await world.talk()
        assert await talker.code() == 1008
        assert trio.current_time() == pytest.approx(world.until_s, abs=2)


async def test_a_server_that_ends_says_so(autojump_clock: Any) -> None:
    async with http_world(linger_s=0.05) as world:
        talker = await world.talk()
        world.nursery.start_soon(world.server.drain)
        assert await talker.code() == 1001


async def test_a_binary_message_is_not_mistaken_for_text() -> None:
    async with http_world(linger_s=0.05) as world:
        talker = await world.talk()
        await talker.say(BytesMessage(data=ask("echo", value=1).encode()))
        assert await talker.code() == 1003
