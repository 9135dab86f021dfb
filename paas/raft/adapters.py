"""What the library gets in place of its journal and its serializer: thin faces of ours.

The method names are the library's.  Neither face decides anything about Raft; what the library
would swallow or do in a forked child is done here in the open, and kept for the replica to raise.

Holes P05, P15, P16, P17, P36, P41 and keepers K1, K2 of docs/internals/raft.md.
"""

from __future__ import annotations

import enum
import errno
import logging
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from paas.base.errors import LocalError
from paas.raft import snapshot
from paas.raft.configuration import Configuration, History
from paas.raft.journal import Entry, Journal, JournalFailed
from paas.raft.limits import FULL_COMPACTION_ENTRIES
from paas.raft.machine import Machine
from paas.raft.messages import MEMBERSHIP
from paas.raft.settings import RaftSettings

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
    journal: Journal
    fatal: BaseException | None
    snapshot_index: int

    @property
    def applied_index(self) -> int: ...

    @property
    def first_index(self) -> int: ...

    def configuration_at(self, index: int) -> Configuration: ...

    def replaced(self, made: snapshot.Snapshot) -> None: ...


class Nodes(dict[Any, None]):
    """A set of the library's nodes that is walked in the order of insertion.

    The library keeps its nodes in sets, whose order hangs on the hashing of the process; a seed of
    the simulation would not give the same run twice.
    """

    def __init__(self, nodes: Iterable[Any] = ()) -> None:
        super().__init__(dict.fromkeys(nodes))

    def add(self, node: Any) -> None:
        self[node] = None

    def discard(self, node: Any) -> None:
        self.pop(node, None)

    def copy(self) -> Nodes:
        return Nodes(self)

    def intersection(self, others: Any) -> Nodes:
        return Nodes(node for node in self if node in others)

    def __or__(self, others: Iterable[Any]) -> Nodes:  # type: ignore[override]
        return Nodes((*self, *others))

    __ror__ = __or__  # type: ignore[assignment]

    def __sub__(self, others: Any) -> Nodes:
        return Nodes(node for node in self if node not in others)


class LibraryLog:
    """The journal as the library knows one: by position, payload first.

    Keeps `history` in step with the entries; `on_configuration` hears when another configuration
    came into force.
    """

    def __init__(self, journal: Journal, history: History) -> None:
        self._journal = journal
        self.history = history
        self.on_membership: Callable[[int], None] | None = None
        self.on_configuration: Callable[[], None] = lambda: None

    def add(self, command: bytes, idx: int, term: int) -> None:
        self._journal.append(bytes(command), idx, term)
        if command[0] == MEMBERSHIP and self.on_membership is not None:
            self.on_membership(idx)
        if self.history.appended(command, idx):
            self.on_configuration()

    def clear(self) -> None:
        self._journal.clear()
        if self.history.truncated(0):
            self.on_configuration()

    def deleteEntriesFrom(self, position: int) -> None:  # noqa: N802 -- the library's name
        if position < len(self._journal.entries):
            index = self._journal.entries[position][1]
            self._journal.truncate(position)
            if self.history.truncated(index):
                self.on_configuration()

    def deleteEntriesTo(self, position: int) -> None:  # noqa: N802
        self._journal.drop(position)
        self.history.forgotten(self._journal.entries[0][1])

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

    def due(self, settings: RaftSettings) -> bool:
        """Has the journal grown so long that a snapshot should shorten it?"""
        host, journal = self._host, self._host.journal
        entries = len(journal.entries)
        long = (
            entries > settings.compaction_entries or journal.bytes_used > settings.compaction_bytes
        )
        if not (long or journal.full) or self.state != State.NOT_SERIALIZING:
            return False
        covered = host.applied_index - max(host.snapshot_index, host.first_index)
        if journal.full and covered > FULL_COMPACTION_ENTRIES:
            return True  # a shorter journal may be all the room that is needed
        return long and covered > entries // 2

    def checkSerializing(self) -> tuple[int, int | None]:  # noqa: N802
        state = self.state
        if state in (State.SUCCESS, State.FAILED):
            self.state = State.NOT_SERIALIZING
            self.sender.cancel_all()
        return state, self._id

    def serialize(self, data: tuple[Any, Entry, Entry, set[Any]], entry_id: int) -> None:
        _, last, previous, _ = data
        if self.state != State.NOT_SERIALIZING or self.job is not None:
            return
        members = self._host.configuration_at(last[1])
        made = snapshot.Snapshot(
            last=last,
            previous=previous,
            voters=list(members.voters),
            observers=list(members.observers),
            configuration_index=members.index,
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
        self._host.replaced(made)
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
