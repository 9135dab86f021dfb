"""The oracle and the witness notice what must not be; what may be passes."""

from __future__ import annotations

from typing import Any

import pytest

from paas.assembly.hub_core import States
from paas.base.errors import PlatformError
from paas.controller.commands import ChangeInstance, CreateInstances, RegisterType
from paas.hub.state import JoinGroups
from paas.node.state import AddNode, ChangeNode, LoseNode, ReportNode
from paas.raft.command import SEED_BYTES, Stamp, encode
from paas.raft.machine import Applied
from paas.sim.platform.cluster import types
from paas.sim.platform.invariants import Broken, Invariants
from paas.sim.platform.kernel import Container
from paas.sim.platform.mutants import switched_off
from paas.sim.platform.oracle import Oracle
from paas.sim.platform.witness import Witness
from paas.sim.platform.world import World
from tests.unit.sim_platform.test_kernel import order

TYPE = "steady@1.0.0"


class Log:
    """One replica's state machine, watched as in a simulation."""

    def __init__(self, oracle: Oracle, node: str) -> None:
        self.oracle, self.node = oracle, node
        self.states = States()
        self.machine = self.states.machine()
        self.index = 0

    def apply(self, command: Any, *, number: int | None = None) -> Applied:
        self.index += 1
        seed = bytes([self.index % 250]) * SEED_BYTES
        identity = number or self.index
        data = encode(command, Stamp(1_700_000_000_000 + self.index, seed, "n1", identity))
        applied = self.machine.apply(self.index, data)
        self.oracle.applied(self.node, self.index, data, applied, self.states)
        return applied


class Bench:
    """An oracle, a witness and a replica with two nodes and a type."""

    def __init__(self) -> None:
        self.world, self.invariants = World(1), Invariants()
        self.oracle = Oracle(self.world, self.invariants)
        self.witness = Witness(self.world, self.invariants, self.oracle)
        self.witness.room = {"n1": 1 << 30, "n2": 1 << 30}
        known = types()
        self.oracle.memory_of = lambda name: int(known[name]["limits"]["memory"])
        self.log = Log(self.oracle, "n1")
        self.prepare(self.log)

    @staticmethod
    def prepare(log: Log) -> None:
        for node in ("n1", "n2"):
            log.apply(AddNode(node=node, address=f"{node}:1"))
            log.apply(ReportNode(node=node, memory_bytes=64 << 20, cpu=8.0, leased=True))
            log.apply(ChangeNode(node=node, event="ready"))
        log.apply(RegisterType(bundle="b", manifest=types()[TYPE]))

    def create(self, name: str = "", node: str = "n1", **more: Any) -> str:
        command = CreateInstances(type=TYPE, nodes=[node], name=name, **more)
        applied = self.log.apply(command)
        if applied.error is not None:
            raise applied.error
        return str(applied.result["components"][0])


def test_a_good_life_passes() -> None:
    bench = Bench()
    one, two = bench.create("a"), bench.create("b")
    for component in (one, two):
        bench.log.apply(JoinGroups(component=component, groups=["g"]))
    with pytest.raises(PlatformError):
        bench.create("a")
    assert bench.oracle.groups["g"].keys() == {one, two}
    assert bench.invariants.evaluated["join-position"] == 2


@pytest.mark.parametrize(
    ("mutant", "invariant"), [("names-not-unique", "unique-names"), ("capacity-off", "capacity")]
)
def test_what_the_state_should_refuse_is_noticed(mutant: str, invariant: str) -> None:
    bench = Bench()
    bench.create("a")
    name = "a" if invariant == "unique-names" else ""

    def fill() -> None:
        for _ in range(9):
            bench.create(name)

    with switched_off(mutant), pytest.raises(Broken, match=rf"^{invariant}"):
        fill()


def test_a_wrong_position_is_noticed() -> None:
    with switched_off("join-position-wrong"):
        bench = Bench()
        one, two = bench.create(), bench.create()
        bench.log.apply(JoinGroups(component=one, groups=["g"]))
        with pytest.raises(Broken, match=r"^join-position"):
            bench.log.apply(JoinGroups(component=two, groups=["g"]))


def test_a_command_that_is_applied_twice_is_noticed() -> None:
    with switched_off("dedup-off"):
        bench = Bench()
        bench.log.apply(AddNode(node="n3", address="n3:1"), number=900)
        with pytest.raises(Broken, match=r"^applied-once"):
            bench.log.apply(AddNode(node="n3", address="n3:1"), number=900)


def test_a_replica_with_another_entry_or_another_outcome_is_noticed() -> None:
    bench = Bench()
    other = Log(bench.oracle, "n2")
    bench.prepare(other)
    bench.create("a")
    with pytest.raises(Broken, match=r"^committed-fixed"):
        other.apply(CreateInstances(type=TYPE, nodes=["n2"], name="z"))
    bench = Bench()
    other = Log(bench.oracle, "n2")
    bench.prepare(other)
    bench.create("a")
    other.states.nodes._nodes.clear()
    with pytest.raises(Broken, match=r"^outcome-equal"):
        other.apply(CreateInstances(type=TYPE, nodes=["n1"], name="a"))


def test_two_leaders_of_a_term_and_two_entries_of_a_place_are_noticed() -> None:
    oracle = Bench().oracle
    oracle.leads("n1", 3)
    oracle.leads("n1", 3)
    with pytest.raises(Broken, match=r"^one-leader"):
        oracle.leads("n2", 3)
    oracle.appended("n1", b"a", 900, 3)
    oracle.appended("n2", b"a", 900, 3)
    with pytest.raises(Broken, match=r"^log-matching"):
        oracle.appended("n2", b"b", 900, 3)


def container(component: str, incarnation: int) -> Container:
    return Container(order=order(component, incarnation), uid_base=1, pid=1)


def test_two_copies_and_old_incarnations_are_noticed() -> None:
    bench = Bench()
    one = container("aa" * 20, 2)
    bench.witness.started("n1", one)
    with pytest.raises(Broken, match=r"^runs-once"):
        bench.witness.started("n2", container("aa" * 20, 3))
    bench.witness.ended("n1", one, "normal")
    with pytest.raises(Broken, match=r"^incarnations-grow"):
        bench.witness.started("n2", container("aa" * 20, 1))


def test_a_node_that_is_declared_lost_while_something_runs_on_it_is_noticed() -> None:
    bench = Bench()
    component = bench.create(node="n2")
    bench.log.apply(ChangeInstance(component=component, incarnation=1, event="ready"))
    bench.witness.started("n2", container(component, 1))
    node = bench.log.states.nodes.get("n2")
    assert node is not None
    with pytest.raises(Broken, match=r"^lost-is-empty"):
        bench.log.apply(LoseNode(node="n2", epoch=node.epoch, term=1))


def test_a_node_that_is_declared_lost_and_keeps_its_components_is_noticed() -> None:
    bench = Bench()
    bench.create(node="n2")
    node = bench.log.states.nodes.get("n2")
    assert node is not None
    with switched_off("node-loss-forgotten"), pytest.raises(Broken, match=r"^lost-is-left"):
        bench.log.apply(LoseNode(node="n2", epoch=node.epoch, term=1))


class Receiver:
    """As much of a component as hears messages."""

    id = "bb" * 20
    key = "bb" * 20 + "/1"
    node = "n1"


def test_messages_that_come_twice_or_out_of_order_are_noticed() -> None:
    witness, me = Bench().witness, Receiver()
    witness.invoked(me, "cc/1", me.id, 1)  # type: ignore[arg-type]
    witness.invoked(me, "cc/1", me.id, 3)  # type: ignore[arg-type]
    witness.invoked(me, "dd/1", me.id, 1)  # type: ignore[arg-type]
    for number in (3, 2):
        with pytest.raises(Broken, match=r"^pair-order"):
            witness.invoked(me, "cc/1", me.id, number)  # type: ignore[arg-type]


def test_a_second_outcome_is_noticed() -> None:
    witness = Bench().witness
    answer = witness.once(Receiver(), "call", 1.0, lambda _value: None)  # type: ignore[arg-type]
    assert len(witness.waiting) == 1
    answer(b"")
    assert not witness.waiting
    with pytest.raises(Broken, match=r"^one-outcome"):
        answer(b"")
