"""One durable mailbox: which messages wait, which are dead, and which ids are known.

    put ──> waiting ── acknowledge ──> gone          numbers grow: a message's place in its mailbox
              │  ^
         fail │  │ redeliver
              v  │
             dead ── discard, or dropped as the oldest ──> gone

Pure and part of the replicated state: whoever applies the same commands has the same mailbox.

Invariants
  - what was accepted waits, or is dead, or was acknowledged, discarded or dropped: `accepted` is
    the sum of the other counts (redelivering moves from dead to waiting and counts nothing);
  - numbers are never given twice; messages wait in the order of their numbers;
  - an id that a sender gave is accepted once while its message waits or is dead, and for the last
    DURABLE_IDS_REMEMBERED ones that are finished; ids of different senders are different ids;
  - waiting messages and their bytes are bounded by the settings: one more is refused.  Dead letters
    are bounded beside them: the oldest is dropped and counted.

Who delivers what to whom is not decided here (mailbox_courier.py), who may say so is in mailbox.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from paas.base.errors import PlatformError
from paas.hub import limits
from paas.hub.mailbox_commands import FailMessage, NewMessage, Settings

Key = tuple[str, str]


class Stored(msgspec.Struct, frozen=True, array_like=True):
    """A message in a mailbox.  `given`: its id is the sender's; `time_ms`: accepted, or died."""

    number: int
    id: str
    given: bool
    sender: str
    operation: str
    object: str
    inputs: bytes
    attachments: bytes
    trace: str
    time_ms: int
    attempts: int = 0
    reason: str = ""
    member: str = ""
    died_ms: int = 0

    @property
    def size(self) -> int:
        letters = len(self.operation) + len(self.object) + len(self.trace)
        letters += len(self.id) if self.given else 0
        return _bytes(len(self.inputs) + len(self.attachments), letters)

    @property
    def key(self) -> Key:
        return self.sender, self.id


class Counts(msgspec.Struct):
    """Since the mailbox exists."""

    accepted: int = 0
    acknowledged: int = 0
    died: int = 0
    discarded: int = 0
    dropped: int = 0


def size_of(message: NewMessage) -> int:
    """Bytes that a message will count in its mailbox."""
    letters = len(message.operation) + len(message.object) + len(message.trace)
    return _bytes(len(message.inputs) + len(message.attachments), letters + len(message.id))


def _bytes(content: int, letters: int) -> int:
    """A character counts as the longest in UTF-8."""
    return content + 4 * letters + limits.DURABLE_OVERHEAD_BYTES


class Box:
    """See the module's text."""

    def __init__(self, group: str, settings: Settings) -> None:
        self.group = group
        self.settings = settings
        self.waiting: dict[int, Stored] = {}  # by number, which is their order
        self.dead: dict[int, Stored] = {}  # by number, the oldest death first
        self.counts = Counts()
        self.waiting_bytes = 0
        self.dead_bytes = 0
        self._next = 1
        self._live: dict[Key, int] = {}  # ids that senders gave, of what waits or is dead
        self._recent: dict[Key, None] = {}  # and of what is finished, the oldest first

    @property
    def bytes(self) -> int:
        return self.waiting_bytes + self.dead_bytes

    def knows(self, sender: str, identity: str) -> bool:
        """Was a message with this id of this sender accepted?"""
        key = sender, identity
        return key in self._live or key in self._recent

    def refusal(self, size: int) -> PlatformError | None:
        """Why a message of this size cannot be accepted now."""
        full = len(self.waiting) >= self.settings.messages_max
        if not full and self.waiting_bytes + size <= self.settings.bytes_max:
            return None
        text = f"{len(self.waiting)} messages of {self.waiting_bytes} bytes wait in the mailbox"
        return PlatformError(
            "limit-exceeded",
            f"{text} of group {self.group!r}",
            hint=f"look at: paas mailbox show {self.group}",
            group=self.group,
        )

    def put(self, message: NewMessage, generated: str, time_ms: int) -> int:
        """Accept a message; its number.  The caller has asked `knows` and `refusal`."""
        number = self._number()
        stored = Stored(
            number=number,
            id=message.id or generated,
            given=bool(message.id),
            sender=message.from_,
            operation=message.operation,
            object=message.object,
            inputs=bytes(message.inputs),
            attachments=bytes(message.attachments),
            trace=message.trace,
            time_ms=time_ms,
        )
        self.counts.accepted += 1
        self._wait(stored)
        if stored.given:
            self._live[stored.key] = number
        return number

    def acknowledge(self, numbers: Sequence[int]) -> int:
        """These are done; how many of them waited still."""
        found = 0
        for number in numbers:
            stored = self.waiting.pop(number, None)
            if stored is not None:
                self.waiting_bytes -= stored.size
                self._finish(stored)
                found += 1
        self.counts.acknowledged += found
        return found

    def fail(self, failure: FailMessage, time_ms: int) -> dict[str, Any]:
        """An attempt has failed; what follows: `dead`, or how many attempts have failed."""
        stored = self.waiting.get(failure.number)
        if stored is None:
            return {"gone": True, "dead": failure.number in self.dead, "attempts": 0}
        if failure.attempt != stored.attempts + 1:
            return {"gone": False, "dead": False, "attempts": stored.attempts}
        stored = msgspec.structs.replace(
            stored,
            attempts=failure.attempt,
            reason=failure.reason[: limits.FAILURE_REASON_LENGTH_MAX],
            member=failure.member,
        )
        dead = failure.rejected or stored.attempts >= self.settings.attempts
        if dead:
            del self.waiting[stored.number]
            self.waiting_bytes -= stored.size
            self._bury(msgspec.structs.replace(stored, died_ms=time_ms))
        else:
            self.waiting[stored.number] = stored
        return {"gone": dead, "dead": dead, "attempts": stored.attempts}

    def _bury(self, stored: Stored) -> None:
        self.counts.died += 1
        self.dead[stored.number] = stored
        self.dead_bytes += stored.size
        bytes_max = self.settings.bytes_max // limits.DEAD_LETTERS_SHARE
        while len(self.dead) > limits.DEAD_LETTERS_MAX or self.dead_bytes > bytes_max:
            self._unbury(next(iter(self.dead)), finished=True)
            self.counts.dropped += 1

    def _unbury(self, number: int, *, finished: bool) -> Stored:
        stored = self.dead.pop(number)
        self.dead_bytes -= stored.size
        if finished:
            self._finish(stored)
        return stored

    def redeliver(self, ids: Sequence[str] | None) -> list[int]:
        """Dead letters wait again, the oldest first, as many as there is room for; new numbers."""
        numbers = []
        for number in self._dead_with(ids):
            if self.refusal(self.dead[number].size) is not None:
                break
            stored = self._unbury(number, finished=False)
            fresh = msgspec.structs.replace(stored, number=self._number(), attempts=0, died_ms=0)
            self._wait(fresh)
            if fresh.given:
                self._live[fresh.key] = fresh.number
            numbers.append(fresh.number)
        return numbers

    def discard(self, ids: Sequence[str] | None) -> int:
        """Forget dead letters; how many."""
        numbers = self._dead_with(ids)
        for number in numbers:
            self._unbury(number, finished=True)
        self.counts.discarded += len(numbers)
        return len(numbers)

    def _dead_with(self, ids: Sequence[str] | None) -> list[int]:
        if ids is None:
            return list(self.dead)
        wanted = dict.fromkeys(ids)
        return [number for number, stored in self.dead.items() if stored.id in wanted]

    def _number(self) -> int:
        self._next += 1
        return self._next - 1

    def _wait(self, stored: Stored) -> None:
        self.waiting[stored.number] = stored
        self.waiting_bytes += stored.size

    def _finish(self, stored: Stored) -> None:
        """It is gone for good; its id is known for a while yet."""
        if not stored.given:
            return
        self._live.pop(stored.key, None)
        self._recent[stored.key] = None
        if len(self._recent) > limits.DURABLE_IDS_REMEMBERED:
            del self._recent[next(iter(self._recent))]

    # -- snapshot --------------------------------------------------------------------------------

    def snapshot(self) -> Any:
        return {
            "group": self.group,
            "settings": msgspec.to_builtins(self.settings),
            "next": self._next,
            "counts": msgspec.to_builtins(self.counts),
            "waiting": [_row(stored) for stored in self.waiting.values()],
            "dead": [_row(stored) for stored in self.dead.values()],
            "recent": [list(key) for key in self._recent],
        }

    @classmethod
    def restored(cls, plain: Any) -> Box:
        box = cls(plain["group"], msgspec.convert(plain["settings"], Settings))
        box._next = plain["next"]
        box.counts = msgspec.convert(plain["counts"], Counts)
        box.waiting = {row[0]: Stored(*row) for row in plain["waiting"]}
        box.dead = {row[0]: Stored(*row) for row in plain["dead"]}
        box.waiting_bytes = sum(stored.size for stored in box.waiting.values())
        box.dead_bytes = sum(stored.size for stored in box.dead.values())
        for kept in (box.waiting, box.dead):
            box._live.update({s.key: s.number for s in kept.values() if s.given})
        box._recent = dict.fromkeys((sender, identity) for sender, identity in plain["recent"])
        return box


def _row(stored: Stored) -> list[Any]:
    return list(msgspec.structs.astuple(stored))
