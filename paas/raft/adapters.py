"""What the library gets in place of its journal and its serializer: thin faces of ours.

The method names are the library's.  Neither face decides anything about Raft; what the library
would swallow or do in a forked child is done here in the open, and kept for the replica to raise.

Holes P05, P15, P16, P17, P36, P41 and keepers K1, K2 of docs/internals/raft.md.
"""

from __future__ import annotations

import enum
import errno
import logging
from collections.abc import Callable
from typing import Any, Protocol

from paas.base.errors import LocalError
from paas.raft import snapshot
from paas.raft.journal import Entry, Journal, JournalFailed
from paas.raft.machine import Machine
from paas.raft.messages import MEMBERSHIP

logger = logging.getLogger(__name__)


class State(enum.IntEnum):
    """How far a snapshot is; the library's numbers."""

    NOT_SERIALIZING = 0
    SERIALIZING = 1
    SUCCESS = 2
    FAILED = 3


class Host(Protocol):
    """What the faces need of the replica they belong to."""

    machine: Machine
    fatal: BaseException | None
    snapshot_index: int

    def replaced(self, index: int) -> None: ...


class LibraryLog:
    """The journal as the library knows one: by position, payload first."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self.on_membership: Callable[[int], None] | None = None

    def add(self, command: bytes, idx: int, term: int) -> None:
        self._journal.append(bytes(command), idx, term)
        if command[0] == MEMBERSHIP and self.on_membership is not None:
            self.on_membership(idx)

    def clear(self) -> None:
        self._journal.clear()

    def deleteEntriesFrom(self, position: int) -> None:  # noqa: N802 -- the library's name
        self._journal.truncate(position)

    def deleteEntriesTo(self, position: int) -> None:  # noqa: N802
        self._journal.drop(position)

    def __getitem__(self, item: Any) -> Any:
        return self._journal.entries[item]

    def __len__(self) -> int:
        return len(self._journal.entries)

    def setRaftCommitIndex(self, index: int) -> None:  # noqa: N802
        self._journal.commit_index = index

    def getRaftCommitIndex(self) -> int:  # noqa: N802
        return self._journal.commit_index

    def setCurrentTerm(self, term: int, voted_for: str | None) -> None:  # noqa: N802
        self._journal.set_term(term, voted_for)

    def getCurrentTerm(self) -> int:  # noqa: N802
        return self._journal.term

    def getVotedForNodeId(self) -> str | None:  # noqa: N802
        return self._journal.voted_for

    def onOneSecondTimer(self) -> None:  # noqa: N802
        return None

    def _destroy(self) -> None:
        return None


class LibrarySnapshots:
    """The library's serializer: no fork, no file of its own, nothing swallowed."""

    def __init__(
        self, host: Host, file: snapshot.SnapshotFile, chunk_bytes: int, node: Callable[[str], Any]
    ) -> None:
        self.file = file
        self.state: int = State.NOT_SERIALIZING
        self.receiver = snapshot.Receiver()
        self.sender = snapshot.Sender(chunk_bytes)
        self.job: Callable[[], None] | None = None
        self.failed = False
        """What became of the last job."""

        self._host = host
        self._node = node
        self._id = 0

    @property
    def busy(self) -> bool:
        return bool(self.state == State.SERIALIZING)

    def checkSerializing(self) -> tuple[int, int | None]:  # noqa: N802
        state = self.state
        if state in (State.SUCCESS, State.FAILED):
            self.state = State.NOT_SERIALIZING
            self.sender.cancel_all()
        return state, self._id

    def serialize(self, data: tuple[Any, Entry, Entry, set[Any]], entry_id: int) -> None:
        _, last, previous, cluster = data
        if self.state != State.NOT_SERIALIZING or self.job is not None:
            return
        made = snapshot.Snapshot(
            last=last,
            previous=previous,
            voters=sorted(node.id for node in cluster),
            state=self._host.machine.snapshot_bytes(),
        )
        self._id = entry_id
        self.state = State.SERIALIZING
        self.job = lambda: self._write(made)

    def _write(self, made: snapshot.Snapshot) -> None:
        """May run in a worker thread: touches the file, and `state` as its last act."""
        try:
            self.file.write(snapshot.encode(made))
        except OSError as exc:
            logger.warning("the snapshot at %d is not written: %s", made.index, exc)
            self.failed = True
            self.state = State.FAILED
            return
        self._host.snapshot_index = made.index
        self.failed = False
        self.state = State.SUCCESS

    def deserialize(self) -> tuple[None, Entry, Entry, list[Any]]:
        """Load the file.  The library swallows what is raised here, so it is kept as well."""
        try:
            data = self.file.read()
            if data is None:
                raise LocalError("there is no snapshot to load")
            made = snapshot.decode(data)
            self._host.machine.restore_bytes(made.state)
        except BaseException as exc:
            self._host.fatal = exc
            raise
        self._host.replaced(made.index)
        return None, made.last, made.previous, [self._node(name) for name in made.voters]

    def getTransmissionData(self, node: Any) -> snapshot.Chunk | None:  # noqa: N802
        """The last complete snapshot, also while the next one is being written."""
        return self.sender.next(node.id, self.file.read)

    def setTransmissionData(self, chunk: snapshot.Chunk | None) -> bool:  # noqa: N802
        """True when a verified snapshot has replaced ours."""
        if chunk is None or self.job is not None:
            return False
        if self.state == State.SERIALIZING:
            return False  # our own is being written to the same place; the leader tries again
        data = self.receiver.add(chunk)
        if data is None:
            return False
        try:
            self.file.write(data)
        except OSError as exc:
            if exc.errno in (errno.ENOSPC, errno.EDQUOT):
                logger.warning("no room for the leader's snapshot: %s", exc)
                return False
            self._host.fatal = JournalFailed(f"snapshot: {exc}")
            return False
        return True

    def cancelTransmisstion(self, node: Any) -> None:  # noqa: N802
        self.sender.cancel(node.id)
