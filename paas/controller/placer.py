"""The actor that finds nodes for components which wait for one (placing.py decides).

    node lost, node there, ring dealt anew, something ended ──wake──> plan ──> commands, all at once
                        ^──── every 2 s while somebody waits ──────────┘

It runs in every hub, and each plans for the virtual nodes whose primary it is.  It keeps nothing: a
hub that becomes primary plans from the state as it finds it.  A command that is refused (a node was
filled meanwhile, another hub is primary by now) is planned again in the next round.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import trio

from paas.base.errors import PlatformError
from paas.controller import limits, placing
from paas.controller.commands import PlaceInstance
from paas.controller.ports import Log, Ring
from paas.controller.state import ControllerState
from paas.scheduler.messages import NodeView


class Placer:
    """See the module's text."""

    def __init__(
        self,
        *,
        node: str,
        state: ControllerState,
        log: Log,
        nodes: Callable[[], Sequence[NodeView]],
        ring: Ring | None,
        on_trouble: Callable[[str, PlatformError], None],
    ) -> None:
        self._node = node
        self._state = state
        self._log = log
        self._nodes = nodes
        self._ring = ring
        self._on_trouble = on_trouble
        self._wake = trio.Event()
        self.placed = 0

    def wake(self) -> None:
        """Something changed that may give a waiting component a node."""
        self._wake.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self._wake = wake = trio.Event()
            await self._round()
            if placing.waiting(self._state, self._node, self._ring):
                with trio.move_on_after(limits.PLACING_RETRY_S):
                    await wake.wait()
            else:
                await wake.wait()
            await trio.sleep(limits.PLACING_PAUSE_S)

    async def _round(self) -> None:
        """Place until nothing more can be placed, or the log does not take it."""
        while True:
            orders = placing.plan(self._state, self._nodes(), self._node, self._ring)
            if not orders:
                return
            before = self.placed
            troubles: list[tuple[str, PlatformError]] = []
            async with trio.open_nursery() as nursery:
                for order in orders:
                    nursery.start_soon(self._propose, order, troubles)
            for component, error in troubles[:1]:  # the log has one cause for all of them
                self._on_trouble(component, error)
            if self.placed == before:
                return

    async def _propose(
        self, order: PlaceInstance, troubles: list[tuple[str, PlatformError]]
    ) -> None:
        try:
            await self._log.propose(order, timeout_s=limits.PROPOSE_TIMEOUT_S)
        except PlatformError as error:
            if error.code != "conflict":  # that it was overtaken is no trouble
                troubles.append((order.component, error))
        else:
            self.placed += 1 if order.node else 0
