"""Which message of a mailbox goes to which member next.  Pure: no log, no clock, no connections.

    arrived ──> lane ──next──> in flight ── delivered ──> lane goes on
                 ^                 │
                 └── retry, later ─┴─ failed ── dead ──> lane goes on

A *lane* is what keeps an order: of an ordered mailbox all messages of one sender, of another one
each message by itself.  Only the first message of a lane is ever in flight, so a message is first
delivered after the one before it was acknowledged or is dead.  Lanes take turns, so a sender of
many messages does not keep others waiting.  A message goes to the member that works on the fewest
messages of this mailbox, ties in turn, and after a failed attempt to another one if there is one.

Times are the caller's, in seconds of any clock that does not go back.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

Lane = str | int


@dataclass(slots=True)
class _Lane:
    """Numbers that wait, and whether one is in flight or waits for its next attempt."""

    numbers: deque[int] = field(default_factory=deque)
    held: bool = False


class Courier:
    """See the module's text."""

    def __init__(self, *, ordered: bool, in_flight_max: int) -> None:
        self.in_flight_max = in_flight_max
        self._ordered = ordered
        self._lanes: dict[Lane, _Lane] = {}
        self._ready: deque[Lane] = deque()  # lanes with messages that are not held
        self._later: list[tuple[float, int, Lane]] = []  # lanes whose first message failed
        self._flight: dict[int, tuple[Lane, str]] = {}
        self._busy: dict[str, int] = {}
        self._turn = 0
        self._avoid: dict[int, str] = {}

    @property
    def in_flight(self) -> int:
        return len(self._flight)

    @property
    def ready(self) -> bool:
        """Is there something that a member could be given?"""
        return bool(self._ready) and len(self._flight) < self.in_flight_max

    def due_s(self) -> float:
        """When the next failed message may be tried again; never: infinity."""
        return self._later[0][0] if self._later else math.inf

    def arrived(self, number: int, sender: str, *, failed_at: str = "") -> None:
        """A message waits; `failed_at` is the member that its last attempt failed at."""
        key: Lane = sender if self._ordered else number
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = _Lane()
        lane.numbers.append(number)
        if failed_at:
            self._avoid[number] = failed_at
        if len(lane.numbers) == 1 and not lane.held:
            self._ready.append(key)

    def wake(self, now_s: float) -> None:
        """Failed messages whose time has come are ready again."""
        while self._later and self._later[0][0] <= now_s:
            _, _, key = heapq.heappop(self._later)
            self._lanes[key].held = False
            self._ready.append(key)

    def next(self, members: Sequence[str]) -> tuple[int, str] | None:
        """The next message and its member; it is in flight then.  None: nothing can go now."""
        if not members or not self.ready:
            return None
        key = self._ready.popleft()
        lane = self._lanes[key]
        number = lane.numbers.popleft()
        lane.held = True
        member = self._choose(members, self._avoid.get(number, ""))
        self._flight[number] = (key, member)
        self._busy[member] = self._busy.get(member, 0) + 1
        return number, member

    def _choose(self, members: Sequence[str], avoided: str) -> str:
        self._turn += 1
        count = len(members)
        best, least = "", math.inf
        for step in range(count):
            member = members[(self._turn + step) % count]
            busy = self._busy.get(member, 0)
            if busy < least and (member != avoided or count == 1):
                best, least = member, busy
                if not busy:
                    break
        return best

    def delivered(self, number: int) -> None:
        """It was acknowledged, or is dead: its lane goes on."""
        key = self._land(number)
        self._avoid.pop(number, None)
        lane = self._lanes[key]
        lane.held = False
        if lane.numbers:
            self._ready.append(key)
        else:
            del self._lanes[key]

    def failed(self, number: int, until_s: float) -> None:
        """It is tried again from then on, elsewhere if that is possible; its lane waits for it."""
        member = self._flight[number][1]
        self._avoid[number] = member
        self.put_back(number, until_s)

    def put_back(self, number: int, until_s: float) -> None:
        """It did not reach the member; that is no attempt."""
        key = self._land(number)
        self._lanes[key].numbers.appendleft(number)
        heapq.heappush(self._later, (until_s, number, key))

    def member_of(self, number: int) -> str:
        """Who works on a message that is in flight."""
        return self._flight[number][1]

    def _land(self, number: int) -> Lane:
        key, member = self._flight.pop(number)
        self._busy[member] -= 1
        if not self._busy[member]:
            del self._busy[member]
        return key
