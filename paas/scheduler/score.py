"""How good a feasible node is: scores in [0, weight], larger is better, named to be explained.

spread    the fewer instances of the type a node has, compared with the fullest, the better
pressure  what is left of the scarcest resource after placing: evens out the load per resource kind
"""

from __future__ import annotations

from paas.scheduler import limits
from paas.scheduler.feasible import DISK, MEMORY, Load
from paas.scheduler.messages import Needs, NodeView


def scores(
    node: NodeView, load: Load, needs: Needs, type_name: str, most_of_type: int
) -> dict[str, float]:
    """The scores of one node; `most_of_type` is the largest number of the type on any candidate."""
    same = load.types.get(type_name, 0)
    spread = 1.0 - same / (most_of_type + 1)
    return {
        "spread": round(limits.SPREAD_WEIGHT * spread, 6),
        "pressure": round(limits.PRESSURE_WEIGHT * _left(node, load, needs), 6),
    }


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
