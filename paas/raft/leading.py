"""What is asked of a leader beside commands: a current read, a confirmation, members, a successor.

Four questions have their answer in a later step of the log, so each is a record that the driving
task (log.py) looks at twice in a step: `begin` before the journal is synced, `settle` after the
tick.  Nothing of the replica is touched in between, since its journal may be in a worker thread.

  read, confirm   reads.py has the rounds; here is who waits for which
  change          one configuration entry; done when it is committed as it was appended; if another
                  entry is committed in its place it was not done (`conflict`)
  transfer        the leader takes no more commands (`holding`) until its successor has all that it
                  has, and asks it to stand; what waited goes to the successor.  If that does not
                  lead in time, everything goes on as before
  yield           a leader whose disk is full hands over by itself: others may have room

Raft thesis §3.10, §4, §6.4.  Waiting is trio's; nothing else of the world is touched.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field

import trio

from paas.base.errors import PlatformError
from paas.raft.configuration import Configuration, encode
from paas.raft.limits import COMMAND_BYTES_MAX, TRANSFER_TIMEOUT_S_DEFAULT, YIELD_RETRY_S
from paas.raft.reads import ReadOutcome
from paas.raft.syncobj import Replica

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class _Reader:
    done: trio.Event = field(default_factory=trio.Event)
    outcome: ReadOutcome | None = None
    error: PlatformError | None = None


@dataclass(slots=True)
class _Change:
    voters: tuple[str, ...]
    observers: tuple[str, ...]
    done: trio.Event = field(default_factory=trio.Event)
    index: int | None = None
    term: int = 0
    error: PlatformError | None = None

    def finish(self, error: PlatformError | None = None) -> None:
        self.error = error
        self.done.set()


@dataclass(slots=True)
class _Transfer:
    to: str
    term: int
    until_s: float = math.inf
    asked_s: float = -math.inf
    done: trio.Event = field(default_factory=trio.Event)
    error: PlatformError | None = None


class Leading:
    """See the module's text.  `wake` has the driving task make a step."""

    def __init__(self, replica: Replica, wake: Callable[[], None]) -> None:
        self._replica = replica
        self._wake = wake
        self._numbers = 0
        self._readers: dict[int, _Reader] = {}
        self._changes: list[_Change] = []
        self._transfer: _Transfer | None = None
        self._yielded_s = -math.inf

    @property
    def holding(self) -> bool:
        """Must commands wait, because a successor is being helped into office?"""
        return self._transfer is not None and self._replica.is_leader

    # -- questions -------------------------------------------------------------------------------

    async def read(self, timeout_s: float, *, confirm: bool = False) -> ReadOutcome:
        """Raises `unavailable`."""
        self._numbers += 1
        number, reader = self._numbers, _Reader()
        self._readers[number] = reader
        self._replica.read(number, confirm=confirm)
        self._wake()
        try:
            with trio.move_on_after(timeout_s):
                await reader.done.wait()
        finally:
            del self._readers[number]
            self._replica.reads.forget(number)
        if reader.error is not None:
            raise reader.error
        if reader.outcome is None:
            text = "no leader that a majority follows could be asked in time"
            raise PlatformError("unavailable", text)
        if reader.outcome.index is None:
            raise not_leading(self._replica)
        return reader.outcome

    async def change(
        self, voters: Iterable[str], observers: Iterable[str], timeout_s: float
    ) -> Configuration:
        """Raises `conflict`, `invalid`, `storage-full`, `unavailable`, `unknown-outcome`."""
        change = _Change(tuple(voters), tuple(observers))
        self._changes.append(change)
        self._wake()
        try:
            with trio.move_on_after(timeout_s):
                await change.done.wait()
        finally:
            self._changes.remove(change)
        if change.error is not None:
            raise change.error
        if not change.done.is_set():
            raise PlatformError(
                "unknown-outcome" if change.index else "unavailable",
                "the change of members was not committed in time",
            )
        return self._replica.configuration

    async def transfer(self, to: str | None, timeout_s: float) -> str:
        """The successor's name.  Raises `conflict`, `timeout`."""
        replica = self._replica
        if not replica.is_leader:
            raise PlatformError("conflict", "this replica does not lead", leader=replica.leader)
        if self._transfer is not None:
            raise PlatformError("conflict", f"the leadership goes to {self._transfer.to} already")
        transfer = self._transfer = _Transfer(self._successor(to), replica.term)
        self._wake()
        try:
            with trio.move_on_after(timeout_s):
                await transfer.done.wait()
        finally:
            self._transfer = None
            self._wake()
        if transfer.error is not None:
            raise transfer.error
        if not transfer.done.is_set():
            raise PlatformError("timeout", f"{transfer.to} did not take over the leadership")
        return replica.leader or transfer.to

    def _successor(self, to: str | None) -> str:
        followers = self._replica.followers()
        able = {n: f.match_index for n, f in followers.items() if f.voter and f.connected}
        if to is None:
            if not able:
                raise PlatformError("conflict", "no other voter is connected")
            return max(able, key=lambda name: (able[name], name))
        if to not in able:
            text = f"{to} is no voter that is connected to the leader"
            raise PlatformError("conflict", text, voters=list(self._replica.voters))
        return to

    # -- the step --------------------------------------------------------------------------------

    async def begin(self, room: Callable[[int], Awaitable[bool]]) -> None:
        """Before the sync: append changes, ask the successor."""
        replica = self._replica
        for change in [c for c in self._changes if c.index is None and not c.done.is_set()]:
            needed = replica.needs_bytes(encode(Configuration(change.voters, change.observers)))
            if replica.is_leader and not await room(needed):
                change.finish(PlatformError("storage-full"))
            elif self.holding:
                change.finish(PlatformError("conflict", "the leadership is being transferred"))
            else:
                self._append(change)
        now_s = replica.clock.monotonic_s()
        if replica.journal.full:
            self._yield(now_s)
        elif replica.journal.fits(COMMAND_BYTES_MAX):
            self._yielded_s = -math.inf  # there is room again; the next time is another one
        transfer = self._transfer
        if transfer is None or not self.holding:
            return
        if now_s > transfer.until_s:
            self._transfer = None
            return
        due = now_s - transfer.asked_s > replica.settings.election_min_s
        if due and replica.transfer(transfer.to):
            transfer.asked_s = now_s

    def _yield(self, now_s: float) -> None:
        """The disk is full: another voter may have room."""
        replica = self._replica
        recently = now_s - self._yielded_s < YIELD_RETRY_S
        if self._transfer is not None or not replica.is_leader or recently:
            return
        self._yielded_s = now_s
        try:
            to = self._successor(None)
        except PlatformError:
            return  # nobody else: reads go on here
        logger.warning("the disk is full: the leadership goes to %s", to)
        until_s = now_s + TRANSFER_TIMEOUT_S_DEFAULT
        self._transfer = _Transfer(to, replica.term, until_s)

    def _append(self, change: _Change) -> None:
        try:
            change.index = self._replica.change_configuration(change.voters, change.observers)
        except PlatformError as error:
            change.finish(error)
            return
        change.term = self._replica.term_at(change.index) or 0
        if change.index <= self._replica.commit_index:
            change.finish()  # it was so already

    def settle(self) -> None:
        """After the tick: who has an answer now?"""
        replica = self._replica
        for outcome in replica.take_reads():
            reader = self._readers.get(outcome.number)
            if reader is not None:
                reader.outcome = outcome
                reader.done.set()
        for change in self._changes:
            index = change.index
            if index is None or change.done.is_set() or replica.commit_index < index:
                continue
            if replica.term_at(index) in (None, change.term):
                change.finish()
            else:
                change.finish(PlatformError("conflict", "another leader decided otherwise"))
        transfer = self._transfer
        if transfer is not None and replica.term > transfer.term and replica.leader is not None:
            if replica.is_leader:
                transfer.error = PlatformError("timeout", f"{transfer.to} was not elected")
            transfer.done.set()
            if transfer.until_s < math.inf:  # nobody waits for it
                self._transfer = None

    def end(self, error: PlatformError) -> None:
        """Nobody drives the log any more."""
        for reader in self._readers.values():
            reader.error = error
            reader.done.set()
        for change in self._changes:
            if not change.done.is_set():
                text = "the log ended while the change of members was on its way"
                change.finish(PlatformError("unknown-outcome", text) if change.index else error)
        if self._transfer is not None and not self._transfer.done.is_set():
            self._transfer.error = error
            self._transfer.done.set()


def not_leading(replica: Replica) -> PlatformError:
    return PlatformError("unavailable", "this replica is not the leader", leader=replica.leader)
