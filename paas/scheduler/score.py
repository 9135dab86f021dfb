"""How good a feasible node is: scores in [0, weight], larger is better, named to be explained.

domain    the fewer instances of the type its failure domain has, compared with the fullest, the
          better; only where nodes have failure domains
spread    the same for the node itself
pressure  what is left of the scarcest resource after placing: evens out the load per resource kind
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from paas.scheduler import limits
from paas.scheduler.feasible import DISK, MEMORY, Load
from paas.scheduler.messages import Needs, NodeView


@dataclass(frozen=True, slots=True)
class Spread:
    """How the instances of one type are spread: most on any candidate, and number per domain."""

    most_on_node: int
    domains: Mapping[str, int]
    """Empty where no node has a failure domain."""

    @classmethod
    def of(
        cls,
        nodes: Sequence[NodeView],
        loads: Mapping[str, Load],
        candidates: Sequence[NodeView],
        type_name: str,
    ) -> Spread:
        """Domains count all their nodes, also those that take nothing now."""
        most = max((loads[node.name].types.get(type_name, 0) for node in candidates), default=0)
        domains: dict[str, int] = {}
        if any(node.domain for node in nodes):
            for node in nodes:
                number = loads[node.name].types.get(type_name, 0)
                domains[domain_of(node)] = domains.get(domain_of(node), 0) + number
        return cls(most, domains)


def domain_of(node: NodeView) -> str:
    """A node without a domain is one of its own; the mark keeps it apart from named ones."""
    return node.domain or f"node:{node.name}"


def scores(
    node: NodeView, load: Load, needs: Needs, type_name: str, spread: Spread
) -> dict[str, float]:
    """The scores of one node."""
    found = {}
    if spread.domains:
        most = max(spread.domains.values())
        found["domain"] = _apart(limits.DOMAIN_WEIGHT, spread.domains[domain_of(node)], most)
    same = load.types.get(type_name, 0)
    found["spread"] = _apart(limits.SPREAD_WEIGHT, same, spread.most_on_node)
    found["pressure"] = round(limits.PRESSURE_WEIGHT * _left(node, load, needs), 6)
    return found


def _apart(weight: float, number: int, most: int) -> float:
    return round(weight * (1.0 - number / (most + 1)), 6)


def _left(node: NodeView, load: Load, needs: Needs) -> float:
    """The fraction left of the scarcest resource, were the component there."""
    fractions = [1.0]
    for used, wanted, full in (
        (load.memory_bytes, needs.memory_bytes, node.memory_bytes * MEMORY),
        (load.disk_bytes, needs.disk_bytes, node.disk_bytes * DISK),
        (load.cpu, needs.cpu, node.cpu * limits.CPU_FULL),
        (load.components, 1, limits.COMPONENTS_PER_NODE_MAX),
    ):
        if full:
            fractions.append(max(0.0, 1.0 - (used + wanted) / full))
    return min(fractions)
