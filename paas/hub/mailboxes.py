"""Which mailboxes are delivered from this node: a keeper for each, while it is the primary.

    log: mailbox, ring, whole state ──> same box, same epoch? ──no──> end the keeper, begin another
         messages, members ─────────────> the keeper of the group (mailbox_keeper.py)

A keeper that was refused by the log ends.  Then this replica catches up first, so that a node that
does not hear that it was lost does not deliver the same messages again and again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import trio

from paas.base.errors import PlatformError
from paas.controller.messages import ComponentChanged
from paas.hub.mailbox import virtual_node_of
from paas.hub.mailbox_commands import MailboxChanged, MessagesWaiting
from paas.hub.mailbox_keeper import (
    PROPOSE_PAUSE_S_MAX,
    PROPOSE_TIMEOUT_S,
    MailboxKeeper,
    Surroundings,
)
from paas.hub.ring_state import RingChanged
from paas.hub.state import MemberJoined
from paas.raft.machine import StateReplaced

CRASH_WAIT_S = 1.0


class Ring(Protocol):
    """Who decides about a virtual node, and since when."""

    def primary(self, number: int, /) -> str | None: ...

    def epoch(self, number: int, /) -> int: ...


class Mailboxes:
    """Which mailboxes are delivered from this node: a keeper for each, while it is the primary."""

    def __init__(
        self,
        around: Surroundings,
        ring: Ring | None,
        on_bug: Callable[[str, Exception], None],
    ) -> None:
        self._around = around
        self._ring = ring
        self._on_bug = on_bug
        self._keepers: dict[str, tuple[MailboxKeeper, trio.CancelScope]] = {}
        self._nursery: trio.Nursery | None = None

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            unsubscribe = self._around.log.subscribe(self.state_changed)
            try:
                self._look()
                task_status.started()
                await trio.sleep_forever()
            finally:
                unsubscribe()
                self._nursery = None
                self._keepers.clear()

    def state_changed(self, _index: int, events: Sequence[Any]) -> None:
        """Subscriber of the log."""
        for event in events:
            if isinstance(event, MessagesWaiting):
                keeper = self.keeper(event.group)
                if keeper is not None:
                    keeper.arrived(event.numbers)
            elif isinstance(event, MemberJoined):
                keeper = self.keeper(event.group)
                if keeper is not None:
                    keeper.wake()
            elif isinstance(event, ComponentChanged):
                if event.state == "available":
                    self._wake_all()
            elif isinstance(event, MailboxChanged):
                self._consider(event.group)
            elif isinstance(event, RingChanged):
                self._look()
            elif isinstance(event, StateReplaced):
                for group in list(self._keepers):
                    self._end(group)
                self._look()

    def keeper(self, group: str) -> MailboxKeeper | None:
        """Who delivers the messages of this group here, if this node is its primary."""
        found = self._keepers.get(group)
        return None if found is None else found[0]

    def _wake_all(self) -> None:
        for keeper, _ in self._keepers.values():
            keeper.wake()

    def _look(self) -> None:
        for group in [*self._keepers, *(box.group for box in self._around.state.boxes())]:
            self._consider(group)

    def _epoch(self, group: str) -> int | None:
        """Since when this node delivers for the group; None if it does not."""
        if self._ring is None:
            return 0
        number = virtual_node_of(group)
        return self._ring.epoch(number) if self._ring.primary(number) == self._around.node else None

    def _consider(self, group: str) -> None:
        """Is what is done about this group what should be done?"""
        box, epoch = self._around.state.box(group), self._epoch(group)
        keeper = self.keeper(group)
        if keeper is not None:
            same = keeper.box is box and keeper.epoch == epoch
            if same and keeper.ordered == keeper.box.settings.ordered:
                keeper.reconfigured()
                return
            self._end(group)
        if box is not None and epoch is not None and self._nursery is not None:
            scope = trio.CancelScope()
            fresh = MailboxKeeper(box, epoch, self._around)
            self._keepers[group] = (fresh, scope)
            self._nursery.start_soon(self._run, fresh, scope)

    def _end(self, group: str) -> None:
        _, scope = self._keepers.pop(group)
        scope.cancel()

    async def _run(self, keeper: MailboxKeeper, scope: trio.CancelScope) -> None:
        """One that ends was refused: this replica catches up, to see whether another is primary.

        One that crashes is our bug: it is reported.  In both cases, if this node is the primary
        then, another keeper begins with what waits.
        """
        group = keeper.box.group
        with scope:
            try:
                await keeper.run()
                await self._catch_up(group)
            except Exception as bug:  # trio.Cancelled is none, and passes
                self._on_bug(f"mailbox of {group}", bug)
            await trio.sleep(CRASH_WAIT_S)
            if self.keeper(group) is keeper:
                self._end(group)
                self._consider(group)

    async def _catch_up(self, group: str) -> None:
        """Until the state here is no older than this call."""
        while True:
            try:
                await self._around.log.barrier(timeout_s=PROPOSE_TIMEOUT_S)
                return
            except PlatformError as error:
                self._around.on_trouble(group, error)
            await trio.sleep(PROPOSE_PAUSE_S_MAX)

    def statistics(self) -> dict[str, Any]:
        """Of the mailboxes that are delivered from here."""
        keepers = [keeper for keeper, _ in self._keepers.values()]
        return {
            "kept": len(keepers),
            "in_flight": sum(keeper.courier.in_flight for keeper in keepers),
            "delivered": sum(keeper.delivered for keeper in keepers),
            "failed": sum(keeper.failed for keeper in keepers),
            "waiting": sum(len(box.waiting) for box in self._around.state.boxes()),
            "dead": sum(len(box.dead) for box in self._around.state.boxes()),
        }
