"""Snapshots: whole or not there, sent in named pieces, aligned with the journal at the start."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paas.base.errors import PlatformError
from paas.raft.journal import Journal
from paas.raft.snapshot import (
    Chunk,
    Receiver,
    Sender,
    Snapshot,
    SnapshotFile,
    align,
    decode,
    encode,
)
from paas.sim.disk import SimDisk
from paas.sim.entropy import SimEntropy
from paas.sim.replicas import PowerCut


def made(index: int = 7, term: int = 2, state: bytes = b"state" * 100) -> Snapshot:
    previous = (b"p", index - 1, term)
    return Snapshot(last=(b"l", index, term), previous=previous, voters=["a"], state=state)


def journal_of(*entries: tuple[bytes, int, int]) -> Journal:
    journal = Journal.open(SimDisk(), salt=bytes(16))
    journal.set_term(2, "a")
    for entry in entries:
        journal.append(*entry)
    return journal


def test_a_snapshot_survives_the_round_trip() -> None:
    assert decode(encode(made())) == made()


@given(st.integers(0, len(encode(made())) * 8 - 1))
def test_any_flipped_bit_is_noticed(bit: int) -> None:
    data = bytearray(encode(made()))
    data[bit // 8] ^= 1 << (bit % 8)
    with pytest.raises(PlatformError) as caught:
        decode(bytes(data))
    assert caught.value.code == "corrupt"


@settings(max_examples=60)
@given(st.integers(0, 6), st.integers(0, 1 << 30))
def test_replacing_leaves_the_old_or_the_new_whatever_happens(operations: int, seed: int) -> None:
    disk = SimDisk()
    file = SnapshotFile(disk)
    file.write(b"old")
    left = operations

    def operation(_kind: str) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise PowerCut

    disk.on_operation = operation
    finished = False
    try:
        file.write(b"new" * 1_000)
        finished = True
    except PowerCut:
        pass
    disk.on_operation = None
    disk.power_cut(SimEntropy(seed).choose)
    again = SnapshotFile(disk)
    again.clean()
    assert disk.list() == ["snapshot"]
    assert again.read() in ([b"new" * 1_000] if finished else [b"old", b"new" * 1_000])


def test_a_write_that_fails_leaves_the_old_one_alone() -> None:
    disk = SimDisk()
    file = SnapshotFile(disk)
    file.write(b"old")
    disk.tear_next_write = 2
    with pytest.raises(OSError):
        file.write(b"new")
    assert (file.read(), disk.list()) == (b"old", ["snapshot"])


# -- sending ---------------------------------------------------------------------------------------


def chunks(snapshot: Snapshot, size: int = 50) -> list[Chunk]:
    sender, found = Sender(size), []
    while not found or not found[-1].is_last:
        chunk = sender.next("b", lambda: encode(snapshot))
        assert chunk is not None
        found.append(chunk)
    return found


@pytest.mark.parametrize("size", [1, 7, 50, 100_000])
def test_the_pieces_make_the_whole(size: int) -> None:
    receiver = Receiver()
    results = [receiver.add(chunk) for chunk in chunks(made(), size)]
    assert results[-1] == encode(made())
    assert not any(results[:-1])


def test_a_lost_or_foreign_piece_makes_nothing_and_a_repeated_one_no_difference() -> None:
    whole, other = chunks(made()), chunks(made(state=b"other" * 100))
    for pieces in (whole[:2] + whole[3:], whole[:3] + other[3:], whole[1:]):
        receiver = Receiver()
        assert not any(receiver.add(chunk) for chunk in pieces)
        assert [receiver.add(chunk) for chunk in whole][-1] == encode(made())
    receiver = Receiver()
    assert [receiver.add(chunk) for chunk in whole[:2] + whole[1:]][-1] == encode(made())


def test_a_snapshot_that_lies_about_itself_is_dropped() -> None:
    pieces = [chunk._replace(last_index=99) for chunk in chunks(made())]
    receiver = Receiver()
    assert not any(receiver.add(chunk) for chunk in pieces)
    damaged = [chunk._replace(data=bytes(len(chunk.data))) for chunk in chunks(made())]
    assert not any(receiver.add(chunk) for chunk in damaged)
    longer = [chunk._replace(total=10) for chunk in chunks(made())]
    assert not any(receiver.add(chunk) for chunk in longer)


def test_without_a_snapshot_there_is_nothing_to_send() -> None:
    assert Sender().next("b", lambda: None) is None


def test_a_cancelled_transfer_begins_anew() -> None:
    sender = Sender(50)
    for cancel in (lambda: sender.cancel("b"), sender.cancel_all):
        sender.next("b", lambda: encode(made()))
        second = sender.next("b", lambda: encode(made()))
        assert second is not None
        assert second.offset == 50
        cancel()
        first = sender.next("b", lambda: encode(made()))
        assert first is not None
        assert first.is_first
        cancel()


# -- aligning --------------------------------------------------------------------------------------


def test_a_journal_that_contains_the_snapshot_loses_the_prefix_only() -> None:
    entries = [(b"e%d" % index, index, 1) for index in range(1, 11)]
    journal = journal_of(*entries)
    snapshot = Snapshot(last=entries[6], previous=entries[5], voters=[], state=b"")
    align(journal, snapshot)
    assert journal.entries == entries[5:]
    assert journal.commit_index == 7


@pytest.mark.parametrize("entries", [[], [(b"x", 1, 0), (b"y", 2, 1)]])
def test_a_journal_behind_an_installed_snapshot_follows_it(
    entries: list[tuple[bytes, int, int]],
) -> None:
    journal = journal_of(*entries)
    align(journal, made())
    assert journal.entries == [made().previous, made().last]
    assert (journal.term, journal.voted_for) == (2, "a")


def test_a_tail_that_contradicts_the_snapshot_is_dropped() -> None:
    journal = journal_of(*[(b"stale", index, 1) for index in range(1, 20)])
    align(journal, made())
    assert journal.entries == [made().previous, made().last]


def test_missing_entries_between_snapshot_and_journal_are_refused() -> None:
    for journal, snapshot in (
        (journal_of((b"x", 50, 2)), made()),
        (journal_of((b"x", 50, 2)), None),
        (Journal.open(SimDisk(), salt=bytes(16)), made()),
    ):
        with pytest.raises(PlatformError) as caught:
            align(journal, snapshot)
        assert caught.value.code == "corrupt"


def test_an_empty_start_is_fine() -> None:
    align(Journal.open(SimDisk(), salt=bytes(16)), None)
