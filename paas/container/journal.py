"""What this node has set aside and started, written before it is done.

One small file per container, replaced as a whole, so a reader meets the old record or the new one.
Nothing is synced to the disk: after a power cut no container is left for which a record could
matter, and a record of an earlier boot says so itself.

    preparing   things may have been made; whoever finds this destroys them
    running     pid 1 has this number and start time; it has been or is about to be told to go
    exited      ended, with these facts; it waits for its destruction
    destroying  being removed; whoever finds this goes on

Grants between containers are one more file.
"""

from __future__ import annotations

from typing import Literal, Protocol

import msgspec

from paas.base import ids
from paas.bundle.files import reporting_full_disk
from paas.container.messages import Exited, Grant

Phase = Literal["preparing", "running", "exited", "destroying"]

_GRANTS = "grants.json"
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
