"""Delivers what waits in a durable mailbox, under one epoch of the ring (mailboxes.py says where).

    log: messages wait ──> Courier (which, to whom) ──> component.invoke ──> answer
          ^                                                                    │
          └── AckMessages, many in one command ── result ──────────────────────┤
          └── FailMessage: back-off, another member, or dead letter ── error ──┘

A keeper keeps nothing that must survive: what waits is in the cluster state, and whoever is primary
begins with all of it.  Hence *at least once*: an answer whose acknowledgement was not committed
when its hub or node ended is forgotten, and the message is delivered again.  A lane goes on at the
answer, without waiting for the commit; so the first delivery of a message comes after an answer to
(or the death of) the one before it, always, and what comes again later comes in order too.

How an attempt ends:
  answer             acknowledged
  not-available      it did not arrive: no attempt, tried again after a while
  reject             dead letter at once
  any other error    a failed attempt: the next one after the back-off, elsewhere if possible
  unknown-outcome    likewise, but the first time at once: its receiver died or was cut off

Commands carry the ring's epoch.  A primary that was overtaken is refused with `conflict`: it ends,
and its replica catches up before it delivers anything again.  Without a lease nothing is delivered.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import msgspec
import trio

from paas.base.errors import PlatformError
from paas.hub import limits
from paas.hub.mailbox import MailboxState
from paas.hub.mailbox_box import Box, Stored
from paas.hub.mailbox_commands import AckMessages, FailMessage
from paas.hub.mailbox_courier import Courier
from paas.hub.messages import Forward, MailboxClaim, MessageMark
from paas.hub.routes import Answer

PROPOSE_TIMEOUT_S = 10.0
PROPOSE_PAUSE_S = 0.2
PROPOSE_PAUSE_S_MAX = 3.0
REJECT = "reject"

_NOT_SENT = frozenset({"not-available", "limit-exceeded"})
"""Why a message was not even sent: nothing is wrong with it.  Other refusals are attempts."""


class Deliveries(Protocol):
    """The ways to members, as the router knows them."""

    def ready_members(self, group: str) -> list[str]:
        """Those that can be given something now, in joining order."""
        ...

    def deliver(self, message: Forward, answer: Answer) -> None:
        """Raises what keeps it from being sent; else `answer` is called once."""
        ...


class Log(Protocol):
    """What is needed of the replicated log."""

    async def propose(self, command: msgspec.Struct, *, timeout_s: float = 10.0) -> Any: ...

    async def barrier(self, *, timeout_s: float = 10.0) -> None:
        """Afterwards the state here is no older than the call."""
        ...

    def subscribe(self, callback: Callable[[int, Sequence[Any]], None]) -> Callable[[], None]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What all keepers of `node` share.  `may_run`: this node holds its lease."""

    node: str
    state: MailboxState
    log: Log
    deliveries: Deliveries
    may_run: Callable[[], bool]
    on_trouble: Callable[[str, PlatformError], None]


class MailboxKeeper:
    """The deliveries of one mailbox under one epoch.  See the module's text."""

    def __init__(self, box: Box, epoch: int, around: Surroundings) -> None:
        self.box = box
        self.epoch = epoch
        self.ordered = box.settings.ordered
        self.courier = Courier(ordered=self.ordered, in_flight_max=box.settings.in_flight)
        self._around = around
        self._wake = trio.Event()
        self._answered: list[int] = []  # acknowledged, and not committed yet
        self._some_answered = trio.Event()
        self._deferred: dict[int, int] = {}  # how often in a row a message did not arrive
        self._last = 0  # the highest number that the courier was told of
        self._nursery: trio.Nursery | None = None
        self.delivered = 0
        self.failed = 0
        self.arrived(list(box.waiting))

    def wake(self) -> None:
        """Something may be possible now that was not."""
        self._wake.set()

    def arrived(self, numbers: Sequence[int]) -> None:
        """These messages wait.  Events may tell of what was there when this began."""
        for number in numbers:
            stored = self.box.waiting.get(number)
            if stored is not None and number > self._last:
                self._last = number
                self.courier.arrived(number, stored.sender, failed_at=stored.member)
        self._wake.set()

    def reconfigured(self) -> None:
        self.courier.in_flight_max = self.box.settings.in_flight
        self._wake.set()

    async def run(self) -> None:
        """Until cancelled, or another is the primary."""
        try:
            async with trio.open_nursery() as self._nursery:
                self._nursery.start_soon(self._commit)
                await self._deliver()
        finally:
            self._nursery = None

    # -- delivering ------------------------------------------------------------------------------

    async def _deliver(self) -> None:
        while True:
            self._wake = wake = trio.Event()
            now_s = trio.current_time()
            self.courier.wake(now_s)
            until_s = self.courier.due_s()
            if not self._send_ready(now_s):
                until_s = min(until_s, now_s + limits.DURABLE_RETRY_S)
            with trio.move_on_at(until_s):
                await wake.wait()

    def _send_ready(self, now_s: float) -> bool:
        """Send all that can go; false when somebody has to come first."""
        if not self.courier.ready or (len(self._answered) >= limits.DURABLE_ACKS_UNCOMMITTED_MAX):
            return True
        members = (
            self._around.deliveries.ready_members(self.box.group) if self._around.may_run() else []
        )
        if not members:
            return False
        while (chosen := self.courier.next(members)) is not None:
            self._send(*chosen, now_s)
        return True

    def _send(self, number: int, member: str, now_s: float) -> None:
        stored = self.box.waiting.get(number)
        if stored is None:
            self.courier.delivered(number)
            return
        attempt = stored.attempts + 1
        message = Forward(
            component=member,
            operation=stored.operation,
            object=stored.object,
            inputs=msgspec.Raw(stored.inputs),
            attachments=msgspec.Raw(stored.attachments),
            from_=stored.sender,
            timeout=self.box.settings.timeout_s,
            trace=stored.trace or None,
            message=MessageMark(id=stored.id, attempt=attempt),
            kept=MailboxClaim(group=self.box.group, epoch=self.epoch),
        )
        try:
            self._around.deliveries.deliver(message, partial(self._answer, stored, member))
        except PlatformError as error:
            if error.code in _NOT_SENT:
                self._defer(number, now_s)
            else:
                self._answer(stored, member, error)

    def _defer(self, number: int, now_s: float) -> None:
        """It did not arrive; wait longer each time, as nobody can tell when it will."""
        times = self._deferred[number] = self._deferred.get(number, 0) + 1
        pause_s = limits.DURABLE_RETRY_S * 2 ** min(times - 1, 6)
        self.courier.put_back(number, now_s + pause_s)
        self._wake.set()

    def _answer(self, stored: Stored, member: str, value: bytes | PlatformError) -> None:
        """What became of an attempt."""
        if self._nursery is None:
            return  # another primary by now
        if isinstance(value, PlatformError) and value.code == "not-available":
            self._defer(stored.number, trio.current_time())
            return
        self._deferred.pop(stored.number, None)
        if isinstance(value, PlatformError):
            self.failed += 1
            self._nursery.start_soon(self._record_failure, stored, member, value)
            return
        self.delivered += 1
        self._answered.append(stored.number)
        self._some_answered.set()
        self.courier.delivered(stored.number)
        self._wake.set()

    # -- what becomes of it ----------------------------------------------------------------------

    async def _commit(self) -> None:
        """Commit acknowledgements, all that have gathered at once."""
        while True:
            await self._some_answered.wait()
            numbers = self._answered[: limits.DURABLE_ACKS_UNCOMMITTED_MAX]
            command = AckMessages(
                group=self.box.group,
                numbers=numbers,
                by=self._around.node,
                ring_epoch=self.epoch,
            )
            if await self._propose(command) is None:
                self._stop()
                return
            del self._answered[: len(numbers)]
            if not self._answered:
                self._some_answered = trio.Event()
            self._wake.set()

    async def _record_failure(self, stored: Stored, member: str, error: PlatformError) -> None:
        attempt = stored.attempts + 1
        command = FailMessage(
            group=self.box.group,
            number=stored.number,
            attempt=attempt,
            reason=f"{error.code}: {error.message}"[: limits.FAILURE_REASON_LENGTH_MAX],
            by=self._around.node,
            ring_epoch=self.epoch,
            member=member,
            rejected=error.code == REJECT,
        )
        result = await self._propose(command)
        if result is None:
            self._stop()
        elif result["gone"]:
            self.courier.delivered(stored.number)
        else:
            self.courier.failed(stored.number, trio.current_time() + self._delay_s(attempt, error))
        self._wake.set()

    def _stop(self) -> None:
        """Another is the primary, as the log knows and this replica will hear."""
        if self._nursery is not None:
            self._nursery.cancel_scope.cancel()

    def _delay_s(self, attempt: int, error: PlatformError) -> float:
        """Doubled each time; the first loss of a receiver says nothing about the message."""
        if attempt == 1 and error.code == "unknown-outcome":
            return 0.0
        doubled: float = self.box.settings.backoff_s * 2 ** min(attempt - 1, 20)
        return min(doubled, limits.DURABLE_BACKOFF_S_MAX)

    async def _propose(self, command: msgspec.Struct) -> Any:
        """The result, however long the log takes; None: this is no longer the primary."""
        pause_s = PROPOSE_PAUSE_S
        while True:
            try:
                return await self._around.log.propose(command, timeout_s=PROPOSE_TIMEOUT_S)
            except PlatformError as error:
                if error.code in ("conflict", "no-such-target"):
                    return None
                self._around.on_trouble(self.box.group, error)
            await trio.sleep(pause_s)
            pause_s = min(2 * pause_s, PROPOSE_PAUSE_S_MAX)
