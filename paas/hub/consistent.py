"""A consistent ring for `hash:<key>`: the same key goes to the same member, whichever hub is asked.

Each member has `RING_POINTS` points on a ring of 2^50 places; a key belongs to the member of the
first point at or after its own place, and when that one is not available, to the next member on
the way round.  A member that comes takes keys from all others and from nobody else; one that goes
leaves them to all others: nothing else moves (Karger et al., "Consistent hashing and random trees",
1997).

Invariants: places are digests of ids and keys, so the answer depends on the members and the key
only; two points on one place are ordered by the members' ids.  The ring holds 8 bytes a point:
place and number of the member in one word.  A change of a member moves its points only; nothing is
built for groups that nobody asks about.
"""

from __future__ import annotations

import hashlib
import struct
from array import array
from bisect import bisect_left, insort
from collections.abc import Iterator, Sequence

from paas.hub import limits

_PLACE_BITS = 50
_SLOT_BITS = 64 - _PLACE_BITS
_SLOTS = 1 << _SLOT_BITS
_PLACE_MASK = -1 << _SLOT_BITS
_WORDS = struct.Struct(f">{limits.RING_POINTS}Q")

assert limits.GROUP_MEMBERS_MAX <= _SLOTS


def place_of(key: str) -> int:
    """Where a key is on the ring."""
    digest = hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8)
    return int.from_bytes(digest.digest(), "big") >> _SLOT_BITS


def _points_of(member: str, slot: int) -> list[int]:
    """The points of a member, that has this number."""
    digest = hashlib.shake_128(member.encode("utf-8", "surrogatepass")).digest(_WORDS.size)
    return [word & _PLACE_MASK | slot for word in _WORDS.unpack(digest)]


class Ring:
    """The ring of one group."""

    def __init__(self) -> None:
        self._points = array("Q")
        self._members: list[str] = []
        self._slots: dict[str, int] = {}
        self._names: dict[int, str] = {}
        self._free: list[int] = []

    def update(self, members: Sequence[str]) -> None:
        """These are the members now; cheap when they are the same as before."""
        if members == self._members:
            return
        wanted = dict.fromkeys(members)
        gone = [member for member in self._slots if member not in wanted]
        new = [member for member in wanted if member not in self._slots]
        if len(gone) + len(new) > len(wanted) // 8 + 1:
            self._build(list(wanted))
        else:
            for member in gone:
                self._remove(member)
            for member in new:
                self._add(member)
        self._members = list(members)

    def owners(self, key: str) -> Iterator[str]:
        """All members, the one that the key belongs to first, then as they follow on the ring."""
        points, count = self._points, len(self._points)
        at = bisect_left(points, place_of(key) << _SLOT_BITS)
        seen: set[str] = set()
        step = 0
        while step < count and len(seen) < len(self._slots):
            word = points[(at + step) % count]
            step += 1
            same = [word]
            while step < count and points[(at + step) % count] >> _SLOT_BITS == word >> _SLOT_BITS:
                same.append(points[(at + step) % count])
                step += 1
            for member in sorted(self._names[w % _SLOTS] for w in same):
                if member not in seen:
                    seen.add(member)
                    yield member

    def _build(self, members: list[str]) -> None:
        self._slots = {member: slot for slot, member in enumerate(members)}
        self._names = dict(enumerate(members))
        self._free = []
        points: list[int] = []
        for member, slot in self._slots.items():
            points += _points_of(member, slot)
        points.sort()
        self._points = array("Q", points)

    def _add(self, member: str) -> None:
        slot = self._free.pop() if self._free else len(self._names)
        self._slots[member], self._names[slot] = slot, member
        for word in _points_of(member, slot):
            insort(self._points, word)

    def _remove(self, member: str) -> None:
        for word in _points_of(member, self._slots[member]):
            del self._points[bisect_left(self._points, word)]
        slot = self._slots.pop(member)
        del self._names[slot]
        self._free.append(slot)


class Rings:
    """The rings of the groups that were asked for."""

    def __init__(self) -> None:
        self._rings: dict[str, Ring] = {}

    def owners(self, group: str, members: Sequence[str], key: str) -> Iterator[str]:
        """As `Ring.owners`, of a group that has these members now."""
        ring = self._rings.setdefault(group, Ring())
        ring.update(members)
        return ring.owners(key)

    def forget(self, group: str) -> None:
        self._rings.pop(group, None)

    def groups(self) -> set[str]:
        return set(self._rings)
