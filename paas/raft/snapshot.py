"""Snapshots: the state up to one log entry, in one file that is whole or not there.

    file = magic, format, sha-256 of the rest | msgpack {last, previous, state, voters, ...}

`last` is the entry that the state ends with, `previous` the one before it; both are kept because
the library's log begins with these two.  A snapshot is written to a new file, synced, renamed,
and the directory synced; so at any moment there is exactly one valid snapshot or none yet.

Sending goes in chunks that each name the whole snapshot (index, term, digest, length) and their
offset; a receiver accepts only the chunk it expects next, of one snapshot, and installs nothing but
a file whose digest is right (rule T6).  The snapshot that exists stays sendable while a new one is
being written.

`align` brings journal and snapshot together at the start, before the library sees either: a
crash may have come between the two.  It only ever drops entries that the snapshot contains or
contradicts.

Keeper K2 and holes P05, P07, P15, P16, P36, P41 of docs/internals/raft.md; Raft thesis §5.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import msgspec

from paas.base.errors import PlatformError
from paas.base.ports import Files
from paas.raft.configuration import Configuration
from paas.raft.journal import Entry, Journal
from paas.raft.limits import SNAPSHOT_BYTES_MAX, SNAPSHOT_CHUNK_BYTES

logger = logging.getLogger(__name__)

_MAGIC = b"paassnap\x01"
_HEAD_BYTES = len(_MAGIC) + hashlib.sha256().digest_size


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """The state after `last`, and which configuration was in force there."""

    last: Entry
    previous: Entry
    voters: list[str]
    state: bytes
    observers: list[str] = []
    configuration_index: int = 0
    """The entry that made it so; 0 in files written before there were such entries."""

    @property
    def index(self) -> int:
        return self.last[1]

    @property
    def term(self) -> int:
        return self.last[2]

    @property
    def configuration(self) -> Configuration:
        index = self.configuration_index
        return Configuration(tuple(self.voters), tuple(self.observers), index)


class Chunk(NamedTuple):
    """A piece of a snapshot's file.  The library reads `is_last` by its position."""

    data: bytes
    is_first: bool
    is_last: bool
    last_index: int
    last_term: int
    digest: bytes
    total: int
    offset: int


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Snapshot)


def encode(snapshot: Snapshot) -> bytes:
    body = _encoder.encode(snapshot)
    return _MAGIC + hashlib.sha256(body).digest() + body


def decode(data: bytes) -> Snapshot:
    """Raises `corrupt`."""
    body = data[_HEAD_BYTES:]
    if not data.startswith(_MAGIC) or data[len(_MAGIC) : _HEAD_BYTES] != _digest(body):
        raise PlatformError("corrupt", "the snapshot does not match its digest")
    try:
        return _decoder.decode(body)
    except msgspec.MsgspecError as exc:
        raise PlatformError("corrupt", "the snapshot cannot be read") from exc


def _digest(body: bytes) -> bytes:
    return hashlib.sha256(body).digest()


class SnapshotFile:
    """The one snapshot of a replica, by atomic replacement."""

    def __init__(self, files: Files, name: str = "snapshot") -> None:
        self._files = files
        self._name = name
        self._temporary = name + ".new"

    def clean(self) -> None:
        """Remove what an interrupted write left; before anything is written."""
        if self._files.exists(self._temporary):
            self._files.remove(self._temporary)

    def read(self) -> bytes | None:
        """The file as it is; None if there is none."""
        if not self._files.exists(self._name):
            return None
        file = self._files.open(self._name)
        try:
            return file.read(0, file.size())
        finally:
            file.close()

    def write(self, data: bytes) -> None:
        """Replace it.  OSError: the old one is still there, whole."""
        file = self._files.open(self._temporary, create=True)
        try:
            file.truncate(0)
            file.write(0, data)
            file.sync()
        except OSError:
            file.close()
            self._files.remove(self._temporary)
            raise
        file.close()
        self._files.rename(self._temporary, self._name)
        self._files.sync_dir()


@dataclass(slots=True)
class _Sending:
    data: bytes
    snapshot: Snapshot
    offset: int = 0


class Sender:
    """Chunks for the peers that need a snapshot; each peer has its own position."""

    def __init__(self, chunk_bytes: int = SNAPSHOT_CHUNK_BYTES) -> None:
        self._chunk_bytes = chunk_bytes
        self._sending: dict[str, _Sending] = {}

    def next(self, peer: str, read: Callable[[], bytes | None]) -> Chunk | None:
        """The next chunk for a peer; a new transfer sends what `read` gives."""
        sending = self._sending.get(peer)
        if sending is None:
            data = read()
            if data is None:
                return None
            sending = self._sending[peer] = _Sending(data, decode(data))
        start = sending.offset
        piece = sending.data[start : start + self._chunk_bytes]
        sending.offset += len(piece)
        is_last = sending.offset >= len(sending.data)
        if is_last:
            del self._sending[peer]
        return Chunk(
            piece,
            start == 0,
            is_last,
            sending.snapshot.index,
            sending.snapshot.term,
            sending.data[len(_MAGIC) : _HEAD_BYTES],
            len(sending.data),
            start,
        )

    def cancel(self, peer: str) -> None:
        self._sending.pop(peer, None)

    def cancel_all(self) -> None:
        self._sending.clear()


class Receiver:
    """Puts the chunks of one snapshot together; anything unexpected begins anew."""

    def __init__(self) -> None:
        self._name: tuple[int, int, bytes, int] | None = None
        self._data = bytearray()

    def add(self, chunk: Chunk) -> bytes | None:
        """The whole verified file when this was its last missing chunk."""
        name = (chunk.last_index, chunk.last_term, chunk.digest, chunk.total)
        if chunk.offset == 0 and chunk.total <= SNAPSHOT_BYTES_MAX:
            self._name, self._data = name, bytearray()
        if name != self._name or chunk.offset != len(self._data):
            return None
        self._data += chunk.data
        if len(self._data) > chunk.total:
            self._name = None
        if self._name is None or len(self._data) < chunk.total:
            return None
        data = bytes(self._data)
        self._name, self._data = None, bytearray()
        try:
            snapshot = decode(data)
        except PlatformError:
            logger.warning("a snapshot from a peer is damaged: dropped")
            return None
        if (snapshot.index, snapshot.term) != (chunk.last_index, chunk.last_term):
            return None
        return data


def align(journal: Journal, snapshot: Snapshot | None) -> None:
    """Make the journal begin with the snapshot's two entries, or refuse to start.

    Raises `corrupt` when entries between the two are missing.
    """
    entries = journal.entries
    if snapshot is None:
        if entries and entries[0][1] != 1:
            raise PlatformError("corrupt", "the snapshot before the journal is missing")
        return
    if not entries and journal.term == 0:
        raise PlatformError("corrupt", "there is a snapshot, but its journal is missing")
    first = entries[0][1] if entries else snapshot.previous[1]
    if first > snapshot.previous[1]:
        raise PlatformError("corrupt", "the snapshot is older than the journal's beginning")
    place = snapshot.previous[1] - first
    if entries[place : place + 2] == [snapshot.previous, snapshot.last]:
        journal.drop(place)
    else:
        # The snapshot came from the leader and the crash before the journal followed: what the
        # journal has beyond it contradicts committed entries, or there is nothing beyond it.
        journal.clear()
        for payload, index, term in (snapshot.previous, snapshot.last):
            journal.append(payload, index, term)
    journal.commit_index = max(journal.commit_index, snapshot.index)
