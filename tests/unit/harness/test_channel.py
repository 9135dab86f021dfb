"""The short way for msgpack means the same as the general way of the shared core."""

from __future__ import annotations

from typing import Any

import msgpack
from hypothesis import given
from hypothesis import strategies as st

from paas.base.errors import PlatformError
from paas.base.limits import NESTING_MAX
from paas.harness.channel import Channel, is_map, shallow
from paas.rpc.connection import Connection
from paas.rpc.envelope import Form
from paas.wire import codec
from paas.wire.frame import frame

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)
MESSAGES = st.fixed_dictionaries(
    {},
    optional={
        "jsonrpc": st.sampled_from(["2.0", "1.0", 2]),
        "id": st.none() | st.integers(0, 9) | st.text(max_size=3) | st.booleans() | st.just([1]),
        "method": st.text(max_size=5) | st.integers(0, 9),
        "params": st.dictionaries(st.text(), VALUES, max_size=3) | st.just([]) | st.none(),
        "result": VALUES,
        "error": st.dictionaries(st.sampled_from(["code", "x"]), st.integers(0, 9)) | st.text(),
    },
)


def plain(events: list[Any]) -> list[Any]:
    """Requests as comparable values, with parameters decoded."""
    return [(e.id, e.method, codec.unpack(e.params), e.notification) for e in events]


@given(st.lists(MESSAGES | VALUES, max_size=4))
def test_the_short_way_understands_what_the_general_way_does(messages: list[Any]) -> None:
    answers: list[tuple[str, Any]] = []
    general, short = Connection(None), Channel(1)
    for name, connection in (("general", general), ("short", short)):
        connection.form = Form.MSGPACK
        for _ in range(3):
            connection.request("m", codec.pack({}), lambda v, n=name: answers.append((n, v)), 1.0)
    data = b"".join(frame(msgpack.packb(m)) for m in messages)
    assert plain(short.receive(data)) == plain(general.receive(data))
    assert short.take_outbox() == general.take_outbox()
    heard = {n: [said(v) for m, v in answers if m == n] for n in ("general", "short")}
    assert heard["general"] == heard["short"]
    assert short.waiting == general.waiting


def said(value: bytes | PlatformError) -> Any:
    return value.to_rpc() if isinstance(value, PlatformError) else codec.unpack(value)


@given(VALUES)
def test_what_is_shallow_is_certainly_within_the_limit(value: Any) -> None:
    body = codec.pack(value)
    if shallow(body):
        codec.check_nesting(value, NESTING_MAX)


def test_too_deep_nesting_is_a_fault_that_is_answered() -> None:
    channel = Channel(1)
    deep: Any = {}
    for _ in range(NESTING_MAX + 2):
        deep = {"x": deep}
    message = {"jsonrpc": "2.0", "id": 1, "method": "hub.call", "params": deep}
    assert channel.receive(frame(msgpack.packb(message))) == []
    assert b"nested" in channel.take_outbox()


def test_many_small_containers_are_not_mistaken_for_depth() -> None:
    channel = Channel(1)
    wide = {"list": [[] for _ in range(500)]}
    message = {"jsonrpc": "2.0", "id": 1, "method": "hub.call", "params": wide}
    assert len(channel.receive(frame(msgpack.packb(message)))) == 1


def test_parameters_pass_unchanged_byte_for_byte() -> None:
    channel = Channel(1)
    # 200 as a 16-bit number: a decoder and encoder would make it shorter.
    params = b"\x81\xa1n\xcd\x00\xc8"
    body = b"\x83\xa2id\x01\xa6method\xa8hub.call\xa6params" + params
    assert channel.receive(frame(body))[0].params == params


def test_a_result_that_the_codec_cannot_say_becomes_an_error() -> None:
    channel = Channel(1)
    request = channel.receive(b'{"jsonrpc":"2.0","id":1,"method":"hub.call"}\n')[0]
    channel.answer(request, msgpack.packb({"a": msgpack.ExtType(5, b"x")}))
    answer = codec.from_json(channel.outbox.take())
    assert answer["error"]["data"]["code"] == "failed"
    assert channel.outstanding == 0


def test_a_closed_channel_swallows_answers() -> None:
    channel = Channel(1)
    request = channel.receive(b'{"jsonrpc":"2.0","id":1,"method":"hub.call"}\n')[0]
    channel.closed = True
    channel.answer(request, codec.pack({}))
    assert channel.outbox.bytes == 0


def test_the_first_byte_of_a_map() -> None:
    assert is_map(codec.pack({}))
    assert is_map(codec.pack({str(n): n for n in range(100)}))
    assert not is_map(codec.pack([]))
    assert not is_map(b"")
