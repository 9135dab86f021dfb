"""The presence of a node in the cluster: joining, its lease, being lost, being removed (io).

    join ──> (come under lease) ──> renew, renew, … ──> lost ──> clear ──> join …
      │ alone: no lease, nothing to do until a second node is added

The node's shell around leases.py: it asks the core what is due, sends it, and has the fence do what
follows; the leader's is granting.py.  One for each life of a hub.  What it holds to, because the
promise there rests on it:

  - The fence of a node that is not under lease, new or lost, gets its first deadline counted
    from *before* an up-to-date look at the state that says so; then the node reports.
  - A node that is new or was lost has its fence cleared before it reports.
  - The fence has no deadline only while this replica is the only voter, and knows of no other node,
    and the state says that this one is not under lease.  Then nobody else could decide that it is
    lost, since for that there would first have to be another voter.

The port `clock` must go on while the machine sleeps (CLOCK_BOOTTIME), as that of the fence.

Source: docs/internals/cluster.md, "Leases"; platform document §4.5.2.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol

import msgspec
import trio

from paas.base.errors import PlatformError
from paas.base.ports import Clock
from paas.node import granting, limits
from paas.node.granting import Granting
from paas.node.leases import NEVER_S, Holder
from paas.node.lifecycle import NodeEvent, NodeState
from paas.node.messages import RENEW, NodeChanged, Renew, Renewed
from paas.node.state import ChangeNode, LeaseNode, Node, NodeRegister, ReportNode
from paas.raft.machine import StateReplaced
from paas.rpc.dispatch import Dispatcher
from paas.wire.registry import Method, P, R

_NODES = (NodeChanged, StateReplaced)


class Log(granting.Log, Protocol):
    """The replicated log, as `paas.raft.log.ReplicatedLog`."""

    def subscribe(self, callback: Callable[[int, Sequence[Any]], None]) -> Callable[[], None]: ...


class Hub(Protocol):
    """A connection to the hub of another node."""

    async def call(self, method: Method[P, R], params: P, *, timeout_s: float) -> R: ...


class Links(Protocol):
    def peer(self, node: str) -> Hub | None:
        """None while it cannot be reached."""
        ...


class Fence(Protocol):
    """What kills the components of this node when its lease is over.  Calls do not overlap."""

    async def extend(self, deadline_s: float | None) -> None:
        """Components may run until then (None: for ever); returns when that is in force.

        What a lease that ended before should have killed is dead by then.  Raises
        `not-available` when the deadline has passed already.
        """
        ...

    async def clear(self) -> None:
        """Kill whatever runs; returns when nothing does."""
        ...


class Presence:
    """See the module's text."""

    def __init__(
        self,
        *,
        node: str,
        log: Log,
        register: NodeRegister,
        links: Links,
        fence: Fence,
        clock: Clock,
        report: Callable[[], ReportNode],
        prepared: Callable[[], Awaitable[None]],
        on_trouble: Callable[[str, PlatformError], None],
    ) -> None:
        """`report` says what the machine has; `prepared` returns when its agents can work."""
        self.node = node
        self._log = log
        self._register = register
        self._links = links
        self._fence = fence
        self._fence_lock = trio.Lock()
        self._clock = clock
        self._report = report
        self._prepared = prepared
        self._on_trouble = on_trouble
        self._holder = Holder()
        self._until_s = NEVER_S
        """The deadline that the fence is known to have; inf when it has none."""
        self._full_s = NEVER_S
        """When the log's storage was seen to be full last."""
        self._joined = False
        self._ready, self._removed = trio.Event(), trio.Event()
        self._changed = trio.Event()
        self._troubles: dict[str, str] = {}  # told, and not over yet
        self.granting = Granting(
            node=node, log=log, register=register, clock=clock, on_trouble=self._trouble
        )
        """What this hub does for all nodes while it leads."""

    # -- what others call ------------------------------------------------------------------------

    @property
    def valid(self) -> bool:
        """May components run here now, and be spoken to?"""
        return self._clock.monotonic_s() < self._until_s

    @property
    def left_s(self) -> float:
        """Until the lease ends, as the fence has it; inf when none is needed."""
        return max(0.0, self._until_s - self._clock.monotonic_s())

    def lease_age_s(self, node: str) -> float | None:
        """How long ago this hub, if it leads, granted the node its lease; None if it did not."""
        return self.granting.lease_age_s(node)

    def register(self, dispatcher: Dispatcher) -> None:
        """Put the handler of renewals on a dispatcher."""
        self.granting.register(dispatcher)

    async def wait_ready(self) -> None:
        """Until the cluster knows that components can be created here, in this life of the hub."""
        await self._ready.wait()

    async def wait_removed(self) -> None:
        """Until the node is removed from the cluster, and nothing of it runs."""
        await self._removed.wait()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep the node present for as long as this runs."""
        unsubscribe = self._log.subscribe(self._on_events)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._keep)
                nursery.start_soon(self._make_ready)
                nursery.start_soon(self._judge_when_not_alone)
                nursery.start_soon(self.granting.run)
                task_status.started()
        finally:
            unsubscribe()

    async def _judge_when_not_alone(self) -> None:
        while True:
            if self._alone():
                self.granting.stopped()
                await self._wait_changed(math.inf)
            else:
                await trio.sleep(limits.LOSS_CHECK_S)
                await self.granting.look()

    def _on_events(self, _index: int, events: Sequence[Any]) -> None:
        for event in events:
            if isinstance(event, _NODES):
                self._wake()
                return

    def _wake(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    async def _wait_changed(self, timeout_s: float) -> None:
        changed = self._changed
        with trio.move_on_after(timeout_s):
            await changed.wait()

    def _trouble(self, name: str, exc: PlatformError | None) -> None:
        """Tell of a trouble when it begins, not each time; None: it is over."""
        code = "" if exc is None else exc.code
        if exc is not None and self._troubles.get(name) != code:
            self._on_trouble(name, exc)
        self._troubles[name] = code

    # -- the node's side -------------------------------------------------------------------------

    async def _keep(self) -> None:
        while not self._expelled():
            try:
                await self._step()
                self._trouble("node.not_present", None)
            except PlatformError as exc:
                self._trouble("node.not_present", exc)
                self._wake()
                await self._wait_changed(limits.REPORT_RETRY_S)
        await self._leave()

    def _expelled(self) -> bool:
        node = self._own()
        gone = node is not None and node.state is NodeState.DESTROYING
        return gone or self._register.removed(self.node)

    async def _step(self) -> None:
        """Bring one thing in order, or keep the order until something changes."""
        node = self._own()
        if not self._joined or node is None or not node.present:
            await self._join()
        elif not self._alone():
            if node.leased:
                await self._renew()
            else:
                await self._come_under_lease()
        elif node.leased:
            await self._log.propose(LeaseNode(node=self.node, leased=False))
        elif self._until_s != math.inf:
            await self._extend(None)
        else:
            await self._wait_changed(math.inf)

    def _own(self) -> Node | None:
        return self._register.get(self.node)

    def _alone(self) -> bool:
        """Is nobody else there who could decide anything about this node?"""
        others = any(node.name != self.node for node in self._register.nodes())
        return not others and tuple(self._log.configuration.voters) == (self.node,)

    async def _join(self) -> None:
        """Report, when nothing of the past runs that the fence has no deadline for."""
        self._joined = False
        before_s = self._clock.monotonic_s()
        if not self._alone():
            await self._log.barrier(timeout_s=limits.REPORT_TIMEOUT_S)
        node, alone = self._own(), self._alone()
        if self._expelled():
            return
        clear = node is not None and not node.present
        leased = not alone
        if alone and not (node is not None and node.leased):
            await self._extend(None)
        elif node is None or not node.leased or clear:
            if clear or node is None:
                self._holder.drop()
                await self._clear()
            await self._extend(before_s + limits.LEASE_S)
            leased = True
        report = msgspec.structs.replace(
            self._report(), node=self.node, leased=leased, cleared=clear or node is None
        )
        await self._log.propose(report, timeout_s=limits.REPORT_TIMEOUT_S)
        self._joined = True
        self._holder.hurry()
        self._wake()

    async def _come_under_lease(self) -> None:
        """A second node was added."""
        before_s = self._clock.monotonic_s()
        await self._log.barrier(timeout_s=limits.REPORT_TIMEOUT_S)
        node = self._own()
        if node is not None and node.present and not node.leased:
            await self._extend(before_s + limits.LEASE_S)
            await self._log.propose(
                LeaseNode(node=self.node, leased=True), timeout_s=limits.REPORT_TIMEOUT_S
            )
            self._holder.hurry()

    async def _leave(self) -> None:
        """This node was removed: end what runs, and say so if there is somebody to hear it.

        Not before it votes no more: who hears of it may switch this machine off.
        """
        self._holder.drop()
        had_lease, self._until_s = self._until_s != math.inf, NEVER_S
        empty = False
        while not empty or self._own() is not None:
            try:
                if not empty:
                    await self._end_lease(had_lease)
                    await self._clear()
                    empty = True
                if self.node in self._log.configuration.voters:
                    await trio.sleep(limits.REPORT_RETRY_S)
                elif (node := self._own()) is not None:
                    cleared = ChangeNode(node=self.node, event=NodeEvent.CLEARED, epoch=node.epoch)
                    await self._log.propose(cleared, timeout_s=limits.REPORT_TIMEOUT_S)
            except PlatformError as exc:
                self._trouble("node.not_cleared", exc)
                await trio.sleep(limits.REPORT_RETRY_S)
        self._removed.set()
        await trio.sleep_forever()

    async def _end_lease(self, had_lease: bool) -> None:
        """Return when the fence lets nothing start any more.

        Only then may it be said that nothing runs: a keeper that has not heard of the removal might
        start something after the clearing.  An extension on its way ends no later than that, too.
        """
        end_s = self._clock.monotonic_s() + limits.LEASE_S
        if not had_lease:
            async with self._fence_lock:
                await self._fence.extend(end_s)
        # Nothing announces the passing of this clock, whose rate differs from the event loop's.
        while (left_s := end_s - self._clock.monotonic_s()) > 0:  # noqa: ASYNC110
            await trio.sleep(left_s)

    # -- renewing --------------------------------------------------------------------------------

    async def _renew(self) -> None:
        """Renew the lease until the node is not present, or needs none any more."""
        async with trio.open_nursery() as nursery:
            while (node := self._own()) is not None and node.present and node.leased:
                if self._alone():
                    break
                now_s = self._clock.monotonic_s()
                if self._holder.due(now_s):
                    number = self._holder.sent(now_s)
                    nursery.start_soon(self._renew_once, node.epoch, number)
                await self._wait_changed(max(self._holder.next_s - now_s, 0.0))
            nursery.cancel_scope.cancel()

    async def _renew_once(self, epoch: int, number: int) -> None:
        params = Renew(node=self.node, epoch=epoch, number=number, storage=self._storage())
        try:
            answer = await self._ask(params)
            if not answer.granted:
                self._holder.refused(number, self._clock.monotonic_s())
            elif (deadline_s := self._holder.granted(number, self._next_s(answer))) is not None:
                await self._extend(deadline_s)
                self._trouble("node.not_renewed", None)
        except PlatformError as exc:
            self._holder.refused(number, self._clock.monotonic_s())
            self._trouble("node.not_renewed", exc)

    def _next_s(self, answer: Renewed) -> float:
        return math.inf if answer.again is None else self._clock.monotonic_s() + answer.again

    def _storage(self) -> str:
        now_s = self._clock.monotonic_s()
        if self._log.status()["storage"] == "full":
            self._full_s = now_s
        return "full" if now_s - self._full_s < limits.ROOM_AGAIN_S else "ok"

    async def _ask(self, params: Renew) -> Renewed:
        """The answer of whoever leads.  Raises `not-available` when that is nobody in reach."""
        leader = self._log.status()["leader"]
        if leader == self.node:
            return await self.granting.answer(params)
        hub = self._links.peer(leader) if leader is not None else None
        if hub is None:
            raise PlatformError("not-available", "the leader cannot be reached", leader=leader)
        return await hub.call(RENEW, params, timeout_s=limits.RENEW_TIMEOUT_S)

    async def _extend(self, deadline_s: float | None) -> None:
        """One after the other; what is no news by then is left out."""
        async with self._fence_lock:
            if deadline_s is not None:
                deadline_s = max(deadline_s, self._holder.deadline_s)
                if self._until_s != math.inf and deadline_s <= self._until_s:
                    return
            await self._fence.extend(deadline_s)
            self._until_s = math.inf if deadline_s is None else deadline_s

    async def _clear(self) -> None:
        async with self._fence_lock:
            await self._fence.clear()

    # -- becoming ready --------------------------------------------------------------------------

    async def _make_ready(self) -> None:
        """Once joined, and again after each joining: say that components can be created here."""
        await self._prepared()
        while True:
            node = self._own()
            if not self._joined or node is None or not node.present:
                if node is not None and self._alone() and self.valid:
                    self._ready.set()  # whether or not there is room to write that it joined
                await self._wait_changed(math.inf)
            elif node.state is not NodeState.INITIALIZING:
                self._ready.set()
                await self._wait_changed(math.inf)
            elif not self.valid:
                await self._wait_changed(limits.RETRY_S)
            else:
                try:
                    ready = ChangeNode(node=self.node, event=NodeEvent.READY, epoch=node.epoch)
                    await self._log.propose(ready, timeout_s=limits.REPORT_TIMEOUT_S)
                except PlatformError as exc:
                    self._trouble("node.not_ready", exc)
                    await self._wait_changed(limits.REPORT_RETRY_S)
