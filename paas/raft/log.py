"""`ReplicatedLog`: what the platform sees of Raft.  Propose a command, get its result; hear events.

One task (`run`) drives one replica (syncobj.py) in steps:

    take messages, proposals ─> append ─> sync ─> tick ─> (sync) ─> send, answer, tell subscribers
             ^                                                            │
             └───────────── woken by a proposal, a message, a timer <─────┘

A leader's appends go out before its own sync, so that all disks write at the same time; answers
that came meanwhile are counted before the tick.  Messages are taken before timers are looked at: a
replica that slept learns first that a leader lives (hole P25).  Sleep lasts until the next timer
that matters; an idle cluster does what its heartbeats need, and nothing else.

What it decides: the order above (keeper K1: nothing is sent or answered that a power cut could take
back), which proposals share a step (all that came meanwhile: one sync for all), what a caller is
told, when the state is snapshotted, and when proposals are refused because the disk is full.

Outcomes of `propose` (keeper K8)
  - the result, or the command's own error, once it is applied on this replica;
  - `storage-full`, `unavailable`, `limit-exceeded`: certainly not done;
  - `unknown-outcome`: handed over, then not heard of.  The same `request_id` may be proposed again:
    it is applied at most once, and answered with the first result.

What else is asked of a leader (a current read, members, a successor) is in leading.py.

Subscribers are called in the order of the log, after the step, on the event loop; never for what is
replayed while the replica recovers, since that is in the state already.  They must not raise: what
they raise is logged and the next one is called.

A single voter commits at once, without waiting for a timer, and sleeps while nobody proposes.  A
failure of the disk or of the library ends `run` with that error: the process must end, too.
"""

from __future__ import annotations

import gc
import logging
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import msgspec
import trio

from paas.base.errors import LocalError, PlatformError
from paas.base.ports import Clock, Entropy, Files
from paas.raft import limits
from paas.raft.alarm import Alarm
from paas.raft.command import SEED_BYTES
from paas.raft.configuration import Configuration
from paas.raft.elections import Leadership
from paas.raft.inbox import Inbox
from paas.raft.leading import Leading
from paas.raft.machine import Event, Machine
from paas.raft.members import Follower
from paas.raft.proposals import Identity, Proposals, Waiter, given_up
from paas.raft.settings import RaftSettings
from paas.raft.syncobj import Replica
from paas.raft.transport import Transport

logger = logging.getLogger(__name__)

Subscriber = Callable[[int, Sequence[Event]], None]
T = TypeVar("T")


class ReplicatedLog:
    """See the module's text.  Made by `open`; then `run` in a nursery, `close` at the end."""

    def __init__(self, replica: Replica, transport: Transport | None) -> None:
        self._replica = replica
        self._transport = transport
        life = replica.entropy.bytes(8).hex()  # numbers begin anew in each life
        self._proposals = Proposals(f"{replica.node}/{life}", replica.machine.recall)
        self._alarm = Alarm()
        self._leading = Leading(replica, self._alarm.ring)
        self._inbox = Inbox(replica, self._room, lambda: self._leading.holding)
        self._quiet_until_s: float | None = None
        """When the replica wants a tick, as of the last step; None: it has had one."""
        self._followed: tuple[str, int] | None = None
        self._denied_until_s = -math.inf
        self._subscribers: list[Subscriber] = []
        self._snapshot_waiters: list[trio.Event] = []
        self._snapshot_failed_s = -1e9
        self._snapshot_running = False
        self._storage_checked_s = -1e9
        self._running = self._recovered = self._closing = False
        self._ended = trio.Event()
        self._limiter = trio.CapacityLimiter(2)  # the journal, and beside it a snapshot

    @classmethod
    def open(
        cls,
        *,
        files: Files,
        clock: Clock,
        entropy: Entropy,
        machine: Machine,
        node: str,
        voters: Sequence[str] = (),
        join: bool = False,
        transport: Transport | None = None,
        settings: RaftSettings | None = None,
    ) -> ReplicatedLog:
        """Recover journal and snapshot from `files`; blocks on the disk.

        `voters` are the names of those that begin a cluster, `node` among them or not; empty:
        alone.  With `join` this replica waits for a leader to tell it who votes.  Neither counts
        once the log says it.  Raises `corrupt`, `storage-full` (nothing there yet and no room to
        begin), `unsupported`.
        """
        if transport is None and (join or any(name != node for name in voters)):
            raise LocalError("several voters need a transport")
        replica = Replica(
            files=files,
            clock=clock,
            entropy=entropy,
            machine=machine,
            node=node,
            voters=voters,
            join=join,
            settings=settings,
        )
        return cls(replica, transport)

    # -- what others call ------------------------------------------------------------------------

    async def propose(
        self,
        command: msgspec.Struct,
        *,
        timeout_s: float = limits.PROPOSAL_TIMEOUT_S_DEFAULT,
        request_id: Identity | None = None,
        only_term: int | None = None,
    ) -> Any:
        """The result of the command once it is applied here; outcomes: see the module's text.

        `request_id` (who, number) makes it safe to propose the same again; without it the log's
        own.  With `only_term` the command is appended by this replica as leader of that term, or
        not at all (`conflict`).
        """
        waiter = self._enqueue(command, request_id, only_term)
        waiter.users += 1
        try:
            with trio.move_on_after(timeout_s):
                await waiter.done.wait()
        finally:
            self._proposals.leave(waiter)
        if waiter.applied is None:
            raise given_up(waiter)
        if waiter.applied.error is not None:
            raise waiter.applied.error
        return waiter.applied.result

    def subscribe(self, callback: Subscriber) -> Callable[[], None]:
        """`callback(index, events)` for every entry that emitted events; returns how to stop it."""
        self._subscribers.append(callback)

        def unsubscribe() -> None:
            if callback in self._subscribers:
                self._subscribers.remove(callback)

        return unsubscribe

    def status(self) -> dict[str, Any]:
        """Plain figures of this moment."""
        replica = self._replica
        return {
            "node": replica.node,
            "role": replica.role,
            "leader": replica.leader,
            "term": replica.term,
            "commit": replica.commit_index,
            "applied": replica.applied_index,
            "last_index": replica.last_index,
            "first_index": replica.first_index,
            "snapshot_index": replica.snapshot_index,
            "journal_bytes": replica.journal.bytes_used,
            "syncs": replica.journal.syncs,
            "storage": "full" if replica.journal.full else "ok",
            "in_flight": len(self._proposals),
            "messages_dropped": self._inbox.dropped,
            "running": self._running,
            "voters": list(replica.voters),
            "observers": list(replica.configuration.observers),
            "returning": replica.returning.mute,
        }

    # -- members and leadership ------------------------------------------------------------------

    @property
    def configuration(self) -> Configuration:
        """Who votes and who observes, as far as this replica knows."""
        return self._replica.configuration

    @property
    def leadership(self) -> Leadership | None:
        """Does this replica lead, in which term, since when (monotonic clock)?  It may be over
        without being known here: `confirm` makes sure."""
        return self._replica.leadership

    @property
    def last_contact_s(self) -> float | None:
        """How old what this replica knows may be: seconds since it heard a leader (a leader: a
        majority); None when it never has."""
        if not self._replica.has_peers and self._replica.is_leader:
            return 0.0
        return self._replica.last_contact_s

    def followers(self) -> dict[str, Follower]:
        """What a leader knows of the other members; empty elsewhere."""
        return self._replica.followers()

    async def change_configuration(
        self,
        voters: Iterable[str],
        observers: Iterable[str],
        *,
        timeout_s: float = limits.PROPOSAL_TIMEOUT_S_DEFAULT,
    ) -> Configuration:
        """Have these members from now on; returns once that is committed.  On the leader only.

        Raises `conflict` (not the leader, a change is under way, more than one voter would change,
        the leader would go, no majority would be in touch), `invalid`, `storage-full`,
        `unavailable`, `unknown-outcome`.
        """
        self._check_running()
        if self._transport is None:
            raise LocalError("several members need a transport")
        return await self._leading.change(voters, observers, timeout_s)

    async def transfer_leadership(
        self, to: str | None = None, *, timeout_s: float = limits.TRANSFER_TIMEOUT_S_DEFAULT
    ) -> str:
        """Have another voter lead (None: the one that is furthest); its name.

        Commands wait meanwhile.  Raises `conflict` (not the leader, no such voter), `timeout`.
        """
        self._check_running()
        return await self._leading.transfer(to, timeout_s)

    async def read_index(self, *, timeout_s: float = limits.READ_TIMEOUT_S_DEFAULT) -> int:
        """Afterwards the state here contains all that was acknowledged before, anywhere; the index.

        Asks the leader, who makes sure by a round that it still leads.  Raises `unavailable`.
        """
        self._check_running()
        outcome = await self._leading.read(timeout_s)
        return outcome.index or 0

    async def confirm(self, *, timeout_s: float = limits.READ_TIMEOUT_S_DEFAULT) -> int:
        """The term in which this replica led at some moment after the call.  `unavailable`: no."""
        self._check_running()
        return (await self._leading.read(timeout_s, confirm=True)).term

    def _check_running(self) -> None:
        if not self._running or self._closing:
            raise self._not_running()

    async def barrier(self, *, timeout_s: float = limits.PROPOSAL_TIMEOUT_S_DEFAULT) -> None:
        """Afterwards the state here contains everything that was acknowledged before, anywhere."""
        await self.read_index(timeout_s=timeout_s)

    async def snapshot(self) -> None:
        """Write a snapshot and shorten the journal now.  Raises `storage-full`, `unavailable`."""
        if not self._running:
            raise self._not_running()
        before = self._snapshot_failed_s
        done = trio.Event()
        self._snapshot_waiters.append(done)
        if not self._snapshot_running:
            self._replica.request_snapshot()
        self._alarm.ring()
        await done.wait()
        if self._snapshot_failed_s != before:
            raise PlatformError("storage-full", "the snapshot could not be written")
        if not self._running:
            raise self._not_running()

    async def close(self) -> None:
        """Finish the step in hand, make the journal durable, close it.  `run` returns."""
        self._closing = True
        self._alarm.stop()
        with trio.CancelScope(shield=True):
            if self._running:
                with trio.move_on_after(30.0):
                    await self._ended.wait()
            await self._in_thread(self._replica.journal.close)

    # -- proposals -------------------------------------------------------------------------------

    def _enqueue(
        self, command: msgspec.Struct, request_id: Identity | None, only_term: int | None
    ) -> Waiter:
        self._check_running()
        waiter = self._proposals.find(request_id) if request_id is not None else None
        if waiter is not None:
            return waiter
        if self._replica.journal.full and not self._storage_look_again():
            raise PlatformError("storage-full")
        now_ms, seed = self._replica.clock.now_ms(), self._replica.entropy.bytes(SEED_BYTES)
        waiter = self._proposals.add(
            command, request_id, time_ms=now_ms, seed=seed, only_term=only_term
        )
        self._alarm.ring()
        return waiter

    def _storage_look_again(self) -> bool:
        """Is it time to try the full disk once more?"""
        now = self._replica.clock.monotonic_s()
        return now - self._storage_checked_s >= limits.STORAGE_RETRY_S

    def _not_running(self) -> PlatformError:
        return PlatformError("unavailable", "the replicated log is not running")

    # -- the driving task ------------------------------------------------------------------------

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Drive the replica until `close`.  Started when recovered, and alone also leader.

        Raises what must end the process: JournalFailed, SafetyViolation, errors of the library.
        """
        if self._running or self._closing:
            raise LocalError("the log runs, or has been closed, already")
        self._running = True
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._alarm.run)
                if self._transport is not None:
                    self._transport.attach(self)
                await self._recover(nursery)
                task_status.started()
                while not self._closing:
                    await self._step(nursery)
                    await self._rest()
        except ExceptionGroup as group:
            raise _only(group) from None
        finally:
            self._running = False
            if self._transport is not None:
                self._transport.detach()
            self._proposals.end(self._not_running())
            self._leading.end(self._not_running())
            self._release_snapshot_waiters(tuple(self._snapshot_waiters))
            self._ended.set()

    async def _recover(self, nursery: trio.Nursery) -> None:
        """Apply what was committed before; a single voter also becomes leader."""
        collecting = gc.isenabled()
        gc.disable()  # nothing here becomes garbage: to look for it would take as long again
        try:
            while not self._closing:
                await self._step(nursery)
                if not self._replica.busy:
                    break
        finally:
            if collecting:
                gc.enable()
        self._recovered = True

    async def _rest(self) -> None:
        """Sleep until there is something to do.  At least a checkpoint."""
        replica = self._replica
        now_s = replica.clock.monotonic_s()
        until_s = self._quiet_until_s
        busy = until_s is None and replica.busy
        if self._closing or busy or self._queue_ready():
            await trio.lowlevel.checkpoint()
            return
        if until_s is None:
            until_s = replica.next_deadline_s()
        period_s = min(limits.IDLE_S_MAX, until_s - now_s)
        if replica.journal.full or self._proposals.queued:
            period_s = min(period_s, limits.STORAGE_RETRY_S)
        if self._proposals.queued and now_s < self._denied_until_s:
            period_s = min(period_s, self._denied_until_s - now_s)
        if len(self._proposals) and not replica.is_leader:
            period_s = min(period_s, limits.RESUBMIT_S)
        await self._alarm.wait(trio.current_time() + max(limits.REST_S_MIN, period_s))

    def _queue_ready(self) -> bool:
        """May a proposal be handed over in a step at once?"""
        return (
            self._proposals.queued
            and self._replica.leader is not None
            and not self._leading.holding
            and self._replica.clock.monotonic_s() >= self._denied_until_s
        )

    async def _step(self, nursery: trio.Nursery) -> None:
        replica, journal = self._replica, self._replica.journal
        self._alarm.heard()
        await self._inbox.receive()
        if len(self._proposals) or self._proposals.queued or replica.failures or journal.full:
            await self._submit()
        await self._leading.begin(self._room)
        replica.append()
        if journal.dirty:
            self._send(replica.early())
            await self._sync()
            self._inbox.acknowledgements()
        if replica.election_due:
            await trio.lowlevel.checkpoint()  # let the network tell first that a leader lives
            await self._inbox.receive()
        if replica.compaction_due and self._snapshot_allowed():
            replica.request_snapshot()
        asked = tuple(self._snapshot_waiters)
        self._quiet_until_s = replica.quiet_until_s()
        if self._quiet_until_s is None:
            replica.tick()
        if replica.outbox:
            if journal.dirty:
                await self._sync()
            self._send(replica.take_outbox())
        self._deliver()
        self._leading.settle()
        job = replica.take_snapshot_job()
        if job is not None:
            self._snapshot_running = True
            nursery.start_soon(self._write_snapshot, job)
        elif asked and not self._snapshot_running:
            self._release_snapshot_waiters(asked)  # nothing came since the last one

    def _send(self, messages: Iterable[tuple[str, bytes]]) -> None:
        if self._transport is not None:
            for peer, data in messages:
                self._transport.send(peer, data)

    async def _sync(self) -> None:
        if self._replica.journal.dirty:
            await self._in_thread(self._replica.journal.sync)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        if not self._replica.settings.sync_in_thread:
            return work()
        return await trio.to_thread.run_sync(work, limiter=self._limiter)

    async def _room(self, count: int) -> bool:
        """Is there room in the journal for so many bytes?  Fills space ahead when needed."""
        journal = self._replica.journal
        if journal.fits(count) and not journal.full:
            return True
        if journal.full and not self._storage_look_again():
            return False
        self._storage_checked_s = self._replica.clock.monotonic_s()
        return await self._in_thread(lambda: journal.reserve(count))

    # -- in --------------------------------------------------------------------------------------

    def on_connected(self, peer: str, epoch: int) -> None:
        self._inbox.note_link(peer, epoch, up=True)
        self._alarm.ring()

    def on_disconnected(self, peer: str, epoch: int) -> None:
        self._inbox.note_link(peer, epoch, up=False)
        self._alarm.ring()

    def on_message(self, peer: str, epoch: int, data: bytes) -> None:
        """Raises RemoteError: the transport ends the connection."""
        if self._inbox.note(peer, epoch, data):
            self._alarm.ring()

    async def _submit(self) -> None:
        """Hand the waiting proposals to the library, as far as there is room and a leader."""
        replica, proposals = self._replica, self._proposals
        failures = replica.take_failures()
        proposals.gave_back(failures)
        now_s = replica.clock.monotonic_s()
        if not replica.is_leader and any(definite for _, definite in failures):
            self._denied_until_s = now_s + limits.DENIED_PAUSE_S
        if replica.journal.full and self._storage_look_again():
            await self._room(limits.COMMAND_BYTES_MAX)
        if self._leading.holding:
            return
        leader = replica.leader
        proposals.bind(replica.term if replica.is_leader else None)
        if leader is None:
            return
        if self._followed != (leader, replica.term):
            self._followed = (leader, replica.term)
            proposals.hand_over_again(math.inf)  # whom the old leader told is not known
        elif not replica.is_leader:
            proposals.hand_over_again(now_s - limits.RESUBMIT_S)
        if now_s < self._denied_until_s and not replica.is_leader:
            return
        while (waiter := proposals.head()) is not None:
            needed = self._inbox.forwarded_bytes + replica.needs_bytes(waiter.data)
            fits = replica.journal.fits(needed) and not replica.journal.full
            if not fits and replica.is_leader and not await self._room(needed):
                proposals.refuse_queued(PlatformError("storage-full"))
                return
            if proposals.head() is not waiter:  # its sender gave up meanwhile
                continue
            proposals.taken(waiter, replica.clock.monotonic_s())
            replica.submit(waiter.data, waiter.identity)

    # -- out -------------------------------------------------------------------------------------

    def _deliver(self) -> None:
        """Answer the proposers and tell the subscribers, in the order of the log."""
        for index, applied in self._replica.take_applied():
            if applied.identity is not None:
                self._proposals.resolve(applied)
            elif applied.events:
                self._proposals.recall_all()
            if applied.events and self._recovered:
                self._tell(index, applied.events)

    def _tell(self, index: int, events: Sequence[Event]) -> None:
        for subscriber in tuple(self._subscribers):
            try:
                subscriber(index, events)
            except Exception:
                logger.exception("a subscriber failed at entry %d", index)

    # -- snapshots -------------------------------------------------------------------------------

    def _snapshot_allowed(self) -> bool:
        return self._replica.clock.monotonic_s() - self._snapshot_failed_s > 10.0

    async def _write_snapshot(self, job: Callable[[], None]) -> None:
        await self._in_thread(job)
        self._snapshot_running = False
        if self._replica.snapshots.failed:
            self._snapshot_failed_s = self._replica.clock.monotonic_s()
        self._alarm.ring()
        self._release_snapshot_waiters(tuple(self._snapshot_waiters))

    def _release_snapshot_waiters(self, released: Sequence[trio.Event]) -> None:
        for done in released:
            done.set()
        self._snapshot_waiters = [w for w in self._snapshot_waiters if not w.is_set()]


def _only(exc: Exception) -> Exception:
    """A group of one error says less than the error itself."""
    while isinstance(exc, ExceptionGroup) and len(exc.exceptions) == 1:
        exc = exc.exceptions[0]
    return exc
