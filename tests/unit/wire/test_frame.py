"""Framing: whatever the pieces in which bytes arrive, the messages are the same."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paas.base.errors import RemoteError
from paas.wire.frame import FrameParser, LineParser, frame, looks_like_json

bodies = st.lists(st.binary(max_size=200), max_size=8)
cuts = st.lists(st.integers(1, 50), max_size=40)


def pieces(data: bytes, sizes: list[int]) -> list[bytes]:
    parts, start = [], 0
    for size in sizes:
        parts.append(data[start : start + size])
        start += size
    return [*parts, data[start:]]


@given(bodies, cuts)
def test_frames_survive_any_cutting(messages: list[bytes], sizes: list[int]) -> None:
    parser = FrameParser()
    data = b"".join(frame(m) for m in messages)
    assert [m for p in pieces(data, sizes) for m in parser.feed(p)] == messages
    assert parser.pending_bytes == 0


@given(st.lists(st.binary(min_size=1, max_size=80), max_size=8), cuts)
def test_lines_survive_any_cutting(raw: list[bytes], sizes: list[int]) -> None:
    messages = [m.hex().encode() for m in raw]
    parser = LineParser()
    data = b"".join(m + b"\n" for m in messages)
    assert [m for p in pieces(data, sizes) for m in parser.feed(p)] == messages


def test_an_announced_length_above_the_limit_is_refused_before_its_body_comes() -> None:
    parser = FrameParser(limit=100)
    with pytest.raises(RemoteError, match="exceeds the limit of 100"):
        parser.feed((2**31).to_bytes(4, "big"))
    assert parser.pending_bytes <= 4


def test_a_frame_of_exactly_the_limit_passes() -> None:
    assert FrameParser(limit=5).feed(frame(b"12345")) == [b"12345"]


def test_a_line_without_end_is_refused_at_the_limit() -> None:
    parser = LineParser(limit=100)
    parser.feed(b"x" * 100)
    with pytest.raises(RemoteError):
        parser.feed(b"x")


def test_a_long_line_that_comes_whole_is_refused() -> None:
    with pytest.raises(RemoteError):
        LineParser(limit=10).feed(b"x" * 11 + b"\n")


def test_empty_lines_mean_nothing() -> None:
    assert LineParser().feed(b"\n\r\n  \n1\n") == [b"1"]


@pytest.mark.parametrize(
    ("first", "json"),
    [
        (b"{", True),
        (b"[1", True),
        (b" {", True),
        (b"\x00\x00", False),
        (b"\x93", False),
        (b"", False),
    ],
)
def test_the_first_byte_decides_the_form(first: bytes, json: bool) -> None:
    assert looks_like_json(first) is json
