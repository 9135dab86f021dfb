"""Who votes and who observes: an entry of the log like any other, in force once it is appended.

    payload = kind byte CONFIGURATION | msgpack {voters: [name], observers: [name]}

The library's own membership requests are not used: they name one node to add or remove, so what is
in force depends on everything before, on what was applied, and on what was rolled back (holes P01,
P21-P23).  An entry here holds the whole configuration.  `History` answers, for any index that the
journal or the snapshot still knows, which configuration was in force there:

    snapshot's configuration ── entry ── entry ── entry          latest: counts now
            at(index of a snapshot to be written) ──^

Invariants
  - The latest configuration in the log is in force, committed or not (Raft thesis §4.1); when its
    entry is cut off, the one before it is in force again, at last that of the snapshot.
  - Two configurations that follow each other differ by at most one voter, so that any majority of
    the one and any majority of the other have a voter in common (`check_change`).
  - A replica that knows no configuration (`NOBODY`) waits: it neither votes nor stands.

Pure.  When a change is accepted is decided in syncobj.py; what to change, outside of this package.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import msgspec

from paas.base.errors import PlatformError, invalid
from paas.raft.limits import MEMBERS_MAX, NAME_BYTES_MAX, VOTERS_MAX

CONFIGURATION = 4
"""First byte of such an entry; the library's own kinds are 0 to 3."""


@dataclass(frozen=True, slots=True)
class Configuration:
    """The voters and observers, sorted, and the index of the entry that says so (0: none does)."""

    voters: tuple[str, ...] = ()
    observers: tuple[str, ...] = ()
    index: int = 0
    committed: bool = False

    @property
    def members(self) -> tuple[str, ...]:
        return self.voters + self.observers


NOBODY = Configuration()


class _Plain(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    voters: list[str]
    observers: list[str]


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Plain).decode


def make(voters: Iterable[str], observers: Iterable[str] = (), index: int = 0) -> Configuration:
    """Sorted and checked.  Raises `invalid`."""
    made = Configuration(tuple(sorted(voters)), tuple(sorted(observers)), index)
    if not 1 <= len(made.voters) <= VOTERS_MAX:
        raise invalid("voters", f"1 to {VOTERS_MAX} names")
    if len(made.members) > MEMBERS_MAX or len(set(made.members)) != len(made.members):
        raise invalid("observers", f"up to {MEMBERS_MAX} members, each named once")
    for name in made.members:
        if not name or len(name.encode("utf-8", "surrogatepass")) > NAME_BYTES_MAX:
            raise invalid("voters", f"names of 1 to {NAME_BYTES_MAX} bytes")
    return made


def encode(configuration: Configuration) -> bytes:
    """The payload of the entry, kind byte included."""
    plain = _Plain(list(configuration.voters), list(configuration.observers))
    return bytes([CONFIGURATION]) + _encode(plain)


def decode(payload: bytes, index: int) -> Configuration:
    """Raises `invalid` or `corrupt`."""
    try:
        plain = _decode(payload[1:])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        raise PlatformError("corrupt", f"the configuration at {index} cannot be read") from exc
    return make(plain.voters, plain.observers, index)


def check_change(old: Configuration, new: Configuration, leader: str) -> None:
    """Raises `conflict` when the new one may not follow the old one under this leader."""
    changed = sorted(set(old.voters) ^ set(new.voters))
    if len(changed) > 1:
        text = "only one voter may be added or removed at a time"
        raise PlatformError("conflict", text, changed=changed)
    if leader not in new.voters:
        raise PlatformError(
            "conflict",
            f"{leader} leads and cannot be removed from the voters",
            hint="transfer the leadership first",
        )


class History:
    """See the module's text."""

    def __init__(self, base: Configuration = NOBODY) -> None:
        self.latest = self._base = base
        self._entries: list[Configuration] = []

    def at(self, index: int) -> Configuration:
        """What was in force at this index."""
        for known in reversed(self._entries):
            if known.index <= index:
                return known
        return self._base

    def appended(self, payload: bytes, index: int) -> bool:
        """An entry was appended; did it change what is in force?"""
        if payload[0] != CONFIGURATION or index <= self.latest.index:
            return False
        self.latest = decode(payload, index)
        self._entries.append(self.latest)
        return True

    def truncated(self, index: int) -> bool:
        """The entries from this index on are gone; did that change what is in force?"""
        before = len(self._entries)
        self._entries = [known for known in self._entries if known.index < index]
        self._look()
        return len(self._entries) != before

    def forgotten(self, index: int) -> None:
        """The entries before this index are in a snapshot now."""
        self._base = self.at(index)
        self._entries = [known for known in self._entries if known.index > index]
        self._look()

    def replaced(self, base: Configuration) -> None:
        """A snapshot takes the place of everything."""
        self.latest = self._base = base
        self._entries = []

    def read(self, entries: Sequence[tuple[bytes, int, int]]) -> None:
        """Take over a journal."""
        for payload, index, _ in entries:
            self.appended(payload, index)

    def _look(self) -> None:
        self.latest = self._entries[-1] if self._entries else self._base
