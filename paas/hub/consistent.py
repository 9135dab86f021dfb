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

A group of 10,000 has 640,000 points, which take most of a second to place: more than anybody else
on the node may be kept waiting.  So members come and go in slices; a ring that has more to do is
not asked, since it would give another answer than that of the next hub: `owners` raises
`RingUnfinished`, `advance` does one slice, and who waits for it is `ring_building`'s.

    few have changed    each one's points to their places                         SLICE_MEMBERS
    many                all points into buckets, by their first bits              SLICE_GATHERED
                        bucket after bucket sorted and put behind the others      SLICE_SORTED
                        who went in the meantime is removed
"""

from __future__ import annotations

import hashlib
import struct
from collections import deque
from collections.abc import Iterator, Sequence

from paas.base.errors import PlatformError
from paas.hub import limits
from paas.hub.sorted_words import SortedWords

_PLACE_BITS = 50
_SLOT_BITS = 64 - _PLACE_BITS
_SLOTS = 1 << _SLOT_BITS
_PLACE_MASK = -1 << _SLOT_BITS
_WORDS = struct.Struct(f">{limits.RING_POINTS}Q")

SLICE_MEMBERS = 16
SLICE_GATHERED = 64
SLICE_SORTED = 8
"""What is done in one slice: of each one or two milliseconds' worth."""

AT_ONCE_MEMBERS = 64
"""So many are placed or removed while the question waits: small groups, what usually changes."""

_BUCKET_BITS = 10

assert limits.GROUP_MEMBERS_MAX + AT_ONCE_MEMBERS <= _SLOTS


class RingUnfinished(PlatformError):
    """The ring of this group cannot be asked yet."""

    def __init__(self, group: str) -> None:
        text = f"the members of group {group!r} are being put on its ring; ask again in a second"
        super().__init__("unavailable", text)
        self.group = group


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
        self._points = SortedWords()
        self._members: list[str] = []
        self._slots: dict[str, int] = {}
        self._names: dict[int, str] = {}
        self._free: list[int] = []
        self._gone: deque[str] = deque()
        self._new: deque[str] = deque()
        self._buckets: deque[list[int]] | None = None
        """Points on their way, if many have changed."""

    @property
    def unfinished(self) -> int:
        """What is still to be done: members to place or to remove, buckets to sort."""
        return len(self._gone) + len(self._new) + len(self._buckets or ())

    def update(self, members: Sequence[str]) -> None:
        """These are the members now; cheap when they are the same as before."""
        if members == self._members:
            return
        wanted = dict.fromkeys(members)
        self._gone = deque(member for member in self._slots if member not in wanted)
        self._new = deque(member for member in wanted if member not in self._slots)
        self._members = list(members)
        changes = len(self._gone) + len(self._new)
        if self._buckets is None and changes > max(AT_ONCE_MEMBERS, len(wanted) // 8):
            self._begin_anew()

    def _begin_anew(self) -> None:
        self._points, self._buckets = SortedWords(), deque([] for _ in range(1 << _BUCKET_BITS))
        self._slots, self._names, self._free = {}, {}, []
        self._gone, self._new = deque(), deque(dict.fromkeys(self._members))

    def advance(self) -> None:
        """One slice of what is still to be done."""
        if self._buckets is None:
            for _ in range(min(SLICE_MEMBERS, self.unfinished)):
                if self._gone:
                    self._remove(self._gone.popleft())
                else:
                    self._add(self._new.popleft())
        elif self._new and not len(self._points):
            self._gather(self._buckets)
        else:
            for _ in range(min(SLICE_SORTED, len(self._buckets))):
                self._points.extend(sorted(self._buckets.popleft()))
            if not self._buckets:
                self._buckets = None

    def _gather(self, buckets: deque[list[int]]) -> None:
        listed = list(buckets)
        for _ in range(min(SLICE_GATHERED, len(self._new))):
            if len(self._names) >= _SLOTS:  # as many have gone since it began as may be there
                self._begin_anew()
                return
            for word in self._place(self._new.popleft()):
                listed[word >> 64 - _BUCKET_BITS].append(word)

    def owners(self, key: str) -> Iterator[str]:
        """All members, the one that the key belongs to first, then as they follow on the ring.

        The ring is finished, and not changed meanwhile.
        """
        assert not self.unfinished
        left = len(self._slots)
        seen: set[str] = set()
        same: list[int] = []
        for word in self._points.around(place_of(key) << _SLOT_BITS):
            if same and word >> _SLOT_BITS != same[0] >> _SLOT_BITS:
                for member in self._unseen(same, seen):
                    left -= 1
                    yield member
                if not left:
                    return
                same.clear()
            same.append(word)
        yield from self._unseen(same, seen)

    def _unseen(self, words: list[int], seen: set[str]) -> list[str]:
        """The members on one place of the ring that the walk has not met."""
        found = sorted({self._names[word % _SLOTS] for word in words} - seen)
        seen.update(found)
        return found

    def _place(self, member: str) -> list[int]:
        """Give it a number; its points."""
        slot = self._free.pop() if self._free else len(self._names)
        self._slots[member], self._names[slot] = slot, member
        return _points_of(member, slot)

    def _add(self, member: str) -> None:
        for word in self._place(member):
            self._points.add(word)

    def _remove(self, member: str) -> None:
        for word in _points_of(member, self._slots[member]):
            self._points.remove(word)
        slot = self._slots.pop(member)
        del self._names[slot]
        self._free.append(slot)


class Rings:
    """The rings of the groups that were asked for."""

    def __init__(self) -> None:
        self._rings: dict[str, Ring] = {}

    def owners(self, group: str, members: Sequence[str], key: str) -> Iterator[str]:
        """As `Ring.owners`, of a group that has these members now; raises `RingUnfinished`."""
        ring = self._rings.setdefault(group, Ring())
        ring.update(members)
        if ring.unfinished > AT_ONCE_MEMBERS:
            raise RingUnfinished(group)
        while ring.unfinished:
            ring.advance()
        return ring.owners(key)

    def advance(self, group: str) -> bool:
        """Do one slice; False when the next question can be answered."""
        ring = self._rings.get(group)
        if ring is not None:
            ring.advance()
        return ring is not None and ring.unfinished > 0

    def forget(self, group: str) -> None:
        self._rings.pop(group, None)

    def groups(self) -> set[str]:
        return set(self._rings)
