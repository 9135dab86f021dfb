"""Greetings: cut off the stream, judged, answered."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from paas.base.errors import PlatformError, RemoteError
from paas.rpc import mesh_hello
from paas.rpc.mesh_hello import GreetingReader, Hello, Welcome
from paas.rpc.mesh_limits import EPOCH_MAX, HELLO_BYTES_MAX
from paas.wire import codec
from paas.wire.frame import frame

HELLO = Hello(versions=[1], cluster="c1", node="n1", channel="raft", epoch=4)


def changed(**fields: Any) -> Hello:
    return msgspec.structs.replace(HELLO, **fields)


def test_a_greeting_comes_byte_by_byte_and_what_follows_is_kept() -> None:
    whole = mesh_hello.encode(HELLO)
    reader = GreetingReader()
    for position in range(len(whole) - 1):
        assert reader.feed(whole[position : position + 1]) is None
    body = reader.feed(whole[-1:] + b"more")
    assert body is not None
    assert mesh_hello.decode_hello(body) == HELLO
    assert reader.rest == b"more"


def test_a_long_greeting_is_refused_by_its_length_alone() -> None:
    with pytest.raises(RemoteError, match="at most"):
        GreetingReader().feed((HELLO_BYTES_MAX + 1).to_bytes(4, "big"))
    assert GreetingReader().feed(frame(bytes(HELLO_BYTES_MAX))) == bytes(HELLO_BYTES_MAX)


def test_fields_of_later_versions_are_ignored() -> None:
    later = {**msgspec.to_builtins(HELLO), "compression": ["zstd"]}
    assert mesh_hello.decode_hello(codec.pack(later)) == HELLO
    welcome = {"node": "n2", "version": 1, "epoch": 5, "mood": "good"}
    decoded = mesh_hello.decode_welcome(codec.pack(welcome))
    assert decoded == Welcome(node="n2", version=1, epoch=5)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\x80",
        codec.pack([]),
        codec.pack({"versions": "1", "node": "n1", "channel": "hub"}),
        codec.pack({"versions": [1] * 33, "node": "n1", "channel": "hub"}),
        codec.pack({"versions": [-1], "node": "n1", "channel": "hub"}),
        codec.pack({"versions": [1], "node": "n" * 129, "channel": "hub"}),
        codec.pack({"versions": [1], "node": "n1", "channel": "hub", "epoch": EPOCH_MAX + 1}),
        codec.pack({"versions": [1], "node": "n1", "channel": "hub", "epoch": 1.5}),
    ],
)
def test_what_is_no_greeting_is_the_peers_fault(body: bytes) -> None:
    with pytest.raises(RemoteError, match="not a greeting"):
        mesh_hello.decode_hello(body)


def test_a_refusal_nested_without_end_is_the_peers_fault() -> None:
    error: list[Any] = []
    for _ in range(100):
        error = [error]
    with pytest.raises(RemoteError, match="nested"):
        mesh_hello.decode_welcome(codec.pack({"node": "n2", "error": error}))


@pytest.mark.parametrize(("theirs", "ours"), [(0, 0), (4, 9), (9, 4), (7, 7)])
def test_the_epoch_is_above_what_either_side_has_seen(theirs: int, ours: int) -> None:
    hello = changed(epoch=theirs)
    welcome = mesh_hello.answer(hello, node="n2", expected=changed(epoch=ours))
    assert welcome == Welcome(node="n2", version=1, epoch=max(theirs, ours) + 1)
    mesh_hello.check(welcome, node="n2", sent=hello)


@pytest.mark.parametrize(
    ("theirs", "ours", "chosen"), [([1], [1], 1), ([1, 2, 3], [2, 3, 4], 3), ([5, 1], [1, 5], 5)]
)
def test_the_largest_common_version_is_chosen(
    theirs: list[int], ours: list[int], chosen: int
) -> None:
    hello = changed(versions=theirs)
    welcome = mesh_hello.answer(hello, node="n2", expected=changed(versions=ours))
    assert welcome.version == chosen


def test_no_common_version_is_unsupported_and_names_both() -> None:
    with pytest.raises(PlatformError) as caught:
        mesh_hello.answer(changed(versions=[0]), node="n2", expected=changed(versions=[1, 2]))
    assert caught.value.code == "unsupported"
    assert caught.value.message == "n1 speaks the mesh protocol 0, this side 1, 2"
    assert caught.value.data == {"theirs": [0], "ours": [1, 2]}


@pytest.mark.parametrize("field", ["cluster", "node", "channel"])
def test_another_name_than_expected_is_denied(field: str) -> None:
    with pytest.raises(PlatformError, match=f"names the {field} 'x', expected") as caught:
        mesh_hello.answer(changed(**{field: "x"}), node="n2", expected=HELLO)
    assert caught.value.code == "denied"


def test_the_largest_epoch_is_denied_since_none_can_follow() -> None:
    with pytest.raises(PlatformError, match="nobody reaches"):
        mesh_hello.answer(changed(epoch=EPOCH_MAX), node="n2", expected=HELLO)


@pytest.mark.parametrize(
    ("welcome", "code", "words"),
    [
        (Welcome(node="n3", version=1, epoch=5), "denied", "'n3' answers in place of 'n2'"),
        (Welcome(node="n2", version=2, epoch=5), "unsupported", "n2 speaks the mesh protocol 2"),
        (Welcome(node="n2", version=1, epoch=4), "denied", "which is not above 4"),
        (Welcome(node="n2", error="no"), "failed", "n2 refuses: "),
        (
            Welcome(node="n2", error=PlatformError("denied", "go away", hint="h").to_rpc()),
            "denied",
            "n2 refuses: go away",
        ),
    ],
)
def test_the_dialler_judges_the_answer(welcome: Welcome, code: str, words: str) -> None:
    with pytest.raises(PlatformError) as caught:
        mesh_hello.check(welcome, node="n2", sent=HELLO)
    assert caught.value.code == code
    assert words in caught.value.message


def test_data_of_a_refusal_cannot_upset_the_dialler() -> None:
    error = {"code": -32000, "message": "m", "data": {"code": "denied", "self": 1, "hint": 2}}
    with pytest.raises(PlatformError, match="n2 refuses: m"):
        mesh_hello.check(Welcome(node="n2", error=error), node="n2", sent=HELLO)
