"""The frames of WebSockets: their borders, and what is refused, beside what wsproto thinks."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wsproto.frame_protocol import FrameProtocol, Opcode, ParseFailed

from paas.gateway.websocket.frames import FrameRefused, FrameWatch, close_frame, frame

MASK = b"\1\2\3\4"
messages = st.lists(st.tuples(st.sampled_from([1, 2, 9, 10]), st.binary(max_size=125)), max_size=6)


def from_browser() -> FrameWatch:
    return FrameWatch(masked=True, compressed=False)


@settings(deadline=None)
@given(messages, st.integers(1, 9))
def test_borders_are_found_however_the_bytes_come(sent: list[tuple[int, bytes]], step: int) -> None:
    wire = b"".join(frame(opcode, payload, MASK) for opcode, payload in sent)
    watch, at, borders = from_browser(), 0, []
    while at < len(wire):
        frame_end, message_end = watch.feed(wire[at : at + step])
        assert message_end == frame_end
        if frame_end:
            borders.append(at + frame_end)
        at += step
    assert watch.at_border
    assert watch.frames == len(sent)
    assert (borders[-1:] or [0]) == [len(wire)]


@settings(deadline=None)
@given(st.sampled_from([0, 125, 126, 127, 65_535, 65_536, 70_000]), st.booleans())
def test_what_we_write_the_library_reads(size: int, masked: bool) -> None:
    wire = frame(2, b"x" * size, MASK if masked else b"")
    reader = FrameProtocol(client=not masked, extensions=[])
    reader.receive_bytes(wire)
    frames = list(reader.received_frames())
    assert (
        b"".join(f.payload for f in frames if isinstance(f.payload, bytes | bytearray))
        == b"x" * size
    )
    watch = FrameWatch(masked=masked, compressed=False)
    assert watch.feed(wire) == (len(wire), len(wire))


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=40))
def test_what_passes_here_the_library_can_frame(data: bytes) -> None:
    watch = from_browser()
    try:
        watch.feed(data)
    except FrameRefused:
        return
    reader = FrameProtocol(client=False, extensions=[])
    reader.receive_bytes(data)
    reason = ""
    try:
        for _ in reader.received_frames():
            pass
    except ParseFailed as exc:
        reason = f"{exc} {exc.code.name}"
    # It also looks into payloads: texts that are no UTF-8, codes that are none.
    assert not reason or "INVALID_FRAME_PAYLOAD_DATA" in reason or "close" in reason.lower()


def test_fragments_are_one_message_with_controls_in_between() -> None:
    watch = from_browser()
    first = b"\x01\x81" + MASK + b"a"
    ping = frame(9, b"", MASK)
    last = b"\x80\x81" + MASK + b"b"
    assert watch.feed(first) == (len(first), 0)
    assert watch.in_message
    assert watch.feed(ping) == (len(ping), 0)
    assert watch.feed(last) == (len(last), len(last))
    assert not watch.in_message


def test_a_compressed_message_passes_only_if_that_was_agreed_on() -> None:
    wire = b"\xc1\x81" + MASK + b"a"
    assert FrameWatch(masked=True, compressed=True).feed(wire) == (7, 7)
    with pytest.raises(FrameRefused) as caught:
        from_browser().feed(wire)
    assert caught.value.code == 1002
    with pytest.raises(FrameRefused):  # a control frame never is
        FrameWatch(masked=True, compressed=True).feed(b"\xc9\x80" + MASK)


def test_a_closing_frame_is_cut_to_what_it_may_hold() -> None:
    wire = close_frame(1001, "é" * 200)
    reader = FrameProtocol(client=True, extensions=[])
    reader.receive_bytes(wire)
    (found,) = list(reader.received_frames())
    assert found.opcode is Opcode.CLOSE
    watch = FrameWatch(masked=False, compressed=False)
    watch.feed(wire)
    assert watch.closed
