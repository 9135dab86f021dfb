"""The world of one seed: members, links, time; what happens next, and what it leaves behind.

Time is a heap of actions.  A replica sleeps until a message comes, a client asks, or one of its
timers ends; it never polls, which makes 90 seconds of a cluster cost a fraction of a second.  After
every step of a replica the invariants are checked and the step goes into the trace.

The trace is a hash over everything that happened; two runs of one seed have the same, in any
process.
"""

from __future__ import annotations

import hashlib
import math
import random
from collections import Counter
from collections.abc import Callable
from functools import partial
from heapq import heappop, heappush

from paas.base.errors import PlatformError
from paas.raft.journal import JournalFailed
from paas.raft.rules import SafetyViolation
from paas.raft.settings import RaftSettings
from paas.raft.syncobj import Replica
from paas.sim.consensus import limits
from paas.sim.consensus.clocks import NodeClock, TrueTime
from paas.sim.consensus.invariants import Invariants
from paas.sim.consensus.links import Links
from paas.sim.consensus.members import Crash, Member
from paas.sim.replicas import Broken


class Arena(TrueTime):
    """See the module's text."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.seed = seed
        self.random = random.Random(seed)
        self.members: dict[str, Member] = {}
        self.links = Links(self)
        self.invariants = Invariants()
        self.fired: Counter[str] = Counter()
        """What happened how often: faults, and things worth seeing happen."""

        self.fixed_tick = False
        """Replicas look at their timers every `TICK_S` instead of on time."""

        self.on_death: Callable[[Member], None] = lambda member: None
        self._trace = hashlib.blake2b(digest_size=16)
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._number = 0

    # -- time --------------------------------------------------------------------------------------

    def after(self, delay_s: float, action: Callable[[], None]) -> None:
        self._number += 1
        heappush(self._heap, (self.now_s + delay_s, self._number, action))

    def run_until(self, end_s: float) -> None:
        heap = self._heap
        while heap and heap[0][0] <= end_s:
            self.now_s, _, action = heappop(heap)
            action()
        self.now_s = end_s

    # -- the trace ---------------------------------------------------------------------------------

    def count(self, what: str) -> None:
        self.fired[what] += 1

    def record(self, text: str) -> None:
        self._trace.update(f"{self.now_s:.6f} {text}\n".encode())

    def trace(self) -> str:
        return self._trace.hexdigest()

    # -- members -----------------------------------------------------------------------------------

    def add(
        self,
        name: str,
        *,
        rate: float,
        settings: RaftSettings,
        voters: tuple[str, ...],
        join: bool = False,
    ) -> Member:
        clock = NodeClock(self, rate=rate, origin_s=1_000 * (1 + self.random.random()))
        member = Member(self, name, clock=clock, settings=settings, voters=voters, join=join)
        self.members[name] = member
        return member

    def living(self) -> list[Member]:
        return [member for member in self.members.values() if member.alive]

    def alive(self, name: str) -> bool:
        return name in self.members and self.members[name].alive

    def leader(self) -> Member | None:
        """The leader of the highest term."""
        leaders = [m for m in self.living() if m.replica.is_leader]
        return max(leaders, key=lambda m: m.replica.term, default=None)

    def make_replica(self, member: Member) -> Replica:
        return member.new_replica()

    def boot(self, member: Member, *, empty: bool = False) -> bool:
        """Begin a life; false when its disk refuses or it died while starting."""
        try:
            member.boot()
        except Crash as crash:
            self.record(f"{member.name} died while starting")
            member.die(power=crash.power)
            self.on_death(member)
            return False
        except (JournalFailed, OSError) as error:
            self.record(f"{member.name} cannot start: {type(error).__name__}")
            self.count("start-failed")
            member.die(power=False)
            self.on_death(member)
            return False
        except PlatformError as error:
            self.record(f"{member.name} refuses to start: {error.code}")
            self.count(f"refused-{error.code}")
            member.die(power=False)
            self.on_death(member)
            return False
        mute = member.replica.returning.mute
        self.record(f"{member.name} starts, mute {mute}")
        if mute:
            self.count("started-mute")
        self.invariants.booted(member.name, member.replica, empty=empty or mute)
        on_start, member.on_start = member.on_start, lambda: None
        on_start()
        self.links.join(member.name)
        self.wake(member, limits.PROCESSING_S)
        return True

    def retire_cleanly(self, member: Member) -> None:
        """Stop it as an operator would: the journal is closed."""
        member.disk.on_operation = member.disk.fail_next_sync = None
        member.disk.tear_next_write = None
        member.replica.journal.close()
        self.kill(member, power=False)

    def kill(self, member: Member, *, power: bool) -> None:
        if member.alive:
            self.record(f"{member.name} dies, power {power}")
            member.die(power=power)
            self.links.leave(member.name)
            self.on_death(member)

    # -- steps -------------------------------------------------------------------------------------

    def note(self, name: str, peer: str, epoch: int, data: bytes | None, up: bool) -> bool:
        member = self.members[name]
        if not member.alive:
            return True
        inbox = member.inbox
        if data is None:
            inbox.note_link(peer, epoch, up=up)
        elif len(inbox.waiting) >= limits.INBOX_MESSAGES_MAX:
            return False
        else:
            if not member.replica.is_live(peer, epoch):
                self.count("stale-epoch")
            inbox.put(peer, epoch, data)
        self.wake(member, member.slow_s or limits.PROCESSING_S)
        return True

    def wake(self, member: Member, delay_s: float) -> None:
        """The member takes a step then, unless it does so sooner anyway."""
        now_s, before_s = self.now_s, member.wake_s
        due_s = now_s + delay_s
        if due_s < member.paused_s:
            due_s = member.paused_s
        if before_s is None or due_s < before_s:
            member.wake_s = due_s
            self.after(due_s - now_s, partial(self._awake, member, member.life, due_s))

    def _awake(self, member: Member, life: int, due_s: float) -> None:
        if member.wake_s != due_s or member.life != life or not member.alive:
            return
        member.wake_s = None
        if member.paused_s > self.now_s:
            self.wake(member, 0.0)
        elif not member.busy_disk:
            self._guarded(member, member.step)

    def disk_done(self, member: Member, sync: int) -> None:
        """The sync of this number is done; the step goes on."""
        if not member.alive or not member.busy_disk or member.syncs != sync:
            return
        if member.paused_s > self.now_s:
            delay_s = member.paused_s - self.now_s
            self.after(delay_s, lambda: self.disk_done(member, sync))
        else:
            self._guarded(member, member.finish_step)

    def snapshot_begins(self, member: Member, job: Callable[[], None]) -> None:
        self.count("snapshot-written")
        life = member.life

        def act() -> None:
            job()
            if member.dies_after_snapshot:
                raise Crash(power=self.random.random() < 0.5)

        def write() -> None:
            if member.alive and member.life == life:
                self._guarded(member, act)

        self.after(self.random.random() * 0.2, write)

    def _guarded(self, member: Member, action: Callable[[], None]) -> None:
        """Run a part of a member's step; a crash inside ends its life."""
        member.quiet_until_s = None
        try:
            action()
        except Crash as crash:
            self.kill(member, power=crash.power)
            return
        except JournalFailed:
            self.record(f"{member.name}: the journal failed")
            self.count("stopped-by-disk")
            self.kill(member, power=False)
            return
        except SafetyViolation as violation:
            raise Broken(f"committed-fixed: {member.name} stops: {violation}") from violation
        if not member.alive or member.busy_disk:
            return
        now_s, replica = self.now_s, member.replica
        place = replica.term, replica.commit_index, replica.applied_index, replica.last_index
        self._trace.update(b"%.6f %s %d %d %d %d\n" % (now_s, member.label, *place))
        self.invariants.check(member, place, now_s)
        self._sleep(member)

    def _sleep(self, member: Member) -> None:
        """Until there is something to do."""
        if member.inbox.waiting or (member.quiet_until_s is None and member.replica.busy):
            self.wake(member, member.slow_s or limits.PROCESSING_S)
            return
        tick_s = limits.TICK_S
        if self.fixed_tick or member.has_commands:
            self.wake(member, tick_s)
            return
        left_s = member.next_timer_s() - self.now_s
        if left_s < math.inf:
            self.wake(member, left_s if left_s > 0.001 else tick_s)
