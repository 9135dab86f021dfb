"""The scheduler as others see it; it is a function, so a client is all there is of it.

`Load` and `room` are for who keeps the sums: the cluster state checks with them what it applies.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from paas.scheduler import plan
from paas.scheduler.feasible import Load, room
from paas.scheduler.messages import Choice, NodeView, Placed, Request

__all__ = ["Load", "Scheduler", "room"]


class Scheduler:
    """Places components on the nodes that the cluster state has now."""

    def __init__(self, nodes: Callable[[], Sequence[NodeView]]) -> None:
        self._nodes = nodes

    def place(self, placed: Iterable[Placed], request: Request) -> list[Choice]:
        """One choice for each component; raises `no-placement` with the reasons per node."""
        return plan.place(self._nodes(), placed, request)

    def place_on(self, loads: dict[str, Load], request: Request) -> list[Choice]:
        """The same with the sums per node; what is chosen is added to them."""
        return plan.place_on(self._nodes(), loads, request)
