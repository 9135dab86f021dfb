"""Stories of disks: each loses data, or worse, on the bare library, and not with ours.

Holes P05, P06, P09, P10, P11, P15, keepers K1-K3 of docs/internals/raft.md.  `bare` (conftest.py)
is the library as it was made.
"""

from __future__ import annotations

import errno
import struct
from pathlib import Path
from typing import Any

import pysyncobj.syncobj as so
import pytest
from pysyncobj.journal import FileJournal, MetaStorer, ResizableFile

from paas.base.errors import PlatformError
from paas.raft.journal import Journal, JournalFailed
from paas.raft.messages import AppendSnapshot
from paas.raft.settings import RaftSettings
from paas.sim.disk import SimDisk
from paas.sim.entropy import SimEntropy
from paas.sim.replicas import Cluster, PowerCut

SALT = bytes(16)


def journal_of(count: int, disk: SimDisk) -> Journal:
    journal = Journal.open(disk, salt=SALT)
    for index in range(1, count + 1):
        journal.append(b"\x00e%d" % index, index, 1)
        journal.sync()
    return journal


# -- P05, K2: killed after the snapshot was renamed, before the journal was shortened --------------


def test_the_bare_library_drops_the_acknowledged_tail_when_killed_after_a_snapshot(
    bare: Any, tmp_path: Path
) -> None:
    cluster = bare(
        "ABC",
        confs=lambda name: {
            "journalFile": f"{tmp_path}/{name}.journal",
            "fullDumpFile": f"{tmp_path}/{name}.dump",
        },
    )
    leader = cluster.begin("A")
    for number in range(10):
        leader.put(f"early{number}")
    cluster.run(2)
    for node in cluster.nodes.values():
        node.forceLogCompaction()
    cluster.tick()
    cluster.flush()
    for node in cluster.nodes.values():  # the child that writes it has not been waited for yet
        running = so.SERIALIZER_STATE.SERIALIZING, None
        node._SyncObj__serializer.checkSerializing = lambda running=running: running
    acknowledged = []
    for number in range(5):
        leader.put(f"late{number}", callback=lambda r, e, n=number: acknowledged.append((n, e)))
    cluster.run(2)
    assert acknowledged == [(number, 0) for number in range(5)]
    for node in cluster.nodes.values():
        node._SyncObj__raftLog.onOneSecondTimer()
    cluster.nodes.clear()
    cluster.queue.clear()
    for name in "ABC":
        cluster.boot(name)
    cluster.run(5)
    for node in cluster.nodes.values():
        assert not any(word.startswith("late") for word in node.words)  # all five, everywhere


def test_ours_keeps_it_on_all_nodes() -> None:
    cluster = Cluster("ABC", seed=3)
    cluster.run(3)
    for number in range(10):
        cluster.propose(cluster.leader(), f"early{number}")
    cluster.run(1)
    jobs = []
    for name in "ABC":
        cluster.compact(name)
        cluster.replicas[name].tick()
        jobs.append(cluster.replicas[name].take_snapshot_job())
    for number in range(5):
        cluster.propose(cluster.leader(), f"late{number}")
    cluster.run(1)
    for job in jobs:
        assert job is not None
        job()  # renamed; no replica has shortened its journal yet
    for name in "ABC":
        cluster.kill(name, power=True)
    for name in "ABC":
        cluster.boot(name)
    cluster.run(5)
    assert cluster.converged()
    assert {f"late{number}" for number in range(5)} <= cluster.acknowledged


# -- P06, K1: killed while the journal is shortened ------------------------------------------------


def test_the_bare_journal_is_gone_when_killed_while_it_is_shortened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(tmp_path / "journal")
    journal = FileJournal(path)
    for index in range(1, 101):
        journal.add(b"\x00e%d" % index, index, 1)
    real, left = FileJournal.add, 7

    def add(self: FileJournal, *entry: Any) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise PowerCut
        real(self, *entry)

    with monkeypatch.context() as patched:
        patched.setattr(FileJournal, "add", add)
        with pytest.raises(PowerCut):
            journal.deleteEntriesTo(50)
    assert len(FileJournal(path)) == 7  # 43 of the 50 that were to stay are lost


def test_our_journal_is_the_long_or_the_short_one_whenever_it_is_killed() -> None:
    for point in range(12):
        disk = SimDisk()
        journal = journal_of(100, disk)
        left = point

        def operation(_kind: str) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                raise PowerCut

        disk.on_operation = operation
        journal.drop(50)
        try:
            journal.sync()
        except PowerCut:
            disk.on_operation = None
            disk.power_cut(SimEntropy(point).choose)
        disk.on_operation = None
        found = [index for _, index, _ in Journal.open(disk, salt=SALT).entries]
        assert found in ([*range(1, 101)], [*range(51, 101)])


# -- P09, K3: the commit index survives, the entries do not ----------------------------------------


def test_a_bare_leader_commits_alone_after_a_power_cut(bare: Any, tmp_path: Path) -> None:
    cluster = bare("ABC", confs=lambda name: {"journalFile": f"{tmp_path}/{name}"})
    leader = cluster.begin("A")
    for number in range(20):
        leader.put(f"w{number}")
    cluster.run(3)
    for node in cluster.nodes.values():
        log = node._SyncObj__raftLog
        log.onOneSecondTimer()  # writes the commit index
        log.deleteEntriesFrom(len(log) - 5)  # the last pages had not reached the disk
    cluster.nodes.clear()
    cluster.queue.clear()
    for name in "ABC":
        cluster.boot(name)
    cluster.calm()
    cluster.stand("A")
    for _ in range(2):
        cluster.tick()
        cluster.flush()
        cluster.calm()
    cluster.cut("A", "BC")
    told: list[int] = []
    cluster.nodes["A"].put("alone", callback=lambda result, error: told.append(error))
    cluster.run(0.3)
    assert told == [0]
    holders = [n for n in "ABC" if any(b"alone" in e[0] for e in cluster.nodes[n].entries())]
    assert holders == ["A"]


def test_our_leader_does_not() -> None:
    cluster = Cluster("ABC", seed=10)
    cluster.run(3)
    leader = cluster.leader()
    for number in range(20):
        cluster.propose(leader, f"w{number}")
    cluster.run(1)
    for replica in cluster.replicas.values():
        journal = replica.journal
        journal.commit_index += 5
        journal.set_term(journal.term, journal.voted_for)
        journal.sync()
    for name in "ABC":
        cluster.kill(name)
    for name in "ABC":
        replica = cluster.boot(name)
        assert replica.commit_index <= replica.last_index
    cluster.run(3)
    leader = cluster.leader()
    cluster.cut([leader], [name for name in "ABC" if name != leader])
    cluster.propose(leader, "alone")
    cluster.run(0.3)
    assert "alone" not in cluster.acknowledged


# -- P10, P11, P08: a write that fails, a torn page, an empty file of terms ------------------------


def test_the_bare_journal_has_a_hole_after_a_failed_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(tmp_path / "journal")
    journal = FileJournal(path)
    for index in range(1, 6):
        journal.add(b"\x00e%d" % index, index, 1)

    def full(self: ResizableFile, offset: int, values: bytes) -> None:
        raise OSError(errno.ENOSPC, "no space left")

    with monkeypatch.context() as patched:
        patched.setattr(ResizableFile, "write", full)
        with pytest.raises(OSError, match="no space"):
            journal.add(b"\x00e6", 6, 1)
    assert journal[len(journal) - 1][1] == 6  # in memory, to be acknowledged
    journal.add(b"\x00e7", 7, 1)
    assert [entry[1] for entry in FileJournal(path)[:]] == [1, 2, 3, 4, 5, 7]


def test_ours_ends_the_process_at_a_failed_write_and_has_no_hole() -> None:
    for torn in (0, 10, 40):
        disk = SimDisk()
        journal = journal_of(5, disk)
        disk.tear_next_write = torn
        journal.append(b"\x00e6", 6, 1)
        with pytest.raises(JournalFailed):
            journal.sync()
        journal.append(b"\x00e7", 7, 1)
        with pytest.raises(JournalFailed):  # and nothing can be acknowledged any more
            journal.sync()
        assert [e[1] for e in Journal.open(disk, salt=SALT).entries] == [1, 2, 3, 4, 5]


def test_a_sync_that_fails_once_ends_the_process_before_anything_is_acknowledged() -> None:
    disk = SimDisk()
    journal = journal_of(5, disk)
    disk.fail_next_sync = lambda below: 0  # the pages are gone
    journal.append(b"\x00e6", 6, 1)
    with pytest.raises(JournalFailed):
        journal.sync()
    with pytest.raises(JournalFailed):
        journal.sync()
    assert [e[1] for e in Journal.open(disk, salt=SALT).entries] == [1, 2, 3, 4, 5]


def test_a_bare_node_cannot_start_with_a_torn_page_at_the_end(tmp_path: Path) -> None:
    path = str(tmp_path / "journal")
    journal = FileJournal(path)
    for index in range(1, 8):
        journal.add(b"\x00e%d" % index, index, 1)
    end = journal._FileJournal__currentOffset
    journal.add(b"\x00e8" + b"x" * 5_000, 8, 1)
    with Path(path).open("r+b") as file:  # its header reached the disk, its pages did not
        file.seek(end)
        file.write(bytes(5_030))
    with pytest.raises(struct.error):
        FileJournal(path)


def test_ours_drops_a_torn_page_at_the_end_that_was_never_promised() -> None:
    disk = SimDisk()
    journal = journal_of(7, disk)
    journal.append(b"\x00e8" + b"x" * 5_000, 8, 1)
    disk.tear_next_write = 600
    with pytest.raises(JournalFailed):
        journal.sync()
    assert [e[1] for e in Journal.open(disk, salt=SALT).entries] == [*range(1, 8)]


def test_a_bare_node_forgets_its_term_with_an_empty_file_of_terms(tmp_path: Path) -> None:
    path = str(tmp_path / "journal")
    FileJournal(path).setCurrentTerm(7, "B")
    Path(path + ".meta").write_bytes(b"")  # renamed, and its content not yet on the disk
    assert MetaStorer(path + ".meta").getMeta().get("currentTerm", 0) == 0
    assert FileJournal(path).getVotedForNodeId() is None  # free to vote again in term 7


def test_ours_keeps_the_term_or_refuses_to_start() -> None:
    disk = SimDisk()
    journal = Journal.open(disk, salt=SALT)
    journal.set_term(7, "B")
    journal.sync()
    journal.close()
    used = len(disk.content("journal").rstrip(b"\0"))
    refused = 0
    for bit in range(0, 8 * used, 5):
        disk.flip_bit("journal", bit)
        try:
            again = Journal.open(disk, salt=SALT)
        except PlatformError as error:
            refused += error.code in ("corrupt", "unsupported")
        else:
            assert (again.term, again.voted_for) == (7, "B")
        finally:
            disk.flip_bit("journal", bit)
    assert refused > used


# -- P15, K2, T6: one piece of a snapshot is lost --------------------------------------------------


def test_the_bare_library_acknowledges_a_snapshot_that_it_could_not_read(
    bare: Any, tmp_path: Path
) -> None:
    cluster = bare(
        "ABC",
        confs=lambda name: {
            "journalFile": f"{tmp_path}/{name}.journal",
            "fullDumpFile": f"{tmp_path}/{name}.dump",
            "logCompactionBatchSize": 64,
        },
    )
    leader = cluster.begin("A")
    for number in range(10):
        leader.put(f"a{number}")
    cluster.run(1)
    cluster.nodes["C"].forceLogCompaction()
    cluster.run(1)
    good = (tmp_path / "C.dump").read_bytes()
    cluster.cut("C", "AB")
    for number in range(200):
        leader.put(f"b{number}")
    cluster.run(1)
    leader.forceLogCompaction()
    cluster.run(1)
    cluster.heal()
    lost, told = [], []

    def hold(source: str, target: str, message: dict[str, Any]) -> bool:
        if source == "C" and message["type"] == "next_node_idx":
            file = (tmp_path / "C.dump").read_bytes()
            told.append((message["success"], len(cluster.nodes["C"].words), file == good))
        piece = message.get("serialized") if target == "C" else None
        middle = bool(piece and not piece[1] and not piece[2])
        if middle and not lost:
            lost.append(piece)
            return True
        return False

    cluster.hold = hold
    cluster.run(0.6)
    assert lost
    # Success, with nothing loaded, and the good file is gone.
    assert (True, 10, False) in told


def test_ours_installs_only_what_is_whole() -> None:
    cluster = Cluster("ABC", seed=9, settings=lambda name: RaftSettings(snapshot_chunk_bytes=64))
    cluster.run(3)
    leader = cluster.leader()
    late = next(name for name in "ABC" if name != leader)
    for number in range(10):
        cluster.propose(leader, f"a{number}")
    cluster.run(1)
    cluster.compact(late)
    cluster.run(1)
    good = cluster.disks[late].content("snapshot")
    cluster.cut([late], [name for name in "ABC" if name != late])
    for number in range(100):
        cluster.propose(cluster.leader(), f"b{number}")
    cluster.run(1)
    for name in "ABC":
        if name != late:
            cluster.compact(name)
    cluster.run(1)
    cluster.heal()
    lost: list[int] = []

    def hold(source: str, target: str, message: Any) -> bool:
        chunk = message.chunk if isinstance(message, AppendSnapshot) else None
        if target != late or chunk is None or chunk.is_first or lost:
            return False
        lost.append(chunk.offset)
        assert cluster.disks[late].content("snapshot") == good
        return True

    cluster.hold = hold
    cluster.run(10)
    assert lost
    assert cluster.converged()
