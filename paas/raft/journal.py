"""The journal: log entries, term and vote, durable when `sync` returns, whatever crashes.

Changes are made in memory and collected; `sync` writes them as one **batch** with one write and one
fdatasync.  A batch is valid as a whole or not at all, by its checksum.

    file  = header | mark | batch | batch | ... | zeros (space filled ahead)
    batch = magic, length, crc32, sequence, commit index | record, record, ...
    record = kind, index, term, length, payload        kinds: ENTRY TRUNCATE VOTE CLEAR

Rules
  - Append only.  Cutting the tail is a record, too; nothing that was synced is ever overwritten.
  - A batch is written after the one before it is durable.  So at recovery an invalid batch with
    nothing valid behind it is a torn tail, which was never promised and is dropped; an invalid
    one with a valid one behind it is damage, and the journal is refused (`corrupt`).  The checksum
    covers the place in the file and a salt of the file, so that no content of an entry can pass for
    a batch.
  - What is missing at the end leaves no trace there.  So each write also puts the number of the
    batch before it, which is durable, into the mark, far from the batches: fewer batches than that
    are damage, too.  `close` writes the number of the last one, so a journal at rest is covered
    whole; of a process that was killed, its last batch is not.  The mark has a sector for itself,
    since disks write sectors whole; an unreadable one is renewed, as the batches are all there.
  - Term and vote are in the same file: when unreadable, the start is refused and never guessed.
  - Recovery syncs before anything is used, the file and the directory: what a killed process had
    written, or renamed, may be in memory only.
  - Dropping a prefix (after a snapshot) takes effect in memory at once and on disk when the next
    `sync` writes the rest to a new file, syncs, renames, syncs the directory.  If there is no room
    for that, the old file simply stays longer.
  - Full disk: space is filled ahead with zeros, and a proposal is accepted only if it fits into
    that (`reserve`).  So ENOSPC is met where nothing was promised yet.  Any other failure of a
    write or a sync leaves the disk's content unknown: `JournalFailed`, and the process must end
    before it sends or answers anything (after a failed fsync the kernel may have dropped the
    data).

The commit index rides in the batches without a sync of its own: it only saves time at the start.

Keepers K1, K3 and holes P06, P08-P11 of docs/internals/raft.md.  `sync` and `reserve` may run in a
worker thread, while nothing else touches the journal.
"""

from __future__ import annotations

import enum
import errno
import logging
import struct
import zlib

from paas.base.errors import LocalError, PlatformError
from paas.base.ports import File, Files
from paas.raft.limits import (
    BATCH_BYTES_MAX,
    FREE_BYTES_MIN,
    PREALLOCATED_BYTES,
    RESERVED_BYTES,
)

logger = logging.getLogger(__name__)

Entry = tuple[bytes, int, int]
"""Payload, index, term: the order in which the library keeps them."""

SALT_BYTES = 16

_MAGIC_FILE = b"paasraft"
_FORMAT = 2
_FORMAT_UNMARKED = 1
"""Batches followed the header at once; such a journal gets a mark when it is written anew."""
_FILE = struct.Struct("<8sI16sI")  # magic, format, salt, crc of these
_MARK = struct.Struct("<4sQI")  # magic, sequence of a batch that is durable, crc with the salt
_MAGIC_MARK = b"\xb5END"
_MARK_AT = 512
_BATCHES_AT = 1_024
_MAGIC_BATCH = b"\xb5ATC"
_BATCH = struct.Struct("<4sIIQQ")  # magic, length, crc, sequence, commit index
_SUMMED = struct.Struct("<QIQQ")  # place, length, sequence, commit index
_RECORD = struct.Struct("<BQQI")  # kind, index, term, length of payload
_ZEROS = bytes(1 << 16)
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
_REWRITE_BATCH_BYTES = 1 << 20
RECORD_OVERHEAD_BYTES = _RECORD.size + _BATCH.size


def covered_bytes(image: bytes) -> int:
    """How much of a journal's file is covered: damage there is noticed; the rest is its last batch.

    `image`: the whole file of a journal that is not damaged.
    """
    _, durable, _ = _MARK.unpack_from(image, _MARK_AT)
    place = _BATCHES_AT
    while image[place : place + 4] == _MAGIC_BATCH:
        _, length, _, sequence, _ = _BATCH.unpack_from(image, place)
        if sequence > durable:
            break
        place += _BATCH.size + length
    return place


def _without_zeros(image: bytes, start: int) -> int:
    """A place from which on there are only zeros: `start`, or one shortly behind the last byte that
    is none.  Whole pieces are compared, since stripping zeros goes one by one.
    """
    end = len(image)
    while end > start:
        before = max(start, end - len(_ZEROS))
        if not image.startswith(_ZEROS[: end - before], before):
            break
        end = before
    return end


class JournalFailed(Exception):
    """The disk failed while something was being made durable: stop before anything is sent."""


class _Kind(enum.IntEnum):
    ENTRY = 1
    TRUNCATE = 2
    VOTE = 3
    CLEAR = 4


class Journal:
    """See the module's text.  Made by `open`."""

    def __init__(self, files: Files, name: str, salt: bytes) -> None:
        if len(salt) != SALT_BYTES:
            raise LocalError(f"a salt has {SALT_BYTES} bytes")
        self.entries: list[Entry] = []
        self.term = 0
        self.voted_for: str | None = None
        self.commit_index = 1
        self.full = False
        self.syncs = 0
        self._files = files
        self._name = name
        self._salt = salt
        self._file: File | None = None
        self._sequence = 0
        self._marked = True
        self._end = 0
        self._allocated = 0
        self._pending: list[bytes] = []
        self._pending_bytes = 0
        self._rewrite = False
        self._postponed = False  # a rewrite for which there was no room
        self._failed = False

    # -- opening ---------------------------------------------------------------------------------

    @classmethod
    def open(cls, files: Files, *, salt: bytes, name: str = "journal") -> Journal:
        """Recover the journal, or begin one (`salt`: random bytes for a new file).

        Raises `corrupt`; `storage-full` when there is no room to begin.
        """
        journal = cls(files, name, salt)
        try:
            if files.exists(journal._temporary):
                files.remove(journal._temporary)
            if not files.exists(name):
                journal._begin()
            journal._recover()
            journal.reserve(0)
        except OSError as exc:
            if exc.errno in _NO_ROOM:
                journal._remove_temporary()
                raise PlatformError("storage-full", f"no room to begin the journal {name}") from exc
            raise
        return journal

    @property
    def _temporary(self) -> str:
        return self._name + ".new"

    def _begin(self) -> None:
        self._write_file()
        if self._file is not None:
            self._file.close()
        self._files.rename(self._temporary, self._name)
        self._files.sync_dir()
        self._sequence = 0

    def _recover(self) -> None:
        file = self._file = self._files.open(self._name)
        image = file.read(0, file.size())
        self._check_header(image)
        durable = self._check_mark(image)
        end, limit = (_BATCHES_AT if self._marked else _FILE.size), len(image)
        while True:
            batch = self._batch_at(image, end)
            if batch is None or batch[0] != self._sequence + 1:
                break
            self._sequence, self.commit_index, length = batch
            start = end + _BATCH.size
            self._replay(image[start : start + length], end)
            end = start + length
        if self._sequence < durable:
            raise self._corrupt(end)
        used = _without_zeros(image, end)
        self._check_tail(image, end, used)
        self._end, self._allocated = end, limit
        if used > end:
            remains = image[end:used].rstrip(b"\0")
            logger.warning("journal %s: dropped a torn tail at %d", self._name, end)
            file.write(end, bytes(len(remains)))
        file.sync()
        # Killed between a rename and its sync: promises that rest on the new file, be it the
        # journal, the snapshot or the mark of a return, would be gone with the power.
        self._files.sync_dir()
        last = self.entries[-1][1] if self.entries else 1
        self.commit_index = max(1, min(self.commit_index, last))

    def _check_header(self, image: bytes) -> None:
        if len(image) < _FILE.size:
            raise self._corrupt(0)
        magic, version, salt, crc = _FILE.unpack_from(image)
        if magic != _MAGIC_FILE or crc != zlib.crc32(image[: _FILE.size - 4]):
            raise self._corrupt(0)
        if version not in (_FORMAT, _FORMAT_UNMARKED):
            raise PlatformError("unsupported", f"journal format {version} is not known here")
        self._salt = salt
        self._marked = version == _FORMAT

    def _check_mark(self, image: bytes) -> int:
        """How many batches there are at least."""
        if not self._marked:
            return 0
        if len(image) < _BATCHES_AT:
            raise self._corrupt(len(image))
        mark = image[_MARK_AT : _MARK_AT + _MARK.size]
        unused = image[_FILE.size : _MARK_AT] + image[_MARK_AT + _MARK.size : _BATCHES_AT]
        if not any(mark) or any(unused):
            raise self._corrupt(_FILE.size)
        _, sequence, _ = _MARK.unpack(mark)
        if mark == self._mark(sequence):
            return int(sequence)
        logger.warning("journal %s: its mark is damaged, and renewed", self._name)
        return 0

    def _mark(self, sequence: int) -> bytes:
        head = _MARK.pack(_MAGIC_MARK, sequence, 0)[:-4]
        return head + struct.pack("<I", zlib.crc32(head, zlib.crc32(self._salt)))

    def _write_mark(self, file: File, durable: int) -> None:
        """From the next sync on it will be seen when one of so many batches is missing."""
        if self._marked:
            file.write(_MARK_AT, self._mark(durable))

    def _batch_at(self, image: bytes, place: int) -> tuple[int, int, int] | None:
        """Sequence, commit index, length of the valid batch at this place, if there is one."""
        if place + _BATCH.size > len(image) or image[place : place + 4] != _MAGIC_BATCH:
            return None
        _, length, crc, sequence, commit = _BATCH.unpack_from(image, place)
        start = place + _BATCH.size
        if length > BATCH_BYTES_MAX or start + length > len(image):
            return None
        if crc != self._crc(place, sequence, commit, image[start : start + length]):
            return None
        return sequence, commit, length

    def _check_tail(self, image: bytes, end: int, used: int) -> None:
        place = image.find(_MAGIC_BATCH, end, used)
        while place >= 0:
            batch = self._batch_at(image, place)
            if batch is not None and batch[0] > self._sequence:
                raise self._corrupt(end)
            place = image.find(_MAGIC_BATCH, place + 1, used)

    def _corrupt(self, place: int) -> PlatformError:
        return PlatformError(
            "corrupt",
            f"the journal {self._name} is damaged at byte {place}",
            hint="replace this node, or restore its state directory from a backup",
        )

    def _crc(self, place: int, sequence: int, commit: int, payload: bytes) -> int:
        head = self._salt + _SUMMED.pack(place, len(payload), sequence, commit)
        return zlib.crc32(payload, zlib.crc32(head))

    def _replay(self, payload: bytes, place: int) -> None:
        offset = 0
        while offset < len(payload):
            kind, index, term, length = _RECORD.unpack_from(payload, offset)
            offset += _RECORD.size
            body = payload[offset : offset + length]
            offset += length
            if kind == _Kind.ENTRY:
                if self.entries and index != self.entries[-1][1] + 1:
                    raise self._corrupt(place)
                self.entries.append((body, index, term))
            elif kind == _Kind.TRUNCATE and self.entries:
                del self.entries[max(0, index - self.entries[0][1]) :]
            elif kind == _Kind.VOTE:
                self.term, self.voted_for = term, body.decode() if index else None
            elif kind == _Kind.CLEAR:
                self.entries.clear()
            elif kind != _Kind.TRUNCATE:
                raise PlatformError("unsupported", f"journal record {kind} is not known here")

    # -- changing --------------------------------------------------------------------------------

    def append(self, payload: bytes, index: int, term: int) -> None:
        if self.entries and index != self.entries[-1][1] + 1:
            raise LocalError(f"entry {index} does not follow {self.entries[-1][1]}")
        self.entries.append((payload, index, term))
        self._record(_Kind.ENTRY, index, term, payload)

    def truncate(self, position: int) -> None:
        """Drop the entries from this position of `entries` on."""
        if position < len(self.entries):
            self._record(_Kind.TRUNCATE, self.entries[position][1], 0)
            del self.entries[position:]
            self.commit_index = min(self.commit_index, self.last_index)

    def drop(self, position: int) -> None:
        """Forget the entries before this position: a snapshot has them."""
        if position > 0:
            self.entries = self.entries[position:]
            self._rewrite = True

    def clear(self) -> None:
        self.entries = []
        self._record(_Kind.CLEAR, 0, 0)
        self._rewrite = True

    def set_term(self, term: int, voted_for: str | None) -> None:
        self.term, self.voted_for = term, voted_for
        self._record_vote()

    def _record_vote(self) -> None:
        name = (self.voted_for or "").encode()
        self._record(_Kind.VOTE, int(self.voted_for is not None), self.term, name)

    def _record(self, kind: _Kind, index: int, term: int, payload: bytes = b"") -> None:
        head = _RECORD.pack(kind, index, term, len(payload))
        self._pending += (head, payload)
        self._pending_bytes += len(head) + len(payload)

    @property
    def dirty(self) -> bool:
        """Is there anything to do for `sync`?"""
        return bool(self._pending) or self._rewrite

    @property
    def last_index(self) -> int:
        return self.entries[-1][1] if self.entries else 0

    @property
    def bytes_used(self) -> int:
        return self._end + self._pending_bytes

    # -- making durable --------------------------------------------------------------------------

    def sync(self) -> None:
        """Make every change durable, with one write and one fdatasync.  Raises JournalFailed."""
        if self._failed or self._file is None:
            raise JournalFailed(f"journal {self._name} is closed after a failure")
        if self._rewrite and self._compact():
            return
        if not self._pending:
            return
        try:
            durable = self._sequence
            self._write_batch(self._file, b"".join(self._pending))
            self._write_mark(self._file, durable)
            self._file.sync()
        except OSError as exc:
            self._failed = True
            raise JournalFailed(f"journal {self._name}: {exc}") from exc
        self.syncs += 1
        self._forget_pending()

    def _forget_pending(self) -> None:
        self._pending.clear()
        self._pending_bytes = 0

    def _write_batch(self, file: File, payload: bytes) -> None:
        if len(payload) > BATCH_BYTES_MAX:
            raise LocalError("a batch is too long")
        sequence, place, commit = self._sequence + 1, self._end, self.commit_index
        crc = self._crc(place, sequence, commit, payload)
        head = _BATCH.pack(_MAGIC_BATCH, len(payload), crc, sequence, commit)
        file.write(place, head + payload)
        self._sequence = sequence
        self._end = place + len(head) + len(payload)
        self._allocated = max(self._allocated, self._end)

    def reserve(self, count: int) -> bool:
        """Is there room for `count` more bytes?  Fills space ahead if needed; False: disk full.

        Raises JournalFailed when the disk fails otherwise.
        """
        if self._failed or self._file is None:
            raise JournalFailed(f"journal {self._name} is closed after a failure")
        self.full = False
        if self.fits(count):
            return True
        if self._postponed and self._compact() and self.fits(count):
            return True
        wanted = self.bytes_used + count + RESERVED_BYTES
        grown = -(-(wanted - self._allocated) // PREALLOCATED_BYTES) * PREALLOCATED_BYTES
        try:
            if self._files.free_bytes() < grown + FREE_BYTES_MIN:
                self.full = True
                return False
            self._file.write(self._allocated, bytes(grown))
            self._file.sync()
        except OSError as exc:
            if exc.errno in _NO_ROOM:
                self.full = True
                return False
            self._failed = True
            raise JournalFailed(f"journal {self._name}: {exc}") from exc
        self._allocated += grown
        return True

    def fits(self, count: int) -> bool:
        """Is the space for so many more bytes filled ahead already?"""
        return self.bytes_used + count + RESERVED_BYTES <= self._allocated

    # -- compaction ------------------------------------------------------------------------------

    def _compact(self) -> bool:
        """Write what is left to a new file; False when there is no room and the old one goes on."""
        before = (self._file, self._sequence, self._end, self._allocated, self._marked)
        try:
            if self._files.free_bytes() < self._rest_bytes() + PREALLOCATED_BYTES:
                raise OSError(errno.ENOSPC, "no room for a new journal")
            self._write_file()
        except OSError as exc:
            logger.warning("journal %s is not compacted: %s", self._name, exc)
            if self._file is not None and self._file is not before[0]:
                self._file.close()
            self._file, self._sequence, self._end, self._allocated, self._marked = before
            self._rewrite, self._postponed = False, True
            self._remove_temporary()
            return False
        try:
            self._files.rename(self._temporary, self._name)
            self._files.sync_dir()
        except OSError as exc:
            self._failed = True  # which of the two files a restart will find is not known
            raise JournalFailed(f"journal {self._name}: {exc}") from exc
        if before[0] is not None:
            before[0].close()
        self._rewrite = self._postponed = False
        self.syncs += 1
        self._forget_pending()
        return True

    def _rest_bytes(self) -> int:
        return sum(len(payload) + _RECORD.size for payload, _, _ in self.entries)

    def _remove_temporary(self) -> None:
        try:
            if self._files.exists(self._temporary):
                self._files.remove(self._temporary)
        except OSError as exc:
            logger.warning("cannot remove %s: %s", self._temporary, exc)

    def _write_file(self) -> None:
        """A complete, durable journal under the temporary name; it becomes the open file."""
        head = _FILE.pack(_MAGIC_FILE, _FORMAT, self._salt, 0)[:-4]
        file = self._files.open(self._temporary, create=True)
        file.truncate(0)
        head += struct.pack("<I", zlib.crc32(head))
        file.write(0, head + bytes(_BATCHES_AT - len(head)))
        self._file, self._sequence, self._marked = file, 0, True
        self._end = self._allocated = _BATCHES_AT
        kept = self._pending, self._pending_bytes
        self._pending, self._pending_bytes = [], 0
        try:
            self._record_vote()
            for payload, index, term in self.entries:
                self._record(_Kind.ENTRY, index, term, payload)
                if self._pending_bytes > _REWRITE_BATCH_BYTES:
                    self._write_batch(file, b"".join(self._pending))
                    self._forget_pending()
            self._write_batch(file, b"".join(self._pending))
            file.write(self._end, bytes(PREALLOCATED_BYTES))
            self._allocated = self._end + PREALLOCATED_BYTES
            self._write_mark(file, self._sequence)  # it takes its place when all of it is durable
            file.sync()
        finally:
            self._pending, self._pending_bytes = kept

    # -- closing ---------------------------------------------------------------------------------

    def close(self) -> None:
        """Sync, seal and close; after a failure only close."""
        if self._file is None:
            return
        try:
            if not self._failed:
                self.sync()
                self._write_batch(self._file, b"")
                self._file.sync()
                self._write_mark(self._file, self._sequence)
                self._file.sync()
        except OSError as exc:
            logger.warning("journal %s is not sealed: %s", self._name, exc)
        finally:
            self._file.close()
            self._file = None
