"""A supervisor: starts its children in order, restarts them as declared, stops them in reverse.

What is restarted, and when it is too much, is data (supervision.py); here are the tasks.  Each life
of a child is one task (`_live`), which after its end also does the recovery that follows from it:

    child ends ──> restart? ──no──> ended          (a child added at run time is forgotten)
                      │yes
                  intensity ──exceeded──> stop all in reverse, raise RestartIntensityExceeded
                      │
    stop the group in reverse ──> back off ──> start the group in order, each when the last is ready

Invariants
  - Within any period there are at most `max_restarts` restarts; a group counts once.
  - Cancellation is never a crash: `trio.Cancelled` is not caught, and what ends while it is being
    stopped is not restarted.
  - At most one recovery works on a child.  A recovery that finds another under way replaces it,
    which is sound since its group contains everything that the other one has not started yet.
  - The order holds also when the supervisor itself is cancelled: its children are shielded from
    that and stopped by it.  Nobody may rely on it for correctness: a power cut keeps no order.
  - A child that crashes before it is ready has crashed like any other, so that recovery is the same
    code as start.  Only `start_child` gives the error to its caller instead, and does not keep it.

Stopping is bounded: a child with a `stop` gets `stop_timeout_s` to end by itself; then it is
cancelled, and its clean-up gets the same time again, if it is done in `cleanup_scope()`.  A child
that shields itself without a limit cannot be ended from within a process; it is announced as
HANGING, and the process that watches this one has to kill it.

Differences to OTP: a crash while starting counts instead of failing the supervisor at once;
children added at run time are forgotten when they end for good, so that only the living count.
Sources: Erlang/OTP design principles, "Supervisor Behaviour"; platform document §4.6.5.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import trio

from paas.base.errors import LocalError, PlatformError
from paas.base.limits import CHILDREN_MAX, STOP_GRACE_S, STOP_TIMEOUT_S_DEFAULT
from paas.base.retry import Backoff
from paas.base.supervision import (
    Child,
    ChildStatus,
    Event,
    EventKind,
    Intensity,
    Restart,
    RestartIntensityExceeded,
    State,
    Strategy,
)

__all__ = [
    "Child",
    "ChildStatus",
    "Event",
    "EventKind",
    "Restart",
    "RestartIntensityExceeded",
    "State",
    "Strategy",
    "Supervisor",
    "cleanup_scope",
]

BACKOFF_DEFAULT = Backoff(0.1, cap_s=5.0)

_cleanup_s: ContextVar[float] = ContextVar("cleanup_s", default=STOP_TIMEOUT_S_DEFAULT)


@contextmanager
def cleanup_scope() -> Iterator[trio.CancelScope]:
    """For clean-up that has to await: shielded, bounded by the `stop_timeout_s` of the child."""
    with trio.CancelScope(shield=True, deadline=trio.current_time() + _cleanup_s.get()) as scope:
        yield scope


class _Run:
    """One life of a child; it is also the `task_status` that the child reports to."""

    def __init__(self, on_ready: Callable[[], None]) -> None:
        self.scope = trio.CancelScope()
        self.settled = trio.Event()  # ready, or ended before that
        self.ended = trio.Event()
        self.ready_s = math.inf
        self.stopping = False
        self.error: Exception | None = None
        self._on_ready = on_ready

    @property
    def ready(self) -> bool:
        return self.ready_s < math.inf

    def started(self, _value: Any = None) -> None:
        if not self.settled.is_set():
            self.ready_s = trio.current_time()
            self.settled.set()
            self._on_ready()


class _Kept:
    """What the supervisor remembers of one child over its lives."""

    def __init__(self, child: Child, *, dynamic: bool) -> None:
        self.child = child
        self.dynamic = dynamic
        self.removed = False
        self.was_up = False
        self.run: _Run | None = None
        self.recovery = trio.CancelScope()
        self.restarts = -1  # the first start is none
        self.attempt = 0
        self.last_error: Exception | None = None
        self.enter(State.WAITING)

    def enter(self, state: State) -> None:
        self.state, self.since_s = state, trio.current_time()

    def status(self) -> ChildStatus:
        error, inside = self.last_error, self.child.inside
        return ChildStatus(
            name=self.child.name,
            state=self.state,
            restart=self.child.restart,
            restarts=max(self.restarts, 0),
            since_s=self.since_s,
            last_error=f"{type(error).__name__}: {error}" if error is not None else "",
            inside=inside() if inside is not None else (),
        )


class Supervisor:
    """See the module's text.  `jitter` draws from [0, 1), as `Entropy.fraction` does.

    `on_event` must not raise.  The back-off of a child begins anew after a life of `healthy_s`
    (default: `period_s`).
    """

    def __init__(
        self,
        name: str,
        children: Sequence[Child] = (),
        *,
        strategy: Strategy = Strategy.ONE_FOR_ONE,
        max_restarts: int = 5,
        period_s: float = 60.0,
        backoff: Backoff = BACKOFF_DEFAULT,
        healthy_s: float | None = None,
        jitter: Callable[[], float] = lambda: 1.0,
        on_event: Callable[[Event], object] | None = None,
    ) -> None:
        names = [child.name for child in children]
        if len(set(names)) != len(names):
            raise LocalError(f"{name}: two children have the same name")
        self.name = name
        self.strategy = strategy
        self._children = tuple(children)
        self._max_restarts, self._period_s = max_restarts, period_s
        self._intensity = Intensity(max_restarts, period_s)
        self._backoff = backoff
        self._healthy_s = period_s if healthy_s is None else healthy_s
        self._jitter = jitter
        self._on_event = on_event
        self._kept: dict[str, _Kept] = {}
        self._nursery: trio.Nursery | None = None
        self._work = trio.CancelScope()
        self._all_up = trio.Event()
        self._failure: RestartIntensityExceeded | None = None

    def as_child(self, *, restart: Restart = Restart.PERMANENT) -> Child:
        """This supervisor as a child of another.  Its own children bound its time to stop."""
        return Child(
            name=self.name,
            run=self.run,
            restart=restart,
            stop_timeout_s=math.inf,
            inside=self.which_children,
        )

    # -- running ---------------------------------------------------------------------------------

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep the children until `stop`, cancellation, or RestartIntensityExceeded.

        Started when every child has been ready once.
        """
        if self._nursery is not None:
            raise LocalError(f"{self.name} runs already")
        self._intensity = Intensity(self._max_restarts, self._period_s)
        self._work, self._all_up, self._failure = trio.CancelScope(), trio.Event(), None
        self._kept = {child.name: _Kept(child, dynamic=False) for child in self._children}
        async with trio.open_nursery() as outside:
            outside.start_soon(self._wait_cancelled)
            with trio.CancelScope(shield=True):
                await self._run_children(task_status)
            outside.cancel_scope.cancel()
        if self._failure is not None:
            raise self._failure

    def stop(self) -> None:
        """End `run` in good order: the children stop in reverse, then it returns."""
        self._work.cancel()

    async def _wait_cancelled(self) -> None:
        """The one task that is not shielded: makes an orderly stop of a cancellation."""
        try:
            await trio.sleep_forever()
        finally:
            self.stop()

    async def _run_children(self, task_status: trio.TaskStatus[None]) -> None:
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                with self._work:
                    await self._start_children()
                    await self._all_up.wait()
                    task_status.started()
                    await trio.sleep_forever()
                everyone = list(self._kept.values())
                for kept in everyone:
                    kept.recovery.cancel()
                for kept in reversed(everyone):
                    await self._stop(kept)
                nursery.cancel_scope.cancel()
        finally:
            self._nursery = None

    async def _start_children(self) -> None:
        everyone = list(self._kept.values())
        alone = self.strategy is Strategy.ONE_FOR_ONE
        for group in [[kept] for kept in everyone] if alone else [everyone]:
            await self._recover(group, None)
        self._note_up()

    async def _live(self, kept: _Kept, run: _Run) -> None:
        """One life of a child, and what follows from its end."""
        _cleanup_s.set(kept.child.stop_timeout_s)
        try:
            with run.scope:
                await kept.child.run(task_status=run)
        except Exception as exc:  # not BaseException: trio.Cancelled must pass
            run.error = kept.last_error = exc
            self._announce(EventKind.CRASHED, kept, error=exc)
        else:
            self._announce(EventKind.STOPPED if run.stopping else EventKind.ENDED, kept)
        kept.enter(State.ENDED)
        run.ended.set()
        if not run.settled.is_set():
            run.settled.set()  # its end is the business of whoever waits for its start
        elif not (run.stopping or self._work.cancel_called):
            await self._after_end(kept, run)

    async def _after_end(self, kept: _Kept, run: _Run) -> None:
        if not kept.child.restart.again(crashed=run.error is not None):
            self._forget(kept)
        elif self._admits(kept, run):
            await self._recover(self.strategy.group(kept, list(self._kept.values())), kept)

    def _admits(self, kept: _Kept, run: _Run) -> bool:
        """Note one more restart; False, and everything stops, when it is one too many."""
        now = trio.current_time()
        if now - run.ready_s >= self._healthy_s:
            kept.attempt = 0
        kept.attempt += 1
        if self._intensity.admits(now):
            return True
        if self._failure is None:
            self._failure = RestartIntensityExceeded(
                f"{self.name}: {kept.child.name} ended again after {self._max_restarts} restarts"
                f" within {self._period_s:g} s"
            )
            self._failure.__cause__ = run.error
            self._announce(EventKind.ESCALATED, kept, error=run.error)
        self._work.cancel()
        return False

    async def _recover(self, group: list[_Kept], cause: _Kept | None) -> None:
        """Bring the group up, whatever its members do now; `cause` None is the first start."""
        for scope in {member.recovery for member in group}:
            scope.cancel()
        mine = trio.CancelScope()
        for member in group:
            member.recovery = mine
        with mine:
            while group:
                if cause is not None:
                    group = await self._take_down(group, cause)
                group, cause = await self._bring_up(group)
            self._note_up()

    async def _take_down(self, group: list[_Kept], cause: _Kept) -> list[_Kept]:
        """Stop the group and wait; returns who of it is to be started again."""
        for member in group:  # all at once: a crash from here on is part of this recovery
            if member.run is not None:
                member.run.stopping = True
        for member in reversed(group):
            await self._stop(member)
            member.enter(State.WAITING)
        delay_s = self._backoff.delay_s(cause.attempt, self._jitter())
        self._announce(EventKind.RESTARTING, cause, delay_s=delay_s)
        await trio.sleep(delay_s)
        temporary = [m for m in group if m.was_up and m.child.restart is Restart.TEMPORARY]
        for member in temporary:
            member.enter(State.ENDED)
            self._forget(member)
        return [member for member in group if member not in temporary]

    async def _bring_up(self, group: list[_Kept]) -> tuple[list[_Kept], _Kept | None]:
        """Start in order.  Returns who remains to be recovered, and because of whom."""
        for place, member in enumerate(group):
            if member.removed:
                continue
            run = await self._start(member)
            if run.ready or run.stopping:
                continue
            if not member.child.restart.again(crashed=run.error is not None):
                self._forget(member)
                continue
            if not self._admits(member, run):
                return [], None
            whole = self.strategy is Strategy.ONE_FOR_ALL
            return (group if whole else group[place:]), member
        return [], None

    async def _start(self, kept: _Kept) -> _Run:
        """Begin a life, and wait until the child is ready or has ended."""
        assert self._nursery is not None

        def on_ready() -> None:
            kept.was_up = True
            kept.enter(State.RUNNING)
            self._announce(EventKind.STARTED, kept)

        run = kept.run = _Run(on_ready)
        kept.restarts += 1
        kept.enter(State.STARTING)
        self._nursery.start_soon(self._live, kept, run)
        await run.settled.wait()
        # A recovery that was replaced while this task was on its way must not start the next child.
        await trio.lowlevel.checkpoint_if_cancelled()
        return run

    async def _stop(self, kept: _Kept) -> None:
        run, child = kept.run, kept.child
        if run is None or run.ended.is_set():
            return
        run.stopping = True
        kept.enter(State.STOPPING)
        if child.stop is not None:
            child.stop()
            with trio.move_on_after(child.stop_timeout_s):
                await run.ended.wait()
        run.scope.cancel()
        with trio.move_on_after(child.stop_timeout_s + STOP_GRACE_S):
            await run.ended.wait()
        if not run.ended.is_set():
            self._announce(EventKind.HANGING, kept)
            await run.ended.wait()

    def _forget(self, kept: _Kept) -> None:
        """The child has ended for good."""
        kept.was_up = True
        if kept.dynamic and self._kept.get(kept.child.name) is kept:
            del self._kept[kept.child.name]
        self._note_up()

    def _note_up(self) -> None:
        if all(kept.was_up for kept in self._kept.values() if not kept.dynamic):
            self._all_up.set()

    def _announce(
        self,
        kind: EventKind,
        kept: _Kept,
        *,
        delay_s: float = 0.0,
        error: BaseException | None = None,
    ) -> None:
        if self._on_event is not None:
            self._on_event(
                Event(
                    kind=kind,
                    supervisor=self.name,
                    child=kept.child.name,
                    attempt=kept.attempt,
                    delay_s=delay_s,
                    error=error,
                )
            )

    # -- children at run time --------------------------------------------------------------------

    async def start_child(self, child: Child) -> None:
        """Add a child at the end of the order and wait until it is ready.

        Raises what it raised if it crashes before that (it is then not kept), `conflict` when the
        name is taken, `limit-exceeded`, or `not-available` when this supervisor does not run.
        """
        if self._nursery is None or self._work.cancel_called:
            raise PlatformError("not-available", f"{self.name} is not running")
        if child.name in self._kept:
            raise PlatformError("conflict", f"{self.name} has a child {child.name} already")
        if len(self._kept) >= CHILDREN_MAX:
            raise PlatformError("limit-exceeded", f"{self.name} has {CHILDREN_MAX} children")
        kept = self._kept[child.name] = _Kept(child, dynamic=True)
        try:
            run = await self._start(kept)
        except trio.Cancelled:
            with trio.CancelScope(shield=True):  # bounded: _stop is
                await self._remove(kept)
            raise
        if run.ready:
            return
        if run.stopping:
            if kept.removed or self._work.cancel_called:
                raise PlatformError("not-available", f"{child.name} was stopped while it started")
            return  # a recovery of the whole group has taken it over
        await self._remove(kept)
        if run.error is not None:
            raise run.error
        if child.restart is Restart.PERMANENT:
            raise PlatformError("failed", f"{child.name} ended before it was ready")

    async def terminate_child(self, name: str) -> None:
        """Stop a child within its time and forget it; raises `no-such-target`."""
        kept = self._kept.get(name)
        if kept is None:
            raise PlatformError("no-such-target", f"{self.name} has no child {name}")
        await self._remove(kept)

    async def _remove(self, kept: _Kept) -> None:
        kept.removed = True
        await self._stop(kept)
        kept.dynamic = True
        self._forget(kept)

    def which_children(self) -> tuple[ChildStatus, ...]:
        """The children in the order of their start, supervisors with theirs."""
        return tuple(kept.status() for kept in self._kept.values())
