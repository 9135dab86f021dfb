"""Where the others are is known to a node whose log is gone."""

from __future__ import annotations

import errno

from paas.assembly.peer_hints import FILE, PeerHints
from paas.node.messages import NodeChanged
from paas.raft.machine import StateReplaced
from paas.sim.disk import SimDisk

ADDRESSES = {"n2": "10.0.0.2:7420", "n3": "10.0.0.3:7420"}


def hints(disk: SimDisk, troubles: list[OSError] | None = None) -> PeerHints:
    told = [] if troubles is None else troubles
    made = PeerHints(disk, told.append)
    made.addresses = lambda: ADDRESSES
    return made


def changed(node: str, state: str) -> NodeChanged:
    return NodeChanged(node=node, state=state, previous="", reason="", index=1, time_ms=0)


def test_what_was_known_last_is_read_by_the_next_life() -> None:
    disk = SimDisk()
    assert hints(disk).read() == {}
    hints(disk).update()
    assert hints(disk).read() == ADDRESSES


def test_it_is_written_when_nodes_change_and_only_when_it_is_news() -> None:
    disk, writes = SimDisk(), list[str]()
    kept = hints(disk)
    disk.on_operation = writes.append
    kept.state_changed(1, [object()])
    assert writes == []
    kept.state_changed(2, [StateReplaced(index=2)])
    first = len(writes)
    assert first > 0
    kept.state_changed(3, [changed("n2", "available")])
    assert len(writes) == first
    kept.addresses = lambda: {"n2": ADDRESSES["n2"]}
    kept.state_changed(4, [changed("n3", "destroyed")])
    assert kept.read() == {"n2": ADDRESSES["n2"]}


def test_what_cannot_be_read_is_nothing() -> None:
    disk = SimDisk()
    hints(disk).update()
    disk.flip_bit(FILE, 7)
    assert hints(disk).read() == {}


def test_a_disk_that_refuses_is_told_and_tried_again() -> None:
    disk, troubles = SimDisk(), list[OSError]()
    kept = hints(disk, troubles)
    disk.capacity_bytes = 0
    kept.update()
    assert [trouble.errno for trouble in troubles] == [errno.ENOSPC]
    disk.capacity_bytes = 1 << 20
    kept.update()
    assert hints(disk).read() == ADDRESSES
