"""Trio's loop, made quick for a world in which nothing real happens.

A simulated second is a hundred steps of tasks, half of which only wait for a time.  Trio waits with
a scope, which is cancelled when the time has come; and looks at each turn for signals, files,
instruments and idle waiters, of which there are none here.  Inside `quick()` the same happens in
the same order, by shorter ways:

    loop         no looking for what cannot be; a batch of one task needs no shuffling
    garbage      is looked for seldom: what a seed leaves in knots is a few megabytes
    scopes       entering, leaving and cancelling without generators; what is unusual is trio's own
    sleep        an entry among trio's deadlines that wakes its task, without a scope
    Alarm        the timer of a log waits in that way, too

`tests/unit/sim_platform/test_loop.py` runs the same seed with trio's own and compares the traces;
it also fails when a newer trio has other texts in the places that are replaced here.
"""

from __future__ import annotations

import gc
import heapq
import math
import types
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Any

import trio
from outcome import Error, Value
from trio._core import _run as trio_run
from trio._core._traps import CancelShieldedCheckpoint, WaitTaskRescheduled
from trio.lowlevel import Abort, cancel_shielded_checkpoint, enable_ki_protection

from paas.raft import log as raft_log
from paas.raft.alarm import Alarm

_CONTEXT: Any = trio_run.GLOBAL_RUN_CONTEXT
_NO_SEND: Any = trio_run._NO_SEND
_Status: Any = trio_run.CancelStatus
_Scope: Any = trio.CancelScope
_Cancelled: Any = trio.Cancelled
STALE_MAX = 1_000
"""Deadlines that do not count any more, before they are taken out."""

YOUNG_OBJECTS_MAX = 30_000
"""So many objects more than before, and garbage is looked for."""

_TIME_IS_UP = trio_run.CancelReason(source="deadline")

_enter_of_trio = _Scope.__enter__
_close_of_trio = _Scope._close
_sleep_of_trio = trio.sleep
_sleep_until_of_trio = trio.sleep_until


# -- the loop ------------------------------------------------------------------------------------


@enable_ki_protection
def _unrolled_run(
    runner: Any, async_fn: Any, args: Any, host_uses_signal_set_wakeup_fd: bool = False
) -> Generator[float, Any, None]:
    """Trio's function of this name.  The clock is a World."""
    world, deadlines = runner.clock, runner.deadlines
    try:
        runner.entry_queue.wakeup.wakeup_on_signals()
        world.start_clock()
        runner.init_task = runner.spawn_impl(
            runner.init, (async_fn, args), None, "<init>", system_task=True
        )
        while runner.tasks:
            if not runner.runq:
                world.deadline_to_sleep_time(deadlines.next_deadline())
            if not world.alone:
                events = yield 0.0
                runner.io_manager.process_events(events)
            now_s = world.current_time()
            _expire(deadlines, now_s)
            queue = runner.runq
            if len(queue) == 1:
                _step(runner, queue.popleft())
                continue
            batch = list(queue)
            queue.clear()
            batch.sort(key=_number)
            trio_run._r.shuffle(batch)
            while batch:
                _step(runner, batch.pop())
    except trio.TrioInternalError:
        raise
    except BaseException as exc:
        raise trio.TrioInternalError("internal error in the simulation's loop") from exc
    finally:
        runner.close()
        _CONTEXT.__dict__.clear()
        if runner.ki_pending:
            runner.main_task_outcome = Error(KeyboardInterrupt())


def _expire(deadlines: Any, now_s: float) -> None:
    """Cancel the scopes and end the waits whose time has come."""
    heap = deadlines._heap
    if not heap or heap[0][0] > now_s:
        return
    while heap and heap[0][0] <= now_s:
        deadline_s, _, scope = heapq.heappop(heap)
        if deadline_s == scope._registered_deadline:
            scope._cancel(_TIME_IS_UP)
    if len(heap) > deadlines._active * 2 + STALE_MAX:
        deadlines._prune()


def _number(task: Any) -> int:
    counter: int = task._counter
    return counter


def _step(runner: Any, task: Any) -> None:
    """One task runs until it waits again, or ends."""
    _CONTEXT.task = task
    send, value = task._next_send_fn, task._next_send
    task._next_send_fn = task._next_send = None
    final: Any = None
    try:
        message = task.context.run(send, value)
    except StopIteration as stop:
        final = Value(stop.value)
    except BaseException as exc:
        traceback = exc.__traceback__
        final = Error(exc.with_traceback(traceback and traceback.tb_next))
        del traceback
    if final is not None:
        runner.task_exited(task, final)
    elif type(message) is WaitTaskRescheduled:
        task._abort_func = message.abort_func
        if runner.ki_pending and task is runner.main_task:
            task._attempt_delivery_of_pending_ki()
        if task._cancel_status.effectively_cancelled:
            task._attempt_delivery_of_any_pending_cancel()
    elif message is CancelShieldedCheckpoint:
        runner.reschedule(task)
    else:
        runner.reschedule(task, TypeError(f"a task waits in a way that is not trio's: {message!r}"))
        task._next_send_fn = task.coro.throw
    del _CONTEXT.task


class _Nothing:
    """What a task is sent when it goes on: `Value(None)`, for any number of times."""

    __slots__ = ()

    def unwrap(self) -> None:
        return None


_NOTHING = _Nothing()


def _reschedule(runner: Any, task: Any, next_send: Any = _NO_SEND) -> None:
    assert task._next_send_fn is None
    task._next_send_fn = task.coro.send
    task._next_send = _NOTHING if next_send is _NO_SEND else next_send
    task._abort_func = None
    task.custom_sleep_data = None
    runner.runq.append(task)


# -- scopes --------------------------------------------------------------------------------------


def _enter(scope: Any) -> Any:
    task, runner = _CONTEXT.task, _CONTEXT.runner
    parent = task._cancel_status
    if scope._has_been_entered or parent is None:
        return _enter_of_trio(scope)
    scope._has_been_entered = True
    now_s = runner.clock.current_time()
    if scope._relative_deadline != math.inf:
        scope._deadline = now_s + scope._relative_deadline
        scope._relative_deadline = math.inf
    deadline_s = scope._deadline
    if now_s >= deadline_s:
        scope._cancel(_TIME_IS_UP)
    status = scope._cancel_status = _Status(scope=scope)
    status._parent = parent
    parent._children.add(status)
    if scope._cancel_called or parent.effectively_cancelled:
        status.recalculate()
    parent._tasks.remove(task)
    task._cancel_status = status
    status._tasks.add(task)
    if deadline_s != math.inf and not scope._cancel_called:
        scope._registered_deadline = deadline_s
        runner.deadlines.add(deadline_s, scope)
    return scope


def _close(scope: Any, exc: BaseException | None) -> BaseException | None:
    task, status = _CONTEXT.task, scope._cancel_status
    if status is None or task._cancel_status is not status or isinstance(exc, BaseExceptionGroup):
        return _closed_by_trio(scope, exc)
    parent = status._parent
    if parent is None or status._children or len(status._tasks) != 1:
        return _closed_by_trio(scope, exc)
    task._cancel_status = parent
    parent._tasks.add(task)
    if (
        isinstance(exc, _Cancelled)
        and status.effectively_cancelled
        and (scope._shield or not parent.effectively_cancelled)
    ):
        scope.cancelled_caught = True
        exc = None
    status._tasks.clear()
    parent._children.remove(status)
    status._parent = None
    scope._cancel_status = None
    _unregister(scope)
    return exc


def _closed_by_trio(scope: Any, exc: BaseException | None) -> BaseException | None:
    left: BaseException | None = _close_of_trio(scope, exc)
    return left


def _cancel(scope: Any, reason: Any) -> None:
    if scope._cancel_called:
        return
    if scope._cancel_reason is None:
        scope._cancel_reason = reason
    scope._cancel_called = True
    _unregister(scope)
    if scope._cancel_status is not None:
        scope._cancel_status.recalculate()


def _unregister(scope: Any) -> None:
    """Its deadline, if it has one among trio's, does not count any more."""
    if scope._registered_deadline != math.inf:
        scope._registered_deadline = math.inf
        _CONTEXT.runner.deadlines._active -= 1


# -- waiting for a time --------------------------------------------------------------------------


@types.coroutine
def _wait(message: Any) -> Generator[Any, Any, None]:
    (yield message).unwrap()


class _Timer:
    """Stands among trio's deadlines where a scope would stand, and wakes a task that waits."""

    __slots__ = ("_over", "_registered_deadline", "_runner", "_task")

    def __init__(self, task: Any, deadline_s: float) -> None:
        self._runner = task._runner
        self._task = task
        self._over = False
        self._registered_deadline = math.inf
        self.set(deadline_s)

    def set(self, deadline_s: float) -> None:
        if self._over:
            return
        _unregister(self)
        if deadline_s != math.inf:
            self._registered_deadline = deadline_s
            self._runner.deadlines.add(deadline_s, self)

    def _cancel(self, _reason: object) -> None:
        """Its time has come."""
        if not self._over:
            self._over = True
            _unregister(self)
            self._runner.reschedule(self._task)

    def _aborted(self, _raise: object) -> Abort:
        self._over = True
        _unregister(self)
        return Abort.SUCCEEDED

    def wait(self) -> Any:
        return _wait(WaitTaskRescheduled(self._aborted))


def _raise_if_cancelled(task: Any) -> None:
    """Between the end of a wait and the step that it leads to, too."""
    if task._cancel_status.effectively_cancelled:
        raise _Cancelled._create(source="deadline")


def _current_time() -> float:
    now_s: float = _CONTEXT.runner.clock.now_s
    return now_s


async def _sleep(seconds: float) -> None:
    if seconds > 0:
        await _sleep_until(_CONTEXT.runner.clock.now_s + seconds)
    else:
        await _sleep_of_trio(seconds)


async def _sleep_until(deadline: float) -> None:
    task = _CONTEXT.task
    waits = _CONTEXT.runner.clock.now_s < deadline < math.inf
    if not waits or task._cancel_status.effectively_cancelled:
        await _sleep_until_of_trio(deadline)
        return
    await _Timer(task, deadline).wait()
    _raise_if_cancelled(task)


class QuickAlarm(Alarm):
    """`raft.alarm.Alarm` with a timer of its own."""

    def __init__(self) -> None:
        super().__init__()
        self._timer: _Timer | None = None
        self._timer_s = math.inf

    async def wait(self, until_s: float) -> None:
        if self._rung:
            await trio.lowlevel.checkpoint()
            return
        self._until_s = until_s
        if until_s < self._timer_s:
            self._timer_s = until_s
            if self._timer is not None:
                self._timer.set(until_s)
        self._waiter = _CONTEXT.task
        await _wait(WaitTaskRescheduled(self._aborted))

    async def run(self) -> None:
        task = _CONTEXT.task
        while not self._over:
            await self._tick(task)
            waits = self._waiter is not None
            due = waits and trio.current_time() >= self._until_s
            if due:
                self.ring()
            self._timer_s = self._until_s if waits and not due else math.inf

    async def _tick(self, task: Any) -> None:
        """Until the timer ends, or `stop`."""
        if task._cancel_status.effectively_cancelled:
            await trio.sleep_forever()
        if self._timer_s <= _CONTEXT.runner.clock.now_s:
            await cancel_shielded_checkpoint()
        else:
            self._timer = _Timer(task, self._timer_s)
            try:
                await self._timer.wait()
            finally:
                self._timer = None
        _raise_if_cancelled(task)

    def stop(self) -> None:
        self._over = True
        if self._timer is not None:
            self._timer._cancel(None)
        self.ring()


# -- in force ------------------------------------------------------------------------------------

REPLACED: tuple[tuple[Any, str, Callable[..., Any]], ...] = (
    (trio_run, "unrolled_run", _unrolled_run),
    (trio_run.Runner, "reschedule", _reschedule),
    (_Scope, "__enter__", _enter),
    (_Scope, "_close", _close),
    (_Scope, "_cancel", _cancel),
    (trio, "current_time", _current_time),
    (trio, "sleep", _sleep),
    (trio, "sleep_until", _sleep_until),
    (raft_log, "Alarm", QuickAlarm),
)
"""Where, what, by what."""


@contextmanager
def quick() -> Iterator[None]:
    """See the module's text."""
    before, thresholds = [getattr(where, name) for where, name, _ in REPLACED], gc.get_threshold()
    for where, name, by in REPLACED:
        setattr(where, name, by)
    gc.set_threshold(YOUNG_OBJECTS_MAX)
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)
        for (where, name, _), was in zip(REPLACED, before, strict=True):
            setattr(where, name, was)
