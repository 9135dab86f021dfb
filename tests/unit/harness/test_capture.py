"""Lines, records, numbers and losses: nothing unbounded, nothing uncounted."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paas.harness import limits
from paas.harness.capture import Allowance, Capture, LineCutter, structured
from paas.harness.messages import LogRecord, Records
from paas.harness.settings import LogSettings


def batch_of(capture: Capture) -> Records | None:
    body = capture.batch()
    return None if body is None else msgspec.msgpack.decode(body, type=Records)


def all_of(capture: Capture) -> tuple[list[LogRecord], int]:
    """Everything, as a hub that confirms each batch gets it: records, and how many were dropped."""
    records: list[LogRecord] = []
    dropped = 0
    while (batch := batch_of(capture)) is not None:
        records += batch.records
        dropped += batch.dropped
        capture.settle(True, 0.0)
    return records, dropped


@given(st.lists(st.binary(max_size=50)), st.integers(1, 20))
def test_cutting_does_not_depend_on_how_the_bytes_arrive(pieces: list[bytes], limit: int) -> None:
    whole, parts = LineCutter(limit), LineCutter(limit)
    data = b"".join(pieces)
    at_once = whole.feed(data) + whole.finish()
    bit_by_bit = [line for piece in pieces for line in parts.feed(piece)] + parts.finish()
    # A line of exactly the limit may end in an empty last piece, depending on what was known.
    assert joined(at_once) == joined(bit_by_bit)
    assert all(len(text) <= limit for text, _ in at_once + bit_by_bit)


def joined(pieces: list[tuple[bytes, bool]]) -> list[bytes]:
    lines, line = [], b""
    for text, continued in pieces:
        line += text
        if not continued:
            lines.append(line.rstrip(b"\r"))
            line = b""
    return [*lines, line.rstrip(b"\r")] if line else lines


def test_a_long_line_is_cut_into_marked_pieces() -> None:
    capture = Capture(LogSettings(line_bytes_max=4))
    capture.feed("stdout", b"abcdefghij\n", 0.0, 0)
    records, _ = all_of(capture)
    assert [(r.message, r.fields) for r in records] == [
        ("abcd", {"continued": True}),
        ("efgh", {"continued": True}),
        ("ij", {}),
    ]


def test_what_a_stream_holds_back_is_bounded_without_any_end_of_line() -> None:
    cutter = LineCutter(100)
    for _ in range(1_000):
        cutter.feed(b"x" * 1_000)
    assert len(cutter.finish()[0][0]) <= 100


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b'{"level":"info","message":"a","b":1}', ("info", "a", {"b": 1})),
        (b'{"level":"WARN","msg":"a"}', ("warning", "a", {})),
        (b'{"level":"fatal","msg":"a"}', ("error", "a", {})),
        (b'{"level":30,"msg":"a"}', ("info", "a", {})),
        (b'{"level":20,"msg":"a"}', ("debug", "a", {})),
        (b'{"level":40,"msg":"a"}', ("warning", "a", {})),
        (b'{"level":50,"msg":"a"}', ("error", "a", {})),
        (b'{"level":true,"msg":"a"}', None),
        (b'{"level":"loud","msg":"a"}', None),
        (b'{"level":"info","msg":5}', None),
        (b'{"level":"info"}', None),
        (b'{"msg":"a"}', None),
        (b"{not json}", None),
        (b'{"level":"info","msg":"a","deep":' + b"[" * 40 + b"]" * 40 + b"}", None),
    ],
)
def test_which_lines_are_structured(line: bytes, expected: Any) -> None:
    assert structured(line) == expected


def test_a_number_that_cannot_be_packed_leaves_the_line_as_text() -> None:
    capture = Capture(LogSettings())
    line = b'{"level":"info","msg":"a","n":' + b"9" * 30 + b"}"
    capture.feed("stdout", line + b"\n", 0.0, 0)
    assert all_of(capture)[0][0].message == line.decode()


@given(st.lists(st.integers(1, 40), max_size=40), st.integers(1, 20))
def test_every_line_is_delivered_or_counted(bursts: list[int], queue: int) -> None:
    """Whatever the order of output and confirmation: records and dropped add up."""
    capture = Capture(LogSettings(queue_records_max=queue))
    written = 0
    got, lost = 0, 0
    for number, burst in enumerate(bursts):
        capture.feed("stdout", b"x\n" * burst, 0.0, 0)
        capture.digest(0.0, force=True)
        written += burst
        if number % 3 == 2 and (batch := batch_of(capture)) is not None:
            delivered = number % 2 == 0
            capture.settle(delivered, 0.0)
            if delivered:
                got += len(batch.records)
                lost += batch.dropped
    records, dropped = all_of(capture)
    assert got + len(records) + lost + dropped == written


def test_batches_are_contiguous_one_at_a_time_and_sent_again_when_lost() -> None:
    capture = Capture(LogSettings())
    capture.feed("stdout", b"a\nb\n", 0.0, 0)
    first = batch_of(capture)
    assert first is not None
    assert [r.sequence for r in first.records] == [1, 2]
    assert capture.batch() is None
    capture.settle(False, 0.0)
    again = batch_of(capture)
    assert again == first
    capture.settle(True, 0.0)
    assert capture.empty
    assert capture.acknowledged == 2


def test_the_oldest_are_dropped_and_counted_when_the_queue_is_full() -> None:
    capture = Capture(LogSettings(queue_records_max=3))
    capture.feed("stdout", b"1\n2\n3\n4\n5\n", 0.0, 0)
    assert capture.crowded
    capture.digest(0.0, force=True)
    records, dropped = all_of(capture)
    assert [r.message for r in records] == ["3", "4", "5"]
    assert dropped == 2


def test_without_force_nothing_is_dropped_but_waits_for_room() -> None:
    capture = Capture(LogSettings(queue_records_max=4))
    capture.feed("stdout", b"1\n2\n3\n4\n5\n6\n7\n8\n9\n", 0.0, 0)
    records, dropped = all_of(capture)
    assert [r.message for r in records] == list("123456789")
    assert dropped == 0
    assert not capture.crowded


def test_a_flood_is_counted_and_its_newest_lines_are_kept() -> None:
    capture = Capture(LogSettings(queue_records_max=100_000))
    count = limits.LINES_BURST_MAX + 500
    capture.feed("stdout", b"".join(b"%d\n" % n for n in range(count)), 0.0, 0)
    capture.feed("stdout", b"skipped\n" * 1_000, 0.0, 0)
    capture.feed("stderr", b"error\n", 0.0, 0)
    capture.digest(0.0, force=True)
    records, dropped = all_of(capture)
    assert records[0].message == "500"
    assert records[-1].message == "error"
    assert dropped == 1_500


def test_lines_skipped_at_the_end_are_still_counted() -> None:
    capture = Capture(LogSettings(queue_records_max=100_000))
    capture.feed("stdout", b"x\n" * limits.LINES_BURST_MAX, 0.0, 0)
    capture.feed("stdout", b"x\n" * 1_000, 0.0, 0)
    capture.digest(0.0, force=True)
    capture.finish(0.0, 0)
    records, dropped = all_of(capture)
    assert dropped == 1_000
    assert records[-1].stream == "harness"


def test_an_allowance_fills_with_time_up_to_its_burst() -> None:
    allowance = Allowance()
    allowance.take(allowance.at(0.0))
    assert allowance.at(0.0) == 0
    assert allowance.at(0.1) == limits.LINES_PER_S_MAX // 10
    assert allowance.at(1e9) == limits.LINES_BURST_MAX


def test_a_batch_is_bounded_in_bytes_but_never_empty() -> None:
    settings = LogSettings(line_bytes_max=2 * limits.BATCH_BYTES)
    capture = Capture(settings)
    for _ in range(4):
        capture.feed("stdout", b"x" * (limits.BATCH_BYTES // 2) + b"\n", 0.0, 0)
    batch = capture.batch()
    assert batch is not None
    assert len(batch) < 1.5 * limits.BATCH_BYTES
    capture.settle(True, 0.0)
    capture.feed("stdout", b"y" * (2 * limits.BATCH_BYTES - 1) + b"\n", 0.0, 0)
    assert len(all_of(capture)[0]) == 4


def test_kept_bytes_are_bounded() -> None:
    capture = Capture(LogSettings(queue_records_max=100_000))
    for _ in range(200):
        capture.feed("stdout", (b"z" * 16_000 + b"\n") * 4, 0.0, 0)
        capture.digest(0.0, force=True)
    assert capture.queued_bytes <= limits.QUEUE_BYTES_MAX
