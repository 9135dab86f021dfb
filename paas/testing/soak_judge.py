"""The judge of a soak: histories in, what must not have been out.  Pure.

A history is what one incarnation of a component has written down (bench/components/soaker): what it
sent, how that ended, and what came.  All incarnations of a component share its number, `me`; each
has an epoch of its own.  A pair is one incarnation that sends and one that receives.

    sent, sent cast      to `peer`, my epoch, number          before it left
    answered             by `peer` (its epoch), my number, for whom and which number it says it is
    accepted, failed     the end of a cast; the end of either, with a code
    got, got cast        of `peer` (its epoch), number        when it was read

What is promised (docs/concepts/messaging.md): one sender's messages arrive at one receiver in order
and at most once; an answer goes to who has asked, and to nobody else; whoever got no answer has an
error; an error that says that nobody has seen the message tells the truth; a cast that was accepted
arrives.  Kills excuse three things and no others: an incarnation that was killed itself has no end
for what it had sent, or an error in its last moment; errors while the hub or the receiver was being
killed or coming back; accepted casts that did not arrive then.  Everything else is `wrong`.
"""

from __future__ import annotations

import bisect
import struct
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

RECORD = struct.Struct("<4B4Id")
SENT, SENT_CAST, ANSWERED, ACCEPTED, FAILED, GOT, GOT_CAST = range(7)
CODES = ("unknown-outcome", "not-available", "timeout", "limit-exceeded", "no-such-target")
UNSEEN = ("not-available", "limit-exceeded", "no-such-target")
"""Errors that say that the message has reached nobody."""

MARGIN_S = 1.0
"""How long before its end, and after its recovery, a kill still excuses."""

WRONG_MAX = 100
"""Findings of one kind that are kept with their words; more are counted."""

HUB = -1


class Record(NamedTuple):
    """What its four numbers mean depends on the kind: see above."""

    kind: int
    peer: int
    code: int
    said: int
    first: int
    second: int
    third: int
    fourth: int
    at_s: float


class History:
    """The bytes that were written down, as records; the last one may be cut off."""

    def __init__(self, data: bytes) -> None:
        self._data = data[: len(data) - len(data) % RECORD.size]

    def __len__(self) -> int:
        return len(self._data) // RECORD.size

    def __iter__(self) -> Iterator[Record]:
        return map(Record._make, RECORD.iter_unpack(self._data))


@dataclass(frozen=True, slots=True)
class Incarnation:
    """One history.  `killed_s`: when it was killed; None if it lived to the end."""

    me: int
    epoch: int
    history: Iterable[Record]
    killed_s: float | None = None


@dataclass(frozen=True, slots=True)
class Trouble:
    """From a kill until all is well again; `who` is a component's number or HUB."""

    who: int
    from_s: float
    until_s: float


@dataclass(slots=True)
class Verdict:
    """Counts, and under `wrong` what must not have been."""

    calls: int = 0
    casts: int = 0
    answered: int = 0
    accepted: int = 0
    arrived: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    unfinished: int = 0
    """Calls and casts of incarnations that were killed before they knew an end."""

    casts_lost: int = 0
    """Accepted, not arrived, and excused by a kill."""

    pairs: int = 0
    wrong: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)

    def blame(self, what: str, words: str) -> None:
        self.wrong[what] += 1
        if self.wrong[what] <= WRONG_MAX:
            self.examples.append(f"{what}: {words}")


Key = tuple[int, int, int]
"""A message: the receiver's number, the sender's epoch, the number of the pair."""


class Excuses:
    """Troubles by whom they concern, to be asked by time."""

    def __init__(self, troubles: Iterable[Trouble]) -> None:
        self._by: dict[int, list[tuple[float, float]]] = {}
        for one in sorted(troubles, key=lambda t: t.from_s):
            row = self._by.setdefault(one.who, [])
            latest = max(one.until_s, row[-1][1] if row else 0.0)
            row.append((one.from_s, latest))

    def covers(self, who: int, from_s: float, until_s: float) -> bool:
        """Was the hub, or this one, in trouble at any moment of the time?"""
        return any(self._one(name, from_s, until_s) for name in (HUB, who))

    def _one(self, who: int, from_s: float, until_s: float) -> bool:
        row = self._by.get(who, [])
        place = bisect.bisect_right(row, (until_s + MARGIN_S, float("inf")))
        return place > 0 and row[place - 1][1] + MARGIN_S >= from_s


def judge(incarnations: Sequence[Incarnation], troubles: Iterable[Trouble]) -> Verdict:
    """Compare what was sent with what came, and how it ended."""
    verdict, excuses = Verdict(), Excuses(troubles)
    sent: dict[Key, Record] = {}
    by_epoch = {one.epoch: one for one in incarnations}
    if len(by_epoch) != len(incarnations):
        verdict.blame("histories", "two of one epoch")
    for one in incarnations:
        for record in one.history:
            if record.kind in (SENT, SENT_CAST):
                sent[record.peer, one.epoch, record.second] = record
    got = _arrivals(incarnations, by_epoch, sent, verdict)
    for one in incarnations:
        _endings(one, got, excuses, verdict)
    return verdict


def _arrivals(
    incarnations: Sequence[Incarnation],
    by_epoch: dict[int, Incarnation],
    sent: dict[Key, Record],
    verdict: Verdict,
) -> dict[Key, int]:
    """Order, at most once, and that somebody has sent it; who got which message."""
    got: dict[Key, int] = {}
    for one in incarnations:
        last: dict[int, int] = {}
        for record in one.history:
            if record.kind not in (GOT, GOT_CAST):
                continue
            verdict.arrived += 1
            epoch, number = record.first, record.second
            key = (one.me, epoch, number)
            words = f"message {number} of {record.peer}/{epoch:08x} at {one.me}/{one.epoch:08x}"
            if record.said != one.me:
                verdict.blame("wrong receiver", f"{words}, which is for {record.said}")
            origin = sent.get(key)
            if origin is None or by_epoch[epoch].me != record.peer:
                verdict.blame("never sent", words)
            elif (origin.kind == SENT_CAST) is not (record.kind == GOT_CAST):
                verdict.blame("kind", f"{words}: a call became a cast, or a cast a call")
            if key in got:
                verdict.blame("twice", words)
            elif number < last.get(epoch, 0):
                verdict.blame("out of order", f"{words} after {last[epoch]}")
            got[key] = one.epoch
            last[epoch] = max(number, last.get(epoch, 0))
        verdict.pairs += len(last)
    return got


def _endings(one: Incarnation, got: dict[Key, int], excuses: Excuses, verdict: Verdict) -> None:
    """Each message of an incarnation has exactly one end, and the right one."""
    waiting: dict[int, dict[int, Record]] = {}
    for record in one.history:
        if record.kind in (SENT, SENT_CAST):
            verdict.calls += record.kind == SENT
            verdict.casts += record.kind == SENT_CAST
            waiting.setdefault(record.peer, {})[record.second] = record
        elif record.kind == ANSWERED:
            _answer(one, record, waiting, got, verdict)
        elif record.kind in (ACCEPTED, FAILED):
            origin = waiting.get(record.peer, {}).pop(record.second, None)
            if origin is None:
                verdict.blame("two ends", f"of {record.second} to {record.peer}, at {one.me}")
            elif record.kind == ACCEPTED:
                _accepted(one, origin, record, got, excuses, verdict)
            else:
                _failed(one, origin, record, got, excuses, verdict)
    for peer, left in waiting.items():
        if one.killed_s is not None:
            verdict.unfinished += len(left)
            continue
        for number in left:
            verdict.blame("no end", f"of {number} from {one.me}/{one.epoch:08x} to {peer}")


def _answer(
    one: Incarnation,
    record: Record,
    waiting: dict[int, dict[int, Record]],
    got: dict[Key, int],
    verdict: Verdict,
) -> None:
    """`record`: my number, the epoch of who answers, then the epoch and the number it answers."""
    number, by_epoch = record.first, record.second
    words = f"to {number} of {one.me}/{one.epoch:08x}, by {record.peer}/{by_epoch:08x}"
    if (record.said, record.third) != (one.me, one.epoch):
        told = f"{record.said}/{record.third:08x}"
        verdict.blame("wrong caller", f"the answer {words} is for {told}")
        return
    origin = waiting.get(record.peer, {}).pop(number, None)
    if origin is None:
        verdict.blame("wrong answer", f"{words}: it was not asked, or has answered before")
        return
    verdict.answered += 1
    if record.fourth != number:
        verdict.blame("wrong answer", f"{words}: it is the one to {record.fourth}")
    elif origin.kind == SENT_CAST:
        verdict.blame("wrong answer", f"{words}: it was a cast")
    elif got.get((record.peer, one.epoch, number)) != by_epoch:
        verdict.blame("wrong answer", f"{words}, who never got it")


def _accepted(
    one: Incarnation,
    origin: Record,
    end: Record,
    got: dict[Key, int],
    excuses: Excuses,
    verdict: Verdict,
) -> None:
    verdict.accepted += 1
    words = f"cast {origin.second} of {one.me}/{one.epoch:08x} to {origin.peer}"
    if origin.kind == SENT:
        verdict.blame("wrong answer", f"{words} was a call, and is accepted only")
    if (origin.peer, one.epoch, origin.second) in got:
        return
    if excuses.covers(origin.peer, origin.at_s, end.at_s):
        verdict.casts_lost += 1
    else:
        verdict.blame("lost", f"{words}, at {origin.at_s:.3f}")


def _failed(
    one: Incarnation,
    origin: Record,
    end: Record,
    got: dict[Key, int],
    excuses: Excuses,
    verdict: Verdict,
) -> None:
    code = CODES[end.code] if end.code < len(CODES) else "other"
    verdict.errors[code] += 1
    words = f"{code} for {origin.second} of {one.me}/{one.epoch:08x} to {origin.peer}"
    if code in UNSEEN and (origin.peer, one.epoch, origin.second) in got:
        verdict.blame("not unseen", f"{words}, which has arrived")
    dying = one.killed_s is not None and end.at_s >= one.killed_s  # its harness went first
    explained = dying or excuses.covers(origin.peer, origin.at_s, end.at_s)
    if code == "other" or not explained:
        took_s = end.at_s - origin.at_s
        verdict.blame("unexplained", f"{words}, at {origin.at_s:.3f}, after {took_s:.3f} s")
