"""The seams: what the armour relies on in the library is there, and nothing of it gets past us."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import pysyncobj.syncobj as so
import pytest

from paas.base.errors import LocalError, PlatformError
from paas.raft import library
from paas.raft.machine import Machine
from paas.raft.settings import RaftSettings
from paas.raft.syncobj import Replica
from paas.sim.clock import SimClock
from paas.sim.disk import SimDisk
from paas.sim.entropy import SimEntropy
from paas.sim.replicas import Cluster, Words


def replica(disk: SimDisk, **more: Any) -> Replica:
    return Replica(
        files=disk,
        clock=SimClock(),
        entropy=SimEntropy(1),
        machine=Machine([Words()]),
        node="a",
        **more,
    )


def test_the_installed_library_is_the_known_one() -> None:
    library.verify()


def test_another_library_is_refused(tmp_path: Path) -> None:
    for name in library.DIGESTS:
        shutil.copy(Path(so.__file__).with_name(name), tmp_path)
    library.verify(str(tmp_path))
    with (tmp_path / "journal.py").open("a") as file:
        file.write("\n")
    with pytest.raises(PlatformError) as caught:
        library.verify(str(tmp_path))
    assert caught.value.code == "unsupported"
    (tmp_path / "journal.py").unlink()
    with pytest.raises(PlatformError, match="cannot be read"):
        library.verify(str(tmp_path))


@pytest.mark.parametrize(
    "name",
    [
        "connectedToAnyone",
        "doApplyCommand",
        "generateRaftTimeout",
        "getEntries",
        "loadDumpFile",
        "sendAppendEntries",
        "setCurrentTerm",
        "setState",
    ],
)
def test_the_private_methods_that_are_replaced_or_called_exist(name: str) -> None:
    assert callable(getattr(so.SyncObj, f"_SyncObj__{name}"))


@pytest.mark.parametrize(
    "name",
    [
        "changeClusterIDx",
        "commandsQueue",
        "commandsWaitingCommit",
        "connectedNodes",
        "lastResponseTime",
        "needLoadDumpFile",
        "newAppendEntriesTime",
        "otherNodes",
        "raftCommitIndex",
        "raftCurrentTerm",
        "raftElectionDeadline",
        "raftLastApplied",
        "raftLeader",
        "raftMatchIndex",
        "raftNextIndex",
        "raftState",
        "readonlyNodes",
        "transferInProgress",
    ],
)
def test_the_private_attributes_that_are_used_exist(name: str) -> None:
    replica(SimDisk())._get(name)


def test_an_attribute_that_does_not_exist_is_not_made() -> None:
    with pytest.raises(AttributeError):
        replica(SimDisk())._set("raftComitIndex", 1)


def test_the_library_finds_no_clock_outside_of_a_call() -> None:
    with pytest.raises(LocalError):
        so.monotonicTime()


def test_nothing_is_pickled() -> None:
    assert so.pickle.loads(so.pickle.dumps(["add", "b", so.Node("b")])) == ["add", "b", "b"]
    with pytest.raises(LocalError):
        so.pickle.dumps(object())


def test_the_library_opens_nothing() -> None:
    """No socket, no file, no thread, no child: all of that is done by others, or not at all."""
    seen: list[str] = []

    def audit(event: str, _arguments: object) -> None:
        if watching and event.split(".")[0] in {"open", "socket", "os", "subprocess", "_thread"}:
            seen.append(event)

    watching = False
    sys.addaudithook(audit)
    cluster = Cluster("abc")
    watching = True
    cluster.run(2)
    for number in range(20):
        cluster.propose(cluster.leader(), f"w{number}")
    cluster.run(1)
    cluster.compact(cluster.leader())
    cluster.run(1)
    watching = False
    assert seen == []
    assert len(cluster.acknowledged) == 20


def test_a_single_voter_leads_and_commits_in_one_tick() -> None:
    single = replica(SimDisk())
    single.tick()
    assert single.is_leader
    single.journal.sync()
    single.tick()
    assert not single.busy


def test_a_damaged_snapshot_is_refused_at_the_start() -> None:
    cluster = Cluster("a")
    cluster.run(0.2)
    for number in range(10):
        cluster.propose("a", f"w{number}")
    cluster.run(0.2)
    cluster.compact("a")
    cluster.run(0.2)
    cluster.kill("a")
    cluster.disks["a"].flip_bit("snapshot", 400)
    with pytest.raises(PlatformError) as caught:
        cluster.boot("a")
    assert caught.value.code == "corrupt"


def test_a_snapshot_that_the_machine_refuses_ends_the_start() -> None:
    cluster = Cluster("a")
    cluster.run(0.2)
    for number in range(10):
        cluster.propose("a", f"w{number}")
    cluster.run(0.2)
    cluster.compact("a")
    cluster.run(0.2)
    with pytest.raises(PlatformError) as caught:
        Replica(
            files=cluster.disks["a"],
            clock=cluster.clock,
            entropy=cluster.entropy,
            machine=Machine([]),
            node="a",
        )
    assert caught.value.code == "unsupported"


def test_messages_of_an_older_connection_are_ignored() -> None:
    cluster = Cluster("abc")
    cluster.run(3)
    leader = cluster.leader()
    other = next(name for name in "abc" if name != leader)
    live = cluster.replicas[leader]._epochs[other]
    assert cluster.replicas[leader].is_live(other, live)
    assert not cluster.replicas[leader].is_live(other, live - 1)
    assert not cluster.replicas[leader].is_live("stranger", live)


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("election_min_s", {"heartbeat_s": 0.2}),
        ("election_min_s", {"election_max_s": 0.3}),
        ("leader_fallback_s", {"leader_fallback_s": 0.05}),
    ],
)
def test_settings_that_contradict_each_other_are_refused(
    field: str, values: dict[str, float]
) -> None:
    with pytest.raises(PlatformError) as caught:
        RaftSettings(**values)  # type: ignore[arg-type]
    assert caught.value.data["field"] == field
