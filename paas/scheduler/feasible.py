"""Which nodes can take a component; each refusal says why, in words for people.

A filter answers a reason or nothing.  All filters are asked, so that the user sees everything that
stands against a node at once.  Platform document §4.6.7; architecture §7.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from paas.base.errors import invalid
from paas.scheduler import limits
from paas.scheduler.messages import Needs, NodeView


@dataclass(slots=True)
class Load:
    """What is placed on one node: sums of limits, instances per type, ports of the node.

    All sums are whole numbers, so that what was added and taken away again leaves exactly nothing.
    """

    components: int = 0
    memory_bytes: int = 0
    cpu_milli: int = 0
    disk_bytes: int = 0
    types: dict[str, int] = field(default_factory=dict)
    ports: dict[int, int] = field(default_factory=dict)
    """How many have each: more than one where a plan was overtaken, and then one of them waits."""

    @property
    def cpu(self) -> float:
        return self.cpu_milli / 1000

    def add(self, type_name: str, needs: Needs) -> None:
        self._count(needs, 1)
        self.types[type_name] = self.types.get(type_name, 0) + 1

    def remove(self, type_name: str, needs: Needs) -> None:
        """Undo one `add` with the same arguments."""
        self._count(needs, -1)
        left = self.types[type_name] - 1
        if left:
            self.types[type_name] = left
        else:
            del self.types[type_name]

    def _count(self, needs: Needs, sign: int) -> None:
        self.components += sign
        self.memory_bytes += sign * needs.memory_bytes
        self.cpu_milli += sign * round(needs.cpu * 1000)
        self.disk_bytes += sign * needs.disk_bytes
        for port in needs.ports:
            users = self.ports.get(port, 0) + sign
            if users:
                self.ports[port] = users
            else:
                del self.ports[port]

    def copy(self) -> Load:
        return Load(
            components=self.components,
            memory_bytes=self.memory_bytes,
            cpu_milli=self.cpu_milli,
            disk_bytes=self.disk_bytes,
            types=dict(self.types),
            ports=dict(self.ports),
        )


@dataclass(frozen=True, slots=True)
class Constraint:
    """A hard condition on the node's name."""

    wanted: bool
    node: str

    def holds(self, node: NodeView) -> bool:
        return (node.name == self.node) is self.wanted

    def __str__(self) -> str:
        return f"node{'=' if self.wanted else '!='}{self.node}"


def parse_constraints(texts: Sequence[str]) -> list[Constraint]:
    """Read `node=NAME` and `node!=NAME`; raises `invalid`."""
    parsed = []
    for text in texts:
        key, _, value = text.partition("=")
        wanted = not key.endswith("!")
        if key.rstrip("!").strip() != "node" or not value.strip() or key.count("!") > 1:
            raise invalid(
                "constraints",
                f"expected node=NAME or node!=NAME, got {text!r}",
                param="constraints",
            )
        parsed.append(Constraint(wanted, value.strip()))
    return parsed


def reasons(
    node: NodeView, load: Load, needs: Needs, constraints: Sequence[Constraint]
) -> tuple[str, ...]:
    """Everything that stands against this node; empty if it can take the component."""
    found = []
    if needs.base not in node.bases:
        found.append(f"base layer {needs.base!r} is not there")
    found += [f"constraint {c} does not hold" for c in constraints if not c.holds(node)]
    return (*room(node, load, needs), *found)


def room(node: NodeView, load: Load, needs: Needs) -> tuple[str, ...]:
    """What of the node's own stands against it: its state, and what it has left.

    The same rule decides when the placement is applied, so that plans which were made at the same
    time on different nodes do not overfill one together.
    """
    found = []
    if not node.online:
        found.append("offline")
    if node.cordoned:
        found.append("cordoned")
    if node.storage_full:
        found.append("disk full")
    if load.components >= limits.COMPONENTS_PER_NODE_MAX:
        found.append(f"has {load.components} components, the most a node takes")
    for word, used, wanted, capacity, overcommit in (
        ("memory", load.memory_bytes, needs.memory_bytes, node.memory_bytes, MEMORY),
        ("disk", load.disk_bytes, needs.disk_bytes, node.disk_bytes, DISK),
    ):
        bound = int(capacity * overcommit)
        if capacity and used + wanted > bound:
            found.append(f"{word}: {_mib(wanted)} wanted, {_mib(max(bound - used, 0))} left")
    taken = [port for port in needs.ports if port in load.ports]
    found += [f"port {port} leads to another component" for port in taken]
    return tuple(found)


MEMORY = limits.MEMORY_OVERCOMMIT
DISK = limits.DISK_OVERCOMMIT


def _mib(count: int) -> str:
    return f"{count / (1 << 20):.0f} MiB"
