"""What the log says, put together once from all replicas: the yardstick for each of them.

    every apply of every replica, in every life ──> Oracle
        first time at an index: what follows from it is noted, and judged
        again: it must be the same command with the same outcome

It reads events, not the platform's state, where it can: so that state and oracle are two opinions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from paas.base.ids import Id, virtual_node
from paas.controller.commands import CreateInstances, PlaceInstance
from paas.controller.messages import (
    ComponentChanged,
    ComponentCreated,
    ComponentEnded,
    ComponentForgotten,
    ComponentPlaced,
)
from paas.controller.restarts import MOVED, NODE_LOST
from paas.hub.ring_state import RingChanged
from paas.hub.state import JoinGroups, MemberJoined, MemberLeft
from paas.node.messages import NodeChanged
from paas.raft.command import decode
from paas.raft.machine import Applied
from paas.scheduler.limits import MEMORY_OVERCOMMIT
from paas.sim.platform.invariants import Invariants
from paas.sim.platform.world import World

GONE = frozenset({"destroyed", "failed"})


class Life:
    """What the log says about one component."""

    __slots__ = (
        "created_s",
        "ended",
        "ended_s",
        "name",
        "restarts",
        "state",
        "type",
        "was_available",
    )

    def __init__(self, name: str, type_name: str, now_s: float) -> None:
        self.name = name
        self.type = type_name
        self.state = "none"
        self.was_available = False
        self.created_s = now_s
        self.ended: dict[int, float] = {}  # incarnation -> when that was known
        self.ended_s: float | None = None
        self.restarts: list[float] = []

    @property
    def over(self) -> bool:
        return self.state in GONE

    def is_over(self, incarnation: int) -> bool:
        return self.over or incarnation in self.ended


class Oracle:
    """See the module's text."""

    def __init__(self, world: World, invariants: Invariants) -> None:
        self.world = world
        self.lives: dict[str, Life] = {}
        self.names: dict[str, str] = {}
        self.groups: dict[str, dict[str, int]] = {}
        self.tokens: dict[str, int] = {}
        self.indices: dict[int, tuple[bytes, Applied, _Outcome]] = {}
        self.first_s: dict[int, float] = {}
        self.last_index = 0
        self.leaders: dict[int, str] = {}
        self.steady_clocks = True
        """Nobody sets a wall clock in this run: restarts can be counted by true time."""
        self.on_member: Callable[[str, str, int | None], None] = lambda _g, _c, _token: None
        self.on_command: Callable[[Any, Applied, Any], None] = lambda _c, _applied, _states: None
        self.on_offline: Callable[[str], None] = lambda _node: None
        self.on_destroyed: Callable[[str], None] = lambda _node: None
        self.memory_of: Callable[[str], int] = lambda _type: 0
        self._invariants = invariants
        self._entries: dict[tuple[int, int], bytes] = {}
        self._stamps: dict[tuple[str, int], int] = {}
        self._requests: dict[str, list[str]] = {}
        self._epochs: dict[int, int] = {}

    # -- the replicated log ----------------------------------------------------------------------

    def leads(self, node: str, term: int) -> None:
        first = self.leaders.setdefault(term, node)
        if first != node:
            self._invariants.require("one-leader", False, f"{first} and {node} in term {term}")
        self._invariants.seen("one-leader")

    def appended(self, node: str, payload: bytes, index: int, term: int) -> None:
        if self._entries.setdefault((index, term), payload) != payload:
            text = f"{node} has another entry at {index}, term {term}"
            self._invariants.require("log-matching", False, text)
        self._invariants.seen("log-matching")

    def applied(self, node: str, index: int, data: bytes, applied: Applied, states: Any) -> None:
        """A replica has applied an entry."""
        known = self.indices.get(index)
        if known is not None:
            if known[0] != data:
                text = f"{node} has another entry at {index}"
                self._invariants.require("committed-fixed", False, text)
            self._invariants.seen("committed-fixed")
            outcome = _outcome(applied)
            if known[2] != outcome:
                text = f"{node} at {index}: {outcome}, elsewhere {known[2]}"
                self._invariants.require("outcome-equal", False, text)
            self._invariants.seen("outcome-equal")
            return
        self.indices[index] = (data, applied, _outcome(applied))
        self.last_index = max(self.last_index, index)
        self._first(index, data, applied, states)

    def _first(self, index: int, data: bytes, applied: Applied, states: Any) -> None:
        stamp, cmd = decode(data)
        if not applied.repeated:
            first = self._stamps.setdefault(stamp.identity, index)
            text = f"{type(cmd).__name__} {stamp.identity} at {first} and at {index}"
            self._invariants.require("applied-once", first == index, text)
        word = "repeated" if applied.repeated else applied.error.code if applied.error else "ok"
        self.world.record(f"applied {index} {type(cmd).__name__} {word}")
        for event in applied.events:
            self._event(event, states)
        if applied.error is None and not applied.repeated:
            self.on_command(cmd, applied, states)
            if isinstance(cmd, CreateInstances):
                self._created(cmd, applied.result)
            elif isinstance(cmd, JoinGroups):
                self._joined(cmd.component, applied.result)
            elif isinstance(cmd, PlaceInstance):
                self._placed(cmd, states)

    # -- results ---------------------------------------------------------------------------------

    def _created(self, cmd: CreateInstances, result: Any) -> None:
        if not cmd.request_id:
            return
        request = f"{cmd.created_by}/{cmd.request_id}"
        first = self._requests.setdefault(request, result["components"])
        text = f"{request} created {first} and {result['components']}"
        self._invariants.require("create-once", first == result["components"], text)

    def _placed(self, cmd: PlaceInstance, states: Any) -> None:
        number = virtual_node(Id(cmd.component))
        decides = (states.ring.primary(number), states.ring.epoch(number))
        text = f"{cmd.by} since {cmd.ring_epoch} placed {cmd.component[:8]}, not {decides}"
        self._invariants.require("primary-decides", decides == (cmd.by, cmd.ring_epoch), text)

    def _joined(self, component: str, result: Any) -> None:
        for group, token in result["token"].items():
            members = self.groups.get(group, {})
            place = list(members).index(component) + 1 if component in members else 0
            told = (result["positions"][group], result["members"][group], token)
            right = (place, len(members), members.get(component))
            text = f"{component[:8]} in {group}: told {told}, by the log {right}"
            self._invariants.require("join-position", told == right, text)

    # -- events ----------------------------------------------------------------------------------

    def _event(self, event: Any, states: Any) -> None:
        if isinstance(event, ComponentCreated):
            self._component_created(event)
            self._check_room(event.node, states)
        elif isinstance(event, ComponentPlaced):
            self._check_room(event.node, states)
        elif isinstance(event, ComponentChanged):
            self._component_changed(event)
        elif isinstance(event, ComponentEnded):
            self._component_ended(event, states)
        elif isinstance(event, ComponentForgotten):
            life = self.lives[event.component]
            if not life.over:
                life.state = "destroyed"
        elif isinstance(event, MemberJoined):
            self._member_joined(event, states)
        elif isinstance(event, MemberLeft):
            self.groups[event.group].pop(event.component, None)
            self.on_member(event.group, event.component, None)
        elif isinstance(event, NodeChanged):
            self.world.record(f"node {event.node} {event.state} {event.reason}")
            if event.rebooted:
                self.world.count("seen-reboot")
                self._check_left(event.node, states)
            if event.state == "offline":
                self.on_offline(event.node)
                self._check_left(event.node, states)
            elif event.state == "destroyed":
                self.on_destroyed(event.node)
        elif isinstance(event, RingChanged):
            self._ring_changed(event, states)

    def _component_created(self, event: ComponentCreated) -> None:
        self.lives[event.component] = Life(event.name, event.type, self.world.now_s)
        if event.name:
            holder = self.names.get(event.name)
            free = holder is None or self.lives[holder].over
            text = f"{event.name!r} belongs to {holder} and to {event.component}"
            self._invariants.require("unique-names", free, text)
            self.names[event.name] = event.component

    def _component_changed(self, event: ComponentChanged) -> None:
        life = self.lives[event.component]
        life.state = event.state
        life.was_available = life.was_available or event.state == "available"
        if event.state in GONE:
            life.ended_s = self.world.now_s

    def _component_ended(self, event: ComponentEnded, states: Any) -> None:
        life = self.lives[event.component]
        text = f"{event.component[:8]}/{event.incarnation} ends again: {event.reason}"
        self._invariants.require("ended-once", event.incarnation not in life.ended, text)
        life.ended[event.incarnation] = self.world.now_s
        counts = event.will_restart and event.reason not in (MOVED, NODE_LOST)
        if not counts or not self.steady_clocks:
            return
        life.restarts.append(event.time_ms / 1000)
        instance = states.controller.instances.get(event.component)
        if instance is not None:
            since_s = event.time_ms / 1000 - instance.within_s
            recent = sum(1 for end_s in life.restarts if end_s > since_s + 0.002)
            text = f"{event.component[:8]}: {recent} restarts within {instance.within_s} s"
            self._invariants.require("restart-intensity", recent <= instance.max_restarts, text)

    def _member_joined(self, event: MemberJoined, states: Any) -> None:
        members = self.groups.setdefault(event.group, {})
        token = states.groups._members[event.group][event.component]
        last = self.tokens.get(event.group, 0)
        text = f"{event.group}: token {token} after {last}"
        self._invariants.require("tokens-grow", token > last, text)
        self.tokens[event.group] = token
        members[event.component] = token
        self.on_member(event.group, event.component, token)

    def _ring_changed(self, event: RingChanged, states: Any) -> None:
        for number in event.moved:
            epoch, last = states.ring.epoch(number), self._epochs.get(number, 0)
            if epoch <= last:
                text = f"virtual node {number}: {epoch} after {last}"
                self._invariants.require("ring-epochs", False, text)
            self._epochs[number] = epoch
        self._invariants.seen("ring-epochs")

    def _check_left(self, node: str, states: Any) -> None:
        """At the very command that declares a node lost, its components are decided about."""
        instances = states.controller.instances
        left = [i.short for i in instances if i.node == node and not i.ended]
        text = f"{node} is lost, and is said to have {left[:5]}"
        self._invariants.require("lost-is-left", not left, text)

    def _check_room(self, node: str, states: Any) -> None:
        if not node:
            return
        record = states.nodes.get(node)
        used = sum(
            self.memory_of(instance.type)
            for instance in states.controller.instances
            if instance.node == node and not instance.ended
        )
        has = 0 if record is None else int(record.memory_bytes * MEMORY_OVERCOMMIT)
        self._invariants.require("capacity", used <= has, f"{node}: {used} of {has} bytes")


_Outcome: TypeAlias = tuple[Any, ...]


def _outcome(applied: Applied) -> _Outcome:
    error = applied.error
    told = None if error is None else (error.code, error.message)
    return (applied.result, told, applied.events, applied.repeated)
