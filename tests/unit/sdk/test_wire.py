"""Codecs of the Python SDK: whatever pieces the bytes come in, and what the harness makes of it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from paas.harness.channel import Channel
from paas.rpc.envelope import Form
from paas.sdk import paas_component as sdk
from paas.sdk.python.threads import Component
from paas.sdk.python.wire import ComponentError, JsonLines, MsgpackFrames, codec_named, to_json
from paas.wire import codec

values = some.recursive(
    some.none()
    | some.booleans()
    | some.integers(-(2**63), 2**63 - 1)
    | some.text(max_size=8)
    | some.floats(allow_nan=False, allow_infinity=False),
    lambda inner: (
        some.lists(inner, max_size=3) | some.dictionaries(some.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=8,
)
CODECS = pytest.mark.parametrize("make", [JsonLines, MsgpackFrames])


@CODECS
@given(
    some.lists(some.dictionaries(some.text(max_size=4), values, max_size=3), max_size=6),
    some.integers(1, 9),
)
def test_messages_come_back_in_order_in_pieces_of_any_size(
    make: Any, messages: list[Any], piece: int
) -> None:
    wire = make()
    data = b"".join(wire.encode(message) for message in messages)
    found: list[Any] = []
    for at in range(0, len(data), piece):
        found += wire.feed(data[at : at + piece])
    assert found == messages


@given(values)
def test_the_fast_encoder_says_what_the_standard_one_does(value: Any) -> None:
    assert to_json(value) == json.dumps(value, ensure_ascii=False, separators=(",", ":"))


@CODECS
def test_a_frequent_answer_is_the_general_one(make: Any) -> None:
    wire = make()
    for identity in (7, "seven"):
        data = wire.answer(identity, {"text": "ä"})
        (message,) = wire.feed(data)
        assert message == {"jsonrpc": "2.0", "id": identity, "result": {"outputs": {"text": "ä"}}}


@CODECS
def test_the_first_bytes_tell_the_harness_the_codec_and_nothing_else(make: Any) -> None:
    channel = Channel(1)
    assert channel.receive(make().hello) == []
    assert channel.take_outbox() == b""
    assert channel.form is (Form.JSON if make is JsonLines else Form.MSGPACK)


SEVERAL_THREADS = """
import sys, threading
from paas.sdk.python.wire import MsgpackFrames
sys.setswitchinterval(1e-6)
wire, wrong = MsgpackFrames(), []

def say(n):
    message = {"n": [n] * 50}
    for _ in range(300):
        if MsgpackFrames().feed(wire.encode(message)) != [message]:
            wrong.append(n)

threads = [threading.Thread(target=say, args=(n,)) for n in range(4)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
print(len(wrong))
"""


def test_several_threads_may_say_something_at_once_also_without_the_compiled_package() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SEVERAL_THREADS],
        env={**os.environ, "MSGPACK_PUREPYTHON": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("0\n", "")


@CODECS
def test_the_deepest_nesting_is_that_of_the_harness(make: Any) -> None:
    for depth, brackets in (
        (32, ""),
        (32, "([{" * 40),
        (32, "[]{}" * 40),
        (33, ""),
        (33, "}" * 99),
    ):
        value: Any = {"text": brackets}
        for _ in range(depth - 3):
            value = [value]
        wire = make()
        if depth > 32:
            with pytest.raises(ComponentError, match="nested"):
                wire.encode({"id": 1, "result": {"outputs": value}})
            with pytest.raises(ComponentError, match="nested"):
                wire.answer(1, value)
            continue
        for data in (wire.encode({"id": 1, "result": {"outputs": value}}), wire.answer(1, value)):
            channel = Channel(1)
            channel.receive(wire.hello)
            channel.receive(data)
            assert channel.take_outbox() == b""


def test_half_a_character_is_found() -> None:
    for wire in (JsonLines(), MsgpackFrames()):
        with pytest.raises(UnicodeEncodeError):
            wire.encode({"text": "\ud83d"})
        with pytest.raises(UnicodeEncodeError):
            wire.answer(1, "\ud83d")


@CODECS
def test_sizes_are_those_of_the_messages(make: Any) -> None:
    wire = make()
    data = [wire.encode({"n": "x" * size}) for size in (5, 50_000)]
    assert len(wire.feed(b"".join(data))) == 2
    assert [len(one) - size for one, size in zip(data, wire.sizes, strict=True)] in ([1, 1], [4, 4])
    assert wire.feed(data[0][:3]) == []
    assert wire.sizes == []


def test_what_is_no_json_is_found() -> None:
    with pytest.raises(ValueError, match="not JSON"):
        JsonLines().feed(b'{"a": oops}\n')


def test_auto_is_msgpack_where_there_is_one() -> None:
    assert isinstance(codec_named("auto"), MsgpackFrames)
    with pytest.raises(ValueError, match="expected json"):
        codec_named("xml")


def test_a_component_speaks_msgpack_and_attachments_are_bytes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ours, theirs = socket.socketpair()
    ours.settimeout(20)
    monkeypatch.delenv("PAAS_SOCKET", raising=False)
    monkeypatch.setenv("PAAS_FD", str(theirs.detach()))
    component = sdk.Component(codec="msgpack")

    @component.operation("reverse")
    def reverse(inputs: Any, call: Any) -> Any:
        return sdk.Result({"n": 1}, [{"name": "r", "data": call.attachments[0]["data"][::-1]}])

    threading.Thread(target=component.run, daemon=True).start()
    heard = MsgpackFrames()
    messages: list[Any] = []

    def wait(count: int) -> Any:
        while len(messages) < count:
            messages.extend(heard.feed(ours.recv(65_536)))
        return messages[count - 1]

    assert wait(1) == {"jsonrpc": "2.0", "id": 0, "result": {}}
    ready = wait(2)
    ours.sendall(heard.encode({"jsonrpc": "2.0", "id": ready["id"], "result": {}}))
    params = {"operation": "reverse", "attachments": [{"name": "a", "data": b"\0\1\2"}]}
    ours.sendall(
        heard.encode({"jsonrpc": "2.0", "id": 5, "method": "component.invoke", "params": params})
    )
    answer = wait(3)["result"]
    assert answer == {"outputs": {"n": 1}, "attachments": [{"name": "r", "data": b"\2\1\0"}]}
    assert codec.unpack(codec.pack(answer)) == answer
    ours.close()


def test_a_reader_that_nobody_reads_from_goes_on_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    """Inline answers must not stop the reader: a harness that is not read stops reading too."""
    ours, theirs = socket.socketpair()
    ours.settimeout(20)
    monkeypatch.delenv("PAAS_SOCKET", raising=False)
    monkeypatch.setenv("PAAS_FD", str(theirs.detach()))
    component = Component()
    component.operation("echo", inline=True)(lambda inputs, call: inputs)
    component.connect()
    wire = JsonLines()
    count, text = 400, "x" * 10_000
    for number in range(count):  # 4 MB both ways, far more than a socket holds, and nothing is read
        params = {"operation": "echo", "inputs": {"text": text}}
        ours.sendall(
            wire.encode(
                {"jsonrpc": "2.0", "id": number, "method": "component.invoke", "params": params}
            )
        )
    found: list[Any] = []
    while len(found) < count:
        found += wire.feed(ours.recv(1 << 20))
    assert [message["id"] for message in found] == list(range(count))
    ours.close()
