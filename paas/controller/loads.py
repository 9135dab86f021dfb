"""What is placed where: components per node, and the sums of their limits.

Derived from the records of the instances and never written down: `ControllerState` tells it of
every placement and every end, and a replica that takes over a whole state counts anew.

Invariants
  - A component that has not ended for good is counted exactly once, on its node; one that waits for
    a node is counted on the node "" (`UNPLACED`).
  - Sums are whole numbers, so they equal what counting anew gives, on every replica.

Scheduler and cluster state judge by the same sums (scheduler/feasible.py): the one to plan, the
other to refuse a plan that was overtaken by another one.  Architecture §7.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from paas.bundle.manifest import Manifest
from paas.controller.bounds import declared
from paas.scheduler.client import Load
from paas.scheduler.messages import Needs

UNPLACED = ""
NOT_RESIZED: Mapping[str, Any] = MappingProxyType({})


def needs_of(manifest: Manifest, resized: Mapping[str, Any] = NOT_RESIZED) -> Needs:
    """What a component of this manifest may use at most; `resized`: changed bounds of its own."""
    bounds = declared(manifest, resized)
    return Needs(
        memory_bytes=bounds.memory,
        cpu=bounds.cpu,
        disk_bytes=bounds.disk,
        base=manifest.component.base,
        ports=tuple(sorted({end.publish for end in manifest.endpoints.values() if end.publish})),
    )


class Loads:
    """See the module's text."""

    def __init__(self) -> None:
        self._sums: dict[str, Load] = {}
        self._on: dict[str, dict[str, None]] = {}
        self._counted: dict[str, tuple[str, str, Needs]] = {}

    def put(self, component: str, node: str, type_name: str, needs: Needs) -> None:
        """It is on this node from now on, and on no other."""
        self.drop(component)
        self._counted[component] = (node, type_name, needs)
        self._on.setdefault(node, {})[component] = None
        self._sums.setdefault(node, Load()).add(type_name, needs)

    def drop(self, component: str) -> None:
        """It has ended for good, or is counted elsewhere in a moment."""
        counted = self._counted.pop(component, None)
        if counted is None:
            return
        node, type_name, needs = counted
        self._sums[node].remove(type_name, needs)
        del self._on[node][component]
        if not self._on[node]:
            del self._on[node], self._sums[node]

    def on(self, node: str) -> list[str]:
        """The components of a node, in an order that is the same on every replica."""
        return sorted(self._on.get(node, ()))

    def count(self, node: str) -> int:
        return len(self._on.get(node, ()))

    def of(self, node: str) -> Load:
        """The sums of a node; a copy."""
        load = self._sums.get(node)
        return Load() if load is None else load.copy()

    def copy(self) -> dict[str, Load]:
        """The sums of all nodes, to plan with."""
        return {node: load.copy() for node, load in self._sums.items() if node != UNPLACED}
