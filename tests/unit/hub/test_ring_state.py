"""The section "ring": follows the nodes, tells what moved, counts epochs, comes back as it was."""

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from paas.base.ids import VIRTUAL_NODES, component_id, virtual_node
from paas.hub.ring_state import PRESENT, RingChanged, RingState
from paas.node.lifecycle import PRESENT as NODE_PRESENT
from paas.node.state import (
    ChangeNode,
    LeaseNode,
    LoseNode,
    NodeRegister,
    NodeStorage,
    ReportNode,
)
from paas.raft.command import Stamp, encode
from paas.raft.machine import Applied, Machine

NAMES = [f"n{i}" for i in range(1, 8)]


class Cluster:
    """A machine with nodes and the ring, and commands one after the other."""

    def __init__(self) -> None:
        self.register, self.ring = NodeRegister(), RingState()
        self.machine = Machine([self.ring, self.register])
        self.index = 0

    def apply(self, command: msgspec.Struct) -> Applied:
        self.index += 1
        stamp = Stamp(time_ms=self.index, seed=bytes(16), proposer="t", sequence=self.index)
        return self.machine.apply(self.index, encode(command, stamp))

    def join(self, node: str) -> Applied:
        return self.apply(ReportNode(node=node, memory_bytes=1, cpu=1.0, leased=True, cleared=True))

    def lose(self, node: str) -> Applied:
        known = self.register.get(node)
        return self.apply(LoseNode(node=node, epoch=known.epoch if known else 0, term=1))


def copy_of(cluster: Cluster) -> Cluster:
    other = Cluster()
    other.machine.restore_bytes(cluster.machine.snapshot_bytes())
    return other


def facts(ring: RingState) -> list[tuple[str | None, tuple[str, ...], int]]:
    return [(ring.primary(n), ring.alternatives(n), ring.epoch(n)) for n in range(VIRTUAL_NODES)]


def moves(applied: Applied) -> list[RingChanged]:
    return [event for event in applied.events if isinstance(event, RingChanged)]


def test_the_first_node_holds_everything_since_it_joined() -> None:
    cluster = Cluster()
    (change,) = moves(cluster.join("n1"))
    assert change == RingChanged(moved=tuple(range(VIRTUAL_NODES)), index=1)
    assert cluster.ring.shares() == {"n1": VIRTUAL_NODES}
    assert {cluster.ring.epoch(n) for n in range(VIRTUAL_NODES)} == {1}
    assert cluster.ring.alternatives(0) == ()


def test_only_what_moves_gets_a_new_epoch_and_is_told() -> None:
    cluster = Cluster()
    cluster.join("n1")
    (change,) = moves(cluster.join("n2"))
    assert list(change.moved) == cluster.ring.owned("n2")
    for number in range(VIRTUAL_NODES):
        assert cluster.ring.epoch(number) == (2 if number in change.moved else 1)
    assert cluster.ring.shares() == {"n1": 2048, "n2": 2048}


def test_a_lost_node_holds_nothing_from_the_same_entry_on() -> None:
    cluster = Cluster()
    for node in NAMES[:3]:
        cluster.join(node)
    held = cluster.ring.owned("n2")
    (change,) = moves(cluster.lose("n2"))
    assert list(change.moved) == held
    assert cluster.ring.owned("n2") == []
    assert all(cluster.ring.epoch(number) == cluster.index for number in held)


def test_cordoning_becoming_ready_and_joining_again_move_nothing() -> None:
    cluster = Cluster()
    for node in NAMES[:2]:
        cluster.join(node)
    before = facts(cluster.ring)
    for event in ("ready", "mark_unavailable", "mark_available"):
        assert moves(cluster.apply(ChangeNode(node="n1", event=event))) == []
    assert moves(cluster.join("n1")) == []
    assert moves(cluster.apply(LeaseNode(node="n1", leased=True))) == []
    assert facts(cluster.ring) == before


def test_an_entity_belongs_to_the_primary_of_its_virtual_node() -> None:
    cluster = Cluster()
    for node in NAMES[:3]:
        cluster.join(node)
    component = component_id("greeter", bytes(range(12)))
    number = virtual_node(component)
    assert cluster.ring.of(component) == cluster.ring.primary(number)
    assert cluster.ring.epoch_of(component) == cluster.ring.epoch(number)


def test_without_nodes_there_is_no_primary() -> None:
    cluster = Cluster()
    assert cluster.ring.primary(0) is None
    cluster.join("n1")
    cluster.lose("n1")
    assert cluster.ring.primary(0) is None
    assert cluster.ring.shares() == {}
    assert facts(copy_of(cluster).ring) == facts(cluster.ring)


def test_a_node_whose_hub_can_take_no_entries_decides_nothing_until_it_can() -> None:
    cluster = Cluster()
    for name in ("n1", "n2"):
        cluster.join(name)
    known = cluster.register.get("n2")
    assert known is not None
    held = cluster.ring.owned("n2")
    (change,) = moves(cluster.apply(NodeStorage(node="n2", epoch=known.epoch, full=True)))
    assert list(change.moved) == held
    assert cluster.ring.shares() == {"n1": VIRTUAL_NODES}
    assert {cluster.ring.epoch(number) for number in held} == {cluster.index}
    assert moves(cluster.join("n2")) == [], "neither does its next life"
    known = cluster.register.get("n2")
    assert known is not None
    cluster.apply(NodeStorage(node="n2", epoch=known.epoch, full=False))
    assert set(cluster.ring.shares()) == {"n1", "n2"}


def test_the_states_in_which_a_node_takes_part_are_those_in_which_it_is_present() -> None:
    assert set(PRESENT) == {str(state) for state in NODE_PRESENT}


steps = st.lists(st.tuples(st.sampled_from(NAMES), st.booleans()), max_size=15)


@settings(max_examples=40, deadline=None)
@given(steps)
def test_a_replica_that_takes_over_a_snapshot_goes_on_exactly_alike(
    history: list[tuple[str, bool]],
) -> None:
    cluster = Cluster()
    for node, comes in history:
        (cluster.join if comes else cluster.lose)(node)
    other = copy_of(cluster)
    other.index = cluster.index
    assert facts(other.ring) == facts(cluster.ring)
    assert other.ring.snapshot() == cluster.ring.snapshot()
    for each in (cluster, other):
        each.join("n8")
        each.lose("n8")
    assert facts(other.ring) == facts(cluster.ring)
    assert other.machine.snapshot_bytes() == cluster.machine.snapshot_bytes()


@settings(max_examples=20, deadline=None)
@given(steps)
def test_epochs_never_go_back_and_grow_exactly_where_the_primary_changes(
    history: list[tuple[str, bool]],
) -> None:
    cluster = Cluster()
    for node, comes in history:
        before = facts(cluster.ring)
        (cluster.join if comes else cluster.lose)(node)
        for (old, _, was), (new, _, now) in zip(before, facts(cluster.ring), strict=True):
            assert now == (was if old == new else cluster.index)


def test_the_snapshot_stays_below_forty_kibibytes_even_when_every_part_has_its_own_epoch() -> None:
    ring = RingState()
    plain = ring.snapshot()
    nodes = [f"node-{i:04d}" for i in range(300)]
    places = [i % 300 for i in range(VIRTUAL_NODES)]
    ring.restore(
        {
            **plain,
            "nodes": nodes,
            "primaries": b"".join(p.to_bytes(2, "big") for p in places),
            "epochs": [70_000] * VIRTUAL_NODES,
            "ages": b"".join(i.to_bytes(2, "big") for i in range(VIRTUAL_NODES)),
        }
    )
    assert ring.epoch(VIRTUAL_NODES - 1) == 70_000 * VIRTUAL_NODES
    assert ring.primary(301) == "node-0001"
    saved = ring.snapshot()
    assert len(msgspec.msgpack.encode(saved)) < 40 << 10
    other = RingState()
    other.restore(saved)
    assert facts(other) == facts(ring)
