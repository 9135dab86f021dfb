"""A node comes back with another disk than it had, or a damaged or full one: nothing is lost."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from paas.base.errors import PlatformError
from paas.testing.dev_cluster import DevCluster

pytestmark = [pytest.mark.system, pytest.mark.timeout(240)]

ACTOR = "actor@1.0.0"
PAGE = 4_096


@pytest.fixture
def cluster(shared: DevCluster) -> DevCluster:
    shared.calm()
    shared.destroy_all()
    shared.until(lambda: voters(shared) == shared.names)
    return shared


def voters(cluster: DevCluster) -> list[str]:
    found = cluster.nodes()
    return sorted(name for name, one in found.items() if one["role"] in ("leader", "voter"))


def hub_of(cluster: DevCluster, node: str) -> Path:
    return cluster.node_state(node) / "hub"


def follower_of(cluster: DevCluster) -> str:
    leader = cluster.leader()
    return next(name for name in cluster.names if name != leader)


def whole_again(cluster: DevCluster, known: list[str]) -> None:
    """The node votes again, and everybody knows everything."""
    cluster.wait_well()
    cluster.until(lambda: voters(cluster) == cluster.names)
    for name in cluster.names:
        found = cluster.at(name, "controller.components")["components"]
        assert {one["name"] for one in found} >= set(known)


def counts(cluster: DevCluster, node: str) -> None:
    """Its vote is worth something: with it, another may be missing."""
    other = next(n for n in cluster.names if n not in (node, cluster.leader()))
    cluster.kill(other)
    assert cluster.create(ACTOR, constraints=[f"node={node}"], timeout_s=60)
    cluster.resume(other)


def written(cluster: DevCluster, prefix: str = "one", **more: Any) -> list[str]:
    """Something that must not be forgotten."""
    cluster.api("controller.create", type=ACTOR, name=prefix, count=2, timeout_s=60, **more)
    return [f"{prefix}-1", f"{prefix}-2"]


def test_a_node_that_comes_back_with_an_empty_disk(cluster: DevCluster) -> None:
    victim, names = follower_of(cluster), written(cluster)
    cluster.kill(victim)
    names += written(cluster, prefix="meanwhile")
    for path in hub_of(cluster, victim).iterdir():
        path.unlink()
    cluster.resume(victim)
    whole_again(cluster, names)
    counts(cluster, victim)


def test_a_node_that_comes_back_with_an_old_disk(cluster: DevCluster, tmp_path: Path) -> None:
    victim, names = follower_of(cluster), written(cluster)
    shutil.copytree(hub_of(cluster, victim), tmp_path / "old")
    names += written(cluster, prefix="later")
    cluster.kill(victim)
    names += written(cluster, prefix="meanwhile")
    put(tmp_path / "old", hub_of(cluster, victim))
    cluster.resume(victim)
    whole_again(cluster, names)


def put(source: Path, target: Path) -> None:
    """The files of one hub in the place of another's, with their owner."""
    owner = target.stat()
    for path in target.iterdir():
        path.unlink()
    for path in source.iterdir():
        shutil.copy(path, target / path.name)
        os.chown(target / path.name, owner.st_uid, owner.st_gid)


def flip_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[_used(data) // 3] ^= 0x10
    path.write_bytes(data)


def zero_a_page(path: Path) -> None:
    data = bytearray(path.read_bytes())
    place = _used(data) // 2 // 512 * 512
    data[place : place + 512] = bytes(512)
    path.write_bytes(data)


def cut_in_half(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: _used(data) // 2])


def _used(data: bytes) -> int:
    """Behind the last byte that is not zero: space is filled ahead."""
    return len(data.rstrip(b"\0"))


@pytest.mark.parametrize("damage", [flip_a_bit, zero_a_page])
def test_a_damaged_journal_is_found_put_aside_and_replaced(
    cluster: DevCluster, damage: Callable[[Path], None]
) -> None:
    victim, names = follower_of(cluster), written(cluster)
    cluster.kill(victim)
    names += written(cluster, prefix="meanwhile")
    aside = len(list(hub_of(cluster, victim).glob("journal.damaged-*")))
    damage(hub_of(cluster, victim) / "journal")
    cluster.resume(victim)
    whole_again(cluster, names)
    assert len(list(hub_of(cluster, victim).glob("journal.damaged-*"))) > aside
    said = (cluster.node_state(victim) / "agents" / "hub.log").read_text()
    assert "damaged" in said
    assert "journal" in said


def test_a_journal_that_was_cut_off_is_filled_up_again(cluster: DevCluster) -> None:
    victim, names = follower_of(cluster), written(cluster)
    cluster.kill(victim)
    names += written(cluster, prefix="meanwhile")
    cut_in_half(hub_of(cluster, victim) / "journal")
    cluster.resume(victim)
    whole_again(cluster, names)


def test_another_nodes_disk_is_refused_and_nothing_is_harmed(
    cluster: DevCluster, tmp_path: Path
) -> None:
    victim, names = follower_of(cluster), written(cluster)
    source = next(name for name in cluster.names if name != victim)
    shutil.copytree(hub_of(cluster, victim), tmp_path / "own")
    cluster.kill(victim)
    put(hub_of(cluster, source), hub_of(cluster, victim))
    cluster.say("nodes", "resume", victim, status=None)
    logs = cluster.node_state(victim) / "agents"
    cluster.until(
        lambda: any(f"/{source}, not of" in one.read_text() for one in logs.glob("*.log"))
    )
    cluster.until(lambda: cluster.nodes()[victim]["state"] == "offline")
    names += written(cluster, prefix="meanwhile")
    cluster.kill(victim)
    put(tmp_path / "own", hub_of(cluster, victim))
    cluster.resume(victim)
    whole_again(cluster, names)


# -- a full disk ---------------------------------------------------------------------------------


@pytest.fixture
def small_disk(cluster: DevCluster) -> Iterator[tuple[DevCluster, str]]:
    """A node whose hub has a disk of its own, of a few megabytes."""
    victim = cluster.names[-1]
    directory = hub_of(cluster, victim)
    cluster.kill(victim)
    owner, kept = directory.stat(), directory.with_name("hub-kept")
    directory.rename(kept)
    directory.mkdir(mode=0o700)
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m,mode=0700", "tmpfs", str(directory)], check=True
    )
    try:
        os.chown(directory, owner.st_uid, owner.st_gid)
        put(kept, directory)
        cluster.resume(victim)
        cluster.wait_well()
        cluster.until(lambda: voters(cluster) == cluster.names)
        yield cluster, victim
    finally:
        cluster.kill(victim)
        shutil.rmtree(kept)
        shutil.copytree(directory, kept, ignore=shutil.ignore_patterns("filler"))
        subprocess.run(["umount", str(directory)], check=True)
        directory.rmdir()
        kept.rename(directory)
        os.chown(directory, owner.st_uid, owner.st_gid)
        for path in directory.iterdir():
            os.chown(path, owner.st_uid, owner.st_gid)
        cluster.resume(victim)


def fill(directory: Path) -> Path:
    filler = directory / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4_096))
        except OSError:
            return filler


def write_much(cluster: DevCluster, component: str, node: str) -> None:
    """Some kilobytes into the log, by one command."""
    groups = [f"{number:03}-{'x' * 100}" for number in range(30)]
    for method in ("hub.join", "hub.leave"):
        cluster.call(component, "ask", node=node, method=method, params={"groups": groups})


@pytest.mark.parametrize("leads", [False, True], ids=["follower", "leader"])
def test_a_voter_with_a_full_disk_does_not_stop_the_others(
    small_disk: tuple[DevCluster, str], leads: bool
) -> None:
    cluster, victim = small_disk
    others = [name for name in cluster.names if name != victim]
    make_leader(cluster, victim if leads else others[0])
    writer = cluster.create(ACTOR, constraints=[f"node={others[0]}"])
    stays = cluster.create(ACTOR, constraints=[f"node={victim}"])
    filler = fill(hub_of(cluster, victim))

    def full() -> bool:
        write_much(cluster, writer, others[0])
        return bool(cluster.at(victim, "cluster.status")["log"]["storage"] == "full")

    cluster.until(full)
    cluster.until(lambda: cluster.leader() in others)
    for name in others:
        cluster.until(lambda name=name: cluster.nodes(name)[victim]["storage"] == "full")
    names = written(cluster, prefix="meanwhile")
    assert {cluster.component(name, node=others[0])["node"] for name in names} <= set(others)
    left_out(cluster, others[0], victim, stays)
    filler.unlink()
    cluster.until(lambda: cluster.at(victim, "cluster.status")["log"]["storage"] == "ok")
    cluster.until(lambda: cluster.nodes(others[0])[victim]["storage"] == "ok")
    names += written(cluster, prefix="again", constraints=[f"node={victim}"])
    whole_again(cluster, names)
    assert cluster.component(stays)["restarts"] == 0


def left_out(cluster: DevCluster, asked: str, full: str, stays: str) -> None:
    """Nothing new is placed on the node, which says so, and what runs there goes on."""
    with pytest.raises(PlatformError, match=f"{full}: disk full") as caught:
        cluster.at(asked, "controller.create", type=ACTOR, constraints=[f"node={full}"])
    assert caught.value.code == "no-placement"
    for words in (("nodes",), ("nodes", "show", full)):
        assert "disk full" in cluster.run(*words, "--node", asked)
    known = cluster.component(stays, node=asked)
    assert (known["state"], known["node"], known["restarts"]) == ("available", full, 0)
    assert cluster.call(stays, "who", node=asked)["id"] == stays


def make_leader(cluster: DevCluster, wanted: str) -> None:
    """Empty the nodes of all others, so that they hand over, and use them again."""
    others = [name for name in cluster.names if name != wanted]
    for other in others:
        cluster.run("nodes", "drain", other)
    cluster.until(lambda: cluster.leader() == wanted)
    for other in others:
        cluster.run("nodes", "uncordon", other)
    cluster.wait_well()
