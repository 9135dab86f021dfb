"""The addresses of other hubs: from joining, then from the log; removed and lost nodes."""

from __future__ import annotations

from collections.abc import Mapping

from paas.assembly.address_book import AddressBook
from paas.node.messages import NodeChanged
from paas.node.state import AddNode, NodeRegister, RemoveNode
from paas.raft.command import SEED_BYTES, Stamp, encode
from paas.raft.machine import Machine, StateReplaced


class Mesh:
    def __init__(self) -> None:
        self.peers: dict[str, str] = {}
        self.dropped: list[str] = []

    def set_peers(self, addresses: Mapping[str, str]) -> None:
        self.peers = dict(addresses)

    def drop(self, node: str) -> None:
        self.dropped.append(node)


class World:
    def __init__(self, told: dict[str, str]) -> None:
        self.register = NodeRegister()
        self.machine = Machine([self.register])
        self.mesh = Mesh()
        self.book = AddressBook("n2", self.mesh, self.register, told)
        self.index = 0

    def apply(self, command: object) -> None:
        self.index += 1
        stamp = Stamp(1_000, bytes(SEED_BYTES), "test", self.index)
        applied = self.machine.apply(self.index, encode(command, stamp))  # type: ignore[arg-type]
        assert applied.error is None
        self.book.state_changed(self.index, applied.events)


def test_until_the_log_says_more_a_node_knows_what_joining_said() -> None:
    world = World({"n1": "10.0.0.1:7400", "n2": "10.0.0.2:7400"})
    world.book.update()
    assert world.mesh.peers == {"n1": "10.0.0.1:7400"}


def test_the_log_brings_new_nodes_and_new_addresses() -> None:
    world = World({"n1": "10.0.0.1:7400"})
    world.apply(AddNode(node="n1", address="10.0.0.9:7400"))
    world.apply(AddNode(node="n3", address="10.0.0.3:7400"))
    assert world.mesh.peers == {"n1": "10.0.0.9:7400", "n3": "10.0.0.3:7400"}


def test_a_removed_node_is_forgotten_though_joining_told_of_it() -> None:
    world = World({"n1": "10.0.0.1:7400"})
    world.apply(AddNode(node="n1", address="10.0.0.1:7400"))
    world.apply(AddNode(node="n3", address="10.0.0.3:7400"))
    world.apply(RemoveNode(node="n1"))
    assert world.mesh.peers == {"n3": "10.0.0.3:7400"}


def test_a_lost_node_is_cut_off_and_may_come_back() -> None:
    world = World({})
    world.apply(AddNode(node="n3", address="10.0.0.3:7400"))
    lost = NodeChanged(
        node="n3", state="offline", previous="available", reason="", index=9, time_ms=0
    )
    world.book.state_changed(9, [lost])
    assert world.mesh.dropped == ["n3"]
    assert world.mesh.peers == {"n3": "10.0.0.3:7400"}


def test_a_whole_new_state_is_taken_over() -> None:
    world = World({})
    world.apply(AddNode(node="n3", address="10.0.0.3:7400"))
    other = World({})
    other.register.restore(world.register.snapshot())
    other.book.state_changed(5, [StateReplaced(index=5)])
    assert other.mesh.peers == {"n3": "10.0.0.3:7400"}


def test_what_another_hub_says_is_dialled_and_does_not_count_more_than_the_log() -> None:
    world = World({"n1": "10.0.0.1:7400"})
    world.apply(AddNode(node="n3", address="10.0.0.3:7400"))
    world.apply(AddNode(node="n4", address="10.0.0.4:7400"))
    world.apply(RemoveNode(node="n4"))
    heard = {"n2": "10.0.0.2:1", "n3": "10.0.0.8:1", "n4": "10.0.0.4:7400", "n9": "10.0.0.9:7400"}
    world.book.heard(heard)
    known = {"n1": "10.0.0.1:7400", "n3": "10.0.0.3:7400", "n9": "10.0.0.9:7400"}
    assert world.mesh.peers == known
