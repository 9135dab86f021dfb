"""One simulated node: a disk, a clock, and a replica that lives and dies on it.

A step follows the order of `paas.raft.log`, with the time that the disk takes in the middle:

    receive ─> submit ─> append ─> [disk: sync] ─> tick ─> sync if needed ─> send ─> answer

A crash can come at every operation of the disk, while the disk is busy, and between any two
messages that are sent: whatever raises `Crash` ends this life.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from paas.base.errors import LocalError, PlatformError
from paas.raft import recovery
from paas.raft.command import Stamp, encode
from paas.raft.inbox import Inbox
from paas.raft.journal import Entry
from paas.raft.limits import DENIED_PAUSE_S, RESUBMIT_S
from paas.raft.machine import Applied, Machine, StateReplaced
from paas.raft.reads import ReadOutcome
from paas.raft.settings import RaftSettings
from paas.raft.syncobj import Replica
from paas.sim.consensus.clocks import NodeClock
from paas.sim.consensus.objects import Deed, Objects
from paas.sim.disk import SimDisk
from paas.sim.entropy import SimEntropy

if TYPE_CHECKING:
    from paas.sim.consensus.arena import Arena

Identity = tuple[str, int]


class Crash(BaseException):
    """This life ends here.  No handler in between may go on."""

    def __init__(self, *, power: bool) -> None:
        super().__init__()
        self.power = power


class Ticket:
    """A command of a client on its way through one node: the counterpart of `proposals.Waiter`."""

    __slots__ = ("attempts", "data", "identity", "on_done", "over", "sent_s", "uncertain")

    def __init__(
        self, deed: Deed, stamp: Stamp, on_done: Callable[[Ticket, Applied | None], None]
    ) -> None:
        self.data = encode(deed, stamp)
        self.identity = stamp.identity
        self.on_done = on_done
        self.attempts = 0
        self.uncertain = self.over = False
        self.sent_s = 0.0

    @property
    def may_be_done(self) -> bool:
        return self.uncertain or self.attempts > 0

    def end(self, applied: Applied | None) -> None:
        if not self.over:
            self.over = True
            self.on_done(self, applied)


class Member:
    """See the module's text."""

    def __init__(
        self,
        arena: Arena,
        name: str,
        *,
        clock: NodeClock,
        settings: RaftSettings,
        voters: tuple[str, ...],
        join: bool,
    ) -> None:
        self.name = name
        self.label = name.encode()
        self.clock = clock
        self.settings = settings
        self.voters = voters
        self.join = join
        self.disk = SimDisk()
        self.alive = False
        self.gone = False
        """It is a member no longer, and will not be one again."""

        self.on_start: Callable[[], None] = lambda: None
        """Told when it starts the next time."""

        self.life = 0
        self.objects = Objects()
        self.replica: Replica
        self.appended: list[Entry] = []
        self.inbox: Inbox
        self.paused_s = 0.0
        self.busy_disk = False
        self.syncs = 0
        """How often the disk was asked to sync, in all lives."""

        self.slow_s = 0.0
        """Above zero: it takes so long before it reads what came."""

        self.disk_s = 0.0
        """The longest that a sync takes."""

        self.early = arena.random.random() < 0.7
        """Send appends before the journal is synced, as a leader may."""

        self.send_budget: int | None = None
        self.dies_after_snapshot = False
        self.wake_s: float | None = None
        self.quiet_until_s: float | None = None
        """By its own clock: nothing is to be done before, unless something comes; None: unknown."""

        self._arena = arena
        self._entropy = SimEntropy(arena.random.getrandbits(32))
        self._queue: deque[Ticket] = deque()
        self._tickets: dict[Identity, Ticket] = {}
        self._reads: dict[int, Callable[[ReadOutcome | None], None]] = {}
        self._asked = 0
        self._denied_until_s = 0.0

    # -- lives -------------------------------------------------------------------------------------

    def boot(self) -> None:
        """Begin a life from the disk.  Raises PlatformError (`corrupt`), JournalFailed, Crash."""
        self.life += 1
        self.objects = Objects()
        self.appended = []
        self.busy_disk = False
        self.wake_s = self.send_budget = None
        self.dies_after_snapshot = False
        self.replica = self._open()
        self.inbox = Inbox(self.replica, self._room, lambda: False)
        self._watch_journal()
        self.alive = True

    def _open(self) -> Replica:
        """As `paas.raft.recovery.open_or_return`: damage is put aside, the way back is mute."""
        if self.life > 1 and not self.disk.exists("journal"):
            self.join = True
        try:
            return self._arena.make_replica(self)
        except PlatformError as error:
            if error.code != "corrupt":
                raise
        self._arena.count("log-put-aside")
        recovery.set_aside(self.disk, self._entropy)
        self.join = True
        return self._arena.make_replica(self)

    def new_replica(self) -> Replica:
        return Replica(
            files=self.disk,
            clock=self.clock,
            entropy=self._entropy,
            machine=Machine([self.objects]),
            node=self.name,
            voters=self.voters,
            join=self.join,
            settings=self.settings,
        )

    def _watch_journal(self) -> None:
        """Note every entry that comes into the log, for the invariants."""
        journal = self.replica.journal
        self.appended += journal.entries[1:]
        append = journal.append

        def noted(payload: bytes, index: int, term: int) -> None:
            append(payload, index, term)
            self.appended.append((payload, index, term))

        journal.append = noted  # type: ignore[method-assign]

    def die(self, *, power: bool) -> None:
        self.alive = False
        self.disk.on_operation = None
        self.disk.fail_next_sync = None
        if power:
            self.disk.power_cut(self._arena.random.randrange)
        tickets, self._tickets = self._tickets, {}
        self._queue.clear()
        for ticket in tickets.values():
            ticket.end(None)
        reads, self._reads = self._reads, {}
        for done in reads.values():
            done(None)

    def wipe(self) -> None:
        """A new, empty disk; the node joins as if it had never been there."""
        self.disk = SimDisk()
        self.voters = ()

    # -- the step ----------------------------------------------------------------------------------

    def step(self) -> None:
        if self.inbox.waiting:
            self._receive()
        if self._queue or self._tickets or self.replica.failures:
            self._submit()
        self.replica.append()
        if not self.replica.journal.dirty:
            self._conclude()
            return
        if self.early:
            self._send(self.replica.early())
        if not self.disk_s:
            self.finish_step()
            return
        self.busy_disk = True
        self.syncs += 1
        sync, delay_s = self.syncs, self._arena.random.random() * self.disk_s
        self._arena.after(delay_s, lambda: self._arena.disk_done(self, sync))

    def finish_step(self) -> None:
        self.busy_disk = False
        if self.replica.journal.dirty:
            self.replica.journal.sync()
            self.inbox.acknowledgements()
        self._conclude()

    def _conclude(self) -> None:
        replica = self.replica
        if replica.election_due and self.inbox.waiting:
            self._receive()
        if replica.compaction_due:
            replica.request_snapshot()
        self.quiet_until_s = replica.quiet_until_s()
        if self.quiet_until_s is None:
            replica.tick()
        if replica.outbox:
            if replica.journal.dirty:
                replica.journal.sync()
            self._send(replica.take_outbox())
        if replica.applied or self._reads:
            self._answer()
        job = replica.take_snapshot_job() if replica.snapshots.job else None
        if job is not None:
            self._arena.snapshot_begins(self, job)

    def _receive(self) -> None:
        """At once: what could wait for a real disk never waits for a simulated one."""
        try:
            self.inbox.receive().send(None)
        except StopIteration:
            return
        raise LocalError("a simulated replica waits")

    async def _room(self, count: int) -> bool:
        fits = self.replica.journal.reserve(count)
        if not fits:
            self._arena.count("refused-by-full-disk")
        return fits

    def _send(self, messages: list[tuple[str, bytes]]) -> None:
        send = self._arena.links.send
        for peer, data in messages:
            if self.send_budget is not None:
                self.send_budget -= 1
                if self.send_budget < 0:
                    raise Crash(power=self._arena.random.random() < 0.5)
            send(self.name, peer, data)

    # -- clients -----------------------------------------------------------------------------------

    def propose(self, ticket: Ticket) -> None:
        known = self.replica.machine.recall(ticket.identity)
        if known is not None:
            ticket.end(known)
            return
        self._tickets[ticket.identity] = ticket
        self._queue.append(ticket)

    def forget(self, ticket: Ticket) -> None:
        """Nobody waits any more."""
        ticket.over = True
        if self._tickets.get(ticket.identity) is ticket:
            del self._tickets[ticket.identity]

    def _submit(self) -> None:
        replica = self.replica
        for identity, definite in replica.take_failures():
            ticket = self._tickets.get(identity)
            if ticket is not None:
                ticket.attempts = max(0, ticket.attempts - 1)
                ticket.uncertain |= not definite
                self._queue.append(ticket)
                if definite and not replica.is_leader:
                    self._denied_until_s = self._arena.now_s + DENIED_PAUSE_S
        if replica.leader is None:
            return
        if not replica.is_leader and self._arena.now_s < self._denied_until_s:
            return
        if not replica.is_leader:
            self._hand_over_again()
        total = 0
        while self._queue:
            ticket = self._queue.popleft()
            if ticket.over:
                continue
            total += replica.needs_bytes(ticket.data)
            if replica.is_leader and not replica.journal.reserve(total):
                self._arena.count("refused-by-full-disk")
                self._queue.appendleft(ticket)
                return
            ticket.attempts += 1
            ticket.sent_s = self._arena.now_s
            replica.submit(ticket.data, ticket.identity)

    def _hand_over_again(self) -> None:
        before_s = self._arena.now_s - RESUBMIT_S
        for ticket in self._tickets.values():
            if ticket.attempts and ticket.sent_s < before_s:
                ticket.attempts, ticket.uncertain = 0, True
                self._queue.append(ticket)

    def _answer(self) -> None:
        replica = self.replica
        for _, applied in replica.take_applied():
            if applied.identity is not None:
                ticket = self._tickets.pop(applied.identity, None)
                if ticket is not None:
                    ticket.end(applied)
            elif any(isinstance(event, StateReplaced) for event in applied.events):
                self._arena.count("snapshot-installed")
                self._recall()
        for outcome in replica.take_reads():
            done = self._reads.pop(outcome.number, None)
            if done is not None:
                done(outcome)

    def _recall(self) -> None:
        for identity in list(self._tickets):
            known = self.replica.machine.recall(identity)
            if known is not None:
                self._tickets.pop(identity).end(known)

    def read(
        self, done: Callable[[ReadOutcome | None], None], timeout_s: float, *, confirm: bool = False
    ) -> None:
        """Ask for a confirmed read index; `done` hears of it, or None when it did not come."""
        self._asked += 1
        number, life = self._asked, self.life
        self._reads[number] = done
        self.replica.read(number, confirm=confirm)

        def late() -> None:
            if self.life == life and self._reads.pop(number, None) is not None:
                self.replica.reads.forget(number)
                done(None)

        self._arena.after(timeout_s, late)

    @property
    def has_commands(self) -> bool:
        """Are there any that a step could hand over?"""
        return bool(self._queue) and self.replica.leader is not None

    def next_timer_s(self) -> float:
        """The true time of the next thing that a timer of the replica does."""
        local_s = self.quiet_until_s
        if local_s is None:
            local_s = self.replica.next_deadline_s()
        return self.clock.true_s(local_s)
