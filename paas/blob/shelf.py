"""What is stored, for whom, and what has to go: the accounts of a node's attachments.

    upload: charge … charge ──> add (refunds the upload, charges the content)
    read:   find, which is a use
    sweep:  whatever nobody has used for its time is dropped; `take_gone` says which files to remove

An entry is a content with the grants on it: a key each, and the owner that stored it with this key.
The owner of a key that another node has confirmed is empty: that grant is a copy, charged to the
node only, and the first to go when the node is full.  An owner is charged for a content once, the
node too, so what two owners have stored is charged to both of them and takes the node's room once.

Invariants: `used(owner)` is the sum of its uploads and contents and at most OWNER_BYTES_MAX; the
total is the sum of all contents and uploads and at most NODE_BYTES_MAX (both may be above it after
a start with smaller limits, and then only fall); nothing that was used within YIELDS_S goes for
another's sake, but for copies.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from dataclasses import dataclass, field

from paas.base.errors import PlatformError
from paas.blob import limits

COPY = ""
"""The owner of what was fetched from another node."""


@dataclass(slots=True)
class Grant:
    """One key to a content."""

    owner: str
    used_s: float


@dataclass(slots=True)
class Entry:
    """One content."""

    digest: str
    size: int
    checked: bool
    """Its bytes were seen to have the digest since this process began."""

    grants: dict[str, Grant] = field(default_factory=dict)

    @property
    def used_s(self) -> float:
        return max(grant.used_s for grant in self.grants.values())

    @property
    def copied(self) -> bool:
        return all(grant.owner == COPY for grant in self.grants.values())

    def owned(self, owner: str) -> bool:
        return any(grant.owner == owner for grant in self.grants.values())


@dataclass(frozen=True, slots=True)
class Gone:
    """Effect: this grant is no more; `last`: nor is the content."""

    digest: str
    key: str
    owner: str
    last: bool


class Shelf:
    """See the module's text.  Times are seconds of one clock that never goes back."""

    def __init__(
        self,
        *,
        owner_bytes_max: int = limits.OWNER_BYTES_MAX,
        node_bytes_max: int = limits.NODE_BYTES_MAX,
    ) -> None:
        self._owner_max = owner_bytes_max
        self._node_max = node_bytes_max
        self._entries: dict[str, Entry] = {}
        self._used: dict[str, int] = {}
        self._of: dict[str, dict[tuple[str, str], None]] = {}  # owner -> its (digest, key)
        self._gone: list[Gone] = []
        self.total = 0

    def __len__(self) -> int:
        return len(self._entries)

    def used(self, owner: str) -> int:
        return self._used.get(owner, 0)

    def get(self, digest: str) -> Entry | None:
        return self._entries.get(digest)

    def take_gone(self) -> list[Gone]:
        gone, self._gone = self._gone, []
        return gone

    # -- bytes on their way ----------------------------------------------------------------------

    def charge(self, owner: str, size: int, now_s: float) -> None:
        """Room for `size` more bytes of an upload.

        Raises `quota-exceeded` (the owner's) or `storage-full` (the node's).
        """
        if owner != COPY and self.used(owner) + size > self._owner_max:
            self._make_room(owner, size, now_s)
        if self.total + size > self._node_max:
            self._drop_copies(size)
        self._count(owner, size, size)

    def refund(self, owner: str, size: int) -> None:
        """These bytes of an upload are gone, or have become a content."""
        self._count(owner, -size, -size)

    def _count(self, owner: str, for_owner: int, for_node: int) -> None:
        self.total += for_node
        used = self.used(owner) + for_owner
        if used:
            self._used[owner] = used
        else:
            self._used.pop(owner, None)

    def _make_room(self, owner: str, size: int, now_s: float) -> None:
        for digest, key in self._idle(owner, now_s):
            if self.used(owner) + size <= self._owner_max:
                break
            self._drop(self._entries[digest], key)
        if self.used(owner) + size > self._owner_max:
            raise PlatformError(
                "quota-exceeded",
                f"attachments of one owner take {self._owner_max} bytes at most; stored are "
                f"{self.used(owner)}, and {size} more were to come",
                hint="wait until some have been read, or release them: blob.release",
                used=self.used(owner),
                limit=self._owner_max,
            )

    def _idle(self, owner: str, now_s: float) -> list[tuple[str, str]]:
        """What of an owner makes room for its own, what was not used for longest first."""
        uses = [
            (self._entries[digest].grants[key].used_s, digest, key)
            for digest, key in self._of.get(owner, {})
        ]
        idle = sorted(use for use in uses if now_s - use[0] >= limits.YIELDS_S)
        return [(digest, key) for _, digest, key in idle]

    def _drop_copies(self, size: int) -> None:
        some = dict.fromkeys(digest for digest, _ in self._of.get(COPY, {}))
        entries = [self._entries[digest] for digest in some]
        copies = sorted((e.used_s, e.digest) for e in entries if e.copied)
        for _, digest in copies:
            if self.total + size <= self._node_max:
                return
            entry = self._entries[digest]
            for key in list(entry.grants):
                self._drop(entry, key)
        if self.total + size > self._node_max:
            raise PlatformError(
                "storage-full",
                f"attachments on this node take {self._node_max} bytes already",
                hint="they are removed ten minutes after their last use",
            )

    # -- contents --------------------------------------------------------------------------------

    def key_of(self, digest: str, owner: str) -> str:
        """The key that this owner has to this content already, or nothing."""
        entry = self._entries.get(digest)
        if entry is not None:
            for key, grant in entry.grants.items():
                if grant.owner == owner:
                    return key
        return ""

    def check_room(self, digest: str, owner: str, now_s: float) -> None:
        """May this owner get one more grant?  Raises `limit-exceeded`."""
        theirs = self._of.get(owner, {})
        if owner != COPY and len(theirs) >= limits.ENTRIES_OF_OWNER_MAX:
            for old, key in self._idle(owner, now_s)[:1]:
                self._drop(self._entries[old], key)
            if len(theirs) >= limits.ENTRIES_OF_OWNER_MAX:
                raise PlatformError(
                    "limit-exceeded",
                    f"{len(theirs)} attachments of one owner are stored",
                    hint="wait until some have been read, or release them: blob.release",
                )
        entry = self._entries.get(digest)
        if entry is None and len(self._entries) >= limits.ENTRIES_MAX:
            raise PlatformError(
                "limit-exceeded", f"{limits.ENTRIES_MAX} attachments are stored on this node"
            )
        if entry is not None and len(entry.grants) >= limits.GRANTS_MAX:
            raise PlatformError(
                "limit-exceeded", f"{limits.GRANTS_MAX} components have stored these bytes"
            )

    def add(
        self, digest: str, size: int, key: str, owner: str, now_s: float, *, checked: bool = True
    ) -> Entry:
        """The content is on the disk, and this key opens it.  What it takes is charged."""
        entry = self._entries.get(digest)
        new = entry is None
        if entry is None:
            entry = self._entries[digest] = Entry(digest, size, checked)
        entry.checked = entry.checked or checked
        charged = entry.owned(owner)
        entry.grants[key] = Grant(owner, now_s)
        self._of.setdefault(owner, {})[digest, key] = None
        self._count(owner, 0 if charged else size, size if new else 0)
        return entry

    def find(self, digest: str, key: str, now_s: float) -> Entry | None:
        """The content, if it is here and the key is one of its own; that is a use of it."""
        entry = self._entries.get(digest)
        if entry is None:
            return None
        found = None
        for known, grant in entry.grants.items():
            if hmac.compare_digest(known.encode(), key.encode("utf-8", "surrogatepass")):
                found = grant
        if found is None:
            return None
        found.used_s = now_s
        return entry

    def release(self, digest: str, key: str, owner: str) -> bool:
        """Drop a grant of this owner; False: it has none with this key."""
        entry = self._entries.get(digest)
        if entry is None or key not in entry.grants or entry.grants[key].owner != owner:
            return False
        self._drop(entry, key)
        return True

    def discard(self, digest: str) -> None:
        """The content is damaged, or not there: nobody can have it."""
        entry = self._entries.get(digest)
        if entry is not None:
            for key in list(entry.grants):
                self._drop(entry, key)

    def sweep(self, now_s: float, lives: Callable[[str], bool]) -> None:
        """Drop what was not used for its time; `lives`: has this owner not ended?"""
        living: dict[str, bool] = {}
        for entry in list(self._entries.values()):
            for key, grant in list(entry.grants.items()):
                if grant.owner == COPY:
                    kept_s = limits.CACHED_S
                else:
                    if grant.owner not in living:
                        living[grant.owner] = lives(grant.owner)
                    kept_s = limits.KEPT_S if living[grant.owner] else limits.ENDED_KEPT_S
                if now_s - grant.used_s >= kept_s:
                    self._drop(entry, key)

    def _drop(self, entry: Entry, key: str) -> None:
        grant = entry.grants.pop(key)
        theirs = self._of[grant.owner]
        del theirs[entry.digest, key]
        if not theirs:
            del self._of[grant.owner]
        last = not entry.grants
        if last:
            del self._entries[entry.digest]
        again = entry.owned(grant.owner)
        self._count(grant.owner, 0 if again else -entry.size, -entry.size if last else 0)
        self._gone.append(Gone(entry.digest, key, grant.owner, last))
