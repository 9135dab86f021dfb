"""Proposals on their way: who waits for what, what is to be handed over, what a caller is told.

    add ──> queue ── taken ──> the library ──> resolve (applied here)
              ^                    │
              └── gave_back, late ─┘        given up: `unavailable` or `unknown-outcome`

Each waiting command has one `Waiter`, however many ask for it and however often it is handed over;
it is found by its identity, so it does not matter through which submission it was committed.

Invariants
  - `unavailable` and `storage-full` are told only when no submission can be in the log.
  - What is bound to a term is handed over at most once, and to nobody else.
  - At most `IN_FLIGHT_MAX` commands wait; the oldest of our own numbers is never further behind the
    newest than the window in which the machine recognises repetitions.

Keeper K8, holes P28 and P29 of docs/internals/raft.md.  Nothing waits in here.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

import msgspec
import trio

from paas.base.errors import LocalError, PlatformError
from paas.raft import limits
from paas.raft.command import Stamp, encode
from paas.raft.machine import Applied

Identity = tuple[str, int]
Recall = Callable[[Identity], Applied | None]


class Waiter:
    """One command on its way, and everybody who waits for its outcome."""

    __slots__ = (
        "applied",
        "attempts",
        "data",
        "done",
        "identity",
        "only_term",
        "queued",
        "sent_s",
        "uncertain",
        "users",
    )

    def __init__(self, identity: Identity, data: bytes) -> None:
        self.identity = identity
        self.data = data
        self.done = trio.Event()
        self.applied: Applied | None = None
        self.users = 0
        self.only_term: int | None = None  # the term in which it may be appended, here
        self.queued = False
        self.attempts = 0  # submissions whose end is not known yet
        self.uncertain = False  # one of them may be in the log although it was given up
        self.sent_s = 0.0

    def resolve(self, applied: Applied) -> None:
        if not self.done.is_set():
            self.applied = applied
            self.done.set()

    def refuse(self, error: PlatformError) -> None:
        self.resolve(Applied(self.identity, error=error))

    @property
    def may_be_done(self) -> bool:
        return self.uncertain or self.attempts > 0


class Proposals:
    """See the module's text.  `recall` finds the outcome of a command that was applied before."""

    def __init__(self, proposer: str, recall: Recall) -> None:
        self._proposer = proposer
        self._recall = recall
        self._sequence = 0
        self._waiting: dict[Identity, Waiter] = {}
        self._own: dict[int, None] = {}  # our numbers that wait, oldest first
        self._queue: deque[Waiter] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def queued(self) -> bool:
        return bool(self._queue)

    # -- in ------------------------------------------------------------------------------------

    def find(self, identity: Identity) -> Waiter | None:
        return self._waiting.get(identity)

    def add(
        self,
        cmd: msgspec.Struct,
        request_id: Identity | None,
        *,
        time_ms: int,
        seed: bytes,
        only_term: int | None = None,
    ) -> Waiter:
        """A new waiter; answered at once if the command was applied before.

        Raises `limit-exceeded`.
        """
        sequence = self._sequence + 1
        oldest = next(iter(self._own), sequence)
        if len(self) >= limits.IN_FLIGHT_MAX or sequence - oldest >= limits.DEDUP_WINDOW:
            text = f"{limits.IN_FLIGHT_MAX} proposals wait already"
            raise PlatformError("limit-exceeded", text)
        proposer, number = request_id or (self._proposer, sequence)
        stamp = Stamp(time_ms=time_ms, seed=seed, proposer=proposer, sequence=number)
        waiter = Waiter(stamp.identity, encode(cmd, stamp))
        waiter.only_term = only_term
        if request_id is None:
            self._sequence = sequence
            self._own[sequence] = None
        self._waiting[waiter.identity] = waiter
        known = self._recall(waiter.identity)
        if known is None:
            self._enqueue(waiter)
        else:
            waiter.resolve(known)
        return waiter

    def _enqueue(self, waiter: Waiter) -> None:
        if not waiter.queued:
            waiter.queued = True
            self._queue.append(waiter)

    def _dequeue(self) -> Waiter:
        waiter = self._queue.popleft()
        waiter.queued = False
        return waiter

    def leave(self, waiter: Waiter) -> None:
        """One who waited does so no longer."""
        waiter.users -= 1
        if not waiter.users and self._waiting.get(waiter.identity) is waiter:
            del self._waiting[waiter.identity]
            if waiter.identity[0] == self._proposer:
                self._own.pop(waiter.identity[1], None)

    # -- to the library and back ---------------------------------------------------------------

    def head(self) -> Waiter | None:
        """The next to hand over; whom nobody waits for is passed over."""
        while self._queue and (self._queue[0].done.is_set() or not self._queue[0].users):
            self._dequeue()
        return self._queue[0] if self._queue else None

    def taken(self, waiter: Waiter, now_s: float) -> None:
        """The head was handed over."""
        if self._dequeue() is not waiter:
            raise LocalError("only the head of the queue is handed over")
        waiter.attempts += 1
        waiter.sent_s = now_s

    def gave_back(self, failures: Sequence[tuple[Identity, bool]]) -> None:
        """The library dropped these; they are tried again until their senders give up."""
        for identity, definite in failures:
            waiter = self._waiting.get(identity)
            if waiter is None:
                continue
            waiter.attempts = max(0, waiter.attempts - 1)
            waiter.uncertain |= not definite
            if definite or waiter.only_term is None:
                self._enqueue(waiter)

    def hand_over_again(self, before_s: float) -> None:
        """Nobody tells of a lost command: those handed over before are tried anew."""
        for waiter in self._waiting.values():
            if waiter.only_term is not None or waiter.done.is_set():
                continue
            if waiter.attempts and waiter.sent_s < before_s:
                waiter.attempts, waiter.uncertain = 0, True
                self._enqueue(waiter)

    def bind(self, leading: int | None) -> None:
        """Refuse what may be appended only in another term than the one we lead in (or none)."""
        for waiter in [w for w in self._queue if w.only_term not in (None, leading)]:
            text = f"this replica does not lead in term {waiter.only_term} any more"
            waiter.refuse(PlatformError("conflict", text, term=waiter.only_term))

    # -- out -----------------------------------------------------------------------------------

    def resolve(self, applied: Applied) -> None:
        waiter = self._waiting.get(applied.identity) if applied.identity else None
        if waiter is not None:
            waiter.resolve(applied)

    def recall_all(self) -> None:
        """A whole state came from elsewhere: outcomes may be in it (P29)."""
        for waiter in self._waiting.values():
            known = self._recall(waiter.identity)
            if known is not None:
                waiter.resolve(known)

    def refuse_queued(self, error: PlatformError) -> None:
        """Tell those who wait to be handed over that it will not happen."""
        while self._queue:
            waiter = self._dequeue()
            if not waiter.may_be_done:
                waiter.refuse(error)

    def end(self, error: PlatformError) -> None:
        """Nobody drives the log any more; `error` is for those that were never handed over."""
        for waiter in self._waiting.values():
            text = "the log ended while the change was on its way"
            unknown = PlatformError("unknown-outcome", text, request_id=list(waiter.identity))
            waiter.refuse(unknown if waiter.may_be_done else error)
        self._queue.clear()


def given_up(waiter: Waiter) -> PlatformError:
    """What its sender is told whose time is over."""
    if waiter.may_be_done:
        text = "the change was proposed, but its outcome did not come in time"
        return PlatformError("unknown-outcome", text, request_id=list(waiter.identity))
    return PlatformError(
        "unavailable",
        "there is no leader that could take the change",
        hint="bring nodes back until most of those that vote are connected: paas nodes",
    )
