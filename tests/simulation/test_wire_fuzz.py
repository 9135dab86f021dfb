"""Two hundred thousand mutated inputs: garbage is refused by name, and memory stays bounded.

Valid messages are cut, joined, repeated and changed at random places, from a fixed seed, and given
to the frame parsers, to connections of every form, and to the decoder of every declared message.
Nothing but RemoteError and PlatformError may come out, and what a connection keeps stays small.
"""

from __future__ import annotations

import json
import random
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import paas.bundle.messages
import paas.certificates.messages
import paas.container.methods
import paas.controller.messages
import paas.harness.messages
import paas.hub.messages
import paas.logs.messages
import paas.node.messages  # noqa: F401
from paas.base.errors import PlatformError, RemoteError
from paas.rpc.connection import Connection
from paas.rpc.envelope import Form
from paas.wire import codec, registry
from paas.wire.frame import FrameParser, LineParser, frame

pytestmark = pytest.mark.simulation

SEED = 20_260_801
FRAME_MAX = 4_096
KEPT_BYTES_MAX = 4 << 20

INTERESTING = [
    *(bytes([n]) for n in (0x00, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA1, 0xC0, 0xC1, 0xC3, 0xFF)),
    *(b"\xc4\xff", b"\xc7\x01\x05x", b"\xc9\xff\xff\xff\xff\x01", b"\xcb\x7f\xf8" + bytes(6)),
    *(b"\xd6\xff" + bytes(4), b"\xdb\xff\xff\xff\xff", b"\xdd\x7f\xff\xff\xff", b"\xdf\0\1\0\0"),
    *(b"\x91" * 40, b"\x81\xa1a" * 40, b"[" * 40, b'{"a":' * 40, b"\xcf" + b"\xff" * 8),
    *(b"{", b"}", b"[", b"]", b'"', b"\\", b",", b":", b"\n", b"1e999", b"-0", b"9" * 400),
    *(b"\\ud800", b"\xed\xa0\x80", b"\xf8", b"NaN", b"Infinity", b"null", b"true", b'"\\u0000"'),
    *(b'"id":', b'"method":', b'"params":', b'"result":', b'"error":', b'"attachments":'),
]


def messages() -> list[Any]:
    """Requests, answers, errors and batches as values."""
    params = {"target": "a", "operation": "o", "inputs": {"x": [1, 2.5, None, "ü"]}, "timeout": 3}
    names = sorted(registry.BY_NAME)
    call = {"jsonrpc": "2.0", "id": 1, "method": "hub.call", "params": params}
    blob = {"name": "n", "type": "t", "data": "AAEC"}
    return [
        call,
        {"jsonrpc": "2.0", "method": "log.write", "params": {"message": "m"}},
        {"jsonrpc": "2.0", "id": "x", "method": "hub.join", "params": [["g"], True]},
        {"jsonrpc": "2.0", "id": 1, "result": {"outputs": {}, "attachments": [blob]}},
        {"jsonrpc": "2.0", "id": 2, "error": PlatformError("conflict", "no", a=[1]).to_rpc()},
        [call, {"method": "rpc.discover"}, 5, {"id": 1, "result": 1}],
        *({"id": n, "method": name, "params": {}} for n, name in enumerate(names)),
    ]


def mutated(chance: random.Random, seeds: list[bytes]) -> bytes:
    """One of the seeds with a few accidents."""
    data = bytearray(chance.choice(seeds))
    for _ in range(chance.choice((0, 1, 1, 2, 3, 6))):
        place = chance.randrange(len(data) + 1)
        kind = chance.randrange(7)
        if kind == 0 and data:
            data[place % len(data)] = chance.randrange(256)
        elif kind == 1 and data:
            data[place % len(data)] ^= 1 << chance.randrange(8)
        elif kind == 2:
            del data[place : place + chance.randrange(1, 9)]
        elif kind == 3:
            data[place:place] = chance.choice(INTERESTING)
        elif kind == 4:
            data[place : place + chance.randrange(1, 5)] = chance.choice(INTERESTING)
        elif kind == 5:
            other = chance.choice(seeds)
            data[place:] = other[chance.randrange(len(other) + 1) :]
        else:
            data[place:place] = data[max(0, place - chance.randrange(1, 30)) : place]
    return bytes(data[: FRAME_MAX * 2])


def refused(attempt: Callable[..., object], *given: object) -> bool:
    """Run; only the two errors that blame the sender are allowed."""
    try:
        attempt(*given)
    except (RemoteError, PlatformError):
        return True
    return False


@pytest.fixture
def memory() -> Iterator[Callable[[], int]]:
    """Bytes of Python objects that are alive and were not before."""
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    yield lambda: tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()


def pieces(chance: random.Random, data: bytes) -> Iterator[bytes]:
    while data:
        size = chance.choice((1, 3, 20, len(data)))
        yield data[:size]
        data = data[size:]


@pytest.mark.parametrize("kind", [FrameParser, LineParser])
def test_parsers(kind: Callable[[int], FrameParser | LineParser]) -> None:
    chance = random.Random(SEED)
    encode = codec.to_json if kind is LineParser else codec.pack
    seeds = [encode(m) for m in messages()]
    seeds = [s + b"\n" if kind is LineParser else frame(s) for s in seeds]
    limit, broken = 400, 0
    parser = kind(limit)
    for _ in range(20_000):
        for piece in pieces(chance, mutated(chance, seeds)):
            if refused(parser.feed, piece):
                broken += 1
                parser = kind(limit)
                break
            assert parser.pending_bytes <= limit + 4
    assert broken > 100


def converse(server: Connection, data: bytes) -> None:
    """As a shell does: answer every request, one way or another."""
    for number, request in enumerate(server.receive(data)):
        if number % 3 == 0:
            server.reply(request, request.params)
        elif number % 3 == 1:
            server.fail(request, PlatformError("failed", request.method))
    server.take_outbox()


@pytest.mark.parametrize(
    ("form", "count"), [(Form.JSON, 45_000), (Form.MSGPACK, 45_000), (Form.COMPACT, 30_000)]
)
def test_connections(form: Form, count: int, memory: Callable[[], int]) -> None:
    chance = random.Random(SEED + 1)
    values = messages()
    if form is Form.COMPACT:
        numbers = sorted(registry.BY_NUMBER)
        values = [[0, 1, n, {"a": 1}] for n in numbers] + [[0, None, "hub.call", {}]]
        values += [[1, 1, {"x": [1]}], [2, 1, PlatformError("conflict").to_rpc()]]
    encode = codec.to_json if form is Form.JSON else codec.pack
    seeds = [encode(v) for v in values]
    answers: list[object] = []

    def fresh() -> Connection:
        made = Connection(form, frame_bytes_max=FRAME_MAX, outstanding_max=50)
        for _ in range(3):
            made.request("t.any", b"\x80", answers.append, 1.0)
        return made

    server, ended = fresh(), 0
    for number in range(count):
        data = mutated(chance, seeds)
        framed = data + b"\n" if form is Form.JSON else frame(data)
        if chance.random() < 0.02:
            framed = framed[: chance.randrange(len(framed))]
        if refused(converse, server, framed):
            ended += 1
            server = fresh()
        assert server.outstanding <= 51
        assert len(answers) <= 3 * (ended + 1)
        if number % 5_000 == 0:
            answers.clear()
            ended = 0
            server = fresh()
            assert memory() < KEPT_BYTES_MAX


def test_every_declared_message() -> None:
    chance = random.Random(SEED + 2)
    methods = [registry.BY_NAME[name] for name in sorted(registry.BY_NAME)]
    kinds = sorted({k for m in methods for k in (m.params, m.result)}, key=str)
    whole = [
        *({"component": "c", "components": ["c"], "type": "t", "group": "g", "groups": ["g"]},),
        *({"records": [{"sequence": 1, "time_ms": 1, "stream": "log", "level": "info"}]},),
        *({"target": "t", "operation": "o", "inputs": {"a": [1]}, "timeout": 1.5, "watch": 7},),
        *({"reason": "r", "phase": "available", "uid": 5, "count": 3, "configuration": {}},),
    ]
    seeds = [codec.pack(v) for v in (*whole, {k: v for w in whole for k, v in w.items()}, {}, [])]
    good = 0
    for number in range(40_000):
        kind = kinds[number % len(kinds)]
        data = mutated(chance, seeds)
        good += not refused(registry.decode, data, kind)
    assert good > 1_000


def test_strangers_values() -> None:
    """The untyped decoders; what they let through is bounded in depth."""
    chance, good = random.Random(SEED + 3), 0
    seeds = {
        codec.from_json: [json.dumps(m).encode() for m in messages()],
        codec.unpack: [codec.pack(m) for m in messages()],
    }
    for decode, texts in seeds.items():
        for _ in range(10_000):
            data = mutated(chance, texts)
            if not refused(decode, data):
                codec.check_nesting(decode(data))
                good += 1
    assert good > 1_000
