"""The way out of a lost quorum: one replica goes on alone, with everything that it has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from paas.base.errors import PlatformError
from paas.raft.configuration import Configuration
from paas.raft.recover import examine, force_configuration
from paas.real.files import SystemFiles
from paas.sim.disk import SimDisk
from paas.sim.entropy import SimEntropy
from paas.sim.replicas import Cluster, Note

ENTROPY = SimEntropy(7)


async def test_a_survivor_goes_on_alone_and_grows_again(logs: Any) -> None:
    leader = await logs.three()
    await logs[leader].propose(Note(word="x"))
    await logs.equal(["x"])
    survivor, *lost = (*sorted(set("abc") - {leader}), leader)
    for name in "abc":
        await logs[name].close()
        await logs.kill(name)
    found = force_configuration(logs.disks[survivor], node=survivor, entropy=ENTROPY)
    assert found.before.last_index == found.index - 1
    assert found.before.commit_index <= found.before.last_index
    assert found.term > found.before.last_term
    await logs.boot(survivor)
    assert logs[survivor].configuration.voters == (survivor,)
    assert logs[survivor].configuration.committed
    assert logs.words[survivor].words == ["x"]
    await logs[survivor].propose(Note(word="alone"))
    for name in lost:
        del logs.disks[name]
        await logs.boot(name, join=True)
    await logs[survivor].change_configuration([survivor], lost)
    await logs.equal(["x", "alone"])


async def test_after_a_snapshot_too(logs: Any) -> None:
    leader = await logs.three()
    for number in range(20):
        await logs[leader].propose(Note(word=f"w{number}"))
    await logs[leader].snapshot()
    for name in "abc":
        await logs.kill(name)
    force_configuration(logs.disks[leader], node=leader, entropy=ENTROPY)
    await logs.boot(leader)
    await logs[leader].propose(Note(word="on"))
    assert len(logs.words[leader].words) == 21


def test_what_was_not_acknowledged_is_kept_and_what_was_not_received_is_told() -> None:
    cluster = Cluster("ABC", seed=3)
    cluster.run(3)
    leader = cluster.leader()
    others = [name for name in "ABC" if name != leader]
    cluster.propose(leader, "everywhere")
    cluster.run(1)
    cluster.cut([leader], others)
    cluster.propose(leader, "only here")
    cluster.run(0.2)
    for name in "ABC":
        cluster.kill(name, power=True)
    here = examine(cluster.disks[leader], entropy=ENTROPY)
    there = examine(cluster.disks[others[0]], entropy=ENTROPY)
    assert here.last_index == there.last_index + 1
    found = force_configuration(cluster.disks[leader], node=leader, entropy=ENTROPY)
    assert (found.before.last_index, found.index) == (here.last_index, here.last_index + 1)
    cluster.boot(leader)
    cluster.run(0.3)
    assert cluster.words[leader].words == ["everywhere", "only here"]
    assert cluster.replicas[leader].configuration == Configuration(
        (leader,), (), found.index, committed=True
    )


def test_no_log_another_nodes_log_and_no_name_are_refused() -> None:
    with pytest.raises(PlatformError) as caught:
        force_configuration(SimDisk(), node="a", entropy=ENTROPY)
    assert caught.value.code == "no-such-target"
    cluster = Cluster("A")
    cluster.run(0.3)
    cluster.kill("A")
    force_configuration(cluster.disks["A"], node="A", entropy=ENTROPY)
    for node, code in (("B", "conflict"), ("", "invalid")):
        with pytest.raises(PlatformError) as caught:
            force_configuration(cluster.disks["A"], node=node, entropy=ENTROPY)
        assert caught.value.code == code


def test_a_journal_that_never_held_anything_is_refused() -> None:
    cluster = Cluster("ABC")
    cluster.kill("A")
    with pytest.raises(PlatformError) as caught:
        force_configuration(cluster.disks["A"], node="A", entropy=ENTROPY)
    assert caught.value.code == "no-such-target"


def test_a_directory_in_use_is_refused(tmp_path: Path) -> None:
    user = SystemFiles(str(tmp_path / "hub"))
    user.lock()
    with pytest.raises(PlatformError) as caught:
        force_configuration(SystemFiles(str(tmp_path / "hub")), node="a", entropy=ENTROPY)
    assert caught.value.code == "conflict"
    user.unlock()
    with pytest.raises(PlatformError) as caught:  # free, but empty
        examine(SystemFiles(str(tmp_path / "hub")), entropy=ENTROPY)
    assert caught.value.code == "no-such-target"


def test_a_damaged_journal_is_refused() -> None:
    cluster = Cluster("A")
    cluster.run(0.3)
    for number in range(10):
        cluster.propose("A", f"w{number}")
        cluster.run(0.1)
    cluster.kill("A")
    cluster.disks["A"].flip_bit("journal", 700)
    with pytest.raises(PlatformError) as caught:
        examine(cluster.disks["A"], entropy=ENTROPY)
    assert caught.value.code == "corrupt"
