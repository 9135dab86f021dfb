"""The actor that empties its own node, while the cluster state says so (draining.py decides).

That a node is to be emptied stands in the cluster state; so it goes on whoever asked for it has
gone, and after a restart of this hub.  A component that moves holds one of a few places until it is
available elsewhere, so that a group never loses many members at a time.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import trio

from paas.base.errors import PlatformError
from paas.controller import draining, limits
from paas.controller.commands import MoveInstance
from paas.controller.instances import Instance
from paas.controller.lifecycle import ComponentState
from paas.controller.ports import Log
from paas.controller.state import ControllerState
from paas.scheduler.messages import NodeView


class Drainer:
    """See the module's text.  `wait_change` returns at the next change of a component's record."""

    def __init__(
        self,
        *,
        node: str,
        state: ControllerState,
        log: Log,
        nodes: Callable[[], Sequence[NodeView]],
        wait_change: Callable[[str], Awaitable[None]],
        on_trouble: Callable[[str, PlatformError], None],
    ) -> None:
        self._node = node
        self._state = state
        self._log = log
        self._nodes = nodes
        self._wait_change = wait_change
        self._on_trouble = on_trouble
        self._wake = trio.Event()
        self._under_way: set[str] = set()

    def wake(self) -> None:
        """The order to empty the node came or went, or a component changed."""
        self._wake.set()

    @property
    def draining(self) -> bool:
        return self._node in self._state.drains

    async def run(self) -> None:
        """Until cancelled."""
        async with trio.open_nursery() as nursery:
            while True:
                self._wake = wake = trio.Event()
                if not self.draining:
                    await wake.wait()
                    continue
                self._begin_moves(nursery)
                with trio.move_on_after(limits.PLACING_RETRY_S):
                    await wake.wait()

    def _begin_moves(self, nursery: trio.Nursery) -> None:
        free = limits.MOVES_MAX - len(self._under_way)
        nodes = self._nodes()
        for instance in draining.next_moves(self._state, nodes, self._node, self._under_way, free):
            self._under_way.add(instance.id)
            nursery.start_soon(self._move, instance)

    async def _move(self, instance: Instance) -> None:
        order = MoveInstance(
            component=instance.id,
            incarnation=instance.incarnation,
            node=self._node,
            grace_s=self._state.drains.get(self._node, 0.0),
        )
        try:
            await self._log.propose(order, timeout_s=limits.PROPOSE_TIMEOUT_S)
            with trio.move_on_after(order.grace_s + limits.MOVE_WAIT_S):
                await self._wait_moved(order)
        except PlatformError as error:
            if error.code not in ("conflict", "not-available", "no-such-target"):
                self._on_trouble(order.component, error)
            await trio.sleep(limits.PROCEDURE_BACKOFF.delay_s(1, 0.5))
        finally:
            self._under_way.discard(order.component)
            self.wake()

    async def _wait_moved(self, order: MoveInstance) -> None:
        """Until it is available in a later incarnation, or has ended for good."""
        while True:
            instance = self._state.instances.get(order.component)
            if instance is None or instance.ended:
                return
            later = instance.incarnation > order.incarnation
            if later and instance.state is ComponentState.AVAILABLE:
                return
            await self._wait_change(order.component)
