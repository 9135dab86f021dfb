"""Nodes in the cluster state: members, states by the table, errors that change nothing."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paas.base.errors import PlatformError
from paas.base.fsm import IllegalTransition
from paas.node import limits
from paas.node.lifecycle import LEASED, NODE, PRESENT, NodeEvent, NodeState
from paas.node.messages import NodeChanged
from paas.node.state import (
    AddNode,
    ChangeNode,
    DrainNode,
    LeaseNode,
    LoseNode,
    Node,
    NodeRegister,
    NodeStorage,
    RemoveNode,
    ReportNode,
    WantVoters,
)
from paas.raft.command import Stamp, encode
from paas.raft.limits import VOTERS_MAX
from paas.raft.machine import Applied, Machine

S = NodeState


class Loads:
    """How many components are on a node."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}

    def count(self, node: str) -> int:
        return self.counts.get(node, 0)


class Placements:
    """The section "controller", as far as nodes ask it."""

    name = "controller"
    commands: dict[Any, Any] = {}

    def __init__(self) -> None:
        self.loads = Loads()

    def react(self, event: Any, ctx: Any) -> None: ...

    def snapshot(self) -> Any:
        return None

    def restore(self, plain: Any) -> None: ...


class Cluster:
    """A machine with the section, and commands one after the other."""

    def __init__(self) -> None:
        self.register = NodeRegister()
        self.placements = Placements()
        self.machine = Machine([self.register, self.placements])
        self.index = 0

    def apply(self, command: msgspec.Struct) -> Applied:
        self.index += 1
        stamp = Stamp(time_ms=self.index, seed=bytes(16), proposer="t", sequence=self.index)
        return self.machine.apply(self.index, encode(command, stamp))

    def do(self, *commands: msgspec.Struct) -> None:
        for command in commands:
            assert self.apply(command).error is None

    def refuse(self, command: msgspec.Struct) -> str:
        """The code of the error, which has changed nothing."""
        register = self.register.snapshot()
        error = self.apply(command).error
        assert error is not None
        assert self.register.snapshot() == register
        return error.code

    def node(self, name: str) -> Node:
        node = self.register.get(name)
        assert node is not None
        return node

    def state(self, name: str) -> NodeState:
        return self.node(name).state

    def lose(self, name: str) -> Applied:
        return self.apply(LoseNode(node=name, epoch=self.node(name).epoch, term=1))


REPORT = ReportNode(node="n1", memory_bytes=1 << 30, cpu=2.0, version="1")


def report(node: str, **more: Any) -> ReportNode:
    return ReportNode(node=node, memory_bytes=1, cpu=1.0, **{"leased": True, **more})


def ready(node: str) -> ChangeNode:
    return ChangeNode(node=node, event="ready")


def two() -> Cluster:
    cluster = Cluster()
    cluster.do(report("n1"), ready("n1"), report("n2"), ready("n2"))
    return cluster


def test_a_node_that_reports_is_a_member_and_becomes_available() -> None:
    cluster = Cluster()
    first = cluster.apply(REPORT)
    assert [type(e) for e in first.events] == [NodeChanged]
    assert cluster.state("n1") is S.INITIALIZING
    cluster.do(ready("n1"))
    assert cluster.state("n1") is S.AVAILABLE
    assert cluster.node("n1").present
    assert cluster.node("n1").placeable


def test_each_joining_is_a_new_epoch_and_is_told() -> None:
    cluster = two()
    first = cluster.node("n1").epoch
    applied = cluster.apply(
        report("n1", address="10.0.0.1:7000", bases=["host"], labels={"z": "a"})
    )
    assert applied.result == {"epoch": cluster.index}
    assert cluster.node("n1").epoch == cluster.index > first
    (event,) = applied.events
    assert isinstance(event, NodeChanged)
    assert (event.state, event.previous) == ("initializing", "available")
    assert cluster.node("n1").address == "10.0.0.1:7000"
    assert cluster.node("n1").labels == {"z": "a"}
    cluster.do(report("n1"))
    assert cluster.node("n1").address == "10.0.0.1:7000", "what is not said stays"


def test_a_ready_of_a_former_life_counts_for_nothing() -> None:
    cluster = two()
    old = cluster.node("n1").epoch
    cluster.do(report("n1"))
    assert cluster.refuse(ChangeNode(node="n1", event="ready", epoch=old)) == "conflict"
    assert cluster.state("n1") is S.INITIALIZING


def test_a_person_adds_a_machine_which_is_prepared_until_it_joins() -> None:
    cluster = two()
    cluster.do(AddNode(node="n3", address="10.0.0.3:7000"))
    assert cluster.state("n3") is S.PREPARING
    assert not cluster.node("n3").present
    cluster.do(AddNode(node="n3", address="10.0.0.3:7000"))
    assert cluster.refuse(AddNode(node="n3", address="10.0.0.4:7000")) == "conflict"
    cluster.do(report("n3"))
    assert cluster.state("n3") is S.INITIALIZING
    assert cluster.refuse(AddNode(node="n3", address="10.0.0.3:7000")) == "conflict"


@pytest.mark.parametrize(
    ("node", "address"),
    [
        ("N 3", "h:1"),
        ("", "h:1"),
        ("n" * 60, "h:1"),
        ("n3", "h"),
        ("n3", ":1"),
        ("n3", "h:0"),
        ("n3", "h:65536"),
        ("n3", "h:²"),
        ("n3", "h" * 300 + ":1"),
    ],
)
def test_names_and_addresses_are_checked(node: str, address: str) -> None:
    assert two().refuse(AddNode(node=node, address=address)) == "invalid"


def test_a_cluster_has_a_bounded_number_of_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "NODES_MAX", 2)
    assert two().refuse(AddNode(node="n3", address="h:1")) == "limit-exceeded"
    assert two().refuse(report("n3")) == "limit-exceeded"


# -- lost and back -------------------------------------------------------------------------------


def test_a_node_is_lost_in_the_life_that_was_meant_and_only_under_lease() -> None:
    cluster = two()
    epoch = cluster.node("n2").epoch
    assert cluster.refuse(LoseNode(node="n2", epoch=epoch - 1, term=1)) == "conflict"
    cluster.do(report("n2"))
    assert cluster.refuse(LoseNode(node="n2", epoch=epoch, term=1)) == "conflict"
    assert cluster.lose("n2").error is None
    assert cluster.state("n2") is S.OFFLINE
    assert cluster.node("n2").lost_index == cluster.index
    assert not cluster.node("n2").leased
    assert cluster.refuse(LoseNode(node="n2", epoch=cluster.node("n2").epoch, term=1)) == "conflict"

    alone = Cluster()
    alone.do(REPORT)
    epoch = alone.node("n1").epoch
    assert alone.refuse(LoseNode(node="n1", epoch=epoch, term=1)) == "conflict"


def test_a_lost_node_joins_again_only_when_nothing_of_the_past_runs() -> None:
    for given_up in (False, True):
        cluster = two()
        cluster.lose("n2")
        if given_up:
            cluster.do(ChangeNode(node="n2", event="give_up"))
        assert cluster.refuse(report("n2")) == "conflict"
        cluster.do(report("n2", cleared=True), ready("n2"))
        assert cluster.state("n2") is S.AVAILABLE
        assert cluster.node("n2").leased


def test_coming_under_lease_is_a_new_epoch_and_only_a_node_alone_leaves_it() -> None:
    cluster = Cluster()
    cluster.do(REPORT)
    cluster.do(LeaseNode(node="n1", leased=True))
    assert cluster.node("n1").leased
    assert cluster.node("n1").epoch == cluster.index
    cluster.do(LeaseNode(node="n1", leased=False))
    assert not cluster.node("n1").leased
    cluster.do(AddNode(node="n2", address="h:1"), LeaseNode(node="n1", leased=True))
    assert cluster.refuse(LeaseNode(node="n1", leased=False)) == "conflict"
    assert cluster.refuse(LeaseNode(node="n2", leased=True)) == "conflict"
    cluster.do(report("n1", leased=False))
    assert cluster.node("n1").leased, "a joining takes no lease away"


# -- a full disk ---------------------------------------------------------------------------------


def storage(cluster: Cluster, name: str, full: bool) -> NodeStorage:
    return NodeStorage(node=name, epoch=cluster.node(name).epoch, full=full)


def test_a_node_whose_storage_is_full_goes_on_and_gets_nothing_new() -> None:
    cluster = two()
    for full in (True, False):
        applied = cluster.apply(storage(cluster, "n2", full))
        [event] = applied.events
        assert isinstance(event, NodeChanged)
        assert (event.node, event.state, event.previous) == ("n2", "available", "available")
        assert event.storage_full is full
        assert cluster.state("n2") is S.AVAILABLE
        assert cluster.node("n2").placeable is not full
        assert cluster.apply(storage(cluster, "n2", full)).events == (), "that is no news"


def test_that_storage_is_full_is_told_of_one_life_of_a_leased_node() -> None:
    cluster = two()
    late = storage(cluster, "n2", True)
    cluster.do(report("n2"))
    assert cluster.refuse(late) == "conflict"
    assert cluster.refuse(NodeStorage(node="n9", epoch=1, full=True)) == "no-such-target"
    cluster.do(storage(cluster, "n2", True), report("n2"))
    assert cluster.node("n2").storage_full, "another life of its hub has no larger disk"
    lost = storage(cluster, "n2", True)
    cluster.lose("n2")
    assert not cluster.node("n2").storage_full
    assert cluster.refuse(lost) == "conflict"


def test_a_node_that_is_left_alone_counts_as_having_room() -> None:
    cluster = two()
    cluster.do(storage(cluster, "n1", True), RemoveNode(node="n2", force=True))
    cluster.lose("n2")
    assert cluster.node("n1").storage_full
    [event] = cluster.apply(LeaseNode(node="n1", leased=False)).events
    assert isinstance(event, NodeChanged)
    assert not event.storage_full
    assert cluster.node("n1").placeable


# -- cordoned, drained ---------------------------------------------------------------------------


def test_a_node_that_a_person_took_out_stays_out_over_restarts_and_losses() -> None:
    cluster = two()
    cluster.do(ChangeNode(node="n2", event="mark_unavailable", reason="disk"))
    assert cluster.state("n2") is S.UNAVAILABLE
    for lost in (False, True):
        if lost:
            cluster.lose("n2")
        cluster.do(report("n2", cleared=True))
        assert cluster.state("n2") is S.INITIALIZING
        assert not cluster.node("n2").placeable
        cluster.do(ready("n2"))
        assert cluster.state("n2") is S.UNAVAILABLE
    cluster.do(ChangeNode(node="n2", event="mark_available"))
    assert cluster.state("n2") is S.AVAILABLE


def test_a_node_can_be_cordoned_and_given_back_while_it_is_away() -> None:
    cluster = two()
    cluster.lose("n2")
    cluster.do(ChangeNode(node="n2", event="mark_unavailable"))
    assert cluster.state("n2") is S.OFFLINE
    assert cluster.node("n2").cordoned
    cluster.do(ChangeNode(node="n2", event="mark_available"))
    cluster.do(report("n2", cleared=True), ready("n2"))
    assert cluster.state("n2") is S.AVAILABLE


def test_draining_cordons_and_giving_back_ends_it() -> None:
    cluster = two()
    cluster.do(DrainNode(node="n2", draining=True, reason="new disk"))
    assert cluster.state("n2") is S.UNAVAILABLE
    assert cluster.node("n2").draining
    assert cluster.node("n2").reason == "new disk"
    cluster.do(DrainNode(node="n2", draining=False))
    assert not cluster.node("n2").draining
    assert cluster.node("n2").cordoned
    cluster.do(DrainNode(node="n2", draining=True), ChangeNode(node="n2", event="mark_available"))
    assert not cluster.node("n2").draining
    assert cluster.state("n2") is S.AVAILABLE


# -- removed -------------------------------------------------------------------------------------


def test_a_node_with_components_is_removed_only_by_force() -> None:
    cluster = two()
    cluster.placements.loads.counts["n2"] = 3
    error = cluster.apply(RemoveNode(node="n2")).error
    assert error is not None
    assert (error.code, error.data["components"]) == ("conflict", 3)
    assert cluster.state("n2") is S.AVAILABLE
    cluster.do(RemoveNode(node="n2", force=True))
    assert cluster.state("n2") is S.DESTROYING


def test_a_node_that_was_there_is_gone_when_it_says_so_or_its_lease_is_over() -> None:
    for says_so in (False, True):
        cluster = two()
        cluster.do(RemoveNode(node="n2"), RemoveNode(node="n2"))
        assert cluster.state("n2") is S.DESTROYING
        assert not cluster.node("n2").present
        assert cluster.refuse(report("n2", cleared=True)) == "conflict"
        assert cluster.refuse(ChangeNode(node="n2", event="mark_available")) == "conflict"
        epoch = cluster.node("n2").epoch
        if says_so:
            applied = cluster.apply(ChangeNode(node="n2", event="cleared", epoch=epoch))
        else:
            applied = cluster.lose("n2")
        (event,) = applied.events
        assert isinstance(event, NodeChanged)
        assert event.state == "destroyed"
        assert cluster.register.get("n2") is None
        assert cluster.register.removed("n2")
        assert list(cluster.register.removed_names) == ["n2"]


def test_a_node_that_never_joined_is_gone_at_once() -> None:
    cluster = two()
    cluster.do(AddNode(node="n3", address="h:1"), RemoveNode(node="n3"))
    assert cluster.register.removed("n3")


@pytest.mark.parametrize("how", ["lost", "failed", "forced without a lease"])
def test_a_node_of_which_nothing_can_run_is_gone_when_that_is_said(how: str) -> None:
    cluster = two()
    cluster.do(report("n3", leased=how != "forced without a lease"))
    if how in ("lost", "failed"):
        cluster.lose("n3")
    if how == "failed":
        cluster.do(ChangeNode(node="n3", event="give_up"))
    if how.startswith("forced"):
        assert cluster.refuse(RemoveNode(node="n3")) == "conflict"
    cluster.do(RemoveNode(node="n3", force=how.startswith("forced")))
    assert cluster.state("n3") == "destroying", "its hub may vote"
    assert cluster.refuse(report("n3", cleared=True)) == "conflict", "it does not come back"
    cluster.do(ChangeNode(node="n3", event="cleared"))
    assert cluster.register.removed("n3")


def test_the_name_of_a_removed_node_does_not_come_back() -> None:
    cluster = two()
    cluster.lose("n2")
    cluster.do(RemoveNode(node="n2"), ChangeNode(node="n2", event="cleared"))
    assert cluster.refuse(AddNode(node="n2", address="h:1")) == "conflict"
    assert cluster.refuse(report("n2", cleared=True)) == "conflict"


def test_the_last_node_is_not_removed() -> None:
    cluster = Cluster()
    cluster.do(REPORT)
    assert cluster.refuse(RemoveNode(node="n1", force=True)) == "conflict"
    assert cluster.register.alone("n1")


def test_the_last_node_that_stays_is_not_removed() -> None:
    cluster = two()
    cluster.do(RemoveNode(node="n2", force=True))
    assert cluster.refuse(RemoveNode(node="n1", force=True)) == "conflict"


def test_names_of_removed_nodes_are_remembered_up_to_a_bound(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "REMOVED_NAMES_MAX", 2)
    cluster = two()
    for name in ("n3", "n4", "n5"):
        cluster.do(AddNode(node=name, address="h:1"), RemoveNode(node=name))
    assert [cluster.register.removed(n) for n in ("n3", "n4", "n5")] == [False, True, True]


# -- errors, snapshots, the table ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (ChangeNode(node="n9", event="ready"), "no-such-target"),
        (LoseNode(node="n9", epoch=1, term=1), "no-such-target"),
        (RemoveNode(node="n9"), "no-such-target"),
        (DrainNode(node="n9", draining=True), "no-such-target"),
        (LeaseNode(node="n9", leased=True), "no-such-target"),
        (ChangeNode(node="n1", event="explode"), "invalid"),
        *((ChangeNode(node="n1", event=e), "invalid") for e in ("lose", "join", "destroy")),
        (ChangeNode(node="n1", event="cleared"), "conflict"),
        (ReportNode(node="n1", memory_bytes=-1, cpu=1.0), "invalid"),
        (report("n1", labels={"a": "b" * 300}), "invalid"),
        (report("n1", labels={str(i): "" for i in range(70)}), "invalid"),
        (report("n1", bases=["b"] * 70), "invalid"),
        (report("n1", address="nowhere"), "invalid"),
    ],
)
def test_what_may_not_be_changes_nothing(command: msgspec.Struct, code: str) -> None:
    cluster = Cluster()
    cluster.apply(REPORT)
    assert cluster.refuse(command) == code


def test_a_snapshot_comes_back_as_it_was() -> None:
    cluster = Cluster()
    cluster.do(REPORT, ReportNode(node="n0", memory_bytes=1, cpu=1.0))
    cluster.do(AddNode(node="n3", address="h:1"), RemoveNode(node="n3"))
    other = Cluster()
    other.machine.restore_bytes(cluster.machine.snapshot_bytes())
    assert other.register.nodes() == cluster.register.nodes()
    assert [n.name for n in other.register.nodes()] == ["n0", "n1"]
    assert other.register.removed("n3")
    assert other.machine.snapshot_bytes() == cluster.machine.snapshot_bytes()


def test_a_snapshot_of_the_first_version_is_understood() -> None:
    register = NodeRegister()
    plain = {"name": "n1", "state": "unavailable", "since_ms": 5, "memory_bytes": 7, "cpu": 2.0}
    register.restore([plain, {**plain, "name": "n2", "state": "available"}])
    n1, n2 = register.nodes()
    assert (n1.state, n1.memory_bytes, n1.cordoned, n1.leased) == (S.UNAVAILABLE, 7, True, False)
    assert (n2.cordoned, n2.epoch) == (False, 0)


def test_every_edge_of_the_table_is_taken_and_every_other_refused() -> None:
    edges = {(state, event): target for state, event, target in NODE.walk()}
    for state in NodeState:
        for event in NodeEvent:
            if (state, event) in edges:
                assert NODE.next(state, event) is edges[state, event]
            else:
                with pytest.raises(IllegalTransition):
                    NODE.next(state, event)


names = st.sampled_from(["n1", "n2", "n3"])
commands = st.one_of(
    st.builds(AddNode, node=names, address=st.just("h:1")),
    st.builds(report, names, leased=st.booleans(), cleared=st.booleans()),
    st.builds(ChangeNode, node=names, event=st.sampled_from([str(e) for e in NodeEvent])),
    st.builds(LoseNode, node=names, epoch=st.integers(0, 30), term=st.just(1)),
    st.builds(RemoveNode, node=names, force=st.booleans()),
    st.builds(LeaseNode, node=names, leased=st.booleans()),
    st.builds(DrainNode, node=names, draining=st.booleans()),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(commands, max_size=30))
def test_whatever_is_proposed_the_invariants_hold(proposed: list[msgspec.Struct]) -> None:
    cluster = Cluster()
    removed: set[str] = set()
    for command in proposed:
        before = {n.name: n for n in cluster.register.nodes()}
        register = cluster.register.snapshot()
        error = cluster.apply(command).error
        if isinstance(error, PlatformError):
            assert error.code != "internal"
            assert cluster.register.snapshot() == register
        for node in cluster.register.nodes():
            assert node.epoch <= cluster.index
            assert node.name not in removed, "a removed name came back"
            assert not (node.state is S.AVAILABLE and node.cordoned)
            assert node.cordoned or not node.draining
            assert node.state is not S.UNAVAILABLE or node.cordoned
            old = before.get(node.name)
            if old is not None and old.state in PRESENT and node.state is S.OFFLINE:
                assert old.leased
                assert isinstance(command, LoseNode)
                assert command.epoch == old.epoch
            if node.leased:
                assert node.state in LEASED
        removed |= {name for name in before if cluster.register.get(name) is None}
        other = Cluster()
        other.machine.restore_bytes(cluster.machine.snapshot_bytes())
        assert other.register.snapshot() == cluster.register.snapshot()


def test_how_many_vote_is_an_odd_number_that_outlives_a_snapshot() -> None:
    cluster = two()
    assert cluster.register.voters_wanted == limits.VOTERS_DEFAULT
    for wrong in (0, -1, 2, 4, VOTERS_MAX + 1, VOTERS_MAX + 2):
        assert cluster.refuse(WantVoters(voters=wrong)) == "invalid"
    cluster.do(WantVoters(voters=3))
    again = NodeRegister()
    again.restore(cluster.register.snapshot())
    assert again.voters_wanted == 3


def test_a_snapshot_of_an_earlier_version_has_the_usual_number_of_voters() -> None:
    plain = two().register.snapshot()
    del plain["voters"]
    again = NodeRegister()
    again.restore(plain)
    assert again.voters_wanted == limits.VOTERS_DEFAULT
