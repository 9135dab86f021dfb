"""Random histories of a small cluster: nodes come and go, stale primaries place, agents lag."""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, multiple, rule

from paas.base import ids
from paas.base.errors import PlatformError
from paas.controller import commands
from paas.controller.lifecycle import PRESENT, RUNNING, ComponentEvent, ComponentState
from paas.controller.loads import UNPLACED
from paas.controller.messages import ComponentEnded
from paas.node.lifecycle import NodeEvent
from paas.node.state import ChangeNode
from paas.scheduler.limits import MEMORY_OVERCOMMIT
from paas.testing.replica_with_nodes import NEED, ReplicaWithNodes

E, S = ComponentEvent, ComponentState
NAMES = ("n1", "n2", "n3", "n4")


class Histories(RuleBasedStateMachine):
    """Random histories of a small cluster: what must hold after every command."""

    components = Bundle("components")

    def __init__(self) -> None:
        super().__init__()
        self.world = ReplicaWithNodes(*NAMES[:2], memory_bytes=int(3 * NEED / MEMORY_OVERCOMMIT))
        self.placed: dict[tuple[str, int], str] = {}
        self.refusals: set[str] = set()

    def attempt(self, job: Any, *arguments: Any, **fields: Any) -> Any:
        try:
            return job(*arguments, **fields)
        except PlatformError as error:
            self.refusals.add(error.code)
            return None

    # -- what happens ------------------------------------------------------------------------

    @rule(name=st.sampled_from(NAMES))
    def join(self, name: str) -> None:
        self.attempt(self.world.join, name)

    @rule(name=st.sampled_from(NAMES))
    def lose(self, name: str) -> None:
        if self.world.register.get(name) is not None:
            self.attempt(self.world.lose, name)

    @rule(name=st.sampled_from(NAMES), away=st.booleans())
    def cordon(self, name: str, away: bool) -> None:
        event = NodeEvent.MARK_UNAVAILABLE if away else NodeEvent.MARK_AVAILABLE
        self.attempt(self.world.apply, ChangeNode(node=name, event=event))
        self.attempt(self.world.apply, commands.EmptyNode(node=name))

    @rule(
        target=components,
        nodes=st.lists(st.sampled_from([*NAMES, ""]), min_size=1, max_size=3),
        restart=st.sampled_from(["permanent", "transient", "temporary"]),
    )
    def create(self, nodes: list[str], restart: str) -> Any:
        created = self.attempt(self.world.create, *nodes, restart=restart, groups=["g"]) or []
        return multiple(*created)

    @rule(
        component=components,
        node=st.sampled_from(NAMES),
        by=st.sampled_from([*NAMES, None]),
        older=st.integers(0, 2),
        past=st.integers(0, 1),
    )
    def place(self, component: str, node: str, by: str | None, older: int, past: int) -> None:
        """By the primary, by one of the past, by a stranger; for this or a past incarnation."""
        number = ids.virtual_node(ids.Id(component))
        fields = {
            "by": by or self.world.ring.primary(number),
            "ring_epoch": self.world.ring.epoch(number) - older,
            "incarnation": self.world.at(component).incarnation - past,
        }
        is_right = not past and not older and fields["by"] == self.world.ring.primary(number)
        before = self.world.at(component).node
        self.attempt(self.world.place, component, node, **fields)
        assert is_right or self.world.at(component).node == before

    @rule(component=components, event=st.sampled_from([E.STARTED, E.READY, E.PAUSE]))
    def live(self, component: str, event: ComponentEvent) -> None:
        self.attempt(self.world.change, component, event)

    @rule(component=components, reason=st.sampled_from(["exit:1", "normal"]))
    def exits(self, component: str, reason: str) -> None:
        self.attempt(self.world.change, component, E.EXITED, reason=reason)

    @rule(component=components)
    def clear(self, component: str) -> None:
        for event in (E.RESTART, E.GIVE_UP, E.CLEARED):
            self.attempt(self.world.change, component, event)

    @rule(component=components, mode=st.sampled_from(["destroy", "terminate"]))
    def end(self, component: str, mode: str) -> None:
        self.attempt(self.world.apply, commands.EndInstance(component=component, mode=mode))

    @rule(component=components)
    def move(self, component: str) -> None:
        self.attempt(self.world.move, component)

    @rule(one=components, other=components)
    def link(self, one: str, other: str) -> None:
        if one != other:
            self.attempt(self.world.apply, commands.LinkInstances(a=one, b=other))

    @rule()
    def take_over(self) -> None:
        self.world.machine.restore_bytes(self.world.machine.snapshot_bytes())

    # -- what holds --------------------------------------------------------------------------

    @invariant()
    def an_incarnation_is_on_one_node_only(self) -> None:
        for instance in self.world.state.instances:
            if instance.node and instance.state in PRESENT:
                key = (instance.id, instance.incarnation)
                assert self.placed.setdefault(key, instance.node) == instance.node

    @invariant()
    def every_incarnation_ends_once_and_those_before_have_ended(self) -> None:
        ended = [(e.component, e.incarnation) for e in self.world.history if is_end(e)]
        assert len(ended) == len(set(ended))
        for instance in self.world.state.instances:
            over = {number for component, number in ended if component == instance.id}
            last = instance.incarnation - (1 if instance.state in PRESENT else 0)
            assert over == set(range(1, last + 1))

    @invariant()
    def nothing_is_on_a_node_that_is_lost(self) -> None:
        present = {node.name for node in self.world.register.nodes() if node.present}
        for instance in self.world.state.instances:
            assert instance.ended or not instance.node or instance.node in present
            if not instance.ended and not instance.node:
                assert instance.state is S.PREPARING
                assert not instance.moving
            assert instance.node or instance.state not in RUNNING

    @invariant()
    def no_node_is_overfilled_and_the_sums_are_right(self) -> None:
        state = self.world.state
        again = self.world.recounted()
        assert again.copy() == state.loads.copy()
        for name in (*NAMES, UNPLACED):
            assert again.on(name) == state.loads.on(name)
            used = state.loads.of(name).memory_bytes
            assert name == UNPLACED or used <= self.world.memory_bytes * MEMORY_OVERCOMMIT

    @invariant()
    def refusals_are_foreseen(self) -> None:
        assert self.refusals <= {"conflict", "not-available", "no-such-target"}

    @invariant()
    def members_are_alive(self) -> None:
        for component in self.world.groups.members("g"):
            assert self.world.at(component).state in PRESENT

    def teardown(self) -> None:
        """Nothing is stuck: with room and agents that do their duty all come to rest."""
        world = self.world
        world.memory_bytes = 1 << 40
        self.attempt(world.join, "n1")
        self.attempt(world.apply, ChangeNode(node="n1", event=NodeEvent.MARK_AVAILABLE))
        for _ in range(4):
            for instance in list(world.state.instances):
                settle(world, instance)
        assert all(i.ended or i.state is S.AVAILABLE for i in world.state.instances)


def is_end(event: Any) -> bool:
    return isinstance(event, ComponentEnded)


def settle(world: ReplicaWithNodes, instance: Any) -> None:
    """What its keeper, or the placer, would do next."""
    if instance.state is S.DESTROYING:
        event = {"restart": E.RESTART, "fail": E.GIVE_UP, "end": E.CLEARED}[instance.outcome]
        world.change(instance.id, event)
    elif instance.state is S.STOPPING:
        world.change(instance.id, E.EXITED, reason="normal")
    elif instance.state is S.PREPARING and not instance.node:
        world.place(instance.id, "n1")
    elif instance.state in (S.PREPARING, S.INITIALIZING, S.UNAVAILABLE):
        world.change(instance.id, E.READY)


TestHistories = Histories.TestCase
TestHistories.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
