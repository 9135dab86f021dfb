"""A replica: pysyncobj, driven step by step, between our journal, our rules and our machine.

The one import of pysyncobj.  The library decides; everything it would do to the outside world is
taken away from it and given back as data:

    receive ─> rules ─┐                        ┌─ rules ─> outbox
                      ├─> library ── journal ──┤
    submit  ──────────┘       │                └─> applied (machine's outcomes, in order)
                              └─ snapshots (written by whoever runs `snapshot_job`)

Its module's clock, randomness, codec, journal, serializer and poller are replaced by seams that
look at the replica whose call is running; several replicas may live in one process, one call at
a time. Nothing here waits, and nothing but the codec below ever becomes bytes: no pickle in the
log, on the wire, in a snapshot or in a membership change.

The order of a step is the caller's (log.py, and the simulation): receive and submit, `append`, make
the journal durable, `tick`, make it durable again if the tick changed it, then let the outbox go
(K1).

Whatever raises out of this class (SafetyViolation, JournalFailed, a bug in the library) must end
the process: the state in memory is then not to be trusted (K6).  Hooks and holes by name:
docs/internals/raft.md.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec
import pysyncobj.syncobj as so
from pysyncobj.node import Node

from paas.base.errors import LocalError
from paas.base.ports import Clock, Entropy, Files
from paas.raft import library, messages, snapshot
from paas.raft.adapters import LibraryLog, LibrarySnapshots, State
from paas.raft.journal import RECORD_OVERHEAD_BYTES, Journal
from paas.raft.limits import FULL_COMPACTION_ENTRIES, IN_FLIGHT_MAX
from paas.raft.machine import Applied, Machine, StateReplaced
from paas.raft.messages import MEMBERSHIP, NO_OP, REGULAR, Message
from paas.raft.rules import Rules
from paas.raft.settings import RaftSettings

logger = logging.getLogger(__name__)

Identity = tuple[str, int]

_LEADER, _FOLLOWER = so._RAFT_STATE.LEADER, so._RAFT_STATE.FOLLOWER
_DEFINITE = {
    so.FAIL_REASON.QUEUE_FULL,
    so.FAIL_REASON.MISSING_LEADER,
    so.FAIL_REASON.DISCARDED,
    so.FAIL_REASON.NOT_LEADER,
    so.FAIL_REASON.REQUEST_DENIED,
}
"""Failures that mean: this submission is not in the log and never will be."""


# -- seams: what the library finds in its module in place of the world -----------------------------

_active: Replica | None = None


def _current() -> Replica:
    if _active is None:
        raise LocalError("the library runs outside of a replica's call")
    return _active


class _Codec:
    """Plain data where the library would pickle: a membership change names its node."""

    @staticmethod
    def dumps(value: Any, protocol: int | None = None) -> bytes:
        return msgspec.msgpack.encode(value, enc_hook=_node_name)

    @staticmethod
    def loads(data: bytes) -> Any:
        return msgspec.msgpack.decode(data)


def _node_name(value: Any) -> str:
    if isinstance(value, Node):
        return str(value.id)
    raise LocalError(f"the library would encode a {type(value).__name__}")


class _Random:
    @staticmethod
    def random() -> float:
        return _current().entropy.fraction()


class _NoPoller:
    def poll(self, timeout: float) -> None:
        return None


def _install_seams() -> None:
    library.verify()
    so.pickle = _Codec
    so.random = _Random
    so.monotonicTime = lambda: _current().clock.monotonic_s()
    so.createPoller = lambda kind: _NoPoller()
    so.createJournal = lambda journal: journal
    so.Serializer = lambda name, size, fork, save, load, snapshots: snapshots


class _Network(so.Transport):  # type: ignore[misc]
    """The library's transport: what it sends goes to the replica's outbox, past the rules."""

    def __init__(self, replica: Replica) -> None:
        super().__init__(None, None, ())
        self._replica = replica

    def send(self, node: Node, message: dict[str, Any]) -> bool:
        self._replica.post(node.id, messages.from_library(message))
        return True

    def receive(self, node: Node, message: dict[str, Any]) -> None:
        self._onMessageReceived(node, message)

    def link(self, node: Node, *, up: bool) -> None:
        (self._onNodeConnected if up else self._onNodeDisconnected)(node)


class _Engine(so.SyncObj):  # type: ignore[misc]
    """The library, with three of its private methods replaced."""

    def __init__(self, replica: Replica, voters: Sequence[str], settings: RaftSettings) -> None:
        self._replica = replica
        conf = so.SyncObjConf(
            autoTick=False,
            useFork=False,
            commandsQueueSize=2 * IN_FLIGHT_MAX,
            raftMinTimeout=settings.election_min_s,
            raftMaxTimeout=settings.election_max_s,
            appendEntriesPeriod=settings.heartbeat_s,
            appendEntriesBatchSizeBytes=settings.append_bytes,
            leaderFallbackTimeout=settings.leader_fallback_s,
            connectionTimeout=max(3.5, settings.election_max_s),
            logCompactionMinEntries=1 << 62,
            logCompactionMinTime=1 << 62,
            commandsWaitLeader=True,
            dynamicMembershipChange=replica.membership_changes,
            journalFile=replica.log,
            serializeChecker=replica.snapshots,
        )
        others = [Node(name) for name in voters if name != replica.node]
        super().__init__(
            Node(replica.node), others, conf, nodeClass=Node, transport=replica.network
        )

    def _SyncObj__doApplyCommand(self, command: bytes) -> None:  # noqa: N802
        """Total, one kind of command, never the library's own dispatch (K6)."""
        if command[0] == REGULAR:
            self._replica.apply(command[1:])
        elif command[0] == MEMBERSHIP:
            so.SyncObj._SyncObj__doApplyCommand(self, command)
        elif command[0] != NO_OP:
            logger.error("an entry of unknown kind %d is passed over", command[0])

    def _SyncObj__connectedToAnyone(self) -> bool:  # noqa: N802
        """Stand for election only when a majority could answer (first part of K5)."""
        return bool(self.hasQuorum)


class Replica:
    """See the module's text."""

    def __init__(
        self,
        *,
        files: Files,
        clock: Clock,
        entropy: Entropy,
        machine: Machine,
        node: str,
        voters: Sequence[str] = (),
        settings: RaftSettings | None = None,
        membership_changes: bool = False,
    ) -> None:
        self.clock, self.entropy, self.machine = clock, entropy, machine
        self.node = node
        self.settings = settings or RaftSettings()
        self.membership_changes = membership_changes
        self.outbox: list[tuple[str, bytes]] = []
        self.applied: list[tuple[int, Applied]] = []
        self.failures: list[tuple[Identity, bool]] = []
        """Submissions that failed, and whether it is certain that they are not in the log."""

        self.fatal: BaseException | None = None
        self.snapshot_index = 0
        self.journal = Journal.open(files, salt=entropy.bytes(16))
        self.log = LibraryLog(self.journal)
        file = snapshot.SnapshotFile(files)
        self.snapshots = LibrarySnapshots(self, file, self.settings.snapshot_chunk_bytes, Node)
        self.network = _Network(self)
        self.rules = Rules(self)
        self._peers = {name: Node(name) for name in voters if name != node}
        self._epochs: dict[str, int] = {}
        self._recover(file, voters)

    def _recover(self, file: snapshot.SnapshotFile, voters: Sequence[str]) -> None:
        file.clean()
        data = file.read()
        snapshot.align(self.journal, None if data is None else snapshot.decode(data))
        with self._entered():
            self._engine = _Engine(self, voters, self.settings)
            self._set("needLoadDumpFile", False)
            if data is not None:
                self._engine._SyncObj__loadDumpFile(False)
            if not self._peers:
                self._set("raftElectionDeadline", -math.inf)  # nobody to wait for
        self.log.on_membership = lambda index: self._set("changeClusterIDx", index)
        self.journal.sync()
        self.applied.clear()

    @contextmanager
    def _entered(self) -> Iterator[None]:
        """The library runs inside; what it swallowed is raised at the end."""
        global _active
        outer, _active = _active, self
        try:
            yield
        finally:
            _active = outer
        if self.fatal is not None:
            raise self.fatal

    def _get(self, name: str) -> Any:
        return getattr(self._engine, f"_SyncObj__{name}")

    def _set(self, name: str, value: Any) -> None:
        """Assign a private attribute of the library; it must exist."""
        self._get(name)
        setattr(self._engine, f"_SyncObj__{name}", value)

    # -- the step --------------------------------------------------------------------------------

    def connected(self, peer: str, epoch: int) -> None:
        if peer in self._peers and epoch >= self._epochs.get(peer, 0):
            self._epochs[peer] = epoch
            with self._entered():
                self.network.link(self._peers[peer], up=True)

    def disconnected(self, peer: str, epoch: int) -> None:
        if peer in self._peers and epoch >= self._epochs.get(peer, 0):
            with self._entered():
                self.network.link(self._peers[peer], up=False)

    def decode(self, peer: str, epoch: int, data: bytes) -> Message | None:
        """A message of a peer's live connection; None for any other.  Raises RemoteError."""
        if peer not in self._peers or epoch != self._epochs.get(peer):
            return None
        return messages.decode(data)

    def receive(self, peer: str, message: Message) -> None:
        verdict = self.rules.incoming(peer, message)
        if verdict.message is not None:
            with self._entered():
                self.network.receive(self._peers[peer], messages.to_library(verdict.message))
        self.rules.finished()
        if self.applied_index > self.commit_index:  # a snapshot came: all in it is committed
            self._set("raftCommitIndex", self.applied_index)
            self.journal.commit_index = self.applied_index
        for reply in verdict.replies:
            self.outbox.append((peer, messages.encode(reply)))

    def deny(self, peer: str, message: messages.ApplyCommand) -> None:
        """Refuse a command that a peer handed on: there is no room for it here."""
        if message.request is not None:
            reason = so.FAIL_REASON.REQUEST_DENIED
            self.post(peer, messages.ApplyResponse(message.request, reason))

    def submit(self, data: bytes, identity: Identity) -> None:
        """Give a command to the library, which appends it here or hands it to the leader."""

        def done(_result: Any, reason: int) -> None:
            if reason != so.FAIL_REASON.SUCCESS:
                self.failures.append((identity, reason in _DEFINITE))

        with self._entered():
            self._engine._applyCommand(data, done, REGULAR)

    def append(self) -> None:
        """Take what was submitted into the journal, or hand it on."""
        before = self.journal.last_index
        with self._entered():
            self._engine._checkCommandsToApply()
        if self.journal.last_index != before:
            self._set("newAppendEntriesTime", 0)  # the next tick sends without waiting

    def tick(self) -> None:
        """Timers, elections, commits; applies what is committed, fills the outbox."""
        before = self.commit_index
        with self._entered():
            self._engine.doTick(0)
        if self._peers and self.is_leader and self.commit_index != before:
            self._set("newAppendEntriesTime", 0)  # tell the followers soon

    @property
    def busy(self) -> bool:
        """Would another step at once get something done?"""
        if self.journal.dirty or self.applied_index < self.commit_index:
            return True
        if self._peers:
            return bool(self.is_leader and self._get("newAppendEntriesTime") == 0)
        return self.commit_index < self.last_index or not self.is_leader

    def take_outbox(self) -> list[tuple[str, bytes]]:
        taken, self.outbox = self.outbox, []
        return taken

    def take_applied(self) -> list[tuple[int, Applied]]:
        taken, self.applied = self.applied, []
        return taken

    def take_failures(self) -> list[tuple[Identity, bool]]:
        taken, self.failures = self.failures, []
        return taken

    # -- called by the library's side ------------------------------------------------------------

    def post(self, peer: str, message: Message) -> None:
        self.outbox.append((peer, messages.encode(self.rules.outgoing(peer, message))))

    def apply(self, data: bytes) -> None:
        index = self._engine.raftLastApplied + 1
        self.applied.append((index, self.machine.apply(index, data)))

    def replaced(self, index: int) -> None:
        self.snapshot_index = index
        self.applied.append((index, Applied(None, events=(StateReplaced(index=index),))))

    # -- snapshots -------------------------------------------------------------------------------

    def request_snapshot(self) -> None:
        """The next tick takes a copy of the state; `take_snapshot_job` gives the writing of it."""
        self._engine.forceLogCompaction()

    def take_snapshot_job(self) -> Callable[[], None] | None:
        job, self.snapshots.job = self.snapshots.job, None
        return job

    @property
    def compaction_due(self) -> bool:
        if self.snapshots.state != State.NOT_SERIALIZING:
            return False
        covered = self.applied_index - max(self.snapshot_index, self.first_index)
        entries = len(self.journal.entries)
        if self.journal.full and covered > FULL_COMPACTION_ENTRIES:
            return True  # a shorter journal may be all the room that is needed
        return covered > entries // 2 and (
            self.journal.bytes_used > self.settings.compaction_bytes
            or entries > self.settings.compaction_entries
        )

    # -- what is known ---------------------------------------------------------------------------

    @staticmethod
    def needs_bytes(payload: bytes) -> int:
        """Space in the journal for one command."""
        return len(payload) + 1 + RECORD_OVERHEAD_BYTES

    @property
    def is_leader(self) -> bool:
        return bool(self._engine._isLeader())

    @property
    def leader(self) -> str | None:
        """The leader that this replica follows and can reach; itself if it leads."""
        node = self._engine._getLeader()
        if node is None or not (self.is_leader or self._engine.isNodeConnected(node)):
            return None
        return str(node.id)

    @property
    def has_peers(self) -> bool:
        return bool(self._peers)

    @property
    def role(self) -> str:
        if self.is_leader:
            return "leader"
        return "follower" if self._get("raftState") == _FOLLOWER else "candidate"

    @property
    def term(self) -> int:
        return int(self._engine.raftCurrentTerm)

    @property
    def commit_index(self) -> int:
        return int(self._engine.raftCommitIndex)

    @property
    def applied_index(self) -> int:
        return int(self._engine.raftLastApplied)

    @property
    def first_index(self) -> int:
        return self.journal.entries[0][1]

    @property
    def last_index(self) -> int:
        return self.journal.last_index

    def term_at(self, index: int) -> int | None:
        place = index - self.first_index
        entries = self.journal.entries
        return entries[place][2] if 0 <= place < len(entries) else None

    def is_member(self, peer: str) -> bool:
        return any(node.id == peer for node in self._get("otherNodes"))


_install_seams()
