"""A replica: pysyncobj, driven step by step, between our journal, our rules and our machine.

The library (engine.py) decides; everything it would do to the outside world is taken away from it
and given back as data:

    receive ─> rules ─┐                        ┌─ rules ─> outbox
                      ├─> library ── journal ──┤
    submit  ──────────┘       │                └─> applied (machine's outcomes, in order)
                              └─ snapshots (written by whoever runs `snapshot_job`)
    beside it: elections.py (who may stand), reads.py (read index), configuration.py (who votes)

Nothing here waits, and nothing but the codec of messages.py ever becomes bytes: no pickle in the
log, on the wire, in a snapshot or in a membership change.

The order of a step is the caller's (log.py, and the simulation): receive and submit, `append`, make
the journal durable, `tick`, make it durable again if the tick changed it, then let the outbox go
(K1).  `early` may go before: appends of a leader, which promise nothing.

Members are those of the configuration in force; the library is given them anew whenever another
one comes into force.  A peer may be connected that is no member: it is listened to where Raft says
so (appends, requests for votes), and never counted.

Whatever raises out of this class (SafetyViolation, JournalFailed, a bug in the library) must end
the process: the state in memory is then not to be trusted (K6).  Hooks and holes by name:
docs/internals/raft.md.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from msgspec.structs import replace

from paas.base.ports import Clock, Entropy, Files
from paas.raft import configuration, engine, messages, returning, snapshot
from paas.raft.adapters import LibraryLog, LibrarySnapshots, Nodes, State
from paas.raft.configuration import NOBODY, Configuration, History
from paas.raft.elections import Elections, Leadership
from paas.raft.engine import LEADER, Engine, Network, Peer
from paas.raft.journal import RECORD_OVERHEAD_BYTES, Journal
from paas.raft.machine import Applied, Machine, StateReplaced
from paas.raft.members import Follower, Members
from paas.raft.messages import (
    REGULAR,
    AppendEntries,
    AppendSnapshot,
    Message,
    NextIndex,
    PreVote,
    PreVoteAnswer,
    ReadAnswer,
    ReadRequest,
    RequestVote,
    TimeoutNow,
)
from paas.raft.reads import ReadOutcome, Reads
from paas.raft.returning import Returning
from paas.raft.rules import Rules
from paas.raft.settings import RaftSettings

logger = logging.getLogger(__name__)

Identity = tuple[str, int]
_REGULAR = bytes([REGULAR])
_APPENDS = (AppendEntries, AppendSnapshot)
_USUAL = (AppendEntries, NextIndex)
_AT_REST = State.NOT_SERIALIZING
_HAIR_S = 1e-4
"""The library's timers end strictly after their time."""


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
        join: bool = False,
        settings: RaftSettings | None = None,
        membership_changes: bool = False,
    ) -> None:
        """`voters` count only while neither the journal nor the snapshot says who votes.

        `join`: nobody then, until a leader says so.  `membership_changes`: the library's own,
        which nothing but the tests that show their harm may switch on.
        """
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
        self.leadership: Leadership | None = None
        self._inside = engine.Entered(self)
        self._peers: dict[str, Peer] = {}
        self._epochs: dict[str, int] = {}
        self._sequence = 0  # of the last append that was sent
        self._appends_wait = False  # there are appends in the outbox
        self._standing_for_leader = False  # the leader asked for the election of this tick
        self._snapshot_requested = False
        file = snapshot.SnapshotFile(files)
        self.returning = Returning(self, files, returning.recover(files, entropy, join=join))
        self.journal = Journal.open(files, salt=entropy.bytes(16))
        self.snapshots = LibrarySnapshots(self, file, self.settings.snapshot_chunk_bytes, self.peer)
        self.network = Network(self)
        self.rules = Rules(self)
        self.reads = Reads(self)
        self.elections = Elections(
            self,
            shortest_s=self.settings.election_min_s,
            longest_s=self.settings.election_max_s,
            retry_s=self.settings.heartbeat_s,
        )
        self._recover(file, voters, join or not self.returning.settled)

    def _recover(self, file: snapshot.SnapshotFile, voters: Sequence[str], join: bool) -> None:
        file.clean()
        data = file.read()
        made = None if data is None else snapshot.decode(data)
        snapshot.align(self.journal, made)
        history = History(self._bootstrap(voters, join) if made is None else made.configuration)
        history.read(self.journal.entries)
        self.members = Members(self, history)
        self._recovering = True
        self.log = LibraryLog(self.journal, history)
        with self._inside:
            self._engine = Engine(self, self.settings)
            self._set("needLoadDumpFile", False)
            self._set("connectedNodes", Nodes())
            self.members.reconfigure()
            if data is not None:
                self._engine._SyncObj__loadDumpFile(False)
        self._recovering = False
        self.returning.started()
        self.log.on_configuration = self.members.reconfigure
        self.log.on_membership = lambda index: self._set("changeClusterIDx", index)
        self.journal.sync()
        self.applied.clear()

    def _bootstrap(self, voters: Sequence[str], join: bool) -> Configuration:
        """Who votes as long as no entry says it."""
        if join:
            return NOBODY
        if not voters and self.journal.term > 0 and self.journal.voted_for != self.node:
            # Whoever was alone before has voted for itself last; this one followed others.
            logger.warning("%s follows a log that does not name its members yet", self.node)
            return NOBODY
        return configuration.make({*voters, self.node})

    def _entered(self) -> engine.Entered:
        return self._inside

    def _get(self, name: str) -> Any:
        return getattr(self._engine, f"_SyncObj__{name}")

    def _set(self, name: str, value: Any) -> None:
        """Assign a private attribute of the library; it must exist."""
        self._get(name)
        setattr(self._engine, f"_SyncObj__{name}", value)

    def peer(self, name: str) -> Peer:
        """The library's object for a node."""
        if name not in self._peers:
            self._peers[name] = Peer(name)
        return self._peers[name]

    # -- the step --------------------------------------------------------------------------------

    def connected(self, peer: str, epoch: int) -> None:
        if peer != self.node and epoch >= self._epochs.get(peer, 0):
            self._epochs[peer] = epoch
            self.reads.linked(peer)
            with self._inside:
                self.network.link(self.peer(peer), up=True)

    def disconnected(self, peer: str, epoch: int) -> None:
        if peer in self._epochs and epoch >= self._epochs[peer]:
            with self._inside:
                self.network.link(self.peer(peer), up=False)

    def decode(self, peer: str, epoch: int, data: bytes) -> Message | None:
        """A message of a peer's live connection; None for any other.  Raises RemoteError."""
        return messages.decode(data) if self.is_live(peer, epoch) else None

    def is_live(self, peer: str, epoch: int) -> bool:
        """Is this the peer's present connection?"""
        return epoch == self._epochs.get(peer)

    def receive(self, peer: str, message: Message) -> None:
        if isinstance(message, _USUAL) and not self.returning.mute:
            further = isinstance(message, NextIndex) and message.term > self.term
            if further and self.is_member(peer):
                self.learn_term(message.term)
            else:
                self._decide(peer, message)
            return
        now_s = self.clock.monotonic_s()
        if self.returning.takes(peer, message, now_s):
            return
        match message:
            case PreVote():
                self.elections.asked(peer, message, now_s)
                return
            case PreVoteAnswer():
                self.elections.answered(peer, message)
                return
            case ReadRequest():
                self.reads.requested(peer, message)
                return
            case ReadAnswer():
                self.reads.answered(peer, message, now_s)
                return
            case TimeoutNow() if not self.members.votes:
                return
            case RequestVote() if message.term < self.term:
                self.post(peer, PreVoteAnswer(0, self.term, False))
                return
            case RequestVote() if not self.elections.admits(message, now_s):
                return
        self._decide(peer, message)

    def _decide(self, peer: str, message: Message) -> None:
        """Let the library have a message, past the rules."""
        verdict = self.rules.incoming(peer, message)
        seen = verdict.message
        if seen is not None:
            with self._inside:
                self.network.receive(self.peer(peer), messages.to_library(seen))
        self.rules.finished()
        if self.applied_index > self.commit_index:  # a snapshot came: all in it is committed
            self._set("raftCommitIndex", self.applied_index)
            self.journal.commit_index = self.applied_index
        for reply in verdict.replies:
            self.outbox.append((peer, messages.encode(reply)))
        if isinstance(message, _APPENDS) and message.term >= self.term:
            self.elections.heard(self.clock.monotonic_s())
        elif isinstance(message, NextIndex) and seen is not None:
            self.reads.echoed(peer, message.echo or 0)

    def deny(self, peer: str, message: messages.ApplyCommand) -> None:
        """Refuse a command that a peer handed on: it cannot be taken here, now."""
        if message.request is not None:
            self.post(peer, messages.ApplyResponse(message.request, engine.DENIED))

    def submit(self, data: bytes, identity: Identity) -> None:
        """Append a command here, if this replica leads; else hand it to the leader."""

        def done(_result: Any, reason: int) -> None:
            if reason != engine.SUCCESS:
                self.failures.append((identity, reason in engine.DEFINITE))

        if self.is_leader:
            self._engine.waiting_for(self._append(_REGULAR + data), done)
            return
        with self._inside:
            self._engine._applyCommand(data, done, REGULAR)

    def _append(self, payload: bytes) -> int:
        """A new last entry, by the leader."""
        index = self.last_index + 1
        self.log.add(payload, index, self.term)
        self._set("newAppendEntriesTime", 0)  # the next tick sends without waiting
        return index

    def append(self) -> None:
        """Take what was handed on into the journal, or hand it on; begin rounds for reads."""
        self._advance()
        if not self._engine.commands:
            return
        before = self.journal.last_index
        with self._inside:
            self._engine._checkCommandsToApply()
        if self.journal.last_index != before:
            self._set("newAppendEntriesTime", 0)

    def early(self) -> list[tuple[str, bytes]]:
        """Appends that may go before the journal is durable here (thesis §10.2.1).

        A leader promises nothing with them, and counts its own entries only in the tick, which
        comes after the sync.  Empty when older appends wait in the outbox: order is kept.
        """
        due = self._engine._SyncObj__newAppendEntriesTime == 0
        if not (self.is_leader and due) or self._appends_wait:
            return []
        waiting, self.outbox = self.outbox, []
        with self._inside:
            self._engine.send_appends()
        self._appends_wait = False
        sent, self.outbox = self.outbox, waiting
        return sent

    def tick(self) -> None:
        """Timers, elections, commits; applies what is committed, fills the outbox."""
        before, sequence = self.commit_index, self._sequence
        if self.is_leader:  # what it knows when it steps down
            self.elections.heard_s = self.quorum_heard_s()
        self._snapshot_requested = False
        with self._inside:
            self._engine.doTick(0)
            told = self.commit_index == before or self._sequence != sequence
            if not told and self.is_leader and self.has_peers:
                self._engine.send_appends()  # the followers wait for the news
        self._standing_for_leader = False
        self._advance()

    def _advance(self) -> None:
        now_s = self.clock.monotonic_s()
        self.returning.advance(now_s)
        self.reads.advance(now_s)

    @property
    def tick_due(self) -> bool:
        """Would a tick do anything?  A follower that got a heartbeat needs none."""
        return self.quiet_until_s() is None

    def quiet_until_s(self) -> float | None:
        """When a tick is due, should nothing happen before; None: now."""
        if self.busy or self._snapshot_requested or self.snapshots.state != _AT_REST:
            return None
        if self.is_leader and self.last_index > self.commit_index:
            return None
        deadline_s = self.next_deadline_s()
        return deadline_s if self.clock.monotonic_s() < deadline_s else None

    @property
    def busy(self) -> bool:
        """Would another step at once get something done?"""
        library = self._engine
        commit_index = library._SyncObj__raftCommitIndex
        if self.journal.dirty or library._SyncObj__raftLastApplied < commit_index:
            return True
        if library._SyncObj__raftState != LEADER:
            return self.members.alone or (self.elections.granted and self.election_due)
        if library._SyncObj__newAppendEntriesTime == 0 and self.has_peers:
            return True
        return self.members.alone and commit_index < self.last_index

    def next_deadline_s(self) -> float:
        """When (on the monotonic clock) the next timer ends; infinite when there is none."""
        first_s, look_s = self._timer_s(), self.reads.next_look_s()
        if look_s is not None and look_s < first_s:
            first_s = look_s
        look_s = self.returning.next_look_s() if self.returning.mute else None
        return first_s if look_s is None else min(first_s, look_s)

    def _timer_s(self) -> float:
        library = self._engine
        if library._SyncObj__raftState == LEADER:
            if not self.has_peers:
                return math.inf
            heartbeat_s = library._SyncObj__newAppendEntriesTime
            fallback_s = self.members.quorum_heard_s() + self.settings.leader_fallback_s
            return min(heartbeat_s, fallback_s) + _HAIR_S
        if not self.members.votes:
            return math.inf
        deadline_s = library._SyncObj__raftElectionDeadline + _HAIR_S
        look_s = self.elections.next_look_s()
        return deadline_s if look_s is None else max(deadline_s, look_s)

    @property
    def election_due(self) -> bool:
        """Will the next tick ask for an election, or hold one?"""
        library = self._engine
        if library._SyncObj__raftState == LEADER or not self.members.votes:
            return False
        return library._SyncObj__raftElectionDeadline < self.clock.monotonic_s()

    def take_outbox(self) -> list[tuple[str, bytes]]:
        taken, self.outbox = self.outbox, []
        self._appends_wait = False
        return taken

    def take_applied(self) -> list[tuple[int, Applied]]:
        taken, self.applied = self.applied, []
        return taken

    def take_failures(self) -> list[tuple[Identity, bool]]:
        taken, self.failures = self.failures, []
        return taken

    # -- called by the library's side ------------------------------------------------------------

    def post(self, peer: str, message: Message) -> None:
        sent = self.rules.outgoing(peer, message)
        if isinstance(sent, _APPENDS):
            self._sequence = sent.sequence
            self._appends_wait = True
        elif isinstance(sent, RequestVote) and self._standing_for_leader:
            sent = replace(sent, transfer=True)
        self.outbox.append((peer, messages.encode(sent)))

    def apply(self, data: bytes) -> None:
        index = self._engine.raftLastApplied + 1
        self.applied.append((index, self.machine.apply(index, data)))

    def replaced(self, made: snapshot.Snapshot) -> None:
        """A snapshot's state has been taken over; the library changes the journal next."""
        self.snapshot_index = made.index
        self.applied.append((made.index, Applied(None, events=(StateReplaced(index=made.index),))))
        if not self._recovering:
            self._engine.given_up_to(made.index)
            self.members.history.replaced(made.configuration)
            self.members.reconfigure()

    def may_stand(self) -> bool:
        if self._engine._SyncObj__transferInProgress and self.members.votes:
            self._standing_for_leader = True
            return True
        return self.members.votes and self.elections.may_stand(self.clock.monotonic_s())

    def state_changed(self, _old: int, new: int) -> None:
        if new == engine.LEADER:
            self.leadership = Leadership(self.term, self.clock.monotonic_s())
        else:
            self.leadership = None

    def learn_term(self, term: int) -> None:
        """Somebody is further: follow, and wait for who leads there."""
        if term > self.term:
            self.adopt_term(term, None)

    def adopt_term(self, term: int, voted_for: str | None) -> None:
        """This term, and who got our vote in it."""
        with self._inside:
            self._engine._SyncObj__setCurrentTerm(term, voted_for)
            self._engine._SyncObj__setState(engine.FOLLOWER)
            self._set("raftLeader", None)
            if self._engine._SyncObj__raftElectionDeadline < self.clock.monotonic_s():
                pause_s = self._engine._SyncObj__generateRaftTimeout()
                self._set("raftElectionDeadline", self.clock.monotonic_s() + pause_s)

    # -- members ---------------------------------------------------------------------------------

    @property
    def configuration(self) -> Configuration:
        """The one in force."""
        return self.members.configuration

    def configuration_at(self, index: int) -> Configuration:
        return self.members.history.at(index)

    def change_configuration(self, voters: Iterable[str], observers: Iterable[str]) -> int:
        """Append another configuration; its index.  Raises `conflict`, `invalid`."""
        new = self.members.change(voters, observers)
        if new.committed:
            return new.index  # it is so already
        with self._inside:
            return self._append(configuration.encode(new))

    def followers(self) -> dict[str, Follower]:
        """On the leader: every other member, by name."""
        return self.members.followers()

    def transfer(self, to: str) -> bool:
        """Ask a voter to stand now, if it has everything that we have."""
        if not self.is_leader or to == self.node or to not in self.voters:
            return False
        if self.followers()[to].match_index != self.last_index:
            return False
        with self._inside:
            self._engine.transferLeadership(self.peer(to))
        return True

    # -- snapshots -------------------------------------------------------------------------------

    def request_snapshot(self) -> None:
        """The next tick takes a copy of the state; `take_snapshot_job` gives the writing of it."""
        self._snapshot_requested = True
        self._engine.forceLogCompaction()

    def take_snapshot_job(self) -> Callable[[], None] | None:
        job, self.snapshots.job = self.snapshots.job, None
        return job

    @property
    def compaction_due(self) -> bool:
        return self.snapshots.due(self.settings)

    # -- reads -----------------------------------------------------------------------------------

    def read(self, number: int, *, confirm: bool = False) -> None:
        """Ask for an index that a reader must have applied; `take_reads` tells when it has."""
        self.reads.ask(number, confirm=confirm)

    def take_reads(self) -> list[ReadOutcome]:
        return self.reads.take()

    def begin_round(self) -> int:
        self._set("newAppendEntriesTime", 0)
        return self._sequence + 1

    # -- what is known ---------------------------------------------------------------------------

    @staticmethod
    def needs_bytes(payload: bytes) -> int:
        """Space in the journal for one command."""
        return len(payload) + 1 + RECORD_OVERHEAD_BYTES

    @property
    def is_leader(self) -> bool:
        return self._engine._SyncObj__raftState == LEADER

    @property
    def leader(self) -> str | None:
        """The leader that this replica follows and can reach; itself if it leads."""
        node = self._engine._SyncObj__raftLeader
        if node is None or not (self.is_leader or self._engine.isNodeConnected(node)):
            return None
        return str(node.id)

    @property
    def voters(self) -> tuple[str, ...]:
        return self.members.voters

    @property
    def knows_members(self) -> bool:
        return bool(self.voters) and self.returning.settled

    @property
    def has_peers(self) -> bool:
        """Is there any other member, or may there be?"""
        return self.members.others

    @property
    def role(self) -> str:
        if self.is_leader:
            return "leader"
        if not self.members.votes:
            return "observer"
        return "follower" if self._engine._SyncObj__raftState == engine.FOLLOWER else "candidate"

    @property
    def term(self) -> int:
        return self._engine._SyncObj__raftCurrentTerm

    @property
    def commit_index(self) -> int:
        return self._engine._SyncObj__raftCommitIndex

    @property
    def applied_index(self) -> int:
        return self._engine._SyncObj__raftLastApplied

    @property
    def first_index(self) -> int:
        return self.journal.entries[0][1]

    @property
    def last_index(self) -> int:
        return entries[-1][1] if (entries := self.journal.entries) else 0

    @property
    def last_term(self) -> int:
        return self.journal.entries[-1][2]

    def term_at(self, index: int) -> int | None:
        entries = self.journal.entries
        place = index - entries[0][1]
        return entries[place][2] if 0 <= place < len(entries) else None

    @property
    def own_term_committed(self) -> bool:
        """Does this leader know what is committed?"""
        return self.is_leader and self.term_at(self.commit_index) == self.term

    def quorum_heard_s(self) -> float:
        """On a leader: since when it has not heard of a majority."""
        return self.members.quorum_heard_s()

    @property
    def last_contact_s(self) -> float | None:
        """Seconds since a leader was heard (a leader: a majority); None: never in this life."""
        heard_s = self.quorum_heard_s() if self.is_leader else self.elections.heard_s
        return None if heard_s is None else max(0.0, self.clock.monotonic_s() - heard_s)

    def connected_peers(self) -> list[str]:
        return [name for name in sorted(self._epochs) if self.is_connected(name)]

    def is_connected(self, name: str) -> bool:
        return bool(self._engine.isNodeConnected(self.peer(name)))

    def is_voter(self, peer: str) -> bool:
        return self.members.is_voter(peer)

    def is_member(self, peer: str) -> bool:
        return self.members.is_member(peer)
