"""Messages between replicas: the library's dictionaries and back; nothing but what is declared."""

from __future__ import annotations

import contextlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paas.base.errors import LocalError, RemoteError
from paas.raft import messages
from paas.raft.limits import COMMAND_BYTES_MAX, MESSAGE_BYTES_MAX
from paas.raft.messages import (
    AppendEntries,
    AppendSnapshot,
    ApplyCommand,
    ApplyResponse,
    Message,
    NextIndex,
    RequestVote,
    ResponseVote,
    TimeoutNow,
    decode,
    encode,
    from_library,
    to_library,
)
from paas.raft.snapshot import Chunk

ALL: list[Message] = [
    RequestVote(3, 8, 2),
    ResponseVote(3),
    AppendEntries(3, 7, 7, 2, [(b"\0x", 8, 3), (b"\1", 9, 3)]),
    AppendEntries(3, 7, None, None, []),
    AppendSnapshot(3, 7, Chunk(b"data", True, False, 5, 2, b"digest", 100, 0)),
    AppendSnapshot(3, 7, None),
    NextIndex(9, reset=True, success=False),
    ApplyCommand(b"\0command", 4),
    ApplyCommand(b"\0command", None),
    ApplyResponse(4, None, 9, 3),
    ApplyResponse(4, 6),
    TimeoutNow(3),
]


@pytest.mark.parametrize("message", ALL, ids=lambda m: type(m).__name__)
def test_every_message_survives_the_wire_and_the_library(message: Message) -> None:
    assert decode(encode(message)) == message
    assert from_library(to_library(message)) == message


@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_the_peers_error(data: bytes) -> None:
    with contextlib.suppress(RemoteError):
        decode(data)


@pytest.mark.parametrize(
    "message",
    [
        AppendEntries(3, 7, 7, 2, [(b"\0", 9, 3)]),
        AppendEntries(3, 7, 7, 2, [(b"\0", 8, 3), (b"\0", 8, 3)]),
        AppendEntries(3, 7, 7, 2, [(b"\0", 8, 4)]),
        AppendEntries(3, 7, 7, 2, [(b"\3", 8, 3)]),
        AppendEntries(3, 7, 7, 2, [(b"", 8, 3)]),
        AppendEntries(3, 7, 7, 2, [(bytes(COMMAND_BYTES_MAX + 2), 8, 3)]),
        AppendEntries(3, 7, None, None, [(b"\0", 8, 3)]),
        ApplyCommand(b"\2membership", 4),
        ApplyCommand(b"", 4),
        ApplyCommand(bytes(COMMAND_BYTES_MAX + 2), 4),
    ],
)
def test_what_the_library_should_never_see_is_the_peers_error(message: Message) -> None:
    with pytest.raises(RemoteError):
        decode(encode(message))


def test_a_message_that_is_too_long_is_not_even_parsed() -> None:
    with pytest.raises(RemoteError, match="long"):
        decode(bytes(MESSAGE_BYTES_MAX + 1))


def test_numbers_out_of_range_are_the_peers_error() -> None:
    for term in (-1, 1 << 63):
        with pytest.raises(RemoteError):
            decode(msgspec.msgpack.encode((2, term)))


def test_commands_in_pieces_are_never_sent() -> None:
    piece = {"type": "append_entries", "transmission": "start", "data": b"", "term": 1}
    with pytest.raises(LocalError):
        from_library(piece)
    assert messages.REGULAR == 0
