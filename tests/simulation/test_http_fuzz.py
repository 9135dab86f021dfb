"""Hostile bytes at the HTTP server and in WebSockets: it answers or hangs up, in bounded time.

Inputs are well-formed ones that were cut, doubled, flipped and mixed, from a seed.  After each the
server must have ended the connection by itself, hold no bytes of it, and have logged no bug of its
own.  Time is virtual, so an input that would keep the server waiting shows as time that has passed.
"""

from __future__ import annotations

import logging
import random
from typing import Any

import pytest
import trio
import trio.testing

from paas.testing.http_world import HEAD, UPGRADE, ask, http_world, post

AT_ONCE = 50
LONGEST_S = 120.0
"""Headers, body, idle time and lingering together take less."""

WORDS = [b"\r\n", b"\r\n\r\n", b"\0", b" ", b":", b"0\r\n\r\n", b"Transfer-Encoding: chunked\r\n"]
WORDS += [
    b"Content-Length: 3\r\n",
    b"HTTP/1.1",
    b"\xff",
    b"\x81\x80\0\0\0\0",
    b"\x89\xff",
    b"{",
    b"[",
]

CALL = ask("echo", value=[1]).encode()
FRAMES = b"\x81" + bytes([0x80 | len(CALL)]) + b"\0\0\0\0" + CALL + b"\x89\x80\0\0\0\0"
CHUNKED = f"POST /rpc HTTP/1.1\r\n{HEAD}content-type: application/json\r\n".encode()
SEEDS = [
    post(CALL) * 2,
    CHUNKED + b"transfer-encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(CALL), CALL),
    CHUNKED + b"expect: 100-continue\r\ncontent-length: 2\r\n\r\n[]",
    b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n",
    f"{UPGRADE}\r\n".encode() + FRAMES * 3 + b"\x88\x82\0\0\0\0\x03\xe8",
    f"{UPGRADE}\r\n".encode() + b"\x01\x81\0\0\0\0[\x80\x81\0\0\0\0]",
]


def mutated(chance: random.Random) -> bytes:
    data = bytearray(chance.choice(SEEDS))
    for _ in range(chance.randrange(6)):
        at = chance.randrange(len(data) + 1)
        match chance.randrange(6):
            case 0 if data:
                data[at % len(data)] ^= 1 << chance.randrange(8)
            case 1:
                del data[at : at + chance.randrange(1, 20)]
            case 2:
                data[at:at] = chance.choice(WORDS)
            case 3:
                data[at:at] = data[at : at + chance.randrange(1, 60)]
            case 4:
                data[at:at] = chance.randbytes(chance.randrange(1, 9))
            case _:
                del data[at:]
    return bytes(data)


async def one(theirs: trio.StapledStream[Any, Any], data: bytes) -> None:
    await theirs.send_all(data)
    await theirs.send_eof()
    said = b""
    while piece := await theirs.receive_some():
        said += bytes(piece)
    assert not said or said.startswith((b"HTTP/1.1 ", b"\x81", b"\x88", b"\x8a")), (data, said[:99])


async def feed(seed: int, count: int) -> None:
    chance = random.Random(seed)
    async with http_world(linger_s=0.05) as world:
        for _ in range(count // AT_ONCE):
            began = trio.current_time()
            async with trio.open_nursery() as nursery:
                for _ in range(AT_ONCE):
                    ours, theirs = trio.testing.memory_stream_pair()
                    nursery.start_soon(world.server.serve_stream, ours, {})
                    nursery.start_soon(one, theirs, mutated(chance))
            assert trio.current_time() - began < LONGEST_S
            assert world.server.budget.held == 0
            for peer, request in world.waiting.values():
                peer.reply(request)
            world.waiting.clear()
        assert world.rpc.statistics["websockets"] == 0


def no_bugs(caplog: pytest.LogCaptureFixture) -> None:
    assert [r.getMessage() for r in caplog.records if r.levelno >= logging.ERROR] == []


async def test_a_few_thousand_hostile_inputs(
    autojump_clock: Any, caplog: pytest.LogCaptureFixture
) -> None:
    await feed(1, 3_000)
    no_bugs(caplog)


@pytest.mark.simulation
@pytest.mark.timeout(600)
async def test_a_hundred_thousand_hostile_inputs(
    autojump_clock: Any, caplog: pytest.LogCaptureFixture
) -> None:
    await feed(2, 100_000)
    no_bugs(caplog)
