"""Figures of running components, of this node and of others: memory and process number.

They are informative: asked for at most once a second and node, only of nodes whose components are
shown, and left out where the answer does not come soon (`REMOTE_TIMEOUT_S`).
"""

from __future__ import annotations

from collections.abc import Collection
from functools import partial

import trio

from paas.base.errors import PlatformError
from paas.controller import limits
from paas.controller.agent import Controller
from paas.controller.messages import FIGURES, Figure, GetFigures
from paas.controller.ports import Remote


class FigureBook:
    """See the module's text.  Without `remote` there are no other nodes."""

    def __init__(self, controller: Controller, remote: Remote | None) -> None:
        self._controller = controller
        self._remote = remote
        self._known: dict[str, dict[str, Figure]] = {}
        self._asked_s: dict[str, float] = {}
        self._locks: dict[str, trio.Lock] = {}

    async def of(self, nodes: Collection[str]) -> dict[str, dict[str, Figure]]:
        """Per node: component to figure."""
        wanted = [node for node in dict.fromkeys(nodes) if node]
        async with trio.open_nursery() as nursery:
            for node in wanted:
                nursery.start_soon(self._refresh, node)
        return {node: self._known.get(node, {}) for node in wanted}

    async def here(self) -> dict[str, Figure]:
        """Those of this node."""
        found = await self.of([self._controller.node])
        return found[self._controller.node]

    async def _refresh(self, node: str) -> None:
        lock = self._locks.setdefault(node, trio.Lock())
        async with lock:
            now_s = trio.current_time()
            if now_s - self._asked_s.get(node, float("-inf")) < limits.STATS_KEPT_S:
                return
            local = node == self._controller.node
            ask = self._ask_here if local else partial(self._ask_remote, node)
            self._known[node] = await ask()
            self._asked_s[node] = trio.current_time()

    async def _ask_here(self) -> dict[str, Figure]:
        running = self._controller.running()
        memory: dict[str, int] = {}
        try:
            with trio.move_on_after(limits.STATS_TIMEOUT_S):
                stats = await self._controller.containers.stats(running) if running else {}
                memory = {
                    c: int(f["memory_bytes"]) for c, f in stats.items() if "memory_bytes" in f
                }
        except PlatformError:
            pass  # the container controller is away: the figures are unknown, the rest is not
        return {
            component: Figure(memory=memory.get(component), pid=self._controller.pid_of(component))
            for component in running
        }

    async def _ask_remote(self, node: str) -> dict[str, Figure]:
        if self._remote is None:
            return {}
        try:
            with trio.move_on_after(limits.REMOTE_TIMEOUT_S):
                answer = await self._remote.request(
                    node, FIGURES, GetFigures(), limits.REMOTE_TIMEOUT_S
                )
                return answer.figures
        except PlatformError:
            pass  # a node that cannot be reached shows no figures
        return {}
