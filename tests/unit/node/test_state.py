"""Nodes in the cluster state: members, states by the table, errors that change nothing."""

import pytest

from paas.base.errors import PlatformError
from paas.base.fsm import IllegalTransition
from paas.node.lifecycle import NODE, NodeEvent, NodeState
from paas.node.state import ChangeNode, NodeChanged, NodeRegister, ReportNode
from paas.raft.command import Stamp, encode
from paas.raft.machine import Applied, Machine


class Cluster:
    """A machine with the section, and commands one after the other."""

    def __init__(self) -> None:
        self.register = NodeRegister()
        self.machine = Machine([self.register])
        self.index = 0

    def apply(self, command: ReportNode | ChangeNode) -> Applied:
        self.index += 1
        stamp = Stamp(time_ms=self.index, seed=bytes(16), proposer="t", sequence=self.index)
        return self.machine.apply(self.index, encode(command, stamp))

    def state(self, name: str) -> NodeState:
        node = self.register.get(name)
        assert node is not None
        return node.state


REPORT = ReportNode(node="n1", memory_bytes=1 << 30, cpu=2.0, version="1")


def test_a_node_that_reports_is_a_member_and_becomes_available() -> None:
    cluster = Cluster()
    first = cluster.apply(REPORT)
    assert [type(e) for e in first.events] == [NodeChanged]
    assert cluster.state("n1") is NodeState.INITIALIZING
    cluster.apply(ChangeNode(node="n1", event="ready"))
    assert cluster.state("n1") is NodeState.AVAILABLE


def test_a_node_that_starts_again_joins_again() -> None:
    cluster = Cluster()
    for event in ("ready", "lose", "give_up"):
        cluster.apply(REPORT)
        cluster.apply(ChangeNode(node="n1", event=event))
    cluster.apply(REPORT)
    assert cluster.state("n1") is NodeState.INITIALIZING


def test_a_node_that_a_person_took_out_stays_out_over_a_restart() -> None:
    cluster = Cluster()
    cluster.apply(REPORT)
    for event in ("ready", "mark_unavailable"):
        cluster.apply(ChangeNode(node="n1", event=event))
    cluster.apply(REPORT)
    cluster.apply(ChangeNode(node="n1", event="ready"))
    assert cluster.state("n1") is NodeState.UNAVAILABLE


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (ChangeNode(node="n9", event="ready"), "no-such-target"),
        (ChangeNode(node="n1", event="explode"), "invalid"),
        (ChangeNode(node="n1", event="cleared"), "conflict"),
        (ReportNode(node="n1", memory_bytes=-1, cpu=1.0), "invalid"),
    ],
)
def test_what_may_not_be_changes_nothing(command: ReportNode | ChangeNode, code: str) -> None:
    cluster = Cluster()
    cluster.apply(REPORT)
    before = cluster.register.snapshot()
    error = cluster.apply(command).error
    assert isinstance(error, PlatformError)
    assert error.code == code
    assert cluster.register.snapshot() == before


def test_a_snapshot_comes_back_as_it_was() -> None:
    cluster = Cluster()
    cluster.apply(REPORT)
    cluster.apply(ReportNode(node="n0", memory_bytes=1, cpu=1.0))
    other = Cluster()
    other.machine.restore_bytes(cluster.machine.snapshot_bytes())
    assert other.register.nodes() == cluster.register.nodes()
    assert [n.name for n in other.register.nodes()] == ["n0", "n1"]


def test_every_edge_of_the_table_is_taken_and_every_other_refused() -> None:
    edges = {(state, event): target for state, event, target in NODE.walk()}
    for state in NodeState:
        for event in NodeEvent:
            if (state, event) in edges:
                assert NODE.next(state, event) is edges[state, event]
            else:
                with pytest.raises(IllegalTransition):
                    NODE.next(state, event)
