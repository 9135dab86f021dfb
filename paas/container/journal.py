"""What this node has set aside and started, written before it is done.

One small file per container, replaced as a whole, so a reader meets the old record or the new one.
Nothing is synced to the disk: after a power cut no container is left for which a record could
matter, and a record of an earlier boot says so itself.

    preparing   things may have been made; whoever finds this destroys them
    running     pid 1 has this number and start time; it has been or is about to be told to go
    exited      ended, with these facts; it waits for its destruction
    destroying  being removed; whoever finds this goes on

Grants between containers are one more file, paths to and from other nodes another, the links that
forward by our doing a third.
"""

from __future__ import annotations

from typing import Literal, Protocol

import msgspec

from paas.base import ids
from paas.bundle.files import reporting_full_disk
from paas.container.messages import Exited, Grant, Limits
from paas.network.messages import FarPath

Phase = Literal["preparing", "running", "exited", "destroying"]

_GRANTS = "grants.json"
_FAR = "far.json"
_UPLINKS = "uplinks.json"
_UPLINKS6 = "uplinks6.json"
_SUFFIX = ".container.json"


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """One container's record."""

    component: str
    incarnation: int
    phase: Phase
    boot: str
    """Identifier of the machine's boot; in another boot nothing of this exists any more."""
    since_ms: int
    uid_base: int | None = None
    address: str | None = None
    link: str | None = None
    endpoints: dict[str, tuple[str, int]] = {}
    pid: int | None = None
    start_ticks: int | None = None
    exited: Exited | None = None
    limits: Limits | None = None
    """The bounds in force."""
    filesystem: str = ""
    device: str = ""
    """Of the writable layer, while it runs; empty: it is on none of its own."""
    content_uid_base: int = -1
    """Owners of what is in the layer are of this range on the disk; -1: of the container's own."""
    files_key: str = ""
    """Tells of which base and bundle its files were made."""
    disk_bytes: int = 0
    egress: tuple[str, ...] = ()
    published: dict[str, int] = {}
    restored: str = ""
    """Token of the order to go back to a snapshot that it was made by."""
    backend: str = ""
    """Which back end has made it; empty: none yet."""
    address6: str = ""
    """Empty: it has no IPv6."""


class Store(Protocol):
    """A directory of small files."""

    def names(self) -> list[str]: ...

    def read(self, name: str) -> bytes | None:
        """The content, or None if there is no such file."""
        ...

    def replace(self, name: str, data: bytes) -> None:
        """Atomically: a reader sees the old content or the new."""
        ...

    def remove(self, name: str) -> None:
        """No such file is no error."""
        ...


class Journal:
    """The records of one node, in a directory of their own."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def save(self, record: Record) -> None:
        """Raises `storage-full`; then the old record stands."""
        with reporting_full_disk():
            self._store.replace(record.component + _SUFFIX, msgspec.json.encode(record))

    def remove(self, component: str) -> None:
        self._store.remove(component + _SUFFIX)

    def load(self) -> tuple[list[Record], list[str]]:
        """(records, components whose record cannot be read and who are therefore to be removed)."""
        records: list[Record] = []
        damaged: list[str] = []
        for name in sorted(self._store.names()):
            component = name.removesuffix(_SUFFIX)
            if component == name or not ids.is_id(component):
                continue
            try:
                records.append(msgspec.json.decode(self._store.read(name) or b"", type=Record))
            except (msgspec.DecodeError, UnicodeDecodeError):
                damaged.append(component)
        return records, damaged

    def save_grants(self, grants: set[Grant]) -> None:
        self._store.replace(_GRANTS, msgspec.json.encode(sorted(grants)))

    def load_grants(self) -> set[Grant]:
        """The grants; none when the file cannot be read: closed is the safe side."""
        try:
            return msgspec.json.decode(self._store.read(_GRANTS) or b"[]", type=set[Grant])
        except (msgspec.DecodeError, UnicodeDecodeError):
            return set()

    def save_far(self, paths: set[FarPath]) -> None:
        self._store.replace(_FAR, msgspec.json.encode(sorted(paths)))

    def load_far(self) -> set[FarPath]:
        """Paths to and from other nodes; none when the file cannot be read."""
        try:
            return msgspec.json.decode(self._store.read(_FAR) or b"[]", type=set[FarPath])
        except (msgspec.DecodeError, UnicodeDecodeError):
            return set()

    def save_uplinks(self, links: list[str]) -> None:
        self._store.replace(_UPLINKS, msgspec.json.encode(links))

    def load_uplinks(self) -> list[str]:
        """Links that forward packets only because we switched that on."""
        return self._links(_UPLINKS)

    def save_uplinks6(self, links: list[str]) -> None:
        self._store.replace(_UPLINKS6, msgspec.json.encode(links))

    def load_uplinks6(self) -> list[str]:
        """The same for version 6."""
        return self._links(_UPLINKS6)

    def _links(self, name: str) -> list[str]:
        try:
            return msgspec.json.decode(self._store.read(name) or b"[]", type=list[str])
        except (msgspec.DecodeError, UnicodeDecodeError):
            return []
