"""Commands to bytes and back; whatever the bytes are, the answer is a value."""

from __future__ import annotations

import contextlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paas.base.errors import LocalError, PlatformError
from paas.raft import command as module
from paas.raft.command import REGISTRY, RETIRED, Stamp, command, decode, encode
from paas.sim.replicas import Note

STAMP = Stamp(time_ms=1, seed=bytes(16), proposer="a", sequence=3)


def test_a_command_survives_the_round_trip() -> None:
    assert decode(encode(Note(word="x", filler="y"), STAMP)) == (STAMP, Note(word="x", filler="y"))


@given(st.binary(max_size=200))
def test_any_bytes_decode_to_a_command_or_an_error(data: bytes) -> None:
    with contextlib.suppress(PlatformError):
        decode(data)


def test_an_unknown_number_is_unsupported_and_says_what_to_do() -> None:
    data = msgspec.msgpack.encode((1, 9_999, STAMP, {}))
    with pytest.raises(PlatformError) as caught:
        decode(data)
    assert caught.value.code == "unsupported"
    assert "upgrade" in caught.value.hint


def test_a_retired_number_is_named_and_cannot_be_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RETIRED, 9_998, "words.forget")
    with pytest.raises(PlatformError, match=r"words\.forget"):
        decode(msgspec.msgpack.encode((1, 9_998, STAMP, {})))
    with pytest.raises(LocalError):
        command(9_998)(Note)


def test_a_number_is_given_once() -> None:
    with pytest.raises(LocalError):
        command(9_900)(Note)
    assert REGISTRY[9_900] is Note


def test_a_command_must_be_frozen() -> None:
    class Loose(msgspec.Struct):
        word: str

    with pytest.raises(LocalError):
        command(9_997)(Loose)


def test_only_commands_are_encoded() -> None:
    with pytest.raises(LocalError):
        encode(STAMP, STAMP)


def test_a_command_that_is_too_long_is_refused_when_made_and_when_read() -> None:
    with pytest.raises(PlatformError) as caught:
        encode(Note(word="x", filler="y" * 40_000), STAMP)
    assert caught.value.code == "limit-exceeded"
    with pytest.raises(PlatformError, match="bytes"):
        decode(bytes(40_000))


@pytest.mark.parametrize(
    "envelope",
    [
        (2, 9_900, STAMP, {"word": "x"}),
        (1, 9_900, (1, b"short", "a", 3), {"word": "x"}),
        (1, 9_900, (1, bytes(16), "a", -1), {"word": "x"}),
        (1, 9_900, STAMP, {"word": 5}),
        (1, 9_900, STAMP, {}),
    ],
)
def test_a_wrong_envelope_or_body_is_an_error_value(envelope: tuple[object, ...]) -> None:
    with pytest.raises(PlatformError):
        decode(msgspec.msgpack.encode(envelope))


def test_fields_that_a_newer_node_adds_are_ignored() -> None:
    data = msgspec.msgpack.encode((1, 9_900, STAMP, {"word": "x", "colour": "blue"}))
    assert decode(data)[1] == Note(word="x")
    assert module.FORMAT == 1
