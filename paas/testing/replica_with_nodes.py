"""One replica of the cluster state with nodes and a ring, to which tests apply commands.

The ring is dealt by the simplest rule, so that long random histories are cheap; all else is real.
"""

from __future__ import annotations

from typing import Any

import msgspec

from paas.base import ids
from paas.controller import commands
from paas.controller.lifecycle import ComponentEvent
from paas.controller.loads import Loads, needs_of
from paas.controller.messages import ComponentEnded
from paas.controller.state import ControllerState
from paas.hub.state import GroupState
from paas.node.lifecycle import NodeEvent
from paas.node.messages import NodeChanged
from paas.node.state import ChangeNode, LoseNode, NodeRegister, ReportNode
from paas.raft.command import Stamp, encode
from paas.raft.machine import Machine
from paas.testing.controlled_node import BUNDLE, manifest

MIB = 1 << 20
NEED = 64 * MIB
"""What one component of the type may use: the default of manifests."""


class PresentRing:
    """The section "ring": virtual nodes go round among the nodes that are present."""

    name = "ring"

    def __init__(self, register: NodeRegister) -> None:
        self.commands: dict[type, Any] = {}
        self._register = register
        self._epoch = 0

    def primary(self, virtual_node: int) -> str:
        present = [node.name for node in self._register.nodes() if node.present]
        return present[virtual_node % len(present)] if present else ""

    def epoch(self, _virtual_node: int) -> int:
        return self._epoch

    def react(self, event: Any, ctx: Any) -> None:
        if isinstance(event, NodeChanged):
            self._epoch = ctx.index

    def snapshot(self) -> Any:
        return self._epoch

    def restore(self, plain: Any) -> None:
        self._epoch = plain


class ReplicaWithNodes:
    """One replica with nodes and a ring, to which commands are applied."""

    def __init__(self, *names: str, memory_bytes: int = 1 << 30) -> None:
        self.state, self.groups, self.register = ControllerState(), GroupState(), NodeRegister()
        self.ring = PresentRing(self.register)
        self.machine = Machine([self.state, self.groups, self.register, self.ring])
        self.memory_bytes = memory_bytes
        self.index = 0
        self.now_ms = 1_000_000
        self.events: list[Any] = []
        self.history: list[Any] = []
        for name in names:
            self.join(name)
        self.apply(commands.RegisterType(bundle=BUNDLE, manifest=manifest()))

    def apply(self, command: msgspec.Struct) -> Any:
        self.index += 1
        self.now_ms += 10
        seed = self.index.to_bytes(16, "little")
        applied = self.machine.apply(
            self.index, encode(command, Stamp(self.now_ms, seed, "p", self.index))
        )
        self.events = list(applied.events)
        self.history += self.events
        if applied.error is not None:
            raise applied.error
        return applied.result

    def join(self, name: str, *, boot: str = "") -> None:
        report = ReportNode(
            node=name, memory_bytes=self.memory_bytes, cpu=2.0, leased=True, cleared=True, boot=boot
        )
        self.apply(report)
        self.apply(ChangeNode(node=name, event=NodeEvent.READY))

    def lose(self, name: str) -> None:
        record = self.register.get(name)
        assert record is not None
        self.apply(LoseNode(node=name, epoch=record.epoch, term=1))

    def create(self, *nodes: str, **fields: Any) -> list[str]:
        command = commands.CreateInstances(type="greeter", nodes=list(nodes), **fields)
        created: list[str] = self.apply(command)["components"]
        return created

    def available(self, *nodes: str, **fields: Any) -> list[str]:
        created = self.create(*nodes, **fields)
        for component in created:
            self.change(component, ComponentEvent.READY)
        return created

    def change(self, component: str, event: ComponentEvent, **fields: Any) -> None:
        fields.setdefault("incarnation", self.at(component).incarnation)
        self.apply(commands.ChangeInstance(component=component, event=event, **fields))

    def place(self, component: str, node: str, **fields: Any) -> None:
        number = ids.virtual_node(ids.Id(component))
        command = commands.PlaceInstance(
            component=component,
            incarnation=fields.pop("incarnation", self.at(component).incarnation),
            node=node,
            by=fields.pop("by", self.ring.primary(number)),
            ring_epoch=fields.pop("ring_epoch", self.ring.epoch(number)),
            **fields,
        )
        self.apply(command)

    def move(self, component: str, **fields: Any) -> None:
        at = self.at(component)
        known = {"incarnation": at.incarnation, "node": at.node, **fields}
        self.apply(commands.MoveInstance(component=component, **known))

    def at(self, component: str) -> Any:
        return self.state.instances.get(component)

    def ends(self, component: str) -> list[ComponentEnded]:
        ends = [e for e in self.history if isinstance(e, ComponentEnded)]
        return [e for e in ends if e.component == component]

    def recounted(self) -> Loads:
        """The sums, counted anew from the records."""
        loads = Loads()
        for instance in self.state.instances:
            if not instance.ended:
                kind = self.state.types.resolve(instance.type)
                needs = needs_of(self.state.types.manifest(kind))
                loads.put(instance.id, instance.node, instance.type, needs)
        return loads
