"""The journal against a model, on a disk that loses power, tears writes, runs full and rots."""

from __future__ import annotations

import copy
import struct
import zlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paas.base.errors import PlatformError
from paas.raft import limits
from paas.raft.journal import Entry, Journal, JournalFailed, covered_bytes
from paas.sim.disk import SimDisk
from paas.sim.entropy import SimEntropy
from paas.sim.replicas import PowerCut

SALT = b"0123456789abcdef"


def opened(disk: SimDisk) -> Journal:
    return Journal.open(disk, salt=SALT)


def filled(disk: SimDisk, count: int = 10) -> Journal:
    journal = opened(disk)
    for index in range(1, count + 1):
        journal.append(b"payload %d" % index, index, 1)
        journal.sync()
    return journal


MARK = range(512, 528)
"""Where the mark is."""


def bits(end: int) -> st.SearchStrategy[int]:
    return st.integers(0, end * 8 - 1)


def cut_off(disk: SimDisk, place: int) -> None:
    file = disk.open("journal")
    file.truncate(place)
    file.sync()


def unmarked(disk: SimDisk) -> SimDisk:
    """The same journal, as it was written before there were marks."""
    made = SimDisk()
    journal = Journal(made, "journal", SALT)
    head = b"paasraft" + struct.pack("<I", 1) + SALT
    journal._end, journal._file = 32, made.open("journal", create=True)
    journal._file.write(0, head + struct.pack("<I", zlib.crc32(head)))
    journal._marked = False
    for payload, index, term in opened(copy.deepcopy(disk)).entries:
        journal.append(payload, index, term)
        journal.sync()
    made.sync_dir()
    return made


# -- the model -------------------------------------------------------------------------------------


class Model:
    """What the journal holds, as plain values."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.term = 0
        self.vote: str | None = None

    def matches(self, journal: Journal) -> bool:
        first = self.entries[0][1] if self.entries else 1 << 60
        kept = [entry for entry in journal.entries if entry[1] >= first]
        whole = kept == self.entries and (self.term, self.vote) == (journal.term, journal.voted_for)
        return whole and (bool(self.entries) or not journal.entries)


def change(journal: Journal, model: Model, kind: str, amount: int) -> None:
    last = model.entries[-1][1] if model.entries else 0
    if kind == "append":
        for index in range(last + 1, last + 1 + amount % 5):
            entry = (bytes([amount]) * (amount * 7), index, model.term)
            journal.append(*entry)
            model.entries.append(entry)
    elif kind == "truncate" and model.entries:
        place = max(1, len(model.entries) - amount % 7)
        journal.truncate(place)
        del model.entries[place:]
    elif kind == "vote":
        model.term, model.vote = model.term + amount, f"n{amount}" if amount % 3 else None
        journal.set_term(model.term, model.vote)
    elif kind == "drop" and len(model.entries) > 2:
        place = amount % (len(model.entries) - 1)
        journal.drop(place)
        del model.entries[:place]
    elif kind == "replace":
        journal.clear()
        model.entries.clear()
        for index in (last + 5, last + 6):
            journal.append(b"snapshot", index, model.term)
            model.entries.append((b"snapshot", index, model.term))


def sync(journal: Journal, disk: SimDisk, survives: int) -> bool:
    """Sync on a disk whose power fails after so many operations; whether it came to its end."""
    left = survives

    def operation(_kind: str) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise PowerCut

    disk.on_operation = operation
    try:
        journal.sync()
    except PowerCut:
        return False
    finally:
        disk.on_operation = None
    return True


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["append", "append", "append", "truncate", "vote", "drop", "replace"]),
        st.integers(0, 60),
        st.integers(0, 12),
    ),
    max_size=25,
)


@settings(max_examples=80, deadline=None)
@given(STEPS, st.integers(0, 1 << 30))
def test_after_a_power_cut_everything_synced_is_there_and_nothing_is_half(
    steps: list[tuple[str, int, int]], seed: int
) -> None:
    disk, entropy = SimDisk(), SimEntropy(seed)
    journal, now = opened(disk), Model()
    durable = copy.deepcopy(now)
    for kind, amount, survives in steps:
        change(journal, now, kind, amount)
        if survives % 3 == 0:
            continue  # more changes before the next sync
        if sync(journal, disk, survives):
            durable = copy.deepcopy(now)
            continue
        disk.power_cut(entropy.choose)
        journal = opened(disk)
        # The batch in hand may have reached the disk whole; nothing in between is possible.
        assert durable.matches(journal) or now.matches(journal)
        now = now if now.matches(journal) else durable
        now.entries = list(journal.entries)  # a prefix that was dropped may be there again
        durable = copy.deepcopy(now)
    disk.power_cut(entropy.choose)
    assert durable.matches(opened(disk))


@settings(max_examples=20, deadline=None)
@given(STEPS)
def test_a_killed_process_loses_nothing_that_was_written(steps: list[tuple[str, int, int]]) -> None:
    disk, model = SimDisk(), Model()
    journal = opened(disk)
    for kind, amount, _ in steps:
        change(journal, model, kind, amount)
        journal.sync()
        journal = opened(disk)
        assert model.matches(journal)


# -- damage ----------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_flipped_bit_in_the_middle_is_refused(data: Any) -> None:
    disk = SimDisk()
    journal = filled(disk)
    end = journal.bytes_used
    journal.close()  # seals: the last batch with entries has one behind it
    disk.flip_bit("journal", data.draw(bits(end).filter(lambda bit: bit // 8 not in MARK)))
    with pytest.raises(PlatformError) as caught:
        opened(disk)
    assert caught.value.code == "corrupt"


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_of_a_killed_process_all_but_its_last_batch_is_covered(data: Any) -> None:
    disk = SimDisk()
    end = filled(disk).bytes_used  # never closed
    covered = covered_bytes(disk.content("journal"))
    assert end - 60 < covered < end
    disk.flip_bit("journal", data.draw(bits(covered).filter(lambda bit: bit // 8 not in MARK)))
    with pytest.raises(PlatformError) as caught:
        opened(disk)
    assert caught.value.code == "corrupt"


def test_a_closed_journal_is_covered_whole() -> None:
    disk = SimDisk()
    journal = filled(disk)
    journal.close()
    assert covered_bytes(disk.content("journal")) == journal.bytes_used


@settings(max_examples=20, deadline=None)
@given(st.sampled_from([8 * byte + bit for byte in MARK for bit in range(8)]))
def test_a_damaged_mark_is_renewed_since_all_batches_are_there(bit: int) -> None:
    disk = SimDisk()
    filled(disk).close()
    disk.flip_bit("journal", bit)
    again = opened(disk)
    assert again.last_index == 10
    again.append(b"x", 11, 1)
    again.sync()
    again.close()
    cut_off(disk, again.bytes_used - 200)
    with pytest.raises(PlatformError, match="damaged"):
        opened(disk)


def test_a_tail_that_is_missing_is_damage_wherever_it_begins() -> None:
    disk = SimDisk()
    journal = filled(disk)
    end = journal.bytes_used
    journal.close()
    for place in range(end):
        lost = copy.deepcopy(disk)
        cut_off(lost, place)
        with pytest.raises(PlatformError, match="damaged"):
            opened(lost)
        if place % 512:
            continue
        zeros = copy.deepcopy(disk)
        zeros.open("journal").write(place, bytes(end + 100 - place))
        with pytest.raises(PlatformError, match="damaged"):
            opened(zeros)


def test_of_a_killed_process_all_batches_but_the_last_are_covered() -> None:
    disk = SimDisk()
    end = filled(disk).bytes_used
    cut_off(disk, end - 1)
    assert opened(disk).last_index == 9  # as if it was never whole
    disk = SimDisk()
    journal = filled(disk, 9)
    end = journal.bytes_used
    journal.append(b"payload 10", 10, 1)
    journal.sync()
    cut_off(disk, end - 1)
    with pytest.raises(PlatformError, match="damaged"):
        opened(disk)


def test_a_journal_without_a_mark_is_read_and_gets_one_when_it_is_written_anew() -> None:
    disk = SimDisk()
    filled(disk).close()
    old = unmarked(disk)
    journal = opened(old)
    assert journal.last_index == 10
    journal.append(b"x", 11, 1)
    journal.sync()
    assert opened(old).last_index == 11
    journal = opened(old)
    journal.drop(8)
    journal.sync()
    journal.close()
    cut_off(old, journal.bytes_used - 50)
    with pytest.raises(PlatformError, match="damaged"):
        opened(old)


def test_a_torn_tail_is_dropped_and_does_not_come_back() -> None:
    disk = SimDisk()
    journal = filled(disk)
    end = journal.bytes_used
    journal.append(b"x" * 5_000, 11, 1)
    disk.tear_next_write = 3_000
    with pytest.raises(JournalFailed):
        journal.sync()
    again = opened(disk)
    assert again.last_index == 10
    assert again.bytes_used == end
    assert not disk.content("journal")[end:].strip(b"\0")


@pytest.mark.parametrize("zeros", [1, 65_535, 65_536, 65_537, 300_000, 900_000])
def test_remains_behind_many_zeros_are_dropped_too(zeros: int) -> None:
    disk = SimDisk()
    end = filled(disk).bytes_used
    disk.open("journal").write(end + zeros, b"remains")
    assert opened(disk).bytes_used == end
    assert not disk.content("journal")[end:].strip(b"\0")


@pytest.mark.parametrize("zeros", [1, 65_535, 65_536, 65_537, 300_000, 900_000])
def test_a_batch_behind_many_zeros_shows_that_one_is_missing(zeros: int) -> None:
    disk = SimDisk()
    journal = filled(disk)
    journal._end += zeros
    journal.append(b"far away", 11, 1)
    journal.sync()
    with pytest.raises(PlatformError, match="damaged"):
        opened(disk)


def test_recovery_makes_durable_what_a_killed_process_had_only_written() -> None:
    disk = SimDisk()
    journal = filled(disk, 3)
    journal.append(b"written, not synced", 4, 1)
    assert not sync(journal, disk, 1)  # the write got through, the sync did not
    assert opened(disk).last_index == 4  # the process was killed and starts again ...
    disk.power_cut(lambda below: 0)  # ... shows entry 4 to somebody, and then the power fails
    assert opened(disk).last_index == 4


def test_recovery_makes_durable_what_a_killed_process_had_only_renamed() -> None:
    disk = SimDisk()
    journal = filled(disk, 3)
    journal.drop(2)

    def killed(kind: str) -> None:
        if kind == "sync_dir":
            raise PowerCut

    disk.on_operation = killed
    with pytest.raises(PowerCut):
        journal.sync()  # the new file is in its place, and nobody has made that durable
    disk.on_operation = None
    journal = opened(disk)
    journal.append(b"promised", 4, 1)
    journal.set_term(2, "a")
    journal.sync()
    disk.power_cut(lambda below: 0)
    journal = opened(disk)
    assert (journal.last_index, journal.term, journal.voted_for) == (4, 2, "a")


def test_the_content_of_an_entry_cannot_pass_for_a_batch() -> None:
    disk = SimDisk()
    victim = filled(SimDisk(), 3)
    assert isinstance(victim._files, SimDisk)
    batch = victim._files.content("journal")[: victim.bytes_used]
    journal = filled(disk, 2)
    journal.append(batch, 3, 1)
    disk.tear_next_write = len(batch)
    with pytest.raises(JournalFailed):
        journal.sync()
    assert opened(disk).last_index == 2


def test_an_unreadable_header_is_refused_and_never_guessed() -> None:
    disk = SimDisk()
    filled(disk).close()
    disk.open("journal").truncate(7)
    with pytest.raises(PlatformError, match="damaged"):
        opened(disk)


def test_a_newer_format_is_refused_as_such() -> None:
    import struct
    import zlib

    disk = SimDisk()
    filled(disk).close()
    head = struct.pack("<8sI16s", b"paasraft", 99, SALT)
    disk.open("journal").write(0, head + struct.pack("<I", zlib.crc32(head)))
    with pytest.raises(PlatformError) as caught:
        opened(disk)
    assert caught.value.code == "unsupported"


def test_the_commit_index_never_points_behind_the_end() -> None:
    disk = SimDisk()
    journal = filled(disk)
    journal.commit_index = 22
    journal.append(b"x", 11, 1)
    journal.sync()
    assert opened(disk).commit_index == 11


def test_term_and_vote_survive() -> None:
    disk = SimDisk()
    journal = opened(disk)
    journal.set_term(7, "b")
    journal.sync()
    disk.power_cut(lambda below: 0)
    again = opened(disk)
    assert (again.term, again.voted_for) == (7, "b")


# -- a full or failing disk ------------------------------------------------------------------------


def test_a_full_disk_is_noticed_before_anything_is_promised() -> None:
    disk = SimDisk(capacity_bytes=4 << 20)
    journal = opened(disk)
    index = 0
    while journal.reserve(40_000):
        index += 1
        journal.append(b"x" * 30_000, index, 1)
        journal.sync()
    assert journal.full
    assert index > 20
    journal.set_term(5, "a")  # what the protocol itself needs still fits
    journal.sync()
    assert opened(disk).last_index == index
    disk.capacity_bytes = 64 << 20
    assert journal.reserve(40_000)
    assert not journal.full


def test_a_journal_on_a_full_disk_can_still_be_opened_and_read() -> None:
    disk = SimDisk()
    filled(disk)
    disk.capacity_bytes = 0
    journal = opened(disk)
    assert journal.last_index == 10
    assert not journal.reserve(limits.PREALLOCATED_BYTES)


def test_a_journal_cannot_begin_on_a_full_disk() -> None:
    disk = SimDisk(capacity_bytes=1_000)
    with pytest.raises(PlatformError) as caught:
        opened(disk)
    assert caught.value.code == "storage-full"
    disk.capacity_bytes = 64 << 20
    assert opened(disk).entries == []


def test_after_a_failed_write_nothing_more_is_accepted() -> None:
    disk = SimDisk()
    journal = filled(disk)
    journal.append(b"x", 11, 1)
    disk.tear_next_write = 3
    for _ in range(2):
        with pytest.raises(JournalFailed):
            journal.sync()
    with pytest.raises(JournalFailed):
        journal.reserve(1)


@pytest.mark.parametrize("operation", ["sync", "rename", "sync_dir"])
def test_a_failure_of_a_sync_or_rename_ends_it(operation: str) -> None:
    disk = SimDisk()
    journal = filled(disk)
    if operation == "sync":
        journal.append(b"x", 11, 1)
    else:
        journal.drop(5)

    def fail(kind: str) -> None:
        if kind == operation:
            raise OSError(5, "input/output error")

    disk.on_operation = fail
    with pytest.raises(JournalFailed):
        journal.sync()


# -- compaction ------------------------------------------------------------------------------------


def test_compaction_shortens_the_file_and_keeps_the_rest() -> None:
    disk = SimDisk()
    journal = opened(disk)
    for index in range(1, 201):
        journal.append(b"x" * 20_000, index, 1)
        journal.sync()
    long = len(disk.content("journal"))
    journal.set_term(3, "c")
    journal.drop(150)
    journal.sync()
    assert len(disk.content("journal")) < long
    disk.power_cut(lambda below: 0)
    again = opened(disk)
    assert [entry[1] for entry in again.entries] == list(range(151, 201))
    assert (again.term, again.voted_for) == (3, "c")


def test_without_room_for_compaction_the_old_file_goes_on() -> None:
    disk = SimDisk()
    journal = filled(disk)
    disk.capacity_bytes = len(disk.content("journal"))
    journal.drop(5)
    journal.append(b"after", 11, 1)
    journal.sync()
    assert disk.list() == ["journal"]
    assert [entry[1] for entry in opened(disk).entries] == list(range(1, 12))
    assert [entry[1] for entry in journal.entries] == list(range(6, 12))


def test_a_compaction_that_found_no_room_is_made_up_for_before_the_disk_counts_as_full() -> None:
    disk = SimDisk()
    journal = opened(disk)
    for index in range(1, 101):
        assert journal.reserve(30_100)
        journal.append(b"x" * 30_000, index, 1)
        journal.sync()
    long = len(disk.content("journal"))
    disk.capacity_bytes = long
    journal.drop(98)
    journal.sync()
    assert len(disk.content("journal")) == long
    assert not journal.reserve(limits.PREALLOCATED_BYTES)
    disk.capacity_bytes = long + (2 << 20)  # not enough to grow, enough for what is left
    assert journal.reserve(100_000)
    assert journal.reserve(limits.PREALLOCATED_BYTES - limits.RESERVED_BYTES - 100_000)
    assert len(disk.content("journal")) < long


def test_compaction_that_meets_a_full_disk_midway_leaves_nothing_behind() -> None:
    disk = SimDisk()
    journal = filled(disk)

    def fail(kind: str) -> None:
        if kind == "write" and disk.exists("journal.new"):
            disk.on_operation = None
            raise OSError(28, "no space left on device")

    disk.on_operation = fail
    journal.drop(5)
    journal.sync()
    assert disk.list() == ["journal"]
    journal.append(b"after", 11, 1)
    journal.sync()
    assert opened(disk).last_index == 11


def test_an_interrupted_compaction_is_swept_away() -> None:
    disk = SimDisk()
    filled(disk)
    disk.open("journal.new", create=True).write(0, b"half")
    assert opened(disk).last_index == 10
    assert disk.list() == ["journal"]


def test_one_sync_for_many_entries() -> None:
    journal = opened(SimDisk())
    before = journal.syncs
    for index in range(1, 65):
        journal.append(b"x", index, 1)
    journal.sync()
    journal.sync()
    assert journal.syncs == before + 1
