"""An actor: a bounded mailbox, a handler that takes one message after the other, a nursery.

    tell ──┐
    ask  ──┼──> mailbox ──> handle(message) ──> answer, to whoever asked
    ask  ──┘   (bounded)          └──> actor.nursery: tasks that live at most as long as the actor

What it decides: the order (as the messages came), what a full mailbox means (`Full`), what an error
of the handler means.  An error of the catalogue (`PlatformError`) is the *answer* to an ask and the
actor goes on; anything else is a crash and ends `run`, whose supervisor decides.

Invariants
  - At most one message is handled at a time, so the handler's state needs no locks.
  - The mailbox holds at most `mailbox_max` messages, plus one for each sender that waits for room.
  - Every ask has exactly one outcome: the answer, an error of the handler, `timeout` at its
    deadline, `not-available` when it was never read (the actor does not run, or ended),
    `unknown-outcome` when the actor ended with the request in its hands, `limit-exceeded` when
    there was no room for it.
  - An ask whose sender no longer waits (deadline, cancellation) is dropped unread, and counted.

The object is the actor's address: it stays valid when `run` ends and is run again by a supervisor,
with an empty mailbox; `begin` makes the fresh state of each run.  Deadlines are on trio's clock.

It does not restart (supervisor.py), does not know other actors, and does not cross processes (rpc).
Platform document §4.7.4, "actors"; architecture, rules 1, 7 and 8.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import trio

from paas.base.errors import LocalError, PlatformError
from paas.base.limits import CALL_TIMEOUT_S_DEFAULT, MAILBOX_MESSAGES_MAX

M = TypeVar("M")


class Full(enum.StrEnum):
    """What happens to a message for which the mailbox has no room."""

    BLOCK = "block"
    """The sender waits for room, in order of arrival."""

    REFUSE = "refuse"
    """The sender gets `limit-exceeded` at once."""

    DROP_OLDEST = "drop-oldest"
    """The oldest message makes room; it is counted, and whoever asked it is told."""


@dataclass(frozen=True, slots=True)
class Statistics:
    """Figures of one actor since it was made; `waiting` and `running` are of this moment."""

    name: str
    running: bool
    waiting: int
    handled: int
    dropped: int
    refused: int
    expired: int
    crashes: int


class _Envelope(Generic[M]):
    """A message in the mailbox; for an ask also the place where its outcome goes."""

    __slots__ = ("abandoned", "answer", "deadline_s", "done", "error", "message")

    def __init__(self, message: M, done: trio.Event | None, deadline_s: float) -> None:
        self.message = message
        self.done = done
        self.deadline_s = deadline_s
        self.abandoned = False
        self.answer: Any = None
        self.error: PlatformError | None = None

    def resolve(self, answer: Any = None, error: PlatformError | None = None) -> None:
        """Give the asker its outcome; the first one counts."""
        if self.done is not None and not self.done.is_set():
            self.answer, self.error = answer, error
            self.done.set()


class Actor(Generic[M]):
    """See the module's text.  `handle` is called once a message, `begin` before the first of a run.

    `on_unheard` receives the catalogue errors that `handle` raises for messages nobody asked;
    without it such an error is a crash, since nobody would ever see it.
    """

    def __init__(
        self,
        name: str,
        handle: Callable[[M], Awaitable[Any]],
        *,
        begin: Callable[[], Awaitable[object]] | None = None,
        mailbox_max: int = MAILBOX_MESSAGES_MAX,
        when_full: Full = Full.BLOCK,
        on_unheard: Callable[[M, PlatformError], None] | None = None,
    ) -> None:
        if mailbox_max < 1:
            raise LocalError("a mailbox holds at least one message")
        self.name = name
        self.when_full = when_full
        self._handle = handle
        self._begin = begin
        self._mailbox_max = mailbox_max
        self._on_unheard = on_unheard
        self._inbox: trio.MemorySendChannel[_Envelope[M]] | None = None
        self._outlet: trio.MemoryReceiveChannel[_Envelope[M]] | None = None
        self._nursery: trio.Nursery | None = None
        self._task: trio.lowlevel.Task | None = None
        self._in_hand: _Envelope[M] | None = None
        self._unfinished = 0  # sent and neither handled nor given up
        self._handled = self._dropped = self._refused = self._expired = self._crashes = 0

    # -- sending ---------------------------------------------------------------------------------

    async def tell(self, message: M) -> None:
        """Put a message in the mailbox.

        Raises `not-available`, or `limit-exceeded` with Full.REFUSE.
        """
        await self._put(_Envelope(message, None, math.inf))

    def tell_nowait(self, message: M) -> None:
        """As `tell`, from where nothing may wait; Full.BLOCK then refuses as Full.REFUSE does."""
        self._put_nowait(_Envelope(message, None, math.inf))

    async def ask(self, message: M, *, timeout_s: float = CALL_TIMEOUT_S_DEFAULT) -> Any:
        """Send a message and wait for its answer, at most `timeout_s` in all.

        Raises the handler's PlatformError, or one of the outcomes in the module's text.
        """
        if self._task is not None and trio.lowlevel.current_task() is self._task:
            raise LocalError(f"{self.name} asks itself and would wait for ever")
        done = trio.Event()
        envelope = _Envelope(message, done, trio.current_time() + timeout_s)
        try:
            with trio.move_on_at(envelope.deadline_s):
                await self._put(envelope)
                await done.wait()
        finally:
            envelope.abandoned = True
        if not done.is_set():
            raise PlatformError("timeout", f"{self.name} did not answer in {timeout_s:g} s")
        if envelope.error is not None:
            raise envelope.error
        return envelope.answer

    async def _put(self, envelope: _Envelope[M]) -> None:
        if self.when_full is not Full.BLOCK:
            self._put_nowait(envelope)
            await trio.lowlevel.checkpoint()
            return
        inbox = self._open_inbox()
        self._unfinished += 1  # before it is sent: its handler may run before this task goes on
        try:
            await inbox.send(envelope)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self._unfinished -= 1
            raise self._not_available() from None
        except trio.Cancelled:
            self._unfinished -= 1
            raise

    def _put_nowait(self, envelope: _Envelope[M]) -> None:
        inbox = self._open_inbox()
        try:
            inbox.send_nowait(envelope)
        except trio.WouldBlock:
            if self.when_full is not Full.DROP_OLDEST or self._outlet is None:
                self._refused += 1
                raise self._no_room() from None
            self._dropped += 1
            self._unfinished -= 1
            self._outlet.receive_nowait().resolve(error=self._no_room())
            inbox.send_nowait(envelope)
        self._unfinished += 1

    def _open_inbox(self) -> trio.MemorySendChannel[_Envelope[M]]:
        if self._inbox is None:
            raise self._not_available()
        return self._inbox

    def _not_available(self) -> PlatformError:
        return PlatformError("not-available", f"{self.name} is not running")

    def _no_room(self) -> PlatformError:
        text = f"{self._mailbox_max} messages wait for {self.name} already"
        return PlatformError("limit-exceeded", text)

    # -- running ---------------------------------------------------------------------------------

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Handle messages until `close`, cancellation or a crash, which is raised as it was."""
        if self._nursery is not None:
            raise LocalError(f"{self.name} runs already")
        crash: Exception | None = None
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                self._task = trio.lowlevel.current_task()
                if self._begin is not None:
                    await self._begin()
                self._inbox, self._outlet = trio.open_memory_channel(self._mailbox_max)
                task_status.started()
                await self._work(self._outlet)
                nursery.cancel_scope.cancel()
        except Exception as exc:  # trio.Cancelled is none, and passes
            self._crashes += 1
            crash = _only(exc)
        finally:
            self._end()
        if crash is not None:
            raise crash

    async def _work(self, outlet: trio.MemoryReceiveChannel[_Envelope[M]]) -> None:
        async for envelope in outlet:
            if envelope.abandoned or envelope.deadline_s <= trio.current_time():
                self._expired += 1
                self._unfinished -= 1
                continue
            self._in_hand = envelope
            try:
                answer = await self._handle(envelope.message)
            except PlatformError as error:
                if envelope.done is not None:
                    envelope.resolve(error=error)
                elif self._on_unheard is not None:
                    self._on_unheard(envelope.message, error)
                else:
                    raise
            else:
                envelope.resolve(answer)
            self._in_hand = None
            self._unfinished -= 1
            self._handled += 1

    def _end(self) -> None:
        """Nobody will read again: tell everybody who waits, and be ready for another run."""
        if self._in_hand is not None:
            self._unfinished -= 1
            text = f"{self.name} ended while it handled the request"
            self._in_hand.resolve(error=PlatformError("unknown-outcome", text))
        if self._outlet is not None:
            while True:  # also takes what blocked senders hold, so their asks are told the same
                try:
                    envelope = self._outlet.receive_nowait()
                except (trio.WouldBlock, trio.EndOfChannel):
                    break
                self._unfinished -= 1
                envelope.resolve(error=self._not_available())
            self._outlet.close()
        self._inbox = self._outlet = self._nursery = self._task = self._in_hand = None

    def close(self) -> None:
        """Take no more messages; `run` returns when those in the mailbox are handled."""
        if self._inbox is not None:
            self._inbox.close()
            self._inbox = None

    # -- for the handler -------------------------------------------------------------------------

    @property
    def nursery(self) -> trio.Nursery:
        """Tasks started here end with the actor; a crash of one is a crash of the actor."""
        if self._nursery is None:
            raise LocalError(f"{self.name} is not running")
        return self._nursery

    def remaining_s(self) -> float:
        """How long the sender of the message in hand still waits; without end for a tell."""
        if self._in_hand is None:
            return math.inf
        return max(0.0, self._in_hand.deadline_s - trio.current_time())

    def busy(self) -> bool:
        """Is there a message in hand, in the mailbox, or on its way there?"""
        return self._unfinished > 0

    def _waiting(self) -> int:
        if self._outlet is None:
            return 0
        figures = self._outlet.statistics()
        return figures.current_buffer_used + figures.tasks_waiting_send

    def statistics(self) -> Statistics:
        return Statistics(
            name=self.name,
            running=self._outlet is not None,
            waiting=self._waiting(),
            handled=self._handled,
            dropped=self._dropped,
            refused=self._refused,
            expired=self._expired,
            crashes=self._crashes,
        )


def _only(exc: Exception) -> Exception:
    """A group of one error says less than the error itself."""
    while isinstance(exc, ExceptionGroup) and len(exc.exceptions) == 1:
        exc = exc.exceptions[0]
    return exc
